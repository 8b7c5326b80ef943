"""Answers that clients keep: Consult, AwaitRecall, and the guard before every change (servers/leases.py).

An answer depends on the inodes that were looked at for it. What changes an inode's row or names, or lets somebody
store to its bytes, is first worked out within its transaction; if somebody keeps answers about an inode that it
changed, it is rolled back and made again once they are forgotten.
"""

import errno
from collections.abc import Mapping
from typing import Final

from google.protobuf.message import DecodeError

from farcall.v1.file_pb2 import (
    AwaitRecallRequest,
    AwaitRecallResponse,
    Consulted,
    ConsultRequest,
    ConsultResponse,
    Question,
)
from ipc.limits import BODY_BYTES_MAX, QUESTIONS_MAX
from ipc.message import PACKED, Buffer, MalformedError
from ipc.operations import BY_NAME, OPERATIONS
from ipc.seams import Clock
from servers.file.mappings import Mappings
from servers.file.tree import Tree, unheeded
from servers.leases import Holder, Leases
from servers.service import Deferred, ErrnoError, Handler, PackedHandler, Session, WithDescriptor

ASKED: Final = frozenset(
    BY_NAME[name].opcode
    for name in ("GetAttributes", "CheckAccess", "ReadLink", "ReadDirectory", "GetPath", "GetXattr", "ListXattr")
)
"""What may be asked in Consult, beside PRead: answers that follow from the inodes looked at, and nothing else."""
PREAD: Final = BY_NAME["PRead"].opcode
ROOM_BYTES: Final = BODY_BYTES_MAX - 1024
"""Of all answers in a response."""
ANSWER_BYTES: Final = 32
INODE_BYTES: Final = 10
"""Of an encoded answer beside body and data, and of each of its inodes."""
HOLDER: Final = "holder:%d"
"""Rows of the table meta: sessions that keep answers, for the next server to wait for."""


class Consults:
    """The handlers, and what is put around the others."""

    def __init__(self, tree: Tree, mappings: Mappings, clock: Clock) -> None:
        self._tree = tree
        self._store = tree.store
        self._mappings = mappings
        self._changed = tree.inodes.changed
        rows = self._store.execute("SELECT name FROM meta WHERE name LIKE 'holder:%'")
        before = [int(name.partition(":")[2]) for (name,) in rows]
        self._leases = Leases(clock, self._store.boot_epoch, before)
        self._handlers: dict[int, Handler] = {}
        self._pread: PackedHandler

    def over(self, handlers: Mapping[int, Handler], packed: Mapping[int, PackedHandler]) -> Mapping[int, Handler]:
        """All handlers that are not packed: these, guarded if they change something, and ours."""
        self._handlers = {opcode: handlers[opcode] for opcode in ASKED}
        self._pread = packed[PREAD]
        return {
            **{
                code: self._guarded(each) if OPERATIONS[code].recorded else each
                for code, each in handlers.items()
            },
            BY_NAME["Consult"].opcode: self.consult,
            BY_NAME["AwaitRecall"].opcode: self.await_recall,
        }

    def _guarded(self, handler: Handler) -> Handler:
        def run(session: Session, request: object) -> object:
            self._changed.clear()
            answer = handler(session, request)
            self._leases.check(self._changed)
            return answer

        return run  # type: ignore[return-value]  # what the handler returns

    def guarded_packed(self, handlers: Mapping[int, PackedHandler]) -> Mapping[int, PackedHandler]:
        """Those that change something raise NotYetError first if somebody keeps what they change."""
        return {
            code: self._guarded_packed(each) if OPERATIONS[code].recorded else each
            for code, each in handlers.items()
        }

    def _guarded_packed(self, handler: PackedHandler) -> PackedHandler:
        def run(
            session: Session, first: int, second: int, third: int, data: Buffer, into: memoryview | None
        ) -> tuple[int, Buffer]:
            self._changed.clear()
            answer = handler(session, first, second, third, data, into)
            self._leases.check(self._changed)
            return answer

        return run

    def await_recall(self, session: Session, request: AwaitRecallRequest) -> AwaitRecallResponse | Deferred:
        """EOPNOTSUPP: the session lives by its control socket, not by a lease."""
        if not session.leased:
            raise ErrnoError(errno.EOPNOTSUPP)
        if not self._leases.is_holder(session.number):
            with self._store.transaction():  # before the first lease: the next server has to know
                self._store.execute("INSERT OR REPLACE INTO meta VALUES(?, 1)", (HOLDER % session.number,))
        holder = self._leases.hold(session.number, request.grant)
        return self._leases.await_recall(holder, request.grant, request.acknowledged)

    def session_ended(self, session: Session) -> None:
        """Within the transaction that ends it."""
        if session.leased:
            self._store.execute("DELETE FROM meta WHERE name = ?", (HOLDER % session.number,))
        self._leases.ended(session.number)

    def consult(self, session: Session, request: ConsultRequest) -> ConsultResponse:
        """MalformedError: too many questions, or one that is none."""
        if len(request.questions) > QUESTIONS_MAX:
            raise MalformedError(f"{len(request.questions)} questions")
        holder = self._holder(session, request)
        response = ConsultResponse()
        left_bytes = ROOM_BYTES
        for question in request.questions:
            answer = self._answer(session, question, holder, request.grant)
            size_bytes = ANSWER_BYTES + len(answer.body) + len(answer.data) + INODE_BYTES * len(answer.inodes)
            if size_bytes > left_bytes:
                answer, size_bytes = Consulted(errno=errno.EMSGSIZE), ANSWER_BYTES
            left_bytes -= size_bytes
            response.answers.append(answer)
        if holder is not None:
            response.grant, response.recalls = holder.grant, holder.recalls
            response.lease_ms = self._leases.left_ms(holder)
        return response

    def _holder(self, session: Session, request: ConsultRequest) -> Holder | None:
        """Who keeps the answers, if that is a session of the same peer."""
        keeper = self._store.session(request.holder)
        if keeper is None or keeper.principal != session.principal:
            return None
        return self._leases.find(request.holder, request.grant)

    def _answer(self, session: Session, question: Question, holder: Holder | None, grant: int) -> Consulted:
        seen: set[int] = set()
        self._tree.see = seen.add
        try:
            answer = self._ask(session, question)
        except ErrnoError as error:
            answer = Consulted(errno=error.errno)
        finally:
            self._tree.see = unheeded
        stored_to = any(self._mappings.may_be_stored_to(ino) for ino in seen)
        if holder is not None and seen and not stored_to and self._leases.lease(holder, grant, seen):
            answer.inodes.extend(seen)
        return answer

    def _ask(self, session: Session, question: Question) -> Consulted:
        if question.opcode == PREAD:
            return self._read(session, question.body)
        handler = self._handlers.get(question.opcode)
        if handler is None:
            raise MalformedError(f"opcode {question.opcode} in Consult")
        request = OPERATIONS[question.opcode].request()
        try:
            request.ParseFromString(question.body)
        except DecodeError as error:
            raise MalformedError(f"a question: {error}") from None
        answer = handler(session, request)
        assert not isinstance(answer, WithDescriptor | Deferred)
        return Consulted(body=answer.SerializeToString(deterministic=True))

    def _read(self, session: Session, body: bytes) -> Consulted:
        if len(body) != PACKED.size:
            raise MalformedError("a question's body")
        handle, offset, count = PACKED.unpack(body)
        if count > ROOM_BYTES:
            raise MalformedError("a question for more data than fits")
        file = self._tree.handles.get(session.number, handle)
        self._tree.see(file.shared.ino)
        _, data = self._pread(session, handle, offset, count, b"", None)
        return Consulted(data=bytes(data))
