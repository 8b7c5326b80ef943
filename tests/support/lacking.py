"""A server as an earlier one was: `python -m tests.support.lacking OPERATIONS KIND [OPTIONS]` is `python -m
servers KIND [OPTIONS]` without these operations, separated by commas."""

import sys
from typing import Any

from ipc.operations import BY_NAME
from servers import dispatch
from servers.__main__ import main


def without(names: list[str]) -> None:
    """No dispatcher of this process offers these operations."""
    codes = {BY_NAME[name].opcode for name in names}
    init = dispatch.Dispatcher.__init__

    def lacking(self: dispatch.Dispatcher, service: Any, *others: Any) -> None:
        service.handlers = {code: call for code, call in service.handlers.items() if code not in codes}
        init(self, service, *others)
        self.sessions._opcodes = [code for code in self.sessions._opcodes if code not in codes]

    dispatch.Dispatcher.__init__ = lacking  # type: ignore[method-assign, assignment]


if __name__ == "__main__":
    without(sys.argv[1].split(","))
    del sys.argv[1]
    sys.exit(main())
