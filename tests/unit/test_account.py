"""What a process holds of the memory server: extents asked for and given back, refusals, a server that forgot."""

from dataclasses import dataclass
from typing import Any, cast

import pytest
from google.protobuf.message import Message

from client_vm.abi.common import ENOMEM, EPERM
from client_vm.account import EXTENT_BYTES, GOODBYE_BYTES_MIN, MemoryAccount
from client_vm.errors import Errno
from farcall.v1.kernel_pb2 import RingGrant
from farcall.v1.memory_pb2 import (
    AdoptSegmentRequest,
    CreateSegmentRequest,
    CreateSegmentResponse,
    InheritMemoryRequest,
)
from farcall.v1.session_pb2 import GoodbyeRequest
from ipc.client import Client, Pending, ServerTimeoutError, SessionLostError
from ipc.message import Reply
from ipc.operations import Operation

PAGE = 4096


@dataclass
class Answer:
    """To a call begun; the server was gone meanwhile, or says this errno."""

    errno: int
    lost: bool = False

    def result(self) -> tuple[Reply, None]:
        if self.lost:
            raise SessionLostError
        return Reply(errno=self.errno), None


class Server:
    """A memory server's books for one session after the other, and what it shall do next."""

    def __init__(self, quota: int = 1 << 40) -> None:
        self.quota = quota
        self.held = 0
        self.calls: list[tuple[str, int]] = []
        self.sessions = 0
        self.trouble: list[Exception] = []
        self.refuses = 0
        """With this errno to adopt a segment."""

    def connect(self) -> Client:
        self.sessions += 1
        self.held = 0
        return cast(Client, self)

    def close(self) -> None: ...

    def call(self, request: Message) -> tuple[Reply, Any]:
        self.calls.append((type(request).__name__, getattr(request, "segment", 0)))
        if self.trouble:
            raise self.trouble.pop(0)
        if isinstance(request, CreateSegmentRequest):
            return Reply(), CreateSegmentResponse(segment=10 + len(self.calls))
        errno = self.refuses if isinstance(request, AdoptSegmentRequest) else 0
        return Reply(errno=errno), None

    def farewell(self, request: GoodbyeRequest, patience_s: float) -> None:
        assert patience_s > 0
        self.calls.append((type(request).__name__, 0))

    def begin(self, request: InheritMemoryRequest) -> Pending:
        self.calls.append((type(request).__name__, request.size_bytes))
        if self.trouble:
            raise self.trouble.pop(0)
        return cast(Pending, Answer(EPERM if request.target_session < self.sessions else 0))

    def call_packed(self, operation: Operation, size: int) -> Reply:
        self.calls.append((operation.name, size))
        if self.trouble:
            raise self.trouble.pop(0)
        after = self.held + (size if operation.name == "Grant" else -size)
        if after > self.quota:
            return Reply(errno=ENOMEM)
        assert after >= 0
        self.held = after
        return Reply(result=after)


def test_small_changes_make_no_calls() -> None:
    server = Server()
    account = MemoryAccount(server.connect)
    for _ in range(100):
        account.charge(PAGE)
        account.charge(-PAGE)
    assert server.calls == [("Grant", EXTENT_BYTES)]
    account.charge(EXTENT_BYTES)
    assert server.held == EXTENT_BYTES
    account.charge(1)
    assert server.held == 2 * EXTENT_BYTES == account.granted_bytes


def test_what_is_free_goes_back_but_for_one_extent() -> None:
    server = Server()
    account = MemoryAccount(server.connect)
    account.charge(10 * EXTENT_BYTES)
    account.charge(-10 * EXTENT_BYTES)
    assert (account.used_bytes, server.held) == (0, EXTENT_BYTES)


def test_a_refusal_changes_nothing() -> None:
    server = Server(quota=4 * EXTENT_BYTES)
    account = MemoryAccount(server.connect)
    account.charge(3 * EXTENT_BYTES)
    with pytest.raises(Errno) as refused:
        account.charge(2 * EXTENT_BYTES)
    assert refused.value.errno == ENOMEM
    assert (account.used_bytes, account.granted_bytes, server.held) == (3 * EXTENT_BYTES,) * 3
    account.charge(EXTENT_BYTES)


def test_giving_back_never_fails_and_is_made_up_for() -> None:
    server = Server()
    account = MemoryAccount(server.connect)
    account.charge(10 * EXTENT_BYTES)
    server.trouble.append(ServerTimeoutError())
    account.charge(-5 * EXTENT_BYTES)
    assert (account.used_bytes, server.held) == (5 * EXTENT_BYTES, 10 * EXTENT_BYTES)
    account.charge(-1)
    assert server.held == account.granted_bytes == 6 * EXTENT_BYTES


@pytest.mark.parametrize("change", [3 * EXTENT_BYTES, -3 * EXTENT_BYTES])
def test_a_server_that_forgot_is_granted_the_whole_again(change: int) -> None:
    server = Server()
    account = MemoryAccount(server.connect)
    account.charge(5 * EXTENT_BYTES)
    server.trouble.append(SessionLostError())
    account.charge(change)
    assert server.sessions == 2
    assert account.used_bytes == 5 * EXTENT_BYTES + change
    assert server.held == account.granted_bytes >= account.used_bytes


def test_a_server_that_keeps_forgetting_is_out_of_memory() -> None:
    server = Server()
    account = MemoryAccount(server.connect)
    server.trouble = [SessionLostError() for _ in range(100)]
    with pytest.raises(Errno) as refused:
        account.charge(PAGE)
    assert refused.value.errno == ENOMEM and account.used_bytes == 0
    server.trouble.clear()
    account.charge(PAGE)
    assert server.held == EXTENT_BYTES


def test_who_makes_no_call_has_no_client() -> None:
    server = Server()
    account = MemoryAccount(server.connect)
    account.charge(0)
    account.goodbye(False)
    assert server.sessions == 0
    account.charge(PAGE)
    account.charge(PAGE)
    assert server.sessions == 1


@pytest.mark.parametrize(
    ("held", "shares", "says"),
    [(PAGE, False, False), (PAGE, True, True), (GOODBYE_BYTES_MIN, False, True)],
)
def test_much_or_shared_memory_is_given_back_at_the_end(held: int, shares: bool, says: bool) -> None:
    """Before the parent hears of it: it may fork again at once, within the same quota."""
    server = Server()
    account = MemoryAccount(server.connect)
    account.charge(held)
    account.goodbye(shares)
    assert (server.calls[-1] == ("GoodbyeRequest", 0)) is says


def child_of(account: MemoryAccount, session: int) -> tuple[MemoryAccount, Server]:
    """A child that took over a spare with this session at the memory server, which counts its calls apart."""
    pending = account.begin_inherit(RingGrant(session=session))
    if pending is not None:
        account.end_inherit(pending)
    server = Server()
    return MemoryAccount.moved(account, server.connect, empty=False), server


def test_a_child_is_granted_the_same() -> None:
    server = Server()
    account = MemoryAccount(server.connect)
    account.charge(3 * EXTENT_BYTES)
    child, its_server = child_of(account, session=1)
    assert server.calls[-1] == ("InheritMemoryRequest", 3 * EXTENT_BYTES)
    child.charge(PAGE)
    assert its_server.calls == [("Grant", EXTENT_BYTES)]


def test_a_server_that_forgot_before_a_fork() -> None:
    """The parent is granted the whole again at once, the child with its first call."""
    server = Server()
    account = MemoryAccount(server.connect)
    account.charge(3 * EXTENT_BYTES)
    server.trouble.append(SessionLostError())
    child, its_server = child_of(account, session=1)
    assert (server.sessions, server.held) == (2, 3 * EXTENT_BYTES)
    child.charge(PAGE)
    assert its_server.held == child.granted_bytes == 4 * EXTENT_BYTES


def test_a_spare_older_than_the_server() -> None:
    server = Server()
    account = MemoryAccount(server.connect)
    account.charge(3 * EXTENT_BYTES)
    child, its_server = child_of(account, session=0)
    child.charge(PAGE)
    assert its_server.held == child.granted_bytes == 4 * EXTENT_BYTES


def test_no_fork_beyond_the_quota_of_a_server_that_forgot() -> None:
    server = Server()
    account = MemoryAccount(server.connect)
    account.charge(3 * EXTENT_BYTES)
    account.end_inherit(cast(Pending, Answer(0)))
    server.quota = EXTENT_BYTES
    with pytest.raises(Errno) as refused:
        account.end_inherit(cast(Pending, Answer(0, lost=True)))
    assert refused.value.errno == ENOMEM


def test_a_server_that_forgot_is_told_of_segments() -> None:
    server = Server()
    account = MemoryAccount(server.connect)
    account.charge(PAGE)
    first, _ = account.make_segment(PAGE)
    second, _ = account.make_segment(PAGE)
    server.calls.clear()
    server.trouble.append(SessionLostError())
    account.drop_segment(first)
    assert server.calls == [
        ("DropSegmentRequest", first),
        ("AdoptSegmentRequest", second),
        ("Grant", EXTENT_BYTES),
        ("DropSegmentRequest", first),
    ]
    assert server.held == account.granted_bytes


def test_a_segment_that_was_forgotten_before_it_was_fetched_is_made_again() -> None:
    server = Server()
    account = MemoryAccount(server.connect)
    account.charge(PAGE)
    called = server.call

    def forget(request: Message) -> tuple[Reply, Any]:
        if type(request).__name__ == "FetchSegmentRequest" and server.sessions == 1:
            raise SessionLostError
        return called(request)

    server.call = forget  # type: ignore[method-assign]
    number, _ = account.make_segment(PAGE)
    assert (server.sessions, [name for name, _ in server.calls].count("CreateSegmentRequest")) == (2, 2)
    assert server.calls[-1] == ("FetchSegmentRequest", number)


@pytest.mark.parametrize("refuses", [EPERM, ENOMEM])
def test_a_child_whose_spare_was_older_tells_of_its_segments(refuses: int) -> None:
    server = Server()
    account = MemoryAccount(server.connect)
    number, _ = account.make_segment(PAGE)
    child, its_server = child_of(account, session=0)
    its_server.refuses = refuses
    if refuses == ENOMEM:
        with pytest.raises(Errno):
            child.charge(PAGE)
        its_server.refuses = 0
    child.charge(PAGE)
    assert ("AdoptSegmentRequest", number) in its_server.calls
    assert its_server.held == child.granted_bytes == EXTENT_BYTES
