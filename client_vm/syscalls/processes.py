"""The process itself: who it is, its limits, signals' dispositions, its end (man 2 of each)."""

import os
from typing import Final

from client_vm.abi import common
from client_vm.abi.common import EACCES, EFAULT, EINVAL, ENOSYS, EPERM, ESRCH
from client_vm.arguments import RW_BYTES_MAX, InBuffer, OutBuffer, OutPointer
from client_vm.errors import Errno
from client_vm.host_files import host_call
from client_vm.process import NAME_BYTES_MAX, Task
from client_vm.syscalls.signalling import tell_reaping

_SIGNALS_MAX: Final = 64
_MASK_BYTES: Final = 8
CPU_MASK_BYTES: Final = 1024
"""Of the kernel's own masks (CONFIG_NR_CPUS, Debian's)."""
RLIMITS: Final = 16
"""RLIM_NLIMITS (asm-generic/resource.h)."""
NICE_MIN: Final = -20
NICE_MAX: Final = 19


# -- identity ---------------------------------------------------------------------------------------


def getpid(task: Task) -> int:
    return task.process.pid


def _own(task: Task, pid: int) -> None:
    """Errno(ESRCH) unless pid names this process or one of its threads."""
    if pid and pid not in task.process.tasks:
        raise Errno(ESRCH)


# -- limits and the machine -------------------------------------------------------------------------


def prlimit64(task: Task, pid: int, resource: int, new: dict[str, int] | None, old: OutPointer | None) -> int:
    process = task.process
    if not 0 <= resource < RLIMITS:
        raise Errno(EINVAL)
    _own(task, pid)
    soft, hard = process.limits[resource]
    if old is not None:
        old.ready()
    if new is not None:
        if new["rlim_cur"] > new["rlim_max"]:
            raise Errno(EINVAL)
        if new["rlim_max"] > hard and process.credentials.euid != 0:
            raise Errno(EPERM)
        process.limits[resource] = new["rlim_cur"], new["rlim_max"]
        if resource == common.RLIMIT_NOFILE:
            process.fds.limit = new["rlim_cur"]
        elif resource == common.RLIMIT_CPU:
            task.kernel.house.ticks.watch(task)
    if old is not None:
        old.pack(rlim_cur=soft, rlim_max=hard)
    return 0


def getrlimit(task: Task, resource: int, pointer: OutPointer) -> int:
    return prlimit64(task, 0, resource, None, pointer)


def setrlimit(task: Task, resource: int, new: dict[str, int]) -> int:
    return prlimit64(task, 0, resource, new, None)


def getrusage(task: Task, who: int, pointer: OutPointer) -> int:
    if who not in (common.RUSAGE_SELF, common.RUSAGE_CHILDREN, common.RUSAGE_THREAD):
        raise Errno(EINVAL)
    if who == common.RUSAGE_CHILDREN:
        used = task.process.children_cpu_us
        pointer.pack(utime_sec=used // 1_000_000, utime_usec=used % 1_000_000)
        return 0
    used_now = task.kernel.usage()
    user_us, system_us = int(used_now.ru_utime * 1_000_000), int(used_now.ru_stime * 1_000_000)
    pointer.pack(
        utime_sec=user_us // 1_000_000, utime_usec=user_us % 1_000_000,
        stime_sec=system_us // 1_000_000, stime_usec=system_us % 1_000_000,
        ru_maxrss=used_now.ru_maxrss, ru_minflt=used_now.ru_minflt, ru_majflt=used_now.ru_majflt,
        ru_nvcsw=used_now.ru_nvcsw, ru_nivcsw=used_now.ru_nivcsw,
    )  # fmt: skip
    return 0


def getpriority(task: Task, which: int, who: int) -> int:
    """20 - nice, as the kernel returns it (getpriority(2), C library/kernel differences)."""
    if which == common.PRIO_PROCESS:
        _own(task, who)
    elif which not in (common.PRIO_PGRP, common.PRIO_USER):
        raise Errno(EINVAL)
    return 20 - task.process.nice


def setpriority(task: Task, which: int, who: int, nice: int) -> int:
    """The worker's own, which is what competes for the host's CPUs. EACCES: the caller may not have more."""
    if which != common.PRIO_PROCESS:
        raise Errno(ENOSYS if which in (common.PRIO_PGRP, common.PRIO_USER) else EINVAL)
    _own(task, who)
    process = task.process
    nice = max(NICE_MIN, min(nice, NICE_MAX))
    if not process.borrows:  # a vfork child becomes as nice when it has a worker of its own
        host_call(lambda: os.setpriority(os.PRIO_PROCESS, 0, nice))
    elif nice < process.nice:
        raise Errno(EACCES)
    process.nice = nice
    return 0


def sysinfo(task: Task, pointer: OutPointer) -> int:
    total = task.kernel.memory_total_bytes
    # Init is the kernel process, and no guest.
    pointer.pack(
        uptime=int(task.kernel.clock.monotonic_s()), totalram=total, freeram=total // 2, mem_unit=1,
        procs=len(task.process.link.processes()) - 1,
    )  # fmt: skip
    return 0


def uname(task: Task, pointer: OutPointer) -> int:
    kernel = task.kernel
    pointer.pack(
        sysname=b"Linux", nodename=kernel.hostname[:64], release=kernel.release, version=kernel.version,
        machine=task.architecture.machine.encode(), domainname=b"(none)",
    )  # fmt: skip
    return 0


def sched_getaffinity(task: Task, pid: int, size: int, mask: OutBuffer) -> int:
    _own(task, pid)
    if size % 8 or size * 8 & 0xFFFFFFFF < task.kernel.cpus:
        raise Errno(EINVAL)
    width = 8 * (-(-task.kernel.cpus // 64))
    width = min(size, width)
    mask.put(task.process.tasks[pid or task.tid].affinity.to_bytes(width, "little"))
    return width


def sched_setaffinity(task: Task, pid: int, size: int, mask: InBuffer) -> int:
    """The host's processors that this worker runs on, too. It is one thread there: guest threads with different
    masks have the processors of all of them in common."""
    width = min(size, CPU_MASK_BYTES)  # what is longer than the kernel's own mask does not count
    wanted = int.from_bytes(mask.whole(width), "little") & (1 << task.kernel.cpus) - 1
    _own(task, pid)
    if not wanted:
        raise Errno(EINVAL)
    task.process.tasks[pid or task.tid].affinity = wanted
    task.kernel.place_worker()
    return 0


def sched_yield(task: Task) -> int:
    """Other threads of the worker get their turn at the end of this call (sched_yield(2))."""
    if task.kernel.scheduler.others_wait:
        task.cpu.words.preempt = 1
    return 0


def getcpu(task: Task, cpu: OutBuffer | None, node: OutBuffer | None) -> int:
    for pointer in (cpu, node):
        if pointer is not None:
            pointer.check(4)
    if cpu is not None:
        lowest = task.affinity & -task.affinity  # any that it may run on
        cpu.put((lowest.bit_length() - 1).to_bytes(4, "little"))
    if node is not None:
        node.put(bytes(4))
    return 0


def getrandom(task: Task, buffer: OutBuffer, count: int, flags: int) -> int:
    known = common.GRND_NONBLOCK | common.GRND_RANDOM | common.GRND_INSECURE
    both = common.GRND_RANDOM | common.GRND_INSECURE
    if flags & ~known or flags & both == both:
        raise Errno(EINVAL)
    views = buffer.views(min(count, RW_BYTES_MAX)) if count else []
    for view in views:
        view[:] = task.kernel.random.bytes(len(view))
    return sum(map(len, views))


# -- the CPU and the task ------------------------------------------------------------------------------


def arch_prctl(task: Task, code: int, address: int) -> int:
    cpu = task.cpu
    if code == task.architecture.abi.ARCH_SET_FS:
        cpu.tls = address
        return 0
    if code == task.architecture.abi.ARCH_GET_FS:
        task.memory.write(address, cpu.tls.to_bytes(8, "little"))
        return 0
    if code == task.architecture.abi.ARCH_SET_GS:
        cpu.write_register("gs_base", address)
        return 0
    if code == task.architecture.abi.ARCH_GET_GS:
        task.memory.write(address, cpu.read_register("gs_base").to_bytes(8, "little"))
        return 0
    raise Errno(EINVAL)


def prctl(task: Task, option: int, argument: int, _third: int, _fourth: int, _fifth: int) -> int:
    process = task.process
    if option == common.PR_SET_NAME:
        raw = b"".join(task.memory.readable(argument, NAME_BYTES_MAX))
        if b"\0" not in raw and len(raw) < NAME_BYTES_MAX:
            raise Errno(EFAULT)
        task.name = raw.split(b"\0")[0][:NAME_BYTES_MAX]
        if task.tid == process.pid:
            process.name = task.name
            process.link.describe(process)
        return 0
    if option == common.PR_GET_NAME:
        task.memory.write(argument, task.name.ljust(NAME_BYTES_MAX + 1, b"\0"))
        return 0
    if option == common.PR_GET_DUMPABLE:
        return 1
    if option == common.PR_SET_CHILD_SUBREAPER:
        process.subreaper = bool(argument)
        tell_reaping(task)
        return 0
    if option == common.PR_GET_CHILD_SUBREAPER:
        task.memory.write(argument, process.subreaper.to_bytes(4, "little"))
        return 0
    raise Errno(EINVAL)
