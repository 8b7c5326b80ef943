"""Pseudo-terminals of the kernel process: numbers that come and go."""

import fcntl
import os
from collections.abc import Iterator

import pytest

from client_vm.abi import common
from client_vm.errors import Errno
from client_vm.ptys import Ptys


@pytest.fixture
def ptys() -> Iterator[Ptys]:
    made = Ptys()
    yield made
    made.close()


def number_of(master: int) -> int:
    return int.from_bytes(fcntl.ioctl(master, common.TIOCGPTN, bytes(4)), "little")


def test_slaves_live_as_long_as_their_masters(ptys: Ptys) -> None:
    first, second = ptys.make(), ptys.make()
    one, two = number_of(first), number_of(second)
    assert sorted(ptys.all()) == sorted((one, two)) and ptys.gone() == []
    with pytest.raises(Errno) as locked:
        ptys.open(one)
    assert locked.value.errno == common.EIO
    fcntl.ioctl(first, common.TIOCSPTLCK, bytes(4))
    slave = ptys.open(one)
    assert os.ttyname(slave) == f"/dev/pts/{one}"
    os.close(first)
    assert list(ptys.all()) == [two] and ptys.gone() == [one]
    with pytest.raises(Errno) as gone:
        ptys.open(one)
    assert gone.value.errno == common.ENOENT
    os.close(second)
    os.close(slave)
    assert ptys.gone() == [two] and ptys.gone() == []


def test_a_number_given_away_again_is_told_as_gone(ptys: Ptys) -> None:
    first = ptys.make()
    number = number_of(first)
    os.close(first)
    others = [ptys.make()]
    while number_of(others[-1]) != number and len(others) < 8:
        others.append(ptys.make())
    assert ptys.gone() == [number]
    for master in others:
        os.close(master)


def test_nobody_elses_terminal_can_be_opened(ptys: Ptys) -> None:
    master, slave = os.openpty()
    with pytest.raises(Errno):
        ptys.open(number_of(master))
    os.close(master)
    os.close(slave)
