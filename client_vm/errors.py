"""How a handler says what happened: an errno, or the end of the guest. And farcall's own failures."""

from typing import Final

EXIT_FAILURE: Final = 125
"""farcall's exit status for failures of its own."""
EXIT_NOT_EXECUTABLE: Final = 126
EXIT_NOT_FOUND: Final = 127
"""As shells have them."""


class Errno(Exception):
    """The syscall fails with this errno (errno(3)); nothing was changed."""

    def __init__(self, errno: int) -> None:
        super().__init__(errno)
        self.errno = errno


class GuestExit(BaseException):
    """The guest process ends: exit status, or death by a signal (0: none)."""

    def __init__(self, status: int, signal: int = 0) -> None:
        super().__init__(status, signal)
        self.status = status
        self.signal = signal


class StartError(Exception):
    """A guest or a run cannot start: one line for a person, and farcall's exit status (125, 126 or 127)."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class ThreadExit(BaseException):
    """The thread ends (exit(2)); with the last one the process, with this status."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class NoResult(BaseException):
    """The call has set every register itself: sigreturn(2)."""


class Replaced(BaseException):
    """The task has another program, CPU or host process now (execve(2)): what ran it must begin anew."""
