"""Calls and completions in the frames of CarrierService.Carry, and the bounds of a stream.

A frame is a CarryRequest or CarryResponse. Its sender fills it with whatever is queued, up to BATCH_CALLS_MAX
entries and FRAME_BYTES_MAX bytes; one call of the largest size always fits.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

from google.protobuf.message import DecodeError, Message

from farcall.v1 import session_pb2
from ipc.identity import DIGEST_BYTES
from ipc.limits import BATCH_CALLS_MAX, BODY_BYTES_MAX, DATA_BYTES_MAX
from ipc.message import PACKED, Call, MalformedError, Reply
from ipc.operations import OPERATIONS

M = TypeVar("M", bound=Message)

ENTRY_OVERHEAD_BYTES: Final = 128
"""No less than what one call or completion needs beside body and data, encoded."""
FRAME_BYTES_MAX: Final = DATA_BYTES_MAX + BODY_BYTES_MAX + ENTRY_OVERHEAD_BYTES
STREAM_CALLS_MAX: Final = 4 * BATCH_CALLS_MAX
"""Calls of one stream that its server executes at a time; more are answered OVERLOADED."""
STREAM_BYTES_MAX: Final = 64 * DATA_BYTES_MAX
"""Bodies and data of those calls."""
BACKLOG_BYTES_MAX: Final = 8 * DATA_BYTES_MAX
"""Completions that wait to be sent before the server takes no further call from that stream."""
ERRNO_MAX: Final = 4095
SLOT_NUMBER_MAX: Final = 65535

_PACKED_OPCODES: Final = frozenset(op.opcode for op in OPERATIONS.values() if op.packed)


def check_call(call: Call) -> None:
    """MalformedError if a call breaks a limit that every carrier keeps."""
    if len(call.body) > BODY_BYTES_MAX:
        raise MalformedError(f"a body of {len(call.body)} bytes; the limit is {BODY_BYTES_MAX}")
    if len(call.data) > DATA_BYTES_MAX:
        raise MalformedError(f"data of {len(call.data)} bytes; the limit is {DATA_BYTES_MAX}")
    if call.slot > SLOT_NUMBER_MAX:
        raise MalformedError(f"slot {call.slot}; the limit is {SLOT_NUMBER_MAX}")
    if len(call.digest) not in (0, DIGEST_BYTES):
        raise MalformedError(f"a digest of {len(call.digest)} bytes")
    if call.opcode in _PACKED_OPCODES and len(call.body) != PACKED.size:
        raise MalformedError(f"a packed body of {len(call.body)} bytes")


def call_size(call: Call) -> int:
    """Bytes that a call takes in a frame, at most."""
    return ENTRY_OVERHEAD_BYTES + len(call.body) + len(call.data)


def reply_size(reply: Reply) -> int:
    """Bytes that a completion takes in a frame, at most."""
    return ENTRY_OVERHEAD_BYTES + len(reply.body) + len(reply.data)


def add_call(frame: session_pb2.CarryRequest, tag: int, call: Call) -> None:
    """Appends a call to a frame."""
    entry = frame.calls.add(tag=tag, opcode=call.opcode, body=call.body)
    identity = entry.identity
    identity.session = call.session
    if call.slot:
        identity.slot = call.slot
    if call.seq:
        identity.seq = call.seq
        identity.digest = call.digest
    if len(call.data):
        entry.data = call.data if type(call.data) is bytes else bytes(call.data)


def entry_to_call(entry: session_pb2.Call) -> Call:
    """The call of a frame's entry, unchecked."""
    identity = entry.identity
    return Call(
        entry.opcode, entry.body, entry.data, identity.session, identity.slot, identity.seq, identity.digest
    )


def add_completion(frame: session_pb2.CarryResponse, tag: int, reply: Reply) -> None:
    """Appends a completion to a frame. Its data must be bytes."""
    frame.completions.add(
        tag=tag,
        errno=reply.errno,
        refusal=reply.refusal,
        result=reply.result,
        body=reply.body,
        data=reply.data,
    )


def entry_to_reply(entry: session_pb2.Completion) -> Reply:
    """The reply of a frame's entry. MalformedError if it breaks a limit."""
    if not 0 <= entry.errno <= ERRNO_MAX:
        raise MalformedError(f"errno {entry.errno}")
    reply = Reply(entry.errno, entry.result, entry.body, entry.data, entry.refusal)
    if len(reply.data) > DATA_BYTES_MAX or len(reply.body) > BODY_BYTES_MAX:
        raise MalformedError(f"a reply of {len(reply.body)} + {len(reply.data)} bytes")
    return reply


def parse(message: type[M], body: bytes) -> M:
    """A received message. MalformedError if it is none."""
    try:
        return message.FromString(body)
    except DecodeError as error:
        raise MalformedError(f"{message.__name__}: {error}") from None


def parse_request(frame: bytes) -> session_pb2.CarryRequest:
    """A received frame of calls. MalformedError if it is none, or holds too many."""
    request = parse(session_pb2.CarryRequest, frame)
    if len(request.calls) > BATCH_CALLS_MAX:
        raise MalformedError(f"{len(request.calls)} calls in a frame; the limit is {BATCH_CALLS_MAX}")
    return request


class FrameWriter:
    """Sends queued items in frames: whatever came while the last frame was on its way makes the next one.

    `put` at any time, followed by `wake` within the loop, where `run` is a task, if it says so.
    """

    def __init__(
        self,
        frame: Callable[[], Any],
        add: Callable[[Any, int, Any], None],
        size: Callable[[Any], int],
        write: Callable[[bytes], Awaitable[None]],
    ) -> None:
        self._frame = frame
        self._add = add
        self._size = size
        self._write = write
        self._items: deque[tuple[int, Any, int]] = deque()
        """(tag, item, size)."""
        self._ready = asyncio.Event()
        self._ending = False
        self.unsent_bytes = 0
        """By `size`, of every item that was put and is not written yet."""

    def put(self, tag: int, item: Any) -> bool:
        """Whether `wake` is to follow: items that were put before are not seen to already."""
        items = self._items
        size_bytes = self._size(item)
        self.unsent_bytes += size_bytes
        items.append((tag, item, size_bytes))
        return len(items) == 1

    def wake(self) -> None:
        self._ready.set()

    def end(self) -> None:
        """Lets `run` return once all is sent."""
        self._ending = True
        self._ready.set()

    async def run(self, sent: Callable[[], None] | None = None) -> None:
        """Sends until `end`; calls `sent` after each frame. Passes on what `write` raises."""
        while True:
            while self._items:
                frame, size_bytes = self._fill()
                await self._write(frame)
                self.unsent_bytes -= size_bytes
                if sent is not None:
                    sent()
            if self._ending:
                return
            self._ready.clear()
            if not self._items:
                await self._ready.wait()

    def _fill(self) -> tuple[bytes, int]:
        frame, items, add = self._frame(), self._items, self._add
        total_bytes = 0
        for _ in range(min(len(items), BATCH_CALLS_MAX)):
            tag, item, size_bytes = items[0]
            if total_bytes and total_bytes + size_bytes > FRAME_BYTES_MAX:
                break
            items.popleft()
            add(frame, tag, item)
            total_bytes += size_bytes
        return frame.SerializeToString(), total_bytes
