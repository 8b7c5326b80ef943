"""The client's side of a ring at moments that a real server seldom hits: the test plays the server."""

import select
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from ipc.endpoint import BrokenError, FullError
from ipc.limits import DATA_BYTES_MAX, RING_ENTRIES
from ipc.message import Call, Reply
from ipc.ring_client import RingChannel
from ipc.ring_layout import (
    CLIENT_SLEEPING,
    COMPLETION,
    COMPLETION_TAIL,
    COMPLETIONS_OFFSET,
    HEADER_BYTES,
    RING_BYTES,
    SERVER_SLEEPING,
    write_header,
)
from ipc.seams import HostClock
from ipc.shared_memory import create_sealed, map_sealed
from tests.contract.carriers import CLIENT_LIMIT_S, PREAD, Doorbell, ping

now = HostClock().monotonic_s


@dataclass
class Played:
    """A ring whose server is the test."""

    channel: RingChannel
    memory: memoryview
    control: socket.socket
    doorbell: Doorbell
    completed: int = 0
    words: memoryview = field(init=False)

    def __post_init__(self) -> None:
        self.words = self.memory[:HEADER_BYTES].cast("Q")

    def complete(self, tag: int, result: int = 0) -> None:
        offset = COMPLETIONS_OFFSET + self.completed % RING_ENTRIES * COMPLETION.size
        COMPLETION.pack_into(self.memory, offset, tag, 0, 0, result, 0, 0, 0)
        self.completed += 1
        self.words[COMPLETION_TAIL] = self.completed


@pytest.fixture
def ring() -> Iterator[Played]:
    memfd = create_sealed("test", RING_BYTES)
    memory = map_sealed(memfd, RING_BYTES)
    write_header(memory, 1)
    ours, control = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with Doorbell() as doorbell, ours:
        channel = RingChannel(memfd, control, doorbell.receiver, clock=HostClock(), spin_us=0)
        yield Played(channel, memory, ours, doorbell)
        channel.close()


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


def test_a_reply_published_right_before_death_is_taken(
    ring: Played, monkeypatch: pytest.MonkeyPatch
) -> None:
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
