"""What ended a run that was no trap: a page to mend, or a signal for the guest (sigaction(2), si_code)."""

from typing import Final

from client_vm.abi import common
from client_vm.architecture import ARM64, X86_64
from client_vm.cpu import EXECUTE, WRITE
from client_vm.frames import SignalInfo
from client_vm.mmu import BusError, OutOfMemoryError
from client_vm.process import Task
from client_vm.signals import force_signal

_X86_SIGNALS: Final = {
    0: (common.SIGFPE, common.FPE_INTDIV),  # divide error
    1: (common.SIGTRAP, common.TRAP_TRACE),  # debug
    3: (common.SIGTRAP, common.SI_KERNEL),  # int3
    4: (common.SIGSEGV, common.SI_KERNEL),  # overflow (into)
    6: (common.SIGILL, common.ILL_ILLOPN),  # invalid opcode
    16: (common.SIGFPE, common.FPE_FLTINV),  # x87
    17: (common.SIGBUS, common.BUS_ADRALN),  # alignment check
    19: (common.SIGFPE, common.FPE_FLTINV),  # SIMD
}
"""By interrupt number (Intel SDM volume 3, table 6-1); the rest is SIGSEGV."""
_ARM64_SIGNALS: Final = {
    1: (common.SIGILL, common.ILL_ILLOPC),
    7: (common.SIGTRAP, common.TRAP_BRKPT),
}
"""By QEMU's exception number: undefined instruction, breakpoint."""
_DATA_ABORT: Final = 4
"""QEMU's exception number of an access that is not aligned; others come by the translation they ask for."""
_PC_ALIGNMENT: Final = 0x22 << 26 | 1 << 25
_DATA_ALIGNMENT: Final = 0x24 << 26 | 1 << 25 | 0x21
"""Syndromes (Arm ARM, ESR_EL1): exception class, 32-bit instruction, fault status."""
_GENERAL_PROTECTION: Final = common.SIGSEGV, common.SI_KERNEL
_UC_ERR_INSN_INVALID: Final = 10
_TRAP_MEMORY: Final = 14
"""Marks a fault of an access in a frame: x86-64's exception number, and for ARM64 that there is a syndrome."""
_TRAP_PROTECTION: Final = 13


def fault(task: Task) -> None:
    """Mends the page and returns, or sends the thread the signal that the access deserves."""
    cpu = task.cpu
    if cpu.fault_access and task.architecture is X86_64 and not _is_canonical(cpu.fault_address):
        # Not looked up at all: a general protection fault, which has no address (SDM volume 1, 3.3.7.1).
        force_signal(task, SignalInfo(*_GENERAL_PROTECTION, trap=_TRAP_PROTECTION))
        return
    if task.architecture is ARM64 and _arm64_alone(task):
        return
    if cpu.fault_access:
        try:
            if task.process.space.resolve(cpu.fault_address, cpu.fault_access):
                return
        except BusError:
            force_signal(task, _access(task, common.SIGBUS, common.BUS_ADRERR))
            return
        except OutOfMemoryError:
            force_signal(task, SignalInfo(common.SIGKILL, common.SI_KERNEL))
            return
        mapped = task.process.space.find(cpu.fault_address) is not None
        code = common.SEGV_ACCERR if mapped else common.SEGV_MAPERR
        force_signal(task, _access(task, common.SIGSEGV, code))
        return
    if cpu.error == _UC_ERR_INSN_INVALID:
        signal, code = common.SIGILL, common.ILL_ILLOPN
        if task.architecture is not X86_64:
            code = common.ILL_ILLOPC
    else:
        known = _X86_SIGNALS if task.architecture is X86_64 else _ARM64_SIGNALS
        signal, code = known.get(cpu.interrupt, _GENERAL_PROTECTION)
    address = cpu.pc if code != common.SI_KERNEL else 0
    force_signal(task, SignalInfo(signal, code, address=address, trap=max(cpu.interrupt, 0)))


def _is_canonical(address: int) -> bool:
    """Whether bits 63 to 47 of an x86-64 address are alike."""
    return address >> 47 in (0, 0x1FFFF)


def _arm64_alone(task: Task) -> bool:
    """What only ARM64 knows: addresses that must be aligned, and an instruction that waits."""
    cpu = task.cpu
    if cpu.pc & 3:
        address, kind = cpu.pc, _PC_ALIGNMENT
    elif cpu.fault_access or cpu.interrupt not in (-1, _DATA_ABORT):
        return False
    elif cpu.interrupt == _DATA_ABORT:
        # An exclusive or atomic access, whose only operand of an address is a register.
        instruction = b"".join(task.process.space.pieces(cpu.pc, 4, EXECUTE))
        base = int.from_bytes(instruction, "little") >> 5 & 31
        address, kind = cpu.sp if base == 31 else cpu.read_register(f"x{base}"), _DATA_ALIGNMENT
    else:
        # wfi stops the processor until the next interrupt, which may come at any time; user space may use it.
        return not cpu.error
    info = SignalInfo(common.SIGBUS, common.BUS_ADRALN, address=address, trap=_TRAP_MEMORY, error=kind)
    force_signal(task, info)
    return True


def _access(task: Task, signal: int, code: int) -> SignalInfo:
    """A refused access, with the processor's word on it (SDM volume 3, 4.7; Arm ARM, ESR_EL1)."""
    access, address = task.cpu.fault_access, task.cpu.fault_address
    if task.architecture is X86_64:
        present = code == common.SEGV_ACCERR
        error = present | (access == WRITE) << 1 | 1 << 2 | (access == EXECUTE) << 4
    else:
        # Exception class 0x20 or 0x24, write bit, fault status: permission or translation, level 3.
        status = 0xF if code == common.SEGV_ACCERR else 0x7
        error = (0x20 if access == EXECUTE else 0x24) << 26 | 1 << 25 | (access == WRITE) << 6 | status
    return SignalInfo(signal, code, address=address, trap=_TRAP_MEMORY, error=error)
