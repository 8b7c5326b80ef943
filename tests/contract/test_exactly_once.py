"""Every mutating operation on every carrier, its reply lost once and its request doubled: one effect, and the
same bytes each time, those of a run in which nothing went wrong, and the same rows and bytes in the store."""

import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.message import Message

from farcall.v1 import file_pb2, memory_pb2
from farcall.v1 import network_pb2 as net
from farcall.v1.session_pb2 import (
    SERVER_KIND_FILE,
    SERVER_KIND_NETWORK,
    Credentials,
    HelloRequest,
    HelloResponse,
)
from ipc.endpoint import Channel, Peer
from ipc.identity import identify
from ipc.limits import PROTOCOL_MAX, PROTOCOL_MIN
from ipc.message import Call, Reply, encode_request
from ipc.operations import BY_NAME, OPERATIONS
from ipc.seams import HostClock
from servers.dispatch import Dispatcher, encode_reply
from servers.file.extents import DATA_FILE
from servers.file.service import open_file_service
from servers.file.store import Store
from servers.ledger import MemoryLedger
from servers.memory import MemoryService
from servers.network.addresses import Egress
from servers.network.service import NetworkService
from servers.service import Handler, PackedHandler, Service
from tests.contract.carriers import CARRIERS, CLIENT_LIMIT_S, Carrier
from tests.faults import FaultyEndpoint
from tests.unit.serving import DIRECT, Caller, CountingRandom, ManualClock

CREATE = file_pb2.OPEN_FLAG_READ | file_pb2.OPEN_FLAG_WRITE | file_pb2.OPEN_FLAG_CREATE
EXCLUSIVE, APPEND = CREATE | file_pb2.OPEN_FLAG_EXCLUSIVE, CREATE | file_pb2.OPEN_FLAG_APPEND
TMPFILE = file_pb2.OPEN_FLAG_WRITE | file_pb2.OPEN_FLAG_TMPFILE
XATTR_CREATE = file_pb2.XATTR_FLAG_CREATE
HEIR, HEIR_SECRET = 2, (2).to_bytes(16, "little")
"""The second session of a service, as CountingRandom has it."""
TICKET = (2).to_bytes(16, "little")
"""The first that a file server lends by."""
FIRST_INO = 1 << 56
"""Of the first file that a fresh state makes."""


def place(path: bytes, **more: Any) -> file_pb2.Place:
    return file_pb2.Place(path=path, **more)


def lock(lock_type: file_pb2.LockType, **more: Any) -> Message:
    return file_pb2.LockRequest(handle=1, kind=file_pb2.LOCK_KIND_POSIX, type=lock_type, pid=1, **more)


def file_requests() -> list[tuple[Message, bytes]]:
    """Each mutating operation of the file server at least once; all succeed, most would fail if run twice."""
    return [
        (file_pb2.OpenRequest(place=place(b"/a"), handle=1, flags=EXCLUSIVE, mode=0o644), b""),
        (file_pb2.OpenRequest(place=place(b"/b"), handle=2, flags=APPEND, mode=0o644), b""),
        (file_pb2.PWriteRequest(handle=1, offset=2), b"written"),
        (file_pb2.PWriteRequest(handle=1, offset=100), b"large" * 20_000),
        (file_pb2.AppendRequest(handle=2), b"appended"),
        (file_pb2.AppendRequest(handle=2), b"large" * 20_000),
        (file_pb2.SetAttributesRequest(place=place(b"/a"), mode=0o600, size=50), b""),
        (file_pb2.MakeDirectoryRequest(place=place(b"/d"), mode=0o755), b""),
        (file_pb2.MakeNodeRequest(place=place(b"/fifo"), mode=stat.S_IFIFO | 0o600), b""),
        (file_pb2.MakeSymlinkRequest(place=place(b"/s"), target=b"a"), b""),
        (file_pb2.LinkRequest(source=place(b"/a"), target=place(b"/d/a")), b""),
        (file_pb2.RenameRequest(source=place(b"/a"), target=place(b"/c")), b""),
        (file_pb2.RemoveRequest(place=place(b"/s")), b""),
        (file_pb2.AllocateRequest(handle=1, offset=0, size_bytes=4096), b""),
        (file_pb2.SetXattrRequest(place=place(b"/c"), name=b"user.x", value=b"v", flags=XATTR_CREATE), b""),
        (file_pb2.RemoveXattrRequest(place=place(b"/c"), name=b"user.x"), b""),
        (file_pb2.OpenRequest(place=place(b"/"), handle=3, flags=TMPFILE, mode=0o600), b""),
        (file_pb2.LinkRequest(source=place(b"", directory=3, empty_ok=True), target=place(b"/t")), b""),
        (lock(file_pb2.LOCK_TYPE_WRITE), b""),
        (lock(file_pb2.LOCK_TYPE_UNLOCK, start=8, length=8), b""),
        (file_pb2.MapSharedRequest(handle=1, writable=True), b""),
        (file_pb2.InheritRequest(target_session=HEIR, target_secret=HEIR_SECRET), b""),
        (file_pb2.UnmapRequest(ino=FIRST_INO), b""),
        (file_pb2.LendRequest(handle=1), b""),
        (file_pb2.RedeemRequest(ticket=TICKET, handle=7), b""),
        (file_pb2.CloseRequest(handle=2), b""),
        # An errno is a result, too.
        (file_pb2.MakeDirectoryRequest(place=place(b"/d"), mode=0o755), b""),
    ]  # fmt: skip


def memory_requests() -> list[tuple[Message, bytes]]:
    """The same of the memory server."""
    requests: tuple[Message, ...] = (
        memory_pb2.GrantRequest(size_bytes=8192),
        memory_pb2.ReleaseRequest(size_bytes=4096),
        memory_pb2.CreateSegmentRequest(size_bytes=4096),
        memory_pb2.AdoptSegmentRequest(segment=1 << 40, size_bytes=8192),
        memory_pb2.InheritMemoryRequest(target_session=HEIR, target_secret=HEIR_SECRET, size_bytes=4096),
        memory_pb2.CreateSegmentRequest(size_bytes=100),
        memory_pb2.DropSegmentRequest(segment=1 << 40),
    )
    return [(request, b"") for request in requests]


def network_requests() -> list[tuple[Message, bytes]]:
    """The same of the network server. The host's ports are published by its own tests: no number is certain."""
    one, two, three = (number.to_bytes(16, "big") for number in (1, 2, 3))
    v4, stream, datagram = net.ADDRESS_FAMILY_IPV4, net.SOCKET_KIND_STREAM, net.SOCKET_KIND_DATAGRAM
    address = net.SocketAddress(host=bytes((127, 0, 0, 1)), port=7000)
    requests: tuple[Message, ...] = (
        net.HoldSocketRequest(socket=one, family=v4, kind=stream),
        net.HoldSocketRequest(socket=two, family=v4, kind=stream),
        net.HoldSocketRequest(socket=three, family=v4, kind=datagram),
        net.BindRequest(socket=one, address=address),
        net.ListenRequest(socket=one, backlog=3),
        net.ConnectRequest(socket=two, address=address),
        net.DropSocketRequest(socket=three),
        net.PublishRequest(address=address, port=7000),
    )
    more = [
        (net.DeliverRequest(socket_high=0, socket_low=2, position=0), b"delivered"),
        (net.DeliverRequest(socket_high=0, socket_low=2, position=9), b" once"),
        (net.HalfCloseRequest(socket=two), b""),
    ]
    return [(request, b"") for request in requests] + more


def open_network(directory: Path) -> Service:
    egress = Egress((), lambda _: False)
    return NetworkService(
        MemoryLedger(ManualClock(), CountingRandom()), CountingRandom(), egress, may_publish=False
    )


def network_effects(service: Service) -> dict[str, object]:
    """What the sockets of network_requests are, and what has come through them."""
    session = service.ledger.sessions()[0]
    collect = service.packed_handlers[BY_NAME["Collect"].opcode]
    one = (1).to_bytes(16, "big")
    found = service.handlers[BY_NAME["DescribeSocket"].opcode](session, net.DescribeSocketRequest(socket=one))
    connections: list[bytes] = []
    came = b""
    while accepted := bytes(collect(session, 0, 1, len(connections), b"", None)[1]):
        connections.append(accepted)
        name = net.Connection.FromString(accepted).socket
        halves = int.from_bytes(name[:8], "big"), int.from_bytes(name[8:], "big")
        while piece := bytes(collect(session, *halves, len(came), b"", None)[1]):
            came += piece
    return {"listening": str(found), "connections": connections, "came": came}


def open_file(directory: Path) -> Service:
    """Twins share the read-only layer: its inode numbers are theirs."""
    root = directory.parent / "root"
    root.mkdir(exist_ok=True)
    (directory / "state").mkdir(parents=True)
    return open_file_service(directory / "state", root, ManualClock(), CountingRandom())


def open_memory(directory: Path) -> Service:
    return MemoryService(MemoryLedger(ManualClock(), CountingRandom()), 1 << 20)


class Audited:
    """A service whose handlers' runs are counted, by opcode, and kept only if they succeeded."""

    def __init__(self, service: Service) -> None:
        self.kind, self.ledger, self.close = service.kind, service.ledger, service.close
        self.session_ended = service.session_ended
        self.runs: list[int] = []
        self.handlers: Mapping[int, Handler] = {
            code: self._counted(code, call) for code, call in service.handlers.items()
        }
        self.packed_handlers: Mapping[int, PackedHandler] = {
            code: self._counted(code, call) for code, call in service.packed_handlers.items()
        }

    def _counted(self, opcode: int, handler: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any) -> Any:
            self.runs.append(opcode)
            return handler(*arguments)

        return run


class Greeting(FaultyEndpoint):
    """Says the Hello that the carriers' test hosts leave to the server, and one for an heir."""

    kind = SERVER_KIND_FILE
    has_heir = False

    def hello(self, request: HelloRequest, peer: Peer) -> HelloResponse:
        ours = HelloRequest(
            protocol_min=PROTOCOL_MIN, protocol_max=PROTOCOL_MAX, kind=self.kind, credentials=Credentials()
        )
        answer = self.inner.hello(ours, peer)
        if not self.has_heir:
            self.has_heir = True
            heir = self.inner.hello(ours, peer)
            assert (heir.session, heir.secret) == (HEIR, HEIR_SECRET)
        return answer


TABLES = ("inode", "dentry", "extent", "xattr", "description", "handle", "lock", "mapping", "lent")
"""Of the file server's store: all its effects. The others are sessions, slots and numbers of host devices."""


def effects(service: Service, directory: Path) -> dict[str, object]:
    """Everything that calls have changed in the service, row by row and byte by byte."""
    if isinstance(service.ledger, Store):
        rows: dict[str, object] = {
            table: sorted(service.ledger.execute(f"SELECT * FROM {table}"), key=repr) for table in TABLES
        }
        return rows | {"data": (directory / "state" / DATA_FILE).read_bytes()}
    if service.kind == SERVER_KIND_NETWORK:
        return network_effects(service)
    usage = service.handlers[BY_NAME["Usage"].opcode](service.ledger.sessions()[0], memory_pb2.UsageRequest())
    assert isinstance(usage, memory_pb2.UsageResponse)
    return {"usage": usage.SerializeToString(deterministic=True)}


Outcome = tuple[list[bytes], dict[str, object]]
"""Replies, encoded, and effects."""


def undisturbed(service: Service, requests: list[tuple[Message, bytes]], directory: Path) -> Outcome:
    """What comes of it when nothing goes wrong."""
    with closing(service):
        greeting = Greeting(Dispatcher(service, ManualClock(), CountingRandom()))
        greeting.kind = service.kind
        caller = Caller(greeting, greeting.hello(HelloRequest(), DIRECT).session)
        replies = [encode_reply(caller.send(caller.new(encode_request(*request)))) for request in requests]
        return replies, effects(service, directory)


@pytest.fixture(params=["file", "memory", "network"])
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Audited, list[Any], Outcome]]:
    """A service, its requests, and what comes of them undisturbed."""
    opened, requests = {
        "file": (open_file, file_requests()),
        "memory": (open_memory, memory_requests()),
        "network": (open_network, network_requests()),
    }[request.param]
    expected = undisturbed(opened(tmp_path / "twin"), requests, tmp_path / "twin")
    service = Audited(opened(tmp_path / "real"))
    with closing(service):
        yield service, requests, expected


@pytest.mark.parametrize("carrier", CARRIERS, ids=lambda carrier: carrier.name)
async def test_lost_and_doubled(
    carrier: Carrier, case: tuple[Audited, list[Any], Outcome], tmp_path: Path
) -> None:
    service, requests, (expected, expected_effects) = case
    faulty = Greeting(Dispatcher(service, ManualClock(), CountingRandom()))
    faulty.kind = service.kind
    lost: list[Call] = []
    faulty.dropped = lost.append

    def client(channel: Channel, session: int) -> list[Reply]:
        replies = []
        for seq, request in enumerate(requests, 1):
            call, again = encode_request(*request), encode_request(*request)
            identify(call, session, 0, seq)
            identify(again, session, 0, seq)
            faulty.duplicate.add(call.opcode)
            faulty.drop_reply.add(call.opcode)
            unheard = channel.submit(call)
            retry = channel.submit(again)
            reply = channel.wait(retry, HostClock().monotonic_s() + CLIENT_LIMIT_S)
            assert reply is not None, OPERATIONS[call.opcode].name
            replies.append(reply)
            channel.release(retry)
            channel.release(unheard)
        return replies

    async with carrier.serve(faulty, tmp_path) as host:
        hello, channel = await host.connect()
        with closing(channel):
            replies = await host.run(lambda: client(channel, hello.session))
            found = effects(service, tmp_path / "real")
    assert found == expected_effects
    assert [encode_reply(reply) for reply in replies] == expected
    mutating = [reply for reply in faulty.replies if not reply.refusal]
    assert [encode_reply(reply) for reply in mutating[: 3 * len(requests)]] == [
        e for e in expected for _ in range(3)
    ]
    assert len(lost) == len(requests)
    changes = [opcode for opcode in service.runs if OPERATIONS[opcode].recorded]
    assert changes == [encode_request(*request).opcode for request in requests]


def test_no_mutating_operation_is_left_out() -> None:
    requests = (*file_requests(), *memory_requests(), *network_requests())
    sent = {encode_request(*request).opcode for request in requests}
    servers = ("farcall.v1.FileService", "farcall.v1.MemoryService", "farcall.v1.NetworkService")
    recorded = {op.opcode for op in OPERATIONS.values() if op.recorded and op.service in servers}
    assert sent == recorded
