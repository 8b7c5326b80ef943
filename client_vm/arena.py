"""The guest's physical memory: one huge private mapping of which extents are handed out.

Offsets are what the page table maps to. A freed extent reads as zeros when it is handed out again. Behind the
mapping lie offsets that no memory belongs to, for address space that a guest only keeps free of anything else.
"""

from bisect import bisect_left
from collections.abc import Iterator
from typing import Final

from client_vm import host

PAGE_BYTES: Final = 4096
ARENA_BYTES: Final = 1 << 46
"""Virtual, not reserved: pages come to life when touched. Half of a process's address space, and no slower to
make, to fork or to end than a small one."""
NOWHERE_BYTES: Final = 1 << 50
"""More than a guest has addresses."""

_LOOKED_AT_BYTES: Final = 1 << 30
"""At once, of what may be as large as the arena."""
_RUN_PAGES: Final = 512


class ArenaFullError(Exception):
    """No extent of that size is left; ENOMEM for the guest."""


class _Extents:
    """What is free of a range, first fit. Sizes and offsets are multiples of PAGE_BYTES."""

    def __init__(self, start: int, end: int) -> None:
        self._free: list[tuple[int, int]] = [(start, end)]  # sorted (start, end)

    def take(self, size_bytes: int) -> int:
        for index, (start, end) in enumerate(self._free):
            if end - start >= size_bytes:
                self._shrink(index, start + size_bytes, end)
                return start
        raise ArenaFullError

    def take_at(self, offset: int, size_bytes: int) -> bool:
        index = bisect_left(self._free, (offset + 1,)) - 1
        if index < 0:
            return False
        start, end = self._free[index]
        if start != offset or end < offset + size_bytes:
            return False
        self._shrink(index, offset + size_bytes, end)
        return True

    def _shrink(self, index: int, start: int, end: int) -> None:
        if start == end:
            del self._free[index]
        else:
            self._free[index] = (start, end)

    def give_back(self, start: int, end: int) -> None:
        index = bisect_left(self._free, (start,))
        if index < len(self._free) and self._free[index][0] == end:
            end = self._free.pop(index)[1]
        if index and self._free[index - 1][1] == start:
            index -= 1
            start = self._free.pop(index)[0]
        self._free.insert(index, (start, end))


class Arena:
    """Extents of the mapping, and of nowhere. Sizes and offsets are multiples of PAGE_BYTES."""

    def __init__(self, size_bytes: int = ARENA_BYTES) -> None:
        self.size_bytes = size_bytes
        self.address = host.map_anonymous(size_bytes)
        self.bytes = host.view(self.address, size_bytes)
        self._room = _Extents(PAGE_BYTES, size_bytes)  # page 0 unused
        # The page between the two is in neither: no extent lies in both.
        self._nowhere = _Extents(size_bytes + PAGE_BYTES, size_bytes + NOWHERE_BYTES)

    def take(self, size_bytes: int) -> int:
        """Offset of a fresh extent of zeros. ArenaFullError."""
        return self._room.take(size_bytes)

    def take_nowhere(self, size_bytes: int) -> int:
        """Offset of an extent that has no bytes. ArenaFullError."""
        return self._nowhere.take(size_bytes)

    def is_nowhere(self, offset: int) -> bool:
        """Whether the offset's extent has no bytes."""
        return offset > self.size_bytes

    def take_at(self, offset: int, size_bytes: int) -> bool:
        """Takes exactly this extent, to grow the one before it. False if it is not free."""
        extents = self._nowhere if self.is_nowhere(offset) else self._room
        return extents.take_at(offset, size_bytes)

    def give_back(self, offset: int, size_bytes: int) -> None:
        """Frees an extent; its pages go back to the host at once."""
        self.zero(offset, size_bytes)
        extents = self._nowhere if self.is_nowhere(offset) else self._room
        extents.give_back(offset, offset + size_bytes)

    def zero(self, offset: int, size_bytes: int) -> None:
        """The extent reads as zeros from now on."""
        if not self.is_nowhere(offset):
            host.drop_pages(self.address + offset, size_bytes)

    def residency(self, offset: int, size_bytes: int) -> bytes:
        """A byte for each page of an extent: 1 if the host has it in memory, else 0."""
        if self.is_nowhere(offset):
            return bytes(size_bytes // PAGE_BYTES)
        return host.residency(self.address + offset, size_bytes // PAGE_BYTES)

    def resident_runs(self, offset: int, size_bytes: int) -> Iterator[tuple[int, int]]:
        """(offset, pages) of pieces of an extent that together hold all that the host has in memory, and little
        else, however large the extent is."""
        end = offset + (0 if self.is_nowhere(offset) else size_bytes)
        for start in range(offset, end, _LOOKED_AT_BYTES):
            seen = self.residency(start, min(_LOOKED_AT_BYTES, end - start))
            page = seen.find(1)
            while page >= 0:
                pages = min(_RUN_PAGES, len(seen) - page)
                yield start + page * PAGE_BYTES, pages
                page = seen.find(1, page + pages)

    def close(self) -> None:
        self.bytes.release()
        host.unmap(self.address, self.size_bytes)
