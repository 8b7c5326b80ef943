"""A worker's sleep: over all its rings and any host descriptors at once, in one poll(2).

A signal without a Python handler does not end a sleep: poll(2) fails with EINTR and Python waits on for what is
left of the time (PEP 475). Whoever sends a worker a host signal to stop a computing guest therefore also rings
its doorbell, by completing a call.
"""

import math
import os
import select
from collections.abc import Sequence
from typing import Final

from ipc.client import Client
from ipc.limits import IDLE_SPIN_US
from ipc.message import MalformedError
from ipc.ring_client import RingChannel
from ipc.seams import Clock
from ipc.shared_memory import fence
from ipc.spin import Luck

_MILLISECONDS: Final = 1000
_SLEEP_S_MAX: Final = 86_400.0
"""poll(2) takes an int of milliseconds; nobody minds being woken once a day."""


class Sleeper:
    """Sleeps again and again over the same rings: what poll(2) is asked about them is kept.

    With a clock it looks for up to IDLE_SPIN_US before it sleeps, as long as that tends to be worth it: where a
    partner on another processor answers at once, as through a pipe, two wake-ups cost more than all the rest.
    """

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock if len(os.sched_getaffinity(0)) > 1 else None
        self._luck = Luck()
        self._rings: list[RingChannel] = []
        self._poll = select.poll()
        self._descriptors: frozenset[int] = frozenset()
        """Of the rings."""

    def sleep(
        self, clients: Sequence[Client], descriptors: Sequence[tuple[int, int]], timeout_s: float | None
    ) -> list[tuple[int, int]]:
        """Waits until a client has news of a pending call (then ask every Pending for its result), a descriptor
        is ready, or so many seconds have passed; None: for ever. May end without any of these.

        `descriptors` are (host descriptor, events of poll(2)); returned are those that are ready, each once,
        with what poll said. POLLERR, POLLHUP and POLLNVAL (a descriptor that is closed) come unasked. Rings
        without news that die are looked at once and left out from then on; a client whose ring died under a
        pending call has news until that is asked. The time is rounded up to milliseconds. Clients over carriers
        other than rings are asked for news once, and do not end a sleep.
        """
        rings = [
            channel
            for client in clients
            if isinstance(channel := client.channel, RingChannel) and not channel.broken
        ]
        if rings != self._rings:
            self._watch(rings)
        poll, own = self._poll, self._descriptors
        events: dict[int, int] = {}
        for descriptor, wanted in descriptors:
            events[descriptor] = events.get(descriptor, 0) | wanted
        for descriptor, wanted in events.items():
            poll.register(descriptor, wanted | (select.POLLIN if descriptor in own else 0))
        for channel in rings:
            channel.doze()
        try:
            # Flags first, then the look: whoever completes a call from here on rings the doorbell.
            fence()
            left_s = _SLEEP_S_MAX if timeout_s is None else min(max(0.0, timeout_s), _SLEEP_S_MAX)
            for client in clients:
                left_s = 0.0 if client.has_news() else min(left_s, client.due_s())
            ready = self._look() if left_s and self._clock is not None else []
            ready = ready or poll.poll(math.ceil(left_s * _MILLISECONDS))
        finally:
            for channel in rings:
                channel.rouse()
            for descriptor in events:
                if descriptor in own:
                    poll.register(descriptor, select.POLLIN)
                else:
                    poll.unregister(descriptor)
        if not own.isdisjoint([descriptor for descriptor, _ in ready]):
            self._hear(clients, {descriptor for descriptor, _ in ready})
        return [(descriptor, found) for descriptor, found in ready if descriptor in events]

    def _look(self) -> list[tuple[int, int]]:
        """What becomes ready soon, if it pays to look."""
        assert self._clock is not None
        if not self._luck.holds():
            return []
        poll, now = self._poll.poll, self._clock.monotonic_s
        end = now() + IDLE_SPIN_US / 1e6
        while now() < end:
            if ready := poll(0):
                self._luck.found()
                return ready
        self._luck.missed()
        return []

    def _watch(self, rings: list[RingChannel]) -> None:
        self._rings, self._poll = rings, select.poll()
        self._descriptors = frozenset(descriptor for channel in rings for descriptor in channel.filenos())
        for descriptor in self._descriptors:
            self._poll.register(descriptor, select.POLLIN)

    def _hear(self, clients: Sequence[Client], readable: set[int]) -> None:
        for client in clients:
            channel = client.channel
            if isinstance(channel, RingChannel) and channel in self._rings:
                try:
                    channel.hear(readable)
                except MalformedError as error:
                    client.distrust(str(error))


def sleep(
    clients: Sequence[Client], descriptors: Sequence[tuple[int, int]], timeout_s: float | None
) -> list[tuple[int, int]]:
    """As Sleeper.sleep, once."""
    return Sleeper().sleep(clients, descriptors, timeout_s)
