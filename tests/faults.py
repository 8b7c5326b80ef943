"""Faults between a carrier and its endpoint: a reply lost, a request doubled. For tests of exactly once."""

from collections.abc import Callable
from dataclasses import dataclass, field

from farcall.v1.session_pb2 import HelloRequest, HelloResponse
from ipc.endpoint import Endpoint, Peer
from ipc.message import Call, Reply


def copy_reply(reply: Reply) -> Reply:
    """The reply with data of its own, for comparing when the carrier's memory is in use again."""
    return Reply(reply.errno, reply.result, bytes(reply.body), bytes(reply.data), reply.refusal)


@dataclass
class FaultyEndpoint:
    """An Endpoint in front of another. Each fault is armed for one operation (opcode) and happens once.

    `duplicate`: the request reaches the server twice; the second copy's reply goes to `replies` only.
    `drop_reply`: the server executes the call, its reply goes to `replies` only, and `dropped` is called:
    there a test breaks the connection, as whoever lost the reply would have seen.
    """

    inner: Endpoint
    duplicate: set[int] = field(default_factory=set)
    drop_reply: set[int] = field(default_factory=set)
    dropped: Callable[[Call], None] = lambda call: None
    replies: list[Reply] = field(default_factory=list)
    """Every reply the server gave, in order, sent or not."""
    submitted: int = 0

    def hello(self, request: HelloRequest, peer: Peer) -> HelloResponse:
        return self.inner.hello(request, peer)

    def closed(self, session: int, peer: Peer) -> None:
        self.inner.closed(session, peer)

    def submit(
        self, call: Call, peer: Peer, complete: Callable[[Reply], None], into: memoryview | None = None
    ) -> None:
        lost = call.opcode in self.drop_reply
        twice = call.opcode in self.duplicate
        self.drop_reply.discard(call.opcode)
        self.duplicate.discard(call.opcode)
        copy = Call(
            call.opcode,
            bytes(call.body),
            bytes(call.data),
            call.session,
            call.slot,
            call.seq,
            bytes(call.digest),
        )

        def answer(reply: Reply) -> None:
            self.replies.append(copy_reply(reply))
            if lost:
                self.dropped(copy)
            else:
                complete(reply)

        self.submitted += 1
        self.inner.submit(call, peer, answer, into)
        if twice:
            self.submitted += 1
            self.inner.submit(copy, peer, lambda reply: self.replies.append(copy_reply(reply)))
