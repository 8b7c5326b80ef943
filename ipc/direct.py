"""The carrier that is a function call: an Endpoint in the same thread. For tests and the simulator."""

from collections.abc import Callable
from functools import partial

from farcall.v1.session_pb2 import REFUSAL_MALFORMED
from ipc.endpoint import BrokenError, Endpoint, FullError, Peer
from ipc.limits import BODY_BYTES_MAX, DATA_BYTES_MAX, RING_ENTRIES
from ipc.message import Call, MalformedError, Reply
from ipc.operations import OPERATIONS


class DirectChannel:
    """Calls an Endpoint (ipc.endpoint.Channel)."""

    def __init__(
        self,
        endpoint: Endpoint,
        peer: Peer,
        session: int,
        *,
        turn: Callable[[float | None], bool] | None = None,
    ) -> None:
        """`turn` lets the rest of the world go on, at most until that moment of the monotonic clock, while a
        reply is awaited; False if nothing is left to do before it. The simulator passes its own."""
        self._endpoint = endpoint
        self._peer = peer
        self._session = session
        self._turn = turn
        self._next_tag = 0
        self._rooms: dict[int, int] = {}
        """By tag: in flight, or completed and not released."""
        self._replies: dict[int, Reply] = {}
        self._abandoned: set[int] = set()
        self._broken = ""

    def submit(self, call: Call, data_room: int = 0) -> int:
        """Executes the call, at least as far as the endpoint does now. ValueError; FullError; BrokenError."""
        if self._broken:
            raise BrokenError(self._broken)
        if len(call.data) > DATA_BYTES_MAX or len(call.body) > BODY_BYTES_MAX or data_room > DATA_BYTES_MAX:
            raise ValueError("the call breaks a limit of ipc.limits")
        if len(self._rooms) - len(self._replies) >= RING_ENTRIES:
            raise FullError(f"{RING_ENTRIES} calls in flight")
        tag = self._next_tag
        self._next_tag += 1
        self._rooms[tag] = data_room
        # A copy, as on every carrier: the caller may change its call and its data at once.
        sent = Call(call.opcode, call.body, bytes(call.data), self._session, call.slot, call.seq, call.digest)
        into = memoryview(bytearray(data_room)) if data_room else None
        try:
            self._endpoint.submit(sent, self._peer, partial(self._complete, tag, sent.opcode), into)
        except MalformedError as error:
            self.sever(str(error))
            self._endpoint.closed(self._session, self._peer)
            raise BrokenError(self._broken) from None
        return tag

    def wait(self, tag: int, deadline: float | None) -> Reply | None:
        """The reply of that try, or None once nothing happens any more before `deadline`. BrokenError.

        RuntimeError if it would wait for ever.
        """
        while True:
            reply = self._replies.get(tag)
            if reply is not None:
                return reply
            if self._broken:
                raise BrokenError(self._broken)
            if self._turn is None or not self._turn(deadline):
                if deadline is None:
                    raise RuntimeError("no reply, and nothing left that could bring it")
                return None

    def poll(self, tag: int) -> Reply | None:
        """As Channel."""
        reply = self._replies.get(tag)
        if reply is None and self._broken:
            raise BrokenError(self._broken)
        return reply

    def release(self, tag: int) -> None:
        """As Channel.release."""
        reply = self._replies.pop(tag, None)
        if reply is None:
            self._abandoned.add(tag)
        else:
            reply.discard()
            del self._rooms[tag]

    def close(self) -> None:
        """Hangs up: the endpoint is told that the client is gone, once."""
        if not self._broken:
            self.sever("the channel was closed")
            self._endpoint.closed(self._session, self._peer)

    def sever(self, why: str = "the server died") -> None:
        """As if the server had died: replies that have not come will not. The endpoint is not told."""
        self._broken = self._broken or why
        for reply in self._replies.values():
            reply.discard()

    def _complete(self, tag: int, opcode: int, reply: Reply) -> None:
        if reply.descriptor >= 0:
            assert OPERATIONS[opcode].carries_descriptor and not reply.errno and not reply.refusal
        if self._broken:
            reply.discard()
            return
        room = self._rooms[tag]
        if tag in self._replies:
            raise RuntimeError("the endpoint completed a call twice")
        body_room = 0 if OPERATIONS[opcode].packed else BODY_BYTES_MAX
        if tag in self._abandoned:
            self._abandoned.remove(tag)
            del self._rooms[tag]
            reply.discard()
        elif len(reply.data) > room or len(reply.body) > body_room:
            reply.discard()
            self._replies[tag] = Reply(refusal=REFUSAL_MALFORMED)
        else:
            self._replies[tag] = reply
