"""O_TMPFILE: files without a name, and their naming; each case on the host first."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from farcall.v1 import file_pb2
from tests.unit.file.client import CREATE, EXCLUSIVE, READ, TMPFILE, WRITE, Client, at

BOTH = READ | WRITE


def link(client: Client, handle: int, target: str) -> None:
    source = at("", directory=handle, empty_ok=True)
    client.call(file_pb2.LinkRequest(source=source, target=at(target)))


def host_link(fd: int, target: Path) -> None:
    # With a directory: only then does Python say AT_SYMLINK_FOLLOW.
    directory = os.open("/proc/self/fd", os.O_RDONLY)
    try:
        os.link(f"{fd}", target, src_dir_fd=directory, follow_symlinks=True)
    finally:
        os.close(directory)


def errno_of(act: Callable[[], object]) -> int:
    try:
        act()
    except OSError as error:
        return error.errno or 0
    return 0


def test_a_file_without_a_name_gets_one(client: Client) -> None:
    handle = client.open("/a", BOTH | TMPFILE, mode=0o640)
    client.write(handle, 0, b"nameless")
    status = client.stat("", directory=handle, empty_ok=True)
    assert (status.nlink, status.mode, status.size) == (0, 0o100640, 8)
    assert client.path_of(handle) == b"/a/#%d (deleted)" % status.ino
    assert sorted(client.names("/a")) == [b".", b"..", b"deep", b"f"]
    link(client, handle, "/empty/named")
    link(client, handle, "/a/again")
    assert client.stat("/empty/named").nlink == 2
    client.close(handle)
    client.restart()
    assert client.get("/empty/named") == client.get("/a/again") == b"nameless"


def test_it_goes_with_its_last_handle(client: Client) -> None:
    kept, gone = client.open("/a", BOTH | TMPFILE), client.open("/a", BOTH | TMPFILE)
    client.write(gone, 0, b"x" * 100_000)
    client.close(gone)
    client.restart()
    store = client.service.tree.store
    assert store.value("SELECT count(*) FROM inode WHERE nlink = 0") == 1
    assert store.value("SELECT count(*) FROM extent") == 0
    link(client, kept, "/kept")


def test_once_named_and_removed_it_is_gone_for_good(client: Client, tmp_path: Path) -> None:
    handle = client.open("/a", BOTH | TMPFILE)
    link(client, handle, "/named")
    client.unlink("/named")
    with client.fails(errno.ENOENT):
        link(client, handle, "/named")
    exclusive = client.open("/a", BOTH | TMPFILE | EXCLUSIVE)
    with client.fails(errno.ENOENT):
        link(client, exclusive, "/named")
    fd = os.open(tmp_path, os.O_RDWR | os.O_TMPFILE)
    host_link(fd, tmp_path / "named")
    os.unlink(tmp_path / "named")
    assert errno_of(lambda: host_link(fd, tmp_path / "named")) == errno.ENOENT
    os.close(fd)
    fd = os.open(tmp_path, os.O_RDWR | os.O_TMPFILE | os.O_EXCL)
    assert errno_of(lambda: host_link(fd, tmp_path / "named")) == errno.ENOENT
    os.close(fd)


@pytest.mark.parametrize(
    ("path", "ours", "host"),
    [
        ("a", READ, os.O_RDONLY),
        ("a", BOTH | CREATE, os.O_RDWR | os.O_CREAT),
        ("a/f", BOTH, os.O_RDWR),
        ("none", BOTH, os.O_RDWR),
        ("", BOTH, os.O_RDWR),
    ],
)
def test_refusals(client: Client, lower: Path, path: str, ours: int, host: int) -> None:
    wanted = errno_of(lambda: os.open(path and lower / path, host | os.O_TMPFILE))
    with client.fails(wanted):
        client.open(path and f"/{path}", ours | TMPFILE)


def test_the_directory_must_be_writable(client: Client) -> None:
    with client.acting(client.as_user(1000)), client.fails(errno.EACCES):
        client.open("/a", BOTH | TMPFILE)
    client.chmod("/a", 0o777)
    with client.acting(client.as_user(1000)):
        handle = client.open("/a", BOTH | TMPFILE, mode=0)
        assert client.stat("", directory=handle, empty_ok=True).uid == 1000
        link(client, handle, "/a/mine")
