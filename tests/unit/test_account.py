"""What a process holds of the memory server: extents asked for and given back, refusals, a server that forgot."""

from typing import cast

import pytest

from client_vm.abi.common import ENOMEM
from client_vm.account import EXTENT_BYTES, MemoryAccount
from client_vm.errors import Errno
from ipc.client import Client, ServerTimeoutError, SessionLostError
from ipc.message import Reply
from ipc.operations import Operation

PAGE = 4096


class Server:
    """A memory server's books for one session after the other, and what it shall do next."""

    def __init__(self, quota: int = 1 << 40) -> None:
        self.quota = quota
        self.held = 0
        self.calls: list[tuple[str, int]] = []
        self.sessions = 0
        self.trouble: list[Exception] = []

    def connect(self) -> Client:
        self.sessions += 1
        self.held = 0
        return cast(Client, self)

    def close(self) -> None: ...

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
