"""ADDR, as the command line takes it: HOST:PORT or unix:PATH."""

import pytest

from ipc.address import Address, parse_address
from ipc.limits import SOCKET_PATH_BYTES_MAX


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:7000", Address(host="127.0.0.1", port=7000)),
        ("localhost:1", Address(host="localhost", port=1)),
        ("file-server.example.org:65535", Address(host="file-server.example.org", port=65535)),
        ("[::1]:80", Address(host="::1", port=80)),
        ("unix:/run/farcall/file", Address(path="/run/farcall/file")),
        ("unix:relative", Address(path="relative")),
    ],
)
def test_what_is_parsed_prints_as_it_was(text: str, address: Address) -> None:
    assert parse_address(text) == address
    assert str(address) == text


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "not an address"),
        ("host", "not an address"),
        (":80", "no host"),
        ("host:", "not a number"),
        ("host:http", "not a number"),
        ("host:²", "not a number"),
        ("host:-1", "not a number"),
        ("host:0", "not between 1 and 65535"),
        ("host:65536", "not between"),
        ("host:" + "9" * 5000, "not between"),
        ("::1:80", "needs brackets"),
        ("[::g]:80", "not an IPv6 address"),
        ("ho st:80", "not a host name"),
        ("dns:///host:80", "needs brackets"),
        ("host/path:80", "not a host name"),
        ("unix:", "no path"),
        ("unix:a\0b", "NUL"),
        ("unix:/" + "p" * SOCKET_PATH_BYTES_MAX, "at most"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint) as caught:
        parse_address(text)
    assert "\n" not in str(caught.value)


def test_port_zero_is_for_listeners() -> None:
    assert parse_address("127.0.0.1:0", listening=True).port == 0
    with pytest.raises(ValueError, match="not between"):
        parse_address("127.0.0.1:0")


@pytest.mark.parametrize("text", ["127.0.0.1:1", "127.8.9.10:1", "[::1]:1", "localhost:1", "unix:/s"])
def test_loopback(text: str) -> None:
    assert parse_address(text).is_loopback


@pytest.mark.parametrize(
    "text", ["0.0.0.0:1", "[::]:1", "192.0.2.1:1", "localhost.example.org:1", "2130706433:1"]
)
def test_not_loopback(text: str) -> None:
    assert not parse_address(text).is_loopback


def test_the_ring_stands_beside_the_socket() -> None:
    longest = "unix:/" + "p" * (SOCKET_PATH_BYTES_MAX - 1)
    assert parse_address(longest).ring_path == longest.removeprefix("unix:") + ".ring"
    with pytest.raises(ValueError, match="rings need"):
        parse_address("127.0.0.1:1").ring_path  # noqa: B018


def test_a_path_is_escaped_for_grpc() -> None:
    assert parse_address("unix:/a b#%41?").target == "unix:/a%20b%23%2541%3F"
    assert parse_address("[::1]:80").target == "[::1]:80"
