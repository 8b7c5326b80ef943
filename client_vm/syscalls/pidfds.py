"""Processes by descriptor (man 2 pidfd_open, pidfd_send_signal). Pids are never used twice in a run, so that a
pidfd needs no more than the pid, and a descriptor of the kernel process's that tells of the end."""

from client_vm.abi import common
from client_vm.abi.common import EBADF, EINVAL, ESRCH
from client_vm.arguments import InBuffer
from client_vm.descriptors import OpenFile
from client_vm.errors import Errno
from client_vm.event_files import ProcessDescriptor
from client_vm.process import Task
from client_vm.syscalls.signalling import kill, rt_sigqueueinfo


def pidfd_open(task: Task, pid: int, flags: int) -> int:
    """Errno: EINVAL; ESRCH: there is no such process, or it has been waited for; EMFILE."""
    if flags & ~common.O_NONBLOCK or pid <= 0:
        raise Errno(EINVAL)
    if pid != task.process.pid and pid in task.process.tasks:
        raise Errno(EINVAL)  # a thread of a process, which is not its first
    fd = task.process.fds.lowest_free()
    task.process.fds.install(fd, watched(task, pid, flags), close_on_exec=True)
    return fd


def watched(task: Task, pid: int, flags: int) -> OpenFile:
    """A description of the process. Errno: ESRCH, EMFILE."""
    return ProcessDescriptor(task.process.link.watch(pid), pid, common.O_RDWR | flags)


def process_of(task: Task, fd: int) -> ProcessDescriptor:
    """The description of a process at an fd. Errno(EBADF)."""
    file = task.process.fds.get(fd)
    if not isinstance(file, ProcessDescriptor):
        raise Errno(EBADF)
    return file


def pidfd_send_signal(task: Task, fd: int, signal: int, info: InBuffer, flags: int) -> int:
    """As kill(2), or with siginfo as rt_sigqueueinfo(2)."""
    if flags:
        raise Errno(EINVAL)
    pid = process_of(task, fd).pid
    if not info.address:
        return kill(task, pid, signal)
    if int.from_bytes(info.whole(4), "little") != signal:
        raise Errno(EINVAL)
    return rt_sigqueueinfo(task, pid, signal, info)


def give(task: Task, address: int, fd: int, pid: int) -> None:
    """CLONE_PIDFD: the child's pidfd, at the number and the place that were checked before it was made."""
    try:
        file = watched(task, pid, 0)
    except Errno as error:
        if error.errno != ESRCH:
            raise
        file = ProcessDescriptor.ended(pid)  # and nobody waits for it: SIGCHLD is ignored
    task.process.fds.install(fd, file, close_on_exec=True)
    task.memory.write(address, fd.to_bytes(4, "little"))
