"""The gRPC carrier, client's side: the gateway's link, and a synchronous channel of unary calls for tools.

The link keeps every call until its reply has come: whatever happens to connection or server, it reconnects,
resumes its sessions and sends the unanswered calls again under the identity they have (EXACTLY-ONCE).
"""

import asyncio
import itertools
import math
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

import grpc
import grpc.aio
import trio
from google.protobuf.message import DecodeError

from farcall.v1.session_pb2 import (
    REFUSAL_MALFORMED,
    REFUSAL_NOT_READY,
    REFUSAL_OVERLOADED,
    REFUSAL_STALE_SESSION,
    REFUSAL_UNSUPPORTED,
    CarryRequest,
    CarryResponse,
    GoodbyeRequest,
    HelloRequest,
    HelloResponse,
    RenewRequest,
    RenewResponse,
)
from ipc import batch
from ipc.address import Address
from ipc.backoff import pauses_s
from ipc.batch import FrameWriter
from ipc.credentials import Security
from ipc.endpoint import BrokenError, FullError, Peer
from ipc.greeting import ConnectError, check_hello, refusal_text
from ipc.grpc_channel import REFUSAL_OF_STATUS, open_channel, reason
from ipc.limits import DATA_BYTES_MAX, HELLO_TIMEOUT_S, RENEW_INTERVAL_S, RING_ENTRIES
from ipc.message import Call, MalformedError, Reply, call_to_unary, encode_request, unary_to_reply
from ipc.operations import BY_NAME, OPERATIONS, Operation
from ipc.outstanding import GOODBYE, Answer, Outstanding, Pending
from ipc.seams import Clock
from ipc.side_loop import AbandonedError, SideLoop, together
from ipc.tls_probe import explain

BACKOFF_FIRST_S: Final = 0.05
HANDSHAKE_S: Final = 5.0
"""How long one attempt may take: TCP, HTTP/2, the stream, and each Hello that resumes a session."""
RENEW_SESSIONS_MAX: Final = 4096
"""Sessions in one Renew: a uint64 takes at most 10 bytes, a body at most BODY_BYTES_MAX."""
RESUMES_AT_ONCE: Final = 64
FAREWELL_S: Final = 1.0

EOF: Final[Any] = grpc.aio.EOF
"""What a stream's read gives at its end."""

CARRY: Final = "/farcall.v1.CarrierService/Carry"
HELLO: Final = BY_NAME["Hello"].path
RENEW: Final = BY_NAME["Renew"].path


@dataclass(slots=True)
class _Try:
    """One rpc of a UnaryChannel; no operation, no rpc."""

    operation: Operation | None
    future: Any
    data_room: int


class GrpcLink:
    """Many workers' calls to one server over one Carry stream. Made by `connect`; used in trio's thread."""

    def __init__(self, address: Address, renew_interval_s: float, security: Security | None) -> None:
        self.address = address
        self._security = security
        self._side = SideLoop.hold()
        self._to_trio = self._side.to_trio
        self._connection = _Connection(address, security, self._deliver, self._crash, renew_interval_s)
        self._closed = False
        self._submitted: deque[Pending] = deque()
        self._submission_due = False

    @classmethod
    async def connect(
        cls,
        address: Address,
        clock: Clock,
        *,
        deadline: float,
        security: Security | None = None,
        renew_interval_s: float = RENEW_INTERVAL_S,
    ) -> "GrpcLink":
        """A link whose server answers. ConnectError at `deadline` (monotonic), at once if there is no hope."""
        link = cls(address, renew_interval_s, security)
        try:
            await link._connect(clock, deadline)
        except BaseException:
            await link.aclose()
            raise
        return link

    async def _connect(self, clock: Clock, deadline: float) -> None:
        def left_s() -> float:
            return max(0.0, deadline - clock.monotonic_s())

        self._side.crossing.put(self._connection.start)
        await self._side.run(partial(self._connection.wait_tried, left_s()))
        await self._check_hopeful()
        try:
            await self._side.run(partial(self._connection.wait_up, left_s()))
        except ConnectError:
            await self._check_hopeful()
            raise

    async def _check_hopeful(self) -> None:
        """ConnectError if there is no connection, and never will be one."""
        if not self._connection.trouble:
            return
        why = self._connection.refused
        if not (why or self.address.is_unix):
            why = await trio.to_thread.run_sync(explain, self.address, self._security, abandon_on_cancel=True)
        if why:
            raise ConnectError(f"{self.address}: {why}")

    @property
    def trouble(self) -> str:
        """Why there is no connection at the moment, for a person; empty while there is one."""
        return self._connection.trouble

    async def hello(self, request: HelloRequest, timeout_s: float | None = HELLO_TIMEOUT_S) -> HelloResponse:
        """Opens a session, which the link renews and resumes from now on. None: waits for a server for ever.

        ConnectError: no answer in time, no common protocol version, or refused (see its `refusal`).
        """
        return await self._side.run(partial(self._connection.hello, request, timeout_s))

    def submit(
        self, call: Call, peer: Peer, complete: Callable[[Reply], None], into: memoryview | None = None
    ) -> None:
        """As ipc.endpoint.Endpoint: `complete` comes once the server has answered, however long that takes.

        MalformedError if the call breaks a limit. After `aclose` nothing completes any more.
        """
        del peer  # the server knows the link's principal, not the worker's
        batch.check_call(call)
        if type(call.data) is not bytes:
            # The link may have to send it again when a worker's ring is long gone.
            call = replace(call, data=bytes(call.data))
        self._submitted.append(Pending(call, complete, into))
        if not self._submission_due:
            self._submission_due = True
            self._side.crossing.put(self._submit_all)

    def batched(self) -> AbstractContextManager[None]:
        """Around several `submit`: the link looks at them when the last is there, and sends them together."""
        return self._side.crossing.corked()

    def closed(self, session: int, peer: Peer) -> None:
        """As ipc.endpoint.Endpoint: says Goodbye for a session, no longer renews or resumes it."""
        goodbye = encode_request(GoodbyeRequest())
        goodbye.session = session
        self.submit(goodbye, peer, lambda reply: None)
        self._side.crossing.put(partial(self._connection.forget, session))

    async def aclose(self) -> None:
        """Ends the sessions and the connection; calls without a reply stay without one."""
        if self._closed:
            return
        self._closed = True
        try:
            with trio.CancelScope(shield=True):
                await self._side.run(self._connection.stop)
        finally:
            self._side.release()

    def _submit_all(self) -> None:
        """In the side loop: takes all calls that are there by now."""
        self._submission_due = False  # before taking: a call that comes now crosses again
        self._connection.submit(self._submitted)

    def _deliver(self, answers: list[Answer]) -> None:
        """From the side loop: hands replies over, one crossing for all of a frame."""
        self._to_trio.put(partial(self._complete, answers))

    def _crash(self, error: BaseException) -> None:
        """From the side loop: a bug must not look like a server that never answers."""

        def crash() -> None:
            raise error

        self._to_trio.put(crash)

    def _complete(self, answers: list[Answer]) -> None:
        if self._closed:
            return
        with self._side.crossing.corked():  # a completion is often followed by the next call
            for pending, reply in answers:
                into, count = pending.into, len(reply.data)
                if into is not None and 0 < count <= len(into):
                    into[:count] = reply.data
                    reply.data = into[:count]
                pending.complete(reply)


class _Connection:
    """The link's other half, all of it in the side loop."""

    def __init__(
        self,
        address: Address,
        security: Security | None,
        deliver: Callable[[list[Answer]], None],
        crash: Callable[[BaseException], None],
        renew_interval_s: float,
    ) -> None:
        self.trouble = "not connected yet"
        self.refused = ""
        """What the server has against us, if it let us in only to say so."""
        self._address = address
        self._security = security
        self._deliver = deliver
        self._crash = crash
        self._renew_interval_s = renew_interval_s
        self._outstanding = Outstanding()
        self._up = asyncio.Event()
        self._tried = asyncio.Event()
        self._channel: Any = None
        self._writer: FrameWriter | None = None
        self._task: asyncio.Task[None] | None = None

    # What the link asks for.

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._live())
        self._task.add_done_callback(self._ended)

    def submit(self, submitted: deque[Pending]) -> None:
        add, writer = self._outstanding.add, self._writer
        while submitted:
            pending = submitted.popleft()
            tag = add(pending)
            if writer is not None:
                writer.put(tag, pending.call)
        if writer is not None:
            writer.wake()

    def forget(self, session: int) -> None:
        self._outstanding.forget(session)

    async def wait_tried(self, timeout_s: float) -> None:
        """Waits for the first attempt's outcome."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._tried.wait(), timeout_s)

    async def wait_up(self, timeout_s: float) -> None:
        try:
            await asyncio.wait_for(self._up.wait(), timeout_s)
        except TimeoutError:
            raise ConnectError(f"no server at {self._address}: {self.trouble}") from None

    async def hello(self, request: HelloRequest, timeout_s: float | None) -> HelloResponse:
        try:
            async with asyncio.timeout(timeout_s):
                response = await self._say_hello(request)
        except TimeoutError:
            raise ConnectError(f"no answer from {self._address}: {self.trouble or 'it is not ready'}") from None
        check_hello(self._address, request, response)
        self._outstanding.opened(request, response)
        return response

    async def stop(self) -> None:
        sessions = self._outstanding.farewells() if self._up.is_set() else ()
        if sessions:
            farewells = [asyncio.ensure_future(self._farewell(number)) for number in sessions]
            _, late = await asyncio.wait(farewells, timeout=FAREWELL_S)
            for task in late:
                task.cancel()
            await asyncio.gather(*farewells, return_exceptions=True)
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    # Its own life.

    async def _live(self) -> None:
        """Connects for ever: as a hard NFS mount, it never gives a call up."""
        pauses = pauses_s(BACKOFF_FIRST_S)
        while True:
            channel = open_channel(grpc.aio, self._address, self._security)
            try:
                stream = await self._handshake(channel)
                pauses = pauses_s(BACKOFF_FIRST_S)
                await self._carry(channel, stream)
            except grpc.aio.AioRpcError as error:
                self.trouble = reason(error)
                self.refused = self.trouble if error.code() == grpc.StatusCode.PERMISSION_DENIED else ""
            except (BrokenError, MalformedError, AbandonedError, asyncio.InvalidStateError) as error:
                self.trouble = str(error)  # InvalidStateError: written to after its end
            except TimeoutError:
                self.trouble = "it does not answer"
            finally:
                self._up.clear()
                self._tried.set()
                self._channel = self._writer = None
                await channel.close()
            await asyncio.sleep(next(pauses))

    def _ended(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._crash(error)

    async def _handshake(self, channel: Any) -> Any:
        stream = channel.stream_stream(CARRY)()
        async with asyncio.timeout(HANDSHAKE_S):
            await stream.wait_for_connection()
        gate = asyncio.Semaphore(RESUMES_AT_ONCE)
        await together([self._resume(channel, gate, request) for request in self._outstanding.resumes()])
        return stream

    async def _resume(self, channel: Any, gate: asyncio.Semaphore, request: HelloRequest) -> None:
        session = request.resume_session
        async with gate:
            if not self._outstanding.is_open(session):
                return
            answer = await channel.unary_unary(HELLO)(request.SerializeToString(), timeout=HANDSHAKE_S)
        outcome = batch.parse(HelloResponse, answer).outcome
        if outcome.refusal == REFUSAL_STALE_SESSION:
            self._deliver(self._outstanding.stale(session))
        elif outcome.refusal or outcome.errno:
            raise BrokenError(f"session {session} cannot go on: {refusal_text(outcome)}")

    async def _carry(self, channel: Any, stream: Any) -> None:
        writer = FrameWriter(CarryRequest, batch.add_call, batch.call_size, stream.write)
        for tag, call in self._outstanding.unanswered():
            writer.put(tag, call)
        self._channel, self._writer, self.trouble = channel, writer, ""
        self._up.set()
        self._tried.set()
        await together([writer.run(), self._read(stream), self._renew(channel)])

    async def _read(self, stream: Any) -> None:
        while True:
            frame = await stream.read()
            if frame is EOF:
                status = await stream.code()
                details = await stream.details()
                raise BrokenError(details or f"the server ended the stream ({status.name})")
            self._deliver(self._outstanding.take(batch.parse(CarryResponse, frame).completions))

    async def _renew(self, channel: Any) -> None:
        """Renews every leased session. That it failed is no news: the stream tells if the server is gone."""
        renew = channel.unary_unary(RENEW)
        while True:
            await asyncio.sleep(self._renew_interval_s)
            leased = self._outstanding.leased()
            for first in range(0, len(leased), RENEW_SESSIONS_MAX):
                request = RenewRequest(sessions=leased[first : first + RENEW_SESSIONS_MAX])
                try:
                    answer = await renew(request.SerializeToString(), timeout=HANDSHAKE_S)
                except grpc.aio.AioRpcError:
                    continue
                for number in batch.parse(RenewResponse, answer).stale:
                    self._outstanding.forget(number)

    async def _say_hello(self, request: HelloRequest) -> HelloResponse:
        """Asks until somebody answers who is ready. A lost answer leaves a session that its lease ends."""
        pauses = pauses_s(BACKOFF_FIRST_S)
        while True:
            while self._channel is None:
                await self._up.wait()
            say = self._channel.unary_unary(HELLO)
            try:
                answer = await say(request.SerializeToString(), timeout=HANDSHAKE_S)
            except grpc.aio.AioRpcError as error:
                if error.code() in REFUSAL_OF_STATUS:
                    raise ConnectError(f"{self._address} refused: {reason(error)}") from None
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if task is None or task.cancelling():
                    raise  # we were; otherwise the rpc was, with its connection
            else:
                response = batch.parse(HelloResponse, answer)
                if response.outcome.refusal not in (REFUSAL_NOT_READY, REFUSAL_OVERLOADED):
                    return response
            await asyncio.sleep(next(pauses))

    async def _farewell(self, session: int) -> None:
        goodbye = GoodbyeRequest()
        goodbye.identity.session = session
        await self._channel.unary_unary(GOODBYE.path)(goodbye.SerializeToString(), timeout=FAREWELL_S)


class UnaryChannel:
    """ipc.endpoint.Channel by unary calls, one rpc each: for tools and tests. Used from one thread.

    `hello`, `wait` and `close` block. gRPC connects by itself, also again: a BrokenError is of one try only.
    """

    def __init__(self, address: Address, clock: Clock, security: Security | None = None) -> None:
        self._address = address
        self._clock = clock
        self._channel = open_channel(grpc, address, security)
        self._session = 0
        self._tags = itertools.count(1)
        self._tries: dict[int, _Try] = {}
        self._abandoned: set[Any] = set()

    def hello(self, request: HelloRequest, timeout_s: float = HELLO_TIMEOUT_S) -> HelloResponse:
        """Opens (or resumes) the session of all later calls; nobody renews it. ConnectError."""
        say = self._channel.unary_unary(HELLO)
        try:
            answer = say(request.SerializeToString(), timeout=timeout_s, wait_for_ready=True)
        except grpc.RpcError as error:
            raise ConnectError(f"no server at {self._address}: {reason(error)}") from None
        response = batch.parse(HelloResponse, answer)
        check_hello(self._address, request, response)
        self._session = response.session
        return response

    def submit(self, call: Call, data_room: int = 0) -> int:
        """As Channel. ValueError if the call breaks a limit, or its body is not its operation's."""
        operation = OPERATIONS.get(call.opcode)
        try:
            batch.check_call(call)
            if data_room > DATA_BYTES_MAX:
                raise MalformedError(f"room for {data_room} bytes; the limit is {DATA_BYTES_MAX}")
            request: Any = call_to_unary(call) if operation is not None else None
        except (MalformedError, DecodeError) as error:
            raise ValueError(str(error)) from None
        if len(self._tries) + len(self._abandoned) >= RING_ENTRIES and self._in_flight() >= RING_ENTRIES:
            raise FullError(f"{RING_ENTRIES} calls in flight")
        tag = next(self._tags)
        future = None
        if operation is not None:
            if "identity" in operation.request.DESCRIPTOR.fields_by_name:
                request.identity.session = self._session
            future = self._channel.unary_unary(operation.path).future(request.SerializeToString())
        self._tries[tag] = _Try(operation, future, data_room)
        return tag

    def wait(self, tag: int, deadline: float | None) -> Reply | None:
        """As Channel."""
        attempt = self._tries[tag]
        if attempt.operation is None:
            return Reply(refusal=REFUSAL_UNSUPPORTED)  # there is no method to ask for
        timeout_s = None if deadline is None else max(0.0, deadline - self._clock.monotonic_s())
        try:
            answer = attempt.future.result(timeout_s)
            reply = unary_to_reply(attempt.operation.response.FromString(answer))
        except grpc.FutureTimeoutError:
            return None
        except (grpc.FutureCancelledError, DecodeError) as error:
            raise BrokenError(f"{self._address}: {error or 'the channel was closed'}") from None
        except grpc.RpcError as error:
            refusal = REFUSAL_OF_STATUS.get(error.code())
            if refusal is None:
                raise BrokenError(f"{self._address}: {reason(error)}") from None
            return Reply(refusal=refusal)
        return reply if len(reply.data) <= attempt.data_room else Reply(refusal=REFUSAL_MALFORMED)

    def poll(self, tag: int) -> Reply | None:
        """As Channel."""
        return self.wait(tag, -math.inf)

    def release(self, tag: int) -> None:
        """As Channel. An abandoned try goes on, unheard: gRPC would cancel a future that nobody holds. A deferred
        one is cancelled, by which the server learns that nobody waits."""
        attempt = self._tries.pop(tag)
        future = attempt.future
        if future is not None and attempt.operation is not None and attempt.operation.deferred:
            future.cancel()
        elif future is not None and not future.done():
            self._abandoned.add(future)
            future.add_done_callback(self._abandoned.discard)

    def close(self) -> None:
        """As Channel; says Goodbye first if there is a session. Again: nothing."""
        session, self._session = self._session, 0
        if session:
            goodbye = GoodbyeRequest()
            goodbye.identity.session = session
            say = self._channel.unary_unary(GOODBYE.path)
            said = say.future(goodbye.SerializeToString(), timeout=FAREWELL_S)
            said.exception()  # unheard: the lease ends it
        self._tries.clear()
        self._channel.close()

    def _in_flight(self) -> int:
        futures = [attempt.future for attempt in self._tries.values() if attempt.future is not None]
        return len(self._abandoned) + sum(not future.done() for future in futures)
