"""Sessions: opened and resumed by Hello, kept alive by control sockets or renewals, fenced when they end.

EXACTLY-ONCE, Leases. A session lives while a control socket of its client is open (rings, direct calls).
Without one it lives LEASE_MS beyond its last renewal or call: sessions of remote clients, and for a while
every session after a restart of the server, so that its client can come back. The end is one transaction
that fences the session and frees what it held; a number never comes back to life.

Ledger rows are the truth; `live` mirrors them, since one process owns a ledger.
"""

import hmac
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from farcall.v1.session_pb2 import (
    REFUSAL_MALFORMED,
    REFUSAL_OVERLOADED,
    REFUSAL_STALE_SESSION,
    REFUSAL_UNSUPPORTED,
    HelloRequest,
    HelloResponse,
    Limits,
    Refusal,
)
from ipc.endpoint import Peer
from ipc.limits import (
    BODY_BYTES_MAX,
    DATA_BYTES_MAX,
    EGRESS_RULES_MAX,
    GROUPS_MAX,
    LEASE_MS,
    PROTOCOL_MAX,
    PROTOCOL_MIN,
    SLOTS_MAX,
)
from ipc.message import Reply
from ipc.seams import Clock, Random
from servers.service import Deferred, Service, Session
from servers.steps import step

SECRET_BYTES: Final = 16
SESSIONS_MAX: Final = 4096
"""Of one server; one Hello more is OVERLOADED."""
LEASE_S: Final = LEASE_MS / 1000
EXPIRE_INTERVAL_S: Final = 1.0
"""Pause between two looks at the leases."""
ID_MAX: Final = (1 << 32) - 2
"""Of user and group ids; (uid_t) -1 is nobody (setuid(2))."""


@dataclass(slots=True)
class Live:
    """A session that is not fenced: who holds it, and until when."""

    session: Session
    principal: str
    leased: bool
    """Renewals keep it when no control socket does."""
    held: bool = False
    """A control socket keeps it."""
    deadline_s: float = math.inf
    """On the monotonic clock, while none does."""
    deferred: dict[int, Deferred] = field(default_factory=dict)
    """Its calls that wait for their answer, by slot, the oldest first."""


class Sessions:
    """The sessions of one service. Everything happens in the server's one thread."""

    def __init__(self, service: Service, clock: Clock, random: Random, opcodes: Iterable[int]) -> None:
        self._service = service
        self._ledger = service.ledger
        self._clock = clock
        self._random = random
        self._opcodes = sorted(opcodes)
        self.live: dict[int, Live] = {}
        self._draining = False
        self._looked_s = clock.monotonic_s()
        grace_s = self._looked_s + LEASE_S
        for session in self._ledger.sessions():
            self.live[session.number] = Live(session, session.principal, session.leased, deadline_s=grace_s)

    def find(self, number: int, peer: Peer) -> Live | None:
        """The peer's session of that number; None if unknown, ended, or another's."""
        live = self.live.get(number)
        return live if live is not None and live.principal == peer.principal else None

    def hello(self, request: HelloRequest, peer: Peer) -> HelloResponse:
        """Opens a session, or takes up the one named. A refusal says why:

        UNSUPPORTED with protocol 0: the version ranges do not meet (the answer names ours).
        UNSUPPORTED otherwise: this is a server of another kind.
        MALFORMED: credentials beyond their limits. STALE_SESSION: there is no such session of this peer, or
        the secret is wrong. OVERLOADED: SESSIONS_MAX.

        The credentials are the peer's word: carriers let in only peers that may claim any (the server's
        own user or root on rings; whoever the transport authenticates elsewhere).
        """
        response = HelloResponse(
            protocol_min=PROTOCOL_MIN,
            protocol_max=PROTOCOL_MAX,
            boot_epoch=self._ledger.boot_epoch,
        )
        protocol = min(request.protocol_max, PROTOCOL_MAX)
        if protocol < max(request.protocol_min, PROTOCOL_MIN):
            return _refused(response, REFUSAL_UNSUPPORTED)
        response.protocol = protocol
        if request.kind != self._service.kind:
            return _refused(response, REFUSAL_UNSUPPORTED)
        if request.resume_session:
            live = self._resumable(request, peer)
            if live is None:
                return _refused(response, REFUSAL_STALE_SESSION)
        else:
            credentials = request.credentials
            ids = (credentials.uid, credentials.gid, *credentials.groups)
            if (
                len(credentials.groups) > GROUPS_MAX
                or max(ids) > ID_MAX
                or len(request.egress) > EGRESS_RULES_MAX
            ):
                return _refused(response, REFUSAL_MALFORMED)
            if len(self.live) >= SESSIONS_MAX:
                return _refused(response, REFUSAL_OVERLOADED)
            live = self._open(request, peer)
        self._hold(live, peer)
        response.session = live.session.number
        response.secret = live.session.secret
        response.opcodes.extend(self._opcodes)
        response.limits.CopyFrom(
            Limits(data_bytes_max=DATA_BYTES_MAX, body_bytes_max=BODY_BYTES_MAX, slots_max=SLOTS_MAX)
        )
        response.lease_ms = LEASE_MS if peer.carrier == "grpc" else 0
        return response

    def _resumable(self, request: HelloRequest, peer: Peer) -> Live | None:
        live = self.find(request.resume_session, peer)
        if live is None or not hmac.compare_digest(live.session.secret, request.resume_secret):
            return None
        return live

    def _open(self, request: HelloRequest, peer: Peer) -> Live:
        credentials = request.credentials
        secret = self._random.bytes(SECRET_BYTES)
        step("hello", "Hello")
        with self._ledger.transaction():
            session = Session(
                number=self._ledger.next_session(),
                principal=peer.principal,
                secret=secret,
                uid=credentials.uid,
                gid=credentials.gid,
                groups=tuple(credentials.groups),
                leased=peer.carrier == "grpc",
                egress=tuple(request.egress),
            )
            self._ledger.open_session(session)
            step("hello-record")
        step("hello-commit")
        live = Live(session, session.principal, session.leased)
        self.live[session.number] = live
        return live

    def _hold(self, live: Live, peer: Peer) -> None:
        if peer.carrier == "grpc":
            live.leased = True
        else:
            live.held = True
            live.deadline_s = math.inf
        self.touch(live)

    def touch(self, live: Live) -> None:
        """A sign of life: a call, or a renewal."""
        if not live.held:
            live.deadline_s = self._clock.monotonic_s() + LEASE_S

    def renew(self, numbers: Iterable[int], peer: Peer) -> list[int]:
        """Renews the peer's sessions; returns those of the numbers that are not (or no longer) its."""
        stale = []
        for number in numbers:
            live = self.find(number, peer)
            if live is None:
                stale.append(number)
            else:
                self.touch(live)
        return stale

    def closed(self, number: int, peer: Peer) -> None:
        """The session's control socket is gone; a session that no renewal keeps ends.

        A session resumed on a second socket moves to it: carriers report the last one only.
        """
        live = self.find(number, peer)
        if live is None or not live.held or self._draining:
            return
        live.held = False
        if live.leased:
            self.touch(live)
        else:
            self.end(live)

    def drain(self) -> None:
        """The server is about to stop: sockets that close now do so by its own doing, and end no session."""
        self._draining = True

    def end(self, live: Live) -> None:
        """Fences the session and frees what it held, in one transaction."""
        number = live.session.number
        step("end", "Goodbye")
        with self._ledger.transaction():
            self._service.session_ended(live.session)
            self._ledger.end_session(number)
            step("end-record")
        step("end-commit")
        del self.live[number]
        self.drop_deferred(live, REFUSAL_STALE_SESSION)

    @staticmethod
    def drop_deferred(live: Live, refusal: Refusal) -> None:
        """Ends the waiting of all its deferred calls."""
        for deferred in list(live.deferred.values()):
            deferred.drop(Reply(refusal=refusal))

    def expire(self) -> None:
        """Ends the sessions whose lease has run out. To be called every EXPIRE_INTERVAL_S."""
        now_s = self._clock.monotonic_s()
        slept_s = now_s - self._looked_s - EXPIRE_INTERVAL_S
        self._looked_s = now_s
        if slept_s > EXPIRE_INTERVAL_S:
            # This process was stopped or starved: renewals wait unread, and the delay is ours.
            for live in self.live.values():
                live.deadline_s += slept_s
        for live in [live for live in self.live.values() if live.deadline_s < now_s]:
            self.end(live)


def _refused(response: HelloResponse, refusal: Refusal) -> HelloResponse:
    response.outcome.refusal = refusal
    return response
