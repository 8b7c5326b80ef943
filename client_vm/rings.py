"""A worker's rings: granted by the kernel process at start-up, anew when a server has died, and as spares.

A spare is all that a child needs to be a worker of its own: pid, control socket, doorbell, rings and sessions.
"""

import socket
from collections.abc import Callable
from dataclasses import dataclass, field

from client_vm.control import SPARE_DESCRIPTORS_MAX, ControlSocket
from farcall.v1.kernel_pb2 import KernelMessage, RingGrant, SpareGrant, StartGuest, WorkerMessage
from farcall.v1.session_pb2 import ServerKind
from ipc.client import Client, SessionLostError
from ipc.endpoint import Channel
from ipc.limits import SLOTS_MAX
from ipc.passing import close_all
from ipc.ring_client import RingChannel
from ipc.seams import Clock

SPARES_WANTED = 2


@dataclass(slots=True)
class Spare:
    """What a child will be. Owns its descriptors."""

    pid: int
    control: int
    doorbell: socket.socket
    rings: dict[int, tuple[RingGrant, list[int]]]
    """By server kind: (grant, [memfd, control])."""

    def grant(self, kind: ServerKind) -> RingGrant:
        """The session of that server."""
        return self.rings[kind][0]

    def close(self) -> None:
        """Closes this process's copies."""
        close_all([self.control, *(descriptor for _, pair in self.rings.values() for descriptor in pair)])
        self.doorbell.close()
        self.control = -1
        self.rings = {}


def spare_of(message: SpareGrant, descriptors: list[int]) -> Spare:
    """The spare that came with these descriptors. ValueError: they do not fit together."""
    if len(descriptors) != 2 + 2 * len(message.rings):
        close_all(descriptors)
        raise ValueError("a spare with descriptors that do not belong to it")
    control, doorbell, *rest = descriptors
    pairs: dict[int, tuple[RingGrant, list[int]]] = {
        ring.kind: (ring, [rest[2 * i], rest[2 * i + 1]]) for i, ring in enumerate(message.rings)
    }
    return Spare(message.pid, control, socket.socket(fileno=doorbell), pairs)


@dataclass(slots=True)
class Rings:
    """The worker's end of the control socket, and a channel per server."""

    control: ControlSocket
    doorbell: socket.socket
    clock: Clock
    pause: Callable[[float], None]
    server_timeout_s: float | None = None
    renewed: Callable[[int], None] = lambda _kind: None
    """Told of a session that goes on over another ring, with another server."""
    _grants: dict[int, tuple[RingGrant, list[int]]] = field(default_factory=dict)
    _channels: dict[int, RingChannel] = field(default_factory=dict)
    _spares: list[Spare] = field(default_factory=list)

    def await_start(self) -> StartGuest:
        """Takes rings until the word to start comes. EOFError: the kernel process is gone."""
        while True:
            message = self._receive()
            if message.WhichOneof("body") == "start":
                timeout_ms = message.start.server_timeout_ms
                self.server_timeout_s = timeout_ms / 1000 if timeout_ms else None
                return message.start

    def _send(self, message: WorkerMessage) -> None:
        """EOFError: the kernel process is gone."""
        try:
            self.control.send(message)
        except ConnectionError:
            raise EOFError("the kernel process is gone") from None

    def _receive(self) -> KernelMessage:
        """The next message; rings and spares in it are kept."""
        message, descriptors = self.control.receive(KernelMessage)
        kind = message.WhichOneof("body")
        if kind == "ring":
            close_all(self._grants.get(message.ring.kind, (None, []))[1])
            self._grants[message.ring.kind] = message.ring, descriptors
        elif kind == "spare":
            self._spares.append(spare_of(message.spare, descriptors))
        return message

    def client(self, kind: ServerKind, handles_used: int = 0) -> Client:
        """A client over the ring granted for this kind of server; over a new one, if that was used already.

        SessionLostError: there is no server.
        """
        if not self._has_ring(kind):
            self._ask(kind)
        channel = self._channel(kind)
        return self._client(self._grants[kind][0], channel, handles_used)

    def _has_ring(self, kind: int) -> bool:
        """Whether one was granted that is not used yet."""
        return bool(self._grants.get(kind, (None, []))[1])

    def _client(self, grant: RingGrant, channel: RingChannel, handles_used: int = 0) -> Client:
        return Client(
            channel,
            session=grant.session,
            opcodes=grant.opcodes,
            reconnect=lambda: self._reconnect(grant.kind),
            clock=self.clock,
            pause=self.pause,
            slots_max=grant.limits.slots_max or SLOTS_MAX,
            server_timeout_s=self.server_timeout_s,
            handles_used=handles_used,
        )

    def _channel(self, kind: int) -> RingChannel:
        grant, (memfd, control) = self._grants[kind]
        self._grants[kind] = grant, []  # a ring is used once
        channel = RingChannel(memfd, socket.socket(fileno=control), self.doorbell, clock=self.clock)
        self._channels[kind] = channel
        return channel

    def _reconnect(self, kind: ServerKind) -> Channel:
        """A new ring for the session; waits until the server is back. SessionLostError if it forgot it."""
        if self._ask(kind).session_is_new:
            raise SessionLostError("the server was started anew and knows nothing of the session")
        self.renewed(kind)
        return self._channel(kind)

    def _ask(self, kind: ServerKind) -> RingGrant:
        """Another ring: one granted unasked, or one that the kernel process is asked for. SessionLostError."""
        while self.control.has_message():
            self._receive()
        if self._has_ring(kind):
            return self._grants[kind][0]
        self._send(WorkerMessage(ring_wanted=kind))
        while True:
            message = self._receive()
            if message.WhichOneof("body") == "ring" and message.ring.kind == kind:
                break
        grant: RingGrant = message.ring
        if grant.error:
            raise SessionLostError(grant.error)
        return grant

    # -- spares -------------------------------------------------------------------------------------

    def take_spare(self) -> Spare:
        """A spare; waits until there is one. EOFError: the kernel process is gone."""
        while not self._spares and self.control.has_message():
            self._receive()
        if not self._spares:
            self._send(WorkerMessage(spares_wanted=SPARES_WANTED))
        while not self._spares:
            self._receive()
        return self._spares.pop(0)

    def spare_client(self, spare: Spare, kind: ServerKind) -> Client:
        """A client on a spare's ring while its process lives in this worker, and afterwards in its own."""
        grant, (memfd, control) = spare.rings[kind]
        spare.rings[kind] = grant, []
        channel = RingChannel(memfd, socket.socket(fileno=control), spare.doorbell, clock=self.clock)
        return self._client(grant, channel)

    def replace(self, spare: Spare) -> "Rings":
        """In a clone: the spare's rings instead of these, whose descriptors are closed here."""
        for channel in self._channels.values():
            channel.forget()
        for _, descriptors in self._grants.values():
            close_all(descriptors)
        for other in self._spares:
            if other is not spare:
                other.close()
        self.control.close()
        self.doorbell.close()
        control = ControlSocket(socket.socket(fileno=spare.control), descriptors_max=SPARE_DESCRIPTORS_MAX)
        return Rings(
            control,
            spare.doorbell,
            self.clock,
            self.pause,
            self.server_timeout_s,
            self.renewed,
            dict(spare.rings),
        )
