"""Which addresses beyond the loopback a rule means, how it is written, and what comes of connections there."""

import errno
import ipaddress
import os
import socket
from typing import Any

import pytest
import trio

from farcall.v1 import network_pb2 as pb
from ipc.datagrams import HEADER_BYTES, Header, decode_header
from ipc.inet import plain
from servers.network.addresses import Egress, Name, Rule
from tests.unit.network.guests import DATAGRAM, LIMIT_S, LOOP, Guests, Near, accept, serving, until_readable

HERE = "127.0.0.1/32"


@pytest.mark.parametrize(
    ("rule", "address", "allowed"),
    [
        ("10.0.0.0/8", "10.1.2.3", True),
        ("10.0.0.0/8", "11.1.2.3", False),
        ("10.0.0.0/8:443", "10.1.2.3", False),
        ("10.0.0.0/8:80", "10.1.2.3", True),
        ("0.0.0.0/0", "93.184.216.34", True),
        ("0.0.0.0/0", "127.0.0.1", False),
        ("0.0.0.0/0", "127.255.255.254", False),
        ("0.0.0.0/0", "169.254.169.254", False),
        ("0.0.0.0/0", "0.0.0.0", False),
        ("0.0.0.0/0", "224.0.0.1", False),
        ("0.0.0.0/0", "255.255.255.255", False),
        ("0.0.0.0/0", "::ffff:127.0.0.1", False),
        ("0.0.0.0/0", "::ffff:93.184.216.34", True),
        ("0.0.0.0/0", "2606:2800::1", False),
        ("169.254.169.254/32", "169.254.169.254", True),
        ("::/0", "2606:2800::1", True),
        ("::/0", "::1", False),
        ("::/0", "fe80::1", False),
        ("::/0", "::127.0.0.1", False),
        ("::/0", "64:ff9b::7f00:1", False),
        ("::/0", "2002:7f00:1::", False),
        ("::/0", "ff02::1", False),
        ("::/0", "93.184.216.34", False),
    ],
)
def test_what_a_rule_allows(rule: str, address: str, allowed: bool) -> None:
    name = Name(plain(ipaddress.ip_address(address).packed), 80)
    rules = (Rule.parse(rule),)
    assert Egress(rules, lambda _: False).allows(name, rules) == allowed
    assert not Egress((), lambda _: False).allows(name, rules), "the server allows nothing"
    assert not Egress(rules, lambda _: False).allows(name, ()), "the run asked for nothing"


def test_this_machines_own_addresses_are_named_port_and_all() -> None:
    name = Name(bytes((192, 0, 2, 7)), 80)
    for text, allowed in {
        "192.0.2.0/24": False,
        "192.0.2.7/32": False,
        "192.0.2.0/24:80": False,
        "192.0.2.7/32:80": True,
    }.items():
        rules = (Rule.parse(text),)
        assert Egress(rules, lambda _: True).allows(name, rules) == allowed, text


@pytest.mark.parametrize(
    "text",
    ["", "x", "10.0.0.1/8", "10.0.0.0/33", "10.0.0.0/8:", "10.0.0.0/8:0", "10.0.0.0/8:65536", "10.0.0.0/8:x",
     "[::/0", "[::/0]x", "[::/0]:", "::/129"],
)  # fmt: skip
def test_what_is_no_rule(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        Rule.parse(text)


@pytest.mark.parametrize("text", ["10.0.0.0/8", "10.0.0.0/8:443", "2001:db8::/32", "[2001:db8::/32]:443"])
def test_a_rule_is_written_as_it_is_read(text: str) -> None:
    assert str(Rule.parse(text)) == text


def _fill(near: Near) -> None:
    while True:
        try:
            near.end.send(bytes(1 << 16))
        except BlockingIOError:
            return


async def _settled(guests: Guests, near: Near) -> int:
    with trio.fail_after(LIMIT_S):
        await trio.lowlevel.wait_writable(near.end)
    return guests.describe(near).error


async def test_a_host_that_is_allowed_is_reached() -> None:
    with socket.create_server(("127.0.0.1", 0)) as host:
        port = host.getsockname()[1]
        async with serving((f"{HERE}:{port}",)) as server:
            guests = server.guests(egress=(f"{HERE}:{port}",))
            near = guests.open()
            assert guests.connect(near, port).pending
            _fill(near)
            assert guests.connect(near, port, blocked=True).pending
            assert await _settled(guests, near) == 0
            outer, _ = host.accept()
            with outer:
                outer.settimeout(LIMIT_S)
                near.end.send(b"out")
                with trio.fail_after(LIMIT_S):
                    assert await trio.to_thread.run_sync(outer.recv, 10) == b"out", "the filler is gone"
                outer.send(b"in")
                await until_readable(near.end)
                assert near.end.recv(10) == b"in"
                near.end.close()
                assert await trio.to_thread.run_sync(outer.recv, 10) == b""


async def test_a_host_that_nobody_answers_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as host:
        port = host.getsockname()[1]
    async with serving((f"{HERE}:{port}",)) as server:
        guests = server.guests(egress=(f"{HERE}:{port}",))
        near = guests.open()
        _fill(near)
        assert guests.connect(near, port, blocked=True).pending
        assert await _settled(guests, near) == errno.ECONNREFUSED


async def test_datagrams_to_a_host_and_back() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as host:
        host.bind(("127.0.0.1", 0))
        host.settimeout(LIMIT_S)
        port = host.getsockname()[1]
        async with serving((f"{HERE}:{port}",)) as server:
            guests = server.guests(egress=(f"{HERE}:{port}",))
            near = guests.open(kind=DATAGRAM)
            near.end.sendmsg([Header(LOOP, port).encode(), b"out"])
            data, address = await trio.to_thread.run_sync(host.recvfrom, 100)
            assert data == b"out"
            host.sendto(b"in", address)
            await until_readable(near.end)
            packet = near.end.recv(100)
            assert decode_header(packet) == Header(LOOP, port)
            assert packet[HEADER_BYTES:] == b"in"


async def test_a_published_port_leads_to_who_listens() -> None:
    async with serving(may_publish=True) as server:
        guests = server.guests()
        request = pb.PublishRequest(address=pb.SocketAddress(host=LOOP), port=80)
        published = guests.call(request).address
        near = guests.open()
        with socket.create_connection(("127.0.0.1", published.port), LIMIT_S) as refused:
            assert await trio.to_thread.run_sync(_end_of, refused) == b""
        guests.bind(near, bytes(4), 80)
        guests.listen(near)
        with socket.create_connection(("127.0.0.1", published.port), LIMIT_S) as outer:
            await until_readable(near.end)
            connection, accepted = accept(near)
            assert connection.peer.port == outer.getsockname()[1]
            outer.sendall(b"request")
            await until_readable(accepted)
            assert accepted.recv(100) == b"request"
            accepted.send(b"reply")
            accepted.close()
            assert await trio.to_thread.run_sync(_end_of, outer) == b"reply"


def _published(guests: Guests) -> tuple[Near, int]:
    """Who listens, and the port of this host that leads there."""
    listening = guests.open()
    guests.bind(listening, port=80)
    guests.listen(listening)
    request = pb.PublishRequest(address=pb.SocketAddress(host=LOOP), port=80)
    return listening, guests.call(request).address.port


def _end_of(outer: socket.socket) -> bytes:
    """All that comes."""
    pieces = []
    try:
        while piece := outer.recv(100):
            pieces.append(piece)
    except ConnectionResetError:
        assert not pieces
    return b"".join(pieces)


async def test_a_guest_that_closes_at_once_has_said_what_it_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever task has its turn first: the one that hears of the guest's end, or the one that moves bytes."""
    async with serving(may_publish=True) as server:
        guests = server.guests()
        listening, port = _published(guests)
        streams = server.service._streams
        accept_from = streams.accept_from

        def accept_and_close(*given: Any) -> Any:
            made = accept_from(*given)
            with accept(listening)[1] as taken:
                taken.send(b"hello")
            return made

        monkeypatch.setattr(streams, "accept_from", accept_and_close)
        for _ in range(20):
            with socket.create_connection(("127.0.0.1", port), LIMIT_S) as outer:
                outer.setblocking(False)
                await until_readable(outer)
                assert outer.recv(9) == b"hello"


async def test_connections_end_where_the_server_has_no_descriptor_left(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(may_publish=True) as server:
        guests = server.guests()
        listening, port = _published(guests)

        def full(_descriptor: int) -> int:
            raise OSError(errno.EMFILE, "")

        monkeypatch.setattr(os, "dup", full)
        with socket.create_connection(("127.0.0.1", port), LIMIT_S) as outer:
            outer.setblocking(False)
            await until_readable(outer)
            with pytest.raises(ConnectionResetError):
                outer.recv(1)
        with accept(listening)[1] as taken:
            await until_readable(taken)
            assert taken.recv(1) == b""


async def test_a_server_that_publishes_nothing_says_so() -> None:
    async with serving() as server:
        guests = server.guests()
        with pytest.raises(PermissionError):
            guests.call(pb.PublishRequest(port=80))
