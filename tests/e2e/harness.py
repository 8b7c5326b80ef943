"""Two worlds that run the same command line: native Linux in a changed root, and farcall in each deployment.

What both leave behind is read the same way, by `tar c` in the world itself, and compared as a Tree.
"""

import contextlib
import ctypes
import hashlib
import io
import os
import select
import shlex
import socket
import struct
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tests.e2e import roots
from tests.e2e.commands_busybox import Line
from tests.e2e.filters import FILTERS, same_time

ARCHS = ("x86_64", "arm64")
DEPLOYMENTS = ("ring", "grpc-unix", "grpc-tcp", "inproc")
ENVIRONMENT = {"PATH": "/bin", "HOME": "/", "TZ": "UTC", "LC_ALL": "C"}
FARCALL = Path(sys.executable).parent / "farcall"
DIRECTORY = "/w"
LIMIT_S = 60.0
OBSERVE = "tar c -C / -f - w tmp etc"
ETH_P_IP = 0x0800
SO_ATTACH_FILTER = 26
DEVICES = {"null": (1, 3), "zero": (1, 5), "full": (1, 7), "urandom": (1, 9), "tty": (5, 0)}


@dataclass(frozen=True)
class Ran:
    """What one command line did. `status` is a shell's, or says that the limit was reached."""

    stdout: bytes
    stderr: bytes
    status: int | str


@dataclass(frozen=True)
class Entry:
    """One object of a tree. `what`: a regular file's sha256, a symlink's target; `names`: its hard links."""

    kind: str
    mode: int
    uid: int
    gid: int
    size: int
    mtime_s: int
    what: str
    names: tuple[str, ...]


@dataclass(frozen=True)
class Tree:
    """Everything beneath /w, /tmp and /etc, and the seconds since 1970 between which it was worked on."""

    entries: dict[str, Entry]
    window_s: tuple[int, int]


class World(Protocol):
    """A root in some state that lasts from one command line to the next."""

    def run(self, command: str, stdin: bytes = b"", proc: bool = False) -> Ran:
        """Runs one applet's command line in /w. Never takes longer than LIMIT_S."""
        ...


def _bounded(argv: list[str], stdin: bytes) -> Ran:
    try:
        done = subprocess.run(
            argv,
            input=stdin,
            capture_output=True,
            timeout=LIMIT_S,
            env=ENVIRONMENT,
            cwd="/",
            umask=0o022,
            check=False,
        )
    except subprocess.TimeoutExpired as late:
        return Ran(late.stdout or b"", late.stderr or b"", f"ended by the test after {LIMIT_S} s")
    return Ran(done.stdout, done.stderr, done.returncode)


class Native:
    """The oracle, in a root of its own."""

    def __init__(self, root: Path) -> None:
        self._root = roots.build(root, roots.native_busybox())
        for name, (major, minor) in DEVICES.items():
            os.mknod(root / "dev" / name, 0o20666, os.makedev(major, minor))

    def run(self, command: str, stdin: bytes = b"", proc: bool = False) -> Ran:
        door = [sys.executable, "-I", "-S", str(Path(__file__).with_name("native.py"))]
        where = [str(self._root), DIRECTORY, "proc" if proc else "-"]
        return _bounded([*door, *where, "/bin/busybox", *shlex.split(command)], stdin)


class Guest:
    """farcall with what `placement` adds to its command line. `addresses`: of servers started by hand."""

    def __init__(self, placement: list[str], addresses: tuple[str, ...] = ()) -> None:
        self.options = placement
        self.addresses = addresses

    def run(self, command: str, stdin: bytes = b"", proc: bool = False) -> Ran:
        run = [str(FARCALL), "run", *self.options, "-w", DIRECTORY, "--"]
        return _bounded([*run, "/bin/busybox", *shlex.split(command)], stdin)


@contextlib.contextmanager
def guest(deployment: str, root: Path, state: Path, *, by_hand: bool = False) -> Iterator[Guest]:
    """A guest world over `root`, its file server's state in the directory `state`.

    The grpc deployments' servers are started by hand; with `by_hand` the ring's are, too, and serve all runs.
    """
    state.mkdir(parents=True, exist_ok=True)
    if deployment == "inproc" or (deployment == "ring" and not by_hand):
        yield Guest(["--root", str(root), "--state", str(state), "--transport", deployment])
        return
    with tempfile.TemporaryDirectory(prefix="farcall-test-") as sockets, contextlib.ExitStack() as servers:
        addresses = []
        for server, own in (("file", ["--root", str(root), "--state", str(state)]), ("memory", [])):
            listen = "127.0.0.1:0" if deployment == "grpc-tcp" else f"unix:{sockets}/{server}"
            addresses.append(servers.enter_context(serving(server, "--listen", listen, *own)).address)
        transport = "ring" if deployment == "ring" else "grpc"
        placement = ["--transport", transport, "--file", addresses[0], "--memory", addresses[1]]
        yield Guest(placement, tuple(addresses))


@dataclass(frozen=True)
class Server:
    """A server started by hand that said it is ready."""

    process: subprocess.Popen[str]
    address: str


@contextlib.contextmanager
def serving(*arguments: str) -> Iterator[Server]:
    """A server started by hand; ended by SIGTERM, which it must obey at once and without a word."""
    command = [str(FARCALL), "serve", *arguments]
    with (
        tempfile.TemporaryFile() as messages,
        subprocess.Popen(
            command,
            env=ENVIRONMENT,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=messages,
            text=True,
        ) as server,
    ):
        try:
            yield Server(server, _address(server))
        finally:
            server.terminate()
            try:
                status: int | str = server.wait(LIMIT_S)
            except subprocess.TimeoutExpired:
                server.kill()
                status = "killed: it did not end"
            messages.seek(0)
            said = messages.read()
        assert (status, said) == (0, b""), f"{command} ended with {status}: {said[-3000:]!r}"


def _address(server: subprocess.Popen[str]) -> str:
    """Where the server listens, from its first line of output: "ready ADDR"."""
    assert server.stdout is not None
    readable, _, _ = select.select([server.stdout], [], [], LIMIT_S)
    line = server.stdout.readline() if readable else ""
    assert line.startswith("ready "), f"the server said {line!r}"
    return line.split()[1]


@contextlib.contextmanager
def counting_packets(ports: list[int]) -> Iterator[Callable[[], dict[int, int]]]:
    """Counts the TCP packets to each port on the loopback device since the block began (packet(7); root).

    At least: what does not fit the socket's buffer is not counted. The filter keeps other traffic out of it.
    """
    with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0) as listener:
        program = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in _to(ports)))
        filter_ = struct.pack("@HP", len(program) // 8, ctypes.addressof(program))
        listener.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, filter_)
        listener.bind(("lo", ETH_P_IP))
        listener.setblocking(False)

        def count() -> dict[int, int]:
            counts = dict.fromkeys(ports, 0)
            with contextlib.suppress(BlockingIOError):
                while packet := listener.recv(64):
                    header_bytes = (packet[0] & 15) * 4
                    counts[int.from_bytes(packet[header_bytes + 2 : header_bytes + 4], "big")] += 1
            return counts

        yield count


def _to(ports: list[int]) -> Iterator[tuple[int, int, int, int]]:
    """A classic BPF program (linux/filter.h): IPv4 packets of TCP to one of the ports pass."""
    last = len(ports)
    yield 0x30, 0, 0, 9  # A = protocol
    yield 0x15, 0, last + 2, socket.IPPROTO_TCP
    yield 0xB1, 0, 0, 0  # X = length of the IP header
    yield 0x48, 0, 0, 2  # A = destination port
    for number, port in enumerate(ports):
        yield 0x15, last - number, 0, port
    yield 0x06, 0, 0, 0  # refuse
    yield 0x06, 0, 0, 64  # accept so many bytes


def observe(world: World, begin_s: float) -> Tree:
    """What stands in the world now, everything in it having happened since `begin_s` (seconds since 1970)."""
    ran = world.run(OBSERVE)
    assert (ran.status, ran.stderr) == (0, b""), f"{OBSERVE}: {ran.status} {ran.stderr[-2000:]!r}"
    return read_tree(ran.stdout, begin_s)


def read_tree(archive: bytes, begin_s: float) -> Tree:
    """What a tar file of a world holds, everything in it having happened since `begin_s`."""
    entries: dict[str, Entry] = {}
    names: dict[str, list[str]] = {}
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        for member in tar:
            first = member.linkname if member.islnk() else member.name
            names.setdefault(first, []).append(member.name)
            data = tar.extractfile(first) if member.isreg() or member.islnk() else None
            content = hashlib.sha256(data.read()).hexdigest() if data else member.linkname
            seen = tar.getmember(first) if member.islnk() else member
            entries[member.name] = Entry(
                kind=seen.type.decode(),
                mode=seen.mode,
                uid=seen.uid,
                gid=seen.gid,
                size=seen.size,
                mtime_s=int(seen.mtime),
                what=content,
                names=(),
            )
    for group in names.values():
        for name in group:
            entries[name] = Entry(**{**vars(entries[name]), "names": tuple(sorted(group))})
    return Tree(entries, (int(begin_s) - 1, int(time.time()) + 1))


def filtered(line: Line, output: bytes) -> bytes:
    """The output as far as the two worlds must agree on it."""
    for name in line.filters:
        output = FILTERS[name].apply(output)
    return output


def differences(native: Tree, other: Tree) -> list[str]:
    """What stands in one tree and not, or otherwise, in the other; one line each."""
    found = []
    for name in sorted(native.entries.keys() | other.entries.keys()):
        left, right = native.entries.get(name), other.entries.get(name)
        if left is None or right is None:
            found.append(f"{name!r}: only in {'the guest' if left is None else 'native Linux'}")
            continue
        for key, value in vars(left).items():
            theirs = getattr(right, key)
            if key == "mtime_s":
                same = same_time(value, native.window_s, theirs, other.window_s)
            else:
                same = value == theirs
            if not same:
                found.append(f"{name!r}: {key} is {theirs!r}, native Linux has {value!r}")
    return found


def installed_differs() -> str:
    """Why .venv's `farcall` is not the code of this checkout; empty if it is."""
    if not FARCALL.exists():
        return f"{FARCALL} is missing: pip --python .venv install '.[test]'"
    probe = "import client_vm as c, ipc as i, servers as s; print(*c.__path__, *i.__path__, *s.__path__)"
    found = subprocess.run(
        [sys.executable, "-I", "-c", probe], capture_output=True, text=True, cwd="/", timeout=60, check=False
    )
    if found.returncode:
        return f"farcall is not installed beside {sys.executable}: {found.stderr[-300:]}"
    for path in map(Path, found.stdout.split()):
        source = roots.CHECKOUT / path.name
        for module in source.rglob("*.py"):
            copy = path / module.relative_to(source)
            if not copy.exists() or copy.read_bytes() != module.read_bytes():
                return f"{copy} is not {module}: install again"
    return ""
