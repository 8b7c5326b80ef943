"""Bytes of remote files that the kernel process keeps: chunks for reads, memfds for private mappings.

Bounded. What is here is true as long as Answers says so of the inode (caching_link asks it first); a recalled
inode's content is dropped, and nobody who waits for a chunk of it is served by that chunk.
"""

import fcntl
import os
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from farcall.v1.file_pb2 import Attributes
from ipc.limits import DATA_BYTES_MAX

CHUNK_BYTES: Final = DATA_BYTES_MAX
CHUNKS_BYTES_MAX: Final = 128 << 20
"""Of all files; the chunks that were used longest ago go first."""
CONTENTS_MAX: Final = 4096
DONATED_BYTES_MAX: Final = 32 << 20
"""Of one file: larger ones are read in parts, for a program seldom needs all of them."""
MEMFDS_BYTES_MAX: Final = 256 << 20
"""Of all memfds."""
_SEALS: Final = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL


@dataclass(slots=True, eq=False)
class Content:
    """One file's bytes, as of a generation."""

    ino: int
    generation: int
    size_bytes: int
    alive: bool = True
    """Nothing of it was recalled, as far as we know."""
    memfd: int = -1
    chunks: dict[int, bytes] = field(default_factory=dict)
    coming: dict[int, list[Callable[[], None]]] = field(default_factory=dict)
    """Index of a chunk that was asked for -> who wants to hear when it is here, or will not come."""

    @property
    def chunk_count(self) -> int:
        return -(-self.size_bytes // CHUNK_BYTES)

    def room_of(self, index: int) -> int:
        """Bytes of a chunk."""
        return min(CHUNK_BYTES, self.size_bytes - index * CHUNK_BYTES)

    def read(self, offset: int, count: int, into: memoryview | None) -> memoryview | bytes | None:
        """As pread(2), into the room if it is given; None: not all of it is here."""
        count = max(0, min(count, self.size_bytes - offset))
        if not count:
            return b""
        room = into[:count] if into is not None and len(into) >= count else memoryview(bytearray(count))
        if self.memfd >= 0:
            return room if os.preadv(self.memfd, (room,), offset) == count else None
        done = 0
        while done < count:
            index, start = divmod(offset + done, CHUNK_BYTES)
            chunk = self.chunks.get(index)
            if chunk is None:
                return None
            part = memoryview(chunk)[start : start + count - done]
            room[done : done + len(part)] = part
            done += len(part)
        return room


class Contents:
    """All of them, by inode."""

    def __init__(self) -> None:
        self._contents: dict[int, Content] = {}
        self._used: OrderedDict[tuple[int, int], None] = OrderedDict()
        """Chunks, the longest unused first."""
        self._chunk_bytes = 0
        self._memfds: OrderedDict[int, int] = OrderedDict()
        """Inode -> bytes of its memfd, the longest unused first."""
        self._memfd_bytes = 0

    def of(self, attributes: Attributes) -> Content:
        """The content of a file that is so now; an older one of it is dropped."""
        self.compare(attributes)
        content = self._contents.get(attributes.ino)
        if content is not None:
            return content
        if len(self._contents) >= CONTENTS_MAX:
            self.drop(next(iter(self._contents)))
        content = Content(attributes.ino, attributes.generation, attributes.size)
        self._contents[content.ino] = content
        return content

    def compare(self, attributes: Attributes) -> None:
        """What is known of the file now: an older content of it is dropped."""
        content = self._contents.get(attributes.ino)
        if content is not None and (content.generation, content.size_bytes) != (
            attributes.generation,
            attributes.size,
        ):
            self.drop(attributes.ino)

    def add(self, content: Content, index: int, chunk: bytes) -> None:
        """A chunk that was read while its content was alive."""
        if not content.alive or index in content.chunks or content.memfd >= 0:
            return
        content.chunks[index] = chunk
        self._used[content.ino, index] = None
        self._chunk_bytes += len(chunk)
        while self._chunk_bytes > CHUNKS_BYTES_MAX:
            (ino, old), _ = self._used.popitem(last=False)
            self._chunk_bytes -= len(self._contents[ino].chunks.pop(old))

    def touch(self, content: Content, index: int) -> None:
        """A chunk, or the memfd, was used."""
        if (content.ino, index) in self._used:
            self._used.move_to_end((content.ino, index))
        elif content.ino in self._memfds:
            self._memfds.move_to_end(content.ino)

    def seal(self, content: Content) -> bool:
        """Makes the memfd of a content whose chunks are all here; it takes their place. OSError."""
        chunks = [content.chunks.get(index) for index in range(content.chunk_count)]
        descriptor = os.memfd_create("farcall-donated", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            for chunk in chunks:
                if chunk is None or os.write(descriptor, chunk) != len(chunk):
                    os.close(descriptor)
                    return False
            fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
        except OSError:
            os.close(descriptor)
            raise
        self._drop_chunks(content)
        content.memfd = descriptor
        self._memfds[content.ino] = content.size_bytes
        self._memfd_bytes += content.size_bytes
        while self._memfd_bytes > MEMFDS_BYTES_MAX:
            self._drop_memfd(next(iter(self._memfds)))
        return content.memfd >= 0

    def drop(self, ino: int | None) -> None:
        """The inode's content may not be true any more; None: all."""
        if ino is None:
            for each in list(self._contents):
                self.drop(each)
            return
        content = self._contents.pop(ino, None)
        if content is None:
            return
        content.alive = False
        if content.memfd >= 0:
            self._memfd_bytes -= self._memfds.pop(ino)
            os.close(content.memfd)
            content.memfd = -1
        self._drop_chunks(content)

    def _drop_memfd(self, ino: int) -> None:
        self._memfd_bytes -= self._memfds.pop(ino)
        content = self._contents[ino]
        os.close(content.memfd)
        content.memfd = -1

    def _drop_chunks(self, content: Content) -> None:
        for index, chunk in content.chunks.items():
            del self._used[content.ino, index]
            self._chunk_bytes -= len(chunk)
        content.chunks.clear()

    @property
    def kept_bytes(self) -> int:
        """In chunks and memfds."""
        return self._chunk_bytes + self._memfd_bytes
