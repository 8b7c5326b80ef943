"""`farcall bench` and `farcall syscalls`, as a user runs them."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from client_vm import bench
from client_vm.architecture import X86_64
from client_vm.errors import StartError
from client_vm.rows import TABLE
from client_vm.syscall_table_page import support
from tests.e2e.harness import FARCALL
from tests.e2e.roots import busybox


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(FARCALL), *arguments], capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.timeout(320)
def test_bench_prints_figures_with_references(tmp_path: Path) -> None:
    target = tmp_path / "figures.json"
    done = _run("bench", "null", "pread", "--json", str(target))
    figures = json.loads(target.read_text())
    print(done.stdout)
    assert done.stderr == ""
    assert done.returncode == int(any(figure["missed"] for figure in figures))
    assert ("MISSED" in done.stdout) == bool(done.returncode)
    for case in ("null", "pread"):
        of_case = [figure for figure in figures if figure["case"] == case]
        ours = {figure["architecture"]: figure for figure in of_case if figure["what"] == "farcall"}
        assert set(ours) == {"x86_64", "arm64"}
        assert all(figure["limit"] and figure["value"] > 0 for figure in ours.values())
        native = [figure for figure in of_case if figure["what"] == "native"]
        assert len(native) == 1 and native[0]["value"] < ours["x86_64"]["value"]


@pytest.mark.timeout(320)
def test_compute_is_compared_with_raw_unicorn(tmp_path: Path) -> None:
    target = tmp_path / "figures.json"
    done = _run("bench", "compute", "--json", str(target))
    figures = json.loads(target.read_text())
    print(done.stdout)
    ratios = [figure for figure in figures if figure["what"] == "farcall / raw Unicorn"]
    assert {figure["architecture"] for figure in ratios} == {"x86_64", "arm64"}
    assert all(figure["limit"] == 1.15 for figure in ratios)
    assert done.returncode == int(any(figure["missed"] for figure in figures))


@pytest.mark.timeout(320)
def test_children_and_pipes_are_compared_with_the_hosts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(bench, "ROUNDS", 1)
    target = tmp_path / "figures.json"
    status = bench.main(["fork", "pipe", "--json", str(target)])
    figures = json.loads(target.read_text())
    assert status == int(any(figure["missed"] for figure in figures))
    limits = {(row["case"], row["architecture"], row["what"]): row["limit"] for row in figures}
    for architecture in ("x86_64", "arm64"):
        assert limits["fork", architecture, "farcall"] == 6.0
        assert limits["pipe", architecture, "farcall / native"] == 2.0
    values = {(row["case"], row["architecture"], row["what"]): row["value"] for row in figures}
    assert 0 < values["fork", "x86_64", "native"] < values["fork", "x86_64", "farcall"]
    # A worker looks at a pipe for a while before it sleeps: where waking is dear, it is ahead of the host.
    ratio = values["pipe", "x86_64", "farcall"] / values["pipe", "x86_64", "native"]
    assert values["pipe", "x86_64", "farcall / native"] == pytest.approx(ratio, rel=0.01) and ratio > 0


@pytest.mark.timeout(320)
def test_children_execute_programs_of_the_host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(bench, "ROUNDS", 1)
    monkeypatch.setenv("PATH", str(busybox("x86_64").parent), prepend=os.pathsep)
    for case, run, limit in (("exec", bench.bench_exec, 40.0), ("python", bench.bench_python, 1200.0)):
        found = {(each.architecture, each.what): each for each in run()}
        assert {each.case for each in found.values()} == {case}
        for architecture in ("x86_64", "arm64"):
            assert found[architecture, "farcall"].limit == limit
        assert 0 < found["x86_64", "native"].value < found["x86_64", "farcall"].value
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(StartError, match=r"exec wants busybox \(apt-get install busybox-static\)"):
        bench.bench_exec()


@pytest.mark.timeout(320)
def test_guests_calls_travel_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "ROUNDS", 1)
    found = {(each.architecture, each.what): each for each in bench.bench_crowd()}
    for architecture in ("x86_64", "arm64"):
        one, crowd = found[architecture, "one guest"].value, found[architecture, "64 guests"].value
        ratio = found[architecture, "one / crowd"]
        assert ratio.limit == 1 / 15 and ratio.value == pytest.approx(one / crowd)
        assert crowd > 3 * one, "one frame carries many calls, whatever else this machine does"


def test_a_crowd_with_one_that_fails_has_no_figure(tmp_path: Path) -> None:
    (tmp_path / "short").write_bytes(bytes(1 << 16))
    for words in (["3", "/bin/sh"], ["3", str(tmp_path / "short"), "2"], ["3", "/no such file", "2"]):
        native = subprocess.run(
            [bench.PROGRAMS / "bench-x86_64", "crowd", *words], capture_output=True, timeout=20, check=False
        )
        assert native.returncode == 1


def test_a_child_that_fails_has_no_figure(tmp_path: Path) -> None:
    program = bench.PROGRAMS / "bench-x86_64"
    for arguments in (["spawn", "1", str(program), "no such mode"], ["spawn", "1", str(tmp_path)], ["spawn"]):
        native = subprocess.run([program, *arguments], capture_output=True, timeout=20, check=False)
        assert native.returncode == 1
    with pytest.raises(StartError):
        bench.farcall_ns(X86_64, "spawn", "1", str(program), "no such mode")


def test_a_missed_limit_is_exit_status_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    figure = bench.Figure("null", "x86_64", "farcall", 5.1, "us", 5.0)
    monkeypatch.setitem(bench.CASES, "null", lambda: [figure])
    assert bench.main(["null"]) == 1
    assert "MISSED" in capsys.readouterr().out
    figure.value = 5.0
    assert bench.main(["null"]) == 0


@pytest.mark.parametrize("words", [("bench", "nothing"), ("bench", "--json"), ("syscalls", "--xml")])
def test_usage(words: tuple[str, ...]) -> None:
    done = _run(*words)
    assert done.returncode == 125 and done.stdout == ""
    assert done.stderr.startswith("farcall: ") and done.stderr.count("\n") == 1


def test_syscalls_json_is_the_table() -> None:
    done = _run("syscalls", "--json")
    rows = {row["name"]: row for row in json.loads(done.stdout)}
    assert done.returncode == 0 and len(rows) == len(support()) > 350
    assert rows["read"] == {
        "name": "read", "x86_64": 0, "arm64": 63, "status": "full", "reason": "", "errno": "",
    }  # fmt: skip
    assert rows["open"]["arm64"] is None
    for name in TABLE.rows:
        assert rows[name]["status"] == ("partial" if TABLE.rows[name].partial else "full")
        assert bool(rows[name]["reason"]) == (rows[name]["status"] == "partial")
    refused = [row for row in rows.values() if row["status"] == "refused"]
    assert all(row["reason"] for row in refused)
    others = {row["name"]: row["errno"] for row in refused if row["errno"] != "ENOSYS"}
    assert others == {"pidfd_getfd": "EPERM"}  # as where ptrace(2) is not allowed


def test_syscalls_for_people() -> None:
    done = _run("syscalls")
    lines = done.stdout.splitlines()
    assert done.returncode == 0 and lines[-1].endswith("refused") and len(lines) == len(support()) + 2
