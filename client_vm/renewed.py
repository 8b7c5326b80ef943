"""A session at a server that keeps its state in memory: opened with the first call, and anew after its death."""

from collections.abc import Callable
from typing import Final, TypeVar

from client_vm.errors import Errno
from ipc.client import Client, ServerTimeoutError, SessionLostError

SESSIONS_MAX: Final = 16
"""Opened for the sake of one call, each in place of one that the server lost."""
T = TypeVar("T")


class RenewedSession:
    """One worker's. Most make no call, or make it long after their start."""

    def __init__(self, connect: Callable[[], Client], absent: int) -> None:
        """`connect` gives a client in a new session, or in the one that was granted last. `absent`: the errno of
        calls when there is no server for as long as one is waited for."""
        self._connect = connect
        self._absent = absent
        self._opened: Client | None = None
        self.losses = 0
        """How many were lost before the one there is."""

    @property
    def client(self) -> Client:
        """Of the session there is. Errno: absent."""
        if self._opened is None:
            try:
                self._opened = self._connect()
            except (SessionLostError, ServerTimeoutError):
                raise Errno(self._absent) from None
        return self._opened

    def use(self, act: Callable[[Client], T]) -> T:
        """What `act` does; once more in another session if the server forgot this one, and the act with it.

        Errno: absent. UnsupportedError.
        """
        for _ in range(SESSIONS_MAX):
            try:
                return act(self.client)
            except SessionLostError:
                self.lose()
            except ServerTimeoutError:
                break
        raise Errno(self._absent)

    def lose(self) -> None:
        """The server forgot it: the next call is made in another one."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None
        self.losses += 1
