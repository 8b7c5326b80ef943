"""Guest programs of processes, threads, signals and shared memory under farcall, as they run natively.

FARCALL_ROUNDS (1000) is how often the racing programs try, FARCALL_REPEAT (1) how often the whole list is run.
"""

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.e2e import harness
from tests.e2e.harness import DEPLOYMENTS, Guest
from tests.guests.build import TRIPLES, build
from tests.guests.cases import ENVIRONMENT, PROCESSES, RACES, Case
from tests.guests.test_native import FIRST_BUILD_S

REPEAT = int(os.environ.get("FARCALL_REPEAT", "1"))
LIMIT_S = 500
CORE = ("fork_wait", "pipes", "threads", "signals", "locks")
"""Under every deployment; the others by ring and grpc-unix, races by ring."""
SHARING = ("shared_files",)
"""Where the file server is on this host (tests/e2e/test_sharing.py)."""
RUNS = [
    pytest.param(arch, deployment, case, attempt, id=f"{arch}-{deployment}-{case.name}-{attempt}")
    for attempt in range(REPEAT)
    for arch in TRIPLES
    for deployment in DEPLOYMENTS
    for case in PROCESSES
    if deployment == "ring"
    or case.name in CORE
    or (deployment == "grpc-unix" and case.name not in RACES)
    or (deployment == "inproc" and case.name in SHARING)
]


@pytest.fixture(scope="module")
def guests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Guest]]:
    """farcall over the host's root, with servers that serve all runs of a deployment."""
    with ExitStack() as stack:
        known: dict[str, Guest] = {}

        def guest(deployment: str) -> Guest:
            if deployment not in known:
                state = tmp_path_factory.mktemp(deployment)
                known[deployment] = stack.enter_context(harness.guest(deployment, Path("/"), state, by_hand=True))
            return known[deployment]

        yield guest


@pytest.mark.timeout(LIMIT_S + FIRST_BUILD_S)
@pytest.mark.parametrize(("arch", "deployment", "case", "attempt"), RUNS)
def test_does_what_native_linux_does(
    arch: str, deployment: str, case: Case, attempt: int, guests: Callable[[str], Guest], tmp_path: Path
) -> None:
    program = build(case.name, arch)
    done = subprocess.run(
        [harness.FARCALL, "run", *guests(deployment).options, "--", str(program), *case.arguments],
        cwd=tmp_path,
        env=ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=LIMIT_S,
        check=False,
        umask=0o022,
    )
    stdout, stderr = done.stdout.decode(), done.stderr.decode()
    assert "FAILED" not in stdout
    assert done.returncode == case.expected(arch), stdout + stderr
    assert stderr == ""
    assert list(tmp_path.iterdir()) == []
