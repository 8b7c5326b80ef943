"""Making, taking away and moving names: mkdir, mknod, symlink, link, unlink, rmdir, rename.

Each handler checks everything before its first change, in the order in which Linux (fs/namei.c) finds errors.
"""

import errno
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from farcall.v1.file_pb2 import (
    RENAME_FLAG_EXCHANGE,
    RENAME_FLAG_NO_REPLACE,
    LinkRequest,
    LinkResponse,
    MakeDirectoryRequest,
    MakeDirectoryResponse,
    MakeNodeRequest,
    MakeNodeResponse,
    MakeSymlinkRequest,
    MakeSymlinkResponse,
    Place,
    RemoveRequest,
    RemoveResponse,
    RenameRequest,
    RenameResponse,
)
from ipc.operations import BY_NAME
from servers.file import permissions
from servers.file.files import NEW_FILE_BYTES, PERMISSION_BITS
from servers.file.inodes import NAMELESS, Inode
from servers.file.tree import Tree
from servers.file.walk import PATH_BYTES_MAX, CrossedError, Located, Walker, answering
from servers.service import ErrnoError, Handler, Session


class Names:
    """The handlers."""

    def __init__(self, tree: Tree, walker: Walker) -> None:
        self._tree = tree
        self._walker = walker
        self.handlers: Mapping[int, Handler] = {
            BY_NAME["MakeDirectory"].opcode: answering(self.make_directory, MakeDirectoryResponse),
            BY_NAME["MakeNode"].opcode: answering(self.make_node, MakeNodeResponse),
            BY_NAME["MakeSymlink"].opcode: answering(self.make_symlink, MakeSymlinkResponse),
            BY_NAME["Link"].opcode: answering(self.link, LinkResponse),
            BY_NAME["Remove"].opcode: answering(self.remove, RemoveResponse),
            BY_NAME["Rename"].opcode: answering(self.rename, RenameResponse),
        }

    # Making

    def _free_name(self, session: Session, place: Place, directory: bool = False) -> Located:
        """Where something new may be put. EEXIST, ENOENT."""
        found = self._walker.locate(session, place)
        found.require_possible()
        if found.inode is not None:
            raise ErrnoError(errno.EEXIST)
        if found.slash and not directory:
            raise ErrnoError(errno.ENOENT)
        return found

    def _make(self, session: Session, found: Located, mode: int, target: bytes | None = None) -> None:
        permissions.require_create(session, found.directory)
        self._tree.extents.room(NEW_FILE_BYTES)
        gid, mode = permissions.created_owner(session, found.directory, mode)
        inode = self._tree.make(session, gid, mode, target)
        self._tree.attach(found.directory, found.name, inode)
        self._tree.directory_changed(found.directory, subdirectories=int(inode.is_directory))

    def make_directory(self, session: Session, request: MakeDirectoryRequest) -> MakeDirectoryResponse:
        """mkdir(2)."""
        found = self._free_name(session, request.place, directory=True)
        self._make(session, found, stat.S_IFDIR | request.mode & 0o1777)
        return MakeDirectoryResponse()

    def make_node(self, session: Session, request: MakeNodeRequest) -> MakeNodeResponse:
        """mknod(2) of a file, FIFO or socket. EPERM: a device; EINVAL: anything else."""
        kind = stat.S_IFMT(request.mode) or stat.S_IFREG
        if kind == stat.S_IFDIR:
            raise ErrnoError(errno.EPERM)
        if kind not in (stat.S_IFREG, stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFCHR, stat.S_IFBLK):
            raise ErrnoError(errno.EINVAL)
        found = self._free_name(session, request.place)
        if kind in (stat.S_IFCHR, stat.S_IFBLK):
            raise ErrnoError(errno.EPERM, "devices are the worker's")
        self._make(session, found, kind | request.mode & PERMISSION_BITS)
        return MakeNodeResponse()

    def make_symlink(self, session: Session, request: MakeSymlinkRequest) -> MakeSymlinkResponse:
        """symlink(2). ENOENT: empty target; ENAMETOOLONG."""
        if not request.target:
            raise ErrnoError(errno.ENOENT)
        if len(request.target) > PATH_BYTES_MAX:
            raise ErrnoError(errno.ENAMETOOLONG)
        if b"\0" in request.target:
            raise ErrnoError(errno.EINVAL)
        found = self._free_name(session, request.place)
        self._make(session, found, stat.S_IFLNK | 0o777, request.target)
        return MakeSymlinkResponse()

    def link(self, session: Session, request: LinkRequest) -> LinkResponse:
        """link(2), linkat(2). EPERM: a directory; ENOENT: the source has no name any more."""
        source = self._walker.find(session, request.source)
        with _at_target():
            found = self._free_name(session, request.target)
        permissions.require_link(session, source)
        permissions.require_create(session, found.directory)
        if source.is_directory:
            raise ErrnoError(errno.EPERM)
        if not source.nlink and source.name != NAMELESS:
            raise ErrnoError(errno.ENOENT)
        self._tree.extents.room(NEW_FILE_BYTES)
        row = self._tree.touch(source)
        if not row.nlink:
            row = row._replace(name=b"")
        row = self._tree.inodes.put(row._replace(nlink=row.nlink + 1, ctime_ns=self._tree.now_ns()))
        self._tree.attach(found.directory, found.name, row)
        self._tree.directory_changed(found.directory)
        return LinkResponse()

    # Taking away

    def remove(self, session: Session, request: RemoveRequest) -> RemoveResponse:
        """unlink(2) or rmdir(2)."""
        found = self._walker.locate(session, request.place)
        found.require_possible()
        if found.special:
            raise ErrnoError(_special_errno(found.name) if request.directory else errno.EISDIR)
        if found.inode is None:
            raise ErrnoError(errno.ENOENT)
        if found.slash and not request.directory:
            raise ErrnoError(errno.EISDIR if found.inode.is_directory else errno.ENOTDIR)
        permissions.require_delete(session, found.directory, found.inode, request.directory)
        if found.mount or found.inode.ino == self._tree.root_ino:
            raise ErrnoError(errno.EBUSY)
        if request.directory and not self._tree.is_empty(found.inode):
            raise ErrnoError(errno.ENOTEMPTY)
        self._tree.detach(found.directory, found.name)
        self._tree.lose_name(found.inode, found.directory)
        self._tree.directory_changed(found.directory, subdirectories=-int(request.directory))
        return RemoveResponse()

    # Moving

    def rename(self, session: Session, request: RenameRequest) -> RenameResponse:
        """rename(2), renameat2(2) with its two flags."""
        exchange = bool(request.flags & RENAME_FLAG_EXCHANGE)
        no_replace = bool(request.flags & RENAME_FLAG_NO_REPLACE)
        if request.flags & ~(RENAME_FLAG_EXCHANGE | RENAME_FLAG_NO_REPLACE) or (exchange and no_replace):
            raise ErrnoError(errno.EINVAL)
        old = self._walker.locate(session, request.source)
        with _at_target():
            new = self._walker.locate(session, request.target)
        if old.special:
            raise ErrnoError(errno.EBUSY)
        if new.special:
            raise ErrnoError(errno.EEXIST if no_replace else errno.EBUSY)
        source, target = old.inode, new.inode
        old.require_possible()
        if source is None:
            raise ErrnoError(errno.ENOENT)
        new.require_possible()
        if no_replace and target is not None:
            raise ErrnoError(errno.EEXIST)
        if exchange and target is None:
            raise ErrnoError(errno.ENOENT)
        self._check_slashes(old, new, source, target, exchange)
        if old.mount or new.mount:
            raise ErrnoError(errno.EBUSY)
        if source.is_directory and self._tree.is_beneath(new.directory, source):
            raise ErrnoError(errno.EINVAL)
        if target is not None and target.is_directory and self._tree.is_beneath(old.directory, target):
            raise ErrnoError(errno.EINVAL if exchange else errno.ENOTEMPTY)
        if target is not None and target.ino == source.ino:
            return RenameResponse()  # two names of one file: nothing happens, says rename(2)
        self._check_rights(session, old, new, source, target, exchange=exchange)
        if target is not None and target.is_directory and not exchange and not self._tree.is_empty(target):
            raise ErrnoError(errno.ENOTEMPTY)
        self._tree.extents.room(NEW_FILE_BYTES)
        if exchange:
            assert target is not None
            self._exchange(old, new, source, target)
        else:
            self._move(old, new, source, target)
        return RenameResponse()

    @staticmethod
    def _check_slashes(old: Located, new: Located, source: Inode, target: Inode | None, exchange: bool) -> None:
        """A trailing slash asks for a directory."""
        if exchange and target is not None and not target.is_directory and new.slash:
            raise ErrnoError(errno.ENOTDIR)
        if not source.is_directory and (old.slash or (new.slash and not exchange)):
            raise ErrnoError(errno.ENOTDIR)

    @staticmethod
    def _check_rights(
        session: Session, old: Located, new: Located, source: Inode, target: Inode | None, *, exchange: bool
    ) -> None:
        permissions.require_delete(session, old.directory, source, source.is_directory)
        if target is None:
            permissions.require_create(session, new.directory)
        else:
            as_directory = target.is_directory if exchange else source.is_directory
            permissions.require_delete(session, new.directory, target, as_directory)
        if old.directory.ino != new.directory.ino:
            # A directory that moves gets another "..": that is a change of the directory itself.
            if source.is_directory:
                permissions.require(session, source, permissions.WRITE)
            if exchange and target is not None and target.is_directory:
                permissions.require(session, target, permissions.WRITE)

    def _move(self, old: Located, new: Located, source: Inode, target: Inode | None) -> None:
        tree = self._tree
        if target is not None:
            tree.lose_name(target, new.directory)
        tree.detach(old.directory, old.name)
        self._place(source, old, new)
        moved = int(source.is_directory)
        replaced = int(target is not None and target.is_directory)
        tree.directory_changed(old.directory, subdirectories=-moved)
        tree.directory_changed(new.directory, subdirectories=moved - replaced)

    def _exchange(self, old: Located, new: Located, source: Inode, target: Inode) -> None:
        tree = self._tree
        self._place(source, old, new)
        self._place(target, new, old)
        difference = int(target.is_directory) - int(source.is_directory)
        tree.directory_changed(old.directory, subdirectories=difference)
        tree.directory_changed(new.directory, subdirectories=-difference)

    def _place(self, inode: Inode, old: Located, new: Located) -> None:
        """The inode of the old name has the new one."""
        tree = self._tree
        row = tree.touch(tree.inode(inode.ino, inode.lower))
        row = tree.inodes.put(row._replace(ctime_ns=tree.now_ns()))
        tree.attach(new.directory, new.name, row)
        tree.handles.renamed(
            row.ino,
            (old.directory.ino, old.name),
            (new.directory.ino, new.directory.lower, new.name),
        )


def _special_errno(name: bytes) -> int:
    """rmdir(2) of a path that ends in no name."""
    return {b".": errno.EINVAL, b"..": errno.ENOTEMPTY}.get(name, errno.EBUSY)


@contextmanager
def _at_target() -> Iterator[None]:
    """A crossing in here was met by the target's walk."""
    try:
        yield
    except CrossedError as crossed:
        crossed.at_target = True
        raise
