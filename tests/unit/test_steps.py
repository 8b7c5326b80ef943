"""Steps: found in the sources, counted, and free when nobody asks for a crash."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from servers import steps
from servers.steps import CRASH_AT, Crasher, step_names

SERVERS = Path(steps.__file__).parent


def test_the_dispatchers_steps_are_found() -> None:
    names = step_names(SERVERS)
    expected = {"receive", "arrive", "handle", "record", "commit", "reply"}
    expected |= {"hello", "hello-record", "hello-commit", "end", "end-record", "end-commit"}
    assert expected <= set(names)
    assert "dispatch.py:" in names["commit"]


@pytest.mark.parametrize("source", ['step("a")\nstep("a")', "step(name)", "step()", 'step(f"a{1}")'])
def test_names_are_literal_and_unique(tmp_path: Path, source: str) -> None:
    (tmp_path / "a.py").write_text(source)
    with pytest.raises(ValueError):
        step_names(tmp_path)


def run(specification: str) -> list[str]:
    """The steps passed before the kill, of two Appends and a Rename."""
    passed: list[str] = []
    killed: list[bool] = []
    crasher = Crasher(specification, lambda: killed.append(True))
    for operation in ("Append", "Rename", "Append"):
        for name in ("receive", "handle", "commit"):
            crasher.step(name, operation if name == "receive" else "")
            if killed:
                return passed
            passed.append(f"{operation} {name}")
    return passed


@pytest.mark.parametrize(
    ("specification", "passed"),
    [
        ("receive", 0), ("commit", 2), ("commit:1", 2), ("commit:2", 5), ("commit:3", 8), ("commit:4", 9),
        ("commit::Rename", 5), ("commit:1:Rename", 5), ("handle:2:Append", 7), ("handle:2:Rename", 9),
        ("other", 9),
    ],
)  # fmt: skip
def test_the_nth_step_of_the_operation_kills(specification: str, passed: int) -> None:
    assert len(run(specification)) == passed


@pytest.mark.parametrize("specification", ["", ":2", "commit:0", "commit:x", "commit:-1"])
def test_nonsense_is_refused(specification: str) -> None:
    with pytest.raises(ValueError):
        Crasher(specification, lambda: None)


def test_the_process_kills_itself_only_if_asked() -> None:
    program = "from servers.steps import step; step('a'); step('b', 'Op'); print('alive', flush=True); step('c')"
    for crash_at, status, output in (
        ("c::Op", -signal.SIGKILL, "alive"),
        ("b", -signal.SIGKILL, ""),
        ("", 0, "alive"),
    ):
        done = subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONPATH": str(SERVERS.parent), CRASH_AT: crash_at},
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert (done.returncode, done.stdout.strip(), done.stderr) == (status, output, "")
