"""Calls whose answer comes long after them, on every carrier."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import trio

from farcall.v1 import file_pb2
from farcall.v1.session_pb2 import REFUSAL_OVERLOADED
from ipc import grpc_server
from ipc.client import Client
from ipc.endpoint import Channel, Peer
from ipc.limits import RING_ENTRIES
from ipc.message import PACKED, Call, Reply, abandonment, decode_response, encode_request
from ipc.operations import BY_NAME, BY_REQUEST, OPERATIONS
from ipc.seams import HostClock
from tests.contract.carriers import CLIENT_LIMIT_S, Carrier, ScriptedEndpoint, ping
from tests.contract.carriers_grpc import GrpcGateway, GrpcUnary
from tests.contract.test_carriers_calls import answer, every_carrier, serving

GET_PATH = BY_NAME["GetPath"]
ABANDON = BY_NAME["Abandon"]
now = HostClock().monotonic_s


@dataclass
class LateEndpoint(ScriptedEndpoint):
    """GetPath waits until it is completed or abandoned."""

    waiting: dict[tuple[int, int], Callable[[Reply], None]] = field(default_factory=dict)
    """By session and slot."""

    def submit(
        self, call: Call, peer: Peer, complete: Callable[[Reply], None], into: memoryview | None = None
    ) -> None:
        if call.opcode == GET_PATH.opcode:
            self.waiting[call.session, call.slot] = complete
        elif call.opcode == ABANDON.opcode:
            waiter = self.waiting.pop((call.session, PACKED.unpack(call.body)[0]), None)
            if waiter is not None:
                waiter(Reply(refusal=REFUSAL_OVERLOADED))
            complete(Reply(result=int(waiter is not None)))
        else:
            super().submit(call, peer, complete, into)

    def complete(self, session: int, slot: int) -> None:
        text = b"%d" % slot
        self.waiting.pop((session, slot))(Reply(body=file_pb2.GetPathResponse(path=text).SerializeToString()))


@pytest.fixture(autouse=True)
def late(monkeypatch: pytest.MonkeyPatch) -> None:
    """GetPath is an operation whose reply may come late."""
    operation = replace(GET_PATH, deferred=True)
    monkeypatch.setitem(OPERATIONS, GET_PATH.opcode, operation)
    monkeypatch.setitem(BY_REQUEST, GET_PATH.request, operation)


def get_path(slot: int) -> Call:
    call = encode_request(file_pb2.GetPathRequest(handle=1))
    call.slot = slot
    return call


async def until(holds: Callable[[], bool]) -> None:
    with trio.fail_after(CLIENT_LIMIT_S):
        while not holds():
            await trio.lowlevel.checkpoint()


@every_carrier
async def test_others_go_on_meanwhile(carrier: Carrier, tmp_path: Path) -> None:
    endpoint = LateEndpoint()
    slots = [64, 65, 66]

    def client(channel: Channel, tags: list[int]) -> None:
        for slot, tag in zip(slots, tags, strict=True):
            reply = channel.wait(tag, now() + CLIENT_LIMIT_S)
            assert reply is not None and decode_response(get_path(slot), reply).path == b"%d" % slot
            channel.release(tag)

    async with serving(carrier, endpoint, tmp_path) as (host, channel, hello):
        tags = [channel.submit(get_path(slot)) for slot in slots]
        for number in range(2 * RING_ENTRIES):
            assert await host.run(lambda number=number: answer(channel, ping(number))) == Reply(result=number)  # type: ignore[misc]
        await until(lambda: len(endpoint.waiting) == len(slots))
        assert [channel.poll(tag) for tag in tags] == [None] * len(tags)
        for slot in reversed(slots):
            endpoint.complete(hello.session, slot)
        await host.run(lambda: client(channel, tags))


@every_carrier
async def test_abandoned(carrier: Carrier, tmp_path: Path) -> None:
    """More than a ring holds: each gives its room back."""
    endpoint = LateEndpoint()

    def client(channel: Channel) -> None:
        for slot in range(64, 64 + 2 * RING_ENTRIES):
            call = get_path(slot)
            channel.release(channel.submit(call))
            assert answer(channel, abandonment(call)).result <= 1

    async with serving(carrier, endpoint, tmp_path) as (host, channel, _):
        await host.run(lambda: client(channel))
        # A rpc of its own may come after the one that abandons it, and then waits for its cancelling.
        await until(lambda: not endpoint.waiting)
        assert await host.run(lambda: answer(channel, ping(1))) == Reply(result=1)


async def test_cancelling_a_unary_call_abandons_it(tmp_path: Path) -> None:
    endpoint = LateEndpoint()
    async with serving(GrpcUnary(), endpoint, tmp_path) as (_, channel, hello):
        for slot in range(64, 72):
            tag = channel.submit(get_path(slot))
            await until(lambda slot=slot: (hello.session, slot) in endpoint.waiting)  # type: ignore[misc]
            channel.release(tag)
            await until(lambda: not endpoint.waiting)


@every_carrier
async def test_begun_by_a_client(carrier: Carrier, tmp_path: Path) -> None:
    """ipc.client over the carrier: an answer that is asked for, one that is abandoned, a call meanwhile."""
    endpoint = LateEndpoint()
    request = file_pb2.GetPathRequest(handle=1)
    async with serving(carrier, endpoint, tmp_path) as (host, channel, hello):
        client = Client(
            channel, session=hello.session, opcodes=OPERATIONS.keys(), reconnect=lambda: channel,
            clock=HostClock(), pause=lambda seconds: None,
        )  # fmt: skip
        first, second = client.begin(request), client.begin(request)
        await until(lambda: len(endpoint.waiting) == 2)
        assert (await host.run(lambda: client.call_packed(BY_NAME["Close"], 9))).errno == 9
        client.abandon(first)
        await until(lambda: len(endpoint.waiting) == 1)
        assert second.result() is None and not client.has_news()
        endpoint.complete(hello.session, second.call.slot)
        await until(client.has_news)
        _, response = second.result() or (Reply(), file_pb2.GetPathResponse())
        assert response.path == b"%d" % second.call.slot


@every_carrier
async def test_completed_after_the_client_is_gone(carrier: Carrier, tmp_path: Path) -> None:
    ended = trio.Event()
    endpoint = LateEndpoint(on_end=ended.set)
    async with serving(carrier, endpoint, tmp_path) as (host, channel, hello):
        channel.submit(get_path(64))
        await until(lambda: bool(endpoint.waiting))
        complete = endpoint.waiting[hello.session, 64]
        channel.close()
        with trio.fail_after(CLIENT_LIMIT_S):
            await ended.wait()
        complete(Reply())
        _, other = await host.connect()
        assert await host.run(lambda: answer(other, ping(3))) == Reply(result=3)
        other.close()


@pytest.mark.parametrize(
    ("carrier", "limit"),
    [(GrpcUnary(), "UNARY_DEFERRED_MAX"), (GrpcGateway(), "STREAM_DEFERRED_MAX")],
    ids=["unary", "stream"],
)
async def test_too_many_on_grpc(
    carrier: Carrier, limit: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others wait on, and calls of other kinds are served."""
    monkeypatch.setattr(grpc_server, limit, 2)
    endpoint = LateEndpoint()
    async with serving(carrier, endpoint, tmp_path) as (host, channel, hello):
        tags = [channel.submit(get_path(slot)) for slot in (64, 65)]
        await until(lambda: len(endpoint.waiting) == 2)
        assert await host.run(lambda: answer(channel, get_path(66))) == Reply(refusal=REFUSAL_OVERLOADED)
        assert await host.run(lambda: answer(channel, ping(5))) == Reply(result=5)
        endpoint.complete(hello.session, 64)
        reply = await host.run(lambda: channel.wait(tags[0], now() + CLIENT_LIMIT_S))
        assert reply is not None and reply.body
        channel.submit(get_path(67))
        await until(lambda: (hello.session, 67) in endpoint.waiting)
