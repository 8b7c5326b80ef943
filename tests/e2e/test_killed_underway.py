"""Things die while installed programs of many processes run: servers by hand again and again, and the programs go
on with every effect once; the kernel process, a server of the run's own or one process, and nothing is left."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.e2e.by_hand import COMMITTED, UNCOMMITTED, ByHand
from tests.e2e.runs import LIMIT_S, World, await_line, errors, name_of, world

pytestmark = pytest.mark.timeout(300)

PIPELINE = """
seq 1 40 | while read n; do echo $n >>log; done
sort -n log | tee copy | tail -n 1
cmp log copy && wc -l <copy
"""
COMMITS = """
git -c init.defaultBranch=main init -q repository && cd repository
git config user.name U && git config user.email u@example.org
for n in 1 2; do
  for file in a b c d; do echo $n $file >$file; done
  git add . && git commit -q -m $n || exit
done
git fsck --full --strict && git log --format=%s && git status --short
"""
PARALLEL = """
printf 'all: %s\\n\\tcat $^ | sort -n\\n%%.o:\\n\\techo $* >>log; echo $@ >$@\\n' "$(echo {1..8}.o)" >Makefile
make -s -j2 && sort -n log | paste -s -d,
"""
STORM = """
for n in {1..40}; do (echo $n >>log) & done
wait
sort -n log | paste -s -d,
"""
DATABASE = """
python3 -c "
import sqlite3
c = sqlite3.connect('d')
c.execute('create table t(a integer primary key)')
for i in range(12):
    with c:
        c.execute('insert into t values(?)', (i,))
print(*c.execute('select count(*), sum(a) from t').fetchone(), *c.execute('pragma integrity_check').fetchone())"
"""
FORTY = ",".join(map(str, range(1, 41)))
PROGRAMS = {
    "pipeline": (PIPELINE, "40\n40\n"),
    "commits": (COMMITS, "2\n1\n"),
    "parallel": (PARALLEL, "".join(f"{n}.o\n" for n in range(1, 9)) + "1,2,3,4,5,6,7,8\n"),
    "storm": (STORM, FORTY + "\n"),
    "database": (DATABASE, "12 66 ok\n"),
}
"""Scripts of bash, and what they print if each effect happens once."""
AT = (f"{COMMITTED}:30", f"{UNCOMMITTED}:40", f"{COMMITTED}:25")
"""Where three file servers die: after so many changes."""
HOME = {"HOME": "/tmp/underway"}
SESSIONS = ("hello-commit:6", "hello-record:5", "end-commit:4")
"""Where three servers die while processes come and go."""


@pytest.fixture
def runs() -> Iterator[World]:
    with world() as made:
        yield made


def script(runs: World, name: str, options: list[str]) -> subprocess.Popen[bytes]:
    """The script in a directory of its own, which the file server has and the host has not."""
    text = f"mkdir -p $HOME && cd $HOME\n{PROGRAMS[name][0]}"
    return runs.start("run", *options, "-w", "/", "--", "/bin/bash", "-c", text, variables=HOME)


def test_native_linux(tmp_path: Path) -> None:
    """Prints what is expected of a guest."""
    for name, (text, expected) in PROGRAMS.items():
        folder = tmp_path / name
        folder.mkdir()
        done = subprocess.run(
            ["/bin/bash", "-c", text],
            cwd=folder,
            env={"HOME": str(folder), "PATH": "/usr/bin:/bin"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
        assert (done.stdout, done.stderr, done.returncode) == (expected, "", 0), name


@pytest.mark.parametrize(
    ("arch", "deployment", "name"),
    [("x86_64", "ring", name) for name in PROGRAMS]
    + [("x86_64", "grpc-unix", name) for name in ("commits", "storm")],
)
def test_file_server_killed(runs: World, arch: str, deployment: str, name: str) -> None:
    with ExitStack() as held:
        file = ByHand("file", deployment, runs.folder, held, root=Path("/"))
        points = [*AT, *SESSIONS] if name == "storm" else list(AT)
        with file.dying(points):
            process = script(runs, name, file.options())
            output, complaints = process.communicate(timeout=5 * LIMIT_S)
        assert (output.decode(), complaints.decode(), process.returncode) == (PROGRAMS[name][1], "", 0)
    runs.assert_clean()


@pytest.mark.parametrize(("arch", "deployment"), [("x86_64", "ring"), ("x86_64", "grpc-unix")])
def test_memory_server_killed(runs: World, arch: str, deployment: str) -> None:
    """Parents are granted anew what they hold, spares are older than the server."""
    with ExitStack() as held:
        memory = ByHand("memory", deployment, runs.folder, held)
        with memory.dying([f"{COMMITTED}:8", f"{UNCOMMITTED}:8", "hello-commit:3"]):
            process = script(runs, "storm", memory.options())
            output, complaints = process.communicate(timeout=5 * LIMIT_S)
        assert (output.decode(), complaints.decode(), process.returncode) == (FORTY + "\n", "", 0)
    runs.assert_clean()


CROWD = """
import os
for _ in range(20):
    os.spawnlp(os.P_NOWAIT, "sleep", "sleep", "300")
print("up", flush=True)
print("one", os.waitstatus_to_exitcode(os.wait()[1]), flush=True)
os.wait()
"""
"""Not bash's `wait -n`: a child that ends while it looks for ended ones is missed, natively, too."""


def crowd(runs: World, transport: str) -> subprocess.Popen[bytes]:
    """A run of 21 processes, the first of which waits for the others."""
    process = runs.start("run", "--transport", transport, "--", "/usr/bin/python3", "-c", CROWD)
    await_line(process, "up")
    return process


@pytest.mark.parametrize("transport", ["ring", "grpc", "inproc"])
def test_one_of_many_processes_killed(runs: World, transport: str) -> None:
    process = crowd(runs, transport)
    os.kill(max(pid for pid in runs.processes() if name_of(pid) == "farcall-guest"), signal.SIGKILL)
    await_line(process, f"one {-signal.SIGKILL}")
    process.terminate()
    assert process.wait(LIMIT_S) == 128 + signal.SIGTERM
    runs.assert_clean()


@pytest.mark.parametrize(
    ("transport", "role"),
    [(t, r) for t in ("ring", "grpc") for r in ("kernel", "file", "memory")] + [("inproc", "kernel")],
)
def test_run_of_many_processes_killed(runs: World, transport: str, role: str) -> None:
    process = crowd(runs, transport)
    os.kill(runs.roles(process.pid)[role], signal.SIGKILL)
    expected = (
        (-signal.SIGKILL, "")
        if role == "kernel"
        else (125, f"farcall: the {role} server was killed by SIGKILL\n")
    )
    assert (process.wait(LIMIT_S), errors(process)) == expected
    runs.assert_clean()
