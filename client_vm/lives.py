"""How processes and threads of a worker begin and end: clone, fork, vfork, execve, exit.

A fork is a clone of this host process as a child of the kernel process, with a spare's pid, rings and sessions.
A vfork child is a second Process in this worker, over its parent's memory, until it executes (which is then the
fork) or ends.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from client_vm import host
from client_vm.abi import common
from client_vm.abi.common import EAGAIN, EFAULT
from client_vm.errors import Errno, GuestExit, Replaced
from client_vm.frames import SignalInfo
from client_vm.loader import Prepared, load_into, prepare
from client_vm.namespace import cross, place_of
from client_vm.process import Action, AltStack, Pending, Process, Signals, Task
from client_vm.waiting import Blocking, Wait

if TYPE_CHECKING:
    from client_vm.house import House

THREADS_MAX: Final = 4096
"""Of one process."""
ROBUST_ENTRIES_MAX: Final = 2048
"""Of one robust list (linux/futex.h: ROBUST_LIST_LIMIT)."""


@dataclass(frozen=True, slots=True)
class CloneRequest:
    """The arguments of clone(2), wherever they came from."""

    flags: int = 0
    exit_signal: int = 0
    stack: int = 0
    parent_tid: int = 0
    child_tid: int = 0
    tls: int = 0
    pidfd: int = 0


@dataclass(frozen=True, slots=True)
class Ended:
    """News of a child: it ended, was stopped or goes on."""

    pid: int
    code: int
    """CLD_*."""
    status: int
    """Exit status or signal."""
    uid: int
    utime_us: int
    stime_us: int

    def wait_status(self) -> int:
        """As wait4(2) gives it."""
        if self.code == common.CLD_EXITED:
            return (self.status & 0xFF) << 8
        if self.code in (common.CLD_STOPPED, common.CLD_TRAPPED):
            return self.status << 8 | 0x7F
        if self.code == common.CLD_CONTINUED:
            return 0xFFFF
        return self.status | (0x80 if self.code == common.CLD_DUMPED else 0)

    def info(self) -> SignalInfo:
        """As waitid(2) gives it."""
        return SignalInfo(
            common.SIGCHLD, self.code, pid=self.pid, uid=self.uid, status=self.status,
            utime=self.utime_us // 10_000, stime=self.stime_us // 10_000,
        )  # fmt: skip

    def usage(self) -> dict[str, int | bytes]:
        """Fields of struct rusage."""
        return {
            "utime_sec": self.utime_us // 1_000_000, "utime_usec": self.utime_us % 1_000_000,
            "stime_sec": self.stime_us // 1_000_000, "stime_usec": self.stime_us % 1_000_000,
        }  # fmt: skip


# -- threads ------------------------------------------------------------------------------------------


def start_thread(task: Task, request: CloneRequest) -> int:
    """A new thread of the process; its tid."""
    process, kernel = task.process, task.kernel
    if len(process.tasks) >= THREADS_MAX:
        raise Errno(EAGAIN)
    child = _copy_of(task, process, kernel.house.next_tid(), request)
    if request.flags & common.CLONE_CHILD_CLEARTID:
        child.clear_child_tid = request.child_tid
    process.tasks[child.tid] = child
    _tell_tids(task, child.tid, request)
    kernel.scheduler.add(child)
    return child.tid


def _copy_of(task: Task, process: Process, tid: int, request: CloneRequest) -> Task:
    """A task that goes on behind the caller's system call, with result 0."""
    cpu = task.cpu
    cpu.finish_syscall(0)
    context = cpu.new_context()
    cpu.save(context)
    registers = []
    if request.stack:
        registers.append((task.architecture.stack_register, request.stack))
    if request.flags & common.CLONE_SETTLS:
        registers.append((task.architecture.tls_register, request.tls))
    return Task(
        task.kernel, process, task.architecture, cpu, task.memory, task.dispatch, tid,
        name=task.name, blocked=task.blocked, context=context, registers=tuple(registers),
        affinity=task.affinity,
    )  # fmt: skip


def _tell_tids(task: Task, tid: int, request: CloneRequest) -> None:
    """Where the new id is wanted; unwritable places are the caller's loss, as on Linux."""
    for flag, address in (
        (common.CLONE_PARENT_SETTID, request.parent_tid),
        (common.CLONE_CHILD_SETTID, request.child_tid),
    ):
        if request.flags & flag:
            _put_word(task, address, tid)


def _put_word(task: Task, address: int, value: int) -> None:
    try:
        task.memory.write(address, value.to_bytes(4, "little"))
    except Errno as error:
        assert error.errno == EFAULT


def leave_thread(task: Task) -> None:
    """A thread is gone: what it promised to tell is told (set_tid_address(2), robust futexes)."""
    process = task.process
    _leave_robust_list(task)
    if task.clear_child_tid and not process.borrows:
        _put_word(task, task.clear_child_tid, 0)
        _wake_word(task, task.clear_child_tid)
    task.clear_child_tid = task.robust_list = 0
    task.kernel.scheduler.remove(task)
    process.tasks.pop(task.tid, None)
    if task.context is not None:
        task.context.free()
        task.context = None


def _wake_word(task: Task, address: int) -> None:
    from client_vm.futex import key_of

    try:
        task.process.futexes.wake(key_of(task, address), 1)
    except Errno:
        return  # it is no word of the guest's any more


def _leave_robust_list(task: Task) -> None:
    """Marks the locks that a dying thread holds, and wakes one waiter each (kernel/futex: exit_robust_list)."""
    if not task.robust_list:
        return
    try:
        offset = int.from_bytes(task.memory.read(task.robust_list + 8, 8), "little", signed=True)
        pending = task.memory.read_u64(task.robust_list + 16) & ~1
        for entry in _robust_entries(task, pending):
            _mark_dead(task, entry + offset)
        if pending:
            _mark_dead(task, pending + offset)
    except Errno:
        return  # a list that cannot be read: Linux gives up, too


def _robust_entries(task: Task, pending: int) -> Iterator[int]:
    entry = task.memory.read_u64(task.robust_list) & ~1
    for _ in range(ROBUST_ENTRIES_MAX):
        if entry == task.robust_list:
            return
        following = task.memory.read_u64(entry) & ~1
        if entry != pending:
            yield entry
        entry = following


def _mark_dead(task: Task, address: int) -> None:
    with task.kernel.house.one_step(task.process):
        word = int.from_bytes(task.memory.read(address, 4), "little")
        if word & common.FUTEX_TID_MASK != task.tid:
            return
        _put_word(task, address, word & common.FUTEX_WAITERS | common.FUTEX_OWNER_DIED)
    if word & common.FUTEX_WAITERS:
        _wake_word(task, address)


# -- fork ----------------------------------------------------------------------------------------------


def fork(task: Task, request: CloneRequest) -> int:
    """A child process with a copy of everything. 0 in the child. EAGAIN, ENOMEM."""
    house, process = task.kernel.house, task.process
    spare = house.take_spare(process)
    try:
        process.fds.share(house.offsets)
    except Errno:
        spare.close()
        raise
    try:
        host_pid = host.clone_process()
    except OSError:
        process.fds.unshare()
        spare.close()
        raise Errno(EAGAIN) from None
    if host_pid:
        spare.close()
        process.link.forked(spare.pid, host_pid, request.exit_signal)
        if request.flags & common.CLONE_PARENT_SETTID:
            _put_word(task, request.parent_tid, spare.pid)
        return spare.pid
    house.become(task, spare)
    _leave_others(task)
    process.parent_pid, process.exit_signal = process.pid, request.exit_signal
    process.pid = spare.pid
    _alone(task)
    process.space.forked()
    if request.flags & common.CLONE_CLEAR_SIGHAND:
        _forget_handlers(process)
    if request.flags & common.CLONE_SETTLS:
        task.cpu.tls = request.tls
    if request.stack:
        task.cpu.sp = request.stack
    for flag, address in (
        (common.CLONE_PARENT_SETTID, request.parent_tid),
        (common.CLONE_CHILD_SETTID, request.child_tid),
    ):
        if request.flags & flag:
            _put_word(task, address, process.pid)
    task.clear_child_tid = request.child_tid if request.flags & common.CLONE_CHILD_CLEARTID else 0
    return 0


def _leave_others(task: Task) -> None:
    """In a clone: this worker has nothing open for the processes that did not come along (vfork's)."""
    for other in task.kernel.scheduler.processes():
        if other is not task.process:
            other.fds.leave_behind()


def _alone(task: Task) -> None:
    """In a new process: one thread, nothing pending, nobody asleep at a futex, no record locks."""
    process = task.process
    task.kernel.scheduler.keep_only(task)
    task.kernel.scheduler.alarm.forget_all()
    task.tid = process.pid
    process.tasks = {task.tid: task}
    process.signals.pending = Pending()
    task.pending = Pending()
    task.robust_list = 0
    task.kernel.place_worker()  # the threads that did not come along may have had other processors
    process.fds.record_locked.clear()
    task.kernel.house.new_timers(process)
    process.has_executed = False
    process.children_cpu_us = 0
    process.told_of_locks = False
    for event in (process.children_changed, process.released, process.signals.arrived):
        event.waiters.clear()


def vfork(task: Task, request: CloneRequest) -> Blocking:
    """A child that runs in its parent's memory while the caller waits; the child's pid when it lets go."""
    parent, house = task.process, task.kernel.house
    spare = house.take_pid()
    link = house.link_of(spare)
    parent.link.forked(spare.pid, 0, request.exit_signal)
    child = Process(
        pid=spare.pid, files=parent.files, account=parent.account, link=link, space=parent.space,
        fds=parent.fds.copy(), cwd=parent.cwd, credentials=parent.credentials, umask=parent.umask,
        limits=dict(parent.limits), parent_pid=parent.pid, group=parent.group, session=parent.session,
        signals=Signals(dict(parent.signals.actions)), name=parent.name, arguments=parent.arguments,
        environment=parent.environment, auxv=parent.auxv, executable=parent.executable,
        break_start=parent.break_start, break_end=parent.break_end, mmap_top=parent.mmap_top,
        nice=parent.nice, exit_signal=request.exit_signal, borrows=True, futexes=parent.futexes,
        vdso_address=parent.vdso_address,
    )  # fmt: skip
    child.spare = spare
    child.cwd.users += 1
    if child.executable is not None:
        child.executable.users += 1
    house.new_timers(child)
    thread = _copy_of(task, child, spare.pid, request)
    child.tasks[thread.tid] = thread
    _tell_tids(task, thread.tid, request)
    task.kernel.scheduler.add(thread)
    return _await_release(child)


def _await_release(child: Process) -> Blocking:
    wait = Wait(events=(child.released,))
    while child.borrows:
        try:
            yield wait
        except Errno:
            continue  # only death interrupts a vfork parent (kernel/fork.c: wait_for_vfork_done)
    return child.pid


# -- execve ---------------------------------------------------------------------------------------------


def execute(
    task: Task, directory: int, path: bytes, arguments: list[bytes], environment: list[bytes], flags: int
) -> int:
    """Replaces the program; Replaced when that is done. Errno: nothing has changed."""
    process = task.process
    follow, empty_ok = not flags & common.AT_SYMLINK_NOFOLLOW, bool(flags & common.AT_EMPTY_PATH)
    place = place_of(task, directory, path, follow, empty_ok)
    prepared = prepare(process, place, path, arguments, environment, partial(cross, task))
    if process.borrows:
        return _execute_in_clone(task, prepared)
    _become_program(task, prepared)
    raise Replaced


def _execute_in_clone(task: Task, prepared: Prepared) -> int:
    """A vfork child executes: now it gets a host process of its own. Errno as execve(2)'s."""
    child, house = task.process, task.kernel.house
    house.fill_spare(child)
    child.fds.share(house.offsets)
    child.space.leave_out_of_fork()  # the child needs nothing of it: its program is another one
    host_pid = host.clone_process()
    if host_pid:
        child.space.take_into_fork()
        house.resident.link.forked(child.pid, host_pid, child.exit_signal)
        prepared.drop()
        release(child)
        raise Replaced
    house.become(task, child.spare)
    _leave_others(task)
    child.borrows = False
    host.be_nice(child.nice)
    house.adopt(child)
    _alone(task)
    _become_program(task, prepared)
    raise Replaced


def release(child: Process) -> None:
    """A vfork child leaves this worker: its parent goes on."""
    for thread in list(child.tasks.values()):
        child.tasks.pop(thread.tid)
        thread.kernel.scheduler.remove(thread)
        if thread.context is not None:
            thread.context.free()
    child.fds.close_all()
    child.timers.end()
    child.link.close()
    child.borrows = False
    child.released.notify()


def _become_program(task: Task, prepared: Prepared) -> None:
    """The point of no return: the old program is gone, the new one loaded. GuestExit if that fails."""
    process, kernel = task.process, task.kernel
    for other in list(process.tasks.values()):
        if other is not task:
            leave_thread(other)
    _leave_robust_list(task)
    process.tasks = {process.pid: task}
    task.tid = process.pid
    try:
        with process.files.together():
            process.fds.close_for_exec()
            kernel.house.renew_memory(task, prepared)
        load_into(process, prepared, kernel.random)
    except Errno:
        raise GuestExit(0, common.SIGKILL) from None
    kernel.house.put_on_cpu(task, prepared)
    _forget_handlers(process)
    task.altstack = AltStack()
    task.name = process.name
    task.clear_child_tid = task.robust_list = 0
    task.restore_mask = None
    process.timers.delete_created()
    process.has_executed = True
    process.told_of_locks = False
    process.exit_signal = common.SIGCHLD
    process.link.describe(process)


def _forget_handlers(process: Process) -> None:
    """Signals that were caught have their default action; ignored ones stay ignored."""
    actions = process.signals.actions
    process.signals.actions = {
        signal: Action(common.SIG_IGN) for signal, action in actions.items() if action.handler == common.SIG_IGN
    }


# -- the end ---------------------------------------------------------------------------------------------


class Endings:
    """What the scheduler calls when something ends."""

    def __init__(self, house: "House") -> None:
        self._house = house

    def thread_ended(self, task: Task, status: int) -> None:
        """exit(2): the last thread takes the process along."""
        process = task.process
        leave_thread(task)
        if not process.tasks:
            self.process_ended(process, GuestExit(status))

    def process_ended(self, process: Process, ended: GuestExit) -> None:
        """exit_group(2), or death by a signal."""
        for task in list(process.tasks.values()):
            leave_thread(task)
        if process.borrows:
            process.link.exit(ended.status, ended.signal, 0)
            release(process)
            process.cwd.drop()
            return
        self._house.end(process, ended)
