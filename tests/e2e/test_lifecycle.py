"""How runs end: by their guest, by a signal, by the death of any of their processes; and nothing stays behind."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e import processes
from tests.e2e.runs import LIMIT_S, World, acts, await_line, errors, send, silent, state, world

TRANSPORTS = ("ring", "grpc", "inproc")
KILLED = -signal.SIGKILL


@pytest.fixture
def runs() -> Iterator[World]:
    with world() as made:
        yield made


def ended(process: subprocess.Popen[bytes]) -> int:
    return process.wait(LIMIT_S)


def takes(pid: int, number: int) -> bool:
    """Whether the process has a handler for the signal."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    caught = next(line for line in lines if line.startswith("SigCgt:"))
    return bool(int(caught.split()[1], 16) >> (number - 1) & 1)


def waiting(runs: World, *options: object) -> subprocess.Popen[bytes]:
    """A run whose guest waits for the end of its stdin."""
    process = runs.start("run", *options, "--", acts(), "wait")
    await_line(process, "up")
    return process


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_guest_ends(runs: World, transport: str) -> None:
    process = waiting(runs, "--transport", transport)
    assert os.listdir(runs.temporary) != []
    process.communicate(timeout=LIMIT_S)
    assert process.returncode == 7
    runs.assert_clean()


@pytest.mark.parametrize(
    ("number", "transport"),
    [
        (signal.SIGINT, "ring"),
        (signal.SIGINT, "grpc"),
        (signal.SIGINT, "inproc"),
        (signal.SIGTERM, "ring"),
        (signal.SIGHUP, "ring"),
        (signal.SIGQUIT, "ring"),
    ],
)
def test_signal_to_the_whole_group(runs: World, number: signal.Signals, transport: str) -> None:
    """As a terminal's Ctrl-C: kernel process and worker get it, at a moment when the guest waits."""
    process = waiting(runs, "--transport", transport)
    os.killpg(process.pid, number)
    assert ended(process) == 128 + number
    assert errors(process) == ""
    runs.assert_clean()


def test_signal_to_a_guest_that_computes(runs: World) -> None:
    process = runs.start("run", acts(), "spin")
    await_line(process, "up")
    os.killpg(process.pid, signal.SIGINT)
    assert ended(process) == 130
    runs.assert_clean()


@pytest.mark.parametrize("delay_s", [0.02, 0.05, 0.1, 0.2, 0.3, 0.4])
def test_signal_during_the_start(runs: World, delay_s: float) -> None:
    """Whatever has been started by then. Before signals are taken over, Python itself dies of the signal."""
    process = runs.start("run", acts(), "spin")
    time.sleep(delay_s)
    ours = takes(process.pid, signal.SIGTERM)
    os.killpg(process.pid, signal.SIGINT)
    status = ended(process)
    assert status == 130 or (status in (1, -signal.SIGINT) and not ours), errors(process)
    runs.assert_clean()


def test_ignored_signal_stays_ignored(runs: World) -> None:
    """As nohup(1) asks."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        process = waiting(runs)
    finally:
        signal.signal(signal.SIGHUP, before)
    os.killpg(process.pid, signal.SIGHUP)
    process.communicate(timeout=LIMIT_S)
    assert process.returncode == 7


def test_stop_and_go_on(runs: World) -> None:
    """Ctrl-Z and fg."""
    process = waiting(runs)
    worker = runs.roles(process.pid)["worker"]
    os.killpg(process.pid, signal.SIGTSTP)
    deadline = time.monotonic() + LIMIT_S
    while (state(process.pid), state(worker)) != ("T", "T"):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGCONT)
    process.communicate(timeout=LIMIT_S)
    assert process.returncode == 7
    runs.assert_clean()


ENDS = {
    "kernel": (KILLED, ""),
    "worker": (137, ""),
    "file": (125, "farcall: the file server was killed by SIGKILL\n"),
    "memory": (125, "farcall: the memory server was killed by SIGKILL\n"),
}
"""What each role's death by SIGKILL makes of a run: farcall's status, and what it says."""
DEATHS = [("ring", role) for role in ENDS] + [("grpc", role) for role in ENDS]
DEATHS += [("inproc", "kernel"), ("inproc", "worker")]


@pytest.mark.parametrize(("transport", "role"), DEATHS)
def test_death_of_each_role(runs: World, transport: str, role: str) -> None:
    process = waiting(runs, "--transport", transport)
    roles = runs.roles(process.pid)
    assert set(roles) == {each for carrier, each in DEATHS if carrier == transport}
    os.kill(roles[role], signal.SIGKILL)
    status, message = ENDS[role]
    assert ended(process) == status
    assert errors(process) == message
    runs.assert_clean()


@pytest.mark.parametrize("transport", ["ring", "inproc"])
@pytest.mark.parametrize("delay_s", [0.05, 0.15, 0.25, 0.4, 0.6])
def test_death_during_the_start(runs: World, delay_s: float, transport: str) -> None:
    process = runs.start("run", "--transport", transport, acts(), "spin")
    time.sleep(delay_s)
    process.kill()
    ended(process)
    runs.assert_clean()


@pytest.mark.parametrize("role", ["kernel", "worker", "file", "memory"])
def test_death_of_each_role_with_a_kept_state(runs: World, role: str, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    process = runs.start("run", "--state", kept, "--", acts(), "touch")
    await_line(process, "up")
    send(process, b"d")
    await_line(process, "d 0")
    os.kill(runs.roles(process.pid)[role], signal.SIGKILL)
    ended(process)
    runs.assert_clean()
    again = runs.run("run", "--state", kept, "--", acts(), "touch", stdin=b"de")
    assert again.stdout == "up\nd 17\ne 0\n"  # EEXIST: what was acknowledged is there
    runs.assert_clean()


@pytest.mark.parametrize("role", ["file", "memory"])
def test_stopped_server_does_not_keep_the_run(runs: World, role: str, tmp_path: Path) -> None:
    process = waiting(runs, "--state", tmp_path / "kept")
    os.kill(runs.roles(process.pid)[role], signal.SIGSTOP)
    os.kill(process.pid, signal.SIGTERM)
    assert ended(process) == 143
    runs.assert_clean()


def test_two_runs_beside_each_other(runs: World) -> None:
    first, second = waiting(runs), waiting(runs)
    os.kill(first.pid, signal.SIGKILL)
    ended(first)
    second.communicate(timeout=LIMIT_S)
    assert second.returncode == 7
    runs.assert_clean()


def test_state_in_use(runs: World, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    waiting(runs, "--state", kept)
    second = runs.run("run", "--state", kept, "--", acts(), "exit", 0)
    assert second.returncode == 125
    assert second.stderr.count("\n") == 1 and str(kept) in second.stderr and "in use" in second.stderr


def test_server_started_by_hand_dies_and_comes_back(runs: World, tmp_path: Path) -> None:
    """The guest waits meanwhile, and goes on in the same session."""
    address, kept = f"unix:{runs.folder}/f", tmp_path / "kept"
    serve = ("file", "--listen", address, "--state", kept)
    with processes.serving(*serve) as server:
        process = runs.start("run", "--file", address, "--", acts(), "touch")
        await_line(process, "up")
        send(process, b"a")
        await_line(process, "a 0")
        server.process.kill()
        server.process.wait(LIMIT_S)
        send(process, b"b")
        assert silent(process, 0.3)
    with processes.serving(*serve):
        await_line(process, "b 0")
        send(process, b"a")
        await_line(process, "a 17")
        process.communicate(timeout=LIMIT_S)
        assert process.returncode == 0
    runs.assert_clean()


def test_server_does_not_come_back_in_time(runs: World, tmp_path: Path) -> None:
    address, kept = f"unix:{runs.folder}/f", tmp_path / "kept"
    with processes.serving("file", "--listen", address, "--state", kept) as server:
        options = ("--file", address, "--server-timeout", "0.5")
        process = runs.start("run", *options, "--", acts(), "touch")
        await_line(process, "up")
        server.process.kill()
        server.process.wait(LIMIT_S)
        send(process, b"a")
        await_line(process, "a 5")  # EIO
        process.communicate(timeout=LIMIT_S)
        assert process.returncode == 0
    runs.assert_clean()


def test_servers_started_by_hand_outlive_the_run(runs: World, tmp_path: Path) -> None:
    addresses = {kind: f"unix:{runs.folder}/{kind}" for kind in ("file", "memory")}
    with (
        processes.serving("file", "--listen", addresses["file"], "--state", tmp_path / "kept") as file,
        processes.serving("memory", "--listen", addresses["memory"]) as memory,
    ):
        variables = {"FARCALL_FILE": addresses["file"], "FARCALL_MEMORY": addresses["memory"]}
        for transport in ("ring", "grpc"):
            done = runs.run("run", "--transport", transport, "--", acts(), "exit", 3, variables=variables)
            assert (done.returncode, done.stderr) == (3, "")
            runs.assert_clean()
        assert (file.process.poll(), memory.process.poll()) == (None, None)
