"""The list programs/command_lines_dynamic.toml, and the differences from native Linux that a line may allow."""

import re
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

PROGRAMS = Path(__file__).with_name("programs")


@dataclass(frozen=True)
class DynamicLine:
    """One command line; the list's own head tells what the fields mean."""

    name: str
    command: str
    stdin: str = ""
    differs: dict[str, str] = field(default_factory=dict, hash=False)
    core: bool = False
    only: str = ""

    def same(self, output: bytes) -> bytes:
        """The output as far as two worlds must agree on it."""
        for name in self.differs:
            output = DIFFERENCES[name](output)
        return output


def _sorted_lines(output: bytes) -> bytes:
    return b"".join(sorted(output.splitlines(keepends=True)))


def _replacing(pattern: bytes, replacement: bytes) -> Callable[[bytes], bytes]:
    return lambda output: re.sub(pattern, replacement, output)


DIFFERENCES: dict[str, Callable[[bytes], bytes]] = {
    "order": _sorted_lines,
    "seconds": _replacing(rb"in \d+\.\d+s", b"in SECONDS"),
    "totals": _replacing(rb"(?m)^total \d+$", b"total BLOCKS"),
    "process ids": _replacing(rb"line (\d+): +\d+ ", rb"line \1: PID "),
    "disk sizes": _replacing(rb"(?m)^(size|size-pack): \d+$", rb"\1: KIB"),
}

OVERLOOKED = {
    re.compile(r"\.git/index$"): "git's index holds inode numbers and times of change (gitformat-index(5))",
    re.compile(r"\.zip$"): "a zip file holds the time of day, to two seconds, of what was stored",
}
"""Files that a line leaves behind whose contents need not agree, and why; that they stand there must."""


def overlooked(name: str) -> bool:
    return any(pattern.search(name) for pattern in OVERLOOKED)


def load(path: Path = PROGRAMS / "command_lines_dynamic.toml") -> list[DynamicLine]:
    """TypeError for a field that no line has."""
    with path.open("rb") as file:
        return [DynamicLine(name, **fields) for name, fields in tomllib.load(file).items()]
