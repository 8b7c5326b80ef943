"""Open file descriptions and the fd table. A description knows its offset, its rights and where it lives.

Kinds: RemoteFile (the file server's), HostStream (stdin, stdout, stderr of the caller); /dev and /proc add
theirs in client_vm.synthetic. A call that a kind does not offer fails with the errno Linux gives.
"""

import fcntl
import os
import select
import stat as stat_bits
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from client_vm.abi import common
from client_vm.abi.common import EAGAIN, EBADF, EINVAL, EMFILE, ENOTDIR, ENOTTY, ENXIO, EPIPE, ESPIPE
from client_vm.errors import Errno
from client_vm.file_server import FileServer
from farcall.v1.file_pb2 import (
    AllocateRequest,
    Attributes,
    DirectoryEntry,
    GetAttributesRequest,
    GetPathRequest,
    OpenFlag,
    Place,
    ReadDirectoryRequest,
    SeekRequest,
    SetAttributesRequest,
    SyncRequest,
)

PIPE_WRITE_BYTES_MAX: Final = 4096
"""After POLLOUT a write of PIPE_BUF bytes to a pipe does not block; we never set the caller's O_NONBLOCK."""
DIRECTORY_ENTRIES_MAX: Final = 512
"""Asked of the file server at once."""
OFFSET_MAX: Final = (1 << 63) - 1
VIEWS_MAX: Final = 1024
"""Pieces of memory that one readv(2) of the host takes (IOV_MAX): a read of more is short."""

DEVICE_SHIFT: Final = 32
"""Attributes.dev and rdev: major << 32 | minor."""


class OpenFile:
    """An open file description (open(2)). `flags`: access mode and status flags of the guest's open."""

    def __init__(self, flags: int) -> None:
        self.flags = flags
        self.offset = 0
        self.users = 1

    # What a kind may offer.

    def pread(self, views: list[memoryview], offset: int) -> int:
        raise Errno(ESPIPE)

    def pwrite(self, data: memoryview, offset: int) -> int:
        raise Errno(ESPIPE)

    def read(self, views: list[memoryview]) -> int:
        raise Errno(EINVAL)

    def write(self, data: memoryview) -> int:
        raise Errno(EINVAL)

    def seek(self, offset: int, whence: int) -> int:
        raise Errno(ESPIPE)

    def attributes(self) -> Attributes:
        raise Errno(EBADF)

    def entries(self, cookie: int) -> list[DirectoryEntry]:
        raise Errno(ENOTDIR)

    def truncate(self, size_bytes: int) -> None:
        raise Errno(EINVAL)

    def allocate(self, offset: int, size_bytes: int, keep_size: bool, punch: bool) -> None:
        raise Errno(common.ENODEV)

    def sync(self) -> None:
        raise Errno(EINVAL)

    def ioctl(self, request: int, argument: bytes) -> bytes:
        """Answers a request whose argument is a struct; returns the struct to hand out."""
        raise Errno(ENOTTY)

    def place(self) -> Place:
        """The object itself, for calls that take a descriptor."""
        raise Errno(ENOTDIR)

    def path(self) -> bytes:
        """What readlink of /proc/self/fd/N shows."""
        raise Errno(EBADF)

    def release(self) -> None:
        """The last reference is gone."""

    # The same for every kind.

    def check_readable(self) -> None:
        if self.flags & common.O_PATH or self.flags & common.O_ACCMODE == common.O_WRONLY:
            raise Errno(EBADF)

    def check_writable(self) -> None:
        if self.flags & common.O_PATH or self.flags & common.O_ACCMODE == common.O_RDONLY:
            raise Errno(EBADF)

    def drop(self) -> None:
        """One reference less."""
        self.users -= 1
        if not self.users:
            self.release()


class RemoteFile(OpenFile):
    """A file or directory of the file server, by handle."""

    def __init__(self, files: FileServer, handle: int, flags: int, mode: int) -> None:
        super().__init__(flags)
        self._files = files
        self.handle = handle
        self.mode = mode

    @property
    def is_directory(self) -> bool:
        return stat_bits.S_ISDIR(self.mode)

    def _check_data(self) -> None:
        if self.is_directory:
            raise Errno(common.EISDIR)

    def pread(self, views: list[memoryview], offset: int) -> int:
        self._check_data()
        return self._files.pread(self.handle, offset, views)

    def pwrite(self, data: memoryview, offset: int) -> int:
        # O_APPEND wins over the offset on Linux (pwrite(2), BUGS).
        if self.flags & common.O_APPEND:
            return self._files.append(self.handle, data)[0]
        return self._files.pwrite(self.handle, offset, data)

    def read(self, views: list[memoryview]) -> int:
        count = self.pread(views, self.offset)
        self.offset += count
        return count

    def write(self, data: memoryview) -> int:
        if self.flags & common.O_APPEND:
            count, self.offset = self._files.append(self.handle, data)
            return count
        count = self._files.pwrite(self.handle, self.offset, data)
        self.offset += count
        return count

    def seek(self, offset: int, whence: int) -> int:
        if whence == common.SEEK_CUR:
            offset += self.offset
        elif whence == common.SEEK_END:
            offset += self.attributes().size
        elif whence in (common.SEEK_DATA, common.SEEK_HOLE):
            if offset < 0:
                raise Errno(ENXIO)
            hole = whence == common.SEEK_HOLE
            offset = self._files.call(SeekRequest(handle=self.handle, offset=offset, hole=hole)).offset
        elif whence != common.SEEK_SET:
            raise Errno(EINVAL)
        if not 0 <= offset <= OFFSET_MAX:
            raise Errno(EINVAL)
        self.offset = offset
        return offset

    def attributes(self) -> Attributes:
        found: Attributes = self._files.call(GetAttributesRequest(place=self.place())).attributes
        return found

    def entries(self, cookie: int) -> list[DirectoryEntry]:
        if not self.is_directory:
            raise Errno(ENOTDIR)
        request = ReadDirectoryRequest(handle=self.handle, cookie=cookie, entries_max=DIRECTORY_ENTRIES_MAX)
        return list(self._files.call(request).entries)

    def truncate(self, size_bytes: int) -> None:
        self._files.call(SetAttributesRequest(place=self.place(), size=size_bytes))

    def allocate(self, offset: int, size_bytes: int, keep_size: bool, punch: bool) -> None:
        self._files.call(
            AllocateRequest(
                handle=self.handle, offset=offset, size_bytes=size_bytes, keep_size=keep_size, punch=punch
            )
        )

    def sync(self) -> None:
        self._files.call(SyncRequest(handle=self.handle))

    def place(self) -> Place:
        return Place(directory=self.handle, empty_ok=True)

    def path(self) -> bytes:
        answer = self._files.call(GetPathRequest(handle=self.handle))
        return bytes(answer.path)

    def release(self) -> None:
        self._files.close(self.handle)


class HostStream(OpenFile):
    """stdin, stdout or stderr of the caller: whatever it is, used without changing its flags."""

    def __init__(self, descriptor: int) -> None:
        super().__init__(fcntl.fcntl(descriptor, fcntl.F_GETFL) & ~common.O_CLOEXEC)
        self._descriptor = descriptor
        self._name = os.fsencode(os.readlink(f"/proc/self/fd/{descriptor}"))
        self._poll = select.poll()
        self._is_regular = stat_bits.S_ISREG(os.fstat(descriptor).st_mode)

    def _await(self, events: int) -> None:
        """Regular files are always ready; the rest may block, and a signal restarts the wait.

        Errno(EAGAIN) instead, where the guest does not want to wait: O_NONBLOCK is a bit of ours.
        """
        if not self._is_regular:
            self._poll.register(self._descriptor, events)
            if not self._poll.poll(0 if self.flags & common.O_NONBLOCK else None):
                raise Errno(EAGAIN)

    def read(self, views: list[memoryview]) -> int:
        if not views:
            return 0  # nothing is waited for
        self._await(select.POLLIN)
        try:
            return os.readv(self._descriptor, views[:VIEWS_MAX])
        except OSError as error:
            raise Errno(error.errno or EINVAL) from None

    def write(self, data: memoryview) -> int:
        step = len(data) if self._is_regular else PIPE_WRITE_BYTES_MAX
        done = 0
        while True:
            try:
                if data:
                    self._await(select.POLLOUT)
                done += os.write(self._descriptor, data[done : done + step])
            except BrokenPipeError:
                raise Errno(EPIPE) from None
            except (OSError, Errno) as error:
                if done:
                    return done
                raise Errno(error.errno or EINVAL) from None
            if done >= len(data):
                return done

    def pread(self, views: list[memoryview], offset: int) -> int:
        return self._host(lambda: os.preadv(self._descriptor, views[:VIEWS_MAX], offset))

    def pwrite(self, data: memoryview, offset: int) -> int:
        return self._host(lambda: os.pwrite(self._descriptor, data, offset))

    def seek(self, offset: int, whence: int) -> int:
        return self._host(lambda: os.lseek(self._descriptor, offset, whence))

    def truncate(self, size_bytes: int) -> None:
        self._host(lambda: os.ftruncate(self._descriptor, size_bytes))

    def sync(self) -> None:
        self._host(lambda: os.fsync(self._descriptor))

    @staticmethod
    def _host(call: Callable[[], int | None]) -> int:
        try:
            return call() or 0
        except OSError as error:
            raise Errno(error.errno or EINVAL) from None

    def attributes(self) -> Attributes:
        found = os.fstat(self._descriptor)
        return Attributes(
            ino=found.st_ino, mode=found.st_mode, nlink=found.st_nlink, uid=found.st_uid, gid=found.st_gid,
            size=found.st_size, blocks=found.st_blocks, block_size=found.st_blksize,
            dev=device(os.major(found.st_dev), os.minor(found.st_dev)),
            rdev=device(os.major(found.st_rdev), os.minor(found.st_rdev)),
            atime_ns=found.st_atime_ns, mtime_ns=found.st_mtime_ns, ctime_ns=found.st_ctime_ns,
        )  # fmt: skip

    def ioctl(self, request: int, argument: bytes) -> bytes:
        try:
            return fcntl.ioctl(self._descriptor, request, argument)
        except OSError as error:
            raise Errno(error.errno or ENOTTY) from None

    def path(self) -> bytes:
        return self._name


def device(major: int, minor: int) -> int:
    """A device number as Attributes carry it."""
    return major << DEVICE_SHIFT | minor


@dataclass(slots=True)
class Descriptor:
    """An fd: which description, and whether execve closes it."""

    file: OpenFile
    close_on_exec: bool


class FdTable:
    """The fds of a process. `limit` is RLIMIT_NOFILE's soft value, read at each new fd."""

    def __init__(self) -> None:
        self._table: dict[int, Descriptor] = {}
        self.limit = 1024

    def get(self, fd: int) -> OpenFile:
        """Errno(EBADF)."""
        found = self._table.get(fd)
        if found is None:
            raise Errno(EBADF)
        return found.file

    def descriptor(self, fd: int) -> Descriptor:
        """Errno(EBADF)."""
        found = self._table.get(fd)
        if found is None:
            raise Errno(EBADF)
        return found

    def lowest_free(self, minimum: int = 0) -> int:
        """Errno(EMFILE): every number below the limit is in use."""
        fd = minimum
        while fd in self._table:
            fd += 1
        if fd >= self.limit:
            raise Errno(EMFILE)
        return fd

    def install(self, fd: int, file: OpenFile, close_on_exec: bool) -> None:
        """Puts a description (whose reference it takes) at fd, closing what was there."""
        old = self._table.get(fd)
        self._table[fd] = Descriptor(file, close_on_exec)
        if old is not None:
            old.file.drop()

    def close(self, fd: int) -> None:
        """Errno(EBADF)."""
        found = self._table.pop(fd, None)
        if found is None:
            raise Errno(EBADF)
        found.file.drop()

    def numbers(self) -> list[int]:
        return sorted(self._table)


OPEN_PATH: Final = OpenFlag.OPEN_FLAG_PATH | OpenFlag.OPEN_FLAG_DIRECTORY
"""How a working directory is held."""
