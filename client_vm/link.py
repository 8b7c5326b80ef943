"""A process's tie to the kernel process: the operations of farcall.v1.KernelService, and its events."""

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from google.protobuf.message import Message

from client_vm.abi.common import EINVAL
from client_vm.errors import Errno
from client_vm.frames import SignalInfo
from client_vm.signals import send_to_process, send_to_task
from farcall.v1.kernel_pb2 import (
    AwaitEventsRequest,
    DescribeRequest,
    ExitRequest,
    ForkedRequest,
    FutexRegisterRequest,
    FutexWake,
    FutexWakeRequest,
    FutexWord,
    GetForegroundRequest,
    GetIdsRequest,
    KillRequest,
    ListProcessesRequest,
    ProcessEntry,
    ReportStopRequest,
    SetForegroundRequest,
    SetGroupRequest,
    SetReapingRequest,
    SetSessionRequest,
    Signal,
    WaitRequest,
)
from ipc.client import Client, Pending

if TYPE_CHECKING:
    from client_vm.lives import Ended
    from client_vm.process import Process

COMMAND_LINE_BYTES_MAX: Final = 4096


class Ids(NamedTuple):
    """Where a process belongs."""

    pid: int
    parent: int
    group: int
    session: int


class KernelLink:
    """One process's calls to the kernel process, and what that tells it."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.children_news = 0
        """How often news of children have come: who looks for some compares it before sleeping."""
        self._heard = 0
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
            self._events = self.client.begin(AwaitEventsRequest(after=self._heard))

    def hear(self, process: "Process") -> None:
        """Acts on the events that have come, if any."""
        while self._events is not None:
            answer = self._events.result()
            if answer is None:
                return
            self._events = None
            for event in answer[1].events:
                self._heard += 1
                self._act(process, event)
            self.listen()

    def _act(self, process: "Process", event: Any) -> None:
        kind = event.WhichOneof("body")
        if kind == "signal":
            _deliver(process, event.signal)
        elif kind == "children_changed":
            self.children_news += 1
            process.children_changed.notify()
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
        """What others see of it in /proc."""
        line = b"".join(argument + b"\0" for argument in process.arguments)[:COMMAND_LINE_BYTES_MAX]
        self._call(
            DescribeRequest(
                name=process.name,
                command_line=line,
                executable=process.executable_path(),
                executed=process.has_executed,
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

    def foreground(self) -> int:
        """The terminal's foreground group (tcgetpgrp(3)). Errno(ENOTTY)."""
        return int(self._call(GetForegroundRequest()).group)

    def set_foreground(self, group: int) -> None:
        """tcsetpgrp(3). Errno: ENOTTY, EPERM, EINVAL."""
        if group <= 0:
            raise Errno(EINVAL)
        self._call(SetForegroundRequest(group=group))

    def processes(self, pid: int = 0) -> list[ProcessEntry]:
        """What others may see of the processes of the run."""
        return list(self._call(ListProcessesRequest(pid=pid)).entries)

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
