"""Stream sockets at the network server: places, connections within the loopback, backlogs, what ends them."""

import errno
from collections.abc import AsyncIterator

import pytest
import trio

from farcall.v1 import network_pb2 as pb
from ipc.message import encode_request
from tests.unit.network.guests import LIMIT_S, LOOP, V6, Guests, Near, Server, accept, serving, until_readable


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with serving() as made:
        yield made


@pytest.fixture
def guests(server: Server) -> Guests:
    return server.guests()


async def test_what_one_sends_the_other_receives(guests: Guests) -> None:
    listening, connecting = guests.open(), guests.open()
    local = guests.bind(listening)
    assert guests.listen(listening) == local
    answer = guests.connect(connecting, local.port)
    connection, accepted = accept(listening)
    assert connection.local == local == answer.peer
    assert connection.peer == answer.local
    assert connection.peer.host == LOOP
    connecting.end.send(b"request")
    assert accepted.recv(100) == b"request"
    accepted.send(b"reply")
    accepted.close()
    assert connecting.end.recv(100) == b"reply"
    assert connecting.end.recv(100) == b""


async def test_nobody_listens(guests: Guests) -> None:
    listening, connecting = guests.open(), guests.open()
    local = guests.bind(listening)
    with pytest.raises(ConnectionRefusedError):
        guests.connect(connecting, local.port)
    guests.listen(listening)
    guests.connect(connecting, local.port)


async def test_who_has_closed_its_socket_has_no_port_any_more(guests: Guests) -> None:
    first, second, connecting = guests.open(), guests.open(), guests.open()
    local = guests.bind(first)
    guests.listen(first)
    with pytest.raises(OSError) as taken:
        guests.bind(second, port=local.port)
    assert taken.value.errno == errno.EADDRINUSE
    first.end.close()
    with pytest.raises(ConnectionRefusedError):
        guests.connect(connecting, local.port)
    guests.bind(second, port=local.port)


@pytest.mark.parametrize(
    ("host", "number"),
    [
        (bytes((8, 8, 8, 8)), errno.EADDRNOTAVAIL),
        (bytes(16), errno.EAFNOSUPPORT),
        (b"abc", errno.EINVAL),
    ],
)
async def test_places_that_cannot_be_had(guests: Guests, host: bytes, number: int) -> None:
    with pytest.raises(OSError) as refused:
        guests.bind(guests.open(), host)
    assert refused.value.errno == number


async def test_low_ports_are_roots(server: Server) -> None:
    other = server.guests(uid=1000)
    with pytest.raises(PermissionError):
        other.bind(other.open(), port=80)
    guests = server.guests()
    assert guests.bind(guests.open(), port=80).port == 80


async def test_ipv6_hears_ipv4_unless_it_is_to_hear_only_its_own(guests: Guests) -> None:
    listening, connecting = guests.open(V6), guests.open()
    port = guests.bind(listening, bytes(16)).port
    guests.listen(listening)
    guests.connect(connecting, port)
    connection, accepted = accept(listening)
    assert connection.peer.host == bytes(10) + b"\xff\xff" + LOOP
    accepted.close()
    only, refused = guests.open(V6), guests.open()
    port = guests.bind(only, bytes(16), ipv6_only=True).port
    guests.call(pb.ListenRequest(socket=only.capability, backlog=1, ipv6_only=True))
    with pytest.raises(ConnectionRefusedError):
        guests.connect(refused, port)
    beside = guests.open()
    assert guests.bind(beside, bytes(4), port).port == port


async def test_a_backlog_that_is_full_keeps_who_connects_waiting(guests: Guests) -> None:
    listening = guests.open()
    port = guests.bind(listening).port
    guests.listen(listening, 1)
    for _ in range(2):
        assert not guests.connect(guests.open(), port).pending
    waiting = guests.open()
    assert guests.connect(waiting, port).pending
    assert not guests.describe(waiting).pending, "nothing begins before the near end is full"
    while True:
        try:
            waiting.end.send(bytes(1 << 16))
        except BlockingIOError:
            break
    assert guests.connect(waiting, port, blocked=True).pending
    with pytest.raises(OSError) as already:
        guests.connect(waiting, port, blocked=True)
    assert already.value.errno == errno.EALREADY
    for _ in range(2):
        accept(listening)[1].close()
    with trio.fail_after(LIMIT_S):
        await trio.lowlevel.wait_writable(waiting.end)
    waiting.end.send(b"after all")
    await until_readable(listening.end)
    _, accepted = accept(listening)
    assert accepted.recv(100) == b"after all", "what filled the near end is gone"
    accepted.close()


async def test_who_is_not_accepted_any_more_is_hung_up_on(guests: Guests) -> None:
    listening, connecting = guests.open(), guests.open()
    guests.connect(connecting, guests.listen(listening).port)
    listening.end.close()
    await until_readable(connecting.end)
    assert connecting.end.recv(1) == b""


async def test_a_retried_call_is_answered_as_before(guests: Guests) -> None:
    listening, connecting = guests.open(), guests.open()
    port = guests.listen(listening).port
    address = pb.SocketAddress(host=LOOP, port=port)
    call = guests.caller.new(encode_request(pb.ConnectRequest(socket=connecting.capability, address=address)))
    first, second = guests.caller.send(call), guests.caller.send(call)
    assert (first.errno, first.body) == (0, first.body) == (second.errno, second.body)
    accept(listening)[1].close()
    with pytest.raises(BlockingIOError):
        listening.end.recv(1)


async def test_nobody_uses_what_is_anothers(server: Server) -> None:
    mine, other = server.guests(), server.guests()
    near = mine.open()
    other.bind(near)  # a session of the same principal: after a fork, say
    with pytest.raises(FileNotFoundError):
        mine.bind(Near(bytes(16), near.end))
