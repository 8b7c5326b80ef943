"""Who may talk to whom by TLS: certificates read from files, and the roles that their names give.

A role stands in a certificate's DNS names: `HOST.ROLE.farcall` for a server at HOST (an address has "-" for
each "." and ":"), `NAME.client.farcall` for a client, whose NAME is the principal of its sessions. So the one
name that gRPC compares on a connection says both, which server it is and of which kind: neither a memory server's
certificate nor another host's will do where a file server's is wanted. `farcall certs` makes such certificates.
"""

import ipaddress
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from ipc.seams import Clock
from ipc.tls_files import TlsFiles

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

CLIENT: Final = "client"
SERVERS: Final = ("file", "memory", "network")
ROLES: Final = (*SERVERS, CLIENT)
DOMAIN: Final = "farcall"
PEM_BYTES_MAX: Final = 1 << 20
"""Of each file: certificates, a key, the authority's certificates."""


class CredentialsError(Exception):
    """These files are no credentials for this role; one line."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """Checked credentials, PEM, and the files they were read from."""

    certificate: bytes
    key: bytes
    authority: bytes
    files: TlsFiles


@dataclass(frozen=True, slots=True)
class Security:
    """Towards a server: our credentials, and the role that it must have."""

    credentials: Credentials
    role: str


def role_name(host: str, role: str) -> str:
    """The DNS name of a server of that role at that host, or of a client of that name."""
    with suppress(ValueError):  # a name stays as it is
        host = ipaddress.ip_address(host).exploded.replace(".", "-").replace(":", "-")
    return f"{host.lower()}.{role}.{DOMAIN}"


def roles_in(names: Iterable[str]) -> dict[str, list[str]]:
    """The hosts or names for which DNS names give a role, by role."""
    found: dict[str, list[str]] = {}
    for name in names:
        host, _, role = name.removesuffix(f".{DOMAIN}").rpartition(".")
        if name.endswith(f".{DOMAIN}") and host and role in ROLES:
            found.setdefault(role, []).append(host)
    return found


def principal_of(names: Iterable[str]) -> str:
    """Who a client is, by the DNS names of its certificate; "" if it is none, or two."""
    clients = roles_in(names).get(CLIENT, [])
    return f"{CLIENT}:{clients[0]}" if len(clients) == 1 else ""


def load(files: TlsFiles, role: str, clock: Clock) -> Credentials:
    """Reads and checks credentials for that role; "": for any. CredentialsError, naming the file.

    What a peer would find wrong is found here first, where it can be said.
    """
    from cryptography import x509  # 40 ms that only TLS is worth

    credentials = Credentials(
        _read("--tls-cert", files.certificate),
        _read("--tls-key", files.key),
        _read("--tls-ca", files.authority),
        files,
    )
    try:
        certificate = x509.load_pem_x509_certificates(credentials.certificate)[0]
    except ValueError:
        raise CredentialsError(f"--tls-cert {files.certificate}: not a PEM certificate") from None
    try:
        authorities = x509.load_pem_x509_certificates(credentials.authority)
    except ValueError:
        raise CredentialsError(f"--tls-ca {files.authority}: not a PEM certificate") from None
    _check_key(credentials, certificate)
    what = f"--tls-cert {files.certificate}: "
    trouble = validity_trouble(certificate, clock) or _issuer_trouble(credentials, authorities)
    if trouble:
        raise CredentialsError(what + trouble)
    wrong = role_trouble(dns_names(certificate), role)
    if wrong:
        raise CredentialsError(what + wrong)
    return credentials


def dns_names(certificate: "Certificate") -> list[str]:
    """The DNS names of a certificate."""
    from cryptography import x509

    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return names.get_values_for_type(x509.DNSName)


def validity_trouble(certificate: "Certificate", clock: Clock) -> str:
    """Why a certificate is not valid now; "" if it is."""
    now = datetime.fromtimestamp(clock.realtime_ns() / 1e9, UTC)
    if now > certificate.not_valid_after_utc:
        return f"expired on {certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC"
    if now < certificate.not_valid_before_utc:
        return f"not valid before {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC"
    return ""


def role_trouble(names: Iterable[str], role: str) -> str:
    """Why a certificate with these names does not give that role; "" if it does."""
    found = roles_in(names)
    if role not in found and (role or not found):
        others = " and ".join(sorted(found))
        return f"it has the role {others}, not {role}" if others else "it has no role of farcall's"
    if len(found.get(CLIENT, ())) > 1:
        return f"it names {len(found[CLIENT])} clients"
    return ""


def _read(option: str, path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            text = file.read(PEM_BYTES_MAX + 1)
    except (OSError, ValueError) as error:
        raise CredentialsError(f"{option} {path}: {getattr(error, 'strerror', None) or error}") from None
    if len(text) > PEM_BYTES_MAX:
        raise CredentialsError(f"{option} {path}: longer than {PEM_BYTES_MAX} bytes")
    return text


def _check_key(credentials: Credentials, certificate: "Certificate") -> None:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    files = credentials.files
    try:
        key = load_pem_private_key(credentials.key, None)
    except TypeError:
        raise CredentialsError(f"--tls-key {files.key}: it needs a password; farcall asks for none") from None
    except (ValueError, UnsupportedAlgorithm):
        raise CredentialsError(f"--tls-key {files.key}: not a PEM private key") from None
    if key.public_key() != certificate.public_key():
        raise CredentialsError(f"--tls-key {files.key}: not the key of {files.certificate}")


def _issuer_trouble(credentials: Credentials, authorities: "list[Certificate]") -> str:
    """Why the authority does not stand behind the chain in the certificate's file; "" if it does."""
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature

    def issued(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
        try:
            certificate.verify_directly_issued_by(issuer)
        except (ValueError, TypeError, InvalidSignature):
            return False
        return True

    chain = x509.load_pem_x509_certificates(credentials.certificate)
    for certificate in chain:
        if any(issued(certificate, authority) for authority in authorities):
            return ""
    return f"not issued by {credentials.files.authority}"
