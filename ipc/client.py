"""The client's side of exactly once: who is calling, for the n-th time, until there is an answer.

Sync and single-threaded, for a worker. Identities are made here and nowhere else; a call whose carrier broke
is sent again under the identity it has, over whatever carrier `reconnect` gives. See EXACTLY-ONCE.
"""

from collections.abc import Callable, Iterable
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
from ipc.message import PACKED, Buffer, Call, MalformedError, Reply, decode_response, encode_request
from ipc.operations import BY_REQUEST, OPERATIONS, Operation
from ipc.seams import Clock

ERRNO_MAX: Final = 4095
"""The largest errno that a Linux system call returns (linux/err.h: MAX_ERRNO)."""
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
        self._handles_used = 0
        self._lost = ""
        self._held = -1
        """The completed try whose data the caller may still read; -1: none."""

    def new_handle(self) -> int:
        """A handle number never used before in this session; from 1."""
        self._handles_used += 1
        return self._handles_used

    def supports(self, operation: Operation) -> bool:
        """Whether the server offers it."""
        return operation.opcode in self._opcodes

    def call(
        self, request: Message, data: Buffer = b"", *, data_room: int = 0, slot: int = 0
    ) -> tuple[Reply, Any]:
        """Carries out one operation; (reply, its response message), the latter None if the reply has an errno
        or the operation is packed.

        `data_room`: how many bytes of data the reply may have. Reply.data is valid until this client's next
        call. SessionLostError; UnsupportedError; ServerTimeoutError; ValueError if the call breaks a limit.
        """
        operation = BY_REQUEST[type(request)]
        call = encode_request(request, data)
        reply = self._carry(operation, call, data_room, slot)
        if reply.errno or operation.packed:
            return reply, None
        try:
            return reply, decode_response(call, reply)
        except MalformedError as error:
            self._lose(str(error))

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

    def close(self) -> None:
        """Closes the carrier; the server ends the session."""
        self._lost = self._lost or "the client was closed"
        self._channel.close()

    def _carry(self, operation: Operation, call: Call, data_room: int, slot_name: int) -> Reply:
        """The answer of a call, checked, with its identity made and its slot moved on."""
        if call.opcode not in self._opcodes:
            raise UnsupportedError(operation.name)
        if self._lost:
            raise SessionLostError(self._lost)
        if self._held >= 0:
            held, self._held = self._held, -1
            self._channel.release(held)
        slot = self._slots.get(slot_name) or self._new_slot(slot_name)
        if operation.effect != EFFECT_PURE:
            identify(call, self.session, slot.number, slot.seq + 1)
        else:
            call.session, call.slot = self.session, slot.number
        deadline = None if self._timeout_s is None else self._clock.monotonic_s() + self._timeout_s
        reply = self._answer(operation, call, data_room, slot_name, deadline)
        if call.seq:
            slot.seq = call.seq
        if not 0 <= reply.errno <= ERRNO_MAX or len(reply.data) > data_room:
            self._lose(f"{operation.name}: errno {reply.errno}, {len(reply.data)} bytes for {data_room}")
        return reply

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
                    self._channel.close()
                    self._check_time(operation, deadline, str(error))
                    self._channel = self._reconnect()
                    continue
                if reply is None:
                    self._channel.release(tag)
                    raise ServerTimeoutError(f"{operation.name}: no reply within {self._timeout_s} s")
                if len(reply.data):
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
