"""SIGKILL at every step of a call, a restart on the same state, and the same request again: one effect."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ipc.message import Call
from servers.file.service import FileService
from servers.file.store import Store
from servers.steps import CRASH_AT, step_names
from tests.unit.file.crash_scenario import CASES, ROOT, run, start
from tests.unit.serving import DIRECT, Caller, hello

CHECKOUT = Path(__file__).parents[3]
CHILD_LIMIT_S = 30
STEPS = [
    name
    for name, place in step_names(CHECKOUT / "servers").items()
    if ("/dispatch.py:" in place or "/file/" in place) and "sync" not in name
]
"""Of a mutating call's way; opening and ending sessions, and sync(2), are not on it."""
WITHOUT = {"append": {"data-written"}, "rename": {"data-written"}}
"""Steps that a case does not come to."""


def killed(state: Path, root: Path, case: str, step: str) -> tuple[int, bytes]:
    """(session, secret) of a server that died at that step of the call that counts."""
    operation = CASES[case][0]
    # The calls before it come to the same steps, some of them by the same operation.
    nth = 1 + {"Append": 2, "Open": 2, "Remove": 1}.get(operation, 0)
    if step == "data-written":
        nth = 2
    paths = f"{CHECKOUT}:{CHECKOUT / 'proto'}"
    environment = {**os.environ, "PYTHONPATH": paths, CRASH_AT: f"{step}:{nth}:{operation}"}
    command = [sys.executable, "-m", "tests.unit.file.crash_scenario", str(state), str(root), case]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as child:
        try:
            output, _ = child.communicate(timeout=CHILD_LIMIT_S)
        finally:
            child.kill()
    assert child.returncode == -signal.SIGKILL, f"step {step} was not reached"
    first, prepared = output.splitlines()
    assert prepared == "prepared"
    number, secret = first.split()
    return int(number), bytes.fromhex(secret)


def snapshot(service: FileService) -> list[tuple[Any, ...]]:
    """All rows that calls leave, times and session numbers aside."""
    store = service.ledger
    assert isinstance(store, Store)
    rows: list[tuple[Any, ...]] = []
    for sql in (
        "SELECT ino, mode, nlink, size, target, parent, name FROM inode WHERE lower IS NULL ORDER BY ino",
        "SELECT mode, nlink, size, lower FROM inode WHERE lower IS NOT NULL ORDER BY lower",
        "SELECT name, child = 0 FROM dentry ORDER BY parent, name",
        "SELECT offset, length, kind, data FROM extent ORDER BY ino, offset",
        "SELECT handle, flags, name FROM handle JOIN description ON id = description ORDER BY session, handle",
        "SELECT kind, start, last, type FROM lock",
        "SELECT slot, seq, digest, reply FROM slot ORDER BY slot",
    ):
        rows += store.execute(sql)
    return rows


def check(tmp_path: Path, lower: Path, case: str, step: str) -> None:
    (tmp_path / "control").mkdir()
    control, dispatcher = start(tmp_path / "control", lower)
    _, expected = run(Caller(dispatcher, hello(dispatcher, credentials=ROOT).session), case)
    wanted = snapshot(control)
    control.close()

    state = tmp_path / "state"
    state.mkdir()
    number, secret = killed(state, lower, case, step)
    service, dispatcher = start(state, lower)
    answer = hello(dispatcher, resume_session=number, resume_secret=secret, credentials=ROOT)
    assert answer.session == number
    caller = Caller(dispatcher, number, DIRECT)
    call: Call = caller.new(CASES[case][1]())
    replies = [caller.send(call) for _ in range(3)]
    for reply in replies:
        assert (reply.errno, reply.result, bytes(reply.data)) == (
            expected.errno,
            expected.result,
            bytes(expected.data),
        )
        assert reply.body == replies[0].body
    assert snapshot(service) == wanted
    data_file = service.tree.extents.data
    used = sum(length for (length,) in service.ledger.execute("SELECT length FROM extent WHERE kind = 1"))  # type: ignore[attr-defined]
    assert (state / "data").stat().st_size <= used + data_file.free_bytes()
    service.close()


@pytest.mark.parametrize("case", CASES)
def test_killed_between_commit_and_reply(tmp_path: Path, lower: Path, case: str) -> None:
    check(tmp_path, lower, case, "commit")


@pytest.mark.parametrize("step", sorted(STEPS))
@pytest.mark.parametrize("case", ["large append", "rename"])
def test_killed_at_every_step(tmp_path: Path, lower: Path, case: str, step: str) -> None:
    if step in WITHOUT.get(case, ()):
        case = "large append"
    check(tmp_path, lower, case, step)
