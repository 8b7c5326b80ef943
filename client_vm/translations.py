"""The translations that an emulator may hold, and when it is worth emptying its TLB.

Unicorn's TLB begins with 256 entries, has one place for a page, and changes its size only when it is flushed:
full, it doubles (QEMU, accel/tcg/cputlb.c: tlb_mmu_resize_locked). Behind it stands a table of ours, where native
code finds what was handed out before (`stubs`): 0.1 us instead of 7.
"""

import ctypes
from typing import Final

from client_vm.arena import PAGE_BYTES

PLACES: Final = 1 << 13
"""Of the table, a power of two: 32 MiB of pages."""
AGAIN_MAX: Final = 1024
"""Translations asked for again, beyond as many as there are, after which the TLB is crowded: to flush it costs
one for each that is in use."""
PAGES_MAX: Final = 1 << 16
"""Pages noted, of 256 MiB; beyond them nothing is known."""
PAGE_BITS: Final = PAGE_BYTES.bit_length() - 1
PERMISSIONS: Final = 7
GENERATION_SHIFT: Final = 64 - PAGE_BITS
_GENERATIONS: Final = 1 << PAGE_BITS - 1
_GENERATION, _LEFT, _FIRST = 0, 1, 2
"""Words of the table: which entries count, how often a page may be asked for again, and where entries begin."""


class Translations:
    """Pages, by address, handed out since the TLB was flushed for a change of one of them.

    `address`: the table's, of 64-bit words: the generation, already shifted; how many questions for pages handed
    out before are left, below 0 none; then for each place the number of the page that was asked for, with the
    generation in its upper bits, and its offset, with its permissions (READ, WRITE, EXECUTE) in the lower ones.
    """

    def __init__(self) -> None:
        self._pages: set[int] = set()
        self._room = (ctypes.c_int64 * (_FIRST + 2 * PLACES))()
        self.address = ctypes.addressof(self._room)
        self._words = memoryview(self._room).cast("B").cast("q")
        self._begin(1)
        self.crowded = False
        """Whether the TLB should be flushed, so that it grows."""

    def _begin(self, generation: int) -> None:
        self._generation = self._words[_GENERATION] = generation << GENERATION_SHIFT
        self._words[_LEFT] = AGAIN_MAX

    def add(self, asked: int, page: int, offset: int, permissions: int) -> bool:
        """Notes that a page was handed out, at the address that was asked for, which may have a tag. True: the
        TLB is crowded since just now."""
        words, pages = self._words, self._pages
        number = asked >> PAGE_BITS
        place = _FIRST + 2 * (number & PLACES - 1)
        words[place] = number | self._generation
        words[place + 1] = offset | permissions
        if page not in pages and len(pages) < PAGES_MAX:
            pages.add(page)
            words[_LEFT] += 1
            return False
        words[_LEFT] -= 1
        if self.crowded or words[_LEFT] >= 0:
            return False
        self.crowded = True
        return True

    def any_in(self, start: int, end: int) -> bool:
        """Whether the emulator may hold a page of [start, end), both multiples of the page size."""
        pages = self._pages
        if len(pages) >= PAGES_MAX:
            return True
        if (end - start) // PAGE_BYTES < len(pages):
            return any(page in pages for page in range(start, end, PAGE_BYTES))
        return any(start <= page < end for page in pages)

    def grow(self) -> None:
        """The TLB was flushed because it was crowded; what was handed out still holds."""
        self._words[_LEFT] = AGAIN_MAX + len(self._pages)
        self.crowded = False

    def clear(self) -> None:
        """The TLB was flushed because translations have changed."""
        self._pages.clear()
        self.crowded = False
        generation = (self._generation >> GENERATION_SHIFT) + 1
        if generation == _GENERATIONS:  # those of the first round must not count again
            ctypes.memset(self.address, 0, ctypes.sizeof(self._room))
            generation = 1
        self._begin(generation)
