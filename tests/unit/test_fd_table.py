"""The fd table: numbers, references, and what a fork, an exec and an end do to them."""

import os
from collections.abc import Iterator

import pytest

from client_vm.abi import common
from client_vm.descriptors import FdTable, OpenFile, RemoteFile
from client_vm.errors import Errno
from client_vm.shared_offsets import MEMORY_BYTES, SharedOffsets


class File(OpenFile):
    """Counts how often it was let go."""

    def __init__(self, flags: int = 0) -> None:
        super().__init__(flags)
        self.released = 0
        self.unlocked = 0

    def release(self) -> None:
        self.released += 1

    def unlock_records(self) -> None:
        self.unlocked += 1


class Remote(RemoteFile):
    """Has no server."""

    def __init__(self) -> None:
        OpenFile.__init__(self, 0)
        self.released = 0

    def release(self) -> None:
        self.released += 1


@pytest.fixture
def offsets() -> Iterator[SharedOffsets]:
    descriptor = os.memfd_create("offsets")
    os.ftruncate(descriptor, MEMORY_BYTES)
    yield SharedOffsets(descriptor)
    os.close(descriptor)


def slot_of(file: OpenFile) -> int:
    return file._slot


def table_of(*files: OpenFile) -> FdTable:
    table = FdTable()
    for fd, file in enumerate(files):
        table.install(fd, file, False)
    return table


def fails(number: int, call: object, *arguments: object) -> None:
    with pytest.raises(Errno) as caught:
        call(*arguments)  # type: ignore[operator]
    assert caught.value.errno == number


def test_the_lowest_number_is_free_again_when_closed() -> None:
    table = table_of(*(File() for _ in range(5)))
    assert table.lowest_free() == 5
    table.close(3)
    table.close(1)
    assert [table.lowest_free(), table.lowest_free(2), table.lowest_free(4)] == [1, 3, 5]
    table.install(1, File(), False)
    assert table.lowest_free() == 3
    table.limit = 3
    fails(common.EMFILE, table.lowest_free)
    fails(common.EBADF, table.close, 3)


@pytest.mark.parametrize(
    ("highest", "capacity"), [(2, 64), (63, 64), (64, 128), (127, 128), (128, 256), (300, 512)]
)
def test_select_looks_at_as_many_fds_as_linux_has_room_for(highest: int, capacity: int) -> None:
    table = table_of(File())
    table.install(highest, File(), False)
    assert table.capacity() == capacity


def test_a_mere_path_is_not_looked_up() -> None:
    table = table_of(File(), File(common.O_PATH))
    assert table.lookup(0) is table.get(0)
    assert table.lookup(1) is None
    assert table.lookup(2) is None
    fails(common.EBADF, table.get, 2)


def test_exec_closes_what_is_marked() -> None:
    kept, marked = File(), File()
    table = table_of(kept)
    table.install(4, marked, True)
    table.close_for_exec()
    assert table.numbers() == [0]
    assert (kept.released, marked.released) == (0, 1)
    assert table.lowest_free() == 1


def test_what_replaces_an_fd_closes_it() -> None:
    old, new = File(), File()
    table = table_of(old)
    table.install(0, new, False)
    assert (old.released, new.released) == (1, 0)


def test_closing_any_fd_of_a_file_ends_the_processes_record_locks() -> None:
    file = File()
    table = table_of(file)
    file.users += 1
    table.install(1, file, False)
    table.close(1)
    assert file.unlocked == 0  # it never had any
    table.record_locked.add(file)
    borrowed = table.copy()  # a vfork child's
    borrowed.close(0)
    assert file.unlocked == 0
    file.users += 1
    table.install(1, file, False)
    table.close(1)
    assert (file.unlocked, file.released) == (1, 0)
    table.close(0)
    assert (file.unlocked, file.released) == (1, 1)  # the server ends them with the description


def test_offsets_and_flags_move_to_where_others_see_them(offsets: SharedOffsets) -> None:
    file = File(common.O_RDWR)
    file.offset = 12
    table = table_of(file)
    table.share(offsets)
    assert offsets.read(slot_of(file)) == (12, common.O_RDWR, 2)
    file.offset = 13
    file.update_flags(common.O_NONBLOCK | common.O_APPEND, common.O_NONBLOCK | common.O_NOATIME)
    assert offsets.read(slot_of(file)) == (13, common.O_RDWR | common.O_NONBLOCK, 2)
    offsets.set_offset(slot_of(file), 99)
    assert file.offset == 99
    table.unshare()
    assert offsets.read(slot_of(file))[2] == 1
    table.share(offsets)
    table.share(offsets)
    assert offsets.read(slot_of(file))[2] == 3
    table.close(0)
    assert offsets.read(slot_of(file))[2] == 2
    assert file.released == 1  # of this worker's reference


def test_a_description_under_two_fds_is_shared_once(offsets: SharedOffsets) -> None:
    file = File()
    table = table_of(file)
    file.users += 1
    table.install(7, file, False)
    table.share(offsets)
    assert offsets.read(slot_of(file))[2] == 2


def test_nothing_is_shared_if_not_everything_can_be(
    offsets: SharedOffsets, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = File(), File()
    table = table_of(first, second)
    table.share(offsets)
    table.unshare()
    third = File()
    table.install(2, third, False)
    monkeypatch.setattr("client_vm.shared_offsets.RUN_LOCK_SLOT", 3)
    fails(common.ENFILE, table.share, offsets)
    assert [offsets.read(slot_of(file))[2] for file in (first, second)] == [1, 1]


def test_a_clone_lets_go_of_what_only_others_had(offsets: SharedOffsets) -> None:
    both, parents = File(), File()
    parent = table_of(both, parents)
    child = parent.copy()
    child.close(1)
    child.share(offsets)
    parent.leave_behind()  # as the clone does it
    assert (both.released, parents.released) == (0, 1)
    assert both.users == 1
    assert offsets.read(slot_of(both))[2] == 2
    assert parent.numbers() == []
    assert child.get(0) is both


def test_what_a_vfork_child_opened_is_closed_when_it_goes() -> None:
    both, childs = File(), Remote()
    parent = table_of(both)
    child = parent.copy()
    child.install(5, childs, True)
    child.close_all()
    assert (both.released, childs.released) == (0, 1)
    assert parent.get(0) is both


def test_an_end_closes_what_the_host_has_and_tells_no_server(offsets: SharedOffsets) -> None:
    ours, servers = File(), Remote()
    table = table_of(ours, servers)
    table.share(offsets)
    table.abandon()
    assert (ours.released, servers.released) == (1, 0)
    assert [offsets.read(slot_of(file))[2] for file in (ours, servers)] == [1, 1]
