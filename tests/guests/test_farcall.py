"""Every guest program under farcall: what native Linux gives, on both architectures, and no trace on the host."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e import harness
from tests.guests.build import TRIPLES, build
from tests.guests.cases import CASES, ENVIRONMENT, Case, kinds
from tests.guests.test_native import FIRST_BUILD_S, HOST
from tests.guests.test_native import run as run_natively

LIMIT_S = 90
RUNS = [pytest.param(case, kind, id=f"{case.label}-{kind}") for case in CASES for kind in kinds(case.name)]


@contextmanager
def placement(case: Case, folder: Path) -> Iterator[list[str]]:
    """Options of `farcall run`: the servers it starts itself, or a memory server with the case's quota."""
    if case.address_space_mib is None:
        yield []
        return
    address = f"unix:{folder / 'memory'}"
    quota = str(case.address_space_mib << 20)
    with harness.serving("memory", "--listen", address, "--quota", quota):
        yield ["--memory", address]


@pytest.mark.timeout(FIRST_BUILD_S)
@pytest.mark.parametrize("deployment", ["ring"])
@pytest.mark.parametrize("arch", TRIPLES)
@pytest.mark.parametrize(("case", "kind"), RUNS)
def test_does_what_native_linux_does(case: Case, arch: str, kind: str, deployment: str, tmp_path: Path) -> None:
    here, there, sockets = (tmp_path / name for name in ("farcall", "native", "sockets"))
    for folder in (here, there, sockets):
        folder.mkdir(mode=0o700)
    program = build(case.name, arch, kind)
    with placement(case, sockets) as options:
        done = subprocess.run(
            [harness.FARCALL, "run", *options, "--", str(program), *case.arguments],
            cwd=here,
            env=ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=LIMIT_S,
            check=False,
            umask=0o022,
        )
    stdout, stderr = done.stdout.decode(), done.stderr.decode()
    assert "FAILED" not in stdout
    assert done.returncode == case.expected(arch), stdout + stderr
    assert list(here.iterdir()) == []  # what it wrote is the file server's
    if arch == HOST and case.address_space_mib is None:
        assert stdout == run_natively(program, case, there)[0]
