"""A file's bytes while workers have it mapped shared: one memfd that its server and all of them use.

An edge module. The memfd never shrinks (F_SEAL_SHRINK): a page that a worker has mapped stays, or its next
touch would kill it (SIGBUS). The server reads and writes by calls, so nothing that a peer does to the memfd
can harm it.
"""

import ctypes
import errno
import fcntl
import os
from collections.abc import Iterator
from typing import Final

from ipc.message import Buffer

PAGE_BYTES: Final = 4096
_SEALS: Final = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL
_PUNCH_HOLE: Final = 0x02 | 0x01
"""FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE (fallocate(2))."""

_libc = ctypes.CDLL(None, use_errno=True)


def page_end(offset: int) -> int:
    """The end of the page that the offset stands in; of a page's start, that very offset."""
    return -(-offset // PAGE_BYTES) * PAGE_BYTES


class SharedPages:
    """So many bytes, zeros at first, in whole pages. OSError (EMFILE, ENOMEM)."""

    def __init__(self, name: str, size_bytes: int) -> None:
        self._fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            self.grow(size_bytes)
            fcntl.fcntl(self._fd, fcntl.F_ADD_SEALS, _SEALS)
        except OSError:
            os.close(self._fd)
            raise

    def descriptor(self, writable: bool) -> int:
        """A descriptor to give away."""
        if writable:
            return os.dup(self._fd)
        return os.open(f"/proc/self/fd/{self._fd}", os.O_RDONLY | os.O_CLOEXEC)

    def grow(self, size_bytes: int) -> None:
        """There are at least so many bytes, in whole pages. OSError."""
        size_bytes = page_end(size_bytes)
        if os.fstat(self._fd).st_size < size_bytes:  # a peer may have made it larger, which harms nobody
            os.ftruncate(self._fd, size_bytes)

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
        self.grow(offset + len(view))
        while view:
            count = os.pwrite(self._fd, view, offset)
            view, offset = view[count:], offset + count

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
        if after < before:
            self.zero(after, page_end(before))
        else:
            self.grow(after)
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
