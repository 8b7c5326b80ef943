"""The caller's stdin and stdout as descriptions: what blocks, what is short, and what fails."""

import errno
import os
import select
import stat
from collections.abc import Iterator

import pytest

from client_vm.abi import common
from client_vm.descriptors import VIEWS_MAX
from client_vm.errors import Errno
from client_vm.host_files import HostStream, make_pipe
from client_vm.waiting import WouldBlock


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        try:
            os.close(end)
        except OSError as error:
            assert error.errno == errno.EBADF  # closed by the test


def room(size: int) -> memoryview:
    return memoryview(bytearray(size))


def fails(number: int, call: object, *arguments: object) -> None:
    with pytest.raises(Errno) as caught:
        call(*arguments)  # type: ignore[operator]
    assert caught.value.errno == number


def test_reading_nothing_waits_for_nothing(pipe: tuple[int, int]) -> None:
    assert HostStream(pipe[0]).read([]) == 0


def would_block(call: object, *arguments: object) -> tuple[tuple[int, int], ...]:
    with pytest.raises(WouldBlock) as caught:
        call(*arguments)  # type: ignore[operator]
    return caught.value.wait.descriptors


def test_what_would_block_says_what_for(pipe: tuple[int, int]) -> None:
    reader, writer = map(HostStream, pipe)
    assert would_block(reader.read, [room(1)]) == ((pipe[0], select.POLLIN),)
    data = memoryview(bytes(1 << 20))
    capacity = 0
    while capacity < 65536:
        capacity += writer.write(data)  # short, not failed
    assert would_block(writer.write, data) == ((pipe[1], select.POLLOUT),)
    assert writer.write(data[:0]) == 0
    assert reader.read([room(10)]) == 10
    assert os.get_blocking(pipe[0]) and os.get_blocking(pipe[1])  # the caller's flags are as they were


def test_a_pipe_of_the_guest_is_never_waited_for() -> None:
    reader, writer = make_pipe(common.O_NONBLOCK)
    assert (reader.flags, writer.flags) == (common.O_NONBLOCK, common.O_WRONLY | common.O_NONBLOCK)
    assert would_block(reader.read, [room(1)]) == ((reader.descriptor, select.POLLIN),)
    assert writer.write(memoryview(bytes(100_000))) == writer.pipe_size(None) == 65536
    assert would_block(writer.write, memoryview(b"x")) == ((writer.descriptor, select.POLLOUT),)
    assert stat.S_ISFIFO(reader.attributes().mode)
    assert reader.path() == b"pipe:[%d]" % reader.attributes().ino
    reader.drop()
    fails(common.EPIPE, writer.write, memoryview(b"x"))
    descriptor = writer.descriptor
    writer.drop()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


def test_a_broken_pipe(pipe: tuple[int, int]) -> None:
    os.close(pipe[0])
    fails(common.EPIPE, HostStream(pipe[1]).write, memoryview(b"x"))


def test_end_of_file(pipe: tuple[int, int]) -> None:
    os.close(pipe[1])
    assert HostStream(pipe[0]).read([room(5)]) == 0


def test_more_pieces_than_the_host_takes_are_a_short_read(pipe: tuple[int, int]) -> None:
    os.write(pipe[1], bytes(2 * VIEWS_MAX))
    assert HostStream(pipe[0]).read([room(1) for _ in range(VIEWS_MAX + 500)]) == VIEWS_MAX


def test_a_full_device() -> None:
    with open("/dev/full", "wb", buffering=0) as file:
        fails(common.ENOSPC, HostStream(file.fileno()).write, memoryview(b"x" * 10_000))


def test_pipes_have_no_offsets(pipe: tuple[int, int]) -> None:
    reader = HostStream(pipe[0])
    fails(common.ESPIPE, reader.seek, 0, common.SEEK_CUR)
    fails(common.ESPIPE, reader.pread, [room(1)], 0)
