"""Where each server of a run is and how its calls travel there: decided from the options alone. Pure."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from client_vm.options import RunOptions

if TYPE_CHECKING:
    from ipc.address import Address

KINDS: Final = ("file", "memory", "network")
ON_DEMAND: Final = ("network",)
"""Started when a guest first asks for it: most make no inet socket."""


@dataclass(frozen=True, slots=True)
class Placement:
    """One server of the run."""

    kind: str
    """One of KINDS."""
    transport: str
    """ring: the worker's ring ends at the server. grpc, inproc: it ends in the kernel process."""
    address: "Address | None"
    """None: the run starts the server itself, or hosts it (inproc)."""

    @property
    def is_process(self) -> bool:
        """Whether the run starts a process for it."""
        return self.address is None and self.transport != "inproc"

    @property
    def is_on_demand(self) -> bool:
        return self.kind in ON_DEMAND


def place(options: RunOptions) -> tuple[Placement, ...]:
    """The servers of a run, in the order of KINDS. The options are checked already."""
    addresses = {"file": options.file, "memory": options.memory, "network": options.network}
    return tuple(Placement(kind, _transport(options, addresses[kind]), addresses[kind]) for kind in KINDS)


def _transport(options: RunOptions, address: "Address | None") -> str:
    if options.transport is not None:
        return options.transport
    return "ring" if address is None or address.is_unix else "grpc"
