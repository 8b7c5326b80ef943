"""From a carrier's call to a service's handler, exactly once. Knows no service and no carrier.

PURE calls go straight to their handler; packed ones without a protobuf object or a transaction on the way.
MUTATING calls follow EXACTLY-ONCE: in one transaction of the service's ledger the arrival table decides,
the handler takes effect inside a savepoint (an errno rolls back the effect, not the record), and the
encoded reply is recorded; then it is sent. A repeated request gets the same bytes.

A deferred call (service.Deferred) is answered later, but never before the effects of the call that brought
the answer about are committed.

A request that cannot be decoded or breaks a limit, and one that reuses an identity for another call, end
their session. Anything a handler raises beyond ErrnoError and MalformedError is a bug: it passes
through, and the carrier and the process end with it; the slot rows decide at restart.
"""

import errno
import struct
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from farcall.v1.session_pb2 import (
    EFFECT_BLOCKING,
    REFUSAL_FALSE_RETRY,
    REFUSAL_LATE,
    REFUSAL_MALFORMED,
    REFUSAL_MISORDERED,
    REFUSAL_NOT_READY,
    REFUSAL_OVERLOADED,
    REFUSAL_STALE_SESSION,
    REFUSAL_UNSPECIFIED,
    REFUSAL_UNSUPPORTED,
    HelloRequest,
    HelloResponse,
    Refusal,
    RenewRequest,
    RenewResponse,
)
from ipc.endpoint import Peer
from ipc.identity import DIGEST_BYTES, Arrival, arrival
from ipc.limits import BODY_BYTES_MAX, DATA_BYTES_MAX, DEFERRED_MAX, SLOTS_MAX
from ipc.message import PACKED, Call, MalformedError, Reply, decode_request
from ipc.operations import BY_NAME, OPERATIONS, Operation
from ipc.seams import Clock, Random
from servers.service import (
    Answer,
    Deferred,
    ErrnoError,
    Handler,
    NotYetError,
    PackedHandler,
    Service,
    Session,
    WithDescriptor,
)
from servers.sessions import Live, Sessions
from servers.steps import step

HELLO: Final = BY_NAME["Hello"].opcode
RENEW: Final = BY_NAME["Renew"].opcode
GOODBYE: Final = BY_NAME["Goodbye"].opcode
ABANDON: Final = BY_NAME["Abandon"].opcode

ERRNO_MAX: Final = 4095
RECORD: Final = struct.Struct("<iQII")
"""A recorded reply: errno, result, lengths of body and data; these follow."""

REFUSALS: Final[dict[Arrival, Refusal]] = {
    Arrival.STALE_SESSION: REFUSAL_STALE_SESSION,
    Arrival.FALSE_RETRY: REFUSAL_FALSE_RETRY,
    Arrival.LATE: REFUSAL_LATE,
    Arrival.MISORDERED: REFUSAL_MISORDERED,
}
FATAL: Final = (REFUSAL_FALSE_RETRY, REFUSAL_MALFORMED)
"""Refusals that end the session."""


def encode_reply(reply: Reply) -> bytes:
    """The reply as a slot row keeps it; the inverse of decode_reply. Refusals are never recorded."""
    assert reply.refusal == REFUSAL_UNSPECIFIED and reply.descriptor < 0
    head = RECORD.pack(reply.errno, reply.result, len(reply.body), len(reply.data))
    return b"".join((head, reply.body, reply.data))


def decode_reply(record: bytes) -> Reply:
    """The reply of a slot row."""
    number, result, body_bytes, data_bytes = RECORD.unpack_from(record)
    data_at = RECORD.size + body_bytes
    assert len(record) == data_at + data_bytes, "a slot row of another length than it says"
    return Reply(number, result, record[RECORD.size : data_at], record[data_at:])


@dataclass(frozen=True, slots=True, eq=False)
class Parked:
    """A call that must not take effect yet (NotYetError)."""

    call: Call
    peer: Peer
    complete: Callable[[Reply], None]
    ready: Callable[[], bool]


class Dispatcher:
    """The Endpoint of one service."""

    def __init__(self, service: Service, clock: Clock, random: Random) -> None:
        handlers: dict[int, Handler] = dict(service.handlers)
        packed: dict[int, PackedHandler] = dict(service.packed_handlers)
        for opcode in (*handlers, *packed):
            operation = OPERATIONS[opcode]
            assert operation.packed == (opcode in packed), f"{operation.name}: handler of the wrong kind"
            assert operation.effect != EFFECT_BLOCKING, f"{operation.name}: BLOCKING is not dispatched"
        self._service = service
        self._ledger = service.ledger
        self._handlers = handlers
        self._packed = packed
        self._pure_packed = {code: call for code, call in packed.items() if not OPERATIONS[code].recorded}
        self._takes_data = {
            code for code in packed if "data" in OPERATIONS[code].request.DESCRIPTOR.fields_by_name
        }
        self.sessions = Sessions(service, clock, random, (HELLO, RENEW, GOODBYE, ABANDON, *handlers, *packed))
        self._live = self.sessions.live
        self._draining = False
        self._busy = False
        self._late: deque[Callable[[], None]] = deque()
        """Answers to deferred calls that came while it was: they leave after what brought them about."""
        self._parked: list[Parked] = []
        """In the order in which they came."""
        self._unparking = False

    def hello(self, request: HelloRequest, peer: Peer) -> HelloResponse:
        """Opens or resumes a session bound to the peer; Sessions.hello lists the refusals."""
        return self.sessions.hello(request, peer)

    def closed(self, session: int, peer: Peer) -> None:
        """The session's control socket is gone: it ends, unless renewals keep it."""
        if peer.carrier != "grpc":
            self._after(partial(self.sessions.closed, session, peer))

    def drain(self) -> None:
        """The server is about to stop: sessions stay, for their clients to resume, and ask again what waits."""
        self._draining = True
        self.sessions.drain()
        for live in list(self._live.values()):
            self.sessions.drop_deferred(live, REFUSAL_NOT_READY)
        parked, self._parked = self._parked, []
        for each in parked:
            each.complete(Reply(refusal=REFUSAL_NOT_READY))

    def expire(self) -> None:
        """Ends the sessions whose lease has run out; to be called every sessions.EXPIRE_INTERVAL_S."""
        self._after(self.sessions.expire)
        self._unpark()

    def submit(
        self, call: Call, peer: Peer, complete: Callable[[Reply], None], into: memoryview | None = None
    ) -> None:
        """Executes one call and completes it before returning, unless its handler defers the answer.

        A call that is MALFORMED is completed with that refusal, never raised: its session ends, the
        carrier's other sessions go on.
        """
        live = self._live.get(call.session)
        if live is not None and live.principal == peer.principal:
            handler = self._pure_packed.get(call.opcode)
            if handler is not None and not call.seq and len(call.body) == PACKED.size and not len(call.data):
                complete(self._read(live, handler, call, into))
                return
        assert not self._busy, "a call within a call"
        self._busy = True
        try:
            reply = self._answer(call, peer, complete)
        except NotYetError as error:
            reply = None
            self._park(Parked(replace(call, data=bytes(call.data)), peer, complete, error.ready))
        except BaseException:
            # The process ends, and carriers on their way down close sockets: nothing more may be written.
            self.sessions.drain()
            raise
        finally:
            self._busy = False
        if reply is not None:
            complete(reply)
            step("reply")
        self._flush()
        if self._parked and not self._unparking:
            self._unpark()

    def _park(self, parked: Parked) -> None:
        if self._draining:
            self._late.append(partial(parked.complete, Reply(refusal=REFUSAL_NOT_READY)))
        else:
            self._parked.append(parked)

    def _unpark(self) -> None:
        """Makes the calls again whose time has come; each may have to wait anew."""
        self._unparking = True
        try:
            while not self._busy:
                due = next((each for each in self._parked if each.ready()), None)
                if due is None:
                    return
                self._parked.remove(due)
                self.submit(due.call, due.peer, due.complete)
        finally:
            self._unparking = False

    def _after(self, job: Callable[[], None]) -> None:
        """Does it, then sends the answers that it brought about."""
        nested, self._busy = self._busy, True
        try:
            job()
        finally:
            self._busy = nested
        self._flush()

    def _flush(self) -> None:
        while self._late and not self._busy:
            self._late.popleft()()

    def _read(self, live: Live, handler: PackedHandler, call: Call, into: memoryview | None) -> Reply:
        """The hot path: a packed PURE operation."""
        if not live.held:
            self.sessions.touch(live)
        first, second, third = PACKED.unpack(call.body)
        try:
            result, data = handler(live.session, first, second, third, b"", into)
        except ErrnoError as error:
            return Reply(_valid(error.errno))
        except MalformedError:
            self._after(partial(self.sessions.end, live))
            return Reply(refusal=REFUSAL_MALFORMED)
        return Reply(0, result, b"", data)

    def _answer(self, call: Call, peer: Peer, complete: Callable[[Reply], None]) -> Reply | None:
        """The reply to any other call; None: it goes to `complete` later."""
        if call.opcode == RENEW:
            return self._renew(call, peer)
        live = self.sessions.find(call.session, peer)
        if live is None:
            return Reply(refusal=REFUSAL_STALE_SESSION)
        self.sessions.touch(live)
        if call.opcode == GOODBYE:
            self.sessions.end(live)
            return Reply()
        try:
            if call.opcode == ABANDON:
                return self._abandon(live, call)
            reply = self._call(live, call, complete)
        except MalformedError:
            reply = Reply(refusal=REFUSAL_MALFORMED)
        if reply is not None and reply.refusal in FATAL:
            self.sessions.end(live)
        return reply

    def _renew(self, call: Call, peer: Peer) -> Reply:
        try:
            _check(len(call.body) <= BODY_BYTES_MAX, "body")
            request = decode_request(call)
        except MalformedError:
            return Reply(refusal=REFUSAL_MALFORMED)
        assert isinstance(request, RenewRequest)
        stale = self.sessions.renew(request.sessions, peer)
        return Reply(body=RenewResponse(stale=stale).SerializeToString(deterministic=True))

    def _call(self, live: Live, call: Call, complete: Callable[[Reply], None]) -> Reply | None:
        """Checks the call's form and executes it as its effect asks. None: deferred. MalformedError."""
        opcode = call.opcode
        operation = OPERATIONS.get(opcode)
        if operation is None or not (opcode in self._packed or opcode in self._handlers):
            return Reply(refusal=REFUSAL_UNSUPPORTED)
        _check(len(call.data) <= (DATA_BYTES_MAX if opcode in self._takes_data else 0), "data")
        step("receive", operation.name)
        if not operation.recorded:
            _check(call.seq == 0, "seq of a PURE call")
            try:
                if operation.deferred:
                    return self._defer(operation, live, call, complete)
                return self._effect(operation, live.session, call)
            except ErrnoError as error:
                return Reply(_valid(error.errno))
        _check(call.slot < SLOTS_MAX, "slot")
        _check(call.seq > 0 and len(call.digest) == DIGEST_BYTES, "identity")
        return self._exactly_once(operation, live.session, call)

    def _exactly_once(self, operation: Operation, session: Session, call: Call) -> Reply:
        ledger = self._ledger
        with ledger.transaction():
            state, record = ledger.slot(session.number, call.slot)
            verdict = arrival(state, call.seq, bytes(call.digest))
            if verdict is Arrival.REPLAY:
                return decode_reply(record)
            if verdict is not Arrival.EXECUTE:
                return Reply(refusal=REFUSALS[verdict])
            step("arrive")
            try:
                with ledger.savepoint():
                    reply = self._effect(operation, session, call)
            except ErrnoError as error:
                reply = Reply(_valid(error.errno))
            step("handle")
            ledger.record(session.number, call.slot, call.seq, bytes(call.digest), encode_reply(reply))
            step("record")
        step("commit")
        return reply

    def _effect(self, operation: Operation, session: Session, call: Call) -> Reply:
        """Runs the handler. ErrnoError; MalformedError."""
        if operation.packed:
            _check(len(call.body) == PACKED.size, "body")
            first, second, third = PACKED.unpack(call.body)
            result, data = self._packed[operation.opcode](session, first, second, third, call.data, None)
            return Reply(0, result, b"", data)
        answer = self._handle(operation, session, call)
        assert not isinstance(answer, Deferred), f"{operation.name} is not declared as deferred"
        return _encode(operation, answer)

    def _handle(self, operation: Operation, session: Session, call: Call) -> Answer | Deferred:
        _check(len(call.body) <= BODY_BYTES_MAX, "body")
        return self._handlers[operation.opcode](session, decode_request(call))

    def _defer(
        self, operation: Operation, live: Live, call: Call, complete: Callable[[Reply], None]
    ) -> Reply | None:
        """Runs the handler of an operation that may answer later. ErrnoError; MalformedError.

        One call waits in a slot: a second one is the first again, whose way back may be lost. Whoever made room
        for another one and still wants its answer asks again.
        """
        if self._draining:
            return Reply(refusal=REFUSAL_NOT_READY)
        waiting, slot = live.deferred, call.slot
        if slot in waiting:
            waiting[slot].drop(Reply(refusal=REFUSAL_OVERLOADED))
        elif len(waiting) >= DEFERRED_MAX:
            waiting[next(iter(waiting))].drop(Reply(refusal=REFUSAL_OVERLOADED))
        answer = self._handle(operation, live.session, call)
        if not isinstance(answer, Deferred):
            return _encode(operation, answer)
        waiting[slot] = answer
        answer.attach(partial(self._settle, operation, live, slot, complete))
        return None

    def _settle(
        self,
        operation: Operation,
        live: Live,
        slot: int,
        complete: Callable[[Reply], None],
        answer: Answer | ErrnoError | Reply,
    ) -> None:
        """A deferred call is over. Its answer leaves now, or with the others that wait for their cause."""
        del live.deferred[slot]
        if isinstance(answer, Reply):
            reply = answer
        elif isinstance(answer, ErrnoError):
            reply = Reply(_valid(answer.errno))
        else:
            try:
                reply = _encode(operation, answer)
            except ErrnoError as error:
                reply = Reply(error.errno)
        self._late.append(partial(complete, reply))
        self._flush()

    def _abandon(self, live: Live, call: Call) -> Reply:
        """Drops the deferred call of a slot. MalformedError."""
        _check(call.seq == 0 and len(call.body) == PACKED.size and not len(call.data), "form of Abandon")
        slot, zero, zero_too = PACKED.unpack(call.body)
        _check(not zero and not zero_too, "fields of Abandon")
        deferred = live.deferred.get(slot)
        if deferred is None:
            return Reply()
        deferred.drop(Reply(refusal=REFUSAL_OVERLOADED))
        return Reply(result=1)


def _encode(operation: Operation, answer: Answer) -> Reply:
    """The reply of an unpacked operation. ErrnoError: EOVERFLOW."""
    reply = Reply()
    if isinstance(answer, WithDescriptor):
        assert operation.carries_descriptor, f"{operation.name} is not declared to carry a descriptor"
        reply.descriptor, answer = answer.descriptor, answer.response
    reply.body = answer.SerializeToString(deterministic=True)
    if len(reply.body) > BODY_BYTES_MAX:
        # Inside the savepoint of a recorded call, so nothing stays of the effect.
        reply.discard()
        raise ErrnoError(errno.EOVERFLOW, f"{operation.name}: a response of {len(reply.body)} bytes")
    return reply


def _check(holds: bool, what: str) -> None:
    if not holds:
        raise MalformedError(what)


def _valid(number: int) -> int:
    assert 0 < number <= ERRNO_MAX, f"errno {number}"
    return number
