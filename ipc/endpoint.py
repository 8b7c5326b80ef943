"""What stands behind a carrier: the two sides' interfaces. Carriers know these and no service.

A server gives its carriers an Endpoint. A client is given a Channel and makes identities itself
(ipc.client). The gateway is both: an Endpoint that hands on to a remote Channel.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

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

        Reply.data is valid until `release`. BrokenError.
        """
        ...

    def release(self, tag: int) -> None:
        """The reply's data has been taken; its room is free again. Also abandons a try without a reply."""
        ...

    def close(self) -> None:
        """Gives back everything held on this host."""
        ...
