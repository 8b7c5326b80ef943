"""One ring, as the server that serves it sees it: entries checked and executed, replies published.

A reply's descriptor goes over the control socket (SCM_RIGHTS, beside the try's tag) before the completion that
announces it is published, so a client that sees the announcement finds it there.
"""

import errno as errno_codes
import logging
import os
import socket
from functools import partial
from typing import Final

from farcall.v1.session_pb2 import REFUSAL_MALFORMED, REFUSAL_OVERLOADED
from ipc.endpoint import Endpoint, Peer
from ipc.limits import BODY_BYTES_MAX, DATA_BYTES_MAX, RING_ENTRIES
from ipc.message import Call, MalformedError, Reply
from ipc.passing import SEND_AT_ONCE, send_descriptors
from ipc.ring_layout import (
    ARENA_OFFSET,
    BODY_LENGTH,
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
    UNIT_BYTES,
    UNIT_SHIFT,
    write_header,
)
from ipc.seams import Clock
from ipc.shared_memory import create_sealed, fence, map_sealed, order

log = logging.getLogger(__name__)

_ARENA_BYTES: Final = RING_BYTES - ARENA_OFFSET
_NOT_PASSED: Final = frozenset(
    (
        errno_codes.EAGAIN,  # the client does not take what was sent before
        errno_codes.ENOBUFS,
        errno_codes.ENOMEM,
        errno_codes.ETOOMANYREFS,  # too many descriptors of this user are under way (unix(7))
        errno_codes.EPIPE,  # it is gone: nobody reads the reply either
        errno_codes.ECONNRESET,
    )
)
"""What the world may do to a descriptor on its way. Anything else is a bug, as a descriptor that is none."""


class ServedRing:
    """One client's ring, as the server sees it. Sizes, masks and counts are private memory."""

    __slots__ = (
        "_arena", "_endpoint", "_memory", "_seen", "_tags", "_tail", "_words",
        "closed", "control", "doorbell", "memfd", "peer", "session",
    )  # fmt: skip

    def __init__(
        self, endpoint: Endpoint, session: int, peer: Peer, control: socket.socket, doorbell: socket.socket
    ) -> None:
        self.session, self.peer = session, peer
        self.control, self.doorbell = control, doorbell
        self.closed = False
        self._endpoint = endpoint
        self.memfd = create_sealed("farcall-ring", RING_BYTES)
        try:
            self._memory = map_sealed(self.memfd, RING_BYTES)
        except OSError:
            os.close(self.memfd)
            raise
        self._words = self._memory[:HEADER_BYTES].cast("Q")
        self._arena = self._memory[ARENA_OFFSET:]
        write_header(self._memory, session)
        # A pump that sleeps already must hear of this ring's first call.
        self._words[SERVER_SLEEPING] = 1
        self._seen = 0
        self._tail = 0
        self._tags: set[int] = set()

    def serve(self, clock: Clock, turn_end: float) -> bool:
        """Executes published calls until there is none or the clock passes `turn_end`; False if none was.

        MalformedError.
        """
        tail = self._words[SUBMISSION_TAIL]
        seen = self._seen
        if tail == seen:
            return False
        if order is not None:
            order()
        if not 0 < tail - seen <= RING_ENTRIES:
            raise MalformedError(f"{tail - seen} calls in a ring of {RING_ENTRIES}")
        while True:
            self._seen = seen + 1
            self._accept(SUBMISSIONS_OFFSET + ((seen & ENTRY_MASK) << 6))
            seen += 1
            if seen == tail or self.closed or clock.monotonic_s() >= turn_end:
                return True

    def _accept(self, offset: int) -> None:
        """Copies one entry out, checks it, executes it."""
        opcode, slot, tag, seq, digest, fields, unit, room_units, data_bytes = SUBMISSION.unpack_from(
            self._memory, offset
        )
        packed = PACKED_OPCODES.get(opcode)
        if packed is None:
            raise MalformedError(f"opcode {opcode}")
        if tag in self._tags:
            raise MalformedError(f"tag {tag} is in use")
        if len(self._tags) >= RING_ENTRIES:
            raise MalformedError(f"more than {RING_ENTRIES} calls in flight")
        start = unit << UNIT_SHIFT
        body_start = start + data_bytes
        room_bytes = room_units << UNIT_SHIFT
        if packed:
            body, body_bytes, body_room = fields, 0, 0
        else:
            body_bytes, zero, zero_too = BODY_LENGTH.unpack(fields)
            body, body_room = b"", BODY_BYTES_MAX
            if body_bytes > BODY_BYTES_MAX or zero or zero_too or room_bytes < body_room:
                raise MalformedError("a body breaks its limits")
        room = (body_start + body_bytes + UNIT_BYTES - 1) & -UNIT_BYTES
        data_room = room_bytes - body_room
        if data_bytes > DATA_BYTES_MAX or room + room_bytes > _ARENA_BYTES:
            raise MalformedError("a piece reaches beyond the arena or its limit")
        arena = self._arena
        if body_bytes:
            body = bytes(arena[body_start : body_start + body_bytes])
        call = Call(
            opcode, body, arena[start:body_start] if data_bytes else b"",
            self.session, slot, seq, digest if seq else b"",
        )  # fmt: skip
        self._tags.add(tag)
        self._endpoint.submit(
            call, self.peer, partial(self._complete, tag, room, data_room, body_room),
            arena[room : room + data_room] if data_room else None,
        )  # fmt: skip

    def _complete(self, tag: int, room: int, data_room: int, body_room: int, reply: Reply) -> None:
        """Publishes a reply. May come long after the ring's end: then it goes nowhere."""
        if self.closed:
            reply.discard()
            return
        self._tags.remove(tag)  # KeyError: the endpoint completed a call twice
        flags = 0
        if reply.descriptor >= 0:
            reply, flags = self._pass_descriptor(tag, reply)
        data, body = reply.data, reply.body
        data_bytes, body_bytes = len(data), len(body)
        errno, refusal, result = reply.errno, reply.refusal, reply.result
        if data_bytes > data_room or body_bytes > body_room:
            # It asked for more than it made room for.
            log.warning(
                "session %d: a reply of %d + %d bytes for a room of %d + %d",
                self.session, data_bytes, body_bytes, data_room, body_room,
            )  # fmt: skip
            data_bytes = body_bytes = errno = result = flags = 0
            refusal = REFUSAL_MALFORMED
        if data_bytes:
            # Costs nothing if the endpoint filled its room: memmove onto itself.
            self._arena[room : room + data_bytes] = data
        if body_bytes:
            body_start = room + data_bytes
            self._arena[body_start : body_start + body_bytes] = body
        tail = self._tail
        COMPLETION.pack_into(
            self._memory, COMPLETIONS_OFFSET + ((tail & ENTRY_MASK) << 5),
            tag, errno, refusal, result, data_bytes, body_bytes, flags,
        )  # fmt: skip
        self._tail = tail + 1
        words = self._words
        if order is not None:
            order()
        words[COMPLETION_TAIL] = tail + 1
        fence()
        if words[CLIENT_SLEEPING]:
            words[CLIENT_SLEEPING] = 0
            self._wake_client()

    def _pass_descriptor(self, tag: int, reply: Reply) -> tuple[Reply, int]:
        """Sends the reply's descriptor ahead; (what to publish, its flags).

        If it cannot be sent the reply becomes OVERLOADED: its operation is PURE, so asking again is harmless.
        """
        assert not reply.errno and not reply.refusal, "a descriptor beside a reply that failed"
        try:
            send_descriptors(self.control, [PASSED_TAG.pack(tag)], [reply.descriptor], socket.MSG_DONTWAIT)
        except OSError as error:
            if error.errno not in _NOT_PASSED:
                raise
            log.info("session %d: a descriptor was not passed: %s", self.session, error)
            return Reply(refusal=REFUSAL_OVERLOADED), 0
        finally:
            reply.discard()
        return reply, HAS_DESCRIPTOR

    def _wake_client(self) -> None:
        try:
            self.doorbell.send(b"\0", SEND_AT_ONCE)
        except BlockingIOError:
            pass  # so many wake-ups are pending that one more says nothing
        except OSError as error:
            # It dies: its control socket will say so.
            log.info("session %d: doorbell: %s", self.session, error)

    def set_sleeping(self, sleeping: int) -> None:
        self._words[SERVER_SLEEPING] = sleeping

    def pending(self) -> bool:
        return bool(self._words[SUBMISSION_TAIL] != self._seen)

    def close(self) -> None:
        """Lets go of everything but the memory, which lasts until its last view is gone."""
        self.closed = True
        self.control.close()
        self.doorbell.close()
        self.close_memfd()

    def close_memfd(self) -> None:
        if self.memfd >= 0:
            os.close(self.memfd)
            self.memfd = -1
