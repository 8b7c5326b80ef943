"""Every row of the syscall table is called with success by a guest program whose checks look at the effect."""

from collections import Counter
from pathlib import Path
from typing import Final

import pytest

import client_vm.table  # noqa: F401  # fills TABLE
from client_vm.architecture import ARCHITECTURES
from client_vm.rows import TABLE
from tests.guests.build import HERE, build
from tests.guests.cases import CASES, ENVIRONMENT, Case
from tests.guests.test_native import FIRST_BUILD_S
from tests.support.direct import Servers, run_guest

ARCHS: Final = {architecture.name: architecture for architecture in ARCHITECTURES}


def _asserting(case: Case) -> bool:
    """Programs that check what they do, and need no server but the usual ones."""
    return "finish(" in (HERE / f"{case.name}.c").read_text() and case.address_space_mib is None


@pytest.mark.timeout(FIRST_BUILD_S)
@pytest.mark.parametrize("arch", ARCHS)
def test_every_row_was_called_with_success_and_looked_at(arch: str, tmp_path: Path) -> None:
    successes: Counter[str] = Counter()
    for case in CASES:
        if not _asserting(case):
            continue
        directory, state = tmp_path / case.label, tmp_path / f"{case.label}.state"
        directory.mkdir()
        state.mkdir(mode=0o700)
        servers = Servers(Path("/"), state)
        program = str(build(case.name, arch))
        ran = run_guest(servers, directory, [program, *case.arguments], ENVIRONMENT)
        servers.close()
        assert (ran.status, ran.signal) == (case.expected(arch), 0), ran.stdout
        assert ran.stdout.endswith("checks passed\n"), ran.stdout
        assert list(directory.iterdir()) == []
        successes += ran.successes
    rows = [name for name in TABLE.rows if name in ARCHS[arch].abi.SYSCALLS]
    assert [name for name in rows if not successes[name]] == []
