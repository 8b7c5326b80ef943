"""Servers killed by SIGKILL and started again while guests share memory: what is stored stays, everybody sees it,
and it comes to the file. Native Linux, where no server can die, is the oracle."""

import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from ipc.limits import LEASE_MS
from servers.sessions import EXPIRE_INTERVAL_S
from tests.e2e.by_hand import COMMITTED, UNCOMMITTED, ByHand
from tests.e2e.processes import Server, read_line
from tests.e2e.runs import LIMIT_S, World, await_line, send, world
from tests.e2e.usage import usage
from tests.guests.build import build
from tests.unit.file.client import Client

ARCHS = ("x86_64", "arm64")
DIES, LIVES, LEASE = "-", "+", "~"
"""Instead of a command: the server is killed; there is another one; for longer than a lease nobody calls it."""
NOT_COMMANDS = (DIES, LIVES, LEASE)
ASLEEP = "asleep"
"""All processes, and the spares of those that have forked: the kernel process keeps their sessions."""
FILES = {
    "stores": "psa msb - psc msd plx + plx mlx nrx nwe plx pwf mlx - + mwg nrx plx",
    "synced": "psa msb - + nfx nrx - mse + pyx nrx - + nrx",
    "sizes": "psz psm - + ntx nrx - + ngx plx mlx psy nrx - mst + nrx",
    "comes and goes": "psa msb - psc + pux nrx mlx - msd + mxx nrx - + nrx nwe nrx",
    ASLEEP: "psa msb nrx - + ~ plx nrx pwc mlx pyx pMd nMe - + nrx",
    "killed": "psa msb mkx - psc + plx nrx - + pux nrx",
}
"""Commands of guests/sharers.c to processes that share a file."""
SEGMENTS = "pSa mSb - pSc mSd + pMe nLx mLx - + mMf pMg - mSh + pMi nMj mMk pLx mLx nLx"
"""To processes that share anonymous memory."""
SEGMENTS_LEFT = 4
"""One of all processes, and one of each."""
SEGMENT_BYTES = 1 << 20


@pytest.fixture
def runs() -> Iterator[World]:
    with world() as made:
        yield made


def ask(process: subprocess.Popen[bytes], command: str) -> str:
    """What guests/sharers.c answers."""
    assert process.stdout is not None
    send(process, command.encode())
    if command[1] == "k":
        return ""
    return read_line(process.stdout.fileno(), LIMIT_S).rstrip("\n")


def native(folder: Path, script: str) -> list[str]:
    """The answers of Linux."""
    folder.mkdir()
    with subprocess.Popen(
        [build("sharers", "x86_64")], cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert read_line(process.stdout.fileno(), LIMIT_S) == "up\n"
        answers = [ask(process, command) for command in script.split() if command not in NOT_COMMANDS]
        process.communicate(timeout=LIMIT_S)
    assert process.returncode == 0
    return answers


def play(
    process: subprocess.Popen[bytes], server: ByHand, script: str, look: Callable[[], None] = lambda: None
) -> list[str]:
    """The answers of a guest whose server dies and comes back by the script; then a look, and both end."""
    lives = server.start()
    await_line(process, "up")
    answers = []
    for command in script.split():
        if command == DIES:
            lives.stop(signal.SIGKILL)
        elif command == LIVES:
            lives = server.start()
        elif command == LEASE:
            time.sleep(LEASE_MS / 1000 + 3 * EXPIRE_INTERVAL_S)
        else:
            answers.append(ask(process, command))
    look()
    process.communicate(timeout=LIMIT_S)
    assert process.returncode == 0
    assert lives.stop() == 0, lives.errors()
    return answers


@pytest.mark.parametrize(
    ("arch", "deployment", "name"),
    [
        *((arch, "ring", name) for arch in ARCHS for name in FILES if name != ASLEEP or arch == "x86_64"),
        ("x86_64", "grpc-unix", "stores"),
    ],
)
def test_files(runs: World, arch: str, deployment: str, name: str) -> None:
    with ExitStack() as held:
        file = ByHand("file", deployment, runs.folder, held)
        file.address = f"unix:{runs.folder}/file"
        shutil.copy2(build("sharers", arch), file.root / "sharers")
        process = runs.start("run", *file.options(), "-w", "/", "--", "/sharers")
        answers = play(process, file, FILES[name])
    assert answers == native(runs.folder / "native", FILES[name])
    runs.assert_clean()


def stored(file: ByHand) -> str:
    """What is on disk, of the first two letters."""
    client = Client(file.folder / "state", file.root)
    found = client.get("/sharers-file")
    client.service.close()
    return "".join(chr(found[at]) for at in (0, 700))


def begin(runs: World, file: ByHand, arch: str) -> tuple[Server, subprocess.Popen[bytes]]:
    """A file server, and the guest that is up."""
    shutil.copy2(build("sharers", arch), file.root / "sharers")
    server = file.start()
    process = runs.start("run", *file.options(), "-w", "/", "--", "/sharers")
    await_line(process, "up")
    return server, process


@pytest.mark.parametrize("arch", ARCHS)
def test_what_somebody_synced_is_on_disk_though_everybody_dies(runs: World, arch: str) -> None:
    """By one process, which has nothing mapped; another one stored it."""
    with ExitStack() as held:
        file = ByHand("file", "ring", runs.folder, held)
        server, process = begin(runs, file, arch)
        assert [ask(process, command) for command in ("psa", "msb", "nfx", "psz")] == ["ok"] * 4
        server.stop(signal.SIGKILL)
        process.kill()
        process.wait(LIMIT_S)
        assert stored(file) == "ab"
    runs.assert_clean()


@pytest.mark.parametrize("arch", ARCHS)
def test_who_ends_without_a_server_waits_for_one(runs: World, arch: str) -> None:
    with ExitStack() as held:
        file = ByHand("file", "ring", runs.folder, held)
        server, process = begin(runs, file, arch)
        assert ask(process, "psa") == "ok"
        server.stop(signal.SIGKILL)
        assert ask(process, "msb") == "ok"
        assert process.stdin is not None
        process.stdin.close()
        assert not ended_within(process, 1.0)
        server = file.start()
        assert process.wait(LIMIT_S) == 0
        assert server.stop() == 0
        assert stored(file) == "ab"
    runs.assert_clean()


def ended_within(process: subprocess.Popen[bytes], for_s: float) -> bool:
    """Whether it ends in so many seconds."""
    try:
        process.wait(for_s)
    except subprocess.TimeoutExpired:
        return False
    return True


WRITES = "psa pwb mlx msc nwd plx ntx nrx ngx nrx psf mwg plx nfx nrx pyx mlx pux mwh nrx"
IN_WRITES = [
    f"{step}:1:{operation}"
    for operation in ("PWrite", "SetAttributes", "Sync", "SyncMapping", "Unmap")
    for step in ("store-commit", "store-committed")
] + [f"{UNCOMMITTED}:1:PWrite", f"{COMMITTED}:1:PWrite"]
"""Where servers die, one after the other: right before and after a commit; the memfd is written there."""


@pytest.mark.parametrize("arch", ARCHS)
def test_deaths_within_changes(runs: World, arch: str) -> None:
    for points in (IN_WRITES[0::2], IN_WRITES[1::2]):
        with ExitStack() as held:
            folder = runs.folder / points[0]
            folder.mkdir()
            file = ByHand("file", "ring", folder, held)
            shutil.copy2(build("sharers", arch), file.root / "sharers")
            with file.dying(points):
                process = runs.start("run", *file.options(), "-w", "/", "--", "/sharers")
                await_line(process, "up")
                answers = [ask(process, command) for command in WRITES.split()]
                process.communicate(timeout=LIMIT_S)
            assert process.returncode == 0
            assert answers == native(folder / "native", WRITES)
    runs.assert_clean()


OF_ITS_OWN = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child=SIGKILL")
"""Pids that are not the workers'."""


def test_a_server_that_does_not_see_its_workers(runs: World) -> None:
    """What was not synced is lost, and the server says so; but all have the same pages again."""
    probe = subprocess.run([*OF_ITS_OWN, "true"], capture_output=True, timeout=LIMIT_S, check=False)
    if probe.returncode:
        pytest.skip("no namespace of pids can be made here")
    with ExitStack() as held:
        file = ByHand("file", "ring", runs.folder, held, within=OF_ITS_OWN)
        file.address = f"unix:{runs.folder}/file"
        shutil.copy2(build("sharers", "x86_64"), file.root / "sharers")
        process = runs.start("run", *file.options(), "-w", "/", "--", "/sharers")
        server = file.start()
        await_line(process, "up")
        assert [ask(process, command) for command in ("psa", "pyx", "psb")] == ["ok"] * 3
        server.stop(signal.SIGKILL)
        server = file.start()
        assert ask(process, "nrx").rstrip(".") == "a"
        assert ask(process, "pwc") == "ok"
        for command in ("plx", "mrx", "mlx"):
            assert ask(process, command).rstrip(".") == "a.c", command
        assert ask(process, "msd") == "ok"
        for command in ("nrx", "plx", "mrx"):
            assert ask(process, command).rstrip(".") == "a.cd", command
        assert [ask(process, command) for command in ("ntx", "ngx")] == ["ok"] * 2
        assert ask(process, "plx").rstrip(".") == "a.cd"
        process.communicate(timeout=LIMIT_S)
        server.stop(signal.SIGKILL)
        assert "nobody has its pages any more" in server.errors()
    runs.assert_clean()


def counted(memory: ByHand) -> None:
    """The server knows what the processes have, most of which earlier ones made."""
    told = usage(memory.address)
    assert (told.segments, told.segment_bytes) == (SEGMENTS_LEFT, SEGMENTS_LEFT * SEGMENT_BYTES)


@pytest.mark.parametrize(("arch", "deployment"), [*((arch, "ring") for arch in ARCHS), ("x86_64", "grpc-unix")])
def test_segments(runs: World, arch: str, deployment: str) -> None:
    with ExitStack() as held:
        memory = ByHand("memory", deployment, runs.folder, held)
        memory.address = f"unix:{runs.folder}/memory"
        process = runs.start("run", *memory.options(), "--", build("sharers", arch))
        answers = play(process, memory, SEGMENTS, lambda: counted(memory))
    assert answers == native(runs.folder / "native", SEGMENTS)
    runs.assert_clean()
