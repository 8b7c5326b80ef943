from farcall.v1 import session_pb2 as _session_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class RingGrant(_message.Message):
    __slots__ = ("kind", "session", "boot_epoch", "opcodes", "limits", "error", "session_is_new")
    KIND_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    BOOT_EPOCH_FIELD_NUMBER: _ClassVar[int]
    OPCODES_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    SESSION_IS_NEW_FIELD_NUMBER: _ClassVar[int]
    kind: _session_pb2.ServerKind
    session: int
    boot_epoch: int
    opcodes: _containers.RepeatedScalarFieldContainer[int]
    limits: _session_pb2.Limits
    error: str
    session_is_new: bool
    def __init__(self, kind: _Optional[_Union[_session_pb2.ServerKind, str]] = ..., session: _Optional[int] = ..., boot_epoch: _Optional[int] = ..., opcodes: _Optional[_Iterable[int]] = ..., limits: _Optional[_Union[_session_pb2.Limits, _Mapping]] = ..., error: _Optional[str] = ..., session_is_new: _Optional[bool] = ...) -> None: ...

class KernelMessage(_message.Message):
    __slots__ = ("ring", "start")
    RING_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    ring: RingGrant
    start: StartGuest
    def __init__(self, ring: _Optional[_Union[RingGrant, _Mapping]] = ..., start: _Optional[_Union[StartGuest, _Mapping]] = ...) -> None: ...

class StartGuest(_message.Message):
    __slots__ = ("program", "arguments", "environment", "working_directory", "pid", "credentials", "random_key", "server_timeout_ms", "umask")
    PROGRAM_FIELD_NUMBER: _ClassVar[int]
    ARGUMENTS_FIELD_NUMBER: _ClassVar[int]
    ENVIRONMENT_FIELD_NUMBER: _ClassVar[int]
    WORKING_DIRECTORY_FIELD_NUMBER: _ClassVar[int]
    PID_FIELD_NUMBER: _ClassVar[int]
    CREDENTIALS_FIELD_NUMBER: _ClassVar[int]
    RANDOM_KEY_FIELD_NUMBER: _ClassVar[int]
    SERVER_TIMEOUT_MS_FIELD_NUMBER: _ClassVar[int]
    UMASK_FIELD_NUMBER: _ClassVar[int]
    program: bytes
    arguments: _containers.RepeatedScalarFieldContainer[bytes]
    environment: _containers.RepeatedScalarFieldContainer[bytes]
    working_directory: bytes
    pid: int
    credentials: _session_pb2.Credentials
    random_key: bytes
    server_timeout_ms: int
    umask: int
    def __init__(self, program: _Optional[bytes] = ..., arguments: _Optional[_Iterable[bytes]] = ..., environment: _Optional[_Iterable[bytes]] = ..., working_directory: _Optional[bytes] = ..., pid: _Optional[int] = ..., credentials: _Optional[_Union[_session_pb2.Credentials, _Mapping]] = ..., random_key: _Optional[bytes] = ..., server_timeout_ms: _Optional[int] = ..., umask: _Optional[int] = ...) -> None: ...

class WorkerMessage(_message.Message):
    __slots__ = ("ring_wanted",)
    RING_WANTED_FIELD_NUMBER: _ClassVar[int]
    ring_wanted: _session_pb2.ServerKind
    def __init__(self, ring_wanted: _Optional[_Union[_session_pb2.ServerKind, str]] = ...) -> None: ...
