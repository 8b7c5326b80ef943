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
from client_vm.abi.common import EACCES, ENOMEM, EPERM
from client_vm.arena import PAGE_BYTES, Arena, ArenaFullError
from client_vm.cpu import EXECUTE, WRITE
from client_vm.errors import Errno
from client_vm.vma import (
    ADDRESS_MAX,
    ADDRESS_MIN,
    FILL_BYTES,
    PAGE_MASK,
    AtFork,
    Backing,
    Vma,
    alike,
    page_down,
    page_up,
)

if TYPE_CHECKING:
    from client_vm.segments import Segment

MAPPINGS_MAX: Final = 65530
"""VMAs of one process: vm.max_map_count's default."""
NOWHERE_BYTES_MIN: Final = 1 << 30
"""Inaccessible memory of this size gets a place in the arena only where it becomes accessible."""


class BusError(Exception):
    """A page of a file mapping cannot be had: SIGBUS for a guest's access, EFAULT for a syscall."""


class OutOfMemoryError(Exception):
    """A page of a reserved mapping is more than the quota has: what Linux kills a process for."""


class AddressSpace:
    """The VMAs of one process. `charge(bytes)` grants (or, negative, returns) private writable memory.

    `flush_tlb(start, end)` and `flush_code()` are the CPU's; set by the owner once there is one.
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
        self.changing: list[Backing | Segment] = []
        """What is mapped and may become shorter, by truncations that this process need not hear of."""
        self.stale = False
        """Whether what is mapped of files is to be compared with what the file server has."""
        self.flush_tlb: Callable[[int, int], None] = lambda _start, _end: None
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
        if not self._is_there(vma, page):
            return None
        protection = vma.protection
        if vma.reserved and protection & WRITE and not self._is_counted(vma, page):
            if access == WRITE:
                return None  # the owner counts it first
            protection &= ~WRITE
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

        Raises BusError where a file mapping has nothing there, OutOfMemoryError.
        """
        page = page_down(address)
        vma = self._find_or_grow(page, access)
        if vma is None:
            return False
        if vma.reserved and access == WRITE and not self._is_counted(vma, page):
            self._count(vma, page)
            return True  # nothing that was handed out has changed
        if not self._is_there(vma, page):
            self._fill(vma, page)
        if access == EXECUTE and page in vma.writable_now:
            vma.writable_now.discard(page)
            self.flush_code()
            self.flush_tlb(page, page + PAGE_BYTES)  # or it could still be written to
        return True

    # -- reserved pages ---------------------------------------------------------------------------

    @staticmethod
    def _is_counted(vma: Vma, page: int) -> bool:
        return (page - vma.start + vma.physical) // FILL_BYTES in vma.filled

    def _count(self, vma: Vma, page: int) -> None:
        """Charges the chunk of the arena that a page lies in, as far as it is the mapping's. OutOfMemoryError."""
        chunk = (page - vma.start + vma.physical) // FILL_BYTES
        try:
            self.charge(vma.counted_bytes(chunk))
        except Errno:
            raise OutOfMemoryError from None
        vma.filled.add(chunk)

    def _uncount(self, vma: Vma, low: int, high: int) -> None:
        """Chunks of which [low, high) leaves nothing are counted no more."""
        before = vma.charged_bytes
        first, last = low - vma.start + vma.physical, high - vma.start + vma.physical
        begins, ends = low == vma.start, high == vma.end
        vma.filled = {
            chunk
            for chunk in vma.filled
            if (chunk * FILL_BYTES < first and not begins) or ((chunk + 1) * FILL_BYTES > last and not ends)
        }
        self.charge(vma.charged_bytes - before)

    # -- file pages -----------------------------------------------------------------------------

    @staticmethod
    def _chunk(vma: Vma, page: int) -> int:
        return (page - vma.start + vma.offset) // FILL_BYTES

    @staticmethod
    def _beyond_file(vma: Vma, page: int) -> bool:
        """Whether a page lies wholly behind the last byte of the file: SIGBUS, though its chunk is here."""
        shown = vma.backing or vma.segment
        return shown is not None and not shown.reaches(page - vma.start + vma.offset)

    def _is_there(self, vma: Vma, page: int) -> bool:
        """Whether the arena shows the page as the guest should see it."""
        if vma.backing is None and vma.segment is None:
            return True
        return (vma.laid_over or self._chunk(vma, page) in vma.filled) and not self._beyond_file(vma, page)

    def _fill(self, vma: Vma, page: int) -> None:
        """Reads the chunk of the file around a page, as far as the VMA reaches. BusError: there is none."""
        backing = vma.backing
        if self._beyond_file(vma, page):
            raise BusError
        assert backing is not None
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

    def plain(self, address: int, size_bytes: int, access: int) -> memoryview | None:
        """The arena view behind [address, +size), if there is nothing to it but a look: all of it in one mapping
        that allows the access, of the process's own pages, none of them executed. None: see `pieces`."""
        index = bisect_right(self._starts, address) - 1
        if index < 0:
            return None
        vma = self.vmas[index]
        end = address + size_bytes
        if (
            end > vma.end
            or not vma.protection & access
            or vma.backing is not None
            or vma.segment is not None
            or vma.executed
            or vma.reserved
        ):
            return None
        shift = vma.physical - vma.start
        return self.arena.bytes[address + shift : end + shift]

    def pieces(self, address: int, size_bytes: int, access: int) -> Iterator[memoryview]:
        """The arena views behind [address, +size), in order; ends early at the first byte not allowed."""
        while size_bytes > 0:
            vma = self._find_or_grow(address, access) if 0 <= address < ADDRESS_MAX else None
            if vma is None:
                return
            length = min(size_bytes, vma.end - address)
            shown = vma.backing or vma.segment
            if shown is not None:
                position = address - vma.start + vma.offset
                if not vma.laid_over:
                    length = min(length, FILL_BYTES - position % FILL_BYTES)
                length = min(length, max(page_up(shown.size_now) - position, 1))
                if not self._is_there(vma, page_down(address)):
                    try:
                        self._fill(vma, page_down(address))
                    except BusError:
                        return
            elif vma.reserved and access == WRITE:
                position = address - vma.start + vma.physical
                length = min(length, FILL_BYTES - position % FILL_BYTES)
                if position // FILL_BYTES not in vma.filled:
                    try:
                        self._count(vma, page_down(address))
                    except OutOfMemoryError:
                        return
            if vma.executed and access == WRITE:
                self.flush_code()
                self.flush_tlb(vma.start, vma.end)  # or the CPU could translate the new bytes without asking
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
        self.shared_writable += vma.segment is not None and vma.may_write
        shown = vma.backing or vma.segment
        if shown is not None:
            shown.users += 1
            if shown.measure is not None and shown not in self.changing:
                self.changing.append(shown)
                shown.noticed_bytes = shown.size_now

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
        """Whether a chunk of the file or the arena that both have a part of is here in both, or in neither."""
        chunk, inside = divmod(high.physical if high.reserved else high.offset, FILL_BYTES)
        return (
            (high.backing is None and not high.reserved)
            or not inside
            or (chunk in low.filled) == (chunk in high.filled)
        )

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
        if low.backing is not None and not low.donated:
            self._fill_boundary(low, high, address)
        low.end = address
        self.insert(high)

    def _fill_boundary(self, low: Vma, high: Vma, address: int) -> None:
        """A chunk that two VMAs share must be whole before they part: each would fill only its half."""
        last = page_down(address - 1)
        if (address - low.start + low.offset) % FILL_BYTES and not self._is_there(low, last):
            try:
                self._fill(low, last)
            except BusError:
                return
            high.filled.add(self._chunk(high, address))

    def map_anonymous(
        self, start: int, size_bytes: int, protection: int, name: bytes = b"", reserved: bool = False
    ) -> Vma:
        """Fresh zero pages at a free range. Errno(ENOMEM) by charge, arena or number of mappings."""
        return self._map(Vma(start, start + size_bytes, protection, 0, name, reserved=reserved))

    def map_file(self, start: int, size_bytes: int, protection: int, backing: Backing, offset: int) -> Vma:
        """A private view of a file at a free range."""
        vma = Vma(start, start + size_bytes, protection, 0, backing.name, backing, offset)
        self._map(vma)
        if backing.descriptor < 0 and backing.donate is not None:
            backing.descriptor = backing.donate()
        if backing.descriptor >= 0:
            # A host that is short of mappings: the pages are read, then.
            with suppress(OSError):
                host.map_private_at(self.arena.address + vma.physical, size_bytes, backing.descriptor, offset)
                vma.donated = True
        return vma

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
        charged = vma.charged_bytes
        if charged:
            self.charge(charged)
        unused = not vma.protection and vma.backing is None and vma.size_bytes >= NOWHERE_BYTES_MIN
        try:
            vma.physical = (self.arena.take_nowhere if unused else self.arena.take)(vma.size_bytes)
        except ArenaFullError:
            if charged:
                self.charge(-charged)
            raise Errno(ENOMEM) from None
        self.insert(vma)
        return vma

    def map_shared(
        self, start: int, size_bytes: int, protection: int, segment: "Segment", offset: int, may_write: bool
    ) -> Vma:
        """A view of shared memory at a free range. Errno: ENOMEM; EPERM (a memfd's seal)."""
        vma = Vma(start, start + size_bytes, protection, 0, segment.name, None, offset, segment=segment)
        vma.may_write = may_write
        if len(self.vmas) >= MAPPINGS_MAX:
            raise Errno(ENOMEM)
        try:
            vma.physical = self.arena.take(size_bytes)
        except ArenaFullError:
            raise Errno(ENOMEM) from None
        address = self.arena.address + vma.physical
        try:
            host.map_shared_at(address, size_bytes, segment.descriptor, offset, may_write)
        except OSError as error:
            self.arena.give_back(vma.physical, size_bytes)
            raise Errno(EPERM if error.errno == EPERM else ENOMEM) from None
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
        self.flush_tlb(start, end)
        if any(vma.executed for vma in gone):
            self.flush_code()
        for vma in gone:
            low = vma.floor or vma.start
            if vma.laid_over:
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
        self.shared_writable -= vma.segment is not None and vma.may_write
        shown = vma.backing or vma.segment
        if shown is not None:
            if shown.users == 1 and shown in self.changing:
                self.changing.remove(shown)
            # munmap(2) has no error for it; its owner notices the end of the session at the latest.
            with suppress(Errno):
                shown.drop()

    def show_again(self, segment: "Segment") -> None:
        """Its descriptor is another file: its mappings show that from now on, at the same addresses. OSError."""
        for vma in self.vmas:
            if vma.segment is segment:
                address = self.arena.address + vma.physical
                host.map_shared_at(address, vma.size_bytes, segment.descriptor, vma.offset, vma.may_write)
                if vma.executed:
                    self.flush_code()

    def notice_cuts(self) -> None:
        """Before the guest goes on: pages that were cut off files meanwhile are asked for again."""
        for shown in self.changing:
            size_bytes = shown.size_now
            if size_bytes < shown.noticed_bytes:
                self.flush_tlb(0, ADDRESS_MAX)
            shown.noticed_bytes = size_bytes

    def protect(self, start: int, end: int, protection: int) -> None:
        """mprotect(2) of a range that is covered. Errno(ENOMEM) by charge or number of mappings."""
        affected = list(self.overlapping(start, end))
        if protection & WRITE and not all(vma.may_write for vma in affected):
            raise Errno(EACCES)
        growth = sum(
            min(end, vma.end) - max(start, vma.start)
            for vma in affected
            if WRITE & protection and not (vma.protection & WRITE or vma.reserved) and vma.segment is None
        )
        if growth:
            self.charge(growth)
        try:
            self.split(start)
            self.split(end)
            if protection:
                self._find_places(start, end)
        except Errno:
            if growth:
                self.charge(-growth)
            raise
        returned = 0
        flush_code = False
        for vma in self.overlapping(start, end):
            if not protection & WRITE and not vma.reserved:
                returned += vma.charged_bytes
            # Bytes written while the pages were not executable may have been translated before that.
            flush_code |= vma.executed or bool(protection & EXECUTE and vma.protection & WRITE)
            vma.protection = protection
            vma.writable_now.clear()
        self._coalesce(start, end)
        if returned:
            self.charge(-returned)
        self.flush_tlb(start, end)
        if flush_code:
            self.flush_code()

    def _find_places(self, start: int, end: int) -> None:
        """The mappings in [start, end), which begin and end there, get places in the arena. Errno(ENOMEM)."""
        arena, before = self.arena, 0
        for vma in self.overlapping(start - 1, end):
            if vma.start >= start and arena.is_nowhere(vma.physical):
                nowhere = vma.physical
                try:
                    # A heap that grows by mprotect stays in one piece.
                    grows = before and arena.take_at(before, vma.size_bytes)
                    vma.physical = before if grows else arena.take(vma.size_bytes)
                except ArenaFullError:
                    raise Errno(ENOMEM) from None  # what has a place may keep it
                arena.give_back(nowhere, vma.size_bytes)
            before = 0 if arena.is_nowhere(vma.physical) else vma.physical + vma.size_bytes

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
        self.flush_tlb(start, start + size_bytes)

    def extend(self, vma: Vma, size_bytes: int) -> None:
        """Grows an anonymous VMA upwards by size_bytes into a free range. Errno(ENOMEM)."""
        if not vma.reserved:
            charged = size_bytes if vma.protection & WRITE else 0
            if charged:
                self.charge(charged)
            if self.arena.take_at(vma.physical + vma.size_bytes, size_bytes):
                vma.end += size_bytes
                return
            if charged:
                self.charge(-charged)
        # What is reserved counts its last chunk as far as it reached until now.
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
            if vma.backing is not None and not vma.donated:
                self._refill(vma, low, high)
            if vma.reserved:
                self._uncount(vma, low, high)
            if vma.executed:
                self.flush_code()
        self.flush_tlb(start, end)  # pages of files must be asked for again

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

    def set_at_fork(self, start: int, end: int, what: AtFork) -> None:
        """madvise(2) with MADV_DONTFORK and its kin. Errno(ENOMEM): too many mappings."""
        self.split(start)
        self.split(end)
        for vma in self.overlapping(start, end):
            vma.at_fork = what
        self._coalesce(start, end)

    def forked(self) -> None:
        """In the child of a fork: what it was not to get is gone, or zeros."""
        for vma in [vma for vma in self.vmas if vma.at_fork is not AtFork.COPY]:
            if vma.at_fork is AtFork.ZEROS:
                self.discard(vma.start, vma.end)
            else:
                self.unmap(vma.start, vma.end)

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
