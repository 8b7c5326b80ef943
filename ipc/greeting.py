"""What a client makes of the answer to its Hello, on every carrier: a session, or one clear line."""

import os

from farcall.v1.session_pb2 import (
    REFUSAL_UNSPECIFIED,
    HelloRequest,
    HelloResponse,
    Outcome,
    Refusal,
)


class ConnectError(Exception):
    """There is no server to talk to at this address, or none that speaks our protocol; one line."""

    def __init__(self, message: str, refusal: Refusal = REFUSAL_UNSPECIFIED) -> None:
        super().__init__(message)
        self.refusal = refusal


def check_hello(server: object, request: HelloRequest, response: HelloResponse) -> None:
    """ConnectError unless the Hello opened (or resumed) a session of a version both speak."""
    spoken = request.protocol_min <= response.protocol <= request.protocol_max
    if not spoken and response.protocol_max:
        raise ConnectError(
            f"{server} speaks protocol {_range(response.protocol_min, response.protocol_max)}, "
            f"this program {_range(request.protocol_min, request.protocol_max)}",
            response.outcome.refusal,
        )
    if not spoken or response.outcome.refusal or response.outcome.errno or not response.session:
        raise ConnectError(f"{server} refused: {refusal_text(response.outcome)}", response.outcome.refusal)


def _range(low: int, high: int) -> str:
    return str(low) if low == high else f"{low} to {high}"


def refusal_text(outcome: Outcome) -> str:
    """Why a Hello opened no session, for a person."""
    if outcome.refusal:
        return Refusal.Name(outcome.refusal).removeprefix("REFUSAL_")
    return os.strerror(outcome.errno) if outcome.errno else "it opened no session"
