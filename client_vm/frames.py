"""What a signal handler finds on its stack, and the way back from it (sigaction(2), sigreturn(2)).

The frame's layout is each architecture's own (client_vm.frames_x86_64, client_vm.frames_arm64); which stack it
goes to, and what is checked on the way back, is said here once.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from client_vm import frames_arm64, frames_x86_64
from client_vm.abi import common
from client_vm.architecture import X86_64

if TYPE_CHECKING:
    from collections.abc import Callable

    from client_vm.process import Action, Task

SIGINFO_BYTES: Final = 128
SIGINFO_GIVEN_BYTES: Final = 48
"""What a kernel reads of a guest's: the rest only fills it up (kernel_siginfo_t)."""
_FAULTS: Final = frozenset((common.SIGILL, common.SIGFPE, common.SIGSEGV, common.SIGBUS, common.SIGTRAP))


@dataclass(slots=True)
class SignalInfo:
    """siginfo_t, all its variants. `code`: SI_*, or what the signal's own family says (SEGV_MAPERR)."""

    signal: int
    code: int
    errno: int = 0
    pid: int = 0
    uid: int = 0
    status: int = 0
    """Of SIGCHLD: exit status or signal."""
    address: int = 0
    """Of a fault."""
    value: int = 0
    """si_value."""
    utime: int = 0
    stime: int = 0
    """Of SIGCHLD, clock ticks."""
    timer_id: int = 0
    overrun: int = 0
    trap: int = 0
    """Of a fault: the processor's exception number (x86-64)."""
    error: int = 0
    """Of a fault: the processor's error code (x86-64), the syndrome (ARM64)."""
    taken: "Callable[[SignalInfo], None] | None" = None
    """Hears that the signal waits no longer: it is about to be delivered, or was thrown away."""

    def settle(self) -> None:
        """It waits no longer."""
        if self.taken is not None:
            self.taken(self)

    def encode(self) -> bytes:
        """128 bytes, as sigaction(2) lays them out for this code."""
        head = {"si_signo": self.signal, "si_errno": self.errno, "si_code": self.code}
        if self.signal in _FAULTS and self.code > 0 and self.code != common.SI_KERNEL:
            body = common.siginfo_fault.pack(**head, addr=self.address)
        elif self.signal == common.SIGCHLD and self.code > 0:
            body = common.siginfo_child.pack(
                **head, pid=self.pid, uid=self.uid, status=self.status,
                utime=self.utime, stime=self.stime,
            )  # fmt: skip
        elif self.code == common.SI_TIMER:
            body = common.siginfo_timer.pack(
                **head, timerid=self.timer_id, overrun=self.overrun, value=self.value
            )
        elif self.code < 0:
            body = common.siginfo_queue.pack(**head, pid=self.pid, uid=self.uid, value=self.value)
        else:
            body = common.siginfo_kill.pack(**head, pid=self.pid, uid=self.uid)
        return body.ljust(SIGINFO_BYTES, b"\0")

    @classmethod
    def decode(cls, raw: bytes) -> "SignalInfo":
        """What a guest gives to rt_sigqueueinfo(2)."""
        found = common.siginfo_queue.unpack(raw.ljust(common.siginfo_queue.size, b"\0"))
        return cls(
            found["si_signo"], found["si_code"], found["si_errno"],
            found["pid"], found["uid"], value=found["value"],
        )  # fmt: skip


def _stack_for(task: "Task", action: "Action", red_zone_bytes: int) -> int:
    """Where the frame goes below."""
    stack = task.altstack
    sp = task.cpu.sp
    on_it = stack.size_bytes and stack.address < sp <= stack.address + stack.size_bytes
    if not action.flags & common.SA_ONSTACK or stack.flags & common.SS_DISABLE or on_it:
        return sp - red_zone_bytes
    return stack.address + stack.size_bytes


def push_frame(task: "Task", action: "Action", info: SignalInfo, restore_mask: int) -> None:
    """Has the thread go on in the handler, with a frame that rt_sigreturn takes back. Errno(EFAULT): no room.

    `restore_mask`: the mask after the handler. The registers must be on the CPU, a call's result in them.
    """
    module = frames_x86_64 if task.architecture is X86_64 else frames_arm64
    task.cpu.clear_monitor()
    module.push(task, action, info, restore_mask, _stack_for(task, action, module.RED_ZONE_BYTES))
    if task.altstack.flags & common.SS_AUTODISARM:
        task.altstack.address = task.altstack.size_bytes = 0
        task.altstack.flags = common.SS_DISABLE


def pop_frame(task: "Task") -> int:
    """Registers and alternate stack from the frame at the stack pointer; the mask to set. Errno(EFAULT).

    Nothing in it is trusted: only bits that a user may have reach the processor.
    """
    module = frames_x86_64 if task.architecture is X86_64 else frames_arm64
    context = module.pop(task)
    stack, flags = task.altstack, context["ss_flags"] & ~common.SS_ONSTACK
    if flags & ~common.SS_AUTODISARM in (0, common.SS_DISABLE):
        stack.address, stack.size_bytes, stack.flags = context["ss_sp"], context["ss_size"], flags
    return int(context["uc_sigmask"])
