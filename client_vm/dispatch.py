"""What the trap needs of the syscall table: by number, whom to call and how to decode."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from client_vm.waiting import Blocking

Handler = Callable[..., "int | Blocking"]
"""(task, decoded arguments...) -> result, or the rest of a call that must wait. Raises Errno; GuestExit ends the
process, ThreadExit the thread."""


@dataclass(frozen=True, slots=True)
class Dispatch:
    """One architecture's table, by syscall number."""

    calls: dict[int, tuple[Handler, tuple[Callable[[Any, int], Any], ...]]]
    """Handler, and a decoder (task, raw value) per argument."""
    refused: dict[int, int]
    """Errno."""
