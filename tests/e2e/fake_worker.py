"""`farcall run -- SCENARIO` with a worker that runs no guest: it forks and talks to the kernel process as told.

As a program: `python -m tests.e2e.fake_worker [OPTION...] SCENARIO`. Scenarios print what they see, line by line.
"""

import contextlib
import ctypes
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from typing import Any, NoReturn

from client_vm import command, host, shared_offsets, worker
from client_vm.control import SPARE_DESCRIPTORS_MAX, ControlSocket
from client_vm.house import READY_NAME
from client_vm.process_table import P_ALL
from farcall.v1 import kernel_pb2 as pb
from farcall.v1.file_pb2 import GetAttributesRequest
from farcall.v1.session_pb2 import SERVER_KIND_FILE, SERVER_KIND_KERNEL
from ipc import idle
from ipc.client import Client, Pending
from ipc.message import Call
from ipc.operations import BY_NAME
from ipc.ring_client import RingChannel
from ipc.seams import HostClock

CLONE_PARENT = 0x8000
SYS_CLONE = 56
WEXITED, WSTOPPED = 4, 2
LIMIT_S = 30.0

CLOCK = HostClock()


def say(*words: object) -> None:
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


class Fake:
    """One worker."""

    def __init__(self, pid: int, control: socket.socket, doorbell: socket.socket) -> None:
        self.pid = pid
        self.control = ControlSocket(control, descriptors_max=SPARE_DESCRIPTORS_MAX)
        self.bare = control
        self.doorbell = doorbell
        self.spares: list[tuple[pb.SpareGrant, list[int]]] = []
        self.clients: dict[int, Client] = {}
        self.pending: Pending | None = None
        self.taken = 0
        self.unread: list[Any] = []

    def use(self, grant: pb.RingGrant, memfd: int, control: int) -> None:
        """A ring, from now on."""
        channel = RingChannel(memfd, socket.socket(fileno=control), self.doorbell, clock=CLOCK)
        self.clients[grant.kind] = Client(
            channel,
            session=grant.session,
            opcodes=grant.opcodes,
            reconnect=lambda: self.reconnect(grant.kind),
            clock=CLOCK,
            pause=time.sleep,
        )

    def reconnect(self, kind: int) -> RingChannel:
        self.control.send(pb.WorkerMessage(ring_wanted=kind))  # type: ignore[arg-type]
        while True:
            message, descriptors = self.control.receive(pb.KernelMessage)
            if message.WhichOneof("body") == "ring":
                return RingChannel(
                    descriptors[0], socket.socket(fileno=descriptors[1]), self.doorbell, clock=CLOCK
                )
            self.spares.append((message.spare, descriptors))

    def begin(self) -> list[str]:
        """Takes its first rings; the guest's arguments."""
        while True:
            message, descriptors = self.control.receive(pb.KernelMessage)
            if message.WhichOneof("body") == "start":
                return [os.fsdecode(word) for word in message.start.arguments]
            self.use(message.ring, *descriptors)

    @property
    def kernel(self) -> Client:
        return self.clients[SERVER_KIND_KERNEL]

    def ask(self, request: Any) -> Any:
        """The response, or an errno."""
        reply, response = self.kernel.call(request)
        return response if response is not None else reply.errno

    def spare(self) -> tuple[pb.SpareGrant, list[int]]:
        """One is asked for if there is none."""
        if not self.spares:
            self.control.send(pb.WorkerMessage(spares_wanted=1))
            message, descriptors = self.control.receive(pb.KernelMessage)
            self.spares.append((message.spare, descriptors))
        return self.spares.pop(0)

    def fork(self, child: "Callable[[Fake], int]", *, tell: bool = True) -> tuple[int, int]:
        """(guest pid, host pid) of a child that runs `child` and ends with its result."""
        grant, descriptors = self.spare()
        host_pid = _clone()
        if not host_pid:
            _run(lambda: self._become(grant, descriptors), child)
        for descriptor in descriptors:
            os.close(descriptor)
        if tell:
            answer = self.ask(pb.ForkedRequest(pid=grant.pid, host_pid=host_pid, exit_signal=signal.SIGCHLD))
            assert not isinstance(answer, int), answer
        return grant.pid, host_pid

    def _become(self, grant: pb.SpareGrant, descriptors: list[int]) -> "Fake":
        host.die_with_parent(os.getppid(), signal.SIGKILL)
        for client in self.clients.values():
            client.forget()
        for _, unused in self.spares:
            for descriptor in unused:
                os.close(descriptor)
        self.bare.close()
        self.doorbell.close()
        child = Fake(grant.pid, socket.socket(fileno=descriptors[0]), socket.socket(fileno=descriptors[1]))
        for index, ring in enumerate(grant.rings):
            child.use(ring, descriptors[2 + 2 * index], descriptors[3 + 2 * index])
        return child

    def event(self) -> Any:
        """The next event."""
        signal.signal(signal.SIGURG, signal.SIG_IGN)
        deadline = CLOCK.monotonic_s() + LIMIT_S
        while not self.unread:
            assert CLOCK.monotonic_s() < deadline, "no event"
            if self.pending is None:
                self.pending = self.kernel.begin(pb.AwaitEventsRequest(after=self.taken))
            answer = self.pending.result()
            if answer is None:
                idle.sleep([self.kernel], [], 1.0)
                continue
            self.pending = None
            self.unread += answer[1].events
            self.taken += len(answer[1].events)
        return self.unread.pop(0)

    def signal(self) -> int:
        """The next signal."""
        while True:
            event = self.event()
            if event.WhichOneof("body") == "signal":
                return int(event.signal.signal)

    def wait(self, options: int = WEXITED) -> tuple[int, int, int]:
        """wait(2): pid, code, status."""
        while True:
            news = self.ask(pb.WaitRequest(id_type=P_ALL, options=options))
            if isinstance(news, int):
                return 0, 0, news
            if news.pid:
                return news.pid, news.code, news.status
            self.event()


def _clone() -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    ctypes.pythonapi.PyOS_BeforeFork()
    pid = int(libc.syscall(SYS_CLONE, CLONE_PARENT | signal.SIGCHLD, 0, 0, 0, 0))
    if pid:
        ctypes.pythonapi.PyOS_AfterFork_Parent()
    else:
        ctypes.pythonapi.PyOS_AfterFork_Child()
    return pid


def _run(become: Callable[[], Fake], main: Callable[[Fake], int]) -> NoReturn:
    status = 99
    try:
        fake = become()
        status = main(fake)
        fake.ask(pb.ExitRequest(status=status))
    except BaseException as error:
        with contextlib.suppress(OSError):
            say("failed:", repr(error))
    finally:
        os._exit(status)


def tree(fake: Fake) -> int:
    """Three generations; statuses come back; the servers know each of them."""

    def leaf(child: Fake) -> int:
        child.clients[SERVER_KIND_FILE].call(GetAttributesRequest())
        return 4

    def middle(child: Fake) -> int:
        for _ in range(3):
            child.fork(leaf)
        statuses = sorted(child.wait()[1:] for _ in range(3))
        say("middle", *statuses, child.wait()[2])
        return 3

    pid, _ = fake.fork(middle)
    say("first", fake.wait() == (pid, 1, 3))
    return 5


def many(fake: Fake) -> int:
    """Children one after the other, with the spares that there are."""
    count = 200
    begin = CLOCK.monotonic_s()
    for _ in range(count):
        pid, _ = fake.fork(lambda child: 0)
        assert fake.wait() == (pid, 1, 0)
    say("many", fake.wait()[2])
    os.write(2, f"{(CLOCK.monotonic_s() - begin) / count * 1e3:.2f} ms\n".encode())
    return 0


def flight(fake: Fake) -> int:
    """A hundred children at a time."""
    for _ in range(100):
        fake.fork(lambda child: child.signal())
    fake.ask(pb.KillRequest(pid=-1, signal=signal.SIGUSR1))
    say("flight", sorted({fake.wait()[1:] for _ in range(100)}), fake.wait()[2])
    return 0


def killed(fake: Fake) -> int:
    """A worker that is killed by somebody else, and one that another guest kills."""
    pid, host_pid = fake.fork(lambda child: child.signal())
    os.kill(host_pid, signal.SIGKILL)
    say(fake.wait() == (pid, 2, 9))
    pid, _ = fake.fork(lambda child: child.signal())
    fake.ask(pb.KillRequest(pid=pid, signal=signal.SIGKILL))
    say(fake.wait() == (pid, 2, 9))
    return 0


def untold(fake: Fake) -> int:
    """A parent that dies before it has told of its child, which is loyal (its ties break) or hostile."""

    def parent(child: Fake) -> int:
        child.fork(loyal, tell=False)
        child.fork(hostile, tell=False)
        os._exit(1)

    def loyal(child: Fake) -> int:
        with contextlib.suppress(EOFError):
            child.control.receive(pb.KernelMessage)
        say("loyal ends")
        os._exit(0)

    def hostile(child: Fake) -> int:
        time.sleep(LIMIT_S)
        return 0

    pid, _ = fake.fork(parent)
    say(fake.wait() == (pid, 1, 1))
    time.sleep(0.2)
    return 6


def leaves(fake: Fake) -> int:
    """The first process ends before its children."""
    for _ in range(3):
        fake.fork(lambda child: child.signal())
    return 8


def handles(fake: Fake) -> int:
    """A guest that handles what comes from outside."""
    fake.pending = fake.kernel.begin(pb.AwaitEventsRequest())
    fake.ask(pb.GetIdsRequest())  # the one before has arrived
    say("up")
    while True:
        number = fake.signal()
        say(signal.Signals(number).name)
        if number == signal.SIGTERM:
            return 9
        if number == signal.SIGTSTP:
            fake.ask(pb.ReportStopRequest(signal=number))


def deaf(fake: Fake) -> int:
    """A guest that asks for events and then hears nothing."""
    fake.pending = fake.kernel.begin(pb.AwaitEventsRequest())
    fake.ask(pb.GetIdsRequest())
    signal.signal(signal.SIGURG, signal.SIG_IGN)
    say("up")
    time.sleep(LIMIT_S)
    return 0


def nonsense(fake: Fake) -> int:
    """A child, then the first process, break the rules of the kernel ring."""
    pid, _ = fake.fork(_break_ring)
    say(fake.wait() == (pid, 2, 9))
    return _break_ring(fake)


def _break_ring(fake: Fake) -> int:
    fake.kernel.channel.submit(Call(BY_NAME["Wait"].opcode, b"\xff\xff"))
    time.sleep(LIMIT_S)
    return 0


def babble(fake: Fake) -> int:
    """As above, by their control sockets."""

    def child(other: Fake) -> int:
        other.bare.send(b"nonsense")
        time.sleep(LIMIT_S)
        return 0

    pid, _ = fake.fork(child)
    say(fake.wait() == (pid, 2, 9))
    return child(fake)


def hoard(fake: Fake) -> int:
    """A child that asks for spares, uses none and ends."""

    def child(other: Fake) -> int:
        other.control.send(pb.WorkerMessage(spares_wanted=1000))
        for _ in range(16):
            other.control.receive(pb.KernelMessage)
        say("has 16")
        os.read(0, 1)
        return 0

    os.read(0, 1)
    fake.fork(child)
    fake.wait()
    say("ended")
    os.read(0, 1)
    return 0


def restart(fake: Fake) -> int:
    """A child whose file server dies and comes back."""

    def child(other: Fake) -> int:
        files = other.clients[SERVER_KIND_FILE]
        files.call(GetAttributesRequest())
        say("up")
        os.read(0, 1)
        files.call(GetAttributesRequest())
        say("again")
        return 0

    fake.fork(child)
    return fake.wait()[2]


def _main(control: socket.socket, doorbell: socket.socket, parent: int, *, offsets: int) -> NoReturn:
    def become() -> Fake:
        host.die_with_parent(parent, signal.SIGKILL)
        assert os.fstat(offsets).st_size == shared_offsets.MEMORY_BYTES
        return Fake(2, control, doorbell)

    def begin(fake: Fake) -> int:
        scenario = fake.begin()[0]
        host.name_process(READY_NAME)
        return int(globals()[scenario](fake))

    _run(become, begin)


if __name__ == "__main__":
    worker.main = _main
    sys.exit(command.main(["run", *sys.argv[1:]]))
