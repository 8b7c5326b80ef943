"""The oracle: every guest program passes on native Linux first, or it proves nothing about farcall."""

import os
import platform
import re
import struct
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from tests.guests.build import CACHE, KINDS, TRIPLES, build, names
from tests.guests.cases import CASES, ENVIRONMENT, PROCESSES, Case, kinds

PROGRAMS = Path(__file__).parents[2] / "client_vm/programs"
PRLIMIT = "/usr/bin/prlimit"
HOST = "x86_64" if platform.machine() == "x86_64" else "arm64"
MACHINES = {"x86_64": 62, "arm64": 183}
TYPES = {"static": 2, "static-pie": 3}
FIRST_BUILD_S = 600
"""The first build of a machine compiles musl."""


def run(path: Path, case: Case, cwd: Path) -> tuple[str, int]:
    """Standard output, and the status as a shell tells it."""

    # Not by preexec_fn: this process may have gRPC's threads, and must not fork Python code.
    limits = ["--core=0"]
    if case.address_space_mib is not None:
        limits.append(f"--as={case.address_space_mib << 20}")
    done = subprocess.run(
        [PRLIMIT, *limits, "--", str(path), *case.arguments],
        cwd=cwd,
        env=ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
        check=False,
        umask=0o022,
    )
    return done.stdout.decode(), done.returncode if done.returncode >= 0 else 128 - done.returncode


@pytest.mark.timeout(FIRST_BUILD_S)
@pytest.mark.parametrize(
    ("case", "kind"),
    [
        pytest.param(case, kind, id=f"{case.label}-{kind}")
        for case in CASES + PROCESSES
        for kind in kinds(case.name)
    ],
)
def test_passes_natively(case: Case, kind: str, tmp_path: Path) -> None:
    stdout, status = run(build(case.name, HOST, kind), case, tmp_path)
    assert "FAILED" not in stdout
    assert status == case.expected(HOST), stdout


@pytest.mark.parametrize("name", ["hello", "auxv", "pseudo", "files_names"])
def test_prints_the_same_twice(name: str, tmp_path: Path) -> None:
    outputs = set()
    for kind in kinds(name):
        for attempt in "ab":
            cwd = tmp_path / kind / attempt
            cwd.mkdir(parents=True)
            outputs.add(run(build(name, HOST, kind), Case(name), cwd))
    assert len(outputs) == 1


@pytest.mark.timeout(FIRST_BUILD_S)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("machine", TRIPLES)
def test_every_program_is_built_for_both_architectures(machine: str, kind: str) -> None:
    for name in (name for name in names() if kind in kinds(name)):
        path = build(name, machine, kind)
        header = path.read_bytes()[:20]
        assert struct.unpack_from("<HH", header, 16) == (TYPES[kind], MACHINES[machine])
        assert path.stat().st_mode & 0o777 == 0o755
        assert build(name, machine, kind) == path


def test_the_cache_ignores_itself() -> None:
    build("hello", HOST)
    assert (CACHE / ".gitignore").read_text() == "*\n"
    assert not [path for path in CACHE.iterdir() if path.name.endswith(".out")]


@pytest.mark.timeout(FIRST_BUILD_S)
def test_shipped_program_is_fresh(tmp_path: Path) -> None:
    script = PROGRAMS / "build.sh"
    environment = {**os.environ, "PYTHON": sys.executable}
    done = subprocess.run([script, tmp_path], env=environment, capture_output=True, timeout=500, check=False)
    assert done.returncode == 0, done.stderr
    built_with = re.findall(r"ziglang ([0-9.]*[0-9])", script.read_text())
    built = sorted(path.name for path in tmp_path.iterdir())
    assert {"hello-x86_64", "hello-arm64"} <= set(built)
    for name in built:
        same = (tmp_path / name).read_bytes() == (PROGRAMS / name).read_bytes()
        assert same or built_with != [metadata.version("ziglang")], name


def test_shipped_program_is_small_and_runs(tmp_path: Path) -> None:
    for machine, number in MACHINES.items():
        path = PROGRAMS / f"hello-{machine}"
        assert struct.unpack_from("<HH", path.read_bytes(), 16) == (2, number)
        assert path.stat().st_size < 20 << 10
        assert path.stat().st_mode & 0o111 == 0o111
    file = tmp_path / "file"
    file.write_text("contents\n")
    command = [str(PROGRAMS / f"hello-{HOST}"), str(file), "/absent"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    greeting = f"Hello from a guest of farcall: Linux on {platform.machine()}\n"
    assert done.stdout == f"{greeting}--- {file}\ncontents\n--- /absent\ncannot be read\n"
    assert done.returncode == 1
