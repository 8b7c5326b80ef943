"""What client and server of each release said to each other is still said and understood: today's server answers
the recorded requests as they were answered, today's client says them, and takes the recorded answers."""

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from farcall.v1.session_pb2 import CarryRequest, CarryResponse, HelloRequest, HelloResponse
from ipc import batch
from ipc import ring_layout as layout
from ipc.limits import RING_ENTRIES
from ipc.message import Call, Reply
from ipc.operations import OPERATIONS
from ipc.ring_client import RingChannel
from ipc.served_ring import ServedRing
from ipc.shared_memory import map_sealed
from tests.golden import record
from tests.golden.scenario import SCENARIOS
from tests.support.released import VERSIONS, as_known, methods

GOLDEN = Path(record.__file__).parent
CELLS = [(version, name) for version in VERSIONS for name in SCENARIOS]
Exchange = tuple[bytes, bytes]


def exchanges(version: str, name: str) -> tuple[list[bytes], list[Exchange]]:
    """(the Hellos, the frames of each call and its answer)."""
    frames = record.pieces_of(GOLDEN / version / f"{name}.frames")
    return frames[:3], list(zip(frames[3::2], frames[4::2], strict=True))


def call_in(frame: bytes) -> Call:
    return batch.entry_to_call(batch.parse_request(frame).calls[0])


def reply_in(frame: bytes) -> Reply:
    return batch.entry_to_reply(batch.parse(CarryResponse, frame).completions[0])


def known(version: str, call: Call, body: bytes, response: bool) -> bytes:
    """What the release sees of a body."""
    operation = OPERATIONS[call.opcode]
    if operation.packed:
        return body
    message = operation.response if response else operation.request
    return as_known(version, message.DESCRIPTOR.name, body)


def assert_same_reply(version: str, call: Call, today: Reply, then: Reply) -> None:
    what = OPERATIONS[call.opcode].name
    assert (today.errno, today.refusal, today.result) == (then.errno, then.refusal, then.result), what
    assert bytes(today.data) == bytes(then.data), what
    assert known(version, call, today.body, True) == then.body, what


@pytest.mark.parametrize(("version", "name"), CELLS)
def test_every_operation_of_the_release_was_said(version: str, name: str) -> None:
    said = {OPERATIONS[call_in(request).opcode].name for request, _ in exchanges(version, name)[1]}
    service = f"farcall.v1.{name.title()}Service"
    had = {method.name for key, (method, _) in methods(version).items() if key.startswith(service)}
    assert had <= said


@pytest.mark.parametrize(("version", "name"), CELLS)
def test_todays_server_answers_that_client(version: str, name: str, tmp_path: Path) -> None:
    (greeting, hello, heir), said = exchanges(version, name)
    with ExitStack() as held:
        server = record.dispatcher(name, tmp_path, held)
        request = HelloRequest.FromString(greeting)
        for then in (hello, heir):
            seen, old = server.hello(request, record.PEER), HelloResponse.FromString(then)
            assert set(old.opcodes) <= set(seen.opcodes)
            del old.opcodes[:], seen.opcodes[:]
            assert as_known(version, "HelloResponse", record.encoded(seen)) == record.encoded(old)
        for asked, answered in said:
            replies: list[Reply] = []
            server.submit(call_in(asked), record.PEER, replies.append)
            assert_same_reply(version, call_in(asked), replies[0], reply_in(answered))
            replies[0].discard()


class OldServer:
    """As Channel: what it answers was recorded; what it is asked must be what it was asked then."""

    def __init__(self, version: str, said: list[Exchange]) -> None:
        self._version, self._said = version, iter(said)
        self._replies: dict[int, Reply] = {}

    def submit(self, call: Call, data_room: int = 0) -> int:
        asked, answered = next(self._said)
        then = call_in(asked)
        assert call.opcode == then.opcode
        assert (call.slot, call.seq, bytes(call.data)) == (then.slot, then.seq, then.data)
        assert known(self._version, call, call.body, False) == then.body
        if call.body == then.body:
            assert call.digest == then.digest
        reply = reply_in(answered)
        assert len(reply.data) <= data_room
        self._replies[len(self._replies)] = reply
        return len(self._replies) - 1

    def wait(self, tag: int, deadline: float | None) -> Reply | None:
        del deadline
        return self._replies[tag]

    def poll(self, tag: int) -> Reply | None:
        return self._replies[tag]

    def release(self, tag: int) -> None:
        del tag

    def close(self) -> None:
        raise AssertionError("no answer of its is a reason to leave")

    def is_asked_no_more(self) -> bool:
        return next(self._said, None) is None


@pytest.mark.parametrize(("version", "name"), CELLS)
def test_todays_client_talks_to_that_server(version: str, name: str) -> None:
    (greeting, hello, heir), said = exchanges(version, name)
    today = as_known(version, "HelloRequest", record.encoded(record.hello_request(name)))
    assert today == greeting
    server = OldServer(version, said)
    caller = record.client(HelloResponse.FromString(hello), server)
    for _, reply, response in record.say(name, caller, HelloResponse.FromString(heir)):
        assert reply.errno or response is None or response.IsInitialized()
    assert server.is_asked_no_more()


# Rings.


def ring_pieces(version: str, name: str) -> Iterator[tuple[int, Call, Reply, list[bytes]]]:
    """Number, call, reply and pieces of each."""
    pieces = record.pieces_of(GOLDEN / version / f"{name}.rings")
    for number, (asked, answered) in enumerate(exchanges(version, name)[1]):
        yield number, call_in(asked), reply_in(answered), pieces[4 * number : 4 * number + 4]


class Told:
    """As Endpoint: keeps the calls, answers what it is told to."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.reply = Reply()

    def submit(self, call: Call, peer: object, complete: Any, into: memoryview | None = None) -> None:
        del peer, into
        self.calls.append(Call(**{**_fields(call), "data": bytes(call.data)}))
        complete(self.reply)


def _fields(call: Call) -> dict[str, Any]:
    return {name: getattr(call, name) for name in Call.__slots__}


def sockets(held: ExitStack) -> list[socket.socket]:
    pairs = [socket.socketpair(socket.AF_UNIX, kind) for kind in (socket.SOCK_SEQPACKET, socket.SOCK_DGRAM)]
    return [held.enter_context(each) for pair in pairs for each in pair]


@pytest.mark.parametrize(("version", "name"), CELLS)
def test_todays_server_reads_that_ring(version: str, name: str) -> None:
    with ExitStack() as held:
        control, _, bell, _ = sockets(held)
        told: Any = Told()
        session = call_in(exchanges(version, name)[1][0][0]).session
        ring = ServedRing(told, session, record.PEER, control, bell)
        memory = map_sealed(ring.memfd, layout.RING_BYTES)
        words = memory[: layout.HEADER_BYTES].cast("Q")
        for number, call, reply, (entry, sent, completion, answer) in ring_pieces(version, name):
            at = layout.SUBMISSIONS_OFFSET + number % RING_ENTRIES * layout.SUBMISSION.size
            memory[at : at + layout.SUBMISSION.size] = entry
            start = layout.ARENA_OFFSET + (layout.SUBMISSION.unpack(entry)[6] << layout.UNIT_SHIFT)
            memory[start : start + len(sent)] = sent
            words[layout.SUBMISSION_TAIL] = number + 1
            told.reply = reply
            assert ring.serve(record.StillClock(), 2000.0)
            assert told.calls[-1] == call
            at = layout.COMPLETIONS_OFFSET + number % RING_ENTRIES * layout.COMPLETION.size
            assert bytes(memory[at : at + layout.COMPLETION.size]) == completion
            assert record.answered(memory, entry, len(sent), reply) == answer
        ring.close()


@pytest.mark.parametrize(("version", "name"), CELLS)
def test_todays_client_reads_that_ring(version: str, name: str) -> None:
    with ExitStack() as held:
        control, theirs, bell, rung = sockets(held)
        told: Any = Told()
        ring = ServedRing(told, 1, record.PEER, control, bell)  # for its memory, which the old server writes
        memory = map_sealed(ring.memfd, layout.RING_BYTES)
        words = memory[: layout.HEADER_BYTES].cast("Q")
        channel = RingChannel(os.dup(ring.memfd), theirs, rung, clock=record.StillClock(), spin_us=0)
        for number, call, reply, (entry, sent, completion, answer) in ring_pieces(version, name):
            tag = channel.submit(call, len(reply.data))
            at = layout.SUBMISSIONS_OFFSET + number % RING_ENTRIES * layout.SUBMISSION.size
            ours = bytes(memory[at : at + layout.SUBMISSION.size])
            assert record.arena(memory, ours, call) == sent
            now, then = layout.SUBMISSION.unpack(ours), layout.SUBMISSION.unpack(entry)
            assert (now[:2], now[3:6], now[7:]) == (then[:2], then[3:6], then[7:])  # all but tag and place
            start = layout.ARENA_OFFSET + (now[6] << layout.UNIT_SHIFT) + len(sent) + layout.UNIT_BYTES - 1
            start &= -layout.UNIT_BYTES
            memory[start : start + len(answer)] = answer
            at = layout.COMPLETIONS_OFFSET + number % RING_ENTRIES * layout.COMPLETION.size
            fields = layout.COMPLETION.unpack(completion)
            layout.COMPLETION.pack_into(memory, at, tag, *fields[1:])
            words[layout.COMPLETION_TAIL] = number + 1
            found = channel.poll(tag)
            assert found is not None
            assert (found.errno, found.result, found.body, bytes(found.data)) == (
                reply.errno,
                reply.result,
                reply.body,
                reply.data,
            )
            channel.release(tag)
        channel.close()
        ring.close()


def test_requests_are_recorded_as_they_are_said(tmp_path: Path) -> None:
    """The recorder, on today's sources: what it writes is what the tests above read."""
    record.main(tmp_path / "today")
    for name in SCENARIOS:
        frames = record.pieces_of(tmp_path / "today" / f"{name}.frames")
        assert CarryRequest.FromString(frames[3]).calls[0].tag == 1
        assert {each.name for each in (tmp_path / "today").iterdir()} >= {f"{name}.frames", f"{name}.rings"}
