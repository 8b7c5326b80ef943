"""Datagrams between a datagram socket's near end and the network server (network.proto): a header, then bytes.

To the server the header names whom the datagram is for; from it, who sent it.
"""

import struct
from typing import Final, NamedTuple

PAYLOAD_BYTES_MAX: Final = 65_507
"""Of an IPv4 datagram (udp(7)): 65,535 without the headers of IP and UDP."""
_HEADER: Final = struct.Struct("<HBBH16s")
HEADER_BYTES: Final = _HEADER.size
_HOST_BYTES: Final = (0, 4, 16)


class Header(NamedTuple):
    """`host`: 4 or 16 bytes, or none: whom the socket is connected to. `errno`: instead of a datagram, why an
    earlier one did not arrive."""

    host: bytes
    port: int
    errno: int = 0

    def encode(self) -> bytes:
        return _HEADER.pack(self.port, len(self.host), 0, self.errno, self.host.ljust(16, b"\0"))


def decode_header(raw: bytes | bytearray | memoryview) -> Header | None:
    """The header at the beginning of what arrived; None: it is none."""
    if len(raw) < HEADER_BYTES:
        return None
    port, length, zero, errno, host = _HEADER.unpack_from(raw)
    if length not in _HOST_BYTES or zero:
        return None
    return Header(host[:length], port, errno)
