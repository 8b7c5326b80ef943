"""How a system call waits: it yields what it waits for, and other threads of the guest run meanwhile.

A handler that must wait returns a generator (Blocking). Each `yield Wait(...)` parks its task until one of the
wait's conditions may hold; wake-ups may be spurious, so the generator looks again. Guest memory may have been
remapped meanwhile: views are taken anew after every yield. A signal with a handler is thrown in as Interrupted.
"""

import enum
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from client_vm.abi.common import EAGAIN, EINTR
from client_vm.errors import Errno

if TYPE_CHECKING:
    from client_vm.process import Task


class Restart(enum.Enum):
    """What becomes of a call that a signal's handler interrupts (signal(7))."""

    SA_RESTART = enum.auto()
    """Made again if the handler was installed with SA_RESTART, else EINTR."""
    NEVER = enum.auto()
    """EINTR, whatever the handler's flags."""


class Interrupted(Errno):
    """Thrown into a waiting call when a handler is about to run. A call with partial progress catches it."""

    def __init__(self) -> None:
        super().__init__(EINTR)


class Event:
    """Something inside the worker that tasks wait for. No state: who waits looks again when notified."""

    __slots__ = ("waiters",)

    def __init__(self) -> None:
        self.waiters: set[Task] = set()

    def notify(self) -> None:
        """Everybody who waits for it looks again."""
        for task in list(self.waiters):
            task.kernel.wake(task)


@dataclass(frozen=True, slots=True)
class Wait:
    """What a call waits for: the first of these. Empty: only a signal ends it."""

    descriptors: tuple[tuple[int, int], ...] = ()
    """(host descriptor, poll(2) events). POLLERR and POLLHUP always count."""
    deadline: float | None = None
    """On kernel.clock.monotonic_s."""
    events: tuple[Event, ...] = ()
    rings: bool = False
    """Something on a ring, whatever it is."""
    restart: Restart = Restart.SA_RESTART


Blocking = Generator[Wait, None, int]
"""A call under way: yields Waits, returns the result. Raises Errno."""


class WouldBlock(Exception):
    """An OpenFile cannot go on without waiting. It never waits itself; its caller decides."""

    def __init__(self, wait: Wait) -> None:
        super().__init__()
        self.wait = wait


FOREVER: Final = Wait(restart=Restart.NEVER)


def until_possible(attempt: Callable[[], int], first: WouldBlock) -> Blocking:
    """Tries again and again what could not be done without waiting. Errno; Interrupted."""
    blocked = first
    while True:
        yield blocked.wait
        try:
            return attempt()
        except WouldBlock as again:
            blocked = again


def bounded(call: Blocking, seconds: float, now: Callable[[], float]) -> Blocking:
    """The call, with Errno(EAGAIN) thrown in when it has waited that long; a handler ends it for good (signal(7):
    SO_RCVTIMEO). `now` is kernel.clock.monotonic_s."""
    deadline = now() + seconds
    try:
        wait = next(call)
        while True:
            try:
                until = deadline if wait.deadline is None else min(deadline, wait.deadline)
                yield replace(wait, deadline=until, restart=Restart.NEVER)
            except Errno as error:
                wait = call.throw(error)
                continue
            wait = next(call)
            if now() >= deadline:
                wait = call.throw(Errno(EAGAIN))
    except StopIteration as done:
        return int(done.value)
    finally:
        call.close()
