"""Open files: open, close, read, write, seek (man 2 of each)."""

import stat as stat_bits
from collections.abc import Callable
from functools import partial
from typing import Final

from client_vm.abi import common
from client_vm.abi.common import AT_FDCWD, EAGAIN, EBADF, EINVAL, EISDIR, ESPIPE
from client_vm.arena import PAGE_BYTES
from client_vm.arguments import InBuffer, IoVector, OutBuffer
from client_vm.descriptors import OpenFile, RemoteFile
from client_vm.errors import Errno
from client_vm.event_files import SignalQueue
from client_vm.host_files import HostBacked, NamedPipe
from client_vm.namespace import locate
from client_vm.nodes import Node, OpenNode
from client_vm.process import Task
from client_vm.pty_files import PtySlave, take_over
from client_vm.syscalls.sizes import check_growth, fitting
from client_vm.syscalls.streams import holding, joined, put, signal_break, within
from client_vm.waiting import Blocking, Wait, WouldBlock, until_possible
from farcall.v1.file_pb2 import OpenFlag, OpenRequest, Place

CLOSE_RANGE_UNSHARE: Final = 1 << 1
CLOSE_RANGE_CLOEXEC: Final = 1 << 2
"""linux/close_range.h."""


# -- open and close ---------------------------------------------------------------------------------


def openat(task: Task, directory: int, path: bytes, flags: int, mode: int) -> int | Blocking:
    process = task.process
    fd = process.fds.lowest_free()
    try:
        file = open_file(task, directory, path, flags, mode)
    except Errno as error:
        if error.errno != common.EOPNOTSUPP:
            raise
        return _open_fifo(task, directory, path, flags)
    process.fds.install(fd, file, bool(flags & common.O_CLOEXEC))
    return fd


def _open_fifo(task: Task, directory: int, path: bytes, flags: int) -> int | Blocking:
    """The file server lets the caller open what is there, but it is a FIFO: its ends meet at the kernel process.

    Errno: ENXIO: no reader, and it does not wait; ENFILE.
    """
    as_path = common.O_PATH | flags & task.architecture.abi.O_NOFOLLOW
    file = open_file(task, directory, path, as_path, 0)
    if not isinstance(file, RemoteFile) or not stat_bits.S_ISFIFO(file.mode):
        file.drop()
        raise Errno(common.EOPNOTSUPP)  # it was another object a moment ago
    try:
        found = file.attributes()
        waits = not flags & common.O_NONBLOCK
        link = task.process.link
        ticket, ready = link.join_fifo((found.dev, found.ino), flags & common.O_ACCMODE, waits)
    except Errno:
        file.drop()
        raise
    if ready:
        return _take_fifo(task, ticket, file, flags)
    return _await_fifo(task, ticket, file, flags)


def _await_fifo(task: Task, ticket: int, file: RemoteFile, flags: int) -> Blocking:
    """Waits for the other end (fifo(7)); a handler's run ends that, and the open is made again (signal(7))."""
    link = task.process.link
    wait = Wait(events=(link.fifo_ready,))
    try:
        while ticket not in link.fifos_ready:
            yield wait
    except Errno:
        link.leave_fifo(ticket)
        file.drop()
        raise
    return _take_fifo(task, ticket, file, flags)


def _take_fifo(task: Task, ticket: int, file: RemoteFile, flags: int) -> int:
    """The FIFO's end that waits at the kernel process, at an fd."""
    link, fds = task.process.link, task.process.fds
    kept = flags & (common.O_ACCMODE | common.O_NONBLOCK | common.O_APPEND) | task.architecture.abi.O_LARGEFILE
    try:
        fd = fds.lowest_free()
        descriptor = link.fetch_fifo(ticket)
    except Errno:
        file.drop()
        raise
    finally:
        link.leave_fifo(ticket)
    fds.install(fd, NamedPipe(descriptor, kept, file), bool(flags & common.O_CLOEXEC))
    return fd


def open_file(task: Task, directory: int, path: bytes, flags: int, mode: int) -> OpenFile:
    """Opens by path: a description of the file server's, or of a node of ours."""
    process = task.process
    abi = task.architecture.abi
    handle = process.files.new_handle()
    wire = _open_flags(flags, abi.O_DIRECTORY, abi.O_TMPFILE)
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


def _open_flags(flags: int, directory_flag: int, nameless: int) -> int:
    """OpenFlag bits of a guest's open flags; O_APPEND is not told, since fcntl may change it at any time.

    `nameless`: the architecture's O_TMPFILE, of which O_DIRECTORY is a part. Errno(EINVAL).
    """
    if flags & common.O_PATH:
        wire = OpenFlag.OPEN_FLAG_PATH | 0
        return wire | (OpenFlag.OPEN_FLAG_DIRECTORY if flags & directory_flag else 0)
    access = flags & common.O_ACCMODE
    wire = 0
    if flags & nameless & ~directory_flag:
        if flags & (nameless | common.O_CREAT) != nameless or access == common.O_RDONLY:
            raise Errno(EINVAL)
        wire, flags = OpenFlag.OPEN_FLAG_TMPFILE | 0, flags & ~directory_flag
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
    if flags & abi.O_TMPFILE == abi.O_TMPFILE:
        raise Errno(common.EOPNOTSUPP)
    kind = node.attributes(task).mode & 0o170000
    if flags & abi.O_DIRECTORY and kind != 0o040000:
        raise Errno(common.ENOTDIR)
    if flags & common.O_PATH and kind != 0o040000:
        return OpenNode(task, node, kept)
    if flags & common.O_CREAT and kind == 0o040000:
        raise Errno(EISDIR)
    if flags & abi.O_NOFOLLOW and kind == 0o120000:
        raise Errno(common.ELOOP)
    opened = node.open(task, kept)
    if isinstance(opened, PtySlave) and not flags & common.O_NOCTTY:
        take_over(task, opened)
    return opened


def open_(task: Task, path: bytes, flags: int, mode: int) -> int | Blocking:
    return openat(task, AT_FDCWD, path, flags, mode)


def creat(task: Task, path: bytes, mode: int) -> int | Blocking:
    return openat(task, AT_FDCWD, path, common.O_CREAT | common.O_WRONLY | common.O_TRUNC, mode)


def openat2(task: Task, directory: int, path: bytes, how: InBuffer, size: int) -> int | Blocking:
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
    if flags & CLOSE_RANGE_UNSHARE and len(task.process.tasks) > 1:
        raise Errno(EINVAL)  # the threads of a process share one table here
    fds = task.process.fds
    for fd in fds.numbers():
        if first <= fd <= last:
            if flags & CLOSE_RANGE_CLOEXEC:
                fds.descriptor(fd).close_on_exec = True
            else:
                fds.close(fd)
    return 0


# -- data -------------------------------------------------------------------------------------------


def readable(task: Task, fd: int) -> OpenFile:
    file = task.process.fds.get(fd)
    file.check_readable()
    return file


def writable(task: Task, fd: int) -> OpenFile:
    file = task.process.fds.get(fd)
    file.check_writable()
    return file


def _read(task: Task, fd: int, room: Callable[[], list[memoryview]], at_once: bool = False) -> int | Blocking:
    """Reads now, or waits for data, unless it must be `at_once`.

    `room` is asked at each attempt: memory may have been remapped.
    """
    file = readable(task, fd)
    take = partial(file.read_for, task) if isinstance(file, SignalQueue) else file.read
    try:
        return take(room())
    except WouldBlock as blocked:
        if at_once or file.flags & common.O_NONBLOCK:
            raise Errno(EAGAIN) from None
        call = until_possible(lambda: take(room()), blocked)
        return holding(file, within(task, file.patience_s(False), call))


def _write(
    task: Task, file: OpenFile, source: Callable[[], list[memoryview]], at_once: bool = False
) -> int | Blocking:
    def once(data: memoryview) -> int:
        try:
            return file.write(fitting(task, file, data, None))
        except Errno as error:
            signal_break(task, error)
            raise

    return put(task, file, source, once, at_once or bool(file.flags & common.O_NONBLOCK))


def read(task: Task, fd: int, buffer: OutBuffer, count: int) -> int | Blocking:
    return _read(task, fd, lambda: buffer.views(count))


def write(task: Task, fd: int, buffer: InBuffer, count: int) -> int | Blocking:
    file = writable(task, fd)
    return _write(task, file, lambda: buffer.views(count) if count else [])


def pread64(task: Task, fd: int, buffer: OutBuffer, count: int, offset: int) -> int:
    if offset < 0:
        raise Errno(EINVAL)
    return readable(task, fd).pread(buffer.views(count), offset)


def pwrite64(task: Task, fd: int, buffer: InBuffer, count: int, offset: int) -> int:
    if offset < 0:
        raise Errno(EINVAL)
    file = writable(task, fd)
    data = joined(buffer.views(count) if count else [])
    return file.pwrite(fitting(task, file, data, offset), offset)


def readv(task: Task, fd: int, vector: IoVector, count: int) -> int | Blocking:
    return _read(task, fd, lambda: vector.out_views(count))


def writev(task: Task, fd: int, vector: IoVector, count: int) -> int | Blocking:
    file = writable(task, fd)
    return _write(task, file, lambda: vector.in_views(count))


def preadv(task: Task, fd: int, vector: IoVector, count: int, offset: int, _high: int) -> int:
    if offset < 0:
        raise Errno(EINVAL)
    return readable(task, fd).pread(vector.out_views(count), offset)


def pwritev(task: Task, fd: int, vector: IoVector, count: int, offset: int, _high: int) -> int:
    if offset < 0:
        raise Errno(EINVAL)
    file = writable(task, fd)
    return file.pwrite(fitting(task, file, joined(vector.in_views(count)), offset), offset)


_RWF_KNOWN: Final = common.RWF_HIPRI | common.RWF_DSYNC | common.RWF_SYNC | common.RWF_NOWAIT | common.RWF_APPEND


def _flagged(views: list[memoryview], flags: int) -> bool:
    """Whether there is anything to do. Errno(EOPNOTSUPP): there is, with flags that nobody knows."""
    if any(views) and flags & ~_RWF_KNOWN:
        raise Errno(common.EOPNOTSUPP)
    return any(views)


def preadv2(
    task: Task, fd: int, vector: IoVector, count: int, offset: int, high: int, flags: int
) -> int | Blocking:
    """RWF_NOWAIT matters where a read would wait for others; the rest is for devices or for writes."""
    if offset < -1:
        raise Errno(EINVAL)
    readable(task, fd)
    if not _flagged(vector.out_views(count), flags) and flags:
        return 0
    if offset >= 0:
        return preadv(task, fd, vector, count, offset, high)
    return _read(task, fd, lambda: vector.out_views(count), bool(flags & common.RWF_NOWAIT))


def pwritev2(
    task: Task, fd: int, vector: IoVector, count: int, offset: int, high: int, flags: int
) -> int | Blocking:
    if offset < -1:
        raise Errno(EINVAL)
    file = writable(task, fd)
    if not _flagged(vector.in_views(count), flags) and flags:
        return 0
    if flags & common.RWF_APPEND and isinstance(file, RemoteFile):
        end = file.attributes().size
        done: int | Blocking = file.append(fitting(task, file, joined(vector.in_views(count)), end), offset < 0)
    elif offset >= 0:
        done = pwritev(task, fd, vector, count, offset, high)
    else:
        done = _write(task, file, lambda: vector.in_views(count), bool(flags & common.RWF_NOWAIT))
    if flags & (common.RWF_DSYNC | common.RWF_SYNC) and isinstance(file, RemoteFile):
        file.sync()
    return done


def lseek(task: Task, fd: int, offset: int, whence: int) -> int:
    file = task.process.fds.get(fd)
    if file.is_path:
        raise Errno(EBADF)
    if not 0 <= whence <= common.SEEK_HOLE:
        raise Errno(EINVAL)
    return file.seek(offset, whence)


def ftruncate(task: Task, fd: int, size: int) -> int:
    if size < 0:
        raise Errno(EINVAL)
    file = task.process.fds.get(fd)
    if file.is_path:
        raise Errno(EBADF)
    if file.flags & common.O_ACCMODE == common.O_RDONLY:
        raise Errno(EINVAL)
    check_growth(task, size, file.attributes)
    file.truncate(size)
    return 0


def fallocate(task: Task, fd: int, mode: int, offset: int, size: int) -> int:
    if offset < 0 or size <= 0:
        raise Errno(EINVAL)
    known = common.FALLOC_FL_KEEP_SIZE | common.FALLOC_FL_PUNCH_HOLE
    punch = bool(mode & common.FALLOC_FL_PUNCH_HOLE)
    if mode & ~known or (punch and not mode & common.FALLOC_FL_KEEP_SIZE):
        raise Errno(common.EOPNOTSUPP)
    file = writable(task, fd)
    if not mode & common.FALLOC_FL_KEEP_SIZE:
        check_growth(task, offset + size, file.attributes)
    file.allocate(offset, size, bool(mode & common.FALLOC_FL_KEEP_SIZE), punch)
    return 0


def fsync(task: Task, fd: int) -> int:
    file = task.process.fds.get(fd)
    if file.is_path:
        raise Errno(EBADF)
    file.sync()
    return 0


def fadvise64(task: Task, fd: int, _offset: int, size: int, advice: int) -> int:
    """Advice is checked and has no effect: the file server reads ahead as it sees fit (posix_fadvise(2))."""
    file = task.process.fds.get(fd)
    if isinstance(file, HostBacked) and stat_bits.S_ISFIFO(file.attributes().mode):
        raise Errno(ESPIPE)
    if size < 0 or not 0 <= advice <= common.POSIX_FADV_NOREUSE:
        raise Errno(EINVAL)
    return 0


def readahead(task: Task, fd: int, _offset: int, _count: int) -> int:
    """As fadvise64: a hint that is checked only (readahead(2))."""
    if not isinstance(readable(task, fd), RemoteFile):
        raise Errno(EINVAL)
    return 0
