"""What ended a run that was no trap: a page to mend, or a signal for the guest (sigaction(2), si_code)."""

from typing import Final

from client_vm.abi import common
from client_vm.architecture import X86_64
from client_vm.mmu import BusError
from client_vm.process import Task
from client_vm.signals import force_signal

_X86_SIGNALS: Final = {
    0: common.SIGFPE,  # divide error
    1: common.SIGTRAP,  # debug
    3: common.SIGTRAP,  # int3
    4: common.SIGSEGV,  # overflow (into)
    6: common.SIGILL,  # invalid opcode
    16: common.SIGFPE,  # x87
    17: common.SIGBUS,  # alignment check
    19: common.SIGFPE,  # SIMD
}
"""By interrupt number (Intel SDM volume 3, table 6-1); the rest is SIGSEGV."""
_ARM64_SIGNALS: Final = {1: common.SIGILL, 7: common.SIGTRAP}
"""By QEMU's exception number: undefined instruction, breakpoint."""
_UC_ERR_INSN_INVALID: Final = 10


def fault(task: Task) -> None:
    """Mends the page and returns, or ends the guest by the signal the access deserves."""
    cpu = task.cpu
    if cpu.fault_access:
        try:
            if task.process.space.resolve(cpu.fault_address, cpu.fault_access):
                return
        except BusError:
            force_signal(task, common.SIGBUS)
        force_signal(task, common.SIGSEGV)
    if cpu.error == _UC_ERR_INSN_INVALID:
        force_signal(task, common.SIGILL)
    known = _X86_SIGNALS if task.architecture is X86_64 else _ARM64_SIGNALS
    force_signal(task, known.get(cpu.interrupt, common.SIGSEGV))
