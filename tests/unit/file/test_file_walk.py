"""Paths: symlinks, limits, crossings, permissions on the way (path_resolution(7))."""

import errno
import os
from pathlib import Path

import pytest

from farcall.v1 import file_pb2
from servers.file.walk import SYMLINKS_MAX
from tests.unit.file.client import CREATE, DIRECTORY, EXCLUSIVE, PATH, READ, WRITE, Client, at


def crossing(client: Client, path: str, follow: bool = True) -> tuple[bytes, bytes] | None:
    response = client.call(file_pb2.GetAttributesRequest(place=at(path, follow=follow)))
    if not response.HasField("crossing"):
        return None
    return response.crossing.mount, response.crossing.remaining


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/proc", (b"/proc", b"")),
        ("/proc/", (b"/proc", b"")),
        ("/dev/null", (b"/dev", b"null")),
        ("//dev//null", (b"/dev", b"null")),
        ("/a/../proc/self/fd/3", (b"/proc", b"self/fd/3")),
        ("/../../dev/tty", (b"/dev", b"tty")),
        ("/./proc/self/", (b"/proc", b"self/")),
        ("/toproc/status", (b"/proc", b"self/status")),
        ("/tofile", (b"/proc", b"mounts")),
        ("/a/proc", None),
        ("/process", None),
    ],
)
def test_crossings(client: Client, path: str, expected: tuple[bytes, bytes] | None) -> None:
    client.symlink(b"/proc/self", "/toproc")
    client.symlink(b"../proc/mounts", "/a/mounts")
    client.symlink(b"a/mounts", "/tofile")
    client.mkdir("/a/proc")
    client.mkdir("/process")
    assert crossing(client, path) == expected


def test_a_symlink_into_proc_is_not_followed_if_not_asked(client: Client) -> None:
    client.symlink(b"/proc/self", "/toproc")
    assert crossing(client, "/toproc", follow=False) is None
    assert client.readlink("/toproc") == b"/proc/self"


def test_mounts_cannot_be_made_moved_or_removed(client: Client) -> None:
    for path in ("/proc", "/dev"):
        with client.fails(errno.EEXIST):
            client.mkdir(path)
        with client.fails(errno.EEXIST):
            client.open(path, WRITE | CREATE | EXCLUSIVE)
        with client.fails(errno.EBUSY):
            client.rmdir(path)
        with client.fails(errno.EISDIR):
            client.unlink(path)
        with client.fails(errno.EBUSY):
            client.rename(path, "/other")
        with client.fails(errno.EBUSY):
            client.rename("/a", path)
    assert sorted(client.names("/"))[:2] == [b".", b".."]
    assert {b"proc", b"dev"} <= set(client.names("/"))


def test_crossing_changes_nothing_and_says_where(client: Client) -> None:
    response = client.call(file_pb2.RenameRequest(source=at("/a/f"), target=at("/proc/x")))
    assert (response.crossing.mount, response.crossing.remaining) == (b"/proc", b"x")
    assert response.crossed_at_target
    response = client.call(file_pb2.LinkRequest(source=at("/dev/null"), target=at("/x")))
    assert response.crossing.mount == b"/dev" and not response.crossed_at_target
    request = file_pb2.OpenRequest(place=at("/proc/version"), handle=77, flags=READ)
    assert client.call(request).crossing.remaining == b"version"
    with client.fails(errno.EBADF):
        client.read(77)
    assert client.get("/a/f") == b"lower data"


def test_forty_symlinks_and_no_more(client: Client) -> None:
    client.put("/s0", b"end")
    for number in range(1, SYMLINKS_MAX + 2):
        client.symlink(b"s%d" % (number - 1), f"/s{number}")
    assert client.get(f"/s{SYMLINKS_MAX}") == b"end"
    with client.fails(errno.ELOOP):
        client.get(f"/s{SYMLINKS_MAX + 1}")
    client.symlink(b"loop", "/loop")
    with client.fails(errno.ELOOP):
        client.stat("/loop/x")


def test_limits(client: Client) -> None:
    client.put("/" + "n" * 255, b"long")
    assert client.get("/" + "n" * 255) == b"long"
    with client.fails(errno.ENAMETOOLONG):
        client.stat("/" + "n" * 256)
    with client.fails(errno.ENAMETOOLONG):
        client.stat("/" + "n" * 256 + "/x")
    assert client.stat("/" + "./" * 2046 + "h").size == 10
    with client.fails(errno.ENAMETOOLONG):
        client.stat("/" + "./" * 2047 + "h")
    with client.fails(errno.EINVAL):
        client.stat("/a\0b")


def test_empty_path(client: Client) -> None:
    with client.fails(errno.ENOENT):
        client.stat("")
    handle = client.open("/a/f", PATH)
    assert client.stat("", directory=handle, empty_ok=True).size == 10
    with client.fails(errno.EBADF):
        client.stat("", directory=999, empty_ok=True)
    with client.fails(errno.ENOTDIR):
        client.stat("x", directory=handle)
    with client.fails(errno.EBADF):
        client.stat("x", directory=999)
    assert client.stat("/h", directory=999).size == 10  # an absolute path needs none


def test_opening_by_name_of_symlinks(client: Client) -> None:
    with client.fails(errno.ELOOP):
        client.open("/l", READ, follow=False)
    handle = client.open("/l", PATH, follow=False)
    link = client.call(file_pb2.ReadLinkRequest(place=at("", directory=handle, empty_ok=True)))
    assert link.target == b"/a/f"
    with client.fails(errno.EBADF):
        client.read(handle)
    client.symlink(b"/made", "/dangling")
    with client.fails(errno.EEXIST):
        client.open("/dangling", WRITE | CREATE | EXCLUSIVE)
    client.put("/dangling", b"through")
    assert client.get("/made") == b"through"
    with client.fails(errno.ENOTDIR):
        client.open("/h", READ | DIRECTORY)


def test_search_permission(client: Client, lower: Path) -> None:
    os.chmod(lower / "a", 0o700)
    os.chown(lower / "a", 5, 5)
    other = client.as_user(1000, 1000)
    member = client.as_user(1001, 1001, (5,))
    owner = client.as_user(5, 6)
    for session in (other, member):
        with client.acting(session), client.fails(errno.EACCES):
            client.stat("/a/f")
    with client.acting(owner):
        assert client.stat("/a/f").size == 10
    client.chmod("/a", 0o050)
    with client.acting(member):
        assert client.get("/a/f") == b"lower data"
    with client.acting(owner), client.fails(errno.EACCES):  # the owner's bits count, though the group has more
        client.stat("/a/f")


def test_dot_dot_of_a_moved_lower_directory(client: Client) -> None:
    handle = client.open("/a/deep/er", READ | DIRECTORY)
    client.rename("/a/deep", "/moved")
    assert client.path_of(handle) == b"/moved/er"
    assert client.stat("../../h", directory=handle).size == 10
    assert client.stat("/moved/er/../../a/f").size == 10
    client.restart()
    assert client.path_of(handle) == b"/moved/er"
    client.rename("/moved/er", "/empty/er")
    assert client.path_of(handle) == b"/empty/er"
    assert client.get("/empty/er/x") == b"x"
