"""A call and its reply, as every carrier hands them on, and their translation from and to protobuf.

A call's `body` is the request without identity and data: protobuf, or three little-endian uint64 (24
bytes) if the operation is packed. A reply's body is the response without outcome and data; a packed
operation's reply has `result` and no body. Data is never part of a body: it is copied once, by the
carrier.
"""

import os
import struct
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from google.protobuf.message import DecodeError, Message

from farcall.v1.session_pb2 import REFUSAL_UNSPECIFIED, Refusal
from ipc.operations import BY_NAME, BY_REQUEST, OPERATIONS, Operation

Buffer: TypeAlias = bytes | bytearray | memoryview

PACKED: Final = struct.Struct("<QQQ")
UINT64_MAX: Final = (1 << 64) - 1


class MalformedError(Exception):
    """A peer's message cannot be decoded or breaks a limit; fatal for its session."""


@dataclass(slots=True)
class Call:
    """One try of one operation. `seq` is 0 and `digest` empty for PURE operations."""

    opcode: int
    body: bytes
    data: Buffer = b""
    session: int = 0
    slot: int = 0
    seq: int = 0
    digest: bytes = b""


@dataclass(slots=True)
class Reply:
    """What became of a call: a refusal (never executed), an errno, or a result."""

    errno: int = 0
    result: int = 0
    body: bytes = b""
    data: Buffer = b""
    refusal: Refusal = field(default=REFUSAL_UNSPECIFIED)
    descriptor: int = -1
    """A host descriptor beside a result; -1: none. It belongs to the reply until somebody takes it: who gives a
    reply away gives it along, and who has done with the reply closes it (`discard`)."""

    def take_descriptor(self) -> int:
        """The descriptor, from now on the caller's to close; -1 if there is none (any more)."""
        descriptor, self.descriptor = self.descriptor, -1
        return descriptor

    def discard(self) -> None:
        """Closes the descriptor if nobody has taken it."""
        if self.descriptor >= 0:
            os.close(self.take_descriptor())


def encode_request(request: Message, data: Buffer = b"") -> Call:
    """The call of a request message without its identity. `data` stands beside the message, not in it."""
    operation = BY_REQUEST[type(request)]
    if operation.packed:
        fields = [getattr(request, name) for name in operation.packed_fields] + [0, 0, 0]
        return pack_call(operation, fields[0], fields[1], fields[2], data)
    return Call(operation.opcode, request.SerializeToString(deterministic=True), data)


def pack_call(operation: Operation, first: int = 0, second: int = 0, third: int = 0, data: Buffer = b"") -> Call:
    """The call of a packed operation, its fields in number order."""
    return Call(operation.opcode, PACKED.pack(first, second, third), data)


def abandonment(call: Call) -> Call:
    """The call that tells the server that a deferred call is no longer waited for."""
    abandon = pack_call(BY_NAME["Abandon"], call.slot)
    abandon.session, abandon.slot = call.session, call.slot
    return abandon


def decode_request(call: Call) -> Message:
    """The request message of an unpacked call. MalformedError if the body is not one."""
    request = OPERATIONS[call.opcode].request()
    try:
        request.ParseFromString(call.body)
    except DecodeError as error:
        raise MalformedError(f"{OPERATIONS[call.opcode].name}: {error}") from None
    return request


def decode_response(call: Call, reply: Reply) -> Any:
    """The response message (without outcome and data) of a call that succeeded."""
    response = OPERATIONS[call.opcode].response()
    try:
        response.ParseFromString(reply.body)
    except DecodeError as error:
        raise MalformedError(f"{OPERATIONS[call.opcode].name} response: {error}") from None
    return response


def unary_to_call(request: Any) -> Call:
    """The call that a unary gRPC request stands for: identity and data taken out of the message."""
    operation = BY_REQUEST[type(request)]
    fields = type(request).DESCRIPTOR.fields_by_name
    data = bytes(request.data) if "data" in fields else b""
    identity = request.identity if "identity" in fields else None
    rest = type(request)()
    rest.CopyFrom(request)
    for name in ("identity", "data"):
        if name in fields:
            rest.ClearField(name)
    call = encode_request(rest, data)
    if identity is not None:
        call.session, call.slot, call.seq = identity.session, identity.slot, identity.seq
        call.digest = identity.digest
    assert call.opcode == operation.opcode
    return call


def call_to_unary(call: Call) -> Any:
    """The unary gRPC request of a call; the inverse of unary_to_call."""
    operation = OPERATIONS[call.opcode]
    request: Any = operation.request()
    if operation.packed:
        for name, value in zip(operation.packed_fields, PACKED.unpack(call.body), strict=False):
            setattr(request, name, value)
    else:
        request.ParseFromString(call.body)
    if len(call.data):
        request.data = bytes(call.data)
    if "identity" in operation.request.DESCRIPTOR.fields_by_name:
        request.identity.session = call.session
        request.identity.slot = call.slot
        request.identity.seq = call.seq
        request.identity.digest = call.digest
    return request


def reply_to_unary(opcode: int, reply: Reply) -> Any:
    """The unary gRPC response of a reply."""
    operation = OPERATIONS[opcode]
    response: Any = operation.response()
    if operation.packed:
        setattr(response, operation.result_field, reply.result)
    else:
        response.ParseFromString(reply.body)
    if len(reply.data):
        response.data = bytes(reply.data)
    response.outcome.errno = reply.errno
    response.outcome.refusal = reply.refusal
    return response


def unary_to_reply(response: Any) -> Reply:
    """The reply that a unary gRPC response stands for; the inverse of reply_to_unary."""
    operation = next(op for op in OPERATIONS.values() if op.response is type(response))
    reply = Reply(errno=response.outcome.errno, refusal=response.outcome.refusal)
    rest = type(response)()
    rest.CopyFrom(response)
    rest.ClearField("outcome")
    if "data" in operation.response.DESCRIPTOR.fields_by_name:
        reply.data = bytes(response.data)
        rest.ClearField("data")
    if operation.packed:
        reply.result = getattr(response, operation.result_field)
    else:
        reply.body = rest.SerializeToString(deterministic=True)
    return reply
