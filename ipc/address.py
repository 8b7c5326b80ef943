"""Where a server listens: HOST:PORT, or unix:PATH. Nothing is looked up or opened here."""

import ipaddress
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from ipc.limits import PORT_MAX, SOCKET_PATH_BYTES_MAX

UNIX_PREFIX: Final = "unix:"
RING_SUFFIX: Final = ".ring"


@dataclass(frozen=True, slots=True)
class Address:
    """A parsed ADDR: either `path`, or `host` (without brackets) and `port`."""

    path: str = ""
    host: str = ""
    port: int = 0

    @property
    def is_unix(self) -> bool:
        return bool(self.path)

    @property
    def is_loopback(self) -> bool:
        """Whether only this host can connect. A name counts only if it is "localhost": others may change."""
        if self.is_unix or self.host.lower() == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def ring_path(self) -> str:
        """The socket beside `path` that takes the Hello of rings. ValueError for HOST:PORT."""
        if not self.is_unix:
            raise ValueError(f"{self}: rings need unix:PATH")
        return self.path + RING_SUFFIX

    @property
    def target(self) -> str:
        """As gRPC names it: a URI (gRPC's naming.md), so a path's %, ? and # are escaped."""
        return UNIX_PREFIX + quote(self.path) if self.is_unix else str(self)

    def __str__(self) -> str:
        if self.is_unix:
            return UNIX_PREFIX + self.path
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(text: str, *, listening: bool = False) -> Address:
    """The address that `text` names. `listening` allows port 0: any free one.

    ValueError, one line, naming the text and what is wrong with it.
    """
    if text.startswith(UNIX_PREFIX):
        return _unix(text)
    host, colon, digits = text.rpartition(":")
    if not colon:
        raise ValueError(f"{text!r}: not an address; HOST:PORT or unix:PATH")
    if not (digits.isascii() and digits.isdigit()):
        raise ValueError(f"{text!r}: the port is not a number")
    port = int(digits) if len(digits) <= len(str(PORT_MAX)) else PORT_MAX + 1
    lowest = 0 if listening else 1
    if not lowest <= port <= PORT_MAX:
        raise ValueError(f"{text!r}: the port is not between {lowest} and {PORT_MAX}")
    return Address(host=_host(text, host), port=port)


def _unix(text: str) -> Address:
    path = text.removeprefix(UNIX_PREFIX)
    if not path:
        raise ValueError(f"{text!r}: no path after unix:")
    if "\0" in path:
        raise ValueError(f"{text!r}: a path cannot hold a NUL")
    size_bytes = len(path.encode("utf-8", "surrogateescape"))
    if size_bytes > SOCKET_PATH_BYTES_MAX:
        raise ValueError(
            f"{text!r}: a path of {size_bytes} bytes; a socket's has at most {SOCKET_PATH_BYTES_MAX}"
        )
    return Address(path=path)


def _host(text: str, host: str) -> str:
    if host.startswith("[") and host.endswith("]"):
        try:
            return str(ipaddress.IPv6Address(host[1:-1]))
        except ValueError:
            raise ValueError(f"{text!r}: not an IPv6 address between the brackets") from None
    if not host:
        raise ValueError(f"{text!r}: no host before the port")
    if ":" in host:
        raise ValueError(f"{text!r}: an IPv6 address needs brackets: [ADDRESS]:PORT")
    # A URI's own characters would make gRPC read another scheme or host into it.
    if not all(c.isalnum() or c in "-._" for c in host):
        raise ValueError(f"{text!r}: not a host name")
    return host
