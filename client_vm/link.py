"""A process's tie to the kernel process: the operations of farcall.v1.KernelService, and its events."""

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from google.protobuf.message import Message

from client_vm.abi.common import EINVAL, EMFILE
from client_vm.errors import Errno
from client_vm.frames import SignalInfo
from client_vm.signals import send_to_process, send_to_task
from client_vm.unix_records import Peer
from client_vm.waiting import Event
from farcall.v1.kernel_pb2 import (
    AwaitEventsRequest,
    BindSocketRequest,
    ConnectSocketRequest,
    DescribeRequest,
    ExitRequest,
    FetchFifoRequest,
    FindTerminalRequest,
    ForkedRequest,
    FutexRegisterRequest,
    FutexWake,
    FutexWakeRequest,
    FutexWord,
    GetForegroundRequest,
    GetIdsRequest,
    GetSenderRequest,
    GetSocketRequest,
    JoinFifoRequest,
    KillRequest,
    LeaveFifoRequest,
    ListenSocketRequest,
    ListProcessesRequest,
    ListSocketsRequest,
    ListTerminalsRequest,
    MakeSocketRequest,
    OpenPageMapRequest,
    OpenTerminalRequest,
    ProcessEntry,
    ReachSocketRequest,
    ReportStopRequest,
    SetForegroundRequest,
    SetGroupRequest,
    SetReapingRequest,
    SetSessionRequest,
    Signal,
    SignalTerminalRequest,
    SocketEntry,
    SocketName,
    TakeTerminalRequest,
    TerminalEntry,
    WaitRequest,
    WatchRequest,
)
from ipc import idle
from ipc.client import Client, Pending

if TYPE_CHECKING:
    from client_vm.lives import Ended
    from client_vm.process import Process

COMMAND_LINE_BYTES_MAX: Final = 4096
_WAIT_S: Final = 0.1
_PATIENCE: Final = 30
"""How often a worker waits that long for an event that was counted: every worker could write the count."""


class Ids(NamedTuple):
    """Where a process belongs."""

    pid: int
    parent: int
    group: int
    session: int


class KernelLink:
    """One process's calls to the kernel process, and what that tells it."""

    def __init__(self, client: Client, told: memoryview) -> None:
        self.client = client
        self.told = told
        """One word: how many events there have been for this process (client_vm.shared_offsets)."""
        self.children_news = 0
        """How often news of children have come: who looks for some compares it before sleeping."""
        self.fifos_ready: set[int] = set()
        """Tickets of FIFOs whose other end has come."""
        self.fifo_ready = Event()
        self.sockets_changed = Event()
        self.sockets_news = 0
        """How often a listening socket may have got room, or gone: compared before sleeping."""
        self.heard = 0
        """How many of them it has acted on."""
        self._events: Pending | None = None

    def _call(self, request: Message) -> Any:
        reply, response = self.client.call(request)
        if reply.errno:
            raise Errno(reply.errno)
        return response

    # -- events -------------------------------------------------------------------------------------

    def listen(self) -> None:
        """From now on events are heard."""
        if self._events is None:
            self._events = self.client.begin(AwaitEventsRequest(after=self.heard))

    def hear(self, process: "Process") -> None:
        """Acts on the events that there are, if any: waits for those that are on their way."""
        patience = _PATIENCE
        while self._events is not None:
            answer = self._events.result()
            if answer is None:
                if self.told[0] <= self.heard or not patience:
                    return
                patience -= 1
                idle.sleep([self.client], [], _WAIT_S)
                continue
            self._events = None
            for event in answer[1].events:
                self.heard += 1
                self._act(process, event)
            self.listen()

    def _act(self, process: "Process", event: Any) -> None:
        kind = event.WhichOneof("body")
        if kind == "signal":
            _deliver(process, event.signal)
        elif kind == "children_changed":
            self.children_news += 1
            process.children_changed.notify()
        elif kind == "new_parent":
            process.parent_pid = event.new_parent
        elif kind == "fifo_ready":
            self.fifos_ready.add(event.fifo_ready)
            self.fifo_ready.notify()
        elif kind == "sockets_changed":
            self.sockets_news += 1
            self.sockets_changed.notify()
        elif kind == "futex_wake":
            wake = event.futex_wake
            process.futexes.wake_here((wake.word.segment, wake.word.offset), wake.count, wake.bitset)

    # -- lives ----------------------------------------------------------------------------------------

    def forked(self, pid: int, host_pid: int, exit_signal: int) -> None:
        """The spare `pid` is a process now; host_pid 0: in this worker, for a while (vfork)."""
        self._call(ForkedRequest(pid=pid, host_pid=host_pid, exit_signal=exit_signal))

    def exit(self, status: int, signal: int, cpu_time_ns: int) -> None:
        """The process has ended."""
        self._call(ExitRequest(status=status, signal=signal, utime_us=cpu_time_ns // 1000))

    def wait(self, id_type: int, number: int, options: int) -> "Ended | None":
        """News of a child, taken; None: none yet. Errno(ECHILD)."""
        from client_vm.lives import Ended

        found = self._call(WaitRequest(id_type=id_type, id=max(number, 0), options=options))
        if not found.pid:
            return None
        return Ended(found.pid, found.code, found.status, found.uid, found.utime_us, found.stime_us)

    def describe(self, process: "Process") -> None:
        """What others see of it in /proc, and whether its worker must see to its end."""
        line = b"".join(argument + b"\0" for argument in process.arguments)[:COMMAND_LINE_BYTES_MAX]
        self._call(
            DescribeRequest(
                name=process.name,
                command_line=line,
                executable=process.executable_path(),
                executed=process.has_executed,
                holds_locks=process.may_hold_locks(),
            )
        )

    def close(self) -> None:
        """This worker has no more use for it; the process may live on elsewhere."""
        self.client.forget()

    # -- signals, groups --------------------------------------------------------------------------------

    def kill(self, pid: int, thread: int, signal: int, code: int, value: int) -> None:
        """kill(2) and its kin. Errno: ESRCH, EPERM, EINVAL."""
        self._call(KillRequest(pid=pid, thread=thread, signal=signal, code=code, value=value))

    def stopped(self, signal: int) -> None:
        self._call(ReportStopRequest(signal=signal))

    def continued(self) -> None:
        self._call(ReportStopRequest(signal=0))

    def set_reaping(self, no_zombies: bool, no_stops: bool, subreaper: bool) -> None:
        self._call(SetReapingRequest(no_zombies=no_zombies, no_stops=no_stops, subreaper=subreaper))

    def ids(self, pid: int) -> Ids:
        """Of a process, 0: the caller's. Errno(ESRCH)."""
        found = self._call(GetIdsRequest(pid=pid))
        return Ids(found.pid, found.parent, found.group, found.session)

    def set_group(self, pid: int, group: int) -> None:
        """setpgid(2)'s errnos."""
        self._call(SetGroupRequest(pid=pid, group=group))

    def set_session(self) -> int:
        """setsid(2). Errno(EPERM)."""
        self._call(SetSessionRequest())
        return self.ids(0).pid

    def foreground(self, terminal: int, by_master: bool = False) -> tuple[int, int]:
        """(foreground group, session) of a terminal (tcgetpgrp(3)). Errno(ENOTTY)."""
        found = self._call(GetForegroundRequest(terminal=terminal, by_master=by_master))
        return found.group, found.session

    def set_foreground(self, terminal: int, group: int) -> None:
        """tcsetpgrp(3). Errno: ENOTTY, EPERM, EINVAL."""
        if group <= 0:
            raise Errno(EINVAL)
        self._call(SetForegroundRequest(terminal=terminal, group=group))

    def new_terminal(self) -> int:
        """The master of a new pseudo-terminal, the caller's to close. Errno: ENOSPC."""
        return self._fetch(OpenTerminalRequest(new=True))

    def open_terminal(self, number: int) -> int:
        """The slave of that number, the caller's to close. Errno: ENOENT, EIO."""
        return self._fetch(OpenTerminalRequest(number=number))

    def terminals(self) -> list[TerminalEntry]:
        """The run's pseudo-terminals."""
        return list(self._call(ListTerminalsRequest()).entries)

    def find_terminal(self) -> int:
        """The one that controls the session. Errno(ENXIO)."""
        return int(self._call(FindTerminalRequest()).terminal)

    def take_terminal(self, terminal: int) -> None:
        """TIOCSCTTY. Errno(EPERM)."""
        self._call(TakeTerminalRequest(terminal=terminal))

    def leave_terminal(self, terminal: int) -> None:
        """TIOCNOTTY. Errno: ENOTTY, EPERM."""
        self._call(TakeTerminalRequest(terminal=terminal, leave=True))

    def signal_terminal(self, terminal: int, signal: int) -> None:
        """To its foreground group, if it has one."""
        self._call(SignalTerminalRequest(terminal=terminal, signal=signal))

    def processes(self, pid: int = 0) -> list[ProcessEntry]:
        """What others may see of the run's processes: of all, by ascending pid, or more of one. Errno(ESRCH)."""
        if pid:
            return list(self._call(ListProcessesRequest(pid=pid)).entries)
        found: list[ProcessEntry] = []
        while entries := self._call(ListProcessesRequest(after=found[-1].pid if found else 0)).entries:
            found += entries
        return found

    # -- descriptors that it makes ----------------------------------------------------------------------

    def join_fifo(self, key: tuple[int, int], access: int, waits: bool) -> tuple[int, bool]:
        """(ticket, whether its descriptor may be fetched). Errno: ENXIO, ENFILE."""
        answer = self._call(JoinFifoRequest(device=key[0], inode=key[1], access=access, waits=waits))
        return answer.ticket, answer.ready

    def fetch_fifo(self, ticket: int) -> int:
        """The pipe's end, the caller's to close. Errno."""
        return self._fetch(FetchFifoRequest(ticket=ticket))

    def leave_fifo(self, ticket: int) -> None:
        """Whoever had the ticket has its end, or does not wait any more."""
        self.fifos_ready.discard(ticket)
        self._call(LeaveFifoRequest(ticket=ticket))

    def watch(self, pid: int) -> int:
        """A descriptor that is readable once the process has ended, the caller's. Errno: ESRCH, EMFILE."""
        return self._fetch(WatchRequest(pid=pid))

    def open_page_map(self) -> int:
        """The host's /proc/PID/pagemap of this worker, the caller's. Errno: EMFILE."""
        return self._fetch(OpenPageMapRequest())

    # -- unix sockets: farcall/v1/kernel.proto has their errnos --------------------------------------------

    def make_socket(self, kind: int) -> tuple[bytes, int]:
        """(token, near end, the caller's)."""
        descriptor, response = self._fetch_with(MakeSocketRequest(kind=kind))
        return response.token, descriptor

    def bind_socket(self, token: bytes, name: SocketName) -> bytes:
        """The address that it has now."""
        return bytes(self._call(BindSocketRequest(token=token, name=name)).address)

    def listen_socket(self, token: bytes, backlog: int) -> None:
        self._call(ListenSocketRequest(token=token, backlog=backlog))

    def connect_socket(self, token: bytes, to: SocketName | None, waits: bool) -> tuple[bytes, Peer]:
        """(address of whom it has reached, who that is)."""
        found = self._call(ConnectSocketRequest(token=token, to=to, waits=waits))
        return found.address, Peer(found.pid, found.uid, found.gid)

    def reach_socket(self, token: bytes, to: SocketName | None) -> int:
        """Where datagrams are written, the caller's."""
        return self._fetch(ReachSocketRequest(token=token, to=to))

    def get_socket(self, token: bytes) -> tuple[bytes, bytes]:
        """(its address, that of whom its datagrams go to)."""
        found = self._call(GetSocketRequest(token=token))
        return found.address, found.peer_address

    def sockets(self) -> list[SocketEntry]:
        """Those of the run that are not connected."""
        found: list[SocketEntry] = []
        while entries := self._call(ListSocketsRequest(after=found[-1].number if found else 0)).entries:
            found += entries
        return found

    def sender(self, host_pid: int) -> int:
        """The guest process that a host process is; 0: none that is known."""
        try:
            return int(self._call(GetSenderRequest(host_pid=host_pid)).pid)
        except Errno:
            return 0

    def _fetch(self, request: Message) -> int:
        return self._fetch_with(request)[0]

    def _fetch_with(self, request: Message) -> tuple[int, Any]:
        reply, response = self.client.call(request)
        if reply.errno:
            raise Errno(reply.errno)
        descriptor = reply.take_descriptor()
        if descriptor < 0:
            raise Errno(EMFILE)
        return descriptor, response

    # -- shared futexes ---------------------------------------------------------------------------------

    def register(self, key: tuple[int, int]) -> None:
        """As client_vm.futex.Broker."""
        self._call(FutexRegisterRequest(word=_word(key), count=1))

    def forget(self, key: tuple[int, int]) -> None:
        """As client_vm.futex.Broker."""
        self._call(FutexRegisterRequest(word=_word(key), count=-1))

    def wake(self, key: tuple[int, int], count: int, bitset: int) -> int:
        """As client_vm.futex.Broker."""
        wake = FutexWake(word=_word(key), count=count, bitset=bitset)
        return int(self._call(FutexWakeRequest(wake=wake)).woken)


def _word(key: tuple[int, int]) -> FutexWord:
    return FutexWord(segment=key[0], offset=key[1])


def _deliver(process: "Process", signal: Signal) -> None:
    """A signal from outside the process. One for a thread that has ended is lost, as on Linux."""
    info = SignalInfo(
        signal.signal, signal.code, pid=signal.pid, uid=signal.uid, status=signal.status, value=signal.value
    )
    if not signal.thread:
        send_to_process(process, info)
        return
    task = process.tasks.get(signal.thread)
    if task is not None:
        send_to_task(task, info)
