"""Where everything lies in a ring, and who may write it. Pure: no I/O.

    header       4096 bytes   magic, layout version, sizes; four words, each on a cache line of its own
    submissions  64 x 64      written by the client
    completions  64 x 32      written by the server
    arena        4 MiB        pieces handed out by the client

Only tails are shared. A client never has more than RING_ENTRIES calls whose completion it has not taken, so
neither side needs the other's head, and none can lie about one.

A piece of the arena belongs to one try until its completion: data, then body (unpacked operations), then,
from the next 64-byte boundary, the room for the reply: data, then BODY_BYTES_MAX for the body if the
operation is unpacked.
"""

import struct
from bisect import bisect_left
from typing import Final

from ipc.endpoint import FullError
from ipc.limits import BODY_BYTES_MAX, DATA_BYTES_MAX, RING_ARENA_BYTES, RING_ENTRIES
from ipc.message import MalformedError
from ipc.operations import OPERATIONS

MAGIC: Final = int.from_bytes(b"farcall\0", "little")
LAYOUT_VERSION: Final = 1

# Indexes of uint64 words in the header; 128 bytes apart, for processors fetch cache lines in pairs.
SUBMISSION_TAIL: Final = 16
"""Calls submitted so far. Written by the client."""
COMPLETION_TAIL: Final = 32
"""Calls completed so far. Written by the server."""
SERVER_SLEEPING: Final = 48
"""Set by the server before it sleeps; who wakes it clears the word, then sends a byte."""
CLIENT_SLEEPING: Final = 64
"""Set by the client before it sleeps; likewise."""

HEADER: Final = struct.Struct("<QIIIIIIQ")
"""magic, layout version, entries, offsets of submissions, completions and arena, arena bytes, session."""
SUBMISSION: Final = struct.Struct("<HHIQ16s24sHHI")
"""opcode, slot, tag, seq, digest, fields, piece (units), room (units), data bytes.

`fields` is the body of a packed operation; otherwise the length of the body, then 16 zero bytes. No session:
a ring has one, fixed at Hello."""
COMPLETION: Final = struct.Struct("<IHHQIIQ")
"""tag, errno, refusal, result, data bytes, body bytes, flags."""
HAS_DESCRIPTOR: Final = 1
"""Flag of a completion whose descriptor was sent over the control socket before it was published."""
PASSED_TAG: Final = struct.Struct("<I")
"""The datagram that carries it: the completion's tag."""
BODY_LENGTH: Final = struct.Struct("<QQQ")
"""`fields` of an unpacked operation."""

UNIT_BYTES: Final = 64
"""Pieces of the arena begin and are counted in cache lines."""
UNIT_SHIFT: Final = 6

HEADER_BYTES: Final = 4096
SUBMISSIONS_OFFSET: Final = HEADER_BYTES
COMPLETIONS_OFFSET: Final = SUBMISSIONS_OFFSET + RING_ENTRIES * SUBMISSION.size
ARENA_OFFSET: Final = (COMPLETIONS_OFFSET + RING_ENTRIES * COMPLETION.size + 4095) & ~4095
RING_BYTES: Final = ARENA_OFFSET + RING_ARENA_BYTES
ENTRY_MASK: Final = RING_ENTRIES - 1
ARENA_UNITS: Final = RING_ARENA_BYTES >> UNIT_SHIFT
BODY_UNITS: Final = BODY_BYTES_MAX >> UNIT_SHIFT
TAG_MASK: Final = (1 << 32) - 1

PACKED_OPCODES: Final = {opcode: operation.packed for opcode, operation in OPERATIONS.items()}

# What the encoding above rests on.
assert SUBMISSION.size == 64
assert COMPLETION.size == 32
assert RING_ENTRIES & ENTRY_MASK == 0
assert 1 << UNIT_SHIFT == UNIT_BYTES
assert BODY_BYTES_MAX % UNIT_BYTES == 0
assert RING_ARENA_BYTES % UNIT_BYTES == 0
assert ARENA_UNITS <= 1 << 16
assert 2 * (DATA_BYTES_MAX + BODY_BYTES_MAX) + UNIT_BYTES <= RING_ARENA_BYTES

_SIZES: Final = (RING_ENTRIES, SUBMISSIONS_OFFSET, COMPLETIONS_OFFSET, ARENA_OFFSET, RING_ARENA_BYTES)


def write_header(memory: memoryview, session: int) -> None:
    """Makes zeroed memory a ring of that session."""
    HEADER.pack_into(memory, 0, MAGIC, LAYOUT_VERSION, *_SIZES, session)


def read_header(memory: memoryview) -> int:
    """The session of a ring. MalformedError if it is none, or laid out otherwise than here."""
    magic, version, *sizes, session = HEADER.unpack_from(memory, 0)
    if magic != MAGIC:
        raise MalformedError("the memory is no ring")
    if version != LAYOUT_VERSION or tuple(sizes) != _SIZES:
        raise MalformedError(f"the ring has layout {version} with sizes {sizes}")
    return int(session)


class Arena:
    """Which units of the arena are free. The client's own state: the server never sees it.

    First fit, lowest address: one call in flight always uses the same, cached, lines.
    """

    __slots__ = ("_sizes", "_starts")

    def __init__(self, units: int = ARENA_UNITS) -> None:
        # Holes by ascending start; neighbours are always merged.
        self._starts = [0]
        self._sizes = [units]

    def allocate(self, units: int) -> int:
        """The first unit of a piece of that many (>= 1). FullError."""
        starts, sizes = self._starts, self._sizes
        for index, size in enumerate(sizes):
            if size < units:
                continue
            start = starts[index]
            if size == units:
                del starts[index], sizes[index]
            else:
                starts[index] = start + units
                sizes[index] = size - units
            return start
        raise FullError(f"no {units} free units in the ring's arena")

    def free(self, start: int, units: int) -> None:
        """Gives a piece back, exactly as it was allocated."""
        starts, sizes = self._starts, self._sizes
        index = bisect_left(starts, start)
        end = start + units
        joins_next = index < len(starts) and starts[index] == end
        if index and starts[index - 1] + sizes[index - 1] == start:
            sizes[index - 1] += units
            if joins_next:
                sizes[index - 1] += sizes[index]
                del starts[index], sizes[index]
        elif joins_next:
            starts[index] = start
            sizes[index] += units
        else:
            starts.insert(index, start)
            sizes.insert(index, units)
