"""`farcall syscalls`: how each system call is supported, generated from the rows."""

import json
from dataclasses import asdict, dataclass
from typing import Final

import client_vm.table  # noqa: F401  # fills TABLE
from client_vm.abi.common import ENOSYS, ERRNO_NAMES
from client_vm.architecture import ARM64, X86_64
from client_vm.errors import EXIT_FAILURE, StartError
from client_vm.rows import TABLE

HELP: Final = """\
usage: farcall syscalls [--json]

Lists every system call of x86-64 and ARM64 Linux: its numbers, and whether farcall supports it in full, in
part, or refuses it, why, and with which errno. --json: a list of objects with the same fields.
"""
_NOT_YET: Final = "no handler yet"


@dataclass(frozen=True, slots=True)
class Support:
    """One system call. Numbers are None where an architecture lacks it; errno is empty unless refused."""

    name: str
    x86_64: int | None
    arm64: int | None
    status: str
    """full, partial or refused."""
    reason: str
    errno: str


def support() -> list[Support]:
    """Every syscall either architecture has, by name."""
    numbers = (X86_64.abi.SYSCALLS, ARM64.abi.SYSCALLS)
    found = []
    for name in sorted(numbers[0].keys() | numbers[1].keys()):
        row, refusal = TABLE.rows.get(name), TABLE.refusals.get(name)
        if row is not None:
            status, reason, errno = ("partial" if row.partial else "full"), row.partial, ""
        elif refusal is not None:
            status, reason, errno = "refused", refusal.why, ERRNO_NAMES[refusal.errno]
        else:
            status, reason, errno = "refused", _NOT_YET, ERRNO_NAMES[ENOSYS]
        found.append(Support(name, numbers[0].get(name), numbers[1].get(name), status, reason, errno))
    return found


def main(arguments: list[str]) -> int:
    """Prints the table. StartError: usage."""
    if arguments in (["--help"], ["-h"]):
        print(HELP, end="")
        return 0
    if arguments not in ([], ["--json"]):
        raise StartError(f"syscalls: unexpected {arguments[0]} (farcall syscalls --help)", EXIT_FAILURE)
    rows = support()
    if arguments:
        print(json.dumps([asdict(row) for row in rows], indent=1))
        return 0
    print(f"{'name':28}{'x86_64':>7}{'arm64':>7}  status")
    for row in rows:
        x86 = "-" if row.x86_64 is None else row.x86_64
        arm = "-" if row.arm64 is None else row.arm64
        detail = f" {row.errno}: {row.reason}" if row.errno else f" ({row.reason})" if row.reason else ""
        print(f"{row.name:28}{x86:>7}{arm:>7}  {row.status}{detail}")
    counts = {status: sum(row.status == status for row in rows) for status in ("full", "partial", "refused")}
    print(", ".join(f"{count} {status}" for status, count in counts.items()))
    return 0
