"""The kernel process's trio program: connects the worker to its servers, starts the guest, waits for its end.

Whatever ends a run makes its Verdict: the guest's end, a signal from outside, the death of a server of the
run's own, a server that cannot be reached. The first one counts.
"""

import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import trio

from client_vm.control import ControlSocket
from client_vm.errors import EXIT_FAILURE
from client_vm.host import callers_environment
from client_vm.launch import Server
from client_vm.lines import Line, RingLine
from client_vm.options import merge_environment
from client_vm.placement import Placement
from client_vm.started import Run, Verdict
from farcall.v1.kernel_pb2 import KernelMessage, RingGrant, StartGuest, WorkerMessage
from farcall.v1.session_pb2 import (
    REFUSAL_STALE_SESSION,
    SERVER_KIND_FILE,
    SERVER_KIND_MEMORY,
    Credentials,
    HelloRequest,
    HelloResponse,
    ServerKind,
)
from ipc.address import Address
from ipc.greeting import ConnectError
from ipc.limits import GROUPS_MAX, HELLO_TIMEOUT_S, PROTOCOL_MAX, PROTOCOL_MIN
from ipc.message import MalformedError
from ipc.ring_client import RingDescriptors
from ipc.seams import Clock, HostClock

if TYPE_CHECKING:
    from client_vm.gateway import Gateway

FIRST_PID: Final = 2
"""Of the guest: 1 is the run's init, which is the kernel process."""
KINDS: Final[dict[str, ServerKind]] = {"file": SERVER_KIND_FILE, "memory": SERVER_KIND_MEMORY}
SURVIVES_ITS_SESSION: Final = (SERVER_KIND_MEMORY,)
"""Servers whose sessions end with them, and what the worker held can be asked for anew (EXACTLY-ONCE)."""


def supervise(run: Run) -> Verdict:
    """Runs the guest to its end. The worker is dead afterwards, and nobody here uses its sockets."""
    return trio.run(_Supervisor(run, HostClock()).main)


class _Supervisor:
    """One run."""

    def __init__(self, run: Run, clock: Clock) -> None:
        self._run = run
        self._worker = run.worker.process
        self._control = ControlSocket(run.worker.control)
        self._clock = clock
        self._deadline = clock.monotonic_s() + HELLO_TIMEOUT_S
        self._credentials = Credentials(uid=os.geteuid(), gid=os.getegid(), groups=os.getgroups()[:GROUPS_MAX])
        self._lines: dict[ServerKind, Line] = {}
        self._sessions: dict[ServerKind, HelloResponse] = {}
        self._wanted: set[ServerKind] = set()
        """Servers whose rings are being opened again."""
        self._sending = trio.Lock()
        self._verdict: Verdict | None = None
        self._scope = trio.CancelScope()

    async def main(self) -> Verdict:
        """Runs the guest to its end."""
        with trio.open_signal_receiver(*self._run.signals.wanted) as arrivals:
            async with trio.open_nursery() as services:
                try:
                    with self._scope:
                        await self._serve(services, arrivals)
                finally:
                    self._worker.send(signal.SIGKILL)
                    # Only now: carriers that end still call the services.
                    services.cancel_scope.cancel()
        assert self._verdict is not None
        return self._verdict

    def _end(self, status: int, message: str = "") -> None:
        """The run is over; only the first verdict counts."""
        if self._verdict is None:
            self._verdict = Verdict(status, message)
            # At once: a guest must not go on while its servers leave.
            self._worker.send(signal.SIGKILL)
            self._scope.cancel()

    async def _serve(self, services: trio.Nursery, arrivals: AsyncIterator[int]) -> None:
        async with AsyncExitStack() as ended, trio.open_nursery() as tasks:
            tasks.start_soon(self._watch_worker)
            tasks.start_soon(self._watch_signals, arrivals)
            for server in self._run.servers.values():
                tasks.start_soon(self._watch_server, server)
            gateway = partial(self._gateway, services, tasks, ended)
            try:
                async with trio.open_nursery() as connecting:
                    for placement in self._run.placements:
                        connecting.start_soon(self._connect, placement, gateway)
            except* (ConnectError, OSError) as group:
                self._end(EXIT_FAILURE, _first_line(group))
            await self._send(KernelMessage(start=self._start_guest()))
            await self._hear_worker(tasks)

    # The worker.

    async def _watch_worker(self) -> None:
        await trio.lowlevel.wait_readable(self._worker.pidfd)
        status = self._worker.reap()
        self._end(status if status >= 0 else 128 - status)

    async def _hear_worker(self, tasks: trio.Nursery) -> None:
        """Answers what the worker asks for, until it hangs up."""
        while True:
            await trio.lowlevel.wait_readable(self._control)
            try:
                message, _ = self._control.receive(WorkerMessage)
            except BlockingIOError:
                continue
            except EOFError:
                return  # it is about to end
            except MalformedError as error:
                self._end(EXIT_FAILURE, f"the worker broke the rules of its control socket: {error}")
                return
            kind = message.ring_wanted
            if kind not in self._lines:
                self._end(EXIT_FAILURE, f"the worker asked for server kind {kind}, which it does not have")
                return
            if kind not in self._wanted:
                self._wanted.add(kind)
                tasks.start_soon(self._reopen, kind)

    async def _send(self, message: KernelMessage, opened: RingDescriptors | None = None) -> None:
        """Sends to the worker, and lets go of what went with it. A worker that is gone hears nothing."""
        try:
            async with self._sending:
                while True:
                    descriptors = [] if opened is None else [opened.memfd, opened.control.fileno()]
                    try:
                        self._control.send(message, descriptors)
                        return
                    except BlockingIOError:
                        await trio.lowlevel.wait_writable(self._control)
        except ConnectionError:
            return  # _watch_worker learns why
        finally:
            if opened is not None:
                opened.close()

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
        )

    # The servers.

    async def _connect(self, placement: Placement, gateway: Callable[[], "Gateway"]) -> None:
        """Opens the line, the session and the ring of one server. ConnectError; OSError."""
        kind = KINDS[placement.kind]
        line = self._lines[kind] = await self._open_line(placement, gateway)
        left_s = max(0.0, self._deadline - self._clock.monotonic_s())
        await self._grant(kind, await line.open(self._hello(kind), left_s))

    async def _open_line(self, placement: Placement, gateway: Callable[[], "Gateway"]) -> Line:
        run, kind, address = self._run, placement.kind, placement.address
        if placement.transport == "inproc":
            state = Path(run.options.state or f"{run.directory}/{kind}").absolute()
            return gateway().host(kind, state, Path(run.options.root or "/").absolute())
        if address is None:
            await self._ready(run.servers[kind])
            address = Address(path=run.servers[kind].path)
        if placement.transport == "ring":
            return RingLine(address, run.worker.doorbell.fileno(), self._clock)
        return await gateway().link(address, self._deadline)

    def _gateway(self, services: trio.Nursery, tasks: trio.Nursery, ended: AsyncExitStack) -> "Gateway":
        from client_vm.gateway import Gateway  # which rings that lead straight to servers do not need

        doorbell = self._run.worker.doorbell.fileno()
        return Gateway(doorbell, self._clock, services=services, tasks=tasks, ended=ended)

    async def _ready(self, server: Server) -> None:
        """Waits until a server of the run's own says that it serves. ConnectError if it takes too long."""
        with trio.move_on_after(self._deadline - self._clock.monotonic_s()):
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

    def _hello(self, kind: ServerKind) -> HelloRequest:
        return HelloRequest(
            protocol_min=PROTOCOL_MIN,
            protocol_max=PROTOCOL_MAX,
            kind=kind,
            credentials=self._credentials,
        )

    async def _grant(self, kind: ServerKind, opened: RingDescriptors, is_new: bool = False) -> None:
        response = self._sessions[kind] = opened.response
        grant = RingGrant(
            kind=kind,
            session=response.session,
            boot_epoch=response.boot_epoch,
            opcodes=response.opcodes,
            limits=response.limits,
            session_is_new=is_new,
        )
        await self._send(KernelMessage(ring=grant), opened)

    async def _reopen(self, kind: ServerKind) -> None:
        """Gives the worker a ring to the session it has, once there is a server again; or says why not."""
        timeout_ms = self._run.options.server_timeout_ms
        timeout_s = timeout_ms / 1000 if timeout_ms else None
        line, known = self._lines[kind], self._sessions[kind]
        request = self._hello(kind)
        request.resume_session, request.resume_secret = known.session, known.secret
        is_new = False
        try:
            try:
                opened = await line.open(request, timeout_s)
            except ConnectError as error:
                if error.refusal != REFUSAL_STALE_SESSION or kind not in SURVIVES_ITS_SESSION:
                    raise
                is_new = True
                opened = await line.open(self._hello(kind), timeout_s)
        except ConnectError as error:
            await self._send(KernelMessage(ring=RingGrant(kind=kind, error=str(error))))
        else:
            await self._grant(kind, opened, is_new)
        self._wanted.discard(kind)

    # The outside.

    async def _watch_signals(self, arrivals: AsyncIterator[int]) -> None:
        for number in self._run.signals.arrived:
            self._act(number)
        async for number in arrivals:
            self._act(number)

    def _act(self, number: int) -> None:
        if number == signal.SIGTSTP:
            self._stop()
        else:
            self._end(128 + number)

    def _stop(self) -> None:
        """Ctrl-Z: the worker ignores it, and stops and goes on with us."""
        self._worker.send(signal.SIGSTOP)
        os.kill(os.getpid(), signal.SIGSTOP)
        self._worker.send(signal.SIGCONT)


def _first_line(group: BaseExceptionGroup[BaseException]) -> str:
    """What the first failure of a group says."""
    failure: BaseException = group
    while isinstance(failure, BaseExceptionGroup):
        failure = failure.exceptions[0]
    text = " ".join(str(failure).split())
    assert text, repr(failure)
    return text
