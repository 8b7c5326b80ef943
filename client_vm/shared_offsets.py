"""File offsets and status flags of descriptions that several workers share, in one memfd of the run.

Slots of 16 bytes: offset, flags, users (worker processes). A POSIX record lock of the host guards a slot, so
that a worker's death frees it. Nobody may close another descriptor of the memfd: that would drop the locks
(fcntl(2)). Slot 0 holds the next thread id and the first slot never used.

Behind the slots the kernel process counts, for each guest pid, the events it has for it: so a worker sees at
once that it has something to hear, and what another guest writes cannot overtake a signal it has sent before.
"""

import fcntl
import mmap
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from client_vm.abi.common import EAGAIN, ENFILE
from client_vm.errors import Errno

SLOT_BYTES: Final = 16
SLOTS: Final = 1 << 20
RUN_LOCK_SLOT: Final = SLOTS - 1
"""Never handed out: its lock is the run lock of processes that share memory."""
FIRST_THREAD: Final = 100_000
"""Thread ids that are no process's begin here."""
THREAD_MAX: Final = 4_194_304
"""As /proc/sys/kernel/pid_max."""
COUNTS_AT: Final = SLOT_BYTES * SLOTS
MEMORY_BYTES: Final = COUNTS_AT + 8 * FIRST_THREAD
"""8 bytes for each pid below the first thread id; a process beyond may hear of its events a little later."""
_SLOT: Final = struct.Struct("<qII")
_HEAD: Final = struct.Struct("<QII")
"""Next thread id, first slot never used, first free slot (each free slot's offset names the next)."""


class SharedOffsets:
    """The memfd, as one worker sees it. Errors of the host's are bugs and crash."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._memory = mmap.mmap(descriptor, MEMORY_BYTES)
        self._counts = memoryview(self._memory)[COUNTS_AT:].cast("Q")

    def events_of(self, pid: int) -> memoryview:
        """The count of a process's events, as the kernel process keeps it: one word."""
        return self._counts[pid : pid + 1] if pid < FIRST_THREAD else memoryview(bytes(8)).cast("Q")

    @contextmanager
    def locked(self, slot: int) -> Iterator[None]:
        """Nobody else is between the same two lines."""
        fcntl.lockf(self._descriptor, fcntl.LOCK_EX, SLOT_BYTES, slot * SLOT_BYTES, os.SEEK_SET)
        try:
            yield
        finally:
            fcntl.lockf(self._descriptor, fcntl.LOCK_UN, SLOT_BYTES, slot * SLOT_BYTES, os.SEEK_SET)

    def next_id(self) -> int:
        """A thread id that nobody has had. Errno(EAGAIN): all are used up."""
        with self.locked(0):
            number, fresh, free = _HEAD.unpack_from(self._memory, 0)
            number = max(number, FIRST_THREAD)
            if number > THREAD_MAX:
                raise Errno(EAGAIN)
            _HEAD.pack_into(self._memory, 0, number + 1, fresh, free)
        return int(number)

    def take(self, offset: int, flags: int) -> int:
        """A slot with one user. Errno(ENFILE): none is left."""
        with self.locked(0):
            number, fresh, free = _HEAD.unpack_from(self._memory, 0)
            slot = free or max(fresh, 1)
            if slot >= RUN_LOCK_SLOT:
                raise Errno(ENFILE)
            if free:
                free = self.read(slot)[0]
            else:
                fresh = slot + 1
            _HEAD.pack_into(self._memory, 0, number, fresh, free)
        _SLOT.pack_into(self._memory, slot * SLOT_BYTES, offset, flags, 1)
        return int(slot)

    def check(self, slot: int) -> None:
        """ValueError: another worker speaks of a slot that cannot be."""
        if not 0 < slot < RUN_LOCK_SLOT:
            raise ValueError(f"slot {slot}")

    def read(self, slot: int) -> tuple[int, int, int]:
        """(offset, flags, users)."""
        offset, flags, users = _SLOT.unpack_from(self._memory, slot * SLOT_BYTES)
        return offset, flags, users

    def set_offset(self, slot: int, offset: int) -> None:
        struct.pack_into("<q", self._memory, slot * SLOT_BYTES, offset)

    def set_flags(self, slot: int, flags: int) -> None:
        struct.pack_into("<I", self._memory, slot * SLOT_BYTES + 8, flags)

    def change_users(self, slot: int, by: int) -> None:
        """One worker more, or less; a slot without users is free again."""
        with self.locked(slot):
            _, _, users = self.read(slot)
            struct.pack_into("<I", self._memory, slot * SLOT_BYTES + 12, users + by)
        if users + by:
            return
        with self.locked(0):
            number, fresh, free = _HEAD.unpack_from(self._memory, 0)
            self.set_offset(slot, free)
            _HEAD.pack_into(self._memory, 0, number, fresh, slot)


class EventCounts:
    """The kernel process's side: how many events there have been for each process."""

    def __init__(self, descriptor: int) -> None:
        memory = mmap.mmap(descriptor, MEMORY_BYTES)
        memory.madvise(mmap.MADV_DONTFORK)  # no affair of the servers'
        self._counts = memoryview(memory)[COUNTS_AT:].cast("Q")

    def set(self, pid: int, count: int) -> None:
        """So many by now."""
        if pid < len(self._counts):
            self._counts[pid] = count
