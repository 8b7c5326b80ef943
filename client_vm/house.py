"""A worker as a whole: its ties to the kernel process and the servers, and what its processes share.

One House per host process. A fork's child takes over a spare: pid, control socket, doorbell, rings, sessions.
"""

import os
import signal
from collections.abc import Callable
from contextlib import AbstractContextManager
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
from client_vm.preemption import Ticks
from client_vm.process import Process, Task
from client_vm.rings import Rings, Spare
from client_vm.rows import TABLE
from client_vm.seeded import GuestRandom
from client_vm.shared_offsets import RUN_LOCK_SLOT, SharedOffsets
from client_vm.timers import Timers
from farcall.v1.session_pb2 import SERVER_KIND_FILE, SERVER_KIND_KERNEL, SERVER_KIND_MEMORY
from ipc import idle
from ipc.client import Client
from ipc.seams import Clock

if TYPE_CHECKING:
    from client_vm.scheduler import Scheduler

READY_NAME: Final = b"farcall-guest"
"""The process's name once start-up is over: from here on it only uses what it has."""


class House:
    """What the processes of this worker live in."""

    def __init__(
        self,
        rings: Rings,
        offsets: SharedOffsets,
        clock: Clock,
        random_key: bytes,
        parent: int,
        cpu_time_ns: Callable[[], int],
    ) -> None:
        self._cpu_time_ns = cpu_time_ns
        self._rings = rings
        self.offsets = offsets
        self.clock = clock
        self._random_key = random_key
        self._parent = parent
        """Host pid of the kernel process."""
        self.ticks = Ticks()
        self.scheduler: Scheduler
        self.resident: Process
        """The one that this host process is; a vfork child only visits."""
        self._clients: tuple[Client, ...] = ()
        self._timeout_s = rings.server_timeout_s

    # -- at the beginning --------------------------------------------------------------------------

    def connect(self) -> tuple[Client, MemoryAccount, KernelLink]:
        """Sessions of the first process."""
        files = self._rings.client(SERVER_KIND_FILE)
        account = MemoryAccount(lambda: self._rings.client(SERVER_KIND_MEMORY))
        return files, account, KernelLink(self._rings.client(SERVER_KIND_KERNEL))

    def settle(self, process: Process) -> None:
        """The first process moves in; from here on news of the kernel process are heard."""
        self.resident = process
        self.scheduler.news = self._hear
        process.link.listen()

    def idle(self, descriptors: list[tuple[int, int]], timeout_s: float | None) -> list[tuple[int, int]]:
        """Sleeps, as the scheduler's Idle."""
        process = self.resident
        clients = [tie.client for tie in (process.files, process.account, process.link)]
        return idle.sleep(clients, descriptors, timeout_s)

    def _hear(self) -> None:
        self.resident.link.hear(self.resident)

    def next_tid(self) -> int:
        """A thread id that no other thread of the run has."""
        return self.offsets.next_id()

    def run_lock(self) -> AbstractContextManager[None]:
        """Held while a guest runs that shares writable memory. The host frees it if its holder dies."""
        return self.offsets.locked(RUN_LOCK_SLOT)

    def new_timers(self, process: Process) -> None:
        """Timers are not inherited (setitimer(2))."""
        process.timers = Timers(self.clock, self.scheduler.alarm.wake_at)

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
        process.account.inherit(spare.grant(SERVER_KIND_MEMORY), process.borrows)
        process.files.inherit(spare.grant(SERVER_KIND_FILE))

    def link_of(self, spare: Spare) -> KernelLink:
        """A vfork child's own tie to the kernel process."""
        return KernelLink(self._rings.spare_client(spare, SERVER_KIND_KERNEL))

    def become(self, task: Task, spare: Spare) -> None:
        """In the clone: this host process is another worker now."""
        host.die_with_parent(self._parent, signal.SIGKILL)
        process = task.process
        handles_used = process.files.client.handles_used
        self._rings = self._rings.replace(spare)
        process.files.move(self._rings.client(SERVER_KIND_FILE, handles_used=handles_used))
        process.account = MemoryAccount.moved(
            process.account, lambda: self._rings.client(SERVER_KIND_MEMORY), process.borrows
        )
        process.space.charge = process.account.charge
        if not process.borrows:
            process.link = KernelLink(self._rings.client(SERVER_KIND_KERNEL))
        process.futexes = Futexes(process.link)
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

    def put_on_cpu(self, task: Task, prepared: Prepared) -> None:
        """A CPU of the program's architecture, at its entry."""
        space = task.process.space
        architecture = prepared.architecture
        old = task.cpu
        task.cpu = cpu = Cpu(architecture, space.arena.address, space.arena.size_bytes, space.translate)
        self.ticks.attach(cpu.alarm_stub)
        space.flush_tlb, space.flush_code = cpu.flush_tlb, cpu.flush_code
        cpu.pc, cpu.sp = prepared.entry, prepared.stack_pointer
        task.architecture = architecture
        task.memory = GuestMemory(space)
        task.dispatch = TABLE.dispatch(architecture)
        if task.context is not None:
            task.context.free()
            task.context = None
        task.result = None
        old.close()
        self.scheduler.loaded = task

    # -- the end --------------------------------------------------------------------------------------

    def end(self, process: Process, ended: GuestExit) -> NoReturn:
        """The worker ends with its process: what others may wait for is let go before they are told, which is
        when the worker is gone. How it ended is said first, for a server may be hanging."""
        process.link.exit(ended.status, ended.signal, self._cpu_time_ns())
        process.fds.abandon()
        process.files.goodbye()
        os._exit(128 + ended.signal if ended.signal else ended.status)
