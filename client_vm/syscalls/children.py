"""Processes and threads: made, waited for, ended; groups and sessions (man 2 of each)."""

from dataclasses import replace
from typing import Any, Final

from client_vm import lives
from client_vm.abi import common
from client_vm.abi.common import EINVAL
from client_vm.arguments import InBuffer, OutBuffer, OutPointer
from client_vm.errors import Errno, GuestExit
from client_vm.process import Task
from client_vm.syscalls import pidfds
from client_vm.waiting import Blocking, Wait

_THREAD_FLAGS: Final = common.CLONE_VM | common.CLONE_FS | common.CLONE_FILES | common.CLONE_SIGHAND
_REFUSED: Final = (
    common.CLONE_NEWNS | common.CLONE_NEWCGROUP | common.CLONE_NEWUTS | common.CLONE_NEWIPC
    | common.CLONE_NEWUSER | common.CLONE_NEWPID | common.CLONE_NEWNET | common.CLONE_NEWTIME
)  # fmt: skip
_CSIGNAL: Final = 0xFF
_CLONE_ARGS_BYTES: Final = 64
"""CLONE_ARGS_SIZE_VER0: the shortest struct clone_args (clone(2))."""


# -- making ------------------------------------------------------------------------------------------


def fork(task: Task) -> int | Blocking:
    return _clone(task, lives.CloneRequest(exit_signal=common.SIGCHLD))


def vfork(task: Task) -> int | Blocking:
    return _clone(
        task, lives.CloneRequest(flags=common.CLONE_VM | common.CLONE_VFORK, exit_signal=common.SIGCHLD)
    )


def clone(task: Task, flags: int, stack: int, parent_tid: int, fourth: int, fifth: int) -> int | Blocking:
    """The last two arguments are (child_tid, tls) on x86-64 and (tls, child_tid) on ARM64 (clone(2))."""
    child_tid, tls = (fifth, fourth) if task.architecture.clone_has_tls_first else (fourth, fifth)
    flags &= 0xFFFFFFFF
    return _clone(
        task,
        lives.CloneRequest(
            flags & ~_CSIGNAL,
            flags & _CSIGNAL,
            stack,
            parent_tid,
            child_tid,
            tls,
            parent_tid if flags & common.CLONE_PIDFD else 0,
        ),
    )


def clone3(task: Task, pointer: InBuffer, size: int) -> int | Blocking:
    if size < _CLONE_ARGS_BYTES:
        raise Errno(EINVAL)
    if size > 4096 or any(pointer.whole(size)[common.clone_args.size :]):
        raise Errno(common.E2BIG)
    given: dict[str, Any] = common.clone_args.unpack(pointer.whole(size)[: common.clone_args.size].ljust(
        common.clone_args.size, b"\0"
    ))  # fmt: skip
    flags, signal = given["flags"], given["exit_signal"]
    if flags & (_CSIGNAL | common.CLONE_DETACHED) or signal > 64 or given["set_tid_size"] or given["cgroup"]:
        raise Errno(EINVAL)
    if bool(given["stack"]) != bool(given["stack_size"]) or flags & common.CLONE_INTO_CGROUP:
        raise Errno(EINVAL)
    if flags & (common.CLONE_THREAD | common.CLONE_PARENT) and signal:
        raise Errno(EINVAL)
    stack = given["stack"] + given["stack_size"]
    request = lives.CloneRequest(
        flags, signal, stack, given["parent_tid"], given["child_tid"], given["tls"], given["pidfd"]
    )
    return _clone(task, request)


def _clone(task: Task, request: "lives.CloneRequest") -> int | Blocking:
    flags = request.flags
    if flags & (common.CLONE_FS | common.CLONE_NEWNS) == common.CLONE_FS | common.CLONE_NEWNS:
        raise Errno(EINVAL)
    if flags & _REFUSED:
        raise Errno(common.EPERM)
    if flags & common.CLONE_SIGHAND and not flags & common.CLONE_VM:
        raise Errno(EINVAL)
    if flags & common.CLONE_THREAD and not flags & common.CLONE_SIGHAND:
        raise Errno(EINVAL)
    if flags & (common.CLONE_PTRACE | common.CLONE_PARENT | common.CLONE_IO):
        raise Errno(EINVAL)
    if flags & common.CLONE_PIDFD:
        return _clone_watched(task, request)
    if flags & common.CLONE_PARENT_SETTID:
        OutBuffer(task.memory, request.parent_tid).check(4)
    if flags & common.CLONE_THREAD:
        if flags & _THREAD_FLAGS != _THREAD_FLAGS:
            raise Errno(EINVAL)
        return lives.start_thread(task, request)
    if flags & common.CLONE_VM:
        if not flags & common.CLONE_VFORK:
            raise Errno(EINVAL)  # processes that share memory for good
        return lives.vfork(task, request)
    return lives.fork(task, request)


def _clone_watched(task: Task, request: "lives.CloneRequest") -> int | Blocking:
    """CLONE_PIDFD: the caller gets a pidfd of the child, which has none itself."""
    shared = request.flags & (common.CLONE_THREAD | common.CLONE_FILES)
    twice = request.flags & common.CLONE_PARENT_SETTID and request.pidfd == request.parent_tid
    if shared or twice:
        raise Errno(EINVAL)
    OutBuffer(task.memory, request.pidfd).check(4)
    fd = task.process.fds.lowest_free()
    answer = _clone(task, replace(request, flags=request.flags & ~common.CLONE_PIDFD))
    if not isinstance(answer, int):
        return _watch_released(task, answer, request.pidfd, fd)
    if answer:
        pidfds.give(task, request.pidfd, fd, answer)
    return answer


def _watch_released(task: Task, call: Blocking, address: int, fd: int) -> Blocking:
    """A vfork child is watched once it has let go of the caller's memory."""
    pid = yield from call
    pidfds.give(task, address, task.process.fds.lowest_free(fd), pid)
    return pid


def exit_group(_task: Task, status: int) -> int:
    raise GuestExit(status & 0xFF)


# -- waiting -----------------------------------------------------------------------------------------

_WAIT4_OPTIONS: Final = (
    common.WNOHANG | common.WUNTRACED | common.WCONTINUED | common.WALL
    | common.WCLONE | common.WNOTHREAD
)  # fmt: skip


def wait4(
    task: Task, pid: int, status: OutBuffer | None, options: int, usage: OutPointer | None
) -> int | Blocking:
    if options & ~_WAIT4_OPTIONS:
        raise Errno(EINVAL)
    if pid == -(1 << 31):
        raise Errno(common.ESRCH)
    kind, number = common.P_PID, pid
    if pid == -1:
        kind, number = common.P_ALL, 0
    elif pid == 0:
        kind, number = common.P_PGID, task.process.group
    elif pid < 0:
        kind, number = common.P_PGID, -pid
    wanted = options & ~common.WNOHANG | common.WEXITED

    def tell(child: lives.Ended | None) -> int:
        if child is None:
            return 0
        _count(task, child)
        if status is not None:
            status.put(child.wait_status().to_bytes(4, "little"))
        if usage is not None:
            usage.pack(**child.usage())
        return child.pid

    return _wait(task, kind, number, wanted, bool(options & common.WNOHANG), tell)


def waitid(
    task: Task, kind: int, number: int, info: OutBuffer | None, options: int, usage: OutPointer | None
) -> int | Blocking:
    """As wait4, for a siginfo."""
    states = common.WEXITED | common.WSTOPPED | common.WCONTINUED
    extra = _WAIT4_OPTIONS & ~(common.WUNTRACED | common.WCONTINUED)
    if options & ~(states | common.WNOHANG | common.WNOWAIT | extra) or not options & states:
        raise Errno(EINVAL)
    news: lives.Ended | None = None
    never_waits = False
    if kind == common.P_PIDFD:
        if number < 0:
            raise Errno(EINVAL)
        watched = pidfds.process_of(task, number)
        kind, number = common.P_PID, watched.pid
        if watched.flags & common.O_NONBLOCK and not options & common.WNOHANG:
            options, never_waits = options | common.WNOHANG, True
    if kind not in (common.P_ALL, common.P_PID, common.P_PGID) or (kind == common.P_PID and number <= 0):
        raise Errno(EINVAL)
    if kind == common.P_PGID:
        if number < 0:
            raise Errno(EINVAL)
        number = number or task.process.group

    def tell(child: lives.Ended | None) -> int:
        nonlocal news
        news = child
        if child is not None and not options & common.WNOWAIT:
            _count(task, child)
        if info is not None:
            # Only up to si_status, as the kernel does.
            info.put((child.info().encode() if child is not None else bytes(128))[:28])
        if child is not None and usage is not None:
            usage.pack(**child.usage())
        return 0

    try:
        answer = _wait(task, kind, number, options & ~common.WNOHANG, bool(options & common.WNOHANG), tell)
    except Errno:
        tell(None)  # the kernel clears the siginfo even then (kernel/exit.c: waitid)
        raise
    if never_waits and news is None:
        raise Errno(common.EAGAIN)
    return answer


def _count(task: Task, child: lives.Ended) -> None:
    """CPU time of children counts once they are waited for (getrusage(2))."""
    if child.code in (common.CLD_EXITED, common.CLD_KILLED, common.CLD_DUMPED):
        task.process.children_cpu_us += child.utime_us + child.stime_us


def _wait(task: Task, kind: int, number: int, options: int, at_once: bool, tell: Any) -> int | Blocking:
    """Takes a child's news if there are some; waits for them otherwise. ECHILD."""
    seen = task.process.link.children_news
    found = task.process.link.wait(kind, number, options)
    if found is not None or at_once:
        return int(tell(found))
    return _await_child(task, kind, number, options, tell, seen)


def _await_child(task: Task, kind: int, number: int, options: int, tell: Any, seen: int) -> Blocking:
    """Goes on when there may be news of children that came after `seen`, their count at the last look."""
    link = task.process.link
    wait = Wait(events=(task.process.children_changed,))
    while True:
        if link.children_news == seen:
            yield wait
        seen = link.children_news
        found = link.wait(kind, number, options)
        if found is not None:
            return int(tell(found))


# -- families ----------------------------------------------------------------------------------------


def getppid(task: Task) -> int:
    return task.process.parent_pid  # the kernel process tells when it changes


def getpgrp(task: Task) -> int:
    return getpgid(task, 0)


def getpgid(task: Task, pid: int) -> int:
    if pid < 0:
        raise Errno(common.ESRCH)
    return task.process.link.ids(pid).group


def getsid(task: Task, pid: int) -> int:
    if pid < 0:
        raise Errno(common.ESRCH)
    return task.process.link.ids(pid).session


def setpgid(task: Task, pid: int, group: int) -> int:
    if pid < 0 or group < 0:
        raise Errno(EINVAL)
    task.process.link.set_group(pid, group)
    return 0


def setsid(task: Task) -> int:
    return task.process.link.set_session()
