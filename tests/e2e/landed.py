"""What already runs as a guest; the rest runs natively only, until the part it needs is there.

FARCALL_ALL=1 runs everything all the same, to see what may be named here.
"""

import os

ALL = os.environ.get("FARCALL_ALL") == "1"

DYNAMIC: set[tuple[str, str]] = set()
"""(architecture, name) of test_dynamic.py's lines."""
_GUESTS = (
    "clone_flags", "epolls", "event_fds", "exec", "fork_wait", "futexes", "groups", "locks", "pipes",
    "signals", "spawn", "threads", "timers", "waiting", "race_append",
)  # fmt: skip
GUESTS: set[tuple[str, str]] = {(arch, name) for arch in ("x86_64", "arm64") for name in _GUESTS}
"""(architecture, name) of tests/guests/cases.py's PROCESSES."""
LANGUAGES: set[tuple[str, str]] = set()
"""(architecture, name) of tests/guests/build_languages.py's PROGRAMS."""


def landed(names: set[tuple[str, str]], arch: str, name: str) -> bool:
    return ALL or (arch, name) in names
