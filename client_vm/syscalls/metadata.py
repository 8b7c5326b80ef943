"""What is known about an object: stat, modes, owners, times, access, attributes (man 2 of each)."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from client_vm.abi import common
from client_vm.abi.common import AT_FDCWD, EBADF, EFAULT, EINVAL, EOPNOTSUPP, EPERM
from client_vm.arguments import InBuffer, OutPointer
from client_vm.descriptors import RemoteFile
from client_vm.errors import Errno
from client_vm.namespace import locate
from client_vm.nodes import Node, OpenObject
from client_vm.process import Task
from client_vm.syscalls.sizes import check_growth
from farcall.v1.file_pb2 import (
    Attributes,
    CheckAccessRequest,
    GetAttributesRequest,
    Place,
    SetAttributesRequest,
    StatFileSystemRequest,
    SyncRequest,
    TimeChange,
)

_NS: Final = 1_000_000_000
_UNCHANGED: Final = 0xFFFFFFFF
"""uid or gid -1 of chown: leave it."""


# -- stat -------------------------------------------------------------------------------------------


def attributes_at(task: Task, directory: int, path: bytes, follow: bool, empty_ok: bool = False) -> Attributes:
    """Attributes of what a path leads to, wherever it lies."""
    if not path and empty_ok and directory != AT_FDCWD:
        return task.process.fds.get(directory).attributes()
    files = task.process.files
    found = locate(task, directory, path, lambda p: files.call(GetAttributesRequest(place=p)), follow, empty_ok)
    if isinstance(found, Node):
        return found.attributes(task)
    answer: Attributes = found.attributes
    return answer


def _encode_device(number: int) -> int:
    """dev_t as user space sees it (linux/kdev_t.h: new_encode_dev)."""
    major, minor = number >> 32, number & 0xFFFFFFFF
    return minor & 0xFF | major << 8 | (minor & ~0xFF) << 12


def _put_stat(pointer: OutPointer, found: Attributes) -> int:
    pointer.pack(
        st_dev=_encode_device(found.dev), st_ino=found.ino, st_mode=found.mode, st_nlink=found.nlink,
        st_uid=found.uid, st_gid=found.gid, st_rdev=_encode_device(found.rdev), st_size=found.size,
        st_blksize=found.block_size or 4096, st_blocks=found.blocks,
        st_atime=found.atime_ns // _NS, st_atime_nsec=found.atime_ns % _NS,
        st_mtime=found.mtime_ns // _NS, st_mtime_nsec=found.mtime_ns % _NS,
        st_ctime=found.ctime_ns // _NS, st_ctime_nsec=found.ctime_ns % _NS,
    )  # fmt: skip
    return 0


def newfstatat(task: Task, directory: int, path: bytes, pointer: OutPointer, flags: int) -> int:
    if flags & ~(common.AT_SYMLINK_NOFOLLOW | common.AT_NO_AUTOMOUNT | common.AT_EMPTY_PATH):
        raise Errno(EINVAL)
    follow = not flags & common.AT_SYMLINK_NOFOLLOW
    empty_ok = bool(flags & common.AT_EMPTY_PATH)
    return _put_stat(pointer, attributes_at(task, directory, path, follow, empty_ok))


def stat(task: Task, path: bytes, pointer: OutPointer) -> int:
    return _put_stat(pointer, attributes_at(task, AT_FDCWD, path, True))


def lstat(task: Task, path: bytes, pointer: OutPointer) -> int:
    return _put_stat(pointer, attributes_at(task, AT_FDCWD, path, False))


def fstat(task: Task, fd: int, pointer: OutPointer) -> int:
    return _put_stat(pointer, task.process.fds.get(fd).attributes())


def statx(task: Task, directory: int, path: bytes, flags: int, mask: int, pointer: OutPointer) -> int:
    sync = common.AT_STATX_SYNC_TYPE
    known = common.AT_SYMLINK_NOFOLLOW | common.AT_NO_AUTOMOUNT | common.AT_EMPTY_PATH | sync
    if mask & common.STATX__RESERVED or flags & ~known or flags & sync == sync:
        raise Errno(EINVAL)
    empty_ok = bool(flags & common.AT_EMPTY_PATH)
    found = attributes_at(task, directory, path, not flags & common.AT_SYMLINK_NOFOLLOW, empty_ok)
    answered = common.STATX_BASIC_STATS | (common.STATX_BTIME if found.btime_ns else 0)
    pointer.pack(
        stx_mask=answered, stx_blksize=found.block_size or 4096, stx_nlink=found.nlink, stx_uid=found.uid,
        stx_gid=found.gid, stx_mode=found.mode, stx_ino=found.ino, stx_size=found.size,
        stx_blocks=found.blocks, stx_rdev_major=found.rdev >> 32, stx_rdev_minor=found.rdev & 0xFFFFFFFF,
        stx_dev_major=found.dev >> 32, stx_dev_minor=found.dev & 0xFFFFFFFF,
        stx_atime=found.atime_ns // _NS, stx_atime_nsec=found.atime_ns % _NS,
        stx_btime=found.btime_ns // _NS, stx_btime_nsec=found.btime_ns % _NS,
        stx_ctime=found.ctime_ns // _NS, stx_ctime_nsec=found.ctime_ns % _NS,
        stx_mtime=found.mtime_ns // _NS, stx_mtime_nsec=found.mtime_ns % _NS,
    )  # fmt: skip
    return 0


# -- changing attributes ----------------------------------------------------------------------------


def _set(
    task: Task, directory: int, path: bytes, follow: bool, fill: Callable[[SetAttributesRequest], None],
    empty_ok: bool = False,
) -> int:  # fmt: skip
    files = task.process.files

    def ask(place: Place) -> Any:
        request = SetAttributesRequest(place=place)
        fill(request)
        return files.call(request)

    found = locate(task, directory, path, ask, follow, empty_ok)
    if isinstance(found, Node):
        raise Errno(EPERM)
    return 0


def _set_open(task: Task, fd: int, fill: Callable[[SetAttributesRequest], None]) -> int:
    """As _set, of an open description."""
    file = task.process.fds.get(fd)
    if file.is_path:
        raise Errno(EBADF)
    if not isinstance(file, RemoteFile):
        raise Errno(EPERM)
    request = SetAttributesRequest(place=file.place())
    fill(request)
    task.process.files.call(request)
    return 0


def _mode_setter(mode: int) -> Callable[[SetAttributesRequest], None]:
    def fill(request: SetAttributesRequest) -> None:
        request.mode = mode & 0o7777

    return fill


def fchmodat(task: Task, directory: int, path: bytes, mode: int) -> int:
    return _set(task, directory, path, True, _mode_setter(mode))


def fchmodat2(task: Task, directory: int, path: bytes, mode: int, flags: int) -> int:
    if flags & ~(common.AT_SYMLINK_NOFOLLOW | common.AT_EMPTY_PATH):
        raise Errno(EINVAL)
    follow = not flags & common.AT_SYMLINK_NOFOLLOW
    if not follow and attributes_at(task, directory, path, False, True).mode & 0o170000 == 0o120000:
        raise Errno(EOPNOTSUPP)
    return _set(task, directory, path, follow, _mode_setter(mode), bool(flags & common.AT_EMPTY_PATH))


def chmod(task: Task, path: bytes, mode: int) -> int:
    return fchmodat(task, AT_FDCWD, path, mode)


def fchmod(task: Task, fd: int, mode: int) -> int:
    return _set_open(task, fd, _mode_setter(mode))


def _owner_setter(uid: int, gid: int) -> Callable[[SetAttributesRequest], None]:
    def fill(request: SetAttributesRequest) -> None:
        if uid != _UNCHANGED:
            request.uid = uid
        if gid != _UNCHANGED:
            request.gid = gid

    return fill


def fchownat(task: Task, directory: int, path: bytes, uid: int, gid: int, flags: int) -> int:
    if flags & ~(common.AT_SYMLINK_NOFOLLOW | common.AT_EMPTY_PATH):
        raise Errno(EINVAL)
    follow = not flags & common.AT_SYMLINK_NOFOLLOW
    empty_ok = bool(flags & common.AT_EMPTY_PATH)
    return _set(task, directory, path, follow, _owner_setter(uid, gid), empty_ok)


def chown(task: Task, path: bytes, uid: int, gid: int) -> int:
    return fchownat(task, AT_FDCWD, path, uid, gid, 0)


def lchown(task: Task, path: bytes, uid: int, gid: int) -> int:
    return fchownat(task, AT_FDCWD, path, uid, gid, common.AT_SYMLINK_NOFOLLOW)


def fchown(task: Task, fd: int, uid: int, gid: int) -> int:
    return _set_open(task, fd, _owner_setter(uid, gid))


def truncate(task: Task, path: bytes, size: int) -> int:
    if size < 0:
        raise Errno(EINVAL)

    check_growth(task, size, lambda: attributes_at(task, AT_FDCWD, path, True))

    def fill(request: SetAttributesRequest) -> None:
        request.size = size

    return _set(task, AT_FDCWD, path, True, fill)


# -- times ------------------------------------------------------------------------------------------

_Times = tuple[TimeChange | None, TimeChange | None]


def _set_times(task: Task, directory: int, path: bytes | None, times: _Times, flags: int) -> int:
    def fill(request: SetAttributesRequest) -> None:
        for name, change in zip(("atime", "mtime"), times, strict=True):
            if change is not None:
                getattr(request, name).CopyFrom(change)

    if path is None:
        return _set_open(task, directory, fill)
    follow = not flags & common.AT_SYMLINK_NOFOLLOW
    return _set(task, directory, path, follow, fill, bool(flags & common.AT_EMPTY_PATH))


def _now() -> _Times:
    return TimeChange(now=True), TimeChange(now=True)


def _timespec_change(seconds: int, ns: int) -> TimeChange | None:
    if ns == common.UTIME_NOW:
        return TimeChange(now=True)
    if ns == common.UTIME_OMIT:
        return None
    if not 0 <= ns < _NS:
        raise Errno(EINVAL)
    return TimeChange(time_ns=_clamped(seconds * _NS + ns))


def _clamped(ns: int) -> int:
    """File times are 64-bit nanoseconds: 1677 to 2262; beyond, the nearest (as file systems do)."""
    return max(-(1 << 63), min(ns, (1 << 63) - 1))


def utimensat(task: Task, directory: int, path: bytes | None, times: InBuffer, flags: int) -> int:
    changes = _now()
    if times.address:
        words = [
            int.from_bytes(times.whole(32)[offset : offset + 8], "little", signed=True)
            for offset in (0, 8, 16, 24)
        ]
        changes = _timespec_change(words[0], words[1]), _timespec_change(words[2], words[3])
    if changes == (None, None):
        return 0  # before anything else is looked at, as on Linux
    if flags & ~(common.AT_SYMLINK_NOFOLLOW | common.AT_EMPTY_PATH):
        raise Errno(EINVAL)
    if path is None and directory == AT_FDCWD:
        raise Errno(EFAULT)
    if path is None and flags:
        raise Errno(EINVAL)
    return _set_times(task, directory, path, changes, flags)


def futimesat(task: Task, directory: int, path: bytes | None, times: InBuffer) -> int:
    changes = _now()
    if times.address:
        raw = times.whole(32)
        parts = [int.from_bytes(raw[offset : offset + 8], "little", signed=True) for offset in (0, 8, 16, 24)]
        if not (0 <= parts[1] < 1_000_000 and 0 <= parts[3] < 1_000_000):
            raise Errno(EINVAL)
        changes = (
            TimeChange(time_ns=_clamped(parts[0] * _NS + parts[1] * 1000)),
            TimeChange(time_ns=_clamped(parts[2] * _NS + parts[3] * 1000)),
        )
    if path is None and directory == AT_FDCWD:
        raise Errno(EFAULT)
    return _set_times(task, directory, path, changes, 0)


def utimes(task: Task, path: bytes, times: InBuffer) -> int:
    return futimesat(task, AT_FDCWD, path, times)


def utime(task: Task, path: bytes, times: dict[str, int] | None) -> int:
    changes = _now()
    if times is not None:
        changes = (
            TimeChange(time_ns=_clamped(times["actime"] * _NS)),
            TimeChange(time_ns=_clamped(times["modtime"] * _NS)),
        )
    return _set_times(task, AT_FDCWD, path, changes, 0)


# -- access, file systems ---------------------------------------------------------------------------


def faccessat2(task: Task, directory: int, path: bytes, mode: int, flags: int) -> int:
    known = common.AT_EACCESS | common.AT_SYMLINK_NOFOLLOW | common.AT_EMPTY_PATH
    if mode & ~7 or flags & ~known:
        raise Errno(EINVAL)
    files = task.process.files
    follow = not flags & common.AT_SYMLINK_NOFOLLOW
    found = locate(
        task,
        directory,
        path,
        lambda place: files.call(CheckAccessRequest(place=place, mode=mode)),
        follow,
        bool(flags & common.AT_EMPTY_PATH),
    )
    if isinstance(found, Node) and not isinstance(found, OpenObject):
        _check_node_access(task, found, mode)
    return 0


def _check_node_access(task: Task, node: Node, mode: int) -> None:
    bits = node.attributes(task).mode
    allowed = bits >> 6 & 7 if task.process.credentials.fsuid == 0 else bits & 7
    if task.process.credentials.fsuid == 0:
        allowed |= 6
    if mode & ~allowed:
        raise Errno(common.EACCES)


def faccessat(task: Task, directory: int, path: bytes, mode: int) -> int:
    return faccessat2(task, directory, path, mode, 0)


def access(task: Task, path: bytes, mode: int) -> int:
    return faccessat2(task, AT_FDCWD, path, mode, 0)


_PROC_MAGIC: Final = 0x9FA0
_TMPFS_MAGIC: Final = 0x01021994


def statfs(task: Task, path: bytes, pointer: OutPointer) -> int:
    files = task.process.files
    found = locate(task, AT_FDCWD, path, lambda p: files.call(StatFileSystemRequest(place=p)))
    if isinstance(found, Node):
        return _put_node_statfs(pointer, found)
    return _put_statfs(pointer, found)


def fstatfs(task: Task, fd: int, pointer: OutPointer) -> int:
    file = task.process.fds.get(fd)
    if not isinstance(file, RemoteFile):
        return _put_node_statfs(pointer, None)
    return _put_statfs(pointer, task.process.files.call(StatFileSystemRequest(place=file.place())))


def _put_statfs(pointer: OutPointer, found: Any) -> int:
    pointer.pack(
        f_type=found.type, f_bsize=found.block_size, f_blocks=found.blocks, f_bfree=found.blocks_free,
        f_bavail=found.blocks_available, f_files=found.files, f_ffree=found.files_free,
        f_namelen=found.name_bytes_max, f_frsize=found.block_size,
    )  # fmt: skip
    return 0


def _put_node_statfs(pointer: OutPointer, node: Node | None) -> int:
    is_proc = node is not None and node.path.startswith(b"/proc")
    magic = _PROC_MAGIC if is_proc else _TMPFS_MAGIC
    pointer.pack(f_type=magic, f_bsize=4096, f_namelen=255, f_frsize=4096)
    return 0


def sync(task: Task) -> int:
    with suppress(Errno):  # sync(2) has no errors
        task.process.files.call(SyncRequest())
    return 0


def syncfs(task: Task, fd: int) -> int:
    if task.process.fds.get(fd).is_path:
        raise Errno(EBADF)
    task.process.files.call(SyncRequest())
    return 0


def umask(task: Task, mask: int) -> int:
    old = task.process.umask
    task.process.umask = mask & 0o777
    return old
