"""flock and fcntl locks on the file server: who owns them, whom they keep out, when they go."""

import errno
from typing import Any

import pytest

from farcall.v1 import file_pb2
from farcall.v1.file_pb2 import (
    LOCK_KIND_FLOCK,
    LOCK_KIND_OFD,
    LOCK_KIND_POSIX,
    LOCK_TYPE_READ,
    LOCK_TYPE_UNLOCK,
    LOCK_TYPE_WRITE,
)
from servers.file import locks
from servers.service import Session
from tests.unit.file.client import CREATE, PATH, READ, WRITE, Client
from tests.unit.file.test_file_inherit import inherit

FLOCK, POSIX, OFD = LOCK_KIND_FLOCK, LOCK_KIND_POSIX, LOCK_KIND_OFD
SHARED, EXCLUSIVE, UNLOCK = LOCK_TYPE_READ, LOCK_TYPE_WRITE, LOCK_TYPE_UNLOCK
BOTH = READ | WRITE


def pid(session: Session) -> int:
    return session.number % 1_000_000


def lock(client: Client, handle: int, kind: Any, type_: Any, start: int = 0, length: int = 0) -> bool:
    """False if a lock was lost for it."""
    request = file_pb2.LockRequest(
        handle=handle, kind=kind, type=type_, start=start, length=length, pid=pid(client.session)
    )
    return not client.call(request).lost


def in_the_way(client: Client, handle: int, kind: Any, type_: Any, start: int = 0, length: int = 0) -> Any:
    found = client.call(
        file_pb2.TestLockRequest(handle=handle, kind=kind, type=type_, start=start, length=length)
    )
    return None if found.type == UNLOCK else (found.type, found.start, found.length, found.pid)


def end(client: Client, session: Session) -> None:
    with client.service.ledger.transaction():
        client.service.session_ended(session)
        client.service.ledger.end_session(session.number)


def rows(client: Client) -> int:
    count: int = client.service.tree.store.value("SELECT count(*) FROM lock")
    return count


@pytest.fixture
def other(client: Client) -> Session:
    return client.as_user(0)


def test_flock_belongs_to_the_description(client: Client, other: Session) -> None:
    one, two = client.open("/a/f"), client.open("/a/f")
    lock(client, one, FLOCK, EXCLUSIVE)
    with client.fails(errno.EAGAIN):
        lock(client, two, FLOCK, SHARED)
    inherit(client, other)
    with client.acting(other):
        lock(client, one, FLOCK, EXCLUSIVE)  # the same description: no conflict
    client.close(one)
    with client.fails(errno.EAGAIN):
        lock(client, two, FLOCK, SHARED)
    client.restart()
    with client.fails(errno.EAGAIN):
        lock(client, two, FLOCK, SHARED)
    end(client, other)
    assert lock(client, two, FLOCK, SHARED)
    client.close(two)
    assert rows(client) == 0


def test_a_flock_that_cannot_be_converted_is_lost(client: Client) -> None:
    """As on the host (flock(2)): another that waited may have it then."""
    one, two = client.open("/a/f"), client.open("/a/f")
    assert lock(client, one, FLOCK, SHARED) and lock(client, two, FLOCK, SHARED)
    assert not lock(client, one, FLOCK, EXCLUSIVE)
    with client.fails(errno.EAGAIN):
        lock(client, one, FLOCK, EXCLUSIVE)
    assert lock(client, two, FLOCK, EXCLUSIVE)
    assert lock(client, two, FLOCK, SHARED)
    assert lock(client, one, FLOCK, SHARED)


def test_posix_locks_belong_to_the_session(client: Client, other: Session) -> None:
    one = client.open("/a/f", BOTH)
    lock(client, one, POSIX, EXCLUSIVE, 10, 10)
    lock(client, one, POSIX, SHARED, 12, 2)
    assert in_the_way(client, one, POSIX, EXCLUSIVE) is None
    number = pid(client.session)
    with client.acting(other):
        two = client.open("/h", BOTH)  # a hard link to it
        assert in_the_way(client, two, POSIX, SHARED) == (EXCLUSIVE, 10, 2, number)
        assert in_the_way(client, two, POSIX, EXCLUSIVE, 12, 1) == (SHARED, 12, 2, number)
        assert in_the_way(client, two, OFD, SHARED, 14) == (EXCLUSIVE, 14, 6, number)
        lock(client, two, POSIX, SHARED, 12, 2)
        lock(client, two, FLOCK, EXCLUSIVE)  # another space
        for start, length in ((0, 0), (9, 2), (19, 1)):
            with client.fails(errno.EAGAIN):
                lock(client, two, POSIX, SHARED, start, length)
        lock(client, two, POSIX, EXCLUSIVE, 20, 0)
    assert in_the_way(client, one, POSIX, SHARED, 100, 1) == (EXCLUSIVE, 20, 0, pid(other))
    with client.fails(errno.EAGAIN):
        lock(client, one, POSIX, EXCLUSIVE, 12, 1)


def test_any_close_of_the_file_drops_the_session_s_posix_locks(client: Client, other: Session) -> None:
    one, two = client.open("/a/f", BOTH), client.open("/h")
    name = client.open("/a/f", PATH)
    lock(client, one, POSIX, EXCLUSIVE)
    lock(client, one, OFD, UNLOCK)
    inherit(client, other)
    client.close(name)
    with client.acting(other):
        client.close(two)
        assert in_the_way(client, one, POSIX, SHARED) is not None  # another process's close is none of its
    client.close(two)
    with client.acting(other):
        assert in_the_way(client, one, POSIX, SHARED) is None
    assert rows(client) == 0


def test_ofd_locks_belong_to_the_description(client: Client, other: Session) -> None:
    one, two = client.open("/a/f", BOTH), client.open("/a/f", BOTH)
    lock(client, one, OFD, EXCLUSIVE, 5, 5)
    assert in_the_way(client, two, OFD, SHARED) == (EXCLUSIVE, 5, 5, -1)
    assert in_the_way(client, one, POSIX, SHARED) == (EXCLUSIVE, 5, 5, -1)
    inherit(client, other)
    client.close(one)
    with client.fails(errno.EAGAIN):
        lock(client, two, OFD, SHARED)
    end(client, other)
    assert lock(client, two, OFD, SHARED)


def test_the_end_of_a_session_frees_its_locks(client: Client, other: Session) -> None:
    with client.acting(other):
        theirs = client.open("/a/f", BOTH)
        lock(client, theirs, POSIX, EXCLUSIVE, 1, 1)
        lock(client, theirs, FLOCK, EXCLUSIVE)
    ours = client.open("/a/f", BOTH)
    client.restart()
    with client.fails(errno.EAGAIN):
        lock(client, ours, POSIX, SHARED)
    end(client, other)
    assert lock(client, ours, POSIX, SHARED) and lock(client, ours, FLOCK, EXCLUSIVE)
    assert rows(client) == 2


def test_arguments(client: Client) -> None:
    reader, writer, name = client.open("/a/f"), client.open("/a/f", WRITE), client.open("/a/f", PATH)
    directory = client.open("/a")
    for kind in (POSIX, OFD):
        for handle, type_ in ((reader, EXCLUSIVE), (writer, SHARED), (name, SHARED), (99, SHARED)):
            with client.fails(errno.EBADF):
                lock(client, handle, kind, type_)
        assert in_the_way(client, reader, kind, EXCLUSIVE) is None
        for start, length, number in (
            (1 << 63, 1, errno.EINVAL),
            (1, (1 << 63) - 1, None),
            (1, 1 << 63, errno.EOVERFLOW),
        ):
            if number is None:
                lock(client, reader, kind, SHARED, start, length)
                lock(client, reader, kind, UNLOCK)
                continue
            with client.fails(number):
                lock(client, reader, kind, SHARED, start, length)
    assert lock(client, reader, FLOCK, EXCLUSIVE) and lock(client, directory, FLOCK, EXCLUSIVE)
    with client.fails(errno.EBADF):
        lock(client, name, FLOCK, SHARED)
    for numbers in ((0, SHARED), (POSIX, 0), (9, SHARED), (FLOCK, 9)):
        with client.fails(errno.EINVAL):
            lock(client, reader, *numbers)
    for kind, type_ in ((FLOCK, SHARED), (POSIX, UNLOCK)):
        with client.fails(errno.EINVAL):
            in_the_way(client, reader, kind, type_)


def test_too_many_locks(client: Client, other: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "LOCKS_INODE_MAX", 3)
    mine = pid(client.session)
    handle = client.open("/new", BOTH | CREATE)
    for start in (0, 2, 4):
        lock(client, handle, POSIX, EXCLUSIVE, start, 1)
    with client.fails(errno.ENOLCK):
        lock(client, handle, POSIX, EXCLUSIVE, 6, 1)
    assert lock(client, handle, POSIX, EXCLUSIVE, 0, 5)  # joins them all
    assert rows(client) == 1
    with client.fails(errno.ENOLCK):
        monkeypatch.setattr(locks, "LOCKS_MAX", 1)
        lock(client, client.open("/a/f"), FLOCK, SHARED)
    with client.acting(other):
        assert in_the_way(client, client.open("/new"), POSIX, SHARED) == (EXCLUSIVE, 0, 5, mine)


def test_a_lock_that_was_rolled_back_excludes_nobody(client: Client, other: Session) -> None:
    handle = client.open("/a/f", BOTH)
    with pytest.raises(ZeroDivisionError), client.service.ledger.transaction():
        client.service.handlers[126](
            client.session, file_pb2.LockRequest(handle=handle, kind=POSIX, type=EXCLUSIVE)
        )
        raise ZeroDivisionError
    with client.acting(other):
        assert in_the_way(client, client.open("/a/f"), POSIX, SHARED) is None
    assert rows(client) == 0
