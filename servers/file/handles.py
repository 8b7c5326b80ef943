"""Open handles: rows, so that they survive the server's death under the same numbers, and what reads need
at hand in memory. What is kept in memory follows the rows when a savepoint rolls back.
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
from servers.service import ErrnoError

HANDLE_MAX: Final = (1 << 63) - 1
HANDLES_MAX: Final = 65_536
"""Of one session."""


@dataclass(slots=True)
class OpenInode:
    """What the handles of one inode share."""

    ino: int
    lower: bytes | None
    direct: bool = False
    """Known that its data is the lower file's, unchanged: reads go there and nowhere else."""
    fd: int = -1
    """The lower file, opened by the first read."""
    handles: int = 0


@dataclass(slots=True, eq=False)
class OpenFile:
    """One handle. `parent`, `parent_lower` and `name`: by which name it was opened, renames followed."""

    session: int
    number: int
    shared: OpenInode
    flags: int
    parent: int
    parent_lower: bytes | None
    name: bytes
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
        self.files: dict[tuple[int, int], OpenFile] = {}
        """By (session, handle)."""
        self._shared: dict[int, OpenInode] = {}
        self._held: dict[int, int] = {}
        """Session -> its number of handles."""
        rows = store.execute("SELECT session, handle, ino, flags, lower, parent, parent_lower, name FROM handle")
        for session, number, ino, flags, lower_path, parent, parent_lower, name in rows:
            shared = self._share(ino, lower_path)
            self._keep(OpenFile(session, number, shared, flags, parent, parent_lower, name))

    def get(self, session: int, handle: int) -> OpenFile:
        """EBADF if the session has no such handle."""
        file = self.files.get((session, handle))
        if file is None:
            raise ErrnoError(errno.EBADF)
        return file

    def check(self, session: int, handle: int) -> None:
        """May a handle of this number be opened? EINVAL if it is in use or none; ENFILE: too many."""
        if not 0 < handle <= HANDLE_MAX or (session, handle) in self.files:
            raise ErrnoError(errno.EINVAL, "handle number")
        if self._held.get(session, 0) >= HANDLES_MAX:
            raise ErrnoError(errno.ENFILE)

    def add(
        self, session: int, handle: int, inode: Inode, flags: int, name: tuple[int, bytes | None, bytes]
    ) -> OpenFile:
        """Opens it; `check` has passed. `name`: (parent, parent_lower, name) of OpenFile."""
        parent, parent_lower, last = name
        self._store.execute(
            "INSERT INTO handle VALUES(?, ?, ?, ?, ?, ?, ?, ?)",
            (session, handle, inode.ino, flags, inode.lower, parent, parent_lower, last),
        )
        shared = self._share(inode.ino, inode.lower)
        file = OpenFile(session, handle, shared, flags, parent, parent_lower, last)
        self._keep(file)
        self._store.on_rollback(lambda: self._forget(file))
        self._store.on_rollback(lambda: self._release(shared))
        return file

    def remove(self, file: OpenFile) -> None:
        """Closes it. Whether the inode lives on is the caller's to decide (`is_open`)."""
        key = (file.session, file.number)
        self._store.execute("DELETE FROM handle WHERE session = ? AND handle = ?", key)
        self._forget(file)
        self._store.on_rollback(lambda: self._keep(file))
        self._store.on_commit(lambda: self._release(file.shared))

    def of_session(self, session: int) -> list[OpenFile]:
        return [file for file in self.files.values() if file.session == session]

    def is_open(self, ino: int) -> bool:
        shared = self._shared.get(ino)
        return shared is not None and shared.handles > 0

    def is_known(self, directory: int) -> bool:
        """Whether a handle was opened by a name in that directory."""
        return any(file.parent == directory for file in self.files.values())

    def data_changed(self, ino: int) -> None:
        """The inode's data is the lower file's no longer."""
        shared = self._shared.get(ino)
        if shared is not None and shared.direct:
            shared.direct = False
            self._store.on_rollback(lambda: self._set_direct(shared))

    def renamed(self, ino: int, old: tuple[int, bytes], new: tuple[int, bytes | None, bytes]) -> None:
        """Handles opened by the name `old` (parent, name) have the name `new` now."""
        if not self.is_open(ino):
            return
        for file in self.files.values():
            if file.shared.ino == ino and (file.parent, file.name) == old:
                self._store.execute(
                    "UPDATE handle SET parent = ?, parent_lower = ?, name = ? WHERE session = ? AND handle = ?",
                    (*new, file.session, file.number),
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
        self._shared.clear()
        self.files.clear()

    def _share(self, ino: int, lower: bytes | None) -> OpenInode:
        shared = self._shared.get(ino)
        if shared is None:
            shared = self._shared[ino] = OpenInode(ino, lower)
        return shared

    def _keep(self, file: OpenFile) -> None:
        self.files[file.session, file.number] = file
        self._held[file.session] = self._held.get(file.session, 0) + 1
        file.shared.handles += 1

    def _forget(self, file: OpenFile) -> None:
        del self.files[file.session, file.number]
        left = self._held.pop(file.session) - 1
        if left:
            self._held[file.session] = left
        file.shared.handles -= 1

    def _release(self, shared: OpenInode) -> None:
        """Lets go of what nobody holds."""
        if shared.handles == 0 and self._shared.get(shared.ino) is shared:
            self._close_fd(shared)
            del self._shared[shared.ino]

    def _close_fd(self, shared: OpenInode) -> None:
        if shared.fd >= 0:
            self._lower.close_file(shared.fd)
            shared.fd = -1

    @staticmethod
    def _set_direct(shared: OpenInode) -> None:
        shared.direct = True

    @staticmethod
    def _set_name(file: OpenFile, name: tuple[int, bytes | None, bytes]) -> None:
        file.parent, file.parent_lower, file.name = name
