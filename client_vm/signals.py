"""What a signal does to its process (signal(7)). Delivery to handlers belongs to the process model's issue."""

from client_vm.abi import common
from client_vm.errors import GuestExit
from client_vm.process import Task

UNBLOCKABLE = frozenset((common.SIGKILL, common.SIGSTOP))


def raise_signal(task: Task, signal: int) -> None:
    """A signal raised in its own process: ignored, kept pending while blocked, or the end of it."""
    signals = task.process.signals
    if signals.is_ignored(signal) and signal not in UNBLOCKABLE:
        return
    if signals.blocked >> (signal - 1) & 1 and signal not in UNBLOCKABLE:
        signals.pending |= 1 << (signal - 1)
        return
    if signals.is_fatal(signal) or signal == common.SIGKILL:
        raise GuestExit(0, signal)


def deliver_pending(task: Task) -> None:
    """After the mask changed: what was pending and is no longer blocked happens now."""
    signals = task.process.signals
    ready = signals.pending & ~signals.blocked
    signals.pending &= signals.blocked
    for signal in range(1, 65):
        if ready >> (signal - 1) & 1:
            raise_signal(task, signal)


def force_signal(task: Task, signal: int) -> None:
    """A fault of the guest's own: it cannot be ignored or blocked (force_sig(9))."""
    raise GuestExit(0, signal)
