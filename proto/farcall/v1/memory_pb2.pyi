from farcall.v1 import session_pb2 as _session_pb2
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class GrantRequest(_message.Message):
    __slots__ = ("identity", "size_bytes")
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    identity: _session_pb2.Identity
    size_bytes: int
    def __init__(self, identity: _Optional[_Union[_session_pb2.Identity, _Mapping]] = ..., size_bytes: _Optional[int] = ...) -> None: ...

class GrantResponse(_message.Message):
    __slots__ = ("outcome", "granted_bytes")
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    GRANTED_BYTES_FIELD_NUMBER: _ClassVar[int]
    outcome: _session_pb2.Outcome
    granted_bytes: int
    def __init__(self, outcome: _Optional[_Union[_session_pb2.Outcome, _Mapping]] = ..., granted_bytes: _Optional[int] = ...) -> None: ...

class ReleaseRequest(_message.Message):
    __slots__ = ("identity", "size_bytes")
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    identity: _session_pb2.Identity
    size_bytes: int
    def __init__(self, identity: _Optional[_Union[_session_pb2.Identity, _Mapping]] = ..., size_bytes: _Optional[int] = ...) -> None: ...

class ReleaseResponse(_message.Message):
    __slots__ = ("outcome", "granted_bytes")
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    GRANTED_BYTES_FIELD_NUMBER: _ClassVar[int]
    outcome: _session_pb2.Outcome
    granted_bytes: int
    def __init__(self, outcome: _Optional[_Union[_session_pb2.Outcome, _Mapping]] = ..., granted_bytes: _Optional[int] = ...) -> None: ...

class UsageRequest(_message.Message):
    __slots__ = ("identity",)
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    identity: _session_pb2.Identity
    def __init__(self, identity: _Optional[_Union[_session_pb2.Identity, _Mapping]] = ...) -> None: ...

class UsageResponse(_message.Message):
    __slots__ = ("outcome", "quota_bytes", "granted_bytes", "session_bytes", "grants", "releases", "refused", "segments", "segment_bytes")
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    QUOTA_BYTES_FIELD_NUMBER: _ClassVar[int]
    GRANTED_BYTES_FIELD_NUMBER: _ClassVar[int]
    SESSION_BYTES_FIELD_NUMBER: _ClassVar[int]
    GRANTS_FIELD_NUMBER: _ClassVar[int]
    RELEASES_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    SEGMENTS_FIELD_NUMBER: _ClassVar[int]
    SEGMENT_BYTES_FIELD_NUMBER: _ClassVar[int]
    outcome: _session_pb2.Outcome
    quota_bytes: int
    granted_bytes: int
    session_bytes: int
    grants: int
    releases: int
    refused: int
    segments: int
    segment_bytes: int
    def __init__(self, outcome: _Optional[_Union[_session_pb2.Outcome, _Mapping]] = ..., quota_bytes: _Optional[int] = ..., granted_bytes: _Optional[int] = ..., session_bytes: _Optional[int] = ..., grants: _Optional[int] = ..., releases: _Optional[int] = ..., refused: _Optional[int] = ..., segments: _Optional[int] = ..., segment_bytes: _Optional[int] = ...) -> None: ...

class InheritMemoryRequest(_message.Message):
    __slots__ = ("identity", "target_session", "target_secret", "size_bytes")
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    TARGET_SESSION_FIELD_NUMBER: _ClassVar[int]
    TARGET_SECRET_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    identity: _session_pb2.Identity
    target_session: int
    target_secret: bytes
    size_bytes: int
    def __init__(self, identity: _Optional[_Union[_session_pb2.Identity, _Mapping]] = ..., target_session: _Optional[int] = ..., target_secret: _Optional[bytes] = ..., size_bytes: _Optional[int] = ...) -> None: ...

class InheritMemoryResponse(_message.Message):
    __slots__ = ("outcome", "granted_bytes")
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    GRANTED_BYTES_FIELD_NUMBER: _ClassVar[int]
    outcome: _session_pb2.Outcome
    granted_bytes: int
    def __init__(self, outcome: _Optional[_Union[_session_pb2.Outcome, _Mapping]] = ..., granted_bytes: _Optional[int] = ...) -> None: ...

class CreateSegmentRequest(_message.Message):
    __slots__ = ("identity", "size_bytes")
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    identity: _session_pb2.Identity
    size_bytes: int
    def __init__(self, identity: _Optional[_Union[_session_pb2.Identity, _Mapping]] = ..., size_bytes: _Optional[int] = ...) -> None: ...

class CreateSegmentResponse(_message.Message):
    __slots__ = ("outcome", "segment")
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    SEGMENT_FIELD_NUMBER: _ClassVar[int]
    outcome: _session_pb2.Outcome
    segment: int
    def __init__(self, outcome: _Optional[_Union[_session_pb2.Outcome, _Mapping]] = ..., segment: _Optional[int] = ...) -> None: ...

class FetchSegmentRequest(_message.Message):
    __slots__ = ("identity", "segment")
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    SEGMENT_FIELD_NUMBER: _ClassVar[int]
    identity: _session_pb2.Identity
    segment: int
    def __init__(self, identity: _Optional[_Union[_session_pb2.Identity, _Mapping]] = ..., segment: _Optional[int] = ...) -> None: ...

class FetchSegmentResponse(_message.Message):
    __slots__ = ("outcome", "size_bytes")
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    outcome: _session_pb2.Outcome
    size_bytes: int
    def __init__(self, outcome: _Optional[_Union[_session_pb2.Outcome, _Mapping]] = ..., size_bytes: _Optional[int] = ...) -> None: ...

class DropSegmentRequest(_message.Message):
    __slots__ = ("identity", "segment")
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    SEGMENT_FIELD_NUMBER: _ClassVar[int]
    identity: _session_pb2.Identity
    segment: int
    def __init__(self, identity: _Optional[_Union[_session_pb2.Identity, _Mapping]] = ..., segment: _Optional[int] = ...) -> None: ...

class DropSegmentResponse(_message.Message):
    __slots__ = ("outcome",)
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    outcome: _session_pb2.Outcome
    def __init__(self, outcome: _Optional[_Union[_session_pb2.Outcome, _Mapping]] = ...) -> None: ...

class AdoptSegmentRequest(_message.Message):
    __slots__ = ("identity", "segment", "size_bytes")
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    SEGMENT_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    identity: _session_pb2.Identity
    segment: int
    size_bytes: int
    def __init__(self, identity: _Optional[_Union[_session_pb2.Identity, _Mapping]] = ..., segment: _Optional[int] = ..., size_bytes: _Optional[int] = ...) -> None: ...

class AdoptSegmentResponse(_message.Message):
    __slots__ = ("outcome",)
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    outcome: _session_pb2.Outcome
    def __init__(self, outcome: _Optional[_Union[_session_pb2.Outcome, _Mapping]] = ...) -> None: ...
