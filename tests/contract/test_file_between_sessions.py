"""What two workers share through the file server, on every carrier: descriptions, locks waited for, and, where
descriptors can be passed, the bytes of mapped files."""

import errno
import mmap
import os
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from farcall.v1 import file_pb2
from farcall.v1.session_pb2 import HelloResponse
from ipc.client import Client, UnsupportedError
from ipc.endpoint import Channel
from ipc.message import Reply
from ipc.seams import HostClock, HostRandom
from servers.dispatch import Dispatcher
from servers.file.service import open_file_service
from tests.contract.carriers import CARRIERS, CLIENT_LIMIT_S, Carrier
from tests.contract.test_exactly_once import Greeting

BOTH = file_pb2.OPEN_FLAG_READ | file_pb2.OPEN_FLAG_WRITE
FLOCK = {"kind": file_pb2.LOCK_KIND_FLOCK, "type": file_pb2.LOCK_TYPE_WRITE}
Worker = Callable[[Client, Client, bytes], None]


def worker(hello: HelloResponse, channel: Channel) -> Client:
    def no_way() -> Channel:
        raise AssertionError("the server is there")

    def no_pause(_seconds: float) -> None:
        raise AssertionError("nothing is refused")

    return Client(
        channel,
        session=hello.session,
        opcodes=hello.opcodes,
        reconnect=no_way,
        clock=HostClock(),
        pause=no_pause,
        server_timeout_s=CLIENT_LIMIT_S,
    )


def opened(client: Client, path: bytes) -> int:
    handle = client.new_handle()
    request = file_pb2.OpenRequest(place=file_pb2.Place(path=path), handle=handle, flags=BOTH)
    reply, _ = client.call(request)
    assert not reply.errno
    return handle


def taken(client: Client, request: Any) -> int:
    reply: Reply = client.call(request)[0]
    assert not reply.errno
    return reply.take_descriptor()


def awaited(pending: Any) -> Reply:
    """Its answer, which is on its way."""
    deadline = HostClock().monotonic_s() + CLIENT_LIMIT_S
    while (answer := pending.result()) is None:
        assert HostClock().monotonic_s() < deadline
    reply: Reply = answer[0]
    return reply


def wait_for_a_lock(one: Client, two: Client, _secret: bytes) -> None:
    mine, theirs = opened(one, b"/f"), opened(two, b"/f")
    assert one.call(file_pb2.LockRequest(handle=mine, **FLOCK))[0].errno == 0  # type: ignore[arg-type]
    lock = file_pb2.LockRequest(handle=theirs, **FLOCK)  # type: ignore[arg-type]
    assert two.call(lock)[0].errno == errno.EAGAIN
    given_up = two.begin(file_pb2.AwaitLockRequest(handle=theirs, **FLOCK))  # type: ignore[arg-type]
    pending = two.begin(file_pb2.AwaitLockRequest(handle=theirs, **FLOCK))  # type: ignore[arg-type]
    assert two.call(file_pb2.GetPathRequest(handle=theirs))[1].path == b"/f"
    assert pending.result() is None
    two.abandon(given_up)
    one.call(file_pb2.CloseRequest(handle=mine))
    assert awaited(pending).errno == 0
    assert two.call(lock)[0].errno == 0


def inherit_and_share(one: Client, two: Client, secret: bytes) -> None:
    handle = opened(one, b"/f")
    request = file_pb2.InheritRequest(target_session=two.session, target_secret=secret)
    assert one.call(request)[0].errno == 0
    one.call(file_pb2.CloseRequest(handle=handle))
    assert two.call(file_pb2.AppendRequest(handle=handle), b" inherited")[0].errno == 0
    reply, _ = two.call(file_pb2.PReadRequest(handle=handle, count=100), data_room=100)
    assert bytes(reply.data) == b"lower data inherited"


def map_the_same_bytes(one: Client, two: Client, _secret: bytes) -> None:
    mine, theirs = opened(one, b"/f"), opened(two, b"/f")
    donated = taken(one, file_pb2.DonateRequest(handle=mine))
    views = []
    for client, handle in ((one, mine), (two, theirs)):
        _, response = client.call(file_pb2.MapSharedRequest(handle=handle, writable=True))
        ino = response.attributes.ino
        fd = taken(client, file_pb2.FetchMappingRequest(ino=ino))
        views.append(mmap.mmap(fd, 4096))
        os.close(fd)
    views[0][:5] = b"STORE"
    reply, _ = two.call(file_pb2.PReadRequest(handle=theirs, count=100), data_room=100)
    assert bytes(reply.data) == bytes(views[1][:10]) == b"STORE data"
    one.call(file_pb2.PWriteRequest(handle=mine, offset=6), b"DATA")
    assert views[1][:10] == b"STORE DATA"
    assert os.pread(donated, 100, 0) == b"lower data"
    os.close(donated)
    assert two.call(file_pb2.SyncMappingRequest(ino=ino))[0].errno == 0
    for view in views:
        view.close()


def read_instead(one: Client, _two: Client, _secret: bytes) -> None:
    handle = opened(one, b"/f")
    with pytest.raises(UnsupportedError):
        one.call(file_pb2.DonateRequest(handle=handle))


async def between(carrier: Carrier, tmp_path: Path, act: Worker) -> None:
    root, state = tmp_path / "root", tmp_path / "state"
    root.mkdir()
    state.mkdir()
    (root / "f").write_bytes(b"lower data")
    service = open_file_service(state, root, HostClock(), HostRandom())
    endpoint = Greeting(Dispatcher(service, HostClock(), HostRandom()))
    endpoint.has_heir = True
    with closing(service):
        async with carrier.serve(endpoint, tmp_path) as host:
            (hello, channel), (second, other) = await host.connect(), await host.connect()
            secret = service.ledger.session(second.session).secret  # type: ignore[union-attr]
            with closing(worker(hello, channel)) as one, closing(worker(second, other)) as two:
                await host.run(lambda: act(one, two, secret))


@pytest.mark.parametrize("act", [wait_for_a_lock, inherit_and_share], ids=lambda act: act.__name__)
@pytest.mark.parametrize("carrier", CARRIERS, ids=lambda carrier: carrier.name)
async def test_shared_by_two_sessions(carrier: Carrier, act: Worker, tmp_path: Path) -> None:
    await between(carrier, tmp_path, act)


@pytest.mark.parametrize("carrier", CARRIERS, ids=lambda carrier: carrier.name)
async def test_bytes_shared_by_descriptors(carrier: Carrier, tmp_path: Path) -> None:
    """A carrier between hosts has none, and says so before anything is done."""
    await between(carrier, tmp_path, read_instead if carrier.name == "gRPC unary" else map_the_same_bytes)
