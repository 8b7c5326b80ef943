"""The unix sockets of a run (unix(7)), as the kernel process knows them: far ends, names, who listens.

Each socket is a pair of the host's; its worker has the near end, we the far one until a connection takes it to
whoever accepts that (ipc.rendezvous). So bytes never pass through here, and what a worker does to its ends is
done to those that it talks to. Datagrams are written by their senders into duplicates of the receiver's far end.

A socket ends when the last copy of its near end is closed: its far end hangs up. Names of files are those of the
file server, (device, inode), whose rights the workers have checked, as for FIFOs.
"""

import os
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from client_vm.abi import common
from client_vm.abi.common import EADDRINUSE, EAGAIN, ECONNREFUSED, EINVAL, EISCONN, EMFILE, ENFILE, ENOTCONN
from client_vm.errors import Errno
from client_vm.unix_records import ADDRESS_BYTES_MAX, NO_NAME, NOBODY, Peer, encode_record
from ipc.rendezvous import PACKETS, STREAM, Backlog, FarEnds, make_ends
from ipc.seams import Random

SOCKETS_MAX: Final = 1024
"""Far ends that one process has made us keep."""
ALL_MAX: Final = 8192
"""Of a run."""
BACKLOG_MAX: Final = 256
"""Connections that wait for one listening socket: as many as the host keeps, so that none is open here."""
TOKEN_BYTES: Final = 16
_AUTOBIND_TRIES: Final = 0x100000
"""As many names as autobind has (af_unix.c: unix_autobind)."""

Key = tuple[int, int] | tuple[int, bytes]
"""(device, inode), or (SOCK_*, abstract name): those of different types do not meet (af_unix.c)."""


class Name(NamedTuple):
    """Where a socket is bound, or looked for."""

    address: bytes
    """struct sockaddr_un."""
    device: int
    inode: int
    """0: the name is abstract."""

    def key(self, kind: int) -> Key:
        return (self.device, self.inode) if self.inode else (kind, self.address[2:])


@dataclass(slots=True, eq=False)
class _Socket:
    """One that is not connected."""

    number: int
    token: bytes
    maker: int
    """Guest pid."""
    kind: int
    far: socket.socket
    inode: int
    """Of the near end, at the host."""
    name: Name | None = None
    backlog: Backlog | None = None
    listener: Peer = NOBODY
    """Who called listen(2)."""
    peer: "_Socket | None" = None
    """Whom its datagrams go to."""
    lost_peer: bool = False
    waiters: set[int] = field(default_factory=set)
    """Processes that wait for room in its backlog."""


class Entry(NamedTuple):
    """What /proc/net/unix shows of one."""

    number: int
    kind: int
    listens: bool
    inode: int
    address: bytes


class UnixBroker:
    """All of them."""

    def __init__(self, ends: FarEnds, random: Random, changed: Callable[[int], None]) -> None:
        """`changed` is told of a process that waits for a listening socket which may have room, or has gone."""
        self._ends = ends
        self._random = random
        self._changed = changed
        self._sockets: dict[bytes, _Socket] = {}
        self._names: dict[Key, _Socket] = {}
        self._made: Counter[int] = Counter()
        self._numbers = 0
        self._next_auto = 0

    # Making and ending.

    def make(self, pid: int, kind: int) -> tuple[bytes, int]:
        """(token, near end, the caller's). Errno: EINVAL, EMFILE, ENFILE."""
        if kind not in (common.SOCK_STREAM, common.SOCK_DGRAM, common.SOCK_SEQPACKET):
            raise Errno(EINVAL)
        if self._made[pid] >= SOCKETS_MAX or len(self._sockets) >= ALL_MAX:
            self._ends.look()  # some may have gone
        if self._made[pid] >= SOCKETS_MAX:
            raise Errno(EMFILE)
        if len(self._sockets) >= ALL_MAX:
            raise Errno(ENFILE)
        try:
            near, far = make_ends(STREAM if kind == common.SOCK_STREAM else PACKETS)
        except OSError:
            raise Errno(ENFILE) from None
        self._numbers += 1
        token = self._random.bytes(TOKEN_BYTES)
        made = _Socket(self._numbers, token, pid, kind, far, os.fstat(near.fileno()).st_ino)
        self._sockets[token] = made
        self._made[pid] += 1
        self._ends.add(far, lambda: self._end(made))
        return token, near.detach()

    def _end(self, ended: _Socket) -> None:
        """Nobody has its near end any more."""
        self._forget(ended)
        ended.far.close()

    def _forget(self, known: _Socket) -> None:
        """It has ended, or is connected: its far end is watched no more."""
        self._ends.remove(known.far)
        del self._sockets[known.token]
        self._made[known.maker] -= 1
        if not self._made[known.maker]:
            del self._made[known.maker]
        if known.name is not None:
            self._names.pop(known.name.key(known.kind), None)
        if known.backlog is not None:
            known.backlog.close()
        for other in self._sockets.values() if known.kind == common.SOCK_DGRAM else ():
            if other.peer is known:
                other.peer, other.lost_peer = None, True
        self._tell(known)

    def _tell(self, listening: _Socket) -> None:
        waiters, listening.waiters = listening.waiters, set()
        for pid in waiters:
            self._changed(pid)

    def _get(self, token: bytes) -> _Socket:
        """Errno(EINVAL)."""
        self._ends.look()  # whoever is gone has no name any more
        found = self._sockets.get(token)
        if found is None:
            raise Errno(EINVAL)
        return found

    # Names.

    def bind(self, token: bytes, name: Name) -> bytes:
        """The struct sockaddr_un that it has now. Errno: EINVAL, EADDRINUSE."""
        if not 2 <= len(name.address) <= ADDRESS_BYTES_MAX:
            raise Errno(EINVAL)
        known = self._get(token)
        automatic = len(name.address) == len(NO_NAME)
        if known.name is not None:
            if automatic:
                return known.name.address
            raise Errno(EINVAL)
        if automatic:
            name = self._free_name(known.kind)
        elif name.key(known.kind) in self._names:
            raise Errno(EADDRINUSE)
        known.name = name
        self._names[name.key(known.kind)] = known
        return name.address

    def _free_name(self, kind: int) -> Name:
        for _ in range(ALL_MAX + 1):
            self._next_auto = (self._next_auto + 1) % _AUTOBIND_TRIES
            name = Name(NO_NAME + b"\0%05x" % self._next_auto, 0, 0)
            if name.key(kind) not in self._names:
                return name
        raise Errno(common.ENOSPC)

    def _find(self, name: Name, kind: int) -> _Socket:
        """Errno: ECONNREFUSED, EPROTOTYPE."""
        found = self._names.get(name.key(kind))
        if found is None:
            raise Errno(ECONNREFUSED)
        if found.kind != kind:
            raise Errno(common.EPROTOTYPE)
        return found

    def describe(self, token: bytes) -> tuple[bytes, bytes]:
        """(its address, that of whom its datagrams go to). Errno(EINVAL)."""
        known = self._get(token)
        return _address(known), _address(known.peer)

    def entries(self, after: int) -> Iterator[Entry]:
        """Those with greater numbers, by number."""
        self._ends.look()
        for known in self._sockets.values():
            if known.number > after:
                listens = known.backlog is not None
                yield Entry(known.number, known.kind, listens, known.inode, _address(known))

    # Connections.

    def listen(self, token: bytes, backlog: int, caller: Peer) -> None:
        """Errno: EINVAL, EOPNOTSUPP."""
        known = self._get(token)
        if known.kind == common.SOCK_DGRAM:
            raise Errno(common.EOPNOTSUPP)
        if known.name is None:
            raise Errno(EINVAL)
        known.listener = caller
        limit = min(backlog + 1, BACKLOG_MAX)  # so many wait (unix_recvq_full)
        if known.backlog is None:
            known.backlog = Backlog(self._ends, known.far, limit)
        else:
            known.backlog.limit = limit
            self._tell(known)

    def connect(self, token: bytes, to: Name | None, caller: Peer, waits: bool) -> tuple[bytes, Peer]:
        """(address of whom it has reached, who that is). Errno: ECONNREFUSED, EPROTOTYPE, EPERM, EISCONN, EAGAIN,
        EINVAL."""
        self._ends.look()
        own = self._sockets.get(token)
        if own is not None and own.kind == common.SOCK_DGRAM:
            return self._connect_datagrams(own, to), NOBODY
        if to is None:
            raise Errno(EINVAL)
        if own is None:
            raise Errno(EISCONN)
        other = self._find(to, own.kind)
        if other.backlog is None:
            raise Errno(ECONNREFUSED)
        if other.backlog.is_full() or other.backlog.held:
            if waits:
                other.waiters.add(caller.pid)
                other.backlog.when_room(lambda: self._tell(other))
            raise Errno(EAGAIN)
        if own.backlog is not None:
            raise Errno(EINVAL)
        self._join(own, other, caller)
        return _address(other), other.listener

    def _join(self, own: _Socket, other: _Socket, caller: Peer) -> None:
        """Gives the far end to whoever accepts it. Errno(ECONNREFUSED)."""
        assert other.backlog is not None
        try:
            # Until it is accepted, what is sent says who sent it (af_unix.c: maybe_add_creds).
            own.far.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
            number = os.dup(own.far.fileno())
        except OSError:
            raise Errno(EAGAIN) from None
        try:
            taken = other.backlog.offer(encode_record(caller, _address(own)), number)
        except OSError:  # it was shut down
            os.close(number)
            raise Errno(ECONNREFUSED) from None
        assert taken, "a backlog that was not full"
        self._forget(own)
        own.far.close()

    def _connect_datagrams(self, own: _Socket, to: Name | None) -> bytes:
        """Errno: ECONNREFUSED, EPROTOTYPE, EPERM."""
        other = None if to is None else self._find(to, own.kind)
        if other is not None:
            _check_may_send(own, other)
        own.peer, own.lost_peer = other, False
        return _address(other)

    def reach(self, token: bytes, to: Name | None) -> int:
        """A duplicate of a far end that datagrams are written to, the caller's. Errno: ECONNREFUSED, EPROTOTYPE,
        EPERM, ENOTCONN, ENFILE, EINVAL."""
        self._ends.look()
        own = self._sockets.get(token)
        if to is not None:
            other = self._find(to, common.SOCK_DGRAM)
        elif own is None or own.peer is None:
            raise Errno(ECONNREFUSED if own is not None and own.lost_peer else ENOTCONN)
        else:
            other = own.peer
        if other is not own:
            _check_may_send(own, other)
        try:
            return os.dup(other.far.fileno())
        except OSError:
            raise Errno(ENFILE) from None

    def close(self) -> None:
        """The run is over."""
        for known in list(self._sockets.values()):
            known.waiters.clear()
            self._end(known)


def _address(known: _Socket | None) -> bytes:
    return NO_NAME if known is None or known.name is None else known.name.address


def _check_may_send(own: _Socket | None, other: _Socket) -> None:
    """Who is connected hears that one only (af_unix.c: unix_may_send). Errno(EPERM)."""
    if other.peer is not None and other.peer is not own:
        raise Errno(common.EPERM)
