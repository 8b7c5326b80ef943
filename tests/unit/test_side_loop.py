"""The asyncio loop within trio: its time, its tasks' end, its fairness."""

import asyncio
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import trio
import trio.testing

from ipc.side_loop import SideLoop

LIMIT_S = 10


async def test_the_loop_outlives_its_holders() -> None:
    """gRPC may deliver an event late; in a closed loop that raises, and holds up what comes after it."""
    first = SideLoop.hold()
    running = await first.run(running_in)
    first.release()
    second = SideLoop.hold()
    again = await second.run(running_in)
    assert again == running == (second.loop, threading.current_thread())
    second.release()
    assert not second.loop.is_closed()


async def test_what_runs_in_the_loop_ends_with_its_last_holder() -> None:
    side = SideLoop.hold()
    ended = trio.Event()

    async def forever() -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            ended.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ignoring_cancellation, side, forever)
        await trio.testing.wait_all_tasks_blocked()
        side.release()
        with trio.fail_after(LIMIT_S):
            await ended.wait()


async def ignoring_cancellation(side: SideLoop, function: Callable[[], Any]) -> None:
    with suppress(asyncio.CancelledError):
        await side.run(function)


async def test_asyncio_keeps_time_within_trio() -> None:
    side = SideLoop.hold()
    try:
        with trio.fail_after(LIMIT_S):
            begin_s = time.monotonic()
            await side.run(lambda: asyncio.sleep(0.05))
            assert time.monotonic() - begin_s >= 0.05
            with trio.move_on_after(0.05) as scope:
                await side.run(lambda: asyncio.sleep(3600))
            assert scope.cancelled_caught
    finally:
        side.release()


async def test_a_busy_loop_leaves_trio_its_turns() -> None:
    side = SideLoop.hold()
    turns = 0

    def again() -> None:
        nonlocal turns
        turns += 1
        if not over:
            side.loop.call_soon(again)

    over: list[bool] = []
    side.crossing.put(again)
    try:
        with trio.fail_after(LIMIT_S):
            for _ in range(10):
                await trio.sleep(0)
    finally:
        over.append(True)
        side.release()
    assert turns > 1


async def running_in() -> tuple[asyncio.AbstractEventLoop, threading.Thread]:
    return asyncio.get_running_loop(), threading.current_thread()


async def test_who_comes_while_the_last_holder_s_tasks_end_loses_none_of_its_own() -> None:
    first = SideLoop.hold()
    first.crossing.put(lambda: tasks.append(first.loop.create_task(reluctant())))
    tasks: list[asyncio.Task[None]] = []
    await trio.testing.wait_all_tasks_blocked()
    first.release()
    second = SideLoop.hold()
    try:
        with trio.fail_after(LIMIT_S):
            assert await second.run(answer) == 42
        assert tasks[0].done()
    finally:
        second.release()


async def reluctant() -> None:
    try:
        await asyncio.get_running_loop().create_future()
    finally:
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(0.01)


async def answer() -> int:
    await asyncio.sleep(0.05)
    return 42
