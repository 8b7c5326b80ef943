"""What a process has of the memory server: private memory, granted in extents, so that a malloc does not cost a
call; and shared segments.

The server keeps all of it in memory. If it died, its session is lost; the next one is told of everything before
it is asked for more, so a guest never hears of it. ENOMEM means that the quota is used up, or that there was no
server for as long as one was to be waited for.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import Final

from client_vm.abi.common import ENOMEM, ENOSYS, EPERM
from client_vm.errors import Errno
from client_vm.file_server import FAREWELL_S
from client_vm.renewed import RenewedSession, T
from farcall.v1.kernel_pb2 import RingGrant
from farcall.v1.memory_pb2 import (
    AdoptSegmentRequest,
    CreateSegmentRequest,
    DropSegmentRequest,
    FetchSegmentRequest,
    InheritMemoryRequest,
)
from farcall.v1.session_pb2 import GoodbyeRequest
from ipc import idle
from ipc.client import Client, Pending, ServerTimeoutError, SessionLostError, UnsupportedError
from ipc.operations import BY_NAME, Operation

EXTENT_BYTES: Final = 2 << 20
"""Granted or returned at once."""
GOODBYE_BYTES_MIN: Final = 32 << 20
"""Of a process that ends: less is given back by the end of its socket, a millisecond later."""
_GRANT: Final = BY_NAME["Grant"]
_RELEASE: Final = BY_NAME["Release"]


class MemoryAccount:
    """What a process may hold. `used` counts its private writable pages, `granted` what the server gave."""

    def __init__(self, connect: Callable[[], Client]) -> None:
        """`connect` gives a client in a session that holds nothing, as RenewedSession's."""
        self._session = RenewedSession(connect, ENOMEM)
        self._told = self._session.losses
        """After so many losses came the session that last had all that the process has."""
        self._heir_is_new = False
        """The session of the child that was to get the same has nothing."""
        self._segments: dict[int, int] = {}
        """Sizes of the shared segments that the process refers to, by number."""
        self.used_bytes = 0
        self.granted_bytes = 0

    def make_segment(self, size_bytes: int) -> tuple[int, int]:
        """Zeros to share: (number, memfd); -1 for the memfd where the carrier passes none. Errno(ENOMEM)."""

        def make(client: Client) -> tuple[int, int]:
            reply, response = client.call(CreateSegmentRequest(size_bytes=size_bytes))
            if reply.errno:
                raise Errno(reply.errno)
            try:
                fetched, _ = client.call(FetchSegmentRequest(segment=response.segment))
            except UnsupportedError:
                return response.segment, -1
            return response.segment, -1 if fetched.errno else fetched.take_descriptor()

        number, descriptor = self._in_session(make)
        self._segments[number] = size_bytes
        return number, descriptor

    def drop_segment(self, number: int) -> None:
        """The process refers to it no longer. Errno(ENOMEM): no server was told."""
        if self._segments.pop(number, None) is None:
            return
        # A server that never heard of it, for its session was lost, has nothing to drop (ENOENT).
        self._in_session(lambda client: client.call(DropSegmentRequest(segment=number)))

    def _in_session(self, act: Callable[[Client], T]) -> T:
        """What `act` does in a session that has all that the process has; once more in another one if the server
        forgot the session meanwhile, and the act with it. Errno(ENOMEM), (ENOSYS)."""

        def told(client: Client) -> T:
            self._tell(client)
            return act(client)

        try:
            return self._session.use(told)
        except UnsupportedError:
            raise Errno(ENOSYS) from None

    def _tell(self, client: Client) -> None:
        """A new session gets all that the process has. Errno(ENOMEM); SessionLostError, ServerTimeoutError."""
        if self._told == self._session.losses:
            return
        for number, size_bytes in self._segments.items():  # may be told twice, a grant may not
            reply, _ = client.call(AdoptSegmentRequest(segment=number, size_bytes=size_bytes))
            # EPERM: this server made it, and this process began as an older spare; it counts for its parent.
            if reply.errno not in (0, EPERM):
                raise Errno(reply.errno)
        reply = client.call_packed(_GRANT, self.granted_bytes)
        if reply.errno:
            raise Errno(reply.errno)
        self._told = self._session.losses

    def begin_inherit(self, grant: RingGrant) -> Pending | None:
        """Gives another session what this one has; None: nothing, or not now. To be ended.

        Errno(ENOMEM).
        """
        self._heir_is_new = False
        if not self.granted_bytes and not self._segments:
            return None
        request = InheritMemoryRequest(
            target_session=grant.session, target_secret=grant.secret, size_bytes=self.granted_bytes
        )
        try:
            self._tell(self._session.client)
            return self._session.client.begin(request)
        except ServerTimeoutError:
            raise Errno(ENOMEM) from None
        except SessionLostError:
            self._lost_while_forking()
            return None

    def end_inherit(self, pending: Pending) -> None:
        """Waits until it is done. Errno(ENOMEM).

        A spare may be older than a server that was started anew: EPERM, and the child sees to it itself.
        """
        try:
            while (answer := pending.result()) is None:
                idle.sleep([self._session.client], [], None)
        except SessionLostError:
            self._lost_while_forking()
            return
        except ServerTimeoutError:
            raise Errno(ENOMEM) from None
        self._heir_is_new = answer[0].errno == EPERM
        if answer[0].errno and not self._heir_is_new:
            raise Errno(answer[0].errno)

    def _lost_while_forking(self) -> None:
        """A new session gets what this process has; the child's, when it asks for more. Errno(ENOMEM)."""
        self._heir_is_new = True
        self._session.lose()
        self._in_session(lambda _: None)

    def goodbye(self, shares: bool) -> None:
        """The process ends; what it held is free at once if it is much, or shared (`shares`), and soon if not:
        a parent may be about to fork again."""
        if shares or self.granted_bytes >= GOODBYE_BYTES_MIN:
            with suppress(SessionLostError, Errno):
                self._session.client.farewell(GoodbyeRequest(), FAREWELL_S)

    @classmethod
    def moved(cls, parent: "MemoryAccount", connect: Callable[[], Client], empty: bool) -> "MemoryAccount":
        """In a forked child: its own session, which was granted the same, or nothing."""
        account = cls(connect)
        if not empty:
            account.used_bytes, account.granted_bytes = parent.used_bytes, parent.granted_bytes
            account._segments = dict(parent._segments)
            account._told -= parent._heir_is_new
        return account

    def charge(self, size_bytes: int) -> None:
        """More (or, negative, less) private writable memory. Errno(ENOMEM): the server's quota refuses.

        Less never fails.
        """
        used = self.used_bytes + size_bytes
        wanted = -(-used // EXTENT_BYTES) * EXTENT_BYTES
        if wanted > self.granted_bytes:
            self._call(_GRANT, wanted - self.granted_bytes, wanted)
        self.used_bytes = used
        # One extent is kept: a loop that maps and unmaps a page makes no calls.
        keep = wanted + EXTENT_BYTES
        if keep < self.granted_bytes:
            # The pages are gone already; a release that fails now is made with the next one.
            with suppress(Errno):
                self._call(_RELEASE, self.granted_bytes - keep, keep)

    def _call(self, operation: Operation, size_bytes: int, after_bytes: int) -> None:
        """Changes what is granted. Errno(ENOMEM)."""
        reply = self._in_session(lambda client: client.call_packed(operation, size_bytes))
        if reply.errno:
            raise Errno(reply.errno)
        self.granted_bytes = after_bytes
