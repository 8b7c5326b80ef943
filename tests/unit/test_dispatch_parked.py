"""The dispatcher: calls that must not take effect yet (NotYetError) leave no trace, and are made again later."""

from dataclasses import dataclass, field

import pytest

from farcall.v1.session_pb2 import REFUSAL_NOT_READY, REFUSAL_STALE_SESSION, REFUSAL_UNSPECIFIED
from ipc.message import Buffer, Call, Reply
from ipc.operations import BY_NAME
from servers.service import NotYetError, Session
from tests.unit.serving import Bench, Caller, append, pread

MANY = 3000
"""More than calls can be nested."""


@dataclass
class Gate:
    """Append waits while it is shut; a call of PRead's lets the dispatcher look again."""

    bench: Bench
    shut: bool = True
    tried: int = 0
    replies: list[Reply] = field(default_factory=list)

    def __post_init__(self) -> None:
        plain = self.bench.service.append

        def guarded(
            session: Session, handle: int, second: int, third: int, data: Buffer, into: memoryview | None
        ) -> tuple[int, Buffer]:
            self.tried += 1
            answer = plain(session, handle, second, third, data, into)
            if self.shut:
                raise NotYetError(lambda: not self.shut)
            return answer

        self.bench.dispatcher._packed[BY_NAME["Append"].opcode] = guarded

    def send(self, caller: Caller, call: Call) -> None:
        self.bench.dispatcher.submit(call, caller.peer, self.replies.append)

    def open(self) -> None:
        self.shut = False
        self.bench.dispatcher.expire()


@pytest.fixture
def gate() -> Gate:
    return Gate(Bench())


def test_a_call_that_waits_leaves_no_trace(gate: Gate) -> None:
    caller = gate.bench.caller()
    gate.send(caller, caller.new(append(b"one")))
    assert gate.replies == [] and gate.bench.service.notes == []
    gate.bench.dispatcher.expire()
    assert (gate.tried, gate.replies) == (1, [])
    gate.open()
    assert [reply.refusal for reply in gate.replies] == [REFUSAL_UNSPECIFIED]
    assert (gate.tried, gate.bench.service.notes) == (2, [b"one"])


def test_any_other_call_has_it_looked_at_again(gate: Gate) -> None:
    caller, other = gate.bench.caller(), gate.bench.caller()
    gate.send(caller, caller.new(append(b"one")))
    gate.shut = False
    assert other.send(other.new(append(b"two"))).refusal == REFUSAL_UNSPECIFIED
    assert len(gate.replies) == 1
    assert gate.bench.service.notes == [b"two", b"one"]


def test_a_retry_of_it_takes_no_second_effect(gate: Gate) -> None:
    caller = gate.bench.caller()
    call = caller.new(append(b"one"))
    gate.send(caller, call)
    gate.send(caller, call)
    gate.open()
    assert len(gate.replies) == 2
    assert gate.replies[0].result == gate.replies[1].result == 1
    assert gate.bench.service.notes == [b"one"]


def test_its_data_are_its_own(gate: Gate) -> None:
    """A ring's arena may be another's by then."""
    caller = gate.bench.caller()
    room = bytearray(b"one")
    call = caller.new(append(b"one"))
    call.data = memoryview(room)
    gate.send(caller, call)
    room[:] = b"two"
    gate.open()
    assert gate.bench.service.notes == [b"one"]


def test_its_session_may_end_meanwhile(gate: Gate) -> None:
    caller = gate.bench.caller()
    gate.send(caller, caller.new(append(b"one")))
    gate.bench.dispatcher.closed(caller.session, caller.peer)
    gate.open()
    assert [reply.refusal for reply in gate.replies] == [REFUSAL_STALE_SESSION]
    assert gate.bench.service.notes == []


def test_a_server_that_stops_says_not_ready(gate: Gate) -> None:
    caller = gate.bench.caller()
    call = caller.new(append(b"one"))
    gate.send(caller, call)
    gate.bench.dispatcher.drain()
    assert [reply.refusal for reply in gate.replies] == [REFUSAL_NOT_READY]
    gate.send(caller, call)
    assert [reply.refusal for reply in gate.replies] == [REFUSAL_NOT_READY] * 2


def test_any_number_of_them_may_wait(gate: Gate) -> None:
    caller = gate.bench.caller()
    call = caller.new(append(b"one"))
    for _ in range(MANY):
        gate.send(caller, call)
    gate.open()
    assert len(gate.replies) == MANY
    assert gate.bench.service.notes == [b"one"]
    assert caller.send(caller.pure(pread())).data == b"one"
