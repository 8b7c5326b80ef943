"""Sessions and slots of a server whose state does not outlive it: the memory server's, and tests'.

Transactions are real: every change, also the service's own (`on_rollback`), is undone if its transaction
or savepoint fails. The contract is servers.service.Ledger; tests/contract/ledger_contract.py is its suite.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from ipc.identity import SlotState
from ipc.seams import Clock, Random
from servers.service import Session

SESSION_BITS = 62
"""Numbers start at random below this, so that an instance never gives those of an earlier one again."""


@dataclass(slots=True)
class _Row:
    session: Session
    slots: dict[int, tuple[int, bytes, bytes]] = field(default_factory=dict)
    """slot -> (seq, digest, encoded reply)"""


class MemoryLedger:
    """A Ledger in memory. After its death every session is unknown, which clients see as STALE_SESSION."""

    def __init__(self, clock: Clock, random: Random) -> None:
        # Nothing remembers the epoch before, so the clock that people set must tell the two apart.
        self.boot_epoch = clock.realtime_ns()
        self._next = 1 + (int.from_bytes(random.bytes(8), "little") >> (64 - SESSION_BITS))
        self._rows: dict[int, _Row] = {}
        self._undo: list[Callable[[], object]] = []
        self._on_commit: list[Callable[[], object]] = []
        self._open = False

    @contextmanager
    def transaction(self) -> Iterator[None]:
        assert not self._open, "transactions do not nest; savepoints do"
        self._open = True
        try:
            yield
        except BaseException:
            self._roll_back(0, 0)
            raise
        finally:
            self._undo.clear()
            self._open = False
        actions, self._on_commit = self._on_commit, []
        for action in actions:
            action()

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        assert self._open, "a savepoint needs a transaction"
        undo, on_commit = len(self._undo), len(self._on_commit)
        try:
            yield
        except BaseException:
            self._roll_back(undo, on_commit)
            raise

    def on_rollback(self, undo: Callable[[], object]) -> None:
        """Has `undo` called if what is being done now is rolled back; latest first."""
        assert self._open, "a change needs a transaction"
        self._undo.append(undo)

    def on_commit(self, action: Callable[[], object]) -> None:
        """Has `action` called once what is being done now is committed; not if it is rolled back."""
        assert self._open, "a change needs a transaction"
        self._on_commit.append(action)

    def _roll_back(self, undo: int, on_commit: int) -> None:
        del self._on_commit[on_commit:]
        while len(self._undo) > undo:
            self._undo.pop()()

    def open_session(self, session: Session) -> None:
        number = session.number
        assert number not in self._rows, f"session {number} exists"
        self.on_rollback(lambda: self._rows.pop(number))
        self._rows[number] = _Row(session)

    def next_session(self) -> int:
        self._next += 1
        return self._next - 1

    def session(self, number: int) -> Session | None:
        row = self._rows.get(number)
        return row.session if row else None

    def sessions(self) -> list[Session]:
        return [row.session for row in self._rows.values()]

    def end_session(self, number: int) -> None:
        row = self._rows.get(number)
        if row is None:
            return
        self.on_rollback(lambda: self._rows.update({number: row}))
        del self._rows[number]

    def slot(self, session: int, slot: int) -> tuple[SlotState, bytes]:
        row = self._rows.get(session)
        last = row.slots.get(slot) if row else None
        if last is None:
            return SlotState(), b""
        seq, digest, reply = last
        return SlotState(seq, digest), reply

    def record(self, session: int, slot: int, seq: int, digest: bytes, reply: bytes) -> None:
        slots = self._rows[session].slots
        before = slots.get(slot)
        if before is None:
            self.on_rollback(lambda: slots.pop(slot))
        else:
            self.on_rollback(lambda: slots.update({slot: before}))
        slots[slot] = (seq, digest, reply)
