"""Memory that several processes share: segments of the memory server, mapped files, memfds. Each is a memfd that
is laid over a part of the arena, so that host processes see each other's stores.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from client_vm.abi.common import EACCES, ENODEV, ENOMEM
from client_vm.arena import PAGE_BYTES
from client_vm.descriptors import RemoteFile
from client_vm.errors import Errno
from farcall.v1.file_pb2 import FetchMappingRequest, MapSharedRequest, SyncMappingRequest, UnmapRequest
from farcall.v1.memory_pb2 import CreateSegmentRequest, DropSegmentRequest, FetchSegmentRequest

if TYPE_CHECKING:
    from client_vm.process import Process

_LOCAL: Final = 1 << 62
"""Numbers of segments that no server knows begin here."""
_FILES: Final = 1 << 63
"""Numbers of mapped files: with the inode."""


@dataclass(slots=True, eq=False)
class Segment:
    """One piece of shared memory as a process has it."""

    number: int
    """Names it among all processes of the run: where futexes lie."""
    descriptor: int
    """Of the memfd; closed with the last mapping."""
    size_bytes: int
    may_write: bool
    close: Callable[[], None]
    """Tells its owner that this process has no more mapping of it."""
    sync: Callable[[int, int], None]
    """(offset, bytes): stores so far are in the file (msync(2)). Errno(EIO)."""
    name: bytes = b""
    ino: int = 0
    dev: int = 0
    users: int = 0
    """VMAs that refer to it."""

    def reaches(self, offset: int) -> bool:
        """Whether there is a page at that offset; a file may have grown since."""
        if offset >= self.size_bytes:
            self.size_bytes = os.fstat(self.descriptor).st_size
        return offset < -(-self.size_bytes // PAGE_BYTES) * PAGE_BYTES

    def drop(self) -> None:
        """One mapping less."""
        self.users -= 1
        if not self.users:
            os.close(self.descriptor)
            self.close()


def _nothing() -> None:
    """A segment that nobody else knows needs no farewell."""


def _no_sync(_offset: int, _size_bytes: int) -> None:
    """Anonymous memory has no file."""


def anonymous(process: "Process", size_bytes: int) -> Segment:
    """Zeros to share with children: of the memory server, within its quota. Errno(ENOMEM)."""
    number = process.account.call(CreateSegmentRequest(size_bytes=size_bytes)).segment
    descriptor = process.account.fetch(FetchSegmentRequest(segment=number))
    if descriptor < 0:
        # The carrier cannot pass descriptors: the memfd is ours, the quota the server's all the same.
        descriptor = os.memfd_create("farcall-shared", os.MFD_CLOEXEC)
        os.ftruncate(descriptor, size_bytes)

    def close() -> None:
        process.account.call(DropSegmentRequest(segment=number))

    return Segment(number, descriptor, size_bytes, True, close, _no_sync, b"/dev/zero (deleted)")


def of_memfd(descriptor: int, may_write: bool, name: bytes) -> Segment:
    """A memfd of the guest's own."""
    try:
        copy = os.dup(descriptor)
    except OSError:
        raise Errno(ENOMEM) from None
    found = os.fstat(copy)
    return Segment(
        _LOCAL | found.st_ino, copy, found.st_size, may_write, _nothing, _no_sync, name, found.st_ino, 1
    )


def of_file(process: "Process", file: RemoteFile, wants_write: bool) -> Segment:
    """A file of the file server, whose only copy of the bytes is the memfd while it is mapped.

    Errno: EACCES, ENODEV (the carrier passes no descriptors, or the file has no pages).
    """
    files = process.files
    may_write = file.may_write
    if wants_write and not may_write:
        raise Errno(EACCES)
    attributes = files.call(MapSharedRequest(handle=file.handle, writable=may_write)).attributes
    ino = attributes.ino
    known = process.mapped_files.get(ino)
    if known is not None and known.users and (known.may_write or not may_write):
        return known
    descriptor = files.fetch(FetchMappingRequest(ino=ino))
    if descriptor < 0:
        raise Errno(ENODEV)

    def close() -> None:
        process.mapped_files.pop(ino, None)
        files.call(UnmapRequest(ino=ino))

    def sync(offset: int, size_bytes: int) -> None:
        files.call(SyncMappingRequest(ino=ino, offset=offset, length=size_bytes))

    size = os.fstat(descriptor).st_size
    segment = Segment(_FILES | ino, descriptor, size, may_write, close, sync, file.path(), ino, attributes.dev)
    process.mapped_files[ino] = segment
    return segment
