"""Spares: all that the next child of a worker needs, made before it is wanted (farcall/v1/kernel.proto).

Once a guest has forked, a few are ready that belong to nobody. The first worker keeps two from its start; another
gets as many when it asks, when it has forked, or when it has lived for a while: most children execute a program
and end, and a spare that is thrown away costs as much as one that is used.
"""

import itertools
import os
import socket
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import trio

from client_vm.kernel_service import KernelService
from client_vm.lines import adopted_ring
from client_vm.process_table import FIRST_PID
from client_vm.worker_link import ON_DEMAND, Link, Servers
from farcall.v1.kernel_pb2 import KernelMessage, RingGrant, SpareGrant
from farcall.v1.session_pb2 import SERVER_KIND_KERNEL, HelloResponse, ServerKind
from ipc.backoff import pauses_s
from ipc.greeting import ConnectError
from ipc.message import MalformedError
from ipc.passing import close_all
from ipc.ring_client import RingDescriptors
from ipc.ring_server import RingServer

KEPT: Final = 2
"""Spares that a worker which forks has at hand."""
READY: Final = 2
"""Spares that belong to nobody yet, once some guest has forked."""
ASKED_MAX: Final = 16
"""Spares that one worker may have at a time, however often it asks."""
SETTLED_S: Final = 0.05
"""How old a worker must be to be given spares that it has not asked for."""


@dataclass(slots=True)
class _Spare:
    """Not yet anybody's."""

    pid: int
    link: Link
    message: SpareGrant
    descriptors: list[int]
    """The worker's ends; closed once they have been sent."""


class Spares:
    """Makes spares and hands them out."""

    def __init__(
        self,
        nursery: trio.Nursery,
        servers: Servers,
        service: KernelService,
        rings: RingServer,
        broken: Callable[[int, str], None],
    ) -> None:
        """Tasks run in `nursery`. `rings` serves `service`. `broken` gets the guest pid of a worker, or the pid
        of a spare, that broke the rules of its control socket, and which."""
        self._nursery = nursery
        self._servers = servers
        self._service = service
        self._rings = rings
        self._broken = broken
        self._pids = itertools.count(FIRST_PID + 1)
        self._links: dict[int, Link] = {}
        """Of workers, and of spares that were handed out."""
        self._unowned: set[Link] = set()
        """Of spares that were not, or are being made."""
        self._held: dict[int, int] = {}
        """How many spares each worker has, those included that are on their way."""
        self._early: dict[int, int] = {}
        """How many a child has asked for that nobody has told of yet."""
        self._ready: deque[_Spare] = deque()
        self._demand: deque[int] = deque()
        """Guest pids whose workers are to get one more, each."""
        self._used = False
        self._wanted = trio.Event()

    async def run(self) -> None:
        """Makes what is needed, one after the other, until cancelled."""
        try:
            while True:
                while self._demand and self._ready:
                    self._nursery.start_soon(self._hand_out, self._demand.popleft(), self._ready.popleft())
                if self._demand or (self._used and len(self._ready) < READY):
                    self._ready.append(await self._make_one())
                    continue
                self._wanted = trio.Event()
                await self._wanted.wait()
        finally:
            for spare in self._ready:
                self._throw_away(spare)

    async def keep_sessions(self, kind: ServerKind) -> None:
        """After each death of a server comes back to it for all workers and spares, until cancelled: who computes
        or sleeps would only do so with its next call, and find its session expired."""
        while True:
            await self._servers.lines[kind].server_died()
            for link in [*self._links.values(), *self._unowned]:
                with suppress(OSError):  # descriptors are short: the worker asks when it calls
                    await link.reopen(kind)

    # Workers come and go.

    def first(self, link: Link) -> None:
        """The first worker has got its rings and begins."""
        self._enter(FIRST_PID, link)
        self._top_up(FIRST_PID)

    def forked(self, pid: int, child: int) -> None:
        """The worker of process `pid` has used the spare `child`, which now lives."""
        self._used = True
        if pid in self._held:
            self._held[pid] = max(0, self._held[pid] - 1)
            self._top_up(pid)
        if child in self._links:
            self._held[child] = 0
            self.ask(child, self._early.pop(child, 0))
            self._nursery.start_soon(self._settle, child)

    def ask(self, pid: int, count: int) -> None:
        """A worker needs so many more."""
        held = self._held.get(pid)
        if held is None:
            if pid in self._links:  # a child that nobody has told of yet
                self._early[pid] = min(ASKED_MAX, self._early.get(pid, 0) + count)
            return
        count = max(0, min(count, ASKED_MAX - held))
        self._held[pid] = held + count
        self._demand.extend([pid] * count)
        self._wanted.set()

    def ended(self, pid: int) -> None:
        """A worker is gone. What it had not used ends: a child that it has not told of loses its ties."""
        for unused in self._service.spares_of(pid):
            self._service.forget(unused)
            self._leave(unused)
        self._leave(pid)

    def _leave(self, pid: int) -> None:
        self._held.pop(pid, None)
        self._early.pop(pid, None)
        link = self._links.pop(pid, None)
        if link is not None:
            link.end()

    def _enter(self, pid: int, link: Link) -> None:
        self._held[pid] = 0
        self._links[pid] = link
        self._nursery.start_soon(self._hear, pid, link)

    def _top_up(self, pid: int) -> None:
        self.ask(pid, KEPT - self._held[pid])

    async def _settle(self, pid: int) -> None:
        await trio.sleep(SETTLED_S)
        if pid in self._held:
            self._top_up(pid)

    async def _hear(self, pid: int, link: Link) -> None:
        try:
            await link.hear(lambda count: self.ask(pid, count))
        except* MalformedError as group:
            self._broken(pid, str(group.exceptions[0]))
        self._leave(pid)

    # Making them.

    async def _make_one(self) -> _Spare:
        """Tries for ever: a server may be away, descriptors may be short."""
        pauses = pauses_s()
        while True:
            try:
                return await self._make()
            except (ConnectError, OSError):
                await trio.sleep(next(pauses))

    async def _make(self) -> _Spare:
        """ConnectError; OSError; and nothing is left of it."""
        pid = next(self._pids)
        control, workers_control = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            bell, workers_bell = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        except OSError:
            control.close()
            workers_control.close()
            raise
        control.setblocking(False)
        link = Link(self._servers, control, bell)
        self._unowned.add(link)
        spare = _Spare(pid, link, SpareGrant(pid=pid), [workers_control.detach(), workers_bell.detach()])
        try:
            for kind in self._servers.lines.keys() - ON_DEMAND:
                self._add(spare, *await link.open(kind, None))
            self._add(spare, *kernel_ring(self._service, self._rings, pid, link))
        except BaseException:
            self._throw_away(spare)
            raise
        return spare

    @staticmethod
    def _add(spare: _Spare, grant: RingGrant, opened: RingDescriptors) -> None:
        spare.message.rings.append(grant)
        spare.descriptors += [opened.memfd, opened.control.detach()]

    def _throw_away(self, spare: _Spare) -> None:
        self._unowned.discard(spare.link)
        spare.link.close()
        close_all(spare.descriptors)
        self._service.forget(spare.pid)

    async def _hand_out(self, owner: int, spare: _Spare) -> None:
        link = self._links.get(owner)
        if link is None or owner not in self._held:
            self._ready.append(spare)  # it has ended meanwhile
            return
        self._service.give(spare.pid, owner)
        self._links[spare.pid] = spare.link
        self._unowned.discard(spare.link)
        self._nursery.start_soon(self._hear, spare.pid, spare.link)
        try:
            await link.send(KernelMessage(spare=spare.message), spare.descriptors)
        finally:
            close_all(spare.descriptors)


def kernel_ring(
    service: KernelService, rings: RingServer, pid: int, link: Link
) -> tuple[RingGrant, RingDescriptors]:
    """The ring by which the process of this pid will call the kernel process. OSError."""
    kind: ServerKind = SERVER_KIND_KERNEL
    service.adopt(pid)
    try:
        opened = adopted_ring(rings, HelloResponse(session=pid), os.dup(link.bell))
    except OSError:
        service.forget(pid)
        raise
    return RingGrant(kind=kind, session=pid, opcodes=service.opcodes), opened
