"""Near ends that this server holds for guests to whom no descriptor can be passed (network.proto).

A session that holds sockets is a kernel process's, which moves bytes between them and its guests. Positions make
each unit go once, however often its message is sent; which sockets are ready is told in numbered answers, each
repeated until the next is asked for.
"""

import errno
import socket
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from google.protobuf.message import Message

from farcall.v1 import network_pb2 as pb
from ipc.datagrams import HEADER_BYTES, PAYLOAD_BYTES_MAX
from ipc.limits import CAPABILITY_BYTES
from ipc.message import Buffer
from ipc.operations import BY_REQUEST
from ipc.passing import close_all, receive_descriptors
from ipc.records import RECORD_BYTES, decode_record
from ipc.rendezvous import FarEnds
from servers.network.sockets import Sockets
from servers.service import Deferred, ErrnoError, Handler, PackedHandler, Session

HELD_MAX: Final = 8192
"""Sockets of one session."""
PIECE_BYTES: Final = 256 << 10
"""Of one Collect."""
READY_MAX: Final = 1024
"""Sockets in one answer."""
Open = Callable[[Session, bytes, pb.AddressFamily, pb.SocketKind], socket.socket]


def capability_of(high: int, low: int) -> bytes:
    """The name that packed operations say in two numbers."""
    return high.to_bytes(8, "big") + low.to_bytes(8, "big")


@dataclass(eq=False, slots=True)
class Held:
    """One near end."""

    capability: bytes
    session: int
    principal: str
    near: socket.socket
    is_stream: bool
    delivered: int = 0
    """Units that the guest has sent."""
    collected: int = 0
    """Units before this one have been acknowledged."""
    unacknowledged: deque[bytes] = field(default_factory=deque)
    """What follows: one piece, or one unit, each."""
    ended: bool = False
    error: int = 0
    wants_to_read: bool = False
    wants_to_write: bool = False


@dataclass(slots=True)
class _Ready:
    """What one session has not heard yet."""

    fresh: dict[bytes, None] = field(default_factory=dict)
    """In the order in which they became ready."""
    number: int = 0
    told: list[bytes] = field(default_factory=list)
    """In the answer of that number."""
    waiting: Deferred | None = None


class HeldSockets:
    """Handlers, and all near ends that are held."""

    def __init__(self, sockets: Sockets, ends: FarEnds, open_socket: Open) -> None:
        self._sockets = sockets
        self._ends = ends
        self._open = open_socket
        self._held: dict[bytes, Held] = {}
        self._ready: dict[int, _Ready] = {}
        handlers: dict[type[Message], Handler] = {
            pb.HoldSocketRequest: self.hold,
            pb.HalfCloseRequest: self.half_close,
            pb.DropSocketRequest: self.drop,
            pb.AwaitReadyRequest: self.await_ready,
        }
        self.handlers: Mapping[int, Handler] = {BY_REQUEST[kind].opcode: call for kind, call in handlers.items()}
        self.packed_handlers: Mapping[int, PackedHandler] = {
            BY_REQUEST[pb.DeliverRequest].opcode: self.deliver,
            BY_REQUEST[pb.CollectRequest].opcode: self.collect,
        }

    def hold(self, session: Session, request: pb.HoldSocketRequest) -> pb.HoldSocketResponse:
        """A new socket whose near end stays here. EMFILE, EEXIST, EINVAL."""
        if request.socket in self._held:
            raise ErrnoError(errno.EEXIST)
        self._check_room(session.number)
        near = self._open(session, request.socket, request.family, request.kind)
        self._keep(session, request.socket, near, request.kind == pb.SOCKET_KIND_STREAM)
        return pb.HoldSocketResponse()

    def _check_room(self, session: int) -> None:
        if sum(held.session == session for held in self._held.values()) >= HELD_MAX:
            raise ErrnoError(errno.EMFILE)

    def _keep(self, session: Session, capability: bytes, near: socket.socket, is_stream: bool) -> None:
        self._held[capability] = Held(capability, session.number, session.principal, near, is_stream)

    def _find(self, session: Session, capability: bytes) -> Held:
        held = self._held.get(capability)
        if held is None or held.session != session.number:
            raise ErrnoError(errno.ENOENT)
        return held

    # From the guest.

    def deliver(
        self, session: Session, high: int, low: int, position: int, sent: Buffer, _into: memoryview | None
    ) -> tuple[int, Buffer]:
        """What the guest has sent, at most once; the result is what comes next. EINVAL, EPIPE, EMSGSIZE."""
        held = self._find(session, capability_of(high, low))
        behind = held.delivered - position
        if behind < 0:
            raise ErrnoError(errno.EINVAL)
        data = memoryview(sent)[behind:] if held.is_stream else memoryview(sent)[: 0 if behind else None]
        if not data:
            return held.delivered, b""
        try:
            count = held.near.send(data, socket.MSG_NOSIGNAL)
        except BlockingIOError:
            count = 0
        except OSError as error:
            raise ErrnoError(error.errno or errno.EPIPE) from None
        held.delivered += count if held.is_stream else int(count > 0)
        if count < len(data):
            held.wants_to_write = True
            self._watch(held)
        return held.delivered, b""

    def half_close(self, session: Session, request: pb.HalfCloseRequest) -> pb.HalfCloseResponse:
        """shutdown(2) for writing."""
        held = self._find(session, request.socket)
        try:
            held.near.shutdown(socket.SHUT_WR)
        except OSError as error:
            raise ErrnoError(error.errno or errno.ENOTCONN) from None
        return pb.HalfCloseResponse()

    def drop(self, session: Session, request: pb.DropSocketRequest) -> pb.DropSocketResponse:
        """close(2)."""
        self._drop(self._find(session, request.socket))
        self._ends.look()  # the far end hangs up: its place is free at once
        return pb.DropSocketResponse()

    def _drop(self, held: Held) -> None:
        self._ends.remove(held.near)
        held.near.close()
        del self._held[held.capability]

    # To the guest.

    def collect(
        self, session: Session, high: int, low: int, position: int, _sent: Buffer, _into: memoryview | None
    ) -> tuple[int, Buffer]:
        """What has come for the guest from that position on; the result is 1 if nothing will follow. EINVAL, and
        what the connection was lost by."""
        held = self._find(session, capability_of(high, low))
        self._acknowledge(held, position)
        if not held.unacknowledged and not held.ended:
            self._receive(session, held)
        if held.unacknowledged:
            return 0, held.unacknowledged[0]
        if held.error:
            raise ErrnoError(held.error)
        if not held.ended:
            held.wants_to_read = True
            self._watch(held)
        return int(held.ended), b""

    def _acknowledge(self, held: Held, position: int) -> None:
        """EINVAL: it was acknowledged before, or never sent."""
        while held.unacknowledged and position > held.collected:
            piece = held.unacknowledged.popleft()
            held.collected += len(piece) if held.is_stream and not self._listens(held) else 1
        if position != held.collected:
            raise ErrnoError(errno.EINVAL)

    def _listens(self, held: Held) -> bool:
        try:
            return self._sockets.find(held.capability, held.principal).backlog is not None
        except ErrnoError:
            return False

    def _receive(self, session: Session, held: Held) -> None:
        """Takes what is there."""
        try:
            if self._listens(held):
                data = self._accept(session, held)
            else:
                data = held.near.recv(PIECE_BYTES if held.is_stream else HEADER_BYTES + PAYLOAD_BYTES_MAX)
        except BlockingIOError:
            return
        except OSError as error:
            held.ended, held.error = True, error.errno or errno.ECONNRESET
            return
        if data:
            held.unacknowledged.append(data)
        else:
            held.ended = True

    def _accept(self, session: Session, held: Held) -> bytes:
        """A connection, whose near end is held from now on: its message; empty at the end. OSError."""
        while True:
            record, descriptors, _ = receive_descriptors(held.near, RECORD_BYTES, 1)
            if not record:
                return b""
            encoded = decode_record(record)
            capability = pb.Connection.FromString(encoded).socket
            if descriptors and len(capability) == CAPABILITY_BYTES:
                near = socket.socket(fileno=descriptors[0])
                near.setblocking(False)
                self._keep(session, capability, near, is_stream=True)
                return encoded
            close_all(descriptors)

    # Who is ready.

    def _watch(self, held: Held) -> None:
        """Tells once when what was wanted can be had."""
        self._ends.remove(held.near)
        ready = partial(self._tell, held)
        self._ends.add(held.near, ready, ready if held.wants_to_read else None)
        if held.wants_to_write:
            self._ends.when_writable(held.near, ready)

    def _tell(self, held: Held) -> None:
        held.wants_to_read = held.wants_to_write = False
        self._ends.remove(held.near)
        self.tell(held.capability)

    def tell(self, capability: bytes) -> None:
        """Something has become of a socket; its holder, if there is one, hears of it."""
        held = self._held.get(capability)
        if held is not None:
            ready = self._ready.setdefault(held.session, _Ready())
            ready.fresh[capability] = None
            self._answer(ready)

    def await_ready(self, session: Session, request: pb.AwaitReadyRequest) -> Deferred:
        """EINVAL: an answer that was never given."""
        ready = self._ready.setdefault(session.number, _Ready())
        if request.seen > ready.number:
            raise ErrnoError(errno.EINVAL)
        if request.seen == ready.number:
            ready.told = []
        waiting = ready.waiting = Deferred()
        self._answer(ready)
        return waiting

    def _answer(self, ready: _Ready) -> None:
        waiting = ready.waiting
        if waiting is None or waiting.over or not (ready.told or ready.fresh):
            return
        if not ready.told:
            ready.told = list(ready.fresh)[:READY_MAX]
            for capability in ready.told:
                del ready.fresh[capability]
            ready.number += 1
        ready.waiting = None
        waiting.complete(pb.AwaitReadyResponse(number=ready.number, sockets=ready.told))

    def session_ended(self, session: Session) -> None:
        """What it holds is closed."""
        self._ready.pop(session.number, None)
        for held in [held for held in self._held.values() if held.session == session.number]:
            self._drop(held)

    def close(self) -> None:
        """The server stops."""
        for held in list(self._held.values()):
            self._drop(held)
