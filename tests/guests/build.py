"""Builds the guest programs: each *.c here, for each architecture, static or static-PIE (zig cc, musl).

    python -m tests.guests.build        builds all, prints their paths

A binary is cached in .cache/guests under a hash of everything that it is made from. Several processes may
build at once: each writes a file of its own and renames it.
"""

import hashlib
import os
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).parent
CACHE: Final = HERE.parents[1] / ".cache/guests"
TRIPLES: Final = {"x86_64": "x86_64-linux-musl", "arm64": "aarch64-linux-musl"}
KINDS: Final = {"static": ("-static",), "static-pie": ("-static", "-fPIE", "-pie")}
FLAGS: Final = (
    "-std=gnu11",
    "-O1",
    "-g0",
    "-s",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-fno-sanitize=all",
    "-fno-builtin",
)
TIMEOUT_S: Final = 600
"""The first build of a machine compiles musl as well."""


class BuildError(Exception):
    """The compiler's complaint."""


def names() -> list[str]:
    """Every guest program."""
    return sorted(path.stem for path in HERE.glob("*.c"))


def build(name: str, arch: str, kind: str = "static") -> Path:
    """The executable of a guest, built if need be. `arch`: x86_64, arm64; `kind`: static, static-pie."""
    source = HERE / f"{name}.c"
    flags = ("-target", TRIPLES[arch], *KINDS[kind], *FLAGS)
    hasher = hashlib.sha256(repr((flags, metadata.version("ziglang"))).encode())
    for path in (source, *sorted(HERE.glob("*.h"))):
        hasher.update(path.read_bytes())
    target = CACHE / f"{name}.{arch}.{kind}.{hasher.hexdigest()[:16]}"
    if not target.exists():
        compile_to(target, source, flags)
    return target


def compile_to(target: Path, source: Path, flags: tuple[str, ...]) -> None:
    """Compiles into `target`, which appears complete or not at all. BuildError."""
    target.parent.mkdir(parents=True, exist_ok=True)
    ignore = target.parent / ".gitignore"
    if not ignore.exists():
        ignore.write_text("*\n")
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".build-") as folder:
        output = Path(folder) / "out"
        command = [sys.executable, "-m", "ziglang", "cc", *flags, str(source), "-o", str(output)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
        if done.returncode:
            raise BuildError(f"{source.name}: {done.stderr}")
        output.chmod(0o755)
        os.replace(output, target)


def main() -> None:
    for name in names():
        for arch in TRIPLES:
            for kind in KINDS:
                print(build(name, arch, kind))


if __name__ == "__main__":
    main()
