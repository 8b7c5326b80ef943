"""Datagrams with descriptors beside them (unix(7), SCM_RIGHTS), and who is at the other end.

The standard library's send_fds and recv_fds ignore the flags they are given, so received descriptors would be
inherited by whatever is started next.
"""

import os
import socket
import struct
from array import array
from collections.abc import Iterable, Sequence
from typing import Final

_UCRED: Final = struct.Struct("=iII")
"""pid, uid, gid of SO_PEERCRED (unix(7))."""
SEND_AT_ONCE: Final = int(socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
"""For send(2). A plain integer, made once: the module's flags are an enumeration, whose | costs a microsecond."""


def send_descriptors(
    connection: socket.socket, parts: Sequence[bytes], descriptors: Sequence[int], flags: int = 0
) -> None:
    """One datagram of the parts' bytes; the descriptors are copied, the caller closes its own. OSError."""
    rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", descriptors))
    connection.sendmsg(parts, [rights] if descriptors else [], flags | socket.MSG_NOSIGNAL)


def receive_descriptors(
    connection: socket.socket, bytes_max: int, descriptors_max: int, flags: int = 0
) -> tuple[bytes, list[int], int]:
    """(datagram, descriptors, flags of recvmsg(2)); the descriptors are close-on-exec, and the caller's."""
    room = socket.CMSG_LEN(descriptors_max * array("i").itemsize) if descriptors_max else 0
    datagram, ancillary, flags, _ = connection.recvmsg(bytes_max, room, flags | socket.MSG_CMSG_CLOEXEC)
    descriptors = array("i")
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            descriptors.frombytes(data[: len(data) - len(data) % descriptors.itemsize])
    return datagram, list(descriptors), flags


def close_all(descriptors: Iterable[int]) -> None:
    """Closes descriptors that nobody wants."""
    for descriptor in descriptors:
        os.close(descriptor)


def peer_of(connection: socket.socket) -> tuple[int, int]:
    """(pid, uid) of who connected, or listened, at the other end (unix(7), SO_PEERCRED). The pid of a process
    that our namespace does not have is 0."""
    pid, uid, _ = _UCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    return pid, uid
