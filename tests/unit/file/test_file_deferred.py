"""AwaitLock as the dispatcher runs it: a close, or the end of a session, answers those who wait."""

import errno
from pathlib import Path
from typing import Any

from farcall.v1 import file_pb2
from farcall.v1.session_pb2 import Credentials
from ipc.message import Call, Reply, encode_request, pack_call
from ipc.operations import BY_NAME
from tests.unit.file.client import READ, WRITE
from tests.unit.file.crash_scenario import opening, start
from tests.unit.serving import DIRECT, Caller, hello


def lock(number: int, await_it: bool = False) -> Call:
    fields: dict[str, Any] = {
        "handle": 1,
        "kind": file_pb2.LOCK_KIND_POSIX,
        "type": file_pb2.LOCK_TYPE_WRITE,
        "start": number,
        "length": 1,
    }
    request = file_pb2.AwaitLockRequest if await_it else file_pb2.LockRequest
    return encode_request(request(**fields))


def test_waits_end_with_what_they_wait_for(tmp_path: Path, lower: Path) -> None:
    (tmp_path / "state").mkdir()
    service, dispatcher = start(tmp_path / "state", lower)
    root = Credentials(uid=0, gid=0)
    holders = [Caller(dispatcher, hello(dispatcher, credentials=root).session) for _ in range(2)]
    waiter = Caller(dispatcher, hello(dispatcher, credentials=root).session)
    for number, caller in enumerate((*holders, waiter)):
        assert caller.send(caller.new(opening("/a/f", 1, READ | WRITE))).errno == 0
        assert caller.send(caller.new(lock(number))).errno == 0
    replies: list[list[Reply]] = [[], []]
    for number in range(2):
        call = waiter.pure(lock(number, await_it=True))
        call.slot = 10 + number
        dispatcher.submit(call, DIRECT, replies[number].append)
    assert holders[0].send(holders[0].pure(lock(2, await_it=True))).errno == errno.EDEADLK
    assert replies == [[], []]
    assert holders[0].send(holders[0].new(pack_call(BY_NAME["Close"], 1))).errno == 0
    assert replies == [[Reply()], []]
    dispatcher.closed(holders[1].session, DIRECT)
    assert replies == [[Reply()], [Reply()]]
    assert waiter.send(waiter.new(lock(1))).errno == 0
    service.close()
