"""The worker's view of the network server: calls that answer or raise Errno.

Its session is opened with the first call, for most programs use no inet socket. The server keeps its sockets in
memory: if it died, the next call opens another session, and a socket of the lost one is not known there.
"""

from collections.abc import Callable
from typing import Any

from google.protobuf.message import Message

from client_vm.abi.common import ENETDOWN, ENOENT
from client_vm.errors import Errno
from client_vm.renewed import RenewedSession, T
from ipc.client import Client, UnsupportedError


class NetworkServer:
    """One worker's session. ENETDOWN: there is no server, or it does not know the socket."""

    def __init__(self, connect: Callable[[], Client]) -> None:
        """`connect`: as RenewedSession's."""
        self._session = RenewedSession(connect, ENETDOWN)

    def move(self, connect: Callable[[], Client]) -> None:
        """In a forked child: a session of its own. Sockets are the child's, too: capabilities name them."""
        self._session = RenewedSession(connect, ENETDOWN)

    def call(self, request: Message) -> Any:
        """The response of an operation. Errno."""

        def ask(client: Client) -> Any:
            reply, response = client.call(request)
            if reply.errno:
                raise Errno(ENETDOWN if reply.errno == ENOENT else reply.errno)
            return response

        return self._in_session(ask)

    def fetch(self, request: Message) -> int:
        """The descriptor beside the reply, the caller's. Errno."""

        def ask(client: Client) -> int:
            reply, _ = client.call(request)
            if reply.errno:
                raise Errno(reply.errno)
            return reply.take_descriptor()

        return self._in_session(ask)

    def _in_session(self, ask: Callable[[Client], T]) -> T:
        try:
            return self._session.use(ask)
        except UnsupportedError:
            raise Errno(ENETDOWN) from None
