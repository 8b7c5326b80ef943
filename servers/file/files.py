"""Open, close, read, write and what else works on a file's data."""

import errno
import os
import stat
from collections.abc import Callable, Mapping
from typing import Final

from farcall.v1.file_pb2 import (
    OPEN_FLAG_CREATE,
    OPEN_FLAG_DIRECTORY,
    OPEN_FLAG_EXCLUSIVE,
    OPEN_FLAG_EXECUTE,
    OPEN_FLAG_PATH,
    OPEN_FLAG_READ,
    OPEN_FLAG_TMPFILE,
    OPEN_FLAG_TRUNCATE,
    OPEN_FLAG_WRITE,
    AllocateRequest,
    AllocateResponse,
    OpenRequest,
    OpenResponse,
    SeekRequest,
    SeekResponse,
)
from ipc.limits import DATA_BYTES_MAX
from ipc.message import Buffer
from ipc.operations import BY_NAME
from servers.file import permissions
from servers.file.handles import OpenFile, OpenInode
from servers.file.inodes import NAMELESS, Inode
from servers.file.tree import Tree
from servers.file.walk import Located, Walker, answering
from servers.service import ErrnoError, Handler, PackedHandler, Session

FILE_BYTES_MAX: Final = 1 << 44
"""As ext4 with blocks of 4 KiB; beyond it EFBIG."""
OFFSET_MAX: Final = (1 << 63) - 1
PERMISSION_BITS: Final = 0o7777
NEW_FILE_BYTES: Final = 4096
"""Room asked for a new inode and its name."""


class Files:
    """The handlers. `closed` is told of every handle that goes, with the session whose it was."""

    def __init__(self, tree: Tree, walker: Walker, closed: Callable[[Session, OpenFile], None]) -> None:
        self._tree = tree
        self._walker = walker
        self._handles = tree.handles
        self._closed = closed
        self.handlers: Mapping[int, Handler] = {
            BY_NAME["Open"].opcode: answering(self.open, OpenResponse),
            BY_NAME["Allocate"].opcode: self.allocate,
            BY_NAME["Seek"].opcode: self.seek,
        }
        self.packed_handlers: Mapping[int, PackedHandler] = {
            BY_NAME["Close"].opcode: self.close,
            BY_NAME["PRead"].opcode: self.pread,
            BY_NAME["PWrite"].opcode: self.pwrite,
            BY_NAME["Append"].opcode: self.append,
        }

    # Opening and closing

    def open(self, session: Session, request: OpenRequest) -> OpenResponse:
        """openat(2). FIFOs and devices cannot be opened yet (EOPNOTSUPP, ENXIO)."""
        self._handles.check(session.number, request.handle)
        flags = request.flags
        if flags & OPEN_FLAG_PATH:
            flags &= OPEN_FLAG_PATH | OPEN_FLAG_DIRECTORY
        if flags & OPEN_FLAG_TMPFILE:
            return self._create_nameless(session, request)
        place = request.place
        if not place.path:
            inode = self._walker.find(session, place)
            source = self._handles.get(session.number, place.directory) if place.directory else None
            name = (source.parent, source.parent_lower, source.name) if source else (0, None, b"")
            slash = False
        else:
            create = bool(flags & OPEN_FLAG_CREATE)
            exclusive = create and bool(flags & OPEN_FLAG_EXCLUSIVE)
            follow = place.follow and not exclusive
            found = self._walker.locate(session, place, follow=follow, cross=not exclusive, create=create)
            found.require_possible()
            name = (found.directory.ino, found.directory.lower, found.name)
            if found.special or found.mount:
                name = (0, None, b"")
            if create and found.inode is None:
                return self._create(session, request, flags, found)
            if found.inode is None:
                raise ErrnoError(errno.ENOENT)
            if exclusive:
                raise ErrnoError(errno.EEXIST)
            if create and found.inode.is_directory:
                raise ErrnoError(errno.EISDIR)
            inode, slash = found.inode, found.slash
        if (slash or flags & OPEN_FLAG_DIRECTORY) and not inode.is_directory:
            raise ErrnoError(errno.ENOTDIR)
        self._check_open(session, inode, flags)
        if flags & OPEN_FLAG_TRUNCATE and inode.is_regular:
            inode = self.resize(session, inode, 0, always=True)
        self._handles.add(session.number, request.handle, inode, flags, name)
        return OpenResponse(attributes=self._tree.attributes(inode))

    def _make(self, session: Session, directory: Inode, mode: int) -> Inode:
        permissions.require_create(session, directory)
        self._tree.extents.room(NEW_FILE_BYTES)
        gid, mode = permissions.created_owner(session, directory, stat.S_IFREG | mode & PERMISSION_BITS)
        return self._tree.make(session, gid, mode)

    def _create_nameless(self, session: Session, request: OpenRequest) -> OpenResponse:
        """O_TMPFILE. EINVAL, ENOTDIR; EACCES: the directory may not be written."""
        flags = request.flags
        if not flags & OPEN_FLAG_WRITE or flags & OPEN_FLAG_CREATE:
            raise ErrnoError(errno.EINVAL)
        directory = self._walker.find(session, request.place)
        if not directory.is_directory:
            raise ErrnoError(errno.ENOTDIR)
        inode = self._make(session, directory, request.mode)
        name = b"" if flags & OPEN_FLAG_EXCLUSIVE else NAMELESS
        inode = self._tree.inodes.put(inode._replace(nlink=0, name=name))
        opened_as = (directory.ino, directory.lower, b"#%d" % inode.ino)
        self._handles.add(session.number, request.handle, inode, flags, opened_as)
        return OpenResponse(attributes=self._tree.attributes(inode))

    def _create(self, session: Session, request: OpenRequest, flags: int, found: Located) -> OpenResponse:
        inode = self._make(session, found.directory, request.mode)
        self._tree.attach(found.directory, found.name, inode)
        self._tree.directory_changed(found.directory)
        name = (found.directory.ino, found.directory.lower, found.name)
        self._handles.add(session.number, request.handle, inode, flags, name)
        return OpenResponse(attributes=self._tree.attributes(inode))

    def _check_open(self, session: Session, inode: Inode, flags: int) -> None:
        """May the object be opened so (open(2))?"""
        if flags & OPEN_FLAG_PATH:
            return
        if inode.is_symlink:
            raise ErrnoError(errno.ELOOP)
        if inode.is_directory and flags & (OPEN_FLAG_WRITE | OPEN_FLAG_TRUNCATE | OPEN_FLAG_CREATE):
            raise ErrnoError(errno.EISDIR)
        if flags & OPEN_FLAG_EXECUTE and not inode.is_regular:
            raise ErrnoError(errno.EACCES)
        wanted = permissions.READ if flags & OPEN_FLAG_READ else 0
        wanted |= permissions.WRITE if flags & (OPEN_FLAG_WRITE | OPEN_FLAG_TRUNCATE) else 0
        wanted |= permissions.EXECUTE if flags & OPEN_FLAG_EXECUTE else 0
        permissions.require(session, inode, wanted)
        if stat.S_ISFIFO(inode.mode):
            raise ErrnoError(errno.EOPNOTSUPP, "a FIFO's ends would have to wait for each other")
        if not inode.is_regular and not inode.is_directory:
            raise ErrnoError(errno.ENXIO, "sockets cannot be opened, devices are the worker's")

    def close(
        self, session: Session, handle: int, _second: int, _third: int, _in: Buffer, _into: memoryview | None
    ) -> tuple[int, Buffer]:
        """EBADF."""
        self.gone(session, self._handles.remove(session.number, handle))
        return 0, b""

    def close_all(self, session: Session) -> None:
        """Closes all handles of a session."""
        for file in self._handles.remove_all(session.number):
            self.gone(session, file)

    def gone(self, session: Session, file: OpenFile) -> None:
        """A handle is gone; with the last one its description, and an inode without a name."""
        self._closed(session, file)
        if not file.handles:
            self._tree.closed(file.shared.ino)

    # Reading

    def pread(
        self, session: Session, handle: int, offset: int, count: int, _data: Buffer, into: memoryview | None
    ) -> tuple[int, Buffer]:
        """pread(2). EBADF, EISDIR, EINVAL (offset, or more than DATA_BYTES_MAX)."""
        table = self._handles.tables.get(session.number)
        file = table.get(handle) if table is not None else None
        if file is None or not file.readable:
            raise ErrnoError(errno.EBADF)
        if count > DATA_BYTES_MAX or offset > OFFSET_MAX - count:
            raise ErrnoError(errno.EINVAL)
        shared = file.shared
        if not shared.direct:
            inode = self._tree.open_inode(file)
            if inode.is_directory:
                raise ErrnoError(errno.EISDIR)
        has_room = into is not None and len(into) >= count
        if shared.direct and not has_room:
            return self._read_lower(shared, offset, count)
        view = into[:count] if into is not None and has_room else memoryview(bytearray(count))
        if shared.direct:
            if shared.fd < 0:
                self._handles.lower_fd(shared)
            try:
                got = os.preadv(shared.fd, (view,), offset)
            except OSError as error:
                raise ErrnoError(error.errno or errno.EIO, "lower file") from None
            return got, view[:got]
        return self._read_rows(shared, inode, offset, view)

    def _read_lower(self, shared: OpenInode, offset: int, count: int) -> tuple[int, Buffer]:
        """Where nobody made room: bytes that a message takes as they are."""
        try:
            data = os.pread(self._handles.lower_fd(shared), count, offset)
        except OSError as error:
            raise ErrnoError(error.errno or errno.EIO, "lower file") from None
        return len(data), data

    def _read_rows(self, shared: OpenInode, inode: Inode, offset: int, view: memoryview) -> tuple[int, Buffer]:
        if offset >= inode.size:
            return 0, b""
        view = view[: inode.size - offset]
        if shared.pages is not None:
            shared.pages.read(view, offset)
            return len(view), view
        self._tree.extents.read(
            inode.ino, offset, view, lambda piece, position: self._handles.read_lower(shared, piece, position)
        )
        return len(view), view

    # Writing

    def pwrite(
        self, session: Session, handle: int, offset: int, _third: int, data: Buffer, _into: memoryview | None
    ) -> tuple[int, Buffer]:
        """pwrite(2); as there, a handle opened for appending appends. EBADF, EINVAL, EFBIG, ENOSPC."""
        file = self._writable(session, handle)
        inode = self._tree.open_inode(file)
        if file.appends:
            offset = inode.size
        return self._write(session, file.shared, inode, offset, data), b""

    def append(
        self, session: Session, handle: int, _second: int, _third: int, data: Buffer, _into: memoryview | None
    ) -> tuple[int, Buffer]:
        """Writes at the end of the file as it is now. EBADF, EFBIG, ENOSPC."""
        file = self._writable(session, handle)
        inode = self._tree.open_inode(file)
        written = self._write(session, file.shared, inode, inode.size, data)
        return inode.size + written, b""

    def _writable(self, session: Session, handle: int) -> OpenFile:
        file = self._handles.get(session.number, handle)
        if not file.writable:
            raise ErrnoError(errno.EBADF)
        return file

    def _write(self, session: Session, shared: OpenInode, inode: Inode, offset: int, data: Buffer) -> int:
        count = len(data)
        if not count:
            return 0
        if offset > OFFSET_MAX - count:
            raise ErrnoError(errno.EINVAL)
        if offset >= FILE_BYTES_MAX:
            raise ErrnoError(errno.EFBIG)
        if offset + count > FILE_BYTES_MAX:
            count = FILE_BYTES_MAX - offset
            data = memoryview(data)[:count]
        row = self._tree.touch(inode)
        self._tree.extents.write(row.ino, offset, data)
        if (pages := shared.pages) is not None:
            # Not after it: a commit is never repeated, and the next server has the memfd as it is.
            if offset > row.size:
                self._tree.store.before_commit(lambda: pages.resized(row.size, offset))
            self._tree.store.before_commit(lambda: pages.write(data, offset))
        self._handles.data_changed(row.ino)
        now = self._tree.now_ns()
        self._tree.inodes.put(
            row._replace(
                mode=permissions.mode_after_write(session, row),
                size=max(row.size, offset + count),
                mtime_ns=now,
                ctime_ns=now,
                generation=row.generation + 1,
            )
        )
        return count

    @staticmethod
    def check_size(size: int) -> None:
        """May a file be so long? EINVAL, EFBIG."""
        if size > OFFSET_MAX:
            raise ErrnoError(errno.EINVAL)
        if size > FILE_BYTES_MAX:
            raise ErrnoError(errno.EFBIG)

    def resize(self, session: Session, inode: Inode, size: int, always: bool) -> Inode:
        """truncate(2) of a regular file, checks done. `always`: times change even if the size does not."""
        if size == inode.size and not always:
            return inode
        row = self._tree.touch(inode)
        if size < row.size:
            self._tree.extents.cut(row.ino, size, row.size)
        shared = self._handles.shared(row.ino)
        if shared is not None and (pages := shared.pages) is not None:
            self._tree.store.on_commit(lambda: pages.resized(row.size, size))
        self._handles.data_changed(row.ino)
        now = self._tree.now_ns()
        return self._tree.inodes.put(
            row._replace(
                mode=permissions.mode_after_write(session, row),
                size=size,
                mtime_ns=now,
                ctime_ns=now,
                generation=row.generation + 1,
            )
        )

    # Space

    def allocate(self, session: Session, request: AllocateRequest) -> AllocateResponse:
        """fallocate(2): checks the room, sets the size; or makes a hole. Space is not reserved.

        EBADF, EINVAL, EFBIG, ENOSPC.
        """
        file = self._handles.get(session.number, request.handle)
        if file.path_only:
            raise ErrnoError(errno.EBADF)
        if not request.size_bytes or request.offset > OFFSET_MAX or request.size_bytes > OFFSET_MAX:
            raise ErrnoError(errno.EINVAL)
        if not file.writable:
            raise ErrnoError(errno.EBADF)
        end = request.offset + request.size_bytes
        if end > FILE_BYTES_MAX:
            raise ErrnoError(errno.EFBIG)
        inode = self._tree.open_inode(file)
        if request.punch:
            row = self._tree.touch(inode)
            self._tree.extents.cut(row.ino, request.offset, end)
            if (pages := file.shared.pages) is not None:
                self._tree.store.before_commit(lambda: pages.zero(request.offset, end))
            self._handles.data_changed(row.ino)
            now = self._tree.now_ns()
            self._tree.inodes.put(
                row._replace(
                    mode=permissions.mode_after_write(session, row),
                    mtime_ns=now,
                    ctime_ns=now,
                    generation=row.generation + 1,
                )
            )
            return AllocateResponse()
        self._tree.extents.room(max(0, end - inode.size))
        if not request.keep_size and end > inode.size:
            self.resize(session, inode, end, always=True)
        return AllocateResponse()

    def seek(self, session: Session, request: SeekRequest) -> SeekResponse:
        """lseek(2) with SEEK_DATA or SEEK_HOLE. EBADF; ENXIO: beyond the end, or no data follows."""
        file = self._handles.get(session.number, request.handle)
        inode = self._tree.open_inode(file)
        if file.path_only or not inode.is_regular:
            raise ErrnoError(errno.EBADF if file.path_only else errno.EINVAL)
        offset = request.offset
        if offset >= inode.size:
            raise ErrnoError(errno.ENXIO)
        if file.shared.direct or file.shared.pages is not None:
            found = self._seek_host(file.shared, offset, os.SEEK_HOLE if request.hole else os.SEEK_DATA)
            if found >= inode.size and not request.hole:
                raise ErrnoError(errno.ENXIO)
            return SeekResponse(offset=min(found, inode.size))
        for extent in self._tree.extents.map(inode.ino):
            if extent.end <= offset:
                continue
            if extent.offset > offset:
                if request.hole:
                    break
                return SeekResponse(offset=extent.offset)
            if not request.hole:
                return SeekResponse(offset=offset)
            offset = extent.end
        if not request.hole:
            raise ErrnoError(errno.ENXIO)
        return SeekResponse(offset=min(offset, inode.size))

    def _seek_host(self, shared: OpenInode, offset: int, whence: int) -> int:
        try:
            if shared.pages is not None:
                return shared.pages.seek(offset, whence)
            return os.lseek(self._handles.lower_fd(shared), offset, whence)
        except OSError as error:
            raise ErrnoError(error.errno or errno.EIO) from None
