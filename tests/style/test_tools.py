"""The linters and the type checker have nothing to say, and the protocol follows its own rules."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.style.source import CHECKOUT

TOOLS = Path(sys.executable).parent


def _clean(*command: str) -> None:
    done = subprocess.run(
        [str(TOOLS / command[0]), *command[1:]],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=540,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_ruff() -> None:
    _clean("ruff", "check", "--no-cache")


def test_buf_lint() -> None:
    _clean("buf", "lint")


@pytest.mark.timeout(600)
def test_mypy() -> None:
    _clean("mypy")


@pytest.mark.timeout(600)
def test_mypy_of_the_tests() -> None:
    _clean("mypy", "tests")
