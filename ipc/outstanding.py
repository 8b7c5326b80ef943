"""What a link still owes: calls without a reply, and what it takes to go on with their sessions. No I/O."""

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from farcall.v1.session_pb2 import REFUSAL_STALE_SESSION, Completion, HelloRequest, HelloResponse
from ipc import batch
from ipc.message import Call, Reply
from ipc.operations import BY_NAME

GOODBYE: Final = BY_NAME["Goodbye"]


@dataclass(slots=True)
class Pending:
    """A call that has no reply yet."""

    call: Call
    complete: Callable[[Reply], None]
    into: memoryview | None


Answer = tuple[Pending, Reply]


@dataclass(slots=True)
class _Session:
    resume: HelloRequest
    leased: bool


class Outstanding:
    """The calls by tag, in the order of submission, and the sessions by number."""

    def __init__(self) -> None:
        self._tags = itertools.count(1)
        self._calls: dict[int, Pending] = {}
        self._sessions: dict[int, _Session] = {}

    def add(self, pending: Pending) -> int:
        """The tag of a call from now on, on every stream that carries it."""
        tag = next(self._tags)
        self._calls[tag] = pending
        return tag

    def unanswered(self) -> Iterator[tuple[int, Call]]:
        """What a new stream has to send, each call under the identity it has."""
        return ((tag, pending.call) for tag, pending in self._calls.items())

    def take(self, completions: Iterable[Completion]) -> list[Answer]:
        """The answers in a frame. MalformedError, and nothing is taken, if one breaks a limit."""
        replies = [(entry.tag, batch.entry_to_reply(entry)) for entry in completions]
        answers = []
        for tag, reply in replies:
            pending = self._calls.pop(tag, None)
            if pending is not None:  # None: a second completion of one call
                answers.append((pending, reply))
        return answers

    def opened(self, request: HelloRequest, response: HelloResponse) -> None:
        """A session to renew and to resume."""
        resume = HelloRequest()
        resume.CopyFrom(request)
        resume.resume_session, resume.resume_secret = response.session, response.secret
        self._sessions[response.session] = _Session(resume, response.lease_ms > 0)

    def forget(self, session: int) -> None:
        """A session that is no longer renewed or resumed; its calls stay."""
        self._sessions.pop(session, None)

    def stale(self, session: int) -> list[Answer]:
        """The server lost the session: that is the answer to its calls. Later ones it answers itself."""
        self.forget(session)
        lost = [tag for tag, pending in self._calls.items() if pending.call.session == session]
        return [(self._calls.pop(tag), Reply(refusal=REFUSAL_STALE_SESSION)) for tag in lost]

    def resumes(self) -> list[HelloRequest]:
        """The Hellos that a new connection begins with."""
        return [session.resume for session in self._sessions.values()]

    def is_open(self, session: int) -> bool:
        return session in self._sessions

    def leased(self) -> list[int]:
        """Sessions that live only as long as they are renewed."""
        return [number for number, session in self._sessions.items() if session.leased]

    def farewells(self) -> set[int]:
        """Sessions that the server should be told are over, Goodbyes on their way included."""
        calls = (pending.call for pending in self._calls.values())
        return {*self._sessions, *(call.session for call in calls if call.opcode == GOODBYE.opcode)}
