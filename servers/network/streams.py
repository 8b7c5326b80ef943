"""How stream sockets connect: with each other in the loopback, and beyond it where egress allows (connect(2))."""

import errno
from functools import partial
from typing import Final

import trio

from farcall.v1.network_pb2 import (
    ADDRESS_FAMILY_IPV4,
    ADDRESS_FAMILY_IPV6,
    SOCKET_KIND_STREAM,
    Connection,
    ConnectRequest,
    ConnectResponse,
)
from ipc.inet import ANY4, IPV4_BYTES, LOOPBACK4, LOOPBACK6, is_any, is_loopback, loopback_of
from ipc.limits import CAPABILITY_BYTES
from ipc.records import encode_record
from ipc.rendezvous import STREAM, FarEnds, drain, make_ends
from ipc.seams import Random
from servers.network.addresses import Egress, Name
from servers.network.outside import Outside, Start
from servers.network.sockets import Socket, Sockets
from servers.service import ErrnoError

BACKLOG_RETRY_S: Final = 0.01
"""Between looks at a backlog that is full, for whoever waits to connect."""
BACKLOG_TRIES: Final = 12_000
"""Before ETIMEDOUT: two minutes, as Linux's tcp_syn_retries."""


def source_of(own: Name, target: Name) -> Name:
    """A socket's own name, as a target in the loopback sees it."""
    if not is_any(own.host):
        return own
    return Name(LOOPBACK4 if len(target.host) == IPV4_BYTES else LOOPBACK6, own.port)


class Streams:
    """Connects sockets of `sockets`."""

    def __init__(
        self,
        sockets: Sockets,
        ends: FarEnds,
        outside: Outside,
        egress: Egress,
        random: Random,
        start: Start,
    ) -> None:
        self._sockets = sockets
        self._ends = ends
        self._outside = outside
        self._egress = egress
        self._random = random
        self._start = start

    def connect(self, connecting: Socket, request: ConnectRequest) -> ConnectResponse:
        """connect(2). EISCONN, EALREADY, EINVAL, EAFNOSUPPORT, ENETUNREACH, EADDRINUSE; ECONNREFUSED: nobody
        listens there, or it may not be reached."""
        if connecting.pending:
            raise ErrnoError(errno.EALREADY)
        if connecting.backlog is not None or connecting.peer is not None:
            raise ErrnoError(errno.EISCONN)
        try:
            return self._connect(connecting, request)
        except ErrnoError:
            if request.blocked:
                drain(connecting.far)
            raise

    def _connect(self, connecting: Socket, request: ConnectRequest) -> ConnectResponse:
        name = connecting.named(request.address, request.ipv6_only)
        if is_loopback(name.host):
            name = Name(loopback_of(name.host), name.port)
            hearer = self._sockets.streams.hearer(name, listening=True)
            if hearer is not None:
                return self._meet(connecting, self._sockets.get(hearer), name, request.blocked)
        if not self._egress.allows(name, connecting.rules):
            raise ErrnoError(errno.ECONNREFUSED)
        if not request.blocked:
            return ConnectResponse(pending=True)
        return self._reach(connecting, name)

    # Within the loopback.

    def _meet(self, connecting: Socket, listening: Socket, name: Name, blocked: bool) -> ConnectResponse:
        assert listening.backlog is not None
        if listening.backlog.is_full():
            if not blocked:
                return ConnectResponse(pending=True)
            self._sockets.autobind(connecting, connecting.any_host, both=True)
            connecting.pending, connecting.peer = True, name
            self._start(partial(self._await_room, connecting, listening, name))
            return ConnectResponse(local=connecting.local(), peer=connecting.told(name), pending=True)
        own = self._own(connecting, name)
        if blocked:
            drain(connecting.far)
        self._join(connecting, listening, name, own)
        return ConnectResponse(local=connecting.told(own), peer=connecting.told(name))

    def _own(self, connecting: Socket, name: Name) -> Name:
        """EADDRINUSE."""
        self._sockets.autobind(connecting, connecting.any_host, both=True)
        assert connecting.binding is not None
        return source_of(connecting.binding.name, name)

    def _join(self, connecting: Socket, listening: Socket, name: Name, own: Name) -> None:
        """The listening side gets the far end, as a near end of its own. ECONNREFUSED: it was just closed."""
        assert listening.backlog is not None
        record = encode_record(
            Connection(
                socket=self._random.bytes(CAPABILITY_BYTES), local=listening.told(name), peer=listening.told(own)
            ).SerializeToString()
        )
        self._ends.remove(connecting.far)
        try:
            taken = listening.backlog.offer(record, connecting.far.fileno())
        except OSError:
            taken = False
        if not taken:
            self._sockets.watch(connecting)
            raise ErrnoError(errno.ECONNREFUSED)
        self._sockets.forget(connecting)

    async def _await_room(self, connecting: Socket, listening: Socket, name: Name) -> None:
        """Connects once the listening side has accepted others."""
        number = errno.ETIMEDOUT
        for _ in range(BACKLOG_TRIES):
            if connecting.far.fileno() < 0:
                return
            if listening.backlog is None:
                number = errno.ECONNREFUSED
                break
            if not listening.backlog.is_full():
                number = 0
                break
            await trio.sleep(BACKLOG_RETRY_S)
        drain(connecting.far)
        if not number:
            try:
                self._join(connecting, listening, name, self._own(connecting, name))
            except ErrnoError as error:
                number = error.errno
        connecting.settle(number)

    # Beyond it.

    def _reach(self, connecting: Socket, name: Name) -> ConnectResponse:
        try:
            own = self._outside.connect(connecting, name, connecting.settle)
        except OSError as error:
            raise ErrnoError(error.errno or errno.ENETUNREACH) from None
        connecting.pending, connecting.peer = True, name
        return ConnectResponse(local=connecting.told(own), peer=connecting.told(name), pending=True)

    def accept_from(self, peer: Name, port: int, principal: str) -> Socket | None:
        """A new socket for a connection that came to a published port, given to who listens at the guests' one;
        None: nobody of that principal does, or it has no room."""
        name = Name(LOOPBACK4, port)
        hearer = self._sockets.streams.hearer(name, listening=True)
        listening = self._sockets.get(hearer) if hearer is not None else None
        if listening is None or listening.backlog is None or listening.principal != principal:
            return None
        if len(peer.host) != IPV4_BYTES and listening.family == ADDRESS_FAMILY_IPV4:
            peer = Name(ANY4, peer.port)  # it could not be told
        capability = self._random.bytes(CAPABILITY_BYTES)
        family = ADDRESS_FAMILY_IPV4 if len(peer.host) == IPV4_BYTES else ADDRESS_FAMILY_IPV6
        record = encode_record(
            Connection(
                socket=capability, local=listening.told(name), peer=listening.told(peer)
            ).SerializeToString()
        )
        try:
            near, far = make_ends(STREAM)
        except OSError:
            return None
        try:
            taken = listening.backlog.offer(record, near.fileno())
        except OSError:
            taken = False
        if not taken:
            near.close()
            far.close()
            return None
        near.detach()
        made = Socket(capability, principal, family, SOCKET_KIND_STREAM, far, peer=peer)
        self._sockets.add(made)
        return made
