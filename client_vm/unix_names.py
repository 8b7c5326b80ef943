"""Names of unix sockets (unix(7)): a struct sockaddr_un to what the kernel process knows a socket by."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from client_vm.abi import common
from client_vm.abi.common import AT_FDCWD, EADDRINUSE, ECONNREFUSED, EINVAL
from client_vm.errors import Errno
from client_vm.namespace import locate
from client_vm.nodes import Node
from client_vm.socket_nodes import SocketNode, name_in_dev
from client_vm.unix_records import ADDRESS_BYTES_MAX, NO_NAME
from farcall.v1.file_pb2 import (
    Attributes,
    CheckAccessRequest,
    GetAttributesRequest,
    MakeNodeRequest,
    RemoveRequest,
)
from farcall.v1.kernel_pb2 import SocketName

if TYPE_CHECKING:
    from client_vm.process import Task

_KIND: Final = 0o170000
_SOCKET: Final = 0o140000
"""S_IFMT, S_IFSOCK (inode(7))."""


def parse(address: bytes) -> bytes:
    """sun_path of the name of somebody else: abstract if it begins with a NUL. Errno(EINVAL)."""
    if not len(NO_NAME) < len(address) <= ADDRESS_BYTES_MAX or not address.startswith(NO_NAME):
        raise Errno(EINVAL)
    path = address[len(NO_NAME) :]
    return path if path.startswith(b"\0") else path.split(b"\0", 1)[0]


def find(task: "Task", path: bytes) -> SocketName:
    """Whom the kernel process may know by that name, and the caller may write to. Errno: ECONNREFUSED: the file
    is no socket; EACCES, and a path's."""
    if path.startswith(b"\0"):
        return SocketName(address=NO_NAME + path)
    files = task.process.files
    may_write = locate(task, AT_FDCWD, path, lambda place: files.call(CheckAccessRequest(place=place, mode=2)))
    if isinstance(may_write, SocketNode):
        return SocketName(address=_address(may_write.path))
    if isinstance(may_write, Node):
        raise Errno(ECONNREFUSED)
    found = _attributes(task, path)
    if found.mode & _KIND != _SOCKET:
        raise Errno(ECONNREFUSED)
    return SocketName(address=_address(path), device=found.dev, inode=found.ino)


def _address(path: bytes) -> bytes:
    return NO_NAME + path + b"\0"


def _attributes(task: "Task", path: bytes) -> Attributes:
    files = task.process.files
    found = locate(task, AT_FDCWD, path, lambda place: files.call(GetAttributesRequest(place=place)))
    if isinstance(found, Node):
        raise Errno(ECONNREFUSED)
    attributes: Attributes = found.attributes
    return attributes


@contextmanager
def make_file(task: "Task", address: bytes) -> Iterator[SocketName]:
    """The name to bind a socket to; that of a file is made, and removed again if the binding fails. Errno:
    EADDRINUSE, and mknod(2)'s."""
    path = address[len(NO_NAME) :]
    if not path or path.startswith(b"\0"):
        yield SocketName(address=address)
        return
    path = path.split(b"\0", 1)[0]
    files = task.process.files
    mode = _SOCKET | 0o777 & ~task.process.umask
    try:
        made = locate(
            task, AT_FDCWD, path, lambda place: files.call(MakeNodeRequest(place=place, mode=mode)), follow=False
        )
    except Errno as error:
        if error.errno == common.ENOENT and name_in_dev(path):
            yield SocketName(address=_address(path))
            return
        raise Errno(EADDRINUSE if error.errno == common.EEXIST else error.errno) from None
    if isinstance(made, Node):
        raise Errno(EADDRINUSE)
    try:
        found = _attributes(task, path)
        yield SocketName(address=_address(path), device=found.dev, inode=found.ino)
    except Errno:
        locate(task, AT_FDCWD, path, lambda place: files.call(RemoveRequest(place=place)), follow=False)
        raise
