"""Inet sockets of the guest (ip(7), ipv6(7), tcp(7), udp(7)): near ends of the network server's pairs.

What a stream carries is in the pair; names, connections and listening are calls to the server, which knows the
socket by its capability. Options of TCP and IP are kept here, and mean nothing to a pair.
"""

import socket
import struct
from typing import TYPE_CHECKING, Final, cast

from google.protobuf.message import DecodeError

from client_vm.abi import common
from client_vm.abi.common import EINVAL, EMSGSIZE
from client_vm.descriptors import VIEWS_MAX
from client_vm.errors import Errno
from client_vm.network_server import NetworkServer
from client_vm.sockets import Beside, Destination, Received, Socket
from client_vm.waiting import Blocking, WouldBlock
from farcall.v1 import network_pb2 as pb
from ipc.datagrams import HEADER_BYTES, PAYLOAD_BYTES_MAX, Header, decode_header
from ipc.inet import is_loopback, plain
from ipc.limits import CAPABILITY_BYTES
from ipc.passing import close_all, receive_descriptors
from ipc.records import RECORD_BYTES, decode_record

if TYPE_CHECKING:
    from client_vm.process import Task

ROUTES_MAX: Final = 256
"""Destinations that a datagram socket remembers as allowed."""
_FILLER: Final = bytes(1 << 16)
_IN: Final = struct.Struct("<H2s4s8x")
_IN6: Final = struct.Struct("<H2sI16sI")
_IN6_BYTES_MIN: Final = 24
"""Without a scope (SIN6_LEN_RFC2133)."""
_PROTOCOLS: Final = {common.SOCK_STREAM: common.IPPROTO_TCP, common.SOCK_DGRAM: common.IPPROTO_UDP}
_SCOPED: Final = (common.SO_REUSEADDR, common.SO_REUSEPORT)
"""Of SOL_SOCKET: what bind(2) looks at."""
_LEVELS: Final = (common.IPPROTO_IP, common.IPPROTO_IPV6, common.IPPROTO_TCP, common.IPPROTO_UDP)
_DEFAULTS: Final = {
    (common.IPPROTO_IP, common.IP_TTL): 64,
    (common.IPPROTO_TCP, common.TCP_MAXSEG): 65_483,
    (common.IPPROTO_TCP, common.TCP_KEEPIDLE): 7200,
    (common.IPPROTO_TCP, common.TCP_KEEPINTVL): 75,
    (common.IPPROTO_TCP, common.TCP_KEEPCNT): 9,
}
"""As a loopback has them; others begin as 0."""
_CONGESTION: Final = b"cubic".ljust(16, b"\0")
_ESTABLISHED: Final = 1
_CLOSE: Final = 7
_LISTEN: Final = 10
"""States of struct tcp_info (net/tcp_states.h)."""
_TCP_INFO_BYTES: Final = 104


def pack_address(family: int, address: pb.SocketAddress) -> bytes:
    """A struct sockaddr of that family."""
    port = address.port.to_bytes(2, "big")
    if family == common.AF_INET:
        return _IN.pack(family, port, address.host)
    return _IN6.pack(family, port, 0, address.host, 0)


def unpack_address(family: int, raw: bytes) -> pb.SocketAddress:
    """What a struct sockaddr of that family says. Errno: EINVAL: too short; EAFNOSUPPORT: another family's."""
    if len(raw) < 2:
        raise Errno(EINVAL)
    if len(raw) < (_IN.size if family == common.AF_INET else _IN6_BYTES_MIN):
        raise Errno(EINVAL)
    if int.from_bytes(raw[:2], "little") != family:
        raise Errno(common.EAFNOSUPPORT)
    host = raw[4:8] if family == common.AF_INET else raw[8:24]
    return pb.SocketAddress(host=host, port=int.from_bytes(raw[2:4], "big"))


def make_inet_socket(task: "Task", kind: int, protocol: int, flags: int, family: int) -> "InetSocket":
    """socket(2) of AF_INET and AF_INET6. Errno: ESOCKTNOSUPPORT, EPROTONOSUPPORT, EPERM, EMFILE, ENETDOWN."""
    if kind == common.SOCK_RAW:
        raise Errno(common.EPERM)  # as without CAP_NET_RAW
    if kind not in _PROTOCOLS:
        raise Errno(common.ESOCKTNOSUPPORT)
    if protocol not in (0, _PROTOCOLS[kind]):
        raise Errno(common.EPROTONOSUPPORT)
    capability = task.kernel.random.bytes(CAPABILITY_BYTES)
    network = task.kernel.house.network
    descriptor = network.fetch(
        pb.OpenSocketRequest(
            socket=capability,
            family=pb.ADDRESS_FAMILY_IPV4 if family == common.AF_INET else pb.ADDRESS_FAMILY_IPV6,
            kind=pb.SOCKET_KIND_STREAM if kind == common.SOCK_STREAM else pb.SOCKET_KIND_DATAGRAM,
        )
    )
    make = InetStream if kind == common.SOCK_STREAM else InetDatagrams
    return make(descriptor, flags, family, network, capability)


class InetSocket(Socket):
    """What both kinds have in common."""

    def __init__(
        self, descriptor: int, flags: int, family: int, kind: int, network: NetworkServer, capability: bytes
    ) -> None:
        super().__init__(descriptor, flags, family, kind, _PROTOCOLS[kind])
        self.network = network
        self.capability = capability
        self.options: dict[tuple[int, int], int] = {}
        self.peer: pb.SocketAddress | None = None
        """Whom it is connected to."""
        self.local: pb.SocketAddress | None = None
        """Of a connected one."""

    def describe(self) -> pb.DescribeSocketResponse:
        """What the server knows of it. Errno(ENETDOWN)."""
        return cast(
            "pb.DescribeSocketResponse", self.network.call(pb.DescribeSocketRequest(socket=self.capability))
        )

    @property
    def ipv6_only(self) -> bool:
        return bool(self.options.get((common.IPPROTO_IPV6, common.IPV6_V6ONLY)))

    def bind(self, task: "Task", address: bytes) -> None:
        self.network.call(
            pb.BindRequest(
                socket=self.capability,
                address=unpack_address(self.family, address),
                reuse_address=bool(self.options.get((common.SOL_SOCKET, common.SO_REUSEADDR))),
                reuse_port=bool(self.options.get((common.SOL_SOCKET, common.SO_REUSEPORT))),
                ipv6_only=self.ipv6_only,
            )
        )

    def name(self, task: "Task") -> bytes:
        local = self.local
        if local is None:
            try:
                local = self.describe().local
            except Errno:
                local = pb.SocketAddress()
            if not local.host:
                local = pb.SocketAddress(host=bytes(4 if self.family == common.AF_INET else 16), port=local.port)
        return pack_address(self.family, local)

    def peer_name(self, task: "Task") -> bytes:
        if self.peer is None:
            raise Errno(common.ENOTCONN)
        return pack_address(self.family, self.peer)

    # Options.

    def option(self, level: int, name: int, size_bytes: int) -> bytes:
        own = self._own_option(level, name)
        if own is not None:
            return own[:size_bytes]
        return super().option(level, name, size_bytes)

    def _own_option(self, level: int, name: int) -> bytes | None:
        """Errno(ENOPROTOOPT)."""
        if level == common.SOL_SOCKET:
            if name in _SCOPED:
                return self.options.get((level, name), 0).to_bytes(4, "little")
            return None
        self._check_level(level)
        if (level, name) == (common.IPPROTO_TCP, common.TCP_INFO):
            return bytes((self.tcp_state(),)).ljust(_TCP_INFO_BYTES, b"\0")
        if (level, name) == (common.IPPROTO_TCP, common.TCP_CONGESTION):
            return _CONGESTION
        value = self.options.get((level, name), _DEFAULTS.get((level, name), 0))
        return value.to_bytes(4, "little", signed=True)

    def tcp_state(self) -> int:
        """As struct tcp_info has it."""
        return _CLOSE

    def _check_level(self, level: int) -> None:
        if level not in _LEVELS or (level == common.IPPROTO_IPV6 and self.family == common.AF_INET):
            raise Errno(common.ENOPROTOOPT if level in _LEVELS else common.EOPNOTSUPP)
        if level in (common.IPPROTO_TCP, common.IPPROTO_UDP) and level != self.protocol:
            raise Errno(common.EOPNOTSUPP)

    def set_option(self, level: int, name: int, value: bytes) -> None:
        if level == common.SOL_SOCKET and name not in _SCOPED:
            super().set_option(level, name, value)
            return
        if level != common.SOL_SOCKET:
            self._check_level(level)
            if name == common.TCP_CONGESTION and level == common.IPPROTO_TCP:
                if value.rstrip(b"\0") != _CONGESTION.rstrip(b"\0"):
                    raise Errno(common.ENOENT)
                return
        if not value:
            raise Errno(EINVAL)
        if len(value) < 4 and level != common.IPPROTO_IP:  # whose options may be a byte (ip(7))
            raise Errno(EINVAL)
        if (level, name) == (common.IPPROTO_IPV6, common.IPV6_V6ONLY) and self.describe().local.port:
            raise Errno(EINVAL)
        self.options[level, name] = int.from_bytes(value[:4], "little", signed=len(value) >= 4)


class InetStream(InetSocket):
    """TCP."""

    def __init__(
        self, descriptor: int, flags: int, family: int, network: NetworkServer, capability: bytes
    ) -> None:
        super().__init__(descriptor, flags, family, common.SOCK_STREAM, network, capability)
        self._listens = False
        self._connecting = False
        self._beyond = False
        """The connection leads out of the loopback: the server knows what became of it."""

    @property
    def listens(self) -> bool:
        return self._listens

    @property
    def connecting(self) -> bool:
        return self._connecting

    @property
    def beyond(self) -> bool:
        """Whether the connection leads out of the loopback."""
        return self._beyond

    def resume(self, listens: bool, connecting: bool, beyond: bool) -> None:
        """It is another worker's, as that knew it."""
        self._listens, self._connecting, self._beyond = listens, connecting, beyond

    def tcp_state(self) -> int:
        return _LISTEN if self._listens else _ESTABLISHED if self._is_connected() else _CLOSE

    def _is_connected(self) -> bool:
        return self.peer is not None and not self._connecting

    def bind(self, task: "Task", address: bytes) -> None:
        if self.peer is not None:
            raise Errno(EINVAL)
        super().bind(task, address)

    def listen(self, task: "Task", backlog: int) -> None:
        if self.peer is not None:
            raise Errno(EINVAL)
        self.network.call(pb.ListenRequest(socket=self.capability, backlog=backlog, ipv6_only=self.ipv6_only))
        self._listens = True

    def accept(self) -> tuple[Socket, bytes]:
        if not self._listens and not self.describe().listening:
            raise Errno(EINVAL)
        self._listens = True
        try:
            record, descriptors, _ = receive_descriptors(self.near, RECORD_BYTES, 1)
        except BlockingIOError:
            raise WouldBlock(self.reads) from None
        except OSError as error:
            raise Errno(error.errno or EINVAL) from None
        if not record:
            raise Errno(EINVAL)  # shut down, or the server is gone
        if len(descriptors) != 1:
            close_all(descriptors)
            raise Errno(common.EMFILE)
        try:
            connection = pb.Connection.FromString(decode_record(record))
        except DecodeError:
            close_all(descriptors)
            raise Errno(common.ECONNABORTED) from None
        made = InetStream(descriptors[0], common.O_RDWR, self.family, self.network, connection.socket)
        made._connected(connection.local, connection.peer)
        made.options = dict(self.options)
        return made, pack_address(self.family, connection.peer)

    def _connected(self, local: pb.SocketAddress, peer: pb.SocketAddress) -> None:
        self.local, self.peer = local, peer
        self._beyond = not is_loopback(plain(peer.host))

    # Connecting.

    def connect(self, task: "Task", address: bytes) -> int | Blocking:
        target = unpack_address(self.family, address)
        waits = not self.flags & common.O_NONBLOCK
        if not self._connecting:
            if self.peer is not None:
                raise Errno(common.EISCONN)
            response = self._begin(target)
            if not response.pending:
                self._connected(response.local, response.peer)
                return 0
            self.local, self.peer = response.local, response.peer
            self._connecting = self._beyond = True
            if not waits:
                raise Errno(common.EINPROGRESS)
        elif self._settled():
            return 0
        elif not waits:
            raise Errno(common.EALREADY)
        return self._await_connection()

    def _begin(self, target: pb.SocketAddress) -> pb.ConnectResponse:
        """Errno: connect(2)'s."""
        request = pb.ConnectRequest(socket=self.capability, address=target, ipv6_only=self.ipv6_only)
        response = cast("pb.ConnectResponse", self.network.call(request))
        if not response.pending:
            return response
        self._fill()
        request.blocked = True
        return cast("pb.ConnectResponse", self.network.call(request))

    def _fill(self) -> None:
        """Nothing can be written from now on, until the server has thrown this away."""
        try:
            while True:
                self.near.send(_FILLER, socket.MSG_NOSIGNAL)
        except BlockingIOError:
            return
        except OSError as error:
            raise Errno(error.errno or EINVAL) from None

    def _await_connection(self) -> Blocking:
        while not self._settled():
            yield self.writes
        return 0

    def _settled(self) -> bool:
        """Whether it is known what became of the connection. Errno: why it failed."""
        if not self._connecting:
            return True
        found = self.describe()
        if found.pending:
            return False
        self._connecting = False
        if found.error:
            self.peer = self.local = None
            self._beyond = False
            raise Errno(found.error)
        return True

    def _own_option(self, level: int, name: int) -> bytes | None:
        if (level, name) == (common.SOL_SOCKET, common.SO_ERROR) and self._beyond:
            try:
                self._settled()
            except Errno as error:
                return error.errno.to_bytes(4, "little")
            return bytes(4)
        return super()._own_option(level, name)

    def shut_down(self, how: int) -> None:
        if self.peer is None and not self._listens:
            raise Errno(common.ENOTCONN)
        super().shut_down(how)

    # Bytes.

    def send(self, data: memoryview, flags: int, beside: Beside, to: Destination | None) -> int:
        if self._connecting:
            self._settled()
        elif self.peer is None:
            raise Errno(common.EPIPE)
        return super().send(data, flags, beside, to)

    def destination(self, task: "Task", address: bytes) -> Destination | None:
        """tcp(7): a connected socket sends to its peer, whatever is said."""
        return None

    def receive(self, views: list[memoryview], flags: int) -> Received:
        if self._connecting:
            self._settled()
        elif self.peer is None:
            raise Errno(common.ENOTCONN)
        if len(views) != 1:
            got = super().receive(views, flags)
        else:  # there is no ancillary data in a stream
            got = Received(self._take(views[0], flags & self.received_flags), 0)
        if not got.size_bytes and self._beyond and any(map(len, views)):
            self._raise_loss()
        return got

    def _raise_loss(self) -> None:
        """At the end of a stream: whether it was reset. Errno, once."""
        self._beyond = False
        try:
            number = self.describe().error
        except Errno:
            return
        if number:
            raise Errno(number)

    def write(self, data: memoryview) -> int:
        if self.peer is None or self._connecting:
            return self.send(data, 0, Beside(), None)
        return super().write(data)

    def read(self, views: list[memoryview]) -> int:
        if self.peer is None or self._beyond or len(views) != 1:
            return self.receive(views, 0).size_bytes
        return self._take(views[0], 0)

    def _take(self, view: memoryview, flags: int) -> int:
        """WouldBlock; Errno."""
        try:
            return self.near.recv_into(view, 0, flags)
        except BlockingIOError:
            raise WouldBlock(self.reads) from None
        except OSError as error:
            raise Errno(error.errno or EINVAL) from None


class _Named(Destination):
    """Where one datagram goes."""

    def __init__(self, address: bytes, name: pb.SocketAddress) -> None:
        super().__init__(address)
        self.name = name


class InetDatagrams(InetSocket):
    """UDP."""

    def __init__(
        self, descriptor: int, flags: int, family: int, network: NetworkServer, capability: bytes
    ) -> None:
        super().__init__(descriptor, flags, family, common.SOCK_DGRAM, network, capability)
        self._routes: set[tuple[bytes, int]] = set()
        """Beyond the loopback, and known to be allowed."""

    def connect(self, task: "Task", address: bytes) -> int:
        if len(address) >= 2 and int.from_bytes(address[:2], "little") == common.AF_UNSPEC:
            self.network.call(pb.ConnectRequest(socket=self.capability))
            self.local = self.peer = None
            return 0
        request = pb.ConnectRequest(
            socket=self.capability, address=unpack_address(self.family, address), ipv6_only=self.ipv6_only
        )
        response = self.network.call(request)
        self.local, self.peer = response.local, response.peer
        return 0

    def shut_down(self, how: int) -> None:
        if self.peer is None:
            raise Errno(common.ENOTCONN)
        super().shut_down(how)

    def destination(self, task: "Task", address: bytes) -> Destination | None:
        name = unpack_address(self.family, address)
        if not name.port:
            raise Errno(EINVAL)
        if not is_loopback(plain(name.host)) and (name.host, name.port) not in self._routes:
            self.network.call(pb.CheckRouteRequest(address=name))
            if len(self._routes) >= ROUTES_MAX:
                self._routes.clear()
            self._routes.add((name.host, name.port))
        return _Named(address, name)

    def send(self, data: memoryview, flags: int, beside: Beside, to: Destination | None) -> int:
        if len(data) > PAYLOAD_BYTES_MAX:
            raise Errno(EMSGSIZE)
        if isinstance(to, _Named):
            header = Header(to.name.host, to.name.port)
        elif self.peer is not None:
            header = Header(b"", 0)
        else:
            raise Errno(common.EDESTADDRREQ)
        return self.send_by(self.near, [memoryview(header.encode()), data], flags) - HEADER_BYTES

    def receive(self, views: list[memoryview], flags: int) -> Received:
        head = bytearray(HEADER_BYTES)
        count, _, out_flags = self.receive_from_host([memoryview(head), *views[: VIEWS_MAX - 1]], flags)
        header = decode_header(head) if count >= HEADER_BYTES else None
        if header is None:
            raise Errno(common.ENETDOWN)  # the server is gone
        if header.errno:
            raise Errno(header.errno)
        sender = pack_address(self.family, pb.SocketAddress(host=header.host, port=header.port))
        return Received(count - HEADER_BYTES, out_flags, address=sender)

    def write(self, data: memoryview) -> int:
        return self.send(data, 0, Beside(), None)

    def read(self, views: list[memoryview]) -> int:
        return self.receive(views, 0).size_bytes

    def ioctl(self, request: int, argument: bytes) -> bytes:
        answer = super().ioctl(request, argument)
        if request == common.FIONREAD:
            waiting = max(0, int.from_bytes(answer[:4], "little") - HEADER_BYTES)
            return waiting.to_bytes(4, "little")
        return answer
