"""x86-64's signal frame (arch/x86/kernel/signal_64.c): return address, ucontext, siginfo; above them the FPU."""

import struct
from typing import TYPE_CHECKING, Any, Final

from client_vm.abi import x86_64
from client_vm.abi.common import EFAULT
from client_vm.errors import Errno

if TYPE_CHECKING:
    from client_vm.cpu import Cpu
    from client_vm.frames import SignalInfo
    from client_vm.process import Action, Task

RED_ZONE_BYTES: Final = 128
"""Below the stack pointer, and the interrupted function's own (System V ABI)."""
FXSAVE_BYTES: Final = 512
_UCONTEXT_BYTES: Final = 304
_FRAME_BYTES: Final = 8 + _UCONTEXT_BYTES + 128
_GENERAL: Final = (
    "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15",
    "rdi", "rsi", "rbp", "rbx", "rdx", "rax", "rcx", "rsp",
)  # fmt: skip
_USER_FLAGS: Final = 0x40DD5 | (1 << 16) | (1 << 8)
"""CF PF AF ZF SF TF DF OF RF AC: what a frame may set."""
_FIXED_FLAGS: Final = 0x202
_CLEARED_FLAGS: Final = 1 << 10 | 1 << 16 | 1 << 8
"""DF, RF and TF are off in a handler."""
_CODE_SEGMENT: Final = 0x33
_STACK_SEGMENT: Final = 0x2B
_STRICT_SS: Final = 6
"""UC_SIGCONTEXT_SS | UC_STRICT_RESTORE_SS; no UC_FP_XSTATE: the FPU's state ends with FXSAVE's."""
_FX_HEAD: Final = struct.Struct("<HHBBHQQII")
_MXCSR_MASK: Final = 0xFFFF


def fp_state(cpu: "Cpu") -> bytes:
    """The FPU as FXSAVE stores it, 512 bytes (Intel SDM volume 1, 10.5.1)."""
    status = cpu.read_register("fpsw") & 0xFFFF
    tags = cpu.read_register("fptag") & 0xFFFF
    top = status >> 11 & 7
    used = sum(1 << i for i in range(8) if tags >> 2 * i & 3 != 3)
    head = _FX_HEAD.pack(
        cpu.read_register("fpcw") & 0xFFFF, status, used, 0, 0, 0, 0,
        cpu.read_register("mxcsr") & 0xFFFFFFFF, _MXCSR_MASK,
    )  # fmt: skip
    stack = b"".join(cpu.read_wide(f"fp{(top + i) & 7}", 10) + bytes(6) for i in range(8))
    vectors = b"".join(cpu.read_wide(f"xmm{i}", 16) for i in range(16))
    return (head + stack + vectors).ljust(FXSAVE_BYTES, b"\0")


def set_fp_state(cpu: "Cpu", image: bytes) -> None:
    """As FXRSTOR; reserved bits of MXCSR are dropped."""
    control, status, used, _, _, _, _, mxcsr, _ = _FX_HEAD.unpack_from(image)
    top = status >> 11 & 7
    cpu.write_register("fpcw", control)
    cpu.write_register("fpsw", status)
    for i in range(8):
        cpu.write_wide(f"fp{(top + i) & 7}", image[32 + 16 * i : 42 + 16 * i])
    cpu.write_register("fptag", sum(0 if used >> i & 1 else 3 << 2 * i for i in range(8)))
    cpu.write_register("mxcsr", mxcsr & _MXCSR_MASK)
    for i in range(16):
        cpu.write_wide(f"xmm{i}", image[160 + 16 * i : 176 + 16 * i])


def push(task: "Task", action: "Action", info: "SignalInfo", restore_mask: int, top: int) -> None:
    """See frames.push_frame. `top`: where the frame goes below."""
    cpu, memory = task.cpu, task.memory
    fp_at = (top - FXSAVE_BYTES) & -64
    frame_at = ((fp_at - _FRAME_BYTES) & -16) - 8
    stack = task.altstack
    values: dict[str, Any] = {name: cpu.read_register(name) for name in _GENERAL}
    context = x86_64.ucontext.pack(
        uc_flags=_STRICT_SS, ss_sp=stack.address, ss_size=stack.size_bytes, ss_flags=stack.flags,
        **values, rip=cpu.pc, eflags=cpu.read_register("eflags") | _FIXED_FLAGS,
        cs=_CODE_SEGMENT, ss=_STACK_SEGMENT, err=info.error, trapno=info.trap,
        cr2=info.address if info.trap == 14 else 0, fpstate=fp_at, uc_sigmask=restore_mask,
    )  # fmt: skip
    frame = action.restorer.to_bytes(8, "little") + context[:_UCONTEXT_BYTES].ljust(_UCONTEXT_BYTES, b"\0")
    image = frame + info.encode()
    memory.check_writable(frame_at, len(image))
    memory.write(fp_at, fp_state(cpu))
    memory.write(frame_at, image)
    cpu.sp = frame_at
    cpu.write_register("rdi", info.signal)
    cpu.write_register("rsi", frame_at + 8 + _UCONTEXT_BYTES)
    cpu.write_register("rdx", frame_at + 8)
    cpu.write_register("rax", 0)
    cpu.write_register("eflags", cpu.read_register("eflags") & ~_CLEARED_FLAGS | _FIXED_FLAGS)
    cpu.pc = action.handler


def pop(task: "Task") -> dict[str, Any]:
    """The ucontext, its registers on the CPU again. Errno(EFAULT)."""
    cpu, memory = task.cpu, task.memory
    raw = memory.read(cpu.sp, _UCONTEXT_BYTES)
    context: dict[str, Any] = x86_64.ucontext.unpack(raw.ljust(x86_64.ucontext.size, b"\0"))
    image = memory.read(context["fpstate"], FXSAVE_BYTES) if context["fpstate"] else None
    if context["rip"] >> 47:
        raise Errno(EFAULT)
    for name in _GENERAL:
        cpu.write_register(name, context[name])
    cpu.write_register("eflags", context["eflags"] & _USER_FLAGS | _FIXED_FLAGS)
    cpu.pc = context["rip"]
    if image is not None:
        set_fp_state(cpu, image)
    return context
