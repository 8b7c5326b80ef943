"""Builds the programs of languages/ for each architecture: static, without a C library; cached as guests are."""

import hashlib
import os
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path
from typing import Final

from tests.guests.build import CACHE, HERE, TIMEOUT_S, BuildError

CHECKOUT: Final = HERE.parents[1]
GOROOT: Final = CHECKOUT / ".cache/go/usr/lib/go-1.19"
FETCH_S: Final = 900
PROGRAMS: Final = ("threads.go", "threads.zig")
GO_ARCH: Final = {"x86_64": "amd64", "arm64": "arm64"}
ZIG_TARGET: Final = {"x86_64": "x86_64-linux", "arm64": "aarch64-linux"}


def _go(source: Path, arch: str, output: Path) -> tuple[list[str], dict[str, str]]:
    """Debian's compiler, which `.ci/go` unpacks."""
    environment = {
        "GOROOT": str(GOROOT),
        "GOCACHE": str(CHECKOUT / ".cache/go-build"),
        "GOARCH": GO_ARCH[arch],
        "GO111MODULE": "off",
        "CGO_ENABLED": "0",
        "GOFLAGS": "",
        "HOME": str(CHECKOUT / ".cache"),
    }
    return [str(GOROOT / "bin/go"), "build", "-trimpath", "-o", str(output), str(source)], environment


def _zig(source: Path, arch: str, output: Path) -> tuple[list[str], dict[str, str]]:
    target = ["-target", ZIG_TARGET[arch], "-O", "ReleaseSafe", "-fstrip", f"-femit-bin={output}"]
    return [sys.executable, "-m", "ziglang", "build-exe", *target, str(source)], {}


def build_language(name: str, arch: str) -> Path:
    """The executable of languages/NAME, built if need be. BuildError."""
    source = HERE / "languages" / name
    hasher = hashlib.sha256(source.read_bytes() + metadata.version("ziglang").encode())
    target = CACHE / f"{name}.{arch}.{hasher.hexdigest()[:16]}"
    if target.exists():
        return target
    if source.suffix == ".go":
        _run([str(CHECKOUT / ".ci/go")], {}, CHECKOUT, FETCH_S)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".build-") as folder:
        output = Path(folder) / "out"
        make = _go if source.suffix == ".go" else _zig
        command, environment = make(source, arch, output)
        _run(command, environment, Path(folder), TIMEOUT_S)
        output.chmod(0o755)
        os.replace(output, target)
    return target


def _run(command: list[str], environment: dict[str, str], cwd: Path, limit_s: int) -> None:
    done = subprocess.run(
        command,
        env={**os.environ, **environment},
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=limit_s,
        check=False,
    )
    if done.returncode:
        raise BuildError(f"{command}: {done.stderr[-2000:]}")
