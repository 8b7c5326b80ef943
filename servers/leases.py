"""Leases on answers: who keeps what, and what must be forgotten before it changes (ipc/README, Answers that are
kept).

A holder is a session that keeps answers for others. It may believe them until it is told not to (a recall) or
until its lease ends, whichever comes first. Whoever changes an object that somebody keeps waits: the change
happens when every holder has acknowledged its recall, or its lease has run out. Pure: the clock is passed in.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from farcall.v1.file_pb2 import AwaitRecallResponse
from ipc.limits import ANSWER_LEASE_MS, ANSWERS_LEASED_MAX
from ipc.seams import Clock
from servers.service import Deferred, NotYetError

LEASE_S: Final = ANSWER_LEASE_MS / 1000
RESTLESS_S: Final = 1.0
"""How long nobody may keep what was changed: who writes and looks by turns would wait for a recall each time."""
RESTLESS_MAX: Final = 4096
"""Objects of which that is remembered."""
RECALLED_MAX: Final = 4096
"""Inodes in one answer; a change has a handful."""
GRANT_SHIFT: Final = 32
"""A grant is the server's boot epoch and a number of this boot."""


@dataclass(slots=True, eq=False)
class Holder:
    """One session that keeps answers."""

    grant: int
    deadline_s: float
    objects: set[int] = field(default_factory=set)
    """That it may keep answers about."""
    recalls: int = 0
    """Number of its last recall."""
    unheard: dict[int, int] = field(default_factory=dict)
    """Object -> number of its recall, which was not acknowledged."""
    waiting: Deferred | None = None


class Leases:
    """All holders of one server."""

    def __init__(self, clock: Clock, boot_epoch: int, before: Iterable[int] = ()) -> None:
        """`before`: sessions that were holders when the server died; what they keep is not known any more."""
        self._clock = clock
        self._epoch = boot_epoch
        self._grants = 0
        self._holders: dict[int, Holder] = {}
        self._before = set(before)
        self._before_end_s = clock.monotonic_s() + LEASE_S
        self._restless: dict[int, float] = {}
        self._wanted: dict[int, float] = {}
        """Objects that somebody waits to change, and until when at most: nobody may keep them again."""

    # Of holders

    def is_holder(self, session: int) -> bool:
        return session in self._holders

    def hold(self, session: int, grant: int) -> Holder:
        """The session is a holder, and has forgotten what it kept under other grants than `grant`."""
        holder = self._holders.get(session)
        if holder is None:
            holder = self._holders[session] = Holder(0, 0.0)
            self._restart(holder)
        self._heard(session, holder, grant)
        return holder

    def find(self, session: int, grant: int) -> Holder | None:
        """The holder that a consultation names; None: the session is none."""
        holder = self._holders.get(session)
        if holder is not None:
            self._heard(session, holder, grant)
        return holder

    def _heard(self, session: int, holder: Holder, grant: int) -> None:
        if grant == holder.grant:
            self._before.discard(session)
            if not holder.unheard:
                holder.deadline_s = self._clock.monotonic_s() + LEASE_S
        # Another grant: it has still to hear of this one, in the answer, and to forget.

    def await_recall(self, holder: Holder, grant: int, acknowledged: int) -> AwaitRecallResponse | Deferred:
        """What the holder has to forget, now or later."""
        if grant != holder.grant:
            return self._news(holder)
        holder.unheard = {key: number for key, number in holder.unheard.items() if number > acknowledged}
        if holder.unheard:
            return self._news(holder)
        holder.deadline_s = self._clock.monotonic_s() + LEASE_S
        holder.waiting = Deferred()
        return holder.waiting

    def lease(self, holder: Holder, grant: int, objects: Iterable[int]) -> bool:
        """Whether the holder may keep what depends on these objects from now on."""
        now = self._clock.monotonic_s()
        if grant != holder.grant or now > holder.deadline_s:
            return False
        new = [key for key in objects if key not in holder.objects]
        if len(holder.objects) + len(new) > ANSWERS_LEASED_MAX:
            return False
        for key in (*new, *holder.unheard.keys() & set(objects)):
            if self._restless.get(key, 0.0) > now or self._wanted.get(key, 0.0) > now:
                return False
        holder.objects.update(new)
        return True

    def left_ms(self, holder: Holder) -> int:
        """What is left of its lease."""
        return max(0, int(1000 * (holder.deadline_s - self._clock.monotonic_s())))

    def ended(self, session: int) -> None:
        """The session is no more. Its holder ended it, having forgotten everything, or its lease ran out long
        ago: a session's own lease is longer."""
        self._holders.pop(session, None)
        self._before.discard(session)

    # Of those who change something

    def check(self, changed: Iterable[int]) -> None:
        """Raises NotYetError if somebody may keep answers that this change makes false, who is told to forget."""
        if not self._holders and not self._before:
            return
        objects = set(changed)
        if not objects:
            return
        now = self._clock.monotonic_s()
        waits: list[Callable[[], bool]] = []
        if self._before and now <= self._before_end_s:
            waits.append(self._before_is_over)
        for holder in list(self._holders.values()):
            if not self._is_alive(holder):
                self._restart(holder)
                continue
            kept = objects & holder.objects
            if kept:
                self._recall(holder, kept)
            numbers = [holder.unheard[key] for key in objects & holder.unheard.keys()]
            if numbers:
                waits.append(self._until(holder, max(numbers)))
        if waits:
            until = now + 2 * LEASE_S
            self._wanted = {key: end for key, end in self._wanted.items() if end > now}
            self._wanted.update(dict.fromkeys(objects, until))
            raise NotYetError(lambda: all(over() for over in waits))
        for key in objects:
            self._wanted.pop(key, None)
            self._restless[key] = now + RESTLESS_S
        if len(self._restless) > RESTLESS_MAX:
            self._restless = {key: end for key, end in self._restless.items() if end > now}

    def _before_is_over(self) -> bool:
        return not self._before or self._clock.monotonic_s() > self._before_end_s

    def _until(self, holder: Holder, number: int) -> Callable[[], bool]:
        grant = holder.grant

        def over() -> bool:
            return (
                holder.grant != grant
                or not any(unheard <= number for unheard in holder.unheard.values())
                or not self._is_alive(holder)
            )

        return over

    def _recall(self, holder: Holder, objects: set[int]) -> None:
        holder.recalls += 1
        holder.objects -= objects
        holder.unheard.update(dict.fromkeys(objects, holder.recalls))
        self._tell(holder)

    def _restart(self, holder: Holder) -> None:
        """Its lease is over: from now on it keeps nothing, and hears so when it asks."""
        self._grants += 1
        holder.grant = self._epoch << GRANT_SHIFT | self._grants
        holder.objects.clear()
        holder.unheard.clear()
        holder.recalls = 0
        self._tell(holder)

    def _tell(self, holder: Holder) -> None:
        waiting, holder.waiting = holder.waiting, None
        if waiting is not None and not waiting.over:
            waiting.complete(self._news(holder))

    @staticmethod
    def _news(holder: Holder) -> AwaitRecallResponse:
        """As many recalls as fit, the oldest first, none of them in parts."""
        unheard = sorted(holder.unheard.items(), key=lambda item: item[1])
        last = holder.recalls
        if len(unheard) > RECALLED_MAX:
            last = unheard[RECALLED_MAX][1] - 1
        inodes = [key for key, number in unheard if number <= last]
        return AwaitRecallResponse(grant=holder.grant, recalls=last, inodes=inodes)

    def _is_alive(self, holder: Holder) -> bool:
        return self._clock.monotonic_s() <= holder.deadline_s
