"""Names: directories, links, renames, the working directory (man 2 of each)."""

from collections.abc import Callable
from typing import Any

from client_vm.abi import common
from client_vm.abi.common import AT_FDCWD, EINVAL, ENOENT, EPERM, ERANGE, EXDEV
from client_vm.arguments import OutBuffer
from client_vm.descriptors import OPEN_PATH, OpenFile, RemoteFile
from client_vm.errors import Errno
from client_vm.namespace import locate, resolve_crossing, start
from client_vm.nodes import Directory, Node
from client_vm.process import Task
from farcall.v1.file_pb2 import (
    CheckAccessRequest,
    LinkRequest,
    MakeDirectoryRequest,
    MakeNodeRequest,
    MakeSymlinkRequest,
    OpenRequest,
    Place,
    ReadLinkRequest,
    RemoveRequest,
    RenameFlag,
    RenameRequest,
)

_TYPE_SHIFT = 12
"""From S_IFMT bits to d_type (dirent.h: IFTODT)."""


def _change(task: Task, directory: int, path: bytes, ask: Callable[[Place], Any]) -> int:
    """A change of one name, last symlink not followed; /proc and /dev cannot be changed."""
    found = locate(task, directory, path, ask, follow=False)
    if isinstance(found, Node):
        raise Errno(EPERM)
    return 0


def mkdirat(task: Task, directory: int, path: bytes, mode: int) -> int:
    files = task.process.files
    permissions = mode & 0o1777 & ~task.process.umask
    return _create(
        task, directory, path, lambda place: files.call(MakeDirectoryRequest(place=place, mode=permissions))
    )


def _create(task: Task, directory: int, path: bytes, ask: Callable[[Place], Any]) -> int:
    """As _change, where the name must be new: what /proc and /dev have is EEXIST."""
    found = locate(task, directory, path, ask, follow=False)
    if isinstance(found, Node):
        raise Errno(common.EEXIST)
    return 0


def mkdir(task: Task, path: bytes, mode: int) -> int:
    return mkdirat(task, AT_FDCWD, path, mode)


def mknodat(task: Task, directory: int, path: bytes, mode: int, _device: int) -> int:
    kind = mode & 0o170000 or 0o100000
    if kind not in (0o100000, 0o010000, 0o140000, 0o020000, 0o060000):
        raise Errno(EPERM if kind == 0o040000 else EINVAL)
    files = task.process.files
    full = kind | mode & 0o7777 & ~task.process.umask
    return _create(task, directory, path, lambda place: files.call(MakeNodeRequest(place=place, mode=full)))


def mknod(task: Task, path: bytes, mode: int, number: int) -> int:
    return mknodat(task, AT_FDCWD, path, mode, number)


def symlinkat(task: Task, target: bytes, directory: int, path: bytes) -> int:
    if not target:
        raise Errno(ENOENT)
    files = task.process.files
    return _create(
        task, directory, path, lambda place: files.call(MakeSymlinkRequest(place=place, target=target))
    )


def symlink(task: Task, target: bytes, path: bytes) -> int:
    return symlinkat(task, target, AT_FDCWD, path)


def unlinkat(task: Task, directory: int, path: bytes, flags: int) -> int:
    if flags & ~common.AT_REMOVEDIR:
        raise Errno(EINVAL)
    files = task.process.files
    is_directory = bool(flags)
    return _change(
        task, directory, path, lambda place: files.call(RemoveRequest(place=place, directory=is_directory))
    )


def unlink(task: Task, path: bytes) -> int:
    return unlinkat(task, AT_FDCWD, path, 0)


def rmdir(task: Task, path: bytes) -> int:
    return unlinkat(task, AT_FDCWD, path, common.AT_REMOVEDIR)


# -- two names --------------------------------------------------------------------------------------


def _two_places(task: Task, source: Any, target: Any, ask: Callable[[Place, Place], Any]) -> int:
    """A call with two paths; either walk may lead through /proc or /dev and back, but not end there."""
    places = [source, target]
    for _ in range(3):
        if any(isinstance(place, Node) for place in places):
            raise Errno(EXDEV)
        if not all(isinstance(place, Place) for place in places):
            raise Errno(EPERM)
        response = ask(places[0], places[1])
        crossing = response.crossing
        if not crossing.mount:
            return 0
        side = 1 if response.crossed_at_target else 0
        places[side] = resolve_crossing(
            task, bytes(crossing.mount), bytes(crossing.remaining), places[side].follow
        )
    raise Errno(EXDEV)


def renameat2(task: Task, old_directory: int, old: bytes, new_directory: int, new: bytes, flags: int) -> int:
    known = common.RENAME_NOREPLACE | common.RENAME_EXCHANGE
    if flags & ~known or flags == known:
        raise Errno(EINVAL)
    wire = (RenameFlag.RENAME_FLAG_NO_REPLACE if flags & common.RENAME_NOREPLACE else 0) | (
        RenameFlag.RENAME_FLAG_EXCHANGE if flags & common.RENAME_EXCHANGE else 0
    )
    files = task.process.files
    source = start(task, old_directory, old, False, False)
    target = start(task, new_directory, new, False, False)
    return _two_places(
        task, source, target, lambda a, b: files.call(RenameRequest(source=a, target=b, flags=wire))
    )


def renameat(task: Task, old_directory: int, old: bytes, new_directory: int, new: bytes) -> int:
    return renameat2(task, old_directory, old, new_directory, new, 0)


def rename(task: Task, old: bytes, new: bytes) -> int:
    return renameat2(task, AT_FDCWD, old, AT_FDCWD, new, 0)


def linkat(task: Task, old_directory: int, old: bytes, new_directory: int, new: bytes, flags: int) -> int:
    if flags & ~(common.AT_SYMLINK_FOLLOW | common.AT_EMPTY_PATH):
        raise Errno(EINVAL)
    empty_ok = bool(flags & common.AT_EMPTY_PATH)
    files = task.process.files
    source = start(task, old_directory, old, bool(flags & common.AT_SYMLINK_FOLLOW), empty_ok)
    target = start(task, new_directory, new, False, False)
    return _two_places(task, source, target, lambda a, b: files.call(LinkRequest(source=a, target=b)))


def link(task: Task, old: bytes, new: bytes) -> int:
    return linkat(task, AT_FDCWD, old, AT_FDCWD, new, 0)


# -- reading names ----------------------------------------------------------------------------------


def readlinkat(task: Task, directory: int, path: bytes, buffer: OutBuffer, size: int) -> int:
    if size <= 0:
        raise Errno(EINVAL)
    files = task.process.files
    found = locate(
        task,
        directory,
        path,
        lambda place: files.call(ReadLinkRequest(place=place)),
        follow=False,
        empty_ok=directory != AT_FDCWD,
    )
    target = found.link_target(task) if isinstance(found, Node) else bytes(found.target)
    data = target[:size]
    buffer.put(data)
    return len(data)


def readlink(task: Task, path: bytes, buffer: OutBuffer, size: int) -> int:
    return readlinkat(task, AT_FDCWD, path, buffer, size)


def getdents64(task: Task, fd: int, buffer: OutBuffer, count: int) -> int:
    return _entries(task, fd, buffer, count, _dirent64)


def getdents(task: Task, fd: int, buffer: OutBuffer, count: int) -> int:
    return _entries(task, fd, buffer, count, _dirent)


def _dirent64(ino: int, next_: int, kind: int, name: bytes) -> bytes:
    """struct linux_dirent64: 19 bytes, the name, NUL, padded to 8."""
    size = (19 + len(name) + 1 + 7) & ~7
    head = ino.to_bytes(8, "little") + next_.to_bytes(8, "little") + size.to_bytes(2, "little")
    return (head + bytes((kind,)) + name).ljust(size, b"\0")


def _dirent(ino: int, next_: int, kind: int, name: bytes) -> bytes:
    """struct linux_dirent: the type stands in the last byte (getdents(2))."""
    size = (18 + len(name) + 2 + 7) & ~7
    head = ino.to_bytes(8, "little") + next_.to_bytes(8, "little") + size.to_bytes(2, "little")
    return (head + name).ljust(size - 1, b"\0") + bytes((kind,))


def _entries(
    task: Task, fd: int, buffer: OutBuffer, count: int, pack: Callable[[int, int, int, bytes], bytes]
) -> int:
    """Entries from the description's position on, as many as fit. EINVAL if not even one does."""
    file = task.process.fds.get(fd)
    file.check_readable()
    # The kernel keeps the room in an int (fs/readdir.c): beyond 2 GiB nothing fits.
    room = sum(map(len, buffer.views(count))) if 0 < count < 1 << 31 else 0
    with file.alone():
        packed = bytearray()
        position = file.offset
        while True:
            entries = file.entries(position)
            for entry in entries:
                record = pack(entry.ino, entry.next, entry.type >> _TYPE_SHIFT, entry.name)
                if len(packed) + len(record) > room:
                    if not packed:
                        raise Errno(EINVAL)
                    entries = []
                    break
                packed += record
                position = entry.next
            if not entries:
                break
        buffer.put(bytes(packed))
        file.offset = position
    return len(packed)


# -- the working directory --------------------------------------------------------------------------


def getcwd(task: Task, buffer: OutBuffer, size: int) -> int:
    path = task.process.cwd.path()
    if path.endswith(b" (deleted)"):
        raise Errno(ENOENT)
    if size < len(path) + 1:
        raise Errno(ERANGE)
    buffer.put(path + b"\0")
    return len(path) + 1


def chdir(task: Task, path: bytes) -> int:
    _set_cwd(task, open_directory(task, AT_FDCWD, path))
    return 0


def open_directory(task: Task, directory: int, path: bytes) -> OpenFile:
    """A directory held as a place to start walks from; needs search permission (EACCES)."""
    files = task.process.files
    handle = files.new_handle()

    def ask(place: Place) -> Any:
        return files.call(OpenRequest(place=place, handle=handle, flags=OPEN_PATH))

    found = locate(task, directory, path, ask)
    if isinstance(found, Node):
        if not isinstance(found, Directory):
            raise Errno(common.ENOTDIR)
        return found.open(task, common.O_RDONLY)
    try:
        _check_search(task, handle)
    except Errno:
        files.close(handle)
        raise
    return RemoteFile(files, handle, common.O_PATH, found.attributes.mode)


def _check_search(task: Task, handle: int) -> None:
    """Errno(EACCES) unless the caller may walk from the directory."""
    task.process.files.call(CheckAccessRequest(place=Place(directory=handle, empty_ok=True), mode=1))


def fchdir(task: Task, fd: int) -> int:
    file = task.process.fds.get(fd)
    if file.attributes().mode & 0o170000 != 0o040000:
        raise Errno(common.ENOTDIR)
    if isinstance(file, RemoteFile):
        _check_search(task, file.handle)
    file.users += 1
    _set_cwd(task, file)
    return 0


def _set_cwd(task: Task, file: OpenFile) -> None:
    old = task.process.cwd
    task.process.cwd = file
    old.drop()
