"""The client's side of a ring: opening one (kernel process, trio), and calling through it (worker, no trio).

The kernel process connects to the server, says Hello and passes what it gets to a worker; the worker's
RingChannel submits and waits. A worker has one thread; all its rings share one doorbell.
"""

import errno as errno_codes
import os
import select
import socket
from collections.abc import Container
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from google.protobuf.message import DecodeError

from farcall.v1.session_pb2 import HelloRequest, HelloResponse
from ipc.endpoint import BrokenError, FullError
from ipc.limits import BODY_BYTES_MAX, DATA_BYTES_MAX, HELLO_TIMEOUT_S, RING_ENTRIES, RING_SPIN_WORKER_US
from ipc.message import Call, MalformedError, Reply
from ipc.operations import OPERATIONS
from ipc.passing import SEND_AT_ONCE, close_all, peer_of, receive_descriptors, send_descriptors
from ipc.ring_layout import (
    ARENA_OFFSET,
    BODY_LENGTH,
    BODY_UNITS,
    CLIENT_SLEEPING,
    COMPLETION,
    COMPLETION_TAIL,
    COMPLETIONS_OFFSET,
    ENTRY_MASK,
    HAS_DESCRIPTOR,
    HEADER_BYTES,
    PACKED_OPCODES,
    PASSED_TAG,
    RING_BYTES,
    SERVER_SLEEPING,
    SUBMISSION,
    SUBMISSION_TAIL,
    SUBMISSIONS_OFFSET,
    TAG_MASK,
    UNIT_BYTES,
    UNIT_SHIFT,
    Arena,
    read_header,
)
from ipc.seams import Clock
from ipc.shared_memory import fence, map_sealed, order
from ipc.spin import Luck

_LOOKS_PER_CLOCK: Final = 32
"""Looks at the completion tail between two readings of the clock: about a microsecond."""
_LOOK_S: Final = 0.001
"""How late `poll` may notice that the server is gone."""
_HANDSHAKE_BYTES_MAX: Final = 64 << 10
_WAKE: Final = b"\0"
_DATAGRAMS_MAX: Final = 4 * RING_ENTRIES
"""Read from the control socket at a time; a server that keeps the rules has sent no more than RING_ENTRIES."""
_NOTHING: Final = -1
_LOST: Final = -2
"""Sent, but the kernel had no room for it in this process (recvmsg(2), MSG_CTRUNC)."""


class RingUnavailableError(Exception):
    """Nobody listens there, or whoever does hung up or kept silent. Asking again may help."""


@dataclass(slots=True)
class RingDescriptors:
    """A server's answer to Hello. The holder closes the descriptors, or passes them on and closes its copies:
    the server ends the session when the last copy of `control` is closed."""

    response: HelloResponse
    memfd: int
    """-1 if the server opened no session (`response` says why)."""
    control: socket.socket

    @property
    def server_pid(self) -> int:
        """Of the process that serves the ring; 0: it is none of ours to see."""
        return peer_of(self.control)[0]

    def close(self) -> None:
        """Closes both descriptors."""
        if self.memfd >= 0:
            os.close(self.memfd)
            self.memfd = -1
        self.control.close()


async def open_ring(
    path: str, request: HelloRequest, doorbell: socket.socket | int, timeout_s: float = HELLO_TIMEOUT_S
) -> RingDescriptors:
    """Says Hello at the ring socket `path` and takes what the server gives.

    `doorbell` is the end of the worker's doorbell socketpair that servers send to; it is copied. Tries once:
    RingUnavailableError if nobody answers within `timeout_s` seconds; MalformedError if the answer is none.
    """
    import trio  # not with the module: workers import it, and have no use for trio

    control = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
    try:
        with trio.fail_after(timeout_s):
            control.connect(path)  # never waits longer than the listener's backlog takes: EAGAIN
            handle = doorbell if isinstance(doorbell, int) else doorbell.fileno()
            send_descriptors(control, [request.SerializeToString()], [handle])
            await trio.lowlevel.wait_readable(control)
            answer, descriptors, _ = receive_descriptors(control, _HANDSHAKE_BYTES_MAX, 1, socket.MSG_DONTWAIT)
        memfd = descriptors[0] if descriptors else -1
    except trio.TooSlowError:
        control.close()
        raise RingUnavailableError(f"{path}: no answer within {timeout_s} s") from None
    except OSError as error:
        control.close()
        raise RingUnavailableError(f"{path}: {os.strerror(error.errno or 0)}") from None
    except BaseException:
        control.close()
        raise
    opened = RingDescriptors(HelloResponse(), memfd, control)
    if not answer:
        opened.close()
        raise RingUnavailableError(f"{path}: the server hung up")
    try:
        opened.response.ParseFromString(answer)
    except DecodeError:
        opened.close()
        raise MalformedError(f"{path}: the answer is no HelloResponse") from None
    return opened


@dataclass(slots=True)
class _Try:
    """A try in flight, or completed and not yet released: what it holds of the arena."""

    start: int
    """First unit of its piece."""
    units: int
    room: int
    """Where the reply's data goes: bytes into the arena."""
    data_room: int
    body_room: int
    opcode: int
    passed: int = _NOTHING
    """The descriptor that came for it ahead of its completion."""
    abandoned: bool = False


class RingChannel:
    """Calls through one ring (ipc.endpoint.Channel). One thread; nothing here blocks but `wait`."""

    def __init__(
        self,
        memfd: int,
        control: socket.socket,
        doorbell: socket.socket,
        *,
        clock: Clock,
        spin_us: int = RING_SPIN_WORKER_US,
    ) -> None:
        """Takes over `memfd` (closed at once) and `control`; `doorbell` is the receiving end, shared by all
        rings of the worker and left open by `close`. Spins only with two or more processors.

        MalformedError if the memory is not a ring.
        """
        self._control = control
        self._doorbell = doorbell
        self._clock = clock
        self._spin_s = spin_us / 1e6 if len(os.sched_getaffinity(0)) > 1 else 0.0
        self._luck = Luck()
        try:
            self._memory = map_sealed(memfd, RING_BYTES)
            self.session = read_header(self._memory)
        except MalformedError:
            control.close()
            raise
        finally:
            os.close(memfd)
        self._words = self._memory[:HEADER_BYTES].cast("Q")
        self._arena = self._memory[ARENA_OFFSET:]
        self._free = Arena()
        # Private counts; the shared words are only ever written from them.
        self._submitted = 0
        self._taken = 0
        self._next_tag = 0
        self._tries: dict[int, _Try] = {}
        self._replies: dict[int, Reply] = {}
        self._broken = ""
        self._next_look_s = 0.0
        """When `poll` asks again whether the server lives, which costs more than all the rest of it."""
        self._poll = select.poll()
        self._poll.register(control, select.POLLIN)
        self._poll.register(doorbell, select.POLLIN)

    def filenos(self) -> tuple[int, int]:
        """(doorbell, control): what a poll over more descriptors watches for reading; then `collect`."""
        return self._doorbell.fileno(), self._control.fileno()

    def submit(self, call: Call, data_room: int = 0) -> int:
        """Sends a call; the tag of this try. The data is copied. `data_room`: bytes.

        ValueError if the call breaks a limit; FullError; BrokenError; MalformedError.
        """
        if self._broken:
            raise BrokenError(self._broken)
        if self._submitted - self._taken >= RING_ENTRIES:
            self._look()
            if self._submitted - self._taken >= RING_ENTRIES:
                raise FullError(f"{RING_ENTRIES} calls in flight")
        tag = self._next_tag
        while tag in self._tries:
            tag = (tag + 1) & TAG_MASK
        body, data = call.body, call.data
        data_bytes = len(data)
        room_units = (data_room + UNIT_BYTES - 1) >> UNIT_SHIFT
        if PACKED_OPCODES[call.opcode]:
            fields, body_bytes, body_room = body, 0, 0
        else:
            body_bytes, body_room = len(body), BODY_BYTES_MAX
            fields = BODY_LENGTH.pack(body_bytes, 0, 0)
            room_units += BODY_UNITS
        if data_bytes > DATA_BYTES_MAX or body_bytes > BODY_BYTES_MAX or data_room > DATA_BYTES_MAX:
            raise ValueError("the call breaks a limit of ipc.limits")
        request_units = (data_bytes + body_bytes + UNIT_BYTES - 1) >> UNIT_SHIFT
        units = request_units + room_units
        start = self._allocate(units) if units else 0
        offset = start << UNIT_SHIFT
        if request_units:
            arena = self._arena
            body_offset = offset + data_bytes
            if data_bytes:
                arena[offset:body_offset] = data
            if body_bytes:
                arena[body_offset : body_offset + body_bytes] = body
        self._tries[tag] = _Try(
            start, units, (start + request_units) << UNIT_SHIFT, data_room, body_room, call.opcode
        )
        self._next_tag = (tag + 1) & TAG_MASK
        submitted = self._submitted
        SUBMISSION.pack_into(
            self._memory, SUBMISSIONS_OFFSET + ((submitted & ENTRY_MASK) << 6),
            call.opcode, call.slot, tag, call.seq, call.digest, fields, start, room_units, data_bytes,
        )  # fmt: skip
        if order is not None:
            order()
        words = self._words
        self._submitted = submitted + 1
        words[SUBMISSION_TAIL] = submitted + 1
        fence()
        if words[SERVER_SLEEPING]:
            words[SERVER_SLEEPING] = 0
            self._wake_server()
        return tag

    def wait(self, tag: int, deadline: float | None) -> Reply | None:
        """The reply of that try, or None once the clock's monotonic_s passes `deadline` (the try goes on).

        Reply.data is valid until `release`. BrokenError; MalformedError if the server breaks the rules.
        """
        replies = self._replies
        words = self._words
        while tag not in replies:
            if self._broken:
                raise BrokenError(self._broken)
            taken = self._taken
            if words[COMPLETION_TAIL] == taken and not self._await_tail(taken, deadline):
                return None
            self.collect()
        return replies[tag]

    def poll(self, tag: int) -> Reply | None:
        """As Channel. MalformedError if the server breaks the rules."""
        if tag not in self._replies and not self._broken:
            self.collect()
            if tag not in self._replies and self._clock.monotonic_s() >= self._next_look_s:
                self._watch()
        reply = self._replies.get(tag)
        if reply is None and self._broken:
            raise BrokenError(self._broken)
        return reply

    def release(self, tag: int) -> None:
        """As Channel."""
        this = self._tries[tag]
        reply = self._replies.pop(tag, None)
        if reply is None:
            # The server may still write there: the piece comes back with the completion.
            this.abandoned = True
            return
        if reply.descriptor >= 0:
            reply.discard()
        del self._tries[tag]
        if this.units:
            self._free.free(this.start, this.units)

    def collect(self) -> None:
        """Takes every published completion; never waits. MalformedError, and the ring is broken."""
        taken = self._taken
        tail = self._words[COMPLETION_TAIL]
        if order is not None:
            order()
        if not 0 <= tail - taken <= self._submitted - taken:
            raise self._malformed(f"{tail} completions of {self._submitted} calls")
        memory, tries, arena = self._memory, self._tries, self._arena
        while taken != tail:
            tag, errno, refusal, result, data_bytes, body_bytes, flags = COMPLETION.unpack_from(
                memory, COMPLETIONS_OFFSET + ((taken & ENTRY_MASK) << 5)
            )
            this = tries.get(tag)
            if this is None or tag in self._replies:
                raise self._malformed(f"a completion of try {tag}, which is not in flight")
            if data_bytes > this.data_room or body_bytes > this.body_room:
                raise self._malformed(f"a reply of {data_bytes} + {body_bytes} bytes is longer than its room")
            taken += 1
            self._taken = taken
            descriptor = _NOTHING
            if flags or this.passed != _NOTHING:
                descriptor = self._passed_for(this, flags, errno or refusal)
            if this.abandoned:
                if descriptor >= 0:
                    os.close(descriptor)
                del tries[tag]
                if this.units:
                    self._free.free(this.start, this.units)
                continue
            room = this.room
            data = arena[room : room + data_bytes] if data_bytes else b""
            room += data_bytes
            body = bytes(arena[room : room + body_bytes]) if body_bytes else b""
            if descriptor == _LOST:
                self._replies[tag] = Reply(errno_codes.EMFILE)
            else:
                self._replies[tag] = Reply(errno, result, body, data, refusal, descriptor)

    def close(self) -> None:
        """Closes the control socket, by which the server ends the session unless it is resumed, and the
        descriptors that nobody has taken."""
        self._broken = self._broken or "the ring was closed"
        self._control.close()
        for this in self._tries.values():
            if this.passed >= 0:
                os.close(this.passed)
                this.passed = _NOTHING
        for reply in self._replies.values():
            reply.discard()

    def forget(self) -> None:
        """In a forked child: lets go of this process's copies of descriptors and memory. The server notices
        nothing as long as the parent holds its own. No call is possible any more."""
        self.close()
        self._broken = "the ring is the parent's"
        self._memory = self._arena = memoryview(b"")
        self._words = memoryview(bytes(HEADER_BYTES)).cast("Q")
        self._taken = self._submitted = 0
        self._tries.clear()
        self._replies.clear()

    @property
    def broken(self) -> bool:
        """Whether no completion will come any more."""
        return bool(self._broken)

    def doze(self) -> None:
        """Asks the server to ring the doorbell at its next completion. Then `fence`, look, poll(2), `rouse`."""
        self._words[CLIENT_SLEEPING] = 1

    def rouse(self) -> None:
        """The sleep is over."""
        self._words[CLIENT_SLEEPING] = 0

    def hear(self, readable: Container[int]) -> None:
        """Reads those of its descriptors that poll(2) found readable; the ring of a server that is gone is broken
        then, with all it published taken. MalformedError."""
        if self._doorbell.fileno() in readable:
            with suppress(BrokenError):  # remembered
                self._drain_doorbell()
        if not self._broken and self._control.fileno() in readable:
            self._watch()

    def _allocate(self, units: int) -> int:
        try:
            return self._free.allocate(units)
        except FullError:
            self._look()
            return self._free.allocate(units)

    def _look(self) -> None:
        """Before a ring is called full: what has come back, and does the server live? BrokenError."""
        self._watch()
        if self._broken:
            raise BrokenError(self._broken)

    def _watch(self) -> None:
        """Takes what has come back; if the server is gone, the ring is broken from then on. MalformedError."""
        self._next_look_s = self._clock.monotonic_s() + _LOOK_S
        self.collect()
        if self._hung_up():
            self.collect()  # what it published before it went
            self._broken = "the server closed the ring"

    def _passed_for(self, this: _Try, flags: int, failed: int) -> int:
        """The descriptor of a completion, or why there is none. MalformedError."""
        if flags not in (0, HAS_DESCRIPTOR):
            raise self._malformed(f"a completion with flags {flags}")
        if flags and this.passed == _NOTHING and not self._broken:
            self._hung_up()  # reads it; whether the server lives is another's question
        passed, this.passed = this.passed, _NOTHING
        if flags and passed != _NOTHING and not failed and OPERATIONS[this.opcode].carries_descriptor:
            return passed
        if passed >= 0:
            os.close(passed)
        if flags:
            raise self._malformed("a descriptor is announced that was not sent, or has no place there")
        return _NOTHING

    def _malformed(self, why: str) -> MalformedError:
        self._broken = f"the server broke the ring's rules: {why}"
        return MalformedError(why)

    def _wake_server(self) -> None:
        try:
            self._control.send(_WAKE, SEND_AT_ONCE)
        except OSError:
            return  # so many are pending that one more says nothing, or it died: `wait` looks for answers first

    def _await_tail(self, taken: int, deadline: float | None) -> bool:
        """Waits until the completion tail is not `taken`: True; False once `deadline` has passed."""
        words, now = self._words, self._clock.monotonic_s
        spin_end = now() + self._spin_s if self._spin_s and self._luck.holds() else 0.0
        while spin_end:
            for _ in range(_LOOKS_PER_CLOCK):
                if words[COMPLETION_TAIL] != taken:
                    self._luck.found()
                    return True
            if now() >= spin_end:
                self._luck.missed()
                break
        while True:
            words[CLIENT_SLEEPING] = 1
            fence()
            if words[COMPLETION_TAIL] != taken:
                words[CLIENT_SLEEPING] = 0
                return True
            left_s = None if deadline is None else deadline - now()
            if left_s is not None and left_s <= 0:
                words[CLIENT_SLEEPING] = 0
                return False
            # poll(2) rounds down to milliseconds: one more, or the last one is spent spinning.
            ready = self._poll.poll(None if left_s is None else int(left_s * 1000) + 1)
            words[CLIENT_SLEEPING] = 0
            for descriptor, _ in ready:
                if descriptor == self._doorbell.fileno():
                    self._drain_doorbell()
                elif self._hung_up() and words[COMPLETION_TAIL] == taken:
                    self._broken = "the server closed the ring"
                    raise BrokenError(self._broken)
            if words[COMPLETION_TAIL] != taken:
                return True

    def _drain_doorbell(self) -> None:
        # Another ring's byte may be swallowed here: harmless, its tail is looked at before sleeping on it. If
        # there are more than so many, the rest ends the next sleep.
        try:
            if self._doorbell.recv(256, socket.MSG_DONTWAIT):
                return
        except BlockingIOError:
            return
        except ConnectionError:
            pass
        # Nobody is left to ring it. The worker keeps a sending end so that this never happens.
        self._broken = "the doorbell has no sender"
        raise BrokenError(self._broken)

    def _hung_up(self) -> bool:
        """Reads the control socket: keeps descriptors for their tries. Whether the server is gone."""
        for _ in range(_DATAGRAMS_MAX):
            try:
                datagram, descriptors, flags = receive_descriptors(
                    self._control, PASSED_TAG.size, 1, socket.MSG_DONTWAIT
                )
            except BlockingIOError:
                return False
            except ConnectionError:
                continue  # said once (unix(7)); then comes what was sent before
            if not datagram:
                close_all(descriptors)
                return True
            self._keep(datagram, descriptors, flags)
        return False  # a server that floods the socket does not keep us here

    def _keep(self, datagram: bytes, descriptors: list[int], flags: int) -> None:
        """Remembers a descriptor for its try; closes what has no place."""
        this = None
        if len(datagram) == PASSED_TAG.size and not flags & socket.MSG_TRUNC:
            this = self._tries.get(PASSED_TAG.unpack(datagram)[0])
        cut = bool(flags & socket.MSG_CTRUNC)
        if this is None or this.passed != _NOTHING or cut == bool(descriptors):
            close_all(descriptors)
        else:
            this.passed = descriptors[0] if descriptors else _LOST
