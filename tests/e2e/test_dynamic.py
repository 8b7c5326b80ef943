"""Installed, dynamically linked programs print, answer and leave behind what native's do.

On x86-64 the guests see the host's own root and are compared with the host's programs; on ARM64 a root of
Debian's packages, compared with the same packages natively on x86-64. The first test of a cell (architecture,
deployment) starts all its selected lines, on the same servers; each test waits for its own. At
the end of a cell one `find` names what stands in the directories of its lines, and one `tar c` reads what is
new there since the lines began: to read what nobody touched, some 90 files for each line, would cost more than
the lines do.
"""

import itertools
import shlex
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.e2e import debian, harness
from tests.e2e.debian import ChrootPlace, GuestPlace, HostPlace, Place
from tests.e2e.harness import ARCHS, DEPLOYMENTS, Ran, Tree, differences, read_tree
from tests.e2e.lines import DIFFERENCES, DynamicLine, features, load, overlooked, torture
from tests.e2e.processes import AT_ONCE
from tests.e2e.roots import MissingError

pytestmark = pytest.mark.timeout(1500)

COMMAND_LINES = load()
LINES = COMMAND_LINES + torture() + features()
NAMES = [line.name for line in LINES]
EVERYTHING = ("ring", "grpc-unix")
"""Deployments under which the whole list runs; the others run the core."""
WORLDS = {"x86_64": "host", "arm64": "debian"}
CASES = [
    pytest.param(arch, deployment, line, id=f"{arch}-{deployment}-{line.name}")
    for arch, deployment in itertools.product(ARCHS, DEPLOYMENTS)
    for line in LINES
    if (line.core or deployment in EVERYTHING)
    and (not line.shares or deployment != "grpc-tcp")
    and (not line.only or line.only == WORLDS[arch])
]
OBSERVE_LIMIT_S = 600.0

Answers = dict[str, Ran]


def run_line(place: Place, work: Path, line: DynamicLine) -> Ran:
    return place.run(shlex.split(line.command), str(work / line.name), line.stdin.encode())


UNTOUCHED = harness.Entry("untouched", 0, 0, 0, 0, 0, "", ())
"""What was neither written, linked nor changed in any attribute: its ctime says so."""


def observe(place: Place, work: Path, lines: list[DynamicLine], begin_s: float) -> Tree:
    """What stands in the directories of these lines, and what of it has been touched since `begin_s`."""

    def output(*command: str) -> bytes:
        ran = place.run(list(command), str(work), limit_s=OBSERVE_LIMIT_S)
        assert (ran.status, ran.stderr) == (0, b""), f"{ran.status} {ran.stderr[-2000:]!r}"
        return ran.stdout

    folders = [f"./{line.name}" for line in lines]
    names = output("find", *folders, "-print0").decode(errors="surrogateescape").split("\0")
    new = output("tar", "-c", "--sort=name", f"--newer=@{begin_s:.6f}", "-f", "-", "-C", str(work), *folders)
    touched = read_tree(new, begin_s)
    assert touched.entries.keys() <= set(names)
    return Tree({name: touched.entries.get(name, UNTOUCHED) for name in names}, touched.window_s)


def part(tree: Tree, name: str) -> Tree:
    """What one line left."""
    prefix = f"./{name}/"
    own = {key.removeprefix(prefix): value for key, value in tree.entries.items() if key.startswith(prefix)}
    plain = {
        key: harness.Entry(
            **{
                **vars(value),
                "what": "" if overlooked(key) else value.what,
                "names": tuple(each.removeprefix(prefix) for each in value.names),
            }
        )
        for key, value in own.items()
    }
    return Tree(plain, tree.window_s)


class Done:
    """Lines that run in the background in one place, and then what they left."""

    def __init__(self, place: Place, work: Path, lines: list[DynamicLine], workers: int = AT_ONCE) -> None:
        self._place, self._work, self._lines = place, work, lines
        self._begin_s = time.time()
        self._pool = ThreadPoolExecutor(workers)
        self._ran = {line.name: self._pool.submit(run_line, place, work, line) for line in lines}
        self._last = ThreadPoolExecutor(1)
        self._tree: Future[Tree] = self._last.submit(self._observe)

    def _observe(self) -> Tree:
        for future in self._ran.values():
            future.exception()
        return observe(self._place, self._work, self._lines, self._begin_s)

    def result(self, line: DynamicLine) -> Ran:
        return self._ran[line.name].result()

    def left(self, line: DynamicLine) -> Tree:
        return part(self._tree.result(), line.name)

    def stop(self) -> None:
        self._pool.shutdown(cancel_futures=True)
        self._last.shutdown(cancel_futures=True)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory for roots, states and the host's directories; skips where there is no oracle."""
    try:
        debian.need_oracle()
    except MissingError as missing:
        pytest.skip(str(missing))
    return tmp_path_factory.mktemp("dynamic")


Selected = dict[tuple[str, ...], list[DynamicLine]]


@pytest.fixture(scope="module")
def selected(request: pytest.FixtureRequest) -> Selected:
    """The lines that this run is to make, by (world,) and by (architecture, deployment)."""
    found: dict[tuple[str, ...], dict[str, DynamicLine]] = {}
    for item in request.session.items:
        callspec = getattr(item, "callspec", None)
        parameters = callspec.params if callspec is not None else {}
        if not isinstance(line := parameters.get("line"), DynamicLine):
            continue
        if "deployment" in parameters:
            found.setdefault((parameters["arch"], parameters["deployment"]), {})[line.name] = line
        world = parameters["world"] if "world" in parameters else WORLDS[parameters["arch"]]
        found.setdefault((world,), {})[line.name] = line
    return {key: list(lines.values()) for key, lines in found.items()}


def names(lines: list[DynamicLine]) -> list[str]:
    return [line.name for line in lines]


@pytest.fixture(scope="module")
def host_work(base: Path, selected: Selected) -> Path:
    """The lines' directories on the host, which nothing changes."""
    work = base / "host" / debian.WORK
    debian.fill(work, names(selected[("host",)]), native=False)
    return work


@pytest.fixture(scope="module")
def roots(base: Path, selected: Selected) -> Callable[[str], Path]:
    """The Debian root of an architecture, with the lines' directories, which nothing changes."""
    known: dict[str, Path] = {}

    def root(arch: str) -> Path:
        if arch not in known:
            own = names(selected[(WORLDS[arch],)])
            known[arch] = debian.copy_of(debian.debian(arch), base / f"root-{arch}", own, native=False)
        return known[arch]

    return root


@pytest.fixture(scope="module")
def oracles(
    base: Path, request: pytest.FixtureRequest, selected: Selected
) -> Iterator[Callable[[str, str], Done]]:
    """Native Linux's answers: (world, "first" or "second")."""
    with ExitStack() as stack:
        known: dict[tuple[str, str], Done] = {}

        def oracle(world: str, which: str = "first") -> Done:
            key = world, which
            if key not in known:
                lines = selected[(world,)]
                if which == "second":
                    lines = [line for line in lines if twice(world, line)]
                own = base / f"native-{world}-{which}"
                if world == "host":
                    host_work: Path = request.getfixturevalue("host_work")
                    debian.fill(own, names(lines), native=True)
                    known[key] = Done(HostPlace(host_work, own), host_work, lines)
                else:
                    place = ChrootPlace(debian.copy_of(debian.debian("x86_64"), own, names(lines), native=True))
                    known[key] = Done(place, Path("/") / debian.WORK, lines)
                stack.callback(known[key].stop)
            return known[key]

        yield oracle


@pytest.fixture(scope="module")
def cells(
    request: pytest.FixtureRequest, base: Path, roots: Callable[[str], Path], selected: Selected
) -> Iterator[Callable[[str, str], Done]]:
    """The lines of an architecture and deployment, started at the first question."""
    reason = harness.installed_differs()
    assert not reason, reason
    with ExitStack() as stack:
        known: dict[tuple[str, str], Done] = {}

        def cell(arch: str, deployment: str) -> Done:
            key = arch, deployment
            if key not in known:
                on_host = WORLDS[arch] == "host"
                root = Path("/") if on_host else roots(arch)
                host_work: Path = request.getfixturevalue("host_work") if on_host else Path()
                state = base / "-".join(key)
                world = stack.enter_context(harness.guest(deployment, root, state, by_hand=True))
                work = host_work if on_host else Path("/") / debian.WORK
                workers = 1 if deployment == "inproc" else AT_ONCE  # which has the state for itself
                known[key] = Done(GuestPlace(tuple(world.options)), work, selected[key], workers)
                stack.callback(known[key].stop)
            return known[key]

        yield cell


def twice(world: str, line: DynamicLine) -> bool:
    """Whether native Linux is compared with itself: the core."""
    return line.core and line.only in ("", world)


@pytest.mark.parametrize(
    ("world", "line"),
    [
        pytest.param(world, line, id=f"{world}-{line.name}")
        for world in sorted(set(WORLDS.values()))
        for line in LINES
        if twice(world, line)
    ],
)
def test_native_linux_agrees_with_itself(
    world: str, line: DynamicLine, oracles: Callable[[str, str], Done]
) -> None:
    first, second = oracles(world, "first"), oracles(world, "second")
    compare(line, first, second)
    assert not str(first.result(line).status).startswith("ended")


@pytest.mark.parametrize(("arch", "deployment", "line"), CASES)
def test_guest_does_as_native_linux(
    arch: str,
    deployment: str,
    line: DynamicLine,
    oracles: Callable[[str, str], Done],
    cells: Callable[[str, str], Done],
) -> None:
    compare(line, oracles(WORLDS[arch], "first"), cells(arch, deployment))


def compare(line: DynamicLine, native: Done, other: Done) -> None:
    expected, ran = native.result(line), other.result(line)
    assert line.same(ran.stderr) == line.same(expected.stderr)
    assert ran.status == expected.status
    assert line.same(ran.stdout) == line.same(expected.stdout)
    assert differences(native.left(line), other.left(line)) == []


def test_the_list_is_what_was_agreed() -> None:
    assert len(set(NAMES)) == len(NAMES) >= len(COMMAND_LINES) >= 80
    assert len(torture()) >= 40 and len(features()) >= 10
    assert sum(line.core for line in LINES) >= 12
    assert {name for line in LINES for name in line.differs} == set(DIFFERENCES)
    assert {line.only for line in LINES} == {"", "host", "debian"}
    everywhere = "\n".join(line.command for line in COMMAND_LINES if not line.only)
    for program in (
        *("python3", "bash", "dash", "sort -S", "grep", "sed", "awk", "find", "xargs -P", "-czf", "-cJf", "perl"),
        *("git -c init", "history.sh", "sqlite3", "make -j2", "diff", "bc", "file", "openssl dgst", "git fsck"),
    ):
        assert program in everywhere or program in "tar -cvzf" or program == "-czf", program
    assert any("gcc -O2" in line.command for line in LINES)
