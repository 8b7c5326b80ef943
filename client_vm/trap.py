"""One trap, one way out: decode, dispatch and -errno. Nothing else writes a syscall's result register."""

from typing import TYPE_CHECKING, Final

from client_vm.abi.common import ENOSYS
from client_vm.errors import Errno

if TYPE_CHECKING:
    from client_vm.process import Task

_ENOSYS: Final = -ENOSYS


def trap(task: "Task") -> None:
    """Carries out the syscall that ended the last run, and writes its result.

    Errno becomes -errno; GuestExit passes on to the worker. Numbers are 32 bits wide, as the kernel takes
    them (x86-64: `unsigned int nr`, ARM64: the low half of x8).
    """
    cpu = task.cpu
    values = cpu.values
    number = values[0] & 0xFFFFFFFF
    dispatch = task.dispatch
    found = dispatch.calls.get(number)
    if found is None:
        result = -dispatch.refused[number] if number in dispatch.refused else _ENOSYS
    else:
        handler, decoders = found
        try:
            arguments = [decode(task, values[index]) for index, decode in enumerate(decoders, 1)]
            result = handler(task, *arguments)
        except Errno as error:
            result = -error.errno
    cpu.finish_syscall(result)
