"""Datagrams of guests: from each far end to another in the loopback, or beyond it if egress allows (udp(7))."""

import errno
import socket
from functools import partial
from typing import Final

from farcall.v1.network_pb2 import ConnectRequest, ConnectResponse, SocketAddress
from ipc.datagrams import HEADER_BYTES, PAYLOAD_BYTES_MAX, Header, decode_header
from ipc.inet import IPV4_BYTES, IPV6_BYTES, is_loopback, loopback_of, plain
from ipc.limits import PORT_MAX
from servers.network.addresses import Egress, Name, Rule
from servers.network.outside import OuterDatagrams, Start
from servers.network.sockets import Socket, Sockets
from servers.network.streams import source_of
from servers.service import ErrnoError

AT_ONCE: Final = 64
"""Of one socket, before others have their turn."""


class Datagrams:
    """Routes what the datagram sockets of `sockets` send."""

    def __init__(self, sockets: Sockets, egress: Egress, start: Start) -> None:
        self._sockets = sockets
        self._egress = egress
        self._start = start
        self._outer: dict[bytes, OuterDatagrams] = {}
        self._packet = bytearray(HEADER_BYTES + PAYLOAD_BYTES_MAX + 1)

    def connect(self, connecting: Socket, request: ConnectRequest) -> ConnectResponse:
        """connect(2) of a datagram socket: whom it sends to and hears. EINVAL, EAFNOSUPPORT, ENETUNREACH,
        EADDRINUSE; ECONNREFUSED: it may not be reached."""
        if not request.address.host:
            connecting.peer = None
            return ConnectResponse(local=connecting.local())
        name = connecting.named(request.address, request.ipv6_only)
        name = Name(loopback_of(name.host), name.port)
        self._check(name, connecting.rules)
        self._sockets.autobind(connecting, connecting.any_host, both=True)
        connecting.peer = name
        assert connecting.binding is not None
        own = source_of(connecting.binding.name, name)
        return ConnectResponse(local=connecting.told(own), peer=connecting.told(name))

    def check(self, address: SocketAddress, rules: tuple[Rule, ...]) -> None:
        """EINVAL; ECONNREFUSED: it may not be reached."""
        if address.port > PORT_MAX or len(address.host) not in (IPV4_BYTES, IPV6_BYTES):
            raise ErrnoError(errno.EINVAL)
        self._check(Name(plain(address.host), address.port), rules)

    def _check(self, name: Name, rules: tuple[Rule, ...]) -> None:
        if not is_loopback(name.host) and not self._egress.allows(name, rules):
            raise ErrnoError(errno.ECONNREFUSED)

    def route(self, sender: Socket) -> None:
        """Something came from a guest's near end. What is malformed or may not go there is dropped."""
        for _ in range(AT_ONCE):
            try:
                count = sender.far.recv_into(self._packet)
            except OSError:
                return
            if not count:
                return
            packet = memoryview(self._packet)[:count]
            header = decode_header(packet)
            if header is not None and count <= HEADER_BYTES + PAYLOAD_BYTES_MAX:
                self._send(sender, header, packet[HEADER_BYTES:])

    def _send(self, sender: Socket, header: Header, payload: memoryview) -> None:
        target = sender.peer
        if header.host:
            target = Name(loopback_of(plain(header.host)), header.port)
        if target is None:
            return
        try:
            self._sockets.autobind(sender, sender.any_host, both=True)
        except ErrnoError:
            return
        if is_loopback(target.host) and self._deliver(sender, target, payload):
            return
        if self._egress.allows(target, sender.rules):
            self._send_out(sender, target, payload)
        elif sender.peer == target:
            _put(sender, Header(b"", 0, errno.ECONNREFUSED), b"")  # as ICMP would tell (udp(7))

    def _deliver(self, sender: Socket, target: Name, payload: memoryview) -> bool:
        """To another guest. False: nobody hears it."""
        assert sender.binding is not None
        own = source_of(sender.binding.name, target)
        hearer = self._sockets.datagrams.hearer(target, listening=False)
        if hearer is None:
            return False
        hearing = self._sockets.get(hearer)
        if hearing.peer is not None and hearing.peer != own:
            return False
        _put(hearing, header_for(hearing, own), payload)
        return True

    def _send_out(self, sender: Socket, target: Name, payload: memoryview) -> None:
        outer = self._outer.get(sender.capability)
        if outer is None:
            outer = self._outer[sender.capability] = OuterDatagrams(
                partial(self._from_outside, sender), self._start
            )
            sender.forget.append(partial(self._forget, sender.capability))
        outer.send(target, payload)

    def _from_outside(self, hearing: Socket, name: Name, payload: bytes) -> None:
        if hearing.peer is None or hearing.peer == name:
            _put(hearing, header_for(hearing, name), payload)

    def _forget(self, capability: bytes) -> None:
        self._outer.pop(capability).close()


def header_for(hearing: Socket, sender: Name) -> Header:
    """Who sends, as a guest's socket is told it."""
    told = hearing.told(sender)
    return Header(told.host, told.port)


def _put(hearing: Socket, header: Header, payload: memoryview | bytes) -> None:
    """Into the guest's near end; dropped where there is no room, as udp(7) says."""
    try:
        hearing.far.sendmsg([header.encode(), payload], (), socket.MSG_NOSIGNAL)
    except OSError:
        return
