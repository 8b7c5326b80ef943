"""Waiting for a lock: calls that are answered when trying again is worth it, and who would wait for himself.

Nothing here outlives the process: after a restart, clients ask again.
"""

import errno
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from farcall.v1.file_pb2 import LOCK_KIND_POSIX, AwaitLockRequest, AwaitLockResponse
from ipc.operations import BY_NAME
from servers.file.lock_ranges import Held, conflicts
from servers.file.locks import Locks
from servers.service import Deferred, ErrnoError, Handler, Session


@dataclass(slots=True, eq=False)
class Waiter:
    """An AwaitLock that was not answered yet."""

    session: int
    ino: int
    wanted: Held
    deferred: Deferred


class LockWaits:
    """The handler, and all that wait."""

    def __init__(self, locks: Locks) -> None:
        self._locks = locks
        self._waiters: list[Waiter] = []
        locks.changed = self._wake
        self.handlers: Mapping[int, Handler] = {BY_NAME["AwaitLock"].opcode: self.wait}

    def wait(self, session: Session, request: AwaitLockRequest) -> AwaitLockResponse | Deferred:
        """Answers once nothing is in the lock's way; another may have taken it when the caller comes.

        EDEADLK: whoever is in the way waits, directly or not, for the caller (POSIX locks only); that
        is right as long as clients abandon the waits that they give up. EBADF, EINVAL, EOVERFLOW as Lock.
        """
        file, wanted = self._locks.wanted(session, request)
        ino = file.shared.ino
        if not conflicts(self._locks.of(ino), wanted):
            return AwaitLockResponse()
        waiter = Waiter(session.number, ino, wanted, Deferred(lambda: self._forget(waiter)))
        if self._closes_cycle(waiter):
            raise ErrnoError(errno.EDEADLK)
        self._waiters.append(waiter)
        return waiter.deferred

    def _wake(self, ino: int) -> None:
        """Answers those for whom nothing is in the way any more; the first to come gets the lock."""
        held = self._locks.of(ino)
        for waiter in [each for each in self._waiters if each.ino == ino]:
            if not conflicts(held, waiter.wanted):
                self._waiters.remove(waiter)
                waiter.deferred.complete(AwaitLockResponse())

    def _forget(self, waiter: Waiter) -> None:
        if waiter in self._waiters:
            self._waiters.remove(waiter)

    def _blockers(self, waiter: Waiter) -> Iterator[int]:
        """Sessions whose POSIX locks are in the waiter's way."""
        for each in conflicts(self._locks.of(waiter.ino), waiter.wanted):
            if each.kind == LOCK_KIND_POSIX:
                yield each.owner_number

    def _closes_cycle(self, waiter: Waiter) -> bool:
        """Whether the session would wait for itself, over others that wait."""
        if waiter.wanted.kind != LOCK_KIND_POSIX:
            return False
        waiting: dict[int, list[Waiter]] = {}
        for each in self._waiters:
            if each.wanted.kind == LOCK_KIND_POSIX:
                waiting.setdefault(each.session, []).append(each)
        seen = set[int]()
        ahead = list(self._blockers(waiter))
        while ahead:
            session = ahead.pop()
            if session == waiter.session:
                return True
            if session not in seen:
                seen.add(session)
                ahead += [next_ for each in waiting.get(session, ()) for next_ in self._blockers(each)]
        return False
