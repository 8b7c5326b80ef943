"""Finds the words for a connection that gRPC could not make: it keeps the reasons of failed handshakes to itself.

Meets the server once more, by Python's ssl, and looks closer. Nothing is decided here: no call goes this way, and
a server that passes still has to pass before gRPC.
"""

import socket
import ssl
from dataclasses import dataclass
from typing import Any, Final

from ipc.address import Address
from ipc.credentials import Credentials, Security, role_name, roles_in

PROBE_S: Final = 1.0
"""How long connecting, the handshake and the first answer may take, each."""
HTTP2: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
"""How a client begins: its preface and empty settings (RFC 9113). A server that likes us answers with its own."""


class ProbeError(Exception):
    """Why these two cannot talk, which will not change by trying again; the end of a line."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A server's certificate, which its authority stands behind."""

    names: tuple[str, ...]
    good_until: str
    """As TLS says it."""


def explain(address: Address, security: Security | None) -> str:
    """Why TLS fails at this address, or its absence; "" if that is not the reason, or nobody is there."""
    try:
        if security is None:
            _check_plain(address)
        else:
            seen = probe(address, security.credentials)
            if seen is not None:
                _check_names(seen, address, security.role)
    except ProbeError as error:
        return str(error)
    return ""


def probe(address: Address, credentials: Credentials) -> Seen | None:
    """The certificate of a server that takes ours; None if there is no answer at all. ProbeError."""
    context = _context()
    context.load_verify_locations(cadata=credentials.authority.decode("ascii", "replace"))
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(credentials.files.certificate, credentials.files.key)
    try:
        with _connect(address) as plain, context.wrap_socket(plain) as connection:
            found: Any = connection.getpeercert()
            if not _answers(connection):
                raise ProbeError(
                    f"it does not accept our certificate, {credentials.files.certificate}: "
                    "another authority's than its own, or expired by its clock"
                )
    except ssl.SSLCertVerificationError as error:
        raise ProbeError(_verification_text(error)) from None
    except (ssl.SSLError, ConnectionResetError) as error:
        raise ProbeError(f"it does not speak TLS ({_reason(error)})") from None
    except OSError:
        return None
    names = tuple(name for kind, name in found["subjectAltName"] if kind == "DNS")
    return Seen(names, found["notAfter"])


def _check_plain(address: Address) -> None:
    """ProbeError if somebody there speaks TLS."""
    try:
        with _connect(address) as plain, _context().wrap_socket(plain):
            pass
    except OSError:
        return
    raise ProbeError("it wants TLS: --tls-cert, --tls-key and --tls-ca")


def _check_names(seen: Seen, address: Address, role: str) -> None:
    if role_name(address.host, role) in seen.names:
        return
    roles = roles_in(seen.names)
    if role in roles:
        known = ", ".join(roles[role])
        raise ProbeError(f"its certificate is not for {address.host}; it names {known}")
    others = " and ".join(sorted(roles))
    found = f"has the role {others}" if others else "has no role of farcall's"
    raise ProbeError(f"its certificate {found}; a {role} server is wanted")


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # roles stand in names: _check_names
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    return context


def _connect(address: Address) -> socket.socket:
    connection = socket.create_connection((address.host, address.port), PROBE_S)
    connection.settimeout(PROBE_S)
    return connection


def _answers(connection: ssl.SSLSocket) -> bool:
    """Whether the server goes on once it has seen our certificate, which TLS 1.3 tells only afterwards."""
    try:
        connection.sendall(HTTP2)
        return bool(connection.recv(1))
    except TimeoutError:
        return True  # it is slow, but it has not hung up
    except OSError:
        return False


def _verification_text(error: ssl.SSLCertVerificationError) -> str:
    if error.verify_message == "certificate has expired":
        return "its certificate has expired"
    if "issuer certificate" in error.verify_message or "self-signed" in error.verify_message:
        return f"its certificate is of another authority than --tls-ca's ({error.verify_message})"
    return f"its certificate: {error.verify_message}"


def _reason(error: OSError) -> str:
    reason = getattr(error, "reason", None) or error.strerror or str(error)
    return str(reason).replace("_", " ").lower()
