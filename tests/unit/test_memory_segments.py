"""Shared segments of the memory server: who may have them, the quota, and when they go."""

import errno
import mmap
import os
from typing import Any

import pytest
from google.protobuf.message import Message

from farcall.v1 import memory_pb2
from ipc.message import Reply, encode_request
from servers import segments
from tests.contract.ledger_contract import FailureError
from tests.unit.serving import DIRECT, Caller
from tests.unit.test_memory_server import QUOTA_BYTES, Memory, grant, inherit, memory, usage

__all__ = ["memory"]
SIZE = 8192


def send(caller: Caller, request: Message) -> Reply:
    return caller.send(caller.new(encode_request(request)))


def create(caller: Caller, size_bytes: int = SIZE) -> int:
    reply = send(caller, memory_pb2.CreateSegmentRequest(size_bytes=size_bytes))
    assert not reply.errno
    number: int = memory_pb2.CreateSegmentResponse.FromString(reply.body).segment
    return number


def fetch(caller: Caller, segment: int) -> Reply:
    return caller.send(caller.pure(encode_request(memory_pb2.FetchSegmentRequest(segment=segment))))


def drop(caller: Caller, segment: int) -> int:
    return send(caller, memory_pb2.DropSegmentRequest(segment=segment)).errno


def adopt(caller: Caller, segment: int, size_bytes: int = SIZE) -> int:
    return send(caller, memory_pb2.AdoptSegmentRequest(segment=segment, size_bytes=size_bytes)).errno


def segment_usage(caller: Caller) -> tuple[int, int, int]:
    found = usage(caller)
    return found.segments, found.segment_bytes, found.granted_bytes


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_all_who_inherit_share_the_same_bytes(memory: Memory) -> None:
    parent, child = memory.caller(), memory.caller()
    before = open_descriptors()
    segment = create(parent)
    assert fetch(child, segment) == Reply(errno=errno.ENOENT)
    inherit(parent, child, 4096)
    views = []
    for caller in (parent, child):
        reply = fetch(caller, segment)
        fd = reply.take_descriptor()
        assert memory_pb2.FetchSegmentResponse.FromString(reply.body).size_bytes == SIZE
        for size in (0, SIZE - 1, SIZE + 1):
            with pytest.raises(PermissionError):
                os.ftruncate(fd, size)
        views.append(mmap.mmap(fd, SIZE))
        os.close(fd)
    views[0][:5] = b"hello"
    assert views[1][:6] == b"hello\0"
    assert segment_usage(parent) == (1, SIZE, SIZE + 4096)
    memory.dispatcher.closed(parent.session, DIRECT)
    assert segment_usage(child) == (1, SIZE, SIZE + 4096)
    assert drop(child, segment) == 0
    assert drop(child, segment) == errno.ENOENT
    assert segment_usage(child) == (0, 0, 4096)
    for view in views:
        view.close()
    assert open_descriptors() == before


def test_the_quota_is_one_for_private_and_shared(memory: Memory) -> None:
    one, two = memory.caller(), memory.caller()
    assert grant(one, QUOTA_BYTES - SIZE).errno == 0
    segment = create(two)
    for size in (1, QUOTA_BYTES, 1 << 63, (1 << 64) - 1):
        assert send(two, memory_pb2.CreateSegmentRequest(size_bytes=size)).errno == errno.ENOMEM
    assert adopt(two, 99, 1) == errno.ENOMEM
    assert send(two, memory_pb2.CreateSegmentRequest()).errno == errno.EINVAL
    assert grant(one, 1).errno == errno.ENOMEM
    assert drop(one, segment) == errno.ENOENT
    memory.dispatcher.closed(two.session, DIRECT)
    assert grant(one, SIZE).errno == 0
    assert usage(one).granted_bytes == QUOTA_BYTES


def test_numbers_are_never_given_twice(memory: Memory) -> None:
    caller = memory.caller()
    first = create(caller)
    drop(caller, first)
    numbers = {first, *(create(caller) for _ in range(3))}
    assert len(numbers) == 4
    assert fetch(caller, first).errno == errno.ENOENT


def test_after_the_server_s_death_workers_tell_what_they_have(memory: Memory) -> None:
    one, two, stranger = memory.caller(), memory.caller(), memory.caller()
    old, made = 77, create(stranger)
    assert adopt(one, old) == adopt(two, old) == adopt(one, old) == 0
    assert segment_usage(one) == (2, 2 * SIZE, 2 * SIZE)
    assert fetch(one, old).errno == errno.EOPNOTSUPP
    assert adopt(stranger, old, SIZE + 1) == errno.EINVAL
    assert adopt(one, made) == errno.EPERM  # it lives here, and is not its
    assert adopt(one, 0) == adopt(one, 1 << 63) == adopt(one, 78, 0) == errno.EINVAL
    for caller in (one, two):
        memory.dispatcher.closed(caller.session, DIRECT)
    assert segment_usage(stranger) == (1, SIZE, SIZE)


def test_limits(memory: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "SEGMENTS_SESSION_MAX", 2)
    monkeypatch.setattr(segments, "SEGMENTS_MAX", 3)
    one, two = memory.caller(), memory.caller()
    create(one)
    create(one)
    assert send(one, memory_pb2.CreateSegmentRequest(size_bytes=1)).errno == errno.ENOMEM
    create(two)
    assert adopt(two, 1 << 40) == errno.ENOMEM
    assert segment_usage(one)[0] == 3


def test_what_is_rolled_back_leaves_nothing(memory: Memory) -> None:
    caller, heir = memory.caller(), memory.caller()
    kept = create(caller)
    before = (segment_usage(caller), open_descriptors())
    session, target = (memory.ledger.session(each.session) for each in (caller, heir))
    assert session is not None and target is not None
    handlers: dict[int, Any] = dict(memory.service.handlers)
    with pytest.raises(FailureError), memory.ledger.transaction():
        handlers[204](session, memory_pb2.CreateSegmentRequest(size_bytes=SIZE))
        handlers[207](session, memory_pb2.AdoptSegmentRequest(segment=5, size_bytes=SIZE))
        request = memory_pb2.InheritMemoryRequest(target_session=target.number, target_secret=target.secret)
        handlers[203](session, request)
        memory.service.session_ended(session)
        memory.service.session_ended(target)
        raise FailureError
    assert (segment_usage(caller), open_descriptors()) == before
    fetch(caller, kept).discard()
    assert fetch(heir, kept).errno == errno.ENOENT


def test_the_server_s_end_closes_all(memory: Memory) -> None:
    before = open_descriptors()
    create(memory.caller())
    memory.service.close()
    assert open_descriptors() == before
