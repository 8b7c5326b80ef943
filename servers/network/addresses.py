"""Names of inet sockets, and which addresses guests may reach beyond their loopback. Pure."""

import ipaddress
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple

from ipc.egress import Network as _Network
from ipc.egress import parse_rule
from ipc.inet import IPV6_BYTES

_SPECIAL: Final[tuple[_Network, ...]] = tuple(
    ipaddress.ip_network(text)
    for text in (
        "0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "192.0.0.0/24", "224.0.0.0/4", "240.0.0.0/4",
        "::/96", "::ffff:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48", "2001::/32", "2002::/16",
        "fe80::/10", "fec0::/10", "ff00::/8",
    )
)  # fmt: skip
"""This host, links, groups, and IPv6 addresses that stand for IPv4 ones (RFC 6890): a wider rule does not mean
them."""


class Name(NamedTuple):
    """Where a socket is: a host of 4 or 16 bytes, and a port."""

    host: bytes
    port: int

    def __str__(self) -> str:
        address = str(ipaddress.ip_address(self.host))
        return f"[{address}]:{self.port}" if len(self.host) == IPV6_BYTES else f"{address}:{self.port}"


@dataclass(frozen=True, slots=True)
class Rule:
    """One --egress: a network, and a port or all of them."""

    network: _Network
    port: int | None

    @classmethod
    def parse(cls, text: str) -> "Rule":
        """As ipc.egress.parse_rule."""
        return cls(*parse_rule(text))

    def __str__(self) -> str:
        if self.port is None:
            return str(self.network)
        network = f"[{self.network}]" if self.network.version == 6 else str(self.network)
        return f"{network}:{self.port}"

    def covers(self, other: "Rule") -> bool:
        """Whether all that the other allows is allowed by this one."""
        if self.port is not None and self.port != other.port:
            return False
        return _within(other.network, self.network) and not any(
            _within(other.network, special) and not _within(self.network, special) for special in _SPECIAL
        )

    def allows(self, host: bytes, port: int, own: bool) -> bool:
        """`own`: the address is one of this machine's, which a rule has to name, port and all."""
        address = ipaddress.ip_address(host)
        if address not in self.network or self.port not in (None, port):
            return False
        if own and (self.port is None or self.network.num_addresses > 1):
            return False
        return all(address not in special or _within(self.network, special) for special in _SPECIAL)


def _within(inner: _Network, outer: _Network) -> bool:
    if isinstance(inner, ipaddress.IPv4Network):
        return isinstance(outer, ipaddress.IPv4Network) and inner.subnet_of(outer)
    return isinstance(outer, ipaddress.IPv6Network) and inner.subnet_of(outer)


class Egress:
    """What guests may reach. Nothing, without rules."""

    def __init__(self, rules: Iterable[Rule], is_own: Callable[[bytes], bool]) -> None:
        """`is_own`: whether an address is one of this machine's."""
        self._rules = tuple(rules)
        self._is_own = is_own

    def covers(self, rule: Rule) -> bool:
        """Whether a run may ask for that much."""
        return any(mine.covers(rule) for mine in self._rules)

    def allows(self, name: Name, asked: Iterable[Rule]) -> bool:
        """Whether this address (plain) may be reached by a run that asked for those rules."""
        if name.port == 0:
            return False
        matching = [rule for rule in asked if rule.allows(name.host, name.port, own=False)]
        if not matching:
            return False
        own = self._is_own(name.host)
        return any(rule.allows(name.host, name.port, own) for rule in matching) and any(
            rule.allows(name.host, name.port, own) for rule in self._rules
        )
