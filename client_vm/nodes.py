"""Objects without a file server: what /proc and /dev are made of, and how they are opened.

A Node has a name in the guest's tree; opening one gives an OpenFile. Everything is made from the process's
own state; nothing is the host's /proc or /dev.
"""

import os
import stat as stat_bits
import zlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

from client_vm.abi import common
from client_vm.abi.common import EACCES, EINVAL, EISDIR, ENOENT, ENOSPC, ENOTDIR, ENXIO
from client_vm.descriptors import OpenFile, device
from client_vm.errors import Errno
from client_vm.pty_files import open_master, open_slave
from client_vm.terminals import CALLERS
from farcall.v1.file_pb2 import Attributes, DirectoryEntry
from farcall.v1.kernel_pb2 import TerminalEntry

if TYPE_CHECKING:
    from client_vm.process import Task

SYNTHETIC_DEV: Final = device(0, 0x40)
ZERO_PAGE: Final = bytes(64 << 10)


class Node:
    """One name beneath /proc or /dev. `path`: absolute, in the guest's root."""

    type_bits = stat_bits.S_IFREG
    permissions = 0o444

    def __init__(self, path: bytes) -> None:
        self.path = path

    def attributes(self, task: "Task") -> Attributes:
        now = task.kernel.clock.realtime_ns()
        return Attributes(
            ino=zlib.crc32(self.path) | 1 << 32,
            mode=self.type_bits | self.permissions,
            nlink=2 if self.type_bits == stat_bits.S_IFDIR else 1,
            uid=0, gid=0, dev=SYNTHETIC_DEV, block_size=4096 if self.type_bits != stat_bits.S_IFREG else 1024,
            atime_ns=now, mtime_ns=now, ctime_ns=now,
        )  # fmt: skip

    def child(self, task: "Task", name: bytes) -> "Node":
        raise Errno(ENOTDIR)

    def open(self, task: "Task", flags: int) -> OpenFile:
        raise Errno(EACCES)

    def link_target(self, task: "Task") -> bytes:
        """readlink. Errno(EINVAL) if it is no symlink."""
        raise Errno(EINVAL)

    def link_object(self, task: "Task") -> OpenFile | None:
        """The description a magic link leads to; None: follow the text."""
        return None


class Directory(Node):
    """A directory whose children are made when asked for."""

    type_bits = stat_bits.S_IFDIR
    permissions = 0o555

    def __init__(self, path: bytes, children: Callable[["Task"], dict[bytes, Node]]) -> None:
        super().__init__(path)
        self.children = children

    def child(self, task: "Task", name: bytes) -> Node:
        found = self.children(task).get(name)
        if found is None:
            raise Errno(ENOENT)
        return found

    def open(self, task: "Task", flags: int) -> OpenFile:
        if flags & common.O_ACCMODE or flags & common.O_CREAT:
            raise Errno(EISDIR)
        return OpenDirectory(task, self, flags)


class TextFile(Node):
    """A read-only file whose text is made when it is opened."""

    def __init__(self, path: bytes, text: Callable[["Task"], bytes], permissions: int = 0o444) -> None:
        super().__init__(path)
        self._text = text
        self.permissions = permissions

    def open(self, task: "Task", flags: int) -> OpenFile:
        if flags & common.O_ACCMODE != common.O_RDONLY:
            raise Errno(EACCES)
        return OpenText(task, self, self._text(task), flags)


class Symlink(Node):
    """A symlink by text, or a magic one that leads to an open description."""

    type_bits = stat_bits.S_IFLNK
    permissions = 0o777

    def __init__(
        self,
        path: bytes,
        text: Callable[["Task"], bytes],
        target: Callable[["Task"], OpenFile | None] | None = None,
    ) -> None:
        super().__init__(path)
        self._text = text
        self._target = target

    def link_target(self, task: "Task") -> bytes:
        return self._text(task)

    def link_object(self, task: "Task") -> OpenFile | None:
        return self._target(task) if self._target else None


class OpenObject(Node):
    """What a magic link led to: an open description seen as a node (stat and open of /proc/self/fd/1)."""

    def __init__(self, file: OpenFile) -> None:
        super().__init__(b"")
        self._file = file

    def attributes(self, task: "Task") -> Attributes:
        return self._file.attributes()

    def open(self, task: "Task", flags: int) -> OpenFile:
        # A pipe or terminal cannot be opened anew by a worker: the description is shared, if it allows as much.
        access, allowed = (each & common.O_ACCMODE for each in (flags, self._file.flags))
        if allowed not in (common.O_RDWR, access):
            raise Errno(EACCES)
        self._file.users += 1
        return self._file


class Device(Node):
    """A character device."""

    type_bits = stat_bits.S_IFCHR
    permissions = 0o666

    def __init__(
        self, path: bytes, minor: int, make: Callable[["Task", "Device", int], OpenFile], major: int = 1
    ) -> None:
        super().__init__(path)
        self.number = device(major, minor)
        self._make = make

    def attributes(self, task: "Task") -> Attributes:
        found = super().attributes(task)
        found.rdev = self.number
        return found

    def open(self, task: "Task", flags: int) -> OpenFile:
        return self._make(task, self, flags)


class OpenNode(OpenFile):
    """A description of a node."""

    def __init__(self, task: "Task", node: Node, flags: int) -> None:
        super().__init__(flags)
        self._task = task
        self.node = node

    def attributes(self) -> Attributes:
        return self.node.attributes(self._task)

    def path(self) -> bytes:
        return self.node.path

    def sync(self) -> None:
        raise Errno(EINVAL)


class OpenDirectory(OpenNode):
    """An open directory of /proc or /dev; cookies are positions in the listing."""

    def entries(self, cookie: int) -> list[DirectoryEntry]:
        return list(self._listing())[cookie:]

    def _listing(self) -> Iterator[DirectoryEntry]:
        node = self.node
        assert isinstance(node, Directory)
        listing: list[tuple[bytes, Node]] = [(b".", node), (b"..", node)]
        listing += sorted(node.children(self._task).items())
        for position, (name, child) in enumerate(listing, 1):
            ino = zlib.crc32(child.path) | 1 << 32
            yield DirectoryEntry(name=name, ino=ino, type=child.type_bits, next=position)

    def read(self, views: list[memoryview]) -> int:
        raise Errno(EISDIR)

    def seek(self, offset: int, whence: int) -> int:
        if whence != common.SEEK_SET or offset < 0:
            raise Errno(EINVAL)
        self.offset = offset
        return offset


class OpenText(OpenNode):
    """A snapshot of a text file, taken when it was opened."""

    def __init__(self, task: "Task", node: Node, text: bytes, flags: int) -> None:
        super().__init__(task, node, flags)
        self._bytes = text

    def pread(self, views: list[memoryview], offset: int) -> int:
        count = 0
        for view in views:
            part = self._bytes[offset + count : offset + count + len(view)]
            view[: len(part)] = part
            count += len(part)
        return count

    def read(self, views: list[memoryview]) -> int:
        with self.alone():
            count = self.pread(views, self.offset)
            self.offset += count
        return count

    def seek(self, offset: int, whence: int) -> int:
        if whence == common.SEEK_CUR:
            offset += self.offset
        elif whence != common.SEEK_SET:
            raise Errno(EINVAL)
        if offset < 0:
            raise Errno(EINVAL)
        self.offset = offset
        return offset


class NullFile(OpenNode):
    """/dev/null: reads end, writes vanish (null(4))."""

    def read(self, views: list[memoryview]) -> int:
        return 0

    def pread(self, views: list[memoryview], offset: int) -> int:
        return 0

    def write(self, data: memoryview) -> int:
        return len(data)

    def pwrite(self, data: memoryview, offset: int) -> int:
        return len(data)

    def seek(self, offset: int, whence: int) -> int:
        return 0


class ZeroFile(NullFile):
    """/dev/zero: reads give zeros."""

    def read(self, views: list[memoryview]) -> int:
        for view in views:
            for start in range(0, len(view), len(ZERO_PAGE)):
                part = view[start : start + len(ZERO_PAGE)]
                part[:] = ZERO_PAGE[: len(part)]
        return sum(map(len, views))

    def pread(self, views: list[memoryview], offset: int) -> int:
        return self.read(views)


class FullFile(ZeroFile):
    """/dev/full: reads give zeros, writes ENOSPC (full(4))."""

    def write(self, data: memoryview) -> int:
        raise Errno(ENOSPC)

    def pwrite(self, data: memoryview, offset: int) -> int:
        raise Errno(ENOSPC)


class RandomFile(NullFile):
    """/dev/urandom and /dev/random: bytes of the guest's own generator (random(4))."""

    def read(self, views: list[memoryview]) -> int:
        for view in views:
            for start in range(0, len(view), len(ZERO_PAGE)):
                part = view[start : start + len(ZERO_PAGE)]
                part[:] = self._task.kernel.random.bytes(len(part))
        return sum(map(len, views))

    def pread(self, views: list[memoryview], offset: int) -> int:
        return self.read(views)


def _open_tty(task: "Task", node: Device, flags: int) -> OpenFile:
    """The terminal that controls the caller's session (tty(4): ENXIO)."""
    found = task.process.link.find_terminal()
    if found != CALLERS:
        return open_slave(task, found - 1, flags)
    terminal = task.kernel.terminal
    if terminal is None:
        raise Errno(ENXIO)
    terminal.users += 1
    return terminal


class Terminal(OpenObject):
    """The controlling terminal by its own name."""

    type_bits = stat_bits.S_IFCHR

    def __init__(self, file: OpenFile) -> None:
        super().__init__(file)
        self.path = file.path()


class PtyNode(Node):
    """A pseudo-terminal of the run's, by name."""

    type_bits = stat_bits.S_IFCHR

    def __init__(self, entry: TerminalEntry) -> None:
        super().__init__(b"/dev/pts/%d" % entry.number)
        self._entry = entry

    def attributes(self, task: "Task") -> Attributes:
        found, entry = super().attributes(task), self._entry
        found.mode, found.ino, found.uid, found.gid = entry.mode, entry.inode, entry.uid, entry.gid
        found.dev, found.rdev = (device(os.major(each), os.minor(each)) for each in (entry.device, entry.rdev))
        return found

    def open(self, task: "Task", flags: int) -> OpenFile:
        return open_slave(task, self._entry.number, flags)


def _terminals(task: "Task") -> dict[bytes, Node]:
    """The children of /dev/pts (pts(4)): no other terminal is the guest's business."""
    terminal = task.kernel.named_terminal
    named: list[Node] = [] if terminal is None else [Terminal(terminal)]
    named += map(PtyNode, task.process.link.terminals())
    return {node.path.rsplit(b"/", 1)[1]: node for node in named}


def device_nodes() -> dict[bytes, Node]:
    """The children of /dev (devices.txt of the kernel documentation for the numbers)."""
    return {
        b"null": Device(b"/dev/null", 3, NullFile),
        b"zero": Device(b"/dev/zero", 5, ZeroFile),
        b"full": Device(b"/dev/full", 7, FullFile),
        b"random": Device(b"/dev/random", 8, RandomFile),
        b"urandom": Device(b"/dev/urandom", 9, RandomFile),
        b"tty": Device(b"/dev/tty", 0, _open_tty, major=5),
        b"ptmx": Device(b"/dev/ptmx", 2, lambda task, _, flags: open_master(task, flags), major=5),
        b"pts": Directory(b"/dev/pts", _terminals),
        # shm_open(3) and sem_open(3) make files there, which the file server must have.
        b"shm": Symlink(b"/dev/shm", lambda _: b"/tmp"),
        b"fd": Symlink(b"/dev/fd", lambda _: b"/proc/self/fd"),
        b"stdin": Symlink(b"/dev/stdin", lambda _: b"/proc/self/fd/0"),
        b"stdout": Symlink(b"/dev/stdout", lambda _: b"/proc/self/fd/1"),
        b"stderr": Symlink(b"/dev/stderr", lambda _: b"/proc/self/fd/2"),
    }
