"""The client's side of exactly once: who is calling, for the n-th time, until there is an answer.

Single-threaded, for a worker: `call` waits for its answer, `begin` gives a Pending to ask later. Identities are
made here and nowhere else; a call whose carrier broke is sent again under the identity it has, over whatever
carrier `reconnect` gives. See EXACTLY-ONCE.
"""

import math
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, NoReturn

from google.protobuf.message import Message

from farcall.v1.session_pb2 import (
    EFFECT_PURE,
    REFUSAL_NOT_READY,
    REFUSAL_OVERLOADED,
    REFUSAL_UNSUPPORTED,
    Refusal,
)
from ipc.endpoint import BrokenError, Channel, FullError
from ipc.identity import identify
from ipc.limits import REFUSAL_RETRY_S, SLOTS_MAX
from ipc.message import (
    PACKED,
    Buffer,
    Call,
    MalformedError,
    Reply,
    abandonment,
    decode_response,
    encode_request,
)
from ipc.operations import BY_NAME, BY_REQUEST, OPERATIONS, Operation
from ipc.ring_client import RingChannel
from ipc.seams import Clock

ERRNO_MAX: Final = 4095
"""The largest errno that a Linux system call returns (linux/err.h: MAX_ERRNO)."""
SLOT_NUMBER_MAX: Final = (1 << 16) - 1
"""On every carrier. Numbers from SLOTS_MAX on name PURE calls that are pending: they have no slot row."""
ABANDON: Final = BY_NAME["Abandon"].opcode
_NO_TRY: Final = -1
_NOT_NOW: Final = frozenset((REFUSAL_OVERLOADED, REFUSAL_NOT_READY))


class SessionLostError(Exception):
    """The server does not know the session, or one side broke the protocol: no call of it can go on."""


class UnsupportedError(Exception):
    """The server does not offer the operation: fall back, or answer ENOSYS."""


class ServerTimeoutError(TimeoutError):
    """No reply within the server's time. The outcome is unknown: the call may take effect later, or never."""


@dataclass(slots=True)
class _Slot:
    number: int
    """On the wire."""
    seq: int = 0
    """Of the last recorded call."""
    busy: bool = False
    """A recorded call is pending in it."""


class Pending:
    """A call that was begun (Client.begin). Its client asks the carrier; other calls go on meanwhile."""

    __slots__ = (
        "answer", "call", "channel", "client", "data_room", "deadline", "not_before", "operation", "sent",
        "slot_name", "tag",
    )  # fmt: skip

    def __init__(
        self, client: "Client", operation: Operation, call: Call, data_room: int, slot_name: int | None
    ) -> None:
        self.client, self.operation, self.call = client, operation, call
        self.data_room = data_room
        self.slot_name = slot_name
        """None: a PURE call, with a number of its own."""
        self.deadline: float | None = None
        self.channel: Channel | None = None
        """That carries the try `tag`. Another one in its place: the try is lost."""
        self.tag = _NO_TRY
        self.not_before = 0.0
        """When a call without a try is offered again (monotonic seconds)."""
        self.sent = False
        self.answer: tuple[Reply, Any] | None = None

    def result(self) -> tuple[Reply, Any] | None:
        """The answer as `Client.call` returns it; None while there is none. Never waits for the server, except
        for another one in the place of a dead one. Raises what `call` raises, and then the call is over.

        Reply.data and a descriptor that is not taken are valid until the client's next call or answer.
        """
        return self.client.progress(self)


class Client:
    """One session's calls, one at a time in each slot.

    The caller's slot numbers are names; a slot whose last outcome is unknown is given up, and its name gets
    another of the session's slots.
    """

    def __init__(
        self,
        channel: Channel,
        *,
        session: int,
        opcodes: Iterable[int],
        reconnect: Callable[[], Channel],
        clock: Clock,
        pause: Callable[[float], None],
        slots_max: int = SLOTS_MAX,
        server_timeout_s: float | None = None,
        handles_used: int = 0,
    ) -> None:
        """`session`, `opcodes` and `slots_max` are those of the HelloResponse.

        `reconnect` gives a new channel to the same session after BrokenError; it waits as long as it takes,
        or raises SessionLostError or ServerTimeoutError. `pause` sleeps for so many seconds.
        `server_timeout_s`: how long a call may go without an answer; None: for ever.
        """
        self.session = session
        self._channel = channel
        self._opcodes = set(opcodes) & OPERATIONS.keys()
        self._reconnect = reconnect
        self._clock = clock
        self._pause = pause
        self._slots_max = slots_max
        self._timeout_s = server_timeout_s
        self._slots: dict[int, _Slot] = {}
        self._slots_used = 0
        self.handles_used = handles_used
        self._lost = ""
        self._held = _NO_TRY
        """The completed try whose data and descriptor the caller may still take."""
        self._pending: dict[int, Pending] = {}
        """Calls that were begun and are not over, by id."""
        self._next_number = SLOTS_MAX

    @property
    def channel(self) -> Channel:
        """What carries its calls at the moment; another one after the server's death."""
        return self._channel

    def new_handle(self) -> int:
        """A handle number never used before in this session; from 1."""
        self.handles_used += 1
        return self.handles_used

    def supports(self, operation: Operation) -> bool:
        """Whether the server offers it."""
        return operation.opcode in self._opcodes

    def call(
        self, request: Message, data: Buffer = b"", *, data_room: int = 0, slot: int = 0
    ) -> tuple[Reply, Any]:
        """Carries out one operation; (reply, its response message), the latter None if the reply has an errno
        or the operation is packed.

        `data_room`: how many bytes of data the reply may have. Reply.data, and a descriptor that is not taken,
        are valid until this client's next call. SessionLostError; UnsupportedError; ServerTimeoutError;
        ValueError if the call breaks a limit.
        """
        operation = BY_REQUEST[type(request)]
        call = encode_request(request, data)
        return self._decoded(operation, call, self._carry(operation, call, data_room, slot))

    def call_packed(
        self,
        operation: Operation,
        first: int = 0,
        second: int = 0,
        third: int = 0,
        data: Buffer = b"",
        room: int = 0,
        slot: int = 0,
    ) -> Reply:
        """As `call`, for a packed operation and its fields in number order: the hot path."""
        call = Call(operation.opcode, PACKED.pack(first, second, third), data)
        return self._carry(operation, call, room, slot)

    def begin(self, request: Message, data: Buffer = b"", *, data_room: int = 0, slot: int = 0) -> Pending:
        """As `call`, without waiting. The data is copied.

        A PURE call needs no slot: any number of them may be pending. Of others one at a time in each slot.
        SessionLostError; UnsupportedError; ValueError if the call breaks a limit.
        """
        operation = BY_REQUEST[type(request)]
        call = encode_request(request, bytes(data))
        self._check_open(operation)
        self._release_held()
        if operation.recorded:
            row = self._slots.get(slot) or self._new_slot(slot)
            assert not row.busy, f"{operation.name}: a recorded call is pending in slot {slot}"
            identify(call, self.session, row.number, row.seq + 1)
            pending = Pending(self, operation, call, data_room, slot)
        else:
            call.session, call.slot = self.session, self._new_number()
            pending = Pending(self, operation, call, data_room, None)
        pending.deadline = self._deadline(operation)
        with suppress(FullError, BrokenError):  # `progress` tries again
            try:
                self._try(pending)
            except MalformedError as error:
                self._lose(str(error))
        if pending.slot_name is not None:
            self._slots[pending.slot_name].busy = True
        self._pending[id(pending)] = pending
        return pending

    def progress(self, pending: Pending) -> tuple[Reply, Any] | None:
        """Pending.result."""
        if pending.answer is not None:
            return pending.answer
        assert id(pending) in self._pending, "the call is over"
        try:
            reply = self._reply_of(pending)
        except BaseException as error:
            self._over(pending)
            if pending.sent and pending.slot_name is not None:
                # The outcome is unknown: no other call may ever carry this (slot, seq).
                del self._slots[pending.slot_name]
            if isinstance(error, MalformedError):
                self._lose(str(error))
            if isinstance(error, SessionLostError):
                self._lost = str(error)
            raise
        if reply is None:
            return None
        self._over(pending)
        if pending.slot_name is not None:
            self._slots[pending.slot_name].seq = pending.call.seq
        self._release_held()
        if len(reply.data) or reply.descriptor >= 0:
            self._held = pending.tag
        else:
            self._channel.release(pending.tag)
        self._check_reply(pending.operation, reply, pending.data_room)
        pending.answer = self._decoded(pending.operation, pending.call, reply)
        return pending.answer

    def abandon(self, pending: Pending) -> None:
        """Nobody waits for a PURE call any more; the server is told, if it may take long. Of a call that is over:
        nothing."""
        assert not pending.operation.recorded, "what becomes of a recorded call must be known"
        if self._pending.get(id(pending)) is not pending:
            return
        self._over(pending)
        if pending.tag == _NO_TRY or pending.channel is not self._channel:
            return
        self._channel.release(pending.tag)
        if pending.operation.deferred and ABANDON in self._opcodes and not self._lost:
            # Only a courtesy, so the room that others need may be without it.
            with suppress(FullError, BrokenError, MalformedError):
                self._channel.release(self._channel.submit(abandonment(pending.call)))

    def has_news(self) -> bool:
        """Whether some pending call has an answer, an error or a carrier to be found: to be asked before
        sleeping."""
        try:
            return any(
                pending.tag != _NO_TRY
                and (pending.channel is not self._channel or self._channel.poll(pending.tag) is not None)
                for pending in self._pending.values()
            )
        except BrokenError:
            return True
        except MalformedError as error:
            self.distrust(str(error))
            return True

    def due_s(self) -> float:
        """How many seconds until a pending call is to be asked again though nothing was heard; may be inf."""
        if not self._pending:
            return math.inf
        moments = [
            pending.not_before if pending.tag == _NO_TRY else pending.deadline
            for pending in self._pending.values()
        ]
        due = min((moment for moment in moments if moment is not None), default=math.inf)
        return max(0.0, due - self._clock.monotonic_s())

    def distrust(self, why: str) -> None:
        """The server broke the protocol: no call goes on."""
        self._lost = self._lost or why

    def farewell(self, request: Message, patience_s: float) -> None:
        """A PURE call whose answer nobody needs: a server that is away is not waited for.

        Returns when it is answered, or after so many seconds.
        """
        call = encode_request(request, b"")
        call.session, call.slot = self.session, self._new_number()
        with suppress(BrokenError, FullError, MalformedError):
            tag = self._channel.submit(call, 0)
            self._channel.wait(tag, self._clock.monotonic_s() + patience_s)

    def close(self) -> None:
        """Closes the carrier; the server ends the session."""
        self._lost = self._lost or "the client was closed"
        self._channel.close()

    def forget(self) -> None:
        """In a forked child: lets go of the parent's ring; the server notices nothing."""
        self._lost = "it is the parent's client"
        self._pending.clear()
        channel = self._channel
        assert isinstance(channel, RingChannel), "only rings are copied by a fork"
        channel.forget()

    def _carry(self, operation: Operation, call: Call, data_room: int, slot_name: int) -> Reply:
        """The answer of a call, checked, with its identity made and its slot moved on. The hot path."""
        if call.opcode not in self._opcodes or self._lost:
            self._check_open(operation)
        if self._held >= 0:
            self._release_held()
        slot = self._slots.get(slot_name) or self._new_slot(slot_name)
        if operation.effect != EFFECT_PURE:
            assert not slot.busy, f"{operation.name}: a recorded call is pending in slot {slot_name}"
            identify(call, self.session, slot.number, slot.seq + 1)
        else:
            call.session, call.slot = self.session, slot.number
        deadline = None if self._timeout_s is None else self._deadline(operation)
        reply = self._answer(operation, call, data_room, slot_name, deadline)
        if call.seq:
            slot.seq = call.seq
        if not 0 <= reply.errno <= ERRNO_MAX or len(reply.data) > data_room:
            self._check_reply(operation, reply, data_room)
        return reply

    def _check_open(self, operation: Operation) -> None:
        if operation.opcode not in self._opcodes:
            raise UnsupportedError(operation.name)
        if self._lost:
            raise SessionLostError(self._lost)

    def _check_reply(self, operation: Operation, reply: Reply, data_room: int) -> None:
        if not 0 <= reply.errno <= ERRNO_MAX or len(reply.data) > data_room:
            self._lose(f"{operation.name}: errno {reply.errno}, {len(reply.data)} bytes for {data_room}")

    def _decoded(self, operation: Operation, call: Call, reply: Reply) -> tuple[Reply, Any]:
        if reply.errno or operation.packed:
            return reply, None
        try:
            return reply, decode_response(call, reply)
        except MalformedError as error:
            self._lose(str(error))

    def _deadline(self, operation: Operation) -> float | None:
        """Of the server's patience, counted from now; a deferred operation takes as long as it takes."""
        if self._timeout_s is None or operation.deferred:
            return None
        return self._clock.monotonic_s() + self._timeout_s

    def _release_held(self) -> None:
        held, self._held = self._held, _NO_TRY
        if held >= 0:
            self._channel.release(held)

    def _replace_channel(self, operation: Operation, deadline: float | None, why: str) -> None:
        self._held = _NO_TRY  # it ends with its channel
        self._channel.close()
        self._check_time(operation, deadline, why)
        self._channel = self._reconnect()

    def _answer(
        self, operation: Operation, call: Call, data_room: int, slot_name: int, deadline: float | None
    ) -> Reply:
        """Tries until the call has a result or an errno; the same call each time."""
        sent = False
        try:
            while True:
                try:
                    tag = self._channel.submit(call, data_room)
                    sent = True
                    reply = self._channel.wait(tag, deadline)
                except FullError:
                    # Tries that were given up still hold the room.
                    self._pause_before(operation, deadline)
                    continue
                except BrokenError as error:
                    self._replace_channel(operation, deadline, str(error))
                    continue
                if reply is None:
                    self._channel.release(tag)
                    raise ServerTimeoutError(f"{operation.name}: no reply within {self._timeout_s} s")
                if len(reply.data) or reply.descriptor >= 0:
                    self._held = tag
                else:
                    self._channel.release(tag)
                if not reply.refusal:
                    return reply
                self._check_refusal(operation, reply.refusal)
                self._pause_before(operation, deadline)
        except BaseException as error:
            if sent and call.seq:
                # The outcome is unknown: no other call may ever carry this (slot, seq).
                del self._slots[slot_name]
            if isinstance(error, MalformedError):
                self._lose(str(error))
            if isinstance(error, SessionLostError):
                self._lost = str(error)
            raise

    def _try(self, pending: Pending) -> None:
        """Submits a pending call. FullError; BrokenError; MalformedError; ValueError."""
        pending.tag = self._channel.submit(pending.call, pending.data_room)
        pending.channel = self._channel
        pending.sent = True

    def _reply_of(self, pending: Pending) -> Reply | None:
        """A result or an errno, if it is there; a lost try is made again, a refused one after a pause."""
        operation, deadline = pending.operation, pending.deadline
        while True:
            if self._lost:
                raise SessionLostError(self._lost)
            if pending.channel is not self._channel:
                pending.tag = _NO_TRY
            try:
                if pending.tag == _NO_TRY:
                    if self._clock.monotonic_s() < pending.not_before:
                        return None
                    self._try(pending)
                reply = self._channel.poll(pending.tag)
            except FullError:
                why = "no room for the call"
            except BrokenError as error:
                self._replace_channel(operation, deadline, str(error))
                continue
            else:
                if reply is not None and not reply.refusal:
                    return reply
                why = "no reply"
                if reply is not None:
                    self._drop_try(pending)
                    self._check_refusal(operation, reply.refusal)
                    why = "the server takes no calls"
            now_s = self._clock.monotonic_s()
            if deadline is not None and now_s >= deadline:
                self._drop_try(pending)
                raise ServerTimeoutError(f"{operation.name}: {why} within {self._timeout_s} s")
            if pending.tag == _NO_TRY:
                pending.not_before = now_s + REFUSAL_RETRY_S
            return None

    def _drop_try(self, pending: Pending) -> None:
        if pending.tag != _NO_TRY:
            self._channel.release(pending.tag)
        pending.tag = _NO_TRY

    def _over(self, pending: Pending) -> None:
        del self._pending[id(pending)]
        if pending.slot_name is not None:
            self._slots[pending.slot_name].busy = False

    def _new_number(self) -> int:
        """For a PURE call that is pending: no other one has it, and it comes again as late as possible."""
        used = {pending.call.slot for pending in self._pending.values()}
        number = self._next_number
        while number in used:
            number = number + 1 if number < SLOT_NUMBER_MAX else SLOTS_MAX
        self._next_number = number + 1 if number < SLOT_NUMBER_MAX else SLOTS_MAX
        return number

    def _new_slot(self, name: int) -> _Slot:
        if self._slots_used >= self._slots_max:
            self._lose(f"none of {self._slots_max} slots is left: the outcomes of calls in them are unknown")
        slot = self._slots[name] = _Slot(self._slots_used)
        self._slots_used += 1
        return slot

    def _check_refusal(self, operation: Operation, refusal: Refusal) -> None:
        """Returns if the same call may be offered again; raises what became of it otherwise."""
        if refusal in _NOT_NOW:
            return
        if refusal == REFUSAL_UNSUPPORTED:
            self._opcodes.discard(operation.opcode)
            raise UnsupportedError(operation.name)
        known = refusal in Refusal.values()
        raise SessionLostError(f"{operation.name}: {Refusal.Name(refusal) if known else refusal}")

    def _check_time(self, operation: Operation, deadline: float | None, why: str) -> None:
        if deadline is not None and self._clock.monotonic_s() >= deadline:
            raise ServerTimeoutError(f"{operation.name}: {why}, for {self._timeout_s} s")

    def _pause_before(self, operation: Operation, deadline: float | None) -> None:
        self._check_time(operation, deadline, "the server takes no calls")
        self._pause(REFUSAL_RETRY_S)

    def _lose(self, why: str) -> NoReturn:
        self._lost = why
        raise SessionLostError(why)
