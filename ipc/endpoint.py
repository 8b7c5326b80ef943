"""What stands behind a carrier: the two sides' interfaces. Carriers know these and no service.

A server gives its carriers an Endpoint. A client is given a Channel and makes identities itself
(ipc.client). The gateway is both: an Endpoint that hands on to a remote Channel.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from farcall.v1.session_pb2 import HelloRequest, HelloResponse
from ipc.message import Call, Reply


@dataclass(frozen=True, slots=True)
class Peer:
    """Who is at the other end, as the transport vouches for it.

    `principal` names it ("uid:0" from SO_PEERCRED; a certificate's role; "insecure" over plain TCP).
    """

    principal: str
    carrier: str
    """"ring", "grpc" or "direct"."""


UNIX_GRPC: Final = Peer("unix", "grpc")
"""Whoever comes by gRPC over a unix socket, whose mode lets in our own uid and root only."""


class Endpoint(Protocol):
    """The server's side of every carrier. Called in its event loop's thread only; never blocks."""

    def hello(self, request: HelloRequest, peer: Peer) -> HelloResponse:
        """Opens or resumes a session bound to the peer."""
        ...

    def submit(
        self, call: Call, peer: Peer, complete: Callable[[Reply], None], into: memoryview | None = None
    ) -> None:
        """Executes one call; `complete` is called exactly once, now or later, in the same thread.

        `into` is room for the reply's data: if the endpoint fills it, Reply.data is a slice of it.
        `complete` takes the reply over, its descriptor too: only operations that carry one may have one, and
        only beside a result. After `closed` of its session a call need not be completed any more; if it is,
        that goes nowhere.
        A MalformedError ends the carrier's connection (and its session).
        """
        ...

    def closed(self, session: int, peer: Peer) -> None:
        """The control socket that kept the session alive is gone: the lease ends."""
        ...


class BrokenError(Exception):
    """The carrier lost its server; calls without a reply have an unknown outcome. Reconnect, resubmit."""


class FullError(Exception):
    """No room for another call now. An ordinary value: wait for a completion, then try again."""


class Channel(Protocol):
    """The client's side: synchronous, one thread. Any number of calls in flight."""

    def submit(self, call: Call, data_room: int = 0) -> int:
        """Sends a call; returns the tag of this try. `data_room`: bytes of reply data to make room for.

        FullError; BrokenError.
        """
        ...

    def wait(self, tag: int, deadline: float | None) -> Reply | None:
        """The reply of that try, or None once the monotonic clock passes `deadline` (the try goes on).

        Reply.data is valid until `release`, and so is a descriptor that nobody takes. BrokenError.
        """
        ...

    def poll(self, tag: int) -> Reply | None:
        """As `wait`, but never waits: the reply of that try if it is there. BrokenError."""
        ...

    def release(self, tag: int) -> None:
        """The reply has been used: the room of its data is free again, a descriptor that was not taken is closed.

        Also abandons a try without a reply.
        """
        ...

    def close(self) -> None:
        """Gives back everything held on this host."""
        ...
