"""Which session and which foreground group each terminal has (tty_jobctrl.c). Pure.

Terminal 0 is the one that farcall was called from; n + 1 is the guests' own pseudo-terminal n.
"""

from dataclasses import dataclass
from typing import Final

from client_vm.abi import common
from client_vm.errors import Errno

CALLERS: Final = 0


@dataclass(slots=True)
class Control:
    """A session, and the group of it that the keys are for."""

    session: int
    foreground: int


NOBODYS: Final = Control(0, 0)


class Terminals:
    """The terminals that control a session."""

    def __init__(self, first: int) -> None:
        """`first`: the session that has the caller's."""
        self._controls = {CALLERS: Control(first, first)}

    def of(self, terminal: int) -> Control:
        """NOBODYS if it controls no session."""
        return self._controls.get(terminal, NOBODYS)

    def find(self, session: int) -> int | None:
        """The terminal of a session."""
        return next((key for key, control in self._controls.items() if control.session == session), None)

    def take(self, terminal: int, session: int, group: int) -> None:
        """A session without a terminal gets one. EPERM: it has one already, or the terminal has a session."""
        held = self.find(session)
        if held == terminal:
            return
        if held is not None or terminal in self._controls:
            raise Errno(common.EPERM)
        self._controls[terminal] = Control(session, group)

    def lose(self, terminal: int) -> Control:
        """It controls nobody any more; what it did control."""
        return self._controls.pop(terminal, NOBODYS)
