"""The arena against a plain set of free pages: extents never overlap, read as zeros, and none is lost."""

import random
from collections.abc import Iterator

import pytest

from client_vm.arena import PAGE_BYTES, Arena, ArenaFullError

PAGES = 256


@pytest.fixture
def arena() -> Iterator[Arena]:
    arena = Arena(PAGES * PAGE_BYTES)
    yield arena
    arena.close()


def test_page_zero_is_never_handed_out(arena: Arena) -> None:
    with pytest.raises(ArenaFullError):
        arena.take(PAGES * PAGE_BYTES)
    assert arena.take((PAGES - 1) * PAGE_BYTES) == PAGE_BYTES
    with pytest.raises(ArenaFullError):
        arena.take(PAGE_BYTES)


@pytest.mark.parametrize("seed", range(4))
def test_extents_are_disjoint_zero_and_all_come_back(arena: Arena, seed: int) -> None:
    rng = random.Random(seed)
    free = set(range(1, PAGES))
    held: list[tuple[int, int]] = []

    def take(first: int, count: int) -> None:
        pages = set(range(first, first + count))
        assert pages <= free
        free.difference_update(pages)
        view = arena.bytes[first * PAGE_BYTES : (first + count) * PAGE_BYTES]
        assert not any(view[::512])
        view[:] = b"\xff" * len(view)
        held.append((first, count))

    for _ in range(1500):
        choice, count = rng.random(), rng.randint(1, 12)
        if choice < 0.45:
            try:
                take(arena.take(count * PAGE_BYTES) // PAGE_BYTES, count)
            except ArenaFullError:
                assert not any(set(range(at, at + count)) <= free for at in free)
        elif choice < 0.55 and held:
            after = sum(rng.choice(held))
            fits = set(range(after, after + count)) <= free and after - 1 not in free
            if arena.take_at(after * PAGE_BYTES, count * PAGE_BYTES):
                take(after, count)
            else:
                assert not fits
        elif held:
            first, size = held.pop(rng.randrange(len(held)))
            cut = rng.randint(0, size)  # an extent may come back in two parts, as munmap cuts it
            for at, length in ((first, cut), (first + cut, size - cut)):
                if length:
                    arena.give_back(at * PAGE_BYTES, length * PAGE_BYTES)
            free |= set(range(first, first + size))
    for first, size in held:
        arena.give_back(first * PAGE_BYTES, size * PAGE_BYTES)
    assert arena.take((PAGES - 1) * PAGE_BYTES) == PAGE_BYTES


def test_what_is_in_memory_of_a_large_extent() -> None:
    arena = Arena(4 << 30)
    offset = arena.take(3 << 30)
    touched = [offset, offset + 511 * PAGE_BYTES, offset + 600 * PAGE_BYTES, offset + (3 << 30) - PAGE_BYTES]
    for place in touched:
        arena.bytes[place] = 1
    runs = list(arena.resident_runs(offset, 3 << 30))
    assert runs == [(touched[0], 512), (touched[2], 512), (touched[3], 1)]
    assert list(arena.resident_runs(offset, PAGE_BYTES)) == [(offset, 1)]
    assert arena.residency(offset, 2 * PAGE_BYTES) == b"\1\0"
    arena.zero(offset, 3 << 30)
    assert not list(arena.resident_runs(offset, 3 << 30))
    nowhere = arena.take_nowhere(1 << 45)
    assert not list(arena.resident_runs(nowhere, 1 << 45))
    arena.close()
