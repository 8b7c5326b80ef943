"""What the caching link does with one file server, in virtual time: what it asks, what it refuses, what it takes
from nobody, and its bounds."""

import errno
import fcntl
import os
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from client_vm import answers, contents
from client_vm.caching_link import HEAD_BYTES, CachingLink
from farcall.v1 import file_pb2
from farcall.v1.file_pb2 import (
    OPEN_FLAG_DIRECTORY,
    OPEN_FLAG_READ,
    OPEN_FLAG_WRITE,
    Consulted,
    ConsultResponse,
    GetAttributesRequest,
)
from farcall.v1.session_pb2 import REFUSAL_MALFORMED, REFUSAL_UNSUPPORTED, Credentials
from ipc.endpoint import Peer
from ipc.message import Call, Reply, encode_request
from ipc.operations import BY_NAME, OPERATIONS
from tests.contract.kept_world import PEER, Actor, Server, SimLink, TrioClock

SMALL, LARGE = b"small", bytes(range(256)) * 20_000
Lie = Callable[[Call, Reply], Reply]


@dataclass
class Overheard:
    """A link before another one: counts what is asked, and may change what is answered."""

    link: SimLink
    asked: list[str] = field(default_factory=list)
    lie: Lie | None = None

    def submit(
        self, call: Call, peer: Peer, complete: Callable[[Reply], None], into: memoryview | None = None
    ) -> None:
        self.asked.append(OPERATIONS[call.opcode].name)
        told = self.lie
        if told is None:
            self.link.submit(call, peer, complete, into)
        else:
            self.link.submit(call, peer, lambda reply: complete(told(call, reply)), into)

    def closed(self, session: int, peer: Peer) -> None:
        del session, peer

    def take(self) -> list[str]:
        """What was asked since the last time, recalls aside."""
        asked, self.asked = [name for name in self.asked if name != "AwaitRecall"], []
        return asked


@dataclass
class Place:
    """A server, a kernel process, one guest."""

    server: Server
    link: Overheard
    caching: CachingLink
    actor: Actor

    async def stat(self, path: bytes) -> file_pb2.Attributes:
        request = GetAttributesRequest(place=file_pb2.Place(path=path, follow=True))
        found: file_pb2.Attributes = (await self.actor.ask(request)).attributes
        return found

    async def donated(self, handle: int) -> int:
        reply = await self.actor.call(encode_request(file_pb2.DonateRequest(handle=handle)))
        if reply.errno:
            raise OSError(reply.errno, "Donate")
        return reply.take_descriptor()


@asynccontextmanager
async def placed(folder: Path) -> AsyncIterator[Place]:
    (folder / "state").mkdir()
    (folder / "root" / "d").mkdir(parents=True)
    (folder / "root" / "d" / "small").write_bytes(SMALL)
    (folder / "root" / "d" / "large").write_bytes(LARGE)
    chances = random.Random(1)
    server, clock = Server(folder, chances), TrioClock()
    try:
        async with trio.open_nursery() as tasks:
            link = SimLink(server, tasks, chances)
            link.orderly = True
            overheard = Overheard(link)
            caching = CachingLink(overheard, clock)
            tasks.start_soon(server.expire)
            tasks.start_soon(link.renew)
            tasks.start_soon(caching.keep, link.hello, Credentials())
            actor = Actor(caching, link, clock)
            await actor.open_session()
            await trio.sleep(1.0)
            yield Place(server, overheard, caching, actor)
            tasks.cancel_scope.cancel()
    finally:
        server.close()


async def test_what_was_asked_is_not_asked_again(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with placed(tmp_path) as place:
        place.link.take()
        first = await place.stat(b"/d/small")
        assert place.link.take() == ["Consult"]
        assert await place.stat(b"/d/small") == first
        with pytest.raises(FileNotFoundError):
            await place.stat(b"/d/nothing")
        with pytest.raises(FileNotFoundError):
            await place.stat(b"/d/nothing")
        assert place.link.take() == ["Consult"]


async def test_a_small_file_comes_with_its_opening(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with placed(tmp_path) as place:
        place.link.take()
        handle = await place.actor.open(b"/d/small", OPEN_FLAG_READ)
        await place.actor.ask(GetAttributesRequest(place=file_pb2.Place(directory=handle, empty_ok=True)))
        assert await place.actor.pread(handle, 1, 100) == SMALL[1:]
        assert await place.actor.pread(handle, len(SMALL), 100) == b""
        assert place.link.take() == ["Open", "Consult"]


async def test_who_reads_on_finds_what_follows(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with placed(tmp_path) as place:
        handle = await place.actor.open(b"/d/large", OPEN_FLAG_READ)
        place.link.take()
        found = b""
        while part := await place.actor.pread(handle, len(found), 60_000):
            found += part
        assert found == LARGE
        chunks = -(-len(LARGE) // contents.CHUNK_BYTES)
        assert place.link.take().count("PRead") == chunks
        assert await place.actor.pread(handle, 777_777, 5) == LARGE[777_777 : 777_777 + 5]


async def test_bytes_here_and_there_are_asked_one_by_one(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with placed(tmp_path) as place:
        handle = await place.actor.open(b"/d/large", OPEN_FLAG_READ)
        place.link.take()
        for offset in (HEAD_BYTES + 100_000, HEAD_BYTES + 300_000, HEAD_BYTES + 200_000):
            assert await place.actor.pread(handle, offset, 10) == LARGE[offset : offset + 10]
        assert place.link.take() == ["PRead"] * 3


@pytest.mark.parametrize(("name", "content"), [("small", SMALL), ("large", LARGE)])
async def test_pages_are_donated_sealed(
    tmp_path: Path, autojump_clock: MockClock, name: str, content: bytes
) -> None:
    async with placed(tmp_path) as place:
        handle = await place.actor.open(b"/d/" + name.encode(), OPEN_FLAG_READ)
        descriptor, again = await place.donated(handle), await place.donated(handle)
        try:
            assert os.path.sameopenfile(descriptor, again)
            assert os.pread(descriptor, len(content) + 1, 0) == content
            with pytest.raises(PermissionError):
                os.pwrite(descriptor, b"x", 0)
            assert fcntl.fcntl(descriptor, fcntl.F_GET_SEALS) & fcntl.F_SEAL_WRITE
        finally:
            os.close(descriptor)
            os.close(again)


async def test_nothing_is_donated_of_what_is_written(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with placed(tmp_path) as place:
        handle = await place.actor.open(b"/d/small", OPEN_FLAG_READ | OPEN_FLAG_WRITE)
        await place.actor.pwrite(handle, 0, b"other")
        with pytest.raises(OSError, match="Donate") as refused:
            await place.donated(handle)
        assert refused.value.errno == errno.EOPNOTSUPP
        assert await place.actor.pread(handle, 0, 10) == b"other"
        await trio.sleep(2.0)
        descriptor = await place.donated(handle)
        assert os.pread(descriptor, 10, 0) == b"other"
        os.close(descriptor)


async def test_a_listing_is_read_once(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with placed(tmp_path) as place:
        for expected in (["Open", "Consult", "Consult"], ["Open", "Consult", "Consult"]):
            place.link.take()
            handle = await place.actor.open(b"/d", OPEN_FLAG_READ | OPEN_FLAG_DIRECTORY)
            request = file_pb2.ReadDirectoryRequest(handle=handle, entries_max=512)
            entries = (await place.actor.ask(request)).entries
            assert {entry.name for entry in entries} == {b".", b"..", b"small", b"large"}
            request.cookie = entries[-1].next
            for _ in range(2):
                assert not (await place.actor.ask(request)).entries
            assert place.link.take() == expected


async def test_workers_have_no_lease_of_their_own(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with placed(tmp_path) as place:
        place.link.take()
        for request in (file_pb2.ConsultRequest(), file_pb2.AwaitRecallRequest()):
            replies: list[Reply] = []
            place.caching.submit(encode_request(request), PEER, replies.append)
            assert replies[0].refusal == REFUSAL_UNSUPPORTED
        assert place.link.take() == []


def garbage(call: Call, reply: Reply) -> Reply:
    return Reply(body=b"\xff" * 9) if call.opcode == BY_NAME["Consult"].opcode else reply


def one_answer_too_many(call: Call, reply: Reply) -> Reply:
    if call.opcode != BY_NAME["Consult"].opcode:
        return reply
    response = ConsultResponse.FromString(reply.body)
    response.answers.add()
    return Reply(body=response.SerializeToString())


def no_errno(call: Call, reply: Reply) -> Reply:
    if call.opcode != BY_NAME["Consult"].opcode:
        return reply
    return Reply(body=ConsultResponse(answers=[Consulted(errno=5000)]).SerializeToString())


@pytest.mark.parametrize("lie", [garbage, one_answer_too_many, no_errno])
async def test_a_server_that_lies_ends_the_session(tmp_path: Path, autojump_clock: MockClock, lie: Lie) -> None:
    async with placed(tmp_path) as place:
        place.link.lie = lie
        replies: list[Reply] = []
        request = GetAttributesRequest(place=file_pb2.Place(path=b"/d/small"))
        call = encode_request(request)
        call.session = place.actor.session
        place.caching.submit(call, PEER, replies.append)
        await trio.sleep(5.0)
        assert [reply.refusal for reply in replies] == [REFUSAL_MALFORMED]


async def test_a_chunk_of_another_length_is_not_kept(tmp_path: Path, autojump_clock: MockClock) -> None:
    def shorter(call: Call, reply: Reply) -> Reply:
        if call.opcode == BY_NAME["PRead"].opcode and len(reply.data) == contents.CHUNK_BYTES:
            return Reply(result=7, data=b"shorter")
        return reply

    async with placed(tmp_path) as place:
        handle = await place.actor.open(b"/d/large", OPEN_FLAG_READ)
        place.link.lie = shorter
        assert await place.actor.pread(handle, 0, 60_000) == LARGE[:60_000]
        assert await place.actor.pread(handle, 60_000, 60_000) == LARGE[60_000:120_000]


async def test_a_server_that_stops_offering_it_is_asked_as_before(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    def unsupported(call: Call, reply: Reply) -> Reply:
        return Reply(refusal=REFUSAL_UNSUPPORTED) if call.opcode == BY_NAME["Consult"].opcode else reply

    async with placed(tmp_path) as place:
        place.link.lie = unsupported
        place.link.take()
        for _ in range(2):
            assert (await place.stat(b"/d/small")).size == len(SMALL)
        assert place.link.take() == ["Consult", "GetAttributes", "GetAttributes"]


def test_answers_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "ANSWERS_BYTES_MAX", 10_000)
    kept = answers.Answers(lambda _ino: None)
    assert kept.heard(1, 0, 5000, 0.0)
    for number in range(1000):
        kept.keep(number, 0, b"x" * 100, [number, 7], 0.0)
    assert len(kept) < 30
    assert kept.get(999, 1.0) is not None and kept.get(0, 1.0) is None
    kept.recalled(1, 1, [7])
    assert len(kept) == 0


def test_contents_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contents, "CHUNKS_BYTES_MAX", 4 * contents.CHUNK_BYTES)
    monkeypatch.setattr(contents, "MEMFDS_BYTES_MAX", 3 * contents.CHUNK_BYTES)
    monkeypatch.setattr(contents, "CONTENTS_MAX", 5)
    all_of_them = contents.Contents()
    for ino in range(1, 20):
        attributes = file_pb2.Attributes(ino=ino, size=2 * contents.CHUNK_BYTES, generation=1)
        content = all_of_them.of(attributes)
        for index in range(2):
            all_of_them.add(content, index, b"x" * contents.CHUNK_BYTES)
        if ino % 2:
            assert all_of_them.seal(content)
        assert all_of_them.kept_bytes <= 7 * contents.CHUNK_BYTES
    all_of_them.drop(None)
    assert all_of_them.kept_bytes == 0
