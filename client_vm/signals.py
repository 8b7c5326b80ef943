"""Signals: queued for a thread or a process, and acted upon before a thread goes on (signal(7)).

A signal is queued by `send_to_task` or `send_to_process`, which flag a thread that takes it; `attend` runs when
a flagged thread is about to return to guest code, with its registers on the CPU and its call's result settled.
"""

from typing import TYPE_CHECKING, Final

from client_vm.abi import common
from client_vm.abi.common import EINTR
from client_vm.errors import Errno, GuestExit
from client_vm.frames import SignalInfo, push_frame
from client_vm.process import STOPPING_BY_DEFAULT, Action, Process, Task
from client_vm.waiting import Restart

if TYPE_CHECKING:
    from collections.abc import Iterator

UNBLOCKABLE: Final = frozenset((common.SIGKILL, common.SIGSTOP))
UNBLOCKABLE_MASK: Final = sum(1 << (signal - 1) for signal in UNBLOCKABLE)
SIGNALS_MAX: Final = 64
_SYNCHRONOUS: Final = sum(
    1 << (signal - 1)
    for signal in (common.SIGSEGV, common.SIGBUS, common.SIGILL, common.SIGTRAP, common.SIGFPE, common.SIGSYS)
)
"""Delivered before others (kernel/signal.c: SYNCHRONOUS_MASK)."""


def bit(signal: int) -> int:
    """A signal's bit in a mask."""
    return 1 << (signal - 1)


# -- sending ----------------------------------------------------------------------------------------


def send_to_task(task: Task, info: SignalInfo) -> None:
    """Queues a signal for one thread."""
    _prepare(task.process, info.signal)
    if _discarded(task.process, task, info.signal):
        info.settle()
        return
    task.pending.add(info)
    _flag(task, info.signal)
    _arrived(task.process)


def send_to_process(process: Process, info: SignalInfo) -> None:
    """Queues a signal for a process; a thread that does not block it will act."""
    leader = next(iter(process.tasks.values()))
    _prepare(process, info.signal)
    if _discarded(process, leader, info.signal):
        info.settle()
        return
    process.signals.pending.add(info)
    takers = [task for task in process.tasks.values() if not task.blocked & bit(info.signal)]
    if takers:
        # Whoever runs or waits already in the open takes it; the first thread otherwise.
        _flag(takers[0], info.signal)
    _arrived(process)


def _arrived(process: Process) -> None:
    process.signals.arrived.notify()
    for queue in process.signals.queues:
        queue.refresh()


def _flag(task: Task, signal: int) -> None:
    if not task.blocked & bit(signal) or signal in UNBLOCKABLE:
        task.attention = True
        task.kernel.wake(task)


def _prepare(process: Process, signal: int) -> None:
    """What a signal does as soon as it is sent, whatever becomes of it."""
    if signal == common.SIGCONT:
        _forget(process, STOPPING_BY_DEFAULT)
        go_on(process)
    elif signal in STOPPING_BY_DEFAULT:
        _forget(process, (common.SIGCONT,))
    elif signal == common.SIGKILL and process.stopped:
        process.stopped = False  # of which nobody is told: what it does now is die
        for task in process.tasks.values():
            task.kernel.wake(task)


def _forget(process: Process, signals: "frozenset[int] | tuple[int, ...]") -> None:
    for pending in (process.signals.pending, *(task.pending for task in process.tasks.values())):
        for signal in signals:
            pending.drop(signal)


def _discarded(process: Process, task: Task, signal: int) -> bool:
    """A signal that is ignored and not blocked vanishes (a blocked one may find a handler later)."""
    return signal not in UNBLOCKABLE and process.signals.is_ignored(signal) and not task.blocked & bit(signal)


def raise_signal(task: Task, signal: int) -> None:
    """SIGPIPE for the running thread, told as if it had sent that itself (kernel/signal.c: SEND_SIG_NOINFO)."""
    process = task.process
    send_to_task(task, SignalInfo(signal, common.SI_USER, pid=process.pid, uid=process.credentials.uid))


def force_signal(task: Task, info: SignalInfo) -> None:
    """A fault of the thread's own: it cannot be ignored or blocked (kernel/signal.c: force_sig_info)."""
    signals = task.process.signals
    action = signals.action(info.signal)
    if task.blocked & bit(info.signal) or action.handler == common.SIG_IGN:
        signals.actions[info.signal] = Action()
        task.blocked &= ~bit(info.signal)
    task.pending.add(info)
    task.attention = True


# -- stopping ---------------------------------------------------------------------------------------


def stop(process: Process, signal: int) -> None:
    """Stops every thread until SIGCONT; the parent is told."""
    if process.stopped:
        return
    try:
        process.link.stopped(signal)
    except Errno:
        return  # nobody could continue it: a terminal's stop does nothing (signal(7))
    process.stopped = True


def go_on(process: Process) -> None:
    """SIGCONT: a stopped process goes on, whatever becomes of the signal itself."""
    if process.stopped:
        process.stopped = False
        process.link.continued()
        for task in process.tasks.values():
            task.kernel.wake(task)


# -- acting -----------------------------------------------------------------------------------------


def set_mask(task: Task, mask: int) -> None:
    """Changes a thread's signal mask; what that lets through is looked at before it goes on."""
    task.blocked = mask & ~UNBLOCKABLE_MASK
    if ready(task):
        task.attention = True


def wait_with_mask(task: Task, mask: int) -> None:
    """Another mask for the length of one call; `attend` puts the old one back (ppoll(2), sigsuspend(2))."""
    if task.restore_mask is None:
        task.restore_mask = task.blocked
    set_mask(task, mask)
    task.attention = True


def ready(task: Task) -> int:
    """Mask of the signals that this thread could take now."""
    return (task.pending.mask | task.process.signals.pending.mask) & ~task.blocked


def _ready_signals(task: Task) -> "Iterator[int]":
    mask = ready(task)
    for part in (mask & _SYNCHRONOUS, mask & ~_SYNCHRONOUS):
        yield from (signal for signal in range(1, SIGNALS_MAX + 1) if part & bit(signal))


def interrupts(task: Task) -> bool:
    """Whether a signal is ready that has a handler or ends the process: a waiting call hears of it."""
    signals = task.process.signals
    return any(not signals.is_ignored(signal) and not signals.stops(signal) for signal in _ready_signals(task))


def stop_waiting(task: Task) -> None:
    """A signal that stops the process does so while a thread waits in a call, which goes on afterwards."""
    process = task.process
    for signal in _ready_signals(task):
        if process.signals.stops(signal):
            source = task.pending if task.pending.mask & bit(signal) else process.signals.pending
            source.take(signal)
            stop(process, signal)
            return


def attend(task: Task) -> None:
    """Acts on what is pending. GuestExit; the process may be stopped afterwards."""
    process = task.process
    while True:
        signal = next(_ready_signals(task), 0)
        if not signal:
            if not _settled(task):
                continue
            return
        source = task.pending if task.pending.mask & bit(signal) else process.signals.pending
        info = source.take(signal)
        action = process.signals.action(signal)
        if signal == common.SIGKILL:
            raise GuestExit(0, signal)
        if process.signals.stops(signal):
            stop(process, signal)
            return  # attention stays: the rest is looked at when it goes on
        if process.signals.is_ignored(signal):
            continue
        if action.handler == common.SIG_DFL:
            raise GuestExit(0, signal)
        _run_handler(task, action, info)


def _settled(task: Task) -> bool:
    """Nothing is left to deliver: a call that no handler interrupted is made again, the old mask is back.

    False if that lets more signals through.
    """
    task.attention = False
    _settle_call(task, None)
    if task.restore_mask is None:
        return True
    mask, task.restore_mask = task.restore_mask, None
    set_mask(task, mask)
    return not task.attention


def _settle_call(task: Task, action: Action | None) -> None:
    """An interrupted call: made again, or EINTR. `action`: of the handler that runs now, None: none does."""
    how, task.interrupted = task.interrupted, None
    if how is None:
        return
    if action is None or (how is Restart.SA_RESTART and action.flags & common.SA_RESTART):
        task.cpu.rewind(*task.trapped)
    else:
        task.cpu.set_result(-EINTR)


def _run_handler(task: Task, action: Action, info: SignalInfo) -> None:
    """Has the thread go on in the handler."""
    _settle_call(task, action)
    before = task.blocked if task.restore_mask is None else task.restore_mask
    try:
        push_frame(task, action, info, before)
    except Errno:
        # No room for the frame (kernel/signal.c: signal_setup_done).
        task.process.signals.actions[common.SIGSEGV] = Action()
        raise GuestExit(0, common.SIGSEGV) from None
    task.restore_mask = None
    mask = action.mask if action.flags & common.SA_NODEFER else action.mask | bit(info.signal)
    if action.flags & common.SA_RESETHAND:
        task.process.signals.actions[info.signal] = Action(
            common.SIG_DFL, action.flags & ~common.SA_SIGINFO, action.restorer, action.mask
        )
    task.blocked = (task.blocked | mask) & ~UNBLOCKABLE_MASK
