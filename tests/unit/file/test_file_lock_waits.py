"""AwaitLock: answered when the lock is worth another try, refused where it would wait for itself."""

import errno
from typing import Any

from farcall.v1 import file_pb2
from farcall.v1.file_pb2 import AwaitLockResponse
from farcall.v1.session_pb2 import REFUSAL_OVERLOADED
from ipc.message import Reply
from servers.service import Answer, Deferred, ErrnoError, Session
from tests.unit.file.client import READ, WRITE, Client
from tests.unit.file.test_file_inherit import inherit
from tests.unit.file.test_file_locks import BOTH, EXCLUSIVE, FLOCK, OFD, POSIX, SHARED, UNLOCK, end, lock


class Waiting:
    """An AwaitLock that was not answered at once; `answers` is what came of it."""

    def __init__(self, deferred: Deferred) -> None:
        self.deferred = deferred
        self.answers: list[Any] = []
        deferred.attach(self._settle)

    def _settle(self, answer: Answer | ErrnoError | Reply) -> None:
        self.answers.append(answer.errno if isinstance(answer, ErrnoError) else answer)


def request(handle: int, kind: Any, type_: Any, start: int, length: int) -> file_pb2.AwaitLockRequest:
    return file_pb2.AwaitLockRequest(handle=handle, kind=kind, type=type_, start=start, length=length)


def wait(client: Client, handle: int, kind: Any, type_: Any, start: int = 0, length: int = 0) -> Waiting:
    answer = client.call(request(handle, kind, type_, start, length))
    assert isinstance(answer, Deferred)
    return Waiting(answer)


DONE = [AwaitLockResponse()]


def test_answered_when_nothing_is_in_the_way(client: Client) -> None:
    other, third = client.as_user(0), client.as_user(0)
    mine = client.open("/a/f", BOTH)
    lock(client, mine, POSIX, EXCLUSIVE, 0, 10)
    lock(client, mine, POSIX, EXCLUSIVE, 20, 10)
    with client.acting(other):
        theirs = client.open("/a/f", BOTH)
        reader = wait(client, theirs, POSIX, SHARED, 5, 20)
    with client.acting(third):
        free = client.call(request(client.open("/a/f", BOTH), POSIX, EXCLUSIVE, 10, 10))
        assert free == AwaitLockResponse()
    lock(client, mine, POSIX, UNLOCK, 0, 10)
    assert reader.answers == []
    lock(client, mine, POSIX, SHARED, 20, 10)  # a lock that becomes weaker lets a reader in, too
    assert reader.answers == DONE
    with client.acting(other):
        assert lock(client, theirs, POSIX, SHARED, 5, 20)


def test_every_way_a_lock_goes_wakes(client: Client) -> None:
    holder = client.as_user(0)
    mine = client.open("/a/f", BOTH)
    for kind in (POSIX, OFD, FLOCK):
        with client.acting(holder):
            handle, other = client.open("/a/f", BOTH), client.open("/a/f")
            lock(client, handle, kind, EXCLUSIVE)
        waiting = [wait(client, mine, kind, EXCLUSIVE), wait(client, mine, kind, SHARED)]
        with client.acting(holder):
            client.close(other if kind == POSIX else handle)
        assert [each.answers for each in waiting] == [DONE, DONE]
    with client.acting(holder):
        lock(client, client.open("/a/f", BOTH), OFD, EXCLUSIVE)
    last = wait(client, mine, OFD, SHARED)
    end(client, holder)
    assert last.answers == DONE


def test_a_change_that_is_rolled_back_wakes_nobody(client: Client) -> None:
    holder = client.as_user(0)
    mine = client.open("/a/f", BOTH)
    with client.acting(holder):
        handle = client.open("/a/f", BOTH)
        lock(client, handle, POSIX, EXCLUSIVE)
    waiting = wait(client, mine, POSIX, SHARED)
    try:
        with client.service.ledger.transaction():
            client.service.session_ended(holder)
            raise ZeroDivisionError
    except ZeroDivisionError:
        assert waiting.answers == []
    end(client, holder)
    assert waiting.answers == DONE


def in_a_row(client: Client, count: int) -> list[tuple[Session, int]]:
    """Sessions that each hold byte i of a file and, the last aside, wait for byte i + 1."""
    sessions = [client.as_user(0) for _ in range(count)]
    handles = []
    for index, session in enumerate(sessions):
        with client.acting(session):
            handles.append(client.open("/a/f", BOTH))
            lock(client, handles[-1], POSIX, EXCLUSIVE, index, 1)
    for index, session in enumerate(sessions[:-1]):
        with client.acting(session):
            wait(client, handles[index], POSIX, EXCLUSIVE, index + 1, 1)
    return list(zip(sessions, handles, strict=True))


def test_who_would_wait_for_himself_is_told(client: Client) -> None:
    row = in_a_row(client, 5)
    session, handle = row[-1]
    with client.acting(session):
        with client.fails(errno.EDEADLK):
            wait(client, handle, POSIX, EXCLUSIVE, 0, 1)
        with client.fails(errno.EDEADLK):
            wait(client, handle, POSIX, SHARED, 3, 1)
    with client.acting(client.as_user(0)):
        wait(client, client.open("/a/f", BOTH), POSIX, EXCLUSIVE, 0, 0)  # holds nothing: no cycle
    end(client, row[2][0])
    with client.acting(session):
        wait(client, handle, POSIX, EXCLUSIVE, 0, 1)


def test_only_posix_locks_are_searched_for_cycles(client: Client) -> None:
    """As on the host: an open file description waits for nobody (fcntl_locking(2), F_OFD_SETLKW)."""
    one, two = client.open("/a/f", BOTH), client.open("/a/f", BOTH)
    for kind in (OFD, FLOCK):
        lock(client, one, kind, EXCLUSIVE, 0, 1)
        if kind == OFD:
            lock(client, two, kind, EXCLUSIVE, 1, 1)
            wait(client, one, kind, EXCLUSIVE, 1, 1)
        wait(client, two, kind, EXCLUSIVE, 0, 1)


def test_an_abandoned_wait_counts_no_more(client: Client) -> None:
    one, two = client.as_user(0), client.as_user(0)
    with client.acting(one):
        first = client.open("/a/f", BOTH)
        lock(client, first, POSIX, EXCLUSIVE, 0, 1)
    with client.acting(two):
        second = client.open("/a/f", BOTH)
        lock(client, second, POSIX, EXCLUSIVE, 1, 1)
    with client.acting(one):
        waiting = wait(client, first, POSIX, EXCLUSIVE, 1, 1)
    with client.acting(two), client.fails(errno.EDEADLK):
        wait(client, second, POSIX, EXCLUSIVE, 0, 1)
    waiting.deferred.drop(Reply(refusal=REFUSAL_OVERLOADED))
    with client.acting(two):
        wait(client, second, POSIX, EXCLUSIVE, 0, 1)
        lock(client, second, POSIX, UNLOCK)
    assert waiting.answers == [Reply(refusal=REFUSAL_OVERLOADED)]


def test_a_wait_s_arguments_are_those_of_a_lock(client: Client) -> None:
    handle = client.open("/a/f", READ)
    for bad, number in (
        (request(handle, POSIX, EXCLUSIVE, 0, 0), errno.EBADF),
        (request(99, POSIX, SHARED, 0, 0), errno.EBADF),
        (request(handle, POSIX, SHARED, 1 << 63, 1), errno.EINVAL),
        (request(handle, POSIX, SHARED, 1, 1 << 63), errno.EOVERFLOW),
    ):
        with client.fails(number):
            client.call(bad)


def test_the_heir_s_locks_are_its_parent_s_descriptions(client: Client) -> None:
    heir = client.as_user(0)
    one, two = client.open("/a/f", WRITE), client.open("/a/f")
    lock(client, one, FLOCK, EXCLUSIVE)
    waiting = wait(client, two, FLOCK, SHARED)
    inherit(client, heir)
    client.close(one)
    assert waiting.answers == []
    end(client, heir)
    assert waiting.answers == DONE
