"""futex(2): who sleeps at which word.

A word is known by where it lies, not by its address: a private one by its offset in the arena, one in memory
shared between processes by its segment and offset there. Waiters of this worker are kept here; a shared word
may have waiters in other workers, whom the kernel process wakes (FutexBroker).
"""

from collections import deque
from typing import TYPE_CHECKING, Final, Protocol

from client_vm.abi.common import EAGAIN, EFAULT, EINVAL, ETIMEDOUT
from client_vm.cpu import READ
from client_vm.errors import Errno
from client_vm.waiting import Blocking, Event, Restart, Wait

if TYPE_CHECKING:
    from client_vm.process import Task

BITSET_ALL: Final = 0xFFFFFFFF
Key = tuple[int, int]
"""(segment id, offset in it); segment 0: the arena."""


class Waiter:
    """One thread that sleeps at a word."""

    __slots__ = ("bitset", "event", "key", "woken")

    def __init__(self, key: Key, bitset: int) -> None:
        self.key = key
        self.bitset = bitset
        self.woken = False
        self.event = Event()


class Broker(Protocol):
    """Wakes the waiters of other workers; a word in memory that nobody else has needs none."""

    def register(self, key: Key) -> None:
        """A thread of this worker is about to sleep there."""
        ...

    def forget(self, key: Key) -> None:
        """It does not any more."""
        ...

    def wake(self, key: Key, count: int, bitset: int) -> int:
        """Wakes up to count waiters elsewhere; how many."""
        ...


class Futexes:
    """The waiters of one worker."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        """Another one after a fork."""
        self._waiters: dict[Key, deque[Waiter]] = {}

    def clear(self) -> None:
        """After a fork: whoever waited is in the parent."""
        self._waiters.clear()

    def wait(self, task: "Task", address: int, expected: int, bitset: int, deadline: float | None) -> Blocking:
        """Sleeps until woken. EAGAIN: the word is not `expected`; ETIMEDOUT; EFAULT; EINVAL."""
        if not bitset:
            raise Errno(EINVAL)
        key = key_of(task, address, READ)
        shared = key[0] != 0
        waiter = Waiter(key, bitset)
        if shared:
            self.broker.register(key)
        try:
            # Looked at after registering: a wake from elsewhere is not lost in between.
            if int.from_bytes(task.memory.read(address, 4), "little") != expected:
                raise Errno(EAGAIN)
        except BaseException:
            if shared:
                self.broker.forget(key)
            raise
        self._waiters.setdefault(key, deque()).append(waiter)
        return self._sleep(task, waiter, deadline)

    def _sleep(self, task: "Task", waiter: Waiter, deadline: float | None) -> Blocking:
        clock = task.kernel.clock
        # With a timeout it is never made again: how much was left is not kept (futex(2)).
        restart = Restart.SA_RESTART if deadline is None else Restart.NEVER
        wait = Wait(deadline=deadline, events=(waiter.event,), restart=restart)
        try:
            while not waiter.woken:
                if deadline is not None and clock.monotonic_s() >= deadline:
                    raise Errno(ETIMEDOUT)
                yield wait
        finally:
            if not waiter.woken:
                self._drop(waiter)
        return 0

    def _drop(self, waiter: Waiter) -> None:
        queue = self._waiters.get(waiter.key)
        if queue is not None and waiter in queue:
            queue.remove(waiter)
            if not queue:
                del self._waiters[waiter.key]
            if waiter.key[0]:
                self.broker.forget(waiter.key)

    def wake(self, key: Key, count: int, bitset: int = BITSET_ALL) -> int:
        """Wakes up to count waiters whose bitset meets ours; how many."""
        if not bitset:
            raise Errno(EINVAL)
        woken = self.wake_here(key, count, bitset)
        if key[0] and woken < count:
            woken += self.broker.wake(key, count - woken, bitset)
        return woken

    def wake_here(self, key: Key, count: int, bitset: int = BITSET_ALL) -> int:
        """As `wake`, threads of this worker only; the kernel process asks for it, too."""
        queue = self._waiters.get(key)
        woken = 0
        for waiter in list(queue or ()):
            if woken >= count:
                break
            if waiter.bitset & bitset:
                self._drop(waiter)
                waiter.woken = True
                waiter.event.notify()
                woken += 1
        return woken

    def requeue(self, key: Key, wake: int, move: int, target: Key) -> tuple[int, int]:
        """Wakes up to `wake`, has up to `move` of the rest wait at target instead; how many of each."""
        woken = self.wake(key, wake) if wake > 0 else 0
        queue = self._waiters.get(key)
        moved = 0
        while queue and moved < move:
            waiter = queue[0]
            if target[0]:
                self.broker.register(target)
            self._drop(waiter)
            waiter.key = target
            self._waiters.setdefault(target, deque()).append(waiter)
            moved += 1
            queue = self._waiters.get(key)
        if key[0] and moved < move:
            # Those elsewhere are woken instead: they look at the word, and sleep where they must.
            moved += self.broker.wake(key, move - moved, BITSET_ALL)
        return woken, moved


def key_of(task: "Task", address: int, access: int = READ) -> Key:
    """Which word an address means. EINVAL: not aligned; EFAULT: not mapped."""
    if address % 4:
        raise Errno(EINVAL)
    space = task.process.space
    if sum(map(len, space.pieces(address, 4, access))) != 4:
        raise Errno(EFAULT)
    vma = space.find(address)
    assert vma is not None
    if vma.segment is not None:
        return vma.segment.number, address - vma.start + vma.offset
    return 0, address - vma.start + vma.physical
