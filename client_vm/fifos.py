"""Where FIFOs' ends meet (fifo(7)): per FIFO of the file server there is one of the host's, without a name. Its
ends are opened anew for each guest that opens it, so that ends of files, broken pipes and readiness are the
host's. Only who waits for the other end in open(2) is known here.

An end belongs to a ticket until the worker has fetched a copy of it and says so; who waits counts as a reader or
writer already, as on Linux.
"""

import itertools
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

from client_vm import host
from client_vm.abi import common
from client_vm.errors import Errno

TICKETS_MAX: Final = 256
"""Ends of one process that it has not taken yet."""
FIFOS_MAX: Final = 256
"""FIFOs that are known; those that nobody has open are forgotten to make room."""
Key = tuple[int, int]
"""(device, inode) of the FIFO."""


class Told(NamedTuple):
    """A ticket whose wait is over."""

    pid: int
    ticket: int


@dataclass(slots=True)
class _End:
    """One end that a process is about to have."""

    pid: int
    key: Key
    descriptor: int
    writes: bool
    waits: bool


class Fifos:
    """All FIFOs of a run that somebody has opened."""

    def __init__(self, make: Callable[[], int], open_file: Callable[[str, int], int]) -> None:
        """`make`: a descriptor of a new FIFO that is neither a reader nor a writer (O_PATH). `open_file`:
        os.open, for its ends in /proc/self/fd. Both: OSError."""
        self._make = make
        self._open_file = open_file
        self._made: dict[Key, int] = {}
        self._ends: dict[int, _End] = {}
        self._tickets = itertools.count(1)

    def join(self, pid: int, key: Key, access: int, waits: bool) -> tuple[int, bool, list[Told]]:
        """A process opens a FIFO: (ticket, whether it need not wait, whose wait is over).

        Errno: EINVAL; ENXIO: no reader, and it would not wait; ENFILE.
        """
        if access not in (common.O_RDONLY, common.O_WRONLY, common.O_RDWR):
            raise Errno(common.EINVAL)
        if sum(end.pid == pid for end in self._ends.values()) >= TICKETS_MAX:
            raise Errno(common.ENFILE)
        try:
            descriptor, ready = self._end(key, access, waits)
        except OSError as error:
            raise Errno(error.errno or common.ENFILE) from None
        told = []
        for ticket, end in self._ends.items():
            if (
                end.key == key
                and end.waits
                and (access == common.O_RDWR or end.writes == (access == common.O_RDONLY))
            ):
                end.waits = False
                told.append(Told(end.pid, ticket))
        ticket = next(self._tickets)
        self._ends[ticket] = _End(pid, key, descriptor, access == common.O_WRONLY, not ready)
        return ticket, ready, told

    def _end(self, key: Key, access: int, waits: bool) -> tuple[int, bool]:
        """(descriptor, whether the other end is there). OSError."""
        if access == common.O_RDWR:
            return self._reopen(key, os.O_RDWR), True
        if access == common.O_RDONLY:
            reader = self._reopen(key, os.O_RDONLY)
            return reader, not waits or _has_writers(reader)
        try:
            return self._reopen(key, os.O_WRONLY), True
        except OSError as error:
            if error.errno != common.ENXIO or not waits:
                raise
        both = self._reopen(key, os.O_RDWR)
        try:
            return self._reopen(key, os.O_WRONLY), False
        finally:
            os.close(both)

    def _reopen(self, key: Key, access: int) -> int:
        return self._open_file(f"/proc/self/fd/{self._fifo(key)}", access | os.O_NONBLOCK | os.O_CLOEXEC)

    def _fifo(self, key: Key) -> int:
        if key not in self._made:
            if len(self._made) >= FIFOS_MAX:
                self._forget_unused()
            self._made[key] = self._make()
        return self._made[key]

    def _forget_unused(self) -> None:
        """Forgets the FIFOs that nobody has open. Errno(ENFILE): there are none."""
        for key in list(self._made):
            try:
                os.close(self._reopen(key, os.O_WRONLY))
                continue  # it has readers
            except OSError as error:
                if error.errno != common.ENXIO:
                    raise
            reader = self._reopen(key, os.O_RDONLY)
            if not _has_writers(reader):
                os.close(self._made.pop(key))
            os.close(reader)
        if len(self._made) >= FIFOS_MAX:
            raise Errno(common.ENFILE)

    def copy(self, pid: int, ticket: int) -> int:
        """A copy of the ticket's descriptor, the caller's. Errno: EINVAL; EAGAIN: its wait is not over."""
        end = self._ends.get(ticket)
        if end is None or end.pid != pid:
            raise Errno(common.EINVAL)
        if end.waits:
            raise Errno(common.EAGAIN)
        try:
            return os.dup(end.descriptor)
        except OSError:
            raise Errno(common.ENFILE) from None

    def leave(self, pid: int, ticket: int) -> None:
        """The process has its copy, or wants none any more. Errno(EINVAL)."""
        end = self._ends.get(ticket)
        if end is None or end.pid != pid:
            raise Errno(common.EINVAL)
        os.close(self._ends.pop(ticket).descriptor)

    def forget(self, pid: int) -> None:
        """The process has ended."""
        for ticket in [ticket for ticket, end in self._ends.items() if end.pid == pid]:
            self.leave(pid, ticket)

    def close(self) -> None:
        """The run is over."""
        for descriptor in (*self._made.values(), *(end.descriptor for end in self._ends.values())):
            os.close(descriptor)
        self._made, self._ends = {}, {}


def _has_writers(reader: int) -> bool:
    """Whether a read would wait, or find something. OSError."""
    scratch = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        return bool(host.tee(reader, scratch[1], 1))
    except BlockingIOError:
        return True
    finally:
        for descriptor in scratch:
            os.close(descriptor)
