"""Open file descriptions and the fd table. A description knows its offset, its rights and where it lives.

Kinds: RemoteFile (the file server's) here; client_vm.host_files, event_files and nodes add theirs. A call that
a kind does not offer fails with the errno Linux gives; one that would have to wait raises WouldBlock.
"""

import stat as stat_bits
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from client_vm.abi import common
from client_vm.abi.common import EBADF, EINVAL, EMFILE, ENOTDIR, ENOTTY, ENXIO, ESPIPE
from client_vm.errors import Errno
from client_vm.file_server import FileServer
from farcall.v1.file_pb2 import (
    LOCK_KIND_POSIX,
    LOCK_TYPE_UNLOCK,
    AllocateRequest,
    Attributes,
    DirectoryEntry,
    GetAttributesRequest,
    GetPathRequest,
    LockRequest,
    OpenFlag,
    Place,
    ReadDirectoryRequest,
    SeekRequest,
    SetAttributesRequest,
    SyncRequest,
)

if TYPE_CHECKING:
    from client_vm.shared_offsets import SharedOffsets

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
        self._flags = flags
        self.is_path = bool(flags & common.O_PATH)
        """Whether it is more of a place than of a file (open(2): O_PATH)."""
        self._offset = 0
        self.users = 1
        self._slot = 0
        """Where offset and flags are kept once other workers share them; 0: here."""
        self._offsets: SharedOffsets | None = None

    @property
    def flags(self) -> int:
        """Access mode and status flags."""
        return self._flags if self._offsets is None else self._offsets.read(self._slot)[1]

    @flags.setter
    def flags(self, flags: int) -> None:
        if self._offsets is None:
            self._flags = flags
        else:
            self._offsets.set_flags(self._slot, flags)

    @property
    def offset(self) -> int:
        """Where the next read or write happens."""
        return self._offset if self._offsets is None else self._offsets.read(self._slot)[0]

    @offset.setter
    def offset(self, offset: int) -> None:
        if self._offsets is None:
            self._offset = offset
        else:
            self._offsets.set_offset(self._slot, offset)

    def share(self, offsets: "SharedOffsets") -> None:
        """One worker more will have it: right before a fork. Errno(ENFILE)."""
        if self._offsets is None:
            self._slot = offsets.take(self._offset, self._flags)
            self._offsets = offsets
        offsets.change_users(self._slot, 1)

    @property
    def slot(self) -> int:
        """Where offset and flags are kept once other workers share them."""
        return self._slot

    def join(self, offsets: "SharedOffsets", slot: int) -> None:
        """It is another worker's description, whose `share` has counted this one. ValueError: no such slot."""
        offsets.check(slot)
        self._offsets, self._slot = offsets, slot

    def unshare(self) -> None:
        """The fork that it was shared for did not happen."""
        if self._offsets is not None:
            self._offsets.change_users(self._slot, -1)

    def alone(self) -> AbstractContextManager[None]:
        """Nobody else moves the offset meanwhile."""
        if self._offsets is None or self._offsets.read(self._slot)[2] < 2:
            return nullcontext()
        return self._offsets.locked(self._slot)

    def update_flags(self, chosen: int, flags: int) -> None:
        """Sets the status flags among `chosen` as they are in `flags`, for all who share the description."""
        with self.alone():
            self.flags = self.flags & ~chosen | flags & chosen

    def leave(self) -> None:
        """This worker has it no more."""
        if self._offsets is not None:
            self._offsets.change_users(self._slot, -1)
            self._offsets = None

    # What a kind may offer.

    writes_whole = False
    """Whether a blocking write goes on until everything is written (pipe(7))."""
    owner = common.F_OWNER_PID, 0
    """F_OWNER_*, and whom F_SETOWN named."""

    def readiness(self) -> int | None:
        """The host descriptor that poll(2) is asked about; None: always ready for reading and writing."""
        return None

    def patience_s(self, writing: bool) -> float | None:
        """How long a read or write waits at most; None: for ever."""
        return None

    def unlock_records(self) -> None:
        """Ends the process's record locks of the file."""

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
        if self.is_path or self._flags & common.O_ACCMODE == common.O_WRONLY:
            raise Errno(EBADF)

    def check_writable(self) -> None:
        if self.is_path or self._flags & common.O_ACCMODE == common.O_RDONLY:
            raise Errno(EBADF)

    def drop(self) -> None:
        """One reference less."""
        self.users -= 1
        if not self.users:
            self.leave()
            self.release()

    def leave_behind(self) -> None:
        """In a clone of the worker: one reference less, of a process that did not come along."""
        self.users -= 1
        if not self.users:
            self._offsets = None  # this worker is not counted among its users
            self.release()


class RemoteFile(OpenFile):
    """A file or directory of the file server, by handle."""

    def __init__(self, files: FileServer, handle: int, flags: int, mode: int) -> None:
        super().__init__(flags)
        self.files = files
        self.handle = handle
        self.mode = mode

    @property
    def is_directory(self) -> bool:
        return stat_bits.S_ISDIR(self.mode)

    @property
    def may_write(self) -> bool:
        """Whether it was opened for reading and writing."""
        return self._flags & common.O_ACCMODE == common.O_RDWR

    def _check_data(self) -> None:
        if self.is_directory:
            raise Errno(common.EISDIR)

    def pread(self, views: list[memoryview], offset: int) -> int:
        self._check_data()
        return self.files.pread(self.handle, offset, views)

    def pwrite(self, data: memoryview, offset: int) -> int:
        # O_APPEND wins over the offset on Linux (pwrite(2), BUGS).
        if self.flags & common.O_APPEND:
            return self.files.append(self.handle, data)[0]
        return self.files.pwrite(self.handle, offset, data)

    def read(self, views: list[memoryview]) -> int:
        if self._offsets is None:
            count = self.pread(views, self._offset)
            self._offset += count
            return count
        with self.alone():
            count = self.pread(views, self.offset)
            self.offset += count
        return count

    def write(self, data: memoryview) -> int:
        with self.alone():
            if self.flags & common.O_APPEND:
                count, self.offset = self.files.append(self.handle, data)
                return count
            count = self.files.pwrite(self.handle, self.offset, data)
            self.offset += count
        return count

    def append(self, data: memoryview, moves: bool) -> int:
        """Writes at the end, whatever the flags; `moves`: the offset is there then."""
        with self.alone():
            count, end = self.files.append(self.handle, data)
            if moves:
                self.offset = end
        return count

    def seek(self, offset: int, whence: int) -> int:
        with self.alone():
            return self._seek(offset, whence)

    def _seek(self, offset: int, whence: int) -> int:
        if whence == common.SEEK_CUR:
            offset += self.offset
        elif whence == common.SEEK_END:
            offset += self.attributes().size
        elif whence in (common.SEEK_DATA, common.SEEK_HOLE):
            if offset < 0:
                raise Errno(ENXIO)
            offset = self._find(offset, whence == common.SEEK_HOLE)
        elif whence != common.SEEK_SET:
            raise Errno(EINVAL)
        if not 0 <= offset <= OFFSET_MAX:
            raise Errno(EINVAL)
        self.offset = offset
        return offset

    def _find(self, offset: int, hole: bool) -> int:
        """The next hole, or data. A server that cannot tell: all is data, as Linux has it then (lseek(2))."""
        try:
            found: int = self.files.call(SeekRequest(handle=self.handle, offset=offset, hole=hole)).offset
        except Errno as error:
            if error.errno != common.ENOSYS:
                raise
            size = self.attributes().size
            if offset >= size:
                raise Errno(ENXIO) from None
            found = size if hole else offset
        return found

    def attributes(self) -> Attributes:
        found: Attributes = self.files.call(GetAttributesRequest(place=self.place())).attributes
        return found

    def entries(self, cookie: int) -> list[DirectoryEntry]:
        if not self.is_directory:
            raise Errno(ENOTDIR)
        request = ReadDirectoryRequest(handle=self.handle, cookie=cookie, entries_max=DIRECTORY_ENTRIES_MAX)
        return list(self.files.call(request).entries)

    def truncate(self, size_bytes: int) -> None:
        self.files.call(SetAttributesRequest(place=self.place(), size=size_bytes))

    def allocate(self, offset: int, size_bytes: int, keep_size: bool, punch: bool) -> None:
        self.files.call(
            AllocateRequest(
                handle=self.handle, offset=offset, size_bytes=size_bytes, keep_size=keep_size, punch=punch
            )
        )

    def sync(self) -> None:
        self.files.call(SyncRequest(handle=self.handle))

    def place(self) -> Place:
        return Place(directory=self.handle, empty_ok=True)

    def path(self) -> bytes:
        answer = self.files.call(GetPathRequest(handle=self.handle))
        return bytes(answer.path)

    def unlock_records(self) -> None:
        if self.files.offers("Lock"):
            self.files.call(LockRequest(handle=self.handle, kind=LOCK_KIND_POSIX, type=LOCK_TYPE_UNLOCK))

    def release(self) -> None:
        self.files.close(self.handle)


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
        self._full_below = 0
        """Every fd below it is in use."""
        self.limit = 1024
        self.record_locked: set[OpenFile] = set()
        """What this process has set record locks through: closing any fd of it ends those (fcntl(2)). A vfork
        child closes in its parent's session, but ends none of its parent's locks."""

    # -- looking ------------------------------------------------------------------------------------

    def get(self, fd: int) -> OpenFile:
        """Errno(EBADF)."""
        found = self._table.get(fd)
        if found is None:
            raise Errno(EBADF)
        return found.file

    def lookup(self, fd: int) -> OpenFile | None:
        """The description at fd, if there is one that is more than a path (O_PATH: open(2))."""
        found = self._table.get(fd)
        return None if found is None or found.file.is_path else found.file

    def descriptor(self, fd: int) -> Descriptor:
        """Errno(EBADF)."""
        found = self._table.get(fd)
        if found is None:
            raise Errno(EBADF)
        return found

    def numbers(self) -> list[int]:
        return sorted(self._table)

    def capacity(self) -> int:
        """How many fds a table of Linux has room for: select(2) looks at no others (fs/file.c: alloc_fdtable)."""
        highest = max(self._table, default=0)
        return 64 if highest < 64 else 128 << (highest // 128).bit_length()

    def lowest_free(self, minimum: int = 0) -> int:
        """Errno(EMFILE): every number below the limit is in use."""
        fd = max(minimum, self._full_below)
        while fd in self._table:
            fd += 1
        if minimum <= self._full_below:
            self._full_below = fd
        if fd >= self.limit:
            raise Errno(EMFILE)
        return fd

    # -- changing -----------------------------------------------------------------------------------

    def install(self, fd: int, file: OpenFile, close_on_exec: bool) -> None:
        """Puts a description (whose reference it takes) at fd, closing what was there."""
        old = self._table.get(fd)
        self._table[fd] = Descriptor(file, close_on_exec)
        if old is not None:
            self._let_go(old.file)

    def close(self, fd: int) -> None:
        """Errno(EBADF)."""
        found = self._table.pop(fd, None)
        if found is None:
            raise Errno(EBADF)
        self._full_below = min(self._full_below, fd)
        self._let_go(found.file)

    def _let_go(self, file: OpenFile) -> None:
        if file in self.record_locked:
            self.record_locked.discard(file)
            if file.users > 1:
                file.unlock_records()
        file.drop()

    def close_for_exec(self) -> None:
        """execve(2): closes what is marked for that."""
        for fd in [fd for fd, descriptor in self._table.items() if descriptor.close_on_exec]:
            self.close(fd)

    def close_all(self) -> None:
        """A vfork child goes: what only it had open is closed."""
        while self._table:
            self._table.popitem()[1].file.drop()
        self._full_below = 0

    def has_remote(self) -> bool:
        """Whether there is a file of the file server's, which may be locked or have no name any more."""
        return any(isinstance(descriptor.file, RemoteFile) for descriptor in self._table.values())

    def abandon(self) -> None:
        """The process ends: handles at servers are freed with its session."""
        while self._table:
            file = self._table.popitem()[1].file
            file.users -= 1
            if not file.users:
                file.leave()
                if not isinstance(file, RemoteFile):
                    file.release()

    # -- forking ------------------------------------------------------------------------------------

    def copy(self) -> "FdTable":
        """For a child in this worker: every description has one more user."""
        table = FdTable()
        table.limit = self.limit
        table._full_below = self._full_below
        for fd, descriptor in self._table.items():
            descriptor.file.users += 1
            table._table[fd] = Descriptor(descriptor.file, descriptor.close_on_exec)
        return table

    def _descriptions(self) -> list[OpenFile]:
        return list({id(descriptor.file): descriptor.file for descriptor in self._table.values()}.values())

    def share(self, offsets: "SharedOffsets") -> None:
        """Right before a fork: another worker will have every description, too. Errno(ENFILE): nothing is
        shared."""
        shared: list[OpenFile] = []
        try:
            for file in self._descriptions():
                file.share(offsets)
                shared.append(file)
        except Errno:
            for file in shared:
                file.unshare()
            raise

    def unshare(self) -> None:
        """The fork did not happen."""
        for file in self._descriptions():
            file.unshare()

    def leave_behind(self) -> None:
        """In a clone of the worker: the table is that of a process which did not come along."""
        while self._table:
            self._table.popitem()[1].file.leave_behind()


OPEN_PATH: Final = OpenFlag.OPEN_FLAG_PATH | OpenFlag.OPEN_FLAG_DIRECTORY
"""How a working directory is held."""
