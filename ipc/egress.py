"""How what guests may reach beyond their loopback is written: CIDR[:PORT], in Hello and in options. Pure."""

import ipaddress

from ipc.limits import PORT_MAX

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def parse_rule(text: str) -> tuple[Network, int | None]:
    """(network, port; None: all of them). IPv6 stands in brackets if a port follows: "[2001:db8::/32]:443".
    ValueError, one line."""
    cidr, port = text, None
    if text.startswith("["):
        cidr, _, rest = text[1:].partition("]")
        if not rest.startswith(":"):
            raise ValueError(f"{text}: not CIDR[:PORT]")
        port = rest[1:]
    elif text.count(":") == 1:
        cidr, _, port = text.partition(":")
    try:
        network = ipaddress.ip_network(cidr)
    except ValueError as error:
        raise ValueError(f"{text}: {error}") from None
    if port is None:
        return network, None
    if not (port.isascii() and port.isdigit() and len(port) <= len(str(PORT_MAX)) and 0 < int(port) <= PORT_MAX):
        raise ValueError(f"{text}: {port or 'nothing'} is no port")
    return network, int(port)
