"""`farcall certs DIR`: a private authority, and a certificate for each server and client.

    DIR/ca/tls.crt, tls.key            the authority; who has its key can make any certificate
    DIR/file/tls.crt, tls.key, ca.crt  what the file server needs; memory, network and each client likewise

A directory per role, so that each host or container is given its own and no other. Making them again keeps what
is good and adds what is missing. Keys and serial numbers are of OpenSSL's own randomness.
"""

import ipaddress
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from client_vm.errors import EXIT_FAILURE, StartError
from ipc.credentials import CLIENT, SERVERS, dns_names, role_name, validity_trouble
from ipc.seams import Clock

HELP: Final = """\
usage: farcall certs DIR [--host [ROLE=]HOST]... [--client NAME]... [--days N]

Makes a private authority in DIR/ca, and certificates for file, memory and network servers and for clients, each
in a directory of its own: tls.crt, tls.key, ca.crt. Run again, it keeps what is still good and adds the rest.

  --host HOST         a name or address of the servers, beside localhost, 127.0.0.1 and ::1
  --host ROLE=HOST    of the file, memory or network server alone
  --client NAME       a client's name (default: client); sessions of one are out of reach for another
  --days N            how long the certificates are good (default: 825); the authority is for ten years
"""
HOSTS: Final = ("localhost", "127.0.0.1", "::1")
DAYS: Final = 825
DAYS_MAX: Final = 36500
AUTHORITY_DAYS: Final = 3653
AUTHORITY: Final = "ca"
NAME_BYTES_MAX: Final = 200
"""Of a host or client; with its role, a DNS name has at most 253."""
CLOCKS_DIFFER: Final = timedelta(minutes=10)
"""Certificates are good from a little earlier on: hosts disagree about the time."""

_Key = ec.EllipticCurvePrivateKey


@dataclass(frozen=True, slots=True)
class Wanted:
    """One certificate: its directory's name, its role, and the hosts or the client it names."""

    directory: str
    role: str
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Order:
    """A command line, checked."""

    directory: Path
    hosts: dict[str, tuple[str, ...]]
    """Of each server's role."""
    clients: tuple[str, ...] = (CLIENT,)
    days: float = DAYS

    def wanted(self) -> list[Wanted]:
        """The certificates, servers' first."""
        servers = [Wanted(role, role, (*HOSTS, *self.hosts.get(role, ()))) for role in SERVERS]
        return servers + [Wanted(name, CLIENT, (name,)) for name in self.clients]


@dataclass(frozen=True, slots=True)
class _Authority:
    certificate: x509.Certificate
    key: _Key


def main(arguments: Sequence[str], clock: Clock) -> int:
    """Makes what is missing, and prints a line for each certificate; the exit status. StartError; OSError."""
    if "--help" in arguments or "-h" in arguments:
        print(HELP, end="")
        return 0
    for line in make(_parse(arguments), clock):
        print(line)
    return 0


def make(order: Order, clock: Clock) -> list[str]:
    """What was made and what was kept, a line each. StartError; OSError."""
    order.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    authority = _authority(order.directory / AUTHORITY, clock)
    return [_certificate(order, wanted, authority, clock) for wanted in order.wanted()]


def _fail(message: str) -> StartError:
    return StartError(f"certs: {message} (farcall certs --help)", EXIT_FAILURE)


def _parse(arguments: Sequence[str]) -> Order:
    directories: list[str] = []
    hosts: dict[str, tuple[str, ...]] = {}
    clients: list[str] = []
    days: float = DAYS
    words = list(arguments)
    while words:
        word = words.pop(0)
        if not word.startswith("-"):
            directories.append(word)
            continue
        option, equals, value = word.partition("=")
        if option not in ("--host", "--client", "--days"):
            raise _fail(f"unknown option {option}")
        if not equals:
            if not words:
                raise _fail(f"{option} needs a value")
            value = words.pop(0)
        if option == "--days":
            days = _days(value)
        elif option == "--client":
            clients.append(_name(option, value))
        else:
            roles, host = _host(value)
            hosts.update({role: (*hosts.get(role, ()), host) for role in roles})
    if len(directories) != 1 or not directories[0]:
        raise _fail("one directory is needed")
    return Order(Path(directories[0]), hosts, tuple(dict.fromkeys(clients)) or (CLIENT,), days)


def _host(value: str) -> tuple[tuple[str, ...], str]:
    role, equals, host = value.partition("=")
    if not equals:
        return SERVERS, _name("--host", role)
    if role not in SERVERS:
        raise _fail(f"--host {value}: no server has the role {role!r}")
    return (role,), _name("--host", host)


def _name(option: str, text: str) -> str:
    """A client's name or a host. Names become directories, and parts of DNS names."""
    with suppress(ValueError):
        if option == "--host":
            return str(ipaddress.ip_address(text))
    letters = text.replace(".", "").replace("-", "").replace("_", "")
    if not (letters.isascii() and letters.isalnum()) or text.startswith((".", "-")) or len(text) > NAME_BYTES_MAX:
        raise _fail(f"{option} {text!r}: not a name")
    if option == "--client" and text.lower() in (*SERVERS, AUTHORITY):
        raise _fail(f"{option} {text}: a directory of that name has another purpose")
    return text.lower()


def _days(text: str) -> float:
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= DAYS_MAX):
        raise _fail(f"--days {text!r}: not a number from 1 to {DAYS_MAX}")
    return int(text)


def _authority(directory: Path, clock: Clock) -> _Authority:
    """The one that is there, or a new one. StartError if it cannot be used."""
    if not (directory / "tls.crt").exists():
        key = ec.generate_private_key(ec.SECP256R1())
        name = _subject("farcall authority")
        builder = _builder(name, name, key, clock, AUTHORITY_DAYS)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        builder = builder.add_extension(_usage(authority=True), critical=True)
        certificate = builder.sign(key, hashes.SHA256())
        _write_pair(directory, certificate, key)
        return _Authority(certificate, key)
    pair = _read_pair(directory)
    if pair is None:
        raise StartError(f"{directory}: not a certificate and its key: make others elsewhere", EXIT_FAILURE)
    trouble = validity_trouble(pair.certificate, clock)
    if trouble:
        raise StartError(f"{directory}/tls.crt: {trouble}: begin another directory", EXIT_FAILURE)
    return pair


def _certificate(order: Order, wanted: Wanted, authority: _Authority, clock: Clock) -> str:
    """Keeps or makes one; the line for it."""
    directory = order.directory / wanted.directory
    old = _read_pair(directory)
    names = wanted.names
    if old is not None:
        if _is_good(old, order, wanted, authority, clock):
            _write(directory / "ca.crt", authority.certificate.public_bytes(Encoding.PEM), 0o644)
            return _line("kept", directory, old.certificate)
        names = tuple(dict.fromkeys((*names, *_plain_names(old.certificate, wanted.role))))
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = _sign(names, wanted.role, key, authority, clock, order.days)
    _write(directory / "ca.crt", authority.certificate.public_bytes(Encoding.PEM), 0o644)
    _write_pair(directory, certificate, key)
    return _line("made", directory, certificate)


def _is_good(old: _Authority, order: Order, wanted: Wanted, authority: _Authority, clock: Clock) -> bool:
    """Whether it is ours, names all that is wanted, and has a third of its time left at least."""
    try:
        old.certificate.verify_directly_issued_by(authority.certificate)
    except (ValueError, TypeError, InvalidSignature):
        return False
    names = {role_name(name, wanted.role) for name in wanted.names}
    left = old.certificate.not_valid_after_utc - _now(clock)
    return names <= set(dns_names(old.certificate)) and left >= timedelta(days=order.days) / 3


def _plain_names(certificate: x509.Certificate, role: str) -> list[str]:
    """The hosts that a server's certificate names beside their roles; none of a client's."""
    if role == CLIENT:
        return []
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    roled = tuple(f".{each}.farcall" for each in SERVERS)
    hosts = [name for name in names.get_values_for_type(x509.DNSName) if not name.endswith(roled)]
    return hosts + [str(address) for address in names.get_values_for_type(x509.IPAddress)]


def _sign(
    names: Sequence[str], role: str, key: _Key, authority: _Authority, clock: Clock, days: float
) -> x509.Certificate:
    issuer = authority.certificate
    days = min(days, (issuer.not_valid_after_utc - _now(clock)) / timedelta(days=1))
    subject = _subject(f"farcall {role} {names[0]}" if role == CLIENT else f"farcall {role} server")
    builder = _builder(subject, issuer.subject, key, clock, days)
    # A server asks its own health with its own certificate, as a client does; a client never serves.
    usages = [ExtendedKeyUsageOID.CLIENT_AUTH, *([ExtendedKeyUsageOID.SERVER_AUTH] if role != CLIENT else [])]
    general: list[x509.GeneralName] = [] if role == CLIENT else [_general(name) for name in names]
    general += [x509.DNSName(role_name(name, role)) for name in names]
    return (
        builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(authority=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .add_extension(x509.SubjectAlternativeName(general), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()), critical=False
        )
        .sign(authority.key, hashes.SHA256())
    )


def _general(host: str) -> x509.GeneralName:
    """The host as every other program looks for it."""
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: _Key, clock: Clock, days: float
) -> x509.CertificateBuilder:
    now = _now(clock)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCKS_DIFFER)
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _subject(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text[:64])])  # X.520's bound


def _now(clock: Clock) -> datetime:
    return datetime.fromtimestamp(clock.realtime_ns() / 1e9, UTC)


def _line(what: str, directory: Path, certificate: x509.Certificate) -> str:
    return f"{what} {directory}, good until {certificate.not_valid_after_utc:%Y-%m-%d}"


def _read_pair(directory: Path) -> _Authority | None:
    """A certificate and its key; None if there are none that belong together."""
    try:
        certificate = x509.load_pem_x509_certificate((directory / "tls.crt").read_bytes())
        key = load_pem_private_key((directory / "tls.key").read_bytes(), None)
    except (FileNotFoundError, ValueError, TypeError):
        return None
    if not isinstance(key, _Key) or key.public_key() != certificate.public_key():
        return None
    return _Authority(certificate, key)


def _write_pair(directory: Path, certificate: x509.Certificate, key: _Key) -> None:
    text = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    _write(directory / "tls.key", text, 0o600)
    # Last: where it is missing, or belongs to another key, both are made again.
    _write(directory / "tls.crt", certificate.public_bytes(Encoding.PEM), 0o644)


def _write(path: Path, text: bytes, mode: int) -> None:
    """Puts a file in its place as a whole, of that mode from its beginning."""
    path.parent.mkdir(mode=0o700, exist_ok=True)
    new = path.with_suffix(".new")
    with suppress(FileNotFoundError):
        new.unlink()
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(new, path)
