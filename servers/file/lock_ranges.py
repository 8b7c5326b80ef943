"""Locks of one inode as values: who excludes whom, and what a change leaves. Pure.

Two spaces that know nothing of each other: flock(2), whole files owned by open file descriptions; and record
locks of fcntl(2), byte ranges owned by processes (POSIX) or open file descriptions (OFD).
"""

from collections.abc import Iterable
from typing import Final, NamedTuple, TypeAlias

from farcall.v1.file_pb2 import LOCK_KIND_FLOCK, LOCK_TYPE_UNLOCK, LOCK_TYPE_WRITE, LockKind, LockType

LAST_MAX: Final = (1 << 63) - 1
"""The last byte of a lock that reaches to the end, however far the file grows."""

Owner: TypeAlias = tuple[LockKind, int]
"""A kind, and of POSIX locks a session's number, of the others a description's."""


class Held(NamedTuple):
    """A lock, or one that is asked for."""

    kind: LockKind
    owner_number: int
    start: int
    last: int
    """Included."""
    type: LockType
    pid: int

    @property
    def owner(self) -> Owner:
        return self.kind, self.owner_number


def conflicts(held: Iterable[Held], wanted: Held) -> list[Held]:
    """The locks that exclude it, lowest first."""
    if wanted.type == LOCK_TYPE_UNLOCK:
        return []
    is_flock = wanted.kind == LOCK_KIND_FLOCK
    found = [
        each
        for each in held
        if (each.kind == LOCK_KIND_FLOCK) == is_flock
        and each.owner != wanted.owner
        and each.start <= wanted.last
        and wanted.start <= each.last
        and LOCK_TYPE_WRITE in (each.type, wanted.type)
    ]
    return sorted(found, key=lambda each: each.start)


def changed(held: Iterable[Held], wanted: Held) -> list[Held]:
    """The inode's locks once the owner has the wanted one: its ranges split, replaced and joined (fcntl(2))."""
    result = []
    start, last = wanted.start, wanted.last
    for each in held:
        if each.owner != wanted.owner:
            result.append(each)
            continue
        if each.type == wanted.type and each.start <= last + 1 and start <= each.last + 1:
            start, last = min(start, each.start), max(last, each.last)
            continue
        if each.last < wanted.start or wanted.last < each.start:
            result.append(each)
            continue
        if each.start < wanted.start:
            result.append(each._replace(last=wanted.start - 1))
        if each.last > wanted.last:
            result.append(each._replace(start=wanted.last + 1))
    if wanted.type != LOCK_TYPE_UNLOCK:
        result.append(wanted._replace(start=start, last=last))
    return result
