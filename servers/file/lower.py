"""The read-only lower layer: a host directory, never written, never left.

An edge module: it alone touches the host's tree. A path here has been walked by us already: it holds no
symlink and no "..". Each component is opened beneath its parent's descriptor with openat2(2), so a tree that
others change meanwhile cannot lead outside the root either. Errors of the host are answers (ErrnoError).
"""

import ctypes
import errno
import os
import stat
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from servers.file.inodes import Inode
from servers.service import ErrnoError

DIRECTORIES_OPEN_MAX: Final = 512
KNOWN_MAX: Final = 16_384
"""Objects whose last stat(2) is kept, so that nothing is made anew of the same."""
OPENAT2_TRIES_MAX: Final = 32
"""EAGAIN: a rename somewhere raced with the lookup (openat2(2))."""
SYS_OPENAT2: Final = 437
RESOLVE_NO_MAGICLINKS: Final = 0x02
RESOLVE_NO_SYMLINKS: Final = 0x04
RESOLVE_BENEATH: Final = 0x08


class _OpenHow(ctypes.Structure):
    """struct open_how of openat2(2)."""

    _fields_ = [("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64)]


_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def openat2(directory_fd: int, name: bytes, flags: int) -> int:
    """Opens one component beneath a directory. OSError."""
    how = _OpenHow(flags | os.O_CLOEXEC, 0, RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS)
    for _ in range(OPENAT2_TRIES_MAX):
        fd: int = _libc.syscall(
            SYS_OPENAT2,
            ctypes.c_int(directory_fd),
            ctypes.c_char_p(name),
            ctypes.byref(how),
            ctypes.c_size_t(ctypes.sizeof(how)),
        )
        if fd >= 0:
            return fd
        number = ctypes.get_errno()
        if number not in (errno.EAGAIN, errno.EINTR):
            raise OSError(number, os.strerror(number))
    raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))


@contextmanager
def _answers() -> Iterator[None]:
    """The host's refusal is the guest's answer."""
    try:
        yield
    except OSError as error:
        raise ErrnoError(error.errno or errno.EIO, "lower layer") from None


def _join(directory: bytes, name: bytes) -> bytes:
    return directory + b"/" + name if directory else name


class Lower:
    """`guest_ino(root_dev, dev, ino)` numbers its objects. OSError if the root is no directory.

    `hidden` is not part of the layer, should it lie beneath the root: the state with all sessions' secrets.
    """

    def __init__(self, root: Path, hidden: Path, guest_ino: Callable[[int, int, int], int]) -> None:
        self._guest_ino = guest_ino
        secret = os.stat(hidden)
        self._hidden = (secret.st_ino, secret.st_dev)
        self._root_fd = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        status = os.fstat(self._root_fd)
        self._root_dev = status.st_dev
        self._open: OrderedDict[bytes, tuple[int, int, int]] = OrderedDict()
        """Path of a directory -> (descriptor, dev, ino), least lately used first."""
        self._known: dict[bytes, tuple[os.stat_result, Inode]] = {}
        """Path -> what stat(2) said last, and what was made of it."""
        try:
            os.close(openat2(self._root_fd, b".", os.O_PATH | os.O_DIRECTORY))
        except OSError:
            os.close(self._root_fd)
            raise

    def close(self) -> None:
        self._evict_beneath(b"")
        os.close(self._root_fd)

    def child(self, directory: bytes, name: bytes) -> Inode | None:
        """The object of that name (one component) in the directory, or None. ErrnoError."""
        path = directory + b"/" + name if directory else name
        try:
            status = os.stat(name, dir_fd=self._directory(directory), follow_symlinks=False)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ErrnoError(error.errno or errno.EIO, "lower layer") from None
        known = self._open.get(path)
        if known is not None and known[1:] != (status.st_dev, status.st_ino):
            self._evict_beneath(path)  # someone else put another directory there
        seen = self._known.get(path)
        if seen is not None and _same(seen[0], status):
            return seen[1]
        if (status.st_ino, status.st_dev) == self._hidden:
            return None
        inode = self._inode(path, name, status)
        if len(self._known) >= KNOWN_MAX:
            self._known.clear()
        self._known[path] = status, inode
        return inode

    def at(self, path: bytes) -> Inode:
        """The object at a path that was walked before. ErrnoError (ESTALE: it is gone)."""
        if not path:
            return self._inode(b"", b"", os.fstat(self._root_fd))
        directory, _, name = path.rpartition(b"/")
        found = self.child(directory, name)
        if found is None:
            raise ErrnoError(errno.ESTALE, "changed beneath us")
        return found

    def entries(self, path: bytes) -> list[tuple[bytes, int, int]]:
        """(name, guest ino, file type bits) of all a directory holds, in the host's order. ErrnoError."""
        with _answers():
            fd = openat2(self._directory(path), b".", os.O_RDONLY | os.O_DIRECTORY)
            try:
                dev = os.fstat(fd).st_dev
                with os.scandir(fd) as found:
                    return [
                        (os.fsencode(each.name), self._number(dev, each.inode()), _type(each))
                        for each in found
                        if (each.inode(), dev) != self._hidden
                    ]
            finally:
                os.close(fd)

    def read_link(self, path: bytes) -> bytes:
        """A symlink's target. ErrnoError."""
        directory, _, name = path.rpartition(b"/")
        with _answers():
            return os.readlink(name, dir_fd=self._directory(directory))

    def open_file(self, path: bytes, ino: int) -> int:
        """A descriptor for reading a regular file, the caller's to close.

        ErrnoError: the host's (EACCES, EMFILE...); ESTALE if the path leads to another object by now.
        """
        directory, _, name = path.rpartition(b"/")
        # O_NONBLOCK: should it have become a FIFO meanwhile, opening it must not wait.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
        with _answers():
            parent_fd = self._directory(directory)
            try:
                fd = openat2(parent_fd, name, flags | os.O_NOATIME)
            except PermissionError:  # O_NOATIME is for the file's owner
                fd = openat2(parent_fd, name, flags)
            status = os.fstat(fd)
        if stat.S_ISREG(status.st_mode) and self._number(status.st_dev, status.st_ino) == ino:
            return fd
        os.close(fd)
        raise ErrnoError(errno.ESTALE, "changed beneath us")

    def reopen(self, fd: int) -> int:
        """Another descriptor for reading the same file, with an offset of its own. ErrnoError (EMFILE...)."""
        with _answers():
            return os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC)

    def close_file(self, fd: int) -> None:
        os.close(fd)

    def xattr(self, path: bytes, name: bytes) -> bytes | None:
        """An extended attribute's value, or None. ErrnoError."""
        try:
            with self._reachable(path) as host_path:
                return os.getxattr(host_path, name, follow_symlinks=False)
        except OSError as error:
            if error.errno in (errno.ENODATA, errno.EOPNOTSUPP, errno.EPERM):
                return None
            raise ErrnoError(error.errno or errno.EIO, "lower layer") from None

    def xattrs(self, path: bytes) -> list[bytes]:
        """The names of the extended attributes. ErrnoError."""
        try:
            with self._reachable(path) as host_path:
                return [os.fsencode(name) for name in os.listxattr(host_path, follow_symlinks=False)]
        except OSError as error:
            if error.errno == errno.EOPNOTSUPP:
                return []
            raise ErrnoError(error.errno or errno.EIO, "lower layer") from None

    @contextmanager
    def _reachable(self, path: bytes) -> Iterator[str]:
        """A path by which calls that take no descriptor reach the object itself. OSError."""
        directory, _, name = path.rpartition(b"/")
        beneath = os.fsdecode(name) or "."
        yield f"/proc/self/fd/{self._directory(directory)}/{beneath}"

    def _number(self, dev: int, ino: int) -> int:
        return self._guest_ino(self._root_dev, dev, ino)

    def _inode(self, path: bytes, name: bytes, status: os.stat_result) -> Inode:
        return Inode(
            ino=self._number(status.st_dev, status.st_ino),
            mode=status.st_mode,
            uid=status.st_uid,
            gid=status.st_gid,
            nlink=status.st_nlink,
            size=status.st_size,
            atime_ns=status.st_atime_ns,
            mtime_ns=status.st_mtime_ns,
            ctime_ns=status.st_ctime_ns,
            btime_ns=0,
            rdev=status.st_rdev and os.major(status.st_rdev) << 32 | os.minor(status.st_rdev),
            generation=status.st_ctime_ns,
            target=None,
            lower=path,
            parent=0,
            name=name,
            row=False,
            blocks=status.st_blocks,
        )

    def _directory(self, path: bytes) -> int:
        """A descriptor (O_PATH) of a directory, ours to keep. OSError."""
        if not path:
            return self._root_fd
        known = self._open.get(path)
        if known is not None:
            self._open.move_to_end(path)
            return known[0]
        # Downwards from the nearest ancestor that is open.
        ancestor, missing = path, list[bytes]()
        while ancestor and ancestor not in self._open:
            ancestor, _, name = ancestor.rpartition(b"/")
            missing.append(name)
        fd = self._open[ancestor][0] if ancestor else self._root_fd
        for name in reversed(missing):
            fd = openat2(fd, name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW)
            status = os.fstat(fd)
            ancestor = _join(ancestor, name)
            self._open[ancestor] = (fd, status.st_dev, status.st_ino)
        while len(self._open) > DIRECTORIES_OPEN_MAX:
            _, (old_fd, _, _) = self._open.popitem(last=False)
            os.close(old_fd)
        return fd

    def _evict_beneath(self, path: bytes) -> None:
        beneath = path + b"/"
        for known in [each for each in self._open if not path or each == path or each.startswith(beneath)]:
            os.close(self._open.pop(known)[0])


def _same(one: os.stat_result, two: os.stat_result) -> bool:
    """Whether all fields are equal; a comparison of the two leaves out what is finer than seconds."""
    return (
        one == two
        and one.st_ctime_ns == two.st_ctime_ns
        and one.st_mtime_ns == two.st_mtime_ns
        and one.st_atime_ns == two.st_atime_ns
    )


def _type(entry: "os.DirEntry[str]") -> int:
    """File type bits of a directory entry; 0 (unknown, as readdir(3) may say) if it vanished."""
    if entry.is_symlink():
        return stat.S_IFLNK
    if entry.is_dir(follow_symlinks=False):
        return stat.S_IFDIR
    if entry.is_file(follow_symlinks=False):
        return stat.S_IFREG
    with suppress(FileNotFoundError):
        return stat.S_IFMT(entry.stat(follow_symlinks=False).st_mode)
    return 0
