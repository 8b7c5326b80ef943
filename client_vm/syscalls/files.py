"""Open files: open, close, read, write, seek, duplicate, control (man 2 of each)."""

from collections.abc import Callable
from typing import Final

from client_vm.abi import common
from client_vm.abi.common import AT_FDCWD, EBADF, EINVAL, EISDIR, ENOTTY, EPIPE, ESPIPE, EXDEV
from client_vm.arena import PAGE_BYTES
from client_vm.arguments import InBuffer, IoVector, OutBuffer
from client_vm.descriptors import HostStream, OpenFile, RemoteFile
from client_vm.errors import Errno
from client_vm.namespace import locate
from client_vm.nodes import Node, OpenNode
from client_vm.process import Task
from client_vm.signals import raise_signal
from farcall.v1.file_pb2 import OpenFlag, OpenRequest, Place

CLOSE_RANGE_UNSHARE: Final = 1 << 1
CLOSE_RANGE_CLOEXEC: Final = 1 << 2
"""linux/close_range.h."""
COPY_BYTES: Final = 256 << 10
"""Moved at once by calls that copy between two files."""


# -- open and close ---------------------------------------------------------------------------------


def openat(task: Task, directory: int, path: bytes, flags: int, mode: int) -> int:
    process = task.process
    abi = task.architecture.abi
    tmpfile_only = abi.O_TMPFILE & ~abi.O_DIRECTORY
    if flags & tmpfile_only:
        raise Errno(common.EOPNOTSUPP)
    fd = process.fds.lowest_free()
    file = open_file(task, directory, path, flags, mode)
    process.fds.install(fd, file, bool(flags & common.O_CLOEXEC))
    return fd


def open_file(task: Task, directory: int, path: bytes, flags: int, mode: int) -> OpenFile:
    """Opens by path: a description of the file server's, or of a node of ours."""
    process = task.process
    abi = task.architecture.abi
    handle = process.files.new_handle()
    wire = _open_flags(flags, abi.O_DIRECTORY)
    follow = not flags & abi.O_NOFOLLOW and flags & (common.O_CREAT | common.O_EXCL) != (
        common.O_CREAT | common.O_EXCL
    )

    def ask(place: Place) -> object:
        request = OpenRequest(place=place, handle=handle, flags=wire, mode=mode & 0o7777 & ~process.umask)
        return process.files.call(request)

    # A description keeps access mode and status flags; creation flags are of this call only.
    kept = flags & ~(common.O_CREAT | common.O_EXCL | common.O_TRUNC | common.O_NOCTTY | common.O_CLOEXEC)
    found = locate(task, directory, path, ask, follow)
    if isinstance(found, Node):
        return _open_node(task, found, flags, kept)
    return RemoteFile(process.files, handle, kept | abi.O_LARGEFILE, found.attributes.mode)


def _open_flags(flags: int, directory_flag: int) -> int:
    """OpenFlag bits of a guest's open flags; O_APPEND is not told, since fcntl may change it at any time."""
    if flags & common.O_PATH:
        wire = OpenFlag.OPEN_FLAG_PATH | 0
        return wire | (OpenFlag.OPEN_FLAG_DIRECTORY if flags & directory_flag else 0)
    access = flags & common.O_ACCMODE
    wire = 0
    if access != common.O_WRONLY:
        wire |= OpenFlag.OPEN_FLAG_READ
    if access != common.O_RDONLY:
        wire |= OpenFlag.OPEN_FLAG_WRITE
    pairs = (
        (common.O_CREAT, OpenFlag.OPEN_FLAG_CREATE),
        (common.O_EXCL, OpenFlag.OPEN_FLAG_EXCLUSIVE),
        (common.O_TRUNC, OpenFlag.OPEN_FLAG_TRUNCATE),
        (directory_flag, OpenFlag.OPEN_FLAG_DIRECTORY),
    )
    for linux, ours in pairs:
        if flags & linux:
            wire |= ours
    return wire


def _open_node(task: Task, node: Node, flags: int, kept: int) -> OpenFile:
    abi = task.architecture.abi
    if flags & common.O_CREAT and flags & common.O_EXCL:
        raise Errno(common.EEXIST)
    kind = node.attributes(task).mode & 0o170000
    if flags & abi.O_DIRECTORY and kind != 0o040000:
        raise Errno(common.ENOTDIR)
    if flags & common.O_PATH and kind != 0o040000:
        return OpenNode(task, node, kept)
    if flags & common.O_CREAT and kind == 0o040000:
        raise Errno(EISDIR)
    if flags & abi.O_NOFOLLOW and kind == 0o120000:
        raise Errno(common.ELOOP)
    return node.open(task, kept)


def open_(task: Task, path: bytes, flags: int, mode: int) -> int:
    return openat(task, AT_FDCWD, path, flags, mode)


def creat(task: Task, path: bytes, mode: int) -> int:
    return openat(task, AT_FDCWD, path, common.O_CREAT | common.O_WRONLY | common.O_TRUNC, mode)


def openat2(task: Task, directory: int, path: bytes, how: InBuffer, size: int) -> int:
    """Without RESOLVE_* restrictions, which the file server cannot promise yet: EINVAL for those."""
    if size < common.open_how.size:
        raise Errno(EINVAL)
    if size > PAGE_BYTES or any(how.whole(size)[common.open_how.size :]):
        raise Errno(common.E2BIG)
    wanted = common.open_how.unpack(how.whole(common.open_how.size))
    creates = wanted["flags"] & common.O_CREAT
    if wanted["flags"] >> 32 or wanted["resolve"] or (wanted["mode"] and not creates):
        raise Errno(EINVAL)
    return openat(task, directory, path, wanted["flags"], wanted["mode"])


def close(task: Task, fd: int) -> int:
    task.process.fds.close(fd)
    return 0


def close_range(task: Task, first: int, last: int, flags: int) -> int:
    if first > last or flags & ~(CLOSE_RANGE_CLOEXEC | CLOSE_RANGE_UNSHARE):
        raise Errno(EINVAL)
    fds = task.process.fds
    for fd in fds.numbers():
        if first <= fd <= last:
            if flags & CLOSE_RANGE_CLOEXEC:
                fds.descriptor(fd).close_on_exec = True
            else:
                fds.close(fd)
    return 0


# -- data -------------------------------------------------------------------------------------------


def _readable(task: Task, fd: int) -> OpenFile:
    file = task.process.fds.get(fd)
    file.check_readable()
    return file


def _writable(task: Task, fd: int) -> OpenFile:
    file = task.process.fds.get(fd)
    file.check_writable()
    return file


def _joined(views: list[memoryview]) -> memoryview:
    """The bytes of the views as one, copied once if they are several."""
    return views[0] if len(views) == 1 else memoryview(b"".join(views))


def _written(task: Task, write: Callable[[], int]) -> int:
    """A write whose broken pipe also raises SIGPIPE (pipe(7))."""
    try:
        return write()
    except Errno as error:
        if error.errno == EPIPE:
            raise_signal(task, common.SIGPIPE)
        raise


def read(task: Task, fd: int, buffer: OutBuffer, count: int) -> int:
    return _readable(task, fd).read(buffer.views(count))


def write(task: Task, fd: int, buffer: InBuffer, count: int) -> int:
    file = _writable(task, fd)
    data = _joined(buffer.views(count)) if count else memoryview(b"")
    return _written(task, lambda: file.write(data))


def pread64(task: Task, fd: int, buffer: OutBuffer, count: int, offset: int) -> int:
    if offset < 0:
        raise Errno(EINVAL)
    return _readable(task, fd).pread(buffer.views(count), offset)


def pwrite64(task: Task, fd: int, buffer: InBuffer, count: int, offset: int) -> int:
    if offset < 0:
        raise Errno(EINVAL)
    file = _writable(task, fd)
    return file.pwrite(_joined(buffer.views(count)) if count else memoryview(b""), offset)


def readv(task: Task, fd: int, vector: IoVector, count: int) -> int:
    return _readable(task, fd).read(vector.out_views(count))


def writev(task: Task, fd: int, vector: IoVector, count: int) -> int:
    file = _writable(task, fd)
    data = _joined(vector.in_views(count) or [memoryview(b"")])
    return _written(task, lambda: file.write(data))


def preadv(task: Task, fd: int, vector: IoVector, count: int, offset: int, _high: int) -> int:
    if offset < 0:
        raise Errno(EINVAL)
    return _readable(task, fd).pread(vector.out_views(count), offset)


def pwritev(task: Task, fd: int, vector: IoVector, count: int, offset: int, _high: int) -> int:
    if offset < 0:
        raise Errno(EINVAL)
    file = _writable(task, fd)
    return file.pwrite(_joined(vector.in_views(count) or [memoryview(b"")]), offset)


def preadv2(task: Task, fd: int, vector: IoVector, count: int, offset: int, high: int, flags: int) -> int:
    if flags:
        raise Errno(common.EOPNOTSUPP)
    return readv(task, fd, vector, count) if offset == -1 else preadv(task, fd, vector, count, offset, high)


def pwritev2(task: Task, fd: int, vector: IoVector, count: int, offset: int, high: int, flags: int) -> int:
    if flags:
        raise Errno(common.EOPNOTSUPP)
    return writev(task, fd, vector, count) if offset == -1 else pwritev(task, fd, vector, count, offset, high)


def lseek(task: Task, fd: int, offset: int, whence: int) -> int:
    file = task.process.fds.get(fd)
    if file.flags & common.O_PATH:
        raise Errno(EBADF)
    if not 0 <= whence <= common.SEEK_HOLE:
        raise Errno(EINVAL)
    return file.seek(offset, whence)


def ftruncate(task: Task, fd: int, size: int) -> int:
    if size < 0:
        raise Errno(EINVAL)
    file = task.process.fds.get(fd)
    if file.flags & common.O_PATH:
        raise Errno(EBADF)
    if file.flags & common.O_ACCMODE == common.O_RDONLY:
        raise Errno(EINVAL)
    file.truncate(size)
    return 0


def fallocate(task: Task, fd: int, mode: int, offset: int, size: int) -> int:
    if offset < 0 or size <= 0:
        raise Errno(EINVAL)
    known = common.FALLOC_FL_KEEP_SIZE | common.FALLOC_FL_PUNCH_HOLE
    punch = bool(mode & common.FALLOC_FL_PUNCH_HOLE)
    if mode & ~known or (punch and not mode & common.FALLOC_FL_KEEP_SIZE):
        raise Errno(common.EOPNOTSUPP)
    _writable(task, fd).allocate(offset, size, bool(mode & common.FALLOC_FL_KEEP_SIZE), punch)
    return 0


def fsync(task: Task, fd: int) -> int:
    file = task.process.fds.get(fd)
    if file.flags & common.O_PATH:
        raise Errno(EBADF)
    file.sync()
    return 0


def fadvise64(task: Task, fd: int, _offset: int, size: int, advice: int) -> int:
    """Advice is checked and has no effect: the file server reads ahead as it sees fit (posix_fadvise(2))."""
    file = task.process.fds.get(fd)
    if isinstance(file, HostStream):
        raise Errno(ESPIPE)
    if size < 0 or not 0 <= advice <= common.POSIX_FADV_NOREUSE:
        raise Errno(EINVAL)
    return 0


def readahead(task: Task, fd: int, _offset: int, _count: int) -> int:
    """As fadvise64: a hint that is checked only (readahead(2))."""
    if not isinstance(_readable(task, fd), RemoteFile):
        raise Errno(EINVAL)
    return 0


# -- copying between files --------------------------------------------------------------------------


def _offset_at(task: Task, pointer: OutBuffer | None) -> int | None:
    """The 64-bit file offset a guest's pointer holds. EINVAL if negative, EFAULT."""
    if pointer is None:
        return None
    pointer.check(8)
    value = int.from_bytes(task.memory.read(pointer.address, 8), "little", signed=True)
    if value < 0:
        raise Errno(EINVAL)
    return value


def _copy(source: OpenFile, target: OpenFile, positions: list[int | None], count: int) -> int:
    """Moves up to count bytes; `positions` of source and target advance where they are not None."""
    done = 0
    room = memoryview(bytearray(min(count, COPY_BYTES)))
    while done < count:
        views = [room[: count - done]]
        at, to = positions
        got = put = 0
        try:
            got = source.read(views) if at is None else source.pread(views, at)
            if got:
                put = target.write(room[:got]) if to is None else target.pwrite(room[:got], to)
        except Errno:
            if not done:
                if at is None:
                    _unread(source, got)
                raise  # later the error waits for the next call: what was moved is told first
        if at is None:
            _unread(source, got - put)
        positions[:] = [None if p is None else p + put for p in positions]
        done += put
        if not put or put < got:
            break
    return done


def _unread(source: OpenFile, count: int) -> None:
    """Moves the offset back over bytes that found no place; what a stream gave is gone."""
    if count and not isinstance(source, HostStream):
        source.seek(-count, common.SEEK_CUR)


def sendfile(task: Task, out_fd: int, in_fd: int, pointer: OutBuffer | None, count: int) -> int:
    source, target = _readable(task, in_fd), _writable(task, out_fd)
    if target.flags & common.O_APPEND:
        raise Errno(EINVAL)
    positions: list[int | None] = [_offset_at(task, pointer), None]
    moved = _written(task, lambda: _copy(source, target, positions, min(count, 0x7FFFF000)))
    if pointer is not None and positions[0] is not None:
        pointer.put(positions[0].to_bytes(8, "little"))
    return moved


def copy_file_range(
    task: Task,
    in_fd: int,
    in_at: OutBuffer | None,
    out_fd: int,
    out_at: OutBuffer | None,
    count: int,
    flags: int,
) -> int:
    source, target = _readable(task, in_fd), _writable(task, out_fd)
    if flags:
        raise Errno(EINVAL)
    for file in (source, target):
        if isinstance(file, RemoteFile) and file.is_directory:
            raise Errno(EISDIR)
        if not isinstance(file, RemoteFile):
            raise Errno(EXDEV if isinstance(file, HostStream) else EINVAL)
    if target.flags & common.O_APPEND:
        raise Errno(EBADF)
    positions = [_offset_at(task, in_at), _offset_at(task, out_at)]
    moved = _copy(source, target, positions, min(count, 0x7FFFF000))
    for pointer, position in zip((in_at, out_at), positions, strict=True):
        if pointer is not None and position is not None:
            pointer.put(position.to_bytes(8, "little"))
    return moved


# -- descriptors ------------------------------------------------------------------------------------


def dup(task: Task, fd: int) -> int:
    return _duplicate(task, fd, 0, False)


def _duplicate(task: Task, fd: int, minimum: int, close_on_exec: bool) -> int:
    fds = task.process.fds
    file = fds.get(fd)
    new = fds.lowest_free(minimum)
    file.users += 1
    fds.install(new, file, close_on_exec)
    return new


def dup3(task: Task, old: int, new: int, flags: int) -> int:
    if flags & ~common.O_CLOEXEC or old == new:
        raise Errno(EINVAL)
    return _duplicate_to(task, old, new, bool(flags))


def dup2(task: Task, old: int, new: int) -> int:
    if old == new:
        task.process.fds.get(old)
        return new
    return _duplicate_to(task, old, new, False)


def _duplicate_to(task: Task, old: int, new: int, close_on_exec: bool) -> int:
    fds = task.process.fds
    file = fds.get(old)
    if not 0 <= new < fds.limit:
        raise Errno(EBADF)
    file.users += 1
    fds.install(new, file, close_on_exec)
    return new


_SETTABLE: Final = common.O_APPEND | common.O_NONBLOCK | common.O_NOATIME


def fcntl(task: Task, fd: int, command: int, argument: int) -> int:
    fds = task.process.fds
    descriptor = fds.descriptor(fd)
    if command in (common.F_DUPFD, common.F_DUPFD_CLOEXEC):
        minimum = argument & 0xFFFFFFFF
        if minimum >= fds.limit:
            raise Errno(EINVAL)
        return _duplicate(task, fd, minimum, command == common.F_DUPFD_CLOEXEC)
    if command == common.F_GETFD:
        return common.FD_CLOEXEC if descriptor.close_on_exec else 0
    if command == common.F_SETFD:
        descriptor.close_on_exec = bool(argument & common.FD_CLOEXEC)
        return 0
    if command == common.F_GETFL:
        return descriptor.file.flags
    if descriptor.file.flags & common.O_PATH:
        raise Errno(EBADF)
    if command == common.F_SETFL:
        file = descriptor.file
        file.flags = file.flags & ~_SETTABLE | argument & _SETTABLE
        return 0
    raise Errno(EINVAL)


# -- terminals --------------------------------------------------------------------------------------

_HOST_REQUESTS: Final = {
    common.TCGETS: (common.termios, "out"),
    common.TCSETS: (common.termios, "in"),
    common.TCSETSW: (common.termios, "in"),
    common.TCSETSF: (common.termios, "in"),
    common.TIOCGWINSZ: (common.winsize, "out"),
    common.TIOCSWINSZ: (common.winsize, "in"),
}
_HOST_INTEGERS: Final = (common.FIONREAD, common.TIOCGPGRP, common.TIOCOUTQ)


def ioctl(task: Task, fd: int, request: int, argument: OutBuffer) -> int:
    """Terminal requests on the caller's terminal; on everything else ENOTTY."""
    descriptor = task.process.fds.descriptor(fd)
    file = descriptor.file
    if file.flags & common.O_PATH:
        raise Errno(EBADF)
    if request in (common.FIOCLEX, common.FIONCLEX):
        descriptor.close_on_exec = request == common.FIOCLEX
        return 0
    if request in _HOST_REQUESTS:
        struct, direction = _HOST_REQUESTS[request]
        if direction == "in":
            file.ioctl(request, task.memory.read(argument.address, struct.size))
            return 0
        answer = file.ioctl(request, bytes(struct.size))
        argument.put(answer)
        return 0
    if request in _HOST_INTEGERS:
        if request == common.FIONREAD and isinstance(file, RemoteFile) and not file.is_directory:
            argument.put((max(0, file.attributes().size - file.offset) & 0xFFFFFFFF).to_bytes(4, "little"))
            return 0
        argument.put(file.ioctl(request, bytes(4)))
        return 0
    raise Errno(ENOTTY)
