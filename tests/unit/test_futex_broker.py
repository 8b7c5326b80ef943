"""Futexes between processes: a wake is promised to as many sleepers as there are, and never lost with one."""

import pytest

from client_vm.abi import common
from client_vm.errors import Errno
from client_vm.futex_broker import WORDS_MAX, FutexBroker, Wake

WORD = (1, 64)


def test_wakes_the_first_that_sleeps() -> None:
    broker = FutexBroker()
    for pid in (3, 4, 3):
        broker.register(pid, WORD, 1)
    assert broker.wake(2, (1, 68), 9) == []
    assert broker.wake(2, WORD, 1) == [Wake(3, WORD, 1)]
    assert broker.wake(2, WORD, 2) == [Wake(3, WORD, 1), Wake(4, WORD, 1)]
    assert broker.wake(2, WORD, 1) == []  # each has been promised


def test_the_callers_own_threads_are_its_own_business() -> None:
    broker = FutexBroker()
    broker.register(3, WORD, 1)
    assert broker.wake(3, WORD, 1) == []
    assert broker.wake(4, WORD, 1) == [Wake(3, WORD, 1)]


def test_one_that_sleeps_again_can_be_woken_again() -> None:
    broker = FutexBroker()
    broker.register(3, WORD, 1)
    assert broker.wake(2, WORD, 1)
    broker.register(3, WORD, -1)
    assert broker.wake(2, WORD, 1) == []
    broker.register(3, WORD, 1)
    assert broker.wake(2, WORD, 5) == [Wake(3, WORD, 1)]


def test_a_promise_to_the_dead_goes_to_others() -> None:
    broker = FutexBroker()
    for pid in (3, 4):
        broker.register(pid, WORD, 1)
    assert broker.wake(2, WORD, 1) == [Wake(3, WORD, 1)]
    assert broker.forget(3) == [Wake(4, WORD, 1)]
    assert broker.forget(4) == []
    assert broker.wake(2, WORD, 1) == []


def test_what_is_claimed_is_checked() -> None:
    broker = FutexBroker()
    for count in (-1, 0, 2, -2):
        with pytest.raises(Errno) as raised:
            broker.register(3, WORD, count)
        assert raised.value.errno == common.EINVAL
    for offset in range(WORDS_MAX):
        broker.register(3, (1, offset), 1)
    with pytest.raises(Errno) as raised:
        broker.register(3, (2, 0), 1)
    assert raised.value.errno == common.ENOMEM
    broker.register(3, (1, 0), 1)
    broker.register(4, (2, 0), 1)
