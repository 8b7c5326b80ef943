"""Debian's busybox prints, answers and leaves behind what native's does, in every deployment.

The first test of a (architecture, deployment) starts all the selected command lines of that cell, two at a
time; each test waits for its own.
"""

import itertools
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import pytest

from tests.e2e import roots
from tests.e2e.commands_busybox import LINES, READING, WRITING, Line
from tests.e2e.filters import FILTERS
from tests.e2e.harness import (
    ARCHS,
    DEPLOYMENTS,
    Guest,
    Native,
    Ran,
    Tree,
    World,
    counting_packets,
    differences,
    filtered,
    guest,
    installed_differs,
    observe,
)
from tests.e2e.processes import AT_ONCE

pytestmark = pytest.mark.timeout(600)

CELLS = list(itertools.product(ARCHS, DEPLOYMENTS))
CASES = [
    pytest.param(arch, deployment, line, id=f"{arch}-{deployment}-{line.name}")
    for arch, deployment in CELLS
    for line in LINES
    if deployment == "ring" or line.core
]
READERS_PER_STATE = 12


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory for the roots and states of this session; skips where there is no oracle."""
    try:
        roots.native_busybox()
    except roots.MissingError as missing:
        pytest.skip(str(missing))
    return tmp_path_factory.mktemp("busybox")


class Oracle:
    """Native Linux's answer to each line, asked once. Reading lines share one root."""

    def __init__(self, base: Path) -> None:
        base.mkdir()
        self._base = base
        self._known: dict[str, tuple[Ran, Tree]] = {}
        self._begin_s = time.time()
        self._readers = Native(base / "readers")
        self.untouched = observe(self._readers, self._begin_s)

    def ask(self, line: Line) -> tuple[Ran, Tree]:
        if line.name not in self._known:
            if line in READING:
                answer = self._readers.run(line.command, line.stdin, line.proc), self.untouched
            else:
                answer = run_alone(Native(self._base / line.name), line)
            self._known[line.name] = answer
        return self._known[line.name]

    def observe_readers(self) -> Tree:
        """The tree that all reading lines left so far."""
        return observe(self._readers, self._begin_s)


def run_alone(world: World, line: Line) -> tuple[Ran, Tree]:
    """One line in a world of its own, and what it left there."""
    begin_s = time.time()
    ran = world.run(line.command, line.stdin, line.proc)
    return ran, observe(world, begin_s)


@pytest.fixture(scope="session")
def oracle(base: Path) -> Oracle:
    return Oracle(base / "oracle")


@pytest.fixture(scope="session")
def second_oracle(base: Path) -> Oracle:
    return Oracle(base / "second-oracle")


class Cell:
    """All the selected lines of one architecture and deployment, run in the background."""

    def __init__(self, root: Path, states: Path, deployment: str, lines: list[Line]) -> None:
        self._root, self._states, self._deployment = root, states, deployment
        self.pool = ThreadPoolExecutor(AT_ONCE)
        self.alone: dict[str, Future[tuple[Ran, Tree]]] = {}
        self.together: dict[str, Future[tuple[dict[str, Ran], Tree]]] = {}
        for line in (line for line in lines if line in WRITING):
            self.alone[line.name] = self.pool.submit(self._alone, line)
        readers = [line for line in lines if line in READING]
        for start in range(0, len(readers), READERS_PER_STATE):
            group = readers[start : start + READERS_PER_STATE]
            future = self.pool.submit(self._together, group)
            self.together.update({line.name: future for line in group})

    def _world(self, name: str, by_hand: bool) -> AbstractContextManager[World]:
        return guest(self._deployment, self._root, self._states / name, by_hand=by_hand)

    def _alone(self, line: Line) -> tuple[Ran, Tree]:
        with self._world(line.name, by_hand=False) as world:
            return run_alone(world, line)

    def _together(self, lines: list[Line]) -> tuple[dict[str, Ran], Tree]:
        begin_s = time.time()
        with self._world("readers-" + lines[0].name, by_hand=True) as world:
            return {line.name: world.run(line.command, line.stdin) for line in lines}, observe(world, begin_s)

    def result(self, line: Line) -> tuple[Ran, Tree]:
        """Waits for the line. The tree of a reading line is that after its whole group."""
        if line.name in self.alone:
            return self.alone[line.name].result()
        answers, tree = self.together[line.name].result()
        return answers[line.name], tree


@pytest.fixture(scope="session")
def installed() -> None:
    """The installed command is this checkout's code."""
    reason = installed_differs()
    assert not reason, reason


@pytest.fixture(scope="session")
def lower_root(base: Path) -> Callable[[str], Path]:
    """The architecture's read-only root, shared by all its runs."""
    built: dict[str, Path] = {}

    def root(arch: str) -> Path:
        if arch not in built:
            built[arch] = roots.build(base / f"lower-{arch}", roots.busybox(arch))
        return built[arch]

    return root


@pytest.fixture(scope="session")
def cells(
    request: pytest.FixtureRequest, base: Path, installed: None, lower_root: Callable[[str], Path]
) -> Iterator[Callable[[str, str], Cell]]:
    """The cell of an architecture and deployment, started at the first question."""
    selected: dict[tuple[str, str], list[Line]] = {}
    for item in request.session.items:
        callspec = getattr(item, "callspec", None)
        parameters = callspec.params if callspec is not None else {}
        if isinstance(line := parameters.get("line"), Line) and "deployment" in parameters:
            selected.setdefault((parameters["arch"], parameters["deployment"]), []).append(line)
    with ExitStack() as stack:
        started: dict[tuple[str, str], Cell] = {}

        def cell(arch: str, deployment: str) -> Cell:
            key = (arch, deployment)
            if key not in started:
                started[key] = Cell(lower_root(arch), base / "-".join(key), deployment, selected[key])
                stack.callback(started[key].pool.shutdown, cancel_futures=True)
            return started[key]

        yield cell


@pytest.mark.parametrize("line", LINES, ids=lambda line: line.name)
def test_native_linux_agrees_with_itself(line: Line, oracle: Oracle, second_oracle: Oracle) -> None:
    first, first_tree = oracle.ask(line)
    second, second_tree = second_oracle.ask(line)
    assert (filtered(line, first.stdout), filtered(line, first.stderr), first.status) == (
        filtered(line, second.stdout),
        filtered(line, second.stderr),
        second.status,
    )
    assert differences(first_tree, second_tree) == []


def test_reading_lines_change_nothing_natively(oracle: Oracle) -> None:
    for line in READING:
        oracle.ask(line)
    assert differences(oracle.untouched, oracle.observe_readers()) == []


@pytest.mark.parametrize(("arch", "deployment", "line"), CASES)
def test_guest_does_as_native_linux(
    arch: str, deployment: str, line: Line, oracle: Oracle, cells: Callable[[str, str], Cell]
) -> None:
    expected, expected_tree = oracle.ask(line)
    ran, tree = cells(arch, deployment).result(line)
    assert filtered(line, ran.stderr) == filtered(line, expected.stderr)
    assert ran.status == expected.status
    assert filtered(line, ran.stdout) == filtered(line, expected.stdout)
    assert differences(expected_tree, tree) == []


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("deployment", DEPLOYMENTS)
def test_lower_root_stays_and_changes_last(
    arch: str, deployment: str, base: Path, installed: None, lower_root: Callable[[str], Path]
) -> None:
    root, state = lower_root(arch), base / f"lasting-{arch}-{deployment}"
    before = roots.manifest(root)
    with guest(deployment, root, state) as world:
        assert written(world) == Ran(b"", b"", 0)
    with guest(deployment, root, state) as world:
        assert world.run("cat text/lines.txt kept/words.txt") == Ran(b"written\n" + WORDS, b"", 0)
        assert world.run("cat modes/plain").status == 1
    assert roots.manifest(root) == before


WORDS = b"kept\n"


def written(world: Guest) -> Ran:
    """A file replaced, one made in a new directory, one removed. The last step's answer."""
    assert world.run("dd of=text/lines.txt", b"written\n").status == 0
    assert world.run("mkdir kept").status == 0
    assert world.run("dd of=kept/words.txt", WORDS).status == 0
    return world.run("rm modes/plain")


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("deployment", ["grpc-tcp"])
def test_calls_cross_the_network(
    arch: str, deployment: str, base: Path, installed: None, lower_root: Callable[[str], Path]
) -> None:
    with guest(deployment, lower_root(arch), base / f"counted-{arch}") as world:
        ports = [int(address.rpartition(":")[2]) for address in world.addresses]
        with counting_packets(ports) as count:
            assert world.run("cat text/no-newline.txt") == Ran(b"no newline at the end", b"", 0)
            assert min(count().values()) > 0


def test_tar_sees_what_the_host_sees(base: Path) -> None:
    """The observer itself: native's tar against the host's own walk."""
    begin_s = time.time()
    native = Native(base / "observed")
    tree = observe(native, begin_s)
    seen = roots.manifest(base / "observed")
    parts = ("w", "tmp", "etc")
    assert sorted(tree.entries) == sorted(name for name in seen if name.split("/")[0] in parts)
    for name, entry in tree.entries.items():
        mode, size, mtime_ns, what = seen[name]
        assert (entry.mode, entry.size, entry.mtime_s, entry.what) == (
            mode & 0o7777,
            size if entry.kind == "0" else 0,
            mtime_ns // 10**9,
            what,
        ), name
    assert tree.entries["w/links/hard-1"].names == ("w/links/hard-1", "w/links/hard-2")


@pytest.mark.parametrize(
    ("command", "difference"),
    [
        ("chmod 600 text/lines.txt", "'w/text/lines.txt': mode is 384"),
        ("chown 1000 text/lines.txt", "'w/text/lines.txt': uid is 1000"),
        ("touch -d '2020-01-01 00:00:00' text/lines.txt", "'w/text/lines.txt': mtime_s is 1577836800"),
        ("ln -sf other links/dangling", "'w/links/dangling': what is 'other'"),
        ("ln text/words.txt second", "'w/text/words.txt': names is"),
        ("rm text/empty.txt", "'w/text/empty.txt': only in native Linux"),
        ("mkdir new", "'w/new': only in the guest"),
        ("dd if=/dev/zero of=text/lines.txt bs=1 count=1 conv=notrunc", "'w/text/lines.txt': what is"),
    ],
)
def test_a_difference_is_seen(command: str, difference: str, tmp_path: Path, oracle: Oracle) -> None:
    begin_s = time.time()
    world = Native(tmp_path / "root")
    assert world.run(command).status == 0
    found = differences(oracle.untouched, observe(world, begin_s))
    assert any(line.startswith(difference) for line in found), found


def test_lists_are_what_was_agreed() -> None:
    assert len({line.name for line in LINES}) == len(LINES) >= 55
    assert sum(line.core for line in LINES) >= 12
    used = {name for line in LINES for name in line.filters}
    assert used == set(FILTERS)
    assert len(FILTERS) + 1 <= 6  # and RECENT_TIMES
