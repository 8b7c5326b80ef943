"""Who is calling, for the n-th time; and the table that decides what a server does about it.

EXACTLY-ONCE: a session's slot holds one call at a time; seq n + 1 acknowledges n; a slot remembers the
last seq, its digest and its reply. Pure: no I/O, no clock.
"""

import enum
import hashlib
import zlib
from dataclasses import dataclass

from ipc.message import Buffer, Call

DIGEST_BYTES = 16


def digest(opcode: int, body: bytes, data: Buffer) -> bytes:
    """16 bytes over the operation, its encoded fields and the length and CRC-32 of its data.

    Finds a client that reuses an identity for another call; it is not authentication.
    """
    hasher = hashlib.blake2b(digest_size=DIGEST_BYTES)
    hasher.update(b"%d %d %d " % (opcode, len(data), zlib.crc32(data)))
    hasher.update(body)
    return hasher.digest()


@dataclass(slots=True)
class SlotState:
    """What a slot remembers: its last call, and whether that has a reply yet."""

    seq: int = 0
    digest: bytes = b""
    running: bool = False


class Arrival(enum.Enum):
    """What to do with a request that has an identity."""

    EXECUTE = enum.auto()
    REPLAY = enum.auto()
    """Answer with the stored reply."""
    WAIT = enum.auto()
    """The first copy still runs: answer with its reply when there is one."""
    STALE_SESSION = enum.auto()
    FALSE_RETRY = enum.auto()
    LATE = enum.auto()
    MISORDERED = enum.auto()


def arrival(slot: SlotState | None, seq: int, request_digest: bytes) -> Arrival:
    """The arrival table. `slot` is None if the session is unknown or expired."""
    if slot is None:
        return Arrival.STALE_SESSION
    if seq == slot.seq + 1:
        return Arrival.EXECUTE if not slot.running else Arrival.MISORDERED
    if seq > slot.seq:
        return Arrival.MISORDERED
    if seq < slot.seq:
        return Arrival.LATE
    if request_digest != slot.digest:
        return Arrival.FALSE_RETRY
    return Arrival.WAIT if slot.running else Arrival.REPLAY


def identify(call: Call, session: int, slot: int, seq: int) -> None:
    """Gives a call its identity, digest included."""
    call.session, call.slot, call.seq = session, slot, seq
    call.digest = digest(call.opcode, call.body, call.data)
