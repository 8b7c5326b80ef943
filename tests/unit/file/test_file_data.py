"""Bytes: extents of three kinds against a bytearray, the data file's free ranges, limits, durability."""

import errno
import os
import random
from pathlib import Path

import pytest

from farcall.v1 import file_pb2
from ipc.limits import DATA_BYTES_MAX
from servers.file import extents as extents_module
from servers.file import store as store_module
from servers.file.extents import DATA, DataFile
from servers.file.files import FILE_BYTES_MAX
from servers.file.store import Store
from servers.service import ErrnoError
from tests.unit.file.client import APPEND, CREATE, READ, TRUNCATE, WRITE, Client, at

SIZES = (1, 7, 100, 4096, 5000, 16_384, 65_536, 65_537, 200_000)


def check_store(client: Client) -> None:
    """Extents never overlap, agree with their rows, and share the data file out with its free ranges."""
    store = client.service.ledger
    assert isinstance(store, Store)
    columns = "ino, offset, length, kind, position, length(data)"
    rows = list(store.execute(f"SELECT {columns} FROM extent ORDER BY ino, offset"))
    last = (-1, 0)
    for ino, offset, length, kind, _, data in rows:
        assert length > 0
        assert ino != last[0] or offset >= last[1]
        assert data == (length if kind == 0 else None)
        last = (ino, offset + length)
    used = sorted((position, length) for _, _, length, kind, position, _ in rows if kind == DATA)
    end = 0
    for position, length in used:
        assert position >= end
        end = position + length
    data_file = client.service.tree.extents.data
    assert sum(length for _, length in used) + data_file.free_bytes() >= end


@pytest.mark.parametrize("seed", range(6))
def test_extents_behave_as_a_bytearray(client: Client, seed: int) -> None:
    choose = random.Random(seed)
    models: dict[int, bytearray] = {}
    paths = ["/big", "/h", "/new"]
    client.put("/new", b"")
    for path in paths:
        models[client.open(path, READ | WRITE)] = bytearray(client.get(path))
    store = client.service.ledger
    assert isinstance(store, Store)
    for step in range(400):
        handle = choose.choice(list(models))
        model = models[handle]
        offset = choose.choice([0, len(model), choose.randrange(400_000), choose.randrange(max(1, len(model)))])
        size = choose.choice(SIZES)
        draw = choose.random()
        if draw < 0.5:
            data = choose.randbytes(size)
            client.write(handle, offset, data)
            model.extend(bytes(max(0, offset - len(model))))
            model[offset : offset + size] = data
        elif draw < 0.6:
            place = at("", directory=handle, empty_ok=True)
            client.call(file_pb2.SetAttributesRequest(place=place, size=offset))
            del model[offset:]
            model.extend(bytes(offset - len(model)))
        elif draw < 0.7:
            client.call(file_pb2.AllocateRequest(handle=handle, offset=offset, size_bytes=size, punch=True))
            end = min(len(model), offset + size)
            model[offset:end] = bytes(max(0, end - offset))
        elif draw < 0.75:
            with pytest.raises(ErrnoError), store.transaction(), store.savepoint():
                client.service.packed_handlers[103](client.session, handle, offset, 0, b"?" * size, None)
                raise ErrnoError(errno.EIO)
        elif draw < 0.77:
            client.restart()
            store = client.service.ledger
            assert isinstance(store, Store)
        assert client.read(handle, offset, size) == bytes(model[offset : offset + size]), step
        if step % 40 == 0:
            assert client.read(handle, 0, DATA_BYTES_MAX) == bytes(model)
            check_store(client)
    for handle, model in models.items():
        assert client.read(handle, 0, DATA_BYTES_MAX) == bytes(model)
        assert client.stat("", directory=handle, empty_ok=True).size == len(model)
    check_store(client)


def test_data_file_space_is_used_again(client: Client) -> None:
    data_file = client.state / extents_module.DATA_FILE
    for _ in range(10):
        client.put("/one", b"1" * 300_000)
        client.put("/two", b"2" * 200_000)
    assert data_file.stat().st_size <= 1_100_000  # an overwrite needs its room before the old is free
    client.unlink("/one")
    client.unlink("/two")
    client.restart()
    assert data_file.stat().st_size == 0


def test_data_file_joins_free_ranges(tmp_path: Path) -> None:
    file = DataFile(tmp_path / "data", [(10, 5), (20, 5)])
    assert file.free_bytes() == 15
    file.free(10, 5)
    assert file.allocate(20) == 0
    assert file.allocate(1) == 25
    file.free(0, 20)
    file.free(25, 1)
    file.free(20, 5)
    assert file.allocate(26) == 0
    file.close()


def test_adjacent_large_writes_are_one_extent(client: Client) -> None:
    client.put("/large", b"")
    handle = client.open("/large", READ | WRITE)
    for number in range(8):
        client.append(handle, bytes([number]) * 100_000)
    assert len(client.service.tree.extents.map(client.stat("/large").ino)) == 1
    assert client.read(handle, 699_999, 2) == b"\x06\x07"


def test_small_writes_are_joined(client: Client) -> None:
    client.put("/small", b"")
    handle = client.open("/small", READ | WRITE)
    for number in range(1000):
        client.append(handle, b"%04d" % number)
    assert len(client.service.tree.extents.map(client.stat("/small").ino)) == 1
    assert client.read(handle) == b"".join(b"%04d" % number for number in range(1000))


def test_append_and_pwrite(client: Client) -> None:
    client.put("/u", b"abc")
    handle = client.open("/u", WRITE | APPEND)
    assert client.append(handle, b"de") == 5
    assert client.write(handle, 0, b"f") == 1  # as Linux does, whatever POSIX says
    assert client.get("/u") == b"abcdef"
    with client.fails(errno.EBADF):
        client.read(handle)
    reader = client.open("/u")
    for failing in (client.write, lambda handle, offset, data: client.append(handle, data)):
        with client.fails(errno.EBADF):
            failing(reader, 0, b"x")
    with client.fails(errno.EISDIR):
        client.read(client.open("/a"))


def test_limits(client: Client) -> None:
    client.put("/u", b"abc")
    handle = client.open("/u", READ | WRITE)
    with client.fails(errno.EFBIG):
        client.write(handle, FILE_BYTES_MAX, b"x")
    assert client.write(handle, FILE_BYTES_MAX - 1, b"xy") == 1
    with client.fails(errno.EINVAL):
        client.write(handle, (1 << 63) - 1, b"x")
    with client.fails(errno.EFBIG):
        client.truncate("/u", FILE_BYTES_MAX + 1)
    with client.fails(errno.EINVAL):
        client.read(handle, 1 << 63, 1)
    with client.fails(errno.EINVAL):
        client.read(handle, 0, DATA_BYTES_MAX + 1)
    assert client.read(handle, FILE_BYTES_MAX - 1, 10) == b"x"
    assert client.stat("/u").blocks == 16


def test_full_is_an_answer(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    client.put("/u", b"abc")
    handle = client.open("/u", READ | WRITE)
    with monkeypatch.context() as patch:
        patch.setattr(extents_module, "RESERVE_BYTES", 1 << 60)
        with client.fails(errno.ENOSPC):
            client.write(handle, 0, b"x")
        with client.fails(errno.ENOSPC):
            client.mkdir("/d")
        with client.fails(errno.ENOSPC):
            client.put("/v", b"")
        client.unlink("/u")  # gives room back, so it must work
    assert client.read(handle) == b"abc"


def test_blocks_count_pages_once(client: Client, lower: Path) -> None:
    assert client.stat("/big").blocks == os.stat(lower / "big").st_blocks
    client.chmod("/big", 0o600)
    assert client.stat("/big").blocks == os.stat(lower / "big").st_blocks
    client.put("/u", b"")
    handle = client.open("/u", WRITE)
    assert client.stat("/u").blocks == 0
    client.write(handle, 10, b"x")
    client.write(handle, 4000, b"x" * 200)
    assert client.stat("/u").blocks == 16
    client.write(handle, 1 << 20, b"x")
    assert client.stat("/u").blocks == 24
    client.truncate("/u", 1)
    assert client.stat("/u").blocks == 0  # what was written at 10 is cut off, byte 0 is a hole


def test_holes_and_data(client: Client) -> None:
    client.put("/u", b"x" * 10)
    handle = client.open("/u", READ | WRITE)
    client.write(handle, 100_000, b"y" * 10)

    def seek(offset: int, hole: bool) -> int:
        found: int = client.call(file_pb2.SeekRequest(handle=handle, offset=offset, hole=hole)).offset
        return found

    assert seek(0, False) == 0 and seek(0, True) == 10
    assert seek(10, False) == 100_000 and seek(100_001, True) == 100_010
    with client.fails(errno.ENXIO):
        seek(100_010, True)
    client.truncate("/u", 200_000)
    with client.fails(errno.ENXIO):
        seek(150_000, False)
    big = client.open("/big")
    assert client.call(file_pb2.SeekRequest(handle=big, offset=5, hole=False)).offset == 5
    assert client.call(file_pb2.SeekRequest(handle=big, offset=5, hole=True)).offset == 300_000


def test_sync_flushes_data_before_the_rows_that_name_it(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[str] = []
    names = {"fdatasync": "data", "fsync": "rows"}
    for call, what in names.items():
        monkeypatch.setattr(os, call, lambda fd, what=what: flushed.append(what))
    client.put("/u", b"x" * 100_000)
    client.call(file_pb2.SyncRequest(handle=client.open("/u")))
    assert flushed == ["data", "rows"]
    client.call(file_pb2.SyncRequest())
    assert flushed == ["data", "rows", "rows"]


class EndedError(Exception):
    """The process would have ended here."""


@pytest.mark.parametrize("call", ["fsync", "fdatasync"])
def test_a_failed_flush_ends_the_process(client: Client, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    def fail(fd: int) -> None:
        raise OSError(errno.EIO, "disk")

    def end(status: int) -> None:
        assert status == store_module.EXIT_STORE_FAILED
        raise EndedError

    client.put("/u", b"x" * 100_000)
    monkeypatch.setattr(os, call, fail)
    monkeypatch.setattr(os, "_exit", end)
    with pytest.raises(EndedError):
        client.call(file_pb2.SyncRequest())
    monkeypatch.undo()


def test_reads_go_into_the_callers_buffer(client: Client) -> None:
    client.put("/u", b"upper" * 20_000)
    for path in ("/u", "/big"):
        handle = client.open(path)
        room = memoryview(bytearray(65_536))
        count, data = client.service.packed_handlers[102](client.session, handle, 5, 1000, b"", room)
        assert count == 1000 and isinstance(data, memoryview) and data.obj is room.obj
        assert bytes(room[:1000]) == client.read(handle, 5, 1000)
        count, data = client.service.packed_handlers[102](client.session, handle, 0, 70_000, b"", room)
        assert count == 70_000 and len(data) == 70_000  # too small a room is not used


def test_a_lower_file_that_changes_beneath_is_refused(client: Client, lower: Path) -> None:
    handle = client.open("/h")
    (lower / "h").unlink()
    (lower / "h").write_bytes(b"another file")
    with client.fails(errno.ESTALE):
        client.read(handle)
    assert client.get("/h") == b"another file"


def test_truncating_open(client: Client) -> None:
    client.close(client.open("/big", WRITE | TRUNCATE))
    assert client.get("/big") == b""
    client.close(client.open("/h", READ | TRUNCATE))  # Linux truncates here too
    assert client.get("/h") == b""
    with client.acting(client.as_user(1000)), client.fails(errno.EACCES):
        client.open("/big", READ | TRUNCATE | CREATE)
