"""Whatever a peer writes into shared memory or the sockets beside it ends its own ring at most."""

import os
import random
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio

from farcall.v1.session_pb2 import HelloRequest
from ipc.endpoint import BrokenError, Peer
from ipc.limits import BODY_BYTES_MAX, DATA_BYTES_MAX, RING_ENTRIES
from ipc.message import Call, MalformedError, Reply
from ipc.operations import BY_NAME
from ipc.ring_client import RingChannel, RingDescriptors, open_ring
from ipc.ring_layout import (
    ARENA_OFFSET,
    ARENA_UNITS,
    BODY_LENGTH,
    BODY_UNITS,
    CLIENT_SLEEPING,
    COMPLETION,
    COMPLETION_TAIL,
    COMPLETIONS_OFFSET,
    HEADER_BYTES,
    RING_BYTES,
    SUBMISSION,
    SUBMISSION_TAIL,
    SUBMISSIONS_OFFSET,
    write_header,
)
from ipc.ring_server import RingServer, serve_rings
from ipc.seams import HostClock
from ipc.shared_memory import create_sealed, map_sealed
from tests.contract.carriers import CLIENT_LIMIT_S, PREAD, Doorbell, ScriptedEndpoint, connect_ring, ping

SEED = 20240607
MAKE = BY_NAME["MakeDirectory"].opcode
READ = PREAD.opcode
now = HostClock().monotonic_s


@dataclass
class Rig:
    """A server in this thread, and a well-behaved client of it."""

    endpoint: ScriptedEndpoint
    path: str
    doorbell: Doorbell
    witness: RingChannel

    async def check(self, number: int) -> None:
        """The well-behaved client is still served."""
        tag = self.witness.submit(ping(number))
        reply = await trio.to_thread.run_sync(lambda: self.witness.wait(tag, now() + CLIENT_LIMIT_S))
        assert reply == Reply(result=number)
        self.witness.release(tag)


@asynccontextmanager
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    endpoint, path = ScriptedEndpoint(), str(tmp_path / "server.ring")
    with Doorbell() as doorbell:
        async with trio.open_nursery() as nursery:
            await nursery.start(serve_rings, path, endpoint)
            _, witness = await connect_ring(path, doorbell)
            yield Rig(endpoint, path, doorbell, witness)
            witness.close()
            nursery.cancel_scope.cancel()


@asynccontextmanager
async def bare_ring(rig: Rig) -> AsyncIterator[tuple[RingDescriptors, memoryview]]:
    """A ring whose memory the test writes itself."""
    opened = await open_ring(rig.path, HelloRequest(), rig.doorbell.sender)
    try:
        yield opened, map_sealed(opened.memfd, RING_BYTES)
    finally:
        opened.close()


def publish(opened: RingDescriptors, memory: memoryview, tail: int) -> None:
    memory[:HEADER_BYTES].cast("Q")[SUBMISSION_TAIL] = tail
    try:
        opened.control.send(b"\0", socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
    except OSError:
        assert True  # the server has ended the ring already


def packed(**changes: int | bytes) -> tuple[int | bytes, ...]:
    """An entry that the server accepts, with some fields changed."""
    fields: dict[str, int | bytes] = {
        "opcode": READ, "slot": 0, "tag": 1, "seq": 0, "digest": b"", "fields": bytes(24),
        "unit": 0, "room": 1, "data": 0,
    }  # fmt: skip
    return tuple({**fields, **changes}.values())


def unpacked(body_bytes: int, room: int = BODY_UNITS, beside: int = 0) -> tuple[int | bytes, ...]:
    return packed(opcode=MAKE, room=room, fields=BODY_LENGTH.pack(body_bytes, beside, 0), seq=1)


MALFORMED = {
    "opcode 0": [packed(opcode=0)],
    "unknown opcode": [packed(opcode=65535)],
    "data beyond its limit": [packed(data=DATA_BYTES_MAX + 1)],
    "data of 4 GiB": [packed(data=(1 << 32) - 1)],
    "data beyond the arena": [packed(unit=ARENA_UNITS - 1, room=0, data=65)],
    "room beyond the arena": [packed(unit=ARENA_UNITS - 1, room=2)],
    "body beyond its limit": [unpacked(BODY_BYTES_MAX + 1)],
    "body of 2^64 - 1": [unpacked((1 << 64) - 1)],
    "words beside the length": [unpacked(4, beside=1)],
    "no room for a body": [unpacked(4, BODY_UNITS - 1)],
    "not protobuf": [unpacked(64)],
}


@pytest.mark.parametrize("name", MALFORMED)
async def test_malformed_entry_ends_ring_and_session(name: str, tmp_path: Path) -> None:
    async with rig(tmp_path) as tested, bare_ring(tested) as (opened, memory):
        memory[ARENA_OFFSET : ARENA_OFFSET + 4096] = b"\xff" * 4096
        for index, entry in enumerate(MALFORMED[name]):
            SUBMISSION.pack_into(memory, SUBMISSIONS_OFFSET + index * SUBMISSION.size, *entry)
        before = len(tested.endpoint.ended)
        publish(opened, memory, len(MALFORMED[name]))
        with trio.fail_after(CLIENT_LIMIT_S):
            await trio.lowlevel.wait_readable(opened.control)
        assert opened.control.recv(1) == b""
        assert tested.endpoint.ended[before:] == [opened.response.session]
        await tested.check(1)


@pytest.mark.parametrize("tail", [RING_ENTRIES + 1, 1 << 63, (1 << 64) - 1])
async def test_impossible_tail(tail: int, tmp_path: Path) -> None:
    async with rig(tmp_path) as tested, bare_ring(tested) as (opened, memory):
        publish(opened, memory, tail)
        with trio.fail_after(CLIENT_LIMIT_S):
            await trio.lowlevel.wait_readable(opened.control)
        assert tested.endpoint.ended == [opened.response.session]
        await tested.check(1)


async def test_tag_in_use_and_too_many_calls(tmp_path: Path) -> None:
    for tags in ([5, 5], list(range(RING_ENTRIES + 1))):
        async with rig(tmp_path) as tested, bare_ring(tested) as (opened, memory):
            tested.endpoint.hold = 1 << 30
            for index, tag in enumerate(tags):
                offset = SUBMISSIONS_OFFSET + index % RING_ENTRIES * SUBMISSION.size
                SUBMISSION.pack_into(memory, offset, *packed(tag=tag))
                publish(opened, memory, index + 1)
                with trio.fail_after(CLIENT_LIMIT_S):
                    while len(tested.endpoint.calls) <= index and not tested.endpoint.ended:
                        await trio.lowlevel.checkpoint()
            assert tested.endpoint.ended == [opened.response.session]
            tested.endpoint.release()
            await tested.check(1)


async def test_a_client_cannot_resize_the_ring(tmp_path: Path) -> None:
    """ftruncate(2) by the client would kill the server by SIGBUS at its next look."""
    async with rig(tmp_path) as tested, bare_ring(tested) as (opened, _):
        for size_bytes in (0, RING_BYTES - 4096, RING_BYTES + 4096):
            with pytest.raises(PermissionError):
                os.ftruncate(opened.memfd, size_bytes)
        await tested.check(1)


async def test_completions_nobody_takes(tmp_path: Path) -> None:
    """A client that never reads its completions overwrites only its own."""
    async with rig(tmp_path) as tested, bare_ring(tested) as (opened, memory):
        for index in range(5 * RING_ENTRIES):
            offset = SUBMISSIONS_OFFSET + index % RING_ENTRIES * SUBMISSION.size
            SUBMISSION.pack_into(memory, offset, *packed(tag=index))
            publish(opened, memory, index + 1)
            with trio.fail_after(CLIENT_LIMIT_S):
                while len(tested.endpoint.calls) <= index:
                    await trio.lowlevel.checkpoint()
        assert memory[:HEADER_BYTES].cast("Q")[COMPLETION_TAIL] == 5 * RING_ENTRIES
        assert tested.endpoint.ended == []
        await tested.check(1)


async def test_random_memory_never_kills_the_server(tmp_path: Path) -> None:
    """Fixed seed: entries near valid ones, or noise; header words too."""
    dice = random.Random(SEED)
    served = 0
    async with rig(tmp_path) as tested:
        for round_number in range(150):
            calls_before = len(tested.endpoint.calls)
            async with bare_ring(tested) as (opened, memory):
                for tail in range(1, dice.randint(2, 2 * RING_ENTRIES)):
                    scribble(dice, memory, tail - 1)
                    publish(opened, memory, tail if dice.random() < 0.98 else dice.getrandbits(64))
                    if dice.random() < 0.3:
                        await trio.lowlevel.checkpoint()
                await tested.check(round_number)
            served += len(tested.endpoint.calls) - calls_before - 1
        with trio.fail_after(CLIENT_LIMIT_S):
            while len(tested.endpoint.ended) < 150:
                await trio.lowlevel.checkpoint()
        await tested.check(1)
    assert sorted(tested.endpoint.ended[:150]) == sorted(set(tested.endpoint.ended[:150]))
    assert served > 150, "the noise is so wild that the server accepts none of it: it tests too little"


def scribble(dice: random.Random, memory: memoryview, index: int) -> None:
    offset = SUBMISSIONS_OFFSET + index % RING_ENTRIES * SUBMISSION.size
    kind = dice.random()
    if kind < 0.03:
        memory[offset : offset + SUBMISSION.size] = dice.randbytes(SUBMISSION.size)
        return
    opcode = dice.choice([READ, READ, MAKE, BY_NAME["PWrite"].opcode])
    body_bytes = dice.choice([0, 1, 200])
    fields = BODY_LENGTH.pack(*((body_bytes, 0, 0) if opcode == MAKE else (1, 2, dice.randrange(64))))
    if body_bytes:
        memory[ARENA_OFFSET : ARENA_OFFSET + 300] = dice.randbytes(300) if kind < 0.05 else bytes(300)
    entry = list(
        packed(opcode=opcode, tag=index, fields=b"\0" * 24 if opcode == MAKE and kind > 0.1 else fields,
               room=BODY_UNITS + 1, seq=0 if opcode == READ else index + 1)
    )  # fmt: skip
    if kind > 0.98:
        which = dice.choice([0, 1, 2, 3, 6, 7, 8])
        entry[which] = dice.getrandbits({0: 16, 1: 16, 2: 32, 3: 64, 6: 16, 7: 16, 8: 32}[which])
    SUBMISSION.pack_into(memory, offset, *entry)


@pytest.mark.parametrize(
    ("why", "tail", "completion"),
    [
        ("a try that is not in flight", 1, (99, 0, 0, 0, 0, 0, 0)),
        ("more completions than calls", 3, (0, 0, 0, 0, 0, 0, 0)),
        ("fewer completions than before", (1 << 64) - 1, (0, 0, 0, 0, 0, 0, 0)),
        ("data beyond its room", 1, (0, 0, 0, 0, 101, 0, 0)),
        ("a body where none can be", 1, (0, 0, 0, 0, 0, 1, 0)),
        ("one try completed twice", 2, (0, 0, 0, 0, 0, 0, 0)),
    ],
)
def test_hostile_server(why: str, tail: int, completion: tuple[int, ...]) -> None:
    """A reply is checked before it is used; the ring is not used again."""
    memfd = create_sealed("test", RING_BYTES)
    memory = map_sealed(memfd, RING_BYTES)
    write_header(memory, 77)
    ours, control = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with Doorbell() as doorbell, ours:
        channel = RingChannel(memfd, control, doorbell.receiver, clock=HostClock(), spin_us=0)
        assert channel.session == 77
        tag = channel.submit(Call(READ, bytes(24)), 100)
        other = channel.submit(Call(READ, bytes(24)), 100)
        assert (tag, other) == (0, 1)
        for index in range(2):
            COMPLETION.pack_into(memory, COMPLETIONS_OFFSET + index * COMPLETION.size, *completion)
        memory[:HEADER_BYTES].cast("Q")[COMPLETION_TAIL] = tail
        with pytest.raises(MalformedError):
            channel.wait(other, now() + CLIENT_LIMIT_S)
        with pytest.raises(BrokenError):
            channel.submit(Call(READ, bytes(24)))
        channel.close()


@pytest.mark.parametrize("damage", ["magic", "version", "size", "unsealed", "no memfd"])
def test_memory_that_is_no_ring(damage: str) -> None:
    if damage == "unsealed":
        memfd = os.memfd_create("test")
        os.ftruncate(memfd, RING_BYTES)
    elif damage == "no memfd":
        memfd = os.open("/dev/null", os.O_RDWR)
    else:
        memfd = create_sealed("test", RING_BYTES - 4096 if damage == "size" else RING_BYTES)
    if damage in ("magic", "version"):
        memory = map_sealed(memfd, RING_BYTES)
        write_header(memory, 1)
        memory[0 if damage == "magic" else 8] ^= 0xFF
    ours, control = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with Doorbell() as doorbell, ours, pytest.raises(MalformedError):
        RingChannel(memfd, control, doorbell.receiver, clock=HostClock())
    assert control.fileno() == -1
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(memfd)


async def test_doorbells_that_are_none(tmp_path: Path) -> None:
    """A regular file, a pipe and an inet socket: the handshake fails, the session ends, others go on."""
    read_end, write_end = os.pipe()
    with socket.socket(socket.AF_INET) as inet:
        file = os.open("/dev/null", os.O_RDWR)
        async with rig(tmp_path) as tested:
            for handle in (file, write_end, inet.fileno()):
                before = len(tested.endpoint.ended)
                with pytest.raises(Exception, match=r"hung up|reset"):
                    await open_ring(tested.path, HelloRequest(), handle)
                assert len(tested.endpoint.ended) == before + 1
                await tested.check(1)
    for handle in (file, read_end, write_end):
        os.close(handle)


async def test_handshakes_that_are_none(tmp_path: Path) -> None:
    """Silence, noise, no descriptor, an early end: nobody is hurt, and no session begins."""
    async with rig(tmp_path) as tested, AsyncExitStack() as stack:
        sessions = tested.endpoint.sessions
        silent = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
        silent.connect(tested.path)
        for message, handles in [(b"\xff" * 40, [0]), (b"", []), (b"\x08\x01", []), (b"x" * 70_000, [0])]:
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client:
                client.connect(tested.path)
                if message or handles:
                    socket.send_fds(client, [message], handles)
                else:
                    client.shutdown(socket.SHUT_WR)
                with trio.fail_after(CLIENT_LIMIT_S):
                    await trio.lowlevel.wait_readable(client)
                try:
                    assert client.recv(100) == b""
                except ConnectionResetError:
                    assert message
            await tested.check(1)
        assert tested.endpoint.sessions == sessions


async def test_a_full_doorbell_never_blocks_the_server() -> None:
    """The client claims to sleep and takes no byte: completions go on."""
    endpoint = ScriptedEndpoint()
    server = RingServer(endpoint)
    ours, control = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with Doorbell() as doorbell, control:
        doorbell.sender.setblocking(True)
        peer = Peer("worker", "ring")
        memfd = server.adopt(ours, os.dup(doorbell.sender.fileno()), 1, peer)
        memory = map_sealed(memfd, RING_BYTES)
        os.close(memfd)
        with pytest.raises(BlockingIOError):
            while True:
                doorbell.sender.send(b"\0", socket.MSG_DONTWAIT)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.run)
            words = memory[:HEADER_BYTES].cast("Q")
            for index in range(3 * RING_ENTRIES):
                words[CLIENT_SLEEPING] = 1
                offset = SUBMISSIONS_OFFSET + index % RING_ENTRIES * SUBMISSION.size
                SUBMISSION.pack_into(memory, offset, *packed(tag=index))
                words[SUBMISSION_TAIL] = index + 1
                control.send(b"\0", socket.MSG_DONTWAIT)
                with trio.fail_after(CLIENT_LIMIT_S):
                    while words[COMPLETION_TAIL] <= index:
                        await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
        server.close()
    assert endpoint.ended == [1]
