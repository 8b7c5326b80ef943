"""timer_create(2) and its kin."""

from collections.abc import Callable
from typing import Any, Final

from client_vm.abi import common
from client_vm.abi.common import EAGAIN, EINVAL, EOPNOTSUPP
from client_vm.arguments import OutBuffer, OutPointer
from client_vm.errors import Errno
from client_vm.posix_timers import Notice, PosixTimer
from client_vm.process import Task
from client_vm.signals import SIGNALS_MAX
from client_vm.syscalls import clocks

_NS: Final = 1_000_000_000
_ID_BYTES: Final = 4
_COARSE: Final = (common.CLOCK_REALTIME_COARSE, common.CLOCK_MONOTONIC_COARSE, common.CLOCK_MONOTONIC_RAW)
"""Clocks without timers (kernel/time/posix-timers.c)."""


def _notice(task: Task, event: dict[str, Any] | None) -> Callable[[int], Notice | None]:
    """What a timer of that number does when it is due. EINVAL."""
    if event is None:
        return lambda number: Notice(common.SIGALRM, number, None)
    how, signal = event["sigev_notify"], event["sigev_signo"]
    if how == common.SIGEV_NONE:
        return lambda _: None
    thread = None
    if how == common.SIGEV_SIGNAL | common.SIGEV_THREAD_ID:
        thread = task.process.tasks.get(event["tid"])
        if thread is None:
            raise Errno(EINVAL)
    elif how not in (common.SIGEV_SIGNAL, common.SIGEV_THREAD):
        raise Errno(EINVAL)
    if not 1 <= signal <= SIGNALS_MAX:
        raise Errno(EINVAL)
    notice = Notice(signal, event["sigev_value"], thread)
    return lambda _: notice


def timer_create(task: Task, clock: int, event: dict[str, Any] | None, number: OutBuffer) -> int:
    timers = task.process.timers
    clocks.read(task, clock)
    if clock in _COARSE:
        raise Errno(EOPNOTSUPP)
    notice = _notice(task, event)
    if len(timers.created) >= task.process.limits[common.RLIMIT_SIGPENDING][0]:
        raise Errno(EAGAIN)
    number.check(_ID_BYTES)
    counts_cpu = clock in clocks.CPU
    made = timers.create(lambda: clocks.read(task, clock), counts_cpu, notice)
    number.put(made.to_bytes(_ID_BYTES, "little"))
    return 0


def _timer(task: Task, number: int) -> PosixTimer:
    timer = task.process.timers.created.get(number)
    if timer is None:
        raise Errno(EINVAL)
    return timer


def _pack(left: tuple[int, int]) -> dict[str, int | bytes]:
    value, interval = left
    return {
        "value_sec": value // _NS, "value_nsec": value % _NS,
        "interval_sec": interval // _NS, "interval_nsec": interval % _NS,
    }  # fmt: skip


def timer_settime(task: Task, number: int, flags: int, new: dict[str, Any] | None, old: OutPointer | None) -> int:
    if new is None:
        raise Errno(EINVAL)
    value, interval = (
        clocks.duration({"tv_sec": new[f"{part}_sec"], "tv_nsec": new[f"{part}_nsec"]})
        for part in ("value", "interval")
    )
    timer = _timer(task, number)
    if old is not None:
        old.ready()
    before = timer.left()
    timer.arm(task.process, value, interval, absolute=bool(flags & common.TIMER_ABSTIME))
    if timer.counts_cpu:
        task.kernel.house.ticks.watch(task)
    if old is not None:
        old.pack(**_pack(before))
    return 0


def timer_gettime(task: Task, number: int, pointer: OutPointer) -> int:
    pointer.pack(**_pack(_timer(task, number).left()))
    return 0


def timer_getoverrun(task: Task, number: int) -> int:
    return _timer(task, number).overrun


def timer_delete(task: Task, number: int) -> int:
    _timer(task, number).withdraw(task.process)
    task.process.timers.delete(number)
    return 0
