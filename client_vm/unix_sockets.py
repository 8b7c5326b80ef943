"""Unix sockets of the guest (unix(7)): near ends of the host's pairs, non-blocking.

The ends of a pair, and of a connection, are two guests': nobody is between them. What is not connected yet has
its far end at the kernel process (client_vm.unix_broker). Datagrams that come by name have their sender's before
them (client_vm.unix_records); they are packets of the host's, so that a far end hangs up.

Whether a socket listens or is connected is known to all who share its description, as its offset is of a file.
"""

import os
import select
import socket
import struct
from typing import TYPE_CHECKING, Final

from client_vm import passed
from client_vm.abi import common
from client_vm.abi.common import EAGAIN, ECONNREFUSED, EINVAL, EOPNOTSUPP, EPIPE
from client_vm.errors import Errno
from client_vm.host_files import host_call, is_ready, translated
from client_vm.sockets import CONTROL_BYTES_MAX, NOTHING, Beside, Control, Destination, Received, Socket
from client_vm.unix_names import find, make_file, parse
from client_vm.unix_records import (
    ADDRESS_BYTES_MAX,
    NO_NAME,
    NOBODY,
    SENDER_BYTES,
    Peer,
    decode_record,
    decode_sender,
    encode_sender,
)
from client_vm.waiting import Blocking, Wait, WouldBlock
from ipc.passing import receive_descriptors
from ipc.records import RECORD_BYTES

if TYPE_CHECKING:
    from client_vm.house import House
    from client_vm.process import Task

_FRESH, _LISTENING, _CONNECTED = range(3)
_PASSED: Final = struct.Struct(f"<BBBBIII16sB{ADDRESS_BYTES_MAX}sB{ADDRESS_BYTES_MAX}s")
"""What a reader of a passed one must know: kind, state, whether its datagrams are framed and it has a token; its
peer, the token, its name and that of its peer."""
_RIGHTS_MAX: Final = 253
"""Beside one message (linux/socket.h: SCM_MAX_FD)."""
_RIGHTS_BYTES: Final = socket.CMSG_SPACE(4 * (passed.PASSED_MAX + 1)) + CONTROL_BYTES_MAX
_FULL_BYTES: Final = 2048
"""Written by a listening socket to its far end, where nobody reads: then it is not writable (unix_writable)."""
_RECORD_DESCRIPTORS: Final = 1 + socket.CMSG_SPACE(common.ucred.size) // 4
"""Room for a connection's, and for credentials before it, which the host tells if SO_PASSCRED is set."""
_UCRED: Final = common.ucred.codec


class _Reached(Destination):
    """The far end of whom a datagram is for."""

    def __init__(self, descriptor: int) -> None:
        super().__init__(b"")
        self.end = socket.socket(fileno=descriptor)

    def close(self) -> None:
        self.end.close()


class UnixSocket(Socket):
    """Any of them."""

    sent_flags = common.MSG_EOR | common.MSG_MORE

    def __init__(
        self, house: "House", descriptor: int, flags: int, kind: int, *, token: bytes = b"", framed: bool = False
    ) -> None:
        """`token`: by which the kernel process knows it. `framed`: what it receives has a name before it."""
        super().__init__(descriptor, flags, common.AF_UNIX, kind)
        self._house = house
        self._token = token
        self._framed = framed
        self._connected = False
        """Known to be, for good: streams are never taken apart."""
        self._name = b""
        self._peer_name = b""
        self.peer = NOBODY
        self._end: socket.socket | None = None
        """The far end of whom its datagrams go to."""
        self._shut = 0
        """Directions of datagrams that are shut down: 1 << SHUT_RD, 1 << SHUT_WR."""

    def release(self) -> None:
        self._let_go()
        super().release()

    def _let_go(self) -> None:
        if self._end is not None:
            self._end.close()
            self._end = None

    def connected_to(self, peer: Peer, name: bytes, peer_name: bytes) -> None:
        """It is, for good, whoever shares it."""
        self.peer, self._name, self._peer_name = peer, name, peer_name
        self.offset = _CONNECTED
        self._connected = True

    @property
    def listens(self) -> bool:
        return not self._connected and self.offset == _LISTENING

    def _check_connected(self, errno: int) -> None:
        if not self._connected:
            if self.offset != _CONNECTED:
                raise Errno(errno)
            self._connected = not self._framed

    # Names.

    def bind(self, task: "Task", address: bytes) -> None:
        if len(address) >= len(NO_NAME) and not address.startswith(NO_NAME):
            raise Errno(EINVAL)
        if not len(NO_NAME) <= len(address) <= ADDRESS_BYTES_MAX:
            raise Errno(EINVAL)
        if self.name(task) != NO_NAME:
            if len(address) == len(NO_NAME):
                return
            raise Errno(EINVAL)
        with make_file(task, address) as name:
            self._name = task.process.link.bind_socket(self._token, name) if self._token else name.address

    def name(self, task: "Task") -> bytes:
        if not self._name and self._token and self._offsets is not None and not self._connected:
            try:  # somebody else who has it may have bound it
                self._name = _known(task.process.link.get_socket(self._token)[0])
            except Errno:
                return NO_NAME  # it was connected by them
        return self._name or NO_NAME

    def peer_name(self, task: "Task") -> bytes:
        self._check_connected(common.ENOTCONN)
        if self._framed and not self._peer_name:
            self._peer_name = _known(task.process.link.get_socket(self._token)[1])
        return self._peer_name or NO_NAME

    # Connections.

    def listen(self, task: "Task", backlog: int) -> None:
        if self.kind == common.SOCK_DGRAM:
            raise Errno(EOPNOTSUPP)
        if not self._token:
            raise Errno(EINVAL)
        task.process.link.listen_socket(self._token, backlog)
        who = task.process.credentials
        self.peer = Peer(task.process.pid, who.euid, who.egid)
        if self.offset == _LISTENING:
            return
        self.offset = _LISTENING
        self.near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 0)
        host_call(lambda: self.near.send(bytes(_FULL_BYTES)))

    def accept(self) -> tuple[Socket, bytes]:
        if self.kind == common.SOCK_DGRAM:
            raise Errno(EOPNOTSUPP)
        if not self.listens:
            raise Errno(EINVAL)
        try:
            record, descriptors, _ = receive_descriptors(self.near, RECORD_BYTES, _RECORD_DESCRIPTORS)
        except BlockingIOError:
            raise WouldBlock(self.reads) from None
        except ConnectionError:
            raise Errno(EINVAL) from None  # shut down, and the far end gone already
        except OSError as error:
            raise Errno(error.errno or EINVAL) from None
        if not record:
            raise Errno(EINVAL)  # shut down
        if not descriptors:
            raise Errno(common.EMFILE)
        peer, address = decode_record(record)
        made = UnixSocket(self._house, descriptors.pop(), common.O_RDWR, self.kind)
        credentials = self.near.getsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED)
        made.near.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, credentials)
        made.connected_to(peer, self._name, _known(address))
        return made, address

    def connect(self, task: "Task", address: bytes) -> int | Blocking:
        if self.kind == common.SOCK_DGRAM:
            self._connect_datagrams(task, address)
            return 0
        to = find(task, parse(address))
        waits = not self.flags & common.O_NONBLOCK
        link = task.process.link
        news = link.sockets_news
        if self._connected or not self._token:
            raise Errno(common.EISCONN)
        try:
            peer_name, peer = link.connect_socket(self._token, to, waits)
        except Errno as error:
            if error.errno != EAGAIN or not waits:
                raise
            return self._await_room(task, address, news)
        self.connected_to(peer, self._name, _known(peer_name))
        return 0

    def _await_room(self, task: "Task", address: bytes, news: int) -> Blocking:
        """Tries again whenever the listening socket may have room, by its name: it may be another then."""
        link = task.process.link
        while True:
            if link.sockets_news == news:
                yield Wait(events=(link.sockets_changed,))
            news = link.sockets_news
            try:
                peer_name, peer = link.connect_socket(self._token, find(task, parse(address)), True)
            except Errno as error:
                if error.errno != EAGAIN:
                    raise
                continue
            self.connected_to(peer, self._name, _known(peer_name))
            return 0

    def _connect_datagrams(self, task: "Task", address: bytes) -> None:
        """connect(2) of a datagram socket: whom it sends to and hears; AF_UNSPEC: nobody and everybody."""
        if not self._token:
            raise Errno(common.EISCONN)  # one of a pair, which stays so
        link = task.process.link
        if len(address) >= 2 and int.from_bytes(address[:2], "little") == common.AF_UNSPEC:
            link.connect_socket(self._token, None, False)
            self._let_go()
            self._peer_name, self.offset = b"", _FRESH
            return
        peer_name, _ = link.connect_socket(self._token, find(task, parse(address)), False)
        self._let_go()
        self._end = socket.socket(fileno=link.reach_socket(self._token, None))
        self._peer_name, self.offset = _known(peer_name), _CONNECTED

    def shut_down(self, how: int) -> None:
        if not self._framed:
            super().shut_down(how)
            return
        self._shut |= {common.SHUT_RD: 1, common.SHUT_WR: 2, common.SHUT_RDWR: 3}[how]
        if self._shut & 1:
            with translated():
                self.near.shutdown(socket.SHUT_RD)

    # Messages.

    def beside(self, task: "Task", control: list[Control]) -> Beside:
        """Errno: EBADF, EINVAL, EPERM; passable's."""
        fds: list[int] = []
        others: list[Control] = []
        for level, kind, data in control:
            if level != common.SOL_SOCKET:
                continue
            if kind == common.SCM_CREDENTIALS:
                others = [(level, kind, _checked_credentials(task, data))]
            elif kind == common.SCM_RIGHTS:
                fds += memoryview(data[: len(data) & ~3]).cast("i").tolist()
            else:
                raise Errno(EINVAL)
        if len(fds) > _RIGHTS_MAX:
            raise Errno(EINVAL)
        if not fds and not others:
            return NOTHING
        return Beside(tuple(passed.passable([task.process.fds.get(fd) for fd in fds])), tuple(others))

    def destination(self, task: "Task", address: bytes) -> Destination | None:
        if self.kind == common.SOCK_SEQPACKET:
            return None
        if self.kind == common.SOCK_STREAM:
            self._check_connected(EOPNOTSUPP)
            raise Errno(common.EISCONN)
        return _Reached(task.process.link.reach_socket(self._token, find(task, parse(address))))

    def write(self, data: memoryview) -> int:
        if self._connected:
            return super().write(data)
        return self.send(data, 0, NOTHING, None)

    def send(self, data: memoryview, flags: int, beside: Beside, to: Destination | None) -> int:
        if flags & common.MSG_OOB:
            raise Errno(EOPNOTSUPP)
        if not beside.files:
            return self._send(data, flags, list(beside.control), to)
        self._check_room(to)
        parcel = passed.Parcel(self._house, beside.files)
        try:
            numbers = struct.pack(f"{len(parcel.numbers)}i", *parcel.numbers)
            rights = (common.SOL_SOCKET, common.SCM_RIGHTS, numbers)
            sent = self._send(data, flags, [*beside.control, rights], to)
            parcel.sent = True
            return sent
        finally:
            parcel.close()

    def _send(self, data: memoryview, flags: int, control: list[Control], to: Destination | None) -> int:
        if self._connected and to is None:
            return self.send_by(self.near, [data], flags, control)
        if self.kind == common.SOCK_DGRAM:
            return self._send_framed(data, flags, control, to)
        self._check_connected(common.ENOTCONN)
        return self.send_by(self.near, [data], flags, control)

    def _send_framed(self, data: memoryview, flags: int, control: list[Control], to: Destination | None) -> int:
        """A datagram, with our name before it."""
        if self._shut & 2:
            raise Errno(EPIPE)
        end = to.end if isinstance(to, _Reached) else self._peer_end()
        header = memoryview(encode_sender(self._name))
        try:
            return self.send_by(end, [header, data], flags, control) - SENDER_BYTES
        except WouldBlock:
            raise WouldBlock(Wait(((end.fileno(), select.POLLOUT),))) from None
        except Errno as error:
            if error.errno not in (EPIPE, common.ECONNRESET):
                raise
            if to is None:
                self._let_go()
                self._peer_name, self.offset = b"", _FRESH
            raise Errno(ECONNREFUSED) from None

    def _check_room(self, to: Destination | None) -> None:
        """Before what is passed is made ready for its journey: WouldBlock; Errno(ENOTCONN)."""
        end = to.end if isinstance(to, _Reached) else self._peer_end() if self._framed else self.near
        wait = Wait(((end.fileno(), select.POLLOUT),))
        if not is_ready(wait):
            raise WouldBlock(wait)

    def _peer_end(self) -> socket.socket:
        """Errno(ENOTCONN)."""
        self._check_connected(common.ENOTCONN)
        if self._end is None:  # connected by somebody else who has it
            number = self._house.resident.link.reach_socket(self._token, None)
            self._end = socket.socket(fileno=number)
        return self._end

    def read(self, views: list[memoryview]) -> int:
        if self._connected:
            return super().read(views)
        got = self.receive(views, 0)
        for file in got.files:
            file.drop()
        return got.size_bytes

    def receive(self, views: list[memoryview], flags: int) -> Received:
        if flags & common.MSG_OOB:
            raise Errno(EOPNOTSUPP)
        if self._framed:
            return self._receive_framed(views, flags)
        if not self._connected:
            self._check_connected(EINVAL if self.kind == common.SOCK_STREAM else common.ENOTCONN)
        return self._received(views, flags, self._peer_name)

    def _received(self, views: list[memoryview], flags: int, address: bytes) -> Received:
        count, control, out_flags = self.receive_from_host(views, flags, _RIGHTS_BYTES)
        if not control:
            return Received(count, out_flags, (), address)
        numbers: list[int] = []
        others: list[Control] = []
        for level, kind, data in control:
            if (level, kind) == (common.SOL_SOCKET, common.SCM_RIGHTS):
                numbers += memoryview(data[: len(data) & ~3]).cast("i").tolist()
            elif (level, kind) == (common.SOL_SOCKET, common.SCM_CREDENTIALS):
                others.append((level, kind, self._translated(data)))
            else:
                others.append((level, kind, data))
        files = passed.unpack(self._house, numbers, bool(flags & common.MSG_PEEK))
        return Received(count, out_flags, tuple(files), address, tuple(others))

    def _translated(self, data: bytes) -> bytes:
        """struct ucred of the host's, as guests know its process."""
        host_pid, uid, gid = _UCRED.unpack(data)
        pid = self._house.resident.link.sender(host_pid) if host_pid else 0
        return common.ucred.pack(pid=pid, uid=uid, gid=gid)

    def _receive_framed(self, views: list[memoryview], flags: int) -> Received:
        if self._shut & 1:
            return Received(0, 0)
        header = bytearray(SENDER_BYTES)
        while True:
            got = self._received([memoryview(header), *views], flags, b"")
            address = decode_sender(header) if got.size_bytes >= SENDER_BYTES else None
            if address is not None:
                out_flags = got.flags & ~common.MSG_EOR
                return got._replace(size_bytes=got.size_bytes - SENDER_BYTES, flags=out_flags, address=address)
            for file in got.files:
                file.drop()
            if flags & common.MSG_PEEK:  # nobody of ours has sent that
                self.receive_from_host([], 0, 0)

    def ioctl(self, request: int, argument: bytes) -> bytes:
        if request == common.FIONREAD:
            if self.listens:
                raise Errno(EINVAL)
            if self._framed:
                return self._waiting_bytes().to_bytes(4, "little")
        return super().ioctl(request, argument)

    def _waiting_bytes(self) -> int:
        """Of the next datagram (unix(7))."""
        try:
            got = self._receive_framed([], common.MSG_PEEK | common.MSG_TRUNC)
        except WouldBlock:
            return 0
        for file in got.files:
            file.drop()
        return got.size_bytes

    # Options.

    def option(self, level: int, name: int, size_bytes: int) -> bytes:
        if level == common.SOL_SOCKET and name == common.SO_PEERCRED:
            return _UCRED.pack(*self.peer)[:size_bytes]
        if level == common.SOL_SOCKET and name == common.SO_PASSCRED:
            return self.near.getsockopt(level, name, 4)[:size_bytes]
        return super().option(level, name, size_bytes)

    def set_option(self, level: int, name: int, value: bytes) -> None:
        if level == common.SOL_SOCKET and name == common.SO_PASSCRED:
            if len(value) < 4:
                raise Errno(EINVAL)
            self.near.setsockopt(level, name, int(any(value[:4])))
            return
        super().set_option(level, name, value)

    # Passed to another worker.

    def told(self) -> bytes:
        """As client_vm.passed.Kind.tell."""
        state = _CONNECTED if self._connected else self.offset
        names = (len(self._name), self._name, len(self._peer_name), self._peer_name)
        return _PASSED.pack(self.kind, state, self._framed, bool(self._token), *self.peer, self._token, *names)

    @classmethod
    def remade(cls, came: passed.Arrival) -> "UnixSocket":
        """As client_vm.passed.Kind.remake."""
        kind, state, framed, has_token, *rest = _PASSED.unpack(came.told)
        pid, uid, gid, token, length, name, peer_length, peer_name = rest
        token = token if has_token else b""
        made = cls(came.house, came.descriptor, came.flags, kind, token=token, framed=bool(framed))
        made.peer = Peer(pid, uid, gid)
        made._name, made._peer_name = name[:length], peer_name[:peer_length]
        made._connected = state == _CONNECTED and not framed
        return made


def _known(address: bytes) -> bytes:
    """Empty: it has no name."""
    return b"" if address == NO_NAME else address


passed.KINDS.append(passed.Kind(UnixSocket, UnixSocket.told, UnixSocket.remade))


def _checked_credentials(task: "Task", data: bytes) -> bytes:
    """What a sender names must be its own; as the host is to see it. Errno: EINVAL, EPERM."""
    if len(data) != common.ucred.size:
        raise Errno(EINVAL)
    who = task.process.credentials
    pid, uid, gid = _UCRED.unpack(data)
    own = uid in (who.uid, who.euid, who.suid) and gid in (who.gid, who.egid, who.sgid)
    if pid != task.process.pid or not own:
        raise Errno(common.EPERM)
    return _UCRED.pack(os.getpid(), uid, gid)


# -- making them ----------------------------------------------------------------------------------------------


def new_socket(task: "Task", kind: int, protocol: int, flags: int) -> UnixSocket:
    """socket(2). Errno: EPROTONOSUPPORT, ESOCKTNOSUPPORT, EMFILE, ENFILE."""
    kind = _checked_kind(kind, protocol)
    token, near = task.process.link.make_socket(kind)
    framed = kind == common.SOCK_DGRAM
    return UnixSocket(task.kernel.house, near, flags, kind, token=token, framed=framed)


def socket_pair(task: "Task", kind: int, protocol: int, flags: int) -> tuple[UnixSocket, UnixSocket]:
    """socketpair(2). Errno: EPROTONOSUPPORT, ESOCKTNOSUPPORT, EMFILE."""
    kind = _checked_kind(kind, protocol)
    with translated():
        ends = socket.socketpair(socket.AF_UNIX, kind)
    who = task.process.credentials
    peer = Peer(task.process.pid, who.euid, who.egid)
    first, second = (UnixSocket(task.kernel.house, end.detach(), flags, kind) for end in ends)
    for each in (first, second):
        each.connected_to(peer, b"", b"")
    return first, second


def _checked_kind(kind: int, protocol: int) -> int:
    """Errno: EPROTONOSUPPORT, ESOCKTNOSUPPORT."""
    if protocol not in (0, common.AF_UNIX):
        raise Errno(common.EPROTONOSUPPORT)
    if kind == common.SOCK_RAW:
        return common.SOCK_DGRAM  # as af_unix.c does
    if kind not in (common.SOCK_STREAM, common.SOCK_DGRAM, common.SOCK_SEQPACKET):
        raise Errno(common.ESOCKTNOSUPPORT)
    return kind
