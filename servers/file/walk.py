"""From a path to an inode, as path_resolution(7) has it, in the guest's root.

Two ways: `find` answers the object a path names; `locate` stops before the last component, for operations
that make or take away a name. Symlinks are resolved here, never by the host. A walk that comes to /proc or
/dev ends in CrossedError before anything was done.
"""

import errno
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from google.protobuf.message import Message

from farcall.v1.file_pb2 import Crossing, Place
from servers.file.inodes import Inode
from servers.file.permissions import EXECUTE, require
from servers.file.tree import MOUNTS, Tree
from servers.service import ErrnoError, Handler, Session

PATH_BYTES_MAX: Final = 4095
NAME_BYTES_MAX: Final = 255
SYMLINKS_MAX: Final = 40


class CrossedError(Exception):
    """The walk left the tree at a mount of the worker's (Crossing)."""

    def __init__(self, mount: bytes, remaining: bytes, at_target: bool = False) -> None:
        super().__init__(mount, remaining)
        self.mount = mount
        self.remaining = remaining
        self.at_target = at_target


@dataclass(frozen=True, slots=True)
class Located:
    """A name in a directory. If the path ends so, `name` is b".", b".." or b"/", and `inode` the object."""

    directory: Inode
    name: bytes
    inode: Inode | None
    """None: there is nothing of that name."""
    slash: bool
    """The path ends in a slash: a directory is meant."""
    mount: bool = False
    """The name is a mount of the worker's, in the root."""
    too_long: bool = False
    """No object can have the name: ENAMETOOLONG, once it is looked up."""

    @property
    def special(self) -> bool:
        """Ends in ".", ".." or "/": no name to make or take away."""
        return self.name in (b".", b"..", b"/")

    def require_possible(self) -> None:
        """ENAMETOOLONG."""
        if self.too_long:
            raise ErrnoError(errno.ENAMETOOLONG)


class Walker:
    """Walks for a session's calls."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree

    def find(self, session: Session, place: Place) -> Inode:
        """The object. ErrnoError: ENOENT, ENOTDIR, EACCES, ELOOP, ENAMETOOLONG, EBADF. CrossedError."""
        if not place.path:
            return self._of_handle(session, place)
        found = self.locate(session, place, follow=place.follow, cross=True)
        found.require_possible()
        if found.inode is None:
            raise ErrnoError(errno.ENOENT)
        if found.slash and not found.inode.is_directory:
            raise ErrnoError(errno.ENOTDIR)
        return found.inode

    def locate(
        self, session: Session, place: Place, *, follow: bool = False, cross: bool = False, create: bool = False
    ) -> Located:
        """The last component's directory, and what it names. `follow`: a symlink there leads on.

        `cross`: a mount of the worker's as the last component is a CrossedError too. `create`: a file is to be
        made there, and a trailing slash is EISDIR. ErrnoError as `find`, but for Located.too_long.
        """
        path = place.path
        if not path:
            raise ErrnoError(errno.ENOENT)
        if len(path) > PATH_BYTES_MAX:
            raise ErrnoError(errno.ENAMETOOLONG)
        if b"\0" in path:
            raise ErrnoError(errno.EINVAL)
        tree = self._tree
        here = tree.root() if path.startswith(b"/") else self._start(session, place)
        rest = path.lstrip(b"/")
        if not rest:
            return Located(here, b"/", here, True)
        links = 0
        while True:
            name, slash, after = rest.partition(b"/")
            after = after.lstrip(b"/")
            require(session, here, EXECUTE)
            if len(name) > NAME_BYTES_MAX and not after:
                return Located(here, name, None, bool(slash), too_long=True)
            if create and slash and not after and name not in (b".", b".."):
                raise ErrnoError(errno.EISDIR)
            child = self._step(here, name, after, cross or bool(after))
            if child is not None and child.is_symlink and (after or follow or (slash and cross)):
                links += 1
                if links > SYMLINKS_MAX:
                    raise ErrnoError(errno.ELOOP)
                target = tree.link_target(child)
                if target.startswith(b"/"):
                    here = tree.root()
                rest = (target + slash + after).lstrip(b"/")
                if not rest:
                    return Located(here, b"/", here, True)
                continue
            if not after:
                mount = here.ino == tree.root_ino and name in MOUNTS
                return Located(here, name, child, bool(slash), mount)
            if child is None:
                raise ErrnoError(errno.ENOENT)
            if not child.is_directory:
                raise ErrnoError(errno.ENOTDIR)
            here, rest = child, after

    def _step(self, here: Inode, name: bytes, after: bytes, cross: bool) -> Inode | None:
        """One component."""
        if name == b".":
            return here
        if name == b"..":
            return self._tree.parent(here)
        if len(name) > NAME_BYTES_MAX:
            raise ErrnoError(errno.ENAMETOOLONG)
        if here.ino == self._tree.root_ino and name in MOUNTS:
            if cross:
                raise CrossedError(b"/" + name, after)
            return here  # a directory; `Located.mount` tells that it is not ours
        return self._tree.child(here, name)

    def _start(self, session: Session, place: Place) -> Inode:
        if not place.directory:
            return self._tree.root()
        found = self._of_handle(session, place, empty=False)
        if not found.is_directory:
            raise ErrnoError(errno.ENOTDIR)
        return found

    def _of_handle(self, session: Session, place: Place, empty: bool = True) -> Inode:
        if empty and not place.empty_ok:
            raise ErrnoError(errno.ENOENT)
        if not place.directory:
            return self._tree.root()
        return self._tree.open_inode(self._tree.handles.get(session.number, place.directory))


def answering(handler: Callable[[Session, Any], Message], response: Callable[..., Message]) -> Handler:
    """The handler, its CrossedError turned into the response that says so."""

    def run(session: Session, request: Any) -> Message:
        try:
            return handler(session, request)
        except CrossedError as crossed:
            fields: dict[str, Any] = {"crossing": Crossing(mount=crossed.mount, remaining=crossed.remaining)}
            if crossed.at_target:
                fields["crossed_at_target"] = True
            return response(**fields)

    return run
