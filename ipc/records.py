"""Records of connections, as a listening socket's near end gets them: fixed in size, a length, then the bytes.

Apart from ipc.rendezvous, because workers read them and must not import trio.
"""

from typing import Final

RECORD_BYTES: Final = 128
"""Of a connection's record: enough for what a family has to say of it."""
_LENGTH_BYTES: Final = 2


def encode_record(told: bytes) -> bytes:
    """What accept(2) is to know of a connection."""
    return len(told).to_bytes(_LENGTH_BYTES, "little") + told


def decode_record(record: bytes) -> bytes:
    """What was told, or as much of it as there is."""
    return record[_LENGTH_BYTES:][: int.from_bytes(record[:_LENGTH_BYTES], "little")]
