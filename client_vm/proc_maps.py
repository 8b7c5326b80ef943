"""What a guest reads of its address space in /proc (proc(5)): maps, smaps, smaps_rollup.

What is in memory, and whether others show it, is what the host says of the arena (pagemap). It does not say how
many they are, so a page counts whole in Pss, nor what was stored to: what may be counts as dirty. A page that
nobody has stored to is the host's own page of zeros, and counts as shared.
"""

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from client_vm.arena import PAGE_BYTES, Arena
from client_vm.cpu import EXECUTE, READ, WRITE
from client_vm.vma import AtFork, Vma

if TYPE_CHECKING:
    from client_vm.process import Task

_COUNTED: Final = (
    "Rss", "Pss", "Pss_Dirty", "Shared_Clean", "Shared_Dirty", "Private_Clean", "Private_Dirty", "Referenced",
    "Anonymous", "KSM", "LazyFree", "AnonHugePages", "ShmemPmdMapped", "FilePmdMapped", "Shared_Hugetlb",
    "Private_Hugetlb", "Swap", "SwapPss", "Locked",
)  # fmt: skip
"""Of each mapping, in Linux's order. What farcall has none of stays 0: it neither swaps nor locks nor merges."""

_WORD_BYTES: Final = 8
_KIND_SHIFT: Final = 56
_PRESENT: Final = 1 << 63 - _KIND_SHIFT
_OF_FILE: Final = 1 << 61 - _KIND_SHIFT
"""Of a file, or of memory that is shared."""
_ALONE: Final = 1 << 56 - _KIND_SHIFT
"""No other process shows it."""
_KINDS: Final = _PRESENT | _OF_FILE | _ALONE


def maps(task: "Task") -> bytes:
    """/proc/PID/maps: one line per VMA."""
    return b"".join(map(_head, task.process.space.vmas))


def smaps(task: "Task") -> bytes:
    """/proc/PID/smaps: the same lines, each with what is in memory of it, in kB. Errno(EMFILE)."""
    with _page_map(task) as pages:
        return b"".join(_head(vma) + _paragraph(vma, pages.counts(vma)) for vma in task.process.space.vmas)


def rollup(task: "Task") -> bytes:
    """/proc/PID/smaps_rollup: the sums. Errno(EMFILE)."""
    vmas = task.process.space.vmas
    sums: Counter[str] = Counter()
    with _page_map(task) as pages:
        for vma in vmas:
            counts = pages.counts(vma)
            sums.update(counts)
            sums["Pss_Anon"] += counts["Anonymous"]
            sums["Pss_Shmem" if vma.segment is not None else "Pss_File"] += counts["Pss"] - counts["Anonymous"]
    names = (*_COUNTED[:3], "Pss_Anon", "Pss_File", "Pss_Shmem", *_COUNTED[3:])
    head = b"%08x-%08x ---p 00000000 00:00 0" % (vmas[0].start, vmas[-1].end)
    return head.ljust(73) + b"[rollup]\n" + b"".join(_row(name, sums[name]) for name in names)


def resident_bytes(task: "Task") -> tuple[int, int]:
    """(in memory of all mappings, of it what is not anonymous). Errno(EMFILE)."""
    with _page_map(task) as pages:
        counts = [pages.counts(vma) for vma in task.process.space.vmas]
    return sum(each["Rss"] for each in counts), sum(each["Rss"] - each["Anonymous"] for each in counts)


class _PageMap:
    """The host's pagemap of this worker (Documentation/admin-guide/mm/pagemap.rst): a word for each page."""

    def __init__(self, arena: Arena, descriptor: int) -> None:
        self._arena, self._descriptor = arena, descriptor

    def counts(self, vma: Vma) -> Counter[str]:
        """Bytes, by smaps's names."""
        stored_to = bool(vma.protection & WRITE)
        copied = vma.backing is not None and not vma.donated and not stored_to  # the file's pages, read into ours
        counts: Counter[str] = Counter()
        for kind, pages in self._kinds(vma.physical, vma.size_bytes).items():
            size_bytes = pages * PAGE_BYTES
            anonymous = not (kind & _OF_FILE or copied)
            dirty = anonymous or (stored_to and vma.segment is not None)
            names = ["Rss", "Pss", "Referenced"]
            names.append(f"{'Private' if kind & _ALONE else 'Shared'}_{'Dirty' if dirty else 'Clean'}")
            names += ["Anonymous"] if anonymous else []
            names += ["Pss_Dirty"] if dirty else []
            counts.update(dict.fromkeys(names, size_bytes))
        return counts

    def _kinds(self, offset: int, size_bytes: int) -> Counter[int]:
        """Pages in memory of an extent, by what the host says of them."""
        kinds: Counter[int] = Counter()
        for start, pages in self._arena.resident_runs(offset, size_bytes):
            place = (self._arena.address + start) // PAGE_BYTES * _WORD_BYTES
            words = memoryview(os.pread(self._descriptor, pages * _WORD_BYTES, place)).cast("Q")
            kinds.update(word >> _KIND_SHIFT & _KINDS for word in words)
        return Counter({kind: pages for kind, pages in kinds.items() if kind & _PRESENT})


@contextmanager
def _page_map(task: "Task") -> Iterator[_PageMap]:
    """Opened anew each time: it is of a host process, and a guest may have got another by fork(2)."""
    descriptor = task.process.link.open_page_map()
    try:
        yield _PageMap(task.process.space.arena, descriptor)
    finally:
        os.close(descriptor)


def _head(vma: Vma) -> bytes:
    flags = "".join(
        letter if vma.protection & bit else "-" for letter, bit in (("r", READ), ("w", WRITE), ("x", EXECUTE))
    )
    backing = vma.backing or (vma.segment if vma.segment is not None and vma.segment.ino else None)
    sharing = "p" if vma.segment is None else "s"
    major, minor = (backing.dev >> 32, backing.dev & 0xFFFFFFFF) if backing else (0, 0)
    offset = vma.offset if backing else 0
    line = f"{vma.start:08x}-{vma.end:08x} {flags}{sharing} {offset:08x} {major:02x}:{minor:02x} "
    head = (line + str(backing.ino if backing else 0)).encode()
    name = vma.name.replace(b"\n", b"\\012")  # one line each, whatever a file is called
    return (head.ljust(73) + name if name else head + b" ") + b"\n"


def _paragraph(vma: Vma, counts: Counter[str]) -> bytes:
    sizes = (("Size", vma.size_bytes), ("KernelPageSize", PAGE_BYTES), ("MMUPageSize", PAGE_BYTES))
    rows = [_row(name, value) for name, value in (*sizes, *((name, counts[name]) for name in _COUNTED))]
    return b"".join(rows) + b"THPeligible:           0\nVmFlags: " + _vm_flags(vma) + b"\n"


def _row(name: str, size_bytes: int) -> bytes:
    return b"%-15s %8d kB\n" % (name.encode() + b":", size_bytes >> 10)


def _vm_flags(vma: Vma) -> bytes:
    """Two letters and a space each (proc(5))."""
    shared = vma.segment is not None
    flags = (
        (b"rd", vma.protection & READ), (b"wr", vma.protection & WRITE), (b"ex", vma.protection & EXECUTE),
        (b"sh", shared), (b"mr", True), (b"mw", vma.may_write), (b"me", True), (b"ms", shared),
        (b"gd", vma.floor), (b"dc", vma.at_fork is AtFork.NOTHING), (b"nr", vma.reserved),
        (b"ac", vma.charged_bytes and not vma.reserved), (b"wf", vma.at_fork is AtFork.ZEROS),
    )  # fmt: skip
    return b"".join(name + b" " for name, is_set in flags if is_set)
