from google.protobuf import descriptor_pb2 as _descriptor_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Effect(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    EFFECT_UNSPECIFIED: _ClassVar[Effect]
    EFFECT_PURE: _ClassVar[Effect]
    EFFECT_MUTATING: _ClassVar[Effect]
    EFFECT_BLOCKING: _ClassVar[Effect]

class Refusal(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    REFUSAL_UNSPECIFIED: _ClassVar[Refusal]
    REFUSAL_STALE_SESSION: _ClassVar[Refusal]
    REFUSAL_FALSE_RETRY: _ClassVar[Refusal]
    REFUSAL_MISORDERED: _ClassVar[Refusal]
    REFUSAL_LATE: _ClassVar[Refusal]
    REFUSAL_OVERLOADED: _ClassVar[Refusal]
    REFUSAL_NOT_READY: _ClassVar[Refusal]
    REFUSAL_MALFORMED: _ClassVar[Refusal]
    REFUSAL_UNSUPPORTED: _ClassVar[Refusal]

class ServerKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SERVER_KIND_UNSPECIFIED: _ClassVar[ServerKind]
    SERVER_KIND_FILE: _ClassVar[ServerKind]
    SERVER_KIND_MEMORY: _ClassVar[ServerKind]
    SERVER_KIND_NETWORK: _ClassVar[ServerKind]
    SERVER_KIND_KERNEL: _ClassVar[ServerKind]
EFFECT_UNSPECIFIED: Effect
EFFECT_PURE: Effect
EFFECT_MUTATING: Effect
EFFECT_BLOCKING: Effect
REFUSAL_UNSPECIFIED: Refusal
REFUSAL_STALE_SESSION: Refusal
REFUSAL_FALSE_RETRY: Refusal
REFUSAL_MISORDERED: Refusal
REFUSAL_LATE: Refusal
REFUSAL_OVERLOADED: Refusal
REFUSAL_NOT_READY: Refusal
REFUSAL_MALFORMED: Refusal
REFUSAL_UNSUPPORTED: Refusal
SERVER_KIND_UNSPECIFIED: ServerKind
SERVER_KIND_FILE: ServerKind
SERVER_KIND_MEMORY: ServerKind
SERVER_KIND_NETWORK: ServerKind
SERVER_KIND_KERNEL: ServerKind
EFFECT_FIELD_NUMBER: _ClassVar[int]
effect: _descriptor.FieldDescriptor
OPCODE_FIELD_NUMBER: _ClassVar[int]
opcode: _descriptor.FieldDescriptor
PACKED_FIELD_NUMBER: _ClassVar[int]
packed: _descriptor.FieldDescriptor
CARRIES_DESCRIPTOR_FIELD_NUMBER: _ClassVar[int]
carries_descriptor: _descriptor.FieldDescriptor
DEFERRED_FIELD_NUMBER: _ClassVar[int]
deferred: _descriptor.FieldDescriptor

class Identity(_message.Message):
    __slots__ = ("session", "slot", "seq", "digest")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    SLOT_FIELD_NUMBER: _ClassVar[int]
    SEQ_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    session: int
    slot: int
    seq: int
    digest: bytes
    def __init__(self, session: _Optional[int] = ..., slot: _Optional[int] = ..., seq: _Optional[int] = ..., digest: _Optional[bytes] = ...) -> None: ...

class Outcome(_message.Message):
    __slots__ = ("errno", "refusal")
    ERRNO_FIELD_NUMBER: _ClassVar[int]
    REFUSAL_FIELD_NUMBER: _ClassVar[int]
    errno: int
    refusal: Refusal
    def __init__(self, errno: _Optional[int] = ..., refusal: _Optional[_Union[Refusal, str]] = ...) -> None: ...

class Credentials(_message.Message):
    __slots__ = ("uid", "gid", "groups")
    UID_FIELD_NUMBER: _ClassVar[int]
    GID_FIELD_NUMBER: _ClassVar[int]
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    uid: int
    gid: int
    groups: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, uid: _Optional[int] = ..., gid: _Optional[int] = ..., groups: _Optional[_Iterable[int]] = ...) -> None: ...

class HelloRequest(_message.Message):
    __slots__ = ("protocol_min", "protocol_max", "kind", "credentials", "resume_session", "resume_secret", "egress")
    PROTOCOL_MIN_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_MAX_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    CREDENTIALS_FIELD_NUMBER: _ClassVar[int]
    RESUME_SESSION_FIELD_NUMBER: _ClassVar[int]
    RESUME_SECRET_FIELD_NUMBER: _ClassVar[int]
    EGRESS_FIELD_NUMBER: _ClassVar[int]
    protocol_min: int
    protocol_max: int
    kind: ServerKind
    credentials: Credentials
    resume_session: int
    resume_secret: bytes
    egress: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, protocol_min: _Optional[int] = ..., protocol_max: _Optional[int] = ..., kind: _Optional[_Union[ServerKind, str]] = ..., credentials: _Optional[_Union[Credentials, _Mapping]] = ..., resume_session: _Optional[int] = ..., resume_secret: _Optional[bytes] = ..., egress: _Optional[_Iterable[str]] = ...) -> None: ...

class HelloResponse(_message.Message):
    __slots__ = ("outcome", "protocol", "protocol_min", "protocol_max", "session", "secret", "boot_epoch", "opcodes", "limits", "lease_ms")
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_MIN_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_MAX_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    SECRET_FIELD_NUMBER: _ClassVar[int]
    BOOT_EPOCH_FIELD_NUMBER: _ClassVar[int]
    OPCODES_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    LEASE_MS_FIELD_NUMBER: _ClassVar[int]
    outcome: Outcome
    protocol: int
    protocol_min: int
    protocol_max: int
    session: int
    secret: bytes
    boot_epoch: int
    opcodes: _containers.RepeatedScalarFieldContainer[int]
    limits: Limits
    lease_ms: int
    def __init__(self, outcome: _Optional[_Union[Outcome, _Mapping]] = ..., protocol: _Optional[int] = ..., protocol_min: _Optional[int] = ..., protocol_max: _Optional[int] = ..., session: _Optional[int] = ..., secret: _Optional[bytes] = ..., boot_epoch: _Optional[int] = ..., opcodes: _Optional[_Iterable[int]] = ..., limits: _Optional[_Union[Limits, _Mapping]] = ..., lease_ms: _Optional[int] = ...) -> None: ...

class Limits(_message.Message):
    __slots__ = ("data_bytes_max", "body_bytes_max", "slots_max")
    DATA_BYTES_MAX_FIELD_NUMBER: _ClassVar[int]
    BODY_BYTES_MAX_FIELD_NUMBER: _ClassVar[int]
    SLOTS_MAX_FIELD_NUMBER: _ClassVar[int]
    data_bytes_max: int
    body_bytes_max: int
    slots_max: int
    def __init__(self, data_bytes_max: _Optional[int] = ..., body_bytes_max: _Optional[int] = ..., slots_max: _Optional[int] = ...) -> None: ...

class RenewRequest(_message.Message):
    __slots__ = ("sessions",)
    SESSIONS_FIELD_NUMBER: _ClassVar[int]
    sessions: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, sessions: _Optional[_Iterable[int]] = ...) -> None: ...

class RenewResponse(_message.Message):
    __slots__ = ("outcome", "stale")
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    STALE_FIELD_NUMBER: _ClassVar[int]
    outcome: Outcome
    stale: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, outcome: _Optional[_Union[Outcome, _Mapping]] = ..., stale: _Optional[_Iterable[int]] = ...) -> None: ...

class GoodbyeRequest(_message.Message):
    __slots__ = ("identity",)
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    identity: Identity
    def __init__(self, identity: _Optional[_Union[Identity, _Mapping]] = ...) -> None: ...

class GoodbyeResponse(_message.Message):
    __slots__ = ("outcome",)
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    outcome: Outcome
    def __init__(self, outcome: _Optional[_Union[Outcome, _Mapping]] = ...) -> None: ...

class AbandonRequest(_message.Message):
    __slots__ = ("identity", "slot")
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    SLOT_FIELD_NUMBER: _ClassVar[int]
    identity: Identity
    slot: int
    def __init__(self, identity: _Optional[_Union[Identity, _Mapping]] = ..., slot: _Optional[int] = ...) -> None: ...

class AbandonResponse(_message.Message):
    __slots__ = ("outcome", "dropped")
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    DROPPED_FIELD_NUMBER: _ClassVar[int]
    outcome: Outcome
    dropped: int
    def __init__(self, outcome: _Optional[_Union[Outcome, _Mapping]] = ..., dropped: _Optional[int] = ...) -> None: ...

class Call(_message.Message):
    __slots__ = ("tag", "opcode", "identity", "body", "data")
    TAG_FIELD_NUMBER: _ClassVar[int]
    OPCODE_FIELD_NUMBER: _ClassVar[int]
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    BODY_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    tag: int
    opcode: int
    identity: Identity
    body: bytes
    data: bytes
    def __init__(self, tag: _Optional[int] = ..., opcode: _Optional[int] = ..., identity: _Optional[_Union[Identity, _Mapping]] = ..., body: _Optional[bytes] = ..., data: _Optional[bytes] = ...) -> None: ...

class Completion(_message.Message):
    __slots__ = ("tag", "errno", "refusal", "result", "body", "data")
    TAG_FIELD_NUMBER: _ClassVar[int]
    ERRNO_FIELD_NUMBER: _ClassVar[int]
    REFUSAL_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    BODY_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    tag: int
    errno: int
    refusal: Refusal
    result: int
    body: bytes
    data: bytes
    def __init__(self, tag: _Optional[int] = ..., errno: _Optional[int] = ..., refusal: _Optional[_Union[Refusal, str]] = ..., result: _Optional[int] = ..., body: _Optional[bytes] = ..., data: _Optional[bytes] = ...) -> None: ...

class CarryRequest(_message.Message):
    __slots__ = ("calls",)
    CALLS_FIELD_NUMBER: _ClassVar[int]
    calls: _containers.RepeatedCompositeFieldContainer[Call]
    def __init__(self, calls: _Optional[_Iterable[_Union[Call, _Mapping]]] = ...) -> None: ...

class CarryResponse(_message.Message):
    __slots__ = ("completions",)
    COMPLETIONS_FIELD_NUMBER: _ClassVar[int]
    completions: _containers.RepeatedCompositeFieldContainer[Completion]
    def __init__(self, completions: _Optional[_Iterable[_Union[Completion, _Mapping]]] = ...) -> None: ...
