"""Extended attributes (xattr(7), man 2 of each)."""

from collections.abc import Callable
from typing import Any, Final

from client_vm.abi import common
from client_vm.abi.common import AT_FDCWD, E2BIG, EBADF, EINVAL, ENOSPC, EOPNOTSUPP, ERANGE
from client_vm.arguments import InBuffer, OutBuffer
from client_vm.descriptors import RemoteFile
from client_vm.errors import Errno
from client_vm.namespace import locate
from client_vm.nodes import Node
from client_vm.process import Task
from farcall.v1.file_pb2 import GetXattrRequest, ListXattrRequest, Place, RemoveXattrRequest, SetXattrRequest
from ipc.limits import BODY_BYTES_MAX

XATTR_BYTES_MAX: Final = common.XATTR_SIZE_MAX
VALUE_BYTES_MAX: Final = BODY_BYTES_MAX - 2 * common.PATH_MAX
"""Of what is set: value, name and path are one message's body. Beyond: ENOSPC, as file systems with less room."""


def _xattr(task: Task, path: bytes | int, follow: bool, ask: Callable[[Place], Any]) -> Any:
    """A call on a path, or on an open description. /proc and /dev have no attributes."""
    if isinstance(path, int):
        file = task.process.fds.get(path)
        if file.is_path:
            raise Errno(EBADF)
        if not isinstance(file, RemoteFile):
            raise Errno(EOPNOTSUPP)
        return ask(file.place())
    found = locate(task, AT_FDCWD, path, ask, follow)
    if isinstance(found, Node):
        raise Errno(EOPNOTSUPP)
    return found


def _set_xattr(
    task: Task, path: bytes | int, follow: bool, name: bytes, value: InBuffer, size: int, flags: int
) -> int:
    if flags & ~(common.XATTR_CREATE | common.XATTR_REPLACE):
        raise Errno(EINVAL)
    _check_name(name)
    if size > XATTR_BYTES_MAX:
        raise Errno(E2BIG)
    data = value.whole(size)
    if size > VALUE_BYTES_MAX:
        raise Errno(ENOSPC)
    files = task.process.files
    _xattr(
        task,
        path,
        follow,
        lambda place: files.call(SetXattrRequest(place=place, name=name, value=data, flags=flags)),
    )
    return 0


def _check_name(name: bytes) -> None:
    if not name or len(name) > common.XATTR_NAME_MAX:
        raise Errno(ERANGE)


def _get_xattr(task: Task, path: bytes | int, follow: bool, name: bytes, buffer: OutBuffer, size: int) -> int:
    _check_name(name)
    files = task.process.files
    found = _xattr(task, path, follow, lambda place: files.call(GetXattrRequest(place=place, name=name)))
    return _give(bytes(found.value), buffer, size)


def _give(data: bytes, buffer: OutBuffer, size: int) -> int:
    """getxattr's rule: size 0 asks how much, less than needed is ERANGE."""
    if not size:
        return len(data)
    if size < len(data):
        raise Errno(ERANGE)
    buffer.put(data)
    return len(data)


def _list_xattr(task: Task, path: bytes | int, follow: bool, buffer: OutBuffer, size: int) -> int:
    files = task.process.files
    try:
        found = _xattr(task, path, follow, lambda place: files.call(ListXattrRequest(place=place)))
    except Errno as error:
        if error.errno == EOPNOTSUPP:
            return 0
        raise
    return _give(b"".join(name + b"\0" for name in found.names), buffer, size)


def _remove_xattr(task: Task, path: bytes | int, follow: bool, name: bytes) -> int:
    _check_name(name)
    files = task.process.files
    _xattr(task, path, follow, lambda place: files.call(RemoveXattrRequest(place=place, name=name)))
    return 0


def setxattr(task: Task, path: bytes, name: bytes, value: InBuffer, size: int, flags: int) -> int:
    return _set_xattr(task, path, True, name, value, size, flags)


def lsetxattr(task: Task, path: bytes, name: bytes, value: InBuffer, size: int, flags: int) -> int:
    return _set_xattr(task, path, False, name, value, size, flags)


def fsetxattr(task: Task, fd: int, name: bytes, value: InBuffer, size: int, flags: int) -> int:
    return _set_xattr(task, fd, True, name, value, size, flags)


def getxattr(task: Task, path: bytes, name: bytes, buffer: OutBuffer, size: int) -> int:
    return _get_xattr(task, path, True, name, buffer, size)


def lgetxattr(task: Task, path: bytes, name: bytes, buffer: OutBuffer, size: int) -> int:
    return _get_xattr(task, path, False, name, buffer, size)


def fgetxattr(task: Task, fd: int, name: bytes, buffer: OutBuffer, size: int) -> int:
    return _get_xattr(task, fd, True, name, buffer, size)


def listxattr(task: Task, path: bytes, buffer: OutBuffer, size: int) -> int:
    return _list_xattr(task, path, True, buffer, size)


def llistxattr(task: Task, path: bytes, buffer: OutBuffer, size: int) -> int:
    return _list_xattr(task, path, False, buffer, size)


def flistxattr(task: Task, fd: int, buffer: OutBuffer, size: int) -> int:
    return _list_xattr(task, fd, True, buffer, size)


def removexattr(task: Task, path: bytes, name: bytes) -> int:
    return _remove_xattr(task, path, True, name)


def lremovexattr(task: Task, path: bytes, name: bytes) -> int:
    return _remove_xattr(task, path, False, name)


def fremovexattr(task: Task, fd: int, name: bytes) -> int:
    return _remove_xattr(task, fd, True, name)
