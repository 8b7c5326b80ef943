"""What the ends of the guest's unix sockets find before the guests' bytes: the record of a connection, written by
the kernel process for whoever accepts it, and the name of a datagram's sender, written by that sender.
"""

import struct
from typing import Final, NamedTuple

from client_vm.abi import common
from ipc.records import RECORD_BYTES

ADDRESS_BYTES_MAX: Final = common.sockaddr_un.size
NO_NAME: Final = common.AF_UNIX.to_bytes(2, "little")
"""struct sockaddr_un of a socket without a name (unix(7))."""
_RECORD: Final = struct.Struct(f"<IIIH{ADDRESS_BYTES_MAX}s")
_SENDER: Final = struct.Struct(f"<H{ADDRESS_BYTES_MAX}s")
SENDER_BYTES: Final = _SENDER.size
"""Before each datagram."""
assert _RECORD.size <= RECORD_BYTES


class Peer(NamedTuple):
    """Who is at the other end (SO_PEERCRED): struct ucred."""

    pid: int
    uid: int
    gid: int


NOBODY: Final = Peer(0, 0xFFFFFFFF, 0xFFFFFFFF)
"""What a socket without a peer tells (SO_PEERCRED)."""


def encode_record(peer: Peer, address: bytes) -> bytes:
    """Of a connection: who connects, and by what name it is known."""
    return _RECORD.pack(*peer, len(address), address)


def decode_record(raw: bytes) -> tuple[Peer, bytes]:
    """As encode_record was given."""
    pid, uid, gid, length, address = _RECORD.unpack_from(raw)
    return Peer(pid, uid, gid), address[:length]


def encode_sender(address: bytes) -> bytes:
    """Before a datagram: SENDER_BYTES."""
    return _SENDER.pack(len(address), address)


def decode_sender(raw: bytes | bytearray) -> bytes | None:
    """Its address; None: nobody of ours has sent it."""
    length, address = _SENDER.unpack_from(raw)
    known = length <= ADDRESS_BYTES_MAX and (not length or address[:2] == NO_NAME)
    return address[:length] if known else None
