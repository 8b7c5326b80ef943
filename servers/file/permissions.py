"""Who may do what: the credentials of a session against modes and owners. Pure.

Root (uid 0) acts with CAP_DAC_OVERRIDE, CAP_FOWNER, CAP_FSETID and CAP_CHOWN (capabilities(7)), nobody else
with any.
"""

import errno
import stat
from typing import Final

from servers.file.inodes import Inode
from servers.service import ErrnoError, Session

READ: Final = 4
WRITE: Final = 2
EXECUTE: Final = 1
"""Of directories: search."""


def is_root(session: Session) -> bool:
    return session.uid == 0


def in_group(session: Session, gid: int) -> bool:
    return gid == session.gid or gid in session.groups


def allowed(session: Session, inode: Inode, wanted: int) -> bool:
    """Whether all of `wanted` (READ | WRITE | EXECUTE) is granted (path_resolution(7))."""
    mode = inode.mode
    if session.uid == 0:
        # Root needs one x bit to execute, none to search.
        return not wanted & EXECUTE or stat.S_ISDIR(mode) or bool(mode & 0o111)
    if session.uid == inode.uid:
        granted = mode >> 6
    elif in_group(session, inode.gid):
        granted = mode >> 3
    else:
        granted = mode
    return not wanted & ~granted & 7


def require(session: Session, inode: Inode, wanted: int) -> None:
    """EACCES unless allowed."""
    if not allowed(session, inode, wanted):
        raise ErrnoError(errno.EACCES)


def require_owner(session: Session, inode: Inode) -> None:
    """EPERM unless the caller owns the object."""
    if session.uid not in (0, inode.uid):
        raise ErrnoError(errno.EPERM)


def require_create(session: Session, directory: Inode) -> None:
    """May a name be added? ENOENT in a removed directory, else EACCES."""
    if not directory.nlink:
        raise ErrnoError(errno.ENOENT, "removed directory")
    require(session, directory, WRITE | EXECUTE)


def require_delete(session: Session, directory: Inode, victim: Inode, as_directory: bool) -> None:
    """May the name be taken away (unlink(2), rmdir(2))? EACCES, EPERM (sticky), ENOTDIR, EISDIR."""
    require(session, directory, WRITE | EXECUTE)
    sticky = bool(directory.mode & stat.S_ISVTX)
    if sticky and session.uid not in (0, victim.uid, directory.uid):
        raise ErrnoError(errno.EPERM, "sticky directory")
    if as_directory and not victim.is_directory:
        raise ErrnoError(errno.ENOTDIR)
    if not as_directory and victim.is_directory:
        raise ErrnoError(errno.EISDIR)


def require_link(session: Session, source: Inode) -> None:
    """May another name be made for a file of somebody else? EPERM (proc(5): protected_hardlinks, on)."""
    safe = (
        source.is_regular
        and not source.mode & stat.S_ISUID
        and source.mode & 0o2010 != 0o2010
        and allowed(session, source, READ | WRITE)
    )
    if not safe and session.uid not in (0, source.uid):
        raise ErrnoError(errno.EPERM, "protected hard links")


def created_owner(session: Session, directory: Inode, mode: int) -> tuple[int, int]:
    """(gid, mode) of an object made in the directory (inode(7): set-group-ID directories)."""
    if not directory.mode & stat.S_ISGID:
        return session.gid, mode
    if stat.S_ISDIR(mode):
        mode |= stat.S_ISGID
    elif mode & 0o2010 == 0o2010 and not is_root(session) and not in_group(session, directory.gid):
        mode &= ~stat.S_ISGID
    return directory.gid, mode


def without_privilege_bits(session: Session, inode: Inode) -> int:
    """The mode after a write or a change of owner: no S_ISUID, no S_ISGID (chown(2))."""
    mode = inode.mode & ~stat.S_ISUID
    member = is_root(session) or in_group(session, inode.gid)
    return mode if member and not mode & stat.S_IXGRP else mode & ~stat.S_ISGID


def mode_after_write(session: Session, inode: Inode) -> int:
    return inode.mode if is_root(session) else without_privilege_bits(session, inode)
