"""The network server: inet sockets of guests, named by capabilities (network.proto, DESIGN section 11).

State is in memory and lives as long as the process. After its death listening sockets are gone and connections
beyond the loopback are lost; those between guests go on, for their bytes never passed it.
"""

import errno
import socket
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import NoReturn

import trio

from farcall.v1 import network_pb2 as pb
from farcall.v1.session_pb2 import SERVER_KIND_NETWORK, ServerKind
from ipc.limits import CAPABILITY_BYTES
from ipc.message import MalformedError
from ipc.operations import BY_REQUEST
from ipc.rendezvous import FarEnds
from ipc.seams import Random
from servers.ledger import MemoryLedger
from servers.network.addresses import Egress, Rule
from servers.network.datagrams import Datagrams
from servers.network.held import HeldSockets
from servers.network.outside import Outside
from servers.network.publishing import Publishing
from servers.network.sockets import Sockets
from servers.network.streams import Streams
from servers.service import ErrnoError, Handler, Ledger, PackedHandler, Session, WithDescriptor


class NetworkService:
    """Handlers, and the tasks that `run` holds."""

    def __init__(self, ledger: MemoryLedger, random: Random, egress: Egress, may_publish: bool) -> None:
        """`egress`: what any session may reach. `may_publish`: whether sessions may have ports of this host."""
        self.kind: ServerKind = SERVER_KIND_NETWORK
        self.ledger: Ledger = ledger
        self._ends = FarEnds()
        self._sockets = Sockets(self._ends)
        outside = Outside(self._start)
        self._streams = Streams(self._sockets, self._ends, outside, egress, random, self._start)
        self._datagrams = Datagrams(self._sockets, egress, self._start)
        self._held = HeldSockets(self._sockets, self._ends, self._open)
        self._publishing = Publishing(self._streams, outside, self._start, may_publish)
        self._rules: dict[tuple[str, ...], tuple[Rule, ...]] = {}
        self._jobs: list[Callable[[], Awaitable[None]]] = []
        self._tasks: trio.Nursery | None = None
        handlers: dict[type, Handler] = {
            pb.OpenSocketRequest: self.open,
            pb.BindRequest: self.bind,
            pb.ListenRequest: self.listen,
            pb.ConnectRequest: self.connect,
            pb.DescribeSocketRequest: self.describe,
            pb.CheckRouteRequest: self.check_route,
            pb.PublishRequest: self._publishing.publish,
        }
        own = {BY_REQUEST[kind].opcode: call for kind, call in handlers.items()}
        self.handlers: Mapping[int, Handler] = {**own, **self._held.handlers}
        self.packed_handlers: Mapping[int, PackedHandler] = self._held.packed_handlers

    # Its life.

    async def run(self) -> NoReturn:
        """What goes on beside the calls, until cancelled."""
        async with trio.open_nursery() as self._tasks:
            for job in self._jobs:
                self._tasks.start_soon(job)
            await self._ends.run()
        raise AssertionError

    def _start(self, job: Callable[[], Awaitable[None]]) -> None:
        if self._tasks is None:
            self._jobs.append(job)
        else:
            self._tasks.start_soon(job)

    def session_ended(self, session: Session) -> None:
        """What it published ends. Sockets end with their near ends, whoever has them."""
        self._publishing.session_ended(session)
        self._held.session_ended(session)

    def close(self) -> None:
        """All sockets are closed."""
        self._publishing.close()
        self._held.close()
        self._sockets.shut()
        self._ends.close()

    # Operations.

    def open(self, session: Session, request: pb.OpenSocketRequest) -> WithDescriptor:
        """A new socket. EINVAL, EMFILE, EEXIST."""
        near = self._open(session, request.socket, request.family, request.kind)
        return WithDescriptor(pb.OpenSocketResponse(), near.detach())

    def _open(
        self, session: Session, capability: bytes, family: pb.AddressFamily, kind: pb.SocketKind
    ) -> socket.socket:
        """A new socket's near end. MalformedError; EINVAL, EMFILE, EEXIST."""
        if len(capability) != CAPABILITY_BYTES:
            raise MalformedError("a socket's name")
        if family not in (pb.ADDRESS_FAMILY_IPV4, pb.ADDRESS_FAMILY_IPV6):
            raise ErrnoError(errno.EINVAL)
        if kind not in (pb.SOCKET_KIND_STREAM, pb.SOCKET_KIND_DATAGRAM):
            raise ErrnoError(errno.EINVAL)
        made, near = self._sockets.open(capability, session.principal, family, kind, self._datagrams.route)
        made.rules = self._rules_of(session)
        made.settled = partial(self._held.tell, capability)
        return near

    def _rules_of(self, session: Session) -> tuple[Rule, ...]:
        """What the session's run asked for."""
        if session.egress not in self._rules:
            parsed: list[Rule] = []
            for text in session.egress:
                with suppress(ValueError):  # not a rule: allows nothing
                    parsed.append(Rule.parse(text))
            self._rules[session.egress] = tuple(parsed)
        return self._rules[session.egress]

    def bind(self, session: Session, request: pb.BindRequest) -> pb.BindResponse:
        """bind(2). ENOENT, EINVAL, EAFNOSUPPORT, EADDRNOTAVAIL, EACCES, EADDRINUSE."""
        self._ends.look()
        bound = self._sockets.find(request.socket, session.principal)
        name = bound.named(request.address)
        is_root, both = session.uid == 0, not request.ipv6_only
        self._sockets.bind(bound, name, is_root, both, request.reuse_address, request.reuse_port)
        return pb.BindResponse(local=bound.local())

    def listen(self, session: Session, request: pb.ListenRequest) -> pb.ListenResponse:
        """listen(2). ENOENT, EOPNOTSUPP, EINVAL, EADDRINUSE."""
        self._ends.look()
        listening = self._sockets.find(request.socket, session.principal)
        self._sockets.listen(listening, request.backlog, both=not request.ipv6_only)
        return pb.ListenResponse(local=listening.local())

    def connect(self, session: Session, request: pb.ConnectRequest) -> pb.ConnectResponse:
        """connect(2). ENOENT; those of Streams.connect and Datagrams.connect."""
        self._ends.look()
        connecting = self._sockets.find(request.socket, session.principal)
        return (self._streams if connecting.is_stream else self._datagrams).connect(connecting, request)

    def describe(self, session: Session, request: pb.DescribeSocketRequest) -> pb.DescribeSocketResponse:
        """Its names, and what became of it. ENOENT."""
        try:
            found = self._sockets.find(request.socket, session.principal)
        except ErrnoError:
            return pb.DescribeSocketResponse(error=self._sockets.last_error(request.socket, session.principal))
        return pb.DescribeSocketResponse(
            local=found.local(),
            peer=found.told(found.peer) if found.peer is not None else None,
            listening=found.backlog is not None,
            pending=found.pending,
            error=found.error,
        )

    def check_route(self, session: Session, request: pb.CheckRouteRequest) -> pb.CheckRouteResponse:
        """Whether datagrams may go there. EINVAL, ECONNREFUSED."""
        self._datagrams.check(request.address, self._rules_of(session))
        return pb.CheckRouteResponse()
