"""The dispatcher: answers that come later, and descriptors beside replies."""

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from google.protobuf.message import Message

from farcall.v1 import file_pb2, session_pb2
from farcall.v1.session_pb2 import (
    REFUSAL_MALFORMED,
    REFUSAL_NOT_READY,
    REFUSAL_OVERLOADED,
    REFUSAL_STALE_SESSION,
    REFUSAL_UNSPECIFIED,
)
from ipc.limits import BODY_BYTES_MAX, DEFERRED_MAX
from ipc.message import Call, Reply, abandonment, decode_response, encode_request, pack_call
from ipc.operations import BY_NAME, OPERATIONS
from servers.service import Deferred, ErrnoError, Session, WithDescriptor
from tests.unit.serving import DIRECT, Bench, Caller, NotebookService, append, mkdir, pread

GET_PATH = BY_NAME["GetPath"]


@dataclass
class Late:
    """GetPath defers its answer; an append wakes all who wait, inside its transaction."""

    bench: Bench
    waiting: list[Deferred] = field(default_factory=list)
    dropped: list[int] = field(default_factory=list)
    """Handles whose call was dropped, in order."""
    replies: list[tuple[str, Reply]] = field(default_factory=list)
    """Of every call, in the order they left, with the name it was given."""

    def get_path(self, _session: Session, request: Any) -> Deferred:
        deferred = Deferred(lambda: self.dropped.append(request.handle))
        self.waiting.append(deferred)
        return deferred

    def send(self, caller: Caller, name: str, call: Call) -> None:
        """As a carrier: the reply may come now or later."""
        call.session = caller.session
        caller.endpoint.submit(call, caller.peer, lambda reply: self.replies.append((name, reply)))

    def ask(self, caller: Caller, handle: int, slot: int | None = None) -> None:
        """A deferred call, named by its handle."""
        call = encode_request(file_pb2.GetPathRequest(handle=handle))
        call.slot = handle if slot is None else slot
        self.send(caller, str(handle), call)

    def refused(self) -> list[tuple[str, int]]:
        return [(name, reply.refusal) for name, reply in self.replies]


def path(text: bytes) -> Message:
    return file_pb2.GetPathResponse(path=text)


@pytest.fixture
def late(monkeypatch: pytest.MonkeyPatch) -> Late:
    monkeypatch.setitem(OPERATIONS, GET_PATH.opcode, replace(GET_PATH, deferred=True, carries_descriptor=True))
    bench = Bench()
    late = Late(bench)
    bench.service.handlers = {**bench.service.handlers, GET_PATH.opcode: late.get_path}
    bench.restart()
    return late


def test_the_answer_comes_later(late: Late) -> None:
    caller = late.bench.caller()
    late.ask(caller, 1)
    late.ask(caller, 2)
    assert caller.send(caller.pure(pread())) == Reply()
    late.waiting[1].complete(path(b"two"))
    late.waiting[0].complete(ErrnoError(errno.EDEADLK))
    (second, answer), failed = late.replies
    assert (second, decode_response(encode_request(file_pb2.GetPathRequest()), answer).path) == ("2", b"two")
    assert failed == ("1", Reply(errno=errno.EDEADLK))
    assert late.dropped == []


def test_an_answer_that_is_there_already(late: Late) -> None:
    def at_once(_session: Session, _request: Any) -> Deferred:
        deferred = Deferred()
        deferred.complete(path(b"now"))
        return deferred

    late.bench.service.handlers = {GET_PATH.opcode: at_once}
    late.bench.restart()
    late.ask(late.bench.caller(), 1)
    assert [name for name, reply in late.replies if reply.body] == ["1"]


def test_an_errno_at_once(late: Late) -> None:
    late.bench.service.handlers = {GET_PATH.opcode: NotebookService.get_path.__get__(late.bench.service)}
    late.bench.restart()
    late.ask(late.bench.caller(), 404)
    late.ask(late.bench.caller(), 3)
    assert [(name, reply.errno, bool(reply.body)) for name, reply in late.replies] == [
        ("404", errno.EBADF, False),
        ("3", 0, True),
    ]


def test_it_never_leaves_before_the_effect_that_caused_it(late: Late, monkeypatch: pytest.MonkeyPatch) -> None:
    """An append that wakes a waiter: its own commit and reply come first."""
    service, caller = late.bench.service, late.bench.caller()
    appended = service.append

    def waking(*arguments: Any) -> Any:
        late.waiting[0].complete(path(b"woken"))
        assert late.replies == []
        return appended(*arguments)

    service.packed_handlers = {**service.packed_handlers, BY_NAME["Append"].opcode: waking}
    late.bench.restart()
    caller.endpoint = late.bench.dispatcher
    late.ask(caller, 1)
    call = caller.new(append(b"a"))
    late.send(caller, "append", call)
    assert [name for name, _ in late.replies] == ["append", "1"]


def test_nor_before_the_end_of_the_session_that_caused_it(late: Late) -> None:
    """As a lock that is freed by its owner's death."""
    service = late.bench.service
    other, caller = late.bench.caller(), late.bench.caller()
    late.ask(caller, 1)
    ended = service.session_ended

    def freeing(session: Session) -> None:
        ended(session)
        late.waiting[0].complete(path(b"free"))
        assert late.replies == []

    service.session_ended = freeing  # type: ignore[method-assign]
    late.bench.dispatcher.closed(other.session, DIRECT)
    assert [name for name, _ in late.replies] == ["1"]


@pytest.mark.parametrize("how", ["closed", "goodbye", "malformed"])
def test_the_sessions_end_drops_its_calls_alone(late: Late, how: str) -> None:
    caller, other = late.bench.caller(), late.bench.caller()
    late.ask(caller, 1)
    late.ask(caller, 2)
    late.ask(other, 3)
    if how == "closed":
        late.bench.dispatcher.closed(caller.session, DIRECT)
    elif how == "goodbye":
        caller.send(caller.pure(encode_request(session_pb2.GoodbyeRequest())))
    else:
        caller.send(caller.pure(pread(handle=666)))
    assert late.refused() == [("1", REFUSAL_STALE_SESSION), ("2", REFUSAL_STALE_SESSION)]
    assert late.dropped == [1, 2]
    for deferred in late.waiting:
        deferred.complete(path(b"x"))
    assert len(late.replies) == 3, "a dropped call is not answered again"


def test_leases_that_run_out(late: Late) -> None:
    caller = late.bench.caller(replace(DIRECT, carrier="grpc"))
    late.ask(caller, 1)
    for _ in range(60):
        late.bench.clock.now_s += 1
        late.bench.dispatcher.expire()
    assert late.refused() == [("1", REFUSAL_STALE_SESSION)]


def test_the_servers_end_lets_clients_ask_again(late: Late) -> None:
    caller = late.bench.caller()
    late.ask(caller, 1)
    late.bench.dispatcher.drain()
    late.ask(caller, 2)
    assert late.refused() == [("1", REFUSAL_NOT_READY), ("2", REFUSAL_NOT_READY)]
    assert late.dropped == [1] and len(late.waiting) == 1


def test_a_repeated_call_takes_the_firsts_place(late: Late) -> None:
    """The first one's way back may be lost with its carrier."""
    caller = late.bench.caller()
    late.ask(caller, 1, slot=70)
    late.ask(caller, 2, slot=70)
    assert late.refused() == [("1", REFUSAL_OVERLOADED)] and late.dropped == [1]
    late.waiting[1].complete(path(b"x"))
    assert late.refused()[1] == ("2", REFUSAL_UNSPECIFIED)


def test_one_too_many_refuses_the_oldest(late: Late) -> None:
    caller, other = late.bench.caller(), late.bench.caller()
    late.ask(other, 1000)
    for number in range(DEFERRED_MAX + 2):
        late.ask(caller, number)
    assert late.refused() == [("0", REFUSAL_OVERLOADED), ("1", REFUSAL_OVERLOADED)]
    late.ask(caller, 0)
    assert late.refused()[2:] == [("2", REFUSAL_OVERLOADED)]


def test_abandoned(late: Late) -> None:
    caller, other = late.bench.caller(), late.bench.caller()
    late.ask(caller, 1)
    late.ask(caller, 2)
    call = pack_call(BY_NAME["Abandon"], 1)
    assert caller.send(caller.pure(call)) == Reply(result=1)
    assert caller.send(caller.pure(call)) == Reply(result=0)
    assert other.send(other.pure(abandonment(Call(0, b"", slot=2)))) == Reply(result=0), "another's"
    assert late.refused() == [("1", REFUSAL_OVERLOADED)] and late.dropped == [1]


@pytest.mark.parametrize(
    "change", [{"body": b""}, {"data": b"x"}, {"seq": 1}, {"body": pack_call(GET_PATH, 1, 1).body}]
)
def test_malformed_abandon(late: Late, change: dict[str, Any]) -> None:
    caller = late.bench.caller()
    call = replace(caller.pure(pack_call(BY_NAME["Abandon"], 1)), **change)
    assert caller.send(call).refusal == REFUSAL_MALFORMED
    assert late.bench.service.ended == [caller.session]


def test_a_response_beyond_the_limit(late: Late) -> None:
    late.ask(late.bench.caller(), 1)
    descriptor = os.dup(0)
    late.waiting[0].complete(WithDescriptor(path(bytes(BODY_BYTES_MAX)), descriptor))
    assert late.replies == [("1", Reply(errno=errno.EOVERFLOW))]
    assert is_closed(descriptor)


def test_completed_twice_is_a_bug(late: Late) -> None:
    late.ask(late.bench.caller(), 1)
    late.waiting[0].complete(path(b"x"))
    with pytest.raises(AssertionError, match="twice"):
        late.waiting[0].complete(path(b"x"))


def is_closed(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError as error:
        return error.errno == errno.EBADF
    return False


@pytest.mark.parametrize("at_once", [True, False])
def test_a_descriptor_beside_the_reply(late: Late, at_once: bool) -> None:
    caller = late.bench.caller()
    answer = WithDescriptor(path(b"x"), os.dup(0))
    if at_once:
        late.bench.service.handlers = {GET_PATH.opcode: lambda _session, _request: answer}
        late.bench.restart()
        caller = late.bench.caller()
    late.ask(caller, 1)
    for deferred in late.waiting:
        deferred.complete(answer)
    ((_, reply),) = late.replies
    assert reply.body and reply.take_descriptor() == answer.descriptor
    assert not is_closed(answer.descriptor), "it is the carrier's to give away or close"
    answer.discard()


def test_the_descriptor_of_a_dropped_call_is_closed(late: Late) -> None:
    caller = late.bench.caller()
    late.ask(caller, 1)
    late.bench.dispatcher.closed(caller.session, DIRECT)
    answer = WithDescriptor(path(b"x"), os.dup(0))
    late.waiting[0].complete(answer)
    assert is_closed(answer.descriptor)


@pytest.mark.parametrize(
    "answer", [Deferred, lambda: WithDescriptor(file_pb2.MakeDirectoryResponse(), 0)], ids=["deferred", "passing"]
)
def test_only_declared_operations_may(answer: Callable[[], Any]) -> None:
    """Neither can be recorded and replayed."""
    bench = Bench()
    bench.service.handlers = {BY_NAME["MakeDirectory"].opcode: lambda _session, _request: answer()}
    bench.restart()
    caller = bench.caller()
    with pytest.raises(AssertionError, match="not declared"):
        caller.send(caller.new(mkdir(b"d")))
