"""A world for answers that are kept: one file server that dies and comes back, kernel processes whose links
delay, break and are cut, everything in virtual time and by one seed. What an actor reads is checked against what
had been written by then.

There are four registers in the guests' tree, each set to ever larger numbers and read in its own way, so that a
stale answer is a smaller number than one whose writing had returned before the reading began.
"""

import errno
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import trio

from client_vm.caching_link import CachingLink
from farcall.v1 import file_pb2
from farcall.v1.session_pb2 import SERVER_KIND_FILE, Credentials, HelloRequest, HelloResponse
from ipc.endpoint import Peer
from ipc.identity import digest
from ipc.message import PACKED, Call, Reply, encode_request, pack_call
from ipc.operations import BY_NAME, OPERATIONS
from servers.dispatch import Dispatcher
from servers.file.service import FileService, open_file_service
from servers.sessions import EXPIRE_INTERVAL_S

PEER: Final = Peer("insecure", "grpc")
LATENCY_S: Final = 0.02
RENEW_S: Final = 5.0
PATIENCE_S: Final = 30.0
"""Of an actor whose link is whole, for one call: a holder's lease and a restart's grace, and some."""


class TrioClock:
    """Trio's clock, which is a virtual one."""

    def monotonic_s(self) -> float:
        return trio.current_time()

    def realtime_ns(self) -> int:
        return int(trio.current_time() * 1e9)


class Seeded:
    """Randomness of one seed."""

    def __init__(self, chances: random.Random) -> None:
        self._chances = chances

    def bytes(self, count: int) -> bytes:
        return self._chances.randbytes(count)


class Server:
    """The file server; `kill` and a new one takes over its state."""

    def __init__(self, directory: Path, chances: random.Random) -> None:
        self._directory, self._chances = directory, chances
        self.links: list[SimLink] = []
        self.restarts = 0
        self._start()

    def _start(self) -> None:
        state, root = self._directory / "state", self._directory / "root"
        self.service: FileService = open_file_service(state, root, TrioClock(), Seeded(self._chances))
        self.endpoint = Dispatcher(self.service, TrioClock(), Seeded(self._chances))

    def restart(self) -> None:
        """As by SIGKILL: what it had in memory is gone, and all streams with it."""
        self.restarts += 1
        self.service.release()
        self._start()
        for link in self.links:
            link.broken()

    async def expire(self) -> None:
        while True:
            await trio.sleep(EXPIRE_INTERVAL_S)
            self.endpoint.expire()

    def close(self) -> None:
        self.service.release()


@dataclass(eq=False)
class _Owed:
    call: Call
    complete: Callable[[Reply], None]


class SimLink:
    """As GrpcLink: calls are kept until they are answered, and a new stream resumes. What is on its way
    overtakes, as nothing in the protocol says that it must not."""

    def __init__(self, server: Server, tasks: trio.Nursery, chances: random.Random) -> None:
        self._server, self._tasks, self._chances = server, tasks, chances
        self._owed: dict[int, _Owed] = {}
        self._tags = 0
        self._stream = 0
        """Number of the stream; what an older one delivers goes nowhere."""
        self._sessions: dict[int, HelloRequest] = {}
        self.orderly = False
        """Nothing overtakes, as on a stream that is whole."""
        self.cuts = 0
        self.cut = False
        """Nothing passes; what was on its way is lost, and nobody notices until it is mended."""
        server.links.append(self)

    def submit(
        self, call: Call, peer: Peer, complete: Callable[[Reply], None], into: memoryview | None = None
    ) -> None:
        del peer, into
        self._tags += 1
        self._owed[self._tags] = _Owed(call, complete)
        self._send(self._tags)

    def closed(self, session: int, peer: Peer) -> None:
        raise AssertionError("no session ends here")

    async def hello(self, request: HelloRequest, _timeout_s: float | None = None) -> HelloResponse:
        while self.cut:
            await trio.sleep(LATENCY_S)
        await trio.sleep(LATENCY_S)
        response = self._server.endpoint.hello(request, PEER)
        assert not response.outcome.refusal
        resume = HelloRequest()
        resume.CopyFrom(request)
        resume.resume_session, resume.resume_secret = response.session, response.secret
        self._sessions[response.session] = resume
        return response

    def broken(self) -> None:
        """The stream is lost, and made anew at once if the link is whole."""
        self._stream += 1
        if self.cut:
            return
        for resume in self._sessions.values():
            self._server.endpoint.hello(resume, PEER)
        for tag in list(self._owed):
            self._send(tag)

    def mend(self) -> None:
        self.cut = False
        self.broken()

    async def renew(self) -> None:
        while True:
            await trio.sleep(RENEW_S)
            if not self.cut:
                self._server.endpoint.sessions.renew(list(self._sessions), PEER)

    def _delay(self) -> float:
        if self.orderly:
            self._tags += 1
            return LATENCY_S + self._tags * 1e-6
        return LATENCY_S * self._chances.random() * (40 if self._chances.random() < 0.05 else 1)

    def _send(self, tag: int) -> None:
        if not self.cut:
            self._tasks.start_soon(self._arrive, self._stream, tag, self._delay())

    async def _arrive(self, stream: int, tag: int, delay_s: float) -> None:
        await trio.sleep(delay_s)
        if stream != self._stream or self.cut:
            return
        owed = self._owed.get(tag)
        if owed is not None:
            self._server.endpoint.submit(owed.call, PEER, lambda reply: self._answer(stream, tag, reply))

    def _answer(self, stream: int, tag: int, reply: Reply) -> None:
        if stream == self._stream and not self.cut:
            self._tasks.start_soon(self._deliver, stream, tag, reply, self._delay())

    async def _deliver(self, stream: int, tag: int, reply: Reply, delay_s: float) -> None:
        await trio.sleep(delay_s)
        if stream != self._stream or self.cut:
            return
        owed = self._owed.pop(tag, None)
        if owed is not None:
            owed.complete(reply)


@dataclass
class Register:
    """What is known of one register."""

    begun: int = 0
    """The largest number that somebody has begun to write."""
    done: int = 0
    """The largest whose writing has returned."""


@dataclass
class Report:
    """What came of a run."""

    stale: list[str] = field(default_factory=list)
    slow: list[str] = field(default_factory=list)
    reads: int = 0
    writes: int = 0


class Actor:
    """A guest process: one session, one call at a time, through its kernel process's caching link."""

    def __init__(self, caching: CachingLink, link: SimLink, clock: TrioClock) -> None:
        self._caching, self.link, self._clock = caching, link, clock
        self.session = 0
        self._seq = 0
        self._handles = 0

    async def open_session(self) -> None:
        request = HelloRequest(protocol_min=1, protocol_max=1, kind=SERVER_KIND_FILE, credentials=Credentials())
        response = await self.link.hello(request)
        self._caching.opened(request, response)
        self.session = response.session

    async def call(self, call: Call) -> Reply:
        call.session = self.session
        if OPERATIONS[call.opcode].recorded:
            self._seq += 1
            call.seq, call.digest = self._seq, digest(call.opcode, call.body, call.data)
        while True:
            replies: list[Reply] = []
            here = trio.Event()

            def complete(reply: Reply, replies: list[Reply] = replies, here: trio.Event = here) -> None:
                replies.append(reply)
                here.set()

            self._caching.submit(call, PEER, complete)
            await here.wait()
            if not replies[0].refusal:
                return replies[0]
            await trio.sleep(0.05)  # OVERLOADED, NOT_READY

    async def ask(self, request: Any, data: bytes = b"") -> Any:
        """The response; OSError."""
        call = encode_request(request, data)
        reply = await self.call(call)
        if reply.errno:
            raise OSError(reply.errno, OPERATIONS[call.opcode].name)
        return OPERATIONS[call.opcode].response.FromString(reply.body)

    async def open(self, path: bytes, flags: int) -> int:
        self._handles += 1
        place = file_pb2.Place(path=path, follow=True)
        await self.ask(file_pb2.OpenRequest(place=place, handle=self._handles, flags=flags, mode=0o644))
        return self._handles

    async def close(self, handle: int) -> None:
        await self.call(pack_call(BY_NAME["Close"], handle))

    async def pread(self, handle: int, offset: int, count: int) -> bytes:
        reply = await self.call(pack_call(BY_NAME["PRead"], handle, offset, count))
        assert not reply.errno, errno.errorcode[reply.errno]
        return bytes(reply.data)

    async def pwrite(self, handle: int, offset: int, data: bytes) -> None:
        call = Call(BY_NAME["PWrite"].opcode, PACKED.pack(handle, offset, 0), data)
        reply = await self.call(call)
        assert not reply.errno, errno.errorcode[reply.errno]
