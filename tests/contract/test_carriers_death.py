"""Rings whose other end dies: real processes, SIGKILL."""

import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import pytest
import trio

from farcall.v1.session_pb2 import HelloRequest
from ipc.client import Client
from ipc.endpoint import BrokenError, Channel
from ipc.message import Reply
from ipc.ring_client import RingChannel
from ipc.ring_server import serve_rings
from ipc.seams import HostClock
from tests.contract.carriers import (
    CLIENT_LIMIT_S,
    PWRITE,
    SECRET,
    Doorbell,
    ScriptedEndpoint,
    connect_ring,
    ping,
)
from tests.contract.processes import line, process

T = TypeVar("T")
now = HostClock().monotonic_s


async def in_thread(function: Callable[[], T]) -> T:
    return await trio.to_thread.run_sync(function)


def kill(child: subprocess.Popen[str]) -> None:
    child.send_signal(signal.SIGKILL)
    child.wait(CLIENT_LIMIT_S)


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "server.ring")


@pytest.fixture
def doorbell() -> Iterator[Doorbell]:
    with Doorbell() as bell:
        yield bell


async def test_waiting_for_a_server_that_dies(path: str, doorbell: Doorbell) -> None:
    with process("mute", path) as server:
        assert await in_thread(lambda: line(server)) == "serving"
        _, channel = await connect_ring(path, doorbell)
        tag = channel.submit(ping(1))
        assert await in_thread(lambda: line(server))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(in_thread, lambda: kill(server))
            with pytest.raises(BrokenError):
                await in_thread(lambda: channel.wait(tag, now() + CLIENT_LIMIT_S))
        with pytest.raises(BrokenError):
            channel.submit(ping(2))
        channel.close()


async def test_a_published_reply_outlives_its_server(path: str, doorbell: Doorbell) -> None:
    with process("serve", path) as server:
        assert await in_thread(lambda: line(server)) == "serving"
        _, channel = await connect_ring(path, doorbell)
        first = channel.submit(ping(7))
        assert await in_thread(lambda: (line(server), line(server))[1]) == "done"
        await in_thread(lambda: kill(server))
        second = channel.submit(ping(8))  # nobody knows yet
        assert channel.wait(first, now() + CLIENT_LIMIT_S) == Reply(result=7)
        with pytest.raises(BrokenError):
            channel.wait(second, now() + CLIENT_LIMIT_S)
        channel.close()


async def test_the_same_identity_goes_to_the_next_server(path: str, doorbell: Doorbell) -> None:
    with process("mute", path) as server, process_later(path) as start_next:
        assert await in_thread(lambda: line(server)) == "serving"
        response, channel = await connect_ring(path, doorbell)

        def reconnect() -> Channel:
            successor = start_next()
            assert line(successor) == "serving"
            resume = HelloRequest(resume_session=response.session, resume_secret=SECRET)
            resumed, again = trio.from_thread.run(connect_ring, path, doorbell, resume)
            assert resumed.session == response.session
            return again

        client = Client(
            channel,
            session=response.session,
            opcodes=response.opcodes,
            reconnect=reconnect,
            clock=HostClock(),
            pause=lambda seconds: None,
        )
        seen: list[str] = []

        def kill_in_flight() -> None:
            seen.append(line(server))
            kill(server)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(in_thread, kill_in_flight)
            reply = await in_thread(lambda: client.call_packed(PWRITE, 3, 0, data=b"payload", slot=5))
        assert reply == Reply(result=7)
        seen.append(line(start_next()))
        client.close()
    assert seen[0] == seen[1]
    session, slot, seq, digest = seen[0].split()
    assert (session, slot, seq, len(digest)) == (str(response.session), "0", "1", 32)


@contextmanager
def process_later(path: str) -> Iterator[Callable[[], subprocess.Popen[str]]]:
    """Starts one more server when first asked; afterwards gives the same."""
    started: list[subprocess.Popen[str]] = []
    managers = []

    def start() -> subprocess.Popen[str]:
        if not started:
            managers.append(process("serve", path))
            started.append(managers[0].__enter__())
        return started[0]

    try:
        yield start
    finally:
        for manager in managers:
            manager.__exit__(None, None, None)


async def test_a_client_that_dies_ends_its_session_only(path: str, doorbell: Doorbell) -> None:
    ended = trio.Event()
    endpoint = ScriptedEndpoint(on_end=ended.set, hold=1 << 30)
    async with trio.open_nursery() as nursery:
        await nursery.start(serve_rings, path, endpoint)
        with process("call", path) as client:
            session = int(await in_thread(lambda: line(client)))
            with trio.fail_after(CLIENT_LIMIT_S):
                while not endpoint.held:
                    await trio.lowlevel.checkpoint()
            await in_thread(lambda: kill(client))
            with trio.fail_after(CLIENT_LIMIT_S):
                await ended.wait()
        assert endpoint.ended == [session]
        endpoint.release()  # a completion for a client that is gone
        response, channel = await connect_ring(path, doorbell)
        tag = channel.submit(ping(3))
        assert await in_thread(lambda: channel.wait(tag, now() + CLIENT_LIMIT_S)) == Reply(result=3)
        assert response.session != session
        channel.close()
        nursery.cancel_scope.cancel()


async def test_a_stopped_client_hurts_nobody(path: str, doorbell: Doorbell) -> None:
    endpoint = ScriptedEndpoint()
    async with trio.open_nursery() as nursery:
        await nursery.start(serve_rings, path, endpoint)
        with process("call", path) as client:
            assert await in_thread(lambda: line(client))
            client.send_signal(signal.SIGSTOP)
            _, channel = await connect_ring(path, doorbell)

            def many(channel: RingChannel) -> None:
                for i in range(200):
                    tag = channel.submit(ping(i))
                    assert channel.wait(tag, now() + CLIENT_LIMIT_S) == Reply(result=i)
                    channel.release(tag)

            await in_thread(lambda: many(channel))
            channel.close()
        nursery.cancel_scope.cancel()
