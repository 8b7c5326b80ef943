"""flock(2) and record locks of fcntl(2): rows, so that they survive the server's death as their owners do.

Lock answers at once; who has to wait asks AwaitLock (lock_waits.py).
"""

import errno
from collections.abc import Callable, Mapping
from typing import Final

from farcall.v1.file_pb2 import (
    LOCK_KIND_FLOCK,
    LOCK_KIND_OFD,
    LOCK_KIND_POSIX,
    LOCK_TYPE_READ,
    LOCK_TYPE_UNLOCK,
    LOCK_TYPE_WRITE,
    AwaitLockRequest,
    LockRequest,
    LockResponse,
    TestLockRequest,
    TestLockResponse,
)
from ipc.operations import BY_NAME
from servers.file.handles import Handles, OpenFile
from servers.file.lock_ranges import LAST_MAX, Held, changed, conflicts
from servers.file.store import Store
from servers.service import ErrnoError, Handler, Session

LOCKS_INODE_MAX: Final = 4096
LOCKS_MAX: Final = 1 << 18
"""Of the whole server; beyond either ENOLCK."""
OFD_PID: Final = -1
"""What F_GETLK says of a lock that no process owns."""


class Locks:
    """The handlers, and the locks of all inodes. Changes need an open transaction of the store."""

    def __init__(self, store: Store, handles: Handles) -> None:
        self._store = store
        self._handles = handles
        self._held: dict[int, list[Held]] = {}
        """By inode; a list is replaced, never changed."""
        self._count = 0
        self.changed: Callable[[int], None] = _nobody_waits
        """Told of an inode whose locks have changed, after the commit."""
        for ino, *fields in store.execute("SELECT ino, kind, owner, start, last, type, pid FROM lock"):
            self._held.setdefault(ino, []).append(Held(*fields))
            self._count += 1
        self.handlers: Mapping[int, Handler] = {
            BY_NAME["Lock"].opcode: self.lock,
            BY_NAME["TestLock"].opcode: self.test,
        }

    def of(self, ino: int) -> list[Held]:
        """The inode's locks; the caller must not change the list."""
        return self._held.get(ino, [])

    def lock(self, session: Session, request: LockRequest) -> LockResponse:
        """flock(2) with LOCK_NB, F_SETLK, F_OFD_SETLK. EAGAIN, EBADF, EINVAL, EOVERFLOW, ENOLCK."""
        file, wanted = self.wanted(session, request)
        ino = file.shared.ino
        held = self.of(ino)
        if conflicts(held, wanted):
            mine = wanted._replace(type=LOCK_TYPE_UNLOCK)
            if wanted.kind != LOCK_KIND_FLOCK or all(each.owner != wanted.owner for each in held):
                raise ErrnoError(errno.EAGAIN)
            # A flock that changes its type is given up first, and is gone if the other cannot be had.
            self._put(ino, changed(held, mine))
            return LockResponse(lost=True)
        if wanted.type != LOCK_TYPE_UNLOCK or held:
            self._put(ino, changed(held, wanted))
        return LockResponse()

    def test(self, session: Session, request: TestLockRequest) -> TestLockResponse:
        """F_GETLK, F_OFD_GETLK: the first lock in the way. EBADF, EINVAL, EOVERFLOW."""
        file, wanted = self.wanted(session, request)
        if wanted.kind == LOCK_KIND_FLOCK or wanted.type == LOCK_TYPE_UNLOCK:
            raise ErrnoError(errno.EINVAL)
        found = conflicts(self.of(file.shared.ino), wanted)
        if not found:
            return TestLockResponse(type=LOCK_TYPE_UNLOCK)
        first = found[0]
        length = 0 if first.last == LAST_MAX else first.last - first.start + 1
        pid = first.pid if first.kind == LOCK_KIND_POSIX else OFD_PID
        return TestLockResponse(type=first.type, start=first.start, length=length, pid=pid)

    def closed(self, session: Session, file: OpenFile) -> None:
        """A handle of the session is gone: with it go the session's POSIX locks of the inode, whichever handle
        they were set through (fcntl(2)); with a description its own locks."""
        held = self._held.get(file.shared.ino)
        if held is None:
            return
        ended = not file.handles
        kept = [
            each
            for each in held
            if not (each.owner == (LOCK_KIND_POSIX, session.number) and not file.path_only)
            and not (ended and each.kind != LOCK_KIND_POSIX and each.owner_number == file.number)
        ]
        if len(kept) < len(held):
            self._put(file.shared.ino, kept)

    def wanted(
        self, session: Session, request: LockRequest | TestLockRequest | AwaitLockRequest
    ) -> tuple[OpenFile, Held]:
        """What is asked for, checked as fcntl(2) and flock(2) check it. EBADF, EINVAL, EOVERFLOW."""
        kind, type_ = request.kind, request.type
        if kind not in (LOCK_KIND_FLOCK, LOCK_KIND_POSIX, LOCK_KIND_OFD):
            raise ErrnoError(errno.EINVAL, "kind")
        if type_ not in (LOCK_TYPE_READ, LOCK_TYPE_WRITE, LOCK_TYPE_UNLOCK):
            raise ErrnoError(errno.EINVAL, "type")
        file = self._handles.get(session.number, request.handle)
        if file.path_only:
            raise ErrnoError(errno.EBADF)
        if kind == LOCK_KIND_FLOCK:
            return file, Held(kind, file.number, 0, LAST_MAX, type_, 0)
        if request.start > LAST_MAX:
            raise ErrnoError(errno.EINVAL, "start")
        if request.length and request.length - 1 > LAST_MAX - request.start:
            raise ErrnoError(errno.EOVERFLOW)
        last = request.start + request.length - 1 if request.length else LAST_MAX
        if not isinstance(request, TestLockRequest):
            needed = {LOCK_TYPE_READ: file.readable, LOCK_TYPE_WRITE: file.writable}
            if not needed.get(type_, True):
                raise ErrnoError(errno.EBADF)
        if kind == LOCK_KIND_OFD:
            return file, Held(kind, file.number, request.start, last, type_, 0)
        return file, Held(kind, session.number, request.start, last, type_, request.pid)

    def _put(self, ino: int, after: list[Held]) -> None:
        """The inode's locks are these from now on. ENOLCK."""
        before = self.of(ino)
        more = len(after) - len(before)
        if more > 0 and (len(after) > LOCKS_INODE_MAX or self._count + more > LOCKS_MAX):
            raise ErrnoError(errno.ENOLCK)
        old, new = set(before), set(after)
        for each in before:
            if each not in new:
                self._store.execute(
                    "DELETE FROM lock WHERE ino = ? AND kind = ? AND owner = ? AND start = ?",
                    (ino, *each.owner, each.start),
                )
        for each in after:
            if each not in old:
                self._store.execute("INSERT INTO lock VALUES(?, ?, ?, ?, ?, ?, ?)", (ino, *each))
        self._set(ino, after)
        self._store.on_rollback(lambda: self._set(ino, before))
        self._store.on_commit(lambda: self.changed(ino))

    def _set(self, ino: int, held: list[Held]) -> None:
        self._count += len(held) - len(self._held.get(ino, ()))
        if held:
            self._held[ino] = held
        else:
            self._held.pop(ino, None)


def _nobody_waits(_ino: int) -> None:
    """Until somebody does."""
