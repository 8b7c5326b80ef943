"""The worker's view of the file server: calls that answer or raise Errno, and data moved in pieces."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

from google.protobuf.message import Message

from client_vm.abi.common import EIO, ENOSYS, EOPNOTSUPP
from client_vm.errors import Errno
from client_vm.offered import errno_without
from farcall.v1.file_pb2 import CloseRequest, InheritRequest, Place
from farcall.v1.kernel_pb2 import RingGrant
from farcall.v1.session_pb2 import GoodbyeRequest
from ipc import idle
from ipc.client import Client, ServerTimeoutError, SessionLostError, UnsupportedError
from ipc.limits import DATA_BYTES_MAX
from ipc.message import Buffer, Reply
from ipc.operations import BY_NAME, Operation

FAREWELL_S: Final = 1.0
"""How long a process that ends waits for a server; its session ends with its socket at the latest."""
CLOSES_AT_ONCE: Final = 32
CLOSE_SLOT: Final = 1
"""The first of the slots that they take."""
_CLOSE: Final = BY_NAME["Close"]
_PREAD: Final = BY_NAME["PRead"]
_PWRITE: Final = BY_NAME["PWrite"]
_APPEND: Final = BY_NAME["Append"]


@contextmanager
def _as_errno() -> Iterator[None]:
    """What a carrier can raise, as Errno."""
    try:
        yield
    except UnsupportedError:
        raise Errno(ENOSYS) from None
    except (SessionLostError, ServerTimeoutError):
        raise Errno(EIO) from None


class FileServer:
    """One process's session with the file server.

    An operation's errno becomes Errno; a session lost or a server silent beyond its time is Errno(EIO).
    """

    def __init__(self, client: Client) -> None:
        self._opened: Client | None = client
        self._connect: Callable[[], Client] = lambda: client
        self._handles_used = 0
        self._closing: list[int] | None = None
        """Handles to be closed together."""
        self._without: set[type[Message]] = set()
        """Of these no descriptor ever comes."""

    @property
    def _client(self) -> Client:
        """SessionLostError."""
        if self._opened is None:
            self._opened = self._connect()
        return self._opened

    @property
    def opened(self) -> Client | None:
        """None: no call has been made yet in this session."""
        return self._opened

    @property
    def handles_used(self) -> int:
        """As Client's, whether there is one yet or not."""
        return self._handles_used if self._opened is None else self._opened.handles_used

    def move(self, connect: Callable[[], Client]) -> None:
        """In a forked child: its own session, which inherited all handles. `connect` gives its client, with the
        first call: many children end or wait without one."""
        self._handles_used = self.handles_used
        self._opened, self._connect = None, connect

    def inherit(self, grant: RingGrant) -> None:
        """Gives all handles to another session, too. Errno."""
        self.call(InheritRequest(target_session=grant.session, target_secret=grant.secret))

    def goodbye(self, holds: bool, stores: bool) -> None:
        """Ends the session: locks and handles are free at once, not only when the host process is gone. One that
        was never used, and `holds` nothing that others could notice, ends by itself. A server that is away is
        waited for if the process may have stored to mapped files: with the last one that has them their pages
        would be gone."""
        if self._opened is None and not holds:
            return
        if not stores:
            self._client.farewell(GoodbyeRequest(), FAREWELL_S)
            return
        with suppress(SessionLostError, ServerTimeoutError):
            self._client.call(GoodbyeRequest())

    def new_handle(self) -> int:
        return self._client.new_handle()

    def offers(self, *names: str) -> bool:
        """Whether the server has these operations, as far as we know."""
        return all(self._client.supports(BY_NAME[name]) for name in names)

    def call(self, request: Message, data: bytes = b"") -> Any:
        """Carries out an unpacked operation and returns its response message."""
        try:
            return self._translated(lambda: self._client.call(request, data))[1]
        except Errno as error:
            if error.errno == ENOSYS:
                raise Errno(errno_without(type(request))) from None
            raise

    def fetch(self, request: Message) -> tuple[int, Any]:
        """A descriptor beside a reply, the caller's, and the response. (-1, None): there is none to be had, or
        the carrier passes none, which is asked once for each kind of request. Errno."""
        kind = type(request)
        if kind in self._without:
            return -1, None
        try:
            reply, response = self._translated(lambda: self._client.call(request))
        except Errno as error:
            if error.errno == ENOSYS:
                self._without.add(kind)
            elif error.errno != EOPNOTSUPP:
                raise
            return -1, None
        return reply.take_descriptor(), response

    def begin(self, request: Message) -> "Begun":
        """Submits a PURE operation whose answer comes when there is something to tell."""
        return Begun(self, request)

    def _packed(
        self,
        operation: Operation,
        handle: int,
        offset: int = 0,
        count: int = 0,
        data: Buffer = b"",
        room: int = 0,
    ) -> Reply:
        def call() -> tuple[Reply, None]:
            return self._client.call_packed(operation, handle, offset, count, data, room), None

        return self._translated(call)[0]

    @staticmethod
    def _translated(make: Callable[[], tuple[Reply, Any]]) -> tuple[Reply, Any]:
        """Makes the call; failures become errnos here and in _as_errno, which is slower."""
        try:
            reply, response = make()
        except UnsupportedError:
            raise Errno(ENOSYS) from None
        except (SessionLostError, ServerTimeoutError):
            raise Errno(EIO) from None
        if reply.errno:
            raise Errno(reply.errno)
        return reply, response

    def close(self, handle: int) -> None:
        if self._closing is None:
            self._packed(_CLOSE, handle)
        else:
            self._closing.append(handle)

    @contextmanager
    def together(self) -> Iterator[None]:
        """What is closed meanwhile is closed at the end, in one round trip instead of one each. Not to be nested;
        of an errno nobody hears."""
        closing = self._closing = []
        try:
            yield
        finally:
            self._closing = None
            with suppress(Errno), _as_errno():
                for first in range(0, len(closing), CLOSES_AT_ONCE):
                    self._close_all(closing[first : first + CLOSES_AT_ONCE])

    def _close_all(self, handles: list[int]) -> None:
        """SessionLostError."""
        client = self._client
        under_way = [
            client.begin(CloseRequest(handle=handle), slot=slot)
            for slot, handle in enumerate(handles, CLOSE_SLOT)
        ]
        for call in under_way:
            with suppress(ServerTimeoutError):
                while call.result() is None:
                    idle.sleep([client], [], None)

    def pread(self, handle: int, offset: int, views: list[memoryview]) -> int:
        """Reads into the views from offset on; fewer bytes than room only at end of file."""
        total = 0
        for view in views:
            done = 0
            while done < len(view):
                count = min(len(view) - done, DATA_BYTES_MAX)
                try:
                    reply = self._packed(_PREAD, handle, offset + total, count, room=count)
                except Errno:
                    if total:
                        return total
                    raise
                got = len(reply.data)
                view[done : done + got] = reply.data
                done += got
                total += got
                if got < count:
                    return total
        return total

    def read_at(self, handle: int, offset: int, size_bytes: int) -> bytes:
        """Up to size_bytes bytes from offset."""
        room = bytearray(size_bytes)
        return bytes(room[: self.pread(handle, offset, [memoryview(room)])])

    def pwrite(self, handle: int, offset: int, data: memoryview) -> int:
        """Writes data at offset, in calls of at most DATA_BYTES_MAX; returns the bytes written."""
        return self._write(data, lambda done, part: self._packed(_PWRITE, handle, offset + done, 0, part))

    def append(self, handle: int, data: memoryview) -> tuple[int, int]:
        """Appends data; (bytes written, end of file after it)."""
        end = 0

        def put(_done: int, part: memoryview) -> None:
            nonlocal end
            end = self._packed(_APPEND, handle, data=part).result

        return self._write(data, put), end

    @staticmethod
    def _write(data: memoryview, put: Any) -> int:
        done = 0
        while True:
            part = data[done : done + DATA_BYTES_MAX]
            try:
                put(done, part)
            except Errno:
                if done:
                    return done
                raise
            done += len(part)
            if done >= len(data):
                return done


class Begun:
    """A PURE call under way that only tells when to look again."""

    def __init__(self, files: FileServer, request: Message) -> None:
        self._files = files
        with _as_errno():
            self._client = files._client
            self._pending = self._client.begin(request)

    def over(self) -> bool:
        """Whether the answer is here. Errno: it is one."""
        with _as_errno():
            answer = self._pending.result()
        if answer is not None and answer[0].errno:
            raise Errno(answer[0].errno)
        return answer is not None

    def abandon(self) -> None:
        """Nobody waits for it any more. In a forked child nothing: the call is its parent's."""
        if self._files.opened is self._client:
            self._client.abandon(self._pending)


def place(directory: int, path: bytes, follow: bool = True, empty_ok: bool = False) -> Place:
    """A Place of file.proto."""
    return Place(directory=directory, path=path, follow=follow, empty_ok=empty_ok)


__all__ = ["FileServer", "place"]
