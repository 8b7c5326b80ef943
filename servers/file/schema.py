"""The tables of the file server's database, and the way from each earlier layout to the next."""

from typing import Final

LAYOUT: Final = 4
"""Of the database (PRAGMA user_version); raised with every change that older servers cannot read."""

_LAYOUT_2: Final = """
-- An open file description; it lives as long as a handle points at it.
CREATE TABLE description(id INTEGER PRIMARY KEY, ino INTEGER NOT NULL, flags INTEGER NOT NULL, lower BLOB,
    parent INTEGER NOT NULL, parent_lower BLOB, name BLOB NOT NULL);
CREATE TABLE handle(session INTEGER NOT NULL, handle INTEGER NOT NULL, description INTEGER NOT NULL,
    PRIMARY KEY(session, handle)) WITHOUT ROWID;
-- kind: LockKind; owner: a session (POSIX) or a description (OFD, flock); start..last: bytes, both included
CREATE TABLE lock(ino INTEGER NOT NULL, kind INTEGER NOT NULL, owner INTEGER NOT NULL, start INTEGER NOT NULL,
    last INTEGER NOT NULL, type INTEGER NOT NULL, pid INTEGER NOT NULL,
    PRIMARY KEY(ino, kind, owner, start)) WITHOUT ROWID;
-- A session has the inode mapped shared.
CREATE TABLE mapping(session INTEGER NOT NULL, ino INTEGER NOT NULL, lower BLOB, writable INTEGER NOT NULL,
    PRIMARY KEY(session, ino)) WITHOUT ROWID"""
"""What came with layout 2."""
_LAYOUT_3: Final = """
-- The inode's bytes are in this memfd, of that boot of the host, while somebody has it mapped shared.
CREATE TABLE pages(ino INTEGER PRIMARY KEY, boot TEXT NOT NULL, device INTEGER NOT NULL, file INTEGER NOT NULL)"""
_LAYOUT_4: Final = """
-- A description on its way to another session: a handle of session 0. lender: 0 if that has ended
CREATE TABLE lent(handle INTEGER PRIMARY KEY, ticket BLOB NOT NULL, lender INTEGER NOT NULL,
    principal TEXT NOT NULL)"""

SCHEMA: Final = f"""
CREATE TABLE meta(name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE session(number INTEGER PRIMARY KEY, principal TEXT NOT NULL, secret BLOB NOT NULL,
    uid INTEGER NOT NULL, gid INTEGER NOT NULL, groups TEXT NOT NULL, leased INTEGER NOT NULL);
CREATE TABLE slot(session INTEGER NOT NULL, slot INTEGER NOT NULL, seq INTEGER NOT NULL,
    digest BLOB NOT NULL, reply BLOB NOT NULL, PRIMARY KEY(session, slot)) WITHOUT ROWID;
-- parent: 0 if it follows from the lower path, or if the inode is no directory
CREATE TABLE inode(ino INTEGER PRIMARY KEY, mode INTEGER NOT NULL, uid INTEGER NOT NULL, gid INTEGER NOT NULL,
    nlink INTEGER NOT NULL, size INTEGER NOT NULL, atime_ns INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,
    ctime_ns INTEGER NOT NULL, btime_ns INTEGER NOT NULL, rdev INTEGER NOT NULL, generation INTEGER NOT NULL,
    target BLOB, lower BLOB, parent INTEGER NOT NULL, name BLOB NOT NULL);
CREATE INDEX orphan ON inode(ino) WHERE nlink = 0;
-- child 0: a whiteout, which hides the lower layer's name
CREATE TABLE dentry(id INTEGER PRIMARY KEY, parent INTEGER NOT NULL, name BLOB NOT NULL,
    child INTEGER NOT NULL, UNIQUE(parent, name));
-- kind 0: data is here; 1: in the data file at position; 2: in the inode's lower file at position
CREATE TABLE extent(id INTEGER PRIMARY KEY, ino INTEGER NOT NULL, offset INTEGER NOT NULL,
    length INTEGER NOT NULL, kind INTEGER NOT NULL, position INTEGER NOT NULL, data BLOB,
    UNIQUE(ino, offset));
-- value NULL: hides the lower layer's attribute
CREATE TABLE xattr(ino INTEGER NOT NULL, name BLOB NOT NULL, value BLOB,
    PRIMARY KEY(ino, name)) WITHOUT ROWID;
{_LAYOUT_2.strip()};
{_LAYOUT_3.strip()};
{_LAYOUT_4.strip()};
CREATE TABLE device(dev INTEGER PRIMARY KEY, number INTEGER NOT NULL);
CREATE TABLE alias(device INTEGER NOT NULL, ino INTEGER NOT NULL, guest INTEGER NOT NULL,
    PRIMARY KEY(device, ino)) WITHOUT ROWID;
"""

MIGRATIONS: Final[dict[int, str]] = {
    1: f"""
ALTER TABLE handle RENAME TO handle_1;
{_LAYOUT_2.strip()};
INSERT INTO description SELECT row_number() OVER (ORDER BY session, handle), ino, flags, lower, parent,
    parent_lower, name FROM handle_1;
INSERT INTO handle SELECT session, handle, row_number() OVER (ORDER BY session, handle) FROM handle_1;
DROP TABLE handle_1;
""",
    2: f"""
{_LAYOUT_3.strip()};
""",
    3: f"""
{_LAYOUT_4.strip()};
""",
}
"""Layout -> the statements that make the next one of it, in one transaction."""


def statements(script: str) -> list[str]:
    """The script's statements; each ends in a semicolon and a newline."""
    return [each for each in script.split(";\n") if each.strip()]
