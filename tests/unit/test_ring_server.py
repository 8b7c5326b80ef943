"""The listener's path, the pump's manners, and who gets a ring."""

import os
import signal
import socket
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trio
import trio.testing

from farcall.v1.session_pb2 import REFUSAL_NOT_READY, HelloRequest, HelloResponse
from ipc.endpoint import BrokenError, Peer
from ipc.message import Call, Reply
from ipc.ring_client import RingChannel, RingUnavailableError, open_ring
from ipc.ring_layout import HEADER_BYTES, RING_BYTES, SERVER_SLEEPING
from ipc.ring_server import RingServer, serve_rings
from ipc.seams import HostClock
from ipc.shared_memory import map_sealed
from tests.contract.carriers import CLIENT_LIMIT_S, SECRET, Doorbell, ScriptedEndpoint, connect_ring, ping
from tests.contract.processes import line, process
from tests.contract.ring_process import DOZES

now = HostClock().monotonic_s


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "run" / "server.ring")


@pytest.fixture
def doorbell() -> Iterator[Doorbell]:
    with Doorbell() as bell:
        yield bell


async def served(path: str, doorbell: Doorbell) -> None:
    """Fails unless somebody answers there."""
    _, channel = await connect_ring(path, doorbell)
    tag = channel.submit(ping(5))
    reply = await trio.to_thread.run_sync(lambda: channel.wait(tag, now() + CLIENT_LIMIT_S))
    assert reply == Reply(result=5)
    channel.close()


async def test_path_is_private_and_removed(path: str, doorbell: Doorbell) -> None:
    async with trio.open_nursery() as nursery:
        await nursery.start(serve_rings, path, ScriptedEndpoint())
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
        assert stat.S_IMODE(os.stat(os.path.dirname(path)).st_mode) == 0o700
        await served(path, doorbell)
        nursery.cancel_scope.cancel()
    assert os.listdir(os.path.dirname(path)) == []


async def test_a_dead_servers_path_is_replaced(path: str, doorbell: Doorbell) -> None:
    os.makedirs(os.path.dirname(path))
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as dead:
        dead.bind(path)
    with pytest.raises(RingUnavailableError, match="refused"):
        await open_ring(path, HelloRequest(), doorbell.sender)
    async with trio.open_nursery() as nursery:
        await nursery.start(serve_rings, path, ScriptedEndpoint())
        await served(path, doorbell)
        nursery.cancel_scope.cancel()


async def test_a_living_servers_path_is_not(path: str, doorbell: Doorbell) -> None:
    async with trio.open_nursery() as nursery:
        await nursery.start(serve_rings, path, ScriptedEndpoint())
        with pytest.raises(OSError, match="another server"):
            await serve_rings(path, ScriptedEndpoint())
        await served(path, doorbell)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("kind", ["file", "directory"])
async def test_what_is_no_socket_stays(path: str, kind: str) -> None:
    os.makedirs(os.path.dirname(path))
    if kind == "file":
        Path(path).write_text("precious")
    else:
        os.mkdir(path)
    with pytest.raises(OSError, match="no socket"):
        await serve_rings(path, ScriptedEndpoint())
    assert os.path.exists(path)


async def test_a_successors_path_stays(path: str, doorbell: Doorbell) -> None:
    async with trio.open_nursery() as successors:
        async with trio.open_nursery() as nursery:
            await nursery.start(serve_rings, path, ScriptedEndpoint())
            os.unlink(path)
            await successors.start(serve_rings, path, ScriptedEndpoint())
            nursery.cancel_scope.cancel()
        await served(path, doorbell)
        successors.cancel_scope.cancel()
    assert not os.path.exists(path)


async def test_nobody_there(path: str, doorbell: Doorbell) -> None:
    with pytest.raises(RingUnavailableError, match="No such file"):
        await open_ring(path, HelloRequest(), doorbell.sender)


async def test_a_silent_server(path: str, doorbell: Doorbell) -> None:
    os.makedirs(os.path.dirname(path))
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as mute:
        mute.bind(path)
        mute.listen()
        with pytest.raises(RingUnavailableError, match="no answer"):
            await open_ring(path, HelloRequest(), doorbell.sender, timeout_s=0.05)


class Refusing(ScriptedEndpoint):
    def hello(self, request: HelloRequest, peer: Peer) -> HelloResponse:
        response = HelloResponse(protocol_min=3, protocol_max=4)
        response.outcome.refusal = REFUSAL_NOT_READY
        return response


async def test_who_hangs_up_before_a_word_is_no_news(
    path: str, doorbell: Doorbell, caplog: pytest.LogCaptureFixture
) -> None:
    """As somebody who is killed between connecting and saying Hello; one word that is none is news."""
    async with trio.open_nursery() as nursery:
        await nursery.start(serve_rings, path, ScriptedEndpoint())
        for word in (b"", b"?"):
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as caller:
                caller.connect(path)
                if word:
                    caller.send(word)
                caller.shutdown(socket.SHUT_WR)
                assert await trio.to_thread.run_sync(caller.recv, 16) == b""  # it was read, and let go
            assert len(caplog.records) == len(word)
        await served(path, doorbell)
        nursery.cancel_scope.cancel()


async def test_a_refused_hello_is_an_answer_without_a_ring(path: str, doorbell: Doorbell) -> None:
    endpoint = Refusing()
    async with trio.open_nursery() as nursery:
        await nursery.start(serve_rings, path, endpoint)
        opened = await open_ring(path, HelloRequest(), doorbell.sender)
        assert opened.memfd == -1
        assert opened.response.outcome.refusal == REFUSAL_NOT_READY
        assert opened.response.protocol_max == 4
        opened.close()
        nursery.cancel_scope.cancel()
    assert endpoint.ended == []


async def test_the_peer_is_the_kernels_word(path: str, doorbell: Doorbell) -> None:
    endpoint = ScriptedEndpoint()
    async with trio.open_nursery() as nursery:
        await nursery.start(serve_rings, path, endpoint)
        await served(path, doorbell)
        nursery.cancel_scope.cancel()
    assert endpoint.peers == {Peer(f"uid:{os.getuid()}", "ring")}


async def test_a_session_moves_to_its_newest_ring(path: str, doorbell: Doorbell) -> None:
    """The old ring breaks; its end does not end the session."""
    endpoint = ScriptedEndpoint()
    async with trio.open_nursery() as nursery:
        await nursery.start(serve_rings, path, endpoint)
        first, old = await connect_ring(path, doorbell)
        resume = HelloRequest(resume_session=first.session, resume_secret=SECRET)
        _, new = await connect_ring(path, doorbell, resume)
        tag = old.submit(ping(1))
        with pytest.raises(BrokenError):
            old.wait(tag, now() + CLIENT_LIMIT_S)
        old.close()
        tag = new.submit(ping(2))
        reply = await trio.to_thread.run_sync(lambda: new.wait(tag, now() + CLIENT_LIMIT_S))
        assert reply == Reply(result=2)
        assert endpoint.ended == []
        new.close()
        nursery.cancel_scope.cancel()
    assert endpoint.ended == [first.session]


async def test_the_end_of_the_server_breaks_every_ring(path: str, doorbell: Doorbell) -> None:
    endpoint = ScriptedEndpoint(hold=1 << 30)
    async with trio.open_nursery() as nursery:
        await nursery.start(serve_rings, path, endpoint)
        channels = [(await connect_ring(path, doorbell))[1] for _ in range(3)]
        tags = [channel.submit(ping(1)) for channel in channels]
        nursery.cancel_scope.cancel()
    for channel, tag in zip(channels, tags, strict=True):
        with pytest.raises(BrokenError):
            channel.wait(tag, now() + CLIENT_LIMIT_S)
        channel.close()
    assert sorted(endpoint.ended) == [1, 2, 3]
    endpoint.release()


async def test_other_tasks_run_under_load(path: str) -> None:
    """A client that never pauses does not keep trio from anybody else, nor the pump from other rings."""
    endpoint = ScriptedEndpoint()
    async with trio.open_nursery() as nursery:
        await nursery.start(serve_rings, path, endpoint)
        with process("hammer", path) as client, Doorbell() as doorbell:
            assert await trio.to_thread.run_sync(lambda: line(client)) == "hammering"
            with trio.fail_after(CLIENT_LIMIT_S):
                for _ in range(100):
                    await trio.lowlevel.checkpoint()
                await served(path, doorbell)
                hammered = len(endpoint.calls)
                while len(endpoint.calls) < hammered + 1000:
                    await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()


async def test_no_wake_up_is_lost(path: str) -> None:
    """Both sides fall asleep thousands of times, at every moment of the other's work."""
    async with trio.open_nursery() as nursery:
        await nursery.start(serve_rings, path, ScriptedEndpoint())
        with process("doze", path) as client:
            assert await trio.to_thread.run_sync(lambda: line(client)) == str(DOZES)
        nursery.cancel_scope.cancel()


async def test_a_signal_does_not_end_a_wait(path: str, doorbell: Doorbell) -> None:
    """EINTR: the wait goes on, to the reply or to its deadline."""
    endpoint = ScriptedEndpoint(hold=2)
    async with trio.open_nursery() as nursery:
        await nursery.start(serve_rings, path, endpoint)
        _, channel = await connect_ring(path, doorbell)
        tag = channel.submit(ping(1))
        before = signal.signal(signal.SIGUSR1, lambda number, frame: None)
        try:
            waiter = threading.get_ident()
            sender = threading.Timer(0.02, signal.pthread_kill, (waiter, signal.SIGUSR1))
            sender.start()
            started = now()
            assert channel.wait(tag, started + 0.1) is None
            assert now() >= started + 0.1
            sender.join(CLIENT_LIMIT_S)
        finally:
            signal.signal(signal.SIGUSR1, before)
        channel.close()
        nursery.cancel_scope.cancel()


class SendingOn(ScriptedEndpoint):
    """Has another task do something with each call, as a link sends it on."""

    def __init__(self, tasks: trio.Nursery) -> None:
        super().__init__()
        self.tasks = tasks
        self.words = memoryview(bytes(HEADER_BYTES)).cast("Q")
        self.slept: list[int] = []
        self.sent = trio.Event()

    def submit(
        self, call: Call, peer: Peer, complete: Callable[[Reply], None], into: memoryview | None = None
    ) -> None:
        self.tasks.start_soon(self.send)
        super().submit(call, peer, complete, into)

    async def send(self) -> None:
        self.slept.append(self.words[SERVER_SLEEPING])
        self.sent.set()


async def test_who_calls_while_others_calls_are_sent_on_need_not_ring(doorbell: Doorbell) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    async with trio.open_nursery() as nursery:
        endpoint = SendingOn(nursery)
        rings = RingServer(endpoint, spin_us=0)
        memfd = rings.adopt(ours, os.dup(doorbell.sender.fileno()), 1, Peer("uid:0", "ring"))
        endpoint.words = map_sealed(memfd, RING_BYTES)[:HEADER_BYTES].cast("Q")
        channel = RingChannel(memfd, theirs, doorbell.receiver, clock=HostClock(), spin_us=0)
        nursery.start_soon(rings.run)
        for _ in range(20):  # trio's order within a turn is random
            await trio.testing.wait_all_tasks_blocked()
            assert endpoint.words[SERVER_SLEEPING] == 1
            endpoint.sent = trio.Event()
            channel.release(channel.submit(ping(5)))
            await endpoint.sent.wait()
        assert endpoint.slept == [0] * 20
        nursery.cancel_scope.cancel()
    channel.close()
    rings.close()
