"""The control socket between the kernel process and a worker: messages with descriptors beside them.

One SOCK_SEQPACKET datagram is one message of proto/farcall/v1/kernel.proto. The first byte says where it is:
after that byte, or, if it is longer than a datagram should be (a guest's environment may have 2 MiB), in a
sealed memfd passed as the last descriptor (unix(7), memfd_create(2)). Only the kernel process sends those:
it takes neither descriptors nor long messages from a worker, which is not trusted.
"""

import fcntl
import os
import select
import socket
from collections.abc import Sequence
from typing import Final, TypeVar

from google.protobuf.message import DecodeError, Message

from ipc.message import MalformedError
from ipc.passing import receive_descriptors, send_descriptors

INLINE_BYTES_MAX: Final = 32 << 10
"""Beyond it a message goes by memfd; a socket's default send buffer holds a few datagrams of this size."""
MESSAGE_BYTES_MAX: Final = 64 << 20
"""More than any StartGuest: Linux allows 6 MiB of arguments and environment (execve(2))."""
SPARE_DESCRIPTORS_MAX: Final = 10
"""Beside one message: two sockets, and two per ring of at most four."""
_DESCRIPTORS_MAX: Final = SPARE_DESCRIPTORS_MAX + 1
_INLINE: Final = b"\0"
_MEMFD: Final = b"\1"
_SEALS: Final = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE

M = TypeVar("M", bound=Message)


class ControlSocket:
    """One end. Both calls wait as long as the socket does: BlockingIOError if it is non-blocking."""

    def __init__(self, end: socket.socket, *, descriptors_max: int = 0) -> None:
        """Takes over `end`. `descriptors_max`: what `receive` accepts beside a message; a worker's own end
        takes SPARE_DESCRIPTORS_MAX, the kernel process none."""
        self._socket = end
        self._room = descriptors_max + 1 if descriptors_max else 0

    def fileno(self) -> int:
        """For poll(2)."""
        return self._socket.fileno()

    def send(self, message: Message, descriptors: Sequence[int] = ()) -> None:
        """Sends a message; the descriptors are copied, the caller closes its own.

        OSError, BrokenPipeError and ConnectionResetError if the other end is gone.
        """
        body = message.SerializeToString()
        if len(body) <= INLINE_BYTES_MAX:
            send_descriptors(self._socket, [_INLINE, body], descriptors)
            return
        memfd = _sealed(body)
        try:
            send_descriptors(self._socket, [_MEMFD], [*descriptors, memfd])
        finally:
            os.close(memfd)

    def has_message(self) -> bool:
        """Whether `receive` would not wait."""
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        return bool(poll.poll(0))

    def hangs_up(self, within_s: float) -> bool:
        """Whether the other end is gone, or goes within so many seconds."""
        poll = select.poll()
        poll.register(self._socket, 0)
        return bool(poll.poll(within_s * 1000))

    def receive(self, kind: type[M]) -> tuple[M, list[int]]:
        """The next message and the descriptors beside it, which are the caller's to close.

        EOFError if the other end is gone; MalformedError if it sent something else, or a descriptor too many.
        """
        try:
            datagram, descriptors, flags = receive_descriptors(self._socket, INLINE_BYTES_MAX + 1, self._room)
        except ConnectionResetError:
            raise EOFError("the other end of the control socket is gone") from None
        try:
            if not datagram:
                raise EOFError("the other end of the control socket is gone")
            if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC) or len(descriptors) > _DESCRIPTORS_MAX:
                raise MalformedError("a control message beyond its limits")
            message = kind()
            message.ParseFromString(_body(datagram, descriptors))
        except DecodeError:
            _close(descriptors)
            raise MalformedError(f"a control message is no {kind.__name__}") from None
        except BaseException:
            _close(descriptors)
            raise
        return message, descriptors

    # Not socket.send_fds and recv_fds: those of Python 3.11 drop their flags.

    def close(self) -> None:
        """Closes this end; the other one's `receive` raises EOFError once it has read what is there."""
        self._socket.close()


def _body(datagram: bytes, descriptors: list[int]) -> bytes:
    """The message's bytes; the memfd they came in is taken off the list and closed."""
    if datagram[:1] == _INLINE:
        return datagram[1:]
    if datagram != _MEMFD or not descriptors:
        raise MalformedError("a control message of an unknown form")
    memfd = descriptors.pop()
    try:
        size_bytes = os.fstat(memfd).st_size
        if fcntl.fcntl(memfd, fcntl.F_GET_SEALS) & _SEALS != _SEALS or size_bytes > MESSAGE_BYTES_MAX:
            raise MalformedError("a control message's memfd is not sealed, or too long")
        return os.pread(memfd, size_bytes, 0)
    except OSError:
        raise MalformedError("a control message's descriptor is no memfd") from None
    finally:
        os.close(memfd)


def _sealed(body: bytes) -> int:
    memfd = os.memfd_create("farcall-control", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        view = memoryview(body)
        while view:
            view = view[os.write(memfd, view) :]
        fcntl.fcntl(memfd, fcntl.F_ADD_SEALS, _SEALS)
    except BaseException:
        os.close(memfd)
        raise
    return memfd


def _close(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
