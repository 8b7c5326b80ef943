"""A file service in a test: a session's calls, executed as the dispatcher executes them."""

import errno as errno_module
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from farcall.v1 import file_pb2
from farcall.v1.file_pb2 import Attributes, Place
from ipc.operations import BY_NAME, BY_REQUEST, Operation
from servers.file.service import FileService, open_file_service
from servers.service import ErrnoError, Session

READ = file_pb2.OPEN_FLAG_READ
WRITE = file_pb2.OPEN_FLAG_WRITE
CREATE = file_pb2.OPEN_FLAG_CREATE
EXCLUSIVE = file_pb2.OPEN_FLAG_EXCLUSIVE
TRUNCATE = file_pb2.OPEN_FLAG_TRUNCATE
DIRECTORY = file_pb2.OPEN_FLAG_DIRECTORY
PATH = file_pb2.OPEN_FLAG_PATH
APPEND = file_pb2.OPEN_FLAG_APPEND
TMPFILE = file_pb2.OPEN_FLAG_TMPFILE
EXECUTE = file_pb2.OPEN_FLAG_EXECUTE


class FakeClock:
    """Every look is a millisecond later."""

    def __init__(self) -> None:
        self.now_ns = 1_700_000_000_000_000_000

    def realtime_ns(self) -> int:
        self.now_ns += 1_000_000
        return self.now_ns

    def monotonic_s(self) -> float:
        return self.now_ns / 1e9


class FakeRandom:
    """Not random at all; no two draws of one are alike."""

    draws: int = 0

    def bytes(self, count: int) -> bytes:
        self.draws += 1
        return bytes(count - 1) + bytes((self.draws % 256,))


class Client:
    """One session's calls to one service, which can be opened again on the same state."""

    def __init__(self, state: Path, root: Path, uid: int = 0, gid: int = 0, groups: tuple[int, ...] = ()) -> None:
        self.state, self.root = state, root
        self.clock = FakeClock()
        self.numbers = itertools.count(1 << 32)  # beyond those a test chooses itself
        self.service = self._open()
        with self.service.ledger.transaction():
            number = self.service.ledger.next_session()
            self.session = Session(number, "uid:0", b"s" * 16, uid, gid, groups, False)
            self.service.ledger.open_session(self.session)

    def _open(self) -> FileService:
        return open_file_service(self.state, self.root, self.clock, FakeRandom())

    def restart(self) -> None:
        """Another server on the same state, after an orderly stop."""
        self.service.close()
        self.start()

    def die(self) -> None:
        """As if the server were killed."""
        self.service.release()

    def start(self) -> None:
        """Another server on the same state."""
        self.service = self._open()

    def as_user(self, uid: int, gid: int | None = None, groups: tuple[int, ...] = ()) -> Session:
        """Another session of the same service; the group is the user's own if not given."""
        gid = uid if gid is None else gid
        with self.service.ledger.transaction():
            number = self.service.ledger.next_session()
            session = Session(number, f"uid:{uid}", b"s" * 16, uid, gid, groups, False)
            self.service.ledger.open_session(session)
        return session

    @contextmanager
    def acting(self, session: Session) -> Iterator[None]:
        """The calls inside are that session's."""
        before, self.session = self.session, session
        try:
            yield
        finally:
            self.session = before

    def call(self, request: Any) -> Any:
        """An unpacked operation. ErrnoError."""
        operation = BY_REQUEST[type(request)]
        handler = self.service.handlers[operation.opcode]
        return self._run(operation, lambda: handler(self.session, request))

    def packed(
        self, name: str, first: int, second: int = 0, third: int = 0, data: bytes = b""
    ) -> tuple[int, bytes]:
        """A packed operation. ErrnoError."""
        operation = BY_NAME[name]
        handler = self.service.packed_handlers[operation.opcode]
        result, reply = self._run(operation, lambda: handler(self.session, first, second, third, data, None))
        return result, bytes(reply)

    def _run(self, operation: Operation, handler: Any) -> Any:
        if not operation.recorded:
            return handler()
        with self.service.ledger.transaction():
            try:
                with self.service.ledger.savepoint():
                    return handler()
            except ErrnoError as error:
                failure = error  # the transaction, with its slot row, commits all the same
        raise failure

    # Calls in short

    def open(self, path: str | bytes, flags: int = READ, mode: int = 0o644, **place: Any) -> int:
        number = next(self.numbers)
        self.call(file_pb2.OpenRequest(place=at(path, **place), handle=number, flags=flags, mode=mode))
        return number

    def close(self, handle: int) -> None:
        self.packed("Close", handle)

    def read(self, handle: int, offset: int = 0, count: int = 1 << 20) -> bytes:
        return self.packed("PRead", handle, offset, count)[1]

    def write(self, handle: int, offset: int, data: bytes) -> int:
        return self.packed("PWrite", handle, offset, 0, data)[0]

    def append(self, handle: int, data: bytes) -> int:
        return self.packed("Append", handle, 0, 0, data)[0]

    def stat(self, path: str | bytes, **place: Any) -> Attributes:
        found: Attributes = self.call(file_pb2.GetAttributesRequest(place=at(path, **place))).attributes
        return found

    def put(self, path: str | bytes, data: bytes, mode: int = 0o644) -> None:
        handle = self.open(path, WRITE | CREATE | TRUNCATE, mode)
        self.write(handle, 0, data)
        self.close(handle)

    def get(self, path: str | bytes) -> bytes:
        handle = self.open(path)
        data = b""
        while piece := self.read(handle, len(data)):
            data += piece
        self.close(handle)
        return data

    def names(self, path: str | bytes) -> list[bytes]:
        handle = self.open(path, READ | DIRECTORY)
        names = [entry.name for entry in self.entries(handle)]
        self.close(handle)
        return names

    def entries(self, handle: int, step: int = 100) -> list[file_pb2.DirectoryEntry]:
        found: list[file_pb2.DirectoryEntry] = []
        cookie = 0
        while True:
            request = file_pb2.ReadDirectoryRequest(handle=handle, cookie=cookie, entries_max=step)
            some = self.call(request).entries
            if not some:
                return found
            found += some
            cookie = some[-1].next

    def mkdir(self, path: str | bytes, mode: int = 0o755) -> None:
        self.call(file_pb2.MakeDirectoryRequest(place=at(path), mode=mode))

    def symlink(self, target: bytes, path: str | bytes) -> None:
        self.call(file_pb2.MakeSymlinkRequest(place=at(path), target=target))

    def readlink(self, path: str | bytes) -> bytes:
        target: bytes = self.call(file_pb2.ReadLinkRequest(place=at(path, follow=False))).target
        return target

    def link(self, source: str | bytes, target: str | bytes) -> None:
        self.call(file_pb2.LinkRequest(source=at(source, follow=False), target=at(target)))

    def unlink(self, path: str | bytes) -> None:
        self.call(file_pb2.RemoveRequest(place=at(path)))

    def rmdir(self, path: str | bytes) -> None:
        self.call(file_pb2.RemoveRequest(place=at(path), directory=True))

    def rename(self, source: str | bytes, target: str | bytes, flags: int = 0) -> None:
        self.call(file_pb2.RenameRequest(source=at(source), target=at(target), flags=flags))

    def chmod(self, path: str | bytes, mode: int) -> None:
        self.call(file_pb2.SetAttributesRequest(place=at(path), mode=mode))

    def truncate(self, path: str | bytes, size: int) -> None:
        self.call(file_pb2.SetAttributesRequest(place=at(path), size=size))

    def path_of(self, handle: int) -> bytes:
        path: bytes = self.call(file_pb2.GetPathRequest(handle=handle)).path
        return path

    def fails(self, *numbers: int) -> Any:
        """The calls inside end with one of these errnos."""
        return _Fails(numbers)


class _Fails:
    def __init__(self, numbers: tuple[int, ...]) -> None:
        self._numbers = numbers
        self._raises = pytest.raises(ErrnoError)

    def __enter__(self) -> None:
        self._info = self._raises.__enter__()

    def __exit__(self, *details: Any) -> bool:
        caught = self._raises.__exit__(*details)
        names = [errno_module.errorcode[number] for number in self._numbers]
        assert errno_module.errorcode[self._info.value.errno] in names
        return bool(caught)


def at(path: str | bytes, follow: bool = True, directory: int = 0, empty_ok: bool = False) -> Place:
    """A path from the root, or from a directory handle."""
    name = path.encode() if isinstance(path, str) else path
    return Place(directory=directory, path=name, follow=follow, empty_ok=empty_ok)
