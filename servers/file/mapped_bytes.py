"""The bytes of files that are mapped shared: from the store into the memfd, and back what guests stored there."""

import errno
from collections.abc import Callable, Iterator
from typing import Final

from servers.file.handles import OpenInode
from servers.file.inodes import Inode
from servers.file.tree import Tree
from servers.memfd import PAGE_BYTES, SharedPages
from servers.service import ErrnoError

PAGES_BYTES_MAX: Final = 4 << 30
"""Of all files that are fetched at one time: they are in memory."""
CHUNK_BYTES: Final = 1 << 20


class MappedBytes:
    """Moves them. Writing back needs an open transaction of the store."""

    def __init__(self, tree: Tree, others_bytes: Callable[[], int]) -> None:
        """`others_bytes`: of memory, that files take which are fetched already."""
        self._tree = tree
        self._handles = tree.handles
        self._others_bytes = others_bytes

    def load(self, shared: OpenInode, inode: Inode) -> SharedPages:
        """The file's bytes in a memfd. ErrnoError (ENOMEM: too many); OSError."""
        total = sum(end - start for start, end in self._stored(inode)) + self._others_bytes()
        if total > PAGES_BYTES_MAX:
            raise ErrnoError(errno.ENOMEM, "too much is mapped")
        pages = SharedPages.made("file", inode.size)
        try:
            for start, end in self._stored(inode):
                for offset in range(start, end, CHUNK_BYTES):
                    view = memoryview(bytearray(min(CHUNK_BYTES, end - offset)))
                    self._read_store(shared, inode, offset, view)
                    pages.write(view, offset)
        except BaseException:
            pages.close()
            raise
        return pages

    def write_back(self, shared: OpenInode, start: int = 0, end: int | None = None) -> None:
        """Commits what the memfd has and the store has not. ErrnoError (ENOSPC)."""
        if shared.pages is None:
            return
        inode = self._tree.inode(shared.ino, shared.lower)
        end = inode.size if end is None else min(end, inode.size)
        row: Inode | None = None
        for part, until in shared.pages.data(start, end):
            for offset in range(part, until, CHUNK_BYTES):
                view = memoryview(bytearray(min(CHUNK_BYTES, until - offset)))
                stored = memoryview(bytearray(len(view)))
                shared.pages.read(view, offset)
                self._read_store(shared, inode, offset, stored)
                for first, last in _differing(view, stored):
                    row = row or self._tree.touch(inode)
                    self._tree.extents.write(shared.ino, offset + first, view[first:last])
                inode = row or inode
        if row is not None:
            now = self._tree.now_ns()
            self._tree.inodes.put(row._replace(mtime_ns=now, ctime_ns=now, generation=row.generation + 1))

    def _stored(self, inode: Inode) -> Iterator[tuple[int, int]]:
        """The parts of the file that the store does not know to be holes."""
        if not inode.row:
            yield 0, inode.size
            return
        for extent in self._tree.extents.map(inode.ino):
            if extent.offset < inode.size:
                yield extent.offset, min(extent.end, inode.size)

    def _read_store(self, shared: OpenInode, inode: Inode, offset: int, view: memoryview) -> None:
        """What the store says is there; zeros where a lower file has become shorter."""
        if inode.row:
            self._tree.extents.read(
                inode.ino,
                offset,
                view,
                lambda piece, position: self._handles.read_lower(shared, piece, position),
            )
            return
        while len(view):
            count = self._handles.read_lower(shared, view, offset)
            if not count:
                return
            view, offset = view[count:], offset + count


def _differing(ours: memoryview, theirs: memoryview) -> Iterator[tuple[int, int]]:
    """The runs of pages (from the start of the buffers) that are not the same."""
    if ours == theirs:
        return
    first = -1
    for at in range(0, len(ours), PAGE_BYTES):
        same = ours[at : at + PAGE_BYTES] == theirs[at : at + PAGE_BYTES]
        if same and first >= 0:
            yield first, at
            first = -1
        elif not same and first < 0:
            first = at
    if first >= 0:
        yield first, len(ours)
