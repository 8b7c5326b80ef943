"""Every row of the syscall table is called with success by a guest program whose checks look at the effect."""

import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

import client_vm.table  # noqa: F401  # fills TABLE
from client_vm.architecture import ARCHITECTURES
from client_vm.rows import TABLE
from tests.guests.build import HERE, build
from tests.guests.cases import CASES, ENVIRONMENT, PROCESSES, RACES, Case
from tests.guests.test_native import FIRST_BUILD_S

ARCHS: Final = {architecture.name: architecture for architecture in ARCHITECTURES}
LIMIT_S: Final = 120
OBSERVER: Final = Path(__file__).resolve().parents[1] / "support" / "observed.py"
ONLY_INTERRUPTED: Final = {
    "pause": "ends with EINTR or not at all",
    "rt_sigsuspend": "ends with EINTR or not at all",
}
"""Rows that never succeed: their guests look at what interrupts them."""


def _asserting(case: Case) -> bool:
    """Programs that check what they do, and need no server but the usual ones."""
    checks = "finish(" in (HERE / f"{case.name}.c").read_text()
    return checks and case.address_space_mib is None and case.name not in RACES


@pytest.mark.timeout(FIRST_BUILD_S)
@pytest.mark.parametrize("arch", ARCHS)
def test_every_row_was_called_with_success_and_looked_at(arch: str, tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    for case in (*CASES, *PROCESSES):
        if not _asserting(case):
            continue
        directory = tmp_path / case.label
        directory.mkdir()
        program = str(build(case.name, arch))
        ran = subprocess.run(
            [sys.executable, "-P", OBSERVER, seen, "run", "--", program, *case.arguments],
            cwd=directory, env=ENVIRONMENT, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=LIMIT_S, check=False,
        )  # fmt: skip
        assert ran.returncode == case.expected(arch), ran.stdout + ran.stderr
        assert ran.stdout.endswith("checks passed\n"), ran.stdout
    successes = set(seen.read_text().split())
    rows = [name for name in TABLE.rows if name in ARCHS[arch].abi.SYSCALLS and name not in ONLY_INTERRUPTED]
    assert [name for name in rows if name not in successes] == []
