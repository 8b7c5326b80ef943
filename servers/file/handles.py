"""Open handles and the open file descriptions they point at: rows, so that they survive the server's death
under the same numbers, and what reads need at hand in memory. What is kept in memory follows the rows when a
savepoint rolls back.

A handle belongs to one session; a description is counted, and shared by the sessions that inherited it.
"""

import errno
import os
from dataclasses import dataclass, field
from typing import Final

from farcall.v1.file_pb2 import (
    OPEN_FLAG_APPEND,
    OPEN_FLAG_EXECUTE,
    OPEN_FLAG_PATH,
    OPEN_FLAG_READ,
    OPEN_FLAG_WRITE,
)
from servers.file.inodes import Inode
from servers.file.lower import Lower
from servers.file.store import Store
from servers.memfd import SharedPages
from servers.service import ErrnoError

HANDLE_MAX: Final = (1 << 63) - 1
HANDLES_MAX: Final = 65_536
"""Of one session."""


@dataclass(slots=True)
class OpenInode:
    """What the descriptions of one inode share."""

    ino: int
    lower: bytes | None
    direct: bool = False
    """Known that its data is the lower file's, unchanged: reads go there and nowhere else."""
    fd: int = -1
    """The lower file, opened by the first read."""
    holders: int = 0
    """Descriptions, and sessions that have it mapped shared."""
    pages: SharedPages | None = None
    """Its bytes while it is mapped shared; None if nobody has fetched them yet."""


@dataclass(slots=True, eq=False)
class OpenFile:
    """An open file description. `parent`, `parent_lower` and `name`: by which name it was opened, renames
    followed."""

    number: int
    """Never that of another description that lives."""
    shared: OpenInode
    flags: int
    parent: int
    parent_lower: bytes | None
    name: bytes
    handles: int = 0
    """Of all sessions; with the last one it ends."""
    readable: bool = field(init=False)
    writable: bool = field(init=False)
    appends: bool = field(init=False)

    def __post_init__(self) -> None:
        path_only = bool(self.flags & OPEN_FLAG_PATH)
        self.readable = not path_only and bool(self.flags & (OPEN_FLAG_READ | OPEN_FLAG_EXECUTE))
        self.writable = not path_only and bool(self.flags & OPEN_FLAG_WRITE)
        self.appends = bool(self.flags & OPEN_FLAG_APPEND)

    @property
    def path_only(self) -> bool:
        """O_PATH: a name for the object, no right to its data."""
        return bool(self.flags & OPEN_FLAG_PATH)


class Handles:
    """All open handles. Changes need an open transaction of the store."""

    def __init__(self, store: Store, lower: Lower) -> None:
        self._store = store
        self._lower = lower
        self.tables: dict[int, dict[int, OpenFile]] = {}
        """Session -> handle -> description; sessions without handles are absent."""
        self._shared: dict[int, OpenInode] = {}
        self._files: dict[int, OpenFile] = {}
        """By number."""
        rows = store.execute("SELECT id, ino, flags, lower, parent, parent_lower, name FROM description")
        for number, ino, flags, lower_path, parent, parent_lower, name in rows:
            shared = self._share(ino, lower_path)
            self._keep_file(OpenFile(number, shared, flags, parent, parent_lower, name))
        self._next = max(self._files, default=0) + 1
        for session, handle, number in store.execute("SELECT session, handle, description FROM handle"):
            self._keep(session, handle, self._files[number])

    def get(self, session: int, handle: int) -> OpenFile:
        """EBADF if the session has no such handle."""
        table = self.tables.get(session)
        file = table.get(handle) if table is not None else None
        if file is None:
            raise ErrnoError(errno.EBADF)
        return file

    def check(self, session: int, handle: int) -> None:
        """May a handle of this number be opened? EINVAL if it is in use or none; ENFILE: too many."""
        table = self.tables.get(session, {})
        if not 0 < handle <= HANDLE_MAX or handle in table:
            raise ErrnoError(errno.EINVAL, "handle number")
        if len(table) >= HANDLES_MAX:
            raise ErrnoError(errno.ENFILE)

    def add(
        self, session: int, handle: int, inode: Inode, flags: int, name: tuple[int, bytes | None, bytes]
    ) -> OpenFile:
        """Opens it; `check` has passed. `name`: (parent, parent_lower, name) of OpenFile."""
        parent, parent_lower, last = name
        number = self._next
        self._next += 1
        self._store.execute(
            "INSERT INTO description VALUES(?, ?, ?, ?, ?, ?, ?)",
            (number, inode.ino, flags, inode.lower, parent, parent_lower, last),
        )
        self._store.execute("INSERT INTO handle VALUES(?, ?, ?)", (session, handle, number))
        file = OpenFile(number, self._share(inode.ino, inode.lower), flags, parent, parent_lower, last)
        self._keep_file(file)
        self._keep(session, handle, file)

        def undo() -> None:
            self._forget(session, handle)
            self._forget_file(file)
            self._release(file.shared)

        self._store.on_rollback(undo)
        return file

    def attach(self, session: int, handle: int, file: OpenFile) -> None:
        """One handle more of an open description; `check` has passed."""
        self._store.execute("INSERT INTO handle VALUES(?, ?, ?)", (session, handle, file.number))
        self._keep(session, handle, file)
        self._store.on_rollback(lambda: self._forget(session, handle))

    def remove(self, session: int, handle: int) -> OpenFile:
        """Closes it; if that was the description's last, that ends (`handles` is 0). EBADF.

        Whether the inode lives on is the caller's to decide (`is_open`).
        """
        file = self.get(session, handle)
        self._store.execute("DELETE FROM handle WHERE session = ? AND handle = ?", (session, handle))
        self._forget(session, handle)
        self._store.on_rollback(lambda: self._keep(session, handle, file))
        if not file.handles:
            self._end(file)
        return file

    def remove_all(self, session: int) -> list[OpenFile]:
        """Closes all of a session's handles; the descriptions they pointed at, each once."""
        table = self.tables.get(session)
        if table is None:
            return []
        self._store.execute("DELETE FROM handle WHERE session = ?", (session,))
        del self.tables[session]
        for file in table.values():
            file.handles -= 1
        self._store.on_rollback(lambda: self._keep_table(session, table))
        files = list(dict.fromkeys(table.values()))
        for file in files:
            if not file.handles:
                self._end(file)
        return files

    def inherit(self, session: int, target: int) -> None:
        """Every handle of the session, under the same number, in another session that has none."""
        table = self.tables.get(session)
        if table is None:
            return
        self._store.execute(
            "INSERT INTO handle SELECT ?, handle, description FROM handle WHERE session = ?", (target, session)
        )
        self._keep_table(target, table.copy())
        self._store.on_rollback(lambda: self._drop_table(target))

    def hold(self, ino: int, lower: bytes | None) -> OpenInode:
        """What the inode's descriptions share, for one holder more."""
        shared = self._share(ino, lower)
        self._count(shared, 1)

        def undo() -> None:
            self._count(shared, -1)
            self._release(shared)

        self._store.on_rollback(undo)
        return shared

    def let_go(self, shared: OpenInode) -> None:
        """One holder less."""
        self._count(shared, -1)
        self._store.on_rollback(lambda: self._count(shared, 1))
        self._store.on_commit(lambda: self._release(shared))

    def shared(self, ino: int) -> OpenInode | None:
        """What the inode's descriptions share, if it has any, or is mapped."""
        return self._shared.get(ino)

    def is_open(self, ino: int) -> bool:
        shared = self._shared.get(ino)
        return shared is not None and shared.holders > 0

    def is_known(self, directory: int) -> bool:
        """Whether a handle was opened by a name in that directory."""
        return any(file.parent == directory for file in self._files.values())

    def data_changed(self, ino: int) -> None:
        """The inode's data is the lower file's no longer."""
        shared = self._shared.get(ino)
        if shared is not None and shared.direct:
            shared.direct = False
            self._store.on_rollback(lambda: self._set_direct(shared))

    def renamed(self, ino: int, old: tuple[int, bytes], new: tuple[int, bytes | None, bytes]) -> None:
        """Descriptions opened by the name `old` (parent, name) have the name `new` now."""
        if not self.is_open(ino):
            return
        for file in self._files.values():
            if file.shared.ino == ino and (file.parent, file.name) == old:
                self._store.execute(
                    "UPDATE description SET parent = ?, parent_lower = ?, name = ? WHERE id = ?",
                    (*new, file.number),
                )
                before = (file.parent, file.parent_lower, file.name)
                file.parent, file.parent_lower, file.name = new
                self._store.on_rollback(lambda file=file, before=before: self._set_name(file, before))  # type: ignore[misc]

    def lower_fd(self, shared: OpenInode) -> int:
        """A descriptor of the inode's lower file, which stays ours. ErrnoError (ESTALE: it is gone)."""
        if shared.fd < 0:
            assert shared.lower is not None, "an inode without a lower file"
            shared.fd = self._lower.open_file(shared.lower, shared.ino)
        return shared.fd

    def read_lower(self, shared: OpenInode, view: memoryview, position: int) -> int:
        """preadv(2) of the lower file. ErrnoError."""
        fd = self.lower_fd(shared)
        try:
            return os.preadv(fd, [view], position)
        except OSError as error:
            raise ErrnoError(error.errno or errno.EIO, "lower file") from None

    def close(self) -> None:
        """Gives back the host's descriptors; the rows stay."""
        for shared in self._shared.values():
            self._close_fd(shared)
            self.drop_pages(shared)
        self._shared.clear()
        self._files.clear()
        self.tables.clear()

    def _share(self, ino: int, lower: bytes | None) -> OpenInode:
        shared = self._shared.get(ino)
        if shared is None:
            shared = self._shared[ino] = OpenInode(ino, lower)
        return shared

    def _keep(self, session: int, handle: int, file: OpenFile) -> None:
        self.tables.setdefault(session, {})[handle] = file
        file.handles += 1

    def _forget(self, session: int, handle: int) -> None:
        table = self.tables[session]
        table.pop(handle).handles -= 1
        if not table:
            del self.tables[session]

    def _keep_table(self, session: int, table: dict[int, OpenFile]) -> None:
        self.tables[session] = table
        for file in table.values():
            file.handles += 1

    def _drop_table(self, session: int) -> None:
        for file in self.tables.pop(session).values():
            file.handles -= 1

    def _keep_file(self, file: OpenFile) -> None:
        self._files[file.number] = file
        file.shared.holders += 1

    def _forget_file(self, file: OpenFile) -> None:
        del self._files[file.number]
        file.shared.holders -= 1

    def _end(self, file: OpenFile) -> None:
        """No handle points at the description any more."""
        self._store.execute("DELETE FROM description WHERE id = ?", (file.number,))
        self._forget_file(file)
        self._store.on_rollback(lambda: self._keep_file(file))
        self._store.on_commit(lambda: self._release(file.shared))

    def _release(self, shared: OpenInode) -> None:
        """Lets go of what nobody holds."""
        if shared.holders == 0 and self._shared.get(shared.ino) is shared:
            self._close_fd(shared)
            self.drop_pages(shared)
            del self._shared[shared.ino]

    def _close_fd(self, shared: OpenInode) -> None:
        if shared.fd >= 0:
            self._lower.close_file(shared.fd)
            shared.fd = -1

    @staticmethod
    def _count(shared: OpenInode, by: int) -> None:
        shared.holders += by

    @staticmethod
    def drop_pages(shared: OpenInode) -> None:
        """Nobody has the inode mapped any more."""
        if shared.pages is not None:
            shared.pages.close()
            shared.pages = None

    @staticmethod
    def _set_direct(shared: OpenInode) -> None:
        shared.direct = True

    @staticmethod
    def _set_name(file: OpenFile, name: tuple[int, bytes | None, bytes]) -> None:
        file.parent, file.parent_lower, file.name = name
