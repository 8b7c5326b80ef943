"""What every carrier does with calls and replies."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import cast

import pytest
import trio

from farcall.v1 import file_pb2
from farcall.v1.session_pb2 import REFUSAL_MALFORMED, HelloResponse, Refusal
from ipc.endpoint import Channel, FullError
from ipc.limits import BODY_BYTES_MAX, DATA_BYTES_MAX, RING_ENTRIES
from ipc.message import Call, Reply, decode_response, encode_request, pack_call
from ipc.operations import BY_NAME
from ipc.seams import HostClock
from tests.contract.carriers import (
    CARRIERS,
    CLIENT_LIMIT_S,
    CLOSE,
    PREAD,
    PWRITE,
    Carrier,
    Host,
    ScriptedEndpoint,
    pattern,
    ping,
)

every_carrier = pytest.mark.parametrize("carrier", CARRIERS, ids=lambda carrier: carrier.name)
now = HostClock().monotonic_s


@asynccontextmanager
async def serving(
    carrier: Carrier, endpoint: ScriptedEndpoint, directory: Path
) -> AsyncIterator[tuple[Host, Channel, HelloResponse]]:
    """One client of one carrier."""
    async with carrier.serve(endpoint, directory) as host:
        response, channel = await host.connect()
        with closing(channel):
            yield host, channel, response


def answer(channel: Channel, call: Call, data_room: int = 0) -> Reply:
    """The reply of one call, its data copied."""
    tag = channel.submit(call, data_room)
    reply = channel.wait(tag, now() + CLIENT_LIMIT_S)
    assert reply is not None
    reply.data = bytes(reply.data)
    channel.release(tag)
    return reply


def make_directory(path: bytes) -> Call:
    return encode_request(file_pb2.MakeDirectoryRequest(place=file_pb2.Place(path=path), mode=0o755))


def identified(call: Call, slot: int, seq: int) -> Call:
    call.slot, call.seq, call.digest = slot, seq, b"D" * 16
    return call


@every_carrier
@pytest.mark.parametrize("fill", [True, False])
@pytest.mark.parametrize("count", [0, 1, 63, 64, 65, 4096, DATA_BYTES_MAX])
async def test_read_data(carrier: Carrier, fill: bool, count: int, tmp_path: Path) -> None:
    endpoint = ScriptedEndpoint(fill=fill)
    async with serving(carrier, endpoint, tmp_path) as (host, channel, _):
        reply = await host.run(lambda: answer(channel, pack_call(PREAD, 3, 17, count), count))
    assert reply == Reply(result=count, data=pattern(17, count))


@every_carrier
@pytest.mark.parametrize("count", [0, 1, 64, 4097, DATA_BYTES_MAX])
async def test_written_data_and_identity(carrier: Carrier, count: int, tmp_path: Path) -> None:
    endpoint = ScriptedEndpoint()
    call = identified(pack_call(PWRITE, 3, 1 << 63, data=memoryview(bytearray(pattern(5, count)))), 7, 1)
    async with serving(carrier, endpoint, tmp_path) as (host, channel, hello):
        reply = await host.run(lambda: answer(channel, call))
    assert reply == Reply(result=count)
    assert endpoint.written == [pattern(5, count)]
    (seen,) = endpoint.calls
    assert (seen.opcode, seen.body) == (PWRITE.opcode, call.body)
    assert (seen.session, seen.slot, seen.seq, seen.digest) == (hello.session, 7, 1, b"D" * 16)


@every_carrier
async def test_pure_calls_have_no_digest(carrier: Carrier, tmp_path: Path) -> None:
    endpoint = ScriptedEndpoint()
    async with serving(carrier, endpoint, tmp_path) as (host, channel, hello):
        reply = await host.run(lambda: answer(channel, ping((1 << 64) - 1)))
    assert reply == Reply(result=(1 << 64) - 1)
    (seen,) = endpoint.calls
    assert (seen.session, seen.seq, seen.digest) == (hello.session, 0, b"")


@every_carrier
@pytest.mark.parametrize("path", [b"", b"d", b"x" * 4095, bytes(range(256))])
async def test_body_both_ways(carrier: Carrier, path: bytes, tmp_path: Path) -> None:
    call = identified(make_directory(path), 0, 1)
    async with serving(carrier, ScriptedEndpoint(), tmp_path) as (host, channel, _):
        reply = await host.run(lambda: answer(channel, call))
    assert decode_response(call, reply).crossing.remaining == path


@every_carrier
async def test_largest_bodies(carrier: Carrier, tmp_path: Path) -> None:
    largest = BODY_BYTES_MAX - 64  # leaves room for field numbers and lengths
    make = identified(make_directory(b"p" * largest), 0, 1)
    read = encode_request(file_pb2.GetXattrRequest(name=b"%d" % largest))
    async with serving(carrier, ScriptedEndpoint(), tmp_path) as (host, channel, _):
        made = await host.run(lambda: answer(channel, make))
        found = await host.run(lambda: answer(channel, read))
    assert decode_response(make, made).crossing.remaining == b"p" * largest
    assert decode_response(read, found).value == bytes(largest)


@every_carrier
async def test_beyond_the_limits(carrier: Carrier, tmp_path: Path) -> None:
    async with serving(carrier, ScriptedEndpoint(), tmp_path) as (host, channel, _):
        for call, room in [
            (pack_call(PWRITE, 3, data=bytes(DATA_BYTES_MAX + 1)), 0),
            (pack_call(PREAD, 3), DATA_BYTES_MAX + 1),
            (make_directory(bytes(BODY_BYTES_MAX + 1)), 0),
        ]:
            with pytest.raises(ValueError, match="limit"):
                channel.submit(call, room)
        assert await host.run(lambda: answer(channel, ping(2))) == Reply(result=2)


@every_carrier
@pytest.mark.parametrize("errno", [1, 17, 4095])
async def test_errno(carrier: Carrier, errno: int, tmp_path: Path) -> None:
    async with serving(carrier, ScriptedEndpoint(), tmp_path) as (host, channel, _):
        reply = await host.run(lambda: answer(channel, identified(pack_call(CLOSE, errno), 0, 1)))
    assert reply == Reply(errno=errno)


@every_carrier
async def test_refusals(carrier: Carrier, tmp_path: Path) -> None:
    refusals = [cast(Refusal, refusal) for refusal in Refusal.values() if refusal]
    async with serving(carrier, ScriptedEndpoint(refusals=list(refusals)), tmp_path) as (host, channel, _):
        for refusal in refusals:
            reply = await host.run(lambda: answer(channel, ping(2)))
            assert reply == Reply(refusal=refusal)


@every_carrier
async def test_reply_longer_than_its_room(carrier: Carrier, tmp_path: Path) -> None:
    endpoint = ScriptedEndpoint(fill=False)
    async with serving(carrier, endpoint, tmp_path) as (host, channel, _):
        reply = await host.run(lambda: answer(channel, pack_call(PREAD, 3, 0, 4096), 100))
        assert reply == Reply(refusal=REFUSAL_MALFORMED)
        assert await host.run(lambda: answer(channel, ping(2))) == Reply(result=2)


@every_carrier
async def test_many_in_flight_completed_in_reverse(carrier: Carrier, tmp_path: Path) -> None:
    counts = [(7 * i) % 3000 for i in range(RING_ENTRIES)]

    def client(channel: Channel) -> None:
        tags = [channel.submit(pack_call(PREAD, 1, i, count), count) for i, count in enumerate(counts)]
        assert len(set(tags)) == RING_ENTRIES
        for i, tag in enumerate(tags):
            reply = channel.wait(tag, now() + CLIENT_LIMIT_S)
            assert reply is not None
            assert bytes(reply.data) == pattern(i, counts[i])
        for tag in tags:
            channel.release(tag)

    endpoint = ScriptedEndpoint(hold=RING_ENTRIES)
    async with serving(carrier, endpoint, tmp_path) as (host, channel, _):
        for _ in range(3):
            endpoint.hold = RING_ENTRIES
            await host.run(lambda: client(channel))
    assert len(endpoint.calls) == 3 * RING_ENTRIES


@every_carrier
async def test_full_is_a_value(carrier: Carrier, tmp_path: Path) -> None:
    endpoint = ScriptedEndpoint(hold=RING_ENTRIES + 1)
    async with serving(carrier, endpoint, tmp_path) as (host, channel, _):
        tags = await host.run(lambda: [channel.submit(ping(i)) for i in range(RING_ENTRIES)])
        with pytest.raises(FullError):
            channel.submit(ping(0))
        with trio.fail_after(CLIENT_LIMIT_S):
            while len(endpoint.held) < RING_ENTRIES:
                await trio.lowlevel.checkpoint()
        endpoint.release()

        def client() -> None:
            for i, tag in enumerate(tags):
                assert channel.wait(tag, now() + CLIENT_LIMIT_S) == Reply(result=i)
                channel.release(tag)
            assert answer(channel, ping(9)) == Reply(result=9)

        await host.run(client)


@every_carrier
async def test_room_for_replies_runs_out(carrier: Carrier, tmp_path: Path) -> None:
    """Not on every carrier, and where it does, it is FullError and ends with the next release."""
    endpoint = ScriptedEndpoint()

    def client(channel: Channel) -> None:
        tags: list[int] = []
        try:
            while len(tags) < RING_ENTRIES:
                tags.append(channel.submit(pack_call(PREAD, 1, 0, DATA_BYTES_MAX), DATA_BYTES_MAX))
        except FullError:
            assert tags
        for tag in tags:
            assert channel.wait(tag, now() + CLIENT_LIMIT_S) is not None
            channel.release(tag)
            assert len(answer(channel, pack_call(PREAD, 1, 0, DATA_BYTES_MAX), DATA_BYTES_MAX).data)

    async with serving(carrier, endpoint, tmp_path) as (host, channel, _):
        await host.run(lambda: client(channel))


@every_carrier
async def test_deadline_then_the_reply(carrier: Carrier, tmp_path: Path) -> None:
    endpoint = ScriptedEndpoint(hold=2)

    def client(channel: Channel) -> None:
        first = channel.submit(pack_call(PREAD, 1, 0, 100), 100)
        assert channel.wait(first, now() + 0.02) is None
        assert channel.wait(first, now() - 1) is None
        assert answer(channel, ping(3)) == Reply(result=3)
        reply = channel.wait(first, now() + CLIENT_LIMIT_S)
        assert reply is not None and bytes(reply.data) == pattern(0, 100)
        channel.release(first)

    async with serving(carrier, endpoint, tmp_path) as (host, channel, _):
        await host.run(lambda: client(channel))


@every_carrier
async def test_abandoned_tries_give_their_room_back(carrier: Carrier, tmp_path: Path) -> None:
    endpoint = ScriptedEndpoint()

    def client(channel: Channel, count: int) -> None:
        for _ in range(3 * RING_ENTRIES):
            endpoint.hold = 2
            given_up = channel.submit(pack_call(PREAD, 1, 0, count), count)
            channel.release(given_up)
            reply = answer(channel, pack_call(PREAD, 1, 1, count), count)
            assert reply.data == pattern(1, count)

    async with serving(carrier, endpoint, tmp_path) as (host, channel, _):
        await host.run(lambda: client(channel, 70_000))


@every_carrier
async def test_retry_executes_once(carrier: Carrier, tmp_path: Path) -> None:
    endpoint = ScriptedEndpoint()
    async with serving(carrier, endpoint, tmp_path) as (host, channel, hello):
        first = await host.run(lambda: answer(channel, identified(make_directory(b"d"), 2, 1)))
        again = await host.run(lambda: answer(channel, identified(make_directory(b"d"), 2, 1)))
    assert first == again
    assert endpoint.executed == [(hello.session, 2, 1)]


@every_carrier
async def test_two_clients_do_not_meet(carrier: Carrier, tmp_path: Path) -> None:
    endpoint = ScriptedEndpoint()
    async with serving(carrier, endpoint, tmp_path) as (host, one, hello_one):
        hello_two, two = await host.connect()
        assert hello_one.session != hello_two.session

        def client() -> None:
            tag_one = one.submit(pack_call(PREAD, 1, 1, 500), 500)
            tag_two = two.submit(pack_call(PREAD, 1, 2, 500), 500)
            for channel, tag, offset in ((two, tag_two, 2), (one, tag_one, 1)):
                reply = channel.wait(tag, now() + CLIENT_LIMIT_S)
                assert reply is not None and bytes(reply.data) == pattern(offset, 500)

        await host.run(client)
        two.close()
    assert {call.session for call in endpoint.calls} == {hello_one.session, hello_two.session}


@every_carrier
async def test_closed_once_the_client_is_gone(carrier: Carrier, tmp_path: Path) -> None:
    ended = trio.Event()
    endpoint = ScriptedEndpoint(on_end=ended.set)
    async with serving(carrier, endpoint, tmp_path) as (host, channel, hello):
        assert await host.run(lambda: answer(channel, ping(3))) == Reply(result=3)
        channel.close()
        with trio.fail_after(CLIENT_LIMIT_S):
            await ended.wait()
    assert endpoint.ended == [hello.session]


@every_carrier
async def test_completion_after_the_client_is_gone(carrier: Carrier, tmp_path: Path) -> None:
    ended = trio.Event()
    endpoint = ScriptedEndpoint(hold=2, on_end=ended.set)
    async with serving(carrier, endpoint, tmp_path) as (host, channel, _):
        channel.submit(pack_call(PREAD, 1, 0, 4096), 4096)
        with trio.fail_after(CLIENT_LIMIT_S):
            while not endpoint.held:
                await trio.lowlevel.checkpoint()
            channel.close()
            await ended.wait()
        endpoint.release()
        _, other = await host.connect()
        assert await host.run(lambda: answer(other, ping(3))) == Reply(result=3)
        other.close()


def test_every_shape_of_call_is_among_them() -> None:
    """What the suite sends stands for all operations: packed and not, with data either way, pure and not."""
    shapes = {(operation.packed, operation.recorded) for operation in BY_NAME.values()}
    sent = {PREAD, PWRITE, CLOSE, BY_NAME["MakeDirectory"], BY_NAME["GetXattr"]}
    assert shapes == {(operation.packed, operation.recorded) for operation in sent}
