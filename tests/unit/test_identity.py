"""The arrival table, row by row, and what the digest covers."""

import pytest

from ipc.identity import DIGEST_BYTES, Arrival, SlotState, arrival, digest, identify
from ipc.message import Call

MINE, OTHER = b"m" * DIGEST_BYTES, b"o" * DIGEST_BYTES


@pytest.mark.parametrize(
    ("slot", "seq", "request_digest", "verdict"),
    [
        (None, 1, MINE, Arrival.STALE_SESSION),
        (SlotState(), 1, MINE, Arrival.EXECUTE),
        (SlotState(), 2, MINE, Arrival.MISORDERED),
        (SlotState(4, MINE), 4, MINE, Arrival.REPLAY),
        (SlotState(4, MINE, running=True), 4, MINE, Arrival.WAIT),
        (SlotState(4, MINE), 4, OTHER, Arrival.FALSE_RETRY),
        (SlotState(4, MINE, running=True), 4, OTHER, Arrival.FALSE_RETRY),
        (SlotState(4, MINE), 5, OTHER, Arrival.EXECUTE),
        (SlotState(4, MINE, running=True), 5, OTHER, Arrival.MISORDERED),
        (SlotState(4, MINE), 3, MINE, Arrival.LATE),
        (SlotState(4, MINE), 6, MINE, Arrival.MISORDERED),
    ],
)
def test_arrival_table(slot: SlotState | None, seq: int, request_digest: bytes, verdict: Arrival) -> None:
    assert arrival(slot, seq, request_digest) is verdict


def test_digest_tells_calls_apart() -> None:
    base = digest(103, b"body", b"data")
    assert len(base) == DIGEST_BYTES
    assert base == digest(103, b"body", memoryview(bytearray(b"data")))
    others = {
        digest(104, b"body", b"data"),
        digest(103, b"bodz", b"data"),
        digest(103, b"body", b"datb"),
        digest(103, b"body", b""),
        digest(103, b"bodydata", b""),
        digest(103, b"", b"data"),
    }
    assert len(others) == 6 and base not in others


def test_digest_is_the_same_in_every_release() -> None:
    """Slot rows outlive servers: a changed digest would make every retry a false one."""
    assert digest(103, bytes(24), b"hello").hex() == "b731bea96671379c58998ab6d2435de3"


def test_identify_gives_all_four() -> None:
    call = Call(103, bytes(24), b"hello")
    identify(call, 9, 2, 5)
    assert (call.session, call.slot, call.seq) == (9, 2, 5)
    assert call.digest == digest(103, bytes(24), b"hello")
