"""What can be asked of a server: read from the protocol's own method options, never listed twice."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from google.protobuf import message_factory
from google.protobuf.message import Message

from farcall.v1 import file_pb2, kernel_pb2, memory_pb2, network_pb2, session_pb2
from farcall.v1.session_pb2 import EFFECT_PURE, Effect


@dataclass(frozen=True, slots=True)
class Operation:
    """One rpc of farcall.v1.

    A packed operation's request is at most three uint64 beside identity and data, and its response one
    uint64 beside outcome and data: they travel inside a ring entry.
    """

    opcode: int
    name: str
    service: str
    effect: Effect
    packed: bool
    request: type[Message]
    response: type[Message]
    packed_fields: tuple[str, ...]
    """Request fields in number order, identity and data aside; empty unless packed."""
    result_field: str
    """The response's uint64 field; empty unless packed."""
    carries_descriptor: bool
    """A reply may have a host descriptor beside it: on rings and direct calls; gRPC refuses the operation."""
    deferred: bool
    """A reply may come long after its call, and no client's patience is counted for it."""

    @property
    def path(self) -> str:
        """Of its rpc, in HTTP/2."""
        return f"/{self.service}/{self.name}"

    @property
    def recorded(self) -> bool:
        """Whether calls carry a seq and leave a slot row."""
        return self.effect != EFFECT_PURE


def _operations() -> Iterator[Operation]:
    for module in (session_pb2, file_pb2, memory_pb2, network_pb2, kernel_pb2):
        for service in module.DESCRIPTOR.services_by_name.values():
            for method in service.methods:
                options: Any = method.GetOptions()
                opcode = options.Extensions[session_pb2.opcode]
                if not opcode:
                    continue  # Carry: a carrier, not an operation
                packed = options.Extensions[session_pb2.packed]
                request_fields = [f.name for f in method.input_type.fields if f.name not in ("identity", "data")]
                response_fields = [f.name for f in method.output_type.fields if f.name not in ("outcome", "data")]
                yield Operation(
                    opcode=opcode,
                    name=method.name,
                    service=service.full_name,
                    effect=options.Extensions[session_pb2.effect],
                    packed=packed,
                    request=message_factory.GetMessageClass(method.input_type),
                    response=message_factory.GetMessageClass(method.output_type),
                    packed_fields=tuple(request_fields) if packed else (),
                    result_field=response_fields[0] if packed else "",
                    carries_descriptor=options.Extensions[session_pb2.carries_descriptor],
                    deferred=options.Extensions[session_pb2.deferred],
                )


OPERATIONS: Final[dict[int, Operation]] = {op.opcode: op for op in _operations()}
"""By opcode."""
assert len(OPERATIONS) == sum(1 for _ in _operations()), "an opcode is used twice"
assert all(
    op.effect == EFFECT_PURE and not op.packed
    for op in OPERATIONS.values()
    if op.carries_descriptor or op.deferred
), "neither a descriptor nor a delay can be recorded, or travels in a packed entry"

BY_REQUEST: Final[dict[type[Message], Operation]] = {op.request: op for op in OPERATIONS.values()}
BY_NAME: Final[dict[str, Operation]] = {op.name: op for op in OPERATIONS.values()}
assert len(BY_NAME) == len(OPERATIONS), "a name is used twice"
