"""The script of hostile calls for an architecture, made from the rows of the syscall table and calls.py."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import client_vm.table  # noqa: F401  # fills TABLE
from client_vm.architecture import Architecture
from client_vm.rows import TABLE
from tests.hostile.calls import CALLS, Argument, Call, Pointer, Vector

PLACES: Final = {
    "good": "g",
    "NULL": "n",
    "unmapped": "u",
    "read-only": "r",
    "wrapping": "w",
    "top of user space": "t",
    "last page": "x",
    "end of page": "e",
}
"""Every pointer is put in each; see hostile.c. `good` and `end of page` must succeed."""
VALID: Final = ("good", "end of page")
VECTOR_PLACES: Final = {
    "NULL": "n",
    "unmapped": "u",
    "read-only": "R",
    "wrapping": "w",
    "top of user space": "t",
    "last page": "X",
}
"""Of the buffer that a struct iovec names."""
SIZES: Final = (0, 1, 7, 1 << 31, (1 << 32) - 1, 1 << 32, 1 << 62, 1 << 63, (1 << 64) - 4096, (1 << 64) - 1)


@dataclass(frozen=True)
class Case:
    """One call with one hostile argument. `argument` counts from 0; -1: none is."""

    row: str
    variant: int
    argument: int
    what: str
    line: str = ""

    @property
    def key(self) -> tuple[str, int, int, str]:
        return self.row, self.variant, self.argument, self.what


def pointer_arguments(name: str) -> list[int]:
    """Indices of the row's pointers."""
    return [index for index, kind in enumerate(TABLE.rows[name].arguments) if kind.direction]


def rows(architecture: Architecture) -> list[str]:
    """Implemented rows of the architecture that take a pointer."""
    numbers = architecture.abi.SYSCALLS
    by_table = [name for name in TABLE.rows if name in numbers and pointer_arguments(name)]
    # The pointers of these two depend on an option, so their rows call them plain values.
    return by_table + [name for name in ("arch_prctl", "prctl") if name in numbers]


def _token(argument: Argument, place: str = "g") -> str:
    if isinstance(argument, int):
        return f"={argument}"
    if isinstance(argument, str):
        return argument
    content = f"B,i{argument.count}" if isinstance(argument, Vector) else argument.content
    return f"{place}:{content}"


def _line(flags: str, number: int, tokens: list[str]) -> str:
    return " ".join((flags or "-", str(number), *tokens))


def _cases(name: str, number: int, variant: int, call: Call) -> Iterator[Case]:
    tokens = [_token(argument) for argument in call.arguments]

    def case(index: int, what: str, token: str) -> Case:
        changed = [*tokens[:index], token, *tokens[index + 1 :]]
        return Case(name, variant, index, what, _line(call.flags, number, changed))

    yield Case(name, variant, -1, "good", _line(call.flags, number, tokens))
    for index, argument in enumerate(call.arguments):
        if isinstance(argument, Pointer | Vector):
            for what, place in PLACES.items():
                yield case(index, what, _token(argument, place))
        if isinstance(argument, Vector):
            for what, place in VECTOR_PLACES.items():
                yield case(index, f"iovec {what}", f"g:{place},i{argument.count}")
                content = f"g:B,i{argument.count},{place},i{argument.count}"
                changed = [*tokens[:index], content, "=2", *tokens[index + 2 :]]
                yield Case(name, variant, index, f"iovec and {what}", _line(call.flags, number, changed))
            for size in SIZES:
                yield case(index, f"iovec of {size:#x}", f"g:B,i{size}")
                changed = [*tokens[:index], f"g:B,i4,B,i{size}", "=2", *tokens[index + 2 :]]
                yield Case(name, variant, index, f"iovec and {size:#x}", _line(call.flags, number, changed))
    for index in call.sizes:
        for size in SIZES:
            yield case(index, f"size {size:#x}", f"={size}")


def cases(architecture: Architecture) -> list[Case]:
    """Every case of the architecture, in order of the rows."""
    numbers = architecture.abi.SYSCALLS
    return [
        case
        for name in rows(architecture)
        for variant, call in enumerate(CALLS.get(name, []))
        for case in _cases(name, numbers[name], variant, call)
    ]
