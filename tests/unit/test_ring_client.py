"""The client's side of a ring at moments that a real server seldom hits: the test plays the server."""

import errno
import os
import resource
import select
import socket
from collections.abc import Iterator
from dataclasses import replace

import pytest

from ipc.endpoint import BrokenError, FullError
from ipc.limits import DATA_BYTES_MAX, RING_ENTRIES
from ipc.message import Call, MalformedError, Reply
from ipc.operations import BY_NAME, OPERATIONS
from ipc.passing import send_descriptors
from ipc.ring_layout import (
    CLIENT_SLEEPING,
    HAS_DESCRIPTOR,
    PASSED_TAG,
    SERVER_SLEEPING,
)
from ipc.seams import HostClock
from ipc.spin import LUCK_MAX, LUCKLESS
from tests.contract.carriers import CLIENT_LIMIT_S, PREAD, Doorbell, ping
from tests.unit.played_ring import Played, played_ring

now = HostClock().monotonic_s


@pytest.fixture
def ring() -> Iterator[Played]:
    with Doorbell() as doorbell, played_ring(doorbell) as played:
        yield played


class LastMoment:
    """A poll(2) before which the server completes a call and dies."""

    def __init__(self, ring: Played, tag: int) -> None:
        self.ring, self.tag = ring, tag
        self.real = select.poll()
        self.real.register(ring.channel.filenos()[1], select.POLLIN)

    def poll(self, timeout_ms: int | None) -> list[tuple[int, int]]:
        assert self.ring.words[CLIENT_SLEEPING] == 1
        if not self.ring.completed:
            self.ring.complete(self.tag, 6)
            self.ring.control.close()
        return self.real.poll(timeout_ms)


def test_a_reply_published_right_before_death_is_taken(ring: Played, monkeypatch: pytest.MonkeyPatch) -> None:
    tag, lost = ring.channel.submit(ping(1)), ring.channel.submit(ping(2))
    monkeypatch.setattr(ring.channel, "_poll", LastMoment(ring, tag))
    assert ring.channel.wait(tag, now() + CLIENT_LIMIT_S) == Reply(result=6)
    with pytest.raises(BrokenError):
        ring.channel.wait(lost, now() + CLIENT_LIMIT_S)
    assert ring.channel.wait(tag, None) == Reply(result=6), "it stays until it is released"


def test_full_and_the_server_is_dead(ring: Played) -> None:
    """Else a client would wait for room for ever."""
    for number in range(RING_ENTRIES):
        ring.channel.submit(ping(number))
    with pytest.raises(FullError):
        ring.channel.submit(ping(0))
    ring.control.close()
    with pytest.raises(BrokenError):
        ring.channel.submit(ping(0))


def test_no_room_in_the_arena_and_the_server_is_dead(ring: Played) -> None:
    large = Call(PREAD.opcode, bytes(24))
    with pytest.raises(FullError):
        for _ in range(RING_ENTRIES):
            ring.channel.submit(large, DATA_BYTES_MAX)
    ring.channel.submit(ping(0))
    ring.control.close()
    with pytest.raises(BrokenError):
        ring.channel.submit(large, DATA_BYTES_MAX)


def test_room_of_abandoned_tries_comes_back(ring: Played) -> None:
    """Submit takes completions that nobody waits for."""
    large = Call(PREAD.opcode, bytes(24))
    for _ in range(4 * RING_ENTRIES):
        tag = ring.channel.submit(large, DATA_BYTES_MAX)
        ring.channel.release(tag)
        ring.complete(tag)


def test_tags_in_use_are_skipped(ring: Played, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call may stay in flight while four billion others pass."""
    oldest = ring.channel.submit(ping(1))
    monkeypatch.setattr(ring.channel, "_next_tag", (1 << 32) - 1)
    tags = [ring.channel.submit(ping(2)), ring.channel.submit(ping(3))]
    assert oldest == 0 and tags == [(1 << 32) - 1, 1]


def test_a_sleeping_server_is_woken_once(ring: Played) -> None:
    ring.words[SERVER_SLEEPING] = 1
    ring.channel.submit(ping(1))
    ring.channel.submit(ping(2))
    assert ring.words[SERVER_SLEEPING] == 0
    assert ring.control.recv(16, socket.MSG_DONTWAIT) == b"\0"
    with pytest.raises(BlockingIOError):
        ring.control.recv(16, socket.MSG_DONTWAIT)


def test_other_rings_bells_and_bytes_on_the_control_socket(ring: Played) -> None:
    """Neither ends a wait, and neither is left to keep poll awake."""
    tag = ring.channel.submit(ping(1))
    for _ in range(5):
        ring.doorbell.sender.send(b"\0")
    ring.control.send(b"noise")
    assert ring.channel.wait(tag, now() + 0.02) is None
    assert ring.words[CLIENT_SLEEPING] == 0
    for descriptor in ring.channel.filenos():
        assert not select.select([descriptor], [], [], 0)[0]


def test_a_doorbell_without_a_sender_breaks_the_ring(ring: Played) -> None:
    tag = ring.channel.submit(ping(1))
    ring.doorbell.sender.close()
    with pytest.raises(BrokenError, match="doorbell"):
        ring.channel.wait(tag, now() + CLIENT_LIMIT_S)


def test_closed(ring: Played) -> None:
    tag = ring.channel.submit(ping(1))
    ring.channel.close()
    with pytest.raises(BrokenError, match="closed"):
        ring.channel.submit(ping(1))
    with pytest.raises(BrokenError, match="closed"):
        ring.channel.wait(tag, None)
    assert ring.control.recv(1) == b""


class Ticking(HostClock):
    """A clock that is 10 us further whenever it is asked."""

    def __init__(self) -> None:
        self.asked = 0

    def monotonic_s(self) -> float:
        self.asked += 1
        return self.asked * 1e-5


@pytest.mark.parametrize("processors", [1, 2])
def test_replies_are_looked_for_while_they_tend_to_come_soon(
    monkeypatch: pytest.MonkeyPatch, processors: int
) -> None:
    """Those of a server on another host never do, and whoever looks keeps a processor from others."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(processors)))
    clock = Ticking()
    with Doorbell() as doorbell, played_ring(doorbell, clock, spin_us=50) as ring:
        tag = ring.channel.submit(ping(1))

        def looked() -> bool:
            asked = clock.asked
            assert ring.channel.wait(tag, 0.0) is None
            return clock.asked - asked >= 5

        assert [looked() for _ in range(LUCK_MAX)] == [processors > 1] * LUCK_MAX
        assert [looked() for _ in range(LUCKLESS)].count(True) == (processors > 1)
        ring.complete(tag, 7)
        assert ring.channel.wait(tag, 0.0) == Reply(result=7)


GET_PATH = BY_NAME["GetPath"]
CARRYING = Call(GET_PATH.opcode, b"")


@pytest.fixture
def carrying(ring: Played, monkeypatch: pytest.MonkeyPatch) -> Played:
    """A ring on which GetPath's reply may have a descriptor."""
    monkeypatch.setitem(OPERATIONS, GET_PATH.opcode, replace(GET_PATH, carries_descriptor=True))
    return ring


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_a_descriptor_is_its_tries_own(carrying: Played) -> None:
    tags = [carrying.channel.submit(CARRYING) for _ in range(3)]
    before = open_descriptors()
    for tag in reversed(tags):
        carrying.hand(tag)
        carrying.complete(tag, flags=HAS_DESCRIPTOR)
    taken = []
    for tag in tags:
        reply = carrying.channel.poll(tag)
        assert reply is not None
        taken.append(reply.take_descriptor())
        carrying.channel.release(tag)
    assert len(set(taken)) == 3 and open_descriptors() == before + 3
    for descriptor in taken:
        assert not os.get_inheritable(descriptor)
        os.close(descriptor)


def test_a_descriptor_comes_before_its_completion(carrying: Played) -> None:
    """Whoever polls meanwhile reads it, and it is not taken for the server's end."""
    tag = carrying.channel.submit(CARRYING)
    carrying.hand(tag)
    assert carrying.channel.wait(tag, now() + 0.02) is None
    assert carrying.channel.poll(tag) is None
    carrying.complete(tag, flags=HAS_DESCRIPTOR)
    carrying.control.close()
    reply = carrying.channel.poll(tag)
    assert reply is not None and reply.descriptor >= 0


def test_descriptors_that_nobody_takes_are_closed(carrying: Played) -> None:
    before = open_descriptors()
    tags = [carrying.channel.submit(CARRYING) for _ in range(8)]
    carrying.channel.release(tags[0])  # abandoned: sent and announced
    carrying.channel.release(tags[1])  # abandoned: sent only
    for tag in tags[:7]:
        carrying.hand(tag)
    for tag in (0, 2, 3, 4):
        carrying.complete(tags[tag], flags=HAS_DESCRIPTOR)
    carrying.complete(tags[1])
    carrying.complete(tags[5])  # sent, not announced
    carrying.channel.collect()
    carrying.channel.release(tags[2])
    assert carrying.channel.wait(tags[5], None) == Reply()
    carrying.channel.close()  # with two replies, and a descriptor without one
    assert open_descriptors() == before - 1


@pytest.mark.parametrize("count", [0, 2])
def test_announced_but_not_one_descriptor(carrying: Played, count: int) -> None:
    before = open_descriptors()
    tag = carrying.channel.submit(CARRYING)
    if count:
        carrying.hand(tag, count)
    carrying.complete(tag, flags=HAS_DESCRIPTOR)
    with pytest.raises(MalformedError, match="announced"):
        carrying.channel.poll(tag)
    assert open_descriptors() == before


@pytest.mark.parametrize("flags", [2, 3, 1 << 63])
def test_unknown_flags(carrying: Played, flags: int) -> None:
    tag = carrying.channel.submit(CARRYING)
    carrying.complete(tag, flags=flags)
    with pytest.raises(MalformedError, match="flags"):
        carrying.channel.poll(tag)


def test_a_descriptor_where_none_belongs(ring: Played) -> None:
    before = open_descriptors()
    tag = ring.channel.submit(CARRYING)
    ring.hand(tag)
    ring.complete(tag, flags=HAS_DESCRIPTOR)
    with pytest.raises(MalformedError):
        ring.channel.poll(tag)
    assert open_descriptors() == before


def test_a_descriptor_beside_an_errno(carrying: Played) -> None:
    before = open_descriptors()
    tag = carrying.channel.submit(CARRYING)
    carrying.hand(tag)
    carrying.complete(tag, errno=errno.ENOENT, flags=HAS_DESCRIPTOR)
    with pytest.raises(MalformedError):
        carrying.channel.poll(tag)
    assert open_descriptors() == before


def test_descriptors_for_nobody_are_closed(carrying: Played) -> None:
    before = open_descriptors()
    tag = carrying.channel.submit(CARRYING)
    for wrong in (b"", b"abc", b"abcde", PASSED_TAG.pack(tag + 1)):
        send_descriptors(carrying.control, [wrong or b"x"], [carrying.control.fileno()])
    carrying.hand(tag)
    carrying.hand(tag)  # a second one for the same try
    carrying.complete(tag, flags=HAS_DESCRIPTOR)
    reply = carrying.channel.poll(tag)
    assert reply is not None and reply.descriptor >= 0
    carrying.channel.release(tag)
    assert open_descriptors() == before


def test_no_descriptor_is_left_in_this_process(carrying: Played) -> None:
    tag = carrying.channel.submit(CARRYING)
    carrying.hand(tag)
    carrying.complete(tag, flags=HAS_DESCRIPTOR)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, limits[1]))
    try:
        assert carrying.channel.poll(tag) == Reply(errno=errno.EMFILE)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_a_forked_childs_copy_is_forgotten(ring: Played) -> None:
    """Its end is not the ring's: the parent's copy of the control socket keeps it."""
    tag = ring.channel.submit(ping(1))
    child = os.fork()
    if not child:
        ring.channel.forget()
        try:
            ring.channel.poll(tag)
        except BrokenError:
            os._exit(0)
        os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    ring.complete(tag, 4)
    assert ring.channel.poll(tag) == Reply(result=4)


def test_forgotten_memory_is_unmapped(ring: Played) -> None:
    def mapped() -> int:
        with open("/proc/self/maps") as maps:
            return sum("farcall" in line or "memfd:test" in line for line in maps)

    before = mapped()
    ring.channel.forget()
    assert mapped() == before - 1
    ring.channel.collect()
    assert ring.channel.broken
