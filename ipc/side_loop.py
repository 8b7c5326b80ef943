"""The asyncio loop beside trio: one thread for all gRPC of the process, and how work crosses over.

Why one: grpc.aio watches one socket from every loop that uses it, so a second loop only steals the first
one's wake-ups. The thread lives as long as somebody holds the loop.
"""

import asyncio
import atexit
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import trio

T = TypeVar("T")
Job = Callable[[], None]


class Crossing:
    """Runs jobs in another thread, in order, and wakes it once for all that queue up until it looks."""

    def __init__(self, wake: Callable[[Job], object]) -> None:
        self._wake = wake
        self._jobs: deque[Job] = deque()
        self._woken = False
        self._corked = False

    def put(self, job: Job) -> None:
        """From any thread. The job is lost if the other loop has ended: nobody is left to care."""
        self._jobs.append(job)
        if not (self._woken or self._corked):
            self._rouse()

    @contextmanager
    def corked(self) -> Iterator[None]:
        """Around several puts of one thread, the only one that puts: the other wakes after the last.

        Waking releases the GIL, and a thread that wakes too early makes a batch of the first job alone.
        """
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
        try:
            self._wake(self._run)
        except (RuntimeError, trio.RunFinishedError):
            self._jobs.clear()  # the other loop has ended

    def _run(self) -> None:
        self._woken = False  # before taking: a job put from now on wakes again
        for _ in range(len(self._jobs)):
            self._jobs.popleft()()
        if self._jobs and not self._woken:  # left for the next turn, so that other tasks have theirs
            self._woken = True
            self._wake(self._run)


class SideLoop:
    """A running asyncio loop in a thread of its own. `hold` and `release` in trio's thread.

    The thread ends with its last holder, the loop with the process: gRPC may still have an event for it, and
    delivering that to a closed loop fails, with whatever else waits to be delivered.
    """

    _lock = threading.Lock()
    _loop: asyncio.AbstractEventLoop | None = None
    _shared: "SideLoop | None" = None

    def __init__(self) -> None:
        if SideLoop._loop is None:
            SideLoop._loop = asyncio.new_event_loop()
            atexit.register(SideLoop._loop.close)
        self.loop = SideLoop._loop
        self._holders = 0
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="farcall-grpc", daemon=True)
        self._thread.start()
        self.crossing = Crossing(self.loop.call_soon_threadsafe)

    def _run(self) -> None:
        self.loop.run_until_complete(self._live())

    async def _live(self) -> None:
        await self._stop.wait()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    @classmethod
    def hold(cls) -> "SideLoop":
        """The process's loop, started if there is none; to be given back by `release`."""
        with cls._lock:
            if cls._shared is None:
                cls._shared = cls()
            cls._shared._holders += 1
            return cls._shared

    def release(self) -> None:
        """Gives the loop back; the last holder ends and joins the thread."""
        with SideLoop._lock:
            self._holders -= 1
            if self._holders:
                return
            SideLoop._shared = None
        self.loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    async def run(self, function: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Awaits a coroutine of the side loop from trio; cancellation is handed on, and awaited."""
        token = trio.lowlevel.current_trio_token()
        finished = trio.Event()
        tasks: list[asyncio.Task[T]] = []

        def start() -> None:
            tasks.append(self.loop.create_task(function()))
            tasks[0].add_done_callback(lambda _: token.run_sync_soon(finished.set))

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
