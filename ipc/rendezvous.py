"""Where two guests' sockets meet: pairs of host sockets, of which each guest has a near end and we the far ones.

A listening socket's near end gets one record of RECORD_BYTES per connection, with a descriptor beside it:
accept(2) is one recvmsg(2), and readiness, forks and several acceptors are the host's affair. Whose near end's
last copy is closed, hangs up. Knows no address family; the network server's streams and unix sockets meet here.
"""

import errno
import fcntl
import select
import socket
import struct
import termios
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import Final

import trio

from ipc.passing import close_all, send_descriptors
from ipc.records import RECORD_BYTES

BACKLOG_MAX: Final = 4096
"""Connections that wait to be accepted, whatever listen(2) asked for (net.core.somaxconn)."""
STREAM: Final = socket.SOCK_STREAM
PACKETS: Final = socket.SOCK_SEQPACKET
"""Kinds of ends: bytes, or messages whose ends hang up."""
_PIECE_BYTES: Final = 256 << 10
_QUEUED: Final = struct.Struct("i")
_FULL: Final = (errno.EAGAIN, errno.ETOOMANYREFS)
"""ETOOMANYREFS: as many descriptors are under way as the host allows (unix(7))."""


def make_ends(kind: int) -> tuple[socket.socket, socket.socket]:
    """(near end, far end) of one socket, neither of which blocks. `kind`: STREAM, PACKETS. OSError."""
    near, far = socket.socketpair(socket.AF_UNIX, kind)
    near.setblocking(False)
    far.setblocking(False)
    return near, far


def drain(far: socket.socket) -> None:
    """Drops what is in a far end: a guest that waits for a connection fills it, so nothing can be written."""
    with suppress(OSError):
        while far.recv(_PIECE_BYTES):
            pass


async def send_all(target: socket.socket, data: memoryview) -> None:
    """Waits until all of it is taken. OSError."""
    while data:
        try:
            data = data[target.send(data, socket.MSG_NOSIGNAL) :]
        except BlockingIOError:
            await trio.lowlevel.wait_writable(target)


@cache
def _record_cost() -> int:
    """Of one record with its descriptor, as the host counts what is queued. OSError."""
    taker, giver = make_ends(STREAM)
    with taker, giver:
        send_descriptors(giver, [bytes(RECORD_BYTES)], [giver.fileno()])
        return max(1, _queued(giver))


def _queued(far: socket.socket) -> int:
    """What the host counts for records on their way (SIOCOUTQ, unix(7))."""
    raw = fcntl.ioctl(far, termios.TIOCOUTQ, bytes(_QUEUED.size))
    count: int = _QUEUED.unpack(raw)[0]
    return count


@dataclass(slots=True)
class _Watched:
    hung_up: Callable[[], None]
    readable: Callable[[], None] | None
    writable: Callable[[], bool | None] | None = None

    def events(self) -> int:
        if self.writable is None:
            return select.EPOLLIN if self.readable is not None else 0
        # Edges: once now, then each time something was taken. Not only room is what a record may lack.
        return select.EPOLLOUT | select.EPOLLET | (select.EPOLLIN if self.readable is not None else 0)


class FarEnds:
    """All far ends of this process that wait for something: one epoll instance (epoll(7)), one task."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._watched: dict[int, _Watched] = {}

    def add(
        self, far: socket.socket, hung_up: Callable[[], None], readable: Callable[[], None] | None = None
    ) -> None:
        """Watches a far end until `remove`. `hung_up` is called when nobody has its near end any more (or both
        directions were shut down), and should remove it; `readable` whenever there is something to read."""
        watched = self._watched[far.fileno()] = _Watched(hung_up, readable)
        self._epoll.register(far.fileno(), watched.events())

    def when_writable(self, far: socket.socket, act: Callable[[], bool | None]) -> None:
        """Calls `act` when it may have become possible to write to an end that is watched, and again each time
        after it has said yes, there is more to do. What is readable may be told only once meanwhile."""
        watched = self._watched[far.fileno()]
        watched.writable = act
        self._epoll.modify(far.fileno(), watched.events())

    def remove(self, far: socket.socket) -> None:
        """To be called before it is closed or given away."""
        if self._watched.pop(far.fileno(), None) is not None:
            self._epoll.unregister(far.fileno())

    async def run(self) -> None:
        """Tells what happens, until cancelled."""
        while True:
            await trio.lowlevel.wait_readable(self._epoll.fileno())
            self.look()

    def look(self) -> None:
        """Tells at once what has happened: before a place is given, say, that its owner may just have left."""
        for number, events in self._epoll.poll(0):
            self._tell(number, events)

    def _tell(self, number: int, events: int) -> None:
        watched = self._watched.get(number)  # what came before may have removed it
        if watched is None:
            return
        if events & select.EPOLLOUT and watched.writable is not None and not watched.writable():
            watched.writable = None
            if self._watched.get(number) is watched:
                self._epoll.modify(number, watched.events())
        if events & select.EPOLLIN and watched.readable is not None and self._watched.get(number) is watched:
            watched.readable()
        if events & (select.EPOLLHUP | select.EPOLLERR) and self._watched.get(number) is watched:
            watched.hung_up()

    def close(self) -> None:
        """Nobody hears of them any more; who made them closes them."""
        self._epoll.close()
        self._watched.clear()


class Backlog:
    """Connections that a listening socket has not accepted yet."""

    def __init__(self, ends: FarEnds, far: socket.socket, limit: int) -> None:
        """`far`: of the listening socket, watched by `ends`. `limit`: how many may wait."""
        self._ends = ends
        self._far = far
        self._queue: deque[tuple[bytes, int]] = deque()
        self._room: Callable[[], None] | None = None
        self.limit = limit

    def __len__(self) -> int:
        return len(self._queue) + _queued(self._far) // _record_cost()

    @property
    def held(self) -> int:
        """Of them, those that the host has no room for: their descriptors are open here."""
        return len(self._queue)

    def is_full(self) -> bool:
        return len(self) >= self.limit

    def when_room(self, act: Callable[[], None]) -> None:
        """Calls `act`, once, when there may be room; it may be called from within."""
        self._room = act
        self._ends.when_writable(self._far, self._try_again)

    def offer(self, record: bytes, descriptor: int) -> bool:
        """A connection: what accept(2) is to know of it, and its near end, which is taken over. False: it is
        full, and the descriptor still the caller's. OSError: the listening socket is closed."""
        assert len(record) <= RECORD_BYTES
        if self.is_full():
            return False
        self._queue.append((record.ljust(RECORD_BYTES, b"\0"), descriptor))
        try:
            self._drain()
        except OSError:
            self._queue.pop()  # the last that could be queued
            raise
        if self._queue:
            self._ends.when_writable(self._far, self._try_again)
        return True

    def _drain(self) -> None:
        while self._queue:
            record, descriptor = self._queue[0]
            try:
                send_descriptors(self._far, [record], [descriptor])
            except OSError as error:
                if error.errno not in _FULL:
                    raise
                return
            self._queue.popleft()
            close_all([descriptor])

    def _try_again(self) -> bool:
        try:
            self._drain()
        except OSError:
            self.close()  # it hangs up, which is told elsewhere
            return False
        if self._room is not None and not self.is_full():
            act, self._room = self._room, None
            act()
        return bool(self._queue) or self._room is not None

    def close(self) -> None:
        """Those who wait are hung up on."""
        close_all(descriptor for _, descriptor in self._queue)
        self._queue.clear()
