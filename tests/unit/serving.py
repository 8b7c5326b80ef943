"""What the dispatcher's tests share: a clock and randomness they hold, a small service, a client's view."""

import errno
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.message import Message

from farcall.v1 import file_pb2
from farcall.v1.session_pb2 import SERVER_KIND_FILE, Credentials, HelloRequest, HelloResponse, ServerKind
from ipc.endpoint import Endpoint, Peer
from ipc.identity import identify
from ipc.limits import PROTOCOL_MAX, PROTOCOL_MIN
from ipc.message import Buffer, Call, MalformedError, Reply, encode_request, pack_call
from ipc.operations import BY_NAME
from servers.dispatch import Dispatcher
from servers.ledger import MemoryLedger
from servers.service import ErrnoError, Handler, Ledger, PackedHandler, Session

DIRECT = Peer("uid:0", "direct")
GRPC = Peer("insecure", "grpc")


@dataclass
class ManualClock:
    """Both clocks stand still until told."""

    now_s: float = 1000.0

    def realtime_ns(self) -> int:
        return int(self.now_s * 1e9)

    def monotonic_s(self) -> float:
        return self.now_s


@dataclass
class CountingRandom:
    """Every draw differs, and every run has the same."""

    draws: int = 0

    def bytes(self, count: int) -> bytes:
        self.draws += 1
        return self.draws.to_bytes(count, "little")


class NotebookService:
    """Append notes its data, MakeDirectory its path; both count their effects. PRead reads the notes.

    A path that starts with "!" fails after the note was written: a savepoint must take it back.
    """

    def __init__(self, ledger: MemoryLedger) -> None:
        self.kind: ServerKind = SERVER_KIND_FILE
        self.ledger: Ledger = ledger
        self._on_rollback = ledger.on_rollback
        self.handlers: Mapping[int, Handler] = {
            BY_NAME["MakeDirectory"].opcode: self.make_directory,
            BY_NAME["GetPath"].opcode: self.get_path,
        }
        self.packed_handlers: Mapping[int, PackedHandler] = {
            BY_NAME["Append"].opcode: self.append,
            BY_NAME["PRead"].opcode: self.pread,
        }
        self.notes: list[bytes] = []
        self.ended: list[int] = []
        self.closed = False

    def append(
        self, session: Session, handle: int, _2: int, _3: int, data: Buffer, into: memoryview | None
    ) -> tuple[int, Buffer]:
        self._note(bytes(data))
        return len(self.notes), b"noted"

    def pread(
        self, session: Session, handle: int, offset: int, count: int, _data: Buffer, into: memoryview | None
    ) -> tuple[int, Buffer]:
        if handle == 404:
            raise ErrnoError(errno.EBADF)
        if handle == 666:
            raise MalformedError("no such thing")
        text = b"".join(self.notes)[offset : offset + count]
        if into is None:
            return len(text), text
        into[: len(text)] = text
        return len(text), into[: len(text)]

    def make_directory(self, session: Session, request: Any) -> Message:
        path = request.place.path
        self._note(path)
        if path.startswith(b"!"):
            raise ErrnoError(errno.EEXIST)
        if path.startswith(b"?"):
            raise MalformedError("a question")
        if path.startswith(b"#"):
            raise ZeroDivisionError("a bug")
        remaining = path * 100 if path.startswith(b"+") else b"rest"
        return file_pb2.MakeDirectoryResponse(crossing=file_pb2.Crossing(mount=b"/proc", remaining=remaining))

    def get_path(self, session: Session, request: Any) -> Message:
        if request.handle == 404:
            raise ErrnoError(errno.EBADF)
        return file_pb2.GetPathResponse(path=b"%d:%d" % (session.uid, request.handle))

    def session_ended(self, session: Session) -> None:
        self.ended.append(session.number)
        self._on_rollback(self.ended.pop)

    def close(self) -> None:
        self.closed = True

    def _note(self, text: bytes) -> None:
        self.notes.append(text)
        self._on_rollback(self.notes.pop)


def hello(endpoint: Endpoint, peer: Peer = DIRECT, **changes: Any) -> HelloResponse:
    """Says Hello to a file server; `changes` are fields of the request."""
    fields: dict[str, Any] = {
        "protocol_min": PROTOCOL_MIN,
        "protocol_max": PROTOCOL_MAX,
        "kind": SERVER_KIND_FILE,
        "credentials": Credentials(uid=7, gid=8, groups=[8, 9]),
    }
    return endpoint.hello(HelloRequest(**(fields | changes)), peer)


@dataclass
class Caller:
    """One session's client: makes identities, and gives each call's only reply."""

    endpoint: Endpoint
    session: int
    peer: Peer = DIRECT
    seqs: dict[int, int] = field(default_factory=dict)

    def send(self, call: Call, into: memoryview | None = None) -> Reply:
        replies: list[Reply] = []
        self.endpoint.submit(call, self.peer, replies.append, into)
        assert len(replies) == 1
        return replies[0]

    def new(self, call: Call, slot: int = 0) -> Call:
        """Gives the call the slot's next identity."""
        self.seqs[slot] = self.seqs.get(slot, 0) + 1
        identify(call, self.session, slot, self.seqs[slot])
        return call

    def pure(self, call: Call) -> Call:
        call.session = self.session
        return call


def append(data: bytes) -> Call:
    return pack_call(BY_NAME["Append"], 1, data=data)


def pread(offset: int = 0, count: int = 100, handle: int = 1) -> Call:
    return pack_call(BY_NAME["PRead"], handle, offset, count)


def mkdir(path: bytes) -> Call:
    return encode_request(file_pb2.MakeDirectoryRequest(place=file_pb2.Place(path=path), mode=0o755))


@dataclass
class Bench:
    """A dispatcher over a notebook, its clock in the test's hand."""

    clock: ManualClock = field(default_factory=ManualClock)
    random: CountingRandom = field(default_factory=CountingRandom)

    def __post_init__(self) -> None:
        self.ledger = MemoryLedger(self.clock, self.random)
        self.service = NotebookService(self.ledger)
        self.restart()

    def restart(self) -> None:
        """Another dispatcher over the same ledger, as after the death of a server with a store."""
        self.dispatcher = Dispatcher(self.service, self.clock, self.random)

    def caller(self, peer: Peer = DIRECT) -> Caller:
        return Caller(self.dispatcher, hello(self.dispatcher, peer).session, peer)
