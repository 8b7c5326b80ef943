"""What workers map: lower files for private mappings, and shared mappings, one owner per byte (DESIGN section 9).

While a session has an inode mapped and has fetched its memfd, that is where its bytes are: reads answer from
it, and what writes and truncations commit to the store is put there too, right after the commit and before
the reply. Stores of guests are in the memfd alone until they are written back: by SyncMapping, when the last
session that may store lets go, or at that session's end.

After a restart of the server the memfd is gone, and the store's bytes are the file: what was stored through
mappings since the last SyncMapping is lost. A worker whose server has another boot epoch fetches each of its
mappings again (the rows that allow it have survived) and puts the new memfd in the place of the old one.
"""

import errno
import sys
from collections.abc import Iterator, Mapping
from typing import Final

from farcall.v1.file_pb2 import (
    DonateRequest,
    DonateResponse,
    FetchMappingRequest,
    FetchMappingResponse,
    MapSharedRequest,
    MapSharedResponse,
    SyncMappingRequest,
    SyncMappingResponse,
    UnmapRequest,
    UnmapResponse,
)
from ipc.operations import BY_NAME
from servers.file.handles import OpenInode
from servers.file.inodes import Inode
from servers.file.tree import Tree
from servers.memfd import PAGE_BYTES, SharedPages
from servers.service import ErrnoError, Handler, Session, WithDescriptor

MAPPINGS_MAX: Final = 65_536
"""Of one session; one more is ENOMEM, as beyond vm.max_map_count (mmap(2))."""
PAGES_BYTES_MAX: Final = 4 << 30
"""Of all files that are fetched at one time: they are in memory."""
CHUNK_BYTES: Final = 1 << 20


class Mappings:
    """The handlers, and who has what mapped. Changes need an open transaction of the store."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._store = tree.store
        self._handles = tree.handles
        self._mapped: dict[int, dict[int, bool]] = {}
        """Session -> ino -> whether it may store."""
        self._users: dict[int, dict[int, bool]] = {}
        """The same by ino."""
        with self._store.transaction():
            for session, ino, lower, writable in self._store.execute("SELECT * FROM mapping"):
                self._set(session, ino, bool(writable))
                self._handles.hold(ino, lower)
        self.handlers: Mapping[int, Handler] = {
            BY_NAME["Donate"].opcode: self.donate,
            BY_NAME["MapShared"].opcode: self.map,
            BY_NAME["FetchMapping"].opcode: self.fetch,
            BY_NAME["Unmap"].opcode: self.unmap,
            BY_NAME["SyncMapping"].opcode: self.sync,
        }

    def has_any(self, session: int) -> bool:
        return session in self._mapped

    def donate(self, session: Session, request: DonateRequest) -> WithDescriptor:
        """For private mappings: the lower file itself, with an offset of its own. EBADF; EMFILE; EOPNOTSUPP: the
        bytes are not the lower file's, or the handle may not read."""
        file = self._handles.get(session.number, request.handle)
        inode = self._tree.open_inode(file)
        if not file.readable or not inode.is_regular or not file.shared.direct:
            raise ErrnoError(errno.EOPNOTSUPP)
        descriptor = self._tree.lower.reopen(self._handles.lower_fd(file.shared))
        return WithDescriptor(DonateResponse(attributes=self._tree.attributes(inode)), descriptor)

    def map(self, session: Session, request: MapSharedRequest) -> MapSharedResponse:
        """mmap(2) with MAP_SHARED. EBADF; EACCES: not open for what is asked; ENODEV: no regular file; ENOMEM."""
        file = self._handles.get(session.number, request.handle)
        if file.path_only:
            raise ErrnoError(errno.EBADF)
        inode = self._tree.open_inode(file)
        if not file.readable or (request.writable and not file.writable):
            raise ErrnoError(errno.EACCES)
        if not inode.is_regular:
            raise ErrnoError(errno.ENODEV)
        mine = self._mapped.get(session.number, {})
        before = mine.get(inode.ino)
        if before is None and len(mine) >= MAPPINGS_MAX:
            raise ErrnoError(errno.ENOMEM)
        if before is None or (request.writable and not before):
            self._add(session.number, inode.ino, inode.lower, request.writable)
        return MapSharedResponse(attributes=self._tree.attributes(inode))

    def fetch(self, session: Session, request: FetchMappingRequest) -> WithDescriptor:
        """The memfd; for reading only, if the session may not store. EBADF: not mapped; ENOMEM, EMFILE."""
        writable = self._require(session, request.ino)
        shared = self._shared(request.ino)
        inode = self._tree.inode(shared.ino, shared.lower)
        try:
            if shared.pages is None:
                shared.pages = self._load(shared, inode)
                shared.direct = False
            descriptor = shared.pages.descriptor(writable)
        except OSError as error:
            raise ErrnoError(error.errno or errno.ENOMEM, "memfd") from None
        return WithDescriptor(FetchMappingResponse(attributes=self._tree.attributes(inode)), descriptor)

    def unmap(self, session: Session, request: UnmapRequest) -> UnmapResponse:
        """munmap(2) of the session's last mapping of it. EBADF; ENOSPC: the file cannot be written back, and the
        mapping stays."""
        writable = self._require(session, request.ino)
        if writable and self._stores_alone(session.number, request.ino):
            self._write_back(request.ino, 0, None)
        self._remove(session.number, request.ino)
        return UnmapResponse()

    def sync(self, session: Session, request: SyncMappingRequest) -> SyncMappingResponse:
        """msync(2). EBADF: not mapped; ENOSPC."""
        self._require(session, request.ino)
        self._write_back(request.ino, request.offset, request.offset + request.length if request.length else None)
        return SyncMappingResponse()

    def inherit(self, session: int, target: int) -> None:
        """Every mapping of the session is the target's too, which has none."""
        mine = self._mapped.get(session, {})
        for ino, writable in mine.items():
            self._add(target, ino, self._shared(ino).lower, writable)

    def session_ended(self, session: Session) -> None:
        """Writes back what nobody else may store to, and lets go of all. Handles are closed already."""
        for ino, writable in list(self._mapped.get(session.number, {}).items()):
            shared = self._shared(ino)
            row = self._tree.inodes.get(ino)
            vanishes = row is not None and not row.nlink and shared.holders == 1
            if writable and not vanishes and self._stores_alone(session.number, ino):
                try:
                    with self._store.savepoint():
                        self._write_back(ino, 0, None)
                except ErrnoError as error:
                    # As when a file system cannot write back a dirty page: nobody is left who could be told.
                    sys.stderr.write(f"farcall: file server: inode {ino}: stores by mmap are lost: {error}\n")
            self._remove(session.number, ino)

    # Who has what

    def _require(self, session: Session, ino: int) -> bool:
        """Whether the session may store. EBADF: it has not mapped it."""
        writable = self._mapped.get(session.number, {}).get(ino)
        if writable is None:
            raise ErrnoError(errno.EBADF, "not mapped")
        return writable

    def _shared(self, ino: int) -> OpenInode:
        shared = self._handles.shared(ino)
        assert shared is not None, "a mapping holds its inode"
        return shared

    def _stores_alone(self, session: int, ino: int) -> bool:
        return not any(writable for other, writable in self._users[ino].items() if other != session)

    def _add(self, session: int, ino: int, lower: bytes | None, writable: bool) -> None:
        before = self._mapped.get(session, {}).get(ino)
        row = (session, ino, lower, writable)
        self._store.execute("INSERT OR REPLACE INTO mapping VALUES(?, ?, ?, ?)", row)
        self._set(session, ino, writable)
        self._store.on_rollback(lambda: self._set(session, ino, before))
        if before is None:
            self._handles.hold(ino, lower)

    def _remove(self, session: int, ino: int) -> None:
        writable = self._mapped[session][ino]
        shared = self._shared(ino)
        self._store.execute("DELETE FROM mapping WHERE session = ? AND ino = ?", (session, ino))
        self._set(session, ino, None)
        self._store.on_rollback(lambda: self._set(session, ino, writable))
        self._store.on_commit(lambda: self._drop_unused(shared))
        self._handles.let_go(shared)
        self._tree.closed(ino)

    def _drop_unused(self, shared: OpenInode) -> None:
        if shared.ino not in self._users:
            self._handles.drop_pages(shared)

    def _set(self, session: int, ino: int, writable: bool | None) -> None:
        """Notes it; None: not mapped."""
        for table, key, value in ((self._mapped, session, ino), (self._users, ino, session)):
            if writable is not None:
                table.setdefault(key, {})[value] = writable
            elif key in table:
                table[key].pop(value, None)
                if not table[key]:
                    del table[key]

    # Bytes

    def _load(self, shared: OpenInode, inode: Inode) -> SharedPages:
        """The file's bytes in a memfd. ErrnoError (ENOMEM: too many); OSError."""
        total = sum(end - start for start, end in self._stored(inode))
        for ino in self._users:
            other = self._shared(ino).pages
            total += other.used_bytes() if other is not None else 0
        if total > PAGES_BYTES_MAX:
            raise ErrnoError(errno.ENOMEM, "too much is mapped")
        pages = SharedPages("file", inode.size)
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

    def _write_back(self, ino: int, start: int, end: int | None) -> None:
        """Commits what the memfd has and the store has not. ErrnoError (ENOSPC)."""
        shared = self._shared(ino)
        if shared.pages is None:
            return
        inode = self._tree.inode(ino, shared.lower)
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
                    self._tree.extents.write(ino, offset + first, view[first:last])
                inode = row or inode
        if row is not None:
            now = self._tree.now_ns()
            self._tree.inodes.put(row._replace(mtime_ns=now, ctime_ns=now, generation=row.generation + 1))


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
