"""Unix sockets in pairs: socketpair, send, receive, options (man 2 of each). Other sockets: ENOSYS yet."""

from collections.abc import Callable
from functools import partial
from typing import Any, Final

from client_vm.abi import common
from client_vm.abi.common import EAGAIN, EFAULT, EINVAL, EMFILE, EOPNOTSUPP
from client_vm.arguments import RW_BYTES_MAX, InBuffer, IoVector, OutBuffer
from client_vm.descriptors import OpenFile
from client_vm.errors import Errno
from client_vm.host_files import HostBacked
from client_vm.process import Task
from client_vm.syscalls.files import holding, put, with_sigpipe, within
from client_vm.unix_sockets import Peer, Received, UnixSocket, make_pair, passable
from client_vm.waiting import Blocking, WouldBlock

_KIND: Final = 0xF
"""SOCK_TYPE_MASK (linux/net.h)."""
_KINDS_MAX: Final = 11
"""SOCK_MAX (linux/net.h)."""
_CONTROL_BYTES_MAX: Final = 20480
"""Of ancillary data (net.core.optmem_max)."""
_NAME: Final = common.AF_UNIX.to_bytes(2, "little")
"""struct sockaddr_un of a socket without a name (unix(7))."""
_SENT_FLAGS: Final = common.MSG_EOR | common.MSG_MORE
_RECEIVED_FLAGS: Final = common.MSG_PEEK | common.MSG_TRUNC
_OPTIONS: Final = frozenset(
    (
        common.SO_TYPE, common.SO_ERROR, common.SO_SNDBUF, common.SO_RCVBUF, common.SO_KEEPALIVE,
        common.SO_REUSEADDR, common.SO_BROADCAST, common.SO_LINGER, common.SO_RCVLOWAT, common.SO_RCVTIMEO,
        common.SO_SNDTIMEO, common.SO_ACCEPTCONN, common.SO_DOMAIN, common.SO_PROTOCOL, common.SO_PEEK_OFF,
    )
)  # fmt: skip
"""The host's answers are the guest's."""
_Source = Callable[[], list[memoryview]]


def socketpair(task: Task, family: int, kind: int, protocol: int, ends: OutBuffer) -> int:
    """Two descriptors, or none: everything that can fail is tried first."""
    flags, kind = kind & ~_KIND, kind & _KIND
    if flags & ~(common.SOCK_CLOEXEC | common.SOCK_NONBLOCK) or kind >= _KINDS_MAX:
        raise Errno(EINVAL)
    if family in (common.AF_INET, common.AF_INET6):
        raise Errno(EOPNOTSUPP)
    if family != common.AF_UNIX:
        raise Errno(common.EAFNOSUPPORT)
    if protocol not in (0, common.AF_UNIX):
        raise Errno(common.EPROTONOSUPPORT)
    if kind == common.SOCK_RAW:
        kind = common.SOCK_DGRAM  # as af_unix.c does
    if kind not in (common.SOCK_STREAM, common.SOCK_DGRAM, common.SOCK_SEQPACKET):
        raise Errno(common.ESOCKTNOSUPPORT)
    fds, who = task.process.fds, task.process.credentials
    ends.check(8)
    first = fds.lowest_free()
    second = fds.lowest_free(first + 1)
    peer = Peer(task.process.pid, who.euid, who.egid)
    pair = make_pair(kind, common.O_NONBLOCK if flags & common.SOCK_NONBLOCK else 0, peer)
    for fd, file in zip((first, second), pair, strict=True):
        fds.install(fd, file, bool(flags & common.SOCK_CLOEXEC))
    ends.put(first.to_bytes(4, "little") + second.to_bytes(4, "little"))
    return 0


def _socket(task: Task, fd: int) -> UnixSocket:
    """Errno: EBADF, ENOTSOCK."""
    file = task.process.fds.get(fd)
    if file.flags & common.O_PATH:
        raise Errno(common.EBADF)
    if not isinstance(file, UnixSocket):
        raise Errno(common.ENOTSOCK)
    return file


# -- sending ------------------------------------------------------------------------------------------


def sendto(
    task: Task, fd: int, buffer: InBuffer, count: int, flags: int, name: InBuffer | None, name_bytes: int
) -> int | Blocking:
    file = _socket(task, fd)
    _check_name(file, name.address if name else 0, name_bytes)
    return _send(task, file, lambda: _whole(buffer.views(count) if count else [], count), flags, [])


def sendmsg(task: Task, fd: int, message: InBuffer, flags: int) -> int | Blocking:
    file = _socket(task, fd)
    header = common.msghdr.unpack(message.whole(common.msghdr.size))
    _check_name(file, header["msg_name"], header["msg_namelen"])
    vector, count = _vector(task, header)
    files = _rights(task, header)
    size_bytes = vector.size_bytes(count)
    return _send(task, file, lambda: _whole(vector.in_views(count), size_bytes), flags, files)


def _whole(views: list[memoryview], wanted_bytes: int) -> list[memoryview]:
    """A message of which a part cannot be read is not sent at all: Errno(EFAULT)."""
    if sum(map(len, views)) < min(wanted_bytes, RW_BYTES_MAX):
        raise Errno(EFAULT)
    return views


def _vector(task: Task, header: dict[str, Any]) -> tuple[IoVector, int]:
    """The pieces of a message. Errno: EMSGSIZE, EFAULT, EINVAL."""
    vector, count = IoVector(task.memory, header["msg_iov"]), header["msg_iovlen"]
    if count > common.UIO_MAXIOV:
        raise Errno(common.EMSGSIZE)
    vector.size_bytes(count)
    return vector, count


def _check_name(file: UnixSocket, address: int, size_bytes: int) -> None:
    """A pair's ends have their peer; nobody has a name that could be sent to (unix(7))."""
    if size_bytes < 0:
        raise Errno(EINVAL)
    if not address or not size_bytes or file.kind == common.SOCK_SEQPACKET:
        return
    raise Errno(common.EISCONN if file.kind == common.SOCK_STREAM else common.ECONNREFUSED)


def _rights(task: Task, header: dict[str, Any]) -> list[HostBacked]:
    """The descriptions that a message carries (cmsg(3)). Errno: EBADF, EINVAL, ENOBUFS, EPERM; passable's."""
    if not header["msg_control"] or not header["msg_controllen"]:
        return []
    if header["msg_controllen"] > _CONTROL_BYTES_MAX:
        raise Errno(common.ENOBUFS)
    raw = task.memory.read(header["msg_control"], header["msg_controllen"])
    fds: list[int] = []
    at, size = 0, common.cmsghdr.size
    while at + size <= len(raw):
        length, level, kind = common.cmsghdr.codec.unpack_from(raw, at)
        if length < size or at + length > len(raw):
            raise Errno(EINVAL)
        body = raw[at + size : at + length]
        if level == common.SOL_SOCKET:
            if kind == common.SCM_CREDENTIALS:
                _check_credentials(task, body)
            elif kind == common.SCM_RIGHTS:
                fds += memoryview(body[: len(body) & ~3]).cast("i").tolist()
            else:
                raise Errno(EINVAL)
        at += length + 7 & ~7
    return passable([task.process.fds.get(fd) for fd in fds])


def _check_credentials(task: Task, body: bytes) -> None:
    """What a sender names is its own; nobody can ask for it (SO_PASSCRED). Errno: EINVAL, EPERM."""
    if len(body) != 12:
        raise Errno(EINVAL)
    who = task.process.credentials
    pid, uid, gid = memoryview(body).cast("I")
    own = uid in (who.uid, who.euid, who.suid) and gid in (who.gid, who.egid, who.sgid)
    if pid != task.process.pid or not own:
        raise Errno(common.EPERM)


def _send(task: Task, file: UnixSocket, source: _Source, flags: int, files: list[HostBacked]) -> int | Blocking:
    """Sends now, or waits for room; of a stream until all is sent. Files go with the first bytes."""
    if flags & common.MSG_OOB:
        raise Errno(EOPNOTSUPP)
    passing = list(files)

    def once(data: memoryview) -> int:
        send = partial(file.send, data, flags & _SENT_FLAGS, passing)
        sent = send() if flags & common.MSG_NOSIGNAL else with_sigpipe(task, send)
        passing.clear()
        return sent

    at_once = bool(flags & common.MSG_DONTWAIT or file.flags & common.O_NONBLOCK)
    call = put(task, file, source, once, at_once)
    return call if isinstance(call, int) else _holding_all(files, call)


def _holding_all(files: list[HostBacked], call: Blocking) -> Blocking:
    """While a call waits, what it sends lives on."""
    for file in files:
        file.users += 1
    try:
        return (yield from call)
    finally:
        for file in files:
            file.drop()


# -- receiving ----------------------------------------------------------------------------------------


def recvfrom(
    task: Task, fd: int, buffer: OutBuffer, count: int, flags: int, name: OutBuffer | None, size: OutBuffer | None
) -> int | Blocking:
    file = _socket(task, fd)

    def tell(got: Received) -> int:
        for passed in got.files:
            passed.drop()
        if name is not None and size is not None:
            size.put(bytes(4))  # who sends has no name
        return got.size_bytes

    if name is not None and size is not None:
        size.check(4)
    return _receive(task, file, lambda: _enough(file, buffer.views(count) if count else [], count), flags, tell)


def recvmsg(task: Task, fd: int, message: OutBuffer, flags: int) -> int | Blocking:
    file = _socket(task, fd)
    header = common.msghdr.unpack(task.memory.read(message.address, common.msghdr.size))
    message.check(common.msghdr.size)
    if header["msg_namelen"] < 0:
        raise Errno(EINVAL)
    vector, count = _vector(task, header)
    room = min(header["msg_controllen"], _CONTROL_BYTES_MAX) if header["msg_control"] else 0
    control = OutBuffer(task.memory, header["msg_control"])
    if room:
        control.check(room)

    def tell(got: Received) -> int:
        used, cut = _put_rights(task, control, room, got.files, bool(flags & common.MSG_CMSG_CLOEXEC))
        header["msg_flags"] = got.flags | flags & common.MSG_CMSG_CLOEXEC | (common.MSG_CTRUNC if cut else 0)
        header["msg_controllen"] = used
        if header["msg_name"]:
            header["msg_namelen"] = 0
        message.put(common.msghdr.pack(**header))
        return got.size_bytes

    size_bytes = vector.size_bytes(count)
    return _receive(task, file, lambda: _enough(file, vector.out_views(count), size_bytes), flags, tell)


def _put_rights(
    task: Task, control: OutBuffer, room: int, files: list[OpenFile], close_on_exec: bool
) -> tuple[int, bool]:
    """Installs what was passed and tells the fds: (bytes of ancillary data, whether some are missing)."""
    if not files:
        return 0, False
    head = common.cmsghdr.size
    wanted = max(0, (room - head) // 4)
    fds: list[int] = []
    table = task.process.fds
    for index, file in enumerate(files):
        try:
            if index >= wanted:
                raise Errno(EMFILE)
            fd = table.lowest_free()
        except Errno:
            file.drop()
            continue
        table.install(fd, file, close_on_exec)
        fds.append(fd)
    if not fds:
        return 0, True
    length = head + 4 * len(fds)
    data = common.cmsghdr.pack(cmsg_len=length, cmsg_level=common.SOL_SOCKET, cmsg_type=common.SCM_RIGHTS)
    control.put(data + b"".join(fd.to_bytes(4, "little") for fd in fds))
    return min(length + 7 & ~7, room), len(fds) < len(files)


def _enough(file: UnixSocket, views: list[memoryview], wanted_bytes: int) -> list[memoryview]:
    """Room of which a part cannot be written must hold what waits, or nothing is received: Errno(EFAULT)."""
    room = sum(map(len, views))
    if room < min(wanted_bytes, RW_BYTES_MAX):
        seen = file.receive([memoryview(bytearray(room + 1))], common.MSG_PEEK)
        for passed in seen.files:
            passed.drop()
        if seen.size_bytes > room:
            raise Errno(EFAULT)
    return views


def _receive(
    task: Task, file: UnixSocket, room: _Source, flags: int, tell: Callable[[Received], int]
) -> int | Blocking:
    """Receives now, or waits for something; MSG_WAITALL of a stream: until the room is full."""
    if flags & common.MSG_OOB:
        raise Errno(EOPNOTSUPP)
    at_once = bool(flags & common.MSG_DONTWAIT or file.flags & common.O_NONBLOCK)
    whole = bool(flags & common.MSG_WAITALL) and file.writes_whole and not flags & common.MSG_PEEK
    if not whole or at_once:
        try:
            return tell(file.receive(room(), flags & _RECEIVED_FLAGS))
        except WouldBlock:
            if at_once:
                raise Errno(EAGAIN) from None
    rest = _receive_rest(file, room, flags & _RECEIVED_FLAGS, whole, tell)
    return holding(file, within(task, file.patience_s(False), rest))


def _receive_rest(
    file: UnixSocket, room: _Source, flags: int, whole: bool, tell: Callable[[Received], int]
) -> Blocking:
    got = Received(0, 0, [])
    while True:
        try:
            part = file.receive(_behind(room(), got.size_bytes), flags)
        except WouldBlock as blocked:
            try:
                yield blocked.wait
            except Errno:
                if got.size_bytes:
                    return tell(got)
                raise
            continue
        except Errno:
            if got.size_bytes:
                return tell(got)
            raise
        got = Received(got.size_bytes + part.size_bytes, got.flags | part.flags, part.files)
        full = got.size_bytes >= sum(map(len, room()))
        if not whole or full or not part.size_bytes or part.files:
            return tell(got)


def _behind(views: list[memoryview], done: int) -> list[memoryview]:
    """The room behind what has come already."""
    rest = []
    for view in views:
        if done < len(view):
            rest.append(view[done:])
        done = max(0, done - len(view))
    return rest


# -- what is known about them ----------------------------------------------------------------------------


def shutdown(task: Task, fd: int, how: int) -> int:
    file = _socket(task, fd)
    if not common.SHUT_RD <= how <= common.SHUT_RDWR:
        raise Errno(EINVAL)
    file.shut_down(how)
    return 0


def getsockname(task: Task, fd: int, name: OutBuffer, size: OutBuffer) -> int:
    """Ends of pairs have no names (unix(7))."""
    _socket(task, fd)
    room = _room(task, size)
    name.put(_NAME[:room])
    size.put(len(_NAME).to_bytes(4, "little"))
    return 0


def getpeername(task: Task, fd: int, name: OutBuffer, size: OutBuffer) -> int:
    return getsockname(task, fd, name, size)


def _room(task: Task, size: OutBuffer) -> int:
    """An int of the guest that is no less than 0. Errno: EINVAL, EFAULT."""
    room = int.from_bytes(task.memory.read(size.address, 4), "little", signed=True)
    if room < 0:
        raise Errno(EINVAL)
    size.check(4)
    return room


def getsockopt(task: Task, fd: int, level: int, name: int, value: OutBuffer, size: OutBuffer) -> int:
    file = _socket(task, fd)
    if level != common.SOL_SOCKET:
        raise Errno(EOPNOTSUPP)
    room = _room(task, size)
    if name == common.SO_PEERCRED:
        found = b"".join(number.to_bytes(4, "little") for number in file.peer)
    elif name in _OPTIONS:
        found = file.option(name, 16)
    else:
        raise Errno(common.ENOPROTOOPT)
    found = found[:room]
    if found:
        value.put(found)
    size.put(len(found).to_bytes(4, "little"))
    return 0


def setsockopt(task: Task, fd: int, level: int, name: int, value: InBuffer, size: int) -> int:
    file = _socket(task, fd)
    if level != common.SOL_SOCKET:
        raise Errno(EOPNOTSUPP)
    if size < 0 or (size < 4 and name in _OPTIONS):
        raise Errno(EINVAL)
    if name not in _OPTIONS:
        raise Errno(common.ENOPROTOOPT)
    if not value.address:
        raise Errno(EFAULT)
    file.set_option(name, value.whole(min(size, 16)))
    return 0
