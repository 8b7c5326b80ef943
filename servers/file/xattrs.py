"""Extended attributes (xattr(7)). POSIX ACLs (system.posix_acl_*) are not offered: EOPNOTSUPP."""

import errno
import stat
from collections.abc import Mapping
from typing import Final

from farcall.v1.file_pb2 import (
    XATTR_FLAG_CREATE,
    XATTR_FLAG_REPLACE,
    GetXattrRequest,
    GetXattrResponse,
    ListXattrRequest,
    ListXattrResponse,
    Place,
    RemoveXattrRequest,
    RemoveXattrResponse,
    SetXattrRequest,
    SetXattrResponse,
)
from ipc.operations import BY_NAME
from servers.file import permissions
from servers.file.inodes import Inode
from servers.file.tree import Tree
from servers.file.walk import Walker, answering
from servers.service import ErrnoError, Handler, Session

XATTR_NAME_BYTES_MAX: Final = 255
XATTR_VALUE_BYTES_MAX: Final = 64 << 10
"""Linux's own limit; beyond it E2BIG."""
XATTR_ROOM_BYTES: Final = 56 << 10
"""What fits beside a path in one message; beyond it ENOSPC, as from a file system with smaller blocks."""
XATTR_LIST_BYTES_MAX: Final = 56 << 10

NAMESPACES: Final = (b"user.", b"trusted.", b"security.")


class Xattrs:
    """The handlers."""

    def __init__(self, tree: Tree, walker: Walker) -> None:
        self._tree = tree
        self._walker = walker
        self.handlers: Mapping[int, Handler] = {
            BY_NAME["GetXattr"].opcode: answering(self.get, GetXattrResponse),
            BY_NAME["SetXattr"].opcode: answering(self.set, SetXattrResponse),
            BY_NAME["ListXattr"].opcode: answering(self.list, ListXattrResponse),
            BY_NAME["RemoveXattr"].opcode: answering(self.remove, RemoveXattrResponse),
        }

    def get(self, session: Session, request: GetXattrRequest) -> GetXattrResponse:
        """getxattr(2). ENODATA, EACCES, EOPNOTSUPP, ERANGE (a name no attribute can have)."""
        inode = self._find(session, request.place, request.name)
        if request.name.startswith(b"trusted.") and not permissions.is_root(session):
            raise ErrnoError(errno.ENODATA)
        if request.name.startswith(b"user."):
            if not _has_user_attributes(inode):
                raise ErrnoError(errno.ENODATA)
            permissions.require(session, inode, permissions.READ)
        value = self._value(inode, request.name)
        if value is None:
            raise ErrnoError(errno.ENODATA)
        return GetXattrResponse(value=value)

    def set(self, session: Session, request: SetXattrRequest) -> SetXattrResponse:
        """setxattr(2). EEXIST, ENODATA (the flags'), E2BIG, ENOSPC, EPERM, EACCES, EOPNOTSUPP, EINVAL."""
        flags = request.flags
        if flags & ~(XATTR_FLAG_CREATE | XATTR_FLAG_REPLACE):
            raise ErrnoError(errno.EINVAL)
        if len(request.value) > XATTR_VALUE_BYTES_MAX:
            raise ErrnoError(errno.E2BIG)
        inode = self._find(session, request.place, request.name)
        self._check_change(session, inode, request.name)
        if len(request.value) > XATTR_ROOM_BYTES:
            raise ErrnoError(errno.ENOSPC)
        before = self._value(inode, request.name)
        if flags & XATTR_FLAG_CREATE and before is not None:
            raise ErrnoError(errno.EEXIST)
        if flags & XATTR_FLAG_REPLACE and before is None:
            raise ErrnoError(errno.ENODATA)
        self._tree.extents.room(len(request.value))
        row = self._tree.touch(inode)
        self._tree.inodes.set_xattr(row.ino, request.name, request.value)
        self._tree.inodes.put(row._replace(ctime_ns=self._tree.now_ns()))
        return SetXattrResponse()

    def list(self, session: Session, request: ListXattrRequest) -> ListXattrResponse:
        """listxattr(2); trusted.* for root only. E2BIG: more names than a message holds."""
        inode = self._walker.find(session, request.place)
        names = [] if inode.lower is None else self._tree.lower.xattrs(inode.lower)
        if inode.row:
            here = self._tree.inodes.xattrs(inode.ino)
            names = [name for name in names if name not in here]
            names += [name for name, has_value in here.items() if has_value]
        hidden = () if permissions.is_root(session) else (b"trusted.",)
        names = [name for name in names if name.startswith(NAMESPACES) and not name.startswith(hidden)]
        if sum(len(name) + 4 for name in names) > XATTR_LIST_BYTES_MAX:
            raise ErrnoError(errno.E2BIG)
        return ListXattrResponse(names=names)

    def remove(self, session: Session, request: RemoveXattrRequest) -> RemoveXattrResponse:
        """removexattr(2). ENODATA, EPERM, EACCES, EOPNOTSUPP."""
        inode = self._find(session, request.place, request.name)
        self._check_change(session, inode, request.name)
        if self._value(inode, request.name) is None:
            raise ErrnoError(errno.ENODATA)
        row = self._tree.touch(inode)
        if row.lower is not None and self._tree.lower.xattr(row.lower, request.name) is not None:
            self._tree.inodes.set_xattr(row.ino, request.name, None)
        else:
            self._tree.inodes.clear_xattr(row.ino, request.name)
        self._tree.inodes.put(row._replace(ctime_ns=self._tree.now_ns()))
        return RemoveXattrResponse()

    def _find(self, session: Session, place: Place, name: bytes) -> Inode:
        """The object, if an attribute can have the name."""
        if not 0 < len(name) <= XATTR_NAME_BYTES_MAX:
            raise ErrnoError(errno.ERANGE)
        if b"\0" in name:
            raise ErrnoError(errno.EINVAL)
        inode = self._walker.find(session, place)
        if not name.startswith(NAMESPACES):
            raise ErrnoError(errno.EOPNOTSUPP)
        if name in NAMESPACES:
            raise ErrnoError(errno.EINVAL)
        return inode

    @staticmethod
    def _check_change(session: Session, inode: Inode, name: bytes) -> None:
        """EPERM, EACCES."""
        if name.startswith(b"user."):
            if not _has_user_attributes(inode):
                raise ErrnoError(errno.EPERM)
            if inode.is_directory and inode.mode & stat.S_ISVTX:
                permissions.require_owner(session, inode)
            permissions.require(session, inode, permissions.WRITE)
        elif not permissions.is_root(session):
            raise ErrnoError(errno.EPERM)

    def _value(self, inode: Inode, name: bytes) -> bytes | None:
        if inode.row:
            known, value = self._tree.inodes.xattr(inode.ino, name)
            if known:
                return value
        return None if inode.lower is None else self._tree.lower.xattr(inode.lower, name)


def _has_user_attributes(inode: Inode) -> bool:
    return inode.is_regular or inode.is_directory
