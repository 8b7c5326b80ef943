"""What a mapping is: a range of guest addresses over an extent of the arena, and the file behind it if any."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TYPE_CHECKING, Final

from client_vm.abi.common import EFAULT
from client_vm.arena import PAGE_BYTES
from client_vm.cpu import WRITE
from client_vm.errors import Errno

if TYPE_CHECKING:
    from client_vm.segments import Segment

PAGE_MASK: Final = PAGE_BYTES - 1
FILL_BYTES: Final = 64 << 10
"""How much of a file mapping is read at once, and how much of a reserved one is counted."""
ADDRESS_MAX: Final = 0x7FFF_FFFF_F000
"""End of user space on both architectures (48-bit ARM64 has more; what fits both is enough)."""
ADDRESS_MIN: Final = 0x10000
"""vm.mmap_min_addr's default."""


class AtFork(Enum):
    """What a child of fork(2) gets of a mapping (madvise(2))."""

    COPY = auto()
    NOTHING = auto()
    ZEROS = auto()


Fill = Callable[[int, memoryview], int]
"""(file offset, room) -> bytes read; the rest of the room stays zero. Errno(EIO) becomes SIGBUS."""


def page_down(address: int) -> int:
    return address & ~PAGE_MASK


def page_up(address: int) -> int:
    return (address + PAGE_MASK) & ~PAGE_MASK


class Shown:
    """What a mapping shows, which may end sooner than it did when it was mapped."""

    __slots__ = ()
    size_bytes: int
    """When it was mapped."""
    measure: Callable[[], int] | None
    """Where it ends now, if that may change beneath the mapping."""

    @property
    def size_now(self) -> int:
        return self.size_bytes if self.measure is None else self.measure()

    def reaches(self, offset: int) -> bool:
        """Whether there is a page at that offset."""
        return offset < page_up(self.size_now)


@dataclass(slots=True, eq=False)
class Backing(Shown):
    """What a private file mapping shows: where its bytes come from and what /proc/PID/maps says of it.

    Pages that the file server donates are laid over the arena, the same ones in all workers; else they are read.
    """

    fill: Fill
    size_bytes: int
    """Of the file when it was mapped; pages wholly beyond are SIGBUS."""
    name: bytes
    ino: int
    dev: int
    close: Callable[[], None]
    descriptor: int = -1
    """Of the donated pages, until they are mapped."""
    donate: Callable[[], int] | None = None
    """Another such descriptor, or -1; None: the pages are read."""
    measure: Callable[[], int] | None = None
    """Where the file ends now, if that may change beneath the mapping."""
    noticed_bytes: int = 0
    """The size when the CPU's translations were last compared with it."""
    users: int = 0
    """VMAs that refer to it; the last one closes it."""

    def settle(self) -> None:
        """What was to be mapped is: a descriptor per mapping would be too many."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    def drop(self) -> None:
        """One mapping less."""
        self.users -= 1
        if not self.users:
            self.close()


@dataclass(slots=True)
class Vma:
    """One mapping. `offset` is the file offset of `start`.

    `filled`: chunks of the file already here; of a reserved mapping those that are counted, of the arena.
    """

    start: int
    end: int
    protection: int
    physical: int
    name: bytes = b""
    backing: Backing | None = None
    offset: int = 0
    filled: set[int] = field(default_factory=set)
    writable_now: set[int] = field(default_factory=set)
    """Pages of an RWX mapping whose last grant was to write."""
    floor: int = 0
    """Of a stack: how far down `start` may still grow; its extent begins there. 0: does not grow."""
    segment: "Segment | None" = None
    """Shared memory that the mapping shows, from `offset` on; None: its pages are the process's own."""
    may_write: bool = True
    """Whether mprotect(2) may allow stores: not to what is shared and was opened for reading only."""
    at_fork: AtFork = AtFork.COPY
    donated: bool = False
    """Whether its pages are the backing's donated ones."""
    reserved: bool = False
    """MAP_NORESERVE: private memory that is counted when it is first stored to, and not when it is mapped."""
    executed: bool = False
    """Whether the CPU may hold translations of its bytes, or a way to make some without asking."""

    @property
    def size_bytes(self) -> int:
        return self.end - self.start

    @property
    def laid_over(self) -> bool:
        """Whether its extent of the arena shows something else than the arena's own anonymous memory."""
        return self.donated or self.segment is not None

    @property
    def charged_bytes(self) -> int:
        """Private writable memory, as the memory server counts it."""
        if self.reserved:
            return sum(map(self.counted_bytes, self.filled))
        return self.size_bytes if self.protection & WRITE and self.segment is None else 0

    def counted_bytes(self, chunk: int) -> int:
        """Of a reserved mapping: what a chunk of the arena has in common with it."""
        end = min((chunk + 1) * FILL_BYTES, self.physical + self.size_bytes)
        return max(end - max(chunk * FILL_BYTES, self.physical), 0)


def alike(low: Vma, high: Vma) -> bool:
    """Whether two neighbours show the same thing on, apart from where their pages lie."""
    if low.protection != high.protection or low.name != high.name or low.backing is not high.backing:
        return False
    if low.segment is not high.segment or low.may_write != high.may_write or low.donated != high.donated:
        return False
    if low.reserved != high.reserved or high.floor or low.floor or low.at_fork is not high.at_fork:
        return False
    return (low.backing is None and low.segment is None) or low.offset + low.size_bytes == high.offset


def check_range(address: int, size_bytes: int) -> None:
    """Errno(EFAULT) unless [address, +size) lies in user space (access_ok)."""
    if address + size_bytes > ADDRESS_MAX or address < 0:
        raise Errno(EFAULT)
