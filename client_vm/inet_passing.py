"""Inet sockets beside messages (client_vm.passed): what a reader must know of one, and how it is made anew."""

import struct
from functools import partial
from typing import Final

from google.protobuf.message import DecodeError

from client_vm import passed
from client_vm.inet_sockets import InetDatagrams, InetSocket, InetStream
from farcall.v1 import network_pb2 as pb

PASSED_OPTIONS_MAX: Final = 16
"""Told of one."""
_PASSED: Final = struct.Struct("<HBB")
"""family, state, how many options follow, each"""
_OPTION: Final = struct.Struct("<IIi")
"""level, name, value; then a Connection of network.proto."""
_LISTENS, _CONNECTS, _BEYOND = 1, 2, 4


def _tell(file: InetSocket) -> bytes:
    """As passed.Kind.tell: its capability and names, and the options that are kept here."""
    state = 0
    if isinstance(file, InetStream):
        state = _LISTENS * file.listens | _CONNECTS * file.connecting | _BEYOND * file.beyond
    options = list(file.options.items())[:PASSED_OPTIONS_MAX]
    data = _PASSED.pack(file.family, state, len(options))
    data += b"".join(_OPTION.pack(level, name, value) for (level, name), value in options)
    return data + pb.Connection(socket=file.capability, local=file.local, peer=file.peer).SerializeToString()


def _remake(came: passed.Arrival, kind: type[InetStream] | type[InetDatagrams]) -> InetSocket:
    family, state, count = _PASSED.unpack_from(came.told)
    options = came.told[_PASSED.size : _PASSED.size + count * _OPTION.size]
    try:
        known = pb.Connection.FromString(came.told[_PASSED.size + len(options) :])
    except DecodeError:
        raise ValueError("a connection") from None
    made = kind(came.descriptor, came.flags, family, came.house.network, known.socket)
    made.options = {(level, name): value for level, name, value in _OPTION.iter_unpack(options)}
    made.local = known.local if known.HasField("local") else None
    made.peer = known.peer if known.HasField("peer") else None
    if isinstance(made, InetStream):
        made.resume(bool(state & _LISTENS), bool(state & _CONNECTS), bool(state & _BEYOND))
    return made


PASSED: Final = tuple(
    passed.Kind(kind, _tell, partial(_remake, kind=kind)) for kind in (InetStream, InetDatagrams)
)
"""How they are passed."""
