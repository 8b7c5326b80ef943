"""Memory that several processes share: segments of the memory server, mapped files, memfds. Each is a memfd that
is laid over a part of the arena, so that host processes see each other's stores.
"""

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from client_vm import host
from client_vm.abi.common import EACCES, ENODEV, ENOMEM
from client_vm.arena import PAGE_BYTES
from client_vm.descriptors import RemoteFile
from client_vm.errors import Errno
from client_vm.vma import Backing, Shown
from farcall.v1.file_pb2 import (
    DonateRequest,
    FetchMappingRequest,
    MapSharedRequest,
    SyncMappingRequest,
    UnmapRequest,
)
from ipc.limits import MAPPED_SIZE_AT

if TYPE_CHECKING:
    from client_vm.process import Process

_LOCAL: Final = 1 << 62
"""Numbers of segments that no server knows begin here."""
_FILES: Final = 1 << 63
"""Numbers of mapped files: with the inode."""


@dataclass(slots=True, eq=False)
class Segment(Shown):
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
    measure: Callable[[], int] | None = None
    """Where it ends now, if that may change."""
    move_end: Callable[[int], None] = lambda _descriptor: None
    """To another memfd, of a mapped file. OSError."""
    noticed_bytes: int = 0
    """The size when the CPU's translations were last compared with it."""
    users: int = 0
    """VMAs that refer to it."""

    def drop(self) -> None:
        """One mapping less."""
        self.users -= 1
        if not self.users:
            os.close(self.descriptor)
            self.close()


class _End:
    """The word behind all bytes of a mapped file's memfd: where the file ends (file.proto). OSError."""

    def __init__(self, descriptor: int) -> None:
        self._address = host.map_to_read(PAGE_BYTES, descriptor, MAPPED_SIZE_AT)
        self._view = host.view(self._address, 8)
        self._word = self._view.cast("Q")

    def now(self) -> int:
        return self._word[0]

    def move(self, descriptor: int) -> None:
        """To another memfd. OSError."""
        host.map_shared_at(self._address, PAGE_BYTES, descriptor, MAPPED_SIZE_AT, False)

    def close(self) -> None:
        self._word.release()
        self._view.release()
        host.unmap(self._address, PAGE_BYTES)


def private_backing(file: RemoteFile) -> Backing:
    """What a private mapping of a file shows: the file server's pages if it gives them, or else what is read of
    it. Errno."""
    files = file.files
    descriptor, found = files.fetch(DonateRequest(handle=file.handle))
    attributes = found.attributes if descriptor >= 0 else file.attributes()
    name = file.path()
    end = _End(descriptor) if descriptor >= 0 and found.mapped else None
    file.users += 1

    def close() -> None:
        if end is not None:
            end.close()
        file.drop()

    return Backing(
        fill=lambda offset, room: file.pread([room], offset),
        size_bytes=attributes.size,
        name=name,
        ino=attributes.ino,
        dev=attributes.dev,
        close=close,
        descriptor=descriptor,
        donate=None if descriptor < 0 else lambda: files.fetch(DonateRequest(handle=file.handle))[0],
        measure=None if end is None else end.now,
    )


def _nothing() -> None:
    """A segment that nobody else knows needs no farewell."""


def _no_sync(_offset: int, _size_bytes: int) -> None:
    """Anonymous memory has no file."""


def anonymous(process: "Process", size_bytes: int) -> Segment:
    """Zeros to share with children: of the memory server, within its quota. Errno(ENOMEM)."""
    number, descriptor = process.account.make_segment(size_bytes)
    if descriptor < 0:
        # The carrier cannot pass descriptors: the memfd is ours, the quota the server's all the same.
        descriptor = os.memfd_create("farcall-shared", os.MFD_CLOEXEC)
        os.ftruncate(descriptor, size_bytes)

    def close() -> None:
        process.account.drop_segment(number)  # of the process that it is by then: a child's is another

    return Segment(number, descriptor, size_bytes, True, close, _no_sync, b"/dev/zero (deleted)")


def of_memfd(descriptor: int, may_write: bool, name: bytes) -> Segment:
    """A memfd of the guest's own."""
    try:
        copy = os.dup(descriptor)
    except OSError:
        raise Errno(ENOMEM) from None
    found = os.fstat(copy)
    number = _LOCAL | found.st_ino
    segment = Segment(number, copy, found.st_size, may_write, _nothing, _no_sync, name, found.st_ino, 1)
    segment.measure = lambda: os.fstat(copy).st_size
    return segment


def of_file(process: "Process", file: RemoteFile, wants_write: bool) -> Segment:
    """A file of the file server, whose only copy of the bytes is the memfd while it is mapped.

    Errno: EACCES, ENODEV (the carrier passes no descriptors, or the file has no pages).
    """
    files = process.files
    may_write = file.may_write
    if wants_write and not may_write:
        raise Errno(EACCES)
    if not files.offers("MapShared", "FetchMapping", "Unmap", "SyncMapping"):
        raise Errno(ENODEV)
    attributes = files.call(MapSharedRequest(handle=file.handle, writable=may_write)).attributes
    ino = attributes.ino
    known = process.mapped_files.get(ino)
    if known is not None and (known.may_write or not may_write):
        return known
    descriptor = files.fetch(FetchMappingRequest(ino=ino))[0]
    if descriptor < 0:
        if known is None:
            files.call(UnmapRequest(ino=ino))
        raise Errno(ENODEV)
    if known is not None:
        # What is mapped for reading stays so; from now on there are mappings to store through.
        os.dup2(descriptor, known.descriptor, inheritable=False)
        os.close(descriptor)
        known.may_write = True
        return known
    end = _End(descriptor)

    def close() -> None:
        process.mapped_files.pop(ino, None)
        end.close()
        files.call(UnmapRequest(ino=ino))

    def sync(offset: int, size_bytes: int) -> None:
        files.call(SyncMappingRequest(ino=ino, offset=offset, length=size_bytes))

    number, name = _FILES | ino, file.path()
    segment = Segment(number, descriptor, end.now(), may_write, close, sync, name, ino, attributes.dev)
    segment.measure, segment.move_end = end.now, end.move
    process.mapped_files[ino] = segment
    return segment


def fetch_again(process: "Process") -> None:
    """After the file server's restart: it has the memfds that there were, if it could see them (servers/file,
    Mappings); if not, its new ones take the place of ours."""
    process.space.stale = False
    for ino, segment in process.mapped_files.items():
        # The session is lost, or the file: the guest hears of it when it calls.
        with suppress(Errno):
            descriptor = process.files.fetch(FetchMappingRequest(ino=ino))[0]
            if descriptor < 0:
                continue
            if not os.path.sameopenfile(descriptor, segment.descriptor):
                os.dup2(descriptor, segment.descriptor, inheritable=False)
                segment.move_end(segment.descriptor)
                process.space.show_again(segment)
            os.close(descriptor)
