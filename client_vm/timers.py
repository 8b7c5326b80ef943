"""Timers of a process: setitimer(2), alarm(2), timer_create(2). They send signals when their time has come.

Real time is looked at whenever the worker sleeps or is stopped, and a host timer (SIGALRM) stops a computing
guest when the next one is due. CPU time is looked at by the ticks.
"""

import signal
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Final

from client_vm.abi import common
from client_vm.frames import SignalInfo
from client_vm.posix_timers import Notice, PosixTimer
from client_vm.signals import send_to_process
from ipc.seams import Clock

if TYPE_CHECKING:
    from client_vm.process import Process

NEVER: Final = float("inf")
_NS: Final = 1_000_000_000


@dataclass(slots=True)
class Interval:
    """One timer. `due`: on its clock, in that clock's unit; NEVER: disarmed. `interval`: 0: once."""

    due: float = NEVER
    interval: float = 0.0


class Timers:
    """The timers of one process."""

    def __init__(self, clock: Clock, alarm: "HostAlarm") -> None:
        """`alarm` is told of the next deadline of real time."""
        self._clock = clock
        self._alarm = alarm
        self.real = Interval()
        """ITIMER_REAL, seconds."""
        self.virtual = Interval()
        """ITIMER_VIRTUAL, nanoseconds of CPU time."""
        self.profiling = Interval()
        """ITIMER_PROF, likewise: time in the kernel is the worker's own, and counts as the guest's."""
        self.created: dict[int, PosixTimer] = {}
        """timer_create(2)'s, by number."""
        self._numbers = count()

    @property
    def counts_cpu_time(self) -> bool:
        """Whether a timer of CPU time is armed."""
        if self.virtual.due < NEVER or self.profiling.due < NEVER:
            return True
        return any(timer.counts_cpu and timer.wait_ns() is not None for timer in self.created.values())

    def create(self, clock: Callable[[], int], counts_cpu: bool, notice: Callable[[int], Notice | None]) -> int:
        """timer_create(2)'s new timer; its number, which its notice may depend on."""
        number = next(self._numbers)
        self.created[number] = PosixTimer(number, clock, counts_cpu, notice(number), self._refresh)
        return number

    def delete(self, number: int) -> None:
        """timer_delete(2) of one that is there."""
        del self.created[number]
        self._refresh()

    def delete_created(self) -> None:
        """execve(2) keeps only setitimer(2)'s."""
        self.created.clear()
        self._refresh()

    def end(self) -> None:
        """The process is gone from this worker."""
        self._alarm.set(self, NEVER)

    def _refresh(self) -> None:
        """Looks anew at when the next one of real time is due."""
        due = self.real.due
        for timer in self.created.values():
            wait_ns = None if timer.counts_cpu else timer.wait_ns()
            if wait_ns is not None:
                due = min(due, self._clock.monotonic_s() + wait_ns / _NS)
        self._alarm.set(self, due)

    def set_real(self, after_s: float, interval_s: float) -> tuple[float, float]:
        """Arms (or, with 0, disarms) ITIMER_REAL; what was left of the old one, and its interval, seconds."""
        now = self._clock.monotonic_s()
        before = self.left_real()
        self.real = Interval(now + after_s if after_s else NEVER, interval_s)
        self._refresh()
        return before

    def left_real(self) -> tuple[float, float]:
        """Seconds until ITIMER_REAL fires (0: disarmed), and its interval."""
        if self.real.due == NEVER:
            return 0.0, self.real.interval
        return max(self.real.due - self._clock.monotonic_s(), 1e-6), self.real.interval

    def _cpu(self, which: int) -> Interval:
        return self.virtual if which == common.ITIMER_VIRTUAL else self.profiling

    def set_cpu(self, which: int, after_s: float, interval_s: float, used_ns: int) -> tuple[float, float]:
        """As set_real, for ITIMER_VIRTUAL and ITIMER_PROF; `used_ns`: CPU time used so far."""
        before = self.left_cpu(which, used_ns)
        timer = self._cpu(which)
        timer.due = used_ns + after_s * _NS if after_s else NEVER
        timer.interval = interval_s * _NS
        return before

    def left_cpu(self, which: int, used_ns: int) -> tuple[float, float]:
        """As left_real."""
        timer = self._cpu(which)
        left_s = 0.0 if timer.due == NEVER else max((timer.due - used_ns) / _NS, 1e-6)
        return left_s, timer.interval / _NS

    def fire(self, process: "Process", now: float) -> None:
        """Sends SIGALRM if ITIMER_REAL is due, and the signals of created timers that are."""
        for timer in [timer for timer in self.created.values() if not timer.counts_cpu]:
            timer.look(process)
        self._fire_real(process, now)
        self._refresh()

    def _fire_real(self, process: "Process", now: float) -> None:
        if self.real.due > now:
            return
        if self.real.interval:
            missed = int((now - self.real.due) / self.real.interval)
            self.real.due += (missed + 1) * self.real.interval
        else:
            self.real.due = NEVER
        send_to_process(process, SignalInfo(common.SIGALRM, common.SI_KERNEL))

    def check_cpu_time(self, process: "Process", used_ns: int) -> None:
        """Sends SIGVTALRM, SIGPROF and created timers' signals if their time has come."""
        for created in [timer for timer in self.created.values() if timer.counts_cpu]:
            created.look(process)
        for timer, number in ((self.virtual, common.SIGVTALRM), (self.profiling, common.SIGPROF)):
            if timer.due <= used_ns:
                timer.due = timer.due + timer.interval if timer.interval else NEVER
                send_to_process(process, SignalInfo(number, common.SI_KERNEL))


class HostAlarm:
    """The host's ITIMER_REAL, which stops a computing guest when a deadline comes."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.deadline = NEVER
        """The next one, on the clock's monotonic_s."""
        self._deadlines: dict[Timers, float] = {}

    def set(self, timers: Timers, deadline: float) -> None:
        """The next deadline of a process; NEVER: none."""
        if deadline == NEVER:
            self._deadlines.pop(timers, None)
        else:
            self._deadlines[timers] = deadline
        self._arm()

    def forget_all(self) -> None:
        """In a new host process, which inherits no timers (setitimer(2))."""
        self._deadlines.clear()
        self._arm()

    def _arm(self) -> None:
        deadline = min(self._deadlines.values(), default=NEVER)
        if deadline == self.deadline:
            return
        self.deadline = deadline
        left_s = 0.0 if deadline == NEVER else max(deadline - self._clock.monotonic_s(), 1e-6)
        signal.setitimer(signal.ITIMER_REAL, left_s)
