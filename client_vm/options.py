"""What `farcall run` was asked for: its command line and the environment's defaults. Pure.

Written by hand, not with argparse: options end at the first word that is none, everything after it is the
guest's, and an error is one line.
"""

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NoReturn

from client_vm.errors import EXIT_FAILURE, StartError
from ipc.limits import PORT_MAX
from ipc.tls_files import VARIABLES, TlsFiles, TlsFilesError, chosen_files

if TYPE_CHECKING:
    from ipc.address import Address

TRANSPORTS: Final = ("ring", "grpc", "inproc")
SERVER_TIMEOUT_MS_MAX: Final = (1 << 32) - 1
"""StartGuest.server_timeout_ms: seven weeks."""
SEED_MAX: Final = (1 << 64) - 1

RUN_HELP: Final = """\
usage: farcall run [options] [--] PROG [ARG...]

Runs a Linux program for x86-64 or ARM64 whose files and memory are served by other processes. Options end at
the first word that is none. PROG is looked for in the guest's PATH; stdin, stdout and stderr are yours.

  --root DIR            the guest's /, never written to (default: /)
  --state DIR           keeps what the guest writes (default: nothing is kept)
  -e, --env K=V         sets a variable of the guest's environment, which is otherwise yours;
                        -e K takes it from your environment as it is
  -w, --workdir DIR     the guest's working directory (default: yours, or / if the guest has no such one)
  --file ADDR           a file server that runs already (default: $FARCALL_FILE, else one of its own)
  --memory ADDR         a memory server that runs already (default: $FARCALL_MEMORY, else one of its own)
  --network ADDR        a network server that runs already (default: $FARCALL_NETWORK, else one of its own)
  -p, --publish [ADDR:]HOSTPORT:GUESTPORT
                        connections to HOSTPORT of the network server's host (ADDR: its loopback, if not given)
                        go to the guest that listens at GUESTPORT
  --egress CIDR[:PORT]  lets guests reach that network beyond their own loopback (default: none)
  --transport HOW       ring: shared memory, for servers on this host (default for unix:PATH)
                        grpc: for any server (default for HOST:PORT)
                        inproc: hosts the servers in farcall's own process
  --tls-cert FILE, --tls-key FILE, --tls-ca FILE
                        credentials towards servers at HOST:PORT: a client's certificate, its key, and the
                        authority of the servers (default: $FARCALL_TLS_CERT, $FARCALL_TLS_KEY, $FARCALL_TLS_CA)
  --insecure            allows servers beyond this host, without credentials
  --seed N              the guest's randomness follows from N
  --server-timeout S    seconds to wait for a server that went away (default: for ever)
  --help                this text

ADDR is HOST:PORT or unix:PATH. Exit status: the guest's; 128+n if it died by signal n; 125 if farcall itself
failed, 126 if PROG is not executable, 127 if it was not found.
"""

_TAKES_VALUE: Final = {
    "--root", "--state", "--env", "--workdir", "--file", "--memory", "--network", "--transport",
    "--seed", "--server-timeout", "--publish", "--egress", *VARIABLES,
}  # fmt: skip
_FLAGS: Final = {"--insecure", "--help"}
_REPEATED: Final = ("--env", "--publish", "--egress")
_SHORT: Final = {"-e": "--env", "-p": "--publish", "-w": "--workdir", "-h": "--help"}
_DEFAULTS: Final = {"--file": "FARCALL_FILE", "--memory": "FARCALL_MEMORY", "--network": "FARCALL_NETWORK"}
"""Variables that stand in for an option that is not given; an empty one does not."""


class HelpWanted(Exception):
    """`--help` was among the options."""


@dataclass(frozen=True, slots=True)
class Published:
    """One -p: connections to this port of a host go to guests."""

    host: bytes
    """4 or 16 bytes; none: the loopback."""
    port: int
    """0: any that is free."""
    guest_port: int


@dataclass(frozen=True, slots=True)
class RunOptions:
    """A checked command line. Addresses are None where a server of the run's own is wanted."""

    program: bytes
    arguments: tuple[bytes, ...]
    """Including argv[0], which is PROG as given."""
    file: "Address | None" = None
    memory: "Address | None" = None
    network: "Address | None" = None
    publish: tuple[Published, ...] = ()
    egress: tuple[str, ...] = ()
    """CIDR[:PORT], checked where they are used."""
    tls: TlsFiles | None = None
    """Towards servers at HOST:PORT."""
    transport: str | None = None
    """One of TRANSPORTS, or None: as each address suggests."""
    root: str | None = None
    state: str | None = None
    environment: tuple[tuple[bytes, bytes | None], ...] = ()
    """(name, value), or (name, None) for the caller's own value, in order."""
    directory: bytes | None = None
    seed: int | None = None
    server_timeout_ms: int = 0
    """0: for ever."""


def parse_run(words: Sequence[str], environ: Mapping[str, str]) -> RunOptions:
    """The options of `farcall run WORDS...`. StartError (125), one line; HelpWanted."""
    given, repeated, rest = _split(words)
    sources = {name: name for name in given}
    for name, variable in _DEFAULTS.items():
        if name not in given and environ.get(variable):
            given[name], sources[name] = environ[variable], variable
    if not rest:
        fail("no program given")
    _check_conflicts(given, sources)
    tls = _tls(given, environ)
    trusted = tls is not None or "--insecure" in given
    return RunOptions(
        program=os.fsencode(rest[0]),
        arguments=tuple(map(os.fsencode, rest)),
        file=_address(given, sources, "--file", trusted),
        memory=_address(given, sources, "--memory", trusted),
        network=_address(given, sources, "--network", trusted),
        publish=tuple(map(_published, repeated["--publish"])),
        egress=tuple(map(_egress, repeated["--egress"])),
        tls=tls,
        transport=given.get("--transport"),
        root=_nonempty(given, "--root"),
        state=_nonempty(given, "--state"),
        environment=tuple(map(_variable, repeated["--env"])),
        directory=_directory(given),
        seed=_natural(given, "--seed", SEED_MAX),
        server_timeout_ms=_milliseconds(given, "--server-timeout"),
    )


def merge_environment(
    caller: Mapping[bytes, bytes], changes: Sequence[tuple[bytes, bytes | None]]
) -> list[bytes]:
    """The guest's environment as NAME=VALUE: the caller's, in its order, with -e's changes."""
    merged = dict(caller)
    for name, value in changes:
        if value is not None:
            merged[name] = value
    return [name + b"=" + value for name, value in merged.items()]


def fail(message: str) -> NoReturn:
    """Ends the parsing: wrong usage."""
    raise StartError(f"{message} (farcall run --help)", EXIT_FAILURE)


def _split(words: Sequence[str]) -> tuple[dict[str, str], dict[str, list[str]], list[str]]:
    """Options by long name (flags: ""; the last of several counts), the values of those that may be repeated, and
    what follows."""
    given: dict[str, str] = {}
    repeated: dict[str, list[str]] = {name: [] for name in _REPEATED}
    at = 0
    while at < len(words):
        word = words[at]
        if word == "--":
            return given, repeated, list(words[at + 1 :])
        if not word.startswith("-") or word == "-":
            break
        at += 1
        name, attached = _name_of(word)
        if name == "--help":
            raise HelpWanted
        if name in _FLAGS:
            if attached is not None:
                fail(f"{name} takes no value")
            given[name] = ""
            continue
        if name not in _TAKES_VALUE:
            fail(f"unknown option {word.partition('=')[0]}")
        if attached is None:
            if at == len(words):
                fail(f"{word} needs a value")
            attached = words[at]
            at += 1
        if name in repeated:
            repeated[name].append(attached)
        else:
            given[name] = attached
    return given, repeated, list(words[at:])


def _name_of(word: str) -> tuple[str, str | None]:
    """The option's long name and the value that stands in the same word: --name=VALUE or -nVALUE."""
    if word.startswith("--"):
        name, equals, value = word.partition("=")
        return name, value if equals else None
    name = _SHORT.get(word[:2], word)
    return name, word[2:] or None if name != word else None


def _check_conflicts(given: Mapping[str, str], sources: Mapping[str, str]) -> None:
    transport = given.get("--transport")
    if transport is not None and transport not in TRANSPORTS:
        fail(f"--transport {transport}: not one of {', '.join(TRANSPORTS)}")
    if "--file" in given:
        for name in ("--root", "--state"):
            if name in given:
                fail(f"{name} together with {sources['--file']}: that server has its own")
    if transport == "inproc":
        for name in _DEFAULTS:
            if name in given:
                fail(f"--transport inproc together with {sources[name]}: it hosts the servers itself")


def _tls(given: Mapping[str, str], environ: Mapping[str, str]) -> TlsFiles | None:
    try:
        files = chosen_files(given, environ)
    except TlsFilesError as error:
        fail(str(error))
    if files is not None and "--insecure" in given:
        source = next((name for name in VARIABLES if name in given), VARIABLES["--tls-cert"])
        fail(f"--insecure together with {source}: with credentials or without?")
    return files


def _address(given: Mapping[str, str], sources: Mapping[str, str], name: str, trusted: bool) -> "Address | None":
    if name not in given:
        return None
    from ipc.address import parse_address  # only when asked: it stands between the caller and the first fork

    try:
        address = parse_address(given[name])
    except ValueError as error:
        fail(f"{sources[name]} {error}")
    if given.get("--transport") == "ring" and not address.is_unix:
        fail(f"--transport ring with {sources[name]} {address}: rings need unix:PATH")
    if not (address.is_loopback or trusted):
        fail(
            f"{sources[name]} {address} is beyond this host: give --tls-cert, --tls-key and --tls-ca, "
            "or say --insecure if its network is to be trusted"
        )
    return address


def _nonempty(given: Mapping[str, str], name: str) -> str | None:
    if given.get(name) == "":
        fail(f"{name}: an empty path")
    return given.get(name)


def _variable(text: str) -> tuple[bytes, bytes | None]:
    name, equals, value = text.partition("=")
    if not name:
        fail(f"-e {text!r}: no variable's name")
    return os.fsencode(name), os.fsencode(value) if equals else None


def _published(text: str) -> Published:
    """[ADDR:]HOSTPORT:GUESTPORT, ADDR in brackets if it is IPv6."""
    rest, colon, guest = text.rpartition(":")
    address, _, port = rest.rpartition(":")
    host = b""
    if address:
        import ipaddress  # only when asked

        try:
            host = ipaddress.ip_address(address.removeprefix("[").removesuffix("]")).packed
        except ValueError:
            fail(f"-p {text!r}: {address} is no address")
    if not colon or not rest or (":" in rest and not address):
        fail(f"-p {text!r}: not [ADDR:]HOSTPORT:GUESTPORT")
    numbers = [_port(text, each) for each in (port, guest)]
    if not numbers[1]:
        fail(f"-p {text!r}: guests do not listen at port 0")
    return Published(host, *numbers)


def _port(text: str, digits: str) -> int:
    if not (digits.isascii() and digits.isdigit()) or len(digits) > 5 or int(digits) > PORT_MAX:
        fail(f"-p {text!r}: {digits} is no port")
    return int(digits)


def _egress(text: str) -> str:
    """As ipc.egress.parse_rule."""
    from ipc.egress import parse_rule  # only when asked

    try:
        parse_rule(text)
    except ValueError as error:
        fail(f"--egress {error}")
    return text


def _directory(given: Mapping[str, str]) -> bytes | None:
    directory = given.get("--workdir")
    if directory is not None and not directory.startswith("/"):
        fail(f"-w {directory!r}: not an absolute path")
    return None if directory is None else os.fsencode(directory)


def _natural(given: Mapping[str, str], name: str, largest: int) -> int | None:
    text = given.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit()) or len(text) > len(str(largest)) or int(text) > largest:
        fail(f"{name} {text!r}: not a number from 0 to {largest}")
    return int(text)


def _milliseconds(given: Mapping[str, str], name: str) -> int:
    text = given.get(name)
    if text is None:
        return 0
    try:
        milliseconds = float(text) * 1000
    except ValueError:
        milliseconds = math.nan
    if not 1 <= milliseconds <= SERVER_TIMEOUT_MS_MAX:
        fail(f"{name} {text!r}: not a number of seconds, of at least 0.001")
    return int(milliseconds)
