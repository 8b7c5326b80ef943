"""What every Ledger promises (servers.service.Ledger): one suite for all stores.

A store's tests subclass LedgerContract and give the `ledger` fixture; one whose sessions outlive it
subclasses DurableLedgerContract too, and gives `open_ledger`.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import pytest

from ipc.identity import SlotState
from servers.service import ErrnoError, Ledger, Session

DIGEST = bytes(range(16))
OTHER = bytes(range(16, 32))


class FailureError(Exception):
    """What the tests raise inside transactions."""


def open_session(ledger: Ledger, **changes: Any) -> Session:
    """A new session, in a transaction of its own."""
    with ledger.transaction():
        session = Session(ledger.next_session(), "uid:7", b"s" * 16, 7, 8, (8, 9), True)
        session = replace(session, **changes)
        ledger.open_session(session)
    return session


class LedgerContract:
    """`ledger`: a fresh one without sessions."""

    def test_sessions_are_found_until_they_end(self, ledger: Ledger) -> None:
        first, second = open_session(ledger), open_session(ledger, leased=False, groups=())
        assert ledger.session(first.number) == first
        assert sorted(ledger.sessions(), key=lambda s: s.number) == [first, second]
        with ledger.transaction():
            ledger.end_session(first.number)
        assert ledger.session(first.number) is None
        assert ledger.sessions() == [second]

    def test_session_numbers_are_never_given_twice(self, ledger: Ledger) -> None:
        numbers = []
        for _ in range(5):
            session = open_session(ledger)
            numbers.append(session.number)
            with ledger.transaction():
                ledger.end_session(session.number)
        assert numbers == sorted(set(numbers))
        assert numbers[0] > 0 and numbers[-1] < 1 << 63

    def test_a_fresh_slot_is_empty(self, ledger: Ledger) -> None:
        session = open_session(ledger)
        assert ledger.slot(session.number, 3) == (SlotState(), b"")

    def test_a_slot_remembers_its_last_call_only(self, ledger: Ledger) -> None:
        session = open_session(ledger)
        for seq in (1, 2, 3):
            with ledger.transaction():
                ledger.record(session.number, 5, seq, DIGEST, b"reply %d" % seq)
        assert ledger.slot(session.number, 5) == (SlotState(3, DIGEST), b"reply 3")
        assert ledger.slot(session.number, 6) == (SlotState(), b"")

    @pytest.mark.parametrize("reply", [b"", b"\0", b"\0\xff" * 40_000], ids=["empty", "nul", "large"])
    def test_replies_come_back_byte_for_byte(self, ledger: Ledger, reply: bytes) -> None:
        session = open_session(ledger)
        with ledger.transaction():
            ledger.record(session.number, 0, 1, DIGEST, reply)
        assert ledger.slot(session.number, 0)[1] == reply

    def test_slots_of_sessions_are_apart(self, ledger: Ledger) -> None:
        one, two = open_session(ledger), open_session(ledger)
        with ledger.transaction():
            ledger.record(one.number, 0, 1, DIGEST, b"one")
        assert ledger.slot(two.number, 0) == (SlotState(), b"")

    def test_slots_end_with_their_session(self, ledger: Ledger) -> None:
        session = open_session(ledger)
        with ledger.transaction():
            ledger.record(session.number, 0, 1, DIGEST, b"reply")
        with ledger.transaction():
            ledger.end_session(session.number)
        assert ledger.slot(session.number, 0) == (SlotState(), b"")

    def test_a_failed_transaction_leaves_nothing(self, ledger: Ledger) -> None:
        kept = open_session(ledger)
        with ledger.transaction():
            ledger.record(kept.number, 0, 1, DIGEST, b"before")
        with pytest.raises(FailureError), ledger.transaction():
            new = replace(kept, number=ledger.next_session())
            ledger.open_session(new)
            ledger.record(new.number, 0, 1, OTHER, b"new")
            ledger.record(kept.number, 0, 2, OTHER, b"after")
            ledger.record(kept.number, 1, 1, OTHER, b"another slot")
            ledger.end_session(kept.number)
            raise FailureError
        assert ledger.sessions() == [kept]
        assert ledger.session(new.number) is None
        assert ledger.slot(kept.number, 0) == (SlotState(1, DIGEST), b"before")
        assert ledger.slot(kept.number, 1) == (SlotState(), b"")

    def test_a_failed_savepoint_leaves_what_came_before_and_after(self, ledger: Ledger) -> None:
        session = open_session(ledger)
        with ledger.transaction():
            ledger.record(session.number, 0, 1, DIGEST, b"before")
            with pytest.raises(ErrnoError), ledger.savepoint():
                ledger.record(session.number, 0, 2, DIGEST, b"inside")
                ledger.record(session.number, 1, 1, DIGEST, b"inside")
                raise ErrnoError(2)
            ledger.record(session.number, 2, 1, DIGEST, b"after")
        assert ledger.slot(session.number, 0) == (SlotState(1, DIGEST), b"before")
        assert ledger.slot(session.number, 1) == (SlotState(), b"")
        assert ledger.slot(session.number, 2) == (SlotState(1, DIGEST), b"after")

    def test_a_kept_savepoint_goes_with_its_failed_transaction(self, ledger: Ledger) -> None:
        session = open_session(ledger)
        with pytest.raises(FailureError), ledger.transaction():
            with ledger.savepoint():
                ledger.record(session.number, 0, 1, DIGEST, b"inside")
            raise FailureError
        assert ledger.slot(session.number, 0) == (SlotState(), b"")

    def test_a_transaction_can_follow_a_failed_one(self, ledger: Ledger) -> None:
        session = open_session(ledger)
        for outcome in (FailureError, None, FailureError, None):
            if outcome:
                with pytest.raises(outcome), ledger.transaction():
                    raise outcome
            with ledger.transaction():
                seq = ledger.slot(session.number, 0)[0].seq + 1
                ledger.record(session.number, 0, seq, DIGEST, b"")
        assert ledger.slot(session.number, 0)[0].seq == 4

    def test_ending_an_unknown_session_changes_nothing(self, ledger: Ledger) -> None:
        session = open_session(ledger)
        with ledger.transaction():
            ledger.end_session(session.number + 100)
        assert ledger.sessions() == [session]


class DurableLedgerContract:
    """`open_ledger`: opens the same store again, as a context manager that closes it."""

    def test_sessions_and_slots_survive(self, open_ledger: Callable[[], AbstractContextManager[Ledger]]) -> None:
        with open_ledger() as ledger:
            session, ended = open_session(ledger), open_session(ledger)
            epoch = ledger.boot_epoch
            with ledger.transaction():
                ledger.record(session.number, 0, 1, DIGEST, b"reply")
                ledger.end_session(ended.number)
        with open_ledger() as ledger:
            assert ledger.boot_epoch > epoch
            assert ledger.sessions() == [session]
            assert ledger.slot(session.number, 0) == (SlotState(1, DIGEST), b"reply")
            assert open_session(ledger).number > ended.number
