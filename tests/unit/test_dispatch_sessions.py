"""Sessions: Hello and its refusals, control sockets, leases, restarts."""

import pytest

from farcall.v1 import session_pb2
from farcall.v1.session_pb2 import (
    REFUSAL_MALFORMED,
    REFUSAL_OVERLOADED,
    REFUSAL_STALE_SESSION,
    REFUSAL_UNSPECIFIED,
    REFUSAL_UNSUPPORTED,
    SERVER_KIND_MEMORY,
    SERVER_KIND_UNSPECIFIED,
    Credentials,
)
from ipc.endpoint import Peer
from ipc.limits import BODY_BYTES_MAX, GROUPS_MAX, LEASE_MS, PROTOCOL_MAX, PROTOCOL_MIN, SLOTS_MAX
from ipc.message import Call, Reply, decode_response, encode_request
from ipc.operations import BY_NAME
from servers import sessions
from servers.sessions import LEASE_S
from tests.unit.serving import DIRECT, GRPC, Bench, Caller, append, hello, pread

RING = Peer("uid:0", "ring")


@pytest.fixture
def bench() -> Bench:
    return Bench()


def tick(bench: Bench, seconds: float) -> None:
    """Lets time pass as the server sees it, a look at the leases each second."""
    for _ in range(round(seconds)):
        bench.clock.now_s += 1
        bench.dispatcher.expire()


def renew(bench: Bench, *numbers: int, peer: Peer = GRPC) -> list[int]:
    call = encode_request(session_pb2.RenewRequest(sessions=numbers))
    return list(decode_response(call, Caller(bench.dispatcher, 0, peer).send(call)).stale)


def test_hello_opens_a_session(bench: Bench) -> None:
    answer = hello(bench.dispatcher)
    assert answer.outcome == session_pb2.Outcome()
    assert answer.protocol == PROTOCOL_MAX and answer.boot_epoch == bench.ledger.boot_epoch
    assert len(answer.secret) == 16 and answer.lease_ms == 0
    assert answer.limits.slots_max == SLOTS_MAX and answer.limits.body_bytes_max == BODY_BYTES_MAX
    offered = ("Hello", "Renew", "Goodbye", "Abandon", "MakeDirectory", "GetPath", "Append", "PRead")
    assert list(answer.opcodes) == sorted(BY_NAME[name].opcode for name in offered)
    session = bench.ledger.session(answer.session)
    assert session is not None
    assert (session.uid, session.gid, session.groups, session.principal) == (7, 8, (8, 9), "uid:0")
    assert (session.secret, session.leased) == (answer.secret, False)
    again = hello(bench.dispatcher)
    assert again.session != answer.session and again.secret != answer.secret


def test_protocol_is_the_highest_both_speak(bench: Bench) -> None:
    assert hello(bench.dispatcher, protocol_min=0, protocol_max=99).protocol == PROTOCOL_MAX
    for low, high in ((PROTOCOL_MAX + 1, 99), (0, PROTOCOL_MIN - 1), (99, 1)):
        answer = hello(bench.dispatcher, protocol_min=low, protocol_max=high)
        assert answer.protocol == 0 and answer.session == 0
        assert answer.outcome.refusal == REFUSAL_UNSUPPORTED
        assert (answer.protocol_min, answer.protocol_max) == (PROTOCOL_MIN, PROTOCOL_MAX)


@pytest.mark.parametrize("kind", [SERVER_KIND_MEMORY, SERVER_KIND_UNSPECIFIED, 77])
def test_a_server_of_another_kind_refuses(bench: Bench, kind: int) -> None:
    answer = hello(bench.dispatcher, kind=kind)
    assert (answer.outcome.refusal, answer.protocol, answer.session) == (REFUSAL_UNSUPPORTED, PROTOCOL_MAX, 0)


@pytest.mark.parametrize(
    "credentials",
    [
        Credentials(groups=range(GROUPS_MAX + 1)),
        Credentials(uid=2**32 - 1),
        Credentials(gid=2**32 - 1),
        Credentials(groups=[2**32 - 1]),
    ],
)
def test_credentials_have_limits(bench: Bench, credentials: Credentials) -> None:
    answer = hello(bench.dispatcher, credentials=credentials)
    assert (answer.outcome.refusal, answer.session) == (REFUSAL_MALFORMED, 0)
    assert hello(bench.dispatcher, credentials=Credentials(groups=range(GROUPS_MAX))).session


def test_sessions_have_a_limit(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "SESSIONS_MAX", 2)
    first, second = hello(bench.dispatcher), hello(bench.dispatcher)
    assert hello(bench.dispatcher).outcome.refusal == REFUSAL_OVERLOADED
    resumed = hello(bench.dispatcher, resume_session=first.session, resume_secret=first.secret)
    assert resumed.session == first.session
    bench.dispatcher.closed(second.session, DIRECT)
    assert hello(bench.dispatcher).session


def test_resume_needs_secret_and_principal(bench: Bench) -> None:
    opened = hello(bench.dispatcher)
    wrong = [
        (DIRECT, opened.session, b""),
        (DIRECT, opened.session, bytes(16)),
        (DIRECT, opened.session, opened.secret + b"x"),
        (DIRECT, opened.session + 1, opened.secret),
        (Peer("uid:1", "direct"), opened.session, opened.secret),
    ]
    for peer, number, secret in wrong:
        answer = hello(bench.dispatcher, peer, resume_session=number, resume_secret=secret)
        assert (answer.outcome.refusal, answer.session) == (REFUSAL_STALE_SESSION, 0)
        assert not answer.secret
    answer = hello(bench.dispatcher, resume_session=opened.session, resume_secret=opened.secret)
    assert (answer.session, answer.secret) == (opened.session, opened.secret)


def test_a_closed_control_socket_ends_the_session(bench: Bench) -> None:
    caller = bench.caller(RING)
    tick(bench, 10 * LEASE_S)
    assert caller.send(caller.new(append(b"a"))).refusal == REFUSAL_UNSPECIFIED
    bench.dispatcher.closed(caller.session, RING)
    assert caller.send(caller.new(append(b"b"))).refusal == REFUSAL_STALE_SESSION
    assert bench.service.ended == [caller.session]


def test_a_lease_ends_without_a_sign_of_life(bench: Bench) -> None:
    assert hello(bench.dispatcher, DIRECT).lease_ms == 0
    silent = hello(bench.dispatcher, GRPC)
    assert silent.lease_ms == LEASE_MS
    calling, reading, renewed = (bench.caller(GRPC) for _ in range(3))
    bench.dispatcher.closed(renewed.session, GRPC)  # a stream that ends says nothing about the lease
    for _ in range(3):
        tick(bench, LEASE_S - 1)
        calling.send(calling.new(append(b"a")))
        reading.send(reading.pure(pread()))
        assert renew(bench, renewed.session) == []
    assert bench.service.ended == [silent.session]
    tick(bench, LEASE_S + 1)
    assert bench.service.ended[1:] == [calling.session, reading.session, renewed.session]
    assert renew(bench, renewed.session) == [renewed.session]
    assert calling.send(calling.new(append(b"late"))).refusal == REFUSAL_STALE_SESSION
    assert b"late" not in bench.service.notes


def test_renew_is_for_the_principals_own_sessions(bench: Bench) -> None:
    caller = bench.caller(GRPC)
    other = Peer("somebody", "grpc")
    tick(bench, LEASE_S - 1)
    assert renew(bench, caller.session, peer=other) == [caller.session]
    tick(bench, 2)
    assert bench.service.ended == [caller.session]
    for body in (b"\xff", bytes(BODY_BYTES_MAX + 1)):
        reply = caller.send(Call(BY_NAME["Renew"].opcode, body))
        assert reply == Reply(refusal=REFUSAL_MALFORMED)


def test_a_restarted_server_waits_for_its_clients(bench: Bench) -> None:
    first, second = hello(bench.dispatcher, RING), hello(bench.dispatcher, RING)
    leased = bench.caller(GRPC)
    bench.restart()
    tick(bench, LEASE_S - 1)
    resumed = hello(bench.dispatcher, RING, resume_session=first.session, resume_secret=first.secret)
    assert resumed.session == first.session
    assert renew(bench, leased.session) == []
    tick(bench, 2)
    assert bench.service.ended == [second.session]
    tick(bench, LEASE_S)
    assert bench.service.ended == [second.session, leased.session]
    bench.dispatcher.closed(first.session, RING)
    assert bench.service.ended == [second.session, leased.session, first.session]


def test_a_leased_session_resumed_by_ring_falls_back_to_its_lease(bench: Bench) -> None:
    opened = hello(bench.dispatcher, Peer("uid:0", "grpc"))
    hello(bench.dispatcher, RING, resume_session=opened.session, resume_secret=opened.secret)
    tick(bench, 3 * LEASE_S)
    bench.dispatcher.closed(opened.session, RING)
    assert bench.service.ended == []
    tick(bench, LEASE_S + 1)
    assert bench.service.ended == [opened.session]


def test_a_server_that_was_stopped_does_not_blame_its_clients(bench: Bench) -> None:
    caller = bench.caller(GRPC)
    tick(bench, 3)
    bench.clock.now_s += 3600
    bench.dispatcher.expire()
    assert bench.service.ended == []
    tick(bench, LEASE_S)
    assert bench.service.ended == [caller.session]


def test_draining_ends_no_session(bench: Bench) -> None:
    opened = hello(bench.dispatcher, RING)
    bench.dispatcher.drain()
    bench.dispatcher.closed(opened.session, RING)
    bench.restart()
    answer = hello(bench.dispatcher, RING, resume_session=opened.session, resume_secret=opened.secret)
    assert answer.session == opened.session
