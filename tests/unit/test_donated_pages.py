"""Private mappings of donated pages: the host's file until a page is stored to, the arena's zeros afterwards."""

import os
from pathlib import Path

import pytest

from client_vm.arena import PAGE_BYTES, Arena
from client_vm.cpu import READ, WRITE
from client_vm.mmu import AddressSpace, BusError
from client_vm.vma import Backing

BASE = 0x10_0000
PAGES = 4


class Mapped:
    """A file of PAGES pages, page n full of n + 1, mapped with a page more; what was asked of its backing."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "file"
        self.path.write_bytes(b"".join(bytes((page + 1,)) * PAGE_BYTES for page in range(PAGES)))
        self.size_bytes = PAGES * PAGE_BYTES
        self.reads = self.closed = 0
        self.space = AddressSpace(Arena(1 << 30), lambda _size_bytes: None)
        self.flushed = 0
        self.backing = Backing(
            self.fill, self.size_bytes, b"/file", 1, 1, self.close, self.donate(), self.donate, self.measure
        )
        self.space.map_file(BASE, (PAGES + 1) * PAGE_BYTES, READ | WRITE, self.backing, 0)
        self.backing.settle()
        self.space.flush_tlb = self.flush

    def donate(self) -> int:
        return os.open(self.path, os.O_RDONLY)

    def measure(self) -> int:
        return self.size_bytes

    def fill(self, offset: int, room: memoryview) -> int:
        self.reads += 1
        return 0

    def close(self) -> None:
        self.closed += 1

    def flush(self, _start: int, _end: int) -> None:
        self.flushed += 1

    def byte(self, address: int) -> int:
        return next(self.space.pieces(address, 1, READ))[0]

    def store(self, address: int, value: int) -> None:
        next(self.space.pieces(address, 1, WRITE))[0] = value


@pytest.fixture
def mapped(tmp_path: Path) -> Mapped:
    return Mapped(tmp_path)


def test_what_others_store_is_seen_until_the_page_is_a_copy(mapped: Mapped) -> None:
    assert [mapped.byte(BASE + page * PAGE_BYTES) for page in range(PAGES)] == [1, 2, 3, 4]
    mapped.store(BASE, 77)
    with mapped.path.open("r+b") as file:
        file.write(bytes((88,)) * 2 * PAGE_BYTES)
    assert (mapped.byte(BASE), mapped.byte(BASE + 1), mapped.byte(BASE + PAGE_BYTES)) == (77, 1, 88)
    assert mapped.path.read_bytes()[0] == 88 and mapped.reads == 0


def test_discarded_pages_are_the_files_again(mapped: Mapped) -> None:
    mapped.store(BASE + PAGE_BYTES, 77)
    mapped.space.discard(BASE, BASE + 2 * PAGE_BYTES)
    assert mapped.byte(BASE + PAGE_BYTES) == 2 and mapped.reads == 0


def test_parts_that_moved_apart_keep_their_pages_and_leave_zeros_behind(mapped: Mapped) -> None:
    mapped.store(BASE + PAGE_BYTES, 77)
    mapped.space.move(BASE + PAGE_BYTES, PAGE_BYTES, BASE + 32 * PAGE_BYTES)
    mapped.space.unmap(BASE + 2 * PAGE_BYTES, BASE + 3 * PAGE_BYTES)
    assert (mapped.byte(BASE), mapped.byte(BASE + 32 * PAGE_BYTES), mapped.byte(BASE + 3 * PAGE_BYTES)) == (
        1,
        77,
        4,
    )
    closed = [mapped.closed]
    mapped.space.clear()
    assert [*closed, mapped.closed] == [0, 1]
    arena = mapped.space.arena
    assert arena.bytes[arena.take(8 * PAGE_BYTES)] == 0
    assert not any(arena.bytes[PAGE_BYTES : 9 * PAGE_BYTES])


def test_a_file_that_became_shorter_is_noticed_once(mapped: Mapped) -> None:
    last = BASE + (PAGES - 1) * PAGE_BYTES
    assert mapped.space.translate(last, READ) is not None
    assert mapped.space.translate(last + PAGE_BYTES, READ) is None
    mapped.space.notice_cuts()
    flushed = [mapped.flushed]
    mapped.size_bytes -= PAGE_BYTES - 1
    assert mapped.space.translate(last, READ) is not None  # its first byte is still there
    mapped.size_bytes -= 1
    assert mapped.space.translate(last, READ) is None
    mapped.space.notice_cuts()
    flushed.append(mapped.flushed)
    mapped.space.notice_cuts()
    assert [*flushed, mapped.flushed] == [0, 1, 1]
    with pytest.raises(BusError):
        mapped.space.resolve(last, READ)
    assert list(mapped.space.pieces(last, 1, READ)) == []
    mapped.size_bytes += 1
    assert mapped.byte(last) == PAGES


def test_no_descriptor_is_kept(mapped: Mapped) -> None:
    assert mapped.backing.descriptor == -1
    before = len(os.listdir("/proc/self/fd"))
    mapped.space.map_file(BASE + 64 * PAGE_BYTES, PAGE_BYTES, READ, mapped.backing, PAGE_BYTES)
    mapped.backing.settle()
    assert mapped.byte(BASE + 64 * PAGE_BYTES) == 2  # donated once more: a mapping that grows
    assert len(os.listdir("/proc/self/fd")) == before
