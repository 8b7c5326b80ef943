"""What the two halves of the kernel process hand each other: a run that was started, and how it ended."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from client_vm.launch import HeldSignals, Server, Worker
from client_vm.options import RunOptions
from client_vm.placement import Placement

if TYPE_CHECKING:
    from ipc.credentials import Credentials


@dataclass(frozen=True, slots=True)
class Run:
    """A run whose processes have been started, and not yet been brought together."""

    options: RunOptions
    placements: Sequence[Placement]
    signals: HeldSignals
    worker: Worker
    servers: dict[str, Server]
    """The run's own, by kind."""
    directory: str
    """The run's own; empty if it needs none."""
    random_key: bytes
    say: Callable[[str], None]
    """Prints one line for the user."""
    credentials: "Credentials | None" = None
    """Towards servers at HOST:PORT."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a run ended: farcall's exit status and one line for the user, or none."""

    status: int
    message: str = ""
