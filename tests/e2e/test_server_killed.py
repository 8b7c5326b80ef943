"""Servers started by hand, killed by SIGKILL in the middle of a guest's call and started again: the running
guest goes on, and what it asked for happened once."""

import itertools
import shutil
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.e2e.by_hand import COMMITTED, UNCOMMITTED, ByHand, killed_itself
from tests.e2e.processes import free_port, read_line
from tests.e2e.runs import LIMIT_S, World, await_line, errors, guest, send, silent, world
from tests.e2e.usage import usage
from tests.guests.build import build

ARCHS = ("x86_64", "arm64")
DEPLOYMENTS = ("ring", "grpc-unix", "grpc-tcp")
CELLS = list(itertools.product(ARCHS, DEPLOYMENTS))
CHANGES = (
    ("append", "Append"),
    ("mkdir", "MakeDirectory"),
    ("rename", "Rename"),
    ("unlink", "Remove"),
    ("create", "Open"),
    ("write", "PWrite"),
    ("link", "Link"),
    ("large-append", "Append"),
)
"""What guests/once.c does between "begin" and "done", and the operation that is."""
CHECKED = "once: 48 checks passed"
SIZE = 64 << 20
"""Of the mappings of guests/servant.c."""
SLACK = 8 << 20
"""More than extents and the guest's own stack and data take."""


@pytest.fixture
def runs() -> Iterator[World]:
    with world() as made:
        yield made


@pytest.mark.parametrize("step", [COMMITTED, UNCOMMITTED])
@pytest.mark.parametrize(("arch", "deployment"), CELLS)
def test_changes_take_effect_once(runs: World, arch: str, deployment: str, step: str) -> None:
    """The file server dies in each change; files that are open, their offsets and removed files survive."""
    armed = [f"{step}:1:{operation}" for _, operation in CHANGES]
    with ExitStack() as held:
        file = ByHand("file", deployment, runs.folder, held)
        shutil.copy2(build("once", arch), file.root / "once")
        server = file.start(armed[0])
        process = runs.start("run", *file.options(), "-w", "/", "--", "/once")
        for (change, _), following in zip(CHANGES, [*armed[1:], ""], strict=True):
            await_line(process, f"begin {change}")
            killed_itself(server)
            server = file.start(following)
            await_line(process, f"done {change}")
        await_line(process, CHECKED)
        process.communicate(timeout=LIMIT_S)
        assert (process.returncode, server.stop()) == (0, 0)
        assert file.crashes == [*armed, ""]
    runs.assert_clean()


@pytest.mark.parametrize("deployment", DEPLOYMENTS)
def test_a_kill_without_a_restart_is_no_effect_for_the_guest(runs: World, deployment: str) -> None:
    """What makes the test above one: without a server the guest waits in its call."""
    with ExitStack() as held:
        file = ByHand("file", deployment, runs.folder, held)
        shutil.copy2(build("once", "x86_64"), file.root / "once")
        server = file.start(f"{COMMITTED}:1:MakeDirectory")
        process = runs.start("run", *file.options(), "-w", "/", "--", "/once")
        for line in ("begin append", "done append", "begin mkdir"):
            await_line(process, line)
        killed_itself(server)
        assert silent(process, 0.5)
        process.terminate()
        assert process.wait(LIMIT_S) == 128 + signal.SIGTERM
        assert errors(process) == ""
    runs.assert_clean()


@pytest.mark.parametrize(("arch", "deployment"), CELLS)
def test_memory_server_killed(runs: World, arch: str, deployment: str) -> None:
    """First while the guest waits, then while it maps. The next one is told what the guest holds; the guest's
    memory never was anywhere but with it."""
    with ExitStack() as held:
        memory = ByHand("memory", deployment, runs.folder, held)
        server = memory.start()
        process = runs.start("run", *memory.options(), "--", build("servant", arch))
        await_line(process, "up")
        send(process, b"m")
        await_line(process, "mmap")
        await_line(process, "mmap 0")
        server.stop(signal.SIGKILL)
        server = memory.start(f"{COMMITTED}:1:Grant")
        send(process, b"m")
        await_line(process, "mmap")
        killed_itself(server)
        assert silent(process, 0.2)
        server = memory.start()
        await_line(process, "mmap 0")
        assert 2 * SIZE <= usage(memory.address).granted_bytes < 2 * SIZE + SLACK
        send(process, b"iui")
        for line in ("intact 2", "munmap", "munmap 0", "intact 1"):
            await_line(process, line)
        assert SIZE <= usage(memory.address).granted_bytes < SIZE + SLACK
        process.communicate(timeout=LIMIT_S)
        assert (process.returncode, server.stop()) == (0, 0)
    runs.assert_clean()


@pytest.mark.cell(arch="x86_64")
@pytest.mark.parametrize("deployment", DEPLOYMENTS)
def test_ports_are_published_again(runs: World, deployment: str) -> None:
    """The network server dies, twice; the guest listens again, and who connects from outside finds it."""
    with ExitStack() as held:
        network = ByHand("network", deployment, runs.folder, held)
        server = network.start()
        port = free_port()
        process = runs.start("run", *network.options(), "-p", f"{port}:7000", "--", guest("listens"))
        await_line(process, "listening")
        assert greeting(port) == b"hello\n"
        for _ in range(2):
            server.stop(signal.SIGKILL)
            assert greeting(port) == b""
            server = network.start()
            await_line(process, "lost")
            await_line(process, "listening")
            assert awaited_greeting(port) == b"hello\n"
        process.terminate()
        process.communicate(timeout=LIMIT_S)
        assert (process.returncode, server.stop()) == (128 + signal.SIGTERM, 0)
    runs.assert_clean()


@pytest.mark.cell(arch="x86_64", deployment="ring")
def test_a_port_that_another_took_meanwhile(runs: World) -> None:
    """It is said once, and tried again until it is free; the other port is not kept waiting."""
    with ExitStack() as held:
        network = ByHand("network", "ring", runs.folder, held)
        server = network.start()
        port, other = free_port(), free_port()
        published = ("-p", f"{port}:7000", "-p", f"{other}:7000")
        process = runs.start("run", *network.options(), *published, "--", guest("listens"))
        await_line(process, "listening")
        server.stop(signal.SIGKILL)
        with socket.create_server(("127.0.0.1", port)):
            server = network.start()
            assert awaited_greeting(other) == b"hello\n"
            assert process.stderr is not None
            why = f"farcall: -p {port}:7000: Address already in use; it is tried again\n"
            assert read_line(process.stderr.fileno()) == why
        assert awaited_greeting(port) == b"hello\n"
        process.terminate()
        assert process.wait(LIMIT_S) == 128 + signal.SIGTERM
        assert (errors(process), server.stop()) == ("", 0)
    runs.assert_clean()


def awaited_greeting(port: int) -> bytes:
    """As `greeting`, of whoever listens there soon."""
    deadline = time.monotonic() + LIMIT_S
    while not (found := greeting(port)):
        assert time.monotonic() < deadline, "nobody there"
        time.sleep(0.02)
    return found


def greeting(port: int) -> bytes:
    """What whoever listens there says first; nothing if nobody does."""
    try:
        with socket.create_connection(("127.0.0.1", port), LIMIT_S) as connection:
            return connection.recv(99)
    except (ConnectionRefusedError, ConnectionResetError):
        return b""
