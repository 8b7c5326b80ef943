"""ReadDirectory: cookies that stay, whatever happens in between."""

import errno
from pathlib import Path

import pytest

from farcall.v1 import file_pb2
from ipc.limits import BODY_BYTES_MAX
from tests.unit.file.client import DIRECTORY, PATH, READ, Client


@pytest.fixture
def many(client: Client, lower: Path) -> list[bytes]:
    """Names in /empty: half of them of the lower layer."""
    for number in range(20):
        (lower / "empty" / f"low{number:02}").write_bytes(b"")
        client.put(f"/empty/up{number:02}", b"")
    return [b"low%02d" % number for number in range(20)] + [b"up%02d" % number for number in range(20)]


@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize("step", [1, 7])
def test_others_are_met_once_while_names_come_and_go(
    client: Client, many: list[bytes], step: int, restart: bool
) -> None:
    handle = client.open("/empty", READ | DIRECTORY)
    met: list[bytes] = []
    cookie, turn = 0, 0
    while True:
        request = file_pb2.ReadDirectoryRequest(handle=handle, cookie=cookie, entries_max=step)
        some = client.call(request).entries
        if not some:
            break
        met += [entry.name for entry in some]
        cookie = some[-1].next
        turn += 1
        if turn == 2:
            client.unlink("/empty/low01")
            client.unlink("/empty/up02")
            client.put("/empty/new", b"")
            client.rename("/empty/low03", "/empty/renamed")
            client.rename("/empty/up04", "/empty/renamed too")
            if restart:
                client.restart()
        elif turn % 3 == 0:
            client.put(f"/empty/more{turn}", b"")
    touched = {b"low01", b"low03", b"up02", b"up04"}
    for name in many:
        assert met.count(name) == 1 or name in touched, name
    assert met[:2] == [b".", b".."]


def test_everything_is_listed_once(client: Client, many: list[bytes]) -> None:
    client.unlink("/empty/low05")
    client.put("/empty/low05", b"again")
    client.put("/empty/low06", b"changed in place")
    names = client.names("/empty")
    assert sorted(names) == sorted([b".", b"..", *many])


def test_rewinding_shows_what_is_there_now(client: Client, many: list[bytes]) -> None:
    handle = client.open("/empty", READ | DIRECTORY)
    client.entries(handle)
    client.put("/empty/later", b"")
    assert b"later" in {entry.name for entry in client.entries(handle)}


def test_numbers_and_types(client: Client) -> None:
    client.chmod("/h", 0o600)
    client.mkdir("/new")
    client.symlink(b"x", "/link")
    for entry in client.entries(client.open("/", READ)):
        if entry.name in (b"..", b"proc", b"dev"):
            continue
        found = client.stat(b"/" + entry.name, follow=False)
        assert (entry.ino, entry.type) == (found.ino, found.mode & 0o170000), entry.name


def test_an_answer_fits_a_message(client: Client) -> None:
    names = {f"{number:03}" + "n" * 250 for number in range(300)}
    for name in names:
        client.put(f"/empty/{name}", b"")
    handle = client.open("/empty", READ | DIRECTORY)
    response = client.call(file_pb2.ReadDirectoryRequest(handle=handle, entries_max=1 << 20))
    assert 100 < len(response.entries) < 300 and response.ByteSize() <= BODY_BYTES_MAX
    assert {entry.name.decode() for entry in client.entries(handle, step=1 << 20)} == names | {".", ".."}


def test_errors(client: Client) -> None:
    with client.fails(errno.ENOTDIR):
        client.entries(client.open("/h"))
    with client.fails(errno.EBADF):
        client.entries(client.open("/a", PATH))
    with client.fails(errno.EBADF):
        client.entries(4711)
