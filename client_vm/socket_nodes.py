"""Unix sockets as /dev and /proc show them: names in /dev, which are the kernel process's, and /proc/net/unix.

Nobody but the file server has files, so a socket bound in /dev has its name as long as it is there itself.
"""

import stat as stat_bits
from typing import TYPE_CHECKING, Final

from client_vm.abi.common import ENOENT, ENXIO
from client_vm.descriptors import OpenFile
from client_vm.errors import Errno
from client_vm.nodes import Directory, Node, TextFile, device_nodes
from client_vm.unix_records import NO_NAME
from farcall.v1.kernel_pb2 import SocketEntry

if TYPE_CHECKING:
    from client_vm.process import Task

DEV: Final = b"/dev/"
_LISTENS: Final = 0x10000
"""__SO_ACCEPTCON (linux/net.h)."""
_UNCONNECTED: Final = 1
"""SS_UNCONNECTED (linux/net.h)."""


class SocketNode(Node):
    """A socket that somebody has bound in /dev."""

    type_bits = stat_bits.S_IFSOCK
    permissions = 0o666

    def open(self, task: "Task", flags: int) -> OpenFile:
        raise Errno(ENXIO)


def name_in_dev(path: bytes) -> bool:
    """Whether that can be the name of one."""
    return path.startswith(DEV) and b"/" not in path[len(DEV) :] and path[len(DEV) :] not in (b"", b".", b"..")


class DevDirectory(Directory):
    """/dev: the kernel process is asked for sockets only if no device is meant."""

    def __init__(self) -> None:
        super().__init__(DEV[:-1], lambda task: _sockets(task) | device_nodes())

    def child(self, task: "Task", name: bytes) -> Node:
        found = device_nodes().get(name) or _sockets(task).get(name)
        if found is None:
            raise Errno(ENOENT)
        return found


def _path(entry: SocketEntry) -> bytes:
    """Of its name, if it has one that is no abstract one."""
    path = bytes(entry.address[len(NO_NAME) :])
    return b"" if path.startswith(b"\0") else path.removesuffix(b"\0")


def _sockets(task: "Task") -> dict[bytes, Node]:
    paths = [_path(entry) for entry in task.process.link.sockets()]
    return {path[len(DEV) :]: SocketNode(path) for path in paths if name_in_dev(path)}


def _table(task: "Task") -> bytes:
    """Those that are not connected: of the others nobody knows but those who have them."""
    lines = [b"Num       RefCount Protocol Flags    Type St Inode Path"]
    for entry in task.process.link.sockets():
        flags = _LISTENS if entry.listens else 0
        line = b"%016x: %08X %08X %08X %04X %02X %5d" % (0, 2, 0, flags, entry.kind, _UNCONNECTED, entry.inode)
        name = bytes(entry.address[len(NO_NAME) :])
        shown = name.replace(b"\0", b"@") if name.startswith(b"\0") else _path(entry)
        lines.append(line + b" " + shown if shown else line)
    return b"\n".join(lines) + b"\n"


def net_nodes(_task: "Task") -> dict[bytes, Node]:
    """The children of /proc/net."""
    return {b"unix": TextFile(b"/proc/net/unix", _table)}
