"""Hostile pointers: every pointer of every row in every bad place gives the errno that native Linux gives."""

import errno
from pathlib import Path
from typing import Final

import pytest

from client_vm.architecture import ARCHITECTURES, X86_64
from tests.guests.build import build
from tests.guests.test_native import FIRST_BUILD_S
from tests.hostile.calls import CALLS
from tests.hostile.runs import run, under_farcall
from tests.hostile.script import PLACES, VALID, Case, cases, pointer_arguments, rows

ARCHS: Final = {architecture.name: architecture for architecture in ARCHITECTURES}
OTHER_STATE: Final = {
    ("sendfile", "read-only"): "farcall looks at the pointer before the effect, Linux moves the bytes first",
}
"""(row, place) whose errno is the same, but not what is left behind."""
NEWER: Final = {"fchmodat2": "Linux 6.6"}
"""Rows that an older host's kernel may lack: nothing to compare with."""

Results = dict[tuple[str, int, int, str], tuple[int, str]]
"""By case: the raw result, and the state of the tree after it."""


def _parsed(all_cases: list[Case], stdout: str) -> Results:
    lines = stdout.splitlines()
    assert lines[-2:] == [f"{len(all_cases)} calls made", "hostile: 4 checks passed"], lines[-5:]
    found = [line.split(" ", 2) for line in lines[:-2]]
    assert [int(number) for number, _, _ in found] == list(range(len(all_cases)))
    return {
        case.key: (int(result), state)
        for case, (_, result, state) in zip(all_cases, found, strict=True)
    }  # fmt: skip


def _script(all_cases: list[Case]) -> str:
    return "".join(f"{case.line}\n" for case in all_cases)


def _shown(result: int) -> str:
    """An errno's name; of a success only that it is one."""
    return errno.errorcode.get(-result, str(result)) if -4095 <= result < 0 else "success"


def _absent(native: Results) -> set[str]:
    """Rows that this host's kernel does not have."""
    rows_absent = {row for (row, *_), (result, _) in native.items() if result == -errno.ENOSYS}
    assert rows_absent <= NEWER.keys()
    return rows_absent


@pytest.fixture(scope="module")
def native(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """What this host's Linux gives, on x86-64."""
    all_cases = cases(X86_64)
    folder = tmp_path_factory.mktemp("native")
    ran = run([str(build("hostile", "x86_64"))], folder, _script(all_cases))
    assert (ran.status, ran.stderr) == (0, "")
    return _parsed(all_cases, ran.stdout)


@pytest.mark.parametrize("arch", ARCHS)
def test_every_pointer_of_every_row_is_tried_everywhere(arch: str) -> None:
    architecture = ARCHS[arch]
    tried = {(case.row, case.argument, case.what) for case in cases(architecture)}
    pointers = [(row, argument) for row in rows(architecture) for argument in pointer_arguments(row)]
    assert {(*pointer, what) for pointer in pointers for what in PLACES} - tried == set()
    assert set(CALLS) - set(rows(X86_64)) == set()


@pytest.mark.timeout(FIRST_BUILD_S)
def test_calls_succeed_where_their_pointers_are_good(native: Results) -> None:
    failed = []
    absent = _absent(native)
    for (row, variant, argument, what), (result, _) in native.items():
        fits = what == "good" or not CALLS[row][variant].is_short
        if CALLS[row][variant].fails:
            assert result <= 0, row
        elif what in VALID and fits and result < 0 and row not in absent:
            failed.append(f"{row} {variant}, argument {argument}, {what}: {_shown(result)}")
    assert failed == []


@pytest.mark.timeout(FIRST_BUILD_S)
@pytest.mark.parametrize("deployment", ["ring"])
@pytest.mark.parametrize("arch", ARCHS)
def test_bad_pointers_give_what_linux_gives(
    arch: str, deployment: str, native: Results, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    all_cases = cases(ARCHS[arch])
    ran = run(under_farcall(build("hostile", arch)), tmp_path, _script(all_cases))
    assert (ran.status, ran.stderr) == (0, ""), ran.stdout[-2000:] + ran.stderr[-2000:]
    found = _parsed(all_cases, ran.stdout)
    absent = _absent(native)
    differences = []
    for key, (result, state) in found.items():
        expected, state_there = native[key]
        row, variant, argument, what = key
        where = f"{row} {variant}, argument {argument}, {what}"
        if row in absent:
            continue
        if _shown(result) != _shown(expected):
            differences.append(f"{where}: {_shown(result)}, not {_shown(expected)}")
        elif state != state_there and (row, what) not in OTHER_STATE:
            differences.append(f"{where}: leaves {state}, not {state_there}")
    with capsys.disabled():
        hostile = PLACES.keys() - set(VALID)
        tried = {(case.row, case.argument, case.what) for case in all_cases if case.what in hostile}
        print(f"\n{arch}: {len(tried)} (row, argument, bad pointer), {len(all_cases)} calls compared with Linux")
    assert differences == []
