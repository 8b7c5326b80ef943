"""The file server's database: transactions, sessions and slots (servers.service.Ledger), handed on to the
tables of inodes, extents and handles, so that an effect and its slot row commit together.

One connection, exclusively locked, in WAL mode with synchronous=NORMAL: a commit survives the death of every
process (the page cache keeps it); `sync` makes it survive a power failure. A failed commit or fsync ends the
process: what is on disk is unknown then, and the slot rows decide at restart.
"""

import os
import stat
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NoReturn

import apsw

from ipc.identity import SlotState
from ipc.seams import Random
from servers.file.schema import LAYOUT, MIGRATIONS, SCHEMA, statements
from servers.service import Session
from servers.steps import step

DATABASE: Final = "store.sqlite"
EXIT_STORE_FAILED: Final = 74
"""EX_IOERR of sysexits(3)."""
STATEMENTS_CACHED: Final = 256
PRAGMAS: Final = (
    "locking_mode=EXCLUSIVE",  # before WAL: no shared memory file, and a second server is refused
    "journal_mode=WAL",
    "synchronous=NORMAL",
    "cache_size=-32768",  # KiB
    "wal_autocheckpoint=8192",  # pages: a checkpoint waits for the disk, so not every 4 MiB
)
SESSION_BITS: Final = 47
"""A new state's sessions start at random below this: another state's numbers are not met again."""


class StateInUseError(Exception):
    """The state directory belongs to a server that lives."""


class StateUnusableError(Exception):
    """The state directory holds something else, or a layout this server does not know."""


def end_process(why: str) -> NoReturn:
    """Ends the server at once: what is on disk is unknown, and nothing may be answered from memory."""
    sys.stderr.write(f"farcall: file server: {why}; ending, the state decides at restart\n")
    sys.stderr.flush()
    os._exit(EXIT_STORE_FAILED)


def _check_directory(state_dir: Path) -> None:
    """StateUnusableError if it is somebody else's: it holds files or folders, but no state of ours.

    Sockets may be there: servers are often told to listen beside their state.
    """
    if (state_dir / DATABASE).exists():
        return
    try:
        with os.scandir(state_dir) as entries:
            kinds = {entry.name: entry.stat(follow_symlinks=False).st_mode for entry in entries}
    except OSError as error:
        raise StateUnusableError(error.strerror) from None
    foreign = sorted(name for name, mode in kinds.items() if not stat.S_ISSOCK(mode))
    if foreign:
        raise StateUnusableError(f"not empty ({foreign[0]}), and no state of a file server")


class Store:
    """The database and its transactions. StateInUseError, StateUnusableError."""

    def __init__(self, state_dir: Path, random: Random) -> None:
        self.directory = state_dir
        self._open = False
        self._clean = 0
        """Changes ever made, when the transaction began."""
        self._undo: list[Callable[[], None]] = []
        self._before_commit: list[Callable[[], None]] = []
        self._on_commit: list[Callable[[], None]] = []
        self._caches: list[Callable[[], None]] = []
        self._sessions: dict[int, Session] = {}
        _check_directory(state_dir)
        self._connection = self._connect(state_dir / DATABASE)
        try:
            self._prepare(random)
        except BaseException:
            self._connection.close()
            raise
        # The WAL's own descriptor: fsync(2) flushes the file, through whichever descriptor.
        self._wal_fd = os.open(state_dir / f"{DATABASE}-wal", os.O_RDONLY | os.O_CLOEXEC)
        directory_fd = os.open(state_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory_fd)  # or the new files' names may be missing after a power failure
        finally:
            os.close(directory_fd)

    def _connect(self, path: Path) -> apsw.Connection:
        try:
            connection = apsw.Connection(str(path), statementcachesize=STATEMENTS_CACHED)
        except apsw.Error as error:
            raise StateUnusableError(f"{path}: {error}") from None
        try:
            for pragma in PRAGMAS:
                connection.execute(f"PRAGMA {pragma}").fetchall()
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("COMMIT")
        except apsw.BusyError:
            connection.close()
            raise StateInUseError(str(path)) from None
        except apsw.Error as error:
            connection.close()
            raise StateUnusableError(f"{path}: {error}") from None
        return connection

    def _prepare(self, random: Random) -> None:
        with self.transaction():
            layout = self.value("PRAGMA user_version")
            if layout == 0:
                for statement in statements(SCHEMA):
                    self.execute(statement)
                self.execute(f"PRAGMA user_version={LAYOUT}")
                first = 1 + (int.from_bytes(random.bytes(8), "little") >> (64 - SESSION_BITS))
                self.execute("INSERT INTO meta VALUES('next_session', ?), ('boot_epoch', 0)", (first,))
            elif layout != LAYOUT:
                self._migrate(layout)
            self.execute("UPDATE meta SET value = value + 1 WHERE name = 'boot_epoch'")
            self.boot_epoch: int = self.value("SELECT value FROM meta WHERE name = 'boot_epoch'")
            for row in self.execute("SELECT * FROM session"):
                number, principal, secret, uid, gid, groups, leased = row
                members = tuple(int(group) for group in groups.split())
                self._sessions[number] = Session(number, principal, secret, uid, gid, members, bool(leased))

    def _migrate(self, layout: int) -> None:
        """Brings an earlier layout up to ours. StateUnusableError: there is no way from it."""
        while layout != LAYOUT:
            if layout not in MIGRATIONS:
                raise StateUnusableError(f"the state has layout {layout}, this server knows {LAYOUT}")
            for statement in statements(MIGRATIONS[layout]):
                self.execute(statement)
            layout += 1
            self.execute(f"PRAGMA user_version={layout}")

    # Statements

    def execute(self, sql: str, values: Iterable[Any] = ()) -> Any:
        """Runs one statement; iterate the result for its rows."""
        return self._connection.execute(sql, tuple(values))

    def value(self, sql: str, values: Iterable[Any] = ()) -> Any:
        """The first column of the first row, or None."""
        return self._connection.execute(sql, tuple(values)).get

    def insert(self, sql: str, values: Iterable[Any]) -> int:
        """Runs an INSERT; the new row's id."""
        self._connection.execute(sql, tuple(values))
        return self._connection.last_insert_rowid()

    def blob(self, table: str, column: str, row: int, writeable: bool) -> apsw.Blob:
        """One value for reading or writing in place."""
        return self._connection.blob_open("main", table, column, row, writeable)

    # Transactions

    @contextmanager
    def transaction(self) -> Iterator[None]:
        assert not self._open, "transactions do not nest; savepoints do"
        self._connection.execute("BEGIN IMMEDIATE")
        self._open = True
        before = self._clean = self._connection.total_changes()
        try:
            yield
            if self._before_commit:
                last, self._before_commit = self._before_commit, []
                for action in last:
                    action()
        except BaseException:
            self._roll_back("ROLLBACK", before, (0, 0, 0))
            self._open = False
            raise
        step("store-commit")
        try:
            self._connection.execute("COMMIT")
        except apsw.Error as error:
            end_process(f"commit failed: {error}")
        step("store-committed")
        self._open = False
        self._undo.clear()
        actions, self._on_commit = self._on_commit, []
        for action in actions:
            action()

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        assert self._open, "a savepoint needs a transaction"
        before = self._connection.total_changes()
        # Where nothing was changed yet, the transaction's start is as good a place to go back to, and free.
        clean = before == self._clean
        if not clean:
            self._connection.execute("SAVEPOINT handler")
        lengths = len(self._undo), len(self._before_commit), len(self._on_commit)
        try:
            yield
        except BaseException:
            statements = "ROLLBACK; BEGIN IMMEDIATE" if clean else "ROLLBACK TO handler; RELEASE handler"
            self._roll_back(statements, before, lengths)
            if clean:
                self._clean = self._connection.total_changes()
            raise
        if not clean:
            self._connection.execute("RELEASE handler")

    def _roll_back(self, statements: str, before: int, lengths: tuple[int, int, int]) -> None:
        undo, before_commit, on_commit = lengths
        changed = self._connection.total_changes() != before
        try:
            self._connection.execute(statements)
        except apsw.Error as error:
            end_process(f"rollback failed: {error}")
        del self._before_commit[before_commit:], self._on_commit[on_commit:]
        while len(self._undo) > undo:
            self._undo.pop()()
        if changed:
            for clear in self._caches:
                clear()

    def on_rollback(self, undo: Callable[[], None]) -> None:
        """Has `undo` called if what is being done now is rolled back; latest first."""
        assert self._open, "a change needs a transaction"
        self._undo.append(undo)

    def before_commit(self, action: Callable[[], None]) -> None:
        """As on_commit, but right before: nothing rolls back any more, and only the process's death can prevent
        the commit. The action must be one that its repetition, by the same call made again, does no harm to."""
        assert self._open, "a change needs a transaction"
        self._before_commit.append(action)

    def on_commit(self, action: Callable[[], None]) -> None:
        """Has `action` called once what is being done now is committed; not if it is rolled back."""
        assert self._open, "a change needs a transaction"
        self._on_commit.append(action)

    def add_cache(self, clear: Callable[[], None]) -> None:
        """Has `clear` called after every rollback that undid a change: the cache may have seen it."""
        self._caches.append(clear)

    def sync(self) -> None:
        """Makes everything committed survive a power failure."""
        step("store-sync")
        try:
            os.fsync(self._wal_fd)
        except OSError as error:
            end_process(f"fsync failed: {error}")

    def close(self) -> None:
        """Checkpoints, and gives the state free for another server."""
        os.close(self._wal_fd)
        self._connection.close()

    # Ledger

    def next_session(self) -> int:
        assert self._open, "a change needs a transaction"
        after: int = self.value("UPDATE meta SET value = value + 1 WHERE name = 'next_session' RETURNING value")
        return after - 1

    def open_session(self, session: Session) -> None:
        number = session.number
        assert number not in self._sessions, f"session {number} exists"
        self.on_rollback(lambda: self._forget_session(number))
        groups = " ".join(str(group) for group in session.groups)
        self.execute(
            "INSERT INTO session VALUES(?, ?, ?, ?, ?, ?, ?)",
            (number, session.principal, session.secret, session.uid, session.gid, groups, session.leased),
        )
        self._sessions[number] = session

    def _forget_session(self, number: int) -> None:
        del self._sessions[number]

    def session(self, number: int) -> Session | None:
        return self._sessions.get(number)

    def sessions(self) -> list[Session]:
        return list(self._sessions.values())

    def end_session(self, number: int) -> None:
        session = self._sessions.get(number)
        if session is None:
            return
        self.on_rollback(lambda: self._sessions.update({number: session}))
        self.execute("DELETE FROM session WHERE number = ?", (number,))
        self.execute("DELETE FROM slot WHERE session = ?", (number,))
        del self._sessions[number]

    def slot(self, session: int, slot: int) -> tuple[SlotState, bytes]:
        row = self.execute(
            "SELECT seq, digest, reply FROM slot WHERE session = ? AND slot = ?", (session, slot)
        ).fetchone()
        if row is None:
            return SlotState(), b""
        seq, digest, reply = row
        return SlotState(seq, digest), reply

    def record(self, session: int, slot: int, seq: int, digest: bytes, reply: bytes) -> None:
        assert session in self._sessions, f"session {session} is unknown"
        self.execute("INSERT OR REPLACE INTO slot VALUES(?, ?, ?, ?, ?)", (session, slot, seq, digest, reply))
