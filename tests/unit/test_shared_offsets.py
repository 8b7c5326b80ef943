"""Offsets that several processes share: counted, locked, and freed by the dead."""

import multiprocessing
import os
import signal
import struct
from collections.abc import Callable, Iterator

import pytest

from client_vm import shared_offsets
from client_vm.abi import common
from client_vm.errors import Errno
from client_vm.shared_offsets import FIRST_THREAD, MEMORY_BYTES, EventCounts, SharedOffsets

FORK = multiprocessing.get_context("fork")
LIMIT_S = 30


@pytest.fixture
def offsets() -> Iterator[SharedOffsets]:
    descriptor = os.memfd_create("offsets")
    os.ftruncate(descriptor, MEMORY_BYTES)
    yield SharedOffsets(descriptor)
    os.close(descriptor)


def in_processes(count: int, call: Callable[[], None]) -> list[int | None]:
    """The exit codes of so many processes that each make the call."""
    workers = [FORK.Process(target=call) for _ in range(count)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(LIMIT_S)
        assert worker.exitcode is not None
    return [worker.exitcode for worker in workers]


def test_a_slot_is_used_again_when_nobody_has_it(offsets: SharedOffsets) -> None:
    first, second = offsets.take(7, common.O_APPEND), offsets.take(8, 0)
    assert first != second and 0 not in (first, second)
    assert offsets.read(first) == (7, common.O_APPEND, 1)
    offsets.change_users(first, 1)
    offsets.change_users(first, -1)
    assert offsets.read(first)[2] == 1
    offsets.change_users(first, -1)
    assert offsets.take(9, 1) == first
    assert offsets.read(first) == (9, 1, 1)
    assert offsets.read(second) == (8, 0, 1)
    assert offsets.take(0, 0) not in (first, second)


def test_offsets_of_large_files(offsets: SharedOffsets) -> None:
    slot = offsets.take((1 << 63) - 1, 0xFFFFFFFF)
    assert offsets.read(slot) == ((1 << 63) - 1, 0xFFFFFFFF, 1)


def test_full_is_an_ordinary_answer(offsets: SharedOffsets, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_offsets, "RUN_LOCK_SLOT", 3)
    taken = [offsets.take(0, 0) for _ in range(2)]
    with pytest.raises(Errno) as caught:
        offsets.take(0, 0)
    assert caught.value.errno == common.ENFILE
    offsets.change_users(taken[0], -1)
    assert offsets.take(5, 5) == taken[0]


def test_no_thread_id_twice(offsets: SharedOffsets) -> None:
    reader, writer = os.pipe()

    def number() -> None:
        for _ in range(500):
            os.write(writer, struct.pack("<I", offsets.next_id()))

    assert in_processes(4, number) == [0] * 4
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        numbers = [value for (value,) in struct.iter_unpack("<I", file.read())]
    assert sorted(numbers) == list(range(FIRST_THREAD, FIRST_THREAD + 2000))


def test_a_lock_is_one_at_a_time(offsets: SharedOffsets) -> None:
    slot = offsets.take(0, 0)

    def add() -> None:
        for _ in range(2000):
            with offsets.locked(slot):
                offsets.set_offset(slot, offsets.read(slot)[0] + 1)

    assert in_processes(3, add) == [0] * 3
    assert offsets.read(slot)[0] == 6000


def test_the_dead_hold_no_lock(offsets: SharedOffsets) -> None:
    slot = offsets.take(0, 0)

    def die() -> None:
        with offsets.locked(slot):
            os.kill(os.getpid(), signal.SIGKILL)

    assert in_processes(1, die) == [-signal.SIGKILL]
    with offsets.locked(slot):
        offsets.set_offset(slot, 3)
    assert offsets.read(slot)[0] == 3


def test_counts_of_events_are_each_process_s_own() -> None:
    descriptor = os.memfd_create("counts")
    os.ftruncate(descriptor, MEMORY_BYTES)
    counts, workers = EventCounts(descriptor), SharedOffsets(descriptor)
    counts.set(2, 7)
    counts.set(FIRST_THREAD, 1)  # beyond: nothing happens
    assert [list(workers.events_of(pid)) for pid in (1, 2, 3, FIRST_THREAD)] == [[0], [7], [0], [0]]
    assert workers.take(1, 2) and list(workers.events_of(2)) == [7]
    os.close(descriptor)
