"""Memory that host processes have in common: pages of libraries; what a carrier without descriptors refuses."""

import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.e2e import processes
from tests.e2e.runs import LIMIT_S, World, await_line, send, world

PROGRAM = "import sys; print('up', flush=True); sys.stdin.read()"
MAPS = """
import mmap, os
with open('/tmp/mapped', 'w+b') as file:
    file.write(b'before'); file.flush()
    print(mmap.mmap(file.fileno(), 6, mmap.MAP_PRIVATE)[:])
    with open('/tmp/mapped', 'rb') as reader:
        print(mmap.mmap(reader.fileno(), 6, mmap.MAP_SHARED, mmap.PROT_READ)[:])
    try:
        mapped = mmap.mmap(file.fileno(), 6, mmap.MAP_SHARED)
        if not (child := os.fork()):
            mapped[:] = b'stored'
            os._exit(0)
        os.waitpid(child, 0)
        print(os.pread(file.fileno(), 6, 0))
    except OSError as error:
        print(os.strerror(error.errno))
"""
FORKS = """
import mmap, os
size = mmap.PAGESIZE
KEEPONFORK, WIPEONFORK = 19, 18
memory = mmap.mmap(-1, 4 * size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
memory[:] = b'x' * len(memory)
memory.madvise(WIPEONFORK, size, size)
memory.madvise(WIPEONFORK, 2 * size, 2 * size)
memory.madvise(KEEPONFORK, 3 * size, size)
gone = mmap.mmap(-1, 2 * size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
gone[:] = b'y' * len(gone)
gone.madvise(mmap.MADV_DONTFORK, 0, size)
try:
    mmap.mmap(-1, size).madvise(WIPEONFORK)
except OSError as error:
    print(os.strerror(error.errno), flush=True)
for touch in (0, size):
    if not (child := os.fork()):
        print([memory[n * size] for n in range(4)], gone[touch], flush=True)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.wait()[1]), [memory[n * size] for n in range(4)], gone[0], flush=True)
"""
STORES = """
import mmap, os, sys
descriptor = os.open('/tmp/synced', os.O_RDWR | os.O_CREAT)
os.truncate(descriptor, 5000)
mapped = mmap.mmap(descriptor, 5000)
mapped[4990:4996] = b'stored'
os.fsync(descriptor)
print('up', flush=True)
sys.stdin.read()
"""
ARENA_START = 1 << 44
"""Where a worker's large mappings lie: what is beneath is the worker's own."""


@pytest.fixture
def runs() -> Iterator[World]:
    with world() as made:
        yield made


def library_pages(worker: int) -> dict[str, tuple[int, int]]:
    """(RSS, PSS) in KiB of the files that the worker's guest has mapped, by name."""
    found: dict[str, tuple[int, int]] = {}
    name = ""
    for line in Path(f"/proc/{worker}/smaps").read_text().splitlines():
        words = line.split()
        if (head := re.match(r"([0-9a-f]+)-[0-9a-f]+ ", line)) is not None:
            inside = int(head[1], 16) >= ARENA_START and len(words) == 6 and words[5].startswith("/usr/")
            name = Path(words[5]).name if inside and not int(head[1], 16) >> 46 else ""
        elif name and words[0] in ("Rss:", "Pss:"):
            resident, own = found.get(name, (0, 0))
            size = int(words[1])
            found[name] = (resident + size, own) if words[0] == "Rss:" else (resident, own + size)
    return found


def test_workers_show_the_same_pages_of_a_library(runs: World) -> None:
    started: list[subprocess.Popen[bytes]] = []
    for _ in range(2):
        started.append(runs.start("run", "--", "/usr/bin/python3", "-c", PROGRAM))
        await_line(started[-1], "up")
    workers = [
        pid for pid in runs.processes() if Path(f"/proc/{pid}/comm").read_text().strip() == "farcall-guest"
    ]
    assert len(workers) == 2
    for worker in workers:
        pages = library_pages(worker)
        assert any(name.startswith(("libc.so", "libc-")) for name in pages), pages
        assert any(name.startswith("python3") for name in pages), pages
        resident, own = (sum(column) for column in zip(*pages.values(), strict=True))
        assert resident > 2000, pages
        assert own < resident * 0.7, pages
    for process in started:
        send(process, b"x")
        process.communicate(timeout=20)
        assert process.returncode == 0


@pytest.mark.parametrize(
    ("deployment", "shared"),
    [
        pytest.param("grpc-unix", "b'stored'", marks=pytest.mark.cell(deployment="grpc-unix")),
        pytest.param("grpc-tcp", "No such device", marks=pytest.mark.cell(deployment="grpc-tcp")),
    ],
)
def test_a_server_on_this_host_shares_by_grpc_too(
    runs: World, tmp_path: Path, deployment: str, shared: str
) -> None:
    kinds = {"file": ("--state", tmp_path / "state"), "memory": ()}
    with ExitStack() as held:
        options: list[str] = ["--transport", "grpc"]
        for kind, own in kinds.items():
            listen = "127.0.0.1:0" if deployment == "grpc-tcp" else f"unix:{tmp_path}/{kind}"
            server = held.enter_context(processes.serving(kind, "--listen", listen, *own))
            options += [f"--{kind}", server.address]
        done = runs.run("run", *options, "--", "/usr/bin/python3", "-c", MAPS)
    assert done.stdout == f"b'before'\nb'before'\n{shared}\n", done.stderr
    assert (done.returncode, done.stderr) == (0, "")


def test_a_child_gets_what_madvise_left_it(runs: World) -> None:
    native = subprocess.run(
        ["/usr/bin/python3", "-c", FORKS], capture_output=True, text=True, timeout=LIMIT_S, check=False
    )
    assert native.stdout.splitlines()[0] == "Invalid argument" and "[120, 0, 0, 120] 121" in native.stdout
    assert "-11 [120, 120, 120, 120] 121" in native.stdout, native.stdout
    done = runs.run("run", "--", "/usr/bin/python3", "-c", FORKS)
    assert (done.stdout, done.returncode) == (native.stdout, 0), done.stderr


def test_what_was_stored_and_synced_outlives_the_server(runs: World, tmp_path: Path) -> None:
    addresses = {kind: f"unix:{tmp_path}/{kind}" for kind in ("file", "memory")}
    options = ["--file", addresses["file"], "--memory", addresses["memory"]]
    serve = ("file", "--listen", addresses["file"], "--state", tmp_path / "state")
    with processes.serving("memory", "--listen", addresses["memory"]) as _:
        with processes.serving(*serve) as server:
            guest = runs.start("run", *options, "--", "/usr/bin/python3", "-c", STORES)
            await_line(guest, "up")
            server.stop(signal.SIGKILL)
            guest.kill()
        with processes.serving(*serve) as _:
            shows = "print(open('/tmp/synced', 'rb').read()[4989:])"
            done = runs.run("run", *options, "--", "/usr/bin/python3", "-c", shows)
    assert done.stdout == "b'\\x00stored\\x00\\x00\\x00\\x00'\n", done.stderr
