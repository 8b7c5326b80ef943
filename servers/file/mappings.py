"""What workers map: lower files for private mappings, and shared mappings, one owner per byte (DESIGN section 9).

While a session has an inode mapped and has fetched its memfd, that is where its bytes are: reads answer from
it, and what writes and truncations commit to the store is put there too, before the reply. Stores of guests are
in the memfd alone until they are written back: by SyncMapping or Sync, when the last session that may store lets
go, or at that session's end.

A server that dies leaves the memfds to the workers, and the next one takes them up before it serves anybody:
they go on with the very pages that they have, and what they stored meanwhile is there. Writes go to the memfd
right before their commit, so that a committed one is never missing there; truncations right after, for the
next server knows the size. A memfd that no process has any more is gone, with what was stored since it was
last written back.
"""

import errno
import os
import sys
from collections.abc import Mapping
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
    SyncRequest,
    SyncResponse,
    UnmapRequest,
    UnmapResponse,
)
from ipc.operations import BY_NAME
from servers.file.handles import OpenInode
from servers.file.mapped_bytes import MappedBytes
from servers.file.tree import Tree
from servers.memfd import SharedPages, boot_id, find_memfds
from servers.service import ErrnoError, Handler, Session, WithDescriptor

MAPPINGS_MAX: Final = 65_536
"""Of one session; one more is ENOMEM, as beyond vm.max_map_count (mmap(2))."""


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
        self._bytes = MappedBytes(tree, self._fetched_bytes)
        with self._store.transaction():
            for session, ino, lower, writable in self._store.execute("SELECT * FROM mapping"):
                self._set(session, ino, bool(writable))
                self._handles.hold(ino, lower)
            self._take_up()
        self.handlers: Mapping[int, Handler] = {
            BY_NAME["Donate"].opcode: self.donate,
            BY_NAME["MapShared"].opcode: self.map,
            BY_NAME["FetchMapping"].opcode: self.fetch,
            BY_NAME["Unmap"].opcode: self.unmap,
            BY_NAME["Sync"].opcode: self.sync,
            BY_NAME["SyncMapping"].opcode: self.sync_mapping,
        }

    def has_any(self, session: int) -> bool:
        return session in self._mapped

    def may_be_stored_to(self, ino: int) -> bool:
        """Whether its bytes may change without a call."""
        return any(self._users.get(ino, {}).values())

    def donate(self, session: Session, request: DonateRequest) -> WithDescriptor:
        """For private mappings: the lower file itself, with an offset of its own, or the memfd of a file that is
        mapped shared. EBADF; EMFILE; EOPNOTSUPP: its bytes are in neither, or the handle may not read."""
        file = self._handles.get(session.number, request.handle)
        inode = self._tree.open_inode(file)
        pages = file.shared.pages
        if not file.readable or not inode.is_regular or not (file.shared.direct or pages):
            raise ErrnoError(errno.EOPNOTSUPP)
        if pages is None:
            descriptor = self._tree.lower.reopen(self._handles.lower_fd(file.shared))
        else:
            try:
                descriptor = pages.descriptor(False)
            except OSError as error:
                raise ErrnoError(error.errno or errno.EMFILE, "memfd") from None
        attributes = self._tree.attributes(inode)
        return WithDescriptor(DonateResponse(attributes=attributes, mapped=pages is not None), descriptor)

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
        if request.writable:
            self._tree.inodes.changed.add(inode.ino)  # from now on, at any time
        if before is None or (request.writable and not before):
            self._add(session.number, inode.ino, inode.lower, request.writable)
        return MapSharedResponse(attributes=self._tree.attributes(inode))

    def fetch(self, session: Session, request: FetchMappingRequest) -> WithDescriptor:
        """The memfd; for reading only, if the session may not store. EBADF: not mapped; ENOMEM, EMFILE."""
        writable = self._require(session, request.ino)
        shared = self._shared(request.ino)
        inode = self._tree.inode(shared.ino, shared.lower)
        try:
            pages = shared.pages
            if pages is None:
                pages = self._bytes.load(shared, inode)
                self._use(shared, pages)
            descriptor = pages.descriptor(writable)
        except OSError as error:
            raise ErrnoError(error.errno or errno.ENOMEM, "memfd") from None
        return WithDescriptor(FetchMappingResponse(attributes=self._tree.attributes(inode)), descriptor)

    def unmap(self, session: Session, request: UnmapRequest) -> UnmapResponse:
        """munmap(2) of the session's last mapping of it. EBADF; ENOSPC: the file cannot be written back, and the
        mapping stays."""
        writable = self._require(session, request.ino)
        if writable and self._stores_alone(session.number, request.ino):
            self._bytes.write_back(self._shared(request.ino))
        self._remove(session.number, request.ino)
        return UnmapResponse()

    def sync(self, session: Session, request: SyncRequest) -> SyncResponse:
        """fsync(2), sync(2): everything committed survives a power failure, and so does what anybody stored
        through a mapping of the file, or of any. EBADF; ENOSPC."""
        if not request.handle:
            self._make_durable([self._shared(ino) for ino in self._users], 0, None)
            return SyncResponse()
        file = self._handles.get(session.number, request.handle)
        if file.path_only:
            raise ErrnoError(errno.EBADF)
        self._make_durable([file.shared], 0, None)
        return SyncResponse()

    def sync_mapping(self, session: Session, request: SyncMappingRequest) -> SyncMappingResponse:
        """msync(2). EBADF: not mapped; ENOSPC."""
        self._require(session, request.ino)
        end = request.offset + request.length if request.length else None
        self._make_durable([self._shared(request.ino)], request.offset, end)
        return SyncMappingResponse()

    def _make_durable(self, files: list[OpenInode], start: int, end: int | None) -> None:
        """Writes back, then flushes. A transaction of its own: writing back once more does no harm."""
        if any(shared.pages is not None for shared in files):
            with self._store.transaction():
                for shared in files:
                    self._bytes.write_back(shared, start, end)
        self._tree.extents.sync()

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
                self._write_back_unheard(shared)
            self._remove(session.number, ino)

    def write_back_all(self) -> None:
        """Before the server stops, and with it perhaps all that have the memfds."""
        for ino in self._users:
            with self._store.transaction():
                self._write_back_unheard(self._shared(ino))

    def _write_back_unheard(self, shared: OpenInode) -> None:
        try:
            with self._store.savepoint():
                self._bytes.write_back(shared)
        except ErrnoError as error:
            # As when a file system cannot write back a dirty page: nobody is left who could be told.
            sys.stderr.write(f"farcall: file server: inode {shared.ino}: stores by mmap are lost: {error}\n")

    # The memfds

    def _use(self, shared: OpenInode, pages: SharedPages) -> None:
        """From now on the inode's bytes are there, and the next server is to find them."""
        with self._store.transaction():
            row = (shared.ino, boot_id(), *pages.identity)
            self._store.execute("INSERT OR REPLACE INTO pages VALUES(?, ?, ?, ?)", row)
        shared.pages, shared.direct = pages, False

    def _take_up(self) -> None:
        """The memfds of the server before."""
        rows = self._store.execute("SELECT ino, boot, device, file FROM pages").fetchall()
        left = {(device, file): ino for ino, boot, device, file in rows if boot == boot_id()}
        found = find_memfds(left.keys()) if left else {}
        for key, descriptor in found.items():
            shared = self._shared(left[key])
            try:
                size_bytes = self._tree.inode(shared.ino, shared.lower).size
            except ErrnoError:  # a lower file that is another one by now
                os.close(descriptor)
                continue
            shared.pages = SharedPages.adopted(descriptor, size_bytes)
        for ino, *_ in rows:
            if self._shared(ino).pages is None:
                self._store.execute("DELETE FROM pages WHERE ino = ?", (ino,))
                if any(self._users[ino].values()):
                    sys.stderr.write(
                        f"farcall: file server: inode {ino}: nobody has its pages any more; stores by "
                        "mmap since they were last synced are lost\n"
                    )

    def _fetched_bytes(self) -> int:
        """Of memory."""
        found = (self._shared(ino).pages for ino in self._users)
        return sum(pages.used_bytes() for pages in found if pages is not None)

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
        if ino not in self._users:
            self._store.execute("DELETE FROM pages WHERE ino = ?", (ino,))
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
