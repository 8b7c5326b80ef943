"""A guest run inside the test's own process: worker, servers and the direct carrier, and every syscall counted.

Standard input is empty; standard output is kept. No alarm preempts the guest, and it must end by itself.
"""

import stat
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import client_vm.table  # noqa: F401  # fills TABLE
from client_vm import worker
from client_vm.descriptors import OpenFile
from client_vm.dispatch import Dispatch, Handler
from client_vm.errors import GuestExit
from client_vm.process import Kernel, Task
from client_vm.rings import Rings
from client_vm.seeded import GuestRandom
from farcall.v1.file_pb2 import Attributes
from farcall.v1.kernel_pb2 import StartGuest
from farcall.v1.session_pb2 import (
    SERVER_KIND_FILE,
    SERVER_KIND_MEMORY,
    Credentials,
    HelloRequest,
    ServerKind,
)
from ipc.client import Client
from ipc.direct import DirectChannel
from ipc.endpoint import Peer
from ipc.seams import HostClock, HostRandom
from servers.dispatch import Dispatcher
from servers.file.service import open_file_service
from servers.ledger import MemoryLedger
from servers.memory import MemoryService
from servers.service import Service

GUEST_PID = 2
QUOTA_BYTES = 8 << 30
PEER = Peer("uid:0", "direct")


class Stream(OpenFile):
    """A pipe's end: nothing to read, and what is written is kept."""

    def __init__(self, flags: int) -> None:
        super().__init__(flags)
        self.written = bytearray()

    def read(self, views: list[memoryview]) -> int:
        return 0

    def write(self, data: memoryview) -> int:
        self.written += data
        return len(data)

    def attributes(self) -> Attributes:
        return Attributes(ino=1, mode=stat.S_IFIFO | 0o600, nlink=1, block_size=4096)

    def path(self) -> bytes:
        return b"pipe:[1]"


@dataclass
class Counted:
    """What a guest did: its end, its output, and per row the calls and those that succeeded."""

    status: int = 0
    signal: int = 0
    stdout: str = ""
    calls: Counter[str] = field(default_factory=Counter)
    successes: Counter[str] = field(default_factory=Counter)


class Servers:
    """A file and a memory server in this process (client_vm.rings.Rings, as far as a worker's start needs it)."""

    def __init__(self, root: Path, state: Path) -> None:
        clock, random = HostClock(), HostRandom()
        self._services: list[Service] = [
            open_file_service(state, root, clock, random),
            MemoryService(MemoryLedger(clock, random), QUOTA_BYTES),
        ]
        kinds = (SERVER_KIND_FILE, SERVER_KIND_MEMORY)
        self._clients = {
            kind: self._client(kind, service) for kind, service in zip(kinds, self._services, strict=True)
        }

    @staticmethod
    def _client(kind: ServerKind, service: Service) -> Client:
        clock = HostClock()
        endpoint = Dispatcher(service, clock, HostRandom())
        hello = endpoint.hello(
            HelloRequest(protocol_min=1, protocol_max=1, kind=kind, credentials=Credentials(uid=0, gid=0)), PEER
        )
        assert not hello.outcome.errno and not hello.outcome.refusal

        def connect() -> DirectChannel:
            return DirectChannel(endpoint, PEER, hello.session)

        return Client(
            connect(),
            session=hello.session,
            opcodes=hello.opcodes,
            reconnect=connect,
            clock=clock,
            pause=time.sleep,
        )

    def client(self, kind: ServerKind, _timeout_s: float | None) -> Client:
        return self._clients[kind]

    def close(self) -> None:
        for service in self._services:
            service.close()


def _counting(name: str, handler: Handler, counted: Counted) -> Callable[..., int]:
    def count(task: Task, *arguments: Any) -> int:
        counted.calls[name] += 1
        try:
            result = handler(task, *arguments)
        except GuestExit:
            counted.successes[name] += 1
            raise
        if result >= 0:
            counted.successes[name] += 1
        return result

    return count


def _counted_dispatch(task: Task, counted: Counted) -> Dispatch:
    names = {number: name for name, number in task.architecture.abi.SYSCALLS.items()}
    calls = {
        number: (_counting(names[number], handler, counted), decoders)
        for number, (handler, decoders) in task.dispatch.calls.items()
    }
    return Dispatch(calls, task.dispatch.refused)


def _kernel() -> Kernel:
    return Kernel(
        clock=HostClock(),
        random=GuestRandom(bytes(32), GUEST_PID),
        hostname=b"host",
        terminal=None,
        memory_total_bytes=8 << 30,
        cpus=2,
        sleep=time.sleep,
        cpu_time_ns=time.process_time_ns,
        resident_bytes=lambda: 20 << 20,
    )


def run_guest(servers: Servers, directory: Path, arguments: list[str], environment: dict[str, str]) -> Counted:
    """Runs the program arguments[0] to its end, in a working directory of the guest's root."""
    start = StartGuest(
        program=arguments[0].encode(),
        arguments=[argument.encode() for argument in arguments],
        environment=[f"{key}={value}".encode() for key, value in environment.items()],
        working_directory=bytes(directory),
        pid=GUEST_PID,
        credentials=Credentials(uid=0, gid=0),
        random_key=bytes(32),
        umask=0o022,
    )
    rings: Rings = servers  # type: ignore[assignment]  # only client() is asked for
    process = worker._make_process(rings, start)
    output = Stream(1)
    for fd, stream in ((0, Stream(0)), (1, output), (2, output)):
        process.fds.install(fd, stream, False)
    task = worker._load(_kernel(), process, start)
    counted = Counted()
    task.dispatch = _counted_dispatch(task, counted)
    ended = worker._loop(task)
    for fd in process.fds.numbers():
        process.fds.close(fd)
    process.cwd.drop()
    process.space.clear()
    task.cpu.close()
    process.space.arena.close()
    counted.status, counted.signal = ended.status, ended.signal
    counted.stdout = output.written.decode(errors="replace")
    return counted



