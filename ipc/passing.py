"""Datagrams with descriptors beside them (unix(7), SCM_RIGHTS).

The standard library's send_fds and recv_fds ignore the flags they are given, so received descriptors would be
inherited by whatever is started next.
"""

import os
import socket
from array import array
from collections.abc import Iterable, Sequence


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
