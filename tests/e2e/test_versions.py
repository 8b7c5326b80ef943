"""Servers that lack operations, as earlier ones do: guests run on them and see what Linux has where a file system
cannot do something, or notice nothing; without one of the core, a run is refused in one line."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from client_vm.offered import CORE
from farcall.v1.session_pb2 import SERVER_KIND_FILE, SERVER_KIND_MEMORY
from ipc.operations import BY_NAME, OPERATIONS
from tests.e2e.by_hand import ByHand
from tests.e2e.runs import LIMIT_S, World, guest, world

DEPLOYMENTS = ("ring", "grpc-tcp")
SERVICES = (
    ("file", "farcall.v1.FileService", SERVER_KIND_FILE),
    ("memory", "farcall.v1.MemoryService", SERVER_KIND_MEMORY),
)
OPTIONAL = {
    name: [op.name for op in OPERATIONS.values() if op.service == service and op.name not in CORE[kind]]
    for name, service, kind in SERVICES
}
ALL_OK = [
    "setxattr", "getxattr", "listxattr", "removexattr", "link", "symlink", "mknod", "statfs", "fallocate", "hole",
    "flock", "setlk", "getlk", "setlkw", "mmap",
]  # fmt: skip
WITHOUT: dict[str, dict[str, str]] = {
    "Allocate": {"fallocate": "EOPNOTSUPP"},
    "SetXattr": {"setxattr": "EOPNOTSUPP"},
    "GetXattr": {"getxattr": "EOPNOTSUPP"},
    "RemoveXattr": {"removexattr": "EOPNOTSUPP"},
    "Link": {"link": "EPERM"},
    "MakeSymlink": {"symlink": "EPERM"},
    "MakeNode": {"mknod": "EPERM"},
    "StatFileSystem": {"statfs": "ENOSYS"},
    "Seek": {"hole": "none"},
    "Lock": {"flock": "ENOLCK", "setlk": "ENOLCK", "setlkw": "ENOLCK"},
    "TestLock": {"getlk": "ENOLCK"},
    **{name: {"mmap": "ENODEV"} for name in ("MapShared", "FetchMapping", "Unmap", "SyncMapping")},
}
"""What guests/lacking.c sees of it; nothing of the others."""
CELLS = [(DEPLOYMENTS[number % 2], name) for number, name in enumerate(OPTIONAL["file"])]
"""Each by one carrier, in turn, for the time that takes; all of them together by both."""


@pytest.fixture
def runs() -> Iterator[World]:
    with world() as made:
        yield made


def expected(deployment: str, lacking: list[str]) -> list[str]:
    says = dict.fromkeys(ALL_OK, "ok")
    if deployment == "grpc-tcp":
        says["mmap"] = "ENODEV"  # no pages are shared between hosts
    for name in lacking:
        says.update(WITHOUT.get(name, {}))
    return [*(f"{name}: {word}" for name, word in says.items()), "shared memory: ok", "done"]


def started(runs: World, held: ExitStack, deployment: str, **lacking: tuple[str, ...]) -> list[str]:
    """Both servers; the options to use them."""
    options = []
    for kind in ("file", "memory"):
        server = ByHand(kind, deployment, runs.folder, held, lacking=lacking.get(kind, ()))
        if kind == "file":
            shutil.copy2(guest("lacking"), server.root / "lacking")
        server.start()
        options += server.options()
    return options


def ran(
    runs: World, held: ExitStack, deployment: str, **lacking: tuple[str, ...]
) -> subprocess.CompletedProcess[str]:
    options = started(runs, held, deployment, **lacking)
    return runs.run("run", *options, "-w", "/", "--", "/lacking")


def test_native_linux_can_do_it_all(tmp_path: Path) -> None:
    done = subprocess.run(
        [guest("lacking")], cwd=tmp_path, capture_output=True, text=True, timeout=LIMIT_S, check=False
    )
    assert done.stdout.splitlines() == expected("native", [])


@pytest.mark.parametrize("deployment", DEPLOYMENTS)
def test_a_server_of_today(runs: World, deployment: str) -> None:
    with ExitStack() as held:
        done = ran(runs, held, deployment)
        assert (done.stdout.splitlines(), done.stderr) == (expected(deployment, []), "")


@pytest.mark.parametrize(("deployment", "name"), CELLS)
def test_without_one_operation(runs: World, deployment: str, name: str) -> None:
    with ExitStack() as held:
        done = ran(runs, held, deployment, file=(name,))
        assert (done.stdout.splitlines(), done.stderr) == (expected(deployment, [name]), "")


@pytest.mark.parametrize("deployment", DEPLOYMENTS)
def test_without_any_of_them(runs: World, deployment: str) -> None:
    with ExitStack() as held:
        lacking = OPTIONAL["file"]
        done = ran(runs, held, deployment, file=(*lacking, "Abandon"), memory=(*OPTIONAL["memory"], "Abandon"))
        assert (done.stdout.splitlines(), done.stderr) == (expected(deployment, lacking), "")


@pytest.mark.parametrize("deployment", DEPLOYMENTS)
@pytest.mark.parametrize(("kind", "name"), [("file", "Rename"), ("memory", "Grant")])
def test_without_one_of_the_core(runs: World, deployment: str, kind: str, name: str) -> None:
    with ExitStack() as held:
        done = ran(runs, held, deployment, **{kind: (name,)})
        assert (done.returncode, done.stdout) == (125, "")
        assert done.stderr == f"farcall: the {kind} server is too old, it lacks {name}\n"


def test_every_operation_is_in_the_table() -> None:
    """proto/README says of each what its absence means."""
    text = (Path(__file__).parents[2] / "proto" / "README.md").read_text()
    table = text.split("## Versions", 1)[1]
    for kind in ("file", "memory"):
        assert all(f"`{name}`" in table for name in OPTIONAL[kind]), "the table has a row of each"
    core = [name for names in CORE.values() for name in names]
    assert all(name in table for name in core)
    assert {*WITHOUT, *core} <= BY_NAME.keys()
