"""One trap, one way out: decode, dispatch and -errno. Nothing else writes a syscall's result register,
but for calls that have waited, whose result the scheduler hands on.
"""

from typing import TYPE_CHECKING, Final

from client_vm.abi.common import ENOSYS
from client_vm.errors import Errno, NoResult
from client_vm.waiting import Blocking

if TYPE_CHECKING:
    from client_vm.process import Task

_ENOSYS: Final = -ENOSYS


def trap(task: "Task") -> Blocking | None:
    """Carries out the syscall that ended the last run, and writes its result; or returns the rest of a call
    that must wait.

    Errno becomes -errno; GuestExit and ThreadExit pass on to the scheduler. Numbers are 32 bits wide, as the
    kernel takes them (x86-64: `unsigned int nr`, ARM64: the low half of x8).
    """
    cpu = task.cpu
    values = cpu.values
    number = values[0] & 0xFFFFFFFF
    dispatch = task.dispatch
    call = dispatch.calls.get(number)
    if call is None:
        cpu.finish_syscall(-dispatch.refused[number] if number in dispatch.refused else _ENOSYS)
        return None
    try:
        result = call(task, values)
    except Errno as error:
        result = -error.errno
    except NoResult:
        return None
    if isinstance(result, int):
        cpu.finish_syscall(result)
        return None
    return result
