"""Donated lower files, and shared mappings: one memfd that guests, reads and writes all see, and the store in
the end."""

import errno
import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from farcall.v1 import file_pb2
from servers.file import mapped_bytes, mappings
from servers.service import Session, WithDescriptor
from tests.unit.file.client import APPEND, CREATE, DIRECTORY, PATH, READ, WRITE, Client
from tests.unit.file.test_file_inherit import inherit
from tests.unit.file.test_file_locks import end

BOTH = READ | WRITE
PAGE = 4096


@contextmanager
def descriptor(client: Client, request: Any) -> Iterator[int]:
    answer = client.call(request)
    assert isinstance(answer, WithDescriptor)
    try:
        yield answer.descriptor
    finally:
        os.close(answer.descriptor)


def fetch(client: Client, ino: int, length: int = PAGE, writable: bool = True) -> mmap.mmap:
    """The mapping, as a worker has it in its memory."""
    with descriptor(client, file_pb2.FetchMappingRequest(ino=ino)) as fd:
        return mmap.mmap(fd, length, access=mmap.ACCESS_WRITE if writable else mmap.ACCESS_READ)


def map_shared(client: Client, handle: int, writable: bool = True) -> int:
    response = client.call(file_pb2.MapSharedRequest(handle=handle, writable=writable))
    ino: int = response.attributes.ino
    return ino


def sync(client: Client, ino: int, offset: int = 0, length: int = 0) -> None:
    client.call(file_pb2.SyncMappingRequest(ino=ino, offset=offset, length=length))


def unmap(client: Client, ino: int) -> None:
    client.call(file_pb2.UnmapRequest(ino=ino))


def count(client: Client, table: str) -> int:
    rows: int = client.service.tree.store.value(f"SELECT count(*) FROM {table}")
    return rows


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


# Donation


def test_an_unmodified_lower_file_is_donated(client: Client, lower: Path) -> None:
    handle = client.open("/big")
    with descriptor(client, file_pb2.DonateRequest(handle=handle)) as one:
        with descriptor(client, file_pb2.DonateRequest(handle=handle)) as two:
            os.lseek(one, 100, os.SEEK_SET)
            assert os.read(two, 4) == bytes(range(4))  # an offset of its own
        assert client.read(handle, 5, 2) == bytes((5, 6))
        with pytest.raises(OSError):
            os.write(one, b"x")
        assert os.fstat(one).st_ino == (lower / "big").stat().st_ino
    answer = client.call(file_pb2.DonateRequest(handle=handle))
    os.close(answer.descriptor)
    assert answer.response.attributes.size == 300_000


def test_nothing_else_is_donated(client: Client) -> None:
    client.put("/new", b"ours")
    writer = client.open("/a/f", WRITE)
    handles = [client.open("/new"), writer, client.open("/a", READ | DIRECTORY), client.open("/a/f", PATH)]
    changed = client.open("/h")
    client.write(writer, 0, b"L")
    for handle in (*handles, changed):
        with client.fails(errno.EOPNOTSUPP):
            client.call(file_pb2.DonateRequest(handle=handle))
    with client.fails(errno.EBADF):
        client.call(file_pb2.DonateRequest(handle=99))


# Shared mappings


def test_reads_and_writes_and_stores_are_the_same_bytes(client: Client) -> None:
    handle = client.open("/a/f", BOTH)
    ino = map_shared(client, handle)
    memory = fetch(client, ino)
    assert memory[:12] == b"lower data\0\0"
    memory[0:5] = b"store"
    assert client.read(handle) == b"store data"
    client.write(handle, 6, b"DATA")
    client.append(handle, b" and more")
    assert memory[:20] == client.read(handle) + b"\0" == b"store DATA and more\0"
    other = client.open("/h", BOTH | APPEND)
    client.write(other, 0, b"!")
    assert memory[:20] == b"store DATA and more!"


def test_a_file_that_grows_and_shrinks(client: Client) -> None:
    handle = client.open("/new", BOTH | CREATE)
    client.write(handle, 0, b"x" * 5000)
    ino = map_shared(client, handle)
    memory = fetch(client, ino, 2 * PAGE)
    memory[5000:5003] = b"???"  # behind the end: no part of the file, as on the host
    client.write(handle, 5010, b"y")
    assert client.read(handle, 4999) == b"x" + bytes(10) + b"y" == memory[4999:5011]
    client.truncate("/new", 10)
    assert memory[:] == b"x" * 10 + bytes(2 * PAGE - 10)  # and no page of it is gone
    memory[20:22] = b"??"
    client.truncate("/new", 4 * PAGE)
    assert client.read(handle) == b"x" * 10 + bytes(4 * PAGE - 10)
    larger = fetch(client, ino, 4 * PAGE)
    larger[3 * PAGE] = 7
    assert client.read(handle, 3 * PAGE, 1) == b"\7"
    client.call(file_pb2.SetAttributesRequest(place=file_pb2.Place(path=b"/new"), size=0))
    assert larger[:] == bytes(4 * PAGE)
    client.write(handle, 0, b"z" * 100)
    client.call(file_pb2.AllocateRequest(handle=handle, offset=10, size_bytes=20, punch=True))
    assert memory[5:35] == b"z" * 5 + bytes(20) + b"z" * 5
    end(client, client.session)


def test_holes_and_data_of_what_was_stored(client: Client) -> None:
    handle = client.open("/sparse", BOTH | CREATE)
    client.truncate("/sparse", 100 * PAGE)
    memory = fetch(client, map_shared(client, handle), 100 * PAGE)
    memory[50 * PAGE + 5] = 1
    seek = file_pb2.SeekRequest(handle=handle, offset=0)
    assert client.call(seek).offset == 50 * PAGE
    assert client.call(file_pb2.SeekRequest(handle=handle, offset=50 * PAGE, hole=True)).offset == 51 * PAGE
    assert client.call(file_pb2.SeekRequest(handle=handle, offset=60 * PAGE, hole=True)).offset == 60 * PAGE
    with client.fails(errno.ENXIO):
        client.call(file_pb2.SeekRequest(handle=handle, offset=51 * PAGE))
    sync(client, client.stat("/sparse").ino)
    assert client.stat("/sparse").blocks == PAGE // 512


def test_msync_writes_back_what_differs_and_no_more(client: Client) -> None:
    handle = client.open("/big", BOTH)
    ino = map_shared(client, handle)
    before = client.stat("/big")
    sync(client, ino)
    assert client.stat("/big") == before and count(client, "extent") == 0
    memory = fetch(client, ino, 300_000)
    sync(client, ino)
    assert client.stat("/big") == before and count(client, "extent") == 0
    memory[10 * PAGE] ^= 0xFF
    memory[40 * PAGE + 7] ^= 0xFF
    sync(client, ino, 8 * PAGE, 8 * PAGE)
    after = client.stat("/big")
    assert after.mtime_ns != before.mtime_ns and after.generation != before.generation
    lengths = client.service.tree.store.execute("SELECT length FROM extent WHERE kind != 2")
    assert [length for (length,) in lengths] == [PAGE]
    expected = bytearray(memory)
    client.die()
    client.start()
    found = client.get("/big")
    assert found[10 * PAGE] == expected[10 * PAGE]
    assert found[40 * PAGE + 7] == expected[40 * PAGE + 7]  # stored, and not synced: the memfd has it


def test_the_next_server_goes_on_with_the_pages_that_somebody_has(client: Client) -> None:
    handle = client.open("/a/f", BOTH)
    ino = map_shared(client, handle)
    memory = fetch(client, ino)
    client.die()
    memory[0] = ord("L")
    client.start()
    assert client.read(handle) == b"Lower data"
    client.write(handle, 1, b"OW")
    client.append(handle, b"!")
    assert memory[:12] == b"LOWer data!\0" == fetch(client, ino)[:12]
    client.truncate("/a/f", 4)
    assert memory[:12] == b"LOWe" + bytes(8)
    client.restart()
    unmap(client, ino)
    assert client.get("/a/f") == b"LOWe"
    assert count(client, "pages") == 0


def test_an_orderly_stop_writes_back(client: Client, capfd: pytest.CaptureFixture[str]) -> None:
    handle = client.open("/a/f", BOTH)
    ino = map_shared(client, handle)
    memory = fetch(client, ino)
    memory[0] = ord("L")
    client.service.close()
    memory.close()
    client.start()
    assert client.read(handle) == b"Lower data"
    fetch(client, ino)[0] = 0
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("servers.file.extents.RESERVE_BYTES", 1 << 62)
        client.restart()
    assert "stores by mmap are lost" in capfd.readouterr().err
    assert client.read(handle) == b"Lower data"


def test_pages_that_nobody_has_any_more(client: Client, capfd: pytest.CaptureFixture[str]) -> None:
    handle = client.open("/a/f", BOTH)
    ino = map_shared(client, handle)
    memory = fetch(client, ino)
    memory[0] = ord("L")
    sync(client, ino)
    memory[1] = ord("O")
    memory.close()
    client.die()
    client.start()
    assert f"inode {ino}: nobody has its pages any more" in capfd.readouterr().err
    again = fetch(client, ino)
    assert again[:10] == b"Lower data"
    again[1] = ord("0")
    client.restart()
    assert capfd.readouterr().err == ""
    unmap(client, ino)
    assert client.get("/a/f") == b"L0wer data"


@pytest.mark.parametrize("committed", [False, True])
@pytest.mark.parametrize("grows", [False, True])
def test_a_death_between_memfd_and_store(
    client: Client, monkeypatch: pytest.MonkeyPatch, committed: bool, grows: bool
) -> None:
    """Of a write that is made again if it was not committed, and of a truncation."""
    client.truncate("/a/f", 100)
    handle = client.open("/a/f", BOTH)
    memory = fetch(client, map_shared(client, handle), 3 * PAGE)
    memory[200] = 1  # behind the end: never part of the file
    deadly = "store-committed" if committed else "store-commit"

    def die(name: str, _operation: str = "") -> None:
        if name == deadly:
            raise ZeroDivisionError

    at = 2 * PAGE if grows else 50
    written = (b"lower data" + bytes(90))[:at].ljust(at, b"\0") + b"x" * 100
    for change, expected in (
        (lambda: client.write(handle, at, b"x" * 100), written),
        (lambda: client.truncate("/a/f", PAGE if grows else 10), written[: PAGE if grows else 10]),
        (lambda: client.truncate("/a/f", 2 * PAGE), written[: PAGE if grows else 10].ljust(2 * PAGE, b"\0")),
    ):
        with monkeypatch.context() as patched:
            patched.setattr("servers.file.store.step", die)
            with pytest.raises(ZeroDivisionError):
                change()
        client.die()
        client.start()
        if not committed:
            change()
        assert client.read(handle) == expected
        assert memory[:] == expected.ljust(3 * PAGE, b"\0")


def test_the_last_who_may_store_writes_back(client: Client) -> None:
    heir, reader = client.as_user(0), client.as_user(0)
    handle = client.open("/a/f", BOTH)
    ino = map_shared(client, handle)
    memory = fetch(client, ino)
    inherit(client, heir)
    with client.acting(reader):
        theirs = client.open("/a/f")
        with client.fails(errno.EACCES):
            map_shared(client, theirs)
        map_shared(client, theirs, writable=False)
        seen = fetch(client, ino, writable=False)
        with descriptor(client, file_pb2.FetchMappingRequest(ino=ino)) as fd, pytest.raises(OSError):
            os.pwrite(fd, b"x", 0)
    memory[:5] = b"STORE"
    assert seen[:5] == b"STORE"
    unmap(client, ino)
    assert count(client, "extent") == 0  # the heir has it mapped yet
    end(client, heir)
    assert count(client, "extent") > 0
    before = open_descriptors()
    end(client, reader)
    assert open_descriptors() == before - 1
    assert client.read(handle) == b"STORE data"
    assert count(client, "mapping") == 0


@pytest.mark.parametrize("everything", [False, True])
def test_whoever_syncs_syncs_what_others_stored(client: Client, everything: bool) -> None:
    other = client.as_user(0)
    with client.acting(other):
        memory = fetch(client, map_shared(client, client.open("/a/f", BOTH)))
    handle = client.open("/a/f")
    memory[0] = ord("S")
    client.call(file_pb2.SyncRequest(handle=0 if everything else handle))
    assert count(client, "extent") > 0
    memory.close()
    client.die()
    client.start()
    assert client.read(handle) == b"Sower data"
    with client.fails(errno.EBADF):
        client.call(file_pb2.SyncRequest(handle=client.open("/a/f", PATH)))


def test_a_mapping_outlives_handle_and_name(client: Client) -> None:
    handle = client.open("/gone", BOTH | CREATE)
    client.write(handle, 0, b"here")
    ino = map_shared(client, handle)
    client.close(handle)
    client.unlink("/gone")
    client.restart()
    memory = fetch(client, ino)
    assert memory[:4] == b"here"
    memory[0] = 0
    before = open_descriptors()
    end(client, client.session)
    assert open_descriptors() == before - 1
    assert count(client, "inode WHERE nlink = 0") == count(client, "extent") == 0


def test_only_what_is_mapped_can_be_fetched(client: Client) -> None:
    ino = client.stat("/a/f").ino
    for request in (
        file_pb2.FetchMappingRequest(ino=ino),
        file_pb2.SyncMappingRequest(ino=ino),
        file_pb2.UnmapRequest(ino=ino),
    ):
        with client.fails(errno.EBADF):
            client.call(request)
    for path, flags, number in (
        ("/a/f", WRITE, errno.EACCES),
        ("/a/f", PATH, errno.EBADF),
        ("/a", READ, errno.ENODEV),
    ):
        with client.fails(number):
            map_shared(client, client.open(path, flags), writable=False)


def test_limits(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mappings, "MAPPINGS_MAX", 1)
    monkeypatch.setattr(mapped_bytes, "PAGES_BYTES_MAX", 100_000)
    big, small = client.open("/big", BOTH), client.open("/a/f")
    ino = map_shared(client, big, writable=False)
    map_shared(client, big)
    with client.fails(errno.ENOMEM):
        map_shared(client, small, writable=False)
    with client.fails(errno.ENOMEM):
        client.call(file_pb2.FetchMappingRequest(ino=ino))
    client.truncate("/big", 50_000)
    assert fetch(client, ino)[:4] == bytes(range(4))


def test_what_was_rolled_back_was_not_mapped(client: Client) -> None:
    handle = client.open("/a/f", BOTH)
    with pytest.raises(ZeroDivisionError), client.service.ledger.transaction():
        client.service.handlers[130](client.session, file_pb2.MapSharedRequest(handle=handle, writable=True))
        raise ZeroDivisionError
    with client.fails(errno.EBADF):
        unmap(client, client.stat("/a/f").ino)
    ino = map_shared(client, handle)
    memory = fetch(client, ino)
    memory[0] = 0
    with pytest.raises(ZeroDivisionError), client.service.ledger.transaction():
        client.service.session_ended(client.session)
        raise ZeroDivisionError
    assert client.read(handle, 0, 1) == b"\0"
    assert count(client, "extent") == 0
    unmap(client, ino)
    client.close(handle)
    assert client.get("/a/f") == b"\0ower data"


def test_stores_that_cannot_be_written_back(
    client: Client, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    other: Session = client.as_user(0)
    with client.acting(other):
        handle = client.open("/a/f", BOTH)
        ino = map_shared(client, handle)
        fetch(client, ino)[0] = 0
        monkeypatch.setattr("servers.file.extents.RESERVE_BYTES", 1 << 62)
        for request in (file_pb2.SyncMappingRequest(ino=ino), file_pb2.UnmapRequest(ino=ino)):
            with client.fails(errno.ENOSPC):
                client.call(request)
    end(client, other)
    assert "stores by mmap are lost" in capfd.readouterr().err
    assert client.get("/a/f") == b"lower data"
    assert count(client, "mapping") == 0
