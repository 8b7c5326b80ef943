"""`farcall run` from this checkout as a process of a test's own: started, watched, ended, and what it leaves.

Everything a run starts carries a mark in its environment, by which it is found in /proc whoever its parent is.
"""

import contextlib
import hashlib
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from tests.e2e.processes import REPOSITORY, read_line
from tests.guests.build import CACHE, FLAGS, KINDS, TRIPLES, compile_to

NONE: Mapping[str, str] = MappingProxyType({})
MARK = "FARCALL_TEST_MARK"
LIMIT_S = 40.0
GONE_S = 2.0
"""How long whatever a run started may outlive it."""
ROLES = {"farcall-guest": "worker", "farcall-file": "file", "farcall-memory": "memory"}
"""By the name of the process."""
ACTS = Path(__file__).with_name("guests") / "acts.c"


def acts(arch: str = "x86_64") -> Path:
    """The guest of guests/acts.c, built if need be."""
    return guest(ACTS.stem, arch)


def guest(name: str, arch: str = "x86_64") -> Path:
    """A guest of guests/, built if need be."""
    source = ACTS.with_name(f"{name}.c")
    flags = ("-target", TRIPLES[arch], *KINDS["static"], *FLAGS)
    key = hashlib.sha256(source.read_bytes() + repr(flags).encode()).hexdigest()[:16]
    target = CACHE / f"{name}.{arch}.{key}"
    if not target.exists():
        compile_to(target, source, flags)
    return target


def distribution(folder: Path) -> Path:
    """A directory for PYTHONPATH that makes this checkout an installed distribution: its entry points."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    info = folder / f"farcall-{project['version']}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: farcall\nVersion: {project['version']}\n")
    lines = ["[farcall.servers]"]
    lines += [f"{name} = {value}" for name, value in project["entry-points"]["farcall.servers"].items()]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
    return folder


@dataclass
class World:
    """Where runs happen: a directory for temporary files that is theirs alone, and a mark."""

    folder: Path
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)

    def __post_init__(self) -> None:
        self.temporary = self.folder / "t"
        self.temporary.mkdir()
        self._installed = distribution(self.folder / "site")
        self._shared = set(os.listdir("/dev/shm"))
        self._processes: list[subprocess.Popen[bytes]] = []

    def environment(self, variables: Mapping[str, str]) -> dict[str, str]:
        """Of a run: small, with the checkout on Python's path, and these."""
        path = os.pathsep.join(map(str, (REPOSITORY, REPOSITORY / "proto", self._installed)))
        own = {"PYTHONPATH": path, "TMPDIR": str(self.temporary), MARK: self.mark, "PATH": "/bin:/usr/bin"}
        return {**own, **variables}

    def run(
        self, *arguments: object, stdin: bytes = b"", cwd: Path | None = None, variables: Mapping[str, str] = NONE
    ) -> subprocess.CompletedProcess[str]:
        """`farcall ARGUMENTS`, to its end."""
        return subprocess.run(
            farcall(*arguments),
            input=stdin.decode(),
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            env=self.environment(variables),
            cwd=cwd or self.folder,
            check=False,
        )

    def start(self, *arguments: object, variables: Mapping[str, str] = NONE) -> subprocess.Popen[bytes]:
        """`farcall ARGUMENTS` in a process group of its own, with pipes for its stdio."""
        return self.start_command(farcall(*arguments), variables)

    def start_command(self, command: list[str], variables: Mapping[str, str] = NONE) -> subprocess.Popen[bytes]:
        """As `start`, another command."""
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=self.environment(variables),
            cwd=self.folder,
            process_group=0,
        )
        self._processes.append(process)
        return process

    def processes(self) -> dict[int, str]:
        """The command line of every living process that carries the mark, by pid."""
        found = {}
        wanted = f"{MARK}={self.mark}".encode()
        for entry in os.listdir("/proc"):
            if not entry.isdigit():
                continue
            with contextlib.suppress(OSError):
                if wanted in Path(f"/proc/{entry}/environ").read_bytes().split(b"\0"):
                    words = Path(f"/proc/{entry}/cmdline").read_bytes().split(b"\0")
                    found[int(entry)] = b" ".join(words).decode(errors="replace")
        return found

    def roles(self, kernel: int) -> dict[str, int]:
        """The pids of a run's processes by role: kernel, worker, file, memory; as many as there are."""
        roles = {"kernel": kernel}
        for pid in self.processes():
            if role := ROLES.get(name_of(pid)):
                roles[role] = pid
        return roles

    def left(self) -> list[str]:
        """What the runs so far have left behind: processes, files, shared memory, unix sockets."""
        found = [f"process {pid}: {command}" for pid, command in self.processes().items()]
        for folder, folders, files in os.walk(self.temporary):  # what vanishes meanwhile is no error
            found += [f"temporary: {folder}/{name}" for name in (*folders, *files)]
        found += [f"/dev/shm/{name}" for name in set(os.listdir("/dev/shm")) - self._shared if "farcall" in name]
        sockets = Path("/proc/net/unix").read_text().splitlines()
        return found + [f"socket: {line}" for line in sockets if str(self.temporary) in line]

    def assert_clean(self, within_s: float = GONE_S) -> None:
        """Nothing is left once so many seconds have passed, or sooner."""
        deadline = time.monotonic() + within_s
        while left := self.left():
            assert time.monotonic() < deadline, left
            time.sleep(0.02)

    def end(self) -> None:
        """Ends whatever a failed test left running."""
        for process in self._processes:
            if process.poll() is None:
                process.kill()
            process.wait(LIMIT_S)
            for pipe in (process.stdin, process.stdout, process.stderr):
                if pipe is not None:
                    with contextlib.suppress(BrokenPipeError):
                        pipe.close()
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def farcall(*arguments: object) -> list[str]:
    """The command line of `farcall ARGUMENTS`."""
    return [sys.executable, "-P", "-m", "client_vm", *map(str, arguments)]


@contextlib.contextmanager
def world() -> Iterator[World]:
    """A World whose processes do not outlive the block. Its path is short, as sockets need."""
    with tempfile.TemporaryDirectory(prefix="fc-test-") as folder:
        made = World(Path(folder))
        try:
            yield made
        finally:
            made.end()


def await_line(process: subprocess.Popen[bytes], line: str) -> None:
    """Waits until the guest prints this line."""
    assert process.stdout is not None and process.stderr is not None
    seen = read_line(process.stdout.fileno(), LIMIT_S)
    if seen != line + "\n":
        process.kill()
        raise AssertionError(f"{seen!r} {process.stderr.read().decode()}")


def send(process: subprocess.Popen[bytes], data: bytes) -> None:
    """Writes to the guest's stdin."""
    assert process.stdin is not None
    process.stdin.write(data)
    process.stdin.flush()


def silent(process: subprocess.Popen[bytes], for_s: float) -> bool:
    """Whether the guest prints nothing for so many seconds."""
    assert process.stdout is not None
    return not select.select([process.stdout], [], [], for_s)[0]


def errors(process: subprocess.Popen[bytes]) -> str:
    """What a run that has ended wrote to stderr."""
    assert process.stderr is not None
    return process.stderr.read().decode()


def name_of(pid: int) -> str:
    """The process's name, as /proc/PID/comm has it."""
    return Path(f"/proc/{pid}/comm").read_text().strip()


def state(pid: int) -> str:
    """The process's state as in proc(5): R, S, T..."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][:1]
