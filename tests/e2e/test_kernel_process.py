"""The kernel process with workers that fork, die and lie (fake_worker): spares, reaping, outside signals."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e import processes
from tests.e2e.runs import LIMIT_S, World, await_line, errors, send, state, world

TRANSPORTS = ("ring", "grpc", "inproc")


@pytest.fixture
def runs() -> Iterator[World]:
    with world() as made:
        yield made


def start(runs: World, *arguments: object) -> subprocess.Popen[bytes]:
    """A run whose worker is fake."""
    command = [sys.executable, "-P", "-m", "tests.e2e.fake_worker", *map(str, arguments)]
    return runs.start_command(command)


def told(runs: World, *arguments: object) -> tuple[str, int, str]:
    """stdout, status and stderr of a run; it leaves nothing."""
    process = start(runs, *arguments)
    output, complaints = process.communicate(timeout=LIMIT_S)
    runs.assert_clean()
    return output.decode(), process.returncode, complaints.decode()


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_tree(runs: World, transport: str) -> None:
    lines = "middle (1, 4) (1, 4) (1, 4) 10\nfirst True\n"
    assert told(runs, "--transport", transport, "tree") == (lines, 5, "")


def test_one_after_the_other(runs: World) -> None:
    output, status, _ = told(runs, "many")
    assert (output, status) == ("many 10\n", 0)


def test_a_hundred_in_flight(runs: World) -> None:
    assert told(runs, "flight") == (f"flight [(1, {signal.SIGUSR1.value})] 10\n", 0, "")


def test_workers_killed(runs: World) -> None:
    assert told(runs, "killed") == ("True\nTrue\n", 0, "")


def test_children_nobody_has_told_of(runs: World) -> None:
    output, status, complaints = told(runs, "untold")
    assert (sorted(output.splitlines()), status, complaints) == (["True", "loyal ends"], 6, "")


def test_first_process_takes_the_others_along(runs: World) -> None:
    assert told(runs, "leaves") == ("", 8, "")


@pytest.mark.parametrize(
    ("scenario", "message"),
    [
        ("nonsense", "the worker broke the rules of its kernel ring: Wait: "),
        ("babble", "the worker broke the rules of its control socket: a control message of an unknown form"),
    ],
)
def test_rules_broken(runs: World, scenario: str, message: str) -> None:
    output, status, complaints = told(runs, scenario)
    assert (output, status) == ("True\n", 125)
    assert complaints.startswith(f"farcall: {message}") and complaints.count("\n") == 1


def test_signals_from_outside_are_the_guests(runs: World) -> None:
    """And a second Ctrl-C is nothing special."""
    process = start(runs, "handles")
    await_line(process, "up")
    for number in (signal.SIGINT, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGWINCH):
        os.killpg(process.pid, number)
        await_line(process, number.name)
    os.killpg(process.pid, signal.SIGTERM)
    await_line(process, "SIGTERM")
    assert process.wait(LIMIT_S) == 9
    assert errors(process) == ""
    runs.assert_clean()


def test_guest_that_hears_nothing(runs: World) -> None:
    process = start(runs, "deaf")
    await_line(process, "up")
    process.terminate()
    assert process.wait(LIMIT_S) == 143
    runs.assert_clean()


def test_stop_and_go_on(runs: World) -> None:
    process = start(runs, "handles")
    await_line(process, "up")
    worker = runs.roles(process.pid)["worker"]
    for _ in range(3):
        os.killpg(process.pid, signal.SIGTSTP)
        await_line(process, "SIGTSTP")
        deadline = time.monotonic() + LIMIT_S
        while (state(process.pid), state(worker)) != ("T", "T"):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGCONT)
        await_line(process, "SIGCONT")
    process.terminate()
    assert process.wait(LIMIT_S) == 9


@pytest.mark.parametrize("transport", ["ring", "inproc"])
def test_unused_spares_end_with_their_worker(runs: World, transport: str) -> None:
    """Their sessions and descriptors, in the servers and in the kernel process."""
    process = start(runs, "--transport", transport, "hoard")
    deadline = time.monotonic() + LIMIT_S
    while "worker" not in (roles := runs.roles(process.pid)):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    del roles["worker"]

    def descriptors() -> dict[str, int]:
        return {role: len(os.listdir(f"/proc/{pid}/fd")) for role, pid in roles.items()}

    before = descriptors()
    send(process, b"x")
    await_line(process, "has 16")
    during = descriptors()
    assert all(during[role] >= before[role] + 2 * 16 for role in roles)
    send(process, b"x")
    await_line(process, "ended")
    while any(now > (before[role] + during[role]) / 2 for role, now in descriptors().items()):
        assert time.monotonic() < deadline, (before, during, descriptors())
        time.sleep(0.01)
    send(process, b"x")
    assert process.wait(LIMIT_S) == 0
    runs.assert_clean()


def test_server_comes_back_for_a_child(runs: World, tmp_path: Path) -> None:
    address, kept = f"unix:{runs.folder}/f", tmp_path / "kept"
    serve = ("file", "--listen", address, "--state", kept)
    with processes.serving(*serve) as server:
        process = start(runs, "--file", address, "restart")
        await_line(process, "up")
        server.process.kill()
        server.process.wait(LIMIT_S)
    with processes.serving(*serve):
        output, _ = process.communicate(b"x", LIMIT_S)
        assert (output, process.returncode) == (b"again\n", 0)
    runs.assert_clean()
