"""Time: clocks and sleeping (man 2 of each)."""

from typing import Any, Final

from client_vm.abi import common
from client_vm.abi.common import EINVAL, EOPNOTSUPP
from client_vm.arguments import OutPointer
from client_vm.errors import Errno
from client_vm.process import Task
from client_vm.waiting import Blocking, Interrupted, Restart, Wait

_NS: Final = 1_000_000_000
_MONOTONIC: Final = frozenset(
    (
        common.CLOCK_MONOTONIC, common.CLOCK_MONOTONIC_RAW, common.CLOCK_MONOTONIC_COARSE,
        common.CLOCK_BOOTTIME,
    )
)  # fmt: skip
_REALTIME: Final = frozenset((common.CLOCK_REALTIME, common.CLOCK_REALTIME_COARSE, common.CLOCK_TAI))
CPU: Final = frozenset((common.CLOCK_PROCESS_CPUTIME_ID, common.CLOCK_THREAD_CPUTIME_ID))


def read(task: Task, clock: int) -> int:
    """A clock's nanoseconds. EINVAL: no such clock."""
    source = task.kernel.clock
    if clock in _REALTIME:
        return source.realtime_ns()
    if clock in _MONOTONIC:
        return int(source.monotonic_s() * _NS)
    if clock in CPU:
        return task.kernel.cpu_time_ns()
    raise Errno(EINVAL)


def _pack_timespec(ns: int) -> dict[str, int | bytes]:
    return {"tv_sec": ns // _NS, "tv_nsec": ns % _NS}


def clock_gettime(task: Task, clock: int, pointer: OutPointer) -> int:
    pointer.pack(**_pack_timespec(read(task, clock)))
    return 0


def clock_getres(task: Task, clock: int, pointer: OutPointer | None) -> int:
    read(task, clock)
    coarse = clock in (common.CLOCK_REALTIME_COARSE, common.CLOCK_MONOTONIC_COARSE)
    if pointer is not None:
        pointer.pack(tv_sec=0, tv_nsec=4_000_000 if coarse else 1)
    return 0


def gettimeofday(task: Task, pointer: OutPointer | None, zone: OutPointer | None) -> int:
    now = task.kernel.clock.realtime_ns()
    if zone is not None:
        zone.ready()
    if pointer is not None:
        pointer.pack(tv_sec=now // _NS, tv_usec=now % _NS // 1000)
    if zone is not None:
        zone.pack()
    return 0


def time(task: Task, pointer: OutPointer | None) -> int:
    now = task.kernel.clock.realtime_ns() // _NS
    if pointer is not None:
        pointer.put(now.to_bytes(8, "little"))
    return now


def duration(spec: dict[str, Any]) -> int:
    """Nanoseconds of a timespec. EINVAL if it is not one."""
    if spec["tv_sec"] < 0 or not 0 <= spec["tv_nsec"] < _NS:
        raise Errno(EINVAL)
    return int(spec["tv_sec"]) * _NS + int(spec["tv_nsec"])


def nanosleep(task: Task, spec: dict[str, Any], remaining: OutPointer | None) -> int | Blocking:
    deadline = task.kernel.clock.monotonic_s() + duration(spec) / _NS
    return _sleep(task, deadline, remaining)


def _sleep(task: Task, deadline: float, remaining: OutPointer | None) -> Blocking:
    """Until the deadline; a handler ends it with EINTR, and what is left is told (nanosleep(2))."""
    clock = task.kernel.clock
    wait = Wait(deadline=deadline, restart=Restart.NEVER)
    while clock.monotonic_s() < deadline:
        try:
            yield wait
        except Interrupted:
            if remaining is not None:
                remaining.pack(**_pack_timespec(max(0, int((deadline - clock.monotonic_s()) * _NS))))
            raise
    return 0


def clock_nanosleep(
    task: Task, clock: int, flags: int, spec: dict[str, Any], remaining: OutPointer | None
) -> int | Blocking:
    if clock == common.CLOCK_THREAD_CPUTIME_ID or clock not in _REALTIME | _MONOTONIC | CPU:
        raise Errno(EINVAL)
    if clock in CPU or clock in (common.CLOCK_REALTIME_COARSE, common.CLOCK_MONOTONIC_COARSE):
        raise Errno(EOPNOTSUPP)
    wanted = duration(spec)
    absolute = bool(flags & common.TIMER_ABSTIME)
    if absolute:
        wanted -= read(task, clock)
    if wanted <= 0:
        return 0
    deadline = task.kernel.clock.monotonic_s() + wanted / _NS
    return _sleep(task, deadline, None if absolute else remaining)


# -- interval timers ----------------------------------------------------------------------------------


def _seconds(value: dict[str, Any], part: str) -> float:
    seconds, micros = value[f"{part}_sec"], value[f"{part}_usec"]
    if seconds < 0 or not 0 <= micros < 1_000_000:
        raise Errno(EINVAL)
    return float(seconds + micros / 1e6)


def _pack_interval(left_s: float, interval_s: float) -> dict[str, int | bytes]:
    left, interval = round(left_s * 1e6), round(interval_s * 1e6)
    return {
        "value_sec": left // 1_000_000, "value_usec": left % 1_000_000,
        "interval_sec": interval // 1_000_000, "interval_usec": interval % 1_000_000,
    }  # fmt: skip


def setitimer(task: Task, which: int, new: dict[str, Any] | None, old: OutPointer | None) -> int:
    timers = task.process.timers
    if which not in (common.ITIMER_REAL, common.ITIMER_VIRTUAL, common.ITIMER_PROF):
        raise Errno(EINVAL)
    after, interval = (_seconds(new, "value"), _seconds(new, "interval")) if new is not None else (0.0, 0.0)
    if old is not None:
        old.ready()
    if which == common.ITIMER_REAL:
        before = timers.set_real(after, interval)
    else:
        before = timers.set_cpu(which, after, interval, task.kernel.cpu_time_ns())
        task.kernel.house.ticks.watch(task)
    if old is not None:
        old.pack(**_pack_interval(*before))
    return 0


def getitimer(task: Task, which: int, pointer: OutPointer) -> int:
    timers = task.process.timers
    if which not in (common.ITIMER_REAL, common.ITIMER_VIRTUAL, common.ITIMER_PROF):
        raise Errno(EINVAL)
    if which == common.ITIMER_REAL:
        left = timers.left_real()
    else:
        left = timers.left_cpu(which, task.kernel.cpu_time_ns())
    pointer.pack(**_pack_interval(*left))
    return 0


def alarm(task: Task, seconds: int) -> int:
    """Seconds that were left of the old one, rounded, but never down to 0 (kernel/time/itimer.c)."""
    left, _ = task.process.timers.set_real(float(seconds), 0.0)
    return max(round(left), 1) if left else 0


def times(task: Task, pointer: OutPointer | None) -> int:
    ticks = task.kernel.cpu_time_ns() * 100 // _NS
    if pointer is not None:
        pointer.pack(tms_utime=ticks, tms_cutime=task.process.children_cpu_us // 10_000)
    return int(task.kernel.clock.monotonic_s() * 100)
