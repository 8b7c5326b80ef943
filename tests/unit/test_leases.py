"""The table of leases: who waits for whom, and for how long at most."""

from typing import Any

import pytest

from farcall.v1.file_pb2 import AwaitRecallResponse
from servers.leases import LEASE_S, RESTLESS_S, Holder, Leases
from servers.service import Deferred, NotYetError
from tests.unit.serving import ManualClock

FIRST, SECOND = 7, 8
"""Sessions."""


class Keeper:
    """A holder as its client is: asks, waits, acknowledges."""

    def __init__(self, leases: Leases, session: int) -> None:
        self.leases, self.session = leases, session
        self.grant = self.heard = 0
        self.told: list[int] = []
        self.wait()
        self.wait()

    @property
    def holder(self) -> Holder:
        return self.leases.hold(self.session, self.grant)

    def wait(self) -> None:
        """AwaitRecall, acknowledging what came before."""
        answer = self.leases.await_recall(self.holder, self.grant, self.heard)
        if isinstance(answer, Deferred):
            answer.attach(self._told)
        else:
            self._told(answer)

    def _told(self, answer: Any) -> None:
        assert isinstance(answer, AwaitRecallResponse)
        if answer.grant != self.grant:
            self.grant, self.heard = answer.grant, 0
            return
        self.heard = answer.recalls
        self.told += answer.inodes

    def keeps(self, *inodes: int) -> bool:
        return self.leases.lease(self.holder, self.grant, inodes)


def changed(leases: Leases, *inodes: int) -> NotYetError | None:
    """None: it happened."""
    try:
        leases.check(inodes)
    except NotYetError as wait:
        return wait
    return None


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def leases(clock: ManualClock) -> Leases:
    return Leases(clock, 3)


def test_what_nobody_keeps_changes_at_once(leases: Leases) -> None:
    keeper = Keeper(leases, FIRST)
    assert keeper.keeps(1, 2)
    assert changed(leases, 3) is None
    assert keeper.told == []


def test_a_change_waits_for_every_holder_s_word(leases: Leases) -> None:
    keepers = [Keeper(leases, FIRST), Keeper(leases, SECOND)]
    assert all(keeper.keeps(1, 2) for keeper in keepers)
    wait = changed(leases, 1)
    assert wait is not None and not wait.ready()
    assert [keeper.told for keeper in keepers] == [[1], [1]]
    keepers[0].wait()
    assert not wait.ready()
    keepers[1].wait()
    assert wait.ready()
    assert changed(leases, 1) is None


def test_a_recall_that_was_lost_is_told_again(leases: Leases) -> None:
    keeper = Keeper(leases, FIRST)
    assert keeper.keeps(1)
    wait = changed(leases, 1)
    assert wait is not None
    keeper.heard = 0  # the answer was lost on its way
    keeper.told.clear()
    keeper.wait()
    assert keeper.told == [1] and not wait.ready()
    keeper.wait()
    assert wait.ready()


def test_who_says_nothing_is_waited_for_until_its_lease_ends(leases: Leases, clock: ManualClock) -> None:
    keeper = Keeper(leases, FIRST)
    assert keeper.keeps(1)
    wait = changed(leases, 1)
    assert wait is not None
    grant = keeper.grant
    clock.now_s += LEASE_S - 0.01
    assert not wait.ready()
    clock.now_s += 0.02
    assert wait.ready()
    assert changed(leases, 1) is None
    keeper.wait()
    assert keeper.grant != grant, "it has not heard that it must forget everything"


def test_who_renews_but_does_not_acknowledge_is_not_waited_for_longer(leases: Leases, clock: ManualClock) -> None:
    keeper = Keeper(leases, FIRST)
    assert keeper.keeps(1)
    wait = changed(leases, 1)
    assert wait is not None
    for _ in range(10):
        clock.now_s += LEASE_S / 8
        assert leases.find(FIRST, keeper.grant) is not None
    assert wait.ready()


def test_who_asks_on_keeps_its_lease(leases: Leases, clock: ManualClock) -> None:
    keeper = Keeper(leases, FIRST)
    assert keeper.keeps(1)
    for _ in range(10):
        clock.now_s += LEASE_S / 2
        assert leases.find(FIRST, keeper.grant) is not None
    assert changed(leases, 1) is not None


def test_nobody_keeps_again_what_somebody_waits_to_change(leases: Leases, clock: ManualClock) -> None:
    first, second = Keeper(leases, FIRST), Keeper(leases, SECOND)
    assert first.keeps(1)
    assert changed(leases, 1) is not None
    assert not second.keeps(1) and not first.keeps(1)
    first.wait()
    assert changed(leases, 1) is None
    assert not second.keeps(1), "who looks and writes by turns would wait each time"
    clock.now_s += RESTLESS_S + 0.01
    assert second.keeps(1)


def test_after_a_restart_changes_wait_for_the_holders_of_before(clock: ManualClock) -> None:
    leases = Leases(clock, 4, [FIRST, SECOND])
    wait = changed(leases, 1)
    assert wait is not None
    Keeper(leases, FIRST)
    assert not wait.ready()
    leases.ended(SECOND)
    assert wait.ready()
    assert changed(leases, 1) is None


def test_after_a_restart_changes_wait_for_a_lease_at_most(clock: ManualClock) -> None:
    leases = Leases(clock, 4, [FIRST])
    wait = changed(leases, 1)
    assert wait is not None
    clock.now_s += LEASE_S + 0.01
    assert wait.ready()
    assert changed(leases, 1) is None


def test_an_earlier_grant_keeps_nothing(leases: Leases) -> None:
    keeper = Keeper(leases, FIRST)
    holder = leases.find(FIRST, keeper.grant - 1)
    assert holder is not None
    assert not leases.lease(holder, keeper.grant - 1, [1])
    assert changed(leases, 1) is None


def test_recalls_come_whole_and_in_order(leases: Leases, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("servers.leases.RECALLED_MAX", 2)
    keeper = Keeper(leases, FIRST)
    assert keeper.keeps(1, 2, 3, 4, 5)
    waits = [changed(leases, 1), changed(leases, 2, 3), changed(leases, 4)]
    assert keeper.told == [1]
    keeper.wait()
    assert keeper.told == [1, 2, 3]
    keeper.wait()
    assert keeper.told == [1, 2, 3, 4]
    keeper.wait()
    assert all(wait is not None and wait.ready() for wait in waits)
