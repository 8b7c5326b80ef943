"""What an object says of itself, and changes of that: the stat, chmod, chown, utimensat, truncate, access,
statfs and readlink families.

Access times are set by utimensat(2) and at creation only, as on a file system mounted noatime.
"""

import errno
import os
import stat
from collections.abc import Mapping
from typing import Final

from farcall.v1.file_pb2 import (
    CheckAccessRequest,
    CheckAccessResponse,
    GetAttributesRequest,
    GetAttributesResponse,
    GetPathRequest,
    GetPathResponse,
    ReadLinkRequest,
    ReadLinkResponse,
    SetAttributesRequest,
    SetAttributesResponse,
    StatFileSystemRequest,
    StatFileSystemResponse,
)
from ipc.operations import BY_NAME
from servers.file import permissions
from servers.file.files import PERMISSION_BITS, Files
from servers.file.inodes import Inode
from servers.file.tree import Tree
from servers.file.walk import NAME_BYTES_MAX, Walker, answering
from servers.service import ErrnoError, Handler, Session

OVERLAYFS_MAGIC: Final = 0x794C7630
"""linux/magic.h: what this is, a union of layers; programs treat it as a local file system."""
NO_ID: Final = 0xFFFFFFFF
DELETED: Final = b" (deleted)"


class AttributeCalls:
    """The handlers."""

    def __init__(self, tree: Tree, walker: Walker, files: Files) -> None:
        self._tree = tree
        self._walker = walker
        self._files = files
        self.handlers: Mapping[int, Handler] = {
            BY_NAME["GetAttributes"].opcode: answering(self.get, GetAttributesResponse),
            BY_NAME["SetAttributes"].opcode: answering(self.set, SetAttributesResponse),
            BY_NAME["CheckAccess"].opcode: answering(self.check_access, CheckAccessResponse),
            BY_NAME["StatFileSystem"].opcode: answering(self.stat_file_system, StatFileSystemResponse),
            BY_NAME["ReadLink"].opcode: answering(self.read_link, ReadLinkResponse),
            BY_NAME["GetPath"].opcode: self.get_path,
        }

    def get(self, session: Session, request: GetAttributesRequest) -> GetAttributesResponse:
        """stat(2) and its family."""
        inode = self._walker.find(session, request.place)
        return GetAttributesResponse(attributes=self._tree.attributes(inode))

    def set(self, session: Session, request: SetAttributesRequest) -> SetAttributesResponse:
        """Everything is checked before anything changes. EPERM, EACCES, EINVAL, EISDIR, EFBIG, EBADF."""
        inode = self._walker.find(session, request.place)
        mode = self._new_mode(session, inode, request)
        self._check_times(session, inode, request)
        if request.HasField("size"):
            self._check_size(session, inode, request)
        now = self._tree.now_ns()
        if request.HasField("size"):
            inode = self._files.resize(session, inode, request.size, always=not request.place.path)
        if mode is None and not request.HasField("atime") and not request.HasField("mtime"):
            return SetAttributesResponse()
        row = self._tree.touch(inode)
        if mode is not None:
            row = row._replace(
                mode=mode,
                uid=request.uid if request.HasField("uid") and request.uid != NO_ID else row.uid,
                gid=request.gid if request.HasField("gid") and request.gid != NO_ID else row.gid,
            )
        if request.HasField("atime"):
            row = row._replace(atime_ns=now if request.atime.now else request.atime.time_ns)
        if request.HasField("mtime"):
            row = row._replace(mtime_ns=now if request.mtime.now else request.mtime.time_ns)
        self._tree.inodes.put(row._replace(ctime_ns=now))
        return SetAttributesResponse()

    @staticmethod
    def _new_mode(session: Session, inode: Inode, request: SetAttributesRequest) -> int | None:
        """The mode after chmod(2) and chown(2), or None if neither is asked for. EPERM."""
        change_owner = request.HasField("uid") or request.HasField("gid")
        if not change_owner and not request.HasField("mode"):
            return None
        mode, gid = inode.mode, inode.gid
        if change_owner:
            uid = request.uid if request.HasField("uid") else NO_ID
            new_gid = request.gid if request.HasField("gid") else NO_ID
            if not permissions.is_root(session):
                if uid != NO_ID and (session.uid != inode.uid or uid != inode.uid):
                    raise ErrnoError(errno.EPERM)
                if new_gid != NO_ID:
                    member = permissions.in_group(session, new_gid) or new_gid == inode.gid
                    if session.uid != inode.uid or not member:
                        raise ErrnoError(errno.EPERM)
            if not inode.is_directory:
                mode = permissions.without_privilege_bits(session, inode)
                if mode != inode.mode:
                    permissions.require_owner(session, inode)
            gid = gid if new_gid == NO_ID else new_gid
        if request.HasField("mode"):
            if inode.is_symlink:
                raise ErrnoError(errno.EOPNOTSUPP, "mode of a symlink")
            permissions.require_owner(session, inode)
            mode = stat.S_IFMT(mode) | request.mode & PERMISSION_BITS
            if not permissions.is_root(session) and not permissions.in_group(session, gid):
                mode &= ~stat.S_ISGID
        return mode

    @staticmethod
    def _check_times(session: Session, inode: Inode, request: SetAttributesRequest) -> None:
        """utimensat(2): both to now needs write permission, anything else ownership. EACCES, EPERM."""
        has_atime, has_mtime = request.HasField("atime"), request.HasField("mtime")
        if not has_atime and not has_mtime:
            return
        touch = has_atime and has_mtime and request.atime.now and request.mtime.now
        if touch:
            if session.uid != inode.uid:
                permissions.require(session, inode, permissions.WRITE)
        else:
            permissions.require_owner(session, inode)

    def _check_size(self, session: Session, inode: Inode, request: SetAttributesRequest) -> None:
        """truncate(2), or ftruncate(2) if there is no path."""
        place = request.place
        if place.path:
            if inode.is_directory:
                raise ErrnoError(errno.EISDIR)
            if not inode.is_regular:
                raise ErrnoError(errno.EINVAL)
            permissions.require(session, inode, permissions.WRITE)
        else:
            if place.directory == 0:
                raise ErrnoError(errno.EISDIR)
            file = self._tree.handles.get(session.number, place.directory)
            if file.path_only:
                raise ErrnoError(errno.EBADF)
            if not inode.is_regular or not file.writable:
                raise ErrnoError(errno.EINVAL)
        self._files.check_size(request.size)

    def check_access(self, session: Session, request: CheckAccessRequest) -> CheckAccessResponse:
        """access(2). EACCES; EINVAL: not a mode."""
        if request.mode & ~7:
            raise ErrnoError(errno.EINVAL)
        permissions.require(session, self._walker.find(session, request.place), request.mode)
        return CheckAccessResponse()

    def stat_file_system(self, session: Session, request: StatFileSystemRequest) -> StatFileSystemResponse:
        """statfs(2): the room is that of the state's file system, where everything written goes."""
        self._walker.find(session, request.place)
        host = os.statvfs(self._tree.store.directory)
        return StatFileSystemResponse(
            block_size=host.f_frsize,
            blocks=host.f_blocks,
            blocks_free=host.f_bfree,
            blocks_available=host.f_bavail,
            files=host.f_files,
            files_free=host.f_ffree,
            name_bytes_max=NAME_BYTES_MAX,
            type=OVERLAYFS_MAGIC,
        )

    def read_link(self, session: Session, request: ReadLinkRequest) -> ReadLinkResponse:
        """readlink(2). EINVAL: no symlink (ENOENT if it was named by a handle)."""
        inode = self._walker.find(session, request.place)
        if not inode.is_symlink:
            raise ErrnoError(errno.EINVAL if request.place.path else errno.ENOENT)
        return ReadLinkResponse(target=self._tree.link_target(inode))

    def get_path(self, session: Session, request: GetPathRequest) -> GetPathResponse:
        """Where the object is now, for getcwd(2) and /proc/self/fd. EBADF."""
        tree = self._tree
        if not request.handle:
            return GetPathResponse(path=b"/")
        file = tree.handles.get(session.number, request.handle)
        inode = tree.open_inode(file)
        if inode.is_directory:
            deleted = not inode.nlink
            try:
                path = tree.path(inode)
            except ErrnoError:  # those above it are gone too
                path, deleted = b"/" + tree.name_of(inode), True
        else:
            path, deleted = self._file_path(inode, file.parent, file.parent_lower, file.name)
        return GetPathResponse(path=(path or b"/") + (DELETED if deleted else b""), deleted=deleted)

    def _file_path(
        self, inode: Inode, parent: int, parent_lower: bytes | None, name: bytes
    ) -> tuple[bytes, bool]:
        """(path, deleted) of what was opened by that name."""
        tree = self._tree
        try:
            directory = tree.inode(parent, parent_lower)
            path = tree.path(directory)
            found = tree.child(directory, name) if directory.nlink else None
        except ErrnoError:  # the directory is gone
            return b"/" + name, True
        deleted = not inode.nlink or found is None or found.ino != inode.ino
        return path + b"/" + name, deleted
