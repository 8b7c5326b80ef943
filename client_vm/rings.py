"""A worker's rings: granted by the kernel process at start-up, and anew when a server has died."""

import socket
from collections.abc import Callable

from client_vm.control import ControlSocket
from farcall.v1.kernel_pb2 import KernelMessage, RingGrant, SpareGrant, StartGuest, WorkerMessage
from farcall.v1.session_pb2 import ServerKind
from ipc.client import Client, SessionLostError
from ipc.endpoint import Channel
from ipc.limits import SLOTS_MAX
from ipc.ring_client import RingChannel
from ipc.seams import Clock


class Rings:
    """The worker's end of the control socket, and a channel per server."""

    def __init__(
        self, control: ControlSocket, doorbell: socket.socket, clock: Clock, pause: Callable[[float], None]
    ) -> None:
        self._control = control
        self._doorbell = doorbell
        self._clock = clock
        self._pause = pause
        self._grants: dict[int, tuple[RingGrant, list[int]]] = {}
        self.spares: list[tuple[SpareGrant, list[int]]] = []
        """Not yet used, with their descriptors."""

    def await_start(self) -> StartGuest:
        """Takes rings until the word to start comes. EOFError: the kernel process is gone."""
        while True:
            message, descriptors = self._control.receive(KernelMessage)
            if message.WhichOneof("body") == "start":
                return message.start
            self._grants[message.ring.kind] = message.ring, descriptors

    def client(self, kind: ServerKind, server_timeout_s: float | None) -> Client:
        """A client over the ring granted for this kind of server; over a new one, if that was used already.

        SessionLostError: there is no server.
        """
        if not self._grants[kind][1]:
            self._ask(kind)
        grant, _ = self._grants[kind]
        return Client(
            self._channel(kind),
            session=grant.session,
            opcodes=grant.opcodes,
            reconnect=lambda: self._reconnect(kind),
            clock=self._clock,
            pause=self._pause,
            slots_max=grant.limits.slots_max or SLOTS_MAX,
            server_timeout_s=server_timeout_s,
        )

    def _channel(self, kind: int) -> Channel:
        grant, (memfd, control) = self._grants[kind]
        self._grants[kind] = grant, []  # a ring is used once
        return RingChannel(memfd, socket.socket(fileno=control), self._doorbell, clock=self._clock)

    def _reconnect(self, kind: ServerKind) -> Channel:
        """A new ring for the session; waits until the server is back. SessionLostError if it forgot it."""
        if self._ask(kind).session_is_new:
            raise SessionLostError("the server was started anew and knows nothing of the session")
        return self._channel(kind)

    def _ask(self, kind: ServerKind) -> RingGrant:
        """Has the kernel process grant another ring. SessionLostError if it cannot."""
        self._control.send(WorkerMessage(ring_wanted=kind))
        while True:
            message, descriptors = self._control.receive(KernelMessage)
            if message.WhichOneof("body") == "spare":
                self.spares.append((message.spare, descriptors))
            elif message.ring.kind == kind:
                break
        grant: RingGrant = message.ring
        if grant.error:
            raise SessionLostError(grant.error)
        self._grants[kind] = grant, descriptors
        return grant
