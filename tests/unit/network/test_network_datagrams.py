"""Datagram sockets at the network server: who hears whom, and what is lost."""

import errno
import socket
from collections.abc import AsyncIterator

import pytest

from farcall.v1 import network_pb2 as pb
from ipc.datagrams import HEADER_BYTES, PAYLOAD_BYTES_MAX, Header, decode_header
from tests.unit.network.guests import DATAGRAM, LOOP, V6, Guests, Near, Server, serving, until_readable

OTHER = bytes((127, 9, 8, 7))
MAPPED = bytes(10) + b"\xff\xff" + LOOP


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with serving() as made:
        yield made


@pytest.fixture
def guests(server: Server) -> Guests:
    return server.guests()


def send(near: Near, data: bytes, host: bytes = b"", port: int = 0) -> None:
    near.end.sendmsg([Header(host, port).encode(), data])


async def receive(near: Near) -> tuple[Header, bytes]:
    await until_readable(near.end)
    packet = near.end.recv(HEADER_BYTES + PAYLOAD_BYTES_MAX)
    header = decode_header(packet)
    assert header is not None
    return header, packet[HEADER_BYTES:]


async def test_a_datagram_and_its_answer(guests: Guests) -> None:
    bound, sending = guests.open(kind=DATAGRAM), guests.open(kind=DATAGRAM)
    place = guests.bind(bound, bytes(4))
    send(sending, b"question", OTHER, place.port)
    header, data = await receive(bound)
    assert (header.host, data) == (LOOP, b"question")
    assert header.port == guests.describe(sending).local.port != 0
    send(bound, b"", header.host, header.port)
    assert await receive(sending) == (Header(LOOP, place.port), b"")


async def test_who_is_connected_hears_its_peer_alone(guests: Guests) -> None:
    one, two, three = (guests.open(kind=DATAGRAM) for _ in range(3))
    ports = [guests.bind(near).port for near in (one, two, three)]
    assert guests.connect(one, ports[1]).peer.port == ports[1]
    send(three, b"intruder", LOOP, ports[0])
    send(two, b"peer", LOOP, ports[0])
    assert await receive(one) == (Header(LOOP, ports[1]), b"peer")
    send(one, b"to the peer")
    assert (await receive(two))[1] == b"to the peer"
    guests.call(pb.ConnectRequest(socket=one.capability))
    send(three, b"welcome now", LOOP, ports[0])
    assert (await receive(one))[1] == b"welcome now"


async def test_nobody_hears_it(guests: Guests) -> None:
    sending = guests.open(kind=DATAGRAM)
    guests.connect(sending, 9)
    send(sending, b"anybody?")
    assert await receive(sending) == (Header(b"", 0, errno.ECONNREFUSED), b"")


async def test_ipv6_sockets_are_told_mapped_names(guests: Guests) -> None:
    bound, sending = guests.open(V6, DATAGRAM), guests.open(kind=DATAGRAM)
    place = guests.bind(bound, bytes(16))
    send(sending, b"four", LOOP, place.port)
    header, data = await receive(bound)
    assert (header.host, data) == (MAPPED, b"four")
    send(bound, b"back", header.host, header.port)
    assert await receive(sending) == (Header(LOOP, place.port), b"back")


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"x",
        b"\0" * (HEADER_BYTES - 1),
        b"\xff" * HEADER_BYTES,
        b"\0\0\x05" + bytes(HEADER_BYTES),
        bytes(1 << 17),
    ],
)
async def test_what_is_no_datagram_is_dropped(guests: Guests, raw: bytes) -> None:
    bound, sending = guests.open(kind=DATAGRAM), guests.open(kind=DATAGRAM)
    port = guests.bind(bound).port
    sending.end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    if raw:
        sending.end.send(raw)
    send(sending, b"good", LOOP, port)
    assert (await receive(bound))[1] == b"good"


async def test_what_has_no_room_is_lost_and_the_rest_arrives(guests: Guests) -> None:
    bound, sending = guests.open(kind=DATAGRAM), guests.open(kind=DATAGRAM)
    port = guests.bind(bound).port
    guests.connect(sending, port)
    with pytest.raises(BlockingIOError):
        while True:
            send(sending, bytes(60_000))
    assert len((await receive(bound))[1]) == 60_000


@pytest.mark.parametrize("host", [bytes((8, 8, 8, 8)), bytes((169, 254, 169, 254)), bytes((10, 0, 0, 1))])
async def test_what_is_beyond_the_loopback_is_refused(guests: Guests, host: bytes) -> None:
    sending = guests.open(kind=DATAGRAM)
    address = pb.SocketAddress(host=host, port=53)
    with pytest.raises(ConnectionRefusedError):
        guests.call(pb.CheckRouteRequest(address=address))
    with pytest.raises(ConnectionRefusedError):
        guests.connect(sending, 53, host)
