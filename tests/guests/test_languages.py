"""Static programs with threads in Go and Zig, whose own libraries call the kernel: natively, and as guests."""

import struct
import subprocess
from pathlib import Path

import pytest

from tests.e2e import harness
from tests.guests.build import TRIPLES
from tests.guests.build_languages import FETCH_S, PROGRAMS, build_language
from tests.guests.cases import ENVIRONMENT
from tests.guests.test_native import HOST, MACHINES

LIMIT_S = 120
GREETINGS = {name: f"{name.rpartition('.')[2]}: all checks passed\n" for name in PROGRAMS}
RUNS = [
    pytest.param(arch, deployment, name, id=f"{arch}-{deployment}-{name}")
    for arch in TRIPLES
    for deployment in ("ring", "grpc-unix")
    for name in PROGRAMS
]


def run(command: list[str], cwd: Path) -> tuple[str, str, int]:
    done = subprocess.run(
        command,
        cwd=cwd,
        env=ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    return done.stdout, done.stderr, done.returncode


@pytest.mark.timeout(FETCH_S + LIMIT_S)
@pytest.mark.parametrize("name", PROGRAMS)
def test_passes_natively(name: str, tmp_path: Path) -> None:
    assert run([str(build_language(name, HOST))], tmp_path) == (GREETINGS[name], "", 0)


@pytest.mark.timeout(FETCH_S)
@pytest.mark.parametrize("machine", TRIPLES)
@pytest.mark.parametrize("name", PROGRAMS)
def test_is_built_for_both_architectures(name: str, machine: str) -> None:
    header = build_language(name, machine).read_bytes()[:20]
    assert struct.unpack_from("<H", header, 18) == (MACHINES[machine],)


@pytest.mark.timeout(FETCH_S + LIMIT_S)
@pytest.mark.parametrize(("arch", "deployment", "name"), RUNS)
def test_passes_as_a_guest(arch: str, deployment: str, name: str, tmp_path: Path) -> None:
    program = build_language(name, arch)
    state = tmp_path / "state"
    with harness.guest(deployment, Path("/"), state, by_hand=True) as guest:
        command = [str(harness.FARCALL), "run", *guest.options, "--", str(program)]
        assert run(command, tmp_path) == (GREETINGS[name], "", 0)
