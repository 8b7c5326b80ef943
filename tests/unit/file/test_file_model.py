"""Random operations against the host's own file system: the same errnos, the same results, the same tree.

The lower layer and its twin start equal. What the guest does to the union, the host does to the twin. The
server is closed and opened again every now and then; the lower layer must not change at all.
"""

import errno
import hashlib
import os
import random
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from farcall.v1 import file_pb2
from servers.service import ErrnoError, Session
from tests.unit.file.client import (
    APPEND,
    CREATE,
    DIRECTORY,
    EXCLUSIVE,
    PATH,
    READ,
    TRUNCATE,
    WRITE,
    Client,
    at,
)

STEPS = 700
CHECK_EVERY = 100
LOOK_EVERY = 6
RESTART_EVERY = 137
HANDLES_MAX = 10
USER = 1000
NAMES = [b"a", b"b", b"c", b"d", b"e"]
PRIVILEGED = os.geteuid() == 0
PROTECTED_HARDLINKS = Path("/proc/sys/fs/protected_hardlinks").read_text().strip() == "1"
"""Ours always are; a host may have them otherwise."""
SIZES = [0, 1, 10, 4095, 4096, 10_000, 70_000, 200_000]


class Host:
    """The worker of the twin."""

    def __init__(self, directory: Path) -> None:
        worker = Path(__file__).with_name("native_worker.py")
        self._process = subprocess.Popen(
            [sys.executable, str(worker), str(directory)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def call(self, uid: int, name: str, *arguments: Any) -> Any:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(repr((uid, name, *arguments)).encode() + b"\n")
        self._process.stdin.flush()
        return eval(self._process.stdout.readline(), {"__builtins__": {}})

    def close(self) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        try:
            assert self._process.wait(timeout=20) == 0
        finally:
            self._process.kill()
            self._process.wait()
            self._process.stdout.close()


class Guest:
    """The same operations on the file service."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.sessions = {0: client.session, USER: client.as_user(USER, USER)}
        self.owners: dict[int, Session] = {}

    def call(self, uid: int, name: str, *arguments: Any) -> Any:
        handle = arguments[0] if isinstance(arguments[0], int) else 0
        session = self.owners.get(handle, self.sessions[uid])
        try:
            with self.client.acting(session):
                return "ok", getattr(self, name)(*arguments)
        except ErrnoError as error:
            return "errno", error.errno

    def open(self, handle: int, directory: int, path: bytes, flags: int, mode: int) -> None:
        bits = {os.O_RDONLY: READ, os.O_WRONLY: WRITE, os.O_RDWR: READ | WRITE}[flags & os.O_ACCMODE]
        for host, guest in (
            (os.O_CREAT, CREATE),
            (os.O_EXCL, EXCLUSIVE),
            (os.O_TRUNC, TRUNCATE),
            (os.O_DIRECTORY, DIRECTORY),
            (os.O_PATH, PATH),
            (os.O_APPEND, APPEND),
        ):
            bits |= guest if flags & host else 0
        place = at(path, follow=not flags & os.O_NOFOLLOW, directory=directory)
        self.client.call(file_pb2.OpenRequest(place=place, handle=handle, flags=bits, mode=mode))
        self.owners[handle] = self.client.session

    def close(self, handle: int) -> None:
        self.client.close(handle)
        del self.owners[handle]

    def pread(self, handle: int, offset: int, count: int) -> bytes:
        return self.client.read(handle, offset, count)

    def pwrite(self, handle: int, offset: int, data: bytes) -> int:
        return self.client.write(handle, offset, data)

    def append(self, handle: int, data: bytes) -> int:
        return self.client.append(handle, data)

    def ftruncate(self, handle: int, size: int) -> None:
        place = at(b"", directory=handle, empty_ok=True)
        self.client.call(file_pb2.SetAttributesRequest(place=place, size=size))

    def punch(self, handle: int, offset: int, size: int) -> None:
        request = file_pb2.AllocateRequest(handle=handle, offset=offset, size_bytes=size, punch=True)
        self.client.call(request)

    def fallocate(self, handle: int, offset: int, size: int) -> None:
        self.client.call(file_pb2.AllocateRequest(handle=handle, offset=offset, size_bytes=size))

    def fstat(self, handle: int) -> Any:
        return self._described(self.client.stat(b"", directory=handle, empty_ok=True))

    def list(self, handle: int) -> Any:
        try:
            names = [entry.name for entry in self.client.entries(handle, step=3)]
        except ErrnoError as error:
            if error.errno != errno.ENOENT:
                raise
            names = []  # a removed directory: readdir(3) makes an end of it on the host
        return sorted(name for name in names if name not in (b".", b".."))

    def stat(self, path: bytes, follow: bool) -> Any:
        return self._described(self.client.stat(path, follow=follow))

    def access(self, path: bytes, mode: int) -> bool:
        try:
            self.client.call(file_pb2.CheckAccessRequest(place=at(path), mode=mode))
        except ErrnoError:
            return False
        return True

    def mkdir(self, path: bytes, mode: int) -> None:
        self.client.mkdir(path, mode)

    def mkfifo(self, path: bytes, mode: int) -> None:
        self.client.call(file_pb2.MakeNodeRequest(place=at(path), mode=stat.S_IFIFO | mode))

    def mknod(self, path: bytes, mode: int) -> None:
        self.client.call(file_pb2.MakeNodeRequest(place=at(path), mode=mode))

    def symlink(self, target: bytes, path: bytes) -> None:
        self.client.symlink(target, path)

    def readlink(self, path: bytes) -> bytes:
        return self.client.readlink(path)

    def link(self, source: bytes, target: bytes, follow: bool) -> None:
        self.client.call(file_pb2.LinkRequest(source=at(source, follow=follow), target=at(target)))

    def unlink(self, path: bytes) -> None:
        self.client.unlink(path)

    def rmdir(self, path: bytes) -> None:
        self.client.rmdir(path)

    def rename(self, source: bytes, target: bytes, flags: int) -> None:
        self.client.rename(source, target, flags)

    def chmod(self, path: bytes, mode: int) -> None:
        self.client.chmod(path, mode)

    def chown(self, path: bytes, uid: int, gid: int, follow: bool) -> None:
        request = file_pb2.SetAttributesRequest(place=at(path, follow=follow))
        request.uid, request.gid = uid & 0xFFFFFFFF, gid & 0xFFFFFFFF
        self.client.call(request)

    def truncate(self, path: bytes, size: int) -> None:
        self.client.truncate(path, size)

    def utime(self, path: bytes, times: tuple[int, int] | None) -> None:
        request = file_pb2.SetAttributesRequest(place=at(path))
        if times is None:
            request.atime.now = request.mtime.now = True
        else:
            request.atime.time_ns, request.mtime.time_ns = times
        self.client.call(request)

    @staticmethod
    def _described(found: file_pb2.Attributes) -> tuple[int, int, int, int, int]:
        size = 0 if stat.S_ISDIR(found.mode) else found.size
        return found.mode, found.nlink, found.uid, found.gid, size


class Chooser:
    """What to do next, from a seed."""

    def __init__(self, seed: int, twin: Path) -> None:
        self.random = random.Random(seed)
        self.twin = os.fsencode(twin)
        self.directories: list[bytes] = []
        self.existing: list[bytes] = []
        self.handles: dict[int, int] = {}
        """Handle -> uid of its opener."""
        self.next_handle = 1

    def path(self) -> bytes:
        choose = self.random
        if choose.random() < 0.75 and self.existing:
            path = choose.choice(self.existing)
            if choose.random() < 0.5:
                path = choose.choice([*self.directories, b""]) + b"/" + choose.choice(NAMES)
            return path if PRIVILEGED and choose.random() < 0.5 else path[1:]
        parts = [choose.choice(NAMES) for _ in range(choose.choices([1, 2, 3, 4], [4, 4, 2, 1])[0])]
        if PRIVILEGED and choose.random() < 0.15:
            parts[choose.randrange(len(parts))] = choose.choice([b".", b".."])
        path = b"/".join(parts) + (b"/" if choose.random() < 0.06 else b"")
        if choose.random() < 0.01:
            path = choose.choice([b"", b"." if PRIVILEGED else b"a", b"n" * 255, b"n" * 256, b"n/" * 2050])
        if PRIVILEGED and choose.random() < 0.2:
            path = b"/" + path
        return path

    def uid(self) -> int:
        return self.random.choice([0, 0, USER]) if PRIVILEGED else 0

    def bytes(self) -> bytes:
        size = self.random.choice(SIZES)
        return self.random.randbytes(min(size, 64)) * (size // 64 + 1) if size else b""

    def open(self) -> tuple[Any, ...]:
        choose = self.random
        flags = choose.choice([os.O_RDONLY, os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_RDWR])
        for flag, probability in (
            (os.O_CREAT, 0.5),
            (os.O_EXCL, 0.1),
            (os.O_TRUNC, 0.15),
            (os.O_NOFOLLOW, 0.15),
            (os.O_APPEND, 0.15),
        ):
            flags |= flag if choose.random() < probability else 0
        if not flags & os.O_CREAT:  # together they are refused before the server hears of them
            flags |= os.O_DIRECTORY if choose.random() < 0.4 else 0
            flags &= ~os.O_EXCL
        if choose.random() < 0.05:
            flags = os.O_PATH | flags & (os.O_DIRECTORY | os.O_NOFOLLOW)
        uid = self.uid()
        owned = [0] + [handle for handle, owner in self.handles.items() if owner == uid]
        self.next_handle += 1
        mode = choose.choice([0o644, 0o600, 0o4755, 0o666, 0o2775, 0])
        return uid, "open", self.next_handle, choose.choice(owned), self.path(), flags | os.O_NONBLOCK, mode

    def on_handle(self) -> tuple[Any, ...]:
        choose = self.random
        handle = choose.choice(list(self.handles))
        uid = self.handles[handle]
        offset = choose.choice([0, 1, 100, 4000, 4096, 69_000, 150_000, 300_000])
        kind = choose.choice(
            [
                "close",
                "pread",
                "pread",
                "pwrite",
                "pwrite",
                "append",
                "ftruncate",
                "fstat",
                "list",
                "punch",
                "fallocate",
            ]
        )
        arguments: dict[str, tuple[Any, ...]] = {
            "pread": (offset, choose.choice(SIZES)),
            "pwrite": (offset, self.bytes()),
            "append": (self.bytes(),),
            "ftruncate": (choose.choice(SIZES),),
            "punch": (offset, choose.choice(SIZES)),
            "fallocate": (offset, choose.choice(SIZES)),
        }
        return uid, kind, handle, *arguments.get(kind, ())

    def on_path(self) -> tuple[Any, ...]:
        choose = self.random
        owner = choose.choice([-1, 0, USER] if PRIVILEGED else [-1])
        group = choose.choice([-1, 0, USER] if PRIVILEGED else [-1])
        follow = choose.random() < 0.5
        uid = self.uid()
        linker = uid if PROTECTED_HARDLINKS else 0
        times = choose.choice([None, (10**9, 2 * 10**9 + 5)])
        operations: list[tuple[Any, ...]] = [
            ("mkdir", self.path(), choose.choice([0o755, 0o777, 0o700, 0o1777, 0o2777, 0o500])),
            ("mkdir", self.path(), 0o777),
            ("mkfifo", self.path(), 0o644),
            ("mknod", self.path(), stat.S_IFREG | 0o640),
            ("symlink", self.path(), self.path()),
            ("symlink", self.path(), self.path()),
            ("readlink", self.path()),
            ("link", self.path(), self.path(), follow),
            ("link", self.path(), self.path(), follow),
            ("unlink", self.path()),
            ("unlink", self.path()),
            ("rmdir", self.path()),
            ("rmdir", self.path()),
            ("rename", self.path(), self.path(), choose.choice([0, 0, 0, 1, 2])),
            ("rename", self.path(), self.path(), 0),
            ("rename", self.path(), self.path(), 0),
            ("chmod", self.path(), choose.choice([0o755, 0o777, 0o644, 0o4755, 0o2775, 0o1755, 0o600, 0])),
            ("chown", self.path(), owner, group, follow),
            ("truncate", self.path(), choose.choice(SIZES)),
            ("utime", self.path(), times),
            ("stat", self.path(), follow),
            ("access", self.path(), choose.randrange(8)),
        ]
        operation = choose.choice(operations)
        return linker if operation[0] == "link" else uid, *operation

    def look(self) -> None:
        """Notes what the twin holds now: most operations should find something."""
        self.directories, self.existing = [], []
        for directory, directories, files in os.walk(self.twin):
            here = directory[len(self.twin) :]
            self.existing += [here + b"/" + name for name in sorted(files)]
            self.directories += [here + b"/" + name for name in sorted(directories)]
        self.directories = sorted(set(self.directories) - {b"/dev", b"/proc"})
        self.existing = sorted(self.existing) + self.directories

    def next(self) -> tuple[Any, ...]:
        draw = self.random.random()
        if draw < 0.25 and len(self.handles) < HANDLES_MAX:
            return self.open()
        if draw < 0.55 and self.handles:
            return self.on_handle()
        return self.on_path()


def populate(root: Path, seed: int) -> None:
    """The tree both sides start with."""
    choose = random.Random(seed)
    directories = [root]
    for name in (b"a", b"b", b"a/c", b"a/c/d", b"b/a", b"b/e"):
        directory = root / os.fsdecode(name)
        directory.mkdir()
        directory.chmod(choose.choice([0o755, 0o777]))
        directories.append(directory)
    files = []
    for directory in directories:
        for name in NAMES:
            path = directory / os.fsdecode(name)
            if path.exists() or choose.random() < 0.4:
                continue
            draw = choose.random()
            if draw < 0.6:
                path.write_bytes(choose.randbytes(choose.choice(SIZES)))
                path.chmod(choose.choice([0o644, 0o666, 0o755, 0o4755]))
                files.append(path)
                if PRIVILEGED and choose.random() < 0.3:
                    os.chown(path, USER, USER)
            elif draw < 0.8 and files:
                os.link(choose.choice(files), path)
            else:
                path.symlink_to(os.fsdecode(choose.choice(NAMES) + choose.choice([b"", b"/c", b"/e"])))
    for mount in ("dev", "proc"):
        (root / mount).mkdir()


def manifest(root: Path) -> dict[str, tuple[Any, ...]]:
    """Everything about a host tree that a read-only layer must keep."""
    found: dict[str, tuple[Any, ...]] = {}
    for directory, directories, files in os.walk(root):
        for name in [*directories, *files, "."]:
            path = os.path.join(directory, name)
            status = os.lstat(path)
            digest = ""
            if stat.S_ISREG(status.st_mode):
                digest = hashlib.sha256(Path(path).read_bytes()).hexdigest()
            found[path] = (
                status.st_mode,
                status.st_nlink,
                status.st_uid,
                status.st_size,
                status.st_mtime_ns,
                digest,
            )
    return found


def host_tree(root: Path) -> dict[bytes, tuple[Any, ...]]:
    found: dict[bytes, tuple[Any, ...]] = {}
    for directory, directories, files in os.walk(os.fsencode(root)):
        for name in directories + files:
            path = os.path.join(directory, name)
            status = os.lstat(path)
            content: bytes | None = None
            size = 0 if stat.S_ISDIR(status.st_mode) else status.st_size
            if stat.S_ISREG(status.st_mode):
                with open(path, "rb") as file:
                    content = hashlib.sha256(file.read()).digest()
            elif stat.S_ISLNK(status.st_mode):
                content = os.readlink(path)
            key = path[len(os.fsencode(root)) :]
            found[key] = (status.st_mode, status.st_nlink, status.st_uid, status.st_gid, size, content)
    return found


def guest_tree(client: Client, path: bytes = b"") -> Iterator[tuple[bytes, tuple[Any, ...]]]:
    for name in client.names(path or b"/"):
        if name in (b".", b".."):
            continue
        below = path + b"/" + name
        if below in (b"/dev", b"/proc"):
            continue
        found = client.stat(below, follow=False)
        content: bytes | None = None
        size = 0 if stat.S_ISDIR(found.mode) else found.size
        if stat.S_ISREG(found.mode):
            content = hashlib.sha256(client.get(below)).digest()
        elif stat.S_ISLNK(found.mode):
            content = client.readlink(below)
        yield below, (found.mode, found.nlink, found.uid, found.gid, size, content)
        if stat.S_ISDIR(found.mode):
            yield from guest_tree(client, below)


def compare_trees(client: Client, twin: Path) -> None:
    host = host_tree(twin)
    for mount in (b"/dev", b"/proc"):
        del host[mount]
    guest = dict(guest_tree(client))
    assert guest.keys() == host.keys()
    assert {path: (guest[path], host[path]) for path in guest if guest[path] != host[path]} == {}


@pytest.mark.parametrize("seed", range(8))
def test_same_as_the_host(tmp_path: Path, seed: int) -> None:
    lower, twin, state = tmp_path / "lower", tmp_path / "twin", tmp_path / "state"
    lower.mkdir()
    state.mkdir()
    populate(lower, seed)
    subprocess.run(["cp", "-a", str(lower), str(twin)], check=True, timeout=30)
    before = manifest(lower)
    client = Client(state, lower)
    guest, host, chooser = Guest(client), Host(twin), Chooser(seed, twin)
    history: list[Any] = []
    try:
        compare_trees(client, twin)
        for step in range(1, STEPS + 1):
            if step % LOOK_EVERY == 1:
                chooser.look()
            operation = chooser.next()
            expected = host.call(*operation)
            found = guest.call(*operation)
            history.append((operation, expected))
            if expected == ("errno", errno.ENXIO) or found == ("errno", errno.EOPNOTSUPP):
                # A FIFO's open: the host's depends on the other end, ours is refused.
                if expected[0] == "ok" and operation[1] == "open":
                    host.call(operation[0], "close", operation[2])
                continue
            assert found == expected, (step, operation, history[-5:])
            if operation[1] == "open" and expected[0] == "ok":
                chooser.handles[operation[2]] = operation[0]
            if operation[1] == "close":
                chooser.handles.pop(operation[2])
            if step % RESTART_EVERY == 0:
                client.restart()
            if step % CHECK_EVERY == 0:
                compare_trees(client, twin)
    finally:
        host.close()
    for handle, uid in chooser.handles.items():
        guest.call(uid, "close", handle)
    client.restart()
    compare_trees(client, twin)
    client.service.close()
    assert manifest(lower) == before
    shutil.rmtree(twin)
