"""A worker's sleep over its rings and host descriptors."""

import os
import resource
import select
import signal
import socket
from collections.abc import Iterator

import pytest

from farcall.v1 import file_pb2
from ipc.client import Client, SessionLostError
from ipc.endpoint import Channel
from ipc.idle import Sleeper, sleep
from ipc.limits import REFUSAL_RETRY_S
from ipc.operations import OPERATIONS
from ipc.ring_layout import CLIENT_SLEEPING, COMPLETION, COMPLETIONS_OFFSET
from ipc.seams import HostClock
from tests.contract.carriers import CLIENT_LIMIT_S, Doorbell
from tests.unit.played_ring import Played, played_ring

GET = file_pb2.GetPathRequest(handle=1)
CLOCK = HostClock()
LONG_S = CLIENT_LIMIT_S


class Worker:
    """Two clients over played rings with one doorbell. `spare` is what the second reconnects to."""

    def __init__(self, rings: list[Played], doorbell: Doorbell, kept: Sleeper | None) -> None:
        self.kept = kept
        self.rings, self.doorbell = rings, doorbell
        self.spare = rings.pop()
        self.clients = [self._client(ring) for ring in rings]

    def _client(self, ring: Played) -> Client:
        def reconnect() -> Channel:
            return self.spare.channel

        return Client(
            ring.channel, session=1, opcodes=OPERATIONS.keys(), reconnect=reconnect, clock=CLOCK,
            pause=lambda seconds: None,
        )  # fmt: skip

    def sleep(self, *descriptors: tuple[int, int], timeout_s: float | None = LONG_S) -> list[tuple[int, int]]:
        if self.kept is None:
            return sleep(self.clients, descriptors, timeout_s)
        return self.kept.sleep(self.clients, descriptors, timeout_s)

    def ring_bell(self) -> None:
        self.doorbell.sender.send(b"\0")


@pytest.fixture(params=["once", "kept"])
def worker(request: pytest.FixtureRequest) -> Iterator[Worker]:
    with (
        Doorbell() as doorbell,
        played_ring(doorbell) as one,
        played_ring(doorbell) as two,
        played_ring(doorbell) as spare,
    ):
        yield Worker([one, two, spare], doorbell, Sleeper(CLOCK) if request.param == "kept" else None)


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    read, write = os.pipe()
    yield read, write
    os.close(read)
    os.close(write)


def slept(start_s: float) -> float:
    return CLOCK.monotonic_s() - start_s


def test_a_completion_that_is_there_already(worker: Worker, pipe: tuple[int, int]) -> None:
    pending = worker.clients[1].begin(GET)
    worker.rings[1].complete(0)
    start_s = CLOCK.monotonic_s()
    os.write(pipe[1], b"x")
    assert worker.sleep((pipe[0], select.POLLIN)) == [(pipe[0], select.POLLIN)], "descriptors have their turn"
    assert slept(start_s) < LONG_S / 2
    assert pending.result() is not None


def test_a_reply_that_another_call_collected(worker: Worker) -> None:
    """Its completion is taken and its bell swallowed before the sleep begins."""
    pending = worker.clients[0].begin(GET)
    worker.rings[0].complete(0)
    worker.rings[0].channel.collect()
    start_s = CLOCK.monotonic_s()
    assert worker.sleep() == []
    assert slept(start_s) < LONG_S / 2 and pending.result() is not None


def test_the_flag_is_set_while_asleep_only(worker: Worker) -> None:
    """A child plays the servers: it looks at the flags, completes, and rings only then."""
    pending = worker.clients[1].begin(GET)
    child = os.fork()
    if not child:
        resource.setrlimit(resource.RLIMIT_CPU, (int(LONG_S), int(LONG_S)))
        while not all(ring.words[CLIENT_SLEEPING] for ring in worker.rings):
            pass
        worker.rings[1].complete(0)
        worker.ring_bell()
        os._exit(0)
    assert worker.sleep(timeout_s=None) == []
    assert os.waitpid(child, 0)[1] == 0
    worker.rings[1].completed = 1
    assert not any(ring.words[CLIENT_SLEEPING] for ring in worker.rings)
    assert pending.result() is not None
    assert not select.select([worker.doorbell.receiver], [], [], 0)[0], "the doorbell was emptied"


@pytest.mark.parametrize("timeout_s", [0.0, -1.0, 0.0101])
def test_the_time_is_over(worker: Worker, pipe: tuple[int, int], timeout_s: float) -> None:
    worker.clients[0].begin(GET)
    start_s = CLOCK.monotonic_s()
    assert worker.sleep((pipe[0], select.POLLIN), timeout_s=timeout_s) == []
    assert slept(start_s) >= timeout_s


def test_descriptors_that_are_ready(worker: Worker, pipe: tuple[int, int]) -> None:
    read, write = pipe
    assert worker.sleep((write, select.POLLOUT), (read, select.POLLIN)) == [(write, select.POLLOUT)]
    os.write(write, b"x")
    ready = worker.sleep((read, select.POLLIN), (read, select.POLLPRI), (write, 0))
    assert ready == [(read, select.POLLIN)], "one descriptor asked for twice"
    closed = os.dup(read)
    os.close(closed)
    assert worker.sleep((closed, select.POLLIN)) == [(closed, select.POLLNVAL)]


def test_no_rings_at_all(pipe: tuple[int, int]) -> None:
    os.write(pipe[1], b"x")
    assert sleep([], [(pipe[0], select.POLLIN)], None) == [(pipe[0], select.POLLIN)]


def test_a_dead_server_wakes_its_callers_once_they_are_asked(worker: Worker) -> None:
    pending = worker.clients[1].begin(GET)
    worker.rings[1].control.close()
    for _ in range(3):
        start_s = CLOCK.monotonic_s()
        assert worker.sleep() == []
        assert slept(start_s) < LONG_S / 2
    assert pending.result() is None, "sent again"
    assert worker.clients[1].channel is worker.spare.channel
    assert worker.sleep(timeout_s=0.01) == []
    worker.spare.complete(0)
    worker.sleep()
    assert pending.result() is not None


def test_what_a_server_published_before_its_death_counts(worker: Worker) -> None:
    pending = worker.clients[1].begin(GET)
    worker.rings[1].complete(0)
    worker.rings[1].control.close()
    worker.sleep()
    assert pending.result() is not None
    assert worker.clients[1].channel is worker.rings[1].channel


def test_a_dead_server_that_nobody_asked_does_not_make_it_spin(worker: Worker) -> None:
    worker.clients[0].begin(GET)
    worker.rings[1].control.close()
    worker.sleep()
    before = resource.getrusage(resource.RUSAGE_SELF)
    start_s = CLOCK.monotonic_s()
    assert worker.sleep(timeout_s=0.1) == []
    assert slept(start_s) >= 0.1
    after = resource.getrusage(resource.RUSAGE_SELF)
    assert after.ru_nvcsw - before.ru_nvcsw < 20


def test_noise_on_a_control_socket_is_read(worker: Worker) -> None:
    worker.clients[0].begin(GET)
    worker.rings[1].control.send(b"noise")
    assert worker.sleep() == []
    start_s = CLOCK.monotonic_s()
    assert worker.sleep(timeout_s=0.02) == []
    assert slept(start_s) >= 0.02


def test_a_server_that_breaks_the_rules_loses_the_session(worker: Worker) -> None:
    pending = worker.clients[0].begin(GET)
    COMPLETION.pack_into(worker.rings[0].memory, COMPLETIONS_OFFSET, 77, 0, 0, 0, 0, 0, 0)
    worker.rings[0].words[32] = 1
    worker.sleep()
    with pytest.raises(SessionLostError):
        pending.result()


def test_a_refused_call_ends_the_sleep_when_it_is_due(worker: Worker) -> None:
    pending = worker.clients[0].begin(GET)
    COMPLETION.pack_into(worker.rings[0].memory, COMPLETIONS_OFFSET, 0, 0, 5, 0, 0, 0, 0)
    worker.rings[0].words[32] = 1
    assert pending.result() is None
    start_s = CLOCK.monotonic_s()
    assert worker.sleep() == []
    assert REFUSAL_RETRY_S / 2 <= slept(start_s) < LONG_S / 2


def test_a_doorbell_without_a_sender(worker: Worker) -> None:
    """No ring could wake this worker any more: all of them are broken, none makes it spin."""
    worker.clients[0].begin(GET)
    worker.doorbell.sender.close()
    worker.sleep()
    assert all(client.channel.broken for client in worker.clients)  # type: ignore[attr-defined]


def test_a_signal_does_not_end_it(worker: Worker) -> None:
    """PEP 475: what a native handler has to say comes with a bell."""
    previous = signal.signal(signal.SIGALRM, lambda number, frame: None)
    signal.setitimer(signal.ITIMER_REAL, 0.02)
    start_s = CLOCK.monotonic_s()
    try:
        assert worker.sleep(timeout_s=0.1) == []
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    assert slept(start_s) >= 0.1


def test_more_time_than_poll_can_count(worker: Worker) -> None:
    worker.clients[0].begin(GET)
    worker.ring_bell()
    assert worker.sleep(timeout_s=1e12) == []


def test_a_large_descriptor(worker: Worker) -> None:
    """Beyond what select(2) could watch."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limits[1], limits[1]))
    ours, theirs = socket.socketpair()
    try:
        large = 2000
        os.dup2(ours.fileno(), large)
        theirs.send(b"x")
        assert worker.sleep((large, select.POLLIN)) == [(large, select.POLLIN)]
        os.close(large)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        ours.close()
        theirs.close()


class Counting:
    """The host's clock; how often it was asked."""

    def __init__(self) -> None:
        self.asked = 0

    def monotonic_s(self) -> float:
        self.asked += 1
        return CLOCK.monotonic_s()

    def realtime_ns(self) -> int:
        return CLOCK.realtime_ns()


def test_looking_before_sleeping_is_given_up_where_it_is_in_vain() -> None:
    """A pipe that is quick is looked at; one that never has anything soon is slept for, mostly."""
    clock = Counting()
    sleeper = Sleeper(clock)
    reader, writer = os.pipe()
    try:
        for _ in range(100):
            assert sleeper.sleep([], [(reader, select.POLLIN)], 0.001) == []
        in_vain = clock.asked
        for _ in range(100):
            assert sleeper.sleep([], [(reader, select.POLLIN)], 0.001) == []
        assert clock.asked - in_vain < in_vain or len(os.sched_getaffinity(0)) == 1
        os.write(writer, b"x")
        for _ in range(200):
            assert sleeper.sleep([], [(reader, select.POLLIN)], None) == [(reader, select.POLLIN)]
        looked = clock.asked
        assert sleeper.sleep([], [(reader, select.POLLIN)], None) == [(reader, select.POLLIN)]
        assert clock.asked > looked or len(os.sched_getaffinity(0)) == 1
        looked = clock.asked
        assert sleeper.sleep([], [(reader, select.POLLIN)], 0.0) == [(reader, select.POLLIN)]
        assert clock.asked == looked  # who does not want to wait does not look longer
    finally:
        os.close(reader)
        os.close(writer)
