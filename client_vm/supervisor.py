"""The kernel process's trio program: connects workers to their servers, starts the guest, waits for its end.

Whatever ends a run makes its Verdict: the first process's end, a signal from outside before it can take any, the
death of a server of the run's own, a server that cannot be reached. The first one counts. With the first process
the others end too, as with pid 1 of a container.
"""

import os
import signal
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import trio

from client_vm.errors import EXIT_FAILURE, StartError
from client_vm.exits import Exits
from client_vm.fifos import Fifos
from client_vm.host import callers_environment
from client_vm.kernel_service import KernelService
from client_vm.launch import Child, Server, make_fifo, spawn_server, start_server
from client_vm.lines import Line, OnDemandLine, RingLine
from client_vm.options import merge_environment
from client_vm.placement import Placement
from client_vm.process_table import (
    CLD_EXITED,
    CLD_KILLED,
    FIRST_PID,
    SI_KERNEL,
    SI_USER,
    Ended,
    ProcessTable,
    Signal,
    Uids,
)
from client_vm.ptys import Ptys
from client_vm.spares import Spares, kernel_ring
from client_vm.started import Run, Verdict
from client_vm.unix_broker import UnixBroker
from client_vm.unix_service import UnixService
from client_vm.worker_link import SURVIVES_ITS_SESSION, Link, Servers
from client_vm.workers import Workers
from farcall.v1.kernel_pb2 import KernelMessage, StartGuest
from farcall.v1.session_pb2 import (
    SERVER_KIND_FILE,
    SERVER_KIND_MEMORY,
    SERVER_KIND_NETWORK,
    Credentials,
    ServerKind,
)
from ipc.address import Address
from ipc.greeting import ConnectError
from ipc.limits import GROUPS_MAX, HELLO_TIMEOUT_S
from ipc.rendezvous import FarEnds
from ipc.ring_server import RingServer
from ipc.seams import Clock, HostClock, HostRandom

if TYPE_CHECKING:
    from client_vm.gateway import Gateway

KINDS: Final[dict[str, ServerKind]] = {
    "file": SERVER_KIND_FILE,
    "memory": SERVER_KIND_MEMORY,
    "network": SERVER_KIND_NETWORK,
}
HEARD_S: Final = 3
"""How long a guest may take to hear of a signal from outside."""
TERMINALS: Final = (signal.SIGINT, signal.SIGQUIT, signal.SIGTSTP, signal.SIGHUP, signal.SIGWINCH)
"""Signals from outside that go to the guest's foreground group, as a terminal's; others to the first process."""


def supervise(run: Run) -> Verdict:
    """Runs the guest to its end. Every worker is dead afterwards, and nobody here uses their sockets."""
    return trio.run(_Supervisor(run, HostClock()).main)


class _Supervisor:
    """One run."""

    def __init__(self, run: Run, clock: Clock) -> None:
        self._run = run
        self._clock = clock
        self._deadline = clock.monotonic_s() + HELLO_TIMEOUT_S
        self._credentials = Credentials(uid=os.geteuid(), gid=os.getegid(), groups=os.getgroups()[:GROUPS_MAX])
        timeout_ms = run.options.server_timeout_ms
        timeout_s = timeout_ms / 1000 if timeout_ms else None
        self._servers = Servers({}, self._credentials, run.options.egress, timeout_s)
        self._table = ProcessTable(Uids(self._credentials.uid, self._credentials.uid, self._credentials.uid))
        self._stopped = trio.Event()
        self._verdict: Verdict | None = None
        self._scope = trio.CancelScope()
        self._tasks: trio.Nursery
        self._ended: AsyncExitStack
        self._rings: RingServer
        self._workers: Workers
        self._service: KernelService
        self._spares: Spares

    async def main(self) -> Verdict:
        """Runs the guest to its end."""
        with trio.open_signal_receiver(*self._run.signals.wanted) as arrivals:
            async with trio.open_nursery() as services:
                try:
                    with self._scope:
                        await self._serve(services, arrivals)
                finally:
                    self._workers.end()
                    # Only now: carriers that end still call the services.
                    services.cancel_scope.cancel()
        assert self._verdict is not None
        return self._verdict

    def _end(self, status: int, message: str = "") -> None:
        """The run is over; only the first verdict counts."""
        if self._verdict is None:
            self._verdict = Verdict(status, message)
            # At once: a guest must not go on while its servers leave.
            self._workers.kill_all()
            self._scope.cancel()

    async def _serve(self, services: trio.Nursery, arrivals: AsyncIterator[int]) -> None:
        async with AsyncExitStack() as ended, trio.open_nursery() as tasks:
            self._make_kernel(tasks, ended)
            tasks.start_soon(self._watch_signals, arrivals)
            tasks.start_soon(self._watch_stops)
            for server in self._run.servers.values():
                tasks.start_soon(self._watch_server, server)
            gateway = partial(self._gateway, services, tasks, ended)
            link = Link(self._servers, self._run.worker.control, self._run.worker.doorbell)
            try:
                async with trio.open_nursery() as connecting:
                    for placement in self._run.placements:
                        connecting.start_soon(self._connect, link, placement, gateway)
            except* (ConnectError, OSError) as group:
                self._end(EXIT_FAILURE, _first_line(group))
            if self._run.options.publish:
                await self._publish()
            await link.send_ring(*kernel_ring(self._service, self._rings, FIRST_PID, link))
            self._service.start(FIRST_PID)
            await link.send(KernelMessage(start=self._start_guest()))
            self._spares.first(link)
            tasks.start_soon(self._spares.run)
            for kind in self._servers.lines.keys() - SURVIVES_ITS_SESSION:
                tasks.start_soon(self._spares.keep_sessions, kind)

    def _make_kernel(self, tasks: trio.Nursery, ended: AsyncExitStack) -> None:
        """What workers call this process for, and who keeps them."""
        self._tasks = tasks
        self._ended = ended
        servers = {server.process.pid for server in self._run.servers.values()}
        self._workers = Workers(tasks, servers, ended=self._worker_ended, forked=self._worker_forked)
        fifos, exits, ptys, ends = Fifos(make_fifo, os.open), Exits(), Ptys(), FarEnds()
        broker = UnixBroker(ends, HostRandom(), self._sockets_changed)
        for each in (fifos, exits, ptys, ends, broker):
            ended.callback(each.close)
        self._service = KernelService(
            self._table,
            self._workers,
            stopped=self._note_stop,
            left=self._worker_left,
            counted=self._run.worker.counts.set,
            fifos=fifos,
            exits=exits,
            ptys=ptys,
            unix=UnixService(self._table, broker, self._workers.sender, self._credentials.gid),
        )
        self._rings = RingServer(self._service, self._clock)
        ended.callback(self._rings.close)
        tasks.start_soon(self._rings.run)
        tasks.start_soon(self._workers.watch_strangers)
        tasks.start_soon(self._watch_ptys, ptys.news)
        tasks.start_soon(ends.run)
        self._spares = Spares(tasks, self._servers, self._service, self._rings, self._broken)
        self._workers.adopt(FIRST_PID, self._run.worker.process)

    # The workers.

    def _sockets_changed(self, pid: int) -> None:
        self._service.sockets_changed(pid)

    def _worker_ended(self, pid: int, child: Child) -> None:
        status = child.reap()
        code, number = (CLD_EXITED, status) if status >= 0 else (CLD_KILLED, -status)
        trouble = self._service.trouble(pid)
        ended = self._service.worker_ended(pid, Ended(code, number, child.utime_us, child.stime_us))
        self._spares.ended(pid)
        if pid != FIRST_PID:
            self._workers.suspect()
        elif trouble:
            self._end(EXIT_FAILURE, f"the worker broke the rules of its kernel ring: {trouble}")
        else:
            self._end_as(ended)

    def _worker_left(self, pid: int, ended: Ended) -> None:
        """It has said how it ended, and has nothing open any more that others could notice."""
        if pid == FIRST_PID:
            self._end_as(ended)

    def _end_as(self, ended: Ended) -> None:
        """The run ends as the first process did."""
        self._end(ended.status if ended.code == CLD_EXITED else 128 + ended.status)

    def _worker_forked(self, pid: int, child: int) -> None:
        self._spares.forked(pid, child)

    def _broken(self, pid: int, why: str) -> None:
        """A worker broke the rules of its control socket."""
        if pid == FIRST_PID:
            self._end(EXIT_FAILURE, f"the worker broke the rules of its control socket: {why}")
        else:
            self._service.condemn(pid, why)

    def _start_guest(self) -> StartGuest:
        options = self._run.options
        try:
            directory = options.directory or os.getcwdb()
        except FileNotFoundError:
            directory = b"/"  # the caller's was removed
        umask = os.umask(0o077)
        os.umask(umask)
        return StartGuest(
            program=options.program,
            arguments=options.arguments,
            environment=merge_environment(callers_environment(), options.environment),
            working_directory=directory,
            pid=FIRST_PID,
            credentials=self._credentials,
            random_key=self._run.random_key,
            server_timeout_ms=options.server_timeout_ms,
            umask=umask,
            ignored_signals=self._run.signals.ignored,
            blocked_signals=self._run.signals.blocked,
        )

    # The servers.

    async def _connect(self, link: Link, placement: Placement, gateway: Callable[[], "Gateway"]) -> None:
        """Opens the line to one server, and the first worker's session and ring. ConnectError; OSError."""
        kind = KINDS[placement.kind]
        if placement.is_on_demand:
            self._servers.lines[kind] = OnDemandLine(partial(self._open_line, placement, gateway))
            return
        self._servers.lines[kind] = await self._open_line(placement, gateway)
        left_s = max(0.0, self._deadline - self._clock.monotonic_s())
        await link.send_ring(*await link.open(kind, left_s))

    async def _open_line(self, placement: Placement, gateway: Callable[[], "Gateway"]) -> Line:
        run, kind, address = self._run, placement.kind, placement.address
        if placement.transport == "inproc":
            state = Path(run.options.state or f"{run.directory}/{kind}").absolute()
            return gateway().host(kind, state, Path(run.options.root or "/").absolute())
        deadline = self._deadline
        if placement.is_on_demand:
            deadline = self._clock.monotonic_s() + HELLO_TIMEOUT_S
        if address is None:
            server = run.servers[kind] if kind in run.servers else self._start_network(placement)
            await self._ready(server, deadline)
            address = Address(path=server.path)
        if placement.transport == "ring":
            return RingLine(address, self._clock)
        return await gateway().link(kind, address, deadline)

    def _gateway(self, services: trio.Nursery, tasks: trio.Nursery, ended: AsyncExitStack) -> "Gateway":
        from client_vm.gateway import Gateway  # no run by ring needs it

        return Gateway(
            self._clock,
            self._credentials,
            services=services,
            tasks=tasks,
            ended=ended,
            credentials=self._run.credentials,
        )

    async def _publish(self) -> None:
        """-p: before the guest starts, so that who connects from outside finds the ports there."""
        from client_vm.publishing import Publication  # few runs need it

        run, kind = self._run, SERVER_KIND_NETWORK
        line, hello = self._servers.lines[kind], self._servers.hello(kind)
        publication = Publication(line, hello, run.options.publish, self._clock, run.say)
        self._ended.callback(publication.close)
        try:
            await publication.begin()
        except (ConnectError, StartError, OSError) as error:
            self._end(EXIT_FAILURE, str(error))
        else:
            self._tasks.start_soon(publication.keep)

    def _start_network(self, placement: Placement) -> Server:
        """The network server of the run's own. StartError; OSError."""
        server = start_server(
            placement.kind,
            self._run.directory,
            transport=placement.transport,
            options=self._run.options,
            begin=spawn_server,
        )
        self._workers.excuse(server.process.pid)
        self._ended.callback(server.end)
        self._tasks.start_soon(self._watch_server, server)
        return server

    async def _ready(self, server: Server, deadline: float) -> None:
        """Waits until a server of the run's own says that it serves. ConnectError if it takes too long."""
        with trio.move_on_after(deadline - self._clock.monotonic_s()):
            await trio.lowlevel.wait_readable(server.ready)
            if os.read(server.ready, 4096):
                return
            await trio.sleep_forever()  # it ended before, of which _watch_server knows more
        raise ConnectError(f"no {server.kind} server at unix:{server.path} within {HELLO_TIMEOUT_S:.0f} s")

    async def _watch_server(self, server: Server) -> None:
        """The end of a server of the run's own is the end of the run."""
        await trio.lowlevel.wait_readable(server.process.pidfd)
        status = server.process.reap()
        if status == EXIT_FAILURE:
            self._end(EXIT_FAILURE)  # it has said why, in one line
        elif status < 0:
            name = signal.Signals(-status).name
            self._end(EXIT_FAILURE, f"the {server.kind} server was killed by {name}")
        else:
            self._end(EXIT_FAILURE, f"the {server.kind} server ended with status {status}")

    # The outside.

    async def _watch_signals(self, arrivals: AsyncIterator[int]) -> None:
        for number in self._run.signals.arrived:
            self._act(number)
        async for number in arrivals:
            self._act(number)

    def _act(self, number: int) -> None:
        """A signal from outside: the guest's affair as soon as it can take signals."""
        if self._service.takes_signals(FIRST_PID):
            if number in TERMINALS:
                told = self._table.post_group(self._table.foreground, Signal(number, SI_KERNEL))
            else:
                told = self._table.post(FIRST_PID, Signal(number, SI_USER))
            self._service.tell(told)
            if number not in (signal.SIGTSTP, signal.SIGWINCH):
                for each in told:
                    self._tasks.start_soon(self._insist, each.pid, number)
        elif number == signal.SIGTSTP:
            self._stop((FIRST_PID,))
        elif number != signal.SIGWINCH:
            self._end(128 + number)

    async def _insist(self, pid: int, number: int) -> None:
        """A guest that waits for a server which is gone hears nothing, and is to end all the same: as natively,
        where a fatal signal ends a wait for a network file system too."""
        event = self._service.last_event(pid)
        for _ in range(HEARD_S):  # one by one: if we are stopped meanwhile, that is one of them at most
            await trio.sleep(1)
            if not self._service.is_deaf(pid, event):
                return
        self._service.end_deaf(pid, number)

    async def _watch_ptys(self, news: int) -> None:
        while news >= 0:
            await trio.lowlevel.wait_readable(news)
            self._service.terminals_changed()

    def _note_stop(self) -> None:
        self._stopped.set()

    async def _watch_stops(self) -> None:
        """Stops with the guest, when the group that farcall's caller would have started is stopped.

        A shell among the guests that stops its jobs is another matter: its own group goes on.
        """
        table = self._table
        while True:
            await self._stopped.wait()
            self._stopped = trio.Event()
            group = table.get(FIRST_PID).group
            if group == table.foreground and table.is_stopped(group):
                self._stop([process.pid for process in table.members(group)])
                self._service.tell(table.post_group(group, Signal(signal.SIGCONT, SI_KERNEL)))

    def _stop(self, pids: Collection[int]) -> None:
        """Ctrl-Z: our caller sees us stopped, and these workers too; until somebody continues us."""
        for pid in pids:
            self._workers.send(pid, signal.SIGSTOP)
        os.kill(os.getpid(), signal.SIGSTOP)
        for pid in pids:
            self._workers.send(pid, signal.SIGCONT)


def _first_line(group: BaseExceptionGroup[BaseException]) -> str:
    """What the first failure of a group says."""
    failure: BaseException = group
    while isinstance(failure, BaseExceptionGroup):
        failure = failure.exceptions[0]
    text = " ".join(str(failure).split())
    assert text, repr(failure)
    return text
