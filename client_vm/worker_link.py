"""The kernel process's side of one worker: its control socket, its doorbell, its sessions at the servers."""

import os
import socket
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import trio

from client_vm.control import ControlSocket
from client_vm.lines import Line
from client_vm.offered import check_core
from farcall.v1.kernel_pb2 import KernelMessage, RingGrant, WorkerMessage
from farcall.v1.session_pb2 import (
    REFUSAL_STALE_SESSION,
    SERVER_KIND_MEMORY,
    SERVER_KIND_NETWORK,
    Credentials,
    HelloRequest,
    HelloResponse,
    ServerKind,
)
from ipc.greeting import ConnectError
from ipc.limits import HELLO_TIMEOUT_S, PROTOCOL_MAX, PROTOCOL_MIN
from ipc.message import MalformedError
from ipc.ring_client import RingDescriptors

ON_DEMAND: Final = (SERVER_KIND_NETWORK,)
"""Servers to which a worker gets a session and a ring when it asks for them."""
SURVIVES_ITS_SESSION: Final = (SERVER_KIND_MEMORY, SERVER_KIND_NETWORK)
"""Servers whose sessions end with them, and what the worker held can be asked for anew (EXACTLY-ONCE)."""


@dataclass(frozen=True, slots=True)
class Servers:
    """What the sessions of a run have in common."""

    lines: dict[ServerKind, Line]
    credentials: Credentials
    egress: Sequence[str]
    """What guests want to reach beyond their loopback (HelloRequest.egress)."""
    timeout_s: float | None
    """How long a server that died may be away; None: for ever."""

    def hello(self, kind: ServerKind) -> HelloRequest:
        """For a new session."""
        return HelloRequest(
            protocol_min=PROTOCOL_MIN,
            protocol_max=PROTOCOL_MAX,
            kind=kind,
            credentials=self.credentials,
            egress=self.egress if kind == SERVER_KIND_NETWORK else (),
        )


class Link:
    """Of one worker, or of the spare for one."""

    def __init__(self, servers: Servers, control: socket.socket, bell: socket.socket) -> None:
        """Takes over both. `bell`: the end that rings; servers get copies, and this one is kept open, or the
        worker would take its servers for dead."""
        self._servers = servers
        self._control = ControlSocket(control)
        self._bell = bell
        self._sessions: dict[ServerKind, HelloResponse] = {}
        self._wanted: set[ServerKind] = set()
        """Servers whose rings are being opened again."""
        self._asked: set[ServerKind] = set()
        """Those that the worker waits for."""
        self._sending = trio.Lock()
        self._closed = False
        self._scope = trio.CancelScope()

    @property
    def bell(self) -> int:
        """The doorbell's descriptor."""
        return self._bell.fileno()

    async def open(self, kind: ServerKind, timeout_s: float | None) -> tuple[RingGrant, RingDescriptors]:
        """A new session and its ring. ConnectError; OSError."""
        opened = await self._servers.lines[kind].open(self._servers.hello(kind), self.bell, timeout_s)
        try:
            check_core(kind, opened.response.opcodes)
        except ConnectError:
            opened.close()
            raise
        return self._grant(kind, opened), opened

    async def send(self, message: KernelMessage, descriptors: Iterable[int] = ()) -> None:
        """Sends to the worker. One that is gone hears nothing: whoever reaps it learns why."""
        numbers = list(descriptors)
        try:
            async with self._sending:
                while not self._closed:
                    try:
                        self._control.send(message, numbers)
                        return
                    except BlockingIOError:
                        await trio.lowlevel.wait_writable(self._control)
        except (ConnectionError, trio.ClosedResourceError):
            return

    async def send_ring(self, grant: RingGrant, opened: RingDescriptors) -> None:
        """Hands a ring over, and lets go of it."""
        try:
            await self.send(KernelMessage(ring=grant), [opened.memfd, opened.control.fileno()])
        finally:
            opened.close()

    async def hear(self, spares_wanted: Callable[[int], None]) -> None:
        """Answers what the worker asks for, until it hangs up or `end`; then everything is closed.

        MalformedError: it broke the rules of its control socket.
        """
        try:
            with self._scope:
                async with trio.open_nursery() as tasks:
                    await self._listen(tasks, spares_wanted)
                    tasks.cancel_scope.cancel()
        finally:
            self.close()

    def end(self) -> None:
        """Hangs up."""
        self._scope.cancel()

    def close(self) -> None:
        """Closes both sockets. Who is sending learns nothing: nobody is there to hear it."""
        if not self._closed:
            self._closed = True
            trio.lowlevel.notify_closing(self._control)
            self._control.close()
            self._bell.close()

    async def _listen(self, tasks: trio.Nursery, spares_wanted: Callable[[int], None]) -> None:
        while True:
            await trio.lowlevel.wait_readable(self._control)
            try:
                message, _ = self._control.receive(WorkerMessage)
            except BlockingIOError:
                continue
            except EOFError:
                return  # it is about to end
            if message.WhichOneof("body") == "spares_wanted":
                spares_wanted(message.spares_wanted)
                continue
            kind = message.ring_wanted
            if kind not in self._sessions and kind not in ON_DEMAND:
                raise MalformedError(f"server kind {kind}, which it does not have")
            self._asked.add(kind)
            tasks.start_soon(self.reopen, kind)

    async def reopen(self, kind: ServerKind) -> None:
        """Gives the worker a ring to the session it has, once there is a server again. Says why not, if it asked:
        it need not have noticed yet that the old one is gone."""
        if self._closed or kind in self._wanted or not (kind in self._sessions or kind in self._asked):
            return
        self._wanted.add(kind)
        bell = os.dup(self.bell)  # while it waits for the server, the worker may end
        try:
            await self._reopen(kind, bell)
        finally:
            os.close(bell)
            self._wanted.discard(kind)
            self._asked.discard(kind)

    async def _reopen(self, kind: ServerKind, bell: int) -> None:
        line, timeout_s, known = self._servers.lines[kind], self._servers.timeout_s, self._sessions.get(kind)
        request = self._servers.hello(kind)
        if known is not None:
            request.resume_session, request.resume_secret = known.session, known.secret
        elif timeout_s is None:
            timeout_s = HELLO_TIMEOUT_S  # a first Hello
        is_new = False
        try:
            try:
                opened = await line.open(request, bell, timeout_s)
            except ConnectError as error:
                if error.refusal != REFUSAL_STALE_SESSION or kind not in SURVIVES_ITS_SESSION:
                    raise
                is_new = True
                opened = await line.open(self._servers.hello(kind), bell, timeout_s)
        except ConnectError as error:
            if kind in self._asked:
                await self.send(KernelMessage(ring=RingGrant(kind=kind, error=str(error))))
        else:
            await self.send_ring(self._grant(kind, opened, is_new), opened)

    def _grant(self, kind: ServerKind, opened: RingDescriptors, is_new: bool = False) -> RingGrant:
        response = self._sessions[kind] = opened.response
        return RingGrant(
            kind=kind,
            session=response.session,
            boot_epoch=response.boot_epoch,
            opcodes=response.opcodes,
            limits=response.limits,
            session_is_new=is_new,
            secret=response.secret,
        )
