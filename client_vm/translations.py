"""The translations that an emulator's TLB may hold, and when it is worth emptying it.

Unicorn's TLB begins with 256 entries, has one place for a page, and changes its size only when it is flushed:
full, it doubles (QEMU, accel/tcg/cputlb.c: tlb_mmu_resize_locked). A guest that uses more pages than it holds
would ask for each of them again and again, 10 us each time.
"""

from typing import Final

from client_vm.arena import PAGE_BYTES

AGAIN_MAX: Final = 1024
"""Translations asked for again, beyond as many as there are, after which the TLB is crowded: to flush it costs
one for each that is in use."""
PAGES_MAX: Final = 1 << 16
"""Pages noted, of 256 MiB; beyond them nothing is known."""


class Translations:
    """Pages, by address, handed out since the TLB was flushed."""

    def __init__(self) -> None:
        self._pages: set[int] = set()
        self._again = 0
        self.crowded = False
        """Whether the TLB should be flushed, so that it grows."""

    def add(self, page: int) -> bool:
        """Notes that a page was handed out. True: the TLB is crowded since just now."""
        pages = self._pages
        if page not in pages and len(pages) < PAGES_MAX:
            pages.add(page)
            return False
        self._again += 1
        if self.crowded or self._again < AGAIN_MAX + len(pages):
            return False
        self.crowded = True
        return True

    def any_in(self, start: int, end: int) -> bool:
        """Whether the TLB may hold a page of [start, end), both multiples of the page size."""
        pages = self._pages
        if len(pages) >= PAGES_MAX:
            return True
        if (end - start) // PAGE_BYTES < len(pages):
            return any(page in pages for page in range(start, end, PAGE_BYTES))
        return any(start <= page < end for page in pages)

    def clear(self) -> None:
        """The TLB is empty."""
        self._pages.clear()
        self._again = 0
        self.crowded = False
