"""What every family's sockets have in common (socket(7)), as the system calls see them.

A socket's host descriptor is one end of a pair of unix sockets of the host, non-blocking: poll, epoll, fork and
exec work by themselves, and options of level SOL_SOCKET are kept by the host. Addresses are the bytes of a struct
sockaddr. What a family does not offer fails as Linux says; nothing here waits (client_vm.waiting).
"""

import socket
import struct
from typing import TYPE_CHECKING, Final, NamedTuple

from client_vm.abi import common
from client_vm.abi.common import EINVAL, ENOPROTOOPT, ENOTTY, EOPNOTSUPP, EPIPE
from client_vm.descriptors import VIEWS_MAX, OpenFile
from client_vm.errors import Errno
from client_vm.host_files import OwnDescriptor, translated
from client_vm.waiting import Blocking, WouldBlock

if TYPE_CHECKING:
    from client_vm.process import Task

CONTROL_BYTES_MAX: Final = 2048
"""Of ancillary data that the host has beside one message."""
OPTION_BYTES_MAX: Final = 256
"""Of what setsockopt(2) is given."""
HOST_OPTIONS: Final = frozenset(
    (
        common.SO_ERROR, common.SO_SNDBUF, common.SO_RCVBUF, common.SO_KEEPALIVE, common.SO_REUSEADDR,
        common.SO_REUSEPORT, common.SO_BROADCAST, common.SO_LINGER, common.SO_OOBINLINE, common.SO_PRIORITY,
        common.SO_DONTROUTE, common.SO_RCVLOWAT, common.SO_RCVTIMEO, common.SO_SNDTIMEO, common.SO_PEEK_OFF,
        common.SO_TIMESTAMP, common.SO_TIMESTAMPNS, common.SO_NO_CHECK, common.SO_ZEROCOPY,
        common.SO_INCOMING_CPU, common.SO_BUSY_POLL, common.SO_SELECT_ERR_QUEUE,
    )
)  # fmt: skip
"""Of SOL_SOCKET: the host's answers are the guest's."""
_TIMEVAL: Final = struct.Struct("<qq")
_REQUESTS: Final = (common.FIONREAD, common.SIOCOUTQ, common.SIOCATMARK)
"""What the host may be asked about a socket; of its interfaces a guest knows nothing."""

Control = tuple[int, int, bytes]
"""One piece of ancillary data (cmsg(3)): level, type, data."""


class Beside(NamedTuple):
    """What goes beside a message, checked."""

    files: tuple[OpenFile, ...] = ()
    control: tuple[Control, ...] = ()


NOTHING: Final = Beside()


class Destination:
    """Where one message goes, if its caller said so. Whoever has it closes it."""

    def __init__(self, address: bytes) -> None:
        self.address = address

    def close(self) -> None:
        """It is not needed any more."""


class Received(NamedTuple):
    """One message, or a part of a stream."""

    size_bytes: int
    """Of a datagram with MSG_TRUNC: its own size."""
    flags: int
    files: tuple[OpenFile, ...] = ()
    """What came beside it; the holder drops them."""
    address: bytes = b""
    """Who sent it; empty: it has no name, or the family tells none."""
    control: tuple[Control, ...] = ()
    """Ancillary data, but for files."""


class Socket(OwnDescriptor):
    """A socket of the guest. `kind`: SOCK_*."""

    sent_flags: int = common.MSG_EOR | common.MSG_MORE
    """Flags of send(2) that the host gets; the others are the system calls' business, or ignored."""
    received_flags: int = common.MSG_PEEK | common.MSG_TRUNC

    def __init__(self, descriptor: int, flags: int, family: int, kind: int, protocol: int = 0) -> None:
        super().__init__(descriptor, flags)
        self.family = family
        self.kind = kind
        self.protocol = protocol
        self.near = socket.socket(fileno=descriptor)
        """Our end of the host's pair."""
        self.near.setblocking(False)
        self.writes_whole = kind == common.SOCK_STREAM

    def release(self) -> None:
        self.near.detach()
        super().release()

    def patience_s(self, writing: bool) -> float | None:
        """SO_RCVTIMEO, SO_SNDTIMEO."""
        option = common.SO_SNDTIMEO if writing else common.SO_RCVTIMEO
        seconds, micros = _TIMEVAL.unpack(self.near.getsockopt(socket.SOL_SOCKET, option, _TIMEVAL.size))
        return seconds + micros / 1_000_000 or None

    def ioctl(self, request: int, argument: bytes) -> bytes:
        """As OpenFile; requests of netdevice(7) come with their struct, too."""
        if request not in _REQUESTS:
            raise Errno(ENOTTY)
        return super().ioctl(request, argument)

    # Names and connections.

    @property
    def listens(self) -> bool:
        """SO_ACCEPTCONN."""
        return False

    def bind(self, task: "Task", address: bytes) -> None:
        """bind(2)'s errnos."""
        raise Errno(EOPNOTSUPP)

    def listen(self, task: "Task", backlog: int) -> None:
        """listen(2)'s errnos."""
        raise Errno(EOPNOTSUPP)

    def connect(self, task: "Task", address: bytes) -> "int | Blocking":
        """Looks at O_NONBLOCK itself. connect(2)'s errnos; what it yields is bounded by SO_SNDTIMEO, whose end
        is thrown in as EAGAIN."""
        raise Errno(EOPNOTSUPP)

    def accept(self) -> "tuple[Socket, bytes]":
        """The next connection, blocking, and its peer's address. WouldBlock; accept(2)'s errnos."""
        raise Errno(EOPNOTSUPP)

    def name(self, task: "Task") -> bytes:
        """getsockname(2)."""
        raise Errno(EOPNOTSUPP)

    def peer_name(self, task: "Task") -> bytes:
        """getpeername(2). Errno(ENOTCONN)."""
        raise Errno(EOPNOTSUPP)

    def shut_down(self, how: int) -> None:
        """shutdown(2). Errno."""
        with translated():
            self.near.shutdown(how)

    # Messages.

    def beside(self, task: "Task", control: list[Control]) -> Beside:
        """What a sender put beside a message, checked. Errno(EINVAL), and the family's.

        SCM_RIGHTS and SCM_CREDENTIALS mean something to unix sockets only, and nothing to others
        (net/core/sock.c: __sock_cmsg_send); other levels are the family's.
        """
        for level, kind, _ in control:
            if level == common.SOL_SOCKET and kind not in (common.SCM_RIGHTS, common.SCM_CREDENTIALS):
                raise Errno(EINVAL)
        return NOTHING

    def destination(self, task: "Task", address: bytes) -> Destination | None:
        """What send(2) is told to send to, checked; None: it does not matter. Errno."""
        return Destination(address)

    def send(self, data: memoryview, flags: int, beside: Beside, to: Destination | None) -> int:
        """As much as goes without waiting. WouldBlock; Errno, EPIPE among them."""
        try:
            return self.near.send(data, flags & self.sent_flags | common.MSG_NOSIGNAL)
        except BlockingIOError:
            raise WouldBlock(self.writes) from None
        except OSError as error:
            raise Errno(error.errno or EPIPE) from None

    def send_by(
        self,
        host: socket.socket,
        parts: list[memoryview],
        flags: int,
        control: list[tuple[int, int, bytes]] | tuple[()] = (),
    ) -> int:
        """One sendmsg(2) of the host's. WouldBlock; Errno."""
        try:
            return host.sendmsg(parts, control, flags & self.sent_flags | common.MSG_NOSIGNAL)
        except BlockingIOError:
            raise WouldBlock(self.writes) from None
        except OSError as error:
            raise Errno(error.errno or EPIPE) from None

    def receive(self, views: list[memoryview], flags: int) -> Received:
        """WouldBlock; Errno."""
        count, control, out_flags = self.receive_from_host(views, flags)
        return Received(count, out_flags, (), b"", tuple(control))

    def receive_from_host(
        self, views: list[memoryview], flags: int, control_bytes: int = CONTROL_BYTES_MAX
    ) -> tuple[int, list[Control], int]:
        """(bytes, ancillary data, flags) of one recvmsg(2) of the host's. WouldBlock; Errno."""
        wanted = flags & self.received_flags | common.MSG_CMSG_CLOEXEC
        try:
            count, control, out_flags, _ = self.near.recvmsg_into(views[:VIEWS_MAX], control_bytes, wanted)
        except BlockingIOError:
            raise WouldBlock(self.reads) from None
        except OSError as error:
            raise Errno(error.errno or EINVAL) from None
        return count, control, out_flags & ~common.MSG_CMSG_CLOEXEC

    # Options.

    def option(self, level: int, name: int, size_bytes: int) -> bytes:
        """getsockopt(2): no more than size_bytes of it. Errno: ENOPROTOOPT, EOPNOTSUPP."""
        if level != common.SOL_SOCKET:
            raise Errno(EOPNOTSUPP)
        own = {
            common.SO_TYPE: self.kind,
            common.SO_DOMAIN: self.family,
            common.SO_PROTOCOL: self.protocol,
            common.SO_ACCEPTCONN: int(self.listens),
        }
        if name in own:
            return own[name].to_bytes(4, "little")[:size_bytes]
        if name not in HOST_OPTIONS:
            raise Errno(ENOPROTOOPT)
        with translated():
            return self.near.getsockopt(socket.SOL_SOCKET, name, min(size_bytes, _TIMEVAL.size))

    def set_option(self, level: int, name: int, value: bytes) -> None:
        """setsockopt(2); `value` is as long as the guest says, but not longer than OPTION_BYTES_MAX. Errno."""
        if level != common.SOL_SOCKET:
            raise Errno(EOPNOTSUPP)
        if len(value) < 4:
            raise Errno(EINVAL)
        if name not in HOST_OPTIONS or name == common.SO_ERROR:
            raise Errno(ENOPROTOOPT)
        with translated():
            self.near.setsockopt(socket.SOL_SOCKET, name, value)
