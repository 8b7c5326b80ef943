"""Server processes for tests: started, waited for, killed by pid, never left behind; and a ring to them."""

import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import trio

from farcall.v1.session_pb2 import Credentials, HelloRequest, HelloResponse, ServerKind
from ipc.client import Client, SessionLostError
from ipc.limits import PROTOCOL_MAX, PROTOCOL_MIN
from ipc.ring_client import RingChannel, open_ring
from ipc.seams import HostClock

REPOSITORY = Path(__file__).parents[2]
READY_S = 20.0
AT_ONCE = max(1, (os.cpu_count() or 1) // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")))
"""Guests that one process of the tests runs at a time: the processors are shared with the others."""
END_S = 10.0


def environment(**more: str) -> dict[str, str]:
    """The caller's, with the sources on Python's path."""
    path = os.pathsep.join((str(REPOSITORY), str(REPOSITORY / "proto")))
    return {**os.environ, "PYTHONPATH": path, **more}


def command(*arguments: object, lacking: Collection[str] = ()) -> list[str]:
    """`python -m servers ARGUMENTS`; of a server without these operations, if there are any."""
    module = ("tests.support.lacking", ",".join(lacking)) if lacking else ("servers",)
    return [sys.executable, "-m", *module, *map(str, arguments)]


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    """A server that is expected to end by itself."""
    return subprocess.run(
        command(*arguments), env=environment(), capture_output=True, text=True, timeout=READY_S, check=False
    )


@dataclass
class Server:
    """One process; `address` is what it said it is ready at."""

    process: subprocess.Popen[bytes]
    address: str = ""

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Sends the signal and gives the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(END_S)

    def errors(self) -> str:
        """What it wrote to stderr, once it has ended."""
        assert self.process.stderr is not None
        return self.process.stderr.read().decode()


def read_line(descriptor: int, within_s: float = READY_S) -> str:
    """The first line that comes through the pipe; "" at its end. TimeoutError."""
    line = b""
    while not line.endswith(b"\n"):
        if not select.select([descriptor], [], [], within_s)[0]:
            raise TimeoutError(f"no line within {within_s} s, only {line!r}")
        byte = os.read(descriptor, 1)
        if not byte:
            break
        line += byte
    return line.decode()


@contextmanager
def serving(*arguments: object, **variables: str) -> Iterator[Server]:
    """A server that is ready; killed at the end if the test did not stop it."""
    process = subprocess.Popen(
        command(*arguments),
        env=environment(**variables),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None and process.stderr is not None
        line = read_line(process.stdout.fileno())
        if not line.startswith("ready "):
            process.wait(END_S)
            raise AssertionError(f"{arguments}: {line!r}, {process.stderr.read().decode()}")
        yield Server(process, line.removeprefix("ready ").strip())
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(END_S)
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()


def free_port() -> int:
    """One that nobody had a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        port: int = found.getsockname()[1]
        return port


@dataclass
class RingSession:
    """A session over rings that finds its server again, as a worker's does."""

    path: str
    """Of the ring socket."""
    kind: ServerKind
    revive: Callable[[], object] = lambda: None
    """Called when the server was lost, before the session is resumed."""
    hello: HelloResponse = field(default_factory=HelloResponse)
    lost: int = 0

    def __post_init__(self) -> None:
        self._receiver, self._doorbell = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self._receiver.setblocking(False)

    def open(self) -> Client:
        """Opens the session. For a thread without a trio loop, or one of its own."""
        channel = self.connect()
        return Client(
            channel,
            session=self.hello.session,
            opcodes=self.hello.opcodes,
            reconnect=self._reconnect,
            clock=HostClock(),
            pause=lambda _: None,
            server_timeout_s=20,
        )

    def connect(self) -> RingChannel:
        """A ring for the session; it is resumed if there is one. SessionLostError."""
        request = HelloRequest(
            protocol_min=PROTOCOL_MIN,
            protocol_max=PROTOCOL_MAX,
            kind=self.kind,
            credentials=Credentials(),
            resume_session=self.hello.session,
            resume_secret=self.hello.secret,
        )
        opened = trio.run(open_ring, self.path, request, self._doorbell)
        if opened.memfd < 0:
            opened.close()
            raise SessionLostError(str(opened.response.outcome))
        self.hello = opened.response
        return RingChannel(opened.memfd, opened.control, self._receiver, clock=HostClock())

    def _reconnect(self) -> RingChannel:
        self.lost += 1
        self.revive()
        return self.connect()

    def close(self) -> None:
        """Closes the doorbell."""
        self._receiver.close()
        self._doorbell.close()
