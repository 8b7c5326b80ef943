"""What gRPC's clients have in common: a channel, by TLS or not, words for its failures, and a server's health."""

from typing import Any, Final

import grpc
from grpc_health.v1 import health_pb2

from farcall.v1.session_pb2 import REFUSAL_MALFORMED, REFUSAL_UNSUPPORTED
from ipc import batch
from ipc.address import Address
from ipc.credentials import Security, role_name
from ipc.greeting import ConnectError
from ipc.limits import HELLO_TIMEOUT_S
from ipc.tls_probe import explain

OPTIONS: Final = (
    ("grpc.max_receive_message_length", batch.FRAME_BYTES_MAX),
    ("grpc.max_send_message_length", batch.FRAME_BYTES_MAX),
    ("grpc.enable_retries", 0),  # gRPC must never repeat a call by itself
    ("grpc.enable_http_proxy", 0),  # an address is where the server is
    ("grpc.use_local_subchannel_pool", 1),  # a new channel is a new attempt, without another's backoff
    ("grpc.keepalive_time_ms", 10_000),  # finds servers whose host vanished
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),  # no limit: an idle stream is watched too
)
REFUSAL_OF_STATUS: Final = {
    grpc.StatusCode.INVALID_ARGUMENT: REFUSAL_MALFORMED,
    grpc.StatusCode.UNIMPLEMENTED: REFUSAL_UNSUPPORTED,
}
"""What a status other than OK says for certain; all others, as of a server that dies, leave it unknown."""


def open_channel(module: Any, address: Address, security: Security | None) -> Any:
    """A channel of grpc or grpc.aio: by TLS, to a server of that role and name only, or in plain text."""
    if security is None:
        return module.insecure_channel(address.target, options=OPTIONS)
    ours = security.credentials
    credentials = grpc.ssl_channel_credentials(ours.authority, ours.key, ours.certificate)
    expected = ("grpc.ssl_target_name_override", role_name(address.host, security.role))
    return module.secure_channel(address.target, credentials, options=(*OPTIONS, expected))


def check_health(address: Address, timeout_s: float = HELLO_TIMEOUT_S, security: Security | None = None) -> str:
    """What gRPC's standard health service says of the server: "SERVING", "NOT_SERVING". ConnectError."""
    with open_channel(grpc, address, security) as channel:
        check = channel.unary_unary("/grpc.health.v1.Health/Check")
        try:
            answer = check(health_pb2.HealthCheckRequest().SerializeToString(), timeout=timeout_s)
        except grpc.RpcError as error:
            why = "" if address.is_unix else explain(address, security)
            raise ConnectError(
                f"{address}: {why}" if why else f"no server at {address}: {reason(error)}"
            ) from None
    status = batch.parse(health_pb2.HealthCheckResponse, answer).status
    return str(health_pb2.HealthCheckResponse.ServingStatus.Name(status))


def reason(error: Any) -> str:
    """One line for a person out of gRPC's report, whose last clause is the host's errno."""
    if error.code() == grpc.StatusCode.UNIMPLEMENTED:
        return "it is not a farcall server"
    if error.code() == grpc.StatusCode.DEADLINE_EXCEEDED:
        return "it does not answer"
    if error.code() == grpc.StatusCode.PERMISSION_DENIED:
        return " ".join(str(error.details()).split())
    details = " ".join(str(error.details()).split())
    last = details.rpartition("last error: ")[2]
    return last.rpartition(": ")[2] or str(error.code().name)
