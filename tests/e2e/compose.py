"""deploy/compose.yaml, brought up for tests: an image, a project of its own, and a client that stays."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.e2e import debian, roots
from tests.e2e.harness import Ran
from tests.e2e.processes import REPOSITORY
from tests.e2e.roots import MissingError

COMPOSE_FILE = REPOSITORY / "deploy" / "compose.yaml"
RUNNER = Path(__file__).with_name("in_container.py")
IMAGE = "farcall-test"
USER = 10001
BUILD_S = 900
COMPOSE_S = 180
LINES_S = 400
ARCHS = ("x86_64", "arm64")


def docker(*words: object, stdin: str = "", limit_s: float = 60) -> str:
    """What `docker WORDS...` prints; AssertionError if it fails."""
    done = subprocess.run(
        ["docker", *map(str, words)], input=stdin, capture_output=True, text=True, timeout=limit_s, check=False
    )
    assert done.returncode == 0, f"docker {words}: {done.stderr}"
    return done.stdout


def make_image() -> None:
    """IMAGE, of these sources; nothing if it is there. MissingError where there is no docker."""
    for program in ("docker", "docker-compose"):
        if shutil.which(program) is None:
            raise MissingError(f"{program}; .ci/run installs it")
    if subprocess.run(["docker", "info"], capture_output=True, timeout=60, check=False).returncode:
        raise MissingError("dockerd; .ci/run starts it")
    done = subprocess.run(
        [REPOSITORY / "deploy" / "image", IMAGE], capture_output=True, text=True, timeout=BUILD_S, check=False
    )
    assert done.returncode == 0, done.stderr


def work_directory(path: Path, dynamic: Sequence[str], static: Sequence[str], *, native: bool) -> Path:
    """Directories for the lines of both lists, alike to the byte and second, of the containers' user."""
    debian.fill(path, dynamic, native)
    model = roots.build(path.with_name(f"{path.name}-root"), roots.busybox("x86_64")) / "w"
    for name in static:
        subprocess.run(["cp", "-a", "--", model, path / name], check=True, timeout=60)
    for each in [path, *path.rglob("*")]:
        os.chown(each, USER, USER, follow_symlinks=False)
    return path


@dataclass
class Deployment:
    """One project. `volumes`: of the file server's container, beside its own."""

    folder: Path
    name: str
    volumes: Sequence[str] = ()
    files: list[Path] = field(default_factory=lambda: [COMPOSE_FILE])

    def __post_init__(self) -> None:
        self.project = f"farcall-test-{os.getpid()}-{self.name}"
        override = self.folder / f"{self.name}.json"  # JSON is YAML
        override.write_text(json.dumps({"services": {"file": {"volumes": list(self.volumes)}}}))
        self.files.append(override)

    def compose(self, *words: object, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """`docker-compose -f deploy/compose.yaml WORDS...`."""
        files = [word for file in self.files for word in ("-f", str(file))]
        return subprocess.run(
            ["docker-compose", "--project-name", self.project, *files, *map(str, words)],
            input=stdin,
            env={**os.environ, "FARCALL_IMAGE": IMAGE},
            capture_output=True,
            text=True,
            timeout=COMPOSE_S,
            check=False,
        )

    def run(self, *words: str, options: Sequence[str] = (), stdin: str = "") -> subprocess.CompletedProcess[str]:
        """`docker-compose run --rm client WORDS...`, as the README says."""
        return self.compose("run", "--rm", "-T", *options, "client", *words, stdin=stdin)

    def container(self, service: str) -> str:
        """The id of a service's container."""
        done = self.compose("ps", "-q", service)
        assert done.returncode == 0 and done.stdout, done.stderr
        return done.stdout.split()[0]

    def inspect(self, service: str) -> dict[str, Any]:
        """What docker knows of a service's container."""
        found: list[dict[str, Any]] = json.loads(docker("inspect", self.container(service)))
        return found[0]

    @property
    def client(self) -> str:
        """A client's container that stays."""
        return f"{self.project}-client"

    def start(self) -> None:
        """Brings everything up."""
        staying = ("--name", self.client, "-v", f"{RUNNER}:/in_container.py:ro", "client", "sleep", "3600")
        done = self.compose("run", "-d", "-T", *staying)
        assert done.returncode == 0, done.stderr

    def stop(self) -> None:
        """Removes everything."""
        subprocess.run(["docker", "rm", "-f", self.client], capture_output=True, timeout=60, check=False)
        done = self.compose("down", "--volumes", "--timeout", "2", "--remove-orphans")
        assert done.returncode == 0, done.stderr


@contextmanager
def deployed(folder: Path, name: str, volumes: Sequence[str] = ()) -> Iterator[Deployment]:
    """A deployment that is up, and gone after the block."""
    deployment = Deployment(folder, name, volumes)
    try:
        deployment.start()
        yield deployment
    finally:
        deployment.stop()


def answers(output: str) -> list[Ran]:
    """What in_container.py found."""
    return [
        Ran(each["stdout"].encode("latin-1"), each["stderr"].encode("latin-1"), each["status"])
        for each in json.loads(output)
    ]


def guests(deployment: Deployment, lines: list[dict[str, object]]) -> list[Ran]:
    """What the lines do as guests, from the client's container."""
    words = (
        "exec",
        "-i",
        deployment.client,
        "python3",
        "/in_container.py",
        "/opt/farcall/bin/farcall",
        "run",
        "-w",
        "{}",
        "--",
    )
    return answers(docker(*words, stdin=json.dumps(lines), limit_s=LINES_S))


def natives(work: Path, lines: list[dict[str, object]]) -> list[Ran]:
    """What they do natively, inside the same image."""
    mounts = ("-v", f"{work}:/w", "-v", f"{RUNNER}:/in_container.py:ro", "--network", "none")
    words = ("run", "--rm", "-i", *mounts, IMAGE, "python3", "/in_container.py")
    return answers(docker(*words, stdin=json.dumps(lines), limit_s=LINES_S))
