"""What workers may ask of the kernel process: births, ends, events, and what it makes of false claims."""

import os
from typing import Any

import pytest

from client_vm.abi import common
from client_vm.errors import Errno
from client_vm.exits import Exits
from client_vm.fifos import Fifos
from client_vm.kernel_service import LISTED_MAX, KernelService
from client_vm.launch import make_fifo
from client_vm.mailbox import BATCH, EVENTS_MAX
from client_vm.process_table import (
    CLD_EXITED,
    CLD_KILLED,
    FIRST_PID,
    INIT_PID,
    P_ALL,
    Ended,
    ProcessTable,
    Signal,
    State,
    Uids,
)
from client_vm.ptys import Ptys
from client_vm.unix_broker import UnixBroker
from client_vm.unix_service import UnixService
from farcall.v1 import kernel_pb2 as pb
from farcall.v1.session_pb2 import (
    REFUSAL_OVERLOADED,
    REFUSAL_STALE_SESSION,
    REFUSAL_UNSUPPORTED,
    AbandonRequest,
)
from ipc.endpoint import Peer
from ipc.message import Call, MalformedError, Reply, decode_response, encode_request
from ipc.operations import BY_NAME
from ipc.rendezvous import FarEnds
from tests.unit.serving import CountingRandom

PEER = Peer("uid:0", "ring")
RT = 40


class FakeWorkers:
    """Host processes that a test makes up: pid h of guest pid g if `hosts[g] == h`."""

    def __init__(self) -> None:
        self.did: list[tuple[str, int]] = []
        self.children = set(range(1000, 1100))

    def born(self, pid: int, host_pid: int) -> None:
        if host_pid not in self.children:
            raise Errno(common.ECHILD)
        self.did.append(("born", pid))

    def sender(self, host_pid: int) -> int:
        raise Errno(common.ESRCH)

    def open_page_map(self, pid: int) -> int:
        self.did.append(("open page map", pid))
        raise Errno(common.ESRCH)

    def interrupt(self, pid: int) -> None:
        self.did.append(("interrupt", pid))

    def kill(self, pid: int) -> None:
        self.did.append(("kill", pid))

    def end_soon(self, pid: int) -> None:
        self.did.append(("end soon", pid))

    def forked(self, pid: int, child: int) -> None:
        self.did.append((f"forked {child}", pid))


class World:
    """A service, its first process begun, and spares 3, 4 and 5 given to it."""

    def __init__(self) -> None:
        self.table = ProcessTable(Uids(0, 0, 0))
        self.workers = FakeWorkers()
        self.stops = 0
        self.left: list[tuple[int, Ended]] = []
        self.counts: dict[int, int] = {}
        self.ends = FarEnds()
        self.broker = UnixBroker(self.ends, CountingRandom(), self._sockets_changed)
        self.service = KernelService(
            self.table,
            self.workers,
            stopped=self._stopped,
            left=lambda pid, ended: self.left.append((pid, ended)),
            counted=self.counts.__setitem__,
            fifos=Fifos(make_fifo, os.open),
            exits=Exits(),
            ptys=Ptys(),
            unix=UnixService(self.table, self.broker, self.workers.sender, gid=7),
        )
        self.service.adopt(FIRST_PID)
        self.service.start(FIRST_PID)
        for pid in (3, 4, 5):
            self.spare(pid, FIRST_PID)

    def _sockets_changed(self, pid: int) -> None:
        self.service.sockets_changed(pid)

    def _stopped(self) -> None:
        self.stops += 1

    def spare(self, pid: int, owner: int) -> None:
        self.service.adopt(pid)
        self.service.give(pid, owner)

    def send(self, pid: int, request: Any, slot: int = 0) -> list[Reply]:
        """The replies so far: none while it is deferred; filled later."""
        call = encode_request(request)
        call.session, call.slot = pid, slot
        replies: list[Reply] = []
        self.service.submit(call, PEER, replies.append)
        return replies

    def ask(self, pid: int, request: Any) -> Any:
        """The response of a call that succeeds at once."""
        (reply,) = self.send(pid, request)
        assert (reply.errno, reply.refusal) == (0, 0), reply
        return decode_response(encode_request(request), reply)

    def errno(self, pid: int, request: Any) -> int:
        (reply,) = self.send(pid, request)
        return reply.errno

    def fork(self, pid: int, host_pid: int, parent: int = FIRST_PID) -> None:
        self.ask(parent, pb.ForkedRequest(pid=pid, host_pid=host_pid, exit_signal=common.SIGCHLD))

    def waited(self, pid: int = FIRST_PID) -> tuple[int, int, int]:
        response = self.ask(pid, pb.WaitRequest(id_type=P_ALL, options=common.WEXITED))
        return response.pid, response.code, response.status


@pytest.fixture
def world() -> World:
    return World()


def events(reply: Reply) -> list[Any]:
    response = pb.AwaitEventsResponse.FromString(reply.body)
    return [
        event.signal.signal if event.WhichOneof("body") == "signal" else event.WhichOneof("body")
        for event in response.events
    ]


# Births.


def test_fork_exit_wait(world: World) -> None:
    waiting = world.send(FIRST_PID, pb.AwaitEventsRequest())
    assert waiting == []
    world.fork(3, 1003)
    assert world.workers.did == [("born", 3), ("forked 3", 2)]
    assert world.waited() == (0, 0, 0)
    world.ask(3, pb.ExitRequest(status=7, utime_us=5))
    assert world.left == [(3, Ended(CLD_EXITED, 7, 5))]
    assert events(waiting[0]) == ["children_changed", common.SIGCHLD]
    assert world.workers.did[-2:] == [("interrupt", 2), ("kill", 3)]  # it may not go on without being seen
    (reply,) = world.send(3, pb.GetIdsRequest())
    assert reply.refusal == REFUSAL_STALE_SESSION
    assert world.service.worker_ended(3, Ended(CLD_KILLED, 9)) == Ended(CLD_KILLED, 9)
    assert world.waited() == (3, CLD_EXITED, 7)
    assert world.errno(FIRST_PID, pb.WaitRequest(id_type=P_ALL, options=common.WEXITED)) == common.ECHILD


def test_worker_that_dies_without_a_word(world: World) -> None:
    world.fork(3, 1003)
    world.service.worker_ended(3, Ended(CLD_KILLED, 11))
    assert world.waited() == (3, CLD_KILLED, 11)
    (reply,) = world.send(3, pb.GetIdsRequest())
    assert reply.refusal == REFUSAL_STALE_SESSION


def test_child_is_faster_than_its_parent(world: World) -> None:
    """Its calls wait until it is known."""
    asked = world.send(3, pb.GetIdsRequest())
    ended = world.send(3, pb.ExitRequest(status=1))
    assert asked == ended == []
    world.fork(3, 1003)
    ids = pb.GetIdsResponse.FromString(asked[0].body)
    assert (ids.pid, ids.parent, ids.group, ids.session) == (3, 2, 2, 2)
    assert ended[0].errno == 0


def test_false_births(world: World) -> None:
    world.spare(9, 0)
    world.fork(3, 1003)
    world.spare(8, 3)
    wrong = [
        (common.EINVAL, pb.ForkedRequest(pid=99, host_pid=1004)),  # no spare
        (common.EINVAL, pb.ForkedRequest(pid=9, host_pid=1004)),  # nobody's
        (common.EINVAL, pb.ForkedRequest(pid=8, host_pid=1004)),  # another's
        (common.EINVAL, pb.ForkedRequest(pid=2, host_pid=1004)),
        (common.EINVAL, pb.ForkedRequest(pid=3, host_pid=1004)),  # lives already
        (common.EINVAL, pb.ForkedRequest(pid=4, host_pid=1004, exit_signal=65)),
        (common.ECHILD, pb.ForkedRequest(pid=4, host_pid=1)),
    ]
    for errno, request in wrong:
        assert world.errno(FIRST_PID, request) == errno, request
    assert [process.pid for process in world.table] == [1, 2, 3]
    assert world.service.spares_of(FIRST_PID) == [4, 5]


def test_vfork(world: World) -> None:
    """The child lives in its parent's worker, then in its own."""
    world.fork(3, 0)
    assert ("born", 3) not in world.workers.did
    waiting = world.send(3, pb.AwaitEventsRequest())
    world.ask(FIRST_PID, pb.KillRequest(pid=3, signal=common.SIGKILL))
    assert events(waiting[0]) == [common.SIGKILL]  # no host process of its own to kill
    assert world.workers.did[-1] == ("interrupt", 2)
    assert world.errno(FIRST_PID, pb.ForkedRequest(pid=3)) == common.EINVAL
    world.fork(3, 1003)
    world.ask(FIRST_PID, pb.KillRequest(pid=3, signal=common.SIGKILL))
    assert world.workers.did[-1] == ("kill", 3)
    assert world.errno(FIRST_PID, pb.ForkedRequest(pid=3, host_pid=1004)) == common.EINVAL


def test_vforked_child_ends_in_its_parents_worker(world: World) -> None:
    for pid in (3, 4, 5):
        world.fork(pid, 0)
    world.ask(3, pb.ExitRequest(status=3))
    assert world.waited() == (3, CLD_EXITED, 3)
    world.service.closed(4, PEER)
    assert world.waited() == (4, CLD_KILLED, common.SIGKILL)
    assert world.workers.did.count(("kill", 2)) == 0
    world.service.worker_ended(FIRST_PID, Ended(CLD_EXITED, 0))
    assert 5 not in world.table


def test_ring_that_ends_takes_its_worker_along(world: World) -> None:
    world.fork(3, 1003)
    world.service.closed(4, PEER)  # a spare's
    assert ("kill", 2) not in world.workers.did
    world.service.closed(3, PEER)
    assert world.workers.did[-1] == ("kill", 3)
    world.fork(4, 1004)
    assert world.workers.did[-1] == ("kill", 4)


def test_nonsense_is_the_end_of_its_ring(world: World) -> None:
    call = Call(BY_NAME["Wait"].opcode, b"\xff\xff", session=FIRST_PID)
    with pytest.raises(MalformedError):
        world.service.submit(call, PEER, lambda reply: None)
    assert "Wait" in world.service.trouble(FIRST_PID)


def test_nonsense_before_birth_kills(world: World) -> None:
    call = Call(BY_NAME["Wait"].opcode, b"\xff\xff", session=3)
    replies: list[Reply] = []
    world.service.submit(call, PEER, replies.append)
    world.fork(3, 1003)
    assert world.workers.did[-1] == ("kill", 3)
    assert len(replies) == 1


def test_condemned(world: World) -> None:
    """By what it did on another socket; never its parent, which may know nothing of it yet."""
    world.service.condemn(3, "babble")
    assert world.workers.did == []
    world.fork(3, 1003)
    assert world.workers.did[-1] == ("kill", 3)
    world.fork(4, 1004)
    world.service.condemn(4, "babble")
    assert world.workers.did[-1] == ("kill", 4)
    world.service.condemn(99, "babble")


def test_operations_of_other_servers(world: World) -> None:
    (reply,) = world.send(FIRST_PID, encode_nothing())
    assert reply.refusal == REFUSAL_UNSUPPORTED
    assert BY_NAME["Goodbye"].opcode not in world.service.opcodes
    assert {BY_NAME["Forked"].opcode, BY_NAME["AwaitEvents"].opcode} <= set(world.service.opcodes)


def encode_nothing() -> Any:
    return BY_NAME["Renew"].request()


@pytest.mark.parametrize("request_", [pb.ExitRequest(status=256), pb.ExitRequest(signal=65)])
def test_false_ends(world: World, request_: pb.ExitRequest) -> None:
    assert world.errno(FIRST_PID, request_) == common.EINVAL


# Events.


def test_events_are_kept_until_they_are_taken(world: World) -> None:
    assert not world.service.takes_signals(FIRST_PID)
    world.service.tell(world.table.post(FIRST_PID, Signal(common.SIGINT)))
    assert (world.workers.did, world.counts[FIRST_PID]) == ([], 1)  # counted before it is asked for
    (reply,) = world.send(FIRST_PID, pb.AwaitEventsRequest())
    assert (events(reply), world.workers.did) == ([common.SIGINT], [("interrupt", 2)])
    assert world.service.takes_signals(FIRST_PID)
    world.service.tell(world.table.post(FIRST_PID, Signal(common.SIGTERM)))
    (reply,) = world.send(FIRST_PID, pb.AwaitEventsRequest(after=0))
    assert events(reply) == [common.SIGINT, common.SIGTERM]
    waiting = world.send(FIRST_PID, pb.AwaitEventsRequest(after=2))
    assert waiting == []
    world.service.tell(world.table.post(FIRST_PID, Signal(common.SIGHUP)))
    assert events(waiting[0]) == [common.SIGHUP]
    for never_told in (4, 1):
        assert world.errno(FIRST_PID, pb.AwaitEventsRequest(after=never_told)) == common.EINVAL


def test_orphans_hear_of_their_new_parent(world: World) -> None:
    world.fork(3, 1003)
    world.spare(6, 3)
    world.fork(6, 1006, parent=3)
    waiting = world.send(6, pb.AwaitEventsRequest())
    world.service.worker_ended(3, Ended(CLD_KILLED, 9))
    (event,) = pb.AwaitEventsResponse.FromString(waiting[0].body).events
    assert event.new_parent == INIT_PID
    assert ("interrupt", 6) in world.workers.did


def test_deaf(world: World) -> None:
    """An event is heard of when the worker asks for the next."""
    world.send(FIRST_PID, pb.AwaitEventsRequest())
    world.service.tell(world.table.post(FIRST_PID, Signal(common.SIGINT)))
    number = world.service.last_event(FIRST_PID)
    assert (number, world.service.is_deaf(FIRST_PID, number)) == (1, True)
    world.send(FIRST_PID, pb.AwaitEventsRequest(after=1))
    assert not world.service.is_deaf(FIRST_PID, number)
    assert (world.service.last_event(99), world.service.is_deaf(99, 1)) == (0, False)
    world.service.end_deaf(FIRST_PID, common.SIGINT)
    assert world.workers.did[-1] == ("kill", 2)
    killed = Ended(CLD_KILLED, common.SIGINT)
    assert world.service.worker_ended(FIRST_PID, Ended(CLD_KILLED, common.SIGKILL)) == killed


def test_standard_signals_do_not_queue(world: World) -> None:
    for number in (common.SIGINT, common.SIGINT, RT, RT):
        world.service.tell(world.table.post(FIRST_PID, Signal(number)))
    (reply,) = world.send(FIRST_PID, pb.AwaitEventsRequest())
    assert events(reply) == [common.SIGINT, RT, RT]
    world.service.tell(world.table.post(FIRST_PID, Signal(common.SIGINT)))
    (reply,) = world.send(FIRST_PID, pb.AwaitEventsRequest(after=3))
    assert events(reply) == [common.SIGINT]  # the one before was taken


def test_a_flood_of_signals(world: World) -> None:
    world.fork(3, 1003)
    for _ in range(EVENTS_MAX):
        world.ask(3, pb.KillRequest(pid=FIRST_PID, signal=RT, code=-1, value=1 << 63))
    assert world.errno(3, pb.KillRequest(pid=FIRST_PID, signal=RT, code=-1)) == common.EAGAIN
    taken = 0
    while taken < EVENTS_MAX:
        (reply,) = world.send(FIRST_PID, pb.AwaitEventsRequest(after=taken))
        assert events(reply) == [RT] * BATCH
        taken += BATCH
    sent = pb.AwaitEventsResponse.FromString(reply.body).events[0].signal
    assert (sent.code, sent.pid, sent.value) == (-1, 3, 1 << 63)


def test_only_one_waits_for_events(world: World) -> None:
    first = world.send(FIRST_PID, pb.AwaitEventsRequest(), slot=1)
    second = world.send(FIRST_PID, pb.AwaitEventsRequest(), slot=2)
    assert first[0].refusal == REFUSAL_OVERLOADED
    assert world.send(FIRST_PID, AbandonRequest(slot=1))[0].result == 0
    assert second == []
    assert world.send(FIRST_PID, AbandonRequest(slot=2))[0].result == 1
    assert second[0].refusal == REFUSAL_OVERLOADED


def test_own_signal_comes_before_the_answer(world: World) -> None:
    call = encode_request(pb.AwaitEventsRequest())
    call.session = FIRST_PID
    order: list[str] = []
    world.service.submit(call, PEER, lambda reply: order.append("events"))
    call = encode_request(pb.KillRequest(pid=0, signal=common.SIGUSR1))
    call.session = FIRST_PID
    world.service.submit(call, PEER, lambda reply: order.append("kill"))
    assert order == ["events", "kill"]


@pytest.mark.parametrize(
    ("code", "thread", "errno"),
    [(0, 0, 0), (-1, 0, 0), (-6, 3, 0), (-6, 0, common.EPERM), (1, 0, common.EPERM), (0x80, 3, common.EPERM)],
)
def test_codes_only_a_kernel_uses(world: World, code: int, thread: int, errno: int) -> None:
    world.fork(3, 1003)
    request = pb.KillRequest(pid=3, thread=thread, signal=10, code=code)
    assert world.errno(FIRST_PID, request) == errno
    if not thread:
        assert world.errno(3, request) == 0  # to oneself


def test_threads(world: World) -> None:
    world.fork(3, 1003)
    world.ask(FIRST_PID, pb.KillRequest(pid=3, thread=77, signal=10, code=-6))
    (reply,) = world.send(3, pb.AwaitEventsRequest())
    assert pb.AwaitEventsResponse.FromString(reply.body).events[0].signal.thread == 77
    assert world.errno(FIRST_PID, pb.KillRequest(pid=-3, thread=77, signal=10)) == common.EINVAL
    assert world.errno(FIRST_PID, pb.KillRequest(thread=77, signal=10)) == common.ESRCH


def test_stop_and_go_on(world: World) -> None:
    world.fork(3, 1003)
    waiting = world.send(FIRST_PID, pb.AwaitEventsRequest())
    world.ask(3, pb.ReportStopRequest(signal=common.SIGTSTP))
    assert (world.stops, events(waiting[0])) == (1, ["children_changed", common.SIGCHLD])
    world.ask(3, pb.ReportStopRequest())
    assert world.table.get(3).state == State.RUNNING
    assert world.errno(3, pb.ReportStopRequest(signal=common.SIGTERM)) == common.EINVAL


# Groups, /proc, futexes.


def test_groups_sessions_foreground(world: World) -> None:
    world.fork(3, 1003)
    world.ask(3, pb.SetGroupRequest())
    world.ask(FIRST_PID, pb.SetForegroundRequest(group=3))
    assert world.ask(FIRST_PID, pb.GetForegroundRequest()).group == 3
    world.fork(4, 1004)
    world.ask(4, pb.SetSessionRequest())
    ids = world.ask(FIRST_PID, pb.GetIdsRequest(pid=4))
    assert (ids.group, ids.session) == (4, 4)
    assert world.errno(4, pb.GetForegroundRequest()) == common.ENOTTY
    assert world.errno(4, pb.FindTerminalRequest()) == common.ENXIO
    assert world.errno(4, pb.OpenTerminalRequest(number=99999)) == common.ENOENT
    assert world.errno(4, pb.SignalTerminalRequest(terminal=1, signal=common.SIGKILL)) == common.EINVAL
    world.ask(4, pb.TakeTerminalRequest(terminal=7))
    assert world.ask(4, pb.FindTerminalRequest()).terminal == 7
    assert world.ask(FIRST_PID, pb.GetForegroundRequest(terminal=7, by_master=True)).group == 4
    world.ask(4, pb.TakeTerminalRequest(terminal=7, leave=True))
    assert world.ask(FIRST_PID, pb.GetForegroundRequest(terminal=7, by_master=True)).session == 0
    assert world.errno(FIRST_PID, pb.GetIdsRequest(pid=99)) == common.ESRCH


def test_a_page_map_is_of_the_worker_that_the_process_lives_in(world: World) -> None:
    world.fork(3, 1003)
    world.fork(4, 0)  # by vfork: in its parent's
    for pid, worker in ((3, 3), (4, FIRST_PID)):
        assert world.errno(pid, pb.OpenPageMapRequest()) == common.ESRCH
        assert world.workers.did[-1] == ("open page map", worker)


def test_reaping(world: World) -> None:
    world.ask(FIRST_PID, pb.SetReapingRequest(no_zombies=True, subreaper=True))
    world.fork(3, 1003)
    world.service.worker_ended(3, Ended(CLD_EXITED, 0))
    assert 3 not in world.table
    assert world.table.get(FIRST_PID).subreaper


def test_describe_and_list(world: World) -> None:
    world.ask(FIRST_PID, pb.DescribeRequest(name=b"sh", command_line=b"sh\0-c", executable=b"/bin/sh"))
    world.fork(3, 1003)
    world.ask(3, pb.DescribeRequest(name=b"ls", command_line=b"ls", executable=b"/bin/ls", executed=True))
    world.service.worker_ended(3, Ended(CLD_EXITED, 0))
    listed = world.ask(FIRST_PID, pb.ListProcessesRequest()).entries
    assert [(each.pid, each.parent, chr(each.state), each.name, each.executable) for each in listed] == [
        (1, 0, "R", b"farcall", b""),
        (2, 1, "R", b"sh", b""),
        (3, 2, "Z", b"ls", b""),
    ]
    (one,) = world.ask(3 - 1, pb.ListProcessesRequest(pid=2)).entries
    assert (one.command_line, one.executable) == (b"sh\0-c", b"/bin/sh")
    assert [each.pid for each in world.ask(FIRST_PID, pb.ListProcessesRequest(after=2)).entries] == [3]
    assert world.errno(FIRST_PID, pb.ListProcessesRequest(pid=99)) == common.ESRCH
    for wrong in ({"name": b"x" * 17}, {"command_line": b"x" * 4097}, {"executable": b"x" * 4097}):
        assert world.errno(FIRST_PID, pb.DescribeRequest(**wrong)) == common.EINVAL  # type: ignore[arg-type]


def test_who_may_hold_locks_is_told_before_it_is_killed(world: World) -> None:
    world.fork(3, 1003)
    world.ask(3, pb.DescribeRequest(name=b"sh", holds_locks=True))
    waiting = world.send(3, pb.AwaitEventsRequest())
    world.ask(FIRST_PID, pb.KillRequest(pid=3, signal=common.SIGKILL))
    assert events(waiting[0]) == [common.SIGKILL]
    assert ("end soon", 3) in world.workers.did and ("kill", 3) not in world.workers.did
    world.fork(4, 1004)
    world.ask(4, pb.DescribeRequest(name=b"sh", holds_locks=True))
    world.ask(4, pb.DescribeRequest(name=b"ls", executed=True))
    world.ask(FIRST_PID, pb.KillRequest(pid=4, signal=common.SIGKILL))
    assert world.workers.did[-1] == ("kill", 4)  # the program that held them is gone


def test_a_new_name_keeps_sleepers_at_shared_words(world: World) -> None:
    world.fork(3, 1003)
    world.ask(3, pb.DescribeRequest(name=b"ls", executed=True))
    word = pb.FutexWord(segment=9, offset=8)
    world.ask(3, pb.FutexRegisterRequest(word=word, count=1))
    world.ask(3, pb.DescribeRequest(name=b"renamed", executed=True))
    wake = pb.FutexWake(word=word, count=1, bitset=0xFFFFFFFF)
    assert world.ask(FIRST_PID, pb.FutexWakeRequest(wake=wake)).woken == 1


def test_executed_children_keep_their_group(world: World) -> None:
    world.fork(3, 1003)
    world.ask(3, pb.DescribeRequest(name=b"ls", executed=True))
    assert world.errno(FIRST_PID, pb.SetGroupRequest(pid=3)) == common.EACCES


def test_many_processes_are_listed_in_parts(world: World) -> None:
    pids = range(100, 100 + LISTED_MAX)
    for pid in pids:
        world.spare(pid, FIRST_PID)
        world.fork(pid, 0)
    first = world.ask(FIRST_PID, pb.ListProcessesRequest()).entries
    rest = world.ask(FIRST_PID, pb.ListProcessesRequest(after=first[-1].pid)).entries
    assert [each.pid for each in (*first, *rest)] == [1, 2, *pids]


def test_futexes_between_processes(world: World) -> None:
    word = pb.FutexWord(segment=7, offset=64)
    for pid in (3, 4):
        world.fork(pid, 1000 + pid)
        world.ask(pid, pb.FutexRegisterRequest(word=word, count=1))
    waiting = world.send(3, pb.AwaitEventsRequest())
    wake = pb.FutexWake(word=word, count=1, bitset=5)
    assert world.ask(FIRST_PID, pb.FutexWakeRequest(wake=wake)).woken == 1
    (event,) = pb.AwaitEventsResponse.FromString(waiting[0].body).events
    assert event.futex_wake == wake
    waiting = world.send(4, pb.AwaitEventsRequest())
    world.service.worker_ended(3, Ended(CLD_KILLED, 9))  # before it could use it
    assert events(waiting[0]) == ["futex_wake"]
    assert world.errno(4, pb.FutexRegisterRequest(word=word, count=2)) == common.EINVAL
