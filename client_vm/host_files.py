"""Files that stand on a descriptor of the host: the caller's stdio, and pipes of the guest's.

Nothing here waits: where the host would, WouldBlock says what for. Descriptors that farcall made are non-blocking
on the host; the caller's own are asked first, and their flags left alone (other processes share them).
"""

import fcntl
import os
import select
import stat as stat_bits
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from client_vm.abi import common
from client_vm.abi.common import EINVAL, ENOTTY, EPIPE
from client_vm.descriptors import VIEWS_MAX, OpenFile, RemoteFile, device
from client_vm.errors import Errno
from client_vm.waiting import Wait, WouldBlock
from farcall.v1.file_pb2 import Attributes, Place

if TYPE_CHECKING:
    from client_vm.epoll import EventPoll

PIPE_WRITE_BYTES_MAX: Final = 4096
"""After POLLOUT a write of PIPE_BUF bytes to a pipe does not block; we never set the caller's O_NONBLOCK."""


@contextmanager
def translated() -> Iterator[None]:
    """The host's OSError as Errno."""
    try:
        yield
    except OSError as error:
        raise Errno(error.errno or EINVAL) from None


def host_call(call: Callable[[], int | None]) -> int:
    """A call of the host's, its OSError as Errno."""
    try:
        return call() or 0
    except OSError as error:
        raise Errno(error.errno or EINVAL) from None


class HostBacked(OpenFile):
    """A description whose descriptor the host has. `name`: what /proc/self/fd shows."""

    def __init__(self, descriptor: int, flags: int) -> None:
        super().__init__(flags)
        self.descriptor = descriptor
        self.duplicates: tuple[int, ...] = ()
        """Other numbers of it, for epoll."""
        self.watchers: set[EventPoll] = set()
        """Instances of epoll that it is a member of, as far as this worker knows."""
        self.reads = Wait(((descriptor, select.POLLIN),))
        self.writes = Wait(((descriptor, select.POLLOUT),))

    def readiness(self) -> int | None:
        """The host descriptor to ask poll(2) about."""
        return self.descriptor

    def attributes(self) -> Attributes:
        found = os.fstat(self.descriptor)
        return Attributes(
            ino=found.st_ino, mode=found.st_mode, nlink=found.st_nlink, uid=found.st_uid, gid=found.st_gid,
            size=found.st_size, blocks=found.st_blocks, block_size=found.st_blksize,
            dev=device(os.major(found.st_dev), os.minor(found.st_dev)),
            rdev=device(os.major(found.st_rdev), os.minor(found.st_rdev)),
            atime_ns=found.st_atime_ns, mtime_ns=found.st_mtime_ns, ctime_ns=found.st_ctime_ns,
        )  # fmt: skip

    def ioctl(self, request: int, argument: bytes) -> bytes:
        try:
            return fcntl.ioctl(self.descriptor, request, argument)
        except OSError as error:
            raise Errno(error.errno or ENOTTY) from None

    def act(self, request: int, number: int) -> None:
        """A request with a number for an argument. Errno."""
        host_call(lambda: fcntl.ioctl(self.descriptor, request, number & 0x7FFFFFFF))

    def path(self) -> bytes:
        return os.fsencode(os.readlink(f"/proc/self/fd/{self.descriptor}"))

    def unlock_records(self) -> None:
        everything = common.flock.pack(l_type=common.F_UNLCK)
        with translated():
            fcntl.fcntl(self.descriptor, common.F_SETLK, everything)

    def duplicate(self) -> int:
        """Another host descriptor of the same, which ends with it. Errno(EMFILE)."""
        with translated():
            number = os.dup(self.descriptor)
        self.duplicates += (number,)
        return number

    def release(self) -> None:
        for instance in self.watchers:
            instance.forget(self)
        for number in self.duplicates:
            os.close(number)

    def check_room(self) -> None:
        """WouldBlock: nothing can be written now."""
        if not is_ready(self.writes):
            raise WouldBlock(self.writes)

    @property
    def is_pipe(self) -> bool:
        """Whether it is a pipe of the host's."""
        return stat_bits.S_ISFIFO(os.fstat(self.descriptor).st_mode)

    def pipe_size(self, wanted: int | None) -> int:
        """F_GETPIPE_SZ and, with a size, F_SETPIPE_SZ. Errno: EBADF (no pipe), EBUSY, EPERM, EINVAL."""
        if wanted is None:
            return host_call(lambda: fcntl.fcntl(self.descriptor, fcntl.F_GETPIPE_SZ))
        if wanted >= 1 << 31:
            raise Errno(EINVAL)
        return host_call(lambda: fcntl.fcntl(self.descriptor, fcntl.F_SETPIPE_SZ, wanted))


def is_ready(wait: Wait) -> bool:
    """Whether one of the wait's descriptors is ready now."""
    poll = select.poll()
    for descriptor, events in wait.descriptors:
        poll.register(descriptor, events)
    return bool(poll.poll(0))


def is_terminal(file: OpenFile) -> bool:
    """Whether it is the caller's terminal."""
    return isinstance(file, HostBacked) and os.isatty(file.descriptor)


class HostStream(HostBacked):
    """stdin, stdout or stderr of the caller: whatever it is, used without changing its flags."""

    writes_whole = True

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor, fcntl.fcntl(descriptor, fcntl.F_GETFL) & ~common.O_CLOEXEC)
        self._name = os.fsencode(os.readlink(f"/proc/self/fd/{descriptor}"))
        self._poll = select.poll()
        self.is_regular = stat_bits.S_ISREG(os.fstat(descriptor).st_mode)

    def readiness(self) -> int | None:
        return None if self.is_regular else self.descriptor

    def _ask(self, wait: Wait) -> None:
        """Regular files are always ready; the rest may block."""
        if self.is_regular:
            return
        self._poll.register(*wait.descriptors[0])
        if not self._poll.poll(0):
            raise WouldBlock(wait)

    def read(self, views: list[memoryview]) -> int:
        if not views:
            return 0  # nothing is waited for
        self._ask(self.reads)
        return host_call(lambda: os.readv(self.descriptor, views[:VIEWS_MAX]))

    def write(self, data: memoryview) -> int:
        """As much as goes without waiting, at least something. WouldBlock; Errno."""
        if self.is_regular or not data:
            return host_call(lambda: os.write(self.descriptor, data))
        self._ask(self.writes)
        return host_call(lambda: os.write(self.descriptor, data[:PIPE_WRITE_BYTES_MAX]))

    def release(self) -> None:
        super().release()
        self.unlock_records()  # its descriptor stays open

    def pread(self, views: list[memoryview], offset: int) -> int:
        return host_call(lambda: os.preadv(self.descriptor, views[:VIEWS_MAX], offset))

    def pwrite(self, data: memoryview, offset: int) -> int:
        return host_call(lambda: os.pwrite(self.descriptor, data, offset))

    def seek(self, offset: int, whence: int) -> int:
        return host_call(lambda: os.lseek(self.descriptor, offset, whence))

    def truncate(self, size_bytes: int) -> None:
        host_call(lambda: os.ftruncate(self.descriptor, size_bytes))

    def sync(self) -> None:
        host_call(lambda: os.fsync(self.descriptor))

    def path(self) -> bytes:
        return self._name


class OwnDescriptor(HostBacked):
    """A descriptor that farcall made for the guest: non-blocking, and closed with its last reference."""

    def read(self, views: list[memoryview]) -> int:
        try:
            return os.readv(self.descriptor, views[:VIEWS_MAX])
        except BlockingIOError:
            raise WouldBlock(self.reads) from None
        except OSError as error:
            raise Errno(error.errno or EINVAL) from None

    def write(self, data: memoryview) -> int:
        """As much as goes without waiting, at least something."""
        try:
            return os.write(self.descriptor, data)
        except BlockingIOError:
            raise WouldBlock(self.writes) from None
        except BrokenPipeError:
            raise Errno(EPIPE) from None
        except OSError as error:
            raise Errno(error.errno or EINVAL) from None

    def release(self) -> None:
        super().release()
        os.close(self.descriptor)


class PipeEnd(OwnDescriptor):
    """One end of a pipe (pipe(7))."""

    writes_whole = True


class NamedPipe(PipeEnd):
    """A FIFO's end (fifo(7)): its bytes are in a pipe, its name and rights at the file server."""

    def __init__(self, descriptor: int, flags: int, file: RemoteFile) -> None:
        """`file`: where it stands, opened as a path; its reference is taken."""
        super().__init__(descriptor, flags)
        self.file = file

    def attributes(self) -> Attributes:
        return self.file.attributes()

    def path(self) -> bytes:
        return self.file.path()

    def place(self) -> Place:
        return self.file.place()

    def release(self) -> None:
        super().release()
        self.file.drop()


def make_pipe(flags: int) -> tuple[PipeEnd, PipeEnd]:
    """(reading end, writing end). Errno(EMFILE): the host has no more descriptors."""
    try:
        reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK | flags & os.O_DIRECT)
    except OSError as error:
        raise Errno(error.errno or EINVAL) from None
    return PipeEnd(reader, common.O_RDONLY | flags), PipeEnd(writer, common.O_WRONLY | flags)
