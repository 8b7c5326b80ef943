"""farcall, whose guests' successful system calls leave their names in a file: `python observed.py FILE run ...`.

Handlers are wrapped when their rows are made, in the process that the workers are forked from.
"""

import os
import runpy
import sys
from collections.abc import Callable
from typing import Any

_FILE = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _watch(name: str, handler: Callable[..., Any]) -> Callable[..., Any]:
    from client_vm.errors import GuestExit, NoResult, Replaced, ThreadExit

    line = name.encode() + b"\n"
    noted = False

    def note() -> None:
        nonlocal noted
        if not noted:
            os.write(_FILE, line)
            noted = True

    def rest(call: Any) -> Any:
        result = yield from call
        note()
        return result

    def observed(task: Any, *arguments: Any) -> Any:
        try:
            result = handler(task, *arguments)
        except (GuestExit, NoResult, Replaced, ThreadExit):
            note()
            raise
        if not isinstance(result, int):
            return rest(result)
        note()
        return result

    return observed


def _install() -> None:
    from client_vm.rows import Table

    make = Table.row

    def row(self: Any, name: str, handler: Any, *arguments: Any, partial: str = "") -> None:
        make(self, name, _watch(name, handler), *arguments, partial=partial)

    Table.row = row  # type: ignore[method-assign]


_install()
del sys.argv[1]
runpy.run_module("client_vm", run_name="__main__")
