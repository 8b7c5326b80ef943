"""timer_create(2): timers of a process on any clock, whose signals say how often they came too late."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from client_vm.abi import common
from client_vm.frames import SignalInfo
from client_vm.signals import send_to_process, send_to_task

if TYPE_CHECKING:
    from client_vm.process import Process, Task

OVERRUN_MAX: Final = 0x7FFFFFFF
"""DELAYTIMER_MAX: overruns are not counted beyond."""


@dataclass(frozen=True, slots=True)
class Notice:
    """What a timer does when its time has come: sends this signal, to a thread or (None) to the process."""

    signal: int
    value: int
    task: "Task | None"


class PosixTimer:
    """One timer. Times are nanoseconds of its own clock.

    Between its signal's being sent and being taken it stands still; what has passed meanwhile is the overrun
    (timer_getoverrun(2)). So a short interval costs nothing while its signal is blocked.
    """

    def __init__(
        self,
        number: int,
        clock: Callable[[], int],
        counts_cpu: bool,
        notice: Notice | None,
        changed: Callable[[], None],
    ) -> None:
        """`notice` None: SIGEV_NONE; `changed`: its next deadline has."""
        self.number = number
        self.counts_cpu = counts_cpu
        self.overrun = 0
        """Of the signal that was taken last."""
        self._now_ns = clock
        self._changed = changed
        self._notice = notice
        self._due_ns: int | None = None
        self._interval_ns = 0
        self._sent: SignalInfo | None = None

    def arm(self, process: "Process", value_ns: int, interval_ns: int, absolute: bool) -> None:
        """Arms it anew, for then or for so much later, or (0) disarms it. A signal that waits is taken back."""
        self.withdraw(process)
        self._due_ns = None if not value_ns else value_ns if absolute else self._now_ns() + value_ns
        self._interval_ns = interval_ns if value_ns else 0
        self.overrun = 0
        self._changed()

    def withdraw(self, process: "Process") -> None:
        """Its signal, if one waits, is not delivered any more (as since Linux 6.13)."""
        sent, self._sent = self._sent, None
        if sent is not None and self._notice is not None:
            thread = self._notice.task
            (process.signals if thread is None else thread).pending.withdraw(sent)

    def left(self) -> tuple[int, int]:
        """Until it is due (0: disarmed), and its interval."""
        due = self._due_ns
        if due is None:
            return 0, self._interval_ns
        now = self._now_ns()
        if now >= due and self._interval_ns and (self._sent or self._notice is None):
            due += ((now - due) // self._interval_ns + 1) * self._interval_ns
        if now >= due:
            return int(self._notice is not None and self._sent is None), self._interval_ns  # or it has been
        return due - now, self._interval_ns

    def wait_ns(self) -> int | None:
        """Until it must be looked at; None: nothing is to come."""
        if self._due_ns is None or self._sent is not None or self._notice is None:
            return None
        return max(self._due_ns - self._now_ns(), 0)

    def look(self, process: "Process") -> None:
        """Sends its signal if it is due."""
        if self.wait_ns() != 0 or self._notice is None:
            return
        notice = self._notice
        info = SignalInfo(
            notice.signal, common.SI_TIMER, timer_id=self.number, value=notice.value, taken=self._taken
        )
        self._sent = info
        if notice.task is None:
            send_to_process(process, info)
        elif process.tasks.get(notice.task.tid) is notice.task:
            send_to_task(notice.task, info)
        else:
            self.arm(process, 0, 0, absolute=True)  # nobody will ever hear of it

    def _taken(self, info: SignalInfo) -> None:
        """Its signal is about to be delivered, or was thrown away: the next interval begins."""
        if self._sent is not info:
            return  # it has been set anew
        self._sent, self.overrun = None, 0
        if not self._interval_ns or self._due_ns is None:
            self._due_ns = None
            return
        missed = (self._now_ns() - self._due_ns) // self._interval_ns
        self._due_ns += (missed + 1) * self._interval_ns
        info.overrun = self.overrun = min(missed, OVERRUN_MAX)
        self._changed()
