"""A guest process as an object: fd table, memory, credentials, signals, limits. Nothing here is global.

A worker may hold two of them (vfork, issue of the process model), each with its own sessions. A Task is one
thread of a process on one CPU; handlers get it as their first argument.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from resource import struct_rusage
from typing import TYPE_CHECKING, Final

from client_vm.abi import common
from client_vm.account import MemoryAccount
from client_vm.architecture import Architecture
from client_vm.cpu import Cpu
from client_vm.descriptors import FdTable, OpenFile
from client_vm.dispatch import Dispatch
from client_vm.file_server import FileServer
from client_vm.guest_memory import GuestMemory
from client_vm.mmu import AddressSpace
from client_vm.waiting import Blocking, Event, Restart, Wait
from ipc.seams import Clock, Random

if TYPE_CHECKING:
    from client_vm.cpu import Context
    from client_vm.event_files import SignalQueue
    from client_vm.frames import SignalInfo
    from client_vm.futex import Futexes
    from client_vm.house import House
    from client_vm.link import KernelLink
    from client_vm.rings import Spare
    from client_vm.scheduler import Scheduler
    from client_vm.segments import Segment
    from client_vm.timers import Timers

INFINITY: Final = (1 << 64) - 1
"""RLIM_INFINITY."""
NAME_BYTES_MAX: Final = 15
"""Of a task's name (comm)."""

_IGNORED_BY_DEFAULT: Final = frozenset(
    (common.SIGCHLD, common.SIGCONT, common.SIGURG, common.SIGWINCH)
)  # signal(7)
STOPPING_BY_DEFAULT: Final = frozenset((common.SIGSTOP, common.SIGTSTP, common.SIGTTIN, common.SIGTTOU))
REALTIME_MIN: Final = 32
"""SIGRTMIN as the kernel counts: from here on signals queue up (signal(7))."""
QUEUED_MAX: Final = 1024
"""Of one real-time signal; beyond it the signal is lost, as with RLIMIT_SIGPENDING."""


@dataclass(slots=True)
class Credentials:
    """credentials(7)."""

    uid: int
    euid: int
    suid: int
    fsuid: int
    gid: int
    egid: int
    sgid: int
    fsgid: int
    groups: tuple[int, ...]

    @classmethod
    def of(cls, uid: int, gid: int, groups: tuple[int, ...]) -> "Credentials":
        return cls(uid, uid, uid, uid, gid, gid, gid, gid, groups)


@dataclass(frozen=True, slots=True)
class Action:
    """What a process does on a signal (sigaction(2)), as the guest gave it."""

    handler: int = common.SIG_DFL
    flags: int = 0
    restorer: int = 0
    mask: int = 0


_DEFAULT_ACTION: Final = Action()


@dataclass(slots=True)
class AltStack:
    """A thread's alternate signal stack (sigaltstack(2))."""

    address: int = 0
    size_bytes: int = 0
    flags: int = common.SS_DISABLE


@dataclass(slots=True)
class Pending:
    """Signals that wait to be delivered: of a process, or of one thread."""

    mask: int = 0
    """Bit n - 1 is signal n."""
    queue: dict[int, list["SignalInfo"]] = field(default_factory=dict)

    def add(self, info: "SignalInfo") -> bool:
        """Queues it. Of a standard signal only one is kept: False if it was pending already (signal(7))."""
        infos = self.queue.setdefault(info.signal, [])
        if infos and (info.signal < REALTIME_MIN or len(infos) >= QUEUED_MAX):
            info.settle()
            return False
        infos.append(info)
        self.mask |= 1 << (info.signal - 1)
        return True

    def take(self, signal: int) -> "SignalInfo":
        """The oldest one of that number, which is pending."""
        infos = self.queue[signal]
        info = infos.pop(0)
        if not infos:
            self.drop(signal)
        info.settle()
        return info

    def drop(self, signal: int) -> None:
        """Forgets all of that number."""
        dropped = self.queue.pop(signal, [])
        self.mask &= ~(1 << (signal - 1))
        for info in dropped:
            info.settle()

    def withdraw(self, info: "SignalInfo") -> None:
        """Whoever sent it wants it back, if it still waits."""
        infos = [other for other in self.queue.pop(info.signal, []) if other is not info]
        if infos:
            self.queue[info.signal] = infos
        else:
            self.mask &= ~(1 << (info.signal - 1))


@dataclass(slots=True)
class Signals:
    """Dispositions of a process, and what is pending for it as a whole."""

    actions: dict[int, Action] = field(default_factory=dict)
    pending: Pending = field(default_factory=Pending)
    arrived: Event = field(default_factory=Event)
    """Notified when a signal was queued: sigtimedwait(2)."""
    queues: "list[SignalQueue]" = field(default_factory=list)
    """Of signalfd(2): they show what is pending."""

    def action(self, signal: int) -> Action:
        return self.actions.get(signal, _DEFAULT_ACTION)

    def ignored(self) -> int:
        return self._mask(lambda action: action.handler == common.SIG_IGN)

    def caught(self) -> int:
        return self._mask(lambda action: action.handler not in (common.SIG_DFL, common.SIG_IGN))

    def _mask(self, chosen: Callable[[Action], bool]) -> int:
        return sum(1 << (signal - 1) for signal, action in self.actions.items() if chosen(action))

    def is_ignored(self, signal: int) -> bool:
        """Whether the signal would be discarded (signal(7))."""
        handler = self.action(signal).handler
        return handler == common.SIG_IGN or (handler == common.SIG_DFL and signal in _IGNORED_BY_DEFAULT)

    def stops(self, signal: int) -> bool:
        """Whether its action is to stop the process."""
        return self.action(signal).handler == common.SIG_DFL and signal in STOPPING_BY_DEFAULT


@dataclass(slots=True)
class Kernel:
    """What all processes of a worker share: the world as farcall shows it, passed in."""

    clock: Clock
    random: Random
    hostname: bytes
    terminal: OpenFile | None
    """The controlling terminal, as /dev/tty."""
    named_terminal: OpenFile | None
    """The same beneath /dev/pts, None if it is not there."""
    memory_total_bytes: int
    cpus: int
    """Processors of the host that the run may use; the guest's have the numbers from 0 on."""
    run_on: Callable[[int], None]
    """Confines the worker to those of a mask."""
    scheduler: "Scheduler"
    """Who runs next; wakes what waits."""
    house: "House"
    """The worker that all of it happens in."""
    cpu_time_ns: Callable[[], int]
    """CPU time the worker has used."""
    usage: Callable[[], struct_rusage]
    """What the worker has used (getrusage(2))."""
    release: bytes = b"6.1.0-farcall"
    """uname(2): what the kernel interface here is nearest to."""
    version: bytes = b"#1 SMP"

    def wake(self, task: "Task") -> None:
        """Has a waiting task look again."""
        self.scheduler.wake(task)

    def place_worker(self) -> None:
        """Has the worker run where any of its threads may: it is one thread of the host."""
        mask = 0
        for process in self.scheduler.processes():
            for task in process.tasks.values():
                mask |= task.affinity
        self.run_on(mask)


@dataclass(slots=True, eq=False)
class Process:
    """One guest process."""

    pid: int
    files: FileServer
    account: MemoryAccount
    link: "KernelLink"
    futexes: "Futexes"
    space: AddressSpace
    fds: FdTable
    cwd: OpenFile
    credentials: Credentials
    umask: int
    limits: dict[int, tuple[int, int]]
    """RLIMIT_*: (soft, hard)."""
    timers: "Timers" = field(init=False)
    spare: "Spare" = field(init=False)
    """Of a vfork child: what it will live on."""
    parent_pid: int = 1
    group: int = 0
    session: int = 0
    signals: Signals = field(default_factory=Signals)
    name: bytes = b""
    arguments: list[bytes] = field(default_factory=list)
    environment: list[bytes] = field(default_factory=list)
    auxv: bytes = b""
    executable: OpenFile | None = None
    break_start: int = 0
    break_end: int = 0
    mmap_top: int = 0
    nice: int = 0
    mapped_files: dict[int, "Segment"] = field(default_factory=dict)
    """Files that are mapped MAP_SHARED, by inode."""
    tasks: dict[int, "Task"] = field(default_factory=dict)
    """Its threads by tid."""
    exit_signal: int = common.SIGCHLD
    stopped: bool = False
    children_changed: Event = field(default_factory=Event)
    thread_ended: Event = field(default_factory=Event)
    """Notified when one of its threads has ended: execve(2) waits for that."""
    released: Event = field(default_factory=Event)
    """Of a vfork child: notified when it lets go of its parent's memory."""
    borrows: bool = False
    """A vfork child that has neither executed nor ended."""
    has_executed: bool = False
    children_cpu_us: int = 0
    """CPU time of the children that it has waited for."""
    subreaper: bool = False
    """PR_SET_CHILD_SUBREAPER."""
    told_of_locks: bool = False
    vdso_address: int = 0

    def may_hold_locks(self) -> bool:
        """Whether robust locks in shared memory may be lost with it (get_robust_list(2))."""
        return bool(self.space.shared_writable) and any(task.robust_list for task in self.tasks.values())

    def tell_of_locks(self) -> None:
        """Has the kernel process leave its end to this worker as soon as it may hold such locks."""
        if not self.told_of_locks and self.may_hold_locks():
            self.link.describe(self)
            self.told_of_locks = True

    def executable_path(self) -> bytes:
        return self.executable.path() if self.executable else b""


@dataclass(slots=True, eq=False)
class Task:
    """One thread of a process. The threads of an address space share one CPU and take turns on it."""

    kernel: Kernel
    process: Process
    architecture: Architecture
    cpu: Cpu
    memory: GuestMemory
    dispatch: Dispatch
    tid: int
    name: bytes = b""
    blocked: int = 0
    """The signal mask. Bit n - 1 is signal n."""
    pending: Pending = field(default_factory=Pending)
    attention: bool = False
    """Before it goes on, signals must be looked at."""
    restore_mask: int | None = None
    """The mask from before a call that waited with another one (ppoll, sigsuspend)."""
    altstack: AltStack = field(default_factory=AltStack)
    clear_child_tid: int = 0
    """Set to 0, and its futex woken, when the thread ends (set_tid_address(2))."""
    robust_list: int = 0
    """Head of the list of robust futexes (get_robust_list(2))."""
    context: "Context | None" = None
    """Its registers while another task is on the CPU."""
    registers: tuple[tuple[str, int], ...] = ()
    """Written when it gets the CPU for the first time."""
    call: Blocking | None = None
    """The system call under way, while it waits."""
    wait: Wait | None = None
    """What that waits for."""
    result: int | None = None
    """Of a call that has waited: written when the task gets the CPU."""
    interrupted: Restart | None = None
    """The call was interrupted, and is made again or EINTR as this says."""
    trapped: tuple[int, int] = (0, 0)
    """Number and first argument of the call that waits: what making it again needs."""
    ended: bool = False
    affinity: int = 0
    """The processors it may run on (sched_setaffinity(2))."""

    def __post_init__(self) -> None:
        self.affinity = self.affinity or (1 << self.kernel.cpus) - 1
