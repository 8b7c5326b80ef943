"""Private memory, granted by the memory server in extents, so that a malloc does not cost a call."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from google.protobuf.message import Message

from client_vm.abi.common import ENOMEM, ENOSYS
from client_vm.errors import Errno
from farcall.v1.kernel_pb2 import RingGrant
from farcall.v1.memory_pb2 import InheritMemoryRequest
from ipc.client import Client, ServerTimeoutError, SessionLostError, UnsupportedError
from ipc.operations import BY_NAME, Operation

EXTENT_BYTES: Final = 2 << 20
"""Granted or returned at once."""
SESSIONS_MAX: Final = 16
"""Opened for the sake of one call, each in place of one that the server lost."""
_GRANT: Final = BY_NAME["Grant"]
_RELEASE: Final = BY_NAME["Release"]


class MemoryAccount:
    """What a process may hold. `used` counts its private writable pages, `granted` what the server gave."""

    def __init__(self, connect: Callable[[], Client]) -> None:
        """`connect` gives a client in a session that holds nothing: called again when the server lost one."""
        self._connect = connect
        self._client = connect()
        self._is_new = False
        """The session took a lost one's place, and what the process holds is not yet granted in it."""
        self.used_bytes = 0
        self.granted_bytes = 0

    def call(self, request: Message) -> Any:
        """An operation on shared segments. Errno: the server's; ENOMEM if there is no server."""
        try:
            reply, response = self._client.call(request)
        except UnsupportedError:
            raise Errno(ENOSYS) from None
        except (SessionLostError, ServerTimeoutError):
            raise Errno(ENOMEM) from None
        if reply.errno:
            raise Errno(reply.errno)
        return response

    def fetch(self, request: Message) -> int:
        """A descriptor beside a reply, the caller's; -1: the carrier passes none, or it is gone."""
        try:
            reply, _ = self._client.call(request)
        except (UnsupportedError, SessionLostError, ServerTimeoutError):
            return -1
        return -1 if reply.errno else reply.take_descriptor()

    @property
    def client(self) -> Client:
        return self._client

    def inherit(self, grant: RingGrant, empty: bool) -> None:
        """Has another session granted what this one holds (or nothing). Errno(ENOMEM)."""
        if empty or not self.granted_bytes:
            return
        request = InheritMemoryRequest(
            target_session=grant.session, target_secret=grant.secret, size_bytes=self.granted_bytes
        )
        try:
            reply, _ = self._client.call(request)
        except (SessionLostError, ServerTimeoutError):
            raise Errno(ENOMEM) from None
        if reply.errno:
            raise Errno(reply.errno)

    @classmethod
    def moved(cls, parent: "MemoryAccount", connect: Callable[[], Client], empty: bool) -> "MemoryAccount":
        """In a forked child: its own session, which was granted the same, or nothing."""
        account = cls(connect)
        if not empty:
            account.used_bytes, account.granted_bytes = parent.used_bytes, parent.granted_bytes
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
        """The server keeps grants in memory: if it died, all that is to be held is granted in a new session."""
        for _ in range(SESSIONS_MAX):
            try:
                if self._is_new:
                    reply = self._client.call_packed(_GRANT, after_bytes)
                else:
                    reply = self._client.call_packed(operation, size_bytes)
            except ServerTimeoutError:
                raise Errno(ENOMEM) from None
            except SessionLostError:
                self._open_another()
                continue
            if reply.errno:
                raise Errno(reply.errno)
            self._is_new = False
            self.granted_bytes = after_bytes
            return
        raise Errno(ENOMEM)

    def _open_another(self) -> None:
        """A session instead of the lost one. Errno(ENOMEM) if there is no server."""
        self._is_new = True
        self._client.close()
        try:
            self._client = self._connect()
        except (SessionLostError, ServerTimeoutError):
            raise Errno(ENOMEM) from None
