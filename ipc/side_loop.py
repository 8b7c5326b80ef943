"""The asyncio loop within trio: all gRPC of the process, in trio's thread, and how work crosses over.

Why in trio's thread: between two threads every call and every reply costs a wake-up, which costs more than the
call (README). Why one: grpc.aio watches one socket from every loop that uses it, so a second loop only steals
the first one's wake-ups. It runs as long as somebody holds it.
"""

import asyncio
import atexit
import selectors
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar

import trio

T = TypeVar("T")
Job = Callable[[], None]
TURNS_MAX: Final = 16
"""Turns of asyncio's loop in one of trio's, so that its other tasks have theirs."""
END_S: Final = 5.0
"""How long what runs in a loop that nobody holds any more may take to be cancelled."""


class Crossing:
    """Runs jobs on the other side, in order, and wakes it once for all that queue up until it looks."""

    def __init__(self, wake: Callable[[Job], object]) -> None:
        self._wake = wake
        self._jobs: deque[Job] = deque()
        self._woken = False
        self._corked = False

    def put(self, job: Job) -> None:
        """The job is lost if the other side has ended: nobody is left to care."""
        self._jobs.append(job)
        if not (self._woken or self._corked):
            self._rouse()

    @contextmanager
    def corked(self) -> Iterator[None]:
        """Around several puts: the other side wakes after the last."""
        outermost = not self._corked
        self._corked = True
        try:
            yield
        finally:
            if outermost:
                self._corked = False
                if self._jobs and not self._woken:
                    self._rouse()

    def _rouse(self) -> None:
        self._woken = True
        self._wake(self.run)

    def run(self) -> None:
        """On the other side: all jobs that are there by now."""
        self._woken = False  # before taking: a job put from now on wakes again
        for _ in range(len(self._jobs)):
            self._jobs.popleft()()
        if self._jobs and not self._woken:  # left for the next turn, so that other tasks have theirs
            self._rouse()


class _NoWait(selectors.EpollSelector):
    """Looks and never waits: where asyncio would, its loop stops, and trio waits instead."""

    stop: Callable[[], None]
    """The loop's."""

    def __init__(self) -> None:
        super().__init__()
        self._turns = 0
        self.wanted_s: float | None = 0.0
        """How long asyncio would have waited at most; None: for ever."""

    def begin(self) -> None:
        """A run of the loop begins."""
        self._turns = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self._turns += 1
        ready = timeout is not None and timeout <= 0
        events = super().select(0) if self._turns == 1 or not ready else []
        if not (ready or events):
            self.wanted_s = timeout
            self.stop()
        elif self._turns >= TURNS_MAX:
            self.wanted_s = 0.0
            self.stop()
        return events


class SideLoop:
    """A running asyncio loop. All of it, and whatever crosses over, in the one thread that runs trio.

    A task of trio's runs it until it has nothing to do and then waits for its descriptors and its clock. The task
    ends with the last holder, the loop with the process: gRPC may still have an event for it, and delivering that
    to a closed loop fails, with whatever else waits to be delivered.
    """

    _looks: _NoWait | None = None
    _loop: asyncio.AbstractEventLoop | None = None
    _shared: "SideLoop | None" = None

    def __init__(self) -> None:
        if SideLoop._loop is None:
            SideLoop._looks = _NoWait()
            SideLoop._loop = asyncio.SelectorEventLoop(SideLoop._looks)
            SideLoop._looks.stop = SideLoop._loop.stop
            atexit.register(SideLoop._loop.close)
        assert SideLoop._looks is not None
        self.loop = SideLoop._loop
        self._selector = SideLoop._looks
        self._holders = 0
        self._ending: set[asyncio.Task[Any]] = set()
        self._trio = trio.lowlevel.current_trio_token()
        self._roused = True
        self._waits = trio.CancelScope()
        self.crossing = Crossing(self._soon_in_loop)
        self.to_trio = Crossing(lambda _run: self._rouse())
        """For jobs that call what is not asyncio's."""
        trio.lowlevel.spawn_system_task(self._live, name="asyncio loop of gRPC")

    @classmethod
    def hold(cls) -> "SideLoop":
        """The process's loop, started if there is none; to be given back by `release`.

        RuntimeError: another run of trio has it.
        """
        if cls._shared is None:
            cls._shared = cls()
        if cls._shared._trio is not trio.lowlevel.current_trio_token():
            raise RuntimeError("asyncio's loop runs within another run of trio")
        cls._shared._holders += 1
        return cls._shared

    def release(self) -> None:
        """Gives the loop back; the last holder ends what still runs in it."""
        self._holders -= 1
        if not self._holders:
            self._cancel_all()
            self._rouse()

    async def run(self, function: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Awaits a coroutine of the side loop from trio; cancellation is handed on, and awaited."""
        finished = trio.Event()
        tasks: list[asyncio.Task[T]] = []

        def start() -> None:
            tasks.append(self.loop.create_task(function()))
            tasks[0].add_done_callback(lambda _: finished.set())

        def cancel() -> None:
            tasks[0].cancel()

        self.crossing.put(start)
        try:
            await finished.wait()
        except trio.Cancelled:
            self.crossing.put(cancel)
            with trio.CancelScope(shield=True):
                await finished.wait()
            if not tasks[0].cancelled():
                tasks[0].exception()  # retrieved: nobody will
            raise
        return tasks[0].result()

    def _soon_in_loop(self, job: Job) -> None:
        self.loop.call_soon(job)
        self._rouse()

    def _rouse(self) -> None:
        self._roused = True
        self._waits.cancel()

    def _cancel_all(self) -> None:
        self._ending = asyncio.all_tasks(self.loop)
        for task in self._ending:
            task.cancel()

    async def _live(self) -> None:
        try:
            while self._holders or not all(task.done() for task in self._ending):
                await self._turn()
        finally:  # also once trio's main task has ended while somebody holds the loop
            self._cancel_all()
            with trio.move_on_after(END_S, shield=True):
                while not all(task.done() for task in self._ending):
                    await self._turn()
            SideLoop._shared = None

    async def _turn(self) -> None:
        """Runs the loop until it has nothing to do, and waits until it has."""
        self._roused = False
        self._selector.begin()
        self.loop.run_forever()
        self.to_trio.run()
        if self._roused:
            await trio.lowlevel.checkpoint()
            return
        wanted_s = self._selector.wanted_s
        with trio.CancelScope() as self._waits:
            if wanted_s is not None:
                self._waits.deadline = trio.current_time() + wanted_s
            await trio.lowlevel.wait_readable(self._selector.fileno())


class AbandonedError(Exception):
    """A part of `together` was cancelled, but not by `together`'s caller."""


async def together(parts: list[Coroutine[Any, Any, None]]) -> None:
    """Runs all in the side loop; the first exception ends the others and comes out.

    AbandonedError if one was cancelled from within, as gRPC does with whoever waits for a cancelled rpc.
    """
    tasks = [asyncio.ensure_future(part) for part in parts]
    if not tasks:
        return
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    finally:
        ended = [task for task in tasks if task.done()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in ended:
        if task.cancelled():  # by gRPC: nobody else knows these tasks
            raise AbandonedError("the rpc was cancelled")
        task.result()
