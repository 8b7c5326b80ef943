"""The ledger in memory keeps the contract, and undoes what its service registers."""

from functools import partial

import pytest

from ipc.seams import HostClock
from servers.ledger import MemoryLedger
from tests.contract.ledger_contract import FailureError, LedgerContract


class Counter:
    """Randomness that counts."""

    def __init__(self) -> None:
        self.calls = 0

    def bytes(self, count: int) -> bytes:
        self.calls += 1
        return self.calls.to_bytes(count, "big")


@pytest.fixture
def ledger() -> MemoryLedger:
    return MemoryLedger(HostClock(), Counter())


class TestMemoryLedger(LedgerContract):
    pass


def test_undo_runs_latest_first_and_only_on_rollback(ledger: MemoryLedger) -> None:
    undone: list[int] = []
    with ledger.transaction():
        ledger.on_rollback(lambda: undone.append(0))
    with pytest.raises(FailureError), ledger.transaction():
        for number in (1, 2):
            ledger.on_rollback(partial(undone.append, number))
        with pytest.raises(FailureError), ledger.savepoint():
            ledger.on_rollback(lambda: undone.append(3))
            raise FailureError
        assert undone == [3]
        raise FailureError
    assert undone == [3, 2, 1]


def test_two_instances_never_share_session_numbers() -> None:
    random = Counter()
    one, two = MemoryLedger(HostClock(), random), MemoryLedger(HostClock(), random)
    assert {one.next_session() for _ in range(100)}.isdisjoint(two.next_session() for _ in range(100))
    assert two.boot_epoch > one.boot_epoch
