"""The gRPC server by itself: what a client may send it, what it answers, and what it leaves behind."""

import asyncio
import gc
import socket
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
import trio
from grpc_reflection.v1alpha import reflection_pb2

from farcall.v1 import file_pb2, session_pb2
from farcall.v1.session_pb2 import CarryRequest, CarryResponse, HelloRequest, HelloResponse
from ipc import batch
from ipc.address import Address, parse_address
from ipc.endpoint import Peer
from ipc.greeting import ConnectError
from ipc.grpc_channel import check_health
from ipc.grpc_client import UnaryChannel
from ipc.grpc_server import ListenError, serve_grpc
from ipc.identity import identify
from ipc.limits import BATCH_CALLS_MAX, BODY_BYTES_MAX, DATA_BYTES_MAX
from ipc.message import Call, call_to_unary, encode_request, pack_call
from ipc.operations import BY_NAME, OPERATIONS
from ipc.seams import HostClock
from ipc.side_loop import SideLoop
from tests.contract.ledger_endpoint import LedgerEndpoint

LIMIT_S = 10
HELLO = HelloRequest(protocol_min=1, protocol_max=1)
PWRITE = BY_NAME["PWrite"]
PREAD = BY_NAME["PRead"]


@asynccontextmanager
async def serving(endpoint: LedgerEndpoint, address: Address) -> AsyncIterator[Address]:
    with trio.fail_after(LIMIT_S):
        async with trio.open_nursery() as nursery:
            yield await nursery.start(serve_grpc, address, endpoint)
            nursery.cancel_scope.cancel()


@pytest.fixture(params=["unix", "tcp"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> Address:
    text = f"unix:{tmp_path}/a b%41#" if request.param == "unix" else "127.0.0.1:0"
    return parse_address(text, listening=True)


@pytest.fixture
def place(tmp_path: Path) -> Address:
    return Address(path=str(tmp_path / "server"))


def write(session: int, token: bytes, slot: int = 0, seq: int = 1) -> Call:
    call = pack_call(PWRITE, 1, data=token)
    identify(call, session, slot, seq)
    return call


def frame(*calls: Call) -> bytes:
    request = CarryRequest()
    for tag, call in enumerate(calls, 1):
        batch.add_call(request, tag, call)
    return request.SerializeToString()


Talk = Callable[[Any], Any]


async def on_channel(address: Address, talk: Talk) -> Any:
    """Runs an asyncio conversation on a raw channel, which keeps no limit of ours."""

    async def conversation() -> Any:
        async with grpc.aio.insecure_channel(address.target) as channel:
            return await talk(channel)

    side = SideLoop.hold()
    try:
        return await side.run(conversation)
    finally:
        side.release()


async def on_stream(address: Address, *frames: bytes, completions: int = 0) -> tuple[list[Any], grpc.StatusCode]:
    """Sends raw frames, reads so many completions (or all), ends the stream; its status."""

    async def talk(channel: Any) -> tuple[list[Any], grpc.StatusCode]:
        stream = channel.stream_stream("/farcall.v1.CarrierService/Carry")()
        got: list[Any] = []
        try:
            for each in frames:
                await stream.write(each)
            while len(got) < completions:
                got += CarryResponse.FromString(await stream.read()).completions
            await stream.done_writing()
            while (answer := await stream.read()) is not grpc.aio.EOF:
                got += CarryResponse.FromString(answer).completions
        except grpc.aio.AioRpcError as error:
            return got, error.code()
        return got, await stream.code()

    answer: tuple[list[Any], grpc.StatusCode] = await on_channel(address, talk)
    return answer


def open_session(endpoint: LedgerEndpoint) -> int:
    return endpoint.hello(HELLO, Peer("unix", "grpc")).session


async def test_unary_calls(address: Address) -> None:
    endpoint = LedgerEndpoint()

    def client(bound: Address) -> HelloResponse:
        channel = UnaryChannel(bound, HostClock())
        hello = channel.hello(HELLO)
        tag = channel.submit(write(0, b"x" * DATA_BYTES_MAX))
        reply = channel.wait(tag, None)
        assert reply is not None and (reply.result, reply.refusal) == (1, 0)
        channel.close()
        return hello

    async with serving(endpoint, address) as bound:
        hello = await trio.to_thread.run_sync(client, bound)
    assert endpoint.effects == [b"x" * 8]
    assert endpoint.ended == [hello.session]
    assert {peer.principal for peer in endpoint.peers} == {"unix" if address.is_unix else "insecure"}
    assert {peer.carrier for peer in endpoint.peers} == {"grpc"}


async def test_a_doubled_frame_takes_effect_once(place: Address) -> None:
    endpoint = LedgerEndpoint()
    session = open_session(endpoint)
    doubled = frame(write(session, b"one", 0), write(session, b"two", 1))
    async with serving(endpoint, place) as bound:
        completions, status = await on_stream(bound, doubled, doubled)
    assert status == grpc.StatusCode.OK
    assert sorted((c.tag, c.result) for c in completions) == [(1, 1), (1, 1), (2, 2), (2, 2)]
    assert endpoint.effects == [b"one", b"two"]


async def test_calls_that_break_a_limit_are_refused_and_others_go_on(place: Address) -> None:
    endpoint = LedgerEndpoint()
    session = open_session(endpoint)
    calls = [
        write(session, b"bad"),  # the endpoint finds it malformed
        Call(PWRITE.opcode, b"short", session=session),
        Call(BY_NAME["MakeDirectory"].opcode, bytes(BODY_BYTES_MAX + 1), session=session),
        Call(PWRITE.opcode, bytes(24), session=session, slot=1 << 16),
        Call(PWRITE.opcode, bytes(24), session=session, seq=1, digest=b"short"),
        Call(60_000, b"", session=session),
        Call(0, b"", session=session),
        Call(BY_NAME["Hello"].opcode, b"", session=session),
        write(session, b"good"),
    ]
    async with serving(endpoint, place) as bound:
        completions, status = await on_stream(bound, frame(*calls))
    malformed, unsupported = session_pb2.REFUSAL_MALFORMED, session_pb2.REFUSAL_UNSUPPORTED
    assert [c.refusal for c in completions] == [malformed] * 5 + [unsupported] * 3 + [0]
    assert status == grpc.StatusCode.OK
    assert endpoint.effects == [b"good"]


@pytest.mark.parametrize("rubbish", [b"\xff" * 9, b"\x0a\x7f", frame(*[Call(0, b"")] * (BATCH_CALLS_MAX + 1))])
async def test_a_malformed_frame_ends_its_stream_only(rubbish: bytes, place: Address) -> None:
    endpoint = LedgerEndpoint()
    session = open_session(endpoint)
    async with serving(endpoint, place) as bound:
        completions, status = await on_stream(bound, rubbish)
        assert (completions, status) == ([], grpc.StatusCode.INVALID_ARGUMENT)
        completions, status = await on_stream(bound, frame(write(session, b"one")))
    assert (len(completions), status) == (1, grpc.StatusCode.OK)


async def test_a_frame_beyond_the_size_limit_is_not_read(place: Address) -> None:
    huge = frame(*[write(1, bytes(DATA_BYTES_MAX))] * 2)

    async def talk(channel: Any) -> grpc.StatusCode:
        stream = channel.stream_stream("/farcall.v1.CarrierService/Carry")()
        try:
            await stream.write(huge)
            await stream.read()
        except grpc.aio.AioRpcError as error:
            return error.code()
        code: grpc.StatusCode = await stream.code()
        return code

    async with serving(LedgerEndpoint(), place) as bound:
        assert await on_channel(bound, talk) == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert await trio.to_thread.run_sync(check_health, bound) == "SERVING"


@pytest.mark.parametrize("method", ["SessionService/Hello", "FileService/PWrite", "FileService/MakeDirectory"])
async def test_malformed_unary_requests(method: str, place: Address) -> None:
    async def talk(channel: Any) -> grpc.StatusCode:
        try:
            await channel.unary_unary(f"/farcall.v1.{method}")(b"\xff" * 9)
        except grpc.aio.AioRpcError as error:
            return error.code()
        return grpc.StatusCode.OK

    async with serving(LedgerEndpoint(), place) as bound:
        assert await on_channel(bound, talk) == grpc.StatusCode.INVALID_ARGUMENT


async def test_malformed_for_the_endpoint_is_a_refusal_for_the_tool(place: Address) -> None:
    def client(bound: Address) -> session_pb2.Refusal | None:
        channel = UnaryChannel(bound, HostClock())
        channel.hello(HELLO)
        reply = channel.wait(channel.submit(write(0, b"bad")), None)
        channel.close()
        return reply.refusal if reply else None

    async with serving(LedgerEndpoint(), place) as bound:
        assert await trio.to_thread.run_sync(client, bound) == session_pb2.REFUSAL_MALFORMED


async def test_a_cancelled_unary_call_takes_effect(place: Address) -> None:
    endpoint = LedgerEndpoint()
    endpoint.hold = True
    session = open_session(endpoint)
    request = call_to_unary(write(session, b"kept")).SerializeToString()

    async def talk(channel: Any) -> None:
        rpc = channel.unary_unary("/farcall.v1.FileService/PWrite")(request)
        while not endpoint.held:
            await asyncio.sleep(0.001)
        rpc.cancel()
        with pytest.raises(asyncio.CancelledError):
            await rpc

    async with serving(endpoint, place) as bound:
        await on_channel(bound, talk)
        endpoint.release()  # nobody hears it, nothing breaks
        endpoint.hold = False
        completions, _ = await on_stream(bound, frame(write(session, b"kept")))
    assert [c.result for c in completions] == [1]
    assert endpoint.effects == [b"kept"]


async def test_too_many_calls_in_flight_are_overloaded(place: Address, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "STREAM_CALLS_MAX", 3)
    endpoint = LedgerEndpoint()
    endpoint.hold = True
    session = open_session(endpoint)
    calls = [write(session, b"%d" % i, slot=i) for i in range(5)]
    async with serving(endpoint, place) as bound, trio.open_nursery() as nursery:

        async def release() -> None:
            while len(endpoint.held) < 3:
                await trio.sleep(0.001)
            endpoint.release()

        nursery.start_soon(release)
        completions, _ = await on_stream(bound, frame(*calls))
    refusals = {c.tag: c.refusal for c in completions}
    overloaded = session_pb2.REFUSAL_OVERLOADED
    assert refusals == {1: 0, 2: 0, 3: 0, 4: overloaded, 5: overloaded}
    assert len(endpoint.effects) == 3


async def test_replies_nobody_reads_do_not_pile_up(place: Address) -> None:
    """64 MiB asked for and not read: the server stops executing after the backlog that it allows."""
    endpoint = LedgerEndpoint()
    reads = [pack_call(PREAD, 1, DATA_BYTES_MAX) for _ in range(64)]
    ceiling = 20  # BACKLOG_BYTES_MAX, and what gRPC and the socket hold
    seen: list[int] = []

    async def talk(channel: Any) -> int:
        stream = channel.stream_stream("/farcall.v1.CarrierService/Carry")()
        await stream.write(frame(*reads))
        before = -1
        while endpoint.arrived != before or not before:  # until it stands still
            before = endpoint.arrived
            await asyncio.sleep(0.2)
        seen.append(endpoint.arrived)
        await stream.done_writing()
        total = 0
        while (answer := await stream.read()) is not grpc.aio.EOF:
            total += sum(len(c.data) for c in CarryResponse.FromString(answer).completions)
        return total

    async with serving(endpoint, place) as bound:
        assert await on_channel(bound, talk) == 64 * DATA_BYTES_MAX
    assert seen[0] <= ceiling


async def test_health_and_reflection(address: Address) -> None:
    async def services(channel: Any) -> list[str]:
        stream = channel.stream_stream(
            "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
            request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
            response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
        )()
        await stream.write(reflection_pb2.ServerReflectionRequest(list_services=""))
        answer = await stream.read()
        return [service.name for service in answer.list_services_response.service]

    async with serving(LedgerEndpoint(), address) as bound:
        assert await trio.to_thread.run_sync(check_health, bound) == "SERVING"
        names = await on_channel(bound, services)
    assert {operation.service for operation in OPERATIONS.values()} <= set(names)
    assert {"farcall.v1.CarrierService", "grpc.health.v1.Health"} <= set(names)
    with pytest.raises(ConnectError, match="no server at"):
        await trio.to_thread.run_sync(check_health, bound, 2.0)


async def test_a_bug_of_the_server_comes_out_of_its_task(place: Address) -> None:
    endpoint = LedgerEndpoint()
    endpoint.bug = True
    with pytest.raises(ExceptionGroup) as caught:
        async with serving(endpoint, place) as bound:
            await on_stream(bound, frame(write(1, b"x")))
            await trio.sleep_forever()
    assert caught.group_contains(AssertionError, match="a bug of the server")


async def test_addresses_that_cannot_be_listened_on(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = Address(host="127.0.0.1", port=other.getsockname()[1])
        for address in (taken, Address(path=str(tmp_path / "no such directory" / "server"))):
            with pytest.raises(ListenError, match="cannot listen on") as caught:
                await serve_grpc(address, LedgerEndpoint())
            assert "\n" not in str(caught.value)


async def test_two_servers_do_not_share_a_port() -> None:
    async with serving(LedgerEndpoint(), Address(host="127.0.0.1", port=0)) as bound:
        with pytest.raises(ListenError):
            await serve_grpc(bound, LedgerEndpoint())


async def test_the_socket_is_its_owners_alone(place: Address) -> None:
    async with serving(LedgerEndpoint(), place) as bound:
        assert Path(bound.path).stat().st_mode & 0o777 == 0o600
    assert not Path(place.path).exists()


async def test_shutdown_answers_what_is_in_flight_and_leaves_no_thread(place: Address) -> None:
    endpoint = LedgerEndpoint()
    endpoint.hold = True
    session = open_session(endpoint)
    before = set(threading.enumerate())
    answers: list[Any] = []
    with trio.fail_after(LIMIT_S):
        async with trio.open_nursery() as clients, trio.open_nursery() as servers:
            bound = await servers.start(serve_grpc, place, endpoint)

            async def client() -> None:
                completions, _ = await on_stream(bound, frame(write(session, b"last")), completions=1)
                answers.extend(completions)

            clients.start_soon(client)
            while not endpoint.held:
                await trio.sleep(0.001)
            servers.cancel_scope.cancel()
            trio.lowlevel.current_trio_token().run_sync_soon(endpoint.release)
    assert [c.result for c in answers] == [1]
    gc.collect()  # gRPC's own poller ends with the last object that needs it
    new = {thread for thread in set(threading.enumerate()) - before if not thread.name.startswith("Trio")}
    for thread in new:
        thread.join(LIMIT_S)
    assert not any(thread.is_alive() for thread in new)


def test_the_largest_call_fits_in_a_frame() -> None:
    most = (1 << 64) - 1
    call = Call((1 << 32) - 1, bytes(BODY_BYTES_MAX), bytes(DATA_BYTES_MAX), most, 65535, most, b"d" * 16)
    request = CarryRequest()
    batch.add_call(request, most, call)
    assert request.ByteSize() <= batch.call_size(call) <= batch.FRAME_BYTES_MAX


def test_an_unpacked_request_survives_the_unary_way() -> None:
    request = file_pb2.MakeDirectoryRequest(place=file_pb2.Place(path=b"\xff\0"), mode=0o700)
    call = encode_request(request)
    identify(call, 1, 2, 3)
    batch.check_call(call)
    assert call_to_unary(call).place.path == b"\xff\0"
