"""A worker as a whole: its ties to the kernel process and the servers, and what its processes share.

One House per host process. A fork's child takes over a spare: pid, control socket, doorbell, rings, sessions.
"""

import os
import signal
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Final, NoReturn

from client_vm import host
from client_vm.account import MemoryAccount
from client_vm.arena import Arena
from client_vm.cpu import Cpu
from client_vm.errors import Errno, GuestExit
from client_vm.futex import Futexes
from client_vm.guest_memory import GuestMemory
from client_vm.link import KernelLink
from client_vm.loader import Prepared
from client_vm.mmu import AddressSpace
from client_vm.network_server import NetworkServer
from client_vm.preemption import Ticks
from client_vm.process import Process, Task
from client_vm.rings import Rings, Spare
from client_vm.rows import TABLE
from client_vm.seeded import GuestRandom
from client_vm.shared_offsets import RUN_LOCK_SLOT, SharedOffsets
from client_vm.timers import Timers
from client_vm.vdso import vdso
from farcall.v1.session_pb2 import SERVER_KIND_FILE, SERVER_KIND_KERNEL, SERVER_KIND_MEMORY, SERVER_KIND_NETWORK
from ipc import idle
from ipc.client import Client
from ipc.seams import NativeClock

if TYPE_CHECKING:
    from client_vm.scheduler import Scheduler

READY_NAME: Final = b"farcall-guest"
"""The process's name once start-up is over: from here on it only uses what it has."""
FORSAKEN_S: Final = 1.0
"""Between the first socket that a killed process loses and its last."""


class House:
    """What the processes of this worker live in."""

    def __init__(
        self,
        rings: Rings,
        offsets: SharedOffsets,
        clock: NativeClock,
        random_key: bytes,
        parent: int,
        cpu_time_ns: Callable[[], int],
    ) -> None:
        self._cpu_time_ns = cpu_time_ns
        self._rings = rings
        rings.renewed = self._renewed
        self.offsets = offsets
        self.clock = clock
        self._random_key = random_key
        self._parent = parent
        """Host pid of the kernel process."""
        self.ticks = Ticks()
        self._sleeper = idle.Sleeper(clock)
        self.scheduler: Scheduler
        self._resident: Process
        self._clients: tuple[Client, ...] = ()
        self.network = NetworkServer(lambda: self._rings.client(SERVER_KIND_NETWORK))
        self._timeout_s = rings.server_timeout_s

    @property
    def resident(self) -> Process:
        """The one that this host process is; a vfork child only visits."""
        return self._resident

    @resident.setter
    def resident(self, process: Process) -> None:
        self._resident = process
        self.scheduler.hearing = process.link

    # -- at the beginning --------------------------------------------------------------------------

    def connect(self) -> tuple[Client, MemoryAccount, KernelLink]:
        """Sessions of the first process."""
        files = self._rings.client(SERVER_KIND_FILE)
        account = MemoryAccount(lambda: self._rings.client(SERVER_KIND_MEMORY))
        return files, account, self._link(self._rings.client(SERVER_KIND_KERNEL))

    def _renewed(self, kind: int) -> None:
        """A server was started again: of files that are mapped it may have other pages."""
        if kind == SERVER_KIND_FILE:
            self.resident.space.stale = True

    def _link(self, client: Client) -> KernelLink:
        return KernelLink(client, self.offsets.events_of(client.session))

    def settle(self, process: Process) -> None:
        """The first process moves in; from here on news of the kernel process are heard."""
        self.resident = process
        self.scheduler.news = self._hear
        process.link.listen()

    def idle(self, descriptors: list[tuple[int, int]], timeout_s: float | None) -> list[tuple[int, int]]:
        """Sleeps, as the scheduler's Idle. No call to the memory server is ever under way meanwhile."""
        files, clients = self.resident.files.opened, [self.resident.link.client]
        if files is not None:
            clients.append(files)
        return self._sleeper.sleep(clients, descriptors, timeout_s)

    def _hear(self) -> None:
        self.resident.link.hear(self.resident)

    def next_tid(self) -> int:
        """A thread id that no other thread of the run has."""
        return self.offsets.next_id()

    def run_lock(self) -> AbstractContextManager[None]:
        """Held while a guest runs that shares writable memory. The host frees it if its holder dies."""
        return self.offsets.locked(RUN_LOCK_SLOT)

    def one_step(self, process: Process) -> AbstractContextManager[None]:
        """Held while a system call reads and changes a word of the guest: others do not come between."""
        return self.run_lock() if process.space.shared_writable else nullcontext()

    def new_timers(self, process: Process) -> None:
        """Timers are not inherited (setitimer(2))."""
        process.timers = Timers(self.clock, self.scheduler.alarm)

    # -- forking ------------------------------------------------------------------------------------

    def take_pid(self) -> Spare:
        """A spare for a vfork child, whose servers' sessions are filled when it executes."""
        return self._rings.take_spare()

    def take_spare(self, process: Process) -> Spare:
        """A spare with all that the process holds at the servers. EAGAIN, ENOMEM."""
        spare = self._rings.take_spare()
        try:
            self._fill(process, spare)
        except Errno:
            spare.close()
            raise
        return spare

    def fill_spare(self, child: Process) -> None:
        """As take_spare, for a vfork child that has its spare."""
        self._fill(child, child.spare)

    @staticmethod
    def _fill(process: Process, spare: Spare) -> None:
        account = process.account
        pending = None
        if not process.borrows:
            pending = account.begin_inherit(spare.grant(SERVER_KIND_MEMORY))
        try:
            process.files.inherit(spare.grant(SERVER_KIND_FILE))
        finally:
            if pending is not None:
                account.end_inherit(pending)

    def link_of(self, spare: Spare) -> KernelLink:
        """A vfork child's own tie to the kernel process."""
        return self._link(self._rings.spare_client(spare, SERVER_KIND_KERNEL))

    def become(self, task: Task, spare: Spare) -> None:
        """In the clone: this host process is another worker now."""
        host.die_with_parent(self._parent, signal.SIGKILL)
        process = task.process
        handles_used = process.files.handles_used
        self._rings = self._rings.replace(spare)
        process.files.move(lambda: self._rings.client(SERVER_KIND_FILE, handles_used=handles_used))
        process.account = MemoryAccount.moved(
            process.account, lambda: self._rings.client(SERVER_KIND_MEMORY), process.borrows
        )
        process.space.charge = process.account.charge
        if not process.borrows:
            process.link = self._link(self._rings.client(SERVER_KIND_KERNEL))
        process.futexes = Futexes(process.link)
        self.network.move(lambda: self._rings.client(SERVER_KIND_NETWORK))
        task.kernel.random = GuestRandom(self._random_key, spare.pid)
        self.ticks.forked()
        self.resident = process
        process.link.listen()

    def adopt(self, process: Process) -> None:
        """A vfork child, in its own host process now, is the one that lives here."""
        self.resident = process

    # -- programs -----------------------------------------------------------------------------------

    def renew_memory(self, task: Task, prepared: Prepared) -> None:
        """An empty address space for a new program; what the old one had is given back."""
        process = task.process
        old = process.space
        old.drop_all()
        process.account.charge(-process.account.used_bytes)
        old.arena.close()  # first, so that the new one gets its place
        process.space = AddressSpace(Arena(), process.account.charge)
        process.futexes.clear()

    def make_cpu(self, process: Process, prepared: Prepared) -> Cpu:
        """A CPU at the entry of the program that the process's memory has."""
        space, architecture = process.space, prepared.architecture
        cpu = Cpu(architecture, space.arena.address, space.arena.size_bytes, space.translate)
        cpu.tell_time(process.vdso_address + vdso(architecture).site, self.clock.gettime_address)
        self.ticks.attach(cpu.alarms)
        space.flush_tlb, space.flush_code = cpu.flush_tlb, cpu.flush_code
        cpu.pc, cpu.sp = prepared.entry, prepared.stack_pointer
        return cpu

    def put_on_cpu(self, task: Task, prepared: Prepared) -> None:
        """A CPU of the program's architecture, at its entry."""
        old = task.cpu
        task.cpu = self.make_cpu(task.process, prepared)
        task.architecture = prepared.architecture
        task.memory = GuestMemory(task.process.space)
        task.dispatch = TABLE.dispatch(prepared.architecture)
        if task.context is not None:
            task.context.free()
            task.context = None
        task.result = None
        old.close()
        self.scheduler.loaded = task

    def forsaken(self) -> bool:
        """Whether the kernel process is gone, or is going: killed, it loses its sockets one after the other, and
        this worker's death is sent last."""
        return self._rings.control.hangs_up(FORSAKEN_S)

    # -- the end --------------------------------------------------------------------------------------

    def end(self, process: Process, ended: GuestExit) -> NoReturn:
        """The worker ends with its process. What others may notice or wait for is let go before they are told;
        the rest, mostly the time in which the host frees memory, is nobody's loss."""
        space = process.space
        if space.shared_writable:
            space.arena.close()  # a memfd cannot be sealed while somebody may write to it
        holds = process.fds.has_remote() or bool(process.mapped_files)
        process.fds.abandon()
        process.files.goodbye(holds, any(mapped.may_write for mapped in process.mapped_files.values()))
        process.account.goodbye(bool(space.shared_writable))
        used_ns = self._cpu_time_ns() + process.children_cpu_us * 1000  # both count for who waits (wait4(2))
        process.link.exit(ended.status, ended.signal, used_ns)
        os._exit(128 + ended.signal if ended.signal else ended.status)
