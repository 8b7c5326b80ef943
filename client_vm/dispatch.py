"""What the trap needs of the syscall table: by number, whom to call and how to decode."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Handler = Callable[..., int]
"""(task, decoded arguments...) -> result. Raises Errno; GuestExit ends the process."""


@dataclass(frozen=True, slots=True)
class Dispatch:
    """One architecture's table, by syscall number."""

    calls: dict[int, tuple[Handler, tuple[Callable[[Any, int], Any], ...]]]
    """Handler, and a decoder (task, raw value) per argument."""
    refused: dict[int, int]
    """Errno."""
