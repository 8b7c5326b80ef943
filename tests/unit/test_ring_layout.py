"""The arena's allocator against a model that knows every unit."""

import random

import pytest

from ipc.endpoint import FullError
from ipc.limits import RING_ARENA_BYTES, RING_ENTRIES
from ipc.message import MalformedError
from ipc.ring_layout import (
    ARENA_OFFSET,
    ARENA_UNITS,
    COMPLETION,
    COMPLETIONS_OFFSET,
    HEADER_BYTES,
    RING_BYTES,
    SUBMISSION,
    SUBMISSIONS_OFFSET,
    Arena,
    read_header,
    write_header,
)

SEED = 11


def test_one_call_in_flight_always_uses_the_same_lines() -> None:
    arena = Arena()
    for units in (1, 64, 1025, ARENA_UNITS):
        assert arena.allocate(units) == 0
        arena.free(0, units)


@pytest.mark.parametrize("seed", range(SEED, SEED + 5))
def test_pieces_never_overlap_and_nothing_is_lost(seed: int) -> None:
    dice = random.Random(seed)
    units_all = 256
    arena, used = Arena(units_all), [False] * units_all
    pieces: list[tuple[int, int]] = []
    refused = 0
    for _ in range(3000):
        if pieces and (dice.random() < 0.5 or len(pieces) == RING_ENTRIES):
            start, units = pieces.pop(dice.randrange(len(pieces)))
            used[start : start + units] = [False] * units
            arena.free(start, units)
            continue
        units = dice.choice([1, 2, 3, 17, 60])
        try:
            start = arena.allocate(units)
        except FullError:
            refused += 1
            gaps = "".join("u" if unit else "f" for unit in used).split("u")
            assert max(map(len, gaps)) < units
            continue
        assert not any(used[start : start + units])
        used[start : start + units] = [True] * units
        pieces.append((start, units))
    assert refused > 50
    for start, units in pieces:
        arena.free(start, units)
    assert arena.allocate(units_all) == 0


def test_header_round_trip_and_damage() -> None:
    memory = memoryview(bytearray(HEADER_BYTES))
    write_header(memory, (1 << 64) - 1)
    assert read_header(memory) == (1 << 64) - 1
    for offset in (0, 8, 12, 16, 20, 24, 28):
        memory[offset] ^= 1
        with pytest.raises(MalformedError):
            read_header(memory)
        memory[offset] ^= 1


def test_areas_do_not_overlap() -> None:
    assert SUBMISSIONS_OFFSET + RING_ENTRIES * SUBMISSION.size <= COMPLETIONS_OFFSET
    assert COMPLETIONS_OFFSET + RING_ENTRIES * COMPLETION.size <= ARENA_OFFSET
    assert ARENA_OFFSET + RING_ARENA_BYTES == RING_BYTES
