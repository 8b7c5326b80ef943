"""What every test run does: counts tests per architecture and deployment, and is strict where CI=true.

A test belongs to a cell by its parameters `arch` and `deployment`, or by `@pytest.mark.cell(arch=...,
deployment=...)`; either may be left out. Where tests run in several processes (pytest-xdist), those of one file
and cell stay together: they share servers and roots.
"""

import os
from collections import Counter
from collections.abc import Iterator

import pytest
from xdist.scheduler import LoadScopeScheduling

ARCHS = ("x86_64", "arm64")
DEPLOYMENTS = ("ring", "grpc-unix", "grpc-tcp", "inproc")
REQUIRED = [(arch, deployment) for arch in ARCHS for deployment in DEPLOYMENTS]
COLUMNS = ("collected", "passed", "failed", "skipped")
CELL = "farcall_cell"
OPTIONAL = "farcall_optional"

Cell = tuple[str, str]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "cell(arch, deployment): where the test counts in the table")
    config.addinivalue_line("markers", "optional(reason): may be skipped where CI=true")
    config.pluginmanager.register(CellTable(strict=os.environ.get("CI") == "true"), "farcall-cell-table")


def cell_of(item: pytest.Item) -> Cell:
    """The test's architecture and deployment, "-" for none."""
    callspec = getattr(item, "callspec", None)
    parameters = dict(callspec.params) if callspec is not None else {}
    for mark in item.iter_markers("cell"):
        parameters = {**mark.kwargs, **parameters}

    def named(key: str, known: tuple[str, ...]) -> str:
        value = parameters.get(key)
        return value if isinstance(value, str) and value in known else "-"

    return named("arch", ARCHS), named("deployment", DEPLOYMENTS)


class ByFileAndCell(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
    """Who runs a test: what one file parametrizes alike goes to one process."""

    def _split_scope(self, nodeid: str) -> str:
        path, _, name = nodeid.partition("::")
        parameters = name.partition("[")[2]
        return " ".join([path, *(word for word in (*ARCHS, *DEPLOYMENTS) if word in parameters)])


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> LoadScopeScheduling:
    return ByFileAndCell(config, log)


class CellTable:
    """Counts outcomes, prints the table, and fails a strict run in which something required did not run.

    It counts what is reported, so that it may be in another process than the tests.
    """

    def __init__(self, strict: bool) -> None:
        self._strict = strict
        self._counts: dict[Cell, Counter[str]] = {}
        self._skipped: list[str] = []

    def pytest_itemcollected(self, item: pytest.Item) -> None:
        cell = cell_of(item)
        item.user_properties.append((CELL, "/".join(cell)))
        item.user_properties.append((OPTIONAL, item.get_closest_marker("optional") is not None))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        properties = dict(report.user_properties)
        cell = properties.get(CELL)
        if not isinstance(cell, str):
            return
        arch, _, deployment = cell.partition("/")
        counts = self._counts.setdefault((arch, deployment), Counter())
        if report.when == "setup":
            counts["collected"] += 1
        if report.outcome == "passed" and report.when != "call":
            return
        counts[report.outcome] += 1
        if report.skipped and not properties.get(OPTIONAL):
            self._skipped.append(report.nodeid)

    def missing(self) -> list[str]:
        """Why a strict run is not good enough, one line each."""
        empty = [cell for cell in REQUIRED if not self._counts.get(cell, Counter())["passed"]]
        return [f"no test passed for {arch}, {deployment}" for arch, deployment in empty] + [
            f"skipped or expected to fail: {nodeid}" for nodeid in self._skipped
        ]

    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        if self._strict and exitstatus == pytest.ExitCode.OK and self.missing():
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> Iterator[None]:
        yield  # the list of failures comes first
        terminalreporter.section("architectures and deployments")
        terminalreporter.line(f"{'':8}{'':12}" + "".join(f"{column:>10}" for column in COLUMNS))
        rows = sorted(self._counts.keys() | (set(REQUIRED) if self._strict else set()))
        for cell in rows:
            counts = self._counts.get(cell, Counter())
            terminalreporter.line(f"{cell[0]:8}{cell[1]:12}" + "".join(f"{counts[c]:10}" for c in COLUMNS))
        if self._strict:
            for line in self.missing():
                terminalreporter.line(line, red=True)
