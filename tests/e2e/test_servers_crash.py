"""The file server killed at every step of every mutating operation: the effect happens once, the guest's
side goes on under the same identities. The steps are read from the sources."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.message import Message

from farcall.v1 import file_pb2
from farcall.v1.file_pb2 import (
    OPEN_FLAG_APPEND,
    OPEN_FLAG_CREATE,
    OPEN_FLAG_EXCLUSIVE,
    OPEN_FLAG_READ,
    OPEN_FLAG_WRITE,
)
from farcall.v1.session_pb2 import SERVER_KIND_FILE
from ipc.client import Client
from ipc.operations import BY_NAME
from ipc.ring_client import RingUnavailableError
from servers.steps import CRASH_AT, step_names
from tests.e2e.processes import END_S, REPOSITORY, RingSession, Server, serving

STEPS = sorted(step_names(REPOSITORY / "servers"))
DISPATCH = {"receive", "arrive", "handle", "record", "commit", "reply"}
"""Steps that every mutating operation takes."""
SMALL, LARGE = b"small;", b"large;" * 40_000
"""Appended inside the store's transaction, and beside it."""
LOG = b"/log"


def place(path: bytes, **more: Any) -> file_pb2.Place:
    return file_pb2.Place(path=path, **more)


@dataclass
class Crashes:
    """A file server on one state that is killed at `step`, in one operation after another."""

    step: str
    directory: Path
    held: ExitStack
    met: set[str] = field(default_factory=set)
    """Operations during which the step was met, by the caller's names."""

    def __post_init__(self) -> None:
        (self.directory / "root").mkdir()
        self.session = RingSession(f"{self.directory}/f.ring", SERVER_KIND_FILE, revive=self._revive)
        self.held.callback(self.session.close)
        self.doing = self.armed = self.following = ""
        self.replaced = False
        self.start("")
        self.client: Client = self.session.open()
        self.held.callback(self._close)

    def _close(self) -> None:
        self.client.close()

    def start(self, operation: str) -> None:
        """A server to be killed at the step in that operation; never if ""."""
        self.armed = operation
        crash_at = {CRASH_AT: f"{self.step}:1:{operation}"} if operation else {}
        listen = ("--listen", f"unix:{self.directory}/f", "--ring-only")
        where = ("--state", self.directory / "state", "--root", self.directory / "root")
        self.server: Server = self.held.enter_context(serving("file", *listen, *where, **crash_at))

    def _revive(self) -> None:
        """The server was lost: `arm` put another in its place, or it killed itself."""
        if self.replaced:
            self.replaced = False
            return
        status = self.server.process.wait(END_S)
        assert self.armed and status == -9, self.server.errors()
        self.met.add(self.doing)
        self.start(self.following)

    def arm(self, operation: str) -> None:
        """Has the server be one that will be killed in that operation."""
        self.following = operation
        attributes(self.client, LOG)  # notices a kill that came after the last reply
        if self.armed != operation:
            self.server.stop(9)
            self.start(operation)
            self.replaced = True

    def call(self, operation: str, name: str, following: str, message: Message, data: bytes) -> None:
        """Performs it with the server killed underway; it must succeed as if nothing had happened."""
        self.arm(operation)
        # Not the same operation again: its own retry would be killed too, for ever.
        self.doing, self.following = name, following if following != operation else ""
        assert self.client.call(message, data)[0].errno == 0, f"{self.step}: {name}"


def attributes(client: Client, path: bytes) -> file_pb2.Attributes | int:
    """What GetAttributes says, or its errno."""
    reply, response = client.call(file_pb2.GetAttributesRequest(place=place(path)))
    return reply.errno or response.attributes


def content(client: Client, path: bytes) -> bytes:
    """The whole file."""
    handle = client.new_handle()
    reply, _ = client.call(file_pb2.OpenRequest(place=place(path), handle=handle, flags=OPEN_FLAG_READ))
    assert reply.errno == 0
    read = b""
    while part := client.call_packed(BY_NAME["PRead"], handle, len(read), 65536, room=65536).data:
        read += part
    assert client.call_packed(BY_NAME["Close"], handle).errno == 0
    return read


@pytest.fixture(params=STEPS)
def crashes(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Crashes]:
    with ExitStack() as held:
        yield Crashes(request.param, tmp_path, held)


def perform_all(crashes: Crashes) -> None:
    """Each mutating kind of call once, the server killed in each."""
    client = crashes.client
    log, excl = client.new_handle(), client.new_handle()
    flags = OPEN_FLAG_WRITE | OPEN_FLAG_APPEND | OPEN_FLAG_CREATE
    for path in (LOG, b"/old", b"/gone"):
        handle = log if path == LOG else client.new_handle()
        opened, _ = client.call(file_pb2.OpenRequest(place=place(path), handle=handle, flags=flags, mode=0o644))
        assert opened.errno == 0
    once = file_pb2.OpenRequest(
        place=place(b"/once"),
        handle=excl,
        flags=OPEN_FLAG_WRITE | OPEN_FLAG_CREATE | OPEN_FLAG_EXCLUSIVE,
        mode=0o600,
    )
    requests: list[tuple[str, str, Message, bytes]] = [
        ("Append", "small append", file_pb2.AppendRequest(handle=log), SMALL),
        ("Append", "large append", file_pb2.AppendRequest(handle=log), LARGE),
        ("Open", "exclusive create", once, b""),
        ("PWrite", "write", file_pb2.PWriteRequest(handle=excl, offset=3), SMALL),
        ("MakeDirectory", "mkdir", file_pb2.MakeDirectoryRequest(place=place(b"/dir"), mode=0o755), b""),
        ("Rename", "rename", file_pb2.RenameRequest(source=place(b"/old"), target=place(b"/new")), b""),
        ("Remove", "unlink", file_pb2.RemoveRequest(place=place(b"/gone")), b""),
        ("Link", "link", file_pb2.LinkRequest(source=place(b"/new"), target=place(b"/link")), b""),
        ("MakeSymlink", "symlink", file_pb2.MakeSymlinkRequest(place=place(b"/sym"), target=b"new"), b""),
        ("SetAttributes", "chmod", file_pb2.SetAttributesRequest(place=place(b"/new"), mode=0o400), b""),
        ("Sync", "fsync", file_pb2.SyncRequest(handle=log), b""),
        ("Close", "close", file_pb2.CloseRequest(handle=excl), b""),
    ]
    following = [operation for operation, _, _, _ in requests[1:]] + [""]
    for (operation, name, message, data), after in zip(requests, following, strict=True):
        crashes.call(operation, name, after, message, data)
    crashes.arm("")


def check_all(client: Client) -> None:
    """Every effect of perform_all, once."""
    assert content(client, LOG) == SMALL + LARGE
    assert content(client, b"/once") == bytes(3) + SMALL
    assert attributes(client, b"/gone") == attributes(client, b"/old") == 2
    new, directory = attributes(client, b"/new"), attributes(client, b"/dir")
    assert not isinstance(new, int) and (new.mode & 0o7777, new.nlink) == (0o400, 2)
    assert not isinstance(directory, int) and directory.nlink == 2
    _, link = client.call(file_pb2.ReadLinkRequest(place=place(b"/sym")))
    assert link.target == b"new"


def cross_sessions(crashes: Crashes) -> None:
    """The end of a session and the opening of another, the server killed in each."""
    crashes.arm("Goodbye")
    crashes.doing, crashes.following = "Goodbye", "Hello"
    attributes(crashes.client, LOG)
    crashes.client.close()
    if crashes.step.startswith("end"):
        assert crashes.server.process.wait(END_S) == -9
        crashes.met.add("Goodbye")
    crashes.server.stop(9)
    crashes.session.hello.Clear()
    crashes.doing = "Hello"
    crashes.start("Hello")
    try:
        crashes.client = crashes.session.open()
    except RingUnavailableError:
        assert crashes.server.process.wait(END_S) == -9
        crashes.met.add("Hello")
        crashes.start("")
        crashes.client = crashes.session.open()


def test_killed_at_each_step(crashes: Crashes) -> None:
    perform_all(crashes)
    check_all(crashes.client)
    cross_sessions(crashes)
    check_all(crashes.client)
    expected = {
        "small append", "large append", "exclusive create", "write", "mkdir", "rename", "unlink", "link",
        "symlink", "chmod", "close",
    }  # fmt: skip
    if crashes.step in DISPATCH:
        assert crashes.met >= expected
    assert crashes.met, f"no operation meets step {crashes.step}"
