"""What a changed file's bytes are: extents, each in the database, in the data file, or in the lower layer.

A gap between extents is a hole and reads as zeros. Small writes are rows and join their neighbours up to
INLINE_MERGE_BYTES; larger ones go to a fresh place in the data file first and become visible by their row's
commit. A place in the data file is reused only after the commit that frees it, so nothing that a reader or a
restart can still reach is ever overwritten. An edge module: the data file is opened and written here alone.
"""

import errno
import os
from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterable
from operator import attrgetter
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

from ipc.message import Buffer
from servers.file.store import Store, end_process
from servers.service import ErrnoError
from servers.steps import step

DATA_FILE: Final = "data"
INLINE_BYTES_MAX: Final = 64 << 10
"""Of one write: up to this it goes into the database."""
INLINE_MERGE_BYTES: Final = 16 << 10
"""Neighbours in the database are joined up to this."""
FREE_SCANNED_MAX: Final = 64
"""Free ranges looked at for one allocation, before the data file grows instead."""
BLOCK_BYTES: Final = 4096
MAPS_CACHED_MAX: Final = 1024
RESERVE_BYTES: Final = 16 << 20
"""Left free on the state's file system: the database must always be able to record an answer."""

INLINE: Final = 0
DATA: Final = 1
LOWER: Final = 2

LowerRead: TypeAlias = Callable[[memoryview, int], int]
"""Reads the inode's lower file at a position into a buffer; the number of bytes (fewer only at its end)."""


class Extent(NamedTuple):
    offset: int
    length: int
    kind: int
    position: int
    """In the data file or the lower file; 0 if inline."""
    row: int

    @property
    def end(self) -> int:
        return self.offset + self.length


_offset = attrgetter("offset")


class DataFile:
    """Large data; which ranges of it are in use is for the extents to say."""

    def __init__(self, path: Path, used: Iterable[tuple[int, int]]) -> None:
        """`used`: (position, length) of every range in use, sorted."""
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._free: list[tuple[int, int]] = []
        """(start, end), sorted, never adjacent."""
        self._end = 0
        for position, length in used:
            if position > self._end:
                self._free.append((self._end, position))
            self._end = position + length
        os.ftruncate(self._fd, self._end)
        self._dirty = True

    def allocate(self, length: int) -> int:
        """A free range's position."""
        for index, (start, end) in enumerate(self._free[:FREE_SCANNED_MAX]):
            if end - start >= length:
                if end - start == length:
                    del self._free[index]
                else:
                    self._free[index] = (start + length, end)
                return start
        self._end += length
        return self._end - length

    def free(self, position: int, length: int) -> None:
        """The range may be used again."""
        start, end = position, position + length
        index = bisect_left(self._free, (start, end))
        if index < len(self._free) and self._free[index][0] == end:
            end = self._free.pop(index)[1]
        if index and self._free[index - 1][1] == start:
            index -= 1
            start = self._free.pop(index)[0]
        insort(self._free, (start, end))

    def free_bytes(self) -> int:
        return sum(end - start for start, end in self._free)

    def write(self, position: int, data: Buffer) -> None:
        """ErrnoError: ENOSPC, EDQUOT, EIO..."""
        view = memoryview(data)
        self._dirty = True
        try:
            while view:
                written = os.pwrite(self._fd, view, position)
                view, position = view[written:], position + written
        except OSError as error:
            raise ErrnoError(error.errno or errno.EIO, "data file") from None

    def read(self, view: memoryview, position: int) -> None:
        """Fills the buffer. A data file that lacks what a row promises ends the process."""
        while len(view):
            count = os.preadv(self._fd, [view], position)
            if not count:
                end_process(f"the data file has no byte {position}")
            view, position = view[count:], position + count

    def sync(self) -> None:
        """What was written survives a power failure."""
        if self._dirty:
            step("data-sync")
            try:
                os.fdatasync(self._fd)
            except OSError as error:
                end_process(f"fsync of the data file failed: {error}")
            self._dirty = False

    def close(self) -> None:
        os.close(self._fd)


class Extents:
    """The extents of all inodes that have a row. Changes need an open transaction of the store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._maps: dict[int, list[Extent]] = {}
        """By inode; sorted by offset, never overlapping."""
        self._blocks: dict[int, int] = {}
        used = store.execute("SELECT position, length FROM extent WHERE kind = ? ORDER BY position", (DATA,))
        self.data = DataFile(store.directory / DATA_FILE, used)
        store.add_cache(self._maps.clear)
        store.add_cache(self._blocks.clear)

    def sync(self) -> None:
        """Data before the rows that refer to it."""
        self.data.sync()
        self._store.sync()

    def close(self) -> None:
        self.data.close()

    def map(self, ino: int) -> list[Extent]:
        """The inode's extents; the caller must not change the list."""
        found = self._maps.get(ino)
        if found is None:
            if len(self._maps) >= MAPS_CACHED_MAX:
                self._maps.clear()
            rows = self._store.execute(
                "SELECT offset, length, kind, position, id FROM extent WHERE ino = ? ORDER BY offset", (ino,)
            )
            found = self._maps[ino] = [Extent(*row) for row in rows]
        return found

    def blocks(self, ino: int) -> int:
        """Of 512 bytes: what the extents would take on a file system with blocks of BLOCK_BYTES."""
        known = self._blocks.get(ino)
        if known is not None:
            return known
        pages, last = 0, -1
        for extent in self.map(ino):
            first = max(extent.offset // BLOCK_BYTES, last + 1)
            last = max(last, (extent.end - 1) // BLOCK_BYTES)
            pages += last - first + 1
        if len(self._blocks) >= MAPS_CACHED_MAX:
            self._blocks.clear()
        self._blocks[ino] = pages * (BLOCK_BYTES // 512)
        return self._blocks[ino]

    def room(self, size_bytes: int) -> None:
        """ErrnoError(ENOSPC) if the state's file system cannot take that many bytes more."""
        status = os.statvfs(self._store.directory)
        if status.f_bavail * status.f_frsize < size_bytes + RESERVE_BYTES:
            raise ErrnoError(errno.ENOSPC, "state directory")

    def add_lower(self, ino: int, size: int) -> None:
        """The whole of the inode's lower file is its data."""
        if size:
            self._insert(ino, Extent(0, size, LOWER, 0, 0))

    def read(self, ino: int, offset: int, view: memoryview, read_lower: LowerRead) -> None:
        """Fills the buffer from the inode's bytes at `offset`; the caller has cut it to the file's size."""
        extents = self.map(ino)
        end = offset + len(view)
        at = offset
        for index in range(self._first(extents, offset), len(extents)):
            extent = extents[index]
            if extent.offset >= end:
                break
            if extent.offset > at:
                view[at - offset : extent.offset - offset] = bytes(extent.offset - at)
                at = extent.offset
            until = min(extent.end, end)
            piece, skip = view[at - offset : until - offset], at - extent.offset
            if extent.kind == DATA:
                self.data.read(piece, extent.position + skip)
            elif extent.kind == LOWER:
                count = read_lower(piece, extent.position + skip)
                piece[count:] = bytes(len(piece) - count)
            else:
                data = self._store.value("SELECT data FROM extent WHERE id = ?", (extent.row,))
                piece[:] = data if len(data) == len(piece) else memoryview(data)[skip : skip + len(piece)]
            at = until
        if at < end:
            view[at - offset :] = bytes(end - at)

    def write(self, ino: int, offset: int, data: Buffer) -> None:
        """Puts data there. ErrnoError (ENOSPC) before anything is changed."""
        length = len(data)
        self.room(length)
        if length <= INLINE_BYTES_MAX:
            self._write_inline(ino, offset, bytes(data))
            return
        position = self.data.allocate(length)
        self._store.on_rollback(lambda: self.data.free(position, length))
        self.data.write(position, data)
        step("data-written")
        self.cut(ino, offset, offset + length)
        extents = self.map(ino)
        index = bisect_left(extents, offset, key=_offset)
        before = extents[index - 1] if index else None
        if (
            before is not None
            and (before.kind, before.end) == (DATA, offset)
            and before.position + before.length == position
        ):
            self._blocks.pop(ino, None)
            self._change(extents, index - 1, before._replace(length=before.length + length))
        else:
            self._insert(ino, Extent(offset, length, DATA, position, 0))

    def _write_inline(self, ino: int, offset: int, data: bytes) -> None:
        extents = self.map(ino)
        end = offset + len(data)
        # Those that the write overlaps or touches.
        first = self._first(extents, max(0, offset - 1))
        last = first
        while last < len(extents) and extents[last].offset <= end:
            last += 1
        near = [each for each in extents[first:last] if each.kind == INLINE]
        for extent in near:
            if extent.offset <= offset and end <= extent.end:
                with self._store.blob("extent", "data", extent.row, True) as blob:
                    blob.seek(offset - extent.offset)
                    blob.write(data)
                return
        start = min([offset] + [each.offset for each in near])
        until = max([end] + [each.end for each in near])
        if until - start <= INLINE_MERGE_BYTES and near:
            if len(near) == 1 and near[0].end == offset:
                index = extents.index(near[0], first)
                self._append_inline(ino, extents, index, data)
                return
            for extent in near:
                held = self._store.value("SELECT data FROM extent WHERE id = ?", (extent.row,))
                if extent.offset < offset:
                    data = held[: offset - extent.offset] + data
                    offset = extent.offset
                if extent.end > end:
                    data += held[end - extent.offset :]
                    end = extent.end
        self.cut(ino, offset, end)
        self._insert(ino, Extent(offset, end - offset, INLINE, 0, 0), data)

    def _append_inline(self, ino: int, extents: list[Extent], index: int, data: bytes) -> None:
        """The common case: the next small write of a file that grows."""
        self._blocks.pop(ino, None)
        extent = extents[index]
        end = extent.end + len(data)
        if index + 1 < len(extents) and extents[index + 1].offset < end:
            self.cut(ino, extent.end, end)
        self._store.execute(
            "UPDATE extent SET data = CAST(data || ? AS BLOB), length = ? WHERE id = ?",
            (data, extent.length + len(data), extent.row),
        )
        extents[index] = extent._replace(length=extent.length + len(data))

    def cut(self, ino: int, start: int, end: int) -> None:
        """Makes start..end a hole."""
        self._blocks.pop(ino, None)
        extents = self.map(ino)
        index = self._first(extents, start)
        while index < len(extents) and extents[index].offset < end:
            extent = extents[index]
            left, right = max(0, start - extent.offset), max(0, extent.end - end)
            if extent.kind == DATA:
                self._free_later(extent.position + left, extent.length - left - right)
            if right:
                rest = self._right_part(extent, right)
                if left:
                    self._shrink(ino, extents, index, left, rest)
                    return
                self._move_start(extents, index, rest)
                return
            if left:
                self._shrink(ino, extents, index, left, None)
                index += 1
            else:
                self._store.execute("DELETE FROM extent WHERE id = ?", (extent.row,))
                del extents[index]

    def drop(self, ino: int) -> None:
        """The inode is no more: all its extents go."""
        extents = self.map(ino)
        for extent in extents:
            if extent.kind == DATA:
                self._free_later(extent.position, extent.length)
        if extents:
            self._store.execute("DELETE FROM extent WHERE ino = ?", (ino,))
        self._maps.pop(ino, None)
        self._blocks.pop(ino, None)

    @staticmethod
    def _first(extents: list[Extent], offset: int) -> int:
        """The index of the first extent that ends after `offset`."""
        index = bisect_right(extents, offset, key=_offset)
        return index - 1 if index and extents[index - 1].end > offset else index

    @staticmethod
    def _right_part(extent: Extent, right: int) -> Extent:
        """The last `right` bytes of an extent."""
        skip = extent.length - right
        position = 0 if extent.kind == INLINE else extent.position + skip
        return extent._replace(offset=extent.offset + skip, length=right, position=position)

    def _shrink(self, ino: int, extents: list[Extent], index: int, left: int, rest: Extent | None) -> None:
        """Keeps the first `left` bytes of an extent, and its last ones as an extent of their own."""
        extent = extents[index]
        if rest is not None:
            row = self._store.insert(
                "INSERT INTO extent(ino, offset, length, kind, position, data) "
                "SELECT ino, ?, ?, kind, ?, substr(data, ?) FROM extent WHERE id = ?",
                (rest.offset, rest.length, rest.position, rest.offset - extent.offset + 1, extent.row),
            )
            extents.insert(index + 1, rest._replace(row=row))
        self._store.execute(
            "UPDATE extent SET length = ?, data = substr(data, 1, ?) WHERE id = ?", (left, left, extent.row)
        )
        extents[index] = extent._replace(length=left)

    def _move_start(self, extents: list[Extent], index: int, rest: Extent) -> None:
        """Keeps only the last bytes of an extent."""
        skip = rest.offset - extents[index].offset
        self._store.execute(
            "UPDATE extent SET offset = ?, length = ?, position = ?, data = substr(data, ?) WHERE id = ?",
            (rest.offset, rest.length, rest.position, skip + 1, rest.row),
        )
        extents[index] = rest

    def _change(self, extents: list[Extent], index: int, extent: Extent) -> None:
        self._store.execute("UPDATE extent SET length = ? WHERE id = ?", (extent.length, extent.row))
        extents[index] = extent

    def _insert(self, ino: int, extent: Extent, data: bytes | None = None) -> None:
        self._blocks.pop(ino, None)
        extents = self.map(ino)
        row = self._store.insert(
            "INSERT INTO extent(ino, offset, length, kind, position, data) VALUES(?, ?, ?, ?, ?, ?)",
            (ino, extent.offset, extent.length, extent.kind, extent.position, data),
        )
        insort(extents, extent._replace(row=row), key=_offset)

    def _free_later(self, position: int, length: int) -> None:
        """Not before the commit: until then the old rows may come back."""
        self._store.on_commit(lambda: self.data.free(position, length))
