"""A link to a remote file server that answers what it is certain of (ipc/README, Answers that are kept).

Between the rings of a run's workers and the link. Nothing that changes anything is answered here. A question
about names and attributes goes to the server as Consult, whose answer may be kept; with each file opened for
reading its attributes and first bytes come along; who reads on finds the next bytes here; Donate is answered by
a sealed memfd. What another worker waits for already is not asked twice: it is asked again when the answer is
there, and then either certain or a question of its own.
"""

import errno
import stat
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final

from google.protobuf.message import DecodeError

from client_vm.answers import Answers
from client_vm.consulting import OURS, Asked, Consulting, Downlink, Hello
from client_vm.contents import CHUNK_BYTES, DONATED_BYTES_MAX, Content, Contents
from client_vm.fetching import Fetching
from farcall.v1.file_pb2 import (
    OPEN_FLAG_CREATE,
    OPEN_FLAG_DIRECTORY,
    OPEN_FLAG_EXECUTE,
    OPEN_FLAG_PATH,
    OPEN_FLAG_READ,
    OPEN_FLAG_TMPFILE,
    OPEN_FLAG_TRUNCATE,
    OPEN_FLAG_WRITE,
    Attributes,
    Consulted,
    GetAttributesRequest,
    GetAttributesResponse,
    GetPathRequest,
    InheritRequest,
    OpenRequest,
    OpenResponse,
    Place,
    ReadDirectoryRequest,
    ReadDirectoryResponse,
)
from farcall.v1.session_pb2 import (
    REFUSAL_UNSUPPORTED,
    Credentials,
    HelloRequest,
    HelloResponse,
)
from ipc.endpoint import Peer
from ipc.limits import DATA_BYTES_MAX
from ipc.message import PACKED, Call, Reply, decode_request
from ipc.operations import BY_NAME, OPERATIONS
from ipc.seams import Clock

HEAD_BYTES: Final = 48 << 10
"""Of each file opened for reading that come along."""
AHEAD: Final = 4
"""Chunks that are asked for before somebody who reads on does."""
ENTRIES_MAX: Final = 512
"""Of a directory, that come along."""
KEYS_MAX: Final = 4096
"""Answers that go with one handle, and are dropped with it."""
PLAIN_S: Final = 1.0
"""How long a file is read as it is asked for whose bytes nobody may keep."""
OFFSET_MAX: Final = (1 << 63) - 1

_CHANGING: Final = OPEN_FLAG_CREATE | OPEN_FLAG_TRUNCATE | OPEN_FLAG_WRITE | OPEN_FLAG_TMPFILE
_PREAD: Final = BY_NAME["PRead"]
_DONATE: Final = BY_NAME["Donate"]
_DIRECTORY: Final = BY_NAME["ReadDirectory"].opcode
_PATH: Final = BY_NAME["GetPath"].opcode
_ATTRIBUTES: Final = BY_NAME["GetAttributes"].opcode
_BY_PLACE: Final = tuple(BY_NAME[name].opcode for name in ("GetAttributes", "CheckAccess", "ReadLink"))


@dataclass(slots=True, eq=False)
class _File:
    """A handle of a session."""

    ino: int
    readable: bool
    next_offset: int = 0
    """Where who reads on goes on."""
    plain_until_s: float = 0.0
    """Nobody may keep its bytes just now: not asked again before."""
    keys: set[Hashable] = field(default_factory=set)
    """Of answers that go with the handle."""


@dataclass(slots=True, eq=False)
class _Session:
    credentials: bytes
    files: dict[int, _File] = field(default_factory=dict)


class CachingLink:
    """The endpoint of a run's rings to one remote file server. One thread, trio's."""

    def __init__(self, link: Downlink, clock: Clock) -> None:
        """`clock`: its monotonic one must not stand still while the server's goes on."""
        self._link = link
        self._clock = clock
        self._contents = Contents()
        self._fetching = Fetching(link, self._contents)
        self._answers = Answers(self._contents.drop)
        self._consulting = Consulting(link, clock, self._answers, self._once_more)
        self._sessions: dict[int, _Session] = {}
        self._ways: dict[int, Callable[[Asked, _Session], bool]] = {
            **dict.fromkeys(_BY_PLACE, self._of_place),
            _DIRECTORY: self._read_directory,
            _PATH: self._get_path,
            _PREAD.opcode: self._read,
            BY_NAME["Open"].opcode: self._open,
            BY_NAME["Close"].opcode: self._close,
            BY_NAME["Inherit"].opcode: self._inherit,
            _DONATE.opcode: self._donate,
        }
        """Opcode -> what may answer the call, or see to its answer; False: it is the server's."""

    # As ipc.endpoint.Endpoint

    def submit(
        self, call: Call, peer: Peer, complete: Callable[[Reply], None], into: memoryview | None = None
    ) -> None:
        """As GrpcLink."""
        if call.opcode in OURS:
            complete(Reply(refusal=REFUSAL_UNSUPPORTED))
            return
        way, session = self._ways.get(call.opcode), self._sessions.get(call.session)
        if way is None or session is None or not self._consulting.holder:
            self._link.submit(call, peer, complete, into)
        elif not way(asked := Asked(call, peer, complete, into), session):
            self._pass_on(asked)

    def closed(self, session: int, peer: Peer) -> None:
        """As GrpcLink."""
        ended = self._sessions.pop(session, None)
        if ended is not None:
            for file in ended.files.values():
                self._let_go(file)
        self._link.closed(session, peer)

    def opened(self, request: HelloRequest, response: HelloResponse) -> None:
        """A worker's session."""
        credentials = request.credentials.SerializeToString(deterministic=True)
        self._sessions.setdefault(response.session, _Session(credentials))

    @staticmethod
    def carries(opcode: int) -> bool:
        """Whether a worker may use the operation: descriptors come from nowhere but `_donate`."""
        operation = OPERATIONS.get(opcode)
        return (
            operation is not None
            and opcode not in OURS
            and (not operation.carries_descriptor or operation is _DONATE)
        )

    async def keep(self, hello: Hello, credentials: Credentials) -> None:
        """Has the lease, as long as the server offers one, until cancelled."""
        while await self._consulting.hold(hello, credentials):
            for session in self._sessions.values():
                session.files.clear()  # which were not looked after meanwhile

    def _pass_on(self, asked: Asked) -> None:
        self._link.submit(asked.call, asked.peer, asked.complete, asked.into)

    def _once_more(self, asked: Asked) -> None:
        self.submit(asked.call, asked.peer, asked.complete, asked.into)

    # Answers

    def _keep_attributes(self, answer: Consulted) -> None:
        """Of a handle: those of its inode."""
        if answer.errno or not answer.inodes:
            return
        attributes = _parsed(GetAttributesResponse, answer.body).attributes
        self._contents.compare(attributes)
        self._consulting.remember((_ATTRIBUTES, attributes.ino), answer, answer.body)

    def _attributes(self, ino: int) -> Attributes | None:
        """Those of an inode, if they are certain."""
        kept = self._answers.get((_ATTRIBUTES, ino), self._clock.monotonic_s())
        return None if kept is None else _parsed(GetAttributesResponse, kept.body).attributes

    def _answer(self, asked: Asked, key: Hashable, keep: Callable[[Consulted], None] | None = None) -> bool:
        """From what is kept, or asks, and keeps it."""
        if self._consulting.waits(asked, key):
            return True
        kept = self._answers.get(key, self._clock.monotonic_s())
        if kept is not None:
            self._consulting.renew(asked.call.session)
            asked.complete(Reply(kept.errno, body=kept.body))
            return True

        def done(answered: list[Consulted] | Reply, certain: bool) -> None:
            if isinstance(answered, Reply):
                self._refused(asked, answered)
                return
            answer = answered[0]
            if certain:
                keep(answer) if keep is not None else self._consulting.remember(key, answer, answer.body)
            if answer.errno == errno.EMSGSIZE:
                self._pass_on(asked)
            else:
                asked.complete(Reply(answer.errno, body=answer.body))

        self._consulting.consult(asked.call.session, ((asked.call.opcode, asked.call.body),), done, key)
        return True

    def _refused(self, asked: Asked, refusal: Reply) -> None:
        """A Consult was, instead of the worker's call."""
        if refusal.refusal == REFUSAL_UNSUPPORTED or refusal.errno:
            self._pass_on(asked)
        else:
            asked.complete(refusal)

    # Names and attributes

    def _of_place(self, asked: Asked, session: _Session) -> bool:
        """GetAttributes, CheckAccess, ReadLink."""
        call = asked.call
        request = decode_request(call)
        place: Place = request.place  # type: ignore[attr-defined]
        if place.path and (place.path.startswith(b"/") or not place.directory):
            place.directory = 0
            return self._answer(
                asked, (session.credentials, call.opcode, request.SerializeToString(deterministic=True))
            )
        file = session.files.get(place.directory)
        if file is None:
            return False
        if place.path:
            return self._answer(asked, _own(file, (call.session, call.opcode, call.body)))
        if not place.empty_ok or call.opcode != _ATTRIBUTES:
            return False
        if self._consulting.waits(asked, (call.session, place.directory)):
            return True
        return self._answer(asked, (_ATTRIBUTES, file.ino), self._keep_attributes)

    def _get_path(self, asked: Asked, session: _Session) -> bool:
        call = asked.call
        request = decode_request(call)
        file = session.files.get(request.handle)  # type: ignore[attr-defined]
        return file is not None and self._answer(asked, _own(file, (call.session, _PATH, call.body)))

    def _read_directory(self, asked: Asked, session: _Session) -> bool:
        """A listing from its start is the directory's; what follows goes with the handle, whose listing it is."""
        request = decode_request(asked.call)
        assert isinstance(request, ReadDirectoryRequest)
        file = session.files.get(request.handle)
        if file is None:
            return False
        if self._consulting.waits(asked, (asked.call.session, request.handle)):
            return True
        if request.cookie:
            return self._answer(asked, self._listing_key(file, asked.call.session, request))
        key = (_DIRECTORY, file.ino, request.entries_max)
        kept = self._answers.get(key, self._clock.monotonic_s())
        if kept is not None and request.entries_max == ENTRIES_MAX:
            self._list_on(asked.call.session, request.handle, file, kept.body)
        return self._answer(asked, key)

    @staticmethod
    def _listing_key(file: _File, session: int, request: ReadDirectoryRequest) -> Hashable:
        return _own(file, (session, _DIRECTORY, request.handle, request.cookie, request.entries_max))

    def _list_on(self, session: int, handle: int, file: _File, body: bytes) -> None:
        """Asks for what follows a listing's first answer, which nearly always is nothing, but has to be asked."""
        entries = _parsed(ReadDirectoryResponse, body).entries
        if not entries:
            return
        request = ReadDirectoryRequest(handle=handle, cookie=entries[-1].next, entries_max=ENTRIES_MAX)
        key = self._listing_key(file, session, request)
        if self._consulting.is_coming(key):
            return

        def done(answered: list[Consulted] | Reply, certain: bool) -> None:
            if certain and isinstance(answered, list):
                self._consulting.remember(key, answered[0], answered[0].body)

        self._consulting.consult(
            session, ((_DIRECTORY, request.SerializeToString(deterministic=True)),), done, key
        )

    # Handles

    def _open(self, asked: Asked, session: _Session) -> bool:
        """The server's; for reading, what comes next is asked at the same time."""
        request = decode_request(asked.call)
        assert isinstance(request, OpenRequest)
        flags, handle, number = request.flags, request.handle, asked.call.session
        reads = bool(flags & (OPEN_FLAG_READ | OPEN_FLAG_EXECUTE)) and not flags & OPEN_FLAG_PATH

        def opened(reply: Reply) -> None:
            if not reply.errno and not reply.refusal:
                response = _parsed(OpenResponse, reply.body)
                if response.HasField("attributes"):
                    session.files[handle] = _File(response.attributes.ino, reads)
            asked.complete(reply)

        self._link.submit(asked.call, asked.peer, opened, asked.into)
        if not flags & _CHANGING and not self._consulting.is_coming((number, handle)):
            self._look_in(number, session, handle, bool(flags & OPEN_FLAG_DIRECTORY), reads)
        return True

    def _look_in(self, number: int, session: _Session, handle: int, directory: bool, reads: bool) -> None:
        """Asks for attributes, and listing or first bytes, of a handle that is being opened."""
        place = Place(directory=handle, empty_ok=True)
        questions = [(_ATTRIBUTES, GetAttributesRequest(place=place).SerializeToString(deterministic=True))]
        if directory and reads:
            listing = ReadDirectoryRequest(handle=handle, entries_max=ENTRIES_MAX)
            questions.append((_DIRECTORY, listing.SerializeToString(deterministic=True)))
        elif reads:
            questions.append((_PREAD.opcode, PACKED.pack(handle, 0, HEAD_BYTES)))

        def done(answered: list[Consulted] | Reply, certain: bool) -> None:
            file = session.files.get(handle)
            if not certain or isinstance(answered, Reply) or file is None:
                return
            self._keep_attributes(answered[0])
            if len(answered) < 2 or answered[1].errno:
                return
            if directory:
                self._consulting.remember((_DIRECTORY, file.ino, ENTRIES_MAX), answered[1], answered[1].body)
                self._list_on(number, handle, file, answered[1].body)
            elif len(answered[1].data) <= HEAD_BYTES:
                self._consulting.remember((_PREAD.opcode, file.ino), answered[1], answered[1].data)

        self._consulting.consult(number, questions, done, (number, handle))

    def _close(self, asked: Asked, session: _Session) -> bool:
        file = session.files.pop(PACKED.unpack(asked.call.body)[0], None)
        if file is not None:
            self._let_go(file)
        return False

    def _let_go(self, file: _File) -> None:
        for key in file.keys:
            self._answers.drop(key)

    def _inherit(self, asked: Asked, session: _Session) -> bool:
        """The target has the same handles, if the server says so."""
        request = decode_request(asked.call)
        assert isinstance(request, InheritRequest)
        files = {handle: replace(file, keys=set()) for handle, file in session.files.items()}

        def inherited(reply: Reply) -> None:
            target = self._sessions.get(request.target_session)
            if target is not None and not reply.errno and not reply.refusal:
                target.files.update(files)
            asked.complete(reply)

        self._link.submit(asked.call, asked.peer, inherited, asked.into)
        return True

    # Data

    def _read(self, asked: Asked, session: _Session) -> bool:
        call = asked.call
        handle, offset, count = PACKED.unpack(call.body)
        file = session.files.get(handle)
        if file is None or not file.readable or count > DATA_BYTES_MAX or offset > OFFSET_MAX - count:
            return False
        if self._consulting.waits(asked, (call.session, handle)):
            return True
        now_s = self._clock.monotonic_s()
        head = self._answers.get((_PREAD.opcode, file.ino), now_s)
        if head is not None and (offset + count <= len(head.body) or len(head.body) < HEAD_BYTES):
            self._consulting.renew(call.session)
            data = head.body[offset : offset + count]
            asked.complete(Reply(0, len(data), data=data))
            file.next_offset = offset + len(data)
            return True
        reads_on = bool(offset == file.next_offset)
        file.next_offset = offset + count
        attributes = self._attributes(file.ino)
        if attributes is not None:
            content = self._contents.of(attributes)
            if self._served(asked, content, file, reads_on):
                return True
            if reads_on:
                self._fetch_for(asked, content, file)
            return reads_on
        if not reads_on or now_s < file.plain_until_s:
            return False
        self._consult_attributes(call.session, handle, partial(self._read_with, asked, file))
        return True

    def _read_with(self, asked: Asked, file: _File) -> None:
        """Attributes were asked for."""
        attributes = self._attributes(file.ino)
        if attributes is None:
            file.plain_until_s = self._clock.monotonic_s() + PLAIN_S
            self._pass_on(asked)
        else:
            self._fetch_for(asked, self._contents.of(attributes), file)

    def _consult_attributes(self, session: int, handle: int, then: Callable[[], None]) -> None:
        place = Place(directory=handle, empty_ok=True)
        request = GetAttributesRequest(place=place).SerializeToString(deterministic=True)

        def done(answered: list[Consulted] | Reply, certain: bool) -> None:
            if certain and isinstance(answered, list):
                self._keep_attributes(answered[0])
            then()

        self._consulting.consult(session, ((_ATTRIBUTES, request),), done)

    def _served(self, asked: Asked, content: Content, file: _File, reads_on: bool) -> bool:
        """Whether the bytes were here."""
        handle, offset, count = PACKED.unpack(asked.call.body)
        data = content.read(offset, count, asked.into)
        if data is None:
            return False
        index = offset // CHUNK_BYTES
        self._contents.touch(content, index)
        if reads_on:
            self._fetching.fetch(asked.call.session, handle, content, range(index, index + 1 + AHEAD))
        self._consulting.renew(asked.call.session)
        asked.complete(Reply(0, len(data), data=data))
        return True

    def _fetch_for(self, asked: Asked, content: Content, file: _File) -> None:
        """Has the bytes fetched, and those that follow, and serves the call when they are here."""
        handle, offset, count = PACKED.unpack(asked.call.body)
        first, last = offset // CHUNK_BYTES, (offset + max(count, 1) - 1) // CHUNK_BYTES
        self._fetching.fetch(asked.call.session, handle, content, range(first, last + 1 + AHEAD))

        def here() -> None:
            attributes = self._attributes(file.ino)
            if attributes is None or not content.alive or not self._served(asked, content, file, False):
                self._pass_on(asked)

        self._fetching.when_here(content, range(first, last + 1), here)

    # Pages

    def _donate(self, asked: Asked, session: _Session) -> bool:
        """Answered here in any case: the link carries no descriptors."""
        request = decode_request(asked.call)
        handle: int = request.handle  # type: ignore[attr-defined]
        file = session.files.get(handle)
        if file is None or not file.readable:
            asked.complete(Reply(errno.EOPNOTSUPP))
            return True
        if self._consulting.waits(asked, (asked.call.session, handle)):
            return True
        key = _own(file, (asked.call.session, _PATH, (path := GetPathRequest(handle=handle)).SerializeToString()))
        if not self._consulting.is_coming(key) and self._answers.get(key, self._clock.monotonic_s()) is None:
            # Who maps a file wants to know its name, too.
            self._consulting.consult(
                asked.call.session, ((_PATH, path.SerializeToString()),), partial(self._keep_first, key), key
            )
        if self._attributes(file.ino) is not None:
            self._give(asked, file, handle)
        else:
            self._consult_attributes(asked.call.session, handle, partial(self._give, asked, file, handle))
        return True

    def _keep_first(self, key: Hashable, answered: list[Consulted] | Reply, certain: bool) -> None:
        if certain and isinstance(answered, list):
            self._consulting.remember(key, answered[0], answered[0].body)

    def _give(self, asked: Asked, file: _File, handle: int) -> None:
        """The file's bytes in a memfd, if they are certain and not too many. EOPNOTSUPP: read them."""
        attributes = self._attributes(file.ino)
        size_ok = attributes is not None and 0 < attributes.size <= DONATED_BYTES_MAX
        if attributes is None or not size_ok or not stat.S_ISREG(attributes.mode):
            asked.complete(Reply(errno.EOPNOTSUPP))
            return
        content = self._contents.of(attributes)
        head = self._answers.get((_PREAD.opcode, file.ino), self._clock.monotonic_s())
        if head is not None and len(head.body) == attributes.size:
            self._contents.add(content, 0, head.body)
        every = range(content.chunk_count)
        self._fetching.fetch(asked.call.session, handle, content, every)

        def here() -> None:
            certain = content.alive and self._attributes(file.ino) is not None
            asked.complete(self._fetching.donation(content, attributes) if certain else Reply(errno.EOPNOTSUPP))

        self._fetching.when_here(content, every, here)


def _own(file: _File, key: Hashable) -> Hashable:
    """A key of answers that go with the handle."""
    if len(file.keys) >= KEYS_MAX:
        file.keys.clear()  # their answers go when they are old enough
    file.keys.add(key)
    return key


def _parsed(message: type[Any], body: bytes) -> Any:
    """A message of the server's; an empty one if it is none."""
    try:
        return message.FromString(body)
    except DecodeError:
        return message()
