"""The sockets of the network server's guests: what is known of each, and their places in the loopback.

A stream socket is forgotten when it is connected within the loopback: its far end is the other guest's then, and
nothing of it passes here any more.
"""

import errno
import socket
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final

from farcall.v1.network_pb2 import (
    ADDRESS_FAMILY_IPV4,
    SOCKET_KIND_STREAM,
    AddressFamily,
    SocketAddress,
    SocketKind,
)
from ipc.inet import ANY4, ANY6, IPV4_BYTES, IPV6_BYTES, is_loopback, mapped, plain
from ipc.limits import PORT_MAX
from ipc.rendezvous import BACKLOG_MAX, PACKETS, STREAM, Backlog, FarEnds, make_ends
from servers.network.addresses import Name, Rule
from servers.network.ports import RESERVED_MAX, Binding, Ports
from servers.service import ErrnoError

SOCKETS_MAX: Final = 32_768
"""Of the whole server: each is a descriptor."""
LAST_ERRORS_MAX: Final = 4096
"""Of connections that were lost: guests ask for the reason afterwards."""
_BUFFER_BYTES: Final = 4 << 20
"""Asked for a datagram socket's far end; the host gives what it allows (net.core.wmem_max)."""


@dataclass(eq=False, slots=True)
class Socket:
    """One socket that has a far end here."""

    capability: bytes
    principal: str
    """Whose sessions may use it."""
    family: AddressFamily
    kind: SocketKind
    far: socket.socket
    readable: "Callable[[Socket], None] | None" = None
    """Of a datagram socket: something came from its near end."""
    binding: Binding[bytes] | None = None
    peer: Name | None = None
    backlog: Backlog | None = None
    pending: bool = False
    error: int = 0
    settled: Callable[[], None] | None = None
    """Told when a connection is under way no more."""
    rules: tuple[Rule, ...] = ()
    """What it may reach beyond the loopback: its run asked for it."""
    forget: list[Callable[[], None]] = field(default_factory=list)
    """What else ends with it."""

    @property
    def is_stream(self) -> bool:
        return self.kind == SOCKET_KIND_STREAM

    @property
    def any_host(self) -> bytes:
        return ANY4 if self.family == ADDRESS_FAMILY_IPV4 else ANY6

    def told(self, name: Name | None) -> SocketAddress:
        """A name as this socket's guest is told it; the unspecified one, if there is none."""
        if name is None:
            return SocketAddress(host=self.any_host)
        host = name.host if self.family == ADDRESS_FAMILY_IPV4 else mapped(name.host)
        return SocketAddress(host=host, port=name.port)

    def settle(self, number: int) -> None:
        """What became of a connection that was under way: an errno, or 0."""
        self.pending, self.error = False, number
        if number:
            self.peer = None
        if self.settled is not None:
            self.settled()

    def local(self) -> SocketAddress:
        return self.told(self.binding.name if self.binding is not None else None)

    def named(self, address: SocketAddress, ipv6_only: bool = False) -> Name:
        """The name that a guest says, plain. ErrnoError: EINVAL, EAFNOSUPPORT; ENETUNREACH: IPv4 for a socket of
        IPv6 only (ipv6(7))."""
        wanted = IPV4_BYTES if self.family == ADDRESS_FAMILY_IPV4 else IPV6_BYTES
        if address.port > PORT_MAX or len(address.host) not in (IPV4_BYTES, IPV6_BYTES):
            raise ErrnoError(errno.EINVAL)
        if len(address.host) != wanted:
            raise ErrnoError(errno.EAFNOSUPPORT)
        name = Name(plain(address.host), address.port)
        if ipv6_only and len(name.host) == IPV4_BYTES:
            raise ErrnoError(errno.ENETUNREACH)
        return name


class Sockets:
    """All of them. Every method's errors are ErrnoError, and nothing has happened then."""

    def __init__(self, ends: FarEnds) -> None:
        self._ends = ends
        self._sockets: dict[bytes, Socket] = {}
        self._last_errors: OrderedDict[bytes, tuple[str, int]] = OrderedDict()
        self.streams: Ports[bytes] = Ports(shares_by_address=False)
        self.datagrams: Ports[bytes] = Ports(shares_by_address=True)

    def __len__(self) -> int:
        return len(self._sockets)

    def get(self, capability: bytes) -> Socket:
        """One that is known to be there."""
        return self._sockets[capability]

    def find(self, capability: bytes, principal: str) -> Socket:
        """ENOENT."""
        found = self._sockets.get(capability)
        if found is None or found.principal != principal:
            raise ErrnoError(errno.ENOENT)
        return found

    def open(
        self,
        capability: bytes,
        principal: str,
        family: AddressFamily,
        kind: SocketKind,
        readable: Callable[[Socket], None],
    ) -> tuple[Socket, socket.socket]:
        """A new socket, and its near end. One by the same name, if the principal's own, is closed. `readable`:
        something came from a datagram socket. EEXIST: another's; EMFILE."""
        known = self._sockets.get(capability)
        if known is not None and known.principal != principal:
            raise ErrnoError(errno.EEXIST)
        if len(self._sockets) >= SOCKETS_MAX:
            raise ErrnoError(errno.EMFILE)
        try:
            near, far = make_ends(STREAM if kind == SOCKET_KIND_STREAM else PACKETS)
        except OSError as error:
            raise ErrnoError(error.errno or errno.EMFILE) from None
        if known is not None:
            self.close(known)
        made = Socket(capability, principal, family, kind, far, readable=readable)
        self.add(made)
        return made, near

    def add(self, made: Socket) -> None:
        """Keeps a socket until its near end hangs up."""
        if not made.is_stream:
            made.far.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER_BYTES)
        self._sockets[made.capability] = made
        self.watch(made)

    def watch(self, watched: Socket) -> None:
        """Hears of what comes from its near end."""
        reads, readable = None, watched.readable
        if not watched.is_stream and readable is not None:
            reads = partial(readable, watched)
        self._ends.add(watched.far, partial(self.close, watched), reads)

    def close(self, ended: Socket) -> None:
        """Nobody has its near end any more, or it is lost."""
        for forget in ended.forget:
            forget()
        if ended.backlog is not None:
            ended.backlog.close()
            ended.backlog = None
        self._ends.remove(ended.far)
        ended.far.close()
        if ended.error:
            self._last_errors[ended.capability] = ended.principal, ended.error
            if len(self._last_errors) > LAST_ERRORS_MAX:
                self._last_errors.popitem(last=False)
        self._drop(ended)

    def last_error(self, capability: bytes, principal: str) -> int:
        """Why a connection was lost whose socket has hung up. ENOENT: it was not, or that is long ago."""
        owner, number = self._last_errors.get(capability, ("", 0))
        if owner != principal:
            raise ErrnoError(errno.ENOENT)
        return number

    def forget(self, connected: Socket) -> None:
        """Its far end, watched no more, is somebody's near end now."""
        connected.far.detach()
        self._drop(connected)

    def _drop(self, ended: Socket) -> None:
        if ended.binding is not None:
            self.ports(ended).leave(ended.binding)
            ended.binding = None
        if self._sockets.get(ended.capability) is ended:
            del self._sockets[ended.capability]

    def ports(self, of: Socket) -> Ports[bytes]:
        return self.streams if of.is_stream else self.datagrams

    # Places.

    def bind(
        self, bound: Socket, name: Name, is_root: bool, both: bool, reuse_address: bool, reuse_port: bool
    ) -> None:
        """bind(2). EINVAL: it has a place; EADDRNOTAVAIL, EACCES, EADDRINUSE."""
        if bound.binding is not None or bound.backlog is not None:
            raise ErrnoError(errno.EINVAL)
        if not is_loopback(name.host):
            raise ErrnoError(errno.EADDRNOTAVAIL)
        if 0 < name.port <= RESERVED_MAX and not is_root:
            raise ErrnoError(errno.EACCES)
        ports = self.ports(bound)
        binding = Binding(bound.capability, name, both, reuse_address, reuse_port)
        if not name.port:
            self._take_any(bound, binding)
            return
        if not ports.is_free(binding):
            raise ErrnoError(errno.EADDRINUSE)
        self._take(bound, binding)

    def autobind(self, bound: Socket, host: bytes, both: bool) -> None:
        """Gives it a port, if it has none. EADDRINUSE: there is none."""
        if bound.binding is None:
            self._take_any(bound, Binding(bound.capability, Name(host, 0), both))

    def _take_any(self, bound: Socket, wanted: Binding[bytes]) -> None:
        name = self.ports(bound).pick(bound.capability, wanted.name.host, wanted.both)
        if name is None:
            raise ErrnoError(errno.EADDRINUSE)
        self._take(bound, replace(wanted, name=name))

    def _take(self, bound: Socket, binding: Binding[bytes]) -> None:
        self.ports(bound).take(binding)
        bound.binding = binding

    def listen(self, listening: Socket, backlog: int, both: bool) -> None:
        """listen(2). EOPNOTSUPP: not of streams; EINVAL: connected; EADDRINUSE."""
        if not listening.is_stream:
            raise ErrnoError(errno.EOPNOTSUPP)
        if listening.peer is not None or listening.pending:
            raise ErrnoError(errno.EINVAL)
        limit = min(backlog, BACKLOG_MAX) + 1  # as Linux counts (tcp_v4_conn_request: more than the backlog)
        if listening.backlog is not None:
            listening.backlog.limit = limit
            return
        self.autobind(listening, listening.any_host, both)
        assert listening.binding is not None
        if not self.streams.may_listen(listening.capability, listening.binding):
            raise ErrnoError(errno.EADDRINUSE)
        self.streams.listen(listening.capability)
        listening.backlog = Backlog(self._ends, listening.far, limit)

    def shut(self) -> None:
        """The server stops."""
        for each in list(self._sockets.values()):
            self.close(each)
