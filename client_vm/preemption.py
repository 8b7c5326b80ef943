"""Taking the CPU away from a guest that makes no system calls: ticks that end its run between two blocks.

The worker is tickless while nobody waits for the CPU. Today the one who waits is a limit of CPU time
(setrlimit(2), RLIMIT_CPU); threads of a process are next.
"""

import signal
from typing import Final

from client_vm import host
from client_vm.abi import common
from client_vm.process import INFINITY, Task
from client_vm.signals import force_signal, raise_signal

TICK_S: Final = 0.01
_NS: Final = 1_000_000_000


def watch_cpu_time(task: Task) -> None:
    """Starts or stops the ticks, as RLIMIT_CPU asks. A timer of CPU time: it wakes nobody who sleeps."""
    if task.process.limits[common.RLIMIT_CPU][0] == INFINITY:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        return
    host.native_signal_handler(signal.SIGVTALRM, task.cpu.alarm_stub)
    signal.setitimer(signal.ITIMER_VIRTUAL, TICK_S, TICK_S)


def preempted(task: Task) -> None:
    """After a tick: SIGXCPU beyond the soft limit, SIGKILL beyond the hard one."""
    soft, hard = task.process.limits[common.RLIMIT_CPU]
    used_ns = task.kernel.cpu_time_ns()
    if used_ns > hard * _NS:
        force_signal(task, common.SIGKILL)
    if used_ns > soft * _NS:
        raise_signal(task, common.SIGXCPU)
