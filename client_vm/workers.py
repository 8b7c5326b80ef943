"""The host processes of guests: children of the kernel process, each watched and reaped, known or not.

A worker that forks makes its child a child of ours (CLONE_PARENT), then says so. One that dies in between leaves
a process that nobody speaks for: its rings are closed, and if it does not end by itself it is killed.
"""

import os
import signal
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import trio

from client_vm.abi import common
from client_vm.errors import Errno
from client_vm.launch import Child
from client_vm.process_table import PID_MAX

KILL_GRACE_S: Final = 3.0
"""How long a worker may take to pass on the locks of its process once that is killed."""
STRANGER_S: Final = 5.0
"""How long a child of ours may live without anybody having told of it, once a worker has died that might have."""
REMEMBERED_MAX: Final = 4096
"""Host processes that have ended."""
LISTING_S: Final = 0.5
"""Between two looks at all children of ours, however many workers end."""

_SHORTAGES: Final = (common.EMFILE, common.ENFILE, common.ENOMEM)


class Workers:
    """Implements client_vm.kernel_service.Workers."""

    def __init__(
        self,
        nursery: trio.Nursery,
        others: set[int],
        *,
        ended: Callable[[int, Child], None],
        forked: Callable[[int, int], None],
    ) -> None:
        """Tasks run in `nursery`. `others`: host pids of children that run no guest, as do all that there are
        now. `ended` gets the guest pid and the reaped process; `forked` the guest pids of a worker and of the
        spare it has used."""
        self._nursery = nursery
        self._ended = ended
        self._children: dict[int, Child] = {}
        self._ran: OrderedDict[int, int] = OrderedDict()
        """Which guest process each host process ran that has ended: what it sent may be read later."""
        self._others = others
        self._others = others | self._strangers()
        self._suspicion = trio.Event()
        self.forked = forked

    def adopt(self, pid: int, child: Child) -> None:
        """Watches this process, which runs the guest process `pid`."""
        self._children[pid] = child
        self._others.discard(child.pid)
        self._nursery.start_soon(self._reap, pid, child)

    def born(self, pid: int, host_pid: int) -> None:
        """As the protocol. EINVAL: the guest process has a host process already."""
        if pid in self._children:
            raise Errno(common.EINVAL)
        if not 0 < host_pid <= PID_MAX or host_pid in self._known():
            raise Errno(common.ECHILD)
        try:
            os.waitid(os.P_PID, host_pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            raise Errno(common.ECHILD) from None
        self.adopt(pid, Child(host_pid))

    def sender(self, host_pid: int) -> int:
        """The guest process that a host process runs, or has run not long ago. Errno(ESRCH)."""
        for pid, child in self._children.items():
            if child.pid == host_pid:
                return pid
        if host_pid not in self._ran:
            raise Errno(common.ESRCH)
        return self._ran[host_pid]

    def send(self, pid: int, number: int) -> None:
        """A host signal, to a worker that may have ended."""
        child = self._children.get(pid)
        if child is not None:
            with suppress(ProcessLookupError):  # a zombie that is not reaped yet
                child.send(number)

    def open_page_map(self, pid: int) -> int:
        """As the protocol."""
        child = self._children.get(pid)
        if child is None:
            raise Errno(common.ESRCH)
        try:
            return os.open(f"/proc/{child.pid}/pagemap", os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise Errno(common.EMFILE if error.errno in _SHORTAGES else common.ESRCH) from None

    def interrupt(self, pid: int) -> None:
        """As the protocol."""
        self.send(pid, signal.SIGURG)

    def kill(self, pid: int) -> None:
        """As the protocol."""
        self.send(pid, signal.SIGKILL)

    def end_soon(self, pid: int) -> None:
        """As the protocol."""
        child = self._children.get(pid)
        if child is not None:
            self.interrupt(pid)
            self._nursery.start_soon(self._kill_late, pid, child)

    async def _kill_late(self, pid: int, child: Child) -> None:
        await trio.sleep(KILL_GRACE_S)
        if self._children.get(pid) is child:
            child.send(signal.SIGKILL)

    def kill_all(self) -> None:
        """At once; they are reaped by `end`."""
        for pid in self._children:
            self.kill(pid)

    def end(self) -> None:
        """Kills and reaps them all, strangers too."""
        self.kill_all()
        for child in self._children.values():
            child.kill()
        self._children.clear()
        # Every worker is dead: nobody makes new ones but these.
        while strangers := self._strangers():
            self._end_strangers(strangers)

    def suspect(self) -> None:
        """A worker has died, which may have made processes and not told of them."""
        self._suspicion.set()

    def excuse(self, host_pid: int) -> None:
        """One more child that runs no guest."""
        self._others.add(host_pid)

    async def watch_strangers(self) -> None:
        """Ends the processes that a dead worker has made and not told of, until cancelled."""
        while True:
            await self._suspicion.wait()
            self._suspicion = trio.Event()
            suspects = self._strangers()
            if suspects:
                self._nursery.start_soon(self._outlive, suspects)
            await trio.sleep(LISTING_S)

    async def _outlive(self, suspects: set[int]) -> None:
        await trio.sleep(STRANGER_S)
        self._end_strangers(suspects & self._strangers())

    async def _reap(self, pid: int, child: Child) -> None:
        await trio.lowlevel.wait_readable(child.pidfd)
        child.reap()
        child.close()
        del self._children[pid]
        self._ran[child.pid] = pid
        self._ran.move_to_end(child.pid)
        if len(self._ran) > REMEMBERED_MAX:
            self._ran.popitem(last=False)
        self._ended(pid, child)

    def _known(self) -> set[int]:
        return self._others | {child.pid for child in self._children.values()}

    def _strangers(self) -> set[int]:
        """Host pids of children nobody has told of; none if this host does not list children (proc(5))."""
        found: set[int] = set()
        for thread in os.listdir("/proc/self/task"):
            with suppress(OSError), open(f"/proc/self/task/{thread}/children", "rb") as file:
                found |= {int(word) for word in file.read().split()}
        return found - self._known()

    @staticmethod
    def _end_strangers(strangers: set[int]) -> None:
        for host_pid in strangers:
            Child(host_pid).kill()
