"""Calls that are begun and asked for later, over the direct carrier and a clock of its own."""

import math
import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest

from farcall.v1 import file_pb2
from farcall.v1.session_pb2 import (
    REFUSAL_MALFORMED,
    REFUSAL_OVERLOADED,
    REFUSAL_UNSUPPORTED,
    HelloRequest,
    HelloResponse,
)
from ipc.client import Client, Pending, ServerTimeoutError, SessionLostError, UnsupportedError
from ipc.direct import DirectChannel
from ipc.endpoint import Channel, Peer
from ipc.limits import DATA_BYTES_MAX, REFUSAL_RETRY_S, RING_ENTRIES, SLOTS_MAX
from ipc.message import Call, Reply
from ipc.operations import BY_NAME, BY_REQUEST, OPERATIONS
from tests.unit.test_client import Clock

GET_PATH, MAKE, ABANDON, PREAD = (BY_NAME[name] for name in ("GetPath", "MakeDirectory", "Abandon", "PRead"))
PEER = Peer("uid:0", "direct")


@dataclass
class Silent:
    """A server that answers when the test says so, and PRead at once with the data "data"."""

    calls: list[Call] = field(default_factory=list)
    completes: list[Callable[[Reply], None]] = field(default_factory=list)

    def hello(self, request: HelloRequest, peer: Peer) -> HelloResponse:
        return HelloResponse(session=1)

    def submit(
        self, call: Call, peer: Peer, complete: Callable[[Reply], None], into: memoryview | None = None
    ) -> None:
        if call.opcode == PREAD.opcode:
            complete(Reply(result=4, data=memoryview(b"data")))
            return
        self.calls.append(call)
        self.completes.append(complete)

    def closed(self, session: int, peer: Peer) -> None:
        pass

    def identities(self) -> list[tuple[int, int]]:
        return [(call.slot, call.seq) for call in self.calls]


class Rig:
    """A client and its server."""

    def __init__(self, *, timeout_s: float | None = None, opcodes: set[int] | None = None) -> None:
        self.clock = Clock()
        self.server = Silent()
        self.channels: list[DirectChannel] = []
        self.pauses: list[float] = []
        self.client = Client(
            self.connect(), session=1, opcodes=opcodes or OPERATIONS.keys(), reconnect=self.connect,
            clock=self.clock, pause=self.pauses.append, server_timeout_s=timeout_s,
        )  # fmt: skip

    def connect(self) -> Channel:
        self.channels.append(DirectChannel(self.server, PEER, 1))
        return self.channels[-1]

    def read(self) -> Reply:
        return self.client.call_packed(PREAD, 1, 0, 4, room=4)


def path(text: bytes) -> Reply:
    return Reply(body=file_pb2.GetPathResponse(path=text).SerializeToString())


GET = file_pb2.GetPathRequest(handle=1)
MKDIR = file_pb2.MakeDirectoryRequest(place=file_pb2.Place(path=b"d"))


@pytest.fixture(autouse=True)
def late(monkeypatch: pytest.MonkeyPatch) -> None:
    """GetPath is an operation that may answer late, with a descriptor."""
    operation = replace(GET_PATH, deferred=True, carries_descriptor=True)
    monkeypatch.setitem(OPERATIONS, GET_PATH.opcode, operation)
    monkeypatch.setitem(BY_REQUEST, GET_PATH.request, operation)


def test_others_go_on_meanwhile() -> None:
    rig = Rig()
    pending = [rig.client.begin(GET) for _ in range(3)]
    assert bytes(rig.read().data) == b"data"
    assert [one.result() for one in pending] == [None] * 3
    assert not rig.client.has_news() and rig.client.due_s() == math.inf
    for index in (2, 0, 1):
        rig.server.completes[index](path(b"%d" % index))
        assert rig.client.has_news()
        reply, response = pending[index].result() or (Reply(), file_pb2.GetPathResponse())
        assert response.path == b"%d" % index
        assert pending[index].result() == (reply, response), "it stays"
        assert not rig.client.has_news()
    assert len(set(rig.server.identities())) == 3
    assert all(slot >= SLOTS_MAX and not seq for slot, seq in rig.server.identities())


def test_an_errno() -> None:
    rig = Rig()
    pending = rig.client.begin(GET)
    rig.server.completes[0](Reply(errno=35))
    assert pending.result() == (Reply(errno=35), None)


def test_recorded_calls_move_their_slot_on() -> None:
    rig = Rig()
    first = rig.client.begin(MKDIR, slot=7)
    with pytest.raises(AssertionError, match="pending in slot 7"):
        rig.client.begin(MKDIR, slot=7)
    with pytest.raises(AssertionError, match="pending in slot 7"):
        rig.client.call(MKDIR, slot=7)
    other = rig.client.begin(MKDIR, slot=8)
    for complete in rig.server.completes:
        complete(Reply())
    assert first.result() == other.result() == (Reply(), file_pb2.MakeDirectoryResponse())
    rig.client.begin(MKDIR, slot=7)
    assert rig.server.identities() == [(0, 1), (1, 1), (0, 2)]
    with pytest.raises(AssertionError, match="must be known"):
        rig.client.abandon(other)


@pytest.mark.parametrize("how", ["asked", "another call"])
def test_a_broken_carrier_is_replaced(how: str) -> None:
    """By whoever notices first; both calls are sent again, unchanged."""
    rig = Rig()
    pending = [rig.client.begin(GET), rig.client.begin(MKDIR)]
    old = rig.client.channel
    rig.channels[0].sever()
    assert rig.client.has_news()
    if how == "another call":
        rig.read()
        assert rig.client.has_news()
    assert [one.result() for one in pending] == [None, None]
    assert rig.client.channel is not old and len(rig.channels) == 2
    assert not rig.client.has_news()
    assert rig.server.identities()[:2] == rig.server.identities()[2:]
    for complete in rig.server.completes:
        complete(Reply())
    assert all(one.result() is not None for one in pending)


def test_not_now_is_asked_again_after_a_pause() -> None:
    rig = Rig()
    pending = rig.client.begin(MKDIR)
    rig.server.completes[0](Reply(refusal=REFUSAL_OVERLOADED))
    assert pending.result() is None
    assert rig.client.due_s() == pytest.approx(REFUSAL_RETRY_S) and not rig.client.has_news()
    assert pending.result() is None and len(rig.server.calls) == 1, "not before its time"
    rig.clock.now_s += REFUSAL_RETRY_S
    assert rig.client.due_s() == 0
    assert pending.result() is None
    assert rig.server.identities() == [(0, 1), (0, 1)] and rig.client.due_s() == math.inf
    assert rig.pauses == []


def test_full_when_begun() -> None:
    rig = Rig()
    pending = [rig.client.begin(GET) for _ in range(RING_ENTRIES + 1)]
    assert len(rig.server.calls) == RING_ENTRIES and rig.client.due_s() == 0
    assert pending[-1].result() is None
    rig.server.completes[0](path(b"x"))
    assert pending[0].result() is not None
    rig.clock.now_s += rig.client.due_s()
    assert pending[-1].result() is None
    assert len(rig.server.calls) == RING_ENTRIES + 1


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (Reply(refusal=REFUSAL_UNSUPPORTED), UnsupportedError),
        (Reply(refusal=REFUSAL_MALFORMED), SessionLostError),
        (Reply(errno=4096), SessionLostError),
        (Reply(body=b"\xff\xff"), SessionLostError),
    ],
)
def test_what_call_raises(reply: Reply, error: type[Exception]) -> None:
    rig = Rig()
    pending, recorded = rig.client.begin(GET), rig.client.begin(MKDIR)
    rig.server.completes[0](reply)
    with pytest.raises(error):
        pending.result()
    assert not rig.client.has_news()
    with pytest.raises(error):
        rig.client.begin(GET)
    if error is SessionLostError:
        with pytest.raises(SessionLostError):
            recorded.result()


def test_a_slot_whose_outcome_is_unknown_is_given_up() -> None:
    rig = Rig(timeout_s=2.0)
    recorded, pure = rig.client.begin(MKDIR, slot=3), rig.client.begin(GET)
    assert rig.client.due_s() == pytest.approx(2.0)
    rig.clock.now_s += 3.0
    assert rig.client.due_s() == 0
    with pytest.raises(ServerTimeoutError):
        recorded.result()
    assert pure.result() is None, "a deferred answer takes as long as it takes"
    rig.client.begin(MKDIR, slot=3)
    assert [identity for identity in rig.server.identities() if identity[1]] == [(0, 1), (1, 1)]
    rig.server.completes[0](Reply())  # late: heard by nobody


def test_a_call_beyond_the_limits() -> None:
    rig = Rig()
    for request in (GET, MKDIR):
        with pytest.raises(ValueError, match="limit"):
            rig.client.begin(request, data_room=DATA_BYTES_MAX + 1)
    assert not rig.client.has_news() and rig.client.due_s() == math.inf
    rig.client.begin(MKDIR)
    assert rig.server.identities() == [(0, 1)], "what was never sent used no seq"


def test_abandoned_and_told_so() -> None:
    rig = Rig()
    pending: list[Pending] = [rig.client.begin(GET) for _ in range(2)]
    rig.client.abandon(pending[0])
    assert [call.opcode for call in rig.server.calls] == [GET_PATH.opcode, GET_PATH.opcode, ABANDON.opcode]
    assert rig.server.calls[2].body == rig.server.calls[0].slot.to_bytes(24, "little")
    rig.client.abandon(pending[0])
    assert len(rig.server.calls) == 3
    with pytest.raises(AssertionError, match="over"):
        pending[0].result()
    for complete in rig.server.completes:
        complete(Reply())
    assert pending[1].result() is not None
    assert rig.client.begin(GET).call.slot not in rig.server.identities()[0], "numbers come again late"


def test_a_server_that_does_not_know_abandon() -> None:
    rig = Rig(opcodes={GET_PATH.opcode})
    rig.client.abandon(rig.client.begin(GET))
    assert len(rig.server.calls) == 1


def test_data_and_descriptor_until_the_next_call_or_answer() -> None:
    def donate(index: int) -> int:
        descriptor = os.dup(0)
        rig.server.completes[index](Reply(body=path(b"x").body, descriptor=descriptor))
        return descriptor

    rig = Rig()
    pending = [rig.client.begin(GET) for _ in range(4)]
    assert bytes(rig.read().data) == b"data"
    first = donate(0)
    assert pending[1].result() is None, "no answer: what the caller holds stays"
    reply, _ = pending[0].result() or (Reply(), None)
    assert reply.descriptor == first and os.fstat(first)
    rig.read()
    assert reply.descriptor == -1, "closed, with the next call"
    reply, _ = (donate(1), pending[1].result())[1] or (Reply(), None)
    taken = reply.take_descriptor()
    rig.read()
    os.fstat(taken)
    os.close(taken)
    reply, _ = (donate(2), pending[2].result())[1] or (Reply(), None)
    rig.channels[0].sever()
    rig.read()  # over another channel
    assert reply.descriptor == -1
    rig.server.completes.pop()
    assert pending[3].result() is None
