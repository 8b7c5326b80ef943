"""The memory server: grants, releases, the quota over all sessions, and what becomes of the dead's memory."""

import errno

import pytest

from farcall.v1.memory_pb2 import InheritMemoryRequest, InheritMemoryResponse, UsageRequest, UsageResponse
from farcall.v1.session_pb2 import SERVER_KIND_MEMORY
from ipc.endpoint import Peer
from ipc.message import Reply, decode_response, encode_request, pack_call
from ipc.operations import BY_NAME
from servers.dispatch import Dispatcher
from servers.ledger import MemoryLedger
from servers.memory import MemoryService, default_quota_bytes
from tests.contract.ledger_contract import FailureError
from tests.unit.serving import DIRECT, GRPC, Caller, CountingRandom, ManualClock, hello

QUOTA_BYTES = 10 << 20
GRANT = BY_NAME["Grant"]
RELEASE = BY_NAME["Release"]


class Memory:
    """A memory server of 10 MiB and its clock."""

    def __init__(self, quota_bytes: int = QUOTA_BYTES) -> None:
        self.clock = ManualClock()
        self.ledger = MemoryLedger(self.clock, CountingRandom())
        self.service = MemoryService(self.ledger, quota_bytes)
        self.dispatcher = Dispatcher(self.service, self.clock, CountingRandom())

    def caller(self, peer: Peer = DIRECT) -> Caller:
        return Caller(self.dispatcher, hello(self.dispatcher, peer, kind=SERVER_KIND_MEMORY).session, peer)


@pytest.fixture
def memory() -> Memory:
    return Memory()


def grant(caller: Caller, size_bytes: int) -> Reply:
    return caller.send(caller.new(pack_call(GRANT, size_bytes)))


def release(caller: Caller, size_bytes: int) -> Reply:
    return caller.send(caller.new(pack_call(RELEASE, size_bytes)))


def inherit(caller: Caller, heir: Caller, size_bytes: int, secret: bytes | None = None) -> Reply:
    session = caller.endpoint.sessions.live[heir.session].session  # type: ignore[attr-defined]
    request = InheritMemoryRequest(
        target_session=heir.session, target_secret=secret or session.secret, size_bytes=size_bytes
    )
    return caller.send(caller.new(encode_request(request)))


def usage(caller: Caller) -> UsageResponse:
    call = caller.pure(encode_request(UsageRequest()))
    response = decode_response(call, caller.send(call))
    assert isinstance(response, UsageResponse)
    return response


def test_grants_and_releases_add_up(memory: Memory) -> None:
    one, two = memory.caller(), memory.caller()
    assert grant(one, 4096) == Reply(result=4096)
    assert grant(one, 8192) == Reply(result=12288)
    assert grant(two, 100) == Reply(result=100)
    assert release(one, 4096) == Reply(result=8192)
    assert usage(one) == UsageResponse(
        quota_bytes=QUOTA_BYTES, granted_bytes=8292, session_bytes=8192, grants=3, releases=1
    )
    assert usage(two).session_bytes == 100


def test_the_quota_is_exact_and_over_all_sessions(memory: Memory) -> None:
    one, two = memory.caller(), memory.caller()
    assert grant(one, QUOTA_BYTES - 1).errno == 0
    assert grant(two, 2) == Reply(errno=errno.ENOMEM)
    assert grant(two, 1) == Reply(result=1)
    assert grant(one, 1) == Reply(errno=errno.ENOMEM)
    assert grant(one, 0) == Reply(result=QUOTA_BYTES - 1)
    assert usage(one).refused == 2
    assert release(two, 1) == Reply(result=0)
    assert grant(one, 1) == Reply(result=QUOTA_BYTES)


@pytest.mark.parametrize("size_bytes", [QUOTA_BYTES + 1, 1 << 63, (1 << 64) - 1])
def test_huge_sizes_are_refused_not_wrapped(memory: Memory, size_bytes: int) -> None:
    caller = memory.caller()
    grant(caller, 4096)
    assert grant(caller, size_bytes) == Reply(errno=errno.ENOMEM)
    assert release(caller, size_bytes) == Reply(errno=errno.EINVAL)
    assert usage(caller).session_bytes == 4096


def test_releasing_more_than_held_is_invalid(memory: Memory) -> None:
    one, two = memory.caller(), memory.caller()
    grant(one, 4096)
    assert release(one, 4097) == Reply(errno=errno.EINVAL)
    assert release(two, 1) == Reply(errno=errno.EINVAL)
    assert usage(one).granted_bytes == 4096 and usage(one).releases == 0


def test_a_repeated_grant_counts_once(memory: Memory) -> None:
    caller = memory.caller()
    for operation in (GRANT, RELEASE):
        call = caller.new(pack_call(operation, 4096))
        assert len({repr(caller.send(call)) for _ in range(3)}) == 1
    assert (usage(caller).grants, usage(caller).releases, usage(caller).granted_bytes) == (1, 1, 0)


def test_the_end_of_a_session_frees_what_it_held(memory: Memory) -> None:
    closed, expired, kept = memory.caller(), memory.caller(GRPC), memory.caller()
    for caller in (closed, expired, kept):
        grant(caller, 4096)
    memory.dispatcher.closed(closed.session, DIRECT)
    assert usage(kept).granted_bytes == 8192
    for _ in range(17):
        memory.clock.now_s += 1
        memory.dispatcher.expire()
    assert usage(kept).granted_bytes == usage(kept).session_bytes == 4096


def test_a_rolled_back_grant_is_undone(memory: Memory) -> None:
    caller = memory.caller()
    session = memory.ledger.session(caller.session)
    assert session is not None
    with pytest.raises(FailureError), memory.ledger.transaction():
        memory.service.grant(session, 4096, 0, 0, b"", None)
        memory.service.session_ended(session)
        raise FailureError
    assert usage(caller) == UsageResponse(quota_bytes=QUOTA_BYTES)


def test_a_quota_of_nothing_grants_nothing() -> None:
    assert grant(Memory(0).caller(), 1) == Reply(errno=errno.ENOMEM)
    with pytest.raises(ValueError):
        Memory(-1)
    assert default_quota_bytes() > 1 << 20


def test_a_child_is_granted_what_its_parent_asks(memory: Memory) -> None:
    parent, child, stranger = memory.caller(), memory.caller(), memory.caller(GRPC)
    grant(parent, 4096)
    reply = inherit(parent, child, 8192)
    assert InheritMemoryResponse.FromString(reply.body).granted_bytes == usage(child).session_bytes == 8192
    assert inherit(parent, child, QUOTA_BYTES) == Reply(errno=errno.ENOMEM)
    assert inherit(parent, child, 1, secret=b"x" * 16) == Reply(errno=errno.EPERM)
    assert inherit(parent, stranger, 1) == Reply(errno=errno.EPERM)
    assert inherit(parent, parent, 1) == Reply(errno=errno.EINVAL)
    memory.dispatcher.closed(parent.session, DIRECT)
    assert usage(child).granted_bytes == usage(child).session_bytes == 8192
