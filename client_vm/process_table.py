"""The guest's processes as the kernel process knows them: parents, groups, sessions, news for wait(2), kill(2).

Pure: no I/O, no clock. Methods check first and raise Errno, then act; what has to be told to whom is their
result. Signal dispositions are the workers' business, but for those of SIGCHLD that concern its sender
(sigaction(2): SIG_IGN, SA_NOCLDWAIT, SA_NOCLDSTOP). Rules as in Linux's kernel/exit.c, kernel/sys.c,
kernel/signal.c and drivers/tty/tty_jobctrl.c.

Pid 1 is the run's init, which is the kernel process: it adopts orphans and reaps them. For the first process
it also stands for the shell that farcall was called from: so Ctrl-Z may stop a guest that is alone.
"""

import enum
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Final

from client_vm.abi import common
from client_vm.errors import Errno
from client_vm.terminals import CALLERS, Control, Terminals

INIT_PID: Final = 1
FIRST_PID: Final = 2
SIGNAL_MAX: Final = 64
PID_MAX: Final = (1 << 31) - 1

# si_code (asm-generic/siginfo.h).
SI_USER: Final = 0
SI_KERNEL: Final = 0x80
SI_TKILL: Final = -6
CLD_EXITED: Final = 1
CLD_KILLED: Final = 2
CLD_DUMPED: Final = 3
CLD_STOPPED: Final = 5
CLD_CONTINUED: Final = 6

# id_type of waitid(2) (linux/wait.h).
P_ALL: Final = 0
P_PID: Final = 1
P_PGID: Final = 2

TERMINAL_SIGNALS: Final = (common.SIGINT, common.SIGQUIT, common.SIGTSTP, common.SIGWINCH)
TERMINAL_STOPS: Final = (common.SIGTSTP, common.SIGTTIN, common.SIGTTOU)
STOPS: Final = (common.SIGSTOP, *TERMINAL_STOPS)
_WANTED: Final = common.WEXITED | common.WSTOPPED | common.WCONTINUED
_OPTIONS: Final = _WANTED | common.WNOHANG | common.WNOWAIT | common.WNOTHREAD | common.WALL | common.WCLONE


@dataclass(frozen=True, slots=True)
class Signal:
    """A siginfo_t (sigaction(2)) on its way."""

    signal: int
    code: int = SI_USER
    pid: int = 0
    uid: int = 0
    status: int = 0
    value: int = 0
    thread: int = 0
    """0: the process."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """What a process is to be told: a signal; None: its children have changed, wait(2) may have news.

    With a new parent it is told that only.
    """

    pid: int
    signal: Signal | None
    new_parent: int = 0


class State(enum.Enum):
    """proc(5)'s letters."""

    RUNNING = "R"
    STOPPED = "T"
    ZOMBIE = "Z"


@dataclass(frozen=True, slots=True)
class Ended:
    """How a process ended: CLD_EXITED and its status, or CLD_KILLED or CLD_DUMPED and the signal."""

    code: int
    status: int
    utime_us: int = 0
    stime_us: int = 0


@dataclass(frozen=True, slots=True)
class News:
    """What wait(2) tells of a child."""

    pid: int
    uid: int
    code: int
    status: int
    utime_us: int = 0
    stime_us: int = 0


@dataclass(frozen=True, slots=True)
class Uids:
    """credentials(7)."""

    real: int
    effective: int
    saved: int


@dataclass(slots=True)
class Process:
    """One process, a zombie's too."""

    pid: int
    parent: int
    group: int
    session: int
    uids: Uids
    exit_signal: int = common.SIGCHLD
    """0: none is sent."""
    state: State = State.RUNNING
    children: dict[int, None] = field(default_factory=dict)
    """Oldest first."""
    ended: Ended | None = None
    change: tuple[int, int] | None = None
    """CLD_STOPPED or CLD_CONTINUED and the signal, until somebody waited for it."""
    leads_session: bool = False
    executed: bool = False
    no_zombies: bool = False
    no_stops: bool = False
    subreaper: bool = False
    name: bytes = b""
    command_line: bytes = b""
    executable: bytes = b""


class ProcessTable:
    """All processes of a run."""

    def __init__(self, uids: Uids) -> None:
        """`uids`: of init and of the first process, which leads a group and a session and has the terminal."""
        init = Process(INIT_PID, 0, INIT_PID, INIT_PID, uids, leads_session=True, no_zombies=True)
        first = Process(FIRST_PID, INIT_PID, FIRST_PID, FIRST_PID, uids, leads_session=True, executed=True)
        init.name = b"farcall"
        init.children[FIRST_PID] = None
        self._processes = {INIT_PID: init, FIRST_PID: first}
        self._terminals = Terminals(FIRST_PID)

    @property
    def foreground(self) -> int:
        """The foreground process group of the caller's terminal; 0: none any more."""
        return self._terminals.of(CALLERS).foreground

    def get(self, pid: int) -> Process:
        """ESRCH if there is none. A zombie is one."""
        try:
            return self._processes[pid]
        except KeyError:
            raise Errno(common.ESRCH) from None

    def __contains__(self, pid: int) -> bool:
        return pid in self._processes

    def __iter__(self) -> Iterator[Process]:
        return iter(self._processes.values())

    def members(self, group: int) -> list[Process]:
        """Of a process group, zombies too."""
        return [process for process in self if process.group == group]

    # Birth and death.

    def fork(self, parent: int, pid: int, exit_signal: int) -> None:
        """A child is born; `pid` has never been used. EINVAL: no signal; ESRCH: the parent has ended."""
        if not 0 <= exit_signal <= SIGNAL_MAX:
            raise Errno(common.EINVAL)
        mother = self._living(parent)
        assert pid not in self._processes, pid
        self._processes[pid] = replace(
            mother,
            pid=pid,
            parent=parent,
            exit_signal=exit_signal,
            state=State.RUNNING,
            children={},
            change=None,
            leads_session=False,
            executed=False,
            subreaper=False,
        )
        mother.children[pid] = None

    def exit(self, pid: int, ended: Ended) -> list[Delivery]:
        """A process has ended: its children get another parent, its parent gets to know. ESRCH."""
        process = self._living(pid)
        process.state, process.ended, process.change = State.ZOMBIE, ended, None
        told: list[Delivery] = []
        terminal = self._terminals.find(process.session) if process.leads_session else None
        if terminal is not None:
            told += self._tell_group(self._terminals.lose(terminal).foreground, common.SIGHUP)
        reaper = self._reaper_of(process)
        for child in process.children:
            told += self._reparent(self._processes[child], process, reaper)
        process.children.clear()
        told += self._wake_orphans(process, self._processes[process.parent], ignored=process)
        return told + self._notify_of_end(process)

    def _living(self, pid: int) -> Process:
        process = self.get(pid)
        if process.state == State.ZOMBIE:
            raise Errno(common.ESRCH)
        return process

    def _reaper_of(self, process: Process) -> Process:
        """The nearest living ancestor that asked for orphans (PR_SET_CHILD_SUBREAPER), or init."""
        ancestor = process
        while ancestor.pid != INIT_PID:
            ancestor = self._processes[ancestor.parent]
            if ancestor.subreaper and ancestor.state != State.ZOMBIE:
                return ancestor
        return ancestor

    def _reparent(self, child: Process, father: Process, reaper: Process) -> list[Delivery]:
        child.parent = reaper.pid
        reaper.children[child.pid] = None
        child.exit_signal = common.SIGCHLD
        told = self._wake_orphans(child, father, ignored=None)
        if child.state == State.ZOMBIE:
            return told + self._notify_of_end(child)
        return [*told, Delivery(child.pid, None, new_parent=reaper.pid)]

    def _notify_of_end(self, process: Process) -> list[Delivery]:
        """The parent's signal and wake-up; a child that nobody will wait for is gone at once."""
        ended = process.ended
        assert ended is not None
        parent = self._processes[process.parent]
        if parent.no_zombies and process.exit_signal == common.SIGCHLD:
            self._forget(process)
        if parent.pid == INIT_PID:
            return []
        told = [Delivery(parent.pid, None)]
        if process.exit_signal:
            told.append(self._about(process, parent, process.exit_signal, ended.code, ended.status))
        return told

    def _about(self, child: Process, parent: Process, signal: int, code: int, status: int) -> Delivery:
        return Delivery(parent.pid, Signal(signal, code, child.pid, child.uids.real, status))

    def _forget(self, process: Process) -> None:
        del self._processes[process.pid]
        del self._processes[process.parent].children[process.pid]

    # Stopped and going on.

    def stop(self, pid: int, signal: int) -> list[Delivery]:
        """A stop signal has had its way.

        EINVAL: it is none. EPERM: a terminal's stop in an orphaned group, where it does nothing (signal(7)).
        """
        process = self._living(pid)
        if signal not in STOPS:
            raise Errno(common.EINVAL)
        if signal in TERMINAL_STOPS and self.is_orphaned(process.group):
            raise Errno(common.EPERM)
        if process.state == State.STOPPED:
            return []
        process.state, process.change = State.STOPPED, (CLD_STOPPED, signal)
        return self._notify_of_change(process)

    def go_on(self, pid: int) -> list[Delivery]:
        """SIGCONT has had its way; nothing if the process is not stopped."""
        process = self._living(pid)
        if process.state != State.STOPPED:
            return []
        process.state, process.change = State.RUNNING, (CLD_CONTINUED, common.SIGCONT)
        return self._notify_of_change(process)

    def _notify_of_change(self, process: Process) -> list[Delivery]:
        assert process.change is not None
        parent = self._processes[process.parent]
        if parent.pid == INIT_PID:
            return []
        told = [Delivery(parent.pid, None)]
        if not parent.no_stops:
            told.append(self._about(process, parent, common.SIGCHLD, *process.change))
        return told

    def is_stopped(self, group: int) -> bool:
        """Whether the group has living members, and all of them are stopped."""
        states = {process.state for process in self.members(group)} - {State.ZOMBIE}
        return states == {State.STOPPED}

    def is_orphaned(self, group: int, ignored: Process | None = None) -> bool:
        """Whether no member's parent is in another group of the same session (setpgid(2))."""
        return not any(
            self._ties(process, self._processes[process.parent])
            for process in self.members(group)
            if process is not ignored and process.state != State.ZOMBIE
        )

    def _ties(self, process: Process, parent: Process) -> bool:
        if parent.pid == INIT_PID:
            return process.pid == FIRST_PID  # whose parent stands for the caller's shell
        return parent.group != process.group and parent.session == process.session

    def _wake_orphans(self, process: Process, parent: Process, ignored: Process | None) -> list[Delivery]:
        """A group that its last tie leaves with stopped members gets SIGHUP, SIGCONT (kill_orphaned_pgrp)."""
        if not self._ties(process, parent) or not self.is_orphaned(process.group, ignored):
            return []
        if not any(member.state == State.STOPPED for member in self.members(process.group)):
            return []
        told = self._tell_group(process.group, common.SIGHUP)
        return told + self._tell_group(process.group, common.SIGCONT)

    # Waiting.

    def wait(self, pid: int, id_type: int, number: int, options: int) -> News | None:
        """News of a child, taken unless WNOWAIT; None: there are children, and no news of them. Never waits.

        P_PGID 0 is the caller's group. ECHILD: there is no such child; EINVAL.
        """
        process = self._living(pid)
        if options & ~_OPTIONS or not options & _WANTED or id_type not in (P_ALL, P_PID, P_PGID):
            raise Errno(common.EINVAL)
        if id_type == P_PID and not number:
            raise Errno(common.EINVAL)
        if id_type == P_PGID:
            number = number or process.group
        there_are_some = False
        for child in (self._processes[each] for each in process.children):
            if not _is_meant(child, id_type, number, options):
                continue
            if child.state == State.ZOMBIE and not options & common.WEXITED:
                continue  # as Linux: nothing to wait for any more
            there_are_some = True
            news = self._news_of(child, options)
            if news is not None:
                return news
        if not there_are_some:
            raise Errno(common.ECHILD)
        return None

    def _news_of(self, child: Process, options: int) -> News | None:
        if child.ended is not None:
            if not options & common.WNOWAIT:
                self._forget(child)
            ended = child.ended
            return News(child.pid, child.uids.real, ended.code, ended.status, ended.utime_us, ended.stime_us)
        if child.change is None:
            return None
        code, status = child.change
        if not options & (common.WSTOPPED if code == CLD_STOPPED else common.WCONTINUED):
            return None
        if not options & common.WNOWAIT:
            child.change = None
        return News(child.pid, child.uids.real, code, status)

    # Groups, sessions, the terminal.

    def set_group(self, caller: int, pid: int, group: int) -> None:
        """setpgid(2). EINVAL, ESRCH, EPERM, EACCES."""
        me = self._living(caller)
        pid = pid or caller
        group = group or pid
        if group > PID_MAX:
            raise Errno(common.EINVAL)
        process = self.get(pid)
        if process.parent == caller:
            if process.session != me.session:
                raise Errno(common.EPERM)
            if process.executed:
                raise Errno(common.EACCES)
        elif process is not me:
            raise Errno(common.ESRCH)
        if process.leads_session:
            raise Errno(common.EPERM)
        if group != pid and all(member.session != me.session for member in self.members(group)):
            raise Errno(common.EPERM)
        process.group = group

    def set_session(self, caller: int) -> None:
        """setsid(2). EPERM: it leads a group, or one of its number has members."""
        process = self._living(caller)
        if process.leads_session or self.members(caller):
            raise Errno(common.EPERM)
        process.group = process.session = caller
        process.leads_session = True

    def control_of(self, caller: int, terminal: int, by_master: bool) -> Control:
        """Whom a terminal has. ENOTTY: it is not the caller's, nor its other end (`by_master`)."""
        control = self._terminals.of(terminal)
        if not by_master and self._living(caller).session != control.session:
            raise Errno(common.ENOTTY)
        return control

    def get_foreground(self, caller: int, terminal: int = CALLERS) -> int:
        """tcgetpgrp(3). ENOTTY: the terminal is not the caller's."""
        return self.control_of(caller, terminal, by_master=False).foreground

    def set_foreground(self, caller: int, group: int, terminal: int = CALLERS) -> None:
        """tcsetpgrp(3); the caller has looked at SIGTTOU. ENOTTY, EINVAL, ESRCH, EPERM."""
        control = self.control_of(caller, terminal, by_master=False)
        if group > PID_MAX:
            raise Errno(common.EINVAL)
        members = self.members(group)
        if not members:
            raise Errno(common.ESRCH)
        if members[0].session != control.session:
            raise Errno(common.EPERM)
        control.foreground = group

    def find_terminal(self, caller: int) -> int:
        """The one of the caller's session. ENXIO: none (tty(4))."""
        terminal = self._terminals.find(self._living(caller).session)
        if terminal is None:
            raise Errno(common.ENXIO)
        return terminal

    def take_terminal(self, caller: int, terminal: int) -> None:
        """TIOCSCTTY. EPERM: the caller leads no session, or that or the terminal has another."""
        me = self._living(caller)
        if not me.leads_session:
            raise Errno(common.EPERM)
        self._terminals.take(terminal, me.session, me.group)

    def leave_terminal(self, caller: int, terminal: int) -> list[Delivery]:
        """TIOCNOTTY of a session's leader. ENOTTY; EPERM: it leads none, or the terminal is that of the run."""
        me = self._living(caller)
        self.control_of(caller, terminal, by_master=False)
        if not me.leads_session or terminal == CALLERS:
            raise Errno(common.EPERM)
        group = self._terminals.lose(terminal).foreground
        return self._tell_group(group, common.SIGHUP) + self._tell_group(group, common.SIGCONT)

    def hang_up(self, terminal: int) -> list[Delivery]:
        """The terminal is gone: the session's leader hears of it (tty_signal_session_leader)."""
        leader = self._terminals.lose(terminal).session
        told = self.post(leader, Signal(common.SIGHUP, SI_KERNEL))
        return told + self.post(leader, Signal(common.SIGCONT, SI_KERNEL))

    def signal_foreground(self, terminal: int, signal: int) -> list[Delivery]:
        """Keys, or another size. EINVAL: no such signal comes from a terminal."""
        if signal not in TERMINAL_SIGNALS:
            raise Errno(common.EINVAL)
        return self._tell_group(self._terminals.of(terminal).foreground, signal)

    # Signals.

    def kill(self, caller: int, target: int, sent: Signal) -> list[Delivery]:
        """kill(2): `target` > 0 a process, 0 the caller's group, -1 everybody else, else a group.

        Whoever may not be sent it is left out. EINVAL, ESRCH, EPERM.
        """
        me = self._living(caller)
        sent = replace(sent, pid=caller, uid=me.uids.real)
        if target > 0:
            chosen: Iterable[Process] = [self.get(target)]
        elif target == -1:
            chosen = [process for process in self if process is not me and process.pid != INIT_PID]
        else:
            chosen = self.members(-target or me.group)
        chosen = list(chosen)
        if not chosen:
            raise Errno(common.ESRCH)
        if not 0 <= sent.signal <= SIGNAL_MAX:
            raise Errno(common.EINVAL)
        allowed = [process for process in chosen if _may_signal(me, process, sent.signal)]
        if not allowed:
            raise Errno(common.EPERM)
        return self._tell(allowed, sent)

    def post(self, pid: int, sent: Signal) -> list[Delivery]:
        """A signal of the kernel's own, to a process that may be gone."""
        return self._tell([self._processes[pid]], sent) if pid in self._processes else []

    def post_group(self, group: int, sent: Signal) -> list[Delivery]:
        """As `post`, to a group."""
        return self._tell(self.members(group), sent)

    def _tell_group(self, group: int, signal: int) -> list[Delivery]:
        return self._tell(self.members(group), Signal(signal, SI_KERNEL))

    def _tell(self, chosen: Iterable[Process], sent: Signal) -> list[Delivery]:
        told: list[Delivery] = []
        if not sent.signal:
            return told
        for process in chosen:
            if process.state == State.ZOMBIE or process.pid == INIT_PID:
                continue
            if sent.signal == common.SIGCONT:
                told += self.go_on(process.pid)
            told.append(Delivery(process.pid, sent))
        return told


def _is_meant(child: Process, id_type: int, number: int, options: int) -> bool:
    """Whether a wait looks at this child (waitid(2); __WCLONE, __WALL)."""
    if (id_type == P_PID and child.pid != number) or (id_type == P_PGID and child.group != number):
        return False
    is_clone = child.exit_signal != common.SIGCHLD
    return bool(options & common.WALL) or is_clone == bool(options & common.WCLONE)


def _may_signal(sender: Process, target: Process, signal: int) -> bool:
    """kill(2)'s rule; the effective uid 0 stands for CAP_KILL."""
    mine, theirs = sender.uids, target.uids
    if sender is target or not mine.effective or {mine.real, mine.effective} & {theirs.real, theirs.saved}:
        return True
    return signal == common.SIGCONT and sender.session == target.session
