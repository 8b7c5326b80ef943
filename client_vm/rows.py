"""What one row of the syscall table is, and what it yields: dispatch for both architectures, decoding, pages.

A row names a syscall once; its numbers come from the kernel's headers. A syscall without a row is
-ENOSYS, as on a kernel that lacks it.
"""

from dataclasses import dataclass, field
from typing import Final

from client_vm.architecture import ARCHITECTURES, Architecture
from client_vm.arguments import Kind
from client_vm.dispatch import Call, Dispatch, Handler, decoded


@dataclass(frozen=True, slots=True)
class Row:
    """One syscall: who handles it, and its arguments by C type."""

    name: str
    handler: Handler
    arguments: tuple[Kind, ...]
    partial: str = ""
    """What of it is not there yet; empty: all of it is."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """One syscall that always fails with the same errno, and why that is right."""

    name: str
    errno: int
    why: str


@dataclass(slots=True)
class Table:
    """Rows and refusals, and per architecture the dispatch by number."""

    rows: dict[str, Row] = field(default_factory=dict)
    refusals: dict[str, Refusal] = field(default_factory=dict)
    _dispatches: dict[str, Dispatch] = field(default_factory=dict)
    """By architecture, once asked for: each execve wants one."""

    def row(self, name: str, handler: Handler, *arguments: Kind, partial: str = "") -> None:
        """Adds an implemented syscall. ValueError if no architecture has it or it is there already."""
        self._check(name)
        self.rows[name] = Row(name, handler, arguments, partial)

    def refuse(self, name: str, errno: int, why: str) -> None:
        """Adds a syscall that is refused for a reason."""
        self._check(name)
        self.refusals[name] = Refusal(name, errno, why)

    def _check(self, name: str) -> None:
        if name in self.rows or name in self.refusals:
            raise ValueError(f"two rows for {name}")
        if not any(name in architecture.abi.SYSCALLS for architecture in ARCHITECTURES):
            raise ValueError(f"no architecture has a syscall {name}")
        self._dispatches.clear()

    def dispatch(self, architecture: Architecture) -> Dispatch:
        """By number: what the trap needs."""
        known = self._dispatches.get(architecture.name)
        if known is None:
            known = self._dispatches[architecture.name] = self._dispatch(architecture)
        return known

    def _dispatch(self, architecture: Architecture) -> Dispatch:
        numbers: dict[str, int] = architecture.abi.SYSCALLS
        calls: dict[int, Call] = {}
        for name, row in self.rows.items():
            if name in numbers:
                calls[numbers[name]] = decoded(row.handler, tuple(kind.decode for kind in row.arguments))
        errnos = {numbers[name]: r.errno for name, r in self.refusals.items() if name in numbers}
        return Dispatch(calls, errnos)


TABLE: Final = Table()
"""Filled by client_vm.table."""
