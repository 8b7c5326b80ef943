"""Sockets whose near end the server holds: units go once whatever is repeated; who is ready is told."""

import errno
from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio

from farcall.v1 import network_pb2 as pb
from ipc.datagrams import Header
from ipc.message import Reply, decode_response, encode_request, pack_call
from ipc.operations import BY_REQUEST
from tests.unit.network.guests import DATAGRAM, LIMIT_S, LOOP, STREAM, V4, Guests, Server, serving

DELIVER, COLLECT = BY_REQUEST[pb.DeliverRequest], BY_REQUEST[pb.CollectRequest]


class Held:
    """One held socket, and a session's view of it."""

    def __init__(self, guests: Guests, kind: Any = STREAM, capability: bytes = b"") -> None:
        self.guests = guests
        guests.server.count += 1
        self.capability = capability or guests.server.count.to_bytes(16, "big")
        if not capability:
            guests.call(pb.HoldSocketRequest(socket=self.capability, family=V4, kind=kind))
        self.halves = int.from_bytes(self.capability[:8], "big"), int.from_bytes(self.capability[8:], "big")

    def deliver(self, position: int, data: bytes) -> Reply:
        caller = self.guests.caller
        return caller.send(caller.new(pack_call(DELIVER, *self.halves, position, data)))

    def collect(self, position: int) -> Reply:
        caller = self.guests.caller
        return caller.send(caller.pure(pack_call(COLLECT, *self.halves, position)))

    def data(self, position: int) -> bytes:
        reply = self.collect(position)
        assert not reply.errno
        return bytes(reply.data)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with serving() as made:
        yield made


@pytest.fixture
def guests(server: Server) -> Guests:
    return server.guests()


def connected(guests: Guests) -> tuple[Held, Held]:
    """Two held ends of one connection."""
    listening, connecting = Held(guests), Held(guests)
    port = guests.call(pb.ListenRequest(socket=listening.capability, backlog=5)).local.port
    address = pb.SocketAddress(host=LOOP, port=port)
    guests.call(pb.ConnectRequest(socket=connecting.capability, address=address))
    connection = pb.Connection.FromString(listening.data(0))
    assert connection.local.port == port
    assert listening.data(0) == connection.SerializeToString(), "until it is acknowledged"
    assert listening.data(1) == b""
    return connecting, Held(guests, capability=connection.socket)


async def test_what_is_delivered_twice_arrives_once(guests: Guests) -> None:
    one, two = connected(guests)
    assert one.deliver(0, b"hello").result == 5
    assert one.deliver(0, b"hello").result == 5
    assert one.deliver(3, b"lo you").result == 9, "only what is new of it"
    assert two.data(0) == b"hello you"
    assert two.data(0) == b"hello you", "until it is acknowledged"
    assert two.data(9) == b""
    assert one.deliver(10, b"x").errno == errno.EINVAL, "there would be a gap"
    assert two.collect(8).errno == errno.EINVAL, "acknowledged already"


async def test_ends(guests: Guests) -> None:
    one, two = connected(guests)
    one.deliver(0, b"last")
    guests.call(pb.HalfCloseRequest(socket=one.capability))
    assert two.data(0) == b"last"
    assert two.collect(4).result == 1
    assert two.deliver(0, b"answer").result == 6
    assert one.data(0) == b"answer"
    guests.call(pb.DropSocketRequest(socket=two.capability))
    assert one.collect(6).result == 1
    assert one.deliver(4, b"x").errno == errno.EPIPE
    with pytest.raises(FileNotFoundError):
        guests.call(pb.DropSocketRequest(socket=two.capability))


async def test_a_reader_that_is_slow_is_waited_for(guests: Guests) -> None:
    one, two = connected(guests)
    sent = 0
    while (taken := one.deliver(sent, bytes(1 << 18)).result) > sent:
        sent = taken
    got = 0
    while data := two.data(got):
        got += len(data)
    assert got == sent
    assert one.deliver(sent, b"more").result == sent + 4


async def test_datagrams(guests: Guests) -> None:
    one, two = Held(guests, DATAGRAM), Held(guests, DATAGRAM)
    address = pb.SocketAddress(host=LOOP)
    port = guests.call(pb.BindRequest(socket=one.capability, address=address)).local.port
    packet = Header(LOOP, port).encode() + b"datagram"
    assert two.deliver(0, packet).result == two.deliver(0, packet).result == 1
    with trio.fail_after(LIMIT_S):
        while not (data := one.data(0)):
            await trio.lowlevel.checkpoint()
    assert data.endswith(b"datagram")
    assert one.data(0) == data
    assert one.data(1) == b"", "the repeated one was dropped"
    assert two.deliver(1, bytes(70_000)).result == 2, "what is no datagram is taken, and dropped"


class Waiting:
    """AwaitReady calls of a session."""

    def __init__(self, guests: Guests) -> None:
        self.guests = guests
        self.answers: list[pb.AwaitReadyResponse] = []

    def ask(self, seen: int) -> None:
        caller = self.guests.caller
        call = caller.pure(encode_request(pb.AwaitReadyRequest(seen=seen)))

        def answered(reply: Reply) -> None:
            if not reply.refusal:
                self.answers.append(decode_response(call, reply))

        caller.endpoint.submit(call, caller.peer, answered)


async def test_who_is_ready_is_told_until_it_is_heard(guests: Guests) -> None:
    one, two = connected(guests)
    waiting = Waiting(guests)
    waiting.ask(0)
    assert two.data(0) == b""
    assert not waiting.answers
    one.deliver(0, b"x")
    with trio.fail_after(LIMIT_S):
        while not waiting.answers:
            await trio.lowlevel.checkpoint()
    assert [(answer.number, list(answer.sockets)) for answer in waiting.answers] == [(1, [two.capability])]
    waiting.ask(0)
    assert waiting.answers[1] == waiting.answers[0], "the first answer may be lost"
    waiting.ask(1)
    assert len(waiting.answers) == 2


async def test_what_a_session_holds_ends_with_it(server: Server, guests: Guests) -> None:
    one, _ = connected(guests)
    other = server.guests()
    with pytest.raises(FileNotFoundError):
        other.call(pb.DropSocketRequest(socket=one.capability))
    listening = Held(guests)
    port = guests.call(pb.ListenRequest(socket=listening.capability, backlog=1)).local.port
    session = guests.caller.endpoint.sessions.live[guests.caller.session].session  # type: ignore[attr-defined]
    server.service.session_ended(session)
    near = other.open()
    with pytest.raises(ConnectionRefusedError):
        other.connect(near, port)
