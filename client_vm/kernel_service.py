"""The kernel process as its workers see it: the endpoint of their kernel rings (farcall/v1/kernel.proto).

A ring's session is the guest pid it was made for. What a worker says is checked; what it breaks ends it alone.
The host's processes are somebody else's business (Workers): this module does no I/O.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, TypeAlias

from google.protobuf.message import Message

from client_vm.abi import common
from client_vm.errors import Errno
from client_vm.exits import Exits
from client_vm.fifos import Fifos
from client_vm.futex_broker import FutexBroker, Wake
from client_vm.mailbox import RT_SIGNAL_MIN, Mailbox
from client_vm.process_table import (
    CLD_EXITED,
    CLD_KILLED,
    SI_TKILL,
    SIGNAL_MAX,
    Delivery,
    Ended,
    Process,
    ProcessTable,
    Signal,
    State,
)
from client_vm.ptys import Ptys
from client_vm.unix_service import UnixService
from farcall.v1 import kernel_pb2 as pb
from farcall.v1.session_pb2 import (
    REFUSAL_MALFORMED,
    REFUSAL_STALE_SESSION,
    REFUSAL_UNSUPPORTED,
    HelloRequest,
    HelloResponse,
    Outcome,
)
from ipc.endpoint import Peer
from ipc.message import PACKED, Call, MalformedError, Reply, decode_request
from ipc.operations import BY_NAME, BY_REQUEST

NAME_BYTES_MAX: Final = 16
"""Of a process's name (comm)."""
TEXT_BYTES_MAX: Final = 4096
"""Of its command line and its executable's path."""
LISTED_MAX: Final = 256
"""Processes in one answer."""
_ABANDON: Final = BY_NAME["Abandon"].opcode
_AWAIT_EVENTS: Final = BY_NAME["AwaitEvents"].opcode
_ALL_BITS: Final = (1 << 32) - 1

Complete: TypeAlias = Callable[[Reply], None]


class Workers(Protocol):
    """The host's processes, by the guest pid that they run."""

    def born(self, pid: int, host_pid: int) -> None:
        """A worker has forked. Errno (ECHILD) unless the new process is a child of ours, and not known."""
        ...

    def interrupt(self, pid: int) -> None:
        """Has a guest that computes look at its events: SIGURG."""
        ...

    def kill(self, pid: int) -> None:
        """SIGKILL; its end is told later."""
        ...

    def end_soon(self, pid: int) -> None:
        """Its process has been told of SIGKILL: has it look, and kills it should it take too long."""
        ...

    def open_page_map(self, pid: int) -> int:
        """The host's /proc/PID/pagemap of it. Errno: ESRCH, EMFILE."""
        ...

    def forked(self, pid: int, child: int) -> None:
        """This worker has used the spare of that pid."""
        ...


@dataclass(slots=True)
class _Client:
    """One kernel ring, and the process behind it: a spare's, until Forked names it."""

    pid: int
    owner: int
    """Whose spare it is: the guest pid of a worker; 0: of nobody yet."""
    born: bool = False
    worker: int = 0
    """The guest pid whose host process it lives in: another's between vfork and exec."""
    mailbox: Mailbox = field(default_factory=Mailbox)
    held: list[tuple[Call, Complete]] = field(default_factory=list)
    """Calls that came before it was born: the child was faster than its parent."""
    ended: Ended | None = None
    """As it said itself."""
    holds_locks: bool = False
    """It may hold robust locks, which its worker passes on when it is killed."""
    trouble: str = ""
    """The rule it broke."""


class KernelService:
    """Implements ipc.endpoint.Endpoint."""

    def __init__(
        self,
        table: ProcessTable,
        workers: Workers,
        *,
        stopped: Callable[[], None],
        left: Callable[[int, Ended], None],
        counted: Callable[[int, int], None],
        fifos: Fifos,
        exits: Exits,
        ptys: Ptys,
        unix: UnixService,
    ) -> None:
        """`stopped` is called whenever a process has stopped, `left` when one has said how it ended.

        `counted` is told of how many events there have been for a process before anybody else can know of them.
        """
        self._table = table
        self._workers = workers
        self._stopped = stopped
        self._left = left
        self._counted = counted
        self._futexes = FutexBroker()
        self._fifos = fifos
        self._exits = exits
        self._ptys = ptys
        self._clients: dict[int, _Client] = {}
        handlers: dict[type[Message], Callable[[_Client, Any], Message]] = {
            pb.ForkedRequest: self._forked,
            pb.ExitRequest: self._exit,
            pb.WaitRequest: self._wait,
            pb.KillRequest: self._kill,
            pb.SetGroupRequest: self._set_group,
            pb.SetSessionRequest: self._set_session,
            pb.GetIdsRequest: self._get_ids,
            pb.GetForegroundRequest: self._get_foreground,
            pb.SetForegroundRequest: self._set_foreground,
            pb.ReportStopRequest: self._report_stop,
            pb.SetReapingRequest: self._set_reaping,
            pb.DescribeRequest: self._describe,
            pb.ListProcessesRequest: self._list_processes,
            pb.FutexRegisterRequest: self._futex_register,
            pb.FutexWakeRequest: self._futex_wake,
            pb.JoinFifoRequest: self._join_fifo,
            pb.LeaveFifoRequest: self._leave_fifo,
            pb.ListTerminalsRequest: self._list_terminals,
            pb.FindTerminalRequest: self._find_terminal,
            pb.TakeTerminalRequest: self._take_terminal,
            pb.SignalTerminalRequest: self._signal_terminal,
        }
        self._fetchers: dict[int, Callable[[_Client, Any], int]] = {
            BY_REQUEST[pb.FetchFifoRequest].opcode: self._fetch_fifo,
            BY_REQUEST[pb.WatchRequest].opcode: self._watch,
            BY_REQUEST[pb.OpenPageMapRequest].opcode: self._open_page_map,
            BY_REQUEST[pb.OpenTerminalRequest].opcode: self._open_terminal,
        }
        self._handlers = {BY_REQUEST[request].opcode: handler for request, handler in handlers.items()}
        self._unix = {BY_REQUEST[request].opcode: handler for request, handler in unix.handlers.items()}
        self._unix_fetchers = {BY_REQUEST[request].opcode: handler for request, handler in unix.fetchers.items()}
        self.opcodes: Final = [
            *(_ABANDON, _AWAIT_EVENTS, *self._handlers, *self._fetchers),
            *(*self._unix, *self._unix_fetchers),
        ]
        """What it offers."""

    # Rings come and go.

    def adopt(self, pid: int) -> None:
        """A ring is being made for this pid: a spare's, until `start` or Forked."""
        self._clients[pid] = _Client(pid, owner=0)

    def start(self, pid: int) -> None:
        """This one's process is in the table already, and has a host process: the first."""
        client = self._clients[pid]
        client.born, client.worker = True, pid

    def give(self, pid: int, owner: int) -> None:
        """The spare of this pid goes to a worker, which may fork into it."""
        self._clients[pid].owner = owner

    def hello(self, request: HelloRequest, peer: Peer) -> HelloResponse:
        """Refuses: these rings are adopted, nobody greets them."""
        del request, peer
        return HelloResponse(outcome=Outcome(refusal=REFUSAL_UNSUPPORTED))

    def closed(self, session: int, peer: Peer) -> None:
        """Whose ring ends, ends."""
        del peer
        client = self._clients.get(session)
        if client is None:
            return
        if not client.born:
            client.trouble = "its ring ended"  # of a spare; its parent may still say that it was born
        elif client.worker == client.pid:
            self._workers.kill(client.pid)  # in vain if that is why the ring ended
        else:
            self._end(client, Ended(CLD_KILLED, common.SIGKILL))

    def worker_ended(self, pid: int, ended: Ended) -> Ended:
        """A host process is gone and reaped: with it whoever lived in it.

        How its guest process ended: as it said itself, or as the host says.
        """
        client = self._clients.get(pid)
        if client is not None:
            ended = client.ended or ended
        for client in list(self._clients.values()):
            if client.born and client.worker == pid:
                self._end(client, ended if client.pid == pid else Ended(CLD_KILLED, common.SIGKILL))
        return ended

    def spares_of(self, pid: int) -> list[int]:
        """The spares of this worker that nobody has said to live."""
        return [client.pid for client in self._clients.values() if client.owner == pid and not client.born]

    def forget(self, pid: int) -> None:
        """A spare that nobody will use; calls of its ring are refused from now on."""
        self._clients.pop(pid, None)

    def condemn(self, pid: int, why: str) -> None:
        """The worker of this process has broken a rule elsewhere: it ends. A child that nobody has told of yet
        ends when that is made up for."""
        client = self._clients.get(pid)
        if client is not None:
            client.trouble = why
            if client.born:
                self._workers.kill(client.worker)

    def trouble(self, pid: int) -> str:
        """The rule of its ring that this living process has broken; empty: none."""
        client = self._clients.get(pid)
        return client.trouble if client else ""

    # Signals from outside the guest.

    def takes_signals(self, pid: int) -> bool:
        """Whether the process's worker has ever asked for its events."""
        client = self._clients.get(pid)
        return client is not None and client.mailbox.asked

    def last_event(self, pid: int) -> int:
        """Number of the last event that this process is to take; 0: none."""
        client = self._clients.get(pid)
        return client.mailbox.last if client else 0

    def is_deaf(self, pid: int, number: int) -> bool:
        """Whether the process lives and has not taken event `number` yet: it may be waiting for a server."""
        client = self._clients.get(pid)
        return client is not None and client.mailbox.taken < number

    def end_deaf(self, pid: int, number: int) -> None:
        """A signal that nobody took is the end of the process."""
        client = self._clients[pid]
        client.ended = client.ended or Ended(CLD_KILLED, number)
        self._workers.kill(client.worker)

    def tell(self, told: Iterable[Delivery]) -> None:
        """Delivers what the table says."""
        for pid in dict.fromkeys([each.pid for each in told if self._put(each)]):
            self._answer(self._clients[pid])

    def _put(self, delivery: Delivery) -> bool:
        client = self._clients.get(delivery.pid)
        if client is None:
            return False
        if delivery.new_parent:
            client.mailbox.put_new_parent(delivery.new_parent)
        elif delivery.signal is None:
            client.mailbox.put_children_changed()
        elif delivery.signal.signal == common.SIGKILL and client.worker == client.pid:
            if not client.holds_locks:
                self._workers.kill(client.pid)
                return False
            client.mailbox.put_signal(delivery.signal)
            self._workers.end_soon(client.pid)
        else:
            client.mailbox.put_signal(delivery.signal)
        return True

    def sockets_changed(self, pid: int) -> None:
        """Tells a process that a listening socket it waits for may have room, or is gone."""
        client = self._clients.get(pid)
        if client is not None:
            client.mailbox.put_sockets_changed()
            self._answer(client)

    def _wake(self, wakes: Iterable[Wake], bitset: int) -> None:
        for wake in wakes:
            client = self._clients[wake.pid]
            client.mailbox.put_wake(wake, bitset)
            self._answer(client)

    def _answer(self, client: _Client) -> None:
        self._counted(client.pid, client.mailbox.last)
        if client.mailbox.answer():
            self._workers.interrupt(client.worker)

    # Calls.

    def submit(self, call: Call, peer: Peer, complete: Complete, into: memoryview | None = None) -> None:
        """As Endpoint."""
        del peer, into  # a pair of sockets of our own; no operation has data
        client = self._clients.get(call.session)
        if client is None:
            complete(Reply(refusal=REFUSAL_STALE_SESSION))
        elif not client.born:
            client.held.append((call, complete))  # no more than a ring has entries
        else:
            self._execute(client, call, complete)

    def _execute(self, client: _Client, call: Call, complete: Complete) -> None:
        try:
            reply = self._reply(client, call, complete)
        except Errno as error:
            reply = Reply(errno=error.errno)
        except MalformedError as error:
            client.trouble = str(error)
            raise
        if reply is not None:
            complete(reply)

    def _reply(self, client: _Client, call: Call, complete: Complete) -> Reply | None:
        """None: later. Errno; MalformedError."""
        if call.opcode == _ABANDON:
            return Reply(result=client.mailbox.drop(PACKED.unpack(call.body)[0]))
        if call.opcode == _AWAIT_EVENTS:
            request: Any = decode_request(call)
            if client.mailbox.ask(call.slot, request.after, complete):
                self._workers.interrupt(client.worker)
            return None
        if call.opcode in self._fetchers:
            return Reply(descriptor=self._fetchers[call.opcode](client, decode_request(call)))
        if call.opcode in self._unix:
            return Reply(body=self._unix[call.opcode](client.pid, decode_request(call)).SerializeToString())
        if call.opcode in self._unix_fetchers:
            descriptor, response = self._unix_fetchers[call.opcode](client.pid, decode_request(call))
            return Reply(descriptor=descriptor, body=response.SerializeToString())
        handler = self._handlers.get(call.opcode)
        if handler is None:
            return Reply(refusal=REFUSAL_UNSUPPORTED)
        return Reply(body=handler(client, decode_request(call)).SerializeToString())

    # Birth and death.

    def _forked(self, client: _Client, request: pb.ForkedRequest) -> pb.ForkedResponse:
        child = self._clients.get(request.pid)
        if child is None or child.owner != client.worker or (child.born and child.worker != client.worker):
            raise Errno(common.EINVAL)
        if child.born and not request.host_pid:
            raise Errno(common.EINVAL)
        if request.exit_signal > SIGNAL_MAX:
            raise Errno(common.EINVAL)
        if request.host_pid:
            self._workers.born(request.pid, request.host_pid)
        child.worker = request.pid if request.host_pid else client.worker
        if not child.born:
            child.born = True
            self._table.fork(client.pid, request.pid, request.exit_signal)
            self._workers.forked(client.worker, child.pid)
            if child.trouble:
                self._workers.kill(child.worker)
            self._catch_up(child)
        return pb.ForkedResponse()

    def _catch_up(self, child: _Client) -> None:
        """Executes what a child has asked for before it was known."""
        held, child.held = child.held, []
        for call, complete in held:
            try:
                self._execute(child, call, complete)
            except MalformedError:
                complete(Reply(refusal=REFUSAL_MALFORMED))
                self._workers.kill(child.worker)
                return

    def _exit(self, client: _Client, request: pb.ExitRequest) -> pb.ExitResponse:
        if request.status > 255 or request.signal > SIGNAL_MAX:
            raise Errno(common.EINVAL)
        code, status = (CLD_KILLED, request.signal) if request.signal else (CLD_EXITED, request.status)
        client.ended = Ended(code, status, request.utime_us, request.stime_us)
        self._end(client, client.ended)
        if client.worker == client.pid:
            self._workers.kill(client.pid)  # it has nothing left to do
            self._left(client.pid, client.ended)
        return pb.ExitResponse()

    def _end(self, client: _Client, ended: Ended) -> None:
        del self._clients[client.pid]
        self._wake(self._futexes.forget(client.pid), _ALL_BITS)
        self._fifos.forget(client.pid)
        self._exits.ended(client.pid)
        self.tell(self._table.exit(client.pid, client.ended or ended))

    def _wait(self, client: _Client, request: pb.WaitRequest) -> pb.WaitResponse:
        news = self._table.wait(client.pid, request.id_type, request.id, request.options)
        if news is None:
            return pb.WaitResponse()
        return pb.WaitResponse(
            pid=news.pid,
            code=news.code,
            status=news.status,
            uid=news.uid,
            utime_us=news.utime_us,
            stime_us=news.stime_us,
        )

    # Signals, groups, sessions.

    def _kill(self, client: _Client, request: pb.KillRequest) -> pb.KillResponse:
        target = request.pid
        if request.thread:
            if target < 0:
                raise Errno(common.EINVAL)
            target = target or request.thread
        is_kernels = request.code > 0 or (request.code == SI_TKILL and not request.thread)
        if is_kernels and target != client.pid:
            raise Errno(common.EPERM)  # rt_sigqueueinfo(2)
        sent = Signal(request.signal, request.code, value=request.value, thread=request.thread)
        there = self._clients.get(target)
        if there is not None and sent.signal >= RT_SIGNAL_MIN and there.mailbox.full:
            raise Errno(common.EAGAIN)
        self.tell(self._table.kill(client.pid, target, sent))
        return pb.KillResponse()

    def _set_group(self, client: _Client, request: pb.SetGroupRequest) -> pb.SetGroupResponse:
        self._table.set_group(client.pid, request.pid, request.group)
        return pb.SetGroupResponse()

    def _set_session(self, client: _Client, request: pb.SetSessionRequest) -> pb.SetSessionResponse:
        del request
        self._table.set_session(client.pid)
        return pb.SetSessionResponse()

    def _get_ids(self, client: _Client, request: pb.GetIdsRequest) -> pb.GetIdsResponse:
        process = self._table.get(request.pid or client.pid)
        return pb.GetIdsResponse(
            pid=process.pid, parent=process.parent, group=process.group, session=process.session
        )

    def _get_foreground(self, client: _Client, request: pb.GetForegroundRequest) -> pb.GetForegroundResponse:
        control = self._table.control_of(client.pid, request.terminal, request.by_master)
        return pb.GetForegroundResponse(group=control.foreground, session=control.session)

    def _set_foreground(self, client: _Client, request: pb.SetForegroundRequest) -> pb.SetForegroundResponse:
        self._table.set_foreground(client.pid, request.group, request.terminal)
        return pb.SetForegroundResponse()

    def _open_terminal(self, client: _Client, request: pb.OpenTerminalRequest) -> int:
        del client
        if not request.new:
            return self._ptys.open(request.number)
        self.terminals_changed()
        master = self._ptys.make()
        self.terminals_changed()  # a number that was another's has no session from that one
        return master

    def _list_terminals(self, client: _Client, request: pb.ListTerminalsRequest) -> pb.ListTerminalsResponse:
        del client, request
        entries = [
            pb.TerminalEntry(
                number=number, device=status.st_dev, inode=status.st_ino, rdev=status.st_rdev,
                mode=status.st_mode, uid=status.st_uid, gid=status.st_gid,
            )
            for number, status in self._ptys.all().items()
        ]  # fmt: skip
        return pb.ListTerminalsResponse(entries=entries)

    def _find_terminal(self, client: _Client, request: pb.FindTerminalRequest) -> pb.FindTerminalResponse:
        del request
        return pb.FindTerminalResponse(terminal=self._table.find_terminal(client.pid))

    def _take_terminal(self, client: _Client, request: pb.TakeTerminalRequest) -> pb.TakeTerminalResponse:
        if request.leave:
            self.tell(self._table.leave_terminal(client.pid, request.terminal))
        else:
            self._table.take_terminal(client.pid, request.terminal)
        return pb.TakeTerminalResponse()

    def _signal_terminal(self, client: _Client, request: pb.SignalTerminalRequest) -> pb.SignalTerminalResponse:
        del client
        self.tell(self._table.signal_foreground(request.terminal, request.signal))
        return pb.SignalTerminalResponse()

    def terminals_changed(self) -> None:
        """Pseudo-terminals may have lost their masters: their sessions are told."""
        for number in self._ptys.gone():
            self.tell(self._table.hang_up(number + 1))

    def _report_stop(self, client: _Client, request: pb.ReportStopRequest) -> pb.ReportStopResponse:
        if request.signal:
            self.tell(self._table.stop(client.pid, request.signal))
            self._stopped()
        else:
            self.tell(self._table.go_on(client.pid))
        return pb.ReportStopResponse()

    def _set_reaping(self, client: _Client, request: pb.SetReapingRequest) -> pb.SetReapingResponse:
        process = self._table.get(client.pid)
        process.no_zombies, process.no_stops = request.no_zombies, request.no_stops
        process.subreaper = request.subreaper
        return pb.SetReapingResponse()

    # What /proc shows.

    def _describe(self, client: _Client, request: pb.DescribeRequest) -> pb.DescribeResponse:
        if (
            len(request.name) > NAME_BYTES_MAX
            or len(request.command_line) > TEXT_BYTES_MAX
            or len(request.executable) > TEXT_BYTES_MAX
        ):
            raise Errno(common.EINVAL)
        process = self._table.get(client.pid)
        process.name, process.command_line = request.name, request.command_line
        process.executable = request.executable
        process.executed |= request.executed
        client.holds_locks = request.holds_locks
        return pb.DescribeResponse()

    def _list_processes(self, client: _Client, request: pb.ListProcessesRequest) -> pb.ListProcessesResponse:
        del client
        if request.pid:
            return pb.ListProcessesResponse(entries=[_entry(self._table.get(request.pid), in_full=True)])
        later = sorted((each for each in self._table if each.pid > request.after), key=lambda each: each.pid)
        return pb.ListProcessesResponse(entries=[_entry(each, in_full=False) for each in later[:LISTED_MAX]])

    # Futexes between processes.

    def _futex_register(self, client: _Client, request: pb.FutexRegisterRequest) -> pb.FutexRegisterResponse:
        self._futexes.register(client.pid, (request.word.segment, request.word.offset), request.count)
        return pb.FutexRegisterResponse()

    def _futex_wake(self, client: _Client, request: pb.FutexWakeRequest) -> pb.FutexWakeResponse:
        word = (request.wake.word.segment, request.wake.word.offset)
        wakes = self._futexes.wake(client.pid, word, request.wake.count)
        self._wake(wakes, request.wake.bitset)
        return pb.FutexWakeResponse(woken=sum(wake.count for wake in wakes))

    # Descriptors that the kernel process makes for several of them.

    def _join_fifo(self, client: _Client, request: pb.JoinFifoRequest) -> pb.JoinFifoResponse:
        key = request.device, request.inode
        ticket, ready, told = self._fifos.join(client.pid, key, request.access, request.waits)
        for pid, other in told:
            self._clients[pid].mailbox.put_fifo_ready(other)
            self._answer(self._clients[pid])
        return pb.JoinFifoResponse(ticket=ticket, ready=ready)

    def _fetch_fifo(self, client: _Client, request: pb.FetchFifoRequest) -> int:
        return self._fifos.copy(client.pid, request.ticket)

    def _leave_fifo(self, client: _Client, request: pb.LeaveFifoRequest) -> pb.LeaveFifoResponse:
        self._fifos.leave(client.pid, request.ticket)
        return pb.LeaveFifoResponse()

    def _watch(self, client: _Client, request: pb.WatchRequest) -> int:
        del client
        return self._exits.watch(request.pid, self._table.get(request.pid).state is State.ZOMBIE)

    def _open_page_map(self, client: _Client, request: pb.OpenPageMapRequest) -> int:
        del request
        return self._workers.open_page_map(client.worker)


def _entry(process: Process, *, in_full: bool) -> pb.ProcessEntry:
    entry = pb.ProcessEntry(
        pid=process.pid,
        parent=process.parent,
        group=process.group,
        session=process.session,
        state=ord(process.state.value),
        uid=process.uids.effective,
        name=process.name,
    )
    if in_full:
        entry.command_line, entry.executable = process.command_line, process.executable
    return entry
