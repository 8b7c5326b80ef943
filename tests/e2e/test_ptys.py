"""Pseudo-terminals: programs that make them see as guests what they see natively."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.debian import debian
from tests.e2e.runs import LIMIT_S, World, world

SCRIPT = ["/usr/bin/script", "-qec", "echo hi; test -t 0 && stty -a | head -1; exit 4", "/dev/null"]


@pytest.fixture
def runs() -> Iterator[World]:
    with world() as made:
        yield made


def natively(runs: World, *command: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(word) for word in command],
        input="", text=True, capture_output=True, env=runs.environment({}), timeout=LIMIT_S, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("arch", ["x86_64", "arm64"])
def test_made_typed_at_and_hung_up(runs: World, arch: str, tmp_path: Path) -> None:
    """Names, keys that are signals, sizes, hangup, a shell with jobs, pty.spawn."""
    source = Path(__file__).with_name("programs") / "terminals.py"
    native = natively(runs, "/usr/bin/python3", source)
    assert (native.returncode, native.stderr) == (0, ""), native
    if arch == "x86_64":
        guest = runs.run("run", "--", "/usr/bin/python3", source)
    else:
        state = tmp_path / "state"
        text = source.read_text()
        guest = runs.run("run", "--root", debian(arch), "--state", state, "--", "/usr/bin/python3", "-c", text)
    assert (guest.returncode, guest.stdout, guest.stderr) == (0, native.stdout, "")
    runs.assert_clean()


def test_script(runs: World) -> None:
    """util-linux's: a session at a terminal of its own, and a copy of what is seen."""
    if shutil.which(SCRIPT[0]) is None:
        pytest.skip("script is not installed")
    native = natively(runs, *SCRIPT)
    guest = runs.run("run", "--", *SCRIPT)
    assert native.returncode == 4 and native.stdout.startswith("hi")
    assert (guest.returncode, guest.stdout, guest.stderr) == (4, native.stdout, "")
    runs.assert_clean()
