"""Taking the CPU away from a guest that makes no system calls: ticks that end its run between two blocks.

The worker is tickless while nobody waits for the CPU. Those who do: other threads of the worker, a limit of CPU
time (setrlimit(2), RLIMIT_CPU), interval timers of CPU time. A tick is a timer of CPU time of the host: it
wakes nobody who sleeps. The kernel process stops a computing guest by SIGURG, a timer of real time by SIGALRM:
all three have the same native handler.
"""

import signal
from typing import Final

from client_vm import host
from client_vm.abi import common
from client_vm.frames import SignalInfo
from client_vm.process import INFINITY, Task
from client_vm.signals import send_to_process

TICK_S: Final = 0.01
_NS: Final = 1_000_000_000


class Ticks:
    """The worker's tick."""

    def __init__(self) -> None:
        self._on = False
        self._always = False

    @staticmethod
    def attach(alarms: tuple[int, int]) -> None:
        """Installs a CPU's native handlers (`Cpu.alarms`): from now on that CPU is the one to stop."""
        first, again = alarms
        for number in (signal.SIGVTALRM, signal.SIGURG, signal.SIGALRM):
            host.native_signal_handler(number, first)
        host.native_signal_handler(signal.SIGPROF, again)

    def want(self, others: bool) -> None:
        """Somebody else wants the CPU now and then, or nobody does any more."""
        wanted = others or self._always
        if wanted is not self._on:
            self._on = wanted
            interval_s = TICK_S if wanted else 0.0
            signal.setitimer(signal.ITIMER_VIRTUAL, interval_s, interval_s)

    def watch(self, task: Task) -> None:
        """Looks anew at whether CPU time must be counted for the process itself."""
        process = task.process
        limited = process.limits[common.RLIMIT_CPU][0] != INFINITY
        self._always = limited or process.timers.counts_cpu_time
        self.want(self._on)

    def forked(self) -> None:
        """In a new host process, which inherits no timers (setitimer(2))."""
        self._on = False

    def check(self, task: Task) -> None:
        """After a tick: timers of CPU time; SIGXCPU beyond the soft limit, SIGKILL beyond the hard one."""
        if not self._always:
            return
        process = task.process
        used_ns = task.kernel.cpu_time_ns()
        process.timers.check_cpu_time(process, used_ns)
        soft, hard = process.limits[common.RLIMIT_CPU]
        if hard != INFINITY and used_ns > hard * _NS:
            send_to_process(process, SignalInfo(common.SIGKILL, common.SI_KERNEL))
        elif soft != INFINITY and used_ns > soft * _NS:
            send_to_process(process, SignalInfo(common.SIGXCPU, common.SI_KERNEL))
