"""What is done to fds and descriptions besides moving data: dup, fcntl, ioctl (man 2 of each)."""

from typing import Final

from client_vm.abi import common
from client_vm.abi.common import EBADF, EINVAL, ENOTTY
from client_vm.arguments import OutBuffer
from client_vm.descriptors import OpenFile, RemoteFile
from client_vm.errors import Errno
from client_vm.host_files import HostBacked, PipeEnd
from client_vm.memory_files import MemoryFile
from client_vm.process import Task
from client_vm.pty_files import PtyMaster, open_slave, take_over, terminal_of
from client_vm.sockets import Socket
from client_vm.syscalls.locks import LOCK_COMMANDS, lock_command
from client_vm.waiting import Blocking

_SETTABLE: Final = common.O_APPEND | common.O_NONBLOCK | common.O_NOATIME
"""Status flags that F_SETFL changes; it ignores the rest (fcntl(2))."""


def dup(task: Task, fd: int) -> int:
    return _duplicate(task, fd, 0, False)


def _duplicate(task: Task, fd: int, minimum: int, close_on_exec: bool) -> int:
    fds = task.process.fds
    file = fds.get(fd)
    new = fds.lowest_free(minimum)
    file.users += 1
    fds.install(new, file, close_on_exec)
    return new


def dup3(task: Task, old: int, new: int, flags: int) -> int:
    if flags & ~common.O_CLOEXEC or old == new:
        raise Errno(EINVAL)
    return _duplicate_to(task, old, new, bool(flags))


def dup2(task: Task, old: int, new: int) -> int:
    if old == new:
        task.process.fds.get(old)
        return new
    return _duplicate_to(task, old, new, False)


def _duplicate_to(task: Task, old: int, new: int, close_on_exec: bool) -> int:
    fds = task.process.fds
    file = fds.get(old)
    if not 0 <= new < fds.limit:
        raise Errno(EBADF)
    file.users += 1
    fds.install(new, file, close_on_exec)
    return new


# -- fcntl ------------------------------------------------------------------------------------------


def fcntl(task: Task, fd: int, command: int, argument: int) -> int | Blocking:
    fds = task.process.fds
    descriptor = fds.descriptor(fd)
    file = descriptor.file
    if command in (common.F_DUPFD, common.F_DUPFD_CLOEXEC):
        minimum = argument & 0xFFFFFFFF
        if minimum >= fds.limit:
            raise Errno(EINVAL)
        return _duplicate(task, fd, minimum, command == common.F_DUPFD_CLOEXEC)
    if command == common.F_GETFD:
        return common.FD_CLOEXEC if descriptor.close_on_exec else 0
    if command == common.F_SETFD:
        descriptor.close_on_exec = bool(argument & common.FD_CLOEXEC)
        return 0
    if command == common.F_GETFL:
        return file.flags
    if file.is_path:
        raise Errno(EBADF)
    if command == common.F_SETFL:
        file.update_flags(_SETTABLE, argument)
        return 0
    if command in LOCK_COMMANDS:
        return lock_command(task, file, command, argument)
    if command in (common.F_GETPIPE_SZ, common.F_SETPIPE_SZ):
        if not isinstance(file, HostBacked):
            raise Errno(EBADF)
        return file.pipe_size(argument if command == common.F_SETPIPE_SZ else None)
    if command in (common.F_ADD_SEALS, common.F_GET_SEALS) and isinstance(file, MemoryFile):
        return file.seals(command, argument & 0xFFFFFFFF)
    return _owner(task, file, command, argument)


def _owner(task: Task, file: OpenFile, command: int, argument: int) -> int:
    """F_SETOWN and its kin: kept, and told again. No description sends signals (O_ASYNC cannot be set)."""
    struct = common.f_owner_ex
    if command == common.F_GETOWN:
        kind, number = file.owner
        return -number if kind == common.F_OWNER_PGRP else number
    if command == common.F_SETOWN:
        number = argument - (1 << 32) if argument & 0x80000000 else argument & 0x7FFFFFFF
        _set_owner(task, file, common.F_OWNER_PGRP if number < 0 else common.F_OWNER_PID, abs(number))
        return 0
    if command == common.F_GETOWN_EX:
        kind, number = file.owner
        task.memory.write(argument, struct.pack(type=kind, pid=number))
        return 0
    if command == common.F_SETOWN_EX:
        wanted = struct.unpack(task.memory.read(argument, struct.size))
        if wanted["type"] not in (common.F_OWNER_TID, common.F_OWNER_PID, common.F_OWNER_PGRP):
            raise Errno(EINVAL)
        _set_owner(task, file, wanted["type"], wanted["pid"])
        return 0
    if command == common.F_GETSIG:
        return 0
    raise Errno(EINVAL)


def _set_owner(task: Task, file: OpenFile, kind: int, number: int) -> None:
    """Errno: EINVAL; ESRCH: there is no such process."""
    if not 0 <= number < 1 << 31:
        raise Errno(EINVAL)
    if number and kind == common.F_OWNER_PID:
        task.process.link.ids(number)
    file.owner = kind, number


# -- ioctl ------------------------------------------------------------------------------------------

_HOST_REQUESTS: Final = {
    common.TCGETS: (common.termios, "out"),
    common.TCSETS: (common.termios, "in"),
    common.TCSETSW: (common.termios, "in"),
    common.TCSETSF: (common.termios, "in"),
    common.TIOCGWINSZ: (common.winsize, "out"),
    common.TIOCSWINSZ: (common.winsize, "in"),
}
_HOST_WORDS: Final = {
    common.TIOCGPTN: "out",
    common.TIOCSPTLCK: "in",
    common.TIOCGPTLCK: "out",
    common.TIOCPKT: "in",
    common.TIOCGPKT: "out",
    common.FIONREAD: "out",
    common.TIOCOUTQ: "out",  # SIOCOUTQ of a socket
    common.SIOCATMARK: "out",
}
"""Requests about an int."""
_HOST_ACTS: Final = (common.TCSBRK, common.TCSBRKP, common.TCXONC, common.TCFLSH)
"""Requests whose argument is a number, not a place (ioctl_tty(2))."""
_SESSION_REQUESTS: Final = (
    common.TIOCGPGRP,
    common.TIOCSPGRP,
    common.TIOCGSID,
    common.TIOCSCTTY,
    common.TIOCNOTTY,
)


def ioctl(task: Task, fd: int, request: int, argument: OutBuffer) -> int:
    """Requests of fds, of the caller's terminal, and FIONREAD; everything else is ENOTTY."""
    descriptor = task.process.fds.descriptor(fd)
    file = descriptor.file
    if file.is_path:
        raise Errno(EBADF)
    if request in (common.FIOCLEX, common.FIONCLEX):
        descriptor.close_on_exec = request == common.FIOCLEX
        return 0
    if request == common.FIONBIO:
        wanted = any(task.memory.read(argument.address, 4))
        file.update_flags(common.O_NONBLOCK, common.O_NONBLOCK if wanted else 0)
        return 0
    if request == common.FIOASYNC and isinstance(file, (Socket, PipeEnd)):
        task.memory.read(argument.address, 4)
        return 0  # as F_SETFL with O_ASYNC
    if request in _HOST_REQUESTS:
        struct, direction = _HOST_REQUESTS[request]
        if direction == "in":
            file.ioctl(request, task.memory.read(argument.address, struct.size))
        else:
            argument.put(file.ioctl(request, bytes(struct.size)))
        return 0
    if request in _SESSION_REQUESTS:
        return _session_request(task, file, request, argument)
    if request == common.FIONREAD and isinstance(file, RemoteFile) and not file.is_directory:
        argument.put((max(0, file.attributes().size - file.offset) & 0xFFFFFFFF).to_bytes(4, "little"))
        return 0
    return _host_request(task, file, request, argument)


def _host_request(task: Task, file: OpenFile, request: int, argument: OutBuffer) -> int:
    """What the host answers about a description that stands on one of its own. Errno(ENOTTY)."""
    if request in _HOST_WORDS:
        if _HOST_WORDS[request] == "in":
            file.ioctl(request, task.memory.read(argument.address, 4))
        else:
            argument.put(file.ioctl(request, bytes(4)))
        return 0
    if request in _HOST_ACTS and isinstance(file, HostBacked):
        file.act(request, argument.address)
        return 0
    if request == common.TIOCGPTPEER and isinstance(file, PtyMaster):
        fds, flags = task.process.fds, argument.address
        new = fds.lowest_free()
        close_on_exec, kept = bool(flags & common.O_CLOEXEC), flags & (common.O_ACCMODE | common.O_NONBLOCK)
        slave = open_slave(task, file.number, kept)
        fds.install(new, slave, close_on_exec)
        if not flags & common.O_NOCTTY:
            take_over(task, slave)
        return new
    raise Errno(ENOTTY)


def _session_request(task: Task, file: OpenFile, request: int, argument: OutBuffer) -> int:
    """Job control (ioctl_tty(2)): groups and sessions are farcall's own, not the host's.

    Errno: ENOTTY if it is not the process's controlling terminal; EPERM, EINVAL.
    """
    terminal, by_master = terminal_of(file)
    link = task.process.link
    if request == common.TIOCSCTTY:
        link.take_terminal(terminal)
        return 0
    if request == common.TIOCNOTTY:
        link.leave_terminal(terminal)
        return 0
    foreground, session = link.foreground(terminal, by_master)
    if request == common.TIOCGPGRP:
        argument.put(foreground.to_bytes(4, "little"))
    elif request == common.TIOCSPGRP:
        group = int.from_bytes(task.memory.read(argument.address, 4), "little", signed=True)
        if group < 0:
            raise Errno(EINVAL)
        link.set_foreground(terminal, group)
    elif not session:
        raise Errno(ENOTTY)
    else:
        argument.put(session.to_bytes(4, "little"))
    return 0
