"""From a guest's (dirfd, path) to the object: the file server walks its tree, we walk /proc and /dev.

A call with a path is made once; only when the server answers "crossed" do we walk what is left of it here,
and go back to the server where that leads out again (a symlink, "..").
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from client_vm.abi.common import AT_FDCWD, EACCES, ELOOP, ENOENT, ENOTDIR
from client_vm.descriptors import RemoteFile
from client_vm.errors import Errno
from client_vm.nodes import Directory, Node, OpenDirectory, OpenNode, OpenObject
from client_vm.proc import MOUNTS
from farcall.v1.file_pb2 import Place

if TYPE_CHECKING:
    from client_vm.process import Task

SYMLINKS_MAX: Final = 40
"""path_resolution(7)."""


class _Local(NamedTuple):
    """A walk that stands in /proc or /dev: the mount and what is left."""

    mount: bytes
    remaining: bytes


def locate(
    task: "Task",
    directory_fd: int,
    path: bytes,
    ask: Callable[[Place], Any],
    follow: bool = True,
    empty_ok: bool = False,
) -> Any:
    """The response that `ask` got for the place, or the Node if it lies in /proc or /dev.

    `ask` makes the call with the Place given and returns the response, whose `crossing` is looked at here.
    Errno: EBADF, ENOTDIR, ENOENT, ELOOP and what the server answers.
    """
    where = start(task, directory_fd, path, follow, empty_ok)
    for _ in range(SYMLINKS_MAX):
        if isinstance(where, Place):
            response = ask(where)
            if not response.crossing.mount:
                return response
            where = _Local(bytes(response.crossing.mount), bytes(response.crossing.remaining))
        if isinstance(where, Node):
            return where
        where = _walk(task, where, follow)
        if isinstance(where, Node):
            return where
    raise Errno(ELOOP)


def start(task: "Task", directory_fd: int, path: bytes, follow: bool, empty_ok: bool) -> "Place | Node | _Local":
    """Where a walk begins."""
    if not path and not empty_ok:
        raise Errno(ENOENT)
    if path.startswith(b"/"):
        return Place(directory=0, path=path, follow=follow)
    process = task.process
    base = process.cwd if directory_fd == AT_FDCWD else process.fds.get(directory_fd)
    if not path:
        return base.place() if isinstance(base, RemoteFile) else OpenObject(base)
    if isinstance(base, RemoteFile):
        return Place(directory=base.handle, path=path, follow=follow)
    if isinstance(base, OpenDirectory):
        mount, inside = _mount_of(base.node.path)
        return _Local(mount, inside + b"/" + path)
    raise Errno(ENOTDIR)


def place_of(task: "Task", directory_fd: int, path: bytes, follow: bool, empty_ok: bool) -> Place:
    """A place for the file server; what is of ours has no bytes to run. Errno: EACCES, and locate's."""
    where = start(task, directory_fd, path, follow, empty_ok)
    if isinstance(where, _Local):
        return cross(task, where.mount, where.remaining)
    if isinstance(where, Node):
        raise Errno(EACCES)
    return where


def cross(task: "Task", mount: bytes, remaining: bytes) -> Place:
    """Where a walk that crossed into /proc or /dev comes back to the file server's tree. Errno(EACCES)."""
    where = resolve_crossing(task, mount, remaining, follow=True)
    if isinstance(where, Node):
        raise Errno(EACCES)
    return where


def resolve_crossing(task: "Task", mount: bytes, remaining: bytes, follow: bool) -> "Place | Node":
    """What a crossing leads to: a node of ours, or a place back in the file server's tree."""
    where: Place | Node | _Local = _Local(mount, remaining)
    for _ in range(SYMLINKS_MAX):
        if not isinstance(where, _Local):
            return where
        where = _walk(task, where, follow)
    raise Errno(ELOOP)


def _walk(task: "Task", where: _Local, follow: bool) -> "Place | Node | _Local":
    """Walks the components left beneath a mount until an object, or a way out."""
    trail: list[Node] = [MOUNTS[where.mount]]
    parts = [part for part in where.remaining.split(b"/") if part]
    if where.remaining.endswith(b"/"):
        parts.append(b".")  # a slash at the end: a directory is meant, and a symlink before it followed
    for index, part in enumerate(parts):
        rest = parts[index + 1 :]
        here = trail[-1]
        if part in (b".", b".."):
            if not isinstance(here, Directory):
                raise Errno(ENOTDIR)
            if part == b"..":
                trail.pop()
            if not trail:
                return Place(directory=0, path=b"/" + b"/".join(rest), follow=follow)
            continue
        node = here.child(task, part)
        if _is_link(node) and (follow or rest):
            return _follow(task, here, node, rest, follow)
        trail.append(node)
    return trail[-1]


def _is_link(node: Node) -> bool:
    return type(node).link_target is not Node.link_target


def _follow(task: "Task", parent: Node, link: Node, rest: list[bytes], follow: bool) -> "Place | Node | _Local":
    """Where a symlink leads, with what is left of the path behind it."""
    target = link.link_object(task)
    tail = b"/".join(rest)
    if isinstance(target, RemoteFile):
        return Place(directory=target.handle, path=tail, follow=follow, empty_ok=not tail)
    if isinstance(target, OpenDirectory):
        mount, inside = _mount_of(target.node.path)
        return _Local(mount, inside + b"/" + tail)
    if target is not None:
        if tail:
            raise Errno(ENOTDIR)
        # A device or a text of ours is opened anew; what is the caller's can only be shared.
        return target.node if isinstance(target, OpenNode) else OpenObject(target)
    text = link.link_target(task)
    if text.startswith(b"/"):
        return Place(directory=0, path=text + (b"/" + tail if tail else b""), follow=follow)
    mount, inside = _mount_of(parent.path)
    return _Local(mount, b"/".join(part for part in (inside, text, tail) if part))


def _mount_of(path: bytes) -> tuple[bytes, bytes]:
    """(mount, path beneath it) of a node of ours."""
    mount = next(mount for mount in MOUNTS if (path + b"/").startswith(mount + b"/"))
    return mount, path[len(mount) + 1 :]
