"""Descriptors beside gRPC: on one host, what a gRPC reply cannot carry passes through the server's PATH.ring.

One connection is one call of a session that was opened by gRPC at the same unix address: a CarryRequest without a
doorbell, answered by a CarryResponse with the descriptor beside it. Only operations with the option
`carries_descriptor` go this way. They are PURE, so a call whose answer was lost is simply made again.
"""

import errno as errno_codes
import logging
import os
import socket
import stat
from collections.abc import Callable
from contextlib import closing
from typing import TYPE_CHECKING, Final

import trio

from farcall.v1.session_pb2 import REFUSAL_MALFORMED, REFUSAL_UNSUPPORTED, CarryRequest, CarryResponse
from ipc import batch
from ipc.backoff import pauses_s
from ipc.endpoint import UNIX_GRPC, Endpoint, Peer
from ipc.limits import BODY_BYTES_MAX, HELLO_TIMEOUT_S, RING_ENTRIES
from ipc.message import Call, MalformedError, Reply
from ipc.operations import OPERATIONS
from ipc.passing import close_all, receive_descriptors, send_descriptors
from ipc.ring_client import RingUnavailableError

if TYPE_CHECKING:
    from ipc.address import Address
    from ipc.grpc_client import GrpcLink

log = logging.getLogger(__name__)

AT_ONCE_MAX: Final = RING_ENTRIES
"""Connections of one link at a time; more calls wait."""
_TAG: Final = 1
_ANSWER_BYTES_MAX: Final = BODY_BYTES_MAX + batch.ENTRY_OVERHEAD_BYTES


def answer(connection: socket.socket, endpoint: Endpoint, datagram: bytes) -> None:
    """The server's side: executes the one call that came over a new connection.

    Whoever connected must be known to be let in. Takes over the connection, unless it raises MalformedError.
    """
    calls = batch.parse_request(datagram).calls
    if len(calls) != 1:
        raise MalformedError("neither a HelloRequest with one doorbell beside it nor one call")
    call = batch.entry_to_call(calls[0])
    batch.check_call(call)

    def complete(reply: Reply) -> None:
        with closing(connection):
            _send(connection, reply)

    if _carries_descriptor(call):
        endpoint.submit(call, UNIX_GRPC, complete)
    else:
        complete(Reply(refusal=REFUSAL_UNSUPPORTED))


def _carries_descriptor(call: Call) -> bool:
    operation = OPERATIONS.get(call.opcode)
    return operation is not None and operation.carries_descriptor


def _send(connection: socket.socket, reply: Reply) -> None:
    """Gives the reply away; if it cannot be sent, the client asks again."""
    if len(reply.body) > BODY_BYTES_MAX or len(reply.data):
        reply.discard()
        reply = Reply(refusal=REFUSAL_MALFORMED)
    frame = CarryResponse()
    batch.add_completion(frame, _TAG, reply)
    descriptors = [reply.descriptor] if reply.descriptor >= 0 else []
    try:
        send_descriptors(connection, [frame.SerializeToString()], descriptors, socket.MSG_DONTWAIT)
    except OSError as error:
        log.info("an answer beside gRPC was not sent: %s", error)
    finally:
        reply.discard()


async def ask(path: str, call: Call, timeout_s: float = HELLO_TIMEOUT_S) -> Reply:
    """The client's side: one call, by the socket `path`.

    RingUnavailableError if nobody answers within `timeout_s` seconds; MalformedError if the answer is none.
    """
    frame = CarryRequest()
    batch.add_call(frame, _TAG, call)
    try:
        with (
            socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK) as connection,
            trio.fail_after(timeout_s),
        ):
            connection.connect(path)  # never waits longer than the listener's backlog takes: EAGAIN
            send_descriptors(connection, [frame.SerializeToString()], [])
            await trio.lowlevel.wait_readable(connection)
            datagram, descriptors, flags = receive_descriptors(
                connection, _ANSWER_BYTES_MAX, 1, socket.MSG_DONTWAIT
            )
    except trio.TooSlowError:
        raise RingUnavailableError(f"{path}: no answer within {timeout_s} s") from None
    except OSError as error:
        raise RingUnavailableError(f"{path}: {os.strerror(error.errno or 0)}") from None
    try:
        return _parsed(path, datagram, descriptors, flags)
    except (RingUnavailableError, MalformedError):
        close_all(descriptors)
        raise


def _parsed(path: str, datagram: bytes, descriptors: list[int], flags: int) -> Reply:
    if flags & socket.MSG_CTRUNC and not descriptors:
        return Reply(errno_codes.EMFILE)  # there was no room for it in this process (recvmsg(2))
    if not datagram:
        raise RingUnavailableError(f"{path}: the server hung up")
    completions = batch.parse(CarryResponse, datagram).completions
    if len(completions) != 1 or flags & socket.MSG_TRUNC:
        raise MalformedError(f"{path}: the answer is not that to one call")
    reply = batch.entry_to_reply(completions[0])
    if descriptors and (reply.errno or reply.refusal):
        raise MalformedError(f"{path}: a descriptor beside a reply that failed")
    reply.descriptor = descriptors[0] if descriptors else -1
    return reply


def has_way(address: "Address") -> bool:
    """Whether the server that serves gRPC at the address can pass descriptors: it makes that socket first."""
    if not address.is_unix:
        return False
    try:
        return stat.S_ISSOCK(os.stat(address.ring_path).st_mode)
    except OSError:
        return False


class PassingLink:
    """A link to a server on this host, as the endpoint of calls by gRPC and beside it. One thread, trio's."""

    def __init__(self, link: "GrpcLink", tasks: trio.Nursery) -> None:
        """Calls beside gRPC run among `tasks`. The link's address is a unix socket's."""
        self._link = link
        self._tasks = tasks
        self._gate = trio.Semaphore(AT_ONCE_MAX)
        self._under_way: dict[int, set[trio.CancelScope]] = {}
        """By session."""

    def submit(
        self, call: Call, peer: Peer, complete: Callable[[Reply], None], into: memoryview | None = None
    ) -> None:
        """As GrpcLink."""
        if not _carries_descriptor(call):
            self._link.submit(call, peer, complete, into)
            return
        batch.check_call(call)
        scope = trio.CancelScope()
        self._under_way.setdefault(call.session, set()).add(scope)
        self._tasks.start_soon(self._fetch, call, complete, scope)

    def closed(self, session: int, peer: Peer) -> None:
        """As GrpcLink; nobody waits for its calls any more."""
        for scope in self._under_way.get(session, ()):
            scope.cancel()
        self._link.closed(session, peer)

    async def _fetch(self, call: Call, complete: Callable[[Reply], None], scope: trio.CancelScope) -> None:
        """Asks until there is an answer, as the link does."""
        pauses = pauses_s()
        try:
            with scope:
                while (reply := await self._try(call)) is None:
                    await trio.sleep(next(pauses))
                complete(reply)
        finally:
            scopes = self._under_way[call.session]
            scopes.remove(scope)
            if not scopes:
                del self._under_way[call.session]

    async def _try(self, call: Call) -> Reply | None:
        async with self._gate:
            try:
                return await ask(self._link.address.ring_path, call)
            except (RingUnavailableError, MalformedError) as error:
                log.info("a call beside gRPC: %s", error)
                return None
