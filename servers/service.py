"""What a service is to the dispatcher: a kind, a ledger of sessions and slots, and handlers.

Every server is one Service behind servers.dispatch.Dispatcher; the file server's ledger is its store (so an
effect and its slot row commit together), the memory server's is in memory.
"""

import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol, TypeAlias, runtime_checkable

from google.protobuf.message import Message

from farcall.v1.session_pb2 import ServerKind
from ipc.identity import SlotState
from ipc.message import Buffer, Reply


class ErrnoError(Exception):
    """An operating error: the call's answer is this errno, and it changed nothing."""

    def __init__(self, errno: int, why: str = "") -> None:
        super().__init__(errno, why)
        self.errno = errno


class NotYetError(Exception):
    """The call would change what somebody has a lease on. Everything is rolled back, as if it had not come yet;
    it is made again once `ready` says so, which is asked after each call and every EXPIRE_INTERVAL_S."""

    def __init__(self, ready: Callable[[], bool]) -> None:
        super().__init__()
        self.ready = ready


@dataclass(frozen=True, slots=True)
class Session:
    """Whom a call acts for. Bound at Hello to the authenticated peer."""

    number: int
    principal: str
    secret: bytes
    uid: int
    gid: int
    groups: tuple[int, ...]
    leased: bool
    """True: lives LEASE_MS beyond its last renewal; False: as long as its control socket."""
    egress: tuple[str, ...] = ()
    """What it asked to reach beyond the guests' loopback; kept by the network server only."""


@dataclass(slots=True)
class WithDescriptor:
    """A response with a host descriptor beside it, which is given away with it. Operations with the option
    carries_descriptor only."""

    response: Message
    descriptor: int

    def discard(self) -> None:
        """Closes the descriptor: nobody will get it."""
        os.close(self.descriptor)


Answer: TypeAlias = Message | WithDescriptor


def _nothing() -> None:
    """For whoever need not hear that a call was dropped."""


class Deferred:
    """A call whose answer comes later: a handler of an operation with the option deferred makes it, keeps it and
    returns it. Everything in the server's thread.

    The call is over once it is completed, or dropped: its session ended, the server stops, its client abandoned
    it or sent it again, or the session has more than DEFERRED_MAX of them.
    """

    def __init__(self, dropped: Callable[[], None] = _nothing) -> None:
        """`dropped` is called once if the call is over without an answer; not within a transaction."""
        self.over = False
        self._dropped = dropped
        self._was_dropped = False
        self._early: Answer | ErrnoError | None = None
        self._settle: Callable[[Answer | ErrnoError | Reply], None] | None = None

    def complete(self, answer: Answer | ErrnoError) -> None:
        """Answers the call; of a dropped one, nobody hears. To be called once.

        While the dispatcher executes another call (or ends a session) the answer leaves after that: what it
        tells of is committed by then.
        """
        assert self._was_dropped or not self.over, "a deferred call is completed twice"
        self.over = True
        if self._was_dropped:
            if isinstance(answer, WithDescriptor):
                answer.discard()
        elif self._settle is None:
            self._early = answer  # the handler has not returned yet
        else:
            self._settle(answer)

    def attach(self, settle: Callable[[Answer | ErrnoError | Reply], None]) -> None:
        """The dispatcher's: where the answer goes."""
        self._settle = settle
        if self._early is not None:
            settle(self._early)

    def drop(self, refused: Reply) -> None:
        """The dispatcher's: the call is over, and that is its reply."""
        assert self._settle is not None and not self.over
        self.over = self._was_dropped = True
        self._settle(refused)
        self._dropped()


Handler: TypeAlias = Callable[[Session, Any], Message | WithDescriptor | Deferred]
"""Of an unpacked operation: (session, request) -> response. Raises ErrnoError."""
PackedHandler: TypeAlias = Callable[[Session, int, int, int, Buffer, memoryview | None], tuple[int, Buffer]]
"""Of a packed one: (session, first, second, third, data, into) -> (result, reply data). If `into` is given
the reply's data may be written there, and the slice of it returned."""


class Ledger(Protocol):
    """Sessions and slots. All calls but `transaction` need an open transaction to change anything."""

    boot_epoch: int

    def transaction(self) -> AbstractContextManager[None]:
        """One immediate transaction. Commits on exit; on an exception rolls back and passes it on.

        A failed commit ends the process (the slot row decides at restart).
        """
        ...

    def savepoint(self) -> AbstractContextManager[None]:
        """Inside a transaction: on an exception, only what came since is rolled back, and it is passed on."""
        ...

    def open_session(self, session: Session) -> None: ...

    def next_session(self) -> int:
        """A number never used before, also not before a restart."""
        ...

    def session(self, number: int) -> Session | None: ...

    def sessions(self) -> list[Session]: ...

    def end_session(self, number: int) -> None:
        """Fences the session: it is unknown from now on, its slots are gone."""
        ...

    def slot(self, session: int, slot: int) -> tuple[SlotState, bytes]:
        """The slot's state and its encoded reply; a fresh slot is (SlotState(), b"")."""
        ...

    def record(self, session: int, slot: int, seq: int, digest: bytes, reply: bytes) -> None:
        """Remembers the slot's last call and its encoded reply."""
        ...


class Service(Protocol):
    """One server's operations, by opcode."""

    kind: ServerKind
    ledger: Ledger
    handlers: Mapping[int, Handler]
    packed_handlers: Mapping[int, PackedHandler]

    def session_ended(self, session: Session) -> None:
        """Frees what the session held; runs inside the transaction that ends it."""
        ...

    def close(self) -> None: ...


@runtime_checkable
class Running(Protocol):
    """A service that has something to do beside its calls."""

    async def run(self) -> NoReturn:
        """Does it, until cancelled."""
        ...
