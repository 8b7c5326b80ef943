"""The union of the two layers: what a directory holds, what a name means, and copying up.

A directory is its lower entries, minus whiteouts, plus dentry rows. Copying up inserts a row with the same
inode number; names stay where they are, because a lower name leads to its inode number and the number to the
row. So a lower hard link needs nothing, and a renamed lower directory keeps its lower path in its row and
finds its children through it: renaming it moves one name.
"""

import errno
import stat
from collections.abc import Callable
from typing import Final, NamedTuple

from farcall.v1.file_pb2 import Attributes
from ipc.seams import Clock
from servers.file.extents import BLOCK_BYTES, LOWER, Extents
from servers.file.handles import Handles, OpenFile
from servers.file.inodes import WHITEOUT, Inode, Inodes
from servers.file.lower import Lower
from servers.file.store import Store
from servers.service import ErrnoError, Session

MOUNTS: Final = (b"dev", b"proc")
"""Names in the root that are the worker's; always listed as directories there."""
DEV_MINOR: Final = 0x66
"""One device number for everything: major 0 (no device of its own), as union file systems have."""
DIRECTORY_BYTES: Final = 4096
INLINE_LINK_BYTES: Final = 60
"""Symlinks up to here take no block (as on ext4)."""
MOUNT_INO_FIRST: Final = 1
"""Listed inode numbers of MOUNTS; stat(2) of them is the worker's."""

COOKIE_FIRST_LOWER: Final = 3
COOKIE_FIRST_MOUNT: Final = 1 << 39
COOKIE_FIRST_ROW: Final = 1 << 40


def unheeded(ino: int) -> None:
    """Nobody wants to know what lookups go by."""


class Entry(NamedTuple):
    cookie: int
    """Where reading goes on after this entry."""
    name: bytes
    ino: int
    type: int


class Tree:
    """Lookup and change of the union. Changes need an open transaction of the store."""

    def __init__(
        self, store: Store, inodes: Inodes, extents: Extents, *, lower: Lower, handles: Handles, clock: Clock
    ) -> None:
        self.store = store
        self.inodes = inodes
        self.extents = extents
        self.lower = lower
        self.handles = handles
        self._clock = clock
        self.root_ino = lower.at(b"").ino
        self.see: Callable[[int], None] = unheeded
        """Is told of every inode that a lookup goes by."""

    def now_ns(self) -> int:
        return self._clock.realtime_ns()

    # Looking

    def root(self) -> Inode:
        self.see(self.root_ino)
        return self.inodes.get(self.root_ino) or self.lower.at(b"")

    def inode(self, ino: int, lower: bytes | None) -> Inode:
        """An inode by its number and, in case it has no row, its lower path. ErrnoError (ESTALE)."""
        self.see(ino)
        return self._inode(ino, lower)

    def _inode(self, ino: int, lower: bytes | None) -> Inode:
        row = self.inodes.get(ino)
        if row is not None:
            return row
        if lower is not None:
            found = self.lower.at(lower)
            if found.ino == ino:
                return found
        raise ErrnoError(errno.ESTALE, "changed beneath us")

    def open_inode(self, file: OpenFile) -> Inode:
        """The inode of a handle. ErrnoError (ESTALE)."""
        inode = self.inode(file.shared.ino, file.shared.lower)
        if not inode.row and inode.is_regular and file.shared.pages is None:
            file.shared.direct = True
        return inode

    def child(self, directory: Inode, name: bytes) -> Inode | None:
        """What the name (neither "." nor "..") means in the directory, or None. ErrnoError."""
        self.see(directory.ino)
        ino = self.inodes.lookup(directory.ino, name)
        if ino is not None:
            return None if ino == WHITEOUT else self.inode(ino, None)
        if directory.lower is None or not directory.nlink:
            return None
        found = self.lower.child(directory.lower, name)
        if found is None:
            return None
        self.see(found.ino)
        return self.inodes.get(found.ino) or found

    def parent(self, directory: Inode) -> Inode:
        """The directory above (the root's is itself). ErrnoError."""
        self.see(directory.ino)
        if directory.ino == self.root_ino:
            return directory
        if directory.parent:
            self.see(directory.parent)
            row = self.inodes.get(directory.parent)
            if row is None:
                raise ErrnoError(errno.ENOENT, "removed directory")
            return row
        assert directory.lower is not None, "a directory from nowhere"
        found = self.lower.at(directory.lower.rpartition(b"/")[0])
        self.see(found.ino)
        return self.inodes.get(found.ino) or found

    def name_of(self, directory: Inode) -> bytes:
        """Its name in its parent; empty for the root."""
        if directory.parent or directory.lower is None:
            return directory.name
        return directory.lower.rpartition(b"/")[2]

    def path(self, directory: Inode) -> bytes:
        """The absolute path of a directory, without a trailing slash: the root's is empty. ErrnoError."""
        names = []
        while directory.ino != self.root_ino:
            names.append(self.name_of(directory))
            directory = self.parent(directory)
        return b"".join(b"/" + name for name in reversed(names))

    def is_beneath(self, directory: Inode, ancestor: Inode) -> bool:
        """Whether `ancestor` is the directory or one above it. ErrnoError."""
        while directory.ino != ancestor.ino:
            if directory.ino == self.root_ino:
                return False
            directory = self.parent(directory)
        return True

    def entries(self, directory: Inode) -> list[Entry]:
        """All that getdents64(2) lists, in order of cookies. ErrnoError (ENOENT: it was removed)."""
        if not directory.nlink:
            raise ErrnoError(errno.ENOENT, "removed directory")
        rows = self.inodes.names(directory.ino)
        shadowed = {name for _, name, _ in rows}
        found = [
            Entry(1, b".", directory.ino, stat.S_IFDIR),
            Entry(2, b"..", self.parent(directory).ino, stat.S_IFDIR),
        ]
        at_root = directory.ino == self.root_ino
        if directory.lower is not None:
            listed = self.lower.entries(directory.lower)
            found += [
                Entry(COOKIE_FIRST_LOWER + index, name, ino, type_)
                for index, (name, ino, type_) in enumerate(listed)
                if name not in shadowed and not (at_root and name in MOUNTS)
            ]
        if at_root:
            found += [
                Entry(COOKIE_FIRST_MOUNT + index, name, MOUNT_INO_FIRST + index, stat.S_IFDIR)
                for index, name in enumerate(MOUNTS)
            ]
        for row, name, child in rows:
            if child != WHITEOUT:
                type_ = stat.S_IFMT(self._inode(child, None).mode)  # which never changes
                found.append(Entry(COOKIE_FIRST_ROW + row, name, child, type_))
        return found

    def is_empty(self, directory: Inode) -> bool:
        """ErrnoError."""
        return len(self.entries(directory)) == 2

    def link_target(self, symlink: Inode) -> bytes:
        """ErrnoError."""
        if symlink.target is not None:
            return symlink.target
        assert symlink.lower is not None, "a symlink from nowhere"
        return self.lower.read_link(symlink.lower)

    def attributes(self, inode: Inode) -> Attributes:
        """ErrnoError."""
        return Attributes(
            ino=inode.ino,
            mode=inode.mode,
            nlink=inode.nlink,
            uid=inode.uid,
            gid=inode.gid,
            size=inode.size,
            blocks=self._blocks(inode) if inode.row else inode.blocks,
            dev=DEV_MINOR,
            rdev=inode.rdev,
            atime_ns=inode.atime_ns,
            mtime_ns=inode.mtime_ns,
            ctime_ns=inode.ctime_ns,
            btime_ns=inode.btime_ns,
            block_size=BLOCK_BYTES,
            generation=inode.generation,
        )

    def _blocks(self, inode: Inode) -> int:
        if inode.is_regular:
            extents = self.extents.map(inode.ino)
            if len(extents) == 1 and extents[0].kind == LOWER and extents[0].length == inode.size:
                assert inode.lower is not None, "a lower extent without a lower file"
                host = self.lower.at(inode.lower)
                if host.size == inode.size:
                    return host.blocks  # it may have holes that one extent does not show
            return self.extents.blocks(inode.ino)
        if inode.is_directory or (inode.is_symlink and inode.size >= INLINE_LINK_BYTES):
            return -(-inode.size // BLOCK_BYTES) * (BLOCK_BYTES // 512)
        return 0

    # Changing

    def touch(self, inode: Inode) -> Inode:
        """Copies up: the inode as a row. Data stays where it is. ErrnoError."""
        if inode.row:
            return inode
        if inode.is_symlink:
            inode = inode._replace(target=self.link_target(inode))
        row = self.inodes.put(inode)
        if inode.is_regular:
            self.extents.add_lower(inode.ino, inode.size)
        return row

    def make(self, session: Session, gid: int, mode: int, target: bytes | None = None) -> Inode:
        """A new inode without a name yet."""
        now = self.now_ns()
        is_directory = stat.S_ISDIR(mode)
        size = DIRECTORY_BYTES if is_directory else len(target or b"")
        return self.inodes.put(
            Inode(
                ino=self.inodes.new_ino(),
                mode=mode,
                uid=session.uid,
                gid=gid,
                nlink=2 if is_directory else 1,
                size=size,
                atime_ns=now,
                mtime_ns=now,
                ctime_ns=now,
                btime_ns=now,
                rdev=0,
                generation=1,
                target=target,
                lower=None,
                parent=0,
                name=b"",
            )
        )

    def attach(self, directory: Inode, name: bytes, child: Inode) -> None:
        """Gives a copied-up inode the name; times and link counts are the caller's."""
        self.inodes.set_name(directory.ino, name, child.ino)
        if child.is_directory:
            self.inodes.put(child._replace(parent=directory.ino, name=name))

    def detach(self, directory: Inode, name: bytes) -> None:
        """Takes the name away; times and link counts are the caller's. ErrnoError before any change."""
        if directory.lower is not None and self.lower.child(directory.lower, name) is not None:
            self.inodes.set_name(directory.ino, name, WHITEOUT)
        else:
            self.inodes.clear_name(directory.ino, name)

    def directory_changed(self, directory: Inode, subdirectories: int = 0) -> None:
        """Names in it came or went, among them so many subdirectories."""
        row = self.touch(self.inode(directory.ino, directory.lower))
        now = self.now_ns()
        # A lower file system that does not count subdirectories says 1, and stays with it.
        nlink = row.nlink + subdirectories if row.nlink > 1 else row.nlink
        self.inodes.put(row._replace(nlink=nlink, mtime_ns=now, ctime_ns=now))

    def lose_name(self, inode: Inode, directory: Inode) -> None:
        """One name of the inode, in that directory, is gone; with the last one and no handle, the inode."""
        row = self.touch(inode)
        nlink = 0 if row.is_directory else max(0, row.nlink - 1)
        # A removed directory by whose name a handle is known stays, without a name, until the next start:
        # else its lower path would bring it back where that handle's path is asked for.
        known = row.is_directory and self.handles.is_known(row.ino)
        if nlink == 0 and not known and not self.handles.is_open(row.ino):
            self._drop(row)
            return
        parent = directory.ino if row.is_directory else row.parent
        name = self.name_of(row) if row.is_directory else row.name
        self.inodes.put(row._replace(nlink=nlink, ctime_ns=self.now_ns(), parent=parent, name=name))

    def closed(self, ino: int) -> None:
        """A handle is gone; with the last one, an inode without a name."""
        row = self.inodes.get(ino)
        if (
            row is not None
            and row.nlink == 0
            and not self.handles.is_open(ino)
            and not self.handles.is_known(ino)
        ):
            self._drop(row)

    def drop_orphans(self) -> None:
        """At start: inodes without name and handle."""
        for ino in self.inodes.orphans():
            row = self.inodes.get(ino)
            assert row is not None
            self._drop(row)

    def _drop(self, row: Inode) -> None:
        self.extents.drop(row.ino)
        self.inodes.drop(row)
