"""Shared segments: memory that several sessions map, as sealed memfds (memory.proto, DESIGN section 10).

A segment lives as long as a session refers to it: its maker, and who inherited it. The server never reads or
writes one. After its death the workers still have their memfds; they tell the next server of them
(AdoptSegment), which counts them but has no descriptor to hand out.
"""

import errno
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from farcall.v1.memory_pb2 import (
    AdoptSegmentRequest,
    AdoptSegmentResponse,
    CreateSegmentRequest,
    CreateSegmentResponse,
    DropSegmentRequest,
    DropSegmentResponse,
    FetchSegmentRequest,
    FetchSegmentResponse,
)
from ipc.operations import BY_NAME
from ipc.shared_memory import create_sealed
from servers.ledger import MemoryLedger
from servers.quota import Quota
from servers.service import ErrnoError, Handler, Session, WithDescriptor

SEGMENTS_MAX: Final = 16_384
"""Of the whole server: each is a descriptor."""
SEGMENTS_SESSION_MAX: Final = 4096
"""That one session may refer to; beyond either ENOMEM."""
NUMBER_MAX: Final = (1 << 63) - 1


@dataclass(slots=True)
class Segment:
    """`sessions` refer to it."""

    number: int
    size_bytes: int
    fd: int
    """-1: adopted."""
    sessions: set[int] = field(default_factory=set)


class Segments:
    """The handlers, and all segments. Changes need an open transaction of the ledger."""

    def __init__(self, ledger: MemoryLedger, quota: Quota) -> None:
        self._ledger = ledger
        self._quota = quota
        self._segments: dict[int, Segment] = {}
        self._referred: dict[int, set[int]] = {}
        """Session -> numbers of segments."""
        self.handlers: Mapping[int, Handler] = {
            BY_NAME["CreateSegment"].opcode: self.create,
            BY_NAME["FetchSegment"].opcode: self.fetch,
            BY_NAME["DropSegment"].opcode: self.drop,
            BY_NAME["AdoptSegment"].opcode: self.adopt,
        }

    @property
    def count(self) -> int:
        return len(self._segments)

    @property
    def size_bytes(self) -> int:
        """Of all of them."""
        return sum(segment.size_bytes for segment in self._segments.values())

    def create(self, session: Session, request: CreateSegmentRequest) -> CreateSegmentResponse:
        """Zeros to share. EINVAL: no bytes; ENOMEM."""
        self._check(session, request.size_bytes)
        self._quota.take(request.size_bytes)
        try:
            fd = create_sealed("segment", request.size_bytes)
        except OSError as error:
            raise ErrnoError(errno.ENOMEM, f"memfd: {error}") from None
        # From the sessions' counter: random at its start, so that no two servers give the same number.
        segment = Segment(self._ledger.next_session(), request.size_bytes, fd)
        self._ledger.on_rollback(lambda: os.close(fd))
        self._add(segment)
        self._refer(session.number, segment)
        return CreateSegmentResponse(segment=segment.number)

    def fetch(self, session: Session, request: FetchSegmentRequest) -> WithDescriptor:
        """The memfd. ENOENT: the session has none of this number; EOPNOTSUPP: adopted; EMFILE."""
        segment = self._mine(session, request.segment)
        if segment.fd < 0:
            raise ErrnoError(errno.EOPNOTSUPP, "adopted: the workers have it")
        try:
            descriptor = os.dup(segment.fd)
        except OSError as error:
            raise ErrnoError(error.errno or errno.EMFILE) from None
        return WithDescriptor(FetchSegmentResponse(size_bytes=segment.size_bytes), descriptor)

    def drop(self, session: Session, request: DropSegmentRequest) -> DropSegmentResponse:
        """The session refers to it no longer. ENOENT."""
        self._leave(session.number, self._mine(session, request.segment))
        return DropSegmentResponse()

    def adopt(self, session: Session, request: AdoptSegmentRequest) -> AdoptSegmentResponse:
        """Counts a segment of an earlier server, which workers still have. EINVAL: no number, or another size
        than others said; EPERM: this server made it, and not for the session; ENOMEM."""
        segment = self._segments.get(request.segment)
        if session.number in (segment.sessions if segment is not None else ()):
            return AdoptSegmentResponse()
        self._check(session, request.size_bytes)
        if segment is None:
            if not 0 < request.segment <= NUMBER_MAX:
                raise ErrnoError(errno.EINVAL, "number")
            self._quota.take(request.size_bytes)
            segment = Segment(request.segment, request.size_bytes, -1)
            self._add(segment)
        elif segment.fd >= 0:
            raise ErrnoError(errno.EPERM, "not its segment")
        elif segment.size_bytes != request.size_bytes:
            raise ErrnoError(errno.EINVAL, "another size")
        self._refer(session.number, segment)
        return AdoptSegmentResponse()

    def inherit(self, session: int, target: int) -> None:
        """The target refers to all that the session refers to."""
        for number in sorted(self._referred.get(session, ())):
            segment = self._segments[number]
            if target not in segment.sessions:
                self._refer(target, segment)

    def session_ended(self, session: int) -> None:
        """The session refers to nothing any more."""
        for number in sorted(self._referred.get(session, ())):
            self._leave(session, self._segments[number])

    def close(self) -> None:
        """Gives back the descriptors."""
        for segment in self._segments.values():
            _close(segment)
        self._segments.clear()

    def _check(self, session: Session, size_bytes: int) -> None:
        """May the session have one more, of that size? EINVAL, ENOMEM."""
        if not size_bytes:
            raise ErrnoError(errno.EINVAL, "no bytes")
        referred = len(self._referred.get(session.number, ()))
        if len(self._segments) >= SEGMENTS_MAX or referred >= SEGMENTS_SESSION_MAX:
            raise ErrnoError(errno.ENOMEM, "too many segments")

    def _mine(self, session: Session, number: int) -> Segment:
        segment = self._segments.get(number)
        if segment is None or session.number not in segment.sessions:
            raise ErrnoError(errno.ENOENT)
        return segment

    def _add(self, segment: Segment) -> None:
        self._segments[segment.number] = segment
        self._ledger.on_rollback(lambda: self._segments.pop(segment.number))

    def _refer(self, session: int, segment: Segment) -> None:
        self._note(session, segment, True)
        self._ledger.on_rollback(lambda: self._note(session, segment, False))

    def _leave(self, session: int, segment: Segment) -> None:
        self._note(session, segment, False)
        self._ledger.on_rollback(lambda: self._note(session, segment, True))
        if not segment.sessions:
            self._quota.give_back(segment.size_bytes)
            del self._segments[segment.number]
            self._ledger.on_rollback(lambda: self._segments.update({segment.number: segment}))
            self._ledger.on_commit(lambda: _close(segment))

    def _note(self, session: int, segment: Segment, refers: bool) -> None:
        if refers:
            segment.sessions.add(session)
            self._referred.setdefault(session, set()).add(segment.number)
            return
        segment.sessions.remove(session)
        referred = self._referred[session]
        referred.remove(segment.number)
        if not referred:
            del self._referred[session]


def _close(segment: Segment) -> None:
    if segment.fd >= 0:
        os.close(segment.fd)
