"""Numbers that are no syscall of ours: -ENOSYS, and every other register as the instruction leaves it."""

import errno
from pathlib import Path
from typing import Final

import pytest

import client_vm.table  # noqa: F401  # fills TABLE
from client_vm.architecture import ARCHITECTURES, X86_64, Architecture
from client_vm.rows import TABLE
from tests.guests.build import build
from tests.guests.test_native import FIRST_BUILD_S, HOST
from tests.hostile.runs import Ran, run, under_farcall

ARCHS: Final = {architecture.name: architecture for architecture in ARCHITECTURES}
NUMBERS: Final = 601
LARGE: Final = (
    1000, 1023, 4096, 1 << 16, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, (1 << 32) + 700, (1 << 63) + 700,
    (1 << 64) - 1,
)  # fmt: skip
X32: Final = 0x40000000
"""Bit of the x32 ABI's numbers (x86-64's __X32_SYSCALL_BIT)."""
NEWER_KERNELS: Final = 500
"""From the highest number of our headers up to here, a host's kernel may know more than they do."""


def unknown(architecture: Architecture) -> list[int]:
    """Numbers that no header names."""
    known = set(architecture.abi.SYSCALLS.values())
    return [number for number in range(NUMBERS) if number not in known] + list(LARGE)


def without_a_row(architecture: Architecture) -> list[int]:
    """Numbers that Linux has and farcall has not, or refuses with the same errno."""
    answered = TABLE.rows.keys() | {r.name for r in TABLE.refusals.values() if r.errno != errno.ENOSYS}
    return [number for name, number in architecture.abi.SYSCALLS.items() if name not in answered]


def _check(ran: Ran, numbers: list[int]) -> None:
    lines = ran.stdout.splitlines()
    assert (ran.status, ran.stderr) == (0, ""), ran.stdout[:2000] + ran.stderr
    assert lines[-1].endswith("checks passed")
    assert lines[:-1] == [f"{number} {-errno.ENOSYS}" for number in numbers]


def _script(numbers: list[int]) -> str:
    return "".join(f"{number}\n" for number in numbers)


@pytest.mark.timeout(FIRST_BUILD_S)
def test_unknown_numbers_natively(tmp_path: Path) -> None:
    architecture = ARCHS[HOST]
    highest = max(architecture.abi.SYSCALLS.values())
    numbers = [n for n in unknown(architecture) if n < highest or n >= NEWER_KERNELS]
    _check(run([str(build("hostile_numbers", HOST))], tmp_path, _script(numbers)), numbers)


@pytest.mark.timeout(FIRST_BUILD_S)
@pytest.mark.parametrize("deployment", ["ring"])
@pytest.mark.parametrize("arch", ARCHS)
def test_unknown_numbers(arch: str, deployment: str, tmp_path: Path) -> None:
    architecture = ARCHS[arch]
    numbers = unknown(architecture) + without_a_row(architecture)
    if architecture is X86_64:
        numbers += [X32 | number for number in (*range(NUMBERS), X32 - 1)]
    _check(run(under_farcall(build("hostile_numbers", arch)), tmp_path, _script(numbers)), numbers)
