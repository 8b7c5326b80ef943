"""The client's identities, retries and refusals, against a scripted channel and a clock of its own."""

from dataclasses import dataclass, field

import pytest

from farcall.v1 import file_pb2
from farcall.v1.session_pb2 import (
    REFUSAL_FALSE_RETRY,
    REFUSAL_LATE,
    REFUSAL_MALFORMED,
    REFUSAL_MISORDERED,
    REFUSAL_NOT_READY,
    REFUSAL_OVERLOADED,
    REFUSAL_STALE_SESSION,
    REFUSAL_UNSUPPORTED,
)
from ipc.client import Client, ServerTimeoutError, SessionLostError, UnsupportedError
from ipc.endpoint import BrokenError, Channel, FullError
from ipc.identity import DIGEST_BYTES
from ipc.limits import REFUSAL_RETRY_S
from ipc.message import Call, MalformedError, Reply
from ipc.operations import BY_NAME, OPERATIONS

PREAD, PWRITE, CLOSE = BY_NAME["PRead"], BY_NAME["PWrite"], BY_NAME["Close"]
SESSION = 42

Answer = Reply | BaseException | None
"""None: no reply before the deadline. FullError is raised by submit, any other exception by wait."""


@dataclass
class Clock:
    now_s: float = 0.0

    def realtime_ns(self) -> int:
        return 0

    def monotonic_s(self) -> float:
        return self.now_s


@dataclass
class ScriptedChannel:
    """Gives the answers one after the other, then successes."""

    clock: Clock
    answers: list[Answer] = field(default_factory=list)
    tries: list[tuple[int, int, int, int, bytes]] = field(default_factory=list)
    """(opcode, session, slot, seq, digest) of each."""
    held: set[int] = field(default_factory=set)
    closed: bool = False

    def submit(self, call: Call, data_room: int = 0) -> int:
        assert not self.closed
        if self.answers and isinstance(self.answers[0], FullError):
            raise self.answers.pop(0)  # type: ignore[misc]
        self.tries.append((call.opcode, call.session, call.slot, call.seq, call.digest))
        self.held.add(len(self.tries))
        return len(self.tries)

    def wait(self, tag: int, deadline: float | None) -> Reply | None:
        answer = self.answers.pop(0) if self.answers else Reply()
        if isinstance(answer, BaseException):
            raise answer
        if answer is None:
            assert deadline is not None
            self.clock.now_s = deadline
        return answer

    def poll(self, tag: int) -> Reply | None:
        answer = self.answers.pop(0) if self.answers else Reply()
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def release(self, tag: int) -> None:
        self.held.remove(tag)

    def close(self) -> None:
        self.closed = True


class Rig:
    """A client over scripted channels."""

    def __init__(self, *scripts: list[Answer], timeout_s: float | None = None, slots_max: int = 64) -> None:
        self.clock = Clock()
        self.channels = [ScriptedChannel(self.clock, list(script)) for script in scripts or ([],)]
        self.pauses: list[float] = []
        self.reconnects = 0
        self.reconnect_s = 0.0
        self.client = Client(
            self.channels[0], session=SESSION, opcodes=OPERATIONS.keys(), reconnect=self.reconnect,
            clock=self.clock, pause=self.pause, slots_max=slots_max, server_timeout_s=timeout_s,
        )  # fmt: skip

    def reconnect(self) -> Channel:
        self.reconnects += 1
        self.clock.now_s += self.reconnect_s
        return self.channels[self.reconnects]

    def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.clock.now_s += seconds

    @property
    def tries(self) -> list[tuple[int, int, int, int, bytes]]:
        return [one for channel in self.channels for one in channel.tries]

    def identities(self) -> list[tuple[int, int]]:
        """(slot, seq) of each try."""
        return [(slot, seq) for _, _, slot, seq, _ in self.tries]


def test_seq_counts_recorded_calls_of_each_slot() -> None:
    rig = Rig()
    for slot in (0, 0, 7, 0):
        rig.client.call_packed(CLOSE, 1, slot=slot)
        rig.client.call_packed(PREAD, 1, 0, 10, room=10, slot=slot)
    assert rig.identities() == [(0, 1), (0, 0), (0, 2), (0, 0), (1, 1), (1, 0), (0, 3), (0, 0)]
    for opcode, session, _, _, digest in rig.tries:
        assert session == SESSION
        assert len(digest) == (DIGEST_BYTES if opcode == CLOSE.opcode else 0)


def test_an_errno_is_a_result() -> None:
    rig = Rig([Reply(errno=17)])
    request = file_pb2.MakeDirectoryRequest(place=file_pb2.Place(path=b"d"))
    assert rig.client.call(request) == (Reply(errno=17), None)
    reply, response = rig.client.call(request)
    assert (reply, response) == (Reply(), file_pb2.MakeDirectoryResponse())
    assert rig.identities() == [(0, 1), (0, 2)]


def test_broken_carrier_same_identity() -> None:
    rig = Rig([Reply(), BrokenError("died")], [BrokenError("died again")], [Reply(result=3)])
    rig.client.call_packed(CLOSE, 1)
    assert rig.client.call_packed(PWRITE, 1, data=b"abc") == Reply(result=3)
    first, *tries = rig.tries
    assert first[3] == 1
    assert len(tries) == 3 and len(set(tries)) == 1 and tries[0][3] == 2
    assert rig.reconnects == 2
    assert [channel.closed for channel in rig.channels] == [True, True, False]


@pytest.mark.parametrize("refusal", [REFUSAL_OVERLOADED, REFUSAL_NOT_READY])
def test_not_now_is_asked_again(refusal: int) -> None:
    rig = Rig([Reply(refusal=refusal), Reply(refusal=refusal), Reply(result=3)])  # type: ignore[arg-type]
    assert rig.client.call_packed(PWRITE, 1, data=b"abc") == Reply(result=3)
    assert rig.identities() == [(0, 1)] * 3
    assert rig.pauses == [REFUSAL_RETRY_S] * 2


FATAL = (
    REFUSAL_STALE_SESSION, REFUSAL_FALSE_RETRY, REFUSAL_MISORDERED, REFUSAL_LATE, REFUSAL_MALFORMED, 99,
)  # fmt: skip


@pytest.mark.parametrize("refusal", FATAL)
def test_refusals_that_end_the_session(refusal: int) -> None:
    rig = Rig([Reply(refusal=refusal)])  # type: ignore[arg-type]
    for _ in range(2):
        with pytest.raises(SessionLostError):
            rig.client.call_packed(CLOSE, 1)
    assert len(rig.tries) == 1


@pytest.mark.parametrize(
    "answer", [Reply(errno=-1), Reply(errno=4096), Reply(data=b"x" * 11), MalformedError("ring")]
)
def test_replies_that_break_the_rules(answer: Answer) -> None:
    rig = Rig([answer])
    for _ in range(2):
        with pytest.raises(SessionLostError):
            rig.client.call_packed(PREAD, 1, 0, 10, room=10)
    assert len(rig.tries) == 1


def test_a_body_that_is_none() -> None:
    rig = Rig([Reply(body=b"\xff\xff")])
    with pytest.raises(SessionLostError):
        rig.client.call(file_pb2.MakeDirectoryRequest())


def test_unsupported_by_hello_or_by_refusal() -> None:
    rig = Rig([Reply(refusal=REFUSAL_UNSUPPORTED)])
    for _ in range(2):
        with pytest.raises(UnsupportedError, match="Close"):
            rig.client.call_packed(CLOSE, 1)
    assert not rig.client.supports(CLOSE)
    assert len(rig.tries) == 1
    rig.client.call_packed(PWRITE, 1)
    assert rig.identities() == [(0, 1), (1, 1)], "no other call under an identity that was sent"
    bare = Client(
        rig.channels[0], session=1, opcodes=[PREAD.opcode, 9999], reconnect=rig.reconnect, clock=rig.clock,
        pause=rig.pause,
    )  # fmt: skip
    with pytest.raises(UnsupportedError):
        bare.call_packed(PWRITE, 1)
    assert bare.supports(PREAD)


def test_after_a_timeout_the_slot_is_given_up() -> None:
    rig = Rig([Reply(), None], timeout_s=2.0)
    rig.client.call_packed(CLOSE, 1, slot=3)
    with pytest.raises(TimeoutError):
        rig.client.call_packed(CLOSE, 2, slot=3)
    assert not rig.channels[0].held
    rig.client.call_packed(CLOSE, 3, slot=3)
    assert rig.identities() == [(0, 1), (0, 2), (1, 1)]


def test_after_a_timeout_of_a_pure_call_it_is_not() -> None:
    rig = Rig([None], timeout_s=2.0)
    with pytest.raises(ServerTimeoutError):
        rig.client.call_packed(PREAD, 1)
    rig.client.call_packed(CLOSE, 1)
    assert rig.identities() == [(0, 0), (0, 1)]


def test_slots_run_out() -> None:
    rig = Rig([None, None], timeout_s=1.0, slots_max=2)
    for _ in range(2):
        with pytest.raises(ServerTimeoutError):
            rig.client.call_packed(CLOSE, 1)
    with pytest.raises(SessionLostError, match="slots"):
        rig.client.call_packed(CLOSE, 1)
    assert rig.identities() == [(0, 1), (1, 1)]


def test_timeout_while_the_server_refuses_and_while_it_is_gone() -> None:
    refusing = Rig([Reply(refusal=REFUSAL_OVERLOADED)] * 1000, timeout_s=1.0)
    with pytest.raises(ServerTimeoutError):
        refusing.client.call_packed(CLOSE, 1)
    assert refusing.clock.now_s == pytest.approx(1.0, abs=2 * REFUSAL_RETRY_S)

    dying: list[Reply | BaseException | None] = [BrokenError("died")]
    gone = Rig(dying, dying, dying, timeout_s=1.0)
    gone.reconnect_s = 0.6
    with pytest.raises(ServerTimeoutError, match="died"):
        gone.client.call_packed(CLOSE, 1)
    assert gone.reconnects == 2


def test_full_waits_and_leaves_the_seq() -> None:
    rig = Rig([FullError(), FullError(), Reply(result=1)])
    assert rig.client.call_packed(CLOSE, 1) == Reply(result=1)
    assert rig.identities() == [(0, 1)]
    assert len(rig.pauses) == 2
    never_sent = Rig([FullError()] * 1000, timeout_s=1.0)
    with pytest.raises(ServerTimeoutError):
        never_sent.client.call_packed(CLOSE, 1)
    never_sent.channels[0].answers.clear()
    never_sent.client.call_packed(CLOSE, 2)
    assert never_sent.identities() == [(0, 1)], "what was never sent used no seq"


def test_interrupted_in_flight_gives_the_slot_up() -> None:
    rig = Rig([KeyboardInterrupt()])
    with pytest.raises(KeyboardInterrupt):
        rig.client.call_packed(CLOSE, 1)
    rig.client.call_packed(CLOSE, 1)
    assert rig.identities() == [(0, 1), (1, 1)]


def test_data_stays_until_the_next_call() -> None:
    rig = Rig([Reply(result=3, data=memoryview(b"abc")), Reply()])
    assert bytes(rig.client.call_packed(PREAD, 1, 0, 3, room=3).data) == b"abc"
    assert rig.channels[0].held == {1}
    rig.client.call_packed(CLOSE, 1)
    assert not rig.channels[0].held


def test_handles_and_close() -> None:
    rig = Rig()
    assert [rig.client.new_handle() for _ in range(3)] == [1, 2, 3]
    rig.client.close()
    assert rig.channels[0].closed
    with pytest.raises(SessionLostError):
        rig.client.call_packed(CLOSE, 1)
