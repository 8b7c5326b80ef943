"""eventfd(2), timerfd_create(2), signalfd(2): descriptions on the host's own objects."""

import os
import struct
from typing import TYPE_CHECKING, Final

from client_vm import host
from client_vm.abi import common
from client_vm.abi.common import EINVAL
from client_vm.errors import Errno
from client_vm.guest_memory import scatter
from client_vm.host_files import OwnDescriptor, translated
from client_vm.waiting import WouldBlock

if TYPE_CHECKING:
    from client_vm.frames import SignalInfo
    from client_vm.process import Process, Task

_SIGNAL: Final = struct.Struct("<IiiIIiIIIIiiQQQQ48x")
"""struct signalfd_siginfo (signalfd(2)): signo, errno, code, pid, uid, fd, tid, band, overrun, trapno, status,
int, ptr, utime, stime, addr."""


class EventCounter(OwnDescriptor):
    """eventfd(2): eight bytes at a time, which the host checks."""

    def path(self) -> bytes:
        return b"anon_inode:[eventfd]"


def make_eventfd(initial: int, flags: int) -> EventCounter:
    """Errno(EMFILE)."""
    with translated():
        descriptor = os.eventfd(initial, os.EFD_NONBLOCK | os.EFD_CLOEXEC | flags & common.EFD_SEMAPHORE)
    return EventCounter(descriptor, common.O_RDWR | flags & common.O_NONBLOCK)


class Timer(OwnDescriptor):
    """timerfd_create(2)."""

    def path(self) -> bytes:
        return b"anon_inode:[timerfd]"

    def write(self, data: memoryview) -> int:
        raise Errno(EINVAL)

    def set(self, flags: int, new: bytes) -> bytes:
        """timerfd_settime(2): struct itimerspec in and out. Errno(EINVAL)."""
        with translated():
            return host.set_timerfd(self.descriptor, flags, new)

    def get(self) -> bytes:
        """timerfd_gettime(2)."""
        return host.get_timerfd(self.descriptor, common.itimerspec.size)


def make_timerfd(clock: int, flags: int) -> Timer:
    """Errno: EINVAL (clock), EPERM, EMFILE."""
    with translated():
        descriptor = host.timerfd(clock)
    return Timer(descriptor, common.O_RDWR | flags & common.O_NONBLOCK)


class ProcessDescriptor(OwnDescriptor):
    """pidfd_open(2): readable once the process has ended; waitid(2) tells the rest."""

    def __init__(self, descriptor: int, pid: int, flags: int) -> None:
        super().__init__(descriptor, flags)
        self.pid = pid

    @classmethod
    def ended(cls, pid: int) -> "ProcessDescriptor":
        """Of a process that is gone already. Errno(EMFILE)."""
        with translated():
            return cls(os.eventfd(1, os.EFD_NONBLOCK | os.EFD_CLOEXEC), pid, common.O_RDWR)

    def path(self) -> bytes:
        return b"anon_inode:[pidfd]"

    def read(self, views: list[memoryview]) -> int:
        raise Errno(EINVAL)

    def write(self, data: memoryview) -> int:
        raise Errno(EINVAL)


class SignalQueue(OwnDescriptor):
    """signalfd(2): reads take pending signals. Its descriptor is the end of a pipe that has a byte in it while
    there are some, so that the host's poll and epoll know.

    It shows what is pending for the process that has it; inside an epoll instance that a fork shares, for the one
    that added it (signalfd(2)).
    """

    def __init__(self, process: "Process", mask: int, flags: int) -> None:
        with translated():
            descriptor, self._bell = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        super().__init__(descriptor, common.O_RDWR | flags)
        self.mask = mask
        self._process = process
        self._pid = process.pid
        self._readable = False
        process.signals.queues.append(self)
        self.refresh()

    def path(self) -> bytes:
        return b"anon_inode:[signalfd]"

    @property
    def is_pipe(self) -> bool:
        return False

    def write(self, data: memoryview) -> int:
        raise Errno(EINVAL)

    def release(self) -> None:
        self._process.signals.queues.remove(self)
        os.close(self._bell)
        super().release()

    def refresh(self) -> None:
        """Makes the descriptor readable, or not, as signals are pending."""
        process = self._process
        if process.pid != self._pid:
            self._pid = process.pid
            self._renew()
        pending = process.signals.pending.mask
        for task in process.tasks.values():
            pending |= task.pending.mask
        readable = bool(pending & self.mask)
        if readable and not self._readable:
            os.write(self._bell, b"!")
        elif self._readable and not readable:
            os.read(self.descriptor, 1)
        self._readable = readable

    def _renew(self) -> None:
        """The process is a fork's child: from here on its pipe is one of its own."""
        own = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        for new, number in zip(own, (self.descriptor, self._bell), strict=True):
            os.dup2(new, number, inheritable=False)
            os.close(new)
        self._readable = False

    def read_for(self, task: "Task", views: list[memoryview]) -> int:
        """Takes pending signals of the thread and its process. WouldBlock; Errno(EINVAL): no room for one."""
        if task.process is not self._process:
            self._adopt(task.process)
        room = sum(map(len, views))
        if room < _SIGNAL.size:
            raise Errno(EINVAL)
        found: list[bytes] = []
        while (len(found) + 1) * _SIGNAL.size <= room:
            info = self._take(task)
            if info is None:
                break
            found.append(_packed(info))
        self.refresh()
        if not found:
            raise WouldBlock(self.reads)
        return scatter(views, memoryview(b"".join(found)))

    def _adopt(self, process: "Process") -> None:
        """Another process of this worker has it now: a vfork child's, that has executed."""
        self._process.signals.queues.remove(self)
        self._process = process
        process.signals.queues.append(self)

    def _take(self, task: "Task") -> "SignalInfo | None":
        for pending in (task.pending, task.process.signals.pending):
            ready = pending.mask & self.mask
            if ready:
                return pending.take((ready & -ready).bit_length())
        return None


def _packed(info: "SignalInfo") -> bytes:
    value = info.value & (1 << 64) - 1
    number = info.value & 0xFFFFFFFF
    signed = number - (1 << 32) if number >> 31 else number
    return _SIGNAL.pack(
        info.signal, info.errno, info.code, info.pid, info.uid, 0, info.timer_id, 0, info.overrun, 0, info.status,
        signed, value, info.utime, info.stime, info.address,
    )  # fmt: skip
