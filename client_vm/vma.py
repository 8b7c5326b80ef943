"""What a mapping is: a range of guest addresses over an extent of the arena, and the file behind it if any."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from client_vm.abi.common import EFAULT
from client_vm.arena import PAGE_BYTES
from client_vm.cpu import WRITE
from client_vm.errors import Errno

if TYPE_CHECKING:
    from client_vm.segments import Segment

PAGE_MASK: Final = PAGE_BYTES - 1
ADDRESS_MAX: Final = 0x7FFF_FFFF_F000
"""End of user space on both architectures (48-bit ARM64 has more; what fits both is enough)."""
ADDRESS_MIN: Final = 0x10000
"""vm.mmap_min_addr's default."""

Fill = Callable[[int, memoryview], int]
"""(file offset, room) -> bytes read; the rest of the room stays zero. Errno(EIO) becomes SIGBUS."""


def page_down(address: int) -> int:
    return address & ~PAGE_MASK


def page_up(address: int) -> int:
    return (address + PAGE_MASK) & ~PAGE_MASK


@dataclass(slots=True)
class Backing:
    """What a file mapping shows: where its bytes come from and what /proc/PID/maps says of it."""

    fill: Fill
    size_bytes: int
    """Of the file when it was mapped; pages wholly beyond are SIGBUS."""
    name: bytes
    ino: int
    dev: int
    close: Callable[[], None]
    users: int = 0
    """VMAs that refer to it; the last one closes it."""


@dataclass(slots=True)
class Vma:
    """One mapping. `offset` is the file offset of `start`. `filled`: chunks of the file already here."""

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
    executed: bool = False
    """Whether the CPU may hold translations of its bytes, or a way to make some without asking."""

    @property
    def size_bytes(self) -> int:
        return self.end - self.start

    @property
    def charged_bytes(self) -> int:
        """Private writable memory, as the memory server counts it."""
        return self.size_bytes if self.protection & WRITE and self.segment is None else 0


def alike(low: Vma, high: Vma) -> bool:
    """Whether two neighbours show the same thing on, apart from where their pages lie."""
    if low.protection != high.protection or low.name != high.name or low.backing is not high.backing:
        return False
    if low.segment is not high.segment:
        return False
    if high.floor or low.floor:
        return False
    return (low.backing is None and low.segment is None) or low.offset + low.size_bytes == high.offset


def check_range(address: int, size_bytes: int) -> None:
    """Errno(EFAULT) unless [address, +size) lies in user space (access_ok)."""
    if address + size_bytes > ADDRESS_MAX or address < 0:
        raise Errno(EFAULT)
