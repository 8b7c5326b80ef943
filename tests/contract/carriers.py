"""Every carrier behind one interface, and a scripted Endpoint, for the contract suite.

A carrier's `serve` hosts an Endpoint in the test's trio thread and gives a Host; `Host.connect` says Hello
and gives a client's channel, whose calls run in `Host.run` (another thread, where waiting blocks nobody).
To plug another carrier in, add it to CARRIERS.
"""

import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeVar, cast

import trio

from farcall.v1 import file_pb2
from farcall.v1.session_pb2 import HelloRequest, HelloResponse, Refusal
from ipc.direct import DirectChannel
from ipc.endpoint import Channel, Endpoint, Peer
from ipc.identity import Arrival, SlotState, arrival
from ipc.limits import HELLO_TIMEOUT_S, PROTOCOL_MAX, SLOTS_MAX
from ipc.message import PACKED, Call, MalformedError, Reply, decode_request, pack_call
from ipc.operations import BY_NAME, OPERATIONS
from ipc.ring_client import RingChannel, open_ring
from ipc.ring_server import RingServer, serve_rings
from ipc.seams import HostClock
from tests.contract.carriers_grpc import GrpcGateway, GrpcUnary

T = TypeVar("T")

PREAD = BY_NAME["PRead"]
PWRITE = BY_NAME["PWrite"]
CLOSE = BY_NAME["Close"]
PING_HANDLE = 99
SECRET = b"0123456789abcdef"


def pattern(offset: int, count: int) -> bytes:
    """The bytes that every file of the scripted server has there."""
    first = offset % 251
    return (bytes(range(251)) * (count // 251 + 2))[first : first + count]


def ping(number: int) -> Call:
    """A pure call whose result is `number`."""
    return pack_call(PREAD, PING_HANDLE, number, 0)


@dataclass
class ScriptedEndpoint:
    """A server whose answers follow from the call, with slots by the arrival table.

    PRead: `pattern`, or of PING_HANDLE the offset. PWrite: the data's length, the data kept. Close: the
    handle is the errno. MakeDirectory: the path comes back in `crossing`. GetXattr: the name is
    the value's length.
    """

    calls: list[Call] = field(default_factory=list)
    """Every try that arrived, copied."""
    executed: list[tuple[int, int, int]] = field(default_factory=list)
    """(session, slot, seq) of each recorded call that took effect."""
    written: list[bytes] = field(default_factory=list)
    ended: list[int] = field(default_factory=list)
    hellos: list[HelloRequest] = field(default_factory=list)
    peers: set[Peer] = field(default_factory=set)
    refusals: list[Refusal] = field(default_factory=list)
    """Answers to the next calls, before any is executed."""
    hold: int = 0
    """Replies are kept back until so many calls are there; then all go out, the last first."""
    held: list[Callable[[], None]] = field(default_factory=list)
    sessions: int = 0
    fill: bool = True
    """Read data goes straight into the room given for it."""
    slots: dict[tuple[int, int], SlotState] = field(default_factory=dict)
    replies: dict[tuple[int, int], Reply] = field(default_factory=dict)
    on_end: Callable[[], None] = lambda: None

    def hello(self, request: HelloRequest, peer: Peer) -> HelloResponse:
        self.hellos.append(request)
        self.peers.add(peer)
        session = request.resume_session
        if not session:
            self.sessions += 1
            session = self.sessions
        response = HelloResponse(
            protocol=PROTOCOL_MAX, session=session, secret=SECRET, boot_epoch=1, opcodes=sorted(OPERATIONS)
        )
        response.limits.slots_max = SLOTS_MAX
        return response

    def submit(
        self, call: Call, peer: Peer, complete: Callable[[Reply], None], into: memoryview | None = None
    ) -> None:
        self.calls.append(
            Call(call.opcode, call.body, bytes(call.data), call.session, call.slot, call.seq, call.digest)
        )
        self.peers.add(peer)
        reply = Reply(refusal=self.refusals.pop(0)) if self.refusals else self._arrive(call, into)
        if not self.hold:
            complete(reply)
            return
        self.held.append(lambda: complete(reply))
        if len(self.held) >= self.hold:
            self.release()

    def closed(self, session: int, peer: Peer) -> None:
        self.ended.append(session)
        self.on_end()

    def release(self) -> None:
        """Lets the replies go that were kept back, the last first."""
        self.hold = 0
        held, self.held = self.held, []
        for complete in reversed(held):
            complete()

    def _arrive(self, call: Call, into: memoryview | None) -> Reply:
        if not OPERATIONS[call.opcode].recorded:
            return self._execute(call, into)
        if not call.seq:
            raise MalformedError("a recorded call without a seq")
        key = (call.session, call.slot)
        slot = self.slots.setdefault(key, SlotState())
        verdict = arrival(slot, call.seq, call.digest)
        if verdict is Arrival.EXECUTE:
            slot.seq, slot.digest = call.seq, call.digest
            self.executed.append((call.session, call.slot, call.seq))
            self.replies[key] = self._execute(call, into)
        elif verdict is not Arrival.REPLAY:
            return Reply(refusal=cast(Refusal, Refusal.Value(f"REFUSAL_{verdict.name}")))
        return self.replies[key]

    def _execute(self, call: Call, into: memoryview | None) -> Reply:
        if call.opcode == PREAD.opcode:
            handle, offset, count = PACKED.unpack(call.body)
            if handle == PING_HANDLE:
                return Reply(result=offset)
            data = pattern(offset, count)
            if into is not None and self.fill:
                into[:count] = data
                return Reply(result=count, data=into[:count])
            return Reply(result=count, data=data)
        if call.opcode == PWRITE.opcode:
            self.written.append(bytes(call.data))
            return Reply(result=len(call.data))
        if call.opcode == CLOSE.opcode:
            return Reply(errno=PACKED.unpack(call.body)[0])
        request = decode_request(call)
        if isinstance(request, file_pb2.MakeDirectoryRequest):
            made = file_pb2.MakeDirectoryResponse()
            made.crossing.remaining = request.place.path
            return Reply(body=made.SerializeToString())
        assert isinstance(request, file_pb2.GetXattrRequest)
        found = file_pb2.GetXattrResponse(value=bytes(int(request.name)))
        return Reply(body=found.SerializeToString())


class Host(Protocol):
    """An Endpoint being served."""

    async def connect(self) -> tuple[HelloResponse, Channel]: ...

    async def run(self, client: Callable[[], T]) -> T:
        """Runs a client's synchronous code and waits for it."""
        ...


class Carrier(Protocol):
    name: str

    def serve(self, endpoint: Endpoint, directory: Path) -> AbstractAsyncContextManager[Host]: ...


@dataclass
class ThreadHost:
    """A client in a thread of its own."""

    connecting: Callable[[], Awaitable[tuple[HelloResponse, Channel]]]

    async def connect(self) -> tuple[HelloResponse, Channel]:
        return await self.connecting()

    async def run(self, client: Callable[[], T]) -> T:
        return await trio.to_thread.run_sync(client)


@dataclass
class DirectHost:
    """A client in the endpoint's own thread, as the carrier has it."""

    endpoint: Endpoint

    async def connect(self) -> tuple[HelloResponse, Channel]:
        peer = Peer("uid:0", "direct")
        response = self.endpoint.hello(HelloRequest(), peer)
        return response, DirectChannel(self.endpoint, peer, response.session)

    async def run(self, client: Callable[[], T]) -> T:
        return client()


class Direct:
    name = "direct"

    @asynccontextmanager
    async def serve(self, endpoint: Endpoint, directory: Path) -> AsyncIterator[Host]:
        yield DirectHost(endpoint)


class Doorbell:
    """A worker's doorbell: `sender` goes to servers, `receiver` stays."""

    def __init__(self) -> None:
        self.sender, self.receiver = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

    def __enter__(self) -> "Doorbell":
        return self

    def __exit__(self, *_: object) -> None:
        self.sender.close()
        self.receiver.close()


async def connect_ring(
    path: str, doorbell: Doorbell, request: HelloRequest | None = None, *, spin_us: int = 0
) -> tuple[HelloResponse, RingChannel]:
    """A ring to the server at `path`. Does not spin unless told: the server may be in the same process."""
    opened = await open_ring(path, request or HelloRequest(), doorbell.sender)
    channel = RingChannel(opened.memfd, opened.control, doorbell.receiver, clock=HostClock(), spin_us=spin_us)
    return opened.response, channel


class Ring:
    name = "ring"

    @asynccontextmanager
    async def serve(self, endpoint: Endpoint, directory: Path) -> AsyncIterator[Host]:
        path = str(directory / "server.ring")
        with Doorbell() as doorbell:
            async with trio.open_nursery() as nursery:
                await nursery.start(serve_rings, path, endpoint)
                yield ThreadHost(lambda: connect_ring(path, doorbell))
                nursery.cancel_scope.cancel()


class AdoptedRing:
    """A ring handed over by socketpair, without a listener: the gateway's way."""

    name = "adopted ring"

    @asynccontextmanager
    async def serve(self, endpoint: Endpoint, directory: Path) -> AsyncIterator[Host]:
        server = RingServer(endpoint)
        peer = Peer("worker", "ring")

        async def connect() -> tuple[HelloResponse, Channel]:
            response = endpoint.hello(HelloRequest(), peer)
            ours, control = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            memfd = server.adopt(ours, os.dup(doorbell.sender.fileno()), response.session, peer)
            channel = RingChannel(memfd, control, doorbell.receiver, clock=HostClock(), spin_us=0)
            return response, channel

        with Doorbell() as doorbell, closing(server):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(server.run)
                yield ThreadHost(connect)
                nursery.cancel_scope.cancel()


CARRIERS: list[Carrier] = [Direct(), Ring(), AdoptedRing(), GrpcUnary(), GrpcGateway()]

CLIENT_LIMIT_S = HELLO_TIMEOUT_S
"""How long a test waits for a reply that must come."""
