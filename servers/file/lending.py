"""Open file descriptions on their way from one session to another (unix(7), SCM_RIGHTS): tickets.

Whoever knows a ticket may have the description, if it is of the same peer. What is under way is a handle of
session 0, which nobody has: so the description, its locks and an inode without a name live on, also over a
restart. A lender may end before somebody takes what it sent; its tickets are kept then, the oldest going first if
there are too many, until the last session of that peer has ended.
"""

import errno
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from farcall.v1.file_pb2 import LendRequest, LendResponse, RedeemRequest, RedeemResponse
from ipc.operations import BY_NAME
from ipc.seams import Random
from servers.file.handles import OpenFile
from servers.file.tree import Tree
from servers.service import ErrnoError, Handler, Session

LENT_MAX: Final = 1024
"""Under way from one session."""
LEFT_MAX: Final = 4096
"""From sessions of one peer that have ended."""
TICKET_BYTES: Final = 16
NOBODY: Final = 0
"""The session that has what is under way."""


@dataclass(slots=True)
class _Lent:
    handle: int
    """Of session NOBODY; later ones have higher numbers."""
    ticket: bytes
    lender: int
    """Session; NOBODY: it has ended."""
    principal: str


class Lending:
    """The handlers, and what is under way. Changes are undone with their savepoint."""

    def __init__(self, tree: Tree, random: Random, gone: Callable[[Session, OpenFile], None]) -> None:
        """`gone` is told of each handle that goes."""
        self._store = tree.store
        self._handles = tree.handles
        self._tree = tree
        self._random = random
        self._gone = gone
        rows = self._store.execute("SELECT handle, ticket, lender, principal FROM lent ORDER BY handle")
        self._lent = {ticket: _Lent(handle, ticket, *rest) for handle, ticket, *rest in rows}
        """By ticket, oldest first."""
        self._next = max((each.handle for each in self._lent.values()), default=0) + 1
        self.handlers: Mapping[int, Handler] = {
            BY_NAME["Lend"].opcode: self.lend,
            BY_NAME["Redeem"].opcode: self.redeem,
        }

    def lend(self, session: Session, request: LendRequest) -> LendResponse:
        """EBADF, ETOOMANYREFS."""
        file = self._handles.get(session.number, request.handle)
        if sum(each.lender == session.number for each in self._lent.values()) >= LENT_MAX:
            raise ErrnoError(errno.ETOOMANYREFS)
        lent = _Lent(self._next, self._random.bytes(TICKET_BYTES), session.number, session.principal)
        self._next += 1
        self._store.execute(
            "INSERT INTO lent VALUES(?, ?, ?, ?)", (lent.handle, lent.ticket, lent.lender, lent.principal)
        )
        self._handles.attach(NOBODY, lent.handle, file)
        self._lent[lent.ticket] = lent
        self._store.on_rollback(lambda: self._forget(lent))
        return LendResponse(ticket=lent.ticket)

    def redeem(self, session: Session, request: RedeemRequest) -> RedeemResponse:
        """EINVAL, ENFILE."""
        lent = self._lent.get(request.ticket)
        if lent is None or lent.principal != session.principal:
            raise ErrnoError(errno.EINVAL, "no ticket of this peer")
        file = self._handles.get(NOBODY, lent.handle)
        if request.handle:
            self._handles.check(session.number, request.handle)
            self._handles.attach(session.number, request.handle, file)
        mode = self._tree.open_inode(file).mode
        if not request.keep:
            self._drop(session, lent)
        return RedeemResponse(mode=mode)

    def session_ended(self, session: Session) -> None:
        """What it has lent is kept for others of its peer."""
        own = [each for each in self._lent.values() if each.principal == session.principal]
        if not own:
            return
        others = any(
            each.principal == session.principal and each.number != session.number
            for each in self._store.sessions()
        )
        for each in own:
            if each.lender == session.number:
                self._leave(each)
        left = [each for each in own if each.lender == NOBODY]
        for each in own if not others else left[: max(0, len(left) - LEFT_MAX)]:
            self._drop(session, each)

    def _leave(self, lent: _Lent) -> None:
        lender, lent.lender = lent.lender, NOBODY
        self._store.execute("UPDATE lent SET lender = 0 WHERE handle = ?", (lent.handle,))
        self._store.on_rollback(lambda: self._set_lender(lent, lender))

    def _drop(self, session: Session, lent: _Lent) -> None:
        """It is under way no more. `session`: whose call or end that is."""
        self._store.execute("DELETE FROM lent WHERE handle = ?", (lent.handle,))
        self._forget(lent)
        self._store.on_rollback(lambda: self._keep(lent))
        file = self._handles.remove(NOBODY, lent.handle)
        if not file.handles:
            self._gone(session, file)

    def _forget(self, lent: _Lent) -> None:
        del self._lent[lent.ticket]

    def _keep(self, lent: _Lent) -> None:
        self._lent[lent.ticket] = lent

    @staticmethod
    def _set_lender(lent: _Lent, lender: int) -> None:
        lent.lender = lender
