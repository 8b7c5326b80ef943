"""Signals: dispositions, masks, sending, waiting for them (man 2 of each)."""

from typing import Any, Final

from client_vm.abi import common
from client_vm.abi.common import EAGAIN, EINVAL, ENOMEM, EPERM, ESRCH
from client_vm.arguments import InBuffer, OutBuffer, OutPointer
from client_vm.errors import Errno, NoResult
from client_vm.frames import SIGINFO_GIVEN_BYTES, SignalInfo, pop_frame
from client_vm.process import Action, AltStack, Task
from client_vm.signals import (
    SIGNALS_MAX,
    UNBLOCKABLE,
    bit,
    force_signal,
    send_to_process,
    send_to_task,
    set_mask,
    wait_with_mask,
)
from client_vm.waiting import FOREVER, Blocking, Restart, Wait

_MASK_BYTES: Final = 8
_NS: Final = 1_000_000_000


def rt_sigaction(task: Task, signal: int, new: dict[str, Any] | None, old: OutPointer | None, size: int) -> int:
    signals = task.process.signals
    if size != _MASK_BYTES or not 1 <= signal <= SIGNALS_MAX:
        raise Errno(EINVAL)
    if new is not None and signal in UNBLOCKABLE:
        raise Errno(EINVAL)
    before = signals.action(signal)
    if old is not None:
        old.ready()
    if new is not None:
        signals.actions[signal] = Action(new["sa_handler"], new["sa_flags"], new["sa_restorer"], new["sa_mask"])
        if signals.is_ignored(signal):
            for pending in (signals.pending, *(thread.pending for thread in task.process.tasks.values())):
                pending.drop(signal)
        if signal == common.SIGCHLD:
            tell_reaping(task)
    if old is not None:
        old.pack(
            sa_handler=before.handler, sa_flags=before.flags, sa_restorer=before.restorer, sa_mask=before.mask
        )
    return 0


def tell_reaping(task: Task) -> None:
    """Children of a process that ignores SIGCHLD, or wants it so, leave no zombies (sigaction(2))."""
    action = task.process.signals.action(common.SIGCHLD)
    reaps = action.handler == common.SIG_IGN or bool(action.flags & common.SA_NOCLDWAIT)
    task.process.link.set_reaping(reaps, bool(action.flags & common.SA_NOCLDSTOP), task.process.subreaper)


def rt_sigprocmask(task: Task, how: int, new: InBuffer, old: OutBuffer, size: int) -> int:
    if size != _MASK_BYTES:
        raise Errno(EINVAL)
    before = after = task.blocked
    if new.address:
        mask = int.from_bytes(new.whole(_MASK_BYTES), "little")
        if how == common.SIG_BLOCK:
            after = before | mask
        elif how == common.SIG_UNBLOCK:
            after = before & ~mask
        elif how == common.SIG_SETMASK:
            after = mask
        else:
            raise Errno(EINVAL)
    if old.address:
        old.put(before.to_bytes(_MASK_BYTES, "little"))
    set_mask(task, after)
    return 0


def rt_sigpending(task: Task, pointer: OutBuffer, size: int) -> int:
    if size > _MASK_BYTES:
        raise Errno(EINVAL)
    pending = (task.pending.mask | task.process.signals.pending.mask) & task.blocked
    pointer.put(pending.to_bytes(_MASK_BYTES, "little")[:size])
    return 0


def rt_sigreturn(task: Task) -> int:
    """Back from a handler; registers, mask and alternate stack are those of the frame (sigreturn(2))."""
    try:
        mask = pop_frame(task)
    except Errno:
        force_signal(task, SignalInfo(common.SIGSEGV, common.SI_KERNEL))
    else:
        set_mask(task, mask)
    raise NoResult


def rt_sigsuspend(task: Task, mask: InBuffer, size: int) -> Blocking:
    if size != _MASK_BYTES:
        raise Errno(EINVAL)
    wanted = int.from_bytes(mask.whole(_MASK_BYTES), "little")
    wait_with_mask(task, wanted)
    return _forever()


def pause(_task: Task) -> Blocking:
    return _forever()


def _forever() -> Blocking:
    """Until a handler has run."""
    while True:
        yield FOREVER


def rt_sigtimedwait(
    task: Task, mask: InBuffer, info: OutBuffer | None, timeout: dict[str, Any] | None, size: int
) -> int | Blocking:
    """sigwaitinfo(2). EAGAIN: none came in time; EINTR: another one was handled."""
    if size != _MASK_BYTES:
        raise Errno(EINVAL)
    wanted = int.from_bytes(mask.whole(_MASK_BYTES), "little") & ~sum(map(bit, UNBLOCKABLE))
    deadline = None
    if timeout is not None:
        if timeout["tv_sec"] < 0 or not 0 <= timeout["tv_nsec"] < _NS:
            raise Errno(EINVAL)
        deadline = task.kernel.clock.monotonic_s() + timeout["tv_sec"] + timeout["tv_nsec"] / _NS
    found = _take(task, wanted, info)
    return found if found else _await_signal(task, wanted, info, deadline)


def _take(task: Task, wanted: int, info: OutBuffer | None) -> int:
    """The lowest pending signal of the set, taken; 0 if there is none."""
    for pending in (task.pending, task.process.signals.pending):
        ready = pending.mask & wanted
        if ready:
            signal = (ready & -ready).bit_length()
            if info is not None:
                info.check(len(SignalInfo(signal, 0).encode()))
            taken = pending.take(signal)
            if info is not None:
                info.put(taken.encode())
            return signal
    return 0


def _await_signal(task: Task, wanted: int, info: OutBuffer | None, deadline: float | None) -> Blocking:
    # Signals waited for count as open to this thread, or a default action would be skipped for another one.
    wait = Wait(deadline=deadline, events=(task.process.signals.arrived,), restart=Restart.NEVER)
    while True:
        yield wait
        found = _take(task, wanted, info)
        if found:
            return found
        if deadline is not None and task.kernel.clock.monotonic_s() >= deadline:
            raise Errno(EAGAIN)


def sigaltstack(task: Task, new: dict[str, Any] | None, old: OutPointer | None) -> int:
    if old is not None:
        old.ready()
    before = task.altstack
    inside = before.size_bytes and before.address < task.cpu.sp <= before.address + before.size_bytes
    on_it = bool(inside) and not before.flags & (common.SS_DISABLE | common.SS_AUTODISARM)
    if new is not None:
        if on_it:
            raise Errno(EPERM)
        mode = new["ss_flags"] & ~common.SS_AUTODISARM
        if mode not in (0, common.SS_DISABLE, common.SS_ONSTACK):
            raise Errno(EINVAL)
        if mode == common.SS_DISABLE:
            task.altstack = AltStack(0, 0, new["ss_flags"])
        else:
            if new["ss_size"] < task.architecture.abi.MINSIGSTKSZ:
                raise Errno(ENOMEM)
            task.altstack = AltStack(new["ss_sp"], new["ss_size"], new["ss_flags"] & common.SS_AUTODISARM)
    if old is not None:
        flags = before.flags | (common.SS_ONSTACK if on_it else 0)
        old.pack(ss_sp=before.address, ss_size=before.size_bytes, ss_flags=flags)
    return 0


# -- sending ----------------------------------------------------------------------------------------


def _own_info(task: Task, signal: int, code: int) -> SignalInfo:
    return SignalInfo(signal, code, pid=task.process.pid, uid=task.process.credentials.uid)


def kill(task: Task, pid: int, signal: int) -> int:
    if not 0 <= signal <= SIGNALS_MAX:
        raise Errno(EINVAL)
    process = task.process
    if pid == process.pid:
        if signal:
            send_to_process(process, _own_info(task, signal, common.SI_USER))
        return 0
    process.link.kill(pid, 0, signal, common.SI_USER, 0)
    return 0


def tkill(task: Task, thread: int, signal: int) -> int:
    if thread <= 0 or not 0 <= signal <= SIGNALS_MAX:
        raise Errno(EINVAL)
    found = task.process.tasks.get(thread)
    if found is not None:
        if signal:
            send_to_task(found, _own_info(task, signal, common.SI_TKILL))
        return 0
    task.process.link.kill(0, thread, signal, common.SI_TKILL, 0)
    return 0


def tgkill(task: Task, group: int, thread: int, signal: int) -> int:
    if group <= 0 or thread <= 0 or not 0 <= signal <= SIGNALS_MAX:
        raise Errno(EINVAL)
    if group == task.process.pid:
        if thread not in task.process.tasks:
            raise Errno(ESRCH)
        return tkill(task, thread, signal)
    task.process.link.kill(group, thread, signal, common.SI_TKILL, 0)
    return 0


def rt_sigqueueinfo(task: Task, pid: int, signal: int, info: InBuffer) -> int:
    return _queue(task, pid, 0, signal, info)


def rt_tgsigqueueinfo(task: Task, group: int, thread: int, signal: int, info: InBuffer) -> int:
    if group <= 0 or thread <= 0:
        raise Errno(EINVAL)
    return _queue(task, group, thread, signal, info)


def _queue(task: Task, pid: int, thread: int, signal: int, info: InBuffer) -> int:
    """A signal with a value (sigqueue(3)); a code that the kernel reserves is EPERM for others."""
    if not 0 <= signal <= SIGNALS_MAX:
        raise Errno(EINVAL)
    given = SignalInfo.decode(info.whole(SIGINFO_GIVEN_BYTES))
    process = task.process
    if pid != process.pid and (given.code >= 0 or given.code == common.SI_TKILL):
        raise Errno(EPERM)
    given.signal = signal
    if pid != process.pid:
        process.link.kill(pid, thread, signal, given.code, given.value)
        return 0
    if thread and thread not in process.tasks:
        raise Errno(ESRCH)
    if signal and thread:
        send_to_task(process.tasks[thread], given)
    elif signal:
        send_to_process(process, given)
    return 0
