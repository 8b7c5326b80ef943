"""The protocol of earlier releases (proto/released): descriptions, and messages as those releases know them."""

from functools import cache
from pathlib import Path
from typing import Any, Final

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message

from farcall.v1 import session_pb2

FOLDER: Final = Path(__file__).parents[2] / "proto" / "released"
VERSIONS: Final = sorted(path.stem for path in FOLDER.glob("*.binpb"))


@cache
def description(version: str) -> descriptor_pb2.FileDescriptorSet:
    """Whose options are today's, by number."""
    assert session_pb2.opcode, "the options are known, or they would be unknown fields"
    return descriptor_pb2.FileDescriptorSet.FromString((FOLDER / f"{version}.binpb").read_bytes())


@cache
def _pool(version: str) -> descriptor_pool.DescriptorPool:
    pool = descriptor_pool.DescriptorPool()
    for file in description(version).file:
        pool.Add(file)
    return pool


def message(version: str, name: str) -> type[Message]:
    """A message of farcall.v1 as the release knew it."""
    return message_factory.GetMessageClass(_pool(version).FindMessageTypeByName(f"farcall.v1.{name}"))


def methods(version: str) -> dict[str, tuple[MethodDescriptor, Any]]:
    """Every rpc of the release and its options, by service and name."""
    found = {}
    for file in description(version).file:
        for service in file.service:
            for method in service.method:
                name = f"{file.package}.{service.name}"
                described = _pool(version).FindServiceByName(name).methods_by_name[method.name]
                found[f"{name}.{method.name}"] = described, method.options
    return found


def as_known(version: str, name: str, encoded: bytes) -> bytes:
    """What a release sees of a message: fields that it does not know are dropped."""
    seen = message(version, name).FromString(encoded)
    seen.DiscardUnknownFields()
    return seen.SerializeToString(deterministic=True)
