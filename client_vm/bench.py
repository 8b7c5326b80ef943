"""`farcall bench`: what a guest pays, measured by the guest itself, with references from the same minutes.

A guest program of our own (client_vm/programs/bench.c) times its loop; runs of farcall, of raw Unicorn and of
the host take turns, and medians are compared, because this machine's speed drifts.
"""

import ctypes
import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from client_vm import elf
from client_vm.architecture import ARCHITECTURES, Architecture
from client_vm.arena import PAGE_BYTES, Arena
from client_vm.bench_servers import FARCALL, servers_by_tls
from client_vm.cpu import READ, WRITE, Cpu
from client_vm.errors import EXIT_FAILURE, StartError
from client_vm.stubs import CAUSE_TRAP
from client_vm.vma import page_down, page_up
from ipc.seams import HostClock

HELP: Final = """\
usage: farcall bench [CASE...] [--json FILE]

  null      one system call that the kernel answers itself        limit 5 us
  pread     pread of 4 KiB from the file server by ring           limit 25 us
  compute   SHA-256, against raw Unicorn in the same mode    limit 1.15
  fork      a child that ends at once: fork, exit, wait             limit 6 ms
  exec      the same with a child that executes `busybox true`      limit 40 ms
  python    the same with `/usr/bin/python3 -c pass`                limit 1.2 s
  pipe      a byte to a process on another processor and back, against native  limit 2
  tcp       the same by a TCP connection of the guests' loopback    limit 3
  crowd     preads per second by TLS from servers started by hand, one guest's as a part of 64 guests'  limit 1/15
  start     `farcall run` of a program that ends at once          limit 1.5 s

Exit status 1 if a limit is missed. All cases without CASE. --json: the figures as a list of objects.
"""
PROGRAMS: Final = Path(__file__).parent / "programs"
ROUNDS: Final = 5
START_ROUNDS: Final = 9
RUN_TIMEOUT_S: Final = 120
CROWD: Final = 64
CROWD_FILE_BYTES: Final = 1 << 20
"""More than come along with an open."""
_STACK_PAGES: Final = 16
_STACK_TOP: Final = 0x7FFF_0000_0000
_NS: Final = {"us": 1e3, "ms": 1e6}


@dataclass(slots=True)
class Figure:
    """One line of the result. `limit` and `value` in the same unit; 0: a reference without limit."""

    case: str
    architecture: str
    what: str
    value: float
    unit: str
    limit: float = 0.0

    @property
    def missed(self) -> bool:
        return bool(self.limit) and self.value > self.limit


def _program(architecture: Architecture) -> Path:
    return PROGRAMS / f"bench-{architecture.name}"


def _timed_by_guest(command: list[str]) -> float:
    """Nanoseconds that the program printed. StartError(125) if it failed."""
    done = subprocess.run(command, capture_output=True, timeout=RUN_TIMEOUT_S, check=False)
    if done.returncode or not done.stdout.strip().isdigit():
        text = done.stderr.decode(errors="replace").strip().splitlines()
        why = text[-1] if text else f"status {done.returncode}"
        raise StartError(f"bench: {' '.join(command[-4:])}: {why}", EXIT_FAILURE)
    return float(done.stdout)


def farcall_ns(architecture: Architecture, *arguments: str, options: Sequence[str] = ()) -> float:
    """Nanoseconds that the program printed as a guest. StartError(125) if it failed."""
    return _timed_by_guest([*FARCALL, "run", *options, "--", str(_program(architecture)), *arguments])


def _native(architecture: Architecture, *arguments: str) -> float | None:
    """The host's own time, where it can run the program."""
    if platform.machine() != architecture.machine:
        return None
    return _timed_by_guest([str(_program(architecture)), *arguments])


def _medians(runs: dict[str, Callable[[], float | None]]) -> dict[str, float]:
    """Median of each, measured in turns; those that give None are absent."""
    seen: dict[str, list[float]] = {}
    for _ in range(ROUNDS):
        for name, run in runs.items():
            value = run()
            if value is not None:
                seen.setdefault(name, []).append(value)
    return {name: statistics.median(values) for name, values in seen.items()}


def _beside_native(architecture: Architecture, *arguments: str) -> dict[str, float]:
    """Median nanoseconds of "farcall" and, where the host can run the program, of "native"."""

    def run(where: Callable[..., float | None]) -> float | None:
        return where(architecture, *arguments)

    return _medians({"farcall": lambda: run(farcall_ns), "native": lambda: run(_native)})


def _per_round(case: str, limit: float, unit: str, rounds: int, *arguments: str) -> list[Figure]:
    """What one round costs in a guest and natively; `arguments` say how many to the program."""
    figures = []
    for architecture in ARCHITECTURES:
        for what, value in _beside_native(architecture, *arguments).items():
            cost = value / rounds / _NS[unit]
            figures.append(Figure(case, architecture.name, what, cost, unit, limit if what == "farcall" else 0.0))
    return figures


def _per_call(case: str, limit_us: float, calls: int, *path: str) -> list[Figure]:
    return _per_round(case, limit_us, "us", calls, case, str(calls), *path)


def bench_null() -> list[Figure]:
    """getppid: trap, table, result; no server."""
    return _per_call("null", 5.0, 100_000)


def bench_pread() -> list[Figure]:
    """pread of 4 KiB of a file of the lower layer, the server spinning."""
    return _per_call("pread", 25.0, 20_000, str(Path(__file__).resolve()))


def _cpu_time_ns() -> int:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return int((used.ru_utime + used.ru_stime) * 1e9)


class _RawCpu(Cpu):
    """Unicorn with the same TLB mode and trap, without preemption, and as it comes."""

    def _become_stoppable(self) -> None:
        pass


class _Raw:
    """A program on bare Unicorn: flat pages, and just the three calls that the loop makes."""

    def __init__(self, architecture: Architecture, arguments: list[bytes]) -> None:
        self._arena = Arena(1 << 30)
        self._pages: dict[int, tuple[int, int]] = {}
        self._cpu = _RawCpu(architecture, self._arena.address, self._arena.size_bytes, self._translate)
        self._numbers: dict[str, int] = architecture.abi.SYSCALLS
        self.output = b""
        self._load(_program(architecture).read_bytes(), arguments)

    def _translate(self, address: int, access: int) -> tuple[int, int] | None:
        found = self._pages.get(page_down(address))
        return found if found and found[1] & access else None

    def _map(self, start: int, end: int, protection: int) -> None:
        for page in range(start, end, PAGE_BYTES):
            self._pages[page] = self._arena.take(PAGE_BYTES), protection

    def _store(self, address: int, data: bytes) -> None:
        for index, byte in enumerate(data):
            offset = self._pages[page_down(address + index)][0]
            self._arena.bytes[offset + (address + index) % PAGE_BYTES] = byte

    def _load(self, file: bytes, arguments: list[bytes]) -> None:
        image = elf.parse(file, lambda offset, size: file[offset : offset + size], len(file))
        for segment in image.segments:
            end = page_up(segment.address + segment.memory_bytes)
            self._map(page_down(segment.address), end, segment.protection)
            self._store(segment.address, file[segment.file_offset :][: segment.file_bytes])
        low = _STACK_TOP - _STACK_PAGES * PAGE_BYTES
        self._map(low, _STACK_TOP, READ | WRITE)
        vector = [len(arguments)]
        for index, argument in enumerate(arguments):
            self._store(low + 256 * index, argument + b"\0")
            vector.append(low + 256 * index)
        stack = _STACK_TOP - PAGE_BYTES
        self._store(stack, b"".join(word.to_bytes(8, "little") for word in [*vector, 0, 0, 0, 0]))
        self._cpu.pc, self._cpu.sp = image.entry, stack

    def run(self) -> float:
        """Nanoseconds that the program printed."""
        cpu, numbers = self._cpu, self._numbers
        while cpu.run() == CAUSE_TRAP:
            number, _, second, third = cpu.values[:4]
            if number == numbers["exit_group"]:
                break
            if number == numbers["clock_gettime"]:
                now = _cpu_time_ns()
                self._store(second, b"".join(n.to_bytes(8, "little") for n in divmod(now, 10**9)))
            elif number == numbers["write"]:
                offset = self._pages[page_down(second)][0] + second % PAGE_BYTES
                self.output += ctypes.string_at(self._arena.address + offset, third)
            cpu.finish_syscall(0 if number != numbers["write"] else third)
        cpu.close()
        self._arena.close()
        return float(self.output)


def bench_compute() -> list[Figure]:
    """SHA-256: farcall, preemption on, against bare Unicorn in the same TLB mode."""
    rounds = 400
    figures = []
    for architecture in ARCHITECTURES:

        def raw(on: Architecture = architecture) -> float:
            return _Raw(on, [b"bench", b"compute", str(rounds).encode()]).run()

        def ours(on: Architecture = architecture) -> float:
            return farcall_ns(on, "compute", str(rounds))

        def native(on: Architecture = architecture) -> float | None:
            return _native(on, "compute", str(rounds))

        found = _medians({"farcall": ours, "raw Unicorn": raw, "native": native})
        for what, value in found.items():
            figures.append(Figure("compute", architecture.name, what, value / 1e6, "ms"))
        ratio = found["farcall"] / found["raw Unicorn"]
        figures.append(Figure("compute", architecture.name, "farcall / raw Unicorn", ratio, "", 1.15))
    return figures


def bench_crowd() -> list[Figure]:
    """Calls in flight together, to servers as on another host: preads that nothing kept here can answer."""
    figures = []
    with servers_by_tls() as options, tempfile.NamedTemporaryFile(prefix="farcall-bench-") as file:
        file.write(bytes(CROWD_FILE_BYTES))
        file.flush()
        for architecture in ARCHITECTURES:

            def rate(guests: int, calls: int, on: Architecture = architecture) -> float:
                """Of all of them, per second."""
                words = ("crowd", str(calls), file.name, str(guests))
                return guests * calls / farcall_ns(on, *words, options=options) * 1e9

            found = _medians({"one": partial(rate, 1, 1000), "crowd": partial(rate, CROWD, 200)})
            figures += [
                Figure("crowd", architecture.name, "one guest", found["one"], "/s"),
                Figure("crowd", architecture.name, f"{CROWD} guests", found["crowd"], "/s"),
                Figure("crowd", architecture.name, "one / crowd", found["one"] / found["crowd"], "", 1 / 15),
            ]
    return figures


def bench_start() -> list[Figure]:
    """A whole `farcall run`, servers included, of a program that ends at once."""
    clock = HostClock()
    figures = []
    for architecture in ARCHITECTURES:
        command = [*FARCALL, "run", "--", str(_program(architecture)), "exit"]
        times = []
        for _ in range(START_ROUNDS):
            begin = clock.monotonic_s()
            subprocess.run(command, timeout=RUN_TIMEOUT_S, check=True)
            times.append(clock.monotonic_s() - begin)
        figures.append(Figure("start", architecture.name, "farcall run", statistics.median(times), "s", 1.5))
    return figures


def _per_child(case: str, limit_ms: float, children: int, *program: str) -> list[Figure]:
    """What a child costs its parent, from fork to wait; it executes `program`, if one is given."""
    mode = "spawn" if program else "fork"
    return _per_round(case, limit_ms, "ms", children, mode, str(children), *program)


def _installed(case: str, program: str, package: str) -> str:
    """Its path. StartError: it is not installed."""
    found = shutil.which(program)
    if found is None:
        raise StartError(f"bench: {case} wants {program} (apt-get install {package})", EXIT_FAILURE)
    return found


def bench_fork() -> list[Figure]:
    """Children that end at once, one after the other."""
    return _per_child("fork", 6.0, 100)


def bench_exec() -> list[Figure]:
    """Children of either architecture that execute the host's static busybox."""
    return _per_child("exec", 40.0, 20, _installed("exec", "busybox", "busybox-static"), "true")


def bench_python() -> list[Figure]:
    """The host's interpreter and its modules, as a child of a guest: the servers run."""
    return _per_child("python", 1200.0, 1, _installed("python", "/usr/bin/python3", "python3"), "-c", "pass")


def bench_pipe() -> list[Figure]:
    """Round trips by two pipes, against the host's own program, of either architecture."""
    return _round_trips("pipe", 2.0)


def bench_tcp() -> list[Figure]:
    """Round trips by a TCP connection, against the host's own program in the host's loopback."""
    return _round_trips("tcp", 3.0)


def _round_trips(case: str, limit: float) -> list[Figure]:
    """A byte there and back, many times.

    The program keeps one end on each of two processors, here as natively: left to the host, they are on one or on
    two as it likes, and a native round trip costs 4 us or 30. Where there is one processor there is no limit:
    what is compared then is not who is woken how soon, but a change of processes with some twenty calls.
    """
    trips = 5_000
    arguments = [case, str(trips)]
    runs: dict[str, Callable[[], float | None]] = {
        each.name: partial(farcall_ns, each, *arguments) for each in ARCHITECTURES
    }
    host = next(each for each in ARCHITECTURES if platform.machine() == each.machine)
    found = _medians(runs | {"native": partial(_native, host, *arguments)})
    native = found.pop("native")
    ratio = "farcall / native"
    if len(os.sched_getaffinity(0)) == 1:
        ratio, limit = "the same, 1 processor", 0.0
    figures = [Figure(case, host.name, "native", native / trips / 1000, "us")]
    for name, value in found.items():
        figures.append(Figure(case, name, "farcall", value / trips / 1000, "us"))
        figures.append(Figure(case, name, ratio, value / native, "", limit))
    return figures


CASES: Final[dict[str, Callable[[], list[Figure]]]] = {
    "null": bench_null,
    "pread": bench_pread,
    "compute": bench_compute,
    "fork": bench_fork,
    "exec": bench_exec,
    "python": bench_python,
    "pipe": bench_pipe,
    "tcp": bench_tcp,
    "crowd": bench_crowd,
    "start": bench_start,
}


def _parse(arguments: list[str]) -> tuple[list[str], str]:
    """(cases, file for JSON). StartError: usage."""
    cases, target = [], ""
    words = iter(arguments)
    for word in words:
        if word == "--json":
            target = next(words, "")
            if not target:
                raise StartError("bench: --json takes a file (farcall bench --help)", EXIT_FAILURE)
        elif word in CASES:
            cases.append(word)
        else:
            raise StartError(f"bench: no case {word} (farcall bench --help)", EXIT_FAILURE)
    return cases or list(CASES), target


def main(arguments: list[str]) -> int:
    """Runs the cases and prints a line per figure; 1 if a limit was missed."""
    if arguments in (["--help"], ["-h"]):
        print(HELP, end="")
        return 0
    cases, target = _parse(arguments)
    figures: list[Figure] = []
    for case in cases:
        for figure in CASES[case]():
            figures.append(figure)
            limit = f"  limit {figure.limit:g}{' MISSED' if figure.missed else ''}" if figure.limit else ""
            value = f"{figure.value:10.3f} {figure.unit}"
            print(f"{figure.case:8} {figure.architecture:7} {figure.what:22} {value}{limit}", flush=True)
    if target:
        rows: list[dict[str, Any]] = [asdict(figure) | {"missed": figure.missed} for figure in figures]
        Path(target).write_text(json.dumps(rows, indent=1) + "\n")
    return int(any(figure.missed for figure in figures))
