"""Pipes (pipe(2), pipe(7))."""

from client_vm.abi import common
from client_vm.abi.common import EINVAL
from client_vm.arguments import OutBuffer
from client_vm.errors import Errno
from client_vm.host_files import make_pipe
from client_vm.process import Task


def pipe(task: Task, ends: OutBuffer) -> int:
    return pipe2(task, ends, 0)


def pipe2(task: Task, ends: OutBuffer, flags: int) -> int:
    """Two descriptors, or none: everything that can fail is tried first."""
    if flags & ~(common.O_CLOEXEC | common.O_NONBLOCK | task.architecture.abi.O_DIRECT):
        raise Errno(EINVAL)
    fds = task.process.fds
    ends.check(8)
    first = fds.lowest_free()
    second = fds.lowest_free(first + 1)
    status = flags & ~common.O_CLOEXEC
    reader, writer = make_pipe(status)
    close_on_exec = bool(flags & common.O_CLOEXEC)
    fds.install(first, reader, close_on_exec)
    fds.install(second, writer, close_on_exec)
    ends.put(first.to_bytes(4, "little") + second.to_bytes(4, "little"))
    return 0
