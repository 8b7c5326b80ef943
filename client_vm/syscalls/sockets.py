"""Sockets: made, named, connected, asked and told (man 2 of each). What goes through them: syscalls/messages."""

from collections.abc import Callable
from functools import partial
from typing import Final

from client_vm import passed
from client_vm.abi import common
from client_vm.abi.common import EAFNOSUPPORT, EAGAIN, EFAULT, EINVAL
from client_vm.arguments import InBuffer, OutBuffer
from client_vm.errors import Errno
from client_vm.inet_passing import PASSED
from client_vm.inet_sockets import make_inet_socket
from client_vm.process import Task
from client_vm.sockets import OPTION_BYTES_MAX, Socket
from client_vm.syscalls.streams import holding, within
from client_vm.unix_sockets import new_socket, socket_pair
from client_vm.waiting import Blocking, WouldBlock, until_possible

_KIND: Final = 0xF
"""SOCK_TYPE_MASK (linux/net.h)."""
_KINDS_MAX: Final = 11
"""SOCK_MAX (linux/net.h)."""
_BACKLOG_MAX: Final = 4096
"""net.core.somaxconn."""
ADDRESS_BYTES_MAX: Final = 128
"""Of a struct sockaddr (struct sockaddr_storage)."""

Factory = Callable[[Task, int, int, int], Socket]
"""(task, SOCK_*, protocol, O_RDWR and O_NONBLOCK) -> a new socket. Errno: EPROTONOSUPPORT, ESOCKTNOSUPPORT,
EPROTOTYPE, EMFILE."""
PairFactory = Callable[[Task, int, int, int], tuple[Socket, Socket]]

FAMILIES: Final[dict[int, Factory]] = {
    common.AF_UNIX: new_socket,
    common.AF_INET: partial(make_inet_socket, family=common.AF_INET),
    common.AF_INET6: partial(make_inet_socket, family=common.AF_INET6),
}
"""Whose sockets there are."""
PAIRS: Final[dict[int, PairFactory]] = {common.AF_UNIX: socket_pair}
passed.KINDS.extend(PASSED)
_KNOWN: Final = frozenset((*FAMILIES, *PAIRS))


def socket(task: Task, family: int, kind: int, protocol: int) -> int:
    flags, kind = _flags(kind)
    make = FAMILIES.get(family)
    if make is None:
        raise Errno(EAFNOSUPPORT)
    fds = task.process.fds
    fd = fds.lowest_free()
    fds.install(fd, make(task, kind, protocol, _status(flags)), bool(flags & common.SOCK_CLOEXEC))
    return fd


def socketpair(task: Task, family: int, kind: int, protocol: int, ends: OutBuffer) -> int:
    """Two descriptors, or none: everything that can fail is tried first."""
    flags, kind = _flags(kind)
    make = PAIRS.get(family)
    if make is None:
        raise Errno(common.EOPNOTSUPP if family in _KNOWN else EAFNOSUPPORT)
    fds = task.process.fds
    ends.check(8)
    first = fds.lowest_free()
    second = fds.lowest_free(first + 1)
    for fd, file in zip((first, second), make(task, kind, protocol, _status(flags)), strict=True):
        fds.install(fd, file, bool(flags & common.SOCK_CLOEXEC))
    ends.put(first.to_bytes(4, "little") + second.to_bytes(4, "little"))
    return 0


def _flags(kind: int) -> tuple[int, int]:
    """(SOCK_CLOEXEC and SOCK_NONBLOCK, SOCK_*). Errno(EINVAL)."""
    flags, kind = kind & ~_KIND, kind & _KIND
    if flags & ~(common.SOCK_CLOEXEC | common.SOCK_NONBLOCK) or kind >= _KINDS_MAX:
        raise Errno(EINVAL)
    return flags, kind


def _status(flags: int) -> int:
    """A new description's flags."""
    return common.O_RDWR | (common.O_NONBLOCK if flags & common.SOCK_NONBLOCK else 0)


def socket_at(task: Task, fd: int) -> Socket:
    """Errno: EBADF, ENOTSOCK."""
    file = task.process.fds.get(fd)
    if isinstance(file, Socket):
        return file
    raise Errno(common.EBADF if file.is_path else common.ENOTSOCK)


# -- addresses --------------------------------------------------------------------------------------------


def address_in(name: InBuffer, size: int) -> bytes:
    """A struct sockaddr that the guest gives. Errno: EINVAL, EFAULT."""
    if not 0 <= size <= ADDRESS_BYTES_MAX:
        raise Errno(EINVAL)
    return name.whole(size) if size else b""


def _room(task: Task, size: OutBuffer) -> int:
    """An int of the guest that is no less than 0. Errno: EINVAL, EFAULT."""
    room = int.from_bytes(task.memory.read(size.address, 4), "little", signed=True)
    if room < 0:
        raise Errno(EINVAL)
    size.check(4)
    return room


def put_address(task: Task, name: OutBuffer | None, size: OutBuffer | None, address: bytes) -> None:
    """As much of an address as there is room for, and how long it is; after the effect, as Linux does it.
    Errno: EINVAL, EFAULT."""
    if name is None:
        return
    if size is None:
        raise Errno(EFAULT)
    room = _room(task, size)
    if address[:room]:
        name.put(address[:room])
    size.put(len(address).to_bytes(4, "little"))


def bind(task: Task, fd: int, name: InBuffer, size: int) -> int:
    socket_at(task, fd).bind(task, address_in(name, size))
    return 0


def getsockname(task: Task, fd: int, name: OutBuffer, size: OutBuffer) -> int:
    file = socket_at(task, fd)
    put_address(task, name, size, file.name(task))
    return 0


def getpeername(task: Task, fd: int, name: OutBuffer, size: OutBuffer) -> int:
    file = socket_at(task, fd)
    put_address(task, name, size, file.peer_name(task))
    return 0


# -- connections --------------------------------------------------------------------------------------------


def listen(task: Task, fd: int, backlog: int) -> int:
    file = socket_at(task, fd)
    file.listen(task, min(backlog & 0xFFFFFFFF, _BACKLOG_MAX))
    return 0


def connect(task: Task, fd: int, name: InBuffer, size: int) -> int | Blocking:
    file = socket_at(task, fd)
    call = file.connect(task, address_in(name, size))
    return call if isinstance(call, int) else holding(file, within(task, file.patience_s(True), call))


def accept4(task: Task, fd: int, name: OutBuffer | None, size: OutBuffer | None, flags: int) -> int | Blocking:
    if flags & ~(common.SOCK_CLOEXEC | common.SOCK_NONBLOCK):
        raise Errno(EINVAL)
    file = socket_at(task, fd)
    fds = task.process.fds

    def take() -> int:
        new = fds.lowest_free()
        connected, address = file.accept()
        try:
            put_address(task, name, size, address)
        except Errno:
            connected.drop()  # as net/socket.c has it
            raise
        connected.flags = _status(flags)
        fds.install(new, connected, bool(flags & common.SOCK_CLOEXEC))
        return new

    try:
        return take()
    except WouldBlock as blocked:
        if file.flags & common.O_NONBLOCK:
            raise Errno(EAGAIN) from None
        call = until_possible(take, blocked)
        return holding(file, within(task, file.patience_s(False), call))


def accept(task: Task, fd: int, name: OutBuffer | None, size: OutBuffer | None) -> int | Blocking:
    return accept4(task, fd, name, size, 0)


def shutdown(task: Task, fd: int, how: int) -> int:
    file = socket_at(task, fd)
    if not common.SHUT_RD <= how <= common.SHUT_RDWR:
        raise Errno(EINVAL)
    file.shut_down(how)
    return 0


# -- options ------------------------------------------------------------------------------------------------


def getsockopt(task: Task, fd: int, level: int, name: int, value: OutBuffer, size: OutBuffer) -> int:
    file = socket_at(task, fd)
    room = _room(task, size)
    found = file.option(level, name, min(room, OPTION_BYTES_MAX))
    if found:
        value.put(found)
    size.put(len(found).to_bytes(4, "little"))
    return 0


def setsockopt(task: Task, fd: int, level: int, name: int, value: InBuffer, size: int) -> int:
    if size < 0:
        raise Errno(EINVAL)
    file = socket_at(task, fd)
    file.set_option(level, name, value.whole(min(size, OPTION_BYTES_MAX)) if size else b"")
    return 0
