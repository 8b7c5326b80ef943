"""A worker's sleep: over all its rings and any host descriptors at once, in one poll(2).

A signal without a Python handler does not end a sleep: poll(2) fails with EINTR and Python waits on for what is
left of the time (PEP 475). Whoever sends a worker a host signal to stop a computing guest therefore also rings
its doorbell, by completing a call.
"""

import math
import select
from collections.abc import Sequence
from typing import Final

from ipc.client import Client
from ipc.message import MalformedError
from ipc.ring_client import RingChannel
from ipc.shared_memory import fence

_MILLISECONDS: Final = 1000
_SLEEP_S_MAX: Final = 86_400.0
"""poll(2) takes an int of milliseconds; nobody minds being woken once a day."""


def sleep(
    clients: Sequence[Client], descriptors: Sequence[tuple[int, int]], timeout_s: float | None
) -> list[tuple[int, int]]:
    """Waits until a client has news of a pending call (then ask every Pending for its result), a descriptor is
    ready, or so many seconds have passed; None: for ever. May end without any of these.

    `descriptors` are (host descriptor, events of poll(2)); returned are those that are ready, each once, with
    what poll said. POLLERR, POLLHUP and POLLNVAL (a descriptor that is closed) come unasked. Rings without news
    that die are looked at once and left out from then on; a client whose ring died under a pending call has news
    until that is asked. The time is rounded up to milliseconds. Clients over carriers other than rings are asked
    for news once, and do not end a sleep.
    """
    events: dict[int, int] = {}
    for descriptor, wanted in descriptors:
        events[descriptor] = events.get(descriptor, 0) | wanted
    poll = select.poll()
    for descriptor, wanted in events.items():
        poll.register(descriptor, wanted)
    rings = []
    for client in clients:
        channel = client.channel
        if isinstance(channel, RingChannel) and not channel.broken:
            rings.append((client, channel))
            channel.doze()
            for descriptor in channel.filenos():
                poll.register(descriptor, events.get(descriptor, 0) | select.POLLIN)
    # Flags first, then the look: whoever completes a call from here on rings the doorbell.
    fence()
    left_s = _SLEEP_S_MAX if timeout_s is None else min(max(0.0, timeout_s), _SLEEP_S_MAX)
    for client in clients:
        left_s = 0.0 if client.has_news() else min(left_s, client.due_s())
    try:
        ready = poll.poll(math.ceil(left_s * _MILLISECONDS))
    finally:
        for _, channel in rings:
            channel.rouse()
    readable = {descriptor for descriptor, _ in ready}
    for client, channel in rings:
        try:
            channel.hear(readable)
        except MalformedError as error:
            client.distrust(str(error))
    return [(descriptor, found) for descriptor, found in ready if descriptor in events]
