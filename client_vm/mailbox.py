"""What the kernel process has to tell one worker: numbered events, kept until the worker has taken them. Pure."""

from collections import deque
from collections.abc import Callable
from typing import Final

from client_vm.abi import common
from client_vm.errors import Errno
from client_vm.futex_broker import Wake
from client_vm.process_table import Signal
from farcall.v1.kernel_pb2 import AwaitEventsResponse, ProcessEvent
from farcall.v1.session_pb2 import REFUSAL_OVERLOADED
from ipc.message import Reply

EVENTS_MAX: Final = 1024
"""Waiting for one worker; real-time signals beyond it are EAGAIN (sigqueue(3)), or dropped if sent to many."""
BATCH: Final = 256
"""Events in one answer: well below the limit of a reply's body."""
RT_SIGNAL_MIN: Final = 32


class Mailbox:
    """Of one guest process."""

    def __init__(self) -> None:
        self._events: deque[tuple[object, ProcessEvent]] = deque()
        """(what makes another one superfluous while it waits, or None; the event)"""
        self._taken = 0
        self._told = 0
        """Number of the last event that went into an answer."""
        self._waiting: tuple[int, Callable[[Reply], None]] | None = None
        """The AwaitEvents that has no answer yet: its slot, and how to answer it."""
        self.asked = False
        """Whether the worker has ever asked: it can take signals."""

    @property
    def taken(self) -> int:
        """Number of the last event that the worker has taken."""
        return self._taken

    @property
    def last(self) -> int:
        """Number of the last event that there is."""
        return self._taken + len(self._events)

    @property
    def full(self) -> bool:
        return len(self._events) >= EVENTS_MAX

    def put_signal(self, sent: Signal) -> None:
        """A standard signal that waits already does not wait twice (signal(7))."""
        key = ("signal", sent.signal, sent.thread) if sent.signal < RT_SIGNAL_MIN else None
        if self.full or self._waits(key):
            return
        event = ProcessEvent()
        event.signal.signal, event.signal.code = sent.signal, sent.code
        event.signal.pid, event.signal.uid, event.signal.status = sent.pid, sent.uid, sent.status
        event.signal.value, event.signal.thread = sent.value, sent.thread
        self._events.append((key, event))

    def put_children_changed(self) -> None:
        """wait(2) may have news."""
        if not self._waits("children"):
            self._events.append(("children", ProcessEvent(children_changed=True)))

    def put_new_parent(self, parent: int) -> None:
        """The parent has ended."""
        self._events.append((None, ProcessEvent(new_parent=parent)))

    def put_wake(self, wake: Wake, bitset: int) -> None:
        """Sleepers at a shared word are to go on. Never more of them than the worker has registered threads."""
        event = ProcessEvent()
        event.futex_wake.word.segment, event.futex_wake.word.offset = wake.word
        event.futex_wake.count, event.futex_wake.bitset = wake.count, bitset
        self._events.append((None, event))

    def put_fifo_ready(self, ticket: int) -> None:
        """The other end of a FIFO is there."""
        self._events.append((None, ProcessEvent(fifo_ready=ticket)))

    def put_sockets_changed(self) -> None:
        """A listening socket that it waits for may have room, or is gone."""
        if not self._waits("sockets"):
            self._events.append(("sockets", ProcessEvent(sockets_changed=True)))

    def _waits(self, key: object) -> bool:
        """Whether such an event has not been told yet."""
        skip = self._told - self._taken
        return key is not None and any(
            known == key for index, (known, _) in enumerate(self._events) if index >= skip
        )

    def ask(self, slot: int, after: int, complete: Callable[[Reply], None]) -> bool:
        """AwaitEvents; True if it was answered at once. EINVAL: event `after` was never told, or taken before."""
        if not self._taken <= after <= self._told:
            raise Errno(common.EINVAL)
        for _ in range(after - self._taken):
            self._events.popleft()
        self._taken = self._told = after
        self.drop()
        self._waiting, self.asked = (slot, complete), True
        return self.answer()

    def answer(self) -> bool:
        """Answers the AwaitEvents that waits, if there is something to tell; True if it did."""
        if self._waiting is None or not self._events:
            return False
        complete, self._waiting = self._waiting[1], None
        response = AwaitEventsResponse()
        for _, event in list(self._events)[:BATCH]:
            response.events.append(event)
        self._told = self._taken + len(response.events)
        complete(Reply(body=response.SerializeToString()))
        return True

    def drop(self, slot: int | None = None) -> int:
        """Gives up the AwaitEvents that waits (in this slot); how many there were: 0 or 1."""
        if self._waiting is None or slot not in (None, self._waiting[0]):
            return 0
        complete, self._waiting = self._waiting[1], None
        complete(Reply(refusal=REFUSAL_OVERLOADED))
        return 1
