from farcall.v1 import session_pb2 as _session_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class RingGrant(_message.Message):
    __slots__ = ("kind", "session", "boot_epoch", "opcodes", "limits", "error", "session_is_new", "secret")
    KIND_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    BOOT_EPOCH_FIELD_NUMBER: _ClassVar[int]
    OPCODES_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    SESSION_IS_NEW_FIELD_NUMBER: _ClassVar[int]
    SECRET_FIELD_NUMBER: _ClassVar[int]
    kind: _session_pb2.ServerKind
    session: int
    boot_epoch: int
    opcodes: _containers.RepeatedScalarFieldContainer[int]
    limits: _session_pb2.Limits
    error: str
    session_is_new: bool
    secret: bytes
    def __init__(self, kind: _Optional[_Union[_session_pb2.ServerKind, str]] = ..., session: _Optional[int] = ..., boot_epoch: _Optional[int] = ..., opcodes: _Optional[_Iterable[int]] = ..., limits: _Optional[_Union[_session_pb2.Limits, _Mapping]] = ..., error: _Optional[str] = ..., session_is_new: _Optional[bool] = ..., secret: _Optional[bytes] = ...) -> None: ...

class SpareGrant(_message.Message):
    __slots__ = ("pid", "rings")
    PID_FIELD_NUMBER: _ClassVar[int]
    RINGS_FIELD_NUMBER: _ClassVar[int]
    pid: int
    rings: _containers.RepeatedCompositeFieldContainer[RingGrant]
    def __init__(self, pid: _Optional[int] = ..., rings: _Optional[_Iterable[_Union[RingGrant, _Mapping]]] = ...) -> None: ...

class KernelMessage(_message.Message):
    __slots__ = ("ring", "start", "spare")
    RING_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    SPARE_FIELD_NUMBER: _ClassVar[int]
    ring: RingGrant
    start: StartGuest
    spare: SpareGrant
    def __init__(self, ring: _Optional[_Union[RingGrant, _Mapping]] = ..., start: _Optional[_Union[StartGuest, _Mapping]] = ..., spare: _Optional[_Union[SpareGrant, _Mapping]] = ...) -> None: ...

class StartGuest(_message.Message):
    __slots__ = ("program", "arguments", "environment", "working_directory", "pid", "credentials", "random_key", "server_timeout_ms", "umask", "ignored_signals", "blocked_signals")
    PROGRAM_FIELD_NUMBER: _ClassVar[int]
    ARGUMENTS_FIELD_NUMBER: _ClassVar[int]
    ENVIRONMENT_FIELD_NUMBER: _ClassVar[int]
    WORKING_DIRECTORY_FIELD_NUMBER: _ClassVar[int]
    PID_FIELD_NUMBER: _ClassVar[int]
    CREDENTIALS_FIELD_NUMBER: _ClassVar[int]
    RANDOM_KEY_FIELD_NUMBER: _ClassVar[int]
    SERVER_TIMEOUT_MS_FIELD_NUMBER: _ClassVar[int]
    UMASK_FIELD_NUMBER: _ClassVar[int]
    IGNORED_SIGNALS_FIELD_NUMBER: _ClassVar[int]
    BLOCKED_SIGNALS_FIELD_NUMBER: _ClassVar[int]
    program: bytes
    arguments: _containers.RepeatedScalarFieldContainer[bytes]
    environment: _containers.RepeatedScalarFieldContainer[bytes]
    working_directory: bytes
    pid: int
    credentials: _session_pb2.Credentials
    random_key: bytes
    server_timeout_ms: int
    umask: int
    ignored_signals: int
    blocked_signals: int
    def __init__(self, program: _Optional[bytes] = ..., arguments: _Optional[_Iterable[bytes]] = ..., environment: _Optional[_Iterable[bytes]] = ..., working_directory: _Optional[bytes] = ..., pid: _Optional[int] = ..., credentials: _Optional[_Union[_session_pb2.Credentials, _Mapping]] = ..., random_key: _Optional[bytes] = ..., server_timeout_ms: _Optional[int] = ..., umask: _Optional[int] = ..., ignored_signals: _Optional[int] = ..., blocked_signals: _Optional[int] = ...) -> None: ...

class WorkerMessage(_message.Message):
    __slots__ = ("ring_wanted", "spares_wanted")
    RING_WANTED_FIELD_NUMBER: _ClassVar[int]
    SPARES_WANTED_FIELD_NUMBER: _ClassVar[int]
    ring_wanted: _session_pb2.ServerKind
    spares_wanted: int
    def __init__(self, ring_wanted: _Optional[_Union[_session_pb2.ServerKind, str]] = ..., spares_wanted: _Optional[int] = ...) -> None: ...

class ForkedRequest(_message.Message):
    __slots__ = ("identity", "pid", "host_pid", "exit_signal")
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    PID_FIELD_NUMBER: _ClassVar[int]
    HOST_PID_FIELD_NUMBER: _ClassVar[int]
    EXIT_SIGNAL_FIELD_NUMBER: _ClassVar[int]
    identity: _session_pb2.Identity
    pid: int
    host_pid: int
    exit_signal: int
    def __init__(self, identity: _Optional[_Union[_session_pb2.Identity, _Mapping]] = ..., pid: _Optional[int] = ..., host_pid: _Optional[int] = ..., exit_signal: _Optional[int] = ...) -> None: ...

class ForkedResponse(_message.Message):
    __slots__ = ("outcome",)
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    outcome: _session_pb2.Outcome
    def __init__(self, outcome: _Optional[_Union[_session_pb2.Outcome, _Mapping]] = ...) -> None: ...

class ExitRequest(_message.Message):
    __slots__ = ("identity", "status", "signal", "utime_us", "stime_us")
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    SIGNAL_FIELD_NUMBER: _ClassVar[int]
    UTIME_US_FIELD_NUMBER: _ClassVar[int]
    STIME_US_FIELD_NUMBER: _ClassVar[int]
    identity: _session_pb2.Identity
    status: int
    signal: int
    utime_us: int
    stime_us: int
    def __init__(self, identity: _Optional[_Union[_session_pb2.Identity, _Mapping]] = ..., status: _Optional[int] = ..., signal: _Optional[int] = ..., utime_us: _Optional[int] = ..., stime_us: _Optional[int] = ...) -> None: ...

class ExitResponse(_message.Message):
    __slots__ = ("outcome",)
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    outcome: _session_pb2.Outcome
    def __init__(self, outcome: _Optional[_Union[_session_pb2.Outcome, _Mapping]] = ...) -> None: ...

class WaitRequest(_message.Message):
    __slots__ = ("identity", "id_type", "id", "options")
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    ID_TYPE_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    identity: _session_pb2.Identity
    id_type: int
    id: int
    options: int
    def __init__(self, identity: _Optional[_Union[_session_pb2.Identity, _Mapping]] = ..., id_type: _Optional[int] = ..., id: _Optional[int] = ..., options: _Optional[int] = ...) -> None: ...

class WaitResponse(_message.Message):
    __slots__ = ("outcome", "pid", "code", "status", "uid", "utime_us", "stime_us")
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    PID_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    UID_FIELD_NUMBER: _ClassVar[int]
    UTIME_US_FIELD_NUMBER: _ClassVar[int]
    STIME_US_FIELD_NUMBER: _ClassVar[int]
    outcome: _session_pb2.Outcome
    pid: int
    code: int
    status: int
    uid: int
    utime_us: int
    stime_us: int
    def __init__(self, outcome: _Optional[_Union[_session_pb2.Outcome, _Mapping]] = ..., pid: _Optional[int] = ..., code: _Optional[int] = ..., status: _Optional[int] = ..., uid: _Optional[int] = ..., utime_us: _Optional[int] = ..., stime_us: _Optional[int] = ...) -> None: ...

class Signal(_message.Message):
    __slots__ = ("signal", "code", "pid", "uid", "status", "value", "thread")
    SIGNAL_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    PID_FIELD_NUMBER: _ClassVar[int]
    UID_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    THREAD_FIELD_NUMBER: _ClassVar[int]
    signal: int
    code: int
    pid: int
    uid: int
    status: int
    value: int
    thread: int
    def __init__(self, signal: _Optional[int] = ..., code: _Optional[int] = ..., pid: _Optional[int] = ..., uid: _Optional[int] = ..., status: _Optional[int] = ..., value: _Optional[int] = ..., thread: _Optional[int] = ...) -> None: ...

class FutexWord(_message.Message):
    __slots__ = ("segment", "offset")
    SEGMENT_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    segment: int
    offset: int
    def __init__(self, segment: _Optional[int] = ..., offset: _Optional[int] = ...) -> None: ...

class ProcessEvent(_message.Message):
    __slots__ = ("signal", "children_changed", "futex_wake", "new_parent", "fifo_ready", "sockets_changed")
    SIGNAL_FIELD_NUMBER: _ClassVar[int]
    CHILDREN_CHANGED_FIELD_NUMBER: _ClassVar[int]
    FUTEX_WAKE_FIELD_NUMBER: _ClassVar[int]
    NEW_PARENT_FIELD_NUMBER: _ClassVar[int]
    FIFO_READY_FIELD_NUMBER: _ClassVar[int]
    SOCKETS_CHANGED_FIELD_NUMBER: _ClassVar[int]
    signal: Signal
    children_changed: bool
    futex_wake: FutexWake
    new_parent: int
    fifo_ready: int
    sockets_changed: bool
    def __init__(self, signal: _Optional[_Union[Signal, _Mapping]] = ..., children_changed: _Optional[bool] = ..., futex_wake: _Optional[_Union[FutexWake, _Mapping]] = ..., new_parent: _Optional[int] = ..., fifo_ready: _Optional[int] = ..., sockets_changed: _Optional[bool] = ...) -> None: ...

class FutexWake(_message.Message):
    __slots__ = ("word", "count", "bitset")
    WORD_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    BITSET_FIELD_NUMBER: _ClassVar[int]
    word: FutexWord
    count: int
    bitset: int
    def __init__(self, word: _Optional[_Union[FutexWord, _Mapping]] = ..., count: _Optional[int] = ..., bitset: _Optional[int] = ...) -> None: ...

class AwaitEventsRequest(_message.Message):
    __slots__ = ("identity", "after")
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    identity: _session_pb2.Identity
    after: int
    def __init__(self, identity: _Optional[_Union[_session_pb2.Identity, _Mapping]] = ..., after: _Optional[int] = ...) -> None: ...

class AwaitEventsResponse(_message.Message):
    __slots__ = ("outcome", "events")
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    outcome: _session_pb2.Outcome
    events: _containers.RepeatedCompositeFieldContainer[ProcessEvent]
    def __init__(self, outcome: _Optional[_Union[_session_pb2.Outcome, _Mapping]] = ..., events: _Optional[_Iterable[_Union[ProcessEvent, _Mapping]]] = ...) -> None: ...

class KillRequest(_message.Message):
    __slots__ = ("identity", "pid", "thread", "signal", "code", "value")
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    PID_FIELD_NUMBER: _ClassVar[int]
    THREAD_FIELD_NUMBER: _ClassVar[int]
    SIGNAL_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    identity: _session_pb2.Identity
    pid: int
    thread: int
    signal: int
    code: int
    value: int
    def __init__(self, identity: _Optional[_Union[_session_pb2.Identity, _Mapping]] = ..., pid: _Optional[int] = ..., thread: _Optional[int] = ..., signal: _Optional[int] = ..., code: _Optional[int] = ..., value: _Optional[int] = ...) -> None: ...

class KillResponse(_message.Message):
    __slots__ = ("outcome",)
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    outcome: _session_pb2.Outcome
    def __init__(self, outcome: _Optional[_Union[_session_pb2.Outcome, _Mapping]] = ...) -> None: ...

class SetGroupRequest(_message.Message):
    __slots__ = ("identity", "pid", "group")
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    PID_FIELD_NUMBER: _ClassVar[int]
    GROUP_FIELD_NUMBER: _ClassVar[int]
    identity: _session_pb2.Identity
    pid: int
    group: int
    def __init__(self, identity: _Optional[_Union[_session_pb2.Identity, _Mapping]] = ..., pid: _Optional[int] = ..., group: _Optional[int] = ...) -> None: ...

class SetGroupResponse(_message.Message):
    __slots__ = ("outcome",)
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    outcome: _session_pb2.Outcome
    def __init__(self, outcome: _Optional[_Union[_session_pb2.Outcome, _Mapping]] = ...) -> None: ...

class SetSessionRequest(_message.Message):
    __slots__ = ("identity",)
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    identity: _session_pb2.Identity
    def __init__(self, identity: _Optional[_Union[_session_pb2.Identity, _Mapping]] = ...) -> None: ...

class SetSessionResponse(_message.Message):
    __slots__ = ("outcome",)
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    outcome: _session_pb2.Outcome
    def __init__(self, outcome: _Optional[_Union[_session_pb2.Outcome, _Mapping]] = ...) -> None: ...

class GetIdsRequest(_message.Message):
    __slots__ = ("identity", "pid")
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    PID_FIELD_NUMBER: _ClassVar[int]
    identity: _session_pb2.Identity
    pid: int
    def __init__(self, identity: _Optional[_Union[_session_pb2.Identity, _Mapping]] = ..., pid: _Optional[int] = ...) -> None: ...

class GetIdsResponse(_message.Message):
    __slots__ = ("outcome", "pid", "parent", "group", "session")
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    PID_FIELD_NUMBER: _ClassVar[int]
    PARENT_FIELD_NUMBER: _ClassVar[int]
    GROUP_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    outcome: _session_pb2.Outcome
    pid: int
    parent: int
    group: int
    session: int
    def __init__(self, outcome: _Optional[_Union[_session_pb2.Outcome, _Mapping]] = ..., pid: _Optional[int] = ..., parent: _Optional[int] = ..., group: _Optional[int] = ..., session: _Optional[int] = ...) -> None: ...

class GetForegroundRequest(_message.Message):
    __slots__ = ("identity", "terminal", "by_master")
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    TERMINAL_FIELD_NUMBER: _ClassVar[int]
    BY_MASTER_FIELD_NUMBER: _ClassVar[int]
    identity: _session_pb2.Identity
    terminal: int
    by_master: bool
    def __init__(self, identity: _Optional[_Union[_session_pb2.Identity, _Mapping]] = ..., terminal: _Optional[int] = ..., by_master: _Optional[bool] = ...) -> None: ...

class GetForegroundResponse(_message.Message):
    __slots__ = ("outcome", "group", "session")
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    GROUP_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    outcome: _session_pb2.Outcome
    group: int
    session: int
    def __init__(self, outcome: _Optional[_Union[_session_pb2.Outcome, _Mapping]] = ..., group: _Optional[int] = ..., session: _Optional[int] = ...) -> None: ...

class SetForegroundRequest(_message.Message):
    __slots__ = ("identity", "group", "terminal")
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    GROUP_FIELD_NUMBER: _ClassVar[int]
    TERMINAL_FIELD_NUMBER: _ClassVar[int]
    identity: _session_pb2.Identity
    group: int
    terminal: int
    def __init__(self, identity: _Optional[_Union[_session_pb2.Identity, _Mapping]] = ..., group: _Optional[int] = ..., terminal: _Optional[int] = ...) -> None: ...

class SetForegroundResponse(_message.Message):
    __slots__ = ("outcome",)
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    outcome: _session_pb2.Outcome
    def __init__(self, outcome: _Optional[_Union[_session_pb2.Outcome, _Mapping]] = ...) -> None: ...

class ReportStopRequest(_message.Message):
    __slots__ = ("identity", "signal")
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    SIGNAL_FIELD_NUMBER: _ClassVar[int]
    identity: _session_pb2.Identity
    signal: int
    def __init__(self, identity: _Optional[_Union[_session_pb2.Identity, _Mapping]] = ..., signal: _Optional[int] = ...) -> None: ...

class ReportStopResponse(_message.Message):
    __slots__ = ("outcome",)
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    outcome: _session_pb2.Outcome
    def __init__(self, outcome: _Optional[_Union[_session_pb2.Outcome, _Mapping]] = ...) -> None: ...

class SetReapingRequest(_message.Message):
    __slots__ = ("identity", "no_zombies", "no_stops", "subreaper")
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    NO_ZOMBIES_FIELD_NUMBER: _ClassVar[int]
    NO_STOPS_FIELD_NUMBER: _ClassVar[int]
    SUBREAPER_FIELD_NUMBER: _ClassVar[int]
    identity: _session_pb2.Identity
    no_zombies: bool
    no_stops: bool
    subreaper: bool
    def __init__(self, identity: _Optional[_Union[_session_pb2.Identity, _Mapping]] = ..., no_zombies: _Optional[bool] = ..., no_stops: _Optional[bool] = ..., subreaper: _Optional[bool] = ...) -> None: ...

class SetReapingResponse(_message.Message):
    __slots__ = ("outcome",)
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    outcome: _session_pb2.Outcome
    def __init__(self, outcome: _Optional[_Union[_session_pb2.Outcome, _Mapping]] = ...) -> None: ...

class DescribeRequest(_message.Message):
    __slots__ = ("identity", "name", "command_line", "executable", "executed", "holds_locks")
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    COMMAND_LINE_FIELD_NUMBER: _ClassVar[int]
    EXECUTABLE_FIELD_NUMBER: _ClassVar[int]
    EXECUTED_FIELD_NUMBER: _ClassVar[int]
    HOLDS_LOCKS_FIELD_NUMBER: _ClassVar[int]
    identity: _session_pb2.Identity
    name: bytes
    command_line: bytes
    executable: bytes
    executed: bool
    holds_locks: bool
    def __init__(self, identity: _Optional[_Union[_session_pb2.Identity, _Mapping]] = ..., name: _Optional[bytes] = ..., command_line: _Optional[bytes] = ..., executable: _Optional[bytes] = ..., executed: _Optional[bool] = ..., holds_locks: _Optional[bool] = ...) -> None: ...

class DescribeResponse(_message.Message):
    __slots__ = ("outcome",)
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    outcome: _session_pb2.Outcome
    def __init__(self, outcome: _Optional[_Union[_session_pb2.Outcome, _Mapping]] = ...) -> None: ...

class ProcessEntry(_message.Message):
    __slots__ = ("pid", "parent", "group", "session", "state", "uid", "name", "command_line", "executable")
    PID_FIELD_NUMBER: _ClassVar[int]
    PARENT_FIELD_NUMBER: _ClassVar[int]
    GROUP_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    UID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    COMMAND_LINE_FIELD_NUMBER: _ClassVar[int]
    EXECUTABLE_FIELD_NUMBER: _ClassVar[int]
    pid: int
    parent: int
    group: int
    session: int
    state: int
    uid: int
    name: bytes
    command_line: bytes
    executable: bytes
    def __init__(self, pid: _Optional[int] = ..., parent: _Optional[int] = ..., group: _Optional[int] = ..., session: _Optional[int] = ..., state: _Optional[int] = ..., uid: _Optional[int] = ..., name: _Optional[bytes] = ..., command_line: _Optional[bytes] = ..., executable: _Optional[bytes] = ...) -> None: ...

class ListProcessesRequest(_message.Message):
    __slots__ = ("identity", "pid", "after")
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    PID_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    identity: _session_pb2.Identity
    pid: int
    after: int
    def __init__(self, identity: _Optional[_Union[_session_pb2.Identity, _Mapping]] = ..., pid: _Optional[int] = ..., after: _Optional[int] = ...) -> None: ...

class ListProcessesResponse(_message.Message):
    __slots__ = ("outcome", "entries")
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    outcome: _session_pb2.Outcome
    entries: _containers.RepeatedCompositeFieldContainer[ProcessEntry]
    def __init__(self, outcome: _Optional[_Union[_session_pb2.Outcome, _Mapping]] = ..., entries: _Optional[_Iterable[_Union[ProcessEntry, _Mapping]]] = ...) -> None: ...

class FutexRegisterRequest(_message.Message):
    __slots__ = ("identity", "word", "count")
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    WORD_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    identity: _session_pb2.Identity
    word: FutexWord
    count: int
    def __init__(self, identity: _Optional[_Union[_session_pb2.Identity, _Mapping]] = ..., word: _Optional[_Union[FutexWord, _Mapping]] = ..., count: _Optional[int] = ...) -> None: ...

class FutexRegisterResponse(_message.Message):
    __slots__ = ("outcome",)
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    outcome: _session_pb2.Outcome
    def __init__(self, outcome: _Optional[_Union[_session_pb2.Outcome, _Mapping]] = ...) -> None: ...

class FutexWakeRequest(_message.Message):
    __slots__ = ("identity", "wake")
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    WAKE_FIELD_NUMBER: _ClassVar[int]
    identity: _session_pb2.Identity
    wake: FutexWake
    def __init__(self, identity: _Optional[_Union[_session_pb2.Identity, _Mapping]] = ..., wake: _Optional[_Union[FutexWake, _Mapping]] = ...) -> None: ...

class FutexWakeResponse(_message.Message):
    __slots__ = ("outcome", "woken")
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    WOKEN_FIELD_NUMBER: _ClassVar[int]
    outcome: _session_pb2.Outcome
    woken: int
    def __init__(self, outcome: _Optional[_Union[_session_pb2.Outcome, _Mapping]] = ..., woken: _Optional[int] = ...) -> None: ...

class JoinFifoRequest(_message.Message):
    __slots__ = ("identity", "device", "inode", "access", "waits")
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    INODE_FIELD_NUMBER: _ClassVar[int]
    ACCESS_FIELD_NUMBER: _ClassVar[int]
    WAITS_FIELD_NUMBER: _ClassVar[int]
    identity: _session_pb2.Identity
    device: int
    inode: int
    access: int
    waits: bool
    def __init__(self, identity: _Optional[_Union[_session_pb2.Identity, _Mapping]] = ..., device: _Optional[int] = ..., inode: _Optional[int] = ..., access: _Optional[int] = ..., waits: _Optional[bool] = ...) -> None: ...

class JoinFifoResponse(_message.Message):
    __slots__ = ("outcome", "ticket", "ready")
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    TICKET_FIELD_NUMBER: _ClassVar[int]
    READY_FIELD_NUMBER: _ClassVar[int]
    outcome: _session_pb2.Outcome
    ticket: int
    ready: bool
    def __init__(self, outcome: _Optional[_Union[_session_pb2.Outcome, _Mapping]] = ..., ticket: _Optional[int] = ..., ready: _Optional[bool] = ...) -> None: ...

class FetchFifoRequest(_message.Message):
    __slots__ = ("identity", "ticket")
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    TICKET_FIELD_NUMBER: _ClassVar[int]
    identity: _session_pb2.Identity
    ticket: int
    def __init__(self, identity: _Optional[_Union[_session_pb2.Identity, _Mapping]] = ..., ticket: _Optional[int] = ...) -> None: ...

class FetchFifoResponse(_message.Message):
    __slots__ = ("outcome",)
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    outcome: _session_pb2.Outcome
    def __init__(self, outcome: _Optional[_Union[_session_pb2.Outcome, _Mapping]] = ...) -> None: ...

class LeaveFifoRequest(_message.Message):
    __slots__ = ("identity", "ticket")
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    TICKET_FIELD_NUMBER: _ClassVar[int]
    identity: _session_pb2.Identity
    ticket: int
    def __init__(self, identity: _Optional[_Union[_session_pb2.Identity, _Mapping]] = ..., ticket: _Optional[int] = ...) -> None: ...

class LeaveFifoResponse(_message.Message):
    __slots__ = ("outcome",)
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    outcome: _session_pb2.Outcome
    def __init__(self, outcome: _Optional[_Union[_session_pb2.Outcome, _Mapping]] = ...) -> None: ...

class WatchRequest(_message.Message):
    __slots__ = ("identity", "pid")
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    PID_FIELD_NUMBER: _ClassVar[int]
    identity: _session_pb2.Identity
    pid: int
    def __init__(self, identity: _Optional[_Union[_session_pb2.Identity, _Mapping]] = ..., pid: _Optional[int] = ...) -> None: ...

class WatchResponse(_message.Message):
    __slots__ = ("outcome",)
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    outcome: _session_pb2.Outcome
    def __init__(self, outcome: _Optional[_Union[_session_pb2.Outcome, _Mapping]] = ...) -> None: ...

class OpenPageMapRequest(_message.Message):
    __slots__ = ("identity",)
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    identity: _session_pb2.Identity
    def __init__(self, identity: _Optional[_Union[_session_pb2.Identity, _Mapping]] = ...) -> None: ...

class OpenPageMapResponse(_message.Message):
    __slots__ = ("outcome",)
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    outcome: _session_pb2.Outcome
    def __init__(self, outcome: _Optional[_Union[_session_pb2.Outcome, _Mapping]] = ...) -> None: ...

class OpenTerminalRequest(_message.Message):
    __slots__ = ("identity", "new", "number")
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    NEW_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    identity: _session_pb2.Identity
    new: bool
    number: int
    def __init__(self, identity: _Optional[_Union[_session_pb2.Identity, _Mapping]] = ..., new: _Optional[bool] = ..., number: _Optional[int] = ...) -> None: ...

class OpenTerminalResponse(_message.Message):
    __slots__ = ("outcome",)
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    outcome: _session_pb2.Outcome
    def __init__(self, outcome: _Optional[_Union[_session_pb2.Outcome, _Mapping]] = ...) -> None: ...

class TerminalEntry(_message.Message):
    __slots__ = ("number", "device", "inode", "rdev", "mode", "uid", "gid")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    INODE_FIELD_NUMBER: _ClassVar[int]
    RDEV_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    UID_FIELD_NUMBER: _ClassVar[int]
    GID_FIELD_NUMBER: _ClassVar[int]
    number: int
    device: int
    inode: int
    rdev: int
    mode: int
    uid: int
    gid: int
    def __init__(self, number: _Optional[int] = ..., device: _Optional[int] = ..., inode: _Optional[int] = ..., rdev: _Optional[int] = ..., mode: _Optional[int] = ..., uid: _Optional[int] = ..., gid: _Optional[int] = ...) -> None: ...

class ListTerminalsRequest(_message.Message):
    __slots__ = ("identity",)
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    identity: _session_pb2.Identity
    def __init__(self, identity: _Optional[_Union[_session_pb2.Identity, _Mapping]] = ...) -> None: ...

class ListTerminalsResponse(_message.Message):
    __slots__ = ("outcome", "entries")
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    outcome: _session_pb2.Outcome
    entries: _containers.RepeatedCompositeFieldContainer[TerminalEntry]
    def __init__(self, outcome: _Optional[_Union[_session_pb2.Outcome, _Mapping]] = ..., entries: _Optional[_Iterable[_Union[TerminalEntry, _Mapping]]] = ...) -> None: ...

class FindTerminalRequest(_message.Message):
    __slots__ = ("identity",)
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    identity: _session_pb2.Identity
    def __init__(self, identity: _Optional[_Union[_session_pb2.Identity, _Mapping]] = ...) -> None: ...

class FindTerminalResponse(_message.Message):
    __slots__ = ("outcome", "terminal")
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    TERMINAL_FIELD_NUMBER: _ClassVar[int]
    outcome: _session_pb2.Outcome
    terminal: int
    def __init__(self, outcome: _Optional[_Union[_session_pb2.Outcome, _Mapping]] = ..., terminal: _Optional[int] = ...) -> None: ...

class TakeTerminalRequest(_message.Message):
    __slots__ = ("identity", "terminal", "leave")
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    TERMINAL_FIELD_NUMBER: _ClassVar[int]
    LEAVE_FIELD_NUMBER: _ClassVar[int]
    identity: _session_pb2.Identity
    terminal: int
    leave: bool
    def __init__(self, identity: _Optional[_Union[_session_pb2.Identity, _Mapping]] = ..., terminal: _Optional[int] = ..., leave: _Optional[bool] = ...) -> None: ...

class TakeTerminalResponse(_message.Message):
    __slots__ = ("outcome",)
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    outcome: _session_pb2.Outcome
    def __init__(self, outcome: _Optional[_Union[_session_pb2.Outcome, _Mapping]] = ...) -> None: ...

class SignalTerminalRequest(_message.Message):
    __slots__ = ("identity", "terminal", "signal")
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    TERMINAL_FIELD_NUMBER: _ClassVar[int]
    SIGNAL_FIELD_NUMBER: _ClassVar[int]
    identity: _session_pb2.Identity
    terminal: int
    signal: int
    def __init__(self, identity: _Optional[_Union[_session_pb2.Identity, _Mapping]] = ..., terminal: _Optional[int] = ..., signal: _Optional[int] = ...) -> None: ...

class SignalTerminalResponse(_message.Message):
    __slots__ = ("outcome",)
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    outcome: _session_pb2.Outcome
    def __init__(self, outcome: _Optional[_Union[_session_pb2.Outcome, _Mapping]] = ...) -> None: ...

class MakeSocketRequest(_message.Message):
    __slots__ = ("identity", "kind")
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    identity: _session_pb2.Identity
    kind: int
    def __init__(self, identity: _Optional[_Union[_session_pb2.Identity, _Mapping]] = ..., kind: _Optional[int] = ...) -> None: ...

class MakeSocketResponse(_message.Message):
    __slots__ = ("outcome", "token")
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    outcome: _session_pb2.Outcome
    token: bytes
    def __init__(self, outcome: _Optional[_Union[_session_pb2.Outcome, _Mapping]] = ..., token: _Optional[bytes] = ...) -> None: ...

class SocketName(_message.Message):
    __slots__ = ("address", "device", "inode")
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    INODE_FIELD_NUMBER: _ClassVar[int]
    address: bytes
    device: int
    inode: int
    def __init__(self, address: _Optional[bytes] = ..., device: _Optional[int] = ..., inode: _Optional[int] = ...) -> None: ...

class BindSocketRequest(_message.Message):
    __slots__ = ("identity", "token", "name")
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    identity: _session_pb2.Identity
    token: bytes
    name: SocketName
    def __init__(self, identity: _Optional[_Union[_session_pb2.Identity, _Mapping]] = ..., token: _Optional[bytes] = ..., name: _Optional[_Union[SocketName, _Mapping]] = ...) -> None: ...

class BindSocketResponse(_message.Message):
    __slots__ = ("outcome", "address")
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    outcome: _session_pb2.Outcome
    address: bytes
    def __init__(self, outcome: _Optional[_Union[_session_pb2.Outcome, _Mapping]] = ..., address: _Optional[bytes] = ...) -> None: ...

class ListenSocketRequest(_message.Message):
    __slots__ = ("identity", "token", "backlog")
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    BACKLOG_FIELD_NUMBER: _ClassVar[int]
    identity: _session_pb2.Identity
    token: bytes
    backlog: int
    def __init__(self, identity: _Optional[_Union[_session_pb2.Identity, _Mapping]] = ..., token: _Optional[bytes] = ..., backlog: _Optional[int] = ...) -> None: ...

class ListenSocketResponse(_message.Message):
    __slots__ = ("outcome",)
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    outcome: _session_pb2.Outcome
    def __init__(self, outcome: _Optional[_Union[_session_pb2.Outcome, _Mapping]] = ...) -> None: ...

class ConnectSocketRequest(_message.Message):
    __slots__ = ("identity", "token", "to", "waits")
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    TO_FIELD_NUMBER: _ClassVar[int]
    WAITS_FIELD_NUMBER: _ClassVar[int]
    identity: _session_pb2.Identity
    token: bytes
    to: SocketName
    waits: bool
    def __init__(self, identity: _Optional[_Union[_session_pb2.Identity, _Mapping]] = ..., token: _Optional[bytes] = ..., to: _Optional[_Union[SocketName, _Mapping]] = ..., waits: _Optional[bool] = ...) -> None: ...

class ConnectSocketResponse(_message.Message):
    __slots__ = ("outcome", "address", "pid", "uid", "gid")
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    PID_FIELD_NUMBER: _ClassVar[int]
    UID_FIELD_NUMBER: _ClassVar[int]
    GID_FIELD_NUMBER: _ClassVar[int]
    outcome: _session_pb2.Outcome
    address: bytes
    pid: int
    uid: int
    gid: int
    def __init__(self, outcome: _Optional[_Union[_session_pb2.Outcome, _Mapping]] = ..., address: _Optional[bytes] = ..., pid: _Optional[int] = ..., uid: _Optional[int] = ..., gid: _Optional[int] = ...) -> None: ...

class ReachSocketRequest(_message.Message):
    __slots__ = ("identity", "token", "to")
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    TO_FIELD_NUMBER: _ClassVar[int]
    identity: _session_pb2.Identity
    token: bytes
    to: SocketName
    def __init__(self, identity: _Optional[_Union[_session_pb2.Identity, _Mapping]] = ..., token: _Optional[bytes] = ..., to: _Optional[_Union[SocketName, _Mapping]] = ...) -> None: ...

class ReachSocketResponse(_message.Message):
    __slots__ = ("outcome",)
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    outcome: _session_pb2.Outcome
    def __init__(self, outcome: _Optional[_Union[_session_pb2.Outcome, _Mapping]] = ...) -> None: ...

class GetSocketRequest(_message.Message):
    __slots__ = ("identity", "token")
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    identity: _session_pb2.Identity
    token: bytes
    def __init__(self, identity: _Optional[_Union[_session_pb2.Identity, _Mapping]] = ..., token: _Optional[bytes] = ...) -> None: ...

class GetSocketResponse(_message.Message):
    __slots__ = ("outcome", "address", "peer_address")
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    PEER_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    outcome: _session_pb2.Outcome
    address: bytes
    peer_address: bytes
    def __init__(self, outcome: _Optional[_Union[_session_pb2.Outcome, _Mapping]] = ..., address: _Optional[bytes] = ..., peer_address: _Optional[bytes] = ...) -> None: ...

class SocketEntry(_message.Message):
    __slots__ = ("number", "kind", "listens", "inode", "address")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    LISTENS_FIELD_NUMBER: _ClassVar[int]
    INODE_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    number: int
    kind: int
    listens: bool
    inode: int
    address: bytes
    def __init__(self, number: _Optional[int] = ..., kind: _Optional[int] = ..., listens: _Optional[bool] = ..., inode: _Optional[int] = ..., address: _Optional[bytes] = ...) -> None: ...

class ListSocketsRequest(_message.Message):
    __slots__ = ("identity", "after")
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    identity: _session_pb2.Identity
    after: int
    def __init__(self, identity: _Optional[_Union[_session_pb2.Identity, _Mapping]] = ..., after: _Optional[int] = ...) -> None: ...

class ListSocketsResponse(_message.Message):
    __slots__ = ("outcome", "entries")
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    outcome: _session_pb2.Outcome
    entries: _containers.RepeatedCompositeFieldContainer[SocketEntry]
    def __init__(self, outcome: _Optional[_Union[_session_pb2.Outcome, _Mapping]] = ..., entries: _Optional[_Iterable[_Union[SocketEntry, _Mapping]]] = ...) -> None: ...

class GetSenderRequest(_message.Message):
    __slots__ = ("identity", "host_pid")
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    HOST_PID_FIELD_NUMBER: _ClassVar[int]
    identity: _session_pb2.Identity
    host_pid: int
    def __init__(self, identity: _Optional[_Union[_session_pb2.Identity, _Mapping]] = ..., host_pid: _Optional[int] = ...) -> None: ...

class GetSenderResponse(_message.Message):
    __slots__ = ("outcome", "pid")
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    PID_FIELD_NUMBER: _ClassVar[int]
    outcome: _session_pb2.Outcome
    pid: int
    def __init__(self, outcome: _Optional[_Union[_session_pb2.Outcome, _Mapping]] = ..., pid: _Optional[int] = ...) -> None: ...
