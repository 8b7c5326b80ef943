"""Which socket has which port of the guests' loopback (bind(2), ip(7), ipv6(7)). Pure.

One table per protocol. A socket that listens at :: hears IPv4 too, unless it is IPv6 only.
"""

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

from ipc.inet import ANY4, ANY6, IPV4_BYTES, IPV6_BYTES
from servers.network.addresses import Name

EPHEMERAL: Final = range(32_768, 61_000)
"""Ports that are given unasked (net.ipv4.ip_local_port_range)."""
RESERVED_MAX: Final = 1023
"""Ports up to this one are root's (ip(7))."""

Owner = TypeVar("Owner", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Binding(Generic[Owner]):
    """A socket's place."""

    owner: Owner
    name: Name
    both: bool = False
    """At ::, for IPv4 as well."""
    reuse_address: bool = False
    reuse_port: bool = False

    def hears(self, host: bytes) -> bool:
        """Whether what is sent to this address (plain) is for it."""
        if self.name.host == host:
            return True
        if len(host) == IPV4_BYTES:
            return self.name.host == ANY4 or (self.both and self.name.host == ANY6)
        return self.name.host == ANY6

    def overlaps(self, other: "Binding[Owner]") -> bool:
        if self.name.port != other.name.port:
            return False
        return self.hears(other.name.host) or other.hears(self.name.host) or (self._wide and other._wide)

    @property
    def _wide(self) -> bool:
        return self.both and self.name.host == ANY6

    def rank(self, host: bytes) -> int:
        """How closely it fits an address that it hears: the closest gets what is sent there."""
        if self.name.host == host:
            return 2
        return 0 if len(host) == IPV4_BYTES and len(self.name.host) == IPV6_BYTES else 1


@dataclass(slots=True)
class Ports(Generic[Owner]):
    """All bindings of one protocol."""

    shares_by_address: bool
    """Whether SO_REUSEADDR of both lets them share a port while both are in use (UDP), or only while none
    listens (TCP)."""
    _taken: dict[int, list[Binding[Owner]]] = field(default_factory=dict)
    _listening: set[Owner] = field(default_factory=set)
    _next: int = EPHEMERAL.start
    _turn: int = 0

    def is_free(self, wanted: Binding[Owner]) -> bool:
        """Whether bind(2) may give it this place. Port 0: whether any is free is `pick`'s affair."""
        return not any(
            self._conflicts(wanted, other)
            for other in self._taken.get(wanted.name.port, ())
            if other.overlaps(wanted)
        )

    def _conflicts(self, wanted: Binding[Owner], other: Binding[Owner]) -> bool:
        if wanted.reuse_port and other.reuse_port:
            return False
        if wanted.reuse_address and other.reuse_address:
            return not self.shares_by_address and other.owner in self._listening
        return True

    def may_listen(self, owner: Owner, binding: Binding[Owner]) -> bool:
        """Whether no other socket listens at this place already (listen(2))."""
        return not any(
            other.owner != owner
            and other.owner in self._listening
            and other.overlaps(binding)
            and not (other.reuse_port and binding.reuse_port)
            for other in self._taken.get(binding.name.port, ())
        )

    def pick(self, owner: Owner, host: bytes, both: bool) -> Name | None:
        """A free place at this address, of the ephemeral ports; None: there is none."""
        for _ in EPHEMERAL:
            port, self._next = self._next, self._next + 1
            if self._next >= EPHEMERAL.stop:
                self._next = EPHEMERAL.start
            name = Name(host, port)
            if not self._taken.get(port) or self.is_free(Binding(owner, name, both)):
                return name
        return None

    def take(self, binding: Binding[Owner]) -> None:
        self._taken.setdefault(binding.name.port, []).append(binding)

    def leave(self, binding: Binding[Owner]) -> None:
        self._listening.discard(binding.owner)
        rest = [other for other in self._taken.get(binding.name.port, ()) if other is not binding]
        if rest:
            self._taken[binding.name.port] = rest
        else:
            self._taken.pop(binding.name.port, None)

    def listen(self, owner: Owner) -> None:
        self._listening.add(owner)

    def hearer(self, name: Name, listening: bool) -> Owner | None:
        """Who gets what is sent to this place (plain): the closest fit, by turns where several share it."""
        fits = [
            binding
            for binding in self._taken.get(name.port, ())
            if binding.hears(name.host) and (not listening or binding.owner in self._listening)
        ]
        if not fits:
            return None
        best = max(binding.rank(name.host) for binding in fits)
        fits = [binding for binding in fits if binding.rank(name.host) == best]
        self._turn += 1
        return fits[self._turn % len(fits)].owner
