"""The gateway's link: it never gives a call up, and says in one line why there is no server."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest
import trio
import trio.testing

from farcall.v1 import file_pb2, session_pb2
from farcall.v1.session_pb2 import HelloRequest
from ipc.address import Address
from ipc.endpoint import Peer
from ipc.greeting import ConnectError
from ipc.grpc_client import GrpcLink
from ipc.grpc_server import serve_grpc
from ipc.identity import identify
from ipc.limits import DATA_BYTES_MAX
from ipc.message import Call, MalformedError, Reply, decode_response, encode_request, pack_call
from ipc.operations import BY_NAME
from ipc.seams import HostClock
from tests.contract.ledger_endpoint import LedgerEndpoint

LIMIT_S = 20
CLOCK = HostClock()
HELLO = HelloRequest(protocol_min=1, protocol_max=1)
PEER = Peer("worker", "ring")
PWRITE = BY_NAME["PWrite"]
PREAD = BY_NAME["PRead"]
CHECKOUT = Path(__file__).resolve().parents[2]


Restart = Callable[[], Awaitable[None]]


class Replies:
    """Collects completions, and lets a test wait for them."""

    def __init__(self) -> None:
        self.got: list[Reply] = []
        self._more = trio.Event()

    def __call__(self, reply: Reply) -> None:
        self.got.append(reply)
        self._more.set()

    async def wait(self, count: int) -> list[Reply]:
        while len(self.got) < count:
            await self._more.wait()
            self._more = trio.Event()
        return self.got


@asynccontextmanager
async def linked(address: Address, renew_interval_s: float = 5.0) -> AsyncIterator[GrpcLink]:
    with trio.fail_after(LIMIT_S):
        deadline = CLOCK.monotonic_s() + 5
        link = await GrpcLink.connect(address, CLOCK, deadline=deadline, renew_interval_s=renew_interval_s)
        try:
            yield link
        finally:
            await link.aclose()


@asynccontextmanager
async def serving(endpoint: LedgerEndpoint, address: Address) -> AsyncIterator[Address]:
    async with trio.open_nursery() as nursery:
        yield await nursery.start(serve_grpc, address, endpoint)
        nursery.cancel_scope.cancel()


async def until(condition: object) -> None:
    """Waits for something that no event announces; the test's own limit bounds it."""
    assert callable(condition)
    while not condition():
        await trio.sleep(0.002)


@pytest.fixture
def place(tmp_path: Path) -> Address:
    return Address(path=str(tmp_path / "server"))


def write(session: int, token: bytes, slot: int = 0, seq: int = 1) -> Call:
    call = pack_call(PWRITE, 1, data=token)
    identify(call, session, slot, seq)
    return call


async def test_data_both_ways_and_into_the_room_given(place: Address) -> None:
    endpoint = LedgerEndpoint()
    room = memoryview(bytearray(DATA_BYTES_MAX + 5))
    replies = Replies()
    async with serving(endpoint, place), linked(place) as link:
        session = (await link.hello(HELLO)).session
        read = pack_call(PREAD, 1, DATA_BYTES_MAX)
        link.submit(read, PEER, replies, room)
        (reply,) = await replies.wait(1)
        assert isinstance(reply.data, memoryview) and reply.data.obj is room.obj
        assert len(reply.data) == DATA_BYTES_MAX and bytes(room[:512]) == bytes(range(256)) * 2
        ours = bytearray(b"w" * DATA_BYTES_MAX)
        link.submit(write(session, b"w" * DATA_BYTES_MAX), PEER, replies)
        link.submit(read, PEER, replies, room[:3])  # too small a room is left alone
        await replies.wait(3)
        call = pack_call(PWRITE, 1, data=memoryview(ours))
        identify(call, session, 1, 1)
        link.submit(call, PEER, replies)
        ours[:] = bytes(len(ours))  # a worker's ring may be gone by the time it is sent
        await replies.wait(4)
    assert endpoint.effects == [b"w" * 8] * 2
    assert [reply.errno for reply in replies.got] == [0] * 4


async def test_64_in_flight_each_with_its_own_reply(place: Address) -> None:
    endpoint = LedgerEndpoint()
    endpoint.hold = True
    got: dict[int, int] = {}
    done = trio.Event()

    def complete(slot: int, reply: Reply) -> None:
        got[slot] = reply.result
        if len(got) == 64:
            done.set()

    async with serving(endpoint, place), linked(place) as link:
        session = (await link.hello(HELLO)).session
        with link.batched():
            for slot in range(64):
                call = write(session, b"%d" % slot, slot)
                link.submit(call, PEER, lambda reply, slot=slot: complete(slot, reply))  # type: ignore[misc]
        await until(lambda: len(endpoint.held) == 64)
        endpoint.held.reverse()
        endpoint.hold = False
        endpoint.release()
        await done.wait()
    assert got == {slot: slot + 1 for slot in range(64)}


async def test_a_body_comes_back(place: Address) -> None:
    replies = Replies()
    call = encode_request(file_pb2.GetPathRequest(handle=7))
    async with serving(LedgerEndpoint(), place), linked(place) as link:
        link.submit(call, PEER, replies)
        await replies.wait(1)
    assert decode_response(call, replies.got[0]) is not None


async def test_a_lost_reply_is_asked_for_again(place: Address) -> None:
    """The server executes, and its connection ends before it replies."""
    endpoint = LedgerEndpoint()
    endpoint.hold = True
    replies = Replies()
    async with trio.open_nursery() as nursery:

        async def serve(*, task_status: trio.TaskStatus[trio.CancelScope]) -> None:
            with trio.CancelScope() as scope:
                async with serving(endpoint, place):
                    task_status.started(scope)
                    await trio.sleep_forever()

        first = await nursery.start(serve)
        async with linked(place) as link:
            session = (await link.hello(HELLO)).session
            link.submit(write(session, b"once"), PEER, replies)
            await until(lambda: endpoint.held)
            first.cancel()
            await until(lambda: link.trouble)
            endpoint.held.clear()
            endpoint.hold = False
            second = await nursery.start(serve)
            (reply,) = await replies.wait(1)
            assert link.trouble == ""
            assert endpoint.hellos[-1].resume_session == session
        second.cancel()
    assert reply.result == 1
    assert endpoint.effects == [b"once"]
    assert endpoint.arrived == 2 + len(endpoint.ended)
    assert len(replies.got) == 1


async def test_a_session_the_server_forgot_is_stale(place: Address) -> None:
    endpoint = LedgerEndpoint()
    endpoint.hold = True
    lost, kept = Replies(), Replies()
    async with linked_through(endpoint, place) as (link, restart):
        gone = (await link.hello(HELLO)).session
        there = (await link.hello(HELLO)).session
        link.submit(write(gone, b"a"), PEER, lost)
        link.submit(write(there, b"b"), PEER, kept)
        await until(lambda: len(endpoint.held) == 2)
        endpoint.hold = False
        endpoint.end_session(gone)
        await restart()
        await lost.wait(1)
        await kept.wait(1)
        link.submit(write(gone, b"c", seq=2), PEER, lost)
        await lost.wait(2)
    assert [reply.refusal for reply in lost.got] == [session_pb2.REFUSAL_STALE_SESSION] * 2
    assert [reply.result for reply in kept.got] == [2]
    assert endpoint.effects == [b"a", b"b"]


@asynccontextmanager
async def linked_through(endpoint: LedgerEndpoint, place: Address) -> AsyncIterator[tuple[GrpcLink, Restart]]:
    """A link, and a function that ends the server's carrier, forgets its replies, and starts another."""
    async with trio.open_nursery() as nursery:
        scopes: list[trio.CancelScope] = []

        async def serve(*, task_status: trio.TaskStatus[None]) -> None:
            with trio.CancelScope() as scope:
                async with serving(endpoint, place):
                    scopes.append(scope)
                    task_status.started()
                    await trio.sleep_forever()

        await nursery.start(serve)
        async with linked(place) as link:

            async def restart() -> None:
                scopes.pop().cancel()
                await until(lambda: link.trouble)
                endpoint.held.clear()
                await nursery.start(serve)

            yield link, restart
        scopes.pop().cancel()


async def test_leases_are_renewed_until_the_session_ends(place: Address) -> None:
    endpoint = LedgerEndpoint()
    async with serving(endpoint, place), linked(place, renew_interval_s=0.01) as link:
        one, two = [(await link.hello(HELLO)).session for _ in range(2)]
        await until(lambda: [one, two] in endpoint.renewed)
        link.closed(one, PEER)
        await until(lambda: [two] in endpoint.renewed)
        assert endpoint.ended == [one]
        endpoint.end_session(two)  # the answer to the next Renew names it stale
        await until(lambda: endpoint.renewed[-1] == [two])
        count = len(endpoint.renewed)
        three = (await link.hello(HELLO)).session
        await until(lambda: [three] in endpoint.renewed[count:])
    assert set(endpoint.ended) == {one, three}


async def test_closing_says_goodbye(place: Address) -> None:
    endpoint = LedgerEndpoint()
    async with serving(endpoint, place), linked(place) as link:
        sessions = [(await link.hello(HELLO)).session for _ in range(3)]
        link.closed(sessions[0], PEER)
        await link.aclose()
        await link.aclose()
    assert set(endpoint.ended) == set(sessions)


async def test_a_server_that_is_not_ready_is_asked_again(place: Address) -> None:
    endpoint = LedgerEndpoint()
    endpoint.not_ready = 2
    async with serving(endpoint, place), linked(place) as link:
        assert (await link.hello(HELLO)).session == 1
        endpoint.not_ready = 1000
        with pytest.raises(ConnectError, match=r"no answer from unix:.*: it is not ready"):
            await link.hello(HELLO, timeout_s=0.2)


async def test_no_common_protocol_version(place: Address) -> None:
    endpoint = LedgerEndpoint()
    endpoint.protocol = (2, 3)
    async with serving(endpoint, place), linked(place) as link:
        with pytest.raises(ConnectError) as caught:
            await link.hello(HELLO)
    assert str(caught.value) == f"{place} speaks protocol 2 to 3, this program 1"


async def test_a_refused_hello_names_its_refusal(place: Address) -> None:
    async with serving(LedgerEndpoint(), place), linked(place) as link:
        with pytest.raises(ConnectError, match="refused: STALE_SESSION") as caught:
            await link.hello(HelloRequest(protocol_min=1, protocol_max=1, resume_session=99))
    assert caught.value.refusal == session_pb2.REFUSAL_STALE_SESSION


@contextmanager
def dead_port() -> Iterator[Address]:
    """Bound, so that nobody else has it, and not listening."""
    with socket.socket() as owner:
        owner.bind(("127.0.0.1", 0))
        yield Address(host="127.0.0.1", port=owner.getsockname()[1])


async def test_nobody_listens(place: Address) -> None:
    with dead_port() as port:
        for address, why in ((port, "Connection refused"), (place, "No such file or directory")):
            with pytest.raises(ConnectError, match=why) as caught:
                async with linked_by(address, 0.4):
                    pass
            assert str(caught.value).startswith(f"no server at {address}: ")
            assert "\n" not in str(caught.value)


async def test_somebody_listens_who_is_no_server() -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        address = Address(host="127.0.0.1", port=mute.getsockname()[1])
        with pytest.raises(ConnectError, match="no server at"):
            async with linked_by(address, 0.4):
                pass


@asynccontextmanager
async def linked_by(address: Address, timeout_s: float) -> AsyncIterator[None]:
    with trio.fail_after(LIMIT_S):
        link = await GrpcLink.connect(address, CLOCK, deadline=CLOCK.monotonic_s() + timeout_s)
        await link.aclose()
        yield


async def test_connect_and_hello_can_be_cancelled(place: Address) -> None:
    with dead_port() as port, trio.move_on_after(0.1) as scope:
        await GrpcLink.connect(port, CLOCK, deadline=CLOCK.monotonic_s() + 60)
    assert scope.cancelled_caught
    endpoint = LedgerEndpoint()
    endpoint.not_ready = 1000
    async with serving(endpoint, place), linked(place) as link:
        with trio.move_on_after(0.1) as scope:
            await link.hello(HELLO, timeout_s=None)
        assert scope.cancelled_caught


async def test_the_server_may_come_later(place: Address) -> None:
    async with trio.open_nursery() as nursery:

        async def late() -> None:
            await trio.sleep(0.2)
            await nursery.start(serve_grpc, place, LedgerEndpoint())

        nursery.start_soon(late)
        async with linked(place) as link:
            assert (await link.hello(HELLO)).session == 1
        nursery.cancel_scope.cancel()


async def test_a_call_beyond_the_limits_is_not_taken(place: Address) -> None:
    async with serving(LedgerEndpoint(), place), linked(place) as link:
        with pytest.raises(MalformedError, match="limit"):
            link.submit(pack_call(PWRITE, 1, data=bytes(DATA_BYTES_MAX + 1)), PEER, Replies())


@contextmanager
def process(address: Address, database: Path, crash: str = "") -> Iterator[subprocess.Popen[str]]:
    """A server of its own, killed at the end."""
    program = str(Path(__file__).with_name("ledger_endpoint.py"))
    environment = {**os.environ, "PYTHONPATH": f"{CHECKOUT}:{CHECKOUT / 'proto'}"}
    with subprocess.Popen(
        [sys.executable, program, str(address), str(database), crash],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    ) as child:
        try:
            assert child.stdout is not None and child.stdout.readline().strip() == str(address)
            yield child
        finally:
            child.kill()


@pytest.mark.parametrize("carrier", ["unix", "tcp"])
async def test_a_server_killed_between_effect_and_reply(carrier: str, tmp_path: Path) -> None:
    """It kills itself with SIGKILL after its commit; started again, it answers that identity once more."""
    database = tmp_path / "store"
    address = Address(path=str(tmp_path / "server"))
    if carrier == "tcp":
        with dead_port() as address:
            pass
    replies = Replies()
    with process(address, database) as server:
        async with linked(address) as link:
            session = (await link.hello(HELLO)).session
            link.submit(write(session, b"before"), PEER, replies)
            await replies.wait(1)
            server.kill()
            server.wait(LIMIT_S)
            await until(lambda: link.trouble)
            with process(address, database, "before reply") as victim:
                link.submit(write(session, b"once", seq=2), PEER, replies)
                link.submit(write(session, b"too", slot=1), PEER, replies)
                assert await trio.to_thread.run_sync(victim.wait, LIMIT_S) == -signal.SIGKILL
            with process(address, database):
                await replies.wait(3)
                link.submit(write(session, b"after", seq=3), PEER, replies)
                await replies.wait(4)
    assert sorted(LedgerEndpoint(str(database)).effects) == [b"after", b"before", b"once", b"too"]
    assert sorted(reply.result for reply in replies.got) == [1, 2, 3, 4]


async def test_a_stopped_server_goes_on(place: Address, tmp_path: Path) -> None:
    replies = Replies()
    with process(place, tmp_path / "store") as server:
        async with linked(place) as link:
            session = (await link.hello(HELLO)).session
            server.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, server.pid, os.WSTOPPED | os.WNOWAIT)
            link.submit(write(session, b"slow"), PEER, replies)
            with trio.move_on_after(0.2):
                await replies.wait(1)
            assert replies.got == []
            server.send_signal(signal.SIGCONT)
            await replies.wait(1)
    assert LedgerEndpoint(str(tmp_path / "store")).effects == [b"slow"]


async def test_a_hello_outlives_the_server_it_was_said_to(place: Address, tmp_path: Path) -> None:
    sessions: list[int] = []
    with process(place, tmp_path / "store") as server:
        async with linked(place) as link, trio.open_nursery() as nursery:

            async def hello() -> None:
                sessions.append((await link.hello(HELLO, timeout_s=None)).session)

            server.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, server.pid, os.WSTOPPED | os.WNOWAIT)
            nursery.start_soon(hello)
            await trio.testing.wait_all_tasks_blocked(0.05)
            server.kill()
            await trio.to_thread.run_sync(server.wait, LIMIT_S)
            with process(place, tmp_path / "store"):
                await until(lambda: sessions)
    assert sessions == [1]


class Impossible(LedgerEndpoint):
    """Answers what is no errno, once."""

    def submit(
        self, call: Call, peer: Peer, complete: Callable[[Reply], None], into: memoryview | None = None
    ) -> None:
        if self.arrived:
            super().submit(call, peer, complete, into)
        else:
            self.arrived += 1
            complete(Reply(errno=-5))


async def test_an_impossible_answer_is_no_answer(place: Address) -> None:
    replies = Replies()
    async with serving(Impossible(), place), linked(place) as link:
        link.submit(pack_call(PREAD, 1, 3), PEER, replies)
        await until(lambda: "errno -5" in link.trouble)
        await replies.wait(1)
    assert [bytes(reply.data) for reply in replies.got] == [b"\0\1\2"]
