"""How each guest program is to be run, and what must come of it: natively, and under farcall alike.

Standard output, exit status and the absence of "FAILED" are the result; the working directory is empty and
writable, standard input is /dev/null.
"""

import os
from dataclasses import dataclass
from typing import Final

from tests.guests.build import names

ENVIRONMENT: Final = {"GUEST_VARIABLE": "a b=c"}
"""The whole of it."""
SEGV, BUS, FPE, ILL, TRAP, ABRT = 139, 135, 136, 132, 133, 134

MOVABLE: Final = ("auxv", "hello", "memory", "pseudo", "stack")
"""Programs to which it matters where they are loaded: they run as static-PIE too."""


def kinds(name: str) -> tuple[str, ...]:
    """How the program is built, of build.KINDS."""
    return ("static", "static-pie") if name in MOVABLE else ("static",)


@dataclass(frozen=True)
class Case:
    """One run. `status`: as a shell tells it, 128 + signal; by architecture where that differs."""

    name: str
    arguments: tuple[str, ...] = ()
    status: int = 0
    status_arm64: int | None = None
    address_space_mib: int | None = None
    """Native runs get RLIMIT_AS of this size, farcall's the memory server's quota."""

    @property
    def label(self) -> str:
        return "-".join((self.name, *self.arguments[:1]))

    def expected(self, arch: str) -> int:
        return self.status if arch == "x86_64" or self.status_arm64 is None else self.status_arm64


FAULTS: Final = {
    "write-constant": SEGV,
    "write-code": SEGV,
    "write-readonly": SEGV,
    "read-none": SEGV,
    "read-null": SEGV,
    "write-null": SEGV,
    "read-unmapped": SEGV,
    "noncanonical": SEGV,
    "kernel-address": SEGV,
    "stack-overflow": SEGV,
    "bus": BUS,
    "crossing": SEGV,
    "jump-null": SEGV,
    "jump-unmapped": SEGV,
    "exec-data": SEGV,
    "exec-stack": SEGV,
    "exec-revoked": SEGV,
    "illegal": ILL,
    "breakpoint": TRAP,
    "abort": ABRT,
}
SPECIAL: Final = (
    Case("hello", ("one", "two words", ""), status=3),
    *(Case("faults", (mode,), status) for mode, status in FAULTS.items()),
    Case("faults", ("privileged",), SEGV, ILL),
    Case("faults", ("divide",), FPE, 0),
    Case("cpu_limit", status=152),
    Case("quota", ("16", "100"), address_space_mib=256),
)
ROUNDS: Final = os.environ.get("FARCALL_ROUNDS", "1000")
"""How often the racing programs try."""
RACES: Final = ("race_append", "race_children", "race_futex", "race_signal", "race_threads")
PROCESS_NAMES: Final = (
    *(
        "clone_flags",
        "epolls",
        "event_fds",
        "exec",
        "fifos",
        "fork_wait",
        "futexes",
        "groups",
        "inet_datagrams",
        "inet_streams",
        "locks",
    ),
    *("pidfds", "pipes", "proc_others", "robust", "shared_files", "shared_memory", "signal_faults"),
    *("signal_frames", "signal_origins", "signal_restart", "signals", "smaps", "socketpairs", "spawn"),
    *("threads", "timers", "timers_created", "unix_datagrams", "unix_passing", "unix_streams", "waiting"),
)
PROCESSES: Final = tuple(Case(n) for n in PROCESS_NAMES) + tuple(Case(n, (ROUNDS,)) for n in RACES)
"""Programs of several processes, of threads and of signals: test_processes.py runs them."""
_NAMED: Final = {case.name for case in SPECIAL + PROCESSES}
CASES: Final = SPECIAL + tuple(Case(n) for n in names() if n not in _NAMED)
