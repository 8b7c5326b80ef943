"""The pseudo-terminals of a run: the host's own (pts(4)), made and opened for workers, who can open nothing.

A slave is opened through a descriptor (O_PATH) that was taken when its terminal was made: the host gives the
number to somebody else once the master is closed, and that one's terminal is not the guest's business.
"""

import fcntl
import os
from typing import Final

from client_vm import host
from client_vm.abi import common
from client_vm.errors import Errno

PTYS_MAX: Final = 256
"""Of one run."""
_FOLDER: Final = "/dev/pts"
_FLAGS: Final = os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC


class Ptys:
    """Those whose masters live, by number."""

    def __init__(self) -> None:
        self._slaves: dict[int, int] = {}
        self._lost: list[int] = []
        """Gone, which is not told yet."""
        self.news = host.watch_removals(_FOLDER)
        """A descriptor that is readable when one may have gone; -1: this host has none."""

    def make(self) -> int:
        """The master of a new one, the caller's to close. Errno: ENOSPC, EMFILE."""
        if len(self._slaves) >= PTYS_MAX:
            raise Errno(common.ENOSPC)
        try:
            master = os.open("/dev/ptmx", _FLAGS)
        except OSError as error:
            raise Errno(error.errno or common.ENOSPC) from None
        try:
            number = int.from_bytes(fcntl.ioctl(master, common.TIOCGPTN, bytes(4)), "little")
            slave = os.open(f"{_FOLDER}/{number}", os.O_PATH | os.O_CLOEXEC)
        except OSError as error:
            os.close(master)
            raise Errno(error.errno or common.ENOSPC) from None
        if number in self._slaves:  # the host gave it away again before anybody looked
            self._forget(number)
            self._lost.append(number)
        self._slaves[number] = slave
        return master

    def open(self, number: int) -> int:
        """A slave, the caller's to close. Errno: ENOENT; EIO: it is locked, or gone."""
        if number not in self._slaves:
            raise Errno(common.ENOENT)
        try:
            return os.open(f"/proc/self/fd/{self._slaves[number]}", _FLAGS)
        except OSError as error:
            raise Errno(error.errno or common.EIO) from None

    def all(self) -> dict[int, os.stat_result]:
        """What stat(2) tells of the slaves, by number."""
        found = {number: os.fstat(slave) for number, slave in sorted(self._slaves.items())}
        return {number: status for number, status in found.items() if status.st_nlink}

    def gone(self) -> list[int]:
        """Numbers of those whose masters have been closed since the last look."""
        if self.news >= 0:
            host.drain(self.news)
        for number in [number for number, slave in self._slaves.items() if not os.fstat(slave).st_nlink]:
            self._forget(number)
            self._lost.append(number)
        lost, self._lost = self._lost, []
        return lost

    def _forget(self, number: int) -> None:
        slave = self._slaves.pop(number, -1)
        if slave >= 0:
            os.close(slave)

    def close(self) -> None:
        """The run is over."""
        for number in list(self._slaves):
            self._forget(number)
        if self.news >= 0:
            os.close(self.news)
