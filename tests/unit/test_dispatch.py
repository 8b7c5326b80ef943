"""The dispatcher: the arrival table around effects, and what ends a session."""

import errno
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from farcall.v1 import file_pb2, session_pb2
from farcall.v1.session_pb2 import (
    REFUSAL_FALSE_RETRY,
    REFUSAL_LATE,
    REFUSAL_MALFORMED,
    REFUSAL_MISORDERED,
    REFUSAL_STALE_SESSION,
    REFUSAL_UNSPECIFIED,
    REFUSAL_UNSUPPORTED,
)
from ipc.endpoint import Peer
from ipc.limits import BODY_BYTES_MAX, DATA_BYTES_MAX, SLOTS_MAX
from ipc.message import Call, Reply, decode_response, encode_request, pack_call
from ipc.operations import BY_NAME, OPERATIONS
from servers.dispatch import decode_reply, encode_reply
from tests.faults import FaultyEndpoint
from tests.unit.serving import DIRECT, Bench, Caller, append, mkdir, pread


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_packed_effect_takes_place_and_replies(bench: Bench) -> None:
    caller = bench.caller()
    assert caller.send(caller.new(append(b"a"))) == Reply(result=1, data=b"noted")
    assert caller.send(caller.new(append(b"b"))) == Reply(result=2, data=b"noted")
    assert bench.service.notes == [b"a", b"b"]


def test_unpacked_effect_takes_place_and_replies(bench: Bench) -> None:
    caller = bench.caller()
    call = caller.new(mkdir(b"/d"))
    response = decode_response(call, caller.send(call))
    assert response.crossing.mount == b"/proc"
    assert bench.service.notes == [b"/d"]


@pytest.mark.parametrize("make", [lambda: append(b"x"), lambda: mkdir(b"/d"), lambda: mkdir(b"!")])
def test_a_repeated_request_gets_the_same_bytes_and_no_second_effect(
    bench: Bench, make: Callable[[], Call]
) -> None:
    caller = bench.caller()
    call = caller.new(make())
    first = caller.send(call)
    noted = list(bench.service.notes)
    for _ in range(3):
        again = caller.send(call)
        assert again == first and encode_reply(again) == encode_reply(first)
    bench.restart()
    caller.endpoint = bench.dispatcher
    assert caller.send(call) == first
    assert bench.service.notes == noted


def test_an_errno_is_recorded_and_its_effect_rolled_back(bench: Bench) -> None:
    caller = bench.caller()
    call = caller.new(mkdir(b"!"))
    assert caller.send(call) == Reply(errno=errno.EEXIST)
    assert bench.service.notes == []
    assert caller.send(call) == Reply(errno=errno.EEXIST)
    assert caller.send(caller.new(mkdir(b"/d"))).errno == 0


def test_arrival_table(bench: Bench) -> None:
    caller = bench.caller()
    first, second, third = (caller.new(append(text)) for text in (b"1", b"2", b"3"))
    assert caller.send(second).refusal == REFUSAL_MISORDERED
    assert caller.send(first).refusal == REFUSAL_UNSPECIFIED
    assert caller.send(third).refusal == REFUSAL_MISORDERED
    assert caller.send(second).refusal == REFUSAL_UNSPECIFIED
    assert caller.send(first).refusal == REFUSAL_LATE
    assert bench.service.notes == [b"1", b"2"]


def test_slots_are_apart(bench: Bench) -> None:
    caller = bench.caller()
    for slot in (0, 1, SLOTS_MAX - 1):
        assert caller.send(caller.new(append(b"%d" % slot), slot)).errno == 0
    assert len(bench.service.notes) == 3


def test_false_retry_ends_the_session_alone(bench: Bench) -> None:
    caller, other = bench.caller(), bench.caller()
    caller.send(caller.new(append(b"a")))
    forged = append(b"b")
    caller.seqs[0] = 0
    assert caller.send(caller.new(forged)).refusal == REFUSAL_FALSE_RETRY
    assert bench.service.ended == [caller.session]
    assert caller.send(caller.pure(pread())).refusal == REFUSAL_STALE_SESSION
    assert other.send(other.pure(pread())) == Reply(result=1, data=b"a")


def test_pure_calls_read_without_a_slot(bench: Bench) -> None:
    caller = bench.caller()
    caller.send(caller.new(append(b"hello")))
    assert caller.send(caller.pure(pread(1, 3))) == Reply(result=3, data=b"ell")
    room = memoryview(bytearray(8))
    reply = caller.send(caller.pure(pread(0, 4)), room)
    assert reply.data == b"hell" and bytes(room[:4]) == b"hell"
    assert caller.send(caller.pure(pread(handle=404))) == Reply(errno=errno.EBADF)
    call = caller.pure(encode_request(file_pb2.GetPathRequest(handle=3)))
    assert decode_response(call, caller.send(call)).path == b"7:3"
    call = caller.pure(encode_request(file_pb2.GetPathRequest(handle=404)))
    assert caller.send(call) == Reply(errno=errno.EBADF)
    assert bench.ledger.slot(caller.session, 0)[0].seq == 1


def _malformed() -> dict[str, Call]:
    append_code, pread_code = BY_NAME["Append"].opcode, BY_NAME["PRead"].opcode
    mkdir_code, path_code = BY_NAME["MakeDirectory"].opcode, BY_NAME["GetPath"].opcode
    mutating: dict[str, Any] = {"seq": 1, "digest": b"d" * 16}
    return {
        "short packed body": Call(append_code, bytes(23), **mutating),
        "long packed body": Call(append_code, bytes(25), **mutating),
        "short pure body": Call(pread_code, bytes(8)),
        "pure with a seq": Call(pread_code, bytes(24), seq=1),
        "data for an operation that takes none": Call(pread_code, bytes(24), b"data"),
        "data for an unpacked operation": Call(mkdir_code, b"", b"data", **mutating),
        "too much data": Call(append_code, bytes(24), bytes(DATA_BYTES_MAX + 1), **mutating),
        "too long a body": Call(mkdir_code, bytes(BODY_BYTES_MAX + 1), **mutating),
        "no protobuf": Call(mkdir_code, b"\xff\xff", **mutating),
        "no protobuf, pure": Call(path_code, b"\xff\xff"),
        "no seq": Call(append_code, bytes(24), digest=b"d" * 16),
        "no digest": Call(append_code, bytes(24), seq=1),
        "slot beyond the last": Call(append_code, bytes(24), slot=SLOTS_MAX, **mutating),
        "handler says so": mkdir(b"?"),
        "pure handler says so": pread(handle=666),
    }


@pytest.mark.parametrize("name", _malformed())
def test_malformed_ends_the_session_and_changes_nothing(bench: Bench, name: str) -> None:
    caller, other = bench.caller(), bench.caller()
    call = _malformed()[name]
    if name == "handler says so":
        caller.new(call)
    assert caller.send(caller.pure(call)) == Reply(refusal=REFUSAL_MALFORMED)
    assert bench.service.notes == [] and bench.service.ended == [caller.session]
    assert caller.send(caller.pure(pread())).refusal == REFUSAL_STALE_SESSION
    assert other.send(other.new(append(b"x"))).refusal == REFUSAL_UNSPECIFIED


def test_largest_data_is_taken(bench: Bench) -> None:
    caller = bench.caller()
    assert caller.send(caller.new(append(bytes(DATA_BYTES_MAX)))).result == 1


def test_a_response_beyond_the_limit_is_an_errno_without_effect(bench: Bench) -> None:
    caller = bench.caller()
    call = caller.new(mkdir(b"+" * 1000))
    assert caller.send(call) == Reply(errno=errno.EOVERFLOW)
    assert caller.send(call) == Reply(errno=errno.EOVERFLOW)
    assert bench.service.notes == []


@pytest.mark.parametrize("opcode", [0, 1, 99, 2**32 - 1, BY_NAME["Rename"].opcode, BY_NAME["Grant"].opcode])
def test_operations_not_offered_are_unsupported_and_leave_seq_unused(bench: Bench, opcode: int) -> None:
    caller = bench.caller()
    call = Call(opcode, b"", session=caller.session, seq=1, digest=b"d" * 16)
    assert caller.send(call) == Reply(refusal=REFUSAL_UNSUPPORTED)
    assert caller.send(caller.new(append(b"a"))).refusal == REFUSAL_UNSPECIFIED


def test_another_principal_cannot_use_or_end_a_session(bench: Bench) -> None:
    caller = bench.caller()
    thief = Caller(bench.dispatcher, caller.session, Peer("uid:1", "direct"))
    goodbye = encode_request(session_pb2.GoodbyeRequest())
    broken = Call(BY_NAME["PRead"].opcode, b"")
    for call in (thief.new(append(b"x")), pread(), goodbye, broken):
        assert thief.send(thief.pure(call)) == Reply(refusal=REFUSAL_STALE_SESSION)
    bench.dispatcher.closed(caller.session, thief.peer)
    assert caller.send(caller.new(append(b"mine"))).result == 1


def test_goodbye_ends_the_session_once(bench: Bench) -> None:
    caller = bench.caller()
    goodbye = caller.pure(encode_request(session_pb2.GoodbyeRequest()))
    assert caller.send(goodbye) == Reply()
    assert caller.send(goodbye) == Reply(refusal=REFUSAL_STALE_SESSION)
    bench.dispatcher.closed(caller.session, DIRECT)
    assert bench.service.ended == [caller.session] and bench.ledger.sessions() == []


def test_a_bug_passes_through_without_effect_and_nothing_is_written_after(bench: Bench) -> None:
    caller = bench.caller()
    replies: list[Reply] = []
    with pytest.raises(ZeroDivisionError):
        bench.dispatcher.submit(caller.new(mkdir(b"#")), DIRECT, replies.append)
    bench.dispatcher.closed(caller.session, DIRECT)
    assert replies == [] and bench.service.notes == [] and bench.service.ended == []


def test_replies_encode_byte_for_byte() -> None:
    for reply in (
        Reply(),
        Reply(errno=4095),
        Reply(0, 2**64 - 1, b"body", b"\0data"),
        Reply(data=bytes(1 << 20)),
    ):
        assert decode_reply(encode_reply(reply)) == reply


def test_faults_at_the_endpoint(bench: Bench) -> None:
    code = BY_NAME["Append"].opcode
    lost: list[Call] = []
    faulty = FaultyEndpoint(bench.dispatcher, duplicate={code}, drop_reply={code}, dropped=lost.append)
    caller = bench.caller()
    caller.endpoint = faulty
    call = caller.new(append(b"once"))
    faulty.submit(replace(call), DIRECT, lambda reply: pytest.fail("the reply was to be lost"))
    assert caller.send(call) == faulty.replies[0] == faulty.replies[1] == faulty.replies[2]
    assert lost == [call] and bench.service.notes == [b"once"] and faulty.submitted == 3


def test_every_operation_has_an_effect_the_dispatcher_knows() -> None:
    assert {op.effect for op in OPERATIONS.values()} == {session_pb2.EFFECT_PURE, session_pb2.EFFECT_MUTATING}
    assert pack_call(BY_NAME["Grant"], 1).body
