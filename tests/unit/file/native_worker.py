"""The host's file system as the model: executes operations beneath a directory, one line each.

python native_worker.py DIRECTORY: each input line is a tuple (uid, operation, arguments...), each output line
its result: ("ok", value) or ("errno", number). With root's rights it has changed its root to DIRECTORY.
"""

import ast
import ctypes
import os
import stat
import sys
from typing import Any

RENAMEAT2 = {"x86_64": 316, "aarch64": 276}[os.uname().machine]
AT_FDCWD = -100
FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE = 1, 2
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long


def described(status: os.stat_result) -> tuple[int, int, int, int, int]:
    size = 0 if stat.S_ISDIR(status.st_mode) else status.st_size
    return status.st_mode, status.st_nlink, status.st_uid, status.st_gid, size


def checked(result: int) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


class Native:
    """One method per operation."""

    def __init__(self) -> None:
        self.fds: dict[int, int] = {}

    def open(self, handle: int, directory: int, path: bytes, flags: int, mode: int) -> None:
        where = self.fds[directory] if directory else None
        self.fds[handle] = os.open(path, flags, mode, dir_fd=where)

    def close(self, handle: int) -> None:
        os.close(self.fds.pop(handle))

    def pread(self, handle: int, offset: int, count: int) -> bytes:
        return os.pread(self.fds[handle], count, offset)

    def pwrite(self, handle: int, offset: int, data: bytes) -> int:
        return os.pwrite(self.fds[handle], data, offset)

    def append(self, handle: int, data: bytes) -> int:
        os.lseek(self.fds[handle], 0, os.SEEK_END)
        os.write(self.fds[handle], data)
        return os.lseek(self.fds[handle], 0, os.SEEK_CUR)

    def ftruncate(self, handle: int, size: int) -> None:
        os.ftruncate(self.fds[handle], size)

    def punch(self, handle: int, offset: int, size: int) -> None:
        mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE
        checked(libc.fallocate(self.fds[handle], mode, ctypes.c_int64(offset), ctypes.c_int64(size)))

    def fallocate(self, handle: int, offset: int, size: int) -> None:
        checked(libc.fallocate(self.fds[handle], 0, ctypes.c_int64(offset), ctypes.c_int64(size)))

    def fstat(self, handle: int) -> Any:
        return described(os.fstat(self.fds[handle]))

    def list(self, handle: int) -> Any:
        os.lseek(self.fds[handle], 0, os.SEEK_SET)
        return sorted(os.fsencode(name) for name in os.listdir(self.fds[handle]))

    def stat(self, path: bytes, follow: bool) -> Any:
        return described(os.stat(path, follow_symlinks=follow))

    def access(self, path: bytes, mode: int) -> bool:
        return os.access(path, mode, effective_ids=True)

    def mkdir(self, path: bytes, mode: int) -> None:
        os.mkdir(path, mode)

    def mkfifo(self, path: bytes, mode: int) -> None:
        os.mkfifo(path, mode)

    def mknod(self, path: bytes, mode: int) -> None:
        os.mknod(path, mode)

    def symlink(self, target: bytes, path: bytes) -> None:
        os.symlink(target, path)

    def readlink(self, path: bytes) -> bytes:
        return os.readlink(path)

    def link(self, source: bytes, target: bytes, follow: bool) -> None:
        os.link(source, target, src_dir_fd=os_root(), dst_dir_fd=os_root(), follow_symlinks=follow)

    def unlink(self, path: bytes) -> None:
        os.unlink(path)

    def rmdir(self, path: bytes) -> None:
        os.rmdir(path)

    def rename(self, source: bytes, target: bytes, flags: int) -> None:
        checked(libc.syscall(RENAMEAT2, AT_FDCWD, source, AT_FDCWD, target, flags))

    def chmod(self, path: bytes, mode: int) -> None:
        os.chmod(path, mode)

    def chown(self, path: bytes, uid: int, gid: int, follow: bool) -> None:
        os.chown(path, uid, gid, follow_symlinks=follow)

    def truncate(self, path: bytes, size: int) -> None:
        os.truncate(path, size)

    def utime(self, path: bytes, times: tuple[int, int] | None) -> None:
        if times is None:
            os.utime(path)
        else:
            os.utime(path, ns=times)


def os_root() -> int:
    """A descriptor of the working directory, for calls that need one to honour follow_symlinks."""
    return ROOT_FD


def main() -> None:
    global ROOT_FD  # noqa: PLW0603
    b"".decode("unicode_escape")  # codecs are loaded while the host's tree can still be seen
    ast.literal_eval("(1, b'\\xff', 'x', None, True)")
    os.umask(0)
    os.chdir(sys.argv[1])
    privileged = os.geteuid() == 0
    if privileged:
        os.chroot(".")
    ROOT_FD = os.open(".", os.O_RDONLY)
    native = Native()
    for line in sys.stdin:
        uid, name, *arguments = ast.literal_eval(line)
        if privileged:
            os.setegid(uid)
            os.setgroups([])
            os.seteuid(uid)
        try:
            result: Any = ("ok", getattr(native, name)(*arguments))
        except OSError as error:
            result = ("errno", error.errno)
        if privileged:
            os.seteuid(0)
            os.setegid(0)
        sys.stdout.write(repr(result) + "\n")
        sys.stdout.flush()


ROOT_FD = -1

if __name__ == "__main__":
    main()
