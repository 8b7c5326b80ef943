"""The memory server: private memory granted as numbers, and shared segments (memory.proto, DESIGN section 10).

Private pages never come here. A worker asks before it maps and gives back after it unmaps; the sum over all
sessions never passes the quota. The state lives as long as the process: after its death a worker's session is
stale, it opens another and has what it holds granted anew, in one call.
"""

import errno
import os
from collections.abc import Mapping

from farcall.v1.memory_pb2 import InheritMemoryRequest, InheritMemoryResponse, UsageRequest, UsageResponse
from farcall.v1.session_pb2 import SERVER_KIND_MEMORY, ServerKind
from ipc.message import Buffer
from ipc.operations import BY_NAME
from servers.inheritance import heir
from servers.ledger import MemoryLedger
from servers.quota import Quota
from servers.segments import Segments
from servers.service import ErrnoError, Handler, Ledger, PackedHandler, Session


def default_quota_bytes() -> int:
    """Half of the host's memory (sysconf(3): _SC_PHYS_PAGES)."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2


class MemoryService:
    """Grant, Release, Usage and InheritMemory, and those of segments.py. `quota_bytes` bounds what all sessions
    hold together."""

    def __init__(self, ledger: MemoryLedger, quota_bytes: int) -> None:
        self.kind: ServerKind = SERVER_KIND_MEMORY
        self.ledger: Ledger = ledger
        self._on_rollback = ledger.on_rollback
        self._quota = Quota(ledger, quota_bytes)
        self._segments = Segments(ledger, self._quota)
        self.handlers: Mapping[int, Handler] = {
            BY_NAME["Usage"].opcode: self.usage,
            BY_NAME["InheritMemory"].opcode: self.inherit,
            **self._segments.handlers,
        }
        self.packed_handlers: Mapping[int, PackedHandler] = {
            BY_NAME["Grant"].opcode: self.grant,
            BY_NAME["Release"].opcode: self.release,
        }
        self._held: dict[int, int] = {}
        """By session, segments aside; sessions that hold nothing are absent."""
        self._grants = self._releases = 0

    def grant(
        self,
        session: Session,
        size_bytes: int,
        _second: int,
        _third: int,
        _data: Buffer,
        _into: memoryview | None,
    ) -> tuple[int, Buffer]:
        """Grants bytes; the result is what the session holds then. ENOMEM beyond the quota (mmap(2))."""
        return self._grant(session, size_bytes), b""

    def inherit(self, session: Session, request: InheritMemoryRequest) -> InheritMemoryResponse:
        """fork(2): grants bytes to a child's session, and references to all segments. EPERM, EINVAL
        (inheritance.heir); ENOMEM."""
        target = heir(self.ledger, session, request.target_session, request.target_secret)
        granted_bytes = self._grant(target, request.size_bytes)
        self._segments.inherit(session.number, target.number)
        return InheritMemoryResponse(granted_bytes=granted_bytes)

    def _grant(self, session: Session, size_bytes: int) -> int:
        """What the session holds then. ENOMEM."""
        self._quota.take(size_bytes)
        return self._change(session, size_bytes, grants=1)

    def release(
        self,
        session: Session,
        size_bytes: int,
        _second: int,
        _third: int,
        _data: Buffer,
        _into: memoryview | None,
    ) -> tuple[int, Buffer]:
        """Takes bytes back; the result is what the session still holds. EINVAL if it holds less."""
        if size_bytes > self._held.get(session.number, 0):
            raise ErrnoError(errno.EINVAL, "more than the session holds")
        self._quota.give_back(size_bytes)
        return self._change(session, -size_bytes, releases=1), b""

    def usage(self, session: Session, _request: UsageRequest) -> UsageResponse:
        """The server's totals and the caller's share."""
        return UsageResponse(
            quota_bytes=self._quota.limit_bytes,
            granted_bytes=self._quota.used_bytes,
            session_bytes=self._held.get(session.number, 0),
            grants=self._grants,
            releases=self._releases,
            refused=self._quota.refused,
            segments=self._segments.count,
            segment_bytes=self._segments.size_bytes,
        )

    def session_ended(self, session: Session) -> None:
        """Takes back all the session holds."""
        held_bytes = self._held.get(session.number, 0)
        self._quota.give_back(held_bytes)
        self._change(session, -held_bytes)
        self._segments.session_ended(session.number)

    def close(self) -> None:
        """Nothing outlives the process."""
        self._segments.close()

    def _change(self, session: Session, by_bytes: int, grants: int = 0, releases: int = 0) -> int:
        """Adds to what the session holds; undone if the transaction is."""
        self._add(session.number, by_bytes, grants, releases)
        self._on_rollback(lambda: self._add(session.number, -by_bytes, -grants, -releases))
        return self._held.get(session.number, 0)

    def _add(self, number: int, by_bytes: int, grants: int, releases: int) -> None:
        held_bytes = self._held.get(number, 0) + by_bytes
        if held_bytes:
            self._held[number] = held_bytes
        else:
            self._held.pop(number, None)
        self._grants += grants
        self._releases += releases
