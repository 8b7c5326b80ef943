"""Runs a guest program with input, natively or under farcall, in a directory of its own."""

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.e2e.harness import FARCALL

LIMIT_S: Final = 240
GROUPS: Final = (1001, 1002)
"""Supplementary groups: getgroups has something to write."""


@dataclass(frozen=True)
class Ran:
    """`status`: as subprocess tells it."""

    stdout: str
    stderr: str
    status: int


def run(command: list[str], directory: Path, script: str = "", limit_s: float = LIMIT_S) -> Ran:
    """Ends it after limit_s seconds."""
    directory.mkdir(mode=0o755, exist_ok=True)
    done = subprocess.run(
        command,
        cwd=directory,
        input=script,
        capture_output=True,
        text=True,
        timeout=limit_s,
        env={},
        umask=0o022,
        extra_groups=GROUPS,
        check=False,
    )
    return Ran(done.stdout, done.stderr, done.returncode)


def under_farcall(program: Path, *arguments: str, options: tuple[str, ...] = ()) -> list[str]:
    """The command line of a guest."""
    return [str(FARCALL), "run", *options, "--", str(program), *arguments]
