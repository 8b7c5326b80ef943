"""Addresses of inet sockets, as bytes: what both sides of the network server know of them. Pure.

An IPv4 address within an IPv6 one (::ffff:0:0/96, RFC 4291) is the IPv4 address, before anything is decided.
"""

from typing import Final

IPV4_BYTES: Final = 4
IPV6_BYTES: Final = 16
_MAPPED: Final = bytes(10) + b"\xff\xff"

ANY4: Final = bytes(IPV4_BYTES)
ANY6: Final = bytes(IPV6_BYTES)
LOOPBACK4: Final = bytes((127, 0, 0, 1))
LOOPBACK6: Final = bytes(15) + b"\x01"


def plain(host: bytes) -> bytes:
    """The address that is meant: IPv4, if it is mapped into IPv6."""
    return host[12:] if len(host) == IPV6_BYTES and host.startswith(_MAPPED) else host


def mapped(host: bytes) -> bytes:
    """The address as an IPv6 socket tells it (ipv6(7))."""
    return _MAPPED + host if len(host) == IPV4_BYTES else host


def is_any(host: bytes) -> bool:
    return host in (ANY4, ANY6)


def is_loopback(host: bytes) -> bool:
    """Within the guests' own loopback: 127/8 and ::1. The unspecified address, as a destination, is it, too."""
    if len(host) == IPV4_BYTES:
        return host[0] == 127 or host == ANY4
    return host in (LOOPBACK6, ANY6)


def loopback_of(host: bytes) -> bytes:
    """A destination within the loopback; the unspecified address means this host (RFC 1122, 3.2.1.3)."""
    if host == ANY4:
        return LOOPBACK4
    return LOOPBACK6 if host == ANY6 else host
