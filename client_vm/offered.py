"""What a server may lack: an earlier one does not have the operations of a later one (proto/README, Versions).

Without the operations of CORE no guest can run, and a server without them is refused in one line. Every other one
has a fall-back where it is called, or is to the guest what a file system answers that cannot do it.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from google.protobuf.message import Message

from client_vm.abi.common import ENODEV, ENOLCK, ENOSYS, EOPNOTSUPP, EPERM
from farcall.v1 import file_pb2
from farcall.v1.session_pb2 import SERVER_KIND_FILE, SERVER_KIND_MEMORY, ServerKind
from ipc.greeting import ConnectError
from ipc.operations import BY_NAME

CORE: Final[Mapping[ServerKind, tuple[str, ...]]] = {
    SERVER_KIND_FILE: (
        "Hello", "Renew", "Goodbye", "Inherit", "Open", "Close", "PRead", "PWrite", "Append", "GetAttributes",
        "SetAttributes", "ReadDirectory", "MakeDirectory", "ReadLink", "Remove", "Rename", "CheckAccess", "Sync",
        "GetPath",
    ),
    SERVER_KIND_MEMORY: (
        "Hello", "Renew", "Goodbye", "Grant", "Release", "InheritMemory", "CreateSegment", "DropSegment",
        "AdoptSegment",
    ),
}  # fmt: skip
"""Kinds that stand not here need all they have ever had."""

_WITHOUT: Final[Mapping[type[Message], int]] = {
    file_pb2.AllocateRequest: EOPNOTSUPP,
    file_pb2.GetXattrRequest: EOPNOTSUPP,
    file_pb2.SetXattrRequest: EOPNOTSUPP,
    file_pb2.ListXattrRequest: EOPNOTSUPP,
    file_pb2.RemoveXattrRequest: EOPNOTSUPP,
    file_pb2.LockRequest: ENOLCK,
    file_pb2.TestLockRequest: ENOLCK,
    file_pb2.MapSharedRequest: ENODEV,
    file_pb2.LinkRequest: EPERM,
    file_pb2.MakeNodeRequest: EPERM,
    file_pb2.MakeSymlinkRequest: EPERM,
}
"""What Linux answers where a file system lacks it; ENOSYS for the others."""


def errno_without(request: type[Message]) -> int:
    """A guest's errno where the server does not have the operation."""
    return _WITHOUT.get(request, ENOSYS)


def check_core(kind: ServerKind, opcodes: Iterable[int]) -> None:
    """ConnectError, one line: guests cannot run on that."""
    offered = set(opcodes)
    lacking = [name for name in CORE.get(kind, ()) if BY_NAME[name].opcode not in offered]
    if lacking:
        name = ServerKind.Name(kind).removeprefix("SERVER_KIND_").lower()
        raise ConnectError(f"the {name} server is too old, it lacks {', '.join(lacking)}")
