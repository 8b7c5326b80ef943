"""Rows of inodes, dentries and extended attributes, with caches that stay right when a savepoint rolls back.

Guest inode numbers: an object of the lower layer keeps its st_ino if it is on the root's device (number 0),
else it gets number << 48 | st_ino; what does not fit is given a number of its own (ALIAS_FIRST up, table
alias). Objects made here count up from NEW_FIRST. So a lower object has the same number before and after its
first change, and hard links need no table of their own.
"""

import stat
from typing import Final, NamedTuple

from servers.file.store import Store

ALIAS_FIRST: Final = 1 << 57
NEW_FIRST: Final = 1 << 56
INO_BITS: Final = 48
DEVICES_MAX: Final = 255
CACHE_ROWS_MAX: Final = 65_536
WHITEOUT: Final = 0
NAMELESS: Final = b"/"
"""Inode.name of a file that has had no name yet and may be given one (open(2), O_TMPFILE)."""


class Inode(NamedTuple):
    """What is known of an object at one moment: its row, or a stat(2) of the lower layer (`row` False)."""

    ino: int
    mode: int
    uid: int
    gid: int
    nlink: int
    size: int
    atime_ns: int
    mtime_ns: int
    ctime_ns: int
    btime_ns: int
    rdev: int
    generation: int
    target: bytes | None
    """Of a symlink; of one without a row it is the lower layer's to tell."""
    lower: bytes | None
    """Path in the lower layer, without a leading slash; None if it has nothing there."""
    parent: int
    """Of a directory that was made or moved here: its directory. 0: follows from `lower`."""
    name: bytes
    row: bool = True
    blocks: int = 0
    """Of 512 bytes, as the lower layer says; meaningless if `row`."""

    @property
    def is_directory(self) -> bool:
        return stat.S_ISDIR(self.mode)

    @property
    def is_symlink(self) -> bool:
        return stat.S_ISLNK(self.mode)

    @property
    def is_regular(self) -> bool:
        return stat.S_ISREG(self.mode)


COLUMNS: Final = 16
"""Of the table inode: the first fields of Inode."""


class Inodes:
    """The rows. Changes need an open transaction of the store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._inodes: dict[int, Inode | None] = {}
        self._dentries: dict[tuple[int, bytes], int | None] = {}
        self._devices: dict[int, int] = {}
        self.changed: set[int] = set()
        """Inodes that something was changed of since somebody emptied this (Consults.guarded)."""
        last = store.value("SELECT max(ino) FROM inode WHERE ino < ?", (ALIAS_FIRST,))
        floor = store.value("SELECT value FROM meta WHERE name = 'next_ino'") or NEW_FIRST
        # Numbers are taken in blocks, so that those of removed inodes do not come back either.
        self._next_ino = max(floor, (last or 0) + 1, NEW_FIRST)
        self._ino_limit = self._next_ino
        store.add_cache(self._forget)

    def _forget(self) -> None:
        self._inodes.clear()
        self._dentries.clear()
        self._devices.clear()

    # Inodes

    def get(self, ino: int) -> Inode | None:
        """The inode's row, or None if it has none."""
        try:
            return self._inodes[ino]
        except KeyError:
            pass
        row = self._store.execute("SELECT * FROM inode WHERE ino = ?", (ino,)).fetchone()
        if len(self._inodes) >= CACHE_ROWS_MAX:
            self._inodes.clear()
        found = self._inodes[ino] = None if row is None else Inode(*row)
        return found

    def put(self, inode: Inode) -> Inode:
        """Writes the inode's row; returns it."""
        inode = inode._replace(row=True)
        self._store.execute(
            "INSERT OR REPLACE INTO inode VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            inode[:COLUMNS],
        )
        self._inodes[inode.ino] = inode
        self.changed.add(inode.ino)
        return inode

    def drop(self, inode: Inode) -> None:
        """Removes the inode's row, its attributes and, of a directory, its dentries."""
        self._store.execute("DELETE FROM inode WHERE ino = ?", (inode.ino,))
        self._store.execute("DELETE FROM xattr WHERE ino = ?", (inode.ino,))
        self._inodes[inode.ino] = None
        if inode.is_directory:
            self._store.execute("DELETE FROM dentry WHERE parent = ?", (inode.ino,))
            self._dentries.clear()

    def orphans(self) -> list[int]:
        """Inodes without a name that no handle or mapping holds, nor was opened beneath."""
        rows = self._store.execute(
            "SELECT ino FROM inode WHERE nlink = 0"
            " AND ino NOT IN (SELECT ino FROM description UNION SELECT parent FROM description"
            " UNION SELECT ino FROM mapping)"
        )
        return [ino for (ino,) in rows]

    def new_ino(self) -> int:
        """A number that no object had before."""
        if self._next_ino >= self._ino_limit:
            limit = self._next_ino + 1024
            self._store.execute("INSERT OR REPLACE INTO meta VALUES('next_ino', ?)", (limit,))
            before = self._ino_limit
            self._store.on_rollback(lambda: self._set_limit(before))
            self._ino_limit = limit
        self._next_ino += 1
        return self._next_ino - 1

    def _set_limit(self, limit: int) -> None:
        self._ino_limit = limit

    # Dentries

    def lookup(self, parent: int, name: bytes) -> int | None:
        """The inode that this layer gives the name, WHITEOUT, or None if it says nothing about it."""
        key = (parent, name)
        try:
            return self._dentries[key]
        except KeyError:
            pass
        child: int | None = self._store.value("SELECT child FROM dentry WHERE parent = ? AND name = ?", key)
        if len(self._dentries) >= CACHE_ROWS_MAX:
            self._dentries.clear()
        self._dentries[key] = child
        return child

    def set_name(self, parent: int, name: bytes, child: int) -> None:
        """Gives the name to an inode, or hides it (WHITEOUT)."""
        self._store.execute(
            "INSERT OR REPLACE INTO dentry(parent, name, child) VALUES(?, ?, ?)", (parent, name, child)
        )
        self._dentries[parent, name] = child
        self.changed.add(parent)

    def clear_name(self, parent: int, name: bytes) -> None:
        """This layer says nothing about the name any more."""
        self._store.execute("DELETE FROM dentry WHERE parent = ? AND name = ?", (parent, name))
        self._dentries[parent, name] = None
        self.changed.add(parent)

    def names(self, parent: int) -> list[tuple[int, bytes, int]]:
        """(id, name, child) of every dentry beneath the directory, whiteouts included, in order of making."""
        sql = "SELECT id, name, child FROM dentry WHERE parent = ? ORDER BY id"
        return list(self._store.execute(sql, (parent,)))

    # Numbers of lower objects

    def guest_ino(self, root_dev: int, dev: int, ino: int) -> int:
        """The guest's inode number of a lower object."""
        number = 0 if dev == root_dev else self._device(dev)
        if ino < 1 << INO_BITS and number <= DEVICES_MAX:
            return number << INO_BITS | ino
        key = (number, _signed(ino))
        known = self._store.value("SELECT guest FROM alias WHERE device = ? AND ino = ?", key)
        if known is None:
            known = (self._store.value("SELECT max(guest) FROM alias") or ALIAS_FIRST) + 1
            self._store.execute("INSERT INTO alias VALUES(?, ?, ?)", (*key, known))
        result: int = known
        return result

    def _device(self, dev: int) -> int:
        number = self._devices.get(dev)
        if number is None:
            number = self._store.value("SELECT number FROM device WHERE dev = ?", (dev,))
        if number is None:
            number = 1 + (self._store.value("SELECT max(number) FROM device") or 0)
            self._store.execute("INSERT INTO device VALUES(?, ?)", (dev, number))
        self._devices[dev] = number
        return number

    # Extended attributes

    def xattr(self, ino: int, name: bytes) -> tuple[bool, bytes | None]:
        """(this layer knows it, its value); the value None: removed here."""
        sql = "SELECT value FROM xattr WHERE ino = ? AND name = ?"
        row = self._store.execute(sql, (ino, name)).fetchone()
        return (False, None) if row is None else (True, row[0])

    def xattrs(self, ino: int) -> dict[bytes, bool]:
        """Name -> whether it has a value here (else it is removed here)."""
        sql = "SELECT name, value IS NOT NULL FROM xattr WHERE ino = ? ORDER BY name"
        return {name: bool(has_value) for name, has_value in self._store.execute(sql, (ino,))}

    def set_xattr(self, ino: int, name: bytes, value: bytes | None) -> None:
        """Gives the attribute a value, or hides the lower layer's (None)."""
        self._store.execute("INSERT OR REPLACE INTO xattr VALUES(?, ?, ?)", (ino, name, value))

    def clear_xattr(self, ino: int, name: bytes) -> None:
        self._store.execute("DELETE FROM xattr WHERE ino = ? AND name = ?", (ino, name))


def _signed(number: int) -> int:
    """An unsigned 64-bit number as SQLite stores integers."""
    return number - (1 << 64) if number >= 1 << 63 else number
