"""The file server as a Service: its parts put together, and its operations by opcode."""

import errno
from collections.abc import Mapping
from pathlib import Path

from farcall.v1.file_pb2 import InheritRequest, InheritResponse
from farcall.v1.session_pb2 import SERVER_KIND_FILE, ServerKind
from ipc.operations import BY_NAME
from ipc.seams import Clock, Random
from servers.file.attributes import AttributeCalls
from servers.file.consults import Consults
from servers.file.directories import Directories
from servers.file.extents import Extents
from servers.file.files import Files
from servers.file.handles import Handles, OpenFile
from servers.file.inodes import Inodes
from servers.file.lending import Lending
from servers.file.lock_waits import LockWaits
from servers.file.locks import Locks
from servers.file.lower import Lower
from servers.file.mappings import Mappings
from servers.file.names import Names
from servers.file.store import Store
from servers.file.tree import Tree
from servers.file.walk import Walker
from servers.file.xattrs import Xattrs
from servers.inheritance import heir
from servers.service import ErrnoError, Handler, Ledger, PackedHandler, Session


class FileService:
    """All operations of file.proto over one store and one lower layer."""

    def __init__(self, store: Store, lower: Lower, inodes: Inodes, clock: Clock, random: Random) -> None:
        self._store = store
        self._lower = lower
        self._extents = Extents(store)
        self._handles = Handles(store, lower)
        self.tree = Tree(store, inodes, self._extents, lower=lower, handles=self._handles, clock=clock)
        with store.transaction():
            self.tree.drop_orphans()
        walker = Walker(self.tree)
        self._directories = Directories(self.tree)
        self._locks = Locks(store, self._handles)
        self._mappings = Mappings(self.tree)
        self._files = Files(self.tree, walker, self._closed)
        self._lending = Lending(self.tree, random, self._files.gone)
        self.kind: ServerKind = SERVER_KIND_FILE
        self.ledger: Ledger = store
        self._consults = Consults(self.tree, self._mappings, clock)
        handlers: dict[int, Handler] = {
            **self._files.handlers,
            **AttributeCalls(self.tree, walker, self._files).handlers,
            **self._directories.handlers,
            **self._locks.handlers,
            **self._mappings.handlers,
            **self._lending.handlers,
            BY_NAME["Inherit"].opcode: self.inherit,
            **LockWaits(self._locks).handlers,
            **Names(self.tree, walker).handlers,
            **Xattrs(self.tree, walker).handlers,
        }
        self.handlers: Mapping[int, Handler] = self._consults.over(handlers, self._files.packed_handlers)
        self.packed_handlers: Mapping[int, PackedHandler] = self._consults.guarded_packed(
            self._files.packed_handlers
        )

    def inherit(self, session: Session, request: InheritRequest) -> InheritResponse:
        """fork(2): the target gets every handle and mapping of the session. EPERM; EINVAL: it has some."""
        target = heir(self.ledger, session, request.target_session, request.target_secret).number
        if target in self._handles.tables or self._mappings.has_any(target):
            raise ErrnoError(errno.EINVAL, "an heir with handles")
        self._handles.inherit(session.number, target)
        self._mappings.inherit(session.number, target)
        return InheritResponse()

    def _closed(self, session: Session, file: OpenFile) -> None:
        """A handle is gone, and its description if that was the last."""
        self._locks.closed(session, file)
        if not file.handles:
            self._directories.ended(file)

    def session_ended(self, session: Session) -> None:
        """Closes the session's handles and mappings; runs inside the transaction that ends it."""
        self._files.close_all(session)
        self._mappings.session_ended(session)
        self._lending.session_ended(session)
        self._consults.session_ended(session)

    def close(self) -> None:
        """Gives back descriptors and the state; everything committed stays, what is in memfds included."""
        self._mappings.write_back_all()
        self.release()

    def release(self) -> None:
        """As close, leaving the memfds to whoever has them: all that remains of a server that is killed."""
        self._handles.close()
        self._extents.close()
        self._lower.close()
        self._store.close()


def open_file_service(state_dir: Path, root: Path, clock: Clock, random: Random) -> FileService:
    """The file server over the host directory `root` (never written) with its state in `state_dir`.

    Finishes recovery before it returns. StateInUseError, StateUnusableError; OSError: `root` or `state_dir`
    is no usable directory.
    """
    store = Store(state_dir, random)
    try:
        inodes = Inodes(store)
        lower = Lower(root, state_dir, inodes.guest_ino)
    except BaseException:
        store.close()
        raise
    return FileService(store, lower, inodes, clock, random)
