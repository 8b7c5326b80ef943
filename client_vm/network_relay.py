"""Inet sockets of guests whose network server is on another host: near and far ends are made here, in the kernel
process, and what goes through them travels as messages (network.proto: HoldSocket, Deliver, Collect).

A worker notices nothing: it gets a near end beside the reply to OpenSocket, as from a server on this host.
Positions make a byte go once, whatever is sent again. A server that died knows none of its sockets: they hang up.
"""

import errno
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import trio
from google.protobuf.message import Message

from farcall.v1 import network_pb2 as pb
from farcall.v1.session_pb2 import (
    REFUSAL_NOT_READY,
    REFUSAL_OVERLOADED,
    REFUSAL_UNSUPPORTED,
    HelloRequest,
    HelloResponse,
    Outcome,
)
from ipc.asking import ask
from ipc.datagrams import HEADER_BYTES, PAYLOAD_BYTES_MAX
from ipc.endpoint import Endpoint, Peer
from ipc.greeting import ConnectError
from ipc.identity import identify
from ipc.limits import HELLO_TIMEOUT_S, REFUSAL_RETRY_S, SLOTS_MAX
from ipc.message import Call, Reply, decode_request, decode_response, encode_request, pack_call
from ipc.operations import BY_REQUEST, OPERATIONS
from ipc.records import encode_record
from ipc.rendezvous import BACKLOG_MAX, PACKETS, STREAM, Backlog, FarEnds, drain, make_ends, send_all

PIECE_BYTES: Final = 256 << 10
"""Of what a guest sends, in one message."""
_OPEN: Final = BY_REQUEST[pb.OpenSocketRequest].opcode
_CONNECT: Final = BY_REQUEST[pb.ConnectRequest].opcode
_LISTEN: Final = BY_REQUEST[pb.ListenRequest].opcode
_DELIVER: Final = BY_REQUEST[pb.DeliverRequest]
_COLLECT: Final = BY_REQUEST[pb.CollectRequest]
_PEER: Final = Peer("", "grpc")
Complete = Callable[[Reply], None]
Hello = Callable[[HelloRequest, float | None], Any]


class LostError(Exception):
    """The server does not know the session, or the operation, any more."""


class Session:
    """The relay's own session at the server. Its calls are awaited by tasks that end of themselves: what is under
    way is cancelled with the run only."""

    def __init__(self, link: Endpoint, response: HelloResponse) -> None:
        self.number = response.session
        self._link = link
        self._free = list(range(1, response.limits.slots_max or SLOTS_MAX))
        self._seqs = dict.fromkeys(self._free, 0)
        self._room = trio.Semaphore(len(self._free))

    async def call(self, request: Message) -> Any:
        """The response of an unpacked operation. OSError: its errno; LostError."""
        call = encode_request(request)
        return decode_response(call, await self.send(call))

    async def send(self, call: Call) -> Reply:
        """The reply. OSError: its errno; LostError."""
        if not OPERATIONS[call.opcode].recorded:
            call.session = self.number
            return _checked(await self._exchange(call))
        async with self._room:
            slot = self._free.pop()
            identify(call, self.number, slot, self._seqs[slot] + 1)
            reply = await self._exchange(call)
            self._seqs[slot] += 1
            self._free.append(slot)
        return _checked(reply)

    async def _exchange(self, call: Call) -> Reply:
        """What the server answers; asks again while it has no room. LostError."""
        while (reply := await ask(self._link, call, _PEER)).refusal in (REFUSAL_OVERLOADED, REFUSAL_NOT_READY):
            await trio.sleep(REFUSAL_RETRY_S)
        if reply.refusal:
            raise LostError
        return reply


def _checked(reply: Reply) -> Reply:
    """OSError: its errno."""
    if reply.errno:
        raise OSError(reply.errno, os.strerror(reply.errno))
    return reply


class Relayed:
    """One socket: its far end, and the two directions of what goes through it."""

    def __init__(self, capability: bytes, far: socket.socket, is_stream: bool) -> None:
        self.capability = capability
        self.far = far
        self.is_stream = is_stream
        self.halves = int.from_bytes(capability[:8], "big"), int.from_bytes(capability[8:], "big")
        self.hung_up = False
        self.moving = False
        """Its tasks have begun."""
        self.backlog: Backlog | None = None
        self.pending = False
        """The guest has filled its near end, and waits for a connection."""
        self.news = trio.Event()

    def tell(self) -> None:
        """Whoever waits for it looks again."""
        told, self.news = self.news, trio.Event()
        told.set()


class NetworkRelay:
    """Endpoint of the rings by which workers call a network server that cannot pass descriptors to them."""

    def __init__(self, link: Endpoint, hello: Hello, tasks: trio.Nursery) -> None:
        """`link`: to the server; `hello`: its Hello. Tasks run in `tasks`."""
        self._link = link
        self._say_hello = hello
        self._tasks = tasks
        self._request: HelloRequest | None = None
        self._session: Session | None = None
        self._opening = trio.Lock()
        self._ends = FarEnds()
        self._relayed: dict[bytes, Relayed] = {}
        tasks.start_soon(self._ends.run)

    def close(self) -> None:
        """The run is over."""
        for relayed in list(self._relayed.values()):
            self._forget(relayed)
        self._ends.close()

    # As an endpoint.

    async def greet(self, request: HelloRequest, timeout_s: float | None) -> HelloResponse:
        """A worker's Hello; ours will be the same."""
        response: HelloResponse = await self._say_hello(request, timeout_s)
        self._request = HelloRequest()
        self._request.CopyFrom(request)
        self._request.ClearField("resume_session")
        self._request.ClearField("resume_secret")
        return response

    def hello(self, request: HelloRequest, peer: Peer) -> HelloResponse:
        """Refuses: these rings are adopted, nobody greets them."""
        del request, peer
        return HelloResponse(outcome=Outcome(refusal=REFUSAL_UNSUPPORTED))

    def closed(self, session: int, peer: Peer) -> None:
        """As Endpoint."""
        self._link.closed(session, peer)

    def submit(self, call: Call, peer: Peer, complete: Complete, into: memoryview | None = None) -> None:
        """As Endpoint."""
        if call.opcode == _OPEN:
            request = decode_request(call)
            assert isinstance(request, pb.OpenSocketRequest)
            self._tasks.start_soon(self._open, request, complete)
        elif call.opcode in (_CONNECT, _LISTEN):
            self._link.submit(call, peer, lambda reply: self._passed(call, reply, complete), into)
        else:
            self._link.submit(call, peer, complete, into)

    async def _open(self, request: pb.OpenSocketRequest, complete: Complete) -> None:
        is_stream = request.kind == pb.SOCKET_KIND_STREAM
        try:
            session = await self._own_session()
            held = pb.HoldSocketRequest(socket=request.socket, family=request.family, kind=request.kind)
            await session.call(held)
            near, far = make_ends(STREAM if is_stream else PACKETS)
        except OSError as error:
            complete(Reply(error.errno or errno.EMFILE))
        except (LostError, ConnectError):
            complete(Reply(errno.ENETDOWN))
        else:
            relayed = self._add(request.socket, far, is_stream)
            if not is_stream:
                self._move(session, relayed)
            complete(Reply(descriptor=near.detach()))

    def _add(self, capability: bytes, far: socket.socket, is_stream: bool) -> Relayed:
        relayed = self._relayed[capability] = Relayed(capability, far, is_stream)
        self._ends.add(far, lambda: self._hang_up(relayed))
        return relayed

    def _passed(self, call: Call, reply: Reply, complete: Complete) -> None:
        """A worker's Connect or Listen was answered: what was said is true before it hears of it."""
        request: Any = decode_request(call)
        relayed, session = self._relayed.get(request.socket), self._session
        if relayed is not None and session is not None and relayed.is_stream:
            if reply.errno and call.opcode == _CONNECT and request.blocked:
                drain(relayed.far)
            elif not reply.errno and not reply.refusal:
                if call.opcode == _LISTEN:
                    self._listen(session, relayed)
                else:
                    self._connect(session, relayed, request, decode_response(call, reply))
        complete(reply)

    async def _own_session(self) -> Session:
        """ConnectError."""
        async with self._opening:
            if self._session is None:
                assert self._request is not None
                response = await self._say_hello(self._request, HELLO_TIMEOUT_S)
                self._session = Session(self._link, response)
                self._tasks.start_soon(self._hear, self._session)
            return self._session

    def _lose(self, session: Session) -> None:
        """The server has forgotten everything: its sockets hang up."""
        if self._session is session:
            self._session = None
            for relayed in list(self._relayed.values()):
                self._forget(relayed)

    # Sockets.

    def _hang_up(self, relayed: Relayed) -> None:
        """Nobody has its near end any more."""
        relayed.hung_up = True
        self._ends.remove(relayed.far)
        relayed.tell()
        if not relayed.moving and self._session is not None:
            self._tasks.start_soon(self._drop, self._session, relayed)

    def _forget(self, relayed: Relayed) -> None:
        self._ends.remove(relayed.far)
        if relayed.backlog is not None:
            relayed.backlog.close()
        if relayed.far.fileno() >= 0:
            trio.lowlevel.notify_closing(relayed.far)
            relayed.far.close()
        relayed.hung_up = True
        relayed.tell()
        self._relayed.pop(relayed.capability, None)

    async def _drop(self, session: Session, relayed: Relayed) -> None:
        self._forget(relayed)
        with suppress(OSError, LostError):
            await session.call(pb.DropSocketRequest(socket=relayed.capability))

    def _listen(self, session: Session, relayed: Relayed) -> None:
        if relayed.backlog is None:
            relayed.backlog = Backlog(self._ends, relayed.far, BACKLOG_MAX)
            relayed.moving = True
            self._tasks.start_soon(self._accept, session, relayed)

    def _connect(
        self, session: Session, relayed: Relayed, request: pb.ConnectRequest, response: pb.ConnectResponse
    ) -> None:
        if not response.pending:
            if request.blocked:
                drain(relayed.far)
            self._move(session, relayed)
        elif request.blocked and not relayed.pending:
            relayed.pending = True
            self._tasks.start_soon(self._await_connection, session, relayed)

    async def _await_connection(self, session: Session, relayed: Relayed) -> None:
        while not relayed.hung_up:
            news = relayed.news
            try:
                found = await session.call(pb.DescribeSocketRequest(socket=relayed.capability))
            except (OSError, LostError):
                break
            if not found.pending:
                relayed.pending = False
                drain(relayed.far)
                if not found.error and not relayed.hung_up:
                    self._move(session, relayed)
                return
            await news.wait()
        self._forget(relayed)

    def _move(self, session: Session, relayed: Relayed) -> None:
        relayed.moving = True
        self._tasks.start_soon(self._run_both, session, relayed)

    async def _run_both(self, session: Session, relayed: Relayed) -> None:
        """Until both directions have ended, or the guest has closed its socket and all it sent is delivered."""
        try:
            async with trio.open_nursery() as tasks:
                tasks.start_soon(self._inward, session, relayed)
                await self._outward(session, relayed)
        except* LostError:
            self._lose(session)
        except* trio.ClosedResourceError:
            pass  # the session was lost meanwhile
        await self._drop(session, relayed)

    # What goes through them.

    async def _outward(self, session: Session, relayed: Relayed) -> None:
        """From the guest, until it says that nothing follows, and then until it hangs up. LostError."""
        position, far = 0, relayed.far
        size_bytes = PIECE_BYTES if relayed.is_stream else HEADER_BYTES + PAYLOAD_BYTES_MAX
        while True:
            try:
                data = far.recv(size_bytes)
            except BlockingIOError:
                await trio.lowlevel.wait_readable(far)
                continue
            except OSError:
                break
            if not data:
                break
            try:
                position = await self._deliver(session, relayed, position, data)
            except OSError:
                break  # nobody reads it any more
        with suppress(OSError):
            if relayed.is_stream:
                await session.call(pb.HalfCloseRequest(socket=relayed.capability))
        while not relayed.hung_up:
            await relayed.news.wait()

    async def _deliver(self, session: Session, relayed: Relayed, position: int, data: bytes) -> int:
        """The position behind the data, once all of it is taken. OSError; LostError."""
        end = position + len(data) if relayed.is_stream else position + 1
        begin = position
        while position < end:
            news = relayed.news
            rest = data[position - begin :] if relayed.is_stream else data
            position = (await session.send(pack_call(_DELIVER, *relayed.halves, position, rest))).result
            if position < end:
                await news.wait()
        return position

    async def _inward(self, session: Session, relayed: Relayed) -> None:
        """To the guest, until the other side has said its last. LostError."""
        position, far = 0, relayed.far
        while not relayed.hung_up:
            news = relayed.news
            try:
                reply = await session.send(pack_call(_COLLECT, *relayed.halves, position))
                data = memoryview(bytes(reply.data))
                if not data and not reply.result:
                    await news.wait()
                    continue
                if not data:
                    far.shutdown(socket.SHUT_WR)
                    return
                position += len(data) if relayed.is_stream else 1
                await send_all(far, data)
            except OSError:
                with suppress(OSError):
                    far.shutdown(socket.SHUT_RDWR)
                return

    async def _accept(self, session: Session, relayed: Relayed) -> None:
        """Hands connections to a guest that listens, until it hangs up."""
        position = 0
        try:
            while not relayed.hung_up:
                news = relayed.news
                reply = await session.send(pack_call(_COLLECT, *relayed.halves, position))
                if reply.data:
                    position += 1
                    self._hand_over(session, relayed, bytes(reply.data))
                elif reply.result:
                    break
                else:
                    await news.wait()
        except OSError:
            pass  # it is lost
        except LostError:
            self._lose(session)
            return
        await self._drop(session, relayed)

    def _hand_over(self, session: Session, relayed: Relayed, encoded: bytes) -> None:
        """MalformedError is the server's fault, and ends the run."""
        capability = pb.Connection.FromString(encoded).socket
        assert relayed.backlog is not None
        try:
            near, far = make_ends(STREAM)
        except OSError:
            self._tasks.start_soon(self._refuse, session, capability)
            return
        try:
            taken = relayed.backlog.offer(encode_record(encoded), near.fileno())
        except OSError:
            taken = False
        if not taken:
            near.close()
            far.close()
            self._tasks.start_soon(self._refuse, session, capability)
            return
        near.detach()
        self._move(session, self._add(capability, far, is_stream=True))

    @staticmethod
    async def _refuse(session: Session, capability: bytes) -> None:
        with suppress(OSError, LostError):
            await session.call(pb.DropSocketRequest(socket=capability))

    async def _hear(self, session: Session) -> None:
        """Which sockets a call may be made at again."""
        seen = 0
        try:
            while True:
                answer = await session.call(pb.AwaitReadyRequest(seen=seen))
                seen = answer.number
                for capability in answer.sockets:
                    relayed = self._relayed.get(capability)
                    if relayed is not None:
                        relayed.tell()
        except (LostError, OSError):
            self._lose(session)
