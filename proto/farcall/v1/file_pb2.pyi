from farcall.v1 import session_pb2 as _session_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class OpenFlag(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    OPEN_FLAG_UNSPECIFIED: _ClassVar[OpenFlag]
    OPEN_FLAG_READ: _ClassVar[OpenFlag]
    OPEN_FLAG_WRITE: _ClassVar[OpenFlag]
    OPEN_FLAG_CREATE: _ClassVar[OpenFlag]
    OPEN_FLAG_EXCLUSIVE: _ClassVar[OpenFlag]
    OPEN_FLAG_TRUNCATE: _ClassVar[OpenFlag]
    OPEN_FLAG_DIRECTORY: _ClassVar[OpenFlag]
    OPEN_FLAG_PATH: _ClassVar[OpenFlag]
    OPEN_FLAG_EXECUTE: _ClassVar[OpenFlag]
    OPEN_FLAG_APPEND: _ClassVar[OpenFlag]
    OPEN_FLAG_TMPFILE: _ClassVar[OpenFlag]

class RenameFlag(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    RENAME_FLAG_UNSPECIFIED: _ClassVar[RenameFlag]
    RENAME_FLAG_NO_REPLACE: _ClassVar[RenameFlag]
    RENAME_FLAG_EXCHANGE: _ClassVar[RenameFlag]

class XattrFlag(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    XATTR_FLAG_UNSPECIFIED: _ClassVar[XattrFlag]
    XATTR_FLAG_CREATE: _ClassVar[XattrFlag]
    XATTR_FLAG_REPLACE: _ClassVar[XattrFlag]

class LockKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    LOCK_KIND_UNSPECIFIED: _ClassVar[LockKind]
    LOCK_KIND_FLOCK: _ClassVar[LockKind]
    LOCK_KIND_POSIX: _ClassVar[LockKind]
    LOCK_KIND_OFD: _ClassVar[LockKind]

class LockType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    LOCK_TYPE_UNSPECIFIED: _ClassVar[LockType]
    LOCK_TYPE_READ: _ClassVar[LockType]
    LOCK_TYPE_WRITE: _ClassVar[LockType]
    LOCK_TYPE_UNLOCK: _ClassVar[LockType]
OPEN_FLAG_UNSPECIFIED: OpenFlag
OPEN_FLAG_READ: OpenFlag
OPEN_FLAG_WRITE: OpenFlag
OPEN_FLAG_CREATE: OpenFlag
OPEN_FLAG_EXCLUSIVE: OpenFlag
OPEN_FLAG_TRUNCATE: OpenFlag
OPEN_FLAG_DIRECTORY: OpenFlag
OPEN_FLAG_PATH: OpenFlag
OPEN_FLAG_EXECUTE: OpenFlag
OPEN_FLAG_APPEND: OpenFlag
OPEN_FLAG_TMPFILE: OpenFlag
RENAME_FLAG_UNSPECIFIED: RenameFlag
RENAME_FLAG_NO_REPLACE: RenameFlag
RENAME_FLAG_EXCHANGE: RenameFlag
XATTR_FLAG_UNSPECIFIED: XattrFlag
XATTR_FLAG_CREATE: XattrFlag
XATTR_FLAG_REPLACE: XattrFlag
LOCK_KIND_UNSPECIFIED: LockKind
LOCK_KIND_FLOCK: LockKind
LOCK_KIND_POSIX: LockKind
LOCK_KIND_OFD: LockKind
LOCK_TYPE_UNSPECIFIED: LockType
LOCK_TYPE_READ: LockType
LOCK_TYPE_WRITE: LockType
LOCK_TYPE_UNLOCK: LockType

class Place(_message.Message):
    __slots__ = ("directory", "path", "follow", "empty_ok")
    DIRECTORY_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    FOLLOW_FIELD_NUMBER: _ClassVar[int]
    EMPTY_OK_FIELD_NUMBER: _ClassVar[int]
    directory: int
    path: bytes
    follow: bool
    empty_ok: bool
    def __init__(self, directory: _Optional[int] = ..., path: _Optional[bytes] = ..., follow: _Optional[bool] = ..., empty_ok: _Optional[bool] = ...) -> None: ...

class Crossing(_message.Message):
    __slots__ = ("mount", "remaining")
    MOUNT_FIELD_NUMBER: _ClassVar[int]
    REMAINING_FIELD_NUMBER: _ClassVar[int]
    mount: bytes
    remaining: bytes
    def __init__(self, mount: _Optional[bytes] = ..., remaining: _Optional[bytes] = ...) -> None: ...

class Attributes(_message.Message):
    __slots__ = ("ino", "mode", "nlink", "uid", "gid", "size", "blocks", "dev", "rdev", "atime_ns", "mtime_ns", "ctime_ns", "btime_ns", "block_size", "generation")
    INO_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    NLINK_FIELD_NUMBER: _ClassVar[int]
    UID_FIELD_NUMBER: _ClassVar[int]
    GID_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    BLOCKS_FIELD_NUMBER: _ClassVar[int]
    DEV_FIELD_NUMBER: _ClassVar[int]
    RDEV_FIELD_NUMBER: _ClassVar[int]
    ATIME_NS_FIELD_NUMBER: _ClassVar[int]
    MTIME_NS_FIELD_NUMBER: _ClassVar[int]
    CTIME_NS_FIELD_NUMBER: _ClassVar[int]
    BTIME_NS_FIELD_NUMBER: _ClassVar[int]
    BLOCK_SIZE_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    ino: int
    mode: int
    nlink: int
    uid: int
    gid: int
    size: int
    blocks: int
    dev: int
    rdev: int
    atime_ns: int
    mtime_ns: int
    ctime_ns: int
    btime_ns: int
    block_size: int
    generation: int
    def __init__(self, ino: _Optional[int] = ..., mode: _Optional[int] = ..., nlink: _Optional[int] = ..., uid: _Optional[int] = ..., gid: _Optional[int] = ..., size: _Optional[int] = ..., blocks: _Optional[int] = ..., dev: _Optional[int] = ..., rdev: _Optional[int] = ..., atime_ns: _Optional[int] = ..., mtime_ns: _Optional[int] = ..., ctime_ns: _Optional[int] = ..., btime_ns: _Optional[int] = ..., block_size: _Optional[int] = ..., generation: _Optional[int] = ...) -> None: ...

class OpenRequest(_message.Message):
    __slots__ = ("identity", "place", "handle", "flags", "mode")
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    PLACE_FIELD_NUMBER: _ClassVar[int]
    HANDLE_FIELD_NUMBER: _ClassVar[int]
    FLAGS_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    identity: _session_pb2.Identity
    place: Place
    handle: int
    flags: int
    mode: int
    def __init__(self, identity: _Optional[_Union[_session_pb2.Identity, _Mapping]] = ..., place: _Optional[_Union[Place, _Mapping]] = ..., handle: _Optional[int] = ..., flags: _Optional[int] = ..., mode: _Optional[int] = ...) -> None: ...

class OpenResponse(_message.Message):
    __slots__ = ("outcome", "crossing", "attributes")
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    CROSSING_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    outcome: _session_pb2.Outcome
    crossing: Crossing
    attributes: Attributes
    def __init__(self, outcome: _Optional[_Union[_session_pb2.Outcome, _Mapping]] = ..., crossing: _Optional[_Union[Crossing, _Mapping]] = ..., attributes: _Optional[_Union[Attributes, _Mapping]] = ...) -> None: ...

class CloseRequest(_message.Message):
    __slots__ = ("identity", "handle")
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    HANDLE_FIELD_NUMBER: _ClassVar[int]
    identity: _session_pb2.Identity
    handle: int
    def __init__(self, identity: _Optional[_Union[_session_pb2.Identity, _Mapping]] = ..., handle: _Optional[int] = ...) -> None: ...

class CloseResponse(_message.Message):
    __slots__ = ("outcome", "result")
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    outcome: _session_pb2.Outcome
    result: int
    def __init__(self, outcome: _Optional[_Union[_session_pb2.Outcome, _Mapping]] = ..., result: _Optional[int] = ...) -> None: ...

class PReadRequest(_message.Message):
    __slots__ = ("identity", "handle", "offset", "count")
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    HANDLE_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    identity: _session_pb2.Identity
    handle: int
    offset: int
    count: int
    def __init__(self, identity: _Optional[_Union[_session_pb2.Identity, _Mapping]] = ..., handle: _Optional[int] = ..., offset: _Optional[int] = ..., count: _Optional[int] = ...) -> None: ...

class PReadResponse(_message.Message):
    __slots__ = ("outcome", "count", "data")
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    outcome: _session_pb2.Outcome
    count: int
    data: bytes
    def __init__(self, outcome: _Optional[_Union[_session_pb2.Outcome, _Mapping]] = ..., count: _Optional[int] = ..., data: _Optional[bytes] = ...) -> None: ...

class PWriteRequest(_message.Message):
    __slots__ = ("identity", "handle", "offset", "data")
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    HANDLE_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    identity: _session_pb2.Identity
    handle: int
    offset: int
    data: bytes
    def __init__(self, identity: _Optional[_Union[_session_pb2.Identity, _Mapping]] = ..., handle: _Optional[int] = ..., offset: _Optional[int] = ..., data: _Optional[bytes] = ...) -> None: ...

class PWriteResponse(_message.Message):
    __slots__ = ("outcome", "count")
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    outcome: _session_pb2.Outcome
    count: int
    def __init__(self, outcome: _Optional[_Union[_session_pb2.Outcome, _Mapping]] = ..., count: _Optional[int] = ...) -> None: ...

class AppendRequest(_message.Message):
    __slots__ = ("identity", "handle", "data")
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    HANDLE_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    identity: _session_pb2.Identity
    handle: int
    data: bytes
    def __init__(self, identity: _Optional[_Union[_session_pb2.Identity, _Mapping]] = ..., handle: _Optional[int] = ..., data: _Optional[bytes] = ...) -> None: ...

class AppendResponse(_message.Message):
    __slots__ = ("outcome", "end_offset")
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    END_OFFSET_FIELD_NUMBER: _ClassVar[int]
    outcome: _session_pb2.Outcome
    end_offset: int
    def __init__(self, outcome: _Optional[_Union[_session_pb2.Outcome, _Mapping]] = ..., end_offset: _Optional[int] = ...) -> None: ...

class GetAttributesRequest(_message.Message):
    __slots__ = ("identity", "place")
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    PLACE_FIELD_NUMBER: _ClassVar[int]
    identity: _session_pb2.Identity
    place: Place
    def __init__(self, identity: _Optional[_Union[_session_pb2.Identity, _Mapping]] = ..., place: _Optional[_Union[Place, _Mapping]] = ...) -> None: ...

class GetAttributesResponse(_message.Message):
    __slots__ = ("outcome", "crossing", "attributes")
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    CROSSING_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    outcome: _session_pb2.Outcome
    crossing: Crossing
    attributes: Attributes
    def __init__(self, outcome: _Optional[_Union[_session_pb2.Outcome, _Mapping]] = ..., crossing: _Optional[_Union[Crossing, _Mapping]] = ..., attributes: _Optional[_Union[Attributes, _Mapping]] = ...) -> None: ...

class TimeChange(_message.Message):
    __slots__ = ("time_ns", "now")
    TIME_NS_FIELD_NUMBER: _ClassVar[int]
    NOW_FIELD_NUMBER: _ClassVar[int]
    time_ns: int
    now: bool
    def __init__(self, time_ns: _Optional[int] = ..., now: _Optional[bool] = ...) -> None: ...

class SetAttributesRequest(_message.Message):
    __slots__ = ("identity", "place", "mode", "uid", "gid", "size", "atime", "mtime")
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    PLACE_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    UID_FIELD_NUMBER: _ClassVar[int]
    GID_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    ATIME_FIELD_NUMBER: _ClassVar[int]
    MTIME_FIELD_NUMBER: _ClassVar[int]
    identity: _session_pb2.Identity
    place: Place
    mode: int
    uid: int
    gid: int
    size: int
    atime: TimeChange
    mtime: TimeChange
    def __init__(self, identity: _Optional[_Union[_session_pb2.Identity, _Mapping]] = ..., place: _Optional[_Union[Place, _Mapping]] = ..., mode: _Optional[int] = ..., uid: _Optional[int] = ..., gid: _Optional[int] = ..., size: _Optional[int] = ..., atime: _Optional[_Union[TimeChange, _Mapping]] = ..., mtime: _Optional[_Union[TimeChange, _Mapping]] = ...) -> None: ...

class SetAttributesResponse(_message.Message):
    __slots__ = ("outcome", "crossing")
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    CROSSING_FIELD_NUMBER: _ClassVar[int]
    outcome: _session_pb2.Outcome
    crossing: Crossing
    def __init__(self, outcome: _Optional[_Union[_session_pb2.Outcome, _Mapping]] = ..., crossing: _Optional[_Union[Crossing, _Mapping]] = ...) -> None: ...

class ReadDirectoryRequest(_message.Message):
    __slots__ = ("identity", "handle", "cookie", "entries_max")
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    HANDLE_FIELD_NUMBER: _ClassVar[int]
    COOKIE_FIELD_NUMBER: _ClassVar[int]
    ENTRIES_MAX_FIELD_NUMBER: _ClassVar[int]
    identity: _session_pb2.Identity
    handle: int
    cookie: int
    entries_max: int
    def __init__(self, identity: _Optional[_Union[_session_pb2.Identity, _Mapping]] = ..., handle: _Optional[int] = ..., cookie: _Optional[int] = ..., entries_max: _Optional[int] = ...) -> None: ...

class DirectoryEntry(_message.Message):
    __slots__ = ("name", "ino", "type", "next")
    NAME_FIELD_NUMBER: _ClassVar[int]
    INO_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    NEXT_FIELD_NUMBER: _ClassVar[int]
    name: bytes
    ino: int
    type: int
    next: int
    def __init__(self, name: _Optional[bytes] = ..., ino: _Optional[int] = ..., type: _Optional[int] = ..., next: _Optional[int] = ...) -> None: ...

class ReadDirectoryResponse(_message.Message):
    __slots__ = ("outcome", "entries")
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    outcome: _session_pb2.Outcome
    entries: _containers.RepeatedCompositeFieldContainer[DirectoryEntry]
    def __init__(self, outcome: _Optional[_Union[_session_pb2.Outcome, _Mapping]] = ..., entries: _Optional[_Iterable[_Union[DirectoryEntry, _Mapping]]] = ...) -> None: ...

class MakeDirectoryRequest(_message.Message):
    __slots__ = ("identity", "place", "mode")
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    PLACE_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    identity: _session_pb2.Identity
    place: Place
    mode: int
    def __init__(self, identity: _Optional[_Union[_session_pb2.Identity, _Mapping]] = ..., place: _Optional[_Union[Place, _Mapping]] = ..., mode: _Optional[int] = ...) -> None: ...

class MakeDirectoryResponse(_message.Message):
    __slots__ = ("outcome", "crossing")
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    CROSSING_FIELD_NUMBER: _ClassVar[int]
    outcome: _session_pb2.Outcome
    crossing: Crossing
    def __init__(self, outcome: _Optional[_Union[_session_pb2.Outcome, _Mapping]] = ..., crossing: _Optional[_Union[Crossing, _Mapping]] = ...) -> None: ...

class MakeNodeRequest(_message.Message):
    __slots__ = ("identity", "place", "mode")
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    PLACE_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    identity: _session_pb2.Identity
    place: Place
    mode: int
    def __init__(self, identity: _Optional[_Union[_session_pb2.Identity, _Mapping]] = ..., place: _Optional[_Union[Place, _Mapping]] = ..., mode: _Optional[int] = ...) -> None: ...

class MakeNodeResponse(_message.Message):
    __slots__ = ("outcome", "crossing")
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    CROSSING_FIELD_NUMBER: _ClassVar[int]
    outcome: _session_pb2.Outcome
    crossing: Crossing
    def __init__(self, outcome: _Optional[_Union[_session_pb2.Outcome, _Mapping]] = ..., crossing: _Optional[_Union[Crossing, _Mapping]] = ...) -> None: ...

class MakeSymlinkRequest(_message.Message):
    __slots__ = ("identity", "place", "target")
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    PLACE_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    identity: _session_pb2.Identity
    place: Place
    target: bytes
    def __init__(self, identity: _Optional[_Union[_session_pb2.Identity, _Mapping]] = ..., place: _Optional[_Union[Place, _Mapping]] = ..., target: _Optional[bytes] = ...) -> None: ...

class MakeSymlinkResponse(_message.Message):
    __slots__ = ("outcome", "crossing")
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    CROSSING_FIELD_NUMBER: _ClassVar[int]
    outcome: _session_pb2.Outcome
    crossing: Crossing
    def __init__(self, outcome: _Optional[_Union[_session_pb2.Outcome, _Mapping]] = ..., crossing: _Optional[_Union[Crossing, _Mapping]] = ...) -> None: ...

class ReadLinkRequest(_message.Message):
    __slots__ = ("identity", "place")
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    PLACE_FIELD_NUMBER: _ClassVar[int]
    identity: _session_pb2.Identity
    place: Place
    def __init__(self, identity: _Optional[_Union[_session_pb2.Identity, _Mapping]] = ..., place: _Optional[_Union[Place, _Mapping]] = ...) -> None: ...

class ReadLinkResponse(_message.Message):
    __slots__ = ("outcome", "crossing", "target")
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    CROSSING_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    outcome: _session_pb2.Outcome
    crossing: Crossing
    target: bytes
    def __init__(self, outcome: _Optional[_Union[_session_pb2.Outcome, _Mapping]] = ..., crossing: _Optional[_Union[Crossing, _Mapping]] = ..., target: _Optional[bytes] = ...) -> None: ...

class LinkRequest(_message.Message):
    __slots__ = ("identity", "source", "target")
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    identity: _session_pb2.Identity
    source: Place
    target: Place
    def __init__(self, identity: _Optional[_Union[_session_pb2.Identity, _Mapping]] = ..., source: _Optional[_Union[Place, _Mapping]] = ..., target: _Optional[_Union[Place, _Mapping]] = ...) -> None: ...

class LinkResponse(_message.Message):
    __slots__ = ("outcome", "crossing", "crossed_at_target")
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    CROSSING_FIELD_NUMBER: _ClassVar[int]
    CROSSED_AT_TARGET_FIELD_NUMBER: _ClassVar[int]
    outcome: _session_pb2.Outcome
    crossing: Crossing
    crossed_at_target: bool
    def __init__(self, outcome: _Optional[_Union[_session_pb2.Outcome, _Mapping]] = ..., crossing: _Optional[_Union[Crossing, _Mapping]] = ..., crossed_at_target: _Optional[bool] = ...) -> None: ...

class RemoveRequest(_message.Message):
    __slots__ = ("identity", "place", "directory")
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    PLACE_FIELD_NUMBER: _ClassVar[int]
    DIRECTORY_FIELD_NUMBER: _ClassVar[int]
    identity: _session_pb2.Identity
    place: Place
    directory: bool
    def __init__(self, identity: _Optional[_Union[_session_pb2.Identity, _Mapping]] = ..., place: _Optional[_Union[Place, _Mapping]] = ..., directory: _Optional[bool] = ...) -> None: ...

class RemoveResponse(_message.Message):
    __slots__ = ("outcome", "crossing")
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    CROSSING_FIELD_NUMBER: _ClassVar[int]
    outcome: _session_pb2.Outcome
    crossing: Crossing
    def __init__(self, outcome: _Optional[_Union[_session_pb2.Outcome, _Mapping]] = ..., crossing: _Optional[_Union[Crossing, _Mapping]] = ...) -> None: ...

class RenameRequest(_message.Message):
    __slots__ = ("identity", "source", "target", "flags")
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    FLAGS_FIELD_NUMBER: _ClassVar[int]
    identity: _session_pb2.Identity
    source: Place
    target: Place
    flags: int
    def __init__(self, identity: _Optional[_Union[_session_pb2.Identity, _Mapping]] = ..., source: _Optional[_Union[Place, _Mapping]] = ..., target: _Optional[_Union[Place, _Mapping]] = ..., flags: _Optional[int] = ...) -> None: ...

class RenameResponse(_message.Message):
    __slots__ = ("outcome", "crossing", "crossed_at_target")
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    CROSSING_FIELD_NUMBER: _ClassVar[int]
    CROSSED_AT_TARGET_FIELD_NUMBER: _ClassVar[int]
    outcome: _session_pb2.Outcome
    crossing: Crossing
    crossed_at_target: bool
    def __init__(self, outcome: _Optional[_Union[_session_pb2.Outcome, _Mapping]] = ..., crossing: _Optional[_Union[Crossing, _Mapping]] = ..., crossed_at_target: _Optional[bool] = ...) -> None: ...

class CheckAccessRequest(_message.Message):
    __slots__ = ("identity", "place", "mode")
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    PLACE_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    identity: _session_pb2.Identity
    place: Place
    mode: int
    def __init__(self, identity: _Optional[_Union[_session_pb2.Identity, _Mapping]] = ..., place: _Optional[_Union[Place, _Mapping]] = ..., mode: _Optional[int] = ...) -> None: ...

class CheckAccessResponse(_message.Message):
    __slots__ = ("outcome", "crossing")
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    CROSSING_FIELD_NUMBER: _ClassVar[int]
    outcome: _session_pb2.Outcome
    crossing: Crossing
    def __init__(self, outcome: _Optional[_Union[_session_pb2.Outcome, _Mapping]] = ..., crossing: _Optional[_Union[Crossing, _Mapping]] = ...) -> None: ...

class StatFileSystemRequest(_message.Message):
    __slots__ = ("identity", "place")
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    PLACE_FIELD_NUMBER: _ClassVar[int]
    identity: _session_pb2.Identity
    place: Place
    def __init__(self, identity: _Optional[_Union[_session_pb2.Identity, _Mapping]] = ..., place: _Optional[_Union[Place, _Mapping]] = ...) -> None: ...

class StatFileSystemResponse(_message.Message):
    __slots__ = ("outcome", "crossing", "block_size", "blocks", "blocks_free", "blocks_available", "files", "files_free", "name_bytes_max", "type")
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    CROSSING_FIELD_NUMBER: _ClassVar[int]
    BLOCK_SIZE_FIELD_NUMBER: _ClassVar[int]
    BLOCKS_FIELD_NUMBER: _ClassVar[int]
    BLOCKS_FREE_FIELD_NUMBER: _ClassVar[int]
    BLOCKS_AVAILABLE_FIELD_NUMBER: _ClassVar[int]
    FILES_FIELD_NUMBER: _ClassVar[int]
    FILES_FREE_FIELD_NUMBER: _ClassVar[int]
    NAME_BYTES_MAX_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    outcome: _session_pb2.Outcome
    crossing: Crossing
    block_size: int
    blocks: int
    blocks_free: int
    blocks_available: int
    files: int
    files_free: int
    name_bytes_max: int
    type: int
    def __init__(self, outcome: _Optional[_Union[_session_pb2.Outcome, _Mapping]] = ..., crossing: _Optional[_Union[Crossing, _Mapping]] = ..., block_size: _Optional[int] = ..., blocks: _Optional[int] = ..., blocks_free: _Optional[int] = ..., blocks_available: _Optional[int] = ..., files: _Optional[int] = ..., files_free: _Optional[int] = ..., name_bytes_max: _Optional[int] = ..., type: _Optional[int] = ...) -> None: ...

class SyncRequest(_message.Message):
    __slots__ = ("identity", "handle")
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    HANDLE_FIELD_NUMBER: _ClassVar[int]
    identity: _session_pb2.Identity
    handle: int
    def __init__(self, identity: _Optional[_Union[_session_pb2.Identity, _Mapping]] = ..., handle: _Optional[int] = ...) -> None: ...

class SyncResponse(_message.Message):
    __slots__ = ("outcome",)
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    outcome: _session_pb2.Outcome
    def __init__(self, outcome: _Optional[_Union[_session_pb2.Outcome, _Mapping]] = ...) -> None: ...

class AllocateRequest(_message.Message):
    __slots__ = ("identity", "handle", "offset", "size_bytes", "keep_size", "punch")
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    HANDLE_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    KEEP_SIZE_FIELD_NUMBER: _ClassVar[int]
    PUNCH_FIELD_NUMBER: _ClassVar[int]
    identity: _session_pb2.Identity
    handle: int
    offset: int
    size_bytes: int
    keep_size: bool
    punch: bool
    def __init__(self, identity: _Optional[_Union[_session_pb2.Identity, _Mapping]] = ..., handle: _Optional[int] = ..., offset: _Optional[int] = ..., size_bytes: _Optional[int] = ..., keep_size: _Optional[bool] = ..., punch: _Optional[bool] = ...) -> None: ...

class AllocateResponse(_message.Message):
    __slots__ = ("outcome",)
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    outcome: _session_pb2.Outcome
    def __init__(self, outcome: _Optional[_Union[_session_pb2.Outcome, _Mapping]] = ...) -> None: ...

class SeekRequest(_message.Message):
    __slots__ = ("identity", "handle", "offset", "hole")
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    HANDLE_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    HOLE_FIELD_NUMBER: _ClassVar[int]
    identity: _session_pb2.Identity
    handle: int
    offset: int
    hole: bool
    def __init__(self, identity: _Optional[_Union[_session_pb2.Identity, _Mapping]] = ..., handle: _Optional[int] = ..., offset: _Optional[int] = ..., hole: _Optional[bool] = ...) -> None: ...

class SeekResponse(_message.Message):
    __slots__ = ("outcome", "offset")
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    outcome: _session_pb2.Outcome
    offset: int
    def __init__(self, outcome: _Optional[_Union[_session_pb2.Outcome, _Mapping]] = ..., offset: _Optional[int] = ...) -> None: ...

class GetPathRequest(_message.Message):
    __slots__ = ("identity", "handle")
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    HANDLE_FIELD_NUMBER: _ClassVar[int]
    identity: _session_pb2.Identity
    handle: int
    def __init__(self, identity: _Optional[_Union[_session_pb2.Identity, _Mapping]] = ..., handle: _Optional[int] = ...) -> None: ...

class GetPathResponse(_message.Message):
    __slots__ = ("outcome", "path", "deleted")
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    DELETED_FIELD_NUMBER: _ClassVar[int]
    outcome: _session_pb2.Outcome
    path: bytes
    deleted: bool
    def __init__(self, outcome: _Optional[_Union[_session_pb2.Outcome, _Mapping]] = ..., path: _Optional[bytes] = ..., deleted: _Optional[bool] = ...) -> None: ...

class GetXattrRequest(_message.Message):
    __slots__ = ("identity", "place", "name")
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    PLACE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    identity: _session_pb2.Identity
    place: Place
    name: bytes
    def __init__(self, identity: _Optional[_Union[_session_pb2.Identity, _Mapping]] = ..., place: _Optional[_Union[Place, _Mapping]] = ..., name: _Optional[bytes] = ...) -> None: ...

class GetXattrResponse(_message.Message):
    __slots__ = ("outcome", "crossing", "value")
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    CROSSING_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    outcome: _session_pb2.Outcome
    crossing: Crossing
    value: bytes
    def __init__(self, outcome: _Optional[_Union[_session_pb2.Outcome, _Mapping]] = ..., crossing: _Optional[_Union[Crossing, _Mapping]] = ..., value: _Optional[bytes] = ...) -> None: ...

class SetXattrRequest(_message.Message):
    __slots__ = ("identity", "place", "name", "value", "flags")
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    PLACE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    FLAGS_FIELD_NUMBER: _ClassVar[int]
    identity: _session_pb2.Identity
    place: Place
    name: bytes
    value: bytes
    flags: int
    def __init__(self, identity: _Optional[_Union[_session_pb2.Identity, _Mapping]] = ..., place: _Optional[_Union[Place, _Mapping]] = ..., name: _Optional[bytes] = ..., value: _Optional[bytes] = ..., flags: _Optional[int] = ...) -> None: ...

class SetXattrResponse(_message.Message):
    __slots__ = ("outcome", "crossing")
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    CROSSING_FIELD_NUMBER: _ClassVar[int]
    outcome: _session_pb2.Outcome
    crossing: Crossing
    def __init__(self, outcome: _Optional[_Union[_session_pb2.Outcome, _Mapping]] = ..., crossing: _Optional[_Union[Crossing, _Mapping]] = ...) -> None: ...

class ListXattrRequest(_message.Message):
    __slots__ = ("identity", "place")
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    PLACE_FIELD_NUMBER: _ClassVar[int]
    identity: _session_pb2.Identity
    place: Place
    def __init__(self, identity: _Optional[_Union[_session_pb2.Identity, _Mapping]] = ..., place: _Optional[_Union[Place, _Mapping]] = ...) -> None: ...

class ListXattrResponse(_message.Message):
    __slots__ = ("outcome", "crossing", "names")
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    CROSSING_FIELD_NUMBER: _ClassVar[int]
    NAMES_FIELD_NUMBER: _ClassVar[int]
    outcome: _session_pb2.Outcome
    crossing: Crossing
    names: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, outcome: _Optional[_Union[_session_pb2.Outcome, _Mapping]] = ..., crossing: _Optional[_Union[Crossing, _Mapping]] = ..., names: _Optional[_Iterable[bytes]] = ...) -> None: ...

class RemoveXattrRequest(_message.Message):
    __slots__ = ("identity", "place", "name")
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    PLACE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    identity: _session_pb2.Identity
    place: Place
    name: bytes
    def __init__(self, identity: _Optional[_Union[_session_pb2.Identity, _Mapping]] = ..., place: _Optional[_Union[Place, _Mapping]] = ..., name: _Optional[bytes] = ...) -> None: ...

class RemoveXattrResponse(_message.Message):
    __slots__ = ("outcome", "crossing")
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    CROSSING_FIELD_NUMBER: _ClassVar[int]
    outcome: _session_pb2.Outcome
    crossing: Crossing
    def __init__(self, outcome: _Optional[_Union[_session_pb2.Outcome, _Mapping]] = ..., crossing: _Optional[_Union[Crossing, _Mapping]] = ...) -> None: ...

class InheritRequest(_message.Message):
    __slots__ = ("identity", "target_session", "target_secret")
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    TARGET_SESSION_FIELD_NUMBER: _ClassVar[int]
    TARGET_SECRET_FIELD_NUMBER: _ClassVar[int]
    identity: _session_pb2.Identity
    target_session: int
    target_secret: bytes
    def __init__(self, identity: _Optional[_Union[_session_pb2.Identity, _Mapping]] = ..., target_session: _Optional[int] = ..., target_secret: _Optional[bytes] = ...) -> None: ...

class InheritResponse(_message.Message):
    __slots__ = ("outcome",)
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    outcome: _session_pb2.Outcome
    def __init__(self, outcome: _Optional[_Union[_session_pb2.Outcome, _Mapping]] = ...) -> None: ...

class LendRequest(_message.Message):
    __slots__ = ("identity", "handle")
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    HANDLE_FIELD_NUMBER: _ClassVar[int]
    identity: _session_pb2.Identity
    handle: int
    def __init__(self, identity: _Optional[_Union[_session_pb2.Identity, _Mapping]] = ..., handle: _Optional[int] = ...) -> None: ...

class LendResponse(_message.Message):
    __slots__ = ("outcome", "ticket")
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    TICKET_FIELD_NUMBER: _ClassVar[int]
    outcome: _session_pb2.Outcome
    ticket: bytes
    def __init__(self, outcome: _Optional[_Union[_session_pb2.Outcome, _Mapping]] = ..., ticket: _Optional[bytes] = ...) -> None: ...

class RedeemRequest(_message.Message):
    __slots__ = ("identity", "ticket", "handle", "keep")
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    TICKET_FIELD_NUMBER: _ClassVar[int]
    HANDLE_FIELD_NUMBER: _ClassVar[int]
    KEEP_FIELD_NUMBER: _ClassVar[int]
    identity: _session_pb2.Identity
    ticket: bytes
    handle: int
    keep: bool
    def __init__(self, identity: _Optional[_Union[_session_pb2.Identity, _Mapping]] = ..., ticket: _Optional[bytes] = ..., handle: _Optional[int] = ..., keep: _Optional[bool] = ...) -> None: ...

class RedeemResponse(_message.Message):
    __slots__ = ("outcome", "mode")
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    outcome: _session_pb2.Outcome
    mode: int
    def __init__(self, outcome: _Optional[_Union[_session_pb2.Outcome, _Mapping]] = ..., mode: _Optional[int] = ...) -> None: ...

class LockRequest(_message.Message):
    __slots__ = ("identity", "handle", "kind", "type", "start", "length", "pid")
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    HANDLE_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    LENGTH_FIELD_NUMBER: _ClassVar[int]
    PID_FIELD_NUMBER: _ClassVar[int]
    identity: _session_pb2.Identity
    handle: int
    kind: LockKind
    type: LockType
    start: int
    length: int
    pid: int
    def __init__(self, identity: _Optional[_Union[_session_pb2.Identity, _Mapping]] = ..., handle: _Optional[int] = ..., kind: _Optional[_Union[LockKind, str]] = ..., type: _Optional[_Union[LockType, str]] = ..., start: _Optional[int] = ..., length: _Optional[int] = ..., pid: _Optional[int] = ...) -> None: ...

class LockResponse(_message.Message):
    __slots__ = ("outcome", "lost")
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    LOST_FIELD_NUMBER: _ClassVar[int]
    outcome: _session_pb2.Outcome
    lost: bool
    def __init__(self, outcome: _Optional[_Union[_session_pb2.Outcome, _Mapping]] = ..., lost: _Optional[bool] = ...) -> None: ...

class TestLockRequest(_message.Message):
    __slots__ = ("identity", "handle", "kind", "type", "start", "length", "pid")
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    HANDLE_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    LENGTH_FIELD_NUMBER: _ClassVar[int]
    PID_FIELD_NUMBER: _ClassVar[int]
    identity: _session_pb2.Identity
    handle: int
    kind: LockKind
    type: LockType
    start: int
    length: int
    pid: int
    def __init__(self, identity: _Optional[_Union[_session_pb2.Identity, _Mapping]] = ..., handle: _Optional[int] = ..., kind: _Optional[_Union[LockKind, str]] = ..., type: _Optional[_Union[LockType, str]] = ..., start: _Optional[int] = ..., length: _Optional[int] = ..., pid: _Optional[int] = ...) -> None: ...

class TestLockResponse(_message.Message):
    __slots__ = ("outcome", "type", "start", "length", "pid")
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    LENGTH_FIELD_NUMBER: _ClassVar[int]
    PID_FIELD_NUMBER: _ClassVar[int]
    outcome: _session_pb2.Outcome
    type: LockType
    start: int
    length: int
    pid: int
    def __init__(self, outcome: _Optional[_Union[_session_pb2.Outcome, _Mapping]] = ..., type: _Optional[_Union[LockType, str]] = ..., start: _Optional[int] = ..., length: _Optional[int] = ..., pid: _Optional[int] = ...) -> None: ...

class AwaitLockRequest(_message.Message):
    __slots__ = ("identity", "handle", "kind", "type", "start", "length", "pid")
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    HANDLE_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    LENGTH_FIELD_NUMBER: _ClassVar[int]
    PID_FIELD_NUMBER: _ClassVar[int]
    identity: _session_pb2.Identity
    handle: int
    kind: LockKind
    type: LockType
    start: int
    length: int
    pid: int
    def __init__(self, identity: _Optional[_Union[_session_pb2.Identity, _Mapping]] = ..., handle: _Optional[int] = ..., kind: _Optional[_Union[LockKind, str]] = ..., type: _Optional[_Union[LockType, str]] = ..., start: _Optional[int] = ..., length: _Optional[int] = ..., pid: _Optional[int] = ...) -> None: ...

class AwaitLockResponse(_message.Message):
    __slots__ = ("outcome",)
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    outcome: _session_pb2.Outcome
    def __init__(self, outcome: _Optional[_Union[_session_pb2.Outcome, _Mapping]] = ...) -> None: ...

class DonateRequest(_message.Message):
    __slots__ = ("identity", "handle")
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    HANDLE_FIELD_NUMBER: _ClassVar[int]
    identity: _session_pb2.Identity
    handle: int
    def __init__(self, identity: _Optional[_Union[_session_pb2.Identity, _Mapping]] = ..., handle: _Optional[int] = ...) -> None: ...

class DonateResponse(_message.Message):
    __slots__ = ("outcome", "attributes", "mapped")
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    MAPPED_FIELD_NUMBER: _ClassVar[int]
    outcome: _session_pb2.Outcome
    attributes: Attributes
    mapped: bool
    def __init__(self, outcome: _Optional[_Union[_session_pb2.Outcome, _Mapping]] = ..., attributes: _Optional[_Union[Attributes, _Mapping]] = ..., mapped: _Optional[bool] = ...) -> None: ...

class MapSharedRequest(_message.Message):
    __slots__ = ("identity", "handle", "writable")
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    HANDLE_FIELD_NUMBER: _ClassVar[int]
    WRITABLE_FIELD_NUMBER: _ClassVar[int]
    identity: _session_pb2.Identity
    handle: int
    writable: bool
    def __init__(self, identity: _Optional[_Union[_session_pb2.Identity, _Mapping]] = ..., handle: _Optional[int] = ..., writable: _Optional[bool] = ...) -> None: ...

class MapSharedResponse(_message.Message):
    __slots__ = ("outcome", "attributes")
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    outcome: _session_pb2.Outcome
    attributes: Attributes
    def __init__(self, outcome: _Optional[_Union[_session_pb2.Outcome, _Mapping]] = ..., attributes: _Optional[_Union[Attributes, _Mapping]] = ...) -> None: ...

class FetchMappingRequest(_message.Message):
    __slots__ = ("identity", "ino")
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    INO_FIELD_NUMBER: _ClassVar[int]
    identity: _session_pb2.Identity
    ino: int
    def __init__(self, identity: _Optional[_Union[_session_pb2.Identity, _Mapping]] = ..., ino: _Optional[int] = ...) -> None: ...

class FetchMappingResponse(_message.Message):
    __slots__ = ("outcome", "attributes")
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    outcome: _session_pb2.Outcome
    attributes: Attributes
    def __init__(self, outcome: _Optional[_Union[_session_pb2.Outcome, _Mapping]] = ..., attributes: _Optional[_Union[Attributes, _Mapping]] = ...) -> None: ...

class UnmapRequest(_message.Message):
    __slots__ = ("identity", "ino")
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    INO_FIELD_NUMBER: _ClassVar[int]
    identity: _session_pb2.Identity
    ino: int
    def __init__(self, identity: _Optional[_Union[_session_pb2.Identity, _Mapping]] = ..., ino: _Optional[int] = ...) -> None: ...

class UnmapResponse(_message.Message):
    __slots__ = ("outcome",)
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    outcome: _session_pb2.Outcome
    def __init__(self, outcome: _Optional[_Union[_session_pb2.Outcome, _Mapping]] = ...) -> None: ...

class SyncMappingRequest(_message.Message):
    __slots__ = ("identity", "ino", "offset", "length")
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    INO_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    LENGTH_FIELD_NUMBER: _ClassVar[int]
    identity: _session_pb2.Identity
    ino: int
    offset: int
    length: int
    def __init__(self, identity: _Optional[_Union[_session_pb2.Identity, _Mapping]] = ..., ino: _Optional[int] = ..., offset: _Optional[int] = ..., length: _Optional[int] = ...) -> None: ...

class SyncMappingResponse(_message.Message):
    __slots__ = ("outcome",)
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    outcome: _session_pb2.Outcome
    def __init__(self, outcome: _Optional[_Union[_session_pb2.Outcome, _Mapping]] = ...) -> None: ...

class Question(_message.Message):
    __slots__ = ("opcode", "body")
    OPCODE_FIELD_NUMBER: _ClassVar[int]
    BODY_FIELD_NUMBER: _ClassVar[int]
    opcode: int
    body: bytes
    def __init__(self, opcode: _Optional[int] = ..., body: _Optional[bytes] = ...) -> None: ...

class ConsultRequest(_message.Message):
    __slots__ = ("identity", "holder", "grant", "questions")
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    HOLDER_FIELD_NUMBER: _ClassVar[int]
    GRANT_FIELD_NUMBER: _ClassVar[int]
    QUESTIONS_FIELD_NUMBER: _ClassVar[int]
    identity: _session_pb2.Identity
    holder: int
    grant: int
    questions: _containers.RepeatedCompositeFieldContainer[Question]
    def __init__(self, identity: _Optional[_Union[_session_pb2.Identity, _Mapping]] = ..., holder: _Optional[int] = ..., grant: _Optional[int] = ..., questions: _Optional[_Iterable[_Union[Question, _Mapping]]] = ...) -> None: ...

class Consulted(_message.Message):
    __slots__ = ("errno", "body", "inodes", "data")
    ERRNO_FIELD_NUMBER: _ClassVar[int]
    BODY_FIELD_NUMBER: _ClassVar[int]
    INODES_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    errno: int
    body: bytes
    inodes: _containers.RepeatedScalarFieldContainer[int]
    data: bytes
    def __init__(self, errno: _Optional[int] = ..., body: _Optional[bytes] = ..., inodes: _Optional[_Iterable[int]] = ..., data: _Optional[bytes] = ...) -> None: ...

class ConsultResponse(_message.Message):
    __slots__ = ("outcome", "answers", "grant", "recalls", "lease_ms")
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    ANSWERS_FIELD_NUMBER: _ClassVar[int]
    GRANT_FIELD_NUMBER: _ClassVar[int]
    RECALLS_FIELD_NUMBER: _ClassVar[int]
    LEASE_MS_FIELD_NUMBER: _ClassVar[int]
    outcome: _session_pb2.Outcome
    answers: _containers.RepeatedCompositeFieldContainer[Consulted]
    grant: int
    recalls: int
    lease_ms: int
    def __init__(self, outcome: _Optional[_Union[_session_pb2.Outcome, _Mapping]] = ..., answers: _Optional[_Iterable[_Union[Consulted, _Mapping]]] = ..., grant: _Optional[int] = ..., recalls: _Optional[int] = ..., lease_ms: _Optional[int] = ...) -> None: ...

class AwaitRecallRequest(_message.Message):
    __slots__ = ("identity", "grant", "acknowledged")
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    GRANT_FIELD_NUMBER: _ClassVar[int]
    ACKNOWLEDGED_FIELD_NUMBER: _ClassVar[int]
    identity: _session_pb2.Identity
    grant: int
    acknowledged: int
    def __init__(self, identity: _Optional[_Union[_session_pb2.Identity, _Mapping]] = ..., grant: _Optional[int] = ..., acknowledged: _Optional[int] = ...) -> None: ...

class AwaitRecallResponse(_message.Message):
    __slots__ = ("outcome", "grant", "recalls", "inodes")
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    GRANT_FIELD_NUMBER: _ClassVar[int]
    RECALLS_FIELD_NUMBER: _ClassVar[int]
    INODES_FIELD_NUMBER: _ClassVar[int]
    outcome: _session_pb2.Outcome
    grant: int
    recalls: int
    inodes: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, outcome: _Optional[_Union[_session_pb2.Outcome, _Mapping]] = ..., grant: _Optional[int] = ..., recalls: _Optional[int] = ..., inodes: _Optional[_Iterable[int]] = ...) -> None: ...
