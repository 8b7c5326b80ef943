"""What is beyond the guests' loopback: connections and datagrams to hosts that egress allows, and ports of this
host that are published to guests. The network server's edge to the host's network.

Between a guest's far end and a host's socket, bytes are moved by two tasks; each waits for the other side to take
what it has, so nothing piles up here.
"""

import errno
import os
import socket
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, TypeAlias

import trio

from ipc.datagrams import PAYLOAD_BYTES_MAX
from ipc.inet import IPV4_BYTES
from ipc.rendezvous import drain, send_all
from servers.network.addresses import Name
from servers.network.sockets import Socket

PIECE_BYTES: Final = 1 << 16
"""Moved at a time."""
CONNECT_S: Final = 120.0
"""How long a host may take to answer, before ETIMEDOUT (tcp(7), tcp_syn_retries)."""
_LISTEN: Final = 1024
Start: TypeAlias = Callable[[Callable[[], Awaitable[None]]], None]
"""Runs an async function among the server's tasks, as Nursery.start_soon."""
_RESET: Final = struct.pack("ii", 1, 0)
"""struct linger: close(2) resets the connection (socket(7))."""


def _family(host: bytes) -> socket.AddressFamily:
    return socket.AF_INET if len(host) == IPV4_BYTES else socket.AF_INET6


def _address(name: Name) -> tuple[str, int]:
    return socket.inet_ntop(_family(name.host), name.host), name.port


def name_of(address: tuple[str, int] | tuple[str, int, int, int]) -> Name:
    """Of what getsockname(2) says."""
    host = address[0].partition("%")[0]
    return Name(socket.inet_pton(socket.AF_INET6 if ":" in host else socket.AF_INET, host), address[1])


def is_own(host: bytes) -> bool:
    """Whether the address is one of this machine's: whether a socket can be bound to it (bind(2))."""
    with socket.socket(_family(host), socket.SOCK_DGRAM) as probe:
        try:
            probe.bind(_address(Name(host, 0)))
        except OSError:
            return False
    return True


class Outside:
    """Starts what moves bytes."""

    def __init__(self, start: Start) -> None:
        self._start = start

    # Streams.

    def connect(self, connecting: Socket, name: Name, settled: Callable[[int], None]) -> Name:
        """Connects to a host; returns our own name. `settled` is called once, later, with an errno or 0; what the
        far end holds by then was no data, and is dropped before. OSError: it cannot be tried."""
        outer = socket.socket(_family(name.host), socket.SOCK_STREAM)
        outer.setblocking(False)
        try:
            outer.connect(_address(name))
        except BlockingIOError:
            pass
        except OSError:
            outer.close()
            raise
        own = name_of(outer.getsockname())
        self._start(lambda: self._connect(connecting, outer, settled))
        return own

    async def _connect(self, connecting: Socket, outer: socket.socket, settled: Callable[[int], None]) -> None:
        with outer:
            number = errno.ETIMEDOUT
            with trio.move_on_after(CONNECT_S):
                await _unless_closed(connecting, lambda: trio.lowlevel.wait_writable(outer))
                number = outer.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if connecting.far.fileno() < 0:
                return
            drain(connecting.far)
            settled(number)
            pump = None if number else _pump(connecting, outer)
            if pump is not None:
                await pump.run()

    async def publish(self, listener: socket.socket, accepted: Callable[[Name], Socket | None]) -> None:
        """Takes connections until cancelled. `accepted` gives a new guest socket for one that came from that
        name; None: nobody listens."""
        with listener:
            async with trio.open_nursery() as tasks:
                while True:
                    await trio.lowlevel.wait_readable(listener)
                    try:
                        outer, address = listener.accept()
                    except BlockingIOError:
                        continue
                    except OSError as error:
                        if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                            await trio.sleep(0.1)  # until somebody gives something back
                        continue
                    outer.setblocking(False)
                    guest = accepted(name_of(address))
                    pump = None if guest is None else _pump(guest, outer)
                    if pump is None:
                        _reset(outer)
                    else:
                        tasks.start_soon(pump.run)


def listen(name: Name) -> tuple[socket.socket, Name]:
    """A listening socket of this host at that name, and its name with its port. OSError."""
    listener = socket.socket(_family(name.host), socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setblocking(False)
        listener.bind(_address(name))
        listener.listen(_LISTEN)
    except BaseException:
        listener.close()
        raise
    return listener, name_of(listener.getsockname())


def _reset(outer: socket.socket) -> None:
    with suppress(OSError):
        outer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    outer.close()


async def _unless_closed(inner: Socket, wait: Callable[[], Awaitable[None]]) -> None:
    """Waits, but no longer than the guest keeps its socket."""
    with trio.CancelScope() as scope:
        inner.forget.append(scope.cancel)
        await wait()
    inner.forget.remove(scope.cancel)


class _Pump:
    """Moves bytes both ways between a guest's far end and a host's socket, until both ends have said their last
    or one is lost."""

    def __init__(self, inner: Socket, outer: socket.socket) -> None:
        """Has the far end at once: before the first byte is moved the guest may have closed its socket, and what
        it sent still leaves. OSError."""
        self._inner = inner
        self._outer = outer
        self._far = socket.socket(fileno=os.dup(inner.far.fileno()))
        self._hung_up = trio.Event()
        inner.forget.append(self._hung_up.set)

    async def run(self) -> None:
        """Closes both of its sockets at the end."""
        with self._outer, self._far, trio.CancelScope() as scope:

            async def inward() -> None:
                number = await _copy(self._outer, self._far)
                if number not in (0, errno.EPIPE):  # EPIPE: the guest reads no more
                    _lose(self._inner, self._far, number)
                    scope.cancel()

            async with trio.open_nursery() as tasks:
                tasks.start_soon(inward)
                number = await _copy(self._far, self._outer)
                if number:
                    _lose(self._inner, self._far, number)
                    scope.cancel()
                await self._hung_up.wait()
                scope.cancel()


def _pump(inner: Socket, outer: socket.socket) -> _Pump | None:
    """None: there is no descriptor for it, and the guest's connection is lost."""
    try:
        return _Pump(inner, outer)
    except OSError as error:
        _lose(inner, inner.far, error.errno or errno.EMFILE)
        return None


def _lose(inner: Socket, far: socket.socket, number: int) -> None:
    """The guest's connection ends with an errno, which is remembered."""
    inner.error = number
    with suppress(OSError):
        far.shutdown(socket.SHUT_RDWR)  # the far end hangs up for it


async def _copy(source: socket.socket, target: socket.socket) -> int:
    """Copies until the source ends, which the target is told; the errno of what ended it otherwise, or 0."""
    buffer = bytearray(PIECE_BYTES)
    try:
        while True:
            try:
                count = source.recv_into(buffer)
            except BlockingIOError:
                await trio.lowlevel.wait_readable(source)
                continue
            if not count:
                target.shutdown(socket.SHUT_WR)
                return 0
            await send_all(target, memoryview(buffer)[:count])
    except OSError as error:
        return error.errno or errno.EIO


# Datagrams.


class OuterDatagrams:
    """A guest's datagram socket, as hosts see it."""

    def __init__(self, deliver: Callable[[Name, bytes], None], start: Start) -> None:
        """`deliver`: something came for the guest, from that name."""
        self._deliver = deliver
        self._start = start
        self._sockets: dict[socket.AddressFamily, socket.socket] = {}
        self._scopes: list[trio.CancelScope] = []

    def send(self, name: Name, payload: memoryview) -> None:
        """Sends, or loses it, as a network does."""
        family = _family(name.host)
        with suppress(OSError):
            if family not in self._sockets:
                made = self._sockets[family] = socket.socket(family, socket.SOCK_DGRAM)
                made.setblocking(False)
                self._start(lambda: self._receive(made))
            self._sockets[family].sendto(payload, _address(name))

    async def _receive(self, outer: socket.socket) -> None:
        with outer:
            scope = trio.CancelScope()
            self._scopes.append(scope)
            with scope:
                while True:
                    await trio.lowlevel.wait_readable(outer)
                    with suppress(OSError):
                        payload, address = outer.recvfrom(PAYLOAD_BYTES_MAX)
                        self._deliver(name_of(address), payload)

    def close(self) -> None:
        """The guest has closed it."""
        for scope in self._scopes:
            scope.cancel()
