"""A file's bytes while workers have it mapped shared: one memfd that its server and all of them use.

An edge module. The memfd is as large as it will ever be (a hole costs nothing) and keeps that size by seals: a
page that a worker has mapped stays, or its next touch would kill it (SIGBUS). Where the file ends, which is
where the worker's MMU lets the guest have its SIGBUS, says a word behind all bytes of the file. The server reads
and writes by calls, so nothing that a peer does to the memfd can harm it.

A server that dies leaves its memfds to the workers that have them mapped. The next one finds them there: by what
the kernel says of every descriptor that is open on this host, so that nobody can pass off another for it.
"""

import ctypes
import errno
import fcntl
import os
import sys
from collections.abc import Iterator, Set
from typing import Final

from ipc.limits import MAPPED_SIZE_AT
from ipc.message import Buffer

PAGE_BYTES: Final = 4096
_SEALS: Final = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
_SIZE_BYTES: Final = 8
_PUNCH_HOLE: Final = 0x02 | 0x01
"""FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE (fallocate(2))."""

_libc = ctypes.CDLL(None, use_errno=True)


def page_end(offset: int) -> int:
    """The end of the page that the offset stands in; of a page's start, that very offset."""
    return -(-offset // PAGE_BYTES) * PAGE_BYTES


class SharedPages:
    """The memfd of one file."""

    def __init__(self, descriptor: int, size_bytes: int) -> None:
        self._fd = descriptor
        self._size_bytes = size_bytes

    @classmethod
    def made(cls, name: str, size_bytes: int) -> "SharedPages":
        """So many bytes, zeros at first. OSError (EMFILE, ENOMEM)."""
        pages = cls(os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING), 0)
        try:
            os.ftruncate(pages._fd, MAPPED_SIZE_AT + PAGE_BYTES)
            pages._tell(size_bytes)
            fcntl.fcntl(pages._fd, fcntl.F_ADD_SEALS, _SEALS)
        except OSError:
            pages.close()
            raise
        return pages

    @classmethod
    def adopted(cls, descriptor: int, size_bytes: int) -> "SharedPages":
        """An earlier server's, which died, perhaps between a commit and the memfd: the file has `size_bytes` now.
        Takes the descriptor over. OSError."""
        word = os.pread(descriptor, _SIZE_BYTES, MAPPED_SIZE_AT)
        told = min(int.from_bytes(word, sys.byteorder), MAPPED_SIZE_AT)
        pages = cls(descriptor, told)
        try:
            pages.resized(told, size_bytes)
            pages.zero(size_bytes, MAPPED_SIZE_AT)
        except OSError:
            pages.close()
            raise
        return pages

    @property
    def identity(self) -> tuple[int, int]:
        """(st_dev, st_ino): no other file has both while this one is there."""
        status = os.fstat(self._fd)
        return status.st_dev, status.st_ino

    def descriptor(self, writable: bool) -> int:
        """A descriptor to give away."""
        if writable:
            return os.dup(self._fd)
        return os.open(f"/proc/self/fd/{self._fd}", os.O_RDONLY | os.O_CLOEXEC)

    def _tell(self, size_bytes: int) -> None:
        """The file ends there now. OSError."""
        os.pwrite(self._fd, size_bytes.to_bytes(_SIZE_BYTES, sys.byteorder), MAPPED_SIZE_AT)
        self._size_bytes = size_bytes

    def read(self, view: memoryview, offset: int) -> None:
        """Fills the buffer; zeros beyond the end."""
        while len(view):
            count = os.preadv(self._fd, [view], offset)
            if not count:
                view[:] = bytes(len(view))
            view, offset = view[count or len(view) :], offset + count

    def write(self, data: Buffer, offset: int) -> None:
        """Puts data there, and grows to hold it. OSError."""
        view = memoryview(data)
        end = offset + len(view)
        while view:
            count = os.pwrite(self._fd, view, offset)
            view, offset = view[count:], offset + count
        if end > self._size_bytes:
            self._tell(end)

    def zero(self, start: int, end: int) -> None:
        """Makes start..end zeros, their memory free. OSError."""
        if start >= end:
            return
        length = ctypes.c_int64(end - start)
        if _libc.fallocate64(self._fd, _PUNCH_HOLE, ctypes.c_int64(start), length):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))

    def resized(self, before: int, after: int) -> None:
        """The file got another size: what is beyond its end reads as zeros should it grow again. OSError."""
        self._tell(after)
        if after < before:
            self.zero(after, page_end(before))
        else:
            # Stores behind the end of file, in its last page, never were part of the file (mmap(2)).
            self.zero(before, min(after, page_end(before)))

    def data(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """The parts of start..end that are not holes."""
        while start < end:
            try:
                start = os.lseek(self._fd, start, os.SEEK_DATA)
            except OSError as error:
                if error.errno != errno.ENXIO:
                    raise
                return
            if start >= end:
                return
            until = min(os.lseek(self._fd, start, os.SEEK_HOLE), end)
            yield start, until
            start = until

    def used_bytes(self) -> int:
        """Of memory."""
        return os.fstat(self._fd).st_blocks * 512

    def seek(self, offset: int, whence: int) -> int:
        """lseek(2) with SEEK_DATA or SEEK_HOLE. OSError (ENXIO)."""
        return os.lseek(self._fd, offset, whence)

    def close(self) -> None:
        """Lets go of it; workers that have it mapped keep their pages."""
        os.close(self._fd)


def find_memfds(wanted: Set[tuple[int, int]]) -> dict[tuple[int, int], int]:
    """Those of the memfds (st_dev, st_ino) that some process of this host has open, as far as we may look: a
    descriptor of ours for each."""
    found: dict[tuple[int, int], int] = {}
    for pid in os.listdir("/proc"):
        if wanted == found.keys():
            break
        try:
            paths = [f"/proc/{pid}/fd/{number}" for number in os.listdir(f"/proc/{pid}/fd")]
        except OSError:  # no process, one that has ended, another user's
            continue
        for path in paths:
            if (opened := _reopen(path, wanted - found.keys())) is not None:
                found[opened[0]] = opened[1]
    return found


def _reopen(path: str, wanted: Set[tuple[int, int]]) -> tuple[tuple[int, int], int] | None:
    """What a process has there, if it is one of these: (which, a descriptor). It may change at any moment, so it
    is only looked at until it is ours."""
    try:
        if not os.readlink(path).startswith("/memfd:"):  # others could be slow to ask
            return None
        seen = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        status = os.fstat(seen)
        key = status.st_dev, status.st_ino
        return (key, os.open(f"/proc/self/fd/{seen}", os.O_RDWR | os.O_CLOEXEC)) if key in wanted else None
    except OSError:
        return None
    finally:
        os.close(seen)


def boot_id() -> str:
    """Of the host: another one's memfds are gone."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()
