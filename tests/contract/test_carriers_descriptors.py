"""A host descriptor beside a reply: rings, direct calls and links on one host carry it, unary gRPC refuses."""

import fcntl
import os
import socket
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import trio

from farcall.v1 import file_pb2
from farcall.v1.session_pb2 import REFUSAL_MALFORMED, REFUSAL_OVERLOADED, REFUSAL_UNSUPPORTED, HelloRequest
from ipc.endpoint import Channel, Peer
from ipc.limits import BODY_BYTES_MAX, RING_ENTRIES
from ipc.message import Call, Reply, decode_request, decode_response, encode_request
from ipc.operations import BY_NAME, OPERATIONS
from ipc.ring_client import RingChannel
from ipc.ring_server import RingServer
from ipc.seams import HostClock
from tests.contract.carriers import CARRIERS, CLIENT_LIMIT_S, Carrier, Doorbell, ScriptedEndpoint, ping
from tests.contract.test_carriers_calls import answer, serving

GET_PATH = BY_NAME["GetPath"]
CAN_CARRY = {"direct", "ring", "adopted ring", "gRPC stream"}
ALL_CARRIERS = pytest.mark.parametrize("carrier", CARRIERS, ids=lambda carrier: carrier.name)
WITH_DESCRIPTORS = pytest.mark.parametrize(
    "carrier", [carrier for carrier in CARRIERS if carrier.name in CAN_CARRY], ids=lambda carrier: carrier.name
)
now = HostClock().monotonic_s


@dataclass
class DonatingEndpoint(ScriptedEndpoint):
    """GetPath answers the handle in words, and a descriptor of a file that holds it."""

    body_bytes: int = 0
    """If given: of the answer."""

    def submit(
        self, call: Call, peer: Peer, complete: Callable[[Reply], None], into: memoryview | None = None
    ) -> None:
        if call.opcode != GET_PATH.opcode:
            super().submit(call, peer, complete, into)
            return
        self.calls.append(call)
        request = decode_request(call)
        assert isinstance(request, file_pb2.GetPathRequest)
        text = b"%d" % request.handle
        descriptor = os.memfd_create("donated")
        os.write(descriptor, text)
        body = bytes(self.body_bytes) or file_pb2.GetPathResponse(path=text).SerializeToString()
        reply = Reply(body=body, descriptor=descriptor)
        if self.hold:
            self.held.append(lambda: complete(reply))
            if len(self.held) >= self.hold:
                self.release()
        else:
            complete(reply)


@pytest.fixture(autouse=True)
def carrying(monkeypatch: pytest.MonkeyPatch) -> None:
    """GetPath's reply may have a descriptor."""
    monkeypatch.setitem(OPERATIONS, GET_PATH.opcode, replace(GET_PATH, carries_descriptor=True))


def get_path(handle: int) -> Call:
    return encode_request(file_pb2.GetPathRequest(handle=handle))


def open_descriptors() -> int:
    """Of donated files: others come and go with the carriers' threads."""
    count = 0
    for name in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # the listing's own
            count += "memfd:donated" in os.readlink(f"/proc/self/fd/{name}")
    return count


def donated(channel: Channel, tag: int, handle: int) -> None:
    """Takes what the endpoint donated for that handle, and looks into it."""
    reply = channel.wait(tag, now() + CLIENT_LIMIT_S)
    assert reply is not None and not reply.refusal
    assert decode_response(get_path(handle), reply).path == b"%d" % handle
    descriptor = reply.take_descriptor()
    channel.release(tag)
    assert os.pread(descriptor, 100, 0) == b"%d" % handle
    assert fcntl.fcntl(descriptor, fcntl.F_GETFD) == fcntl.FD_CLOEXEC
    os.close(descriptor)


@ALL_CARRIERS
async def test_carried_or_refused_unexecuted(carrier: Carrier, tmp_path: Path) -> None:
    endpoint = DonatingEndpoint()
    async with serving(carrier, endpoint, tmp_path) as (host, channel, _):
        if carrier.name in CAN_CARRY:
            await host.run(lambda: donated(channel, channel.submit(get_path(7)), 7))
        else:
            reply = await host.run(lambda: answer(channel, get_path(7)))
            assert reply == Reply(refusal=REFUSAL_UNSUPPORTED)
            assert endpoint.calls == []
        assert await host.run(lambda: answer(channel, ping(2))) == Reply(result=2)


@WITH_DESCRIPTORS
async def test_many_completed_in_reverse(carrier: Carrier, tmp_path: Path) -> None:
    count = RING_ENTRIES // 2

    def client(channel: Channel) -> None:
        tags = [channel.submit(get_path(handle)) for handle in range(count)]
        for handle, tag in enumerate(tags):
            donated(channel, tag, handle)

    endpoint = DonatingEndpoint()
    async with serving(carrier, endpoint, tmp_path) as (host, channel, _):
        before = open_descriptors()
        for _ in range(5):
            endpoint.hold = count
            await host.run(lambda: client(channel))
        assert open_descriptors() == before


@WITH_DESCRIPTORS
async def test_nothing_is_left_open(carrier: Carrier, tmp_path: Path) -> None:
    """Replies not looked at, tries given up, replies too long for their room."""

    def client(channel: Channel) -> None:
        for handle in range(100):
            tag = channel.submit(get_path(handle))
            assert channel.wait(tag, now() + CLIENT_LIMIT_S) is not None
            channel.release(tag)
            channel.release(channel.submit(get_path(handle)))
        endpoint.body_bytes = BODY_BYTES_MAX + 1
        assert answer(channel, get_path(1)) == Reply(refusal=REFUSAL_MALFORMED)
        endpoint.body_bytes = 0

    endpoint = DonatingEndpoint()
    async with serving(carrier, endpoint, tmp_path) as (host, channel, _):
        before = open_descriptors()
        await host.run(lambda: client(channel))
        assert open_descriptors() == before


@WITH_DESCRIPTORS
async def test_completed_after_the_client_is_gone(carrier: Carrier, tmp_path: Path) -> None:
    ended = trio.Event()
    endpoint = DonatingEndpoint(hold=2, on_end=ended.set)
    async with serving(carrier, endpoint, tmp_path) as (_, channel, _):
        before = open_descriptors()
        channel.submit(get_path(1))
        with trio.fail_after(CLIENT_LIMIT_S):
            while not endpoint.held:
                await trio.lowlevel.checkpoint()
            channel.close()
            await ended.wait()
        endpoint.release()
        assert open_descriptors() <= before


async def test_a_client_that_takes_none_is_told_to_ask_again() -> None:
    """The server neither waits for it nor keeps descriptors for it."""
    endpoint = DonatingEndpoint(hold=RING_ENTRIES)
    server = RingServer(endpoint)
    peer = Peer("worker", "ring")
    with Doorbell() as doorbell, closing(server):
        ours, control = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
        session = endpoint.hello(HelloRequest(), peer).session
        memfd = server.adopt(ours, os.dup(doorbell.sender.fileno()), session, peer)
        channel = RingChannel(memfd, control, doorbell.receiver, clock=HostClock(), spin_us=0)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.run)
            tags = [channel.submit(get_path(handle)) for handle in range(32)]
            with trio.fail_after(CLIENT_LIMIT_S):
                while len(endpoint.held) < len(tags):
                    await trio.lowlevel.checkpoint()
            before = open_descriptors()
            endpoint.release()
            assert open_descriptors() == before - len(tags)
            replies = [channel.poll(tag) for tag in tags]
            refused = [reply for reply in replies if reply == Reply(refusal=REFUSAL_OVERLOADED)]
            carried = [reply for reply in replies if reply is not None and reply.descriptor >= 0]
            assert refused and carried and len(refused) + len(carried) == len(tags)
            channel.close()
            nursery.cancel_scope.cancel()
