"""Where sockets meet: records with descriptors for who listens, how many wait, who is gone."""

import os
import socket
from collections.abc import Iterator

import pytest

from ipc.passing import close_all, receive_descriptors
from ipc.records import RECORD_BYTES
from ipc.rendezvous import PACKETS, STREAM, Backlog, FarEnds, make_ends


@pytest.fixture
def ends() -> Iterator[FarEnds]:
    watched = FarEnds()
    yield watched
    watched.close()


@pytest.fixture(params=[STREAM, PACKETS])
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[socket.socket, socket.socket]]:
    near, far = make_ends(request.param)
    with near, far:
        yield near, far


def connection() -> tuple[socket.socket, int]:
    """One side of a connection, and the descriptor of the other, which is given away."""
    near, far = make_ends(STREAM)
    return near, far.detach()


def accept(near: socket.socket) -> tuple[bytes, int]:
    record, descriptors, _ = receive_descriptors(near, RECORD_BYTES, 4)
    (descriptor,) = descriptors
    return record, descriptor


def test_a_connection_is_one_record(ends: FarEnds, pair: tuple[socket.socket, socket.socket]) -> None:
    near, far = pair
    ends.add(far, pytest.fail)
    backlog = Backlog(ends, far, 5)
    own, other = connection()
    with own:
        assert backlog.offer(b"who", other)
        own.send(b"hello")
        record, taken = accept(near)
        assert record == b"who".ljust(RECORD_BYTES, b"\0")
        assert os.read(taken, 9) == b"hello"
        with pytest.raises(BlockingIOError):
            accept(near)
        os.close(taken)


def test_no_more_wait_than_the_limit(ends: FarEnds, pair: tuple[socket.socket, socket.socket]) -> None:
    near, far = pair
    ends.add(far, pytest.fail)
    backlog = Backlog(ends, far, 2)
    own = []
    for number in range(2):
        one, other = connection()
        own.append(one)
        assert backlog.offer(b"%d" % number, other)
    one, other = connection()
    own.append(one)
    assert len(backlog) == 2
    assert not backlog.offer(b"2", other)
    told: list[int] = []
    backlog.when_room(lambda: told.append(len(backlog)))
    ends.look()
    assert told == []  # it may write, but there is no room
    os.close(accept(near)[1])
    ends.look()
    assert told == [1]
    assert backlog.offer(b"2", other)
    ends.look()
    assert told == [1]
    for number in (1, 2):
        record, taken = accept(near)
        assert record[:1] == b"%d" % number
        os.close(taken)
    close_all(each.detach() for each in own)


def test_more_than_the_host_keeps_come_in_order(ends: FarEnds, pair: tuple[socket.socket, socket.socket]) -> None:
    near, far = pair
    far.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    ends.add(far, pytest.fail)
    backlog = Backlog(ends, far, 100)
    own = []
    for number in range(50):
        one, other = connection()
        own.append(one)
        assert backlog.offer(b"%d" % number, other)
    assert len(backlog) == 50
    for number in range(50):
        record, taken = accept(near)
        assert record.rstrip(b"\0") == b"%d" % number
        os.close(taken)
        ends.look()
    assert not len(backlog)
    close_all(each.detach() for each in own)


def test_who_waits_is_hung_up_on(ends: FarEnds, pair: tuple[socket.socket, socket.socket]) -> None:
    near, far = pair
    gone: list[int] = []

    def leave() -> None:
        gone.append(far.fileno())
        ends.remove(far)

    ends.add(far, leave)
    far.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    backlog = Backlog(ends, far, 100)
    own = []
    for _ in range(20):
        one, other = connection()
        own.append(one)
        assert backlog.offer(b"", other)
    near.close()
    ends.look()
    assert gone == [far.fileno()]
    one, other = connection()
    with pytest.raises(BrokenPipeError):
        backlog.offer(b"", other)
    os.close(other)
    backlog.close()
    for each in own:
        assert each.recv(1) == b""
        each.close()
    one.close()


def test_both_directions_shut_hang_up(ends: FarEnds, pair: tuple[socket.socket, socket.socket]) -> None:
    near, far = pair
    gone: list[int] = []

    def leave() -> None:
        gone.append(far.fileno())
        ends.remove(far)

    ends.add(far, leave)
    near.shutdown(socket.SHUT_WR)
    ends.look()
    assert gone == []
    near.shutdown(socket.SHUT_RDWR)
    ends.look()
    ends.look()
    assert gone == [far.fileno()]


def test_what_is_readable_is_told(ends: FarEnds, pair: tuple[socket.socket, socket.socket]) -> None:
    near, far = pair
    got: list[bytes] = []
    ends.add(far, pytest.fail, lambda: got.append(far.recv(9)))
    near.send(b"one")
    ends.look()
    ends.look()
    assert got == [b"one"]
    writes = iter([True, False])
    ends.when_writable(far, lambda: next(writes))
    ends.look()
    near.send(b"two")
    ends.look()
    assert got == [b"one", b"two"]
    assert next(writes, None) is None, "asked until it was done, and no more"
