"""The strictness of a CI run, shown on runs of its own: an empty cell and a skipped test fail it."""

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.style.source import CHECKOUT

ALL_CELLS = """
import pytest
@pytest.mark.parametrize("arch", ["x86_64", "arm64"])
@pytest.mark.parametrize("deployment", ["ring", "grpc-unix", "grpc-tcp", "inproc"])
def test_cell(arch, deployment): pass
"""
ONE_MISSING = ALL_CELLS.replace(
    "def test_cell(arch, deployment): pass",
    'def test_cell(arch, deployment):\n    if arch == "arm64" and deployment == "inproc": pytest.skip("no")',
)
MARKED = """
import pytest
@pytest.mark.cell(arch="arm64", deployment="ring")
def test_marked(): pass
"""
SKIPPED = ALL_CELLS + '\n@pytest.mark.skip(reason="not here")\ndef test_other(): pass\n'
OPTIONAL = (
    ALL_CELLS + '\n@pytest.mark.optional("rare")\n@pytest.mark.skip(reason="not here")\ndef test_other(): pass\n'
)


def _run(directory: Path, text: str, ci: str) -> tuple[int, str]:
    (directory / "conftest.py").write_text((CHECKOUT / "tests" / "conftest.py").read_text())
    (directory / "test_it.py").write_text(text)
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "--rootdir",
            str(directory),
            str(directory),
        ],
        cwd=directory,
        env={**os.environ, "CI": ci},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def test_full_cells_pass(tmp_path: Path) -> None:
    status, output = _run(tmp_path, ALL_CELLS, "true")
    assert status == 0, output
    assert len(re.findall(r"(?m)^(?:x86_64|arm64) +\S+ +1 +1 +0 +0$", output)) == 8


def test_empty_cell_fails(tmp_path: Path) -> None:
    status, output = _run(tmp_path, ONE_MISSING, "true")
    assert status == 1
    assert "no test passed for arm64, inproc" in output


def test_skipped_test_fails(tmp_path: Path) -> None:
    status, output = _run(tmp_path, SKIPPED, "true")
    assert status == 1
    assert "skipped or expected to fail: test_it.py::test_other" in output


def test_optional_test_may_be_skipped(tmp_path: Path) -> None:
    assert _run(tmp_path, OPTIONAL, "true")[0] == 0


def test_developer_may_run_a_part(tmp_path: Path) -> None:
    status, output = _run(tmp_path, MARKED, "")
    assert status == 0
    assert re.search(r"(?m)^arm64 +ring +1 +1 +0 +0$", output)
