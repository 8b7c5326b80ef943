"""The list programs/command_lines_dynamic.toml, and the differences from native Linux that a line may allow."""

import re
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

PROGRAMS = Path(__file__).with_name("programs")
TOOLS = "../tools"
"""Beside a line's directory: programs of both architectures, static."""


@dataclass(frozen=True)
class DynamicLine:
    """One command line; the list's own head tells what the fields mean."""

    name: str
    command: str
    stdin: str = ""
    differs: dict[str, str] = field(default_factory=dict, hash=False)
    core: bool = False
    only: str = ""
    shares: str = ""

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


SHELLS = {
    "dash": "dash",
    "bash": "bash",
    "ash": f"{TOOLS}/busybox-x86_64 sh",
    "ash-arm64": f"{TOOLS}/busybox-arm64 sh",
}
MIXED = f"MIXED='{TOOLS}/busybox-x86_64 {TOOLS}/busybox-arm64'"
COSTLY = {"here", "pipeline"}
"""Parts of torture.sh that take a dozen times as long as the others: no part of the core."""
NAMED = {"process ids": "bash names the process that was killed"}


def torture() -> list[DynamicLine]:
    """Each part of src/torture.sh by each shell, and what bash alone has."""
    text = (PROGRAMS / "src/torture.sh").read_text()
    parts = re.findall(r"^([a-z]+)_?\(\) \{ #", text, re.MULTILINE)
    lines = [
        DynamicLine(
            f"torture-{name}-{part}",
            f"env {MIXED} {shell} src/torture.sh {part}",
            differs=NAMED,
            core=name == "dash" and part not in COSTLY,
        )
        for name, shell in SHELLS.items()
        for part in parts
    ]
    return [*lines, DynamicLine("torture-bash-alone", "bash src/torture_bash.sh", differs=NAMED)]


def features() -> list[DynamicLine]:
    """Each class of src/python_features.py, python_sharing.py and python_sockets.py."""
    took = {"seconds": "unittest prints how long it took"}
    lines = []
    for script in ("python_features.py", "python_sharing.py", "python_sockets.py"):
        text = (PROGRAMS / "src" / script).read_text()
        for name in re.findall(r"^class (\w+)\(.*unittest\.TestCase\):", text, re.MULTILINE):
            command = f"/usr/bin/python3 src/{script} {name}"
            lines.append(DynamicLine(f"features-{name.lower()}", command, differs=took, core=name == "Children"))
    return lines
