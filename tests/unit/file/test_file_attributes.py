"""stat, chmod, chown, utimensat, access, statfs and extended attributes."""

import errno
import os
import stat
from pathlib import Path

import pytest

from farcall.v1 import file_pb2
from farcall.v1.file_pb2 import XATTR_FLAG_CREATE, XATTR_FLAG_REPLACE, Place
from servers.file.inodes import ALIAS_FIRST, NEW_FIRST, Inodes
from servers.file.store import Store
from servers.file.xattrs import XATTR_ROOM_BYTES, XATTR_VALUE_BYTES_MAX
from servers.service import ErrnoError
from tests.unit.file.client import CREATE, PATH, READ, WRITE, Client, at


def set_attributes(client: Client, place: Place, **changes: int) -> None:
    client.call(file_pb2.SetAttributesRequest(place=place, **changes))  # type: ignore[arg-type]


def set_times(client: Client, path: str, atime: int | None, mtime: int | None) -> None:
    """Nanoseconds; -1: now; None: leave."""
    request = file_pb2.SetAttributesRequest(place=at(path))
    for change, value in ((request.atime, atime), (request.mtime, mtime)):
        if value == -1:
            change.now = True
        elif value is not None:
            change.time_ns = value
            change.SetInParent()
    client.call(request)


def test_what_stat_says_of_a_lower_file(client: Client, lower: Path) -> None:
    host, found = os.stat(lower / "big"), client.stat("/big")
    assert (found.ino, found.mode, found.nlink, found.uid, found.gid, found.size) == (
        host.st_ino, host.st_mode, host.st_nlink, host.st_uid, host.st_gid, host.st_size,
    )  # fmt: skip
    assert (found.mtime_ns, found.ctime_ns) == (host.st_mtime_ns, host.st_ctime_ns)
    client.chmod("/big", 0o640)
    after = client.stat("/big")
    assert (after.ino, after.mode, after.mtime_ns) == (found.ino, stat.S_IFREG | 0o640, found.mtime_ns)
    assert after.generation == found.generation  # of the data, which is the same
    handle = client.open("/big", WRITE)
    client.write(handle, 0, b"x")
    assert client.stat("/big").generation > found.generation
    assert client.stat("/big").dev == client.stat("/").dev == client.stat("/a/deep").dev


def test_new_inode_numbers_are_never_reused(client: Client) -> None:
    numbers = []
    for turn in range(4):
        client.put("/u", b"")
        numbers.append(client.stat("/u").ino)
        client.unlink("/u")
        if turn % 2:
            client.restart()
    assert len(set(numbers)) == 4 and min(numbers) >= NEW_FIRST


def test_numbers_of_other_devices_do_not_collide(client: Client) -> None:
    store = client.service.ledger
    assert isinstance(store, Store)
    inodes = Inodes(store)
    objects = [(dev, ino) for dev in (1, 2, 3) for ino in (5, 1 << 50, (1 << 64) - 1)]
    numbers = [inodes.guest_ino(1, dev, ino) for dev, ino in objects]
    assert len(set(numbers)) == 9
    assert numbers[0] == 5 and all(0 < number < 1 << 63 for number in numbers)
    assert [number >= ALIAS_FIRST for number in numbers] == [False, True, True] * 3
    assert numbers == [Inodes(store).guest_ino(1, dev, ino) for dev, ino in objects]


def test_times_and_who_may_set_them(client: Client) -> None:
    client.put("/u", b"", 0o666)
    set_times(client, "/u", 5, 1_500_000_000_123_456_789)
    found = client.stat("/u")
    assert (found.atime_ns, found.mtime_ns) == (5, 1_500_000_000_123_456_789)
    set_times(client, "/u", None, 7)
    assert (client.stat("/u").atime_ns, client.stat("/u").mtime_ns) == (5, 7)
    set_times(client, "/u", None, 0)
    assert client.stat("/u").mtime_ns == 0
    with client.acting(client.as_user(1000)):
        set_times(client, "/u", -1, -1)
        assert client.stat("/u").mtime_ns > 1_600_000_000_000_000_000
        with client.fails(errno.EPERM):
            set_times(client, "/u", -1, 7)
        with client.fails(errno.EPERM):
            set_times(client, "/u", None, -1)
        with client.fails(errno.EACCES):
            set_times(client, "/h", -1, -1)


def test_chown_and_chmod_rules(client: Client) -> None:
    client.put("/u", b"", 0o6755)
    set_attributes(client, at("/u"), uid=1000, gid=1000)
    assert client.stat("/u").mode & 0o7777 == 0o755
    owner, other = client.as_user(1000, 1000, (20,)), client.as_user(1001, 1000)
    with client.acting(owner):
        client.chmod("/u", 0o2755)
        assert client.stat("/u").mode & 0o7777 == 0o2755
        set_attributes(client, at("/u"), gid=20)
        assert (client.stat("/u").gid, client.stat("/u").mode & 0o7777) == (20, 0o755)
        for wrong in ({"gid": 21}, {"uid": 1001}):
            with client.fails(errno.EPERM):
                set_attributes(client, at("/u"), **wrong)
    with client.acting(other):
        with client.fails(errno.EPERM):
            client.chmod("/u", 0o777)
        with client.fails(errno.EPERM):
            set_attributes(client, at("/u"), gid=1000)
    set_attributes(client, at("/u"), gid=33)
    with client.acting(owner):
        client.chmod("/u", 0o2755)
        assert client.stat("/u").mode & 0o7777 == 0o755  # not a member of group 33
    client.symlink(b"u", "/s")
    set_attributes(client, at("/s", follow=False), uid=7)
    assert client.stat("/s", follow=False).uid == 7 and client.stat("/u").uid == 1000


def test_writing_takes_privilege_bits_away(client: Client) -> None:
    client.put("/u", b"", 0o4777)
    with client.acting(client.as_user(1000)):
        client.write(client.open("/u", WRITE), 0, b"x")
    assert client.stat("/u").mode & 0o7777 == 0o777
    client.chmod("/u", 0o4777)
    client.write(client.open("/u", WRITE), 0, b"x")
    assert client.stat("/u").mode & 0o7777 == 0o4777


def test_set_group_id_directories(client: Client) -> None:
    client.mkdir("/d")
    set_attributes(client, at("/d"), gid=50)
    client.chmod("/d", 0o2777)
    with client.acting(client.as_user(1000, 1000)):
        client.mkdir("/d/sub")
        client.put("/d/f", b"", 0o2755)
    assert (client.stat("/d/sub").gid, client.stat("/d/sub").mode & 0o7777) == (50, 0o2755)
    assert (client.stat("/d/f").gid, client.stat("/d/f").mode & 0o7777) == (50, 0o755)


def test_sticky_directories(client: Client) -> None:
    client.mkdir("/t", 0o777)
    client.chmod("/t", 0o1777)
    one, two = client.as_user(1001), client.as_user(1002)
    with client.acting(one):
        client.put("/t/mine", b"")
    with client.acting(two):
        with client.fails(errno.EPERM):
            client.unlink("/t/mine")
        with client.fails(errno.EPERM):
            client.rename("/t/mine", "/t/theirs")
        client.put("/t/other", b"")
        with client.fails(errno.EPERM):
            client.rename("/t/other", "/t/mine")
    with client.acting(one):
        client.unlink("/t/mine")


def test_hard_links_of_other_peoples_files(client: Client) -> None:
    client.chmod("/", 0o777)
    client.put("/readonly", b"", 0o644)
    client.put("/shared", b"", 0o666)
    with client.acting(client.as_user(1000)):
        with client.fails(errno.EPERM):
            client.link("/readonly", "/mine")
        client.link("/shared", "/mine")


def test_access(client: Client) -> None:
    def may(mode: int) -> bool:
        try:
            client.call(file_pb2.CheckAccessRequest(place=at("/u"), mode=mode))
        except ErrnoError as error:
            assert error.errno == errno.EACCES
            return False
        return True

    client.put("/u", b"", 0o640)
    assert may(0) and may(6) and not may(1)
    with client.acting(client.as_user(1000)):
        assert may(0) and not may(4)
    with client.acting(client.as_user(1000, 0)):
        assert may(4) and not may(2)
    client.chmod("/u", 0o001)
    assert may(7)
    with client.fails(errno.EINVAL):
        client.call(file_pb2.CheckAccessRequest(place=at("/u"), mode=8))


def test_truncate_rules(client: Client) -> None:
    with client.fails(errno.EISDIR):
        client.truncate("/a", 0)
    client.call(file_pb2.MakeNodeRequest(place=at("/fifo"), mode=stat.S_IFIFO | 0o600))
    with client.fails(errno.EINVAL):
        client.truncate("/fifo", 0)
    client.put("/u", b"123", 0o644)
    with client.acting(client.as_user(1000)), client.fails(errno.EACCES):
        client.truncate("/u", 0)
    for flags, number in ((READ, errno.EINVAL), (PATH, errno.EBADF)):
        place = at("", directory=client.open("/u", flags), empty_ok=True)
        with client.fails(number):
            set_attributes(client, place, size=0)
    handle = client.open("/new", WRITE | CREATE, 0o000)
    set_attributes(client, at("", directory=handle, empty_ok=True), size=4)
    assert client.stat("/new").size == 4


def test_statfs(client: Client) -> None:
    found = client.call(file_pb2.StatFileSystemRequest(place=at("/a")))
    host = os.statvfs(client.state)
    assert (found.block_size, found.blocks, found.name_bytes_max) == (host.f_frsize, host.f_blocks, 255)
    with client.fails(errno.ENOENT):
        client.call(file_pb2.StatFileSystemRequest(place=at("/none")))


# Extended attributes


def get_xattr(client: Client, path: str, name: bytes) -> bytes:
    value: bytes = client.call(file_pb2.GetXattrRequest(place=at(path, follow=False), name=name)).value
    return value


def set_xattr(client: Client, path: str, name: bytes, value: bytes, flags: int = 0) -> None:
    place = at(path, follow=False)
    client.call(file_pb2.SetXattrRequest(place=place, name=name, value=value, flags=flags))


def list_xattrs(client: Client, path: str) -> list[bytes]:
    return list(client.call(file_pb2.ListXattrRequest(place=at(path, follow=False))).names)


def remove_xattr(client: Client, path: str, name: bytes) -> None:
    client.call(file_pb2.RemoveXattrRequest(place=at(path, follow=False), name=name))


@pytest.fixture
def marked(lower: Path) -> Path:
    """The lower file /h has user.low; skipped parts of the host cannot fake that."""
    try:
        os.setxattr(lower / "h", "user.low", b"from below")
    except OSError as error:
        if error.errno == errno.EOPNOTSUPP:
            pytest.skip("the temporary directory's file system has no user attributes")
        raise
    return lower


def test_xattrs_of_both_layers(client: Client, marked: Path) -> None:
    assert get_xattr(client, "/h", b"user.low") == b"from below"
    assert get_xattr(client, "/a/f", b"user.low") == b"from below"
    set_xattr(client, "/h", b"user.up", b"\0\xff")
    assert sorted(list_xattrs(client, "/h")) == [b"user.low", b"user.up"]
    remove_xattr(client, "/h", b"user.low")
    client.restart()
    assert list_xattrs(client, "/a/f") == [b"user.up"]
    with client.fails(errno.ENODATA):
        get_xattr(client, "/h", b"user.low")
    with client.fails(errno.ENODATA):
        remove_xattr(client, "/h", b"user.low")
    set_xattr(client, "/h", b"user.low", b"new", XATTR_FLAG_CREATE)
    assert get_xattr(client, "/h", b"user.low") == b"new"
    assert os.getxattr(marked / "h", "user.low") == b"from below"


def test_xattr_errors(client: Client) -> None:
    client.put("/u", b"")
    set_xattr(client, "/u", b"user.x", b"")
    assert get_xattr(client, "/u", b"user.x") == b""
    for number, name, value, flags in (
        (errno.EEXIST, b"user.x", b"", XATTR_FLAG_CREATE),
        (errno.ENODATA, b"user.y", b"", XATTR_FLAG_REPLACE),
        (errno.EINVAL, b"user.y", b"", 4),
        (errno.ERANGE, b"", b"", 0),
        (errno.ERANGE, b"user." + b"n" * 251, b"", 0),
        (errno.EINVAL, b"user.", b"", 0),
        (errno.EOPNOTSUPP, b"system.posix_acl_access", b"", 0),
        (errno.EOPNOTSUPP, b"other", b"", 0),
        (errno.E2BIG, b"user.y", bytes(XATTR_VALUE_BYTES_MAX + 1), 0),
        (errno.ENOSPC, b"user.y", bytes(XATTR_ROOM_BYTES + 1), 0),
    ):
        with client.fails(number):
            set_xattr(client, "/u", name, value, flags)
    set_xattr(client, "/u", b"user." + b"n" * 250, bytes(XATTR_ROOM_BYTES))
    client.symlink(b"u", "/s")
    with client.fails(errno.EPERM):
        set_xattr(client, "/s", b"user.x", b"")
    with client.fails(errno.ENODATA):
        get_xattr(client, "/s", b"user.x")


def test_xattr_rights(client: Client) -> None:
    client.put("/u", b"", 0o644)
    set_xattr(client, "/u", b"trusted.t", b"1")
    set_xattr(client, "/u", b"security.s", b"2")
    client.put("/closed", b"", 0o600)
    set_xattr(client, "/closed", b"user.x", b"3")
    with client.acting(client.as_user(1000)):
        assert list_xattrs(client, "/u") == [b"security.s"]
        assert get_xattr(client, "/u", b"security.s") == b"2"
        with client.fails(errno.ENODATA):
            get_xattr(client, "/u", b"trusted.t")
        with client.fails(errno.EACCES):
            set_xattr(client, "/u", b"user.x", b"")
        for name in (b"trusted.t", b"security.s"):
            with client.fails(errno.EPERM):
                set_xattr(client, "/u", name, b"")
        with client.fails(errno.EACCES):
            get_xattr(client, "/closed", b"user.x")
