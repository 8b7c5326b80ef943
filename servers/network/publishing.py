"""Ports of this host that lead to guests (`farcall run -p`)."""

import errno
import socket
from dataclasses import dataclass, field
from typing import Final

import trio

from farcall.v1.network_pb2 import PublishRequest, PublishResponse, SocketAddress
from ipc.inet import IPV4_BYTES, IPV6_BYTES, LOOPBACK4
from ipc.limits import PORT_MAX
from servers.network.addresses import Name
from servers.network.outside import Outside, Start, listen
from servers.network.streams import Streams
from servers.service import ErrnoError, Session

PUBLISHED_MAX: Final = 256
"""Ports of one session."""


@dataclass(eq=False, slots=True)
class _Port:
    """One that is published."""

    listener: socket.socket
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    is_served: bool = False

    def close(self) -> None:
        """Given back."""
        self.scope.cancel()
        if not self.is_served:
            self.listener.close()


class Publishing:
    """Which session has published what."""

    def __init__(self, streams: Streams, outside: Outside, start: Start, allowed: bool) -> None:
        self._streams = streams
        self._outside = outside
        self._start = start
        self._allowed = allowed
        self._published: dict[int, list[_Port]] = {}

    def publish(self, session: Session, request: PublishRequest) -> PublishResponse:
        """Takes connections to a port of this host, until the session ends. EPERM, EINVAL, ENFILE; EADDRINUSE,
        EADDRNOTAVAIL, EACCES: of the host's."""
        if not self._allowed:
            raise ErrnoError(errno.EPERM)
        host = request.address.host or LOOPBACK4
        if len(host) not in (IPV4_BYTES, IPV6_BYTES) or request.address.port > PORT_MAX:
            raise ErrnoError(errno.EINVAL)
        if not 0 < request.port <= PORT_MAX:
            raise ErrnoError(errno.EINVAL)
        mine = self._published.setdefault(session.number, [])
        if len(mine) >= PUBLISHED_MAX:
            raise ErrnoError(errno.ENFILE)
        try:
            listener, name = listen(Name(host, request.address.port))
        except OSError as error:
            raise ErrnoError(error.errno or errno.EADDRNOTAVAIL) from None
        published = _Port(listener)
        mine.append(published)

        async def serve() -> None:
            if published.scope.cancel_called:
                return
            published.is_served = True
            with published.scope:
                await self._outside.publish(
                    listener, lambda peer: self._streams.accept_from(peer, request.port, session.principal)
                )

        self._start(serve)
        return PublishResponse(address=SocketAddress(host=name.host, port=name.port))

    def session_ended(self, session: Session) -> None:
        """Its ports are given back."""
        for published in self._published.pop(session.number, ()):
            published.close()

    def close(self) -> None:
        """The server stops."""
        for number in list(self._published):
            for published in self._published.pop(number):
                published.close()
