"""Time: clocks and sleeping (man 2 of each)."""

from typing import Any, Final

from client_vm.abi import common
from client_vm.abi.common import EINVAL, EOPNOTSUPP
from client_vm.arguments import OutPointer
from client_vm.errors import Errno
from client_vm.process import Task

_NS: Final = 1_000_000_000
_MONOTONIC: Final = frozenset(
    (
        common.CLOCK_MONOTONIC, common.CLOCK_MONOTONIC_RAW, common.CLOCK_MONOTONIC_COARSE,
        common.CLOCK_BOOTTIME,
    )
)  # fmt: skip
_REALTIME: Final = frozenset((common.CLOCK_REALTIME, common.CLOCK_REALTIME_COARSE, common.CLOCK_TAI))
_CPU: Final = frozenset((common.CLOCK_PROCESS_CPUTIME_ID, common.CLOCK_THREAD_CPUTIME_ID))


def _read(task: Task, clock: int) -> int:
    """A clock's nanoseconds. EINVAL: no such clock."""
    source = task.kernel.clock
    if clock in _REALTIME:
        return source.realtime_ns()
    if clock in _MONOTONIC:
        return int(source.monotonic_s() * _NS)
    if clock in _CPU:
        return task.kernel.cpu_time_ns()
    raise Errno(EINVAL)


def _pack_timespec(ns: int) -> dict[str, int | bytes]:
    return {"tv_sec": ns // _NS, "tv_nsec": ns % _NS}


def clock_gettime(task: Task, clock: int, pointer: OutPointer) -> int:
    pointer.pack(**_pack_timespec(_read(task, clock)))
    return 0


def clock_getres(task: Task, clock: int, pointer: OutPointer | None) -> int:
    _read(task, clock)
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


def _duration(spec: dict[str, Any]) -> int:
    """Nanoseconds of a timespec. EINVAL if it is not one."""
    if spec["tv_sec"] < 0 or not 0 <= spec["tv_nsec"] < _NS:
        raise Errno(EINVAL)
    return int(spec["tv_sec"]) * _NS + int(spec["tv_nsec"])


def nanosleep(task: Task, spec: dict[str, Any], _remaining: OutPointer | None) -> int:
    task.kernel.sleep(_duration(spec) / _NS)
    return 0


def clock_nanosleep(
    task: Task, clock: int, flags: int, spec: dict[str, Any], _remaining: OutPointer | None
) -> int:
    if clock == common.CLOCK_THREAD_CPUTIME_ID or clock not in _REALTIME | _MONOTONIC | _CPU:
        raise Errno(EINVAL)
    if clock in _CPU or clock in (common.CLOCK_REALTIME_COARSE, common.CLOCK_MONOTONIC_COARSE):
        raise Errno(EOPNOTSUPP)
    wanted = _duration(spec)
    if flags & common.TIMER_ABSTIME:
        wanted -= _read(task, clock)
    if wanted > 0:
        task.kernel.sleep(wanted / _NS)
    return 0


def times(task: Task, pointer: OutPointer | None) -> int:
    ticks = task.kernel.cpu_time_ns() * 100 // _NS
    if pointer is not None:
        pointer.pack(tms_utime=ticks)
    return int(task.kernel.clock.monotonic_s() * 100)
