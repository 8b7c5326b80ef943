"""The guest's address space: a sorted list of VMAs over the arena, and every translation from it.

A VMA maps [start, end) to the arena extent that begins at `physical`; adjacent VMAs need not be adjacent
there, so mremap moves no byte. Pages of private file mappings are filled when first needed. No page is
ever writable and executable at once: a page of an RWX mapping is one or the other, and turning executable
flushes what was translated from it.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from client_vm import host
from client_vm.abi.common import EACCES, ENOMEM
from client_vm.arena import Arena, ArenaFullError
from client_vm.cpu import EXECUTE, WRITE
from client_vm.errors import Errno
from client_vm.vma import ADDRESS_MAX, ADDRESS_MIN, PAGE_MASK, Backing, Vma, alike, page_down, page_up

if TYPE_CHECKING:
    from client_vm.segments import Segment

MAPPINGS_MAX: Final = 65530
"""VMAs of one process: vm.max_map_count's default."""
FILL_BYTES: Final = 64 << 10
"""How much of a file mapping is read at once."""


class BusError(Exception):
    """A page of a file mapping cannot be had: SIGBUS for a guest's access, EFAULT for a syscall."""


class AddressSpace:
    """The VMAs of one process. `charge(bytes)` grants (or, negative, returns) private writable memory.

    `flush_tlb` and `flush_code` are the CPU's; set by the owner once there is one.
    """

    def __init__(self, arena: Arena, charge: Callable[[int], None]) -> None:
        self.arena = arena
        self.charge = charge
        self.vmas: list[Vma] = []
        self._starts: list[int] = []
        self._tight = 0, 0
        """(address, size): above the address, and below the top, no gap holds so much. 0: nothing is known."""
        self.shared_writable = 0
        """VMAs whose stores other processes may see: while there are some, atomics need the run lock."""
        self.flush_tlb: Callable[[], None] = lambda: None
        self.flush_code: Callable[[], None] = lambda: None

    # -- lookup ---------------------------------------------------------------------------------

    def find(self, address: int) -> Vma | None:
        """The VMA of an address."""
        index = bisect_right(self._starts, address) - 1
        if index >= 0 and address < self.vmas[index].end:
            return self.vmas[index]
        return None

    def _find_or_grow(self, address: int, access: int) -> Vma | None:
        """The VMA of an access that it allows; a stack that may grow grows for it."""
        vma = self.find(address)
        if vma is None:
            index = bisect_right(self._starts, address)
            if index < len(self.vmas):
                above = self.vmas[index]
                if above.floor and above.floor <= address < above.start and above.protection & access:
                    vma = self._grow_stack(above, index, page_down(address))
        return vma if vma is not None and vma.protection & access else None

    def _grow_stack(self, vma: Vma, index: int, start: int) -> Vma | None:
        if vma.protection & WRITE:
            try:
                self.charge(vma.start - start)
            except Errno:
                return None
        # Its extent was taken whole when the stack was made, so that growing moves nothing.
        vma.physical -= vma.start - start
        vma.start = self._starts[index] = start
        return vma

    def translate(self, page: int, access: int) -> tuple[int, int] | None:
        """For the CPU: (arena offset, permissions) of a page, or None if the access must fault."""
        page &= ~PAGE_MASK
        vma = self.find(page)
        if vma is None or not vma.protection & access:
            return None  # also where a stack must grow: that may call a server, and is not done in here
        if vma.backing is not None and not self._is_filled(vma, page):
            return None
        if vma.segment is not None and not vma.segment.reaches(page - vma.start + vma.offset):
            return None
        protection = vma.protection
        if protection & WRITE and protection & EXECUTE:
            if access == EXECUTE:
                if page in vma.writable_now:
                    return None  # the owner flushes its old translations first
                protection &= ~WRITE
            elif access == WRITE:
                vma.writable_now.add(page)
                protection &= ~EXECUTE
            else:
                protection &= ~(EXECUTE if page in vma.writable_now else WRITE)
        if protection & EXECUTE:
            # A page once read may be executed later without another question.
            vma.executed = True
        return page - vma.start + vma.physical, protection

    def resolve(self, address: int, access: int) -> bool:
        """After a fault: True if the page could be mended (filled, flushed) and the guest may go on.

        Raises BusError where a file mapping has nothing there.
        """
        page = page_down(address)
        vma = self._find_or_grow(page, access)
        if vma is None:
            return False
        if vma.backing is not None and not self._is_filled(vma, page):
            self._fill(vma, page)
        if vma.segment is not None and not vma.segment.reaches(page - vma.start + vma.offset):
            raise BusError
        if access == EXECUTE and page in vma.writable_now:
            vma.writable_now.discard(page)
            self.flush_code()
        self.flush_tlb()
        return True

    # -- file pages -----------------------------------------------------------------------------

    @staticmethod
    def _chunk(vma: Vma, page: int) -> int:
        return (page - vma.start + vma.offset) // FILL_BYTES

    @staticmethod
    def _beyond_file(vma: Vma, page: int) -> bool:
        """Whether a page lies wholly behind the last byte of the file: SIGBUS, though its chunk is here."""
        assert vma.backing is not None
        return page - vma.start + vma.offset >= page_up(vma.backing.size_bytes)

    def _is_filled(self, vma: Vma, page: int) -> bool:
        return self._chunk(vma, page) in vma.filled and not self._beyond_file(vma, page)

    def _fill(self, vma: Vma, page: int) -> None:
        """Reads the chunk of the file around a page, as far as the VMA reaches."""
        backing = vma.backing
        assert backing is not None
        if self._beyond_file(vma, page):
            raise BusError
        chunk = self._chunk(vma, page)
        begin = max(chunk * FILL_BYTES, vma.offset)
        end = min((chunk + 1) * FILL_BYTES, vma.offset + vma.size_bytes)
        physical = vma.physical + begin - vma.offset
        try:
            backing.fill(begin, self.arena.bytes[physical : physical + end - begin])
        except Errno:
            raise BusError from None
        vma.filled.add(chunk)

    # -- guest bytes ----------------------------------------------------------------------------

    def pieces(self, address: int, size_bytes: int, access: int) -> Iterator[memoryview]:
        """The arena views behind [address, +size), in order; ends early at the first byte not allowed."""
        while size_bytes > 0:
            vma = self._find_or_grow(address, access) if 0 <= address < ADDRESS_MAX else None
            if vma is None:
                return
            length = min(size_bytes, vma.end - address)
            if vma.backing is not None:
                position = address - vma.start + vma.offset
                length = min(length, FILL_BYTES - position % FILL_BYTES)
                length = min(length, max(page_up(vma.backing.size_bytes) - position, 1))
                if not self._is_filled(vma, page_down(address)):
                    try:
                        self._fill(vma, page_down(address))
                    except BusError:
                        return
            if vma.segment is not None:
                position = address - vma.start + vma.offset
                if not vma.segment.reaches(page_down(position)):
                    return
                length = min(length, page_up(vma.segment.size_bytes) - position)
            if vma.executed and access == WRITE:
                self.flush_code()
                self.flush_tlb()  # or the CPU could translate the new bytes without asking
                vma.executed = False
            physical = address - vma.start + vma.physical
            yield self.arena.bytes[physical : physical + length]
            address += length
            size_bytes -= length

    # -- changes --------------------------------------------------------------------------------

    def insert(self, vma: Vma) -> None:
        """Adds a VMA whose range is free; merges nothing."""
        index = bisect_right(self._starts, vma.start)
        self.vmas.insert(index, vma)
        self._starts.insert(index, vma.start)
        if vma.backing is not None:
            vma.backing.users += 1
        if vma.segment is not None:
            vma.segment.users += 1
            self.shared_writable += vma.segment.may_write

    def free_range(self, size_bytes: int, hint: int, top: int) -> int:
        """Start of a free range, top down from `top`, or `hint` itself if that is free. Errno(ENOMEM)."""
        if hint and self.is_free(hint, hint + size_bytes):
            return hint
        tight_above, tight_bytes = self._tight
        end = min(top, tight_above) if tight_bytes and size_bytes >= tight_bytes else top
        for index in range(bisect_left(self._starts, end) - 1, -1, -1):
            vma = self.vmas[index]
            if vma.end + size_bytes <= end:
                break
            end = min(end, vma.floor or vma.start)
        self._tight = end, size_bytes
        if end - size_bytes < ADDRESS_MIN:
            raise Errno(ENOMEM)
        return end - size_bytes

    def is_free(self, start: int, end: int) -> bool:
        if start < ADDRESS_MIN or end > ADDRESS_MAX:
            return False
        return not any(True for _ in self.overlapping(start, end, stack_gap=True))

    def overlapping(self, start: int, end: int, stack_gap: bool = False) -> Iterator[Vma]:
        """VMAs that meet [start, end), in order. `stack_gap`: room a stack may grow into counts."""
        index = max(0, bisect_right(self._starts, start) - 1)
        while index < len(self.vmas):
            vma = self.vmas[index]
            low = vma.floor if stack_gap and vma.floor else vma.start
            if low >= end:
                return
            if vma.end > start:
                yield vma
            index += 1

    def covered_end(self, start: int, end: int) -> int:
        """Where the mapped pages that begin at start end, at most `end`; start itself if it is not mapped."""
        for vma in self.overlapping(start, end):
            if vma.start > start:
                break
            start = vma.end
        return min(start, end)

    def covered(self, start: int, end: int) -> bool:
        """Whether every page of [start, end) is mapped."""
        return self.covered_end(start, end) == end

    def alike_end(self, vma: Vma) -> int:
        """Where the run of mappings that a guest cannot tell from `vma` ends: one VMA on Linux."""
        for after in self.overlapping(vma.end, ADDRESS_MAX):
            if after.start != vma.end or not alike(vma, after):
                break
            vma = after
        return vma.end

    def _coalesce(self, start: int, end: int) -> None:
        """Joins neighbours around [start, end] that are alike and lie side by side in the arena, too."""
        index = max(1, bisect_right(self._starts, start) - 1)
        while index < len(self.vmas) and self.vmas[index].start <= end:
            low, high = self.vmas[index - 1], self.vmas[index]
            if (
                low.end == high.start
                and low.physical + low.size_bytes == high.physical
                and alike(low, high)
                and self._equally_filled(low, high)
            ):
                low.end = high.end
                low.filled |= high.filled
                low.writable_now |= high.writable_now
                low.executed |= high.executed
                self._drop_backing(high)
                del self.vmas[index], self._starts[index]
            else:
                index += 1

    @staticmethod
    def _equally_filled(low: Vma, high: Vma) -> bool:
        """Whether a chunk of the file that both show a part of is here in both, or in neither."""
        chunk, inside = divmod(high.offset, FILL_BYTES)
        return high.backing is None or not inside or (chunk in low.filled) == (chunk in high.filled)

    def split(self, address: int) -> None:
        """Makes `address` a boundary between VMAs, if it lies inside one."""
        index = bisect_right(self._starts, address) - 1
        if index < 0 or not self.vmas[index].start < address < self.vmas[index].end:
            return
        if len(self.vmas) >= MAPPINGS_MAX:
            raise Errno(ENOMEM)
        low = self.vmas[index]
        delta = address - low.start
        high = replace(
            low,
            start=address,
            physical=low.physical + delta,
            offset=low.offset + delta,
            filled=set(low.filled),
            writable_now={page for page in low.writable_now if page >= address},
            floor=0,
        )
        if low.backing is not None and address < low.end:
            self._fill_boundary(low, high, address)
        low.end = address
        self.insert(high)

    def _fill_boundary(self, low: Vma, high: Vma, address: int) -> None:
        """A chunk that two VMAs share must be whole before they part: each would fill only its half."""
        last = page_down(address - 1)
        if (address - low.start + low.offset) % FILL_BYTES and not self._is_filled(low, last):
            try:
                self._fill(low, last)
            except BusError:
                return
            high.filled.add(self._chunk(high, address))

    def map_anonymous(self, start: int, size_bytes: int, protection: int, name: bytes = b"") -> Vma:
        """Fresh zero pages at a free range. Errno(ENOMEM) by charge, arena or number of mappings."""
        return self._map(Vma(start, start + size_bytes, protection, 0, name))

    def map_file(self, start: int, size_bytes: int, protection: int, backing: Backing, offset: int) -> Vma:
        """A private view of a file at a free range."""
        vma = Vma(start, start + size_bytes, protection, 0, backing.name, backing, offset)
        return self._map(vma)

    def map_stack(self, floor: int, start: int, end: int, protection: int) -> Vma:
        """A stack that may grow down from `start` to `floor`."""
        self.charge(end - start)
        try:
            extent = self.arena.take(end - floor)
        except ArenaFullError:
            self.charge(start - end)
            raise Errno(ENOMEM) from None
        vma = Vma(start, end, protection, extent + start - floor, b"[stack]", floor=floor)
        self.insert(vma)
        return vma

    def _map(self, vma: Vma) -> Vma:
        if len(self.vmas) >= MAPPINGS_MAX:
            raise Errno(ENOMEM)
        charged = vma.size_bytes if vma.protection & WRITE else 0
        if charged:
            self.charge(charged)
        try:
            vma.physical = self.arena.take(vma.size_bytes)
        except ArenaFullError:
            if charged:
                self.charge(-charged)
            raise Errno(ENOMEM) from None
        self.insert(vma)
        return vma

    def map_shared(self, start: int, size_bytes: int, protection: int, segment: "Segment", offset: int) -> Vma:
        """A view of shared memory at a free range. Errno(ENOMEM)."""
        vma = Vma(start, start + size_bytes, protection, 0, segment.name, None, offset, segment=segment)
        if len(self.vmas) >= MAPPINGS_MAX:
            raise Errno(ENOMEM)
        try:
            vma.physical = self.arena.take(size_bytes)
        except ArenaFullError:
            raise Errno(ENOMEM) from None
        address = self.arena.address + vma.physical
        try:
            host.map_shared_at(address, size_bytes, segment.descriptor, offset, segment.may_write)
        except OSError:
            self.arena.give_back(vma.physical, size_bytes)
            raise Errno(ENOMEM) from None
        self.insert(vma)
        return vma

    def unmap(self, start: int, end: int) -> None:
        """Removes what is mapped in [start, end)."""
        self.split(start)
        self.split(end)
        gone = list(self.overlapping(start, end))
        if not gone:
            return
        for vma in gone:
            self._remove(vma)
        self._tight = 0, 0
        self.flush_tlb()
        if any(vma.executed for vma in gone):
            self.flush_code()
        for vma in gone:
            low = vma.floor or vma.start
            if vma.segment is not None:
                host.map_anonymous_at(self.arena.address + vma.physical, vma.size_bytes)
            self.arena.give_back(vma.physical - (vma.start - low), vma.end - low)
        self.charge(-sum(vma.charged_bytes for vma in gone))
        for vma in gone:
            self._drop_backing(vma)

    def _remove(self, vma: Vma) -> None:
        index = bisect_right(self._starts, vma.start) - 1
        assert self.vmas[index] is vma
        del self.vmas[index], self._starts[index]

    def _drop_backing(self, vma: Vma) -> None:
        if vma.segment is not None:
            self.shared_writable -= vma.segment.may_write
            # As below: its owner notices the end of the session at the latest.
            with suppress(Errno):
                vma.segment.drop()
        if vma.backing is not None:
            vma.backing.users -= 1
            if not vma.backing.users:
                # munmap(2) has no error for it; the server frees the handle with the session.
                with suppress(Errno):
                    vma.backing.close()

    def protect(self, start: int, end: int, protection: int) -> None:
        """mprotect(2) of a range that is covered. Errno(ENOMEM) by charge or number of mappings."""
        affected = list(self.overlapping(start, end))
        if protection & WRITE and any(vma.segment and not vma.segment.may_write for vma in affected):
            raise Errno(EACCES)
        growth = sum(
            min(end, vma.end) - max(start, vma.start)
            for vma in affected
            if WRITE & protection and not vma.protection & WRITE and vma.segment is None
        )
        if growth:
            self.charge(growth)
        try:
            self.split(start)
            self.split(end)
        except Errno:
            if growth:
                self.charge(-growth)
            raise
        returned = 0
        flush_code = False
        for vma in self.overlapping(start, end):
            if not protection & WRITE:
                returned += vma.charged_bytes
            # Bytes written while the pages were not executable may have been translated before that.
            flush_code |= vma.executed or bool(protection & EXECUTE and vma.protection & WRITE)
            vma.protection = protection
            vma.writable_now.clear()
        self._coalesce(start, end)
        if returned:
            self.charge(-returned)
        self.flush_tlb()
        if flush_code:
            self.flush_code()

    def move(self, start: int, size_bytes: int, target: int) -> None:
        """Gives the pages of [start, +size) another address; no byte is copied. Ranges are checked before."""
        self.split(start)
        self.split(start + size_bytes)
        moved = list(self.overlapping(start, start + size_bytes))
        for vma in moved:
            self._remove(vma)
        self._tight = 0, 0
        for vma in moved:
            if vma.floor:
                # A moved stack grows no more: what its extent kept for that goes back.
                reserve = vma.start - vma.floor
                self.arena.give_back(vma.physical - reserve, reserve)
                vma.floor = 0
            delta = target - start
            vma.start += delta
            vma.end += delta
            vma.writable_now = {page + delta for page in vma.writable_now}
            index = bisect_right(self._starts, vma.start)
            self.vmas.insert(index, vma)
            self._starts.insert(index, vma.start)
        self.flush_tlb()

    def extend(self, vma: Vma, size_bytes: int) -> None:
        """Grows an anonymous VMA upwards by size_bytes into a free range. Errno(ENOMEM)."""
        charged = size_bytes if vma.protection & WRITE else 0
        if charged:
            self.charge(charged)
        if self.arena.take_at(vma.physical + vma.size_bytes, size_bytes):
            vma.end += size_bytes
            return
        if charged:
            self.charge(-charged)
        tail = replace(vma, start=vma.end, end=vma.end + size_bytes, filled=set(), writable_now=set(), floor=0)
        tail.offset = vma.offset + vma.size_bytes
        self._map(tail)

    def discard(self, start: int, end: int) -> None:
        """MADV_DONTNEED: anonymous pages read as zeros, file pages as the file."""
        for vma in self.overlapping(start, end):
            if vma.segment is not None:
                continue  # the pages are everybody's
            low, high = max(start, vma.start), min(end, vma.end)
            self.arena.zero(low - vma.start + vma.physical, high - low)
            if vma.backing is not None:
                self._refill(vma, low, high)
            if vma.executed:
                self.flush_code()
        self.flush_tlb()  # pages of files must be asked for again

    def _refill(self, vma: Vma, low: int, high: int) -> None:
        """Chunks wholly discarded are read again when needed, a partly discarded one now."""
        first, last = self._chunk(vma, low), self._chunk(vma, high - 1)
        for chunk in range(first, last + 1):
            begin = max(chunk * FILL_BYTES, vma.offset) - vma.offset + vma.start
            finish = min((chunk + 1) * FILL_BYTES, vma.offset + vma.size_bytes) - vma.offset + vma.start
            if begin >= low and finish <= high:
                vma.filled.discard(chunk)
            elif chunk in vma.filled:
                begin, finish = max(begin, low), min(finish, high)
                physical = begin - vma.start + vma.physical
                room = self.arena.bytes[physical : physical + finish - begin]
                assert vma.backing is not None
                vma.backing.fill(begin - vma.start + vma.offset, room)

    def clear(self) -> None:
        """Unmaps everything."""
        for vma in list(self.vmas):
            self.unmap(vma.start, vma.end)

    # -- forks ------------------------------------------------------------------------------------

    def leave_out_of_fork(self) -> None:
        """The next clone of this host process gets nothing of the arena."""
        host.advise(self.arena.address, self.arena.size_bytes, host.MADV_DONTFORK)

    def take_into_fork(self) -> None:
        host.advise(self.arena.address, self.arena.size_bytes, host.MADV_DOFORK)

    def drop_all(self) -> None:
        for vma in self.vmas:
            self._drop_backing(vma)
        self.vmas.clear()
        self._starts.clear()
