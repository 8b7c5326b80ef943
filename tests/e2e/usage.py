"""What a memory server says of itself, asked in a session of its own."""

from farcall.v1.memory_pb2 import UsageRequest, UsageResponse
from farcall.v1.session_pb2 import SERVER_KIND_MEMORY, Credentials, HelloRequest
from ipc.address import parse_address
from ipc.grpc_client import UnaryChannel
from ipc.limits import PROTOCOL_MAX, PROTOCOL_MIN
from ipc.message import decode_response, encode_request
from ipc.seams import HostClock
from tests.e2e.processes import READY_S


def usage(address: str) -> UsageResponse:
    """Its counters, by a unary gRPC call."""
    clock = HostClock()
    channel = UnaryChannel(parse_address(address), clock)
    try:
        request = HelloRequest(
            protocol_min=PROTOCOL_MIN,
            protocol_max=PROTOCOL_MAX,
            kind=SERVER_KIND_MEMORY,
            credentials=Credentials(uid=1),
        )
        call = encode_request(UsageRequest())
        call.session = channel.hello(request).session
        tag = channel.submit(call)
        reply = channel.wait(tag, clock.monotonic_s() + READY_S)
        assert reply is not None and (reply.errno, reply.refusal) == (0, 0)
        response = decode_response(call, reply)
        channel.release(tag)
        assert isinstance(response, UsageResponse)
        return response
    finally:
        channel.close()
