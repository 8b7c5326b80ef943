"""ARM64's signal frame (arch/arm64/kernel/signal.c): siginfo, ucontext with records; above it a frame record."""

import struct
from typing import TYPE_CHECKING, Any, Final

from client_vm.abi import arm64
from client_vm.abi.common import EFAULT, SA_RESTORER
from client_vm.architecture import ARM64
from client_vm.errors import Errno
from client_vm.vdso import SIGRETURN, vdso

if TYPE_CHECKING:
    from client_vm.cpu import Cpu
    from client_vm.frames import SignalInfo
    from client_vm.process import Action, Task

RED_ZONE_BYTES: Final = 0
_SIGINFO_BYTES: Final = 128
_RESERVED_AT: Final = arm64.ucontext.size - 4096
"""Of the records, in the ucontext."""
_FRAME_BYTES: Final = _SIGINFO_BYTES + arm64.ucontext.size
_FPSIMD_MAGIC: Final = 0x46508001
_ESR_MAGIC: Final = 0x45535201
_FPSIMD_HEAD: Final = struct.Struct("<IIII")
_FPSIMD_BYTES: Final = _FPSIMD_HEAD.size + 32 * 16
_ESR: Final = struct.Struct("<IIQ")
_FLAGS_MASK: Final = 0xF0000000
"""NZCV: what a frame may set."""


def fp_state(cpu: "Cpu") -> bytes:
    """struct fpsimd_context."""
    head = _FPSIMD_HEAD.pack(
        _FPSIMD_MAGIC, _FPSIMD_BYTES,
        cpu.read_register("fpsr") & 0xFFFFFFFF, cpu.read_register("fpcr") & 0xFFFFFFFF,
    )  # fmt: skip
    return head + b"".join(cpu.read_wide(f"v{i}", 16) for i in range(32))


def set_fp_state(cpu: "Cpu", image: bytes) -> None:
    """From struct fpsimd_context."""
    _, _, status, control = _FPSIMD_HEAD.unpack_from(image)
    cpu.write_register("fpsr", status)
    cpu.write_register("fpcr", control)
    for i in range(32):
        at = _FPSIMD_HEAD.size + 16 * i
        cpu.write_wide(f"v{i}", image[at : at + 16])


def push(task: "Task", action: "Action", info: "SignalInfo", restore_mask: int, top: int) -> None:
    """See frames.push_frame. `top`: where the frame goes below."""
    cpu, memory = task.cpu, task.memory
    record_at = ((top & -16) - 16) & -16
    frame_at = record_at - _FRAME_BYTES & -16
    stack = task.altstack
    registers: dict[str, Any] = {f"x{i}": cpu.read_register(f"x{i}") for i in range(31)}
    context = arm64.ucontext.pack(
        ss_sp=stack.address, ss_size=stack.size_bytes, ss_flags=stack.flags, uc_sigmask=restore_mask,
        fault_address=info.address if info.trap else 0, **registers,
        sp=cpu.sp, pc=cpu.pc, pstate=cpu.read_register("pstate") & _FLAGS_MASK,
    )  # fmt: skip
    records = fp_state(cpu)
    if info.trap:
        records += _ESR.pack(_ESR_MAGIC, _ESR.size, info.error)
    image = info.encode() + context[:_RESERVED_AT] + records.ljust(4096, b"\0")
    record = registers["x29"].to_bytes(8, "little") + registers["x30"].to_bytes(8, "little")
    memory.check_writable(frame_at, record_at + 16 - frame_at)
    memory.write(frame_at, image)
    memory.write(record_at, record)
    cpu.sp = frame_at
    cpu.write_register("x0", info.signal)
    cpu.write_register("x1", frame_at)
    cpu.write_register("x2", frame_at + _SIGINFO_BYTES)
    cpu.write_register("x29", record_at)
    returns = task.process.vdso_address + vdso(ARM64).functions[SIGRETURN]
    cpu.write_register("x30", action.restorer if action.flags & SA_RESTORER else returns)
    cpu.pc = action.handler


def pop(task: "Task") -> dict[str, Any]:
    """The ucontext, its registers on the CPU again. Errno(EFAULT)."""
    cpu, memory = task.cpu, task.memory
    sp = cpu.sp
    if sp & 15:
        raise Errno(EFAULT)
    raw = memory.read(sp + _SIGINFO_BYTES, arm64.ucontext.size)
    context: dict[str, Any] = arm64.ucontext.unpack(raw)
    image = _find_fpsimd(raw[_RESERVED_AT:])
    for i in range(31):
        cpu.write_register(f"x{i}", context[f"x{i}"])
    cpu.sp = context["sp"]
    cpu.pc = context["pc"]
    cpu.write_register("nzcv", context["pstate"] & _FLAGS_MASK)
    set_fp_state(cpu, image)
    return context


def _find_fpsimd(records: bytes) -> bytes:
    """The FPU's record. Errno(EFAULT): there is none, or the chain of records is broken."""
    at = 0
    while at + 8 <= len(records):
        magic, size = struct.unpack_from("<II", records, at)
        if magic == _FPSIMD_MAGIC and size == _FPSIMD_BYTES and at + size <= len(records):
            return records[at : at + size]
        if not magic or size < 8 or size % 16:
            break
        at += size
    raise Errno(EFAULT)
