"""What goes through sockets: send, sendmsg, sendmmsg, and the same for receiving (man 2 of each)."""

from collections.abc import Callable
from typing import Any, Final

from client_vm.abi import common
from client_vm.abi.common import EAGAIN, EFAULT, EINVAL, EMFILE
from client_vm.arguments import RW_BYTES_MAX, InBuffer, IoVector, OutBuffer
from client_vm.descriptors import OpenFile
from client_vm.errors import Errno
from client_vm.process import Task
from client_vm.sockets import NOTHING, Beside, Control, Destination, Received, Socket
from client_vm.syscalls.sockets import (
    ADDRESS_BYTES_MAX,
    address_in,
    put_address,
    socket_at,
)
from client_vm.syscalls.streams import holding, put, signal_break, within
from client_vm.waiting import Blocking, WouldBlock

_CONTROL_BYTES_MAX: Final = 20480
"""Of ancillary data (net.core.optmem_max)."""
_HEAD_BYTES: Final = common.cmsghdr.size
_Source = Callable[[], list[memoryview]]


# -- sending ------------------------------------------------------------------------------------------


def sendto(
    task: Task, fd: int, buffer: InBuffer, count: int, flags: int, name: InBuffer | None, name_bytes: int
) -> int | Blocking:
    file = socket_at(task, fd)
    if not flags and name is None and file.writes_whole and file.flags & common.O_NONBLOCK:
        plain = buffer.plain(count)
        if plain is not None:
            return _write_at_once(task, file, plain)
    address = address_in(name, name_bytes) if name is not None else b""
    to = file.destination(task, address) if address else None
    return _send(task, file, lambda: _whole(buffer.views(count) if count else [], count), flags, NOTHING, to)


def _write_at_once(task: Task, file: Socket, data: memoryview) -> int:
    """What nearly all programs do: a stream's bytes without flags, as write(2), and it need not wait."""
    try:
        return file.write(data)
    except WouldBlock:
        raise Errno(EAGAIN) from None
    except Errno as error:
        signal_break(task, error)
        raise


def sendmsg(task: Task, fd: int, message: InBuffer, flags: int) -> int | Blocking:
    return _send_message(task, socket_at(task, fd), message.address, flags)


def sendmmsg(task: Task, fd: int, messages: OutBuffer, count: int, flags: int) -> int | Blocking:
    file = socket_at(task, fd)
    count = min(count, common.UIO_MAXIOV)
    return holding(file, _send_many(task, file, messages.address, count, flags)) if count else 0


def _send_many(task: Task, file: Socket, address: int, count: int, flags: int) -> Blocking:
    """An error after the first message is not told (sendmmsg(2))."""
    for index in range(count):
        entry = address + index * common.mmsghdr.size
        try:
            call = _send_message(task, file, entry, flags)
            sent = call if isinstance(call, int) else (yield from call)
            _put_length(task, entry, sent)
        except Errno:
            if index:
                return index
            raise
    return count


def _put_length(task: Task, entry: int, size_bytes: int) -> None:
    task.memory.write(entry + common.mmsghdr.fields["msg_len"].offset, size_bytes.to_bytes(4, "little"))


def _send_message(task: Task, file: Socket, address: int, flags: int) -> int | Blocking:
    header = _header(task, address)
    vector, count = _vector(task, header)
    beside = file.beside(task, _control_in(task, header)) if header["msg_control"] else NOTHING
    name = task.memory.read(header["msg_name"], header["msg_namelen"]) if header["msg_name"] else b""
    to = file.destination(task, name) if name else None
    size_bytes = vector.size_bytes(count)
    return _send(task, file, lambda: _whole(vector.in_views(count), size_bytes), flags, beside, to)


def _header(task: Task, address: int) -> dict[str, Any]:
    """A struct msghdr, checked. Errno: EFAULT, EINVAL."""
    header = common.msghdr.unpack(task.memory.read(address, common.msghdr.size))
    if header["msg_namelen"] < 0:
        raise Errno(EINVAL)
    header["msg_namelen"] = min(header["msg_namelen"], ADDRESS_BYTES_MAX)
    return header


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


def _control_in(task: Task, header: dict[str, Any]) -> list[Control]:
    """The ancillary data that goes with a message (cmsg(3)). Errno: EINVAL, ENOBUFS, EFAULT."""
    if header["msg_controllen"] > _CONTROL_BYTES_MAX:
        raise Errno(common.ENOBUFS)
    raw = task.memory.read(header["msg_control"], header["msg_controllen"])
    found: list[Control] = []
    at = 0
    while at + _HEAD_BYTES <= len(raw):
        length, level, kind = common.cmsghdr.codec.unpack_from(raw, at)
        if length < _HEAD_BYTES or at + length > len(raw):
            raise Errno(EINVAL)
        found.append((level, kind, raw[at + _HEAD_BYTES : at + length]))
        at += length + 7 & ~7
    return found


def _send(
    task: Task, file: Socket, source: _Source, flags: int, beside: Beside, to: Destination | None
) -> int | Blocking:
    """Sends now, or waits for room; of a stream until all is sent. What is beside goes with the first bytes."""
    passing = beside

    def once(data: memoryview) -> int:
        nonlocal passing
        try:
            sent = file.send(data, flags, passing, to)
        except Errno as error:
            if not flags & common.MSG_NOSIGNAL:
                signal_break(task, error)
            raise
        passing = NOTHING
        return sent

    at_once = bool(flags & common.MSG_DONTWAIT or file.flags & common.O_NONBLOCK)
    call: int | Blocking = 0
    try:
        call = put(task, file, source, once, at_once)
    finally:
        if isinstance(call, int) and to is not None:
            to.close()
    return call if isinstance(call, int) else _keeping(beside, to, call)


def _keeping(beside: Beside, to: Destination | None, call: Blocking) -> Blocking:
    """While a call waits, what it sends lives on."""
    for file in beside.files:
        file.users += 1
    try:
        return (yield from call)
    finally:
        for file in beside.files:
            file.drop()
        if to is not None:
            to.close()


# -- receiving ----------------------------------------------------------------------------------------


def recvfrom(
    task: Task, fd: int, buffer: OutBuffer, count: int, flags: int, name: OutBuffer | None, size: OutBuffer | None
) -> int | Blocking:
    file = socket_at(task, fd)
    if not flags and name is None and file.writes_whole:
        plain = buffer.plain(count)
        if plain is not None:  # what nearly all programs do: as read(2)
            try:
                return file.read([plain])
            except WouldBlock:
                if file.flags & common.O_NONBLOCK:
                    raise Errno(EAGAIN) from None

    def tell(got: Received) -> int:
        for passed in got.files:
            passed.drop()
        put_address(task, name, size, got.address)
        return got.size_bytes

    return _receive(task, file, lambda: _enough(file, buffer.views(count) if count else [], count), flags, tell)


def recvmsg(task: Task, fd: int, message: OutBuffer, flags: int) -> int | Blocking:
    return _receive_message(task, socket_at(task, fd), message.address, flags)


def recvmmsg(
    task: Task, fd: int, messages: OutBuffer, count: int, flags: int, limit: OutBuffer | None
) -> int | Blocking:
    file = socket_at(task, fd)
    count = min(count, common.UIO_MAXIOV)
    deadline = None
    if limit is not None:
        limit.check(common.timespec.size)
        given = common.timespec.unpack(task.memory.read(limit.address, common.timespec.size))
        if given["tv_sec"] < 0 or not 0 <= given["tv_nsec"] < 1_000_000_000:
            raise Errno(EINVAL)
        now = task.kernel.clock.monotonic_s()
        deadline = now + given["tv_sec"] + given["tv_nsec"] / 1_000_000_000
    call = _receive_many(task, file, messages.address, count, flags, deadline)
    return holding(file, call if limit is None else _told_rest(task, call, limit, deadline or 0.0))


def _receive_many(
    task: Task, file: Socket, address: int, count: int, flags: int, deadline: float | None
) -> Blocking:
    """The deadline is looked at after each message only (recvmmsg(2), BUGS)."""
    for index in range(count):
        entry = address + index * common.mmsghdr.size
        try:
            call = _receive_message(task, file, entry, flags & ~common.MSG_WAITFORONE)
            got = call if isinstance(call, int) else (yield from call)
            _put_length(task, entry, got)
        except Errno:
            if index:
                return index
            raise
        if deadline is not None and task.kernel.clock.monotonic_s() >= deadline:
            return index + 1
        if flags & common.MSG_WAITFORONE:
            flags |= common.MSG_DONTWAIT
    return count


def _told_rest(task: Task, call: Blocking, limit: OutBuffer, deadline: float) -> Blocking:
    """The call, and how much of its time was left."""
    count = yield from call
    left_ns = max(0, int((deadline - task.kernel.clock.monotonic_s()) * 1_000_000_000))
    limit.put(common.timespec.pack(tv_sec=left_ns // 1_000_000_000, tv_nsec=left_ns % 1_000_000_000))
    return count


def _receive_message(task: Task, file: Socket, address: int, flags: int) -> int | Blocking:
    header = _header(task, address)
    message = OutBuffer(task.memory, address)
    message.check(common.msghdr.size)
    vector, count = _vector(task, header)
    name = OutBuffer(task.memory, header["msg_name"])
    if header["msg_name"]:
        name.check(header["msg_namelen"])
    room = min(header["msg_controllen"], _CONTROL_BYTES_MAX) if header["msg_control"] else 0
    control = OutBuffer(task.memory, header["msg_control"])
    if room:
        control.check(room)

    def tell(got: Received) -> int:
        used, cut = _put_control(task, control, room, got, bool(flags & common.MSG_CMSG_CLOEXEC))
        header["msg_flags"] = got.flags | flags & common.MSG_CMSG_CLOEXEC | (common.MSG_CTRUNC if cut else 0)
        header["msg_controllen"] = used
        if header["msg_name"]:
            name.put(got.address[: header["msg_namelen"]])
            header["msg_namelen"] = len(got.address)
        message.put(common.msghdr.pack(**header))
        return got.size_bytes

    size_bytes = vector.size_bytes(count)
    return _receive(task, file, lambda: _enough(file, vector.out_views(count), size_bytes), flags, tell)


def _put_control(
    task: Task, control: OutBuffer, room: int, got: Received, close_on_exec: bool
) -> tuple[int, bool]:
    """Tells what came beside a message, passed files last: (bytes of it, whether some is missing)."""
    data, cut = bytearray(), False
    for level, kind, body in got.control:
        left = room - len(data) - _HEAD_BYTES
        if left < 0:
            cut = True
            continue
        cut |= left < len(body)
        data += _piece(level, kind, body[:left])
        data += bytes(min(-len(data) % 8, room - len(data)))
    if got.files:
        fds = _install(task, got.files, max(0, (room - len(data) - _HEAD_BYTES) // 4), close_on_exec)
        cut |= len(fds) < len(got.files)
        if fds:
            body = b"".join(fd.to_bytes(4, "little") for fd in fds)
            data += _piece(common.SOL_SOCKET, common.SCM_RIGHTS, body)
            data += bytes(min(-len(data) % 8, room - len(data)))
    if data:
        control.put(bytes(data))
    return len(data), cut


def _piece(level: int, kind: int, body: bytes) -> bytes:
    return common.cmsghdr.pack(cmsg_len=_HEAD_BYTES + len(body), cmsg_level=level, cmsg_type=kind) + body


def _install(task: Task, files: tuple[OpenFile, ...], wanted: int, close_on_exec: bool) -> list[int]:
    """The fds of what was passed, as many as are wanted and can be had; the others are dropped."""
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
    return fds


def _enough(file: Socket, views: list[memoryview], wanted_bytes: int) -> list[memoryview]:
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
    task: Task, file: Socket, room: _Source, flags: int, tell: Callable[[Received], int]
) -> int | Blocking:
    """Receives now, or waits for something; MSG_WAITALL of a stream: until the room is full."""
    at_once = bool(flags & common.MSG_DONTWAIT or file.flags & common.O_NONBLOCK)
    whole = bool(flags & common.MSG_WAITALL) and file.writes_whole and not flags & common.MSG_PEEK
    if not whole or at_once:
        try:
            return tell(file.receive(room(), flags))
        except WouldBlock:
            if at_once:
                raise Errno(EAGAIN) from None
    rest = _receive_rest(file, room, flags, whole, tell)
    return holding(file, within(task, file.patience_s(False), rest))


def _receive_rest(
    file: Socket, room: _Source, flags: int, whole: bool, tell: Callable[[Received], int]
) -> Blocking:
    got = Received(0, 0)
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
        got = part._replace(
            size_bytes=got.size_bytes + part.size_bytes,
            flags=got.flags | part.flags,
            control=got.control or part.control,
        )
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
