"""Bytes moved from one file to another: sendfile, copy_file_range, splice, tee, vmsplice (man 2 of each).

They are copied; what a guest sees is the same.
"""

from collections.abc import Callable
from typing import Final

from client_vm import host
from client_vm.abi import common
from client_vm.abi.common import EAGAIN, EBADF, EINVAL, EISDIR, ESPIPE, EXDEV
from client_vm.arguments import RW_BYTES_MAX, IoVector, OutBuffer
from client_vm.descriptors import OpenFile, RemoteFile
from client_vm.errors import Errno
from client_vm.host_files import PIPE_WRITE_BYTES_MAX, HostBacked, is_ready
from client_vm.process import Task
from client_vm.syscalls.files import readable, writable
from client_vm.syscalls.sizes import fitting
from client_vm.syscalls.streams import holding, joined, with_sigpipe
from client_vm.waiting import Blocking, WouldBlock, until_possible

COPY_BYTES: Final = 256 << 10
"""Moved at once."""
_SPLICE_FLAGS: Final = 0xF
"""SPLICE_F_MOVE, _NONBLOCK, _MORE, _GIFT."""
_NONBLOCK: Final = 2
"""SPLICE_F_NONBLOCK."""


def _offset_at(task: Task, pointer: OutBuffer | None) -> int | None:
    """The 64-bit file offset a guest's pointer holds. EINVAL if negative, EFAULT."""
    if pointer is None:
        return None
    pointer.check(8)
    value = int.from_bytes(task.memory.read(pointer.address, 8), "little", signed=True)
    if value < 0:
        raise Errno(EINVAL)
    return value


def _put_offset(pointer: OutBuffer | None, offset: int | None) -> None:
    if pointer is not None and offset is not None:
        pointer.put(offset.to_bytes(8, "little"))


class _Move:
    """Bytes on their way from a file with offsets to another file. Positions None: the file's own offset."""

    def __init__(
        self, task: Task, source: OpenFile, target: OpenFile, at: int | None, to: int | None, count: int
    ) -> None:
        self._task = task
        self._source = source
        self._target = target
        self.at = at
        self.to = to
        self._left = min(count, RW_BYTES_MAX)
        self._room = memoryview(bytearray(min(self._left, COPY_BYTES)))
        self.done = 0

    def run(self) -> int:
        """Moves until all is moved, the source ends, or the target takes no more. WouldBlock; Errno: nothing
        was moved. What could not be written has not been read."""
        while self._left:
            try:
                moved, whole = self._step()
            except Errno:
                if self.done:
                    return self.done  # the error waits for the next call
                raise
            self.done += moved
            self._left -= moved
            if not moved or (not whole and not self._target.writes_whole):
                break
        return self.done

    def _step(self) -> tuple[int, bool]:
        """(bytes moved, whether all that was read)."""
        source = self._source
        if self.at is not None:
            moved, got = self._pass_on(self.at)
            self.at += moved
            return moved, moved == got
        # As on Linux nobody is kept from moving the offset meanwhile (fs/read_write.c: do_sendfile).
        start = source.seek(0, common.SEEK_CUR)
        moved, got = self._pass_on(start)
        source.seek(start + moved, common.SEEK_SET)
        return moved, moved == got

    def _pass_on(self, start: int) -> tuple[int, int]:
        got = self._source.pread([self._room[: self._left]], start)
        data, target = self._room[:got], self._target
        if not got:
            return 0, 0
        data = fitting(self._task, target, data, self.to)
        if self.to is None:
            return with_sigpipe(self._task, lambda: target.write(data)), got
        moved = target.pwrite(data, self.to)
        self.to += moved
        return moved, got


def sendfile(task: Task, out_fd: int, in_fd: int, pointer: OutBuffer | None, count: int) -> int | Blocking:
    source, target = readable(task, in_fd), writable(task, out_fd)
    at = _offset_at(task, pointer)
    if isinstance(source, HostBacked):
        try:
            source.seek(0, common.SEEK_CUR)
        except Errno:
            raise Errno(EINVAL if pointer is None else ESPIPE) from None
    if target.flags & common.O_APPEND:
        raise Errno(EINVAL)
    if not count:
        return 0
    # As much as a pipe takes, once there is room in it.
    return _moving(task, source, target, 0, _Fill(task, source, target, at, None, count, pointer))


def copy_file_range(
    task: Task,
    in_fd: int,
    in_at: OutBuffer | None,
    out_fd: int,
    out_at: OutBuffer | None,
    count: int,
    flags: int,
) -> int:
    source, target = readable(task, in_fd), writable(task, out_fd)
    if flags:
        raise Errno(EINVAL)
    for file in (source, target):
        if isinstance(file, RemoteFile) and file.is_directory:
            raise Errno(EISDIR)
        if not isinstance(file, RemoteFile):
            raise Errno(EXDEV if isinstance(file, HostBacked) and not file.is_pipe else EINVAL)
    if target.flags & common.O_APPEND:
        raise Errno(EBADF)
    at, to = _offset_at(task, in_at), _offset_at(task, out_at)
    if source is target:
        start, end = (source.offset if place is None else place for place in (at, to))
        if abs(start - end) < count:
            raise Errno(EINVAL)  # the ranges overlap
    move = _Move(task, source, target, at, to, count)
    moved = move.run()
    _put_offset(in_at, move.at)
    _put_offset(out_at, move.to)
    return moved


# -- pipes ------------------------------------------------------------------------------------------


def _is_pipe(file: OpenFile) -> bool:
    return isinstance(file, HostBacked) and file.is_pipe


def splice(
    task: Task,
    in_fd: int,
    in_at: OutBuffer | None,
    out_fd: int,
    out_at: OutBuffer | None,
    count: int,
    flags: int,
) -> int | Blocking:
    """Between a pipe and something else; what is there now, at least one byte unless the source has ended.

    Bytes of a pipe that the file server then refuses (ENOSPC) are lost, unlike on Linux.
    """
    if not count:
        return 0
    if flags & ~_SPLICE_FLAGS:
        raise Errno(EINVAL)
    source, target = readable(task, in_fd), writable(task, out_fd)
    from_pipe, to_pipe = _is_pipe(source), _is_pipe(target)
    if not (from_pipe or to_pipe):
        raise Errno(EINVAL)
    if (from_pipe and in_at is not None) or (to_pipe and out_at is not None):
        raise Errno(ESPIPE)
    if not to_pipe and target.flags & common.O_APPEND:
        raise Errno(EINVAL)
    if isinstance(source, HostBacked) and isinstance(target, HostBacked) and in_at is None and out_at is None:
        return _between(task, source, target, min(count, RW_BYTES_MAX), flags, host.splice)
    move = _Drain if from_pipe else _Fill
    at, to = _offset_at(task, in_at), _offset_at(task, out_at)
    count = min(count, COPY_BYTES)
    return _moving(task, source, target, flags, move(task, source, target, at, to, count, in_at or out_at))


class _Drain:
    """From a pipe to a file."""

    def __init__(
        self, task: Task, source: OpenFile, target: OpenFile,
        _at: int | None, to: int | None, count: int, pointer: OutBuffer | None,
    ) -> None:  # fmt: skip
        self._task, self._source, self._target = task, source, target
        self._to = to
        self._room = memoryview(bytearray(count))
        self._pointer = pointer

    def __call__(self) -> int:
        room = fitting(self._task, self._target, self._room, self._to)
        data = room[: self._source.read([room])]
        if self._to is None:
            return self._target.write(data)
        moved = self._target.pwrite(data, self._to)
        _put_offset(self._pointer, self._to + moved)
        return moved


class _Fill:
    """From a file to a pipe."""

    def __init__(
        self, task: Task, source: OpenFile, target: OpenFile,
        at: int | None, _to: int | None, count: int, pointer: OutBuffer | None,
    ) -> None:  # fmt: skip
        self._move = _Move(task, source, target, at, None, count)
        self._pointer = pointer

    def __call__(self) -> int:
        try:
            moved = self._move.run()
        except WouldBlock:
            moved = self._move.done
            if not moved:
                raise
        _put_offset(self._pointer, self._move.at)
        return moved


def tee(task: Task, in_fd: int, out_fd: int, count: int, flags: int) -> int | Blocking:
    if flags & ~_SPLICE_FLAGS:
        raise Errno(EINVAL)
    if not count:
        return 0
    source, target = readable(task, in_fd), writable(task, out_fd)
    if not (isinstance(source, HostBacked) and isinstance(target, HostBacked)):
        raise Errno(EINVAL)
    return _between(task, source, target, min(count, RW_BYTES_MAX), flags, host.tee)


def _between(
    task: Task,
    source: HostBacked,
    target: HostBacked,
    count: int,
    flags: int,
    call: Callable[[int, int, int], int],
) -> int | Blocking:
    """The host moves bytes between two descriptors of its own; it never waits."""

    def attempt() -> int:
        room = count
        if not target.is_pipe:
            target.check_room()
            room = min(count, PIPE_WRITE_BYTES_MAX)
        try:
            return call(source.descriptor, target.descriptor, room)
        except BlockingIOError:
            empty = not is_ready(source.reads)
            raise WouldBlock(source.reads if empty else target.writes) from None
        except OSError as error:
            raise Errno(error.errno or EINVAL) from None

    return _moving(task, source, target, flags, attempt)


def _moving(
    task: Task, source: OpenFile, target: OpenFile, flags: int, attempt: Callable[[], int]
) -> int | Blocking:
    """Tries now, or waits for the first bytes."""
    try:
        return with_sigpipe(task, attempt)
    except WouldBlock as blocked:
        if flags & _NONBLOCK or any(f.flags & common.O_NONBLOCK for f in (source, target) if _is_pipe(f)):
            raise Errno(EAGAIN) from None
        waiting = until_possible(lambda: with_sigpipe(task, attempt), blocked)
        return holding(source, holding(target, waiting))


def vmsplice(task: Task, fd: int, vector: IoVector, count: int, flags: int) -> int | Blocking:
    """Bytes of the guest's memory into a pipe, or from a pipe."""
    if flags & ~_SPLICE_FLAGS:
        raise Errno(EINVAL)
    file = task.process.fds.get(fd)
    if not vector.size_bytes(count):
        return 0
    if not _is_pipe(file):
        raise Errno(EBADF)
    if file.flags & common.O_ACCMODE == common.O_RDONLY:
        return _moving(task, file, file, flags, lambda: file.read(vector.out_views(count)))
    return _moving(task, file, file, flags, lambda: file.write(joined(vector.in_views(count))))
