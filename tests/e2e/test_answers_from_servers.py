"""A guest's answers come from the servers: its worker does nothing on the host itself, waits while a server is
stopped, and what it reads and writes crosses the network where the network is the carrier."""

import itertools
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.e2e import processes, roots
from tests.e2e.runs import LIMIT_S, World, await_line, farcall, send, silent, state, world
from tests.e2e.usage import usage
from tests.guests.build import build

ARCHS = ("x86_64", "arm64")
DEPLOYMENTS = ("ring", "grpc-unix", "grpc-tcp", "inproc")
SIZE = 64 << 20
"""Of the mappings of guests/servant.c."""
FORBIDDEN = (
    "%file,%creds,socket,connect,bind,accept,accept4,execve,execveat,clone,clone3,fork,vfork,memfd_create,"
    "open_by_handle_at,io_uring_setup,ptrace,process_vm_readv,process_vm_writev,pidfd_open,pidfd_getfd,bpf,"
    "mount_setattr,fsopen,fsmount,move_mount,unshare,setns,kcmp,ftruncate,fallocate,fchmod,fchown,getdents64"
)
"""strace's set of calls that open, connect or execute anything, or name a file (strace(1): %file)."""
MARKER = 'prctl(PR_SET_NAME, "farcall-guest")'
"""By which a worker says that its start-up is over."""
GUESTS = (
    "files_attributes", "files_data", "files_names", "files_open", "once", "memory", "pseudo", "clocks",
    "process", "unknown", "faults",
)  # fmt: skip
"""Programs of tests/guests that together make every call the table has."""


@pytest.fixture
def runs() -> Iterator[World]:
    with world() as made:
        yield made


@contextmanager
def placed(deployment: str, folder: Path, root: Path) -> Iterator[list[str]]:
    """Options of `farcall run` for the deployment over a root."""
    if deployment in ("ring", "inproc"):
        yield ["--transport", deployment, "--root", str(root)]
        return
    file, memory = (f"unix:{folder}/{kind}" for kind in ("f", "m"))
    if deployment == "grpc-tcp":
        file = memory = "127.0.0.1:0"
    with (
        processes.serving("file", "--listen", file, "--root", root, "--state", folder / "state") as one,
        processes.serving("memory", "--listen", memory) as other,
    ):
        yield ["--transport", "grpc", "--file", one.address, "--memory", other.address]


# Nothing is done on the host.


def traced(runs: World, options: list[str], *guest: object) -> dict[str, list[str]]:
    """The forbidden calls of each process of a run to its end, by its number, the marker among them."""
    prefix = runs.folder / "trace"
    strace = ["strace", "-f", "-ff", "--seccomp-bpf", "-qq", "-e", "signal=none", "-s", "200"]
    calls = ["-e", f"trace=prctl,{FORBIDDEN}", "-o", str(prefix)]
    done = subprocess.run(
        [*strace, *calls, *farcall("run", *options, "--", *guest)],
        cwd=runs.folder,
        env=runs.environment({}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=2 * LIMIT_S,
        check=False,
    )
    assert b"Traceback" not in done.stderr and b"FAILED" not in done.stdout, done
    assert done.returncode in (0, 3, 133, 134, 139), done
    found = {path.suffix: path.read_text().splitlines() for path in prefix.parent.glob("trace.*")}
    for path in prefix.parent.glob("trace.*"):
        path.unlink()
    return found


def workers_trace(traces: dict[str, list[str]]) -> list[str]:
    """What the worker did once its start-up was over."""
    mine = [lines for lines in traces.values() if any(MARKER in line for line in lines)]
    assert len(mine) == 1
    begin = next(at for at, line in enumerate(mine[0]) if MARKER in line)
    before, after = mine[0][:begin], mine[0][begin + 1 :]
    assert any("openat(" in line for line in before), "strace shows what a worker opens"
    return [line for line in after if not line.startswith(("+++", "prctl(PR_GET"))]


@pytest.mark.parametrize("guest", GUESTS)
@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("deployment", ["ring"])
def test_a_worker_does_nothing_on_the_host(runs: World, arch: str, deployment: str, guest: str) -> None:
    arguments = ["write-null"] if guest == "faults" else []
    (runs.folder / "root" / "work").mkdir(parents=True)
    shutil.copy2(build(guest, arch), runs.folder / "root" / "guest")
    options = ["--root", str(runs.folder / "root"), "-w", "/work"]
    traces = traced(runs, options, "/guest", *arguments)
    assert workers_trace(traces) == []
    everybody = [line for lines in traces.values() for line in lines]
    assert [line for line in everybody if "AF_INET" in line] == []
    assert any("AF_UNIX" in line for line in everybody), "strace shows sockets"


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("deployment", DEPLOYMENTS)
def test_debians_busybox_does_nothing_on_the_host(runs: World, arch: str, deployment: str) -> None:
    try:
        busybox = roots.busybox(arch)
    except roots.MissingError as missing:
        pytest.skip(str(missing))
    root = runs.folder / "root"
    (root / "bin").mkdir(parents=True)
    shutil.copy2(busybox, root / "bin" / "busybox")
    (root / "etc").mkdir()
    for number in range(20):
        (root / "etc" / f"{number}").write_text("content\n")
    with placed(deployment, runs.folder, root) as options:
        traces = traced(runs, [*options, "-w", "/"], "/bin/busybox", "cp", "-a", "/etc", "/copy")
        assert workers_trace(traces) == []
    connected = [line for lines in traces.values() for line in lines if re.match(r"connect\(.*AF_INET", line)]
    assert bool(connected) == (deployment == "grpc-tcp")
    assert not (root / "copy").exists()


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("deployment", ["ring", "grpc-unix"])
def test_a_worker_is_given_its_new_rings(runs: World, arch: str, deployment: str, tmp_path: Path) -> None:
    """Servers die and come back: the worker still opens nothing and connects nowhere."""
    root, output = runs.folder / "root", runs.folder / "trace"
    root.mkdir()
    shutil.copy2(build("servant", arch), root / "servant")
    addresses = {kind: f"unix:{runs.folder}/{kind}" for kind in ("file", "memory")}
    own = {"file": ("--state", tmp_path, "--root", root), "memory": ()}
    options = ["--transport", "ring" if deployment == "ring" else "grpc", "-w", "/"]
    options += [word for kind, address in addresses.items() for word in (f"--{kind}", address)]
    with ExitStack() as first:
        for kind, address in addresses.items():
            first.enter_context(processes.serving(kind, "--listen", address, *own[kind]))
        process = runs.start("run", *options, "--", "/servant")
        await_line(process, "up")
        strace = ["strace", "-f", "-e", f"trace=prctl,{FORBIDDEN}", "-o", str(output)]
        worker = str(runs.roles(process.pid)["worker"])
        tracer = subprocess.Popen([*strace, "-p", worker], stderr=subprocess.PIPE)
        assert tracer.stderr is not None
        try:
            assert "attached" in processes.read_line(tracer.stderr.fileno())
            first.close()  # kills them
            with ExitStack() as second:
                for kind, address in addresses.items():
                    second.enter_context(processes.serving(kind, "--listen", address, *own[kind]))
                send(process, b"sm")
                for line in ("stat", "stat 0", "mmap", "mmap 0"):
                    await_line(process, line)
                process.communicate(timeout=LIMIT_S)
                assert process.returncode == 0
            assert tracer.wait(LIMIT_S) == 0
        finally:
            tracer.kill()
            tracer.wait(LIMIT_S)
            tracer.stderr.close()
    held = re.compile(r" --- | \+\+\+ |newfstatat\(\d+, \"\", ")  # signals, ends; fstat(2) of a descriptor
    assert [line for line in output.read_text().splitlines() if not held.search(line)] == []


# A stopped server is waited for.


def stop(pid: int) -> None:
    """Stops the process, and waits until it has stopped."""
    os.kill(pid, signal.SIGSTOP)
    deadline = time.monotonic() + LIMIT_S
    while state(pid) != "T":
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.mark.parametrize(("kind", "order", "call"), [("file", b"o", "open"), ("memory", b"m", "mmap")])
@pytest.mark.parametrize(("arch", "deployment"), list(itertools.product(ARCHS, DEPLOYMENTS[:3])))
def test_a_guest_waits_for_a_stopped_server(
    runs: World, arch: str, deployment: str, kind: str, order: bytes, call: str
) -> None:
    root = runs.folder / "root"
    root.mkdir()
    shutil.copy2(build("servant", arch), root / "servant")
    where = ["--root", root, "--state", runs.folder / "state"] if kind == "file" else []
    listen = "127.0.0.1:0" if deployment == "grpc-tcp" else f"unix:{runs.folder}/{kind}"
    with processes.serving(kind, "--listen", listen, *where) as server:
        transport = "ring" if deployment == "ring" else "grpc"
        options = ["--transport", transport, f"--{kind}", server.address]
        options += ["--root", str(root)] if kind == "memory" else []
        process = runs.start("run", *options, "-w", "/", "--", "/servant", "/servant")
        await_line(process, "up")
        for stopped in (False, True, False):
            if stopped:
                stop(server.process.pid)
            send(process, order)
            await_line(process, call)
            if stopped:
                assert silent(process, 0.5)
                server.process.send_signal(signal.SIGCONT)
            await_line(process, f"{call} 0")
        process.communicate(timeout=LIMIT_S)
        assert process.returncode == 0
        assert server.stop() == 0
    runs.assert_clean()


# Bytes cross the network.


class Relay:
    """Between clients and a TCP server on loopback: counts connections, and bytes each way."""

    def __init__(self, target: str) -> None:
        host, _, port = target.rpartition(":")
        self._target = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(LIMIT_S)
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.connections = self.to_server_bytes = self.to_client_bytes = 0
        self._wake, self._end = socket.socketpair()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def close(self) -> None:
        """Ends it; the counters stay."""
        self._wake.close()
        self._thread.join(LIMIT_S)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        peers: dict[socket.socket, socket.socket] = {}
        servers: set[socket.socket] = set()
        with self._listener, self._end:
            while True:
                ready, _, _ = select.select([self._listener, self._end, *peers], [], [], LIMIT_S)
                if not ready or self._end in ready:
                    break
                for one in ready:
                    if one is self._listener:
                        self.connections += 1
                        client, server = one.accept()[0], socket.create_connection(self._target, LIMIT_S)
                        peers |= {client: server, server: client}
                        servers.add(server)
                    elif one in peers:
                        self._move(one, peers, servers)
        for one in peers:
            one.close()

    def _move(
        self, one: socket.socket, peers: dict[socket.socket, socket.socket], servers: set[socket.socket]
    ) -> None:
        try:
            data = one.recv(1 << 16)
            if data:
                peers[one].sendall(data)
        except ConnectionError:
            data = b""
        if one in servers:
            self.to_client_bytes += len(data)
        else:
            self.to_server_bytes += len(data)
        if not data:
            other = peers.pop(one)
            del peers[other]
            one.close()
            other.close()


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("deployment", ["grpc-tcp"])
def test_what_is_read_and_written_crosses_the_network(runs: World, arch: str, deployment: str) -> None:
    try:
        busybox = roots.busybox(arch)
    except roots.MissingError as missing:
        pytest.skip(str(missing))
    root = runs.folder / "root"
    root.mkdir()
    shutil.copy2(busybox, root / "busybox")
    where = ("--root", root, "--state", runs.folder / "state")
    content = os.urandom(3 << 20)
    (root / "content").write_bytes(content)
    with (
        processes.serving("file", "--listen", "127.0.0.1:0", *where) as file,
        processes.serving("memory", "--listen", "127.0.0.1:0") as memory,
    ):
        relays = file_relay, memory_relay = Relay(file.address), Relay(memory.address)
        try:
            servers = ["--file", file_relay.address, "--memory", memory_relay.address]
            command = ["/busybox", "dd", "if=/content", "of=/copy", "bs=64k"]
            done = runs.run("run", *servers, "-w", "/", "--", *command)
            assert done.returncode == 0, done
            done = runs.run("run", *servers, "-w", "/", "--", "/busybox", "cmp", "/content", "/copy")
            assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        finally:
            for relay in relays:
                relay.close()
    # Read once by dd, and both files by cmp.
    assert len(content) < file_relay.to_server_bytes < 2 * len(content)
    assert 3 * len(content) < file_relay.to_client_bytes < 5 * len(content)
    assert memory_relay.to_server_bytes > 0 < memory_relay.to_client_bytes
    assert file_relay.connections >= 2 <= memory_relay.connections


# Memory is the memory server's to give.


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("deployment", DEPLOYMENTS[:3])
def test_memory_is_granted_by_the_server(runs: World, arch: str, deployment: str) -> None:
    listen = "127.0.0.1:0" if deployment == "grpc-tcp" else f"unix:{runs.folder}/m"
    quota = 2 * SIZE + SIZE // 2
    with processes.serving("memory", "--listen", listen, "--quota", quota) as server:
        assert usage(server.address).granted_bytes == 0
        transport = "ring" if deployment == "ring" else "grpc"
        options = ["--transport", transport, "--memory", server.address]
        process = runs.start("run", *options, "--", build("servant", arch))
        await_line(process, "up")
        history = [usage(server.address)]
        for order, answer in ((b"m", 0), (b"m", 0), (b"m", 12), (b"u", 0), (b"m", 0), (b"u", 0), (b"u", 0)):
            send(process, order)
            name = "mmap" if order == b"m" else "munmap"
            await_line(process, name)
            await_line(process, f"{name} {answer}")
            history.append(usage(server.address))
        changes = [
            ((b - a) // (1 << 20), after.grants - before.grants, after.releases - before.releases, no)
            for before, after in itertools.pairwise(history)
            for a, b in [(before.granted_bytes, after.granted_bytes)]
            for no in [after.refused - before.refused]
        ]
        kept = 2
        """MiB: one extent stays granted."""
        assert changes[:3] == [(64, 1, 0, 0), (64, 1, 0, 0), (0, 0, 0, 1)]
        assert changes[3:] == [(kept - 64, 0, 1, 0), (64 - kept, 1, 0, 0), (kept - 64, 0, 1, 0), (-64, 0, 1, 0)]
        assert history[0].quota_bytes == quota
        _, complaints = process.communicate(timeout=LIMIT_S)
        assert (process.returncode, complaints) == (0, b"")
        assert usage(server.address).granted_bytes == 0
        assert server.stop() == 0
    runs.assert_clean()


@pytest.mark.parametrize("deployment", ["ring", "grpc-tcp"])
def test_a_quota_too_small_for_the_program_itself(runs: World, deployment: str) -> None:
    """Not even its stack is granted: one line, no traceback."""
    listen = "127.0.0.1:0" if deployment == "grpc-tcp" else f"unix:{runs.folder}/m"
    with processes.serving("memory", "--listen", listen, "--quota", 4096) as server:
        done = runs.run("run", "--memory", server.address, "--", build("servant", "x86_64"))
        assert done.returncode == 126
        assert done.stderr.startswith("farcall: ") and done.stderr.count("\n") == 1
        assert usage(server.address).refused > 0
        assert server.stop() == 0
    runs.assert_clean()
