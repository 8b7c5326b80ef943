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
from typing import Final, NamedTuple

from client_vm.abi import common
from client_vm.abi.common import EINVAL, EOPNOTSUPP, EPIPE, ETOOMANYREFS
from client_vm.descriptors import VIEWS_MAX, OpenFile
from client_vm.errors import Errno
from client_vm.event_files import EventCounter, Timer
from client_vm.host_files import HostBacked, HostStream, OwnDescriptor, PipeEnd, translated
from client_vm.memory_files import MemoryFile
from client_vm.waiting import WouldBlock
from ipc.passing import close_all

PASSED_MAX: Final = 252
"""Descriptions beside one message; the host takes one descriptor more, ours (linux/socket: SCM_MAX_FD)."""
_PASSED: Final = struct.Struct("<BIIII")
"""Of one description: kind, flags; of a socket: the pid, uid and gid that made the pair."""
_TIMEVAL: Final = struct.Struct("<qq")
_FLAGS_KEPT: Final = common.O_ACCMODE | common.O_NONBLOCK | common.O_APPEND
_RIGHTS_BYTES: Final = socket.CMSG_SPACE(4 * (PASSED_MAX + 1))


class Peer(NamedTuple):
    """Who made a pair (SO_PEERCRED)."""

    pid: int
    uid: int
    gid: int


class Received(NamedTuple):
    """One message, or a part of a stream."""

    size_bytes: int
    """Of a datagram with MSG_TRUNC: its own size."""
    flags: int
    files: list[OpenFile]
    """What came beside it; the holder drops them."""


class UnixSocket(OwnDescriptor):
    """One end of a pair."""

    def __init__(self, descriptor: int, flags: int, peer: Peer) -> None:
        super().__init__(descriptor, flags)
        self.peer = peer
        self._socket = socket.socket(fileno=descriptor)
        self._socket.setblocking(False)
        self.kind = self._socket.type
        self.writes_whole = self.kind == socket.SOCK_STREAM

    def release(self) -> None:
        self._socket.detach()
        super().release()

    def patience_s(self, writing: bool) -> float | None:
        """SO_RCVTIMEO, SO_SNDTIMEO."""
        option = common.SO_SNDTIMEO if writing else common.SO_RCVTIMEO
        seconds, micros = _TIMEVAL.unpack(self._socket.getsockopt(socket.SOL_SOCKET, option, _TIMEVAL.size))
        return seconds + micros / 1_000_000 or None

    def send(self, data: memoryview, flags: int, files: list[HostBacked]) -> int:
        """As much as goes without waiting. WouldBlock; Errno, EPIPE among them."""
        beside = -1
        rights: list[tuple[int, int, bytes]] = []
        if files:
            with translated():
                beside = _description_of(files)
            numbers = struct.pack(f"{1 + len(files)}i", beside, *(file.descriptor for file in files))
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, numbers)]
        try:
            return self._socket.sendmsg([data], rights, flags | socket.MSG_NOSIGNAL)
        except BlockingIOError:
            raise WouldBlock(self.writes) from None
        except OSError as error:
            raise Errno(error.errno or EPIPE) from None
        finally:
            if beside >= 0:
                os.close(beside)

    def receive(self, views: list[memoryview], flags: int) -> Received:
        """WouldBlock; Errno."""
        try:
            count, ancillary, out_flags, _ = self._socket.recvmsg_into(
                views[:VIEWS_MAX], _RIGHTS_BYTES, flags | socket.MSG_CMSG_CLOEXEC
            )
        except BlockingIOError:
            raise WouldBlock(self.reads) from None
        except OSError as error:
            raise Errno(error.errno or EINVAL) from None
        numbers = [
            number
            for level, kind, data in ancillary
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS)
            for (number,) in struct.iter_unpack("i", data[: len(data) & ~3])
        ]
        return Received(count, out_flags & ~socket.MSG_CMSG_CLOEXEC, _files_of(numbers))

    def option(self, name: int, size_bytes: int) -> bytes:
        """getsockopt(2) at SOL_SOCKET. Errno."""
        with translated():
            return self._socket.getsockopt(socket.SOL_SOCKET, name, size_bytes)

    def set_option(self, name: int, value: bytes) -> None:
        """setsockopt(2) at SOL_SOCKET. Errno."""
        with translated():
            self._socket.setsockopt(socket.SOL_SOCKET, name, value)

    def shut_down(self, how: int) -> None:
        """shutdown(2). Errno."""
        with translated():
            self._socket.shutdown(how)


def make_pair(kind: int, flags: int, peer: Peer) -> tuple[UnixSocket, UnixSocket]:
    """socketpair(2). Errno(EMFILE)."""
    with translated():
        first, second = socket.socketpair(socket.AF_UNIX, kind)
    status = common.O_RDWR | flags & common.O_NONBLOCK
    return UnixSocket(first.detach(), status, peer), UnixSocket(second.detach(), status, peer)


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
