"""AddressSpace against a dictionary of pages: the same calls with fixed seeds, the same bytes and rights."""

import random
from dataclasses import dataclass, field

import pytest

from client_vm.abi.common import EIO, ENOMEM
from client_vm.arena import PAGE_BYTES, Arena
from client_vm.cpu import EXECUTE, READ, WRITE
from client_vm.errors import Errno
from client_vm.mmu import AddressSpace, BusError, OutOfMemoryError
from client_vm.vma import ADDRESS_MIN, FILL_BYTES, Backing

BASE = 0x10_0000
PAGES = 96
STEPS = 400


@dataclass
class Page:
    """What a page should hold: one byte value per page is enough to tell pages apart."""

    protection: int
    value: int
    backing: "File | None" = None
    offset: int = 0
    reserved: bool = False
    written: bool = False
    """Of a reserved page: whether it must be counted."""


@dataclass
class File:
    """A file whose page n is full of byte (seed + n) & 0xFF; counts how often it was closed."""

    seed: int
    pages: int
    closed: int = 0
    fills: list[int] = field(default_factory=list)

    def byte(self, offset: int) -> int:
        page = offset // PAGE_BYTES
        return (self.seed + page) & 0xFF if page < self.pages else 0

    def fill(self, offset: int, room: memoryview) -> int:
        self.fills.append(offset)
        for start in range(0, len(room), PAGE_BYTES):
            part = room[start : start + PAGE_BYTES]
            part[:] = bytes((self.byte(offset + start),)) * len(part)
        return len(room)

    def close(self) -> None:
        self.closed += 1

    def backing(self) -> Backing:
        return Backing(self.fill, self.pages * PAGE_BYTES, b"/file", 1, 1, self.close)


class Rig:
    """The space and its model side by side."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.arena = Arena(1 << 30)
        self.charged = 0
        self.space = AddressSpace(self.arena, self.charge)
        self.model: dict[int, Page] = {}
        self.files: list[File] = []

    def charge(self, size_bytes: int) -> None:
        self.charged += size_bytes
        assert self.charged >= 0

    def extent(self) -> tuple[int, int]:
        first = self.random.randrange(PAGES)
        return first, self.random.randint(1, min(24, PAGES - first))

    def address(self, page: int) -> int:
        return BASE + page * PAGE_BYTES

    def unmap(self, first: int, count: int) -> None:
        self.space.unmap(self.address(first), self.address(first + count))
        for page in range(first, first + count):
            self.model.pop(page, None)

    def map(self, first: int, count: int) -> None:
        self.unmap(first, count)
        protection = self.random.choice((READ, READ | WRITE, READ | EXECUTE, 0))
        if self.random.random() < 0.4:
            file = File(self.random.randrange(256), self.random.randint(1, 40))
            self.files.append(file)
            skip = self.random.randrange(20)
            self.space.map_file(
                self.address(first), count * PAGE_BYTES, protection, file.backing(), skip * PAGE_BYTES
            )
            for index in range(count):
                offset = (skip + index) * PAGE_BYTES
                self.model[first + index] = Page(protection, file.byte(offset), file, offset)
        else:
            reserved = self.random.random() < 0.4
            size_bytes = count * PAGE_BYTES
            self.space.map_anonymous(self.address(first), size_bytes, protection, reserved=reserved)
            for page in range(first, first + count):
                self.model[page] = Page(protection, 0, reserved=reserved)

    def protect(self, first: int, count: int) -> None:
        if any(page not in self.model for page in range(first, first + count)):
            return
        protection = self.random.choice((READ, READ | WRITE, READ | EXECUTE, 0))
        self.space.protect(self.address(first), self.address(first + count), protection)
        for page in range(first, first + count):
            self.model[page].protection = protection

    def write(self, first: int, count: int) -> None:
        value = self.random.randrange(1, 256)
        written = 0
        for view in self.space.pieces(self.address(first), count * PAGE_BYTES, WRITE):
            view[:] = bytes((value,)) * len(view)
            written += len(view)
        for page in range(first, first + written // PAGE_BYTES):
            self.model[page].value = value
            self.model[page].written = True
        after = first + written // PAGE_BYTES
        assert written % PAGE_BYTES == 0
        if after < first + count:
            assert not self.allowed(after, WRITE)

    def allowed(self, page: int, access: int) -> bool:
        found = self.model.get(page)
        if found is None or not found.protection & access:
            return False
        return found.backing is None or found.offset < found.backing.pages * PAGE_BYTES

    def move(self, first: int, count: int) -> None:
        target = PAGES + self.random.randrange(8) * 32
        if any(page not in self.model for page in range(first, first + count)):
            return
        self.space.unmap(self.address(target), self.address(target + count))
        for page in range(target, target + count):
            self.model.pop(page, None)
        self.space.move(self.address(first), count * PAGE_BYTES, self.address(target))
        for index in range(count):
            self.model[target + index] = self.model.pop(first + index)

    def discard(self, first: int, count: int) -> None:
        self.space.discard(self.address(first), self.address(first + count))
        for page in range(first, first + count):
            found = self.model.get(page)
            if found is not None:
                found.value = found.backing.byte(found.offset) if found.backing else 0
                found.written = False

    def compare(self) -> None:
        for page in range(PAGES + 300):
            address = self.address(page)
            for access in (READ, WRITE, EXECUTE):
                views = list(self.space.pieces(address, PAGE_BYTES, access)) if access != WRITE else None
                if views is not None:
                    assert bool(views) == self.allowed(page, access), (page, access)
                    if views:
                        assert bytes(views[0]) == bytes((self.model[page].value,)) * PAGE_BYTES, page
                found = self.space.translate(address, access)
                assert (found is not None) <= self.allowed(page, access)
                if found is not None:
                    assert found[1] & access and not (found[1] & WRITE and found[1] & EXECUTE)
        private = [page for page in self.model.values() if page.protection & WRITE and not page.reserved]
        counted = sum(vma.charged_bytes for vma in self.space.vmas if vma.reserved)
        assert self.charged == len(private) * PAGE_BYTES + counted
        written = [page for page in self.model.values() if page.reserved and page.written]
        assert len(written) * PAGE_BYTES <= counted
        assert counted <= sum(PAGE_BYTES for page in self.model.values() if page.reserved)
        starts = [vma.start for vma in self.space.vmas]
        assert starts == sorted(starts)
        assert all(low.end <= high.start for low, high in zip(self.space.vmas, self.space.vmas[1:], strict=False))


@pytest.mark.parametrize("seed", range(6))
def test_space_equals_its_model(seed: int) -> None:
    rig = Rig(seed)
    calls = (rig.map, rig.map, rig.unmap, rig.protect, rig.protect, rig.write, rig.write, rig.move, rig.discard)
    for step in range(STEPS):
        rig.random.choice(calls)(*rig.extent())
        if step % 40 == 0:
            rig.compare()
    rig.compare()
    rig.space.clear()
    assert rig.charged == 0 and rig.space.vmas == []
    assert [file.closed for file in rig.files] == [1] * len(rig.files)
    whole = rig.arena.size_bytes - PAGE_BYTES
    assert rig.arena.take(whole) == PAGE_BYTES  # nothing of the arena is lost
    rig.arena.close()


def test_a_private_write_stays_private_and_the_file_is_read_once_per_chunk() -> None:
    rig = Rig(0)
    file = File(7, 64)
    rig.space.map_file(BASE, FILL_BYTES * 2, READ | WRITE, file.backing(), 0)
    next(iter(rig.space.pieces(BASE, 1, WRITE)))[:] = b"x"
    assert bytes(next(iter(rig.space.pieces(BASE, 2, READ)))) == b"x\x07"
    assert file.fills == [0]


def test_beyond_the_file_is_a_bus_error() -> None:
    rig = Rig(0)
    file = File(1, 1)
    rig.space.map_file(BASE, 40 * PAGE_BYTES, READ, file.backing(), 0)
    assert rig.space.resolve(BASE, READ)
    with pytest.raises(BusError):
        rig.space.resolve(BASE + 20 * PAGE_BYTES, READ)
    assert list(rig.space.pieces(BASE + 20 * PAGE_BYTES, 1, READ)) == []


def test_a_stack_grows_to_its_floor_and_no_further() -> None:
    rig = Rig(0)
    floor, start, end = BASE, BASE + 8 * PAGE_BYTES, BASE + 10 * PAGE_BYTES
    rig.space.map_stack(floor, start, end, READ | WRITE)
    next(iter(rig.space.pieces(end - 1, 1, WRITE)))[:] = b"a"
    touched = BASE + 3 * PAGE_BYTES
    assert rig.space.translate(touched, WRITE) is None  # inside the emulator nothing grows
    assert rig.space.resolve(touched, WRITE) and rig.space.translate(touched, WRITE) is not None
    assert not rig.space.resolve(BASE + 2 * PAGE_BYTES, EXECUTE)
    assert rig.charged == 7 * PAGE_BYTES
    assert not rig.space.resolve(BASE - 1, WRITE)
    assert bytes(next(iter(rig.space.pieces(end - 1, 1, READ)))) == b"a"
    assert not rig.space.is_free(floor, floor + PAGE_BYTES)
    rig.space.clear()
    assert rig.charged == 0


def test_a_refused_charge_changes_nothing() -> None:
    rig = Rig(0)
    rig.space.map_anonymous(BASE, 4 * PAGE_BYTES, READ)

    def refuse(size_bytes: int) -> None:
        if size_bytes > 0:
            raise Errno(ENOMEM)

    rig.space.charge = refuse
    with pytest.raises(Errno):
        rig.space.map_anonymous(BASE + 0x10000, PAGE_BYTES, READ | WRITE)
    with pytest.raises(Errno):
        rig.space.protect(BASE, BASE + PAGE_BYTES, READ | WRITE)
    assert [(vma.start, vma.end, vma.protection) for vma in rig.space.vmas] == [
        (BASE, BASE + 4 * PAGE_BYTES, READ)
    ]


def test_reserved_memory_is_counted_by_the_chunk_when_it_is_stored_to() -> None:
    rig = Rig(0)
    rig.space.map_anonymous(BASE, 64 * FILL_BYTES, READ | WRITE, reserved=True)
    assert rig.charged == 0
    seen = rig.space.translate(BASE, READ)
    assert seen is not None and seen[1] == READ  # a store will ask again
    assert rig.space.translate(BASE, WRITE) is None
    assert rig.space.resolve(BASE, WRITE) and 0 < rig.charged <= FILL_BYTES
    assert rig.space.translate(BASE, WRITE) is not None and rig.space.translate(BASE, READ) == (
        rig.space.translate(BASE, WRITE)
    )
    rig.space.discard(BASE, BASE + 64 * FILL_BYTES)
    assert rig.charged == 0 and rig.space.translate(BASE, WRITE) is None

    def refuse(size_bytes: int) -> None:
        if size_bytes > 0:
            raise Errno(ENOMEM)

    rig.space.charge = refuse
    assert list(rig.space.pieces(BASE, 1, READ)) and not list(rig.space.pieces(BASE, 1, WRITE))
    with pytest.raises(OutOfMemoryError):
        rig.space.resolve(BASE, WRITE)


def test_what_is_out_of_reach_has_no_place_in_the_arena_until_it_is_within() -> None:
    rig = Rig(0)
    huge = 1 << 40
    rig.space.map_anonymous(BASE, huge, 0)
    assert list(rig.space.pieces(BASE, 1, READ)) == []
    for step in range(8):
        start = BASE + (step << 16)
        rig.space.protect(start, start + (1 << 16), READ | WRITE)
    assert len(rig.space.vmas) == 2 and rig.charged == 8 << 16
    next(iter(rig.space.pieces(BASE, 1, WRITE)))[:] = b"x"
    with pytest.raises(Errno) as full:
        rig.space.protect(BASE, BASE + huge, READ)
    assert full.value.errno == ENOMEM
    rig.space.discard(BASE, BASE + huge)
    assert bytes(next(iter(rig.space.pieces(BASE, 1, READ)))) == b"\0"
    rig.space.clear()
    assert rig.charged == 0
    assert rig.arena.take(rig.arena.size_bytes - PAGE_BYTES) == PAGE_BYTES
    rig.space.map_anonymous(BASE, huge, 0)


def test_an_rwx_page_is_one_or_the_other_and_flushes_when_it_turns() -> None:
    rig = Rig(0)
    flushed: list[str] = []
    rig.space.flush_code = lambda: flushed.append("code")
    rig.space.flush_tlb = lambda _start, _end: flushed.append("tlb")
    rig.space.map_anonymous(BASE, PAGE_BYTES, READ | WRITE | EXECUTE)
    written = rig.space.translate(BASE, WRITE)
    assert written is not None and written[1] == READ | WRITE
    assert rig.space.translate(BASE, EXECUTE) is None
    assert rig.space.resolve(BASE, EXECUTE) and flushed == ["code", "tlb"]
    executed = rig.space.translate(BASE, EXECUTE)
    assert executed is not None and executed[1] == READ | EXECUTE


def test_rights_to_execute_are_noticed_when_a_page_is_only_read() -> None:
    rig = Rig(0)
    flushed: list[str] = []
    rig.space.flush_code = lambda: flushed.append("code")
    rig.space.flush_tlb = lambda _start, _end: flushed.append("tlb")
    rig.space.map_anonymous(BASE, PAGE_BYTES, READ | WRITE | EXECUTE)
    seen = rig.space.translate(BASE, READ)
    assert seen is not None and seen[1] == READ | EXECUTE  # it may run without another question
    for _ in range(2):
        flushed.clear()
        assert rig.space.translate(BASE, EXECUTE) is not None
        assert list(rig.space.pieces(BASE, 1, WRITE))
        assert sorted(flushed) == ["code", "tlb"]
    flushed.clear()
    assert list(rig.space.pieces(BASE, 1, WRITE)) and not flushed  # nothing has run since
    assert rig.space.translate(BASE, EXECUTE) is not None
    rig.space.unmap(BASE, BASE + PAGE_BYTES)
    assert "code" in flushed and "tlb" in flushed


def test_a_moved_stack_loses_its_reserve_and_nothing_else() -> None:
    rig = Rig(0)
    end = BASE + 20 * PAGE_BYTES
    rig.space.map_stack(BASE, end - 2 * PAGE_BYTES, end, READ | WRITE)
    next(iter(rig.space.pieces(end - 1, 1, WRITE)))[:] = b"s"
    target = BASE + (1 << 20)
    rig.space.move(end - 2 * PAGE_BYTES, 2 * PAGE_BYTES, target)
    assert bytes(next(iter(rig.space.pieces(target + 2 * PAGE_BYTES - 1, 1, READ)))) == b"s"
    assert not rig.space.resolve(target - 1, WRITE)
    rig.space.clear()
    assert rig.charged == 0
    assert rig.arena.take(rig.arena.size_bytes - PAGE_BYTES) == PAGE_BYTES


def test_a_read_only_stack_grows_without_charge() -> None:
    rig = Rig(0)
    end = BASE + 20 * PAGE_BYTES
    rig.space.map_stack(BASE, end - PAGE_BYTES, end, READ | WRITE)
    rig.space.protect(end - PAGE_BYTES, end, READ)
    assert rig.charged == 0
    assert not rig.space.resolve(end - 3 * PAGE_BYTES, WRITE)
    assert rig.space.resolve(end - 3 * PAGE_BYTES, READ) and rig.charged == 0
    rig.space.protect(end - 3 * PAGE_BYTES, end, READ | WRITE)
    assert rig.charged == 3 * PAGE_BYTES
    rig.space.clear()
    assert rig.charged == 0


def test_a_server_that_fails_to_close_stops_no_unmapping() -> None:
    rig = Rig(0)
    file = File(1, 4)

    def close() -> None:
        file.close()
        raise Errno(EIO)

    backing = file.backing()
    backing.close = close
    rig.space.map_file(BASE, 4 * PAGE_BYTES, READ | WRITE, backing, 0)
    rig.space.unmap(BASE, BASE + 4 * PAGE_BYTES)
    assert (file.closed, rig.charged, rig.space.vmas) == (1, 0, [])
    assert rig.arena.take(rig.arena.size_bytes - PAGE_BYTES) == PAGE_BYTES


@pytest.mark.parametrize("seed", range(4))
def test_free_ranges_are_the_highest(seed: int) -> None:
    """Against a search through every page, hints and unmappings in between."""
    rng = random.Random(seed)
    space = Rig(seed).space
    top = BASE + 120 * PAGE_BYTES
    space.map_stack(top + 8 * PAGE_BYTES, top + 16 * PAGE_BYTES, top + 17 * PAGE_BYTES, READ)
    used: set[int] = set()
    low = ADDRESS_MIN // PAGE_BYTES
    for _ in range(600):
        size = rng.randint(1, 6)
        if used and rng.random() < 0.4:
            first = rng.choice(sorted(used))
            space.unmap(first * PAGE_BYTES, (first + size) * PAGE_BYTES)
            used -= set(range(first, first + size))
            continue
        want = top // PAGE_BYTES - size
        while want >= low and not used.isdisjoint(range(want, want + size)):
            want -= 1
        if want < low:
            with pytest.raises(Errno) as full:
                space.free_range(size * PAGE_BYTES, 0, top)
            assert full.value.errno == ENOMEM
            continue
        start = space.free_range(size * PAGE_BYTES, 0, top)
        assert start == want * PAGE_BYTES
        space.map_anonymous(start, size * PAGE_BYTES, READ)
        used |= set(range(want, want + size))
