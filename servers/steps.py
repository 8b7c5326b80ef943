"""Named points between receipt and reply at which a test may have the server killed.

Production code marks them: `step("commit")`. Where the operation is known it is given too and remembered,
so that a store's own steps can be told apart: `step("receive", "Append")`.

    FARCALL_CRASH_AT=NAME[:NTH[:OPERATION]]

makes the process SIGKILL itself when it comes to step NAME for the NTH time (default 1), counting only
those under OPERATION if that is given. Without it a step is an empty function. The list of steps is read
from the sources (`step_names`), so a test of every crash point needs no list of its own.
"""

import ast
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Final

CRASH_AT: Final = "FARCALL_CRASH_AT"


class Crasher:
    """Counts the steps that match a specification, and kills at the nth. ValueError if it is not one."""

    def __init__(self, specification: str, kill: Callable[[], None]) -> None:
        self._name, _, rest = specification.partition(":")
        nth, _, self._operation = rest.partition(":")
        self._left = int(nth or 1)
        if not self._name or self._left < 1:
            raise ValueError(f"{specification!r} is not NAME[:NTH[:OPERATION]]")
        self._current = ""
        self._kill = kill

    def step(self, name: str, operation: str = "") -> None:
        if operation:
            self._current = operation
        if name != self._name or (self._operation and self._operation != self._current):
            return
        self._left -= 1
        if self._left == 0:
            self._kill()


def _kill_self() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _no_step(name: str, operation: str = "") -> None:
    """Nothing, at the price of a call."""


step: Final[Callable[..., None]] = (
    Crasher(os.environ[CRASH_AT], _kill_self).step if os.environ.get(CRASH_AT) else _no_step
)


def step_names(*folders: Path) -> dict[str, str]:
    """Every step marked in the Python sources under `folders`: name -> "file:line" of its mark.

    ValueError if a name is marked twice or is not a literal: a crash test could not aim at it.
    """
    found: dict[str, str] = {}
    for path in sorted(path for folder in folders for path in folder.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_bytes())):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "step"):
                continue
            where = f"{path}:{node.lineno}"
            name = node.args[0].value if node.args and isinstance(node.args[0], ast.Constant) else None
            if not isinstance(name, str):
                raise ValueError(f"{where}: the name of a step must be a literal")
            if name in found:
                raise ValueError(f"{where}: step {name!r} is also at {found[name]}")
            found[name] = where
    return found
