"""Names over two layers: whiteouts, hard links, renames, removed objects that live on in handles."""

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from farcall.v1 import file_pb2
from farcall.v1.file_pb2 import RENAME_FLAG_EXCHANGE, RENAME_FLAG_NO_REPLACE
from servers.file.store import Store
from servers.service import ErrnoError
from tests.unit.file.client import CREATE, DIRECTORY, EXECUTE, READ, WRITE, Client, at


def test_whiteouts_and_opaque_directories(client: Client, lower: Path) -> None:
    client.unlink("/a/deep/er/x")
    client.rmdir("/a/deep/er")
    client.rmdir("/a/deep")
    with client.fails(errno.ENOENT):
        client.stat("/a/deep/er/x")
    client.mkdir("/a/deep")
    assert client.names("/a/deep") == [b".", b".."]
    client.restart()
    assert client.names("/a/deep") == [b".", b".."]
    assert b"deep" in client.names("/a")
    assert (lower / "a/deep/er/x").read_bytes() == b"x"


def test_hard_links_across_copy_up(client: Client, lower: Path) -> None:
    assert client.stat("/h").ino == client.stat("/a/f").ino
    handle = client.open("/h", READ | WRITE)
    client.append(handle, b"!")
    assert client.get("/a/f") == b"lower data!"
    client.rename("/a/f", "/moved")
    assert client.get("/moved") == b"lower data!" and client.stat("/moved").nlink == 2
    client.link("/moved", "/third")
    client.unlink("/h")
    client.unlink("/moved")
    assert client.stat("/third").nlink == 1
    client.restart()
    assert client.get("/third") == b"lower data!"
    assert client.read(handle) == b"lower data!"
    assert os.stat(lower / "h").st_nlink == 2


def test_renaming_a_lower_directory_moves_one_name(client: Client) -> None:
    store = client.service.ledger
    assert isinstance(store, Store)
    client.rename("/a", "/b")
    assert store.value("SELECT count(*) FROM inode") <= 3  # it, and the parent
    assert client.get("/b/deep/er/x") == b"x"
    with client.fails(errno.ENOENT):
        client.stat("/a")
    client.mkdir("/a")
    assert client.names("/a") == [b".", b".."]
    client.put("/b/deep/new", b"n")
    client.rename("/b/deep", "/a/deep")
    client.restart()
    assert sorted(client.names("/a/deep")) == [b".", b"..", b"er", b"new"]


@pytest.mark.parametrize("lower_file", [True, False])
def test_unlinked_but_open_lives_across_restarts(client: Client, lower_file: bool) -> None:
    if not lower_file:
        client.put("/big", b"0123456789" * 30_000)
    expected = client.get("/big")
    handle = client.open("/big", READ | WRITE)
    client.unlink("/big")
    assert client.path_of(handle) == b"/big (deleted)"
    assert client.stat("", directory=handle, empty_ok=True).nlink == 0
    client.restart()
    assert client.read(handle) == expected
    client.write(handle, 5, b"later")
    client.restart()
    assert client.read(handle) == expected[:5] + b"later" + expected[10:]
    with client.fails(errno.ENOENT):
        client.stat("/big")
    client.put("/big", b"another")
    assert client.read(handle, 0, 4) == expected[:4]
    client.close(handle)
    store = client.service.ledger
    assert isinstance(store, Store)
    assert store.value("SELECT count(*) FROM inode WHERE nlink = 0") == 0
    assert store.value("SELECT count(*) FROM extent WHERE ino NOT IN (SELECT ino FROM inode)") == 0


def test_the_end_of_a_session_frees_its_orphans(client: Client) -> None:
    store = client.service.ledger
    assert isinstance(store, Store)
    client.put("/orphan", b"x" * 200_000)
    client.open("/orphan")
    client.unlink("/orphan")
    session = client.session
    with store.transaction():
        client.service.session_ended(session)
        store.end_session(session.number)
    assert store.value("SELECT count(*) FROM handle") == 0
    assert store.value("SELECT count(*) FROM extent") == 0
    assert store.value("SELECT count(*) FROM inode WHERE nlink = 0") == 0
    assert client.service.tree.extents.data.free_bytes() == 200_000


def test_a_removed_directory_in_use(client: Client) -> None:
    handle = client.open("/empty", READ | DIRECTORY)
    client.rmdir("/empty")
    assert client.path_of(handle) == b"/empty (deleted)"
    with client.fails(errno.ENOENT):
        client.entries(handle)
    with client.fails(errno.ENOENT):
        client.open("/../empty/x", WRITE | CREATE)
    with client.fails(errno.ENOENT):
        client.call(file_pb2.MakeDirectoryRequest(place=at("sub", directory=handle), mode=0o755))
    client.restart()
    assert client.stat("..", directory=handle).ino == client.stat("/").ino
    client.mkdir("/empty")
    assert client.path_of(handle) == b"/empty (deleted)"


def test_path_of_a_file_in_a_removed_lower_directory(client: Client) -> None:
    handle = client.open("/a/deep/er/x")
    client.unlink("/a/deep/er/x")
    client.rmdir("/a/deep/er")
    client.rmdir("/a/deep")
    assert client.path_of(handle).endswith(b"/x (deleted)")
    client.restart()
    assert client.read(handle) == b"x"
    assert client.path_of(handle).endswith(b" (deleted)")


def test_exchange(client: Client) -> None:
    client.rename("/a", "/h", RENAME_FLAG_EXCHANGE)
    assert client.get("/a") == b"lower data"
    assert client.get("/h/deep/er/x") == b"x"
    assert client.stat("/").nlink == 2 + 2  # of the lower layer: a, empty; dev and proc are not counted
    client.rename("/h/deep", "/l", RENAME_FLAG_EXCHANGE)
    assert client.readlink("/h/deep") == b"/a/f"
    assert stat.S_ISDIR(client.stat("/l").mode)
    client.restart()
    assert client.get("/l/er/x") == b"x"
    assert client.stat("/").nlink == 2 + 3
    assert client.stat("/h").nlink == 2


def test_rename_flags(client: Client) -> None:
    with client.fails(errno.EEXIST):
        client.rename("/h", "/big", RENAME_FLAG_NO_REPLACE)
    client.rename("/h", "/new", RENAME_FLAG_NO_REPLACE)
    with client.fails(errno.ENOENT):
        client.rename("/new", "/h", RENAME_FLAG_EXCHANGE)
    with client.fails(errno.EINVAL):
        client.rename("/new", "/h", RENAME_FLAG_EXCHANGE | RENAME_FLAG_NO_REPLACE)
    with client.fails(errno.EINVAL):
        client.rename("/new", "/h", 8)


def test_a_failing_call_leaves_nothing_of_itself(client: Client) -> None:
    """Acts first, fails then: the savepoint, and all that is kept in memory, go back."""
    store = client.service.ledger
    assert isinstance(store, Store)
    client.put("/kept", b"kept" * 30_000)
    handle = client.open("/kept", READ | WRITE)
    before = client.service.tree.extents.data.free_bytes()
    number = 1 << 40
    with store.transaction(), pytest.raises(ErrnoError), store.savepoint():
        client.service.handlers[108](client.session, file_pb2.MakeDirectoryRequest(place=at("/new"), mode=0o755))
        client.service.handlers[100](
            client.session, file_pb2.OpenRequest(place=at("/new/f"), handle=number, flags=WRITE | CREATE)
        )
        client.service.packed_handlers[103](client.session, number, 0, 0, b"d" * 100_000, None)
        client.service.packed_handlers[103](client.session, handle, 9, 0, b"d" * 100_000, None)
        client.service.packed_handlers[101](client.session, handle, 0, 0, b"", None)
        client.service.handlers[114](client.session, file_pb2.RenameRequest(source=at("/a"), target=at("/new/a")))
        client.service.handlers[113](client.session, file_pb2.RemoveRequest(place=at("/h")))
        raise ErrnoError(errno.EIO)
    assert client.read(handle) == b"kept" * 30_000
    with client.fails(errno.ENOENT):
        client.stat("/new")
    with client.fails(errno.EBADF):
        client.read(number)
    assert client.get("/a/deep/er/x") == b"x" and client.get("/h") == b"lower data"
    assert client.stat("/h").nlink == 2
    assert client.service.tree.extents.data.free_bytes() >= before
    client.put("/new", b"now")
    assert client.get("/new") == b"now"


def test_times_of_files_and_their_directories(client: Client) -> None:
    def times() -> dict[str, tuple[int, int, int]]:
        found = {path: client.stat(path) for path in ("/", "/a", "/a/f", "/u")}
        return {path: (each.atime_ns, each.mtime_ns, each.ctime_ns) for path, each in found.items()}

    client.put("/u", b"1")
    client.put("/a/u2", b"2")
    handle = client.open("/u", READ | WRITE)
    both, change = [1, 2], [2]
    steps: list[tuple[Callable[[], object], dict[str, list[int]]]] = [
        (lambda: client.chmod("/u", 0o600), {"/u": change}),
        (lambda: client.put("/a/f", b"other"), {"/a/f": both}),
        (lambda: client.mkdir("/a/sub"), {"/a": both}),
        (lambda: client.link("/u", "/a/u"), {"/a": both, "/u": change}),
        (lambda: client.rename("/a/u2", "/u2"), {"/": both, "/a": both}),
        (lambda: client.unlink("/a/u"), {"/a": both, "/u": change}),
        (lambda: client.read(handle), {}),
        (lambda: client.names("/a"), {}),
        (lambda: client.truncate("/u", 1), {}),
        (lambda: client.truncate("/u", 5), {"/u": both}),
        (lambda: client.write(handle, 0, b""), {}),
        (lambda: client.write(handle, 0, b"x"), {"/u": both}),
    ]
    for number, (act, expected) in enumerate(steps):
        before = times()
        act()
        after = times()
        changed = {path: [i for i in range(3) if after[path][i] != before[path][i]] for path in after}
        assert {path: which for path, which in changed.items() if which} == expected, number


def test_nodes(client: Client) -> None:
    client.call(file_pb2.MakeNodeRequest(place=at("/fifo"), mode=stat.S_IFIFO | 0o600))
    client.call(file_pb2.MakeNodeRequest(place=at("/sock"), mode=stat.S_IFSOCK | 0o600))
    assert stat.S_ISFIFO(client.stat("/fifo").mode) and stat.S_ISSOCK(client.stat("/sock").mode)
    with client.fails(errno.EOPNOTSUPP):
        client.open("/fifo")
    with client.fails(errno.ENXIO):
        client.open("/sock")
    with client.fails(errno.EPERM):
        client.call(file_pb2.MakeNodeRequest(place=at("/null"), mode=stat.S_IFCHR | 0o666))
    with client.fails(errno.EINVAL):
        client.call(file_pb2.MakeNodeRequest(place=at("/odd"), mode=stat.S_IFLNK | 0o666))


def test_execute(client: Client) -> None:
    client.put("/prog", b"\x7fELF", 0o711)
    with client.fails(errno.EACCES):
        client.open("/h", EXECUTE)
    with client.fails(errno.EACCES):
        client.open("/a", EXECUTE)
    with client.acting(client.as_user(1000)):
        with client.fails(errno.EACCES):
            client.open("/prog", READ)
        handle = client.open("/prog", EXECUTE)
        assert client.read(handle) == b"\x7fELF"


def test_handles_belong_to_their_session(client: Client) -> None:
    handle = client.open("/h")
    with client.acting(client.as_user(0)):
        with client.fails(errno.EBADF):
            client.read(handle)
        with client.fails(errno.EBADF):
            client.close(handle)
    for number in (0, handle, 1 << 63, (1 << 64) - 1):
        with client.fails(errno.EINVAL):
            client.call(file_pb2.OpenRequest(place=at("/h"), handle=number, flags=READ))
