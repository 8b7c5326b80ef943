"""A guest process as an object: fd table, memory, credentials, signals, limits. Nothing here is global.

A worker may hold two of them (vfork, issue of the process model), each with its own sessions. A Task is one
thread of a process on one CPU; handlers get it as their first argument.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from client_vm.abi import common
from client_vm.account import MemoryAccount
from client_vm.architecture import Architecture
from client_vm.cpu import Cpu
from client_vm.descriptors import FdTable, OpenFile
from client_vm.dispatch import Dispatch
from client_vm.file_server import FileServer
from client_vm.guest_memory import GuestMemory
from client_vm.mmu import AddressSpace
from ipc.seams import Clock, Random

INFINITY: Final = (1 << 64) - 1
"""RLIM_INFINITY."""
NAME_BYTES_MAX: Final = 15
"""Of a task's name (comm)."""

_IGNORED_BY_DEFAULT: Final = frozenset(
    (common.SIGCHLD, common.SIGCONT, common.SIGURG, common.SIGWINCH)
)  # signal(7)
_STOPPING_BY_DEFAULT: Final = frozenset((common.SIGSTOP, common.SIGTSTP, common.SIGTTIN, common.SIGTTOU))


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


@dataclass(slots=True)
class Signals:
    """Dispositions and mask of a process. Bit n - 1 of a mask is signal n."""

    actions: dict[int, Action] = field(default_factory=dict)
    blocked: int = 0
    pending: int = 0
    stack: bytes = b""
    """struct sigaltstack as set, empty: disabled."""

    def action(self, signal: int) -> Action:
        return self.actions.get(signal, Action())

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

    def is_fatal(self, signal: int) -> bool:
        """Whether its action is the default one, and that ends the process."""
        default = self.action(signal).handler == common.SIG_DFL
        return default and signal not in _IGNORED_BY_DEFAULT | _STOPPING_BY_DEFAULT


@dataclass(slots=True)
class Kernel:
    """What all processes of a worker share: the world as farcall shows it, passed in."""

    clock: Clock
    random: Random
    hostname: bytes
    terminal: OpenFile | None
    memory_total_bytes: int
    cpus: int
    sleep: Callable[[float], None]
    """Waits for so many seconds; nothing else of the guest runs meanwhile."""
    cpu_time_ns: Callable[[], int]
    """CPU time the worker has used."""
    resident_bytes: Callable[[], int]
    """The most memory the worker has had in use."""
    release: bytes = b"6.1.0-farcall"
    """uname(2): what the kernel interface here is nearest to."""
    version: bytes = b"#1 SMP"


@dataclass(slots=True)
class Process:
    """One guest process."""

    pid: int
    files: FileServer
    account: MemoryAccount
    space: AddressSpace
    fds: FdTable
    cwd: OpenFile
    credentials: Credentials
    umask: int
    limits: dict[int, tuple[int, int]]
    """RLIMIT_*: (soft, hard)."""
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
    clear_child_tid: int = 0
    nice: int = 0

    def executable_path(self) -> bytes:
        return self.executable.path() if self.executable else b""


@dataclass(slots=True)
class Task:
    """One thread of a process, and the CPU it runs on."""

    kernel: Kernel
    process: Process
    architecture: Architecture
    cpu: Cpu
    memory: GuestMemory
    dispatch: Dispatch
