"""Whom somebody watches by pidfd: an eventfd of the host per process, readable for good once that has ended."""

import os

from client_vm.abi.common import EMFILE
from client_vm.errors import Errno


class Exits:
    """The processes of a run that are watched."""

    def __init__(self) -> None:
        self._flags: dict[int, int] = {}

    def watch(self, pid: int, has_ended: bool) -> int:
        """A descriptor that is readable when the process has ended; the caller's. Errno(EMFILE)."""
        try:
            if has_ended:
                return _flag(1)
            if pid not in self._flags:
                self._flags[pid] = _flag(0)
            return os.dup(self._flags[pid])
        except OSError:
            raise Errno(EMFILE) from None

    def ended(self, pid: int) -> None:
        """Everybody who watches it sees it."""
        flag = self._flags.pop(pid, -1)
        if flag >= 0:
            os.eventfd_write(flag, 1)
            os.close(flag)

    def close(self) -> None:
        """The run is over."""
        for pid in list(self._flags):
            self.ended(pid)


def _flag(value: int) -> int:
    return os.eventfd(value, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
