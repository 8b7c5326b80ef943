"""Unix sockets of the guest (unix(7)): pairs of the host's, non-blocking, with descriptions beside the data.

What SCM_RIGHTS carries between workers is the host descriptor of each description and, before them, a memfd that
says what they are; its reader trusts nothing of it. A description that was passed has its offset in common with
the sender's, if it has one; its status flags are copied.
"""

import fcntl
import os
import socket
import struct
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final, NamedTuple

from client_vm.abi import common
from client_vm.abi.common import EINVAL, EOPNOTSUPP, ETOOMANYREFS
from client_vm.descriptors import OpenFile
from client_vm.errors import Errno
from client_vm.event_files import EventCounter, Timer
from client_vm.host_files import HostBacked, HostStream, PipeEnd, translated
from client_vm.memory_files import MemoryFile
from client_vm.sockets import Beside, Control, Destination, Received, Socket
from ipc.passing import close_all

if TYPE_CHECKING:
    from client_vm.process import Task

PASSED_MAX: Final = 252
"""Descriptions beside one message; the host takes one descriptor more, ours (linux/socket: SCM_MAX_FD)."""
_PASSED: Final = struct.Struct("<BIIII")
"""Of one description: kind, flags; of a socket: the pid, uid and gid that made the pair."""
_FLAGS_KEPT: Final = common.O_ACCMODE | common.O_NONBLOCK | common.O_APPEND
NO_NAME: Final = common.AF_UNIX.to_bytes(2, "little")
"""struct sockaddr_un of a socket without a name (unix(7))."""
_RIGHTS_BYTES: Final = socket.CMSG_SPACE(4 * (PASSED_MAX + 1))


class Peer(NamedTuple):
    """Who made a pair (SO_PEERCRED)."""

    pid: int
    uid: int
    gid: int


class UnixSocket(Socket):
    """One end of a pair."""

    def __init__(self, descriptor: int, flags: int, peer: Peer) -> None:
        super().__init__(descriptor, flags, common.AF_UNIX, 0)
        self.kind = int(self.near.type)
        self.writes_whole = self.kind == common.SOCK_STREAM
        self.peer = peer

    # Names: ends of pairs have none (unix(7)).

    def name(self, task: "Task") -> bytes:
        return NO_NAME

    def peer_name(self, task: "Task") -> bytes:
        return NO_NAME

    def destination(self, task: "Task", address: bytes) -> Destination | None:
        """A pair's ends have their peer; nobody has a name that could be sent to."""
        if self.kind == common.SOCK_SEQPACKET:
            return None
        raise Errno(common.EISCONN if self.kind == common.SOCK_STREAM else common.ECONNREFUSED)

    # Messages.

    def beside(self, task: "Task", control: list[Control]) -> Beside:
        """Errno: EBADF, EINVAL, EPERM; passable's."""
        fds: list[int] = []
        for level, kind, data in control:
            if level != common.SOL_SOCKET:
                continue
            if kind == common.SCM_CREDENTIALS:
                _check_credentials(task, data)
            elif kind == common.SCM_RIGHTS:
                fds += memoryview(data[: len(data) & ~3]).cast("i").tolist()
            else:
                raise Errno(EINVAL)
        return Beside(tuple(passable([task.process.fds.get(fd) for fd in fds])))

    def send(self, data: memoryview, flags: int, beside: Beside, to: Destination | None) -> int:
        if flags & common.MSG_OOB:
            raise Errno(EOPNOTSUPP)
        if not beside.files:
            return self.send_by(self.near, [data], flags)
        files = [file for file in beside.files if isinstance(file, HostBacked)]
        with translated():
            description = _description_of(files)
        try:
            numbers = struct.pack(f"{1 + len(files)}i", description, *(file.descriptor for file in files))
            return self.send_by(self.near, [data], flags, [(socket.SOL_SOCKET, socket.SCM_RIGHTS, numbers)])
        finally:
            os.close(description)

    def receive(self, views: list[memoryview], flags: int) -> Received:
        if flags & common.MSG_OOB:
            raise Errno(EOPNOTSUPP)
        count, control, out_flags = self.receive_from_host(views, flags, _RIGHTS_BYTES)
        numbers = [
            number
            for level, kind, data in control
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS)
            for (number,) in struct.iter_unpack("i", data[: len(data) & ~3])
        ]
        return Received(count, out_flags, tuple(_files_of(numbers)))

    def option(self, level: int, name: int, size_bytes: int) -> bytes:
        if (level, name) == (common.SOL_SOCKET, common.SO_PEERCRED):
            return common.ucred.pack(**self.peer._asdict())[:size_bytes]
        return super().option(level, name, size_bytes)


def _check_credentials(task: "Task", data: bytes) -> None:
    """What a sender names is its own; nobody can ask for it (SO_PASSCRED). Errno: EINVAL, EPERM."""
    if len(data) != common.ucred.size:
        raise Errno(EINVAL)
    who = task.process.credentials
    pid, uid, gid = common.ucred.codec.unpack(data)
    own = uid in (who.uid, who.euid, who.suid) and gid in (who.gid, who.egid, who.sgid)
    if pid != task.process.pid or not own:
        raise Errno(common.EPERM)


def socket_pair(task: "Task", kind: int, protocol: int, flags: int) -> tuple[UnixSocket, UnixSocket]:
    """socketpair(2). Errno: EPROTONOSUPPORT, ESOCKTNOSUPPORT, EMFILE."""
    kind = _checked_kind(kind, protocol)
    with translated():
        first, second = socket.socketpair(socket.AF_UNIX, kind)
    who = task.process.credentials
    peer = Peer(task.process.pid, who.euid, who.egid)
    return UnixSocket(first.detach(), flags, peer), UnixSocket(second.detach(), flags, peer)


def _checked_kind(kind: int, protocol: int) -> int:
    """Errno: EPROTONOSUPPORT, ESOCKTNOSUPPORT."""
    if protocol not in (0, common.AF_UNIX):
        raise Errno(common.EPROTONOSUPPORT)
    if kind == common.SOCK_RAW:
        return common.SOCK_DGRAM  # as af_unix.c does
    if kind not in (common.SOCK_STREAM, common.SOCK_DGRAM, common.SOCK_SEQPACKET):
        raise Errno(common.ESOCKTNOSUPPORT)
    return kind


# -- descriptions beside messages ---------------------------------------------------------------------


def _memory_file(descriptor: int) -> MemoryFile:
    name = os.fsencode(os.readlink(f"/proc/self/fd/{descriptor}"))
    return MemoryFile(descriptor, name.removeprefix(b"/memfd:").removesuffix(b" (deleted)"))


_Maker = Callable[[int, int, Peer], HostBacked]
_KINDS: Final[tuple[tuple[type[HostBacked], _Maker], ...]] = (
    (PipeEnd, lambda number, flags, _: PipeEnd(number, flags)),
    (UnixSocket, UnixSocket),
    (EventCounter, lambda number, flags, _: EventCounter(number, flags)),
    (Timer, lambda number, flags, _: Timer(number, flags)),
    (HostStream, lambda number, _flags, _: HostStream(number)),
    (MemoryFile, lambda number, _flags, _: _memory_file(number)),
)
"""By their place here: what may be passed, and how it is made anew."""


def passable(files: Iterable[OpenFile]) -> list[HostBacked]:
    """The same files, if all of them can be passed. Errno: ETOOMANYREFS; EOPNOTSUPP: what is more than a
    descriptor of the host (a file of the file server, an epoll instance, a signalfd)."""
    passed = [file for file in files if isinstance(file, HostBacked)]
    if len(passed) != len(list(files)) or any(_kind_of(file) is None for file in passed):
        raise Errno(EOPNOTSUPP)
    if len(passed) > PASSED_MAX:
        raise Errno(ETOOMANYREFS)
    return passed


def _kind_of(file: HostBacked) -> int | None:
    return next((index for index, (kind, _) in enumerate(_KINDS) if type(file) is kind), None)


def _description_of(files: list[HostBacked]) -> int:
    """A sealed memfd that says what the files are. OSError."""
    rows = bytearray()
    for file in files:
        peer = file.peer if isinstance(file, UnixSocket) else Peer(0, 0, 0)
        rows += _PASSED.pack(_kind_of(file) or 0, file.flags & _FLAGS_KEPT, *peer)
    descriptor = os.memfd_create("farcall-passed", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.write(descriptor, rows)
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK)
    return descriptor


def _files_of(numbers: list[int]) -> list[OpenFile]:
    """What was passed; nothing, if it is not as `send` makes it."""
    if not numbers:
        return []
    beside, *rest = numbers
    try:
        rows = os.pread(beside, _PASSED.size * PASSED_MAX, 0)
    except OSError:
        rows = b""
    finally:
        os.close(beside)
    if len(rows) != _PASSED.size * len(rest):
        close_all(rest)
        return []
    files: list[OpenFile] = []
    for number, (kind, flags, pid, uid, gid) in zip(rest, _PASSED.iter_unpack(rows), strict=True):
        try:
            files.append(_KINDS[kind][1](number, flags & _FLAGS_KEPT, Peer(pid, uid, gid)))
        except (OSError, IndexError):
            os.close(number)
    return files
