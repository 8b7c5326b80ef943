"""The lower layer is never left and never changed, also by a host that changes it meanwhile."""

import errno
import os
from pathlib import Path

import pytest

from servers.file.lower import DIRECTORIES_OPEN_MAX, Lower, openat2
from tests.unit.file.client import DIRECTORY, READ, WRITE, Client
from tests.unit.file.test_file_model import manifest


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file beside the root, which no path leads to."""
    path = tmp_path / "secret"
    path.write_bytes(b"secret")
    return path


def test_no_way_leads_out(client: Client, lower: Path, secret: Path) -> None:
    (lower / "absolute").symlink_to(secret)
    (lower / "upwards").symlink_to("../secret")
    (lower / "a" / "outside").symlink_to("../../")
    for path in ("/absolute", "/upwards", "/../secret", "/a/outside/secret", "/a/../../secret"):
        with client.fails(errno.ENOENT):
            client.get(path)
    assert client.stat("/a/outside").ino == client.stat("/").ino


def test_one_component_is_opened_beneath_its_parent(lower: Path, secret: Path) -> None:
    (lower / "absolute").symlink_to(secret)
    fd = os.open(lower, os.O_PATH)
    try:
        for name, number in ((b"..", errno.EXDEV), (b"../secret", errno.EXDEV), (b"absolute", errno.ELOOP)):
            with pytest.raises(OSError) as caught:
                openat2(fd, name, os.O_RDONLY)
            assert caught.value.errno == number
    finally:
        os.close(fd)


def test_a_directory_swapped_for_a_symlink(client: Client, lower: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "x").write_bytes(b"outside")
    handle = client.open("/a/deep/er", READ | DIRECTORY)
    assert client.get("/a/deep/er/x") == b"x"
    os.rename(lower / "a" / "deep" / "er", lower / "a" / "deep" / "was")
    (lower / "a" / "deep" / "er").symlink_to(outside)
    with client.fails(errno.ENOENT, errno.ESTALE):
        client.get("/a/deep/er/x")
    with client.fails(errno.ESTALE):
        client.stat("x", directory=handle)


def test_a_directory_made_anew(client: Client, lower: Path) -> None:
    assert client.get("/a/deep/er/x") == b"x"
    os.rename(lower / "a", lower / "old")
    (lower / "a" / "deep" / "er").mkdir(parents=True)
    (lower / "a" / "deep" / "er" / "x").write_bytes(b"new")
    assert client.get("/a/deep/er/x") == b"new"
    assert client.get("/old/deep/er/x") == b"x"


def test_many_directories_need_few_descriptors(client: Client, lower: Path) -> None:
    for number in range(DIRECTORIES_OPEN_MAX + 50):
        (lower / "empty" / str(number)).mkdir()
        (lower / "empty" / str(number) / "f").write_bytes(b"%d" % number)
    before = len(os.listdir("/proc/self/fd"))
    for turn in range(2):
        for number in range(DIRECTORIES_OPEN_MAX + 50):
            assert client.get(f"/empty/{number}/f") == b"%d" % number, turn
    assert len(os.listdir("/proc/self/fd")) - before <= DIRECTORIES_OPEN_MAX


def test_descriptors_come_back(tmp_path: Path, lower: Path) -> None:
    before = os.listdir("/proc/self/fd")
    (tmp_path / "other").mkdir()
    other = Client(tmp_path / "other", lower)
    for path in ("/h", "/big"):
        other.read(other.open(path))
    other.get("/a/deep/er/x")
    other.service.close()
    assert os.listdir("/proc/self/fd") == before


def test_a_closed_handle_gives_its_descriptor_back(client: Client) -> None:
    client.get("/a/deep/er/x")
    before = len(os.listdir("/proc/self/fd"))
    handles = [client.open("/big") for _ in range(5)]
    for handle in handles:
        client.read(handle, 0, 10)
    assert len(os.listdir("/proc/self/fd")) == before + 1
    for handle in handles:
        client.close(handle)
    assert len(os.listdir("/proc/self/fd")) == before


def test_nothing_below_is_changed(client: Client, lower: Path) -> None:
    before = manifest(lower)
    times = {path: os.lstat(path).st_atime_ns for path in before if os.path.isfile(path)}
    handle = client.open("/big", READ | WRITE)
    client.write(handle, 5, b"x" * 100_000)
    client.get("/h")
    client.unlink("/a/f")
    client.rename("/a", "/b")
    client.chmod("/b/deep", 0o700)
    client.put("/b/deep/er/x", b"other")
    client.rmdir("/empty")
    client.restart()
    client.get("/b/deep/er/x")
    assert {path: os.lstat(path).st_atime_ns for path in times} == times
    assert manifest(lower) == before


def test_the_state_is_not_in_the_layer(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "other").mkdir()
    client = Client(tmp_path / "state", tmp_path)
    assert sorted(client.names("/")) == [b".", b"..", b"dev", b"other", b"proc"]
    with client.fails(errno.ENOENT):
        client.names("/state")
    client.mkdir("/state")
    client.put("/state/f", b"mine")
    client.service.close()


def test_a_root_that_is_none_is_an_error(tmp_path: Path) -> None:
    for root in (tmp_path / "none", tmp_path / "file"):
        if root.name == "file":
            root.write_bytes(b"")
        with pytest.raises(OSError):
            Lower(root, tmp_path, lambda root_dev, dev, ino: ino)


def test_what_the_host_changes_is_seen_at_once(client: Client, lower: Path) -> None:
    """However little: the server keeps what it saw last of an object only as long as nothing is different."""
    path = lower / "a" / "f"
    moment_ns = 1_600_000_000_000_000_000
    for change in range(3):
        os.utime(path, ns=(moment_ns + change, moment_ns + 2 * change))
        found = client.stat("/a/f")
        assert (found.atime_ns, found.mtime_ns) == (moment_ns + change, moment_ns + 2 * change)
        assert client.stat("/a/f") == found
    path.chmod(0o600)
    assert client.stat("/a/f").mode == 0o100600
    path.write_bytes(b"longer than before")
    assert client.stat("/h").size == client.stat("/a/f").size == 18
    os.rename(lower / "a", lower / "b")
    (lower / "a").mkdir()
    (lower / "a" / "f").write_bytes(b"another")
    assert client.stat("/a/f").size == 7
    assert client.stat("/b/f").size == 18
