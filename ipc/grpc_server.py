"""The gRPC carrier, server's side: grpc.aio in the side loop, the endpoint in trio's turns.

Each unary call and each batch crosses once into trio, where the endpoint is called, and its replies once
back. What a client cancels or a broken connection loses is only the way back: the effect goes on.
"""

import asyncio
import os
from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final

import grpc
import grpc.aio
import trio
from google.protobuf.message import DecodeError
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from farcall.v1 import session_pb2
from farcall.v1.session_pb2 import (
    REFUSAL_MALFORMED,
    REFUSAL_OVERLOADED,
    REFUSAL_UNSUPPORTED,
    CarryResponse,
    HelloRequest,
)
from ipc import batch
from ipc.address import Address
from ipc.batch import FrameWriter
from ipc.credentials import CLIENT, Credentials, principal_of, role_trouble
from ipc.endpoint import UNIX_GRPC, Endpoint, Peer
from ipc.limits import BATCH_CALLS_MAX, STREAM_DEFERRED_MAX, UNARY_DEFERRED_MAX
from ipc.message import Call, MalformedError, Reply, abandonment, reply_to_unary, unary_to_call
from ipc.operations import BY_NAME, OPERATIONS, Operation
from ipc.side_loop import Job, SideLoop

DRAIN_S: Final = 1.0
"""How long calls in flight may still answer once the server stops."""
UNARY_CALLS_MAX: Final = BATCH_CALLS_MAX
"""Rpcs at a time; gRPC answers more with RESOURCE_EXHAUSTED."""
FRAMES_AHEAD: Final = 2
"""Frames of one stream read before the calls of the first are all submitted."""
PUMP_CALLS: Final = 64
"""Calls submitted in one turn of trio's loop, so that its other tasks have theirs."""

OPTIONS: Final = (
    ("grpc.max_receive_message_length", batch.FRAME_BYTES_MAX),
    ("grpc.max_send_message_length", batch.FRAME_BYTES_MAX),
    ("grpc.enable_retries", 0),
    ("grpc.so_reuseport", 0),  # otherwise two servers share a port and neither is told
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),  # the link's keepalive is slower
    ("grpc.keepalive_time_ms", 30_000),  # finds clients whose host vanished
    ("grpc.keepalive_timeout_ms", 10_000),
)

EOF: Final[Any] = grpc.aio.EOF
"""What a stream's read gives at its end."""
AsyncHealth: Final[Any] = vars(health)["aio"].HealthServicer  # not in the types' stubs
HELLO: Final = BY_NAME["Hello"].opcode
INSECURE: Final = Peer("insecure", "grpc")
NAMES: Final = "x509_subject_alternative_name"
"""Where gRPC keeps the DNS names of a client's certificate, its authority being checked."""
CARRIER: Final = session_pb2.DESCRIPTOR.services_by_name["CarrierService"].full_name
Respond = Callable[[Reply], None]


class ListenError(Exception):
    """The address cannot be listened on; one line, for a person."""


async def serve_grpc(
    address: Address,
    endpoint: Endpoint,
    *,
    credentials: Credentials | None = None,
    task_status: trio.TaskStatus[Address] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serves until cancelled; then takes no new calls, waits DRAIN_S for those in flight.

    With credentials HOST:PORT is TLS, and clients need a certificate of the same authority with that role.

    Starts with the address in use, the port chosen if it was 0. ListenError. What the endpoint raises
    other than MalformedError is a bug of the server: it ends the carrier and comes out here.
    """
    side = SideLoop.hold()
    try:
        server = _Server(address, endpoint, side, None if address.is_unix else credentials)
        try:
            task_status.started(await side.run(server.start))
            await server.failed.wait()
        finally:
            with trio.CancelScope(shield=True):
                await side.run(server.stop)
        if server.failure is not None:
            raise server.failure
    finally:
        side.release()


class _Server:
    """Both halves; each method says who runs it: the side loop or trio."""

    def __init__(
        self, address: Address, endpoint: Endpoint, side: SideLoop, credentials: Credentials | None
    ) -> None:
        self.address = address
        self.endpoint = endpoint
        self._credentials = credentials
        self.failed = trio.Event()
        self.failure: BaseException | None = None
        self.to_loop = side.crossing
        self.to_trio = side.to_trio
        self._streams: set[_Stream] = set()
        self._server: Any = None
        self._waiting = 0
        """Unary deferred calls, in the side loop's count."""

    # The side loop's half.

    async def start(self) -> Address:
        self._server = grpc.aio.server(options=OPTIONS, maximum_concurrent_rpcs=UNARY_CALLS_MAX)
        self._health = AsyncHealth()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        names = self._register()
        reflection.enable_server_reflection((*names, health.SERVICE_NAME, reflection.SERVICE_NAME), self._server)
        bound = self._bind()
        await self._server.start()
        for name in ("", *names):
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)
        return bound

    def _bind(self) -> Address:
        try:
            port = self._add_port(self.address.target)
            if self.address.is_unix:
                os.chmod(self.address.path, 0o600)  # its directory is 0700; this holds wherever it is
                return self.address
        except (RuntimeError, OSError) as error:
            raise ListenError(f"cannot listen on {self.address}: {_reason(error)}") from None
        return Address(host=self.address.host, port=port)

    def _add_port(self, target: str) -> Any:
        ours = self._credentials
        if ours is None:
            return self._server.add_insecure_port(target)
        pairs = [(ours.key, ours.certificate)]
        credentials = grpc.ssl_server_credentials(pairs, ours.authority, require_client_auth=True)
        return self._server.add_secure_port(target, credentials)

    def _register(self) -> tuple[str, ...]:
        services: dict[str, dict[str, Any]] = {}
        for operation in OPERATIONS.values():
            handler = self._hello if operation.opcode == HELLO else partial(self._unary, operation)
            methods = services.setdefault(operation.service, {})
            methods[operation.name] = grpc.unary_unary_rpc_method_handler(handler)
        services[CARRIER] = {"Carry": grpc.stream_stream_rpc_method_handler(self._carry)}
        self._server.add_generic_rpc_handlers(
            [grpc.method_handlers_generic_handler(name, methods) for name, methods in services.items()]
        )
        return tuple(services)

    async def stop(self) -> None:
        if self._server is None:
            return
        await self._health.enter_graceful_shutdown()
        for stream in tuple(self._streams):
            stream.stop_reading()
        await self._server.stop(0 if self.failure else DRAIN_S)

    async def _peer(self, context: Any) -> Peer:
        """Who calls; nobody whose certificate is not a client's gets further."""
        if self._credentials is None:
            return UNIX_GRPC if self.address.is_unix else INSECURE
        names = [name.decode(errors="replace") for name in context.auth_context().get(NAMES, ())]
        principal = principal_of(names)
        if not principal:
            trouble = role_trouble(names, CLIENT)
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, f"it refuses our certificate: {trouble}")
        return Peer(principal, "grpc")

    async def _hello(self, body: bytes, context: Any) -> bytes:
        try:
            request = HelloRequest.FromString(body)
        except DecodeError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        peer = await self._peer(context)
        answer = await self._in_trio(lambda _: self.endpoint.hello(request, peer), context, at_once=True)
        return bytes(answer.SerializeToString())

    async def _unary(self, operation: Operation, body: bytes, context: Any) -> bytes:
        try:
            call = unary_to_call(operation.request.FromString(body))
            batch.check_call(call)
        except (DecodeError, MalformedError) as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"{operation.name}: {error}")
        if not _carried(operation.opcode):
            refused = Reply(refusal=REFUSAL_UNSUPPORTED)
            return bytes(reply_to_unary(operation.opcode, refused).SerializeToString())
        peer = await self._peer(context)
        ask = partial(self.endpoint.submit, call, peer)
        reply = await (
            self._deferred(ask, call, peer, context) if operation.deferred else self._in_trio(ask, context)
        )
        return bytes(reply_to_unary(operation.opcode, reply).SerializeToString())

    async def _deferred(self, ask: Callable[[Any], Any], call: Call, peer: Peer, context: Any) -> Any:
        """A call that may wait for long: bounded apart from others, and abandoned with its rpc."""
        if self._waiting >= UNARY_DEFERRED_MAX:
            return Reply(refusal=REFUSAL_OVERLOADED)
        self._waiting += 1
        try:
            return await self._in_trio(ask, context)
        except asyncio.CancelledError:
            abandon = abandonment(call)
            submit = partial(self.endpoint.submit, abandon, peer, lambda reply: None)
            self.to_trio.put(partial(self.guard, submit))
            raise
        finally:
            self._waiting -= 1

    async def _in_trio(self, ask: Callable[[Any], Any], context: Any, at_once: bool = False) -> Any:
        """Calls ask(respond) in trio's turn and waits for what is responded, or returned if `at_once`."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        def settle(value: Any, error: Exception | None) -> None:
            if future.done():
                return  # the client went away; the effect stands
            if error is None:
                future.set_result(value)
            else:
                future.set_exception(error)

        def respond(value: Any, error: Exception | None = None) -> None:
            if isinstance(value, Reply):
                value.data = bytes(value.data)  # the endpoint's memory is its own again after this
            self.to_loop.put(partial(settle, value, error))

        def cross() -> None:
            try:
                returned = ask(respond)
            except MalformedError as error:
                respond(None, error)
            else:
                if at_once:
                    respond(returned)

        self.to_trio.put(partial(self.guard, cross))
        try:
            return await future
        except MalformedError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))

    async def _carry(self, _: object, context: Any) -> None:
        stream = _Stream(self, await self._peer(context), context.write)
        self._streams.add(stream)
        try:
            await context.send_initial_metadata(())  # tells the client that the stream stands
            malformed = await stream.carry(context.read)
            if malformed:
                await context.abort(grpc.StatusCode.INVALID_ARGUMENT, malformed)
        finally:
            self._streams.discard(stream)
            self.to_trio.put(stream.detach)

    # Trio's half.

    def guard(self, job: Job) -> None:
        """Runs a job that calls the endpoint; the first exception ends the carrier, in its own task."""
        if self.failure is not None:
            return
        try:
            job()
        except BaseException as error:
            self.failure = error
            self.failed.set()


class _Stream:
    """One Carry stream: frames in, submitted call by call within the bounds, completions out in frames."""

    def __init__(self, server: _Server, peer: Peer, write: Callable[[bytes], Awaitable[None]]) -> None:
        self._server = server
        self._peer = peer
        self._writer = FrameWriter(CarryResponse, batch.add_completion, batch.reply_size, write)
        self._reader: asyncio.Task[None] | None = None
        self._credits = asyncio.Semaphore(FRAMES_AHEAD)
        self._idle = asyncio.Event()
        # Trio's, from here on.
        self._pending: deque[session_pb2.Call | None] = deque()  # None: the end of a frame
        self._calls = 0
        self._bytes = 0
        self._waiting = 0
        """Deferred calls: not among the others, which would have to wait for them."""
        self._stalled = False
        self._finishing = False
        self._detached = False

    # The side loop's half.

    async def carry(self, read: Callable[[], Awaitable[Any]]) -> str:
        """Until the client ends the stream or the server stops; why the stream is malformed, or nothing."""
        self._reader = asyncio.create_task(self._read(read))
        writer = asyncio.create_task(self._writer.run(self._sent))
        try:
            await asyncio.wait((self._reader, writer), return_when=asyncio.FIRST_COMPLETED)
            if self._reader.done() and not self._reader.cancelled():
                error = self._reader.exception()
                if isinstance(error, MalformedError):
                    return str(error)
            if not writer.done():
                self._server.to_trio.put(self._finish)
                await self._idle.wait()
                self._writer.end()
            await writer
            return ""
        finally:
            self._reader.cancel()
            writer.cancel()
            await asyncio.gather(self._reader, writer, return_exceptions=True)

    def stop_reading(self) -> None:
        """What was read is still answered, then the stream ends."""
        if self._reader is not None:
            self._reader.cancel()

    async def _read(self, read: Callable[[], Awaitable[Any]]) -> None:
        while True:
            await self._credits.acquire()
            frame = await read()
            if frame is EOF:
                return
            calls = batch.parse_request(frame).calls
            self._server.to_trio.put(partial(self._feed, calls))

    def _sent(self) -> None:
        if self._stalled:
            self._server.to_trio.put(self._pump)

    # Trio's half.

    def _feed(self, calls: Any) -> None:
        self._pending.extend(calls)
        self._pending.append(None)
        self._pump()

    def _finish(self) -> None:
        self._finishing = True
        self._pump()

    def detach(self) -> None:
        """The way back is gone: calls not yet submitted are forgotten, others go on unheard."""
        self._detached = True
        self._pending.clear()

    def _pump(self) -> None:
        with self._server.to_loop.corked():
            self._server.guard(self._submit_some)

    def _submit_some(self) -> None:
        for _ in range(PUMP_CALLS):
            if not self._pending:
                break
            if self._is_stalled():
                return  # _sent brings us back
            entry = self._pending.popleft()
            if entry is None:
                self._server.to_loop.put(self._credits.release)
            else:
                self._submit(entry)
        if self._pending:
            self._server.to_trio.put(self._pump)
        elif self._finishing and not self._calls:
            self._server.to_loop.put(self._idle.set)

    def _is_stalled(self) -> bool:
        self._stalled = self._writer.unsent_bytes > batch.BACKLOG_BYTES_MAX
        return self._stalled

    def _submit(self, entry: session_pb2.Call) -> None:
        call = batch.entry_to_call(entry)
        operation = OPERATIONS.get(call.opcode)
        if operation is not None and operation.deferred:
            self._waiting += 1
            overloaded = self._waiting > STREAM_DEFERRED_MAX
            complete = partial(self._complete_deferred, entry.tag)
        else:
            size_bytes = batch.call_size(call)
            self._calls += 1
            self._bytes += size_bytes
            overloaded = self._calls > batch.STREAM_CALLS_MAX or self._bytes > batch.STREAM_BYTES_MAX
            complete = partial(self._complete, entry.tag, size_bytes)
        if not _carried(call.opcode) or call.opcode == HELLO:
            complete(Reply(refusal=REFUSAL_UNSUPPORTED))
        elif overloaded:
            complete(Reply(refusal=REFUSAL_OVERLOADED))
        else:
            # A malformed call is its session's end, not that of the other sessions on the stream.
            try:
                batch.check_call(call)
                self._server.endpoint.submit(call, self._peer, complete)
            except MalformedError:
                complete(Reply(refusal=REFUSAL_MALFORMED))

    def _complete(self, tag: int, size_bytes: int, reply: Reply) -> None:
        self._calls -= 1
        self._bytes -= size_bytes
        self._send(tag, reply)
        if self._finishing and not self._calls and not self._pending:
            self._server.to_loop.put(self._idle.set)

    def _complete_deferred(self, tag: int, reply: Reply) -> None:
        self._waiting -= 1
        self._send(tag, reply)

    def _send(self, tag: int, reply: Reply) -> None:
        assert reply.descriptor < 0, "a descriptor beside a reply that cannot carry one"
        if self._detached:
            return
        if type(reply.data) is not bytes:
            reply.data = bytes(reply.data)  # the endpoint's memory is its own again after this
        if self._writer.put(tag, reply):
            self._server.to_loop.put(self._writer.wake)


def _carried(opcode: int) -> bool:
    """Whether this carrier has the operation: not those with a descriptor in their reply."""
    operation = OPERATIONS.get(opcode)
    return operation is not None and not operation.carries_descriptor


def _reason(error: Exception) -> str:
    return str(error).splitlines()[0]
