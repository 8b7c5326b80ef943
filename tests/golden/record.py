"""Records what client and server of the running sources say to each other: `python -m tests.golden.record DIR`.

Two files per server. NAME.frames: HelloRequest, HelloResponse, then by turns a CarryRequest of one call and the
CarryResponse that answers it. NAME.rings: the same calls by ring, four pieces each: submission, its piece of the
arena, completion, its piece of the arena. Before each piece its length, 4 bytes, little-endian.
"""

import os
import socket
import struct
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, Final

from farcall.v1.session_pb2 import (
    SERVER_KIND_FILE,
    SERVER_KIND_MEMORY,
    CarryRequest,
    CarryResponse,
    Credentials,
    HelloRequest,
    HelloResponse,
)
from ipc import batch
from ipc.client import Client, UnsupportedError
from ipc.direct import DirectChannel
from ipc.endpoint import Peer
from ipc.limits import RING_ENTRIES
from ipc.message import Call, Reply
from ipc.operations import BY_REQUEST
from servers.dispatch import Dispatcher
from servers.entry import _SERVICES, Options
from tests.golden.scenario import SCENARIOS

LENGTH: Final = struct.Struct("<I")
PEER: Final = Peer("insecure", "grpc")
KINDS: Final = {"file": SERVER_KIND_FILE, "memory": SERVER_KIND_MEMORY}
QUOTA_BYTES: Final = 1 << 30


class StillClock:
    """The same moment always."""

    def realtime_ns(self) -> int:
        return 1_700_000_000_000_000_000

    def monotonic_s(self) -> float:
        return 1000.0


class Counted:
    """Every draw another one, the same in every run."""

    def __init__(self) -> None:
        self._draws = 0

    def bytes(self, count: int) -> bytes:
        self._draws += 1
        return self._draws.to_bytes(count, "little")


class Recorder:
    """An endpoint before another one: every call and its reply, as a link would carry them."""

    def __init__(self, endpoint: Any) -> None:
        self._endpoint = endpoint
        self.frames: list[bytes] = []
        self.calls: list[tuple[Call, Reply]] = []

    def submit(
        self, call: Call, peer: Peer, complete: Callable[[Reply], None], into: memoryview | None = None
    ) -> None:
        request = CarryRequest()
        batch.add_call(request, len(self.calls) + 1, call)

        def completed(reply: Reply) -> None:
            kept = Reply(reply.errno, reply.result, reply.body, bytes(reply.data), reply.refusal)
            response = CarryResponse()
            batch.add_completion(response, len(self.calls) + 1, kept)
            self.frames += [encoded(request), encoded(response)]
            self.calls.append((call, kept))
            complete(reply)

        self._endpoint.submit(call, peer, completed, into)

    def closed(self, session: int, peer: Peer) -> None:
        self._endpoint.closed(session, peer)


def encoded(message: Any) -> bytes:
    return bytes(message.SerializeToString(deterministic=True))


def dispatcher(name: str, folder: Path, held: ExitStack) -> Dispatcher:
    """A server of that name, with nothing in it."""
    for each in ("state", "root"):
        (folder / each).mkdir(parents=True)
    clock, random = StillClock(), Counted()
    options = Options(folder / "state", folder / "root", QUOTA_BYTES)
    service: Any = _SERVICES[name](options, clock, random)
    if hasattr(service, "close"):
        held.enter_context(closing(service))
    return Dispatcher(service, clock, random)


def hello_request(name: str) -> HelloRequest:
    credentials = Credentials(uid=0, gid=0, groups=[5])
    return HelloRequest(protocol_min=1, protocol_max=1, kind=KINDS[name], credentials=credentials)


def client(hello: HelloResponse, channel: Any) -> Client:
    def never(*_: Any) -> Any:
        raise AssertionError("nothing is lost or refused")

    return Client(
        channel,
        session=hello.session,
        opcodes=hello.opcodes,
        reconnect=never,
        clock=StillClock(),
        pause=never,
        server_timeout_s=None,
    )


def say(name: str, caller: Client, heir: HelloResponse) -> Iterator[tuple[Any, Reply, Any]]:
    """The scenario: each request, its reply and the response, if it succeeded."""
    for request, data in SCENARIOS[name](heir.session, heir.secret):
        operation = BY_REQUEST[type(request)]
        try:
            if operation.packed:
                fields = [getattr(request, field) for field in operation.packed_fields] + [0, 0, 0]
                room = fields[2] if operation.name == "PRead" else 0
                reply = caller.call_packed(operation, fields[0], fields[1], fields[2], data, room)
                yield request, reply, None
            else:
                yield request, *caller.call(request, data)
        except UnsupportedError:
            continue


def recorded(name: str, folder: Path) -> tuple[list[bytes], list[tuple[Call, Reply]]]:
    """The frames, and the same as calls and replies."""
    with ExitStack() as held:
        endpoint = dispatcher(name, folder, held)
        request = hello_request(name)
        hello, heir = endpoint.hello(request, PEER), endpoint.hello(request, PEER)
        recorder = Recorder(endpoint)
        channel: Any = recorder
        caller = client(hello, DirectChannel(channel, PEER, hello.session))
        for _, reply, _ in say(name, caller, heir):
            if reply.descriptor >= 0:
                os.close(reply.take_descriptor())
        return [encoded(request), encoded(hello), encoded(heir), *recorder.frames], recorder.calls


def rings(calls: list[tuple[Call, Reply]]) -> list[bytes]:
    """The calls and replies as they lie in a ring's memory."""
    from ipc import ring_layout as layout
    from ipc.ring_client import RingChannel
    from ipc.served_ring import ServedRing
    from ipc.shared_memory import map_sealed

    pieces: list[bytes] = []
    replies = iter(reply for _, reply in calls)

    class Answering:
        def submit(self, _call: Call, _peer: Peer, complete: Any, _into: Any = None) -> None:
            complete(next(replies))

    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    bell, rung = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    answering: Any = Answering()
    ring = ServedRing(answering, calls[0][0].session, PEER, ours, bell)
    memory = map_sealed(ring.memfd, layout.RING_BYTES)
    channel = RingChannel(os.dup(ring.memfd), theirs, rung, clock=StillClock(), spin_us=0)
    for number, (call, reply) in enumerate(calls):
        tag = channel.submit(call, len(reply.data))
        at = layout.SUBMISSIONS_OFFSET + number % RING_ENTRIES * layout.SUBMISSION.size
        entry = bytes(memory[at : at + layout.SUBMISSION.size])
        sent = arena(memory, entry, call)
        assert ring.serve(StillClock(), 2000.0)
        at = layout.COMPLETIONS_OFFSET + number % RING_ENTRIES * layout.COMPLETION.size
        completion = bytes(memory[at : at + layout.COMPLETION.size])
        pieces += [entry, sent, completion, answered(memory, entry, len(sent), reply)]
        channel.release(tag)
    channel.close()
    ring.close()
    rung.close()
    return pieces


def arena(memory: memoryview, entry: bytes, call: Call) -> bytes:
    """What the entry points at: data, then body."""
    from ipc import ring_layout as layout

    unit = layout.SUBMISSION.unpack(entry)[6]
    packed = layout.PACKED_OPCODES[call.opcode]
    start = layout.ARENA_OFFSET + (unit << layout.UNIT_SHIFT)
    return bytes(memory[start : start + len(call.data) + (0 if packed else len(call.body))])


def answered(memory: memoryview, entry: bytes, sent_bytes: int, reply: Reply) -> bytes:
    """What the completion's room holds: data, then body."""
    from ipc import ring_layout as layout

    unit = layout.SUBMISSION.unpack(entry)[6]
    start = (unit << layout.UNIT_SHIFT) + sent_bytes + layout.UNIT_BYTES - 1 & -layout.UNIT_BYTES
    start += layout.ARENA_OFFSET
    return bytes(memory[start : start + len(reply.data) + len(reply.body)])


def pieces_of(path: Path) -> list[bytes]:
    """What `write` wrote."""
    found, text = [], path.read_bytes()
    while text:
        (length,) = LENGTH.unpack_from(text)
        found.append(text[LENGTH.size : LENGTH.size + length])
        text = text[LENGTH.size + length :]
    return found


def write(path: Path, pieces: list[bytes]) -> None:
    path.write_bytes(b"".join(LENGTH.pack(len(piece)) + piece for piece in pieces))


def main(target: Path) -> None:
    target.mkdir(exist_ok=True)
    for name in SCENARIOS:
        with tempfile.TemporaryDirectory() as folder:
            frames, calls = recorded(name, Path(folder))
        write(target / f"{name}.frames", frames)
        write(target / f"{name}.rings", rings(calls))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
