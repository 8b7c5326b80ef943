from farcall.v1 import session_pb2 as _session_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class AddressFamily(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ADDRESS_FAMILY_UNSPECIFIED: _ClassVar[AddressFamily]
    ADDRESS_FAMILY_IPV4: _ClassVar[AddressFamily]
    ADDRESS_FAMILY_IPV6: _ClassVar[AddressFamily]

class SocketKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SOCKET_KIND_UNSPECIFIED: _ClassVar[SocketKind]
    SOCKET_KIND_STREAM: _ClassVar[SocketKind]
    SOCKET_KIND_DATAGRAM: _ClassVar[SocketKind]
ADDRESS_FAMILY_UNSPECIFIED: AddressFamily
ADDRESS_FAMILY_IPV4: AddressFamily
ADDRESS_FAMILY_IPV6: AddressFamily
SOCKET_KIND_UNSPECIFIED: SocketKind
SOCKET_KIND_STREAM: SocketKind
SOCKET_KIND_DATAGRAM: SocketKind

class SocketAddress(_message.Message):
    __slots__ = ("host", "port")
    HOST_FIELD_NUMBER: _ClassVar[int]
    PORT_FIELD_NUMBER: _ClassVar[int]
    host: bytes
    port: int
    def __init__(self, host: _Optional[bytes] = ..., port: _Optional[int] = ...) -> None: ...

class Connection(_message.Message):
    __slots__ = ("socket", "local", "peer")
    SOCKET_FIELD_NUMBER: _ClassVar[int]
    LOCAL_FIELD_NUMBER: _ClassVar[int]
    PEER_FIELD_NUMBER: _ClassVar[int]
    socket: bytes
    local: SocketAddress
    peer: SocketAddress
    def __init__(self, socket: _Optional[bytes] = ..., local: _Optional[_Union[SocketAddress, _Mapping]] = ..., peer: _Optional[_Union[SocketAddress, _Mapping]] = ...) -> None: ...

class OpenSocketRequest(_message.Message):
    __slots__ = ("identity", "socket", "family", "kind")
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    SOCKET_FIELD_NUMBER: _ClassVar[int]
    FAMILY_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    identity: _session_pb2.Identity
    socket: bytes
    family: AddressFamily
    kind: SocketKind
    def __init__(self, identity: _Optional[_Union[_session_pb2.Identity, _Mapping]] = ..., socket: _Optional[bytes] = ..., family: _Optional[_Union[AddressFamily, str]] = ..., kind: _Optional[_Union[SocketKind, str]] = ...) -> None: ...

class OpenSocketResponse(_message.Message):
    __slots__ = ("outcome",)
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    outcome: _session_pb2.Outcome
    def __init__(self, outcome: _Optional[_Union[_session_pb2.Outcome, _Mapping]] = ...) -> None: ...

class BindRequest(_message.Message):
    __slots__ = ("identity", "socket", "address", "reuse_address", "reuse_port", "ipv6_only")
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    SOCKET_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    REUSE_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    REUSE_PORT_FIELD_NUMBER: _ClassVar[int]
    IPV6_ONLY_FIELD_NUMBER: _ClassVar[int]
    identity: _session_pb2.Identity
    socket: bytes
    address: SocketAddress
    reuse_address: bool
    reuse_port: bool
    ipv6_only: bool
    def __init__(self, identity: _Optional[_Union[_session_pb2.Identity, _Mapping]] = ..., socket: _Optional[bytes] = ..., address: _Optional[_Union[SocketAddress, _Mapping]] = ..., reuse_address: _Optional[bool] = ..., reuse_port: _Optional[bool] = ..., ipv6_only: _Optional[bool] = ...) -> None: ...

class BindResponse(_message.Message):
    __slots__ = ("outcome", "local")
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    LOCAL_FIELD_NUMBER: _ClassVar[int]
    outcome: _session_pb2.Outcome
    local: SocketAddress
    def __init__(self, outcome: _Optional[_Union[_session_pb2.Outcome, _Mapping]] = ..., local: _Optional[_Union[SocketAddress, _Mapping]] = ...) -> None: ...

class ListenRequest(_message.Message):
    __slots__ = ("identity", "socket", "backlog", "ipv6_only")
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    SOCKET_FIELD_NUMBER: _ClassVar[int]
    BACKLOG_FIELD_NUMBER: _ClassVar[int]
    IPV6_ONLY_FIELD_NUMBER: _ClassVar[int]
    identity: _session_pb2.Identity
    socket: bytes
    backlog: int
    ipv6_only: bool
    def __init__(self, identity: _Optional[_Union[_session_pb2.Identity, _Mapping]] = ..., socket: _Optional[bytes] = ..., backlog: _Optional[int] = ..., ipv6_only: _Optional[bool] = ...) -> None: ...

class ListenResponse(_message.Message):
    __slots__ = ("outcome", "local")
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    LOCAL_FIELD_NUMBER: _ClassVar[int]
    outcome: _session_pb2.Outcome
    local: SocketAddress
    def __init__(self, outcome: _Optional[_Union[_session_pb2.Outcome, _Mapping]] = ..., local: _Optional[_Union[SocketAddress, _Mapping]] = ...) -> None: ...

class ConnectRequest(_message.Message):
    __slots__ = ("identity", "socket", "address", "ipv6_only", "blocked")
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    SOCKET_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    IPV6_ONLY_FIELD_NUMBER: _ClassVar[int]
    BLOCKED_FIELD_NUMBER: _ClassVar[int]
    identity: _session_pb2.Identity
    socket: bytes
    address: SocketAddress
    ipv6_only: bool
    blocked: bool
    def __init__(self, identity: _Optional[_Union[_session_pb2.Identity, _Mapping]] = ..., socket: _Optional[bytes] = ..., address: _Optional[_Union[SocketAddress, _Mapping]] = ..., ipv6_only: _Optional[bool] = ..., blocked: _Optional[bool] = ...) -> None: ...

class ConnectResponse(_message.Message):
    __slots__ = ("outcome", "local", "peer", "pending")
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    LOCAL_FIELD_NUMBER: _ClassVar[int]
    PEER_FIELD_NUMBER: _ClassVar[int]
    PENDING_FIELD_NUMBER: _ClassVar[int]
    outcome: _session_pb2.Outcome
    local: SocketAddress
    peer: SocketAddress
    pending: bool
    def __init__(self, outcome: _Optional[_Union[_session_pb2.Outcome, _Mapping]] = ..., local: _Optional[_Union[SocketAddress, _Mapping]] = ..., peer: _Optional[_Union[SocketAddress, _Mapping]] = ..., pending: _Optional[bool] = ...) -> None: ...

class DescribeSocketRequest(_message.Message):
    __slots__ = ("identity", "socket")
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    SOCKET_FIELD_NUMBER: _ClassVar[int]
    identity: _session_pb2.Identity
    socket: bytes
    def __init__(self, identity: _Optional[_Union[_session_pb2.Identity, _Mapping]] = ..., socket: _Optional[bytes] = ...) -> None: ...

class DescribeSocketResponse(_message.Message):
    __slots__ = ("outcome", "local", "peer", "listening", "pending", "error")
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    LOCAL_FIELD_NUMBER: _ClassVar[int]
    PEER_FIELD_NUMBER: _ClassVar[int]
    LISTENING_FIELD_NUMBER: _ClassVar[int]
    PENDING_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    outcome: _session_pb2.Outcome
    local: SocketAddress
    peer: SocketAddress
    listening: bool
    pending: bool
    error: int
    def __init__(self, outcome: _Optional[_Union[_session_pb2.Outcome, _Mapping]] = ..., local: _Optional[_Union[SocketAddress, _Mapping]] = ..., peer: _Optional[_Union[SocketAddress, _Mapping]] = ..., listening: _Optional[bool] = ..., pending: _Optional[bool] = ..., error: _Optional[int] = ...) -> None: ...

class CheckRouteRequest(_message.Message):
    __slots__ = ("identity", "address")
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    identity: _session_pb2.Identity
    address: SocketAddress
    def __init__(self, identity: _Optional[_Union[_session_pb2.Identity, _Mapping]] = ..., address: _Optional[_Union[SocketAddress, _Mapping]] = ...) -> None: ...

class CheckRouteResponse(_message.Message):
    __slots__ = ("outcome",)
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    outcome: _session_pb2.Outcome
    def __init__(self, outcome: _Optional[_Union[_session_pb2.Outcome, _Mapping]] = ...) -> None: ...

class HoldSocketRequest(_message.Message):
    __slots__ = ("identity", "socket", "family", "kind")
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    SOCKET_FIELD_NUMBER: _ClassVar[int]
    FAMILY_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    identity: _session_pb2.Identity
    socket: bytes
    family: AddressFamily
    kind: SocketKind
    def __init__(self, identity: _Optional[_Union[_session_pb2.Identity, _Mapping]] = ..., socket: _Optional[bytes] = ..., family: _Optional[_Union[AddressFamily, str]] = ..., kind: _Optional[_Union[SocketKind, str]] = ...) -> None: ...

class HoldSocketResponse(_message.Message):
    __slots__ = ("outcome",)
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    outcome: _session_pb2.Outcome
    def __init__(self, outcome: _Optional[_Union[_session_pb2.Outcome, _Mapping]] = ...) -> None: ...

class DeliverRequest(_message.Message):
    __slots__ = ("identity", "socket_high", "socket_low", "position", "data")
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    SOCKET_HIGH_FIELD_NUMBER: _ClassVar[int]
    SOCKET_LOW_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    identity: _session_pb2.Identity
    socket_high: int
    socket_low: int
    position: int
    data: bytes
    def __init__(self, identity: _Optional[_Union[_session_pb2.Identity, _Mapping]] = ..., socket_high: _Optional[int] = ..., socket_low: _Optional[int] = ..., position: _Optional[int] = ..., data: _Optional[bytes] = ...) -> None: ...

class DeliverResponse(_message.Message):
    __slots__ = ("outcome", "position")
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    outcome: _session_pb2.Outcome
    position: int
    def __init__(self, outcome: _Optional[_Union[_session_pb2.Outcome, _Mapping]] = ..., position: _Optional[int] = ...) -> None: ...

class CollectRequest(_message.Message):
    __slots__ = ("identity", "socket_high", "socket_low", "position")
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    SOCKET_HIGH_FIELD_NUMBER: _ClassVar[int]
    SOCKET_LOW_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    identity: _session_pb2.Identity
    socket_high: int
    socket_low: int
    position: int
    def __init__(self, identity: _Optional[_Union[_session_pb2.Identity, _Mapping]] = ..., socket_high: _Optional[int] = ..., socket_low: _Optional[int] = ..., position: _Optional[int] = ...) -> None: ...

class CollectResponse(_message.Message):
    __slots__ = ("outcome", "end", "data")
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    outcome: _session_pb2.Outcome
    end: int
    data: bytes
    def __init__(self, outcome: _Optional[_Union[_session_pb2.Outcome, _Mapping]] = ..., end: _Optional[int] = ..., data: _Optional[bytes] = ...) -> None: ...

class HalfCloseRequest(_message.Message):
    __slots__ = ("identity", "socket")
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    SOCKET_FIELD_NUMBER: _ClassVar[int]
    identity: _session_pb2.Identity
    socket: bytes
    def __init__(self, identity: _Optional[_Union[_session_pb2.Identity, _Mapping]] = ..., socket: _Optional[bytes] = ...) -> None: ...

class HalfCloseResponse(_message.Message):
    __slots__ = ("outcome",)
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    outcome: _session_pb2.Outcome
    def __init__(self, outcome: _Optional[_Union[_session_pb2.Outcome, _Mapping]] = ...) -> None: ...

class DropSocketRequest(_message.Message):
    __slots__ = ("identity", "socket")
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    SOCKET_FIELD_NUMBER: _ClassVar[int]
    identity: _session_pb2.Identity
    socket: bytes
    def __init__(self, identity: _Optional[_Union[_session_pb2.Identity, _Mapping]] = ..., socket: _Optional[bytes] = ...) -> None: ...

class DropSocketResponse(_message.Message):
    __slots__ = ("outcome",)
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    outcome: _session_pb2.Outcome
    def __init__(self, outcome: _Optional[_Union[_session_pb2.Outcome, _Mapping]] = ...) -> None: ...

class AwaitReadyRequest(_message.Message):
    __slots__ = ("identity", "seen")
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    SEEN_FIELD_NUMBER: _ClassVar[int]
    identity: _session_pb2.Identity
    seen: int
    def __init__(self, identity: _Optional[_Union[_session_pb2.Identity, _Mapping]] = ..., seen: _Optional[int] = ...) -> None: ...

class AwaitReadyResponse(_message.Message):
    __slots__ = ("outcome", "number", "sockets")
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    SOCKETS_FIELD_NUMBER: _ClassVar[int]
    outcome: _session_pb2.Outcome
    number: int
    sockets: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, outcome: _Optional[_Union[_session_pb2.Outcome, _Mapping]] = ..., number: _Optional[int] = ..., sockets: _Optional[_Iterable[bytes]] = ...) -> None: ...

class PublishRequest(_message.Message):
    __slots__ = ("identity", "address", "port")
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    PORT_FIELD_NUMBER: _ClassVar[int]
    identity: _session_pb2.Identity
    address: SocketAddress
    port: int
    def __init__(self, identity: _Optional[_Union[_session_pb2.Identity, _Mapping]] = ..., address: _Optional[_Union[SocketAddress, _Mapping]] = ..., port: _Optional[int] = ...) -> None: ...

class PublishResponse(_message.Message):
    __slots__ = ("outcome", "address")
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    outcome: _session_pb2.Outcome
    address: SocketAddress
    def __init__(self, outcome: _Optional[_Union[_session_pb2.Outcome, _Mapping]] = ..., address: _Optional[_Union[SocketAddress, _Mapping]] = ...) -> None: ...
