"""deploy/compose.yaml, brought up for tests: an image, a project of its own, and a client that stays."""

import json
import os
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.e2e import debian, roots
from tests.e2e.harness import Ran
from tests.e2e.processes import REPOSITORY
from tests.e2e.roots import MissingError

COMPOSE_FILE = REPOSITORY / "deploy" / "compose.yaml"
RUNNER = Path(__file__).with_name("in_container.py")
IMAGE = os.environ.get("FARCALL_IMAGE", "farcall-test")
COMPOSE = shlex.split(os.environ.get("FARCALL_COMPOSE", "docker-compose"))
"""Or `docker compose`, or another version's path."""
USER = 10001
BUILD_S = 900
COMPOSE_S = 180
LINES_S = 400


def docker(*words: object, stdin: str = "", limit_s: float = 60) -> str:
    """What `docker WORDS...` prints; AssertionError if it fails."""
    done = subprocess.run(
        ["docker", *map(str, words)], input=stdin, capture_output=True, text=True, timeout=limit_s, check=False
    )
    assert done.returncode == 0, f"docker {words}: {done.stderr}"
    return done.stdout


def make_image() -> None:
    """IMAGE, of these sources; nothing if it is there. MissingError where there is no docker."""
    for program in ("docker", COMPOSE[0]):
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


FILE_SERVERS = {"x86_64": "file", "arm64": "file-arm64"}
"""The service whose guests are of that architecture; the second is like the first, with another root."""


def overriding(volumes: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """A compose file beside deploy's: `volumes` of the file servers by architecture, beside their own."""
    ours: dict[str, Any] = yaml.safe_load(COMPOSE_FILE.read_text())
    first, second = FILE_SERVERS["x86_64"], FILE_SERVERS["arm64"]
    service, certs = ours["services"][first], ours["services"]["certs"]
    check = [word.replace(f"{first}:", f"{second}:") for word in service["healthcheck"]["test"]]
    own = [volume.replace("state:", f"{second}-state:") for volume in service["volumes"]]
    another = service | {"healthcheck": service["healthcheck"] | {"test": check}}
    return {
        "services": {
            "certs": {"command": f"{certs['command']} --host {first}={second}"},
            first: {"volumes": list(volumes["x86_64"])},
            second: another | {"volumes": [*own, *volumes["arm64"]]},
            "client": {"depends_on": {second: {"condition": "service_healthy"}}},
        },
        "volumes": {f"{second}-state": {}},
    }


@dataclass
class Deployment:
    """One project, with `volumes` of the file servers by architecture."""

    folder: Path
    volumes: Mapping[str, Sequence[str]]
    files: list[Path] = field(default_factory=lambda: [COMPOSE_FILE])

    def __post_init__(self) -> None:
        self.project = f"farcall-test-{os.getpid()}"
        override = self.folder / "override.json"  # JSON is YAML
        override.write_text(json.dumps(overriding(self.volumes)))
        self.files.append(override)

    def compose(self, *words: object, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """`docker-compose -f deploy/compose.yaml WORDS...`."""
        files = [word for file in self.files for word in ("-f", str(file))]
        return subprocess.run(
            [*COMPOSE, "--project-name", self.project, *files, *map(str, words)],
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
def deployed(folder: Path, volumes: Mapping[str, Sequence[str]]) -> Iterator[Deployment]:
    """A deployment that is up, and gone after the block."""
    deployment = Deployment(folder, volumes)
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


def client_of(deployment: Deployment, arch: str) -> tuple[str, ...]:
    """`docker exec` in the client's container that stays, with the file server of that architecture's guests."""
    return ("exec", "-i", "-e", f"FARCALL_FILE={FILE_SERVERS[arch]}:7001", deployment.client)


def guests(deployment: Deployment, arch: str, lines: list[dict[str, object]]) -> list[Ran]:
    """What the lines do as guests, from the client's container."""
    runner = ("python3", "/in_container.py", "/opt/farcall/bin/farcall", "run", "-w", "{}", "--")
    words = (*client_of(deployment, arch), *runner)
    return answers(docker(*words, stdin=json.dumps(lines), limit_s=LINES_S))


def natives(work: Path, lines: list[dict[str, object]]) -> list[Ran]:
    """What they do natively, inside the same image."""
    mounts = ("-v", f"{work}:/w", "-v", f"{RUNNER}:/in_container.py:ro", "--network", "none")
    words = ("run", "--rm", "-i", *mounts, IMAGE, "python3", "/in_container.py")
    return answers(docker(*words, stdin=json.dumps(lines), limit_s=LINES_S))
