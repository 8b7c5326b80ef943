"""Starts ring_process and ends it, whatever happens."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.contract.carriers import CLIENT_LIMIT_S

CHECKOUT = Path(__file__).parents[2]


@contextmanager
def process(role: str, path: str) -> Iterator[subprocess.Popen[str]]:
    """ring_process in that role, its output a pipe; killed at the end."""
    environment = {**os.environ, "PYTHONPATH": f"{CHECKOUT}:{CHECKOUT / 'proto'}"}
    command = [sys.executable, "-m", "tests.contract.ring_process", role, path]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as child:
        try:
            yield child
        finally:
            child.kill()
            child.wait(CLIENT_LIMIT_S)


def line(child: subprocess.Popen[str]) -> str:
    """Its next line of output, "" at its end."""
    assert child.stdout is not None
    return child.stdout.readline().strip()
