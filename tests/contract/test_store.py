"""The file server's store keeps the ledger's contract, and its own promises about hooks and opening."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing
from functools import partial
from pathlib import Path

import apsw
import pytest

from ipc.seams import HostRandom
from servers.file.store import DATABASE, StateInUseError, StateUnusableError, Store
from servers.service import Ledger
from tests.contract.ledger_contract import DurableLedgerContract, FailureError, LedgerContract, open_session


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path, HostRandom())
    yield store
    store.close()


@pytest.fixture
def open_ledger(tmp_path: Path) -> Callable[[], AbstractContextManager[Ledger]]:
    return lambda: closing(Store(tmp_path, HostRandom()))


class TestStore(LedgerContract):
    pass


class TestDurableStore(DurableLedgerContract):
    pass


def test_a_second_server_is_refused(tmp_path: Path, ledger: Store) -> None:
    with pytest.raises(StateInUseError):
        Store(tmp_path, HostRandom())
    open_session(ledger)  # and the first is none the worse for it


def test_something_else_in_its_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / DATABASE).write_bytes(b"no database at all, but long enough to be looked at" * 20)
    with pytest.raises(StateUnusableError):
        Store(tmp_path, HostRandom())


def test_a_state_that_cannot_be_opened_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StateUnusableError):
        Store(tmp_path / "none", HostRandom())


def test_a_later_layout_is_refused(tmp_path: Path) -> None:
    Store(tmp_path, HostRandom()).close()
    with closing(apsw.Connection(str(tmp_path / DATABASE))) as connection:
        connection.execute("PRAGMA user_version=999")
    with pytest.raises(StateUnusableError):
        Store(tmp_path, HostRandom())


LAYOUT_1_HANDLES = """
CREATE TABLE handle(session INTEGER NOT NULL, handle INTEGER NOT NULL, ino INTEGER NOT NULL,
    flags INTEGER NOT NULL, lower BLOB, parent INTEGER NOT NULL, parent_lower BLOB, name BLOB NOT NULL,
    PRIMARY KEY(session, handle)) WITHOUT ROWID;
CREATE INDEX handle_ino ON handle(ino);
INSERT INTO handle VALUES(5, 9, 70, 1, CAST('a/f' AS BLOB), 60, CAST('a' AS BLOB), CAST('f' AS BLOB)),
    (4, 3, 71, 2, NULL, 60, NULL, CAST('g' AS BLOB));
PRAGMA user_version = 1;
"""


def test_layout_1_is_taken_over(tmp_path: Path) -> None:
    with closing(Store(tmp_path, HostRandom())) as store:
        session = open_session(store)
    with closing(apsw.Connection(str(tmp_path / DATABASE))) as connection:
        for table in ("handle", "description", "lock", "mapping", "pages", "lent"):
            connection.execute(f"DROP TABLE {table}")
        connection.execute(LAYOUT_1_HANDLES)
    for _ in range(2):
        with closing(Store(tmp_path, HostRandom())) as store:
            assert store.session(session.number) == session
            handles = "SELECT session, handle, d.* FROM handle JOIN description d ON id = description"
            assert sorted(store.execute(handles)) == [
                (4, 3, 1, 71, 2, None, 60, None, b"g"),
                (5, 9, 2, 70, 1, b"a/f", 60, b"a", b"f"),
            ]
            assert store.value("SELECT count(*) FROM sqlite_schema WHERE name LIKE 'handle%'") == 1


def test_layout_2_is_taken_over(tmp_path: Path) -> None:
    with closing(Store(tmp_path, HostRandom())) as store:
        session = open_session(store)
    with closing(apsw.Connection(str(tmp_path / DATABASE))) as connection:
        for table in ("pages", "lent"):
            connection.execute(f"DROP TABLE {table}")
        connection.execute("PRAGMA user_version=2")
    for _ in range(2):
        with closing(Store(tmp_path, HostRandom())) as store:
            assert store.session(session.number) == session
            assert store.value("SELECT count(*) FROM pages") == 0
            assert store.value("SELECT count(*) FROM lent") == 0


def test_sessions_of_another_state_have_other_numbers(tmp_path: Path) -> None:
    numbers = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        with closing(Store(tmp_path / name, HostRandom())) as store:
            numbers.append(open_session(store).number)
    assert numbers[0] != numbers[1]


def test_hooks_run_when_they_should(ledger: Store) -> None:
    done: list[str] = []
    with ledger.transaction():
        ledger.on_commit(partial(done.append, "commit"))
        ledger.before_commit(partial(done.append, "before"))
        ledger.on_rollback(partial(done.append, "rollback"))
        with pytest.raises(FailureError), ledger.savepoint():
            ledger.on_commit(partial(done.append, "inner commit"))
            ledger.before_commit(partial(done.append, "inner before"))
            ledger.on_rollback(partial(done.append, "inner first"))
            ledger.on_rollback(partial(done.append, "inner last"))
            raise FailureError
        assert done == ["inner last", "inner first"]
    assert done == ["inner last", "inner first", "before", "commit"]
    with ledger.transaction():
        pass
    assert done == ["inner last", "inner first", "before", "commit"]


def test_caches_are_cleared_only_if_a_change_was_undone(ledger: Store) -> None:
    cleared: list[int] = []
    ledger.add_cache(partial(cleared.append, 1))
    with pytest.raises(FailureError), ledger.transaction():
        raise FailureError
    assert cleared == []
    with ledger.transaction(), pytest.raises(FailureError), ledger.savepoint():
        ledger.execute("INSERT INTO meta VALUES('test', 1)")
        raise FailureError
    assert cleared == [1]
    assert ledger.value("SELECT value FROM meta WHERE name = 'test'") is None


def test_a_directory_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "letters").write_text("mine")
    with pytest.raises(StateUnusableError, match="letters"):
        Store(tmp_path, HostRandom())
    assert [path.name for path in tmp_path.iterdir()] == ["letters"]


def test_a_savepoint_takes_back_its_own_changes_only(ledger: Store) -> None:
    """Also the first of a transaction, which needs none of the database's."""

    def note(name: str) -> None:
        ledger.execute("INSERT INTO meta VALUES(?, 1)", (name,))

    with ledger.transaction():
        for name in ("first", "second"):
            with pytest.raises(FailureError), ledger.savepoint():
                note(name)
                raise FailureError
        with ledger.savepoint():
            note("kept")
        with pytest.raises(FailureError), ledger.savepoint():
            note("third")
            raise FailureError
        note("kept, too")
    with pytest.raises(FailureError), ledger.transaction():
        with pytest.raises(FailureError), ledger.savepoint():
            note("fourth")
            raise FailureError
        note("fifth")
        raise FailureError
    found = ledger.execute("SELECT name FROM meta WHERE name NOT IN ('boot_epoch', 'next_session') ORDER BY name")
    assert [name for (name,) in found] == ["kept", "kept, too"]
