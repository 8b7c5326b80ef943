"""Members of an epoll instance: one under several fds, fds that mean something else now, other processes'."""

import os
import select
from collections.abc import Callable, Iterator

import pytest

from client_vm import host
from client_vm.abi import common
from client_vm.abi.common import EPOLL_CTL_ADD, EPOLL_CTL_DEL, EPOLL_CTL_MOD, EPOLLIN, EPOLLOUT
from client_vm.epoll import EventPoll, make_epoll
from client_vm.errors import Errno
from client_vm.event_files import make_eventfd
from client_vm.host_files import HostBacked, make_pipe
from client_vm.nodes import NullFile


@pytest.fixture
def instance() -> Iterator[EventPoll]:
    made = make_epoll()
    yield made
    made.drop()


@pytest.fixture
def ends() -> Iterator[tuple[HostBacked, HostBacked]]:
    made = make_pipe(0)
    yield made
    for end in made:
        if end.users:
            end.drop()


def fails(number: int, call: object, *arguments: object) -> None:
    with pytest.raises(Errno) as caught:
        call(*arguments)  # type: ignore[operator]
    assert caught.value.errno == number


def test_one_description_under_two_fds(instance: EventPoll, ends: tuple[HostBacked, HostBacked]) -> None:
    reader, writer = ends
    before = len(os.listdir("/proc/self/fd"))
    instance.control(EPOLL_CTL_ADD, 3, reader, EPOLLIN, 30)
    instance.control(EPOLL_CTL_ADD, 4, reader, EPOLLIN, 40)
    fails(common.EEXIST, instance.control, EPOLL_CTL_ADD, 4, reader, EPOLLIN, 41)
    assert instance.take(9) == []
    writer.write(memoryview(b"x"))
    assert sorted(instance.take(9)) == [(EPOLLIN, 30), (EPOLLIN, 40)]
    instance.control(EPOLL_CTL_MOD, 4, reader, EPOLLIN, 44)
    instance.control(EPOLL_CTL_DEL, 3, reader, 0, 0)
    assert instance.take(9) == [(EPOLLIN, 44)]
    instance.control(EPOLL_CTL_ADD, 3, reader, EPOLLIN, 33)
    assert sorted(instance.take(9)) == [(EPOLLIN, 33), (EPOLLIN, 44)]
    for _ in range(20):  # the duplicate is used again
        instance.control(EPOLL_CTL_DEL, 4, reader, 0, 0)
        instance.control(EPOLL_CTL_ADD, 4, reader, EPOLLIN, 44)
    assert len(os.listdir("/proc/self/fd")) == before + 1


def test_a_description_that_ends_is_no_member(instance: EventPoll, ends: tuple[HostBacked, HostBacked]) -> None:
    reader, writer = ends
    for fd in (3, 4, 5):
        instance.control(EPOLL_CTL_ADD, fd, writer, EPOLLOUT, fd)
    assert len(instance.take(9)) == 3
    writer.drop()
    assert instance.take(9) == []
    assert reader.read([memoryview(bytearray(1))]) == 0  # its duplicates are closed, too


def test_an_fd_that_means_another_description(instance: EventPoll) -> None:
    first, second = make_eventfd(1, 0), make_eventfd(1, 0)
    instance.control(EPOLL_CTL_ADD, 3, first, EPOLLIN, 1)
    fails(common.ENOENT, instance.control, EPOLL_CTL_MOD, 3, second, EPOLLIN, 2)
    instance.control(EPOLL_CTL_ADD, 3, second, EPOLLIN, 2)
    assert sorted(instance.take(9)) == [(EPOLLIN, 1), (EPOLLIN, 2)]  # the first one lives on elsewhere
    first.drop()
    assert instance.take(9) == [(EPOLLIN, 2)]
    second.drop()


def test_what_another_process_added_can_be_changed(ends: tuple[HostBacked, HostBacked]) -> None:
    here = make_epoll()
    here.control(EPOLL_CTL_ADD, 3, ends[1], EPOLLOUT, 1)
    there = EventPoll(here.descriptor)  # as a fork's child has it that knows nothing of what comes later
    there.control(EPOLL_CTL_MOD, 3, ends[1], EPOLLOUT, 2)
    assert here.take(9) == [(EPOLLOUT, 2)]
    fails(common.EEXIST, there.control, EPOLL_CTL_ADD, 3, ends[1], EPOLLOUT, 1)
    there.control(EPOLL_CTL_DEL, 3, ends[1], 0, 0)
    assert here.take(9) == []
    here.drop()


def test_what_is_always_ready_is_no_member(instance: EventPoll, ends: tuple[HostBacked, HostBacked]) -> None:
    fails(common.EPERM, instance.control, EPOLL_CTL_ADD, 3, NullFile.__new__(NullFile), EPOLLIN, 1)
    fails(common.EINVAL, instance.control, 9, 3, ends[0], EPOLLIN, 1)
    fails(common.ENOENT, instance.control, EPOLL_CTL_DEL, 3, ends[0], 0, 0)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """What the host is asked for: (operation, data)."""
    found: list[tuple[int, int]] = []
    control = host.control_epoll

    def spied(instance: int, operation: int, descriptor: int, events: int, data: int) -> None:
        found.append((operation, data))
        control(instance, operation, descriptor, events, data)

    monkeypatch.setattr("client_vm.host.control_epoll", spied)
    return found


def test_the_host_is_told_what_has_changed_when_somebody_looks(
    instance: EventPoll, ends: tuple[HostBacked, HostBacked], told: list[tuple[int, int]]
) -> None:
    writer = ends[1]
    instance.control(EPOLL_CTL_ADD, 3, writer, EPOLLOUT, 1)
    for data in (2, 3):
        instance.control(EPOLL_CTL_DEL, 3, writer, 0, 0)
        fails(common.ENOENT, instance.control, EPOLL_CTL_DEL, 3, writer, 0, 0)
        fails(common.ENOENT, instance.control, EPOLL_CTL_MOD, 3, writer, EPOLLOUT, 9)
        instance.control(EPOLL_CTL_ADD, 3, writer, EPOLLIN, 9)
        fails(common.EEXIST, instance.control, EPOLL_CTL_ADD, 3, writer, EPOLLOUT, 9)
        instance.control(EPOLL_CTL_MOD, 3, writer, EPOLLOUT, data)
        assert instance.take(9) == [(EPOLLOUT, data)]
    del told[:]
    for _ in range(5):
        instance.control(EPOLL_CTL_MOD, 3, writer, EPOLLIN, 4)
        instance.control(EPOLL_CTL_DEL, 3, writer, 0, 0)
        instance.control(EPOLL_CTL_ADD, 3, writer, EPOLLOUT, 3)
    assert not told and instance.take(9) == [(EPOLLOUT, 3)] and not told
    instance.control(EPOLL_CTL_DEL, 3, writer, 0, 0)
    instance.control(EPOLL_CTL_ADD, 4, writer, EPOLLOUT, 5)
    assert not told and instance.take(9) == [(EPOLLOUT, 5)] and told == [(EPOLL_CTL_MOD, 5)]
    instance.control(EPOLL_CTL_DEL, 4, writer, 0, 0)
    assert instance.take(9) == [] and told[1:] == [(EPOLL_CTL_DEL, 0)]


def test_who_left_before_it_was_closed_is_gone_though_others_have_it(
    instance: EventPoll, ends: tuple[HostBacked, HostBacked]
) -> None:
    writer = ends[1]
    elsewhere = os.dup(writer.descriptor)
    instance.control(EPOLL_CTL_ADD, 3, writer, EPOLLOUT, 1)
    instance.control(EPOLL_CTL_ADD, 4, writer, EPOLLOUT, 2)
    assert len(instance.take(9)) == 2
    instance.control(EPOLL_CTL_DEL, 3, writer, 0, 0)
    instance.control(EPOLL_CTL_DEL, 4, writer, 0, 0)
    writer.drop()
    assert instance.take(9) == []
    os.close(elsewhere)


def asked(instance: EventPoll) -> None:
    instance.readiness()


def waited_for(instance: EventPoll) -> None:
    instance.waiters += 1


@pytest.mark.parametrize("seen", [asked, waited_for], ids=["poll", "another thread"])
def test_the_host_is_told_at_once_where_others_may_look(
    instance: EventPoll,
    ends: tuple[HostBacked, HostBacked],
    told: list[tuple[int, int]],
    seen: Callable[[EventPoll], None],
) -> None:
    instance.control(EPOLL_CTL_ADD, 3, ends[1], EPOLLOUT, 1)
    instance.control(EPOLL_CTL_MOD, 3, ends[1], EPOLLOUT, 2)
    seen(instance)
    instance.control(EPOLL_CTL_MOD, 3, ends[1], EPOLLOUT, 3)
    assert told[-1] == (EPOLL_CTL_MOD, 3) and select.select([instance.descriptor], [], [], 0)[0]
    instance.control(EPOLL_CTL_DEL, 3, ends[1], 0, 0)
    assert told[-1] == (EPOLL_CTL_DEL, 0) and not select.select([instance.descriptor], [], [], 0)[0]


def test_an_edge_is_told_anew_after_each_change(instance: EventPoll, ends: tuple[HostBacked, HostBacked]) -> None:
    edge = EPOLLOUT | common.EPOLLET
    instance.control(EPOLL_CTL_ADD, 3, ends[1], edge, 1)
    assert instance.take(9) == [(EPOLLOUT, 1)] and instance.take(9) == []
    instance.control(EPOLL_CTL_MOD, 3, ends[1], edge, 1)
    assert instance.take(9) == [(EPOLLOUT, 1)] and instance.take(9) == []
    instance.control(EPOLL_CTL_MOD, 3, ends[1], EPOLLOUT, 1)
    instance.control(EPOLL_CTL_MOD, 3, ends[1], edge, 1)
    assert instance.take(9) == [(EPOLLOUT, 1)] and instance.take(9) == []
