"""`farcall doctor [ADDR]`: what this host must have to run guests, and whether a server answers; a line each.

A line begins with "ok", with "note" if guests run all the same, or with "FAIL". Exit status 1 after a FAIL.
"""

import fcntl
import os
import platform
import socket
import sys
import tempfile
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from client_vm.errors import EXIT_FAILURE, StartError
from ipc.address import UNIX_PREFIX, Address, parse_address
from ipc.tls_files import VARIABLES, TlsFiles, TlsFilesError, chosen_files

if TYPE_CHECKING:
    from ipc.credentials import Credentials

HELP: Final = """\
usage: farcall doctor [--tls-cert FILE --tls-key FILE --tls-ca FILE] [ADDR]

Checks that this host can run guests and, with ADDR, that a server answers there: HOST:PORT or unix:PATH. A
line per check; exit status 1 if one of them failed.

  --tls-cert FILE, --tls-key FILE, --tls-ca FILE
                   credentials towards HOST:PORT, of any role: a server may ask for its own health
                   (default: $FARCALL_TLS_CERT, $FARCALL_TLS_KEY, $FARCALL_TLS_CA)
"""
PYTHON_MIN: Final = (3, 11)
_CODE_ADDRESS: Final = 0x10000
_GETPID: Final = {
    # mov eax, 39; syscall
    "x86_64": (bytes.fromhex("b8270000000f05"), 39),
    # mov x8, 172; svc 0
    "arm64": (bytes.fromhex("881580d2010000d4"), 172),
}
"""A guest of two instructions for each architecture, and the number its trap brings."""


class _FailedError(Exception):
    """A check failed; one line."""


class _Note(Exception):
    """Worth knowing; guests run all the same."""


def main(arguments: list[str]) -> int:
    """Prints the report; the exit status. StartError on wrong usage."""
    if arguments in (["--help"], ["-h"]):
        print(HELP, end="")
        return 0
    text, tls = _parse(arguments)
    checks: list[tuple[str, Callable[[], str]]] = [
        ("python", _python),
        ("processor", _processor),
        ("unicorn, x86_64", lambda: _trap("x86_64")),
        ("unicorn, arm64", lambda: _trap("arm64")),
        ("sealed memory", _sealed_memory),
        ("pidfd", _pidfd),
        ("temporary directory", _temporary_directory),
        ("CPUs", _cpus),
    ]
    if text is not None and tls is not None and not text.startswith(UNIX_PREFIX):
        checks += [(f"TLS at {text}", lambda: _tls(_address(text), tls))]
    if text is not None:
        checks += [(f"server at {text}", lambda: _server(_address(text), tls))]
    passed = [_report(name, check) for name, check in checks]
    return 0 if all(passed) else 1


def _parse(arguments: list[str]) -> tuple[str | None, TlsFiles | None]:
    """The address, if there is one, and credentials towards it. StartError."""
    words, given = list(arguments), dict[str, str | None]()
    addresses = []
    try:
        while words:
            name, equals, value = words.pop(0).partition("=")
            if name in VARIABLES:
                given[name] = value if equals else words.pop(0)
            elif name.startswith("-"):
                raise ValueError(f"unknown option {name}")
            else:
                addresses.append(name + equals + value)
        if len(addresses) > 1:
            raise ValueError("one address at most")
        return (addresses[0] if addresses else None), chosen_files(given, os.environ)
    except IndexError:
        raise StartError(f"doctor: {name} needs a value (farcall doctor --help)", EXIT_FAILURE) from None
    except (ValueError, TlsFilesError) as error:
        raise StartError(f"doctor: {error} (farcall doctor --help)", EXIT_FAILURE) from None


def _report(name: str, check: Callable[[], str]) -> bool:
    """Prints one check's line; False if it failed."""
    try:
        mark, text = "ok", check()
    except _Note as note:
        mark, text = "note", str(note)
    except (_FailedError, OSError, ImportError) as error:
        mark, text = "FAIL", " ".join(str(error).split())
    print(f"{mark:5} {name}: {text}", flush=True)
    return mark != "FAIL"


def _python() -> str:
    text = platform.python_version()
    if sys.version_info < PYTHON_MIN:
        raise _FailedError(f"{text}; {PYTHON_MIN[0]}.{PYTHON_MIN[1]} or newer is needed")
    return text


def _processor() -> str:
    machine = platform.machine()
    if machine != "x86_64":
        raise _FailedError(f"{machine}; the native stubs of traps are written for x86_64")
    return machine


def _trap(name: str) -> str:
    """Runs a guest of two instructions up to its trap."""
    from client_vm.architecture import ARCHITECTURES
    from client_vm.arena import PAGE_BYTES, Arena
    from client_vm.cpu import EXECUTE, READ, Cpu, CpuError
    from client_vm.stubs import CAUSE_TRAP

    architecture = next(each for each in ARCHITECTURES if each.name == name)
    code, number = _GETPID[name]
    arena = Arena(1 << 20)
    page = arena.take(PAGE_BYTES)
    arena.bytes[page : page + len(code)] = code

    def translate(address: int, access: int) -> tuple[int, int] | None:
        wanted = address == _CODE_ADDRESS and access != 0
        return (page, READ | EXECUTE) if wanted else None

    try:
        cpu = Cpu(architecture, arena.address, arena.size_bytes, translate)
        cpu.pc = _CODE_ADDRESS
        trapped = cpu.run() == CAUSE_TRAP and cpu.values[0] == number
        cpu.close()
    except (CpuError, RuntimeError) as error:
        raise _FailedError(str(error)) from None
    finally:
        arena.close()
    if not trapped:
        raise _FailedError("a guest's system call did not trap")
    return "runs, and traps"


def _sealed_memory() -> str:
    memfd = os.memfd_create("farcall-doctor", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(memfd, 4096)
        fcntl.fcntl(memfd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
        try:
            os.ftruncate(memfd, 0)
        except PermissionError:
            return "memfd_create and its seals work"
        raise _FailedError("a sealed memfd can be shrunk")
    finally:
        os.close(memfd)


def _pidfd() -> str:
    os.close(os.pidfd_open(os.getpid()))
    return "pidfd_open works"


def _temporary_directory() -> str:
    with tempfile.TemporaryDirectory(prefix="farcall-") as directory:
        path = f"{directory}/file.socket.ring"
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
            listener.bind(path)
        return f"{os.path.dirname(directory)} takes directories and sockets"


def _cpus() -> str:
    count = len(os.sched_getaffinity(0))
    if count < 2:
        raise _Note("1; calls to servers are slower, as nobody spins while waiting")
    return str(count)


def _address(text: str) -> Address:
    try:
        return parse_address(text)
    except ValueError as error:
        raise _FailedError(str(error)) from None


def _tls(address: Address, files: TlsFiles) -> str:
    role, good_until = _role(address, _credentials(files))
    return f"a {role} server, its certificate good until {good_until}"


def _credentials(files: TlsFiles) -> "Credentials":
    from ipc.credentials import CredentialsError, load
    from ipc.seams import HostClock

    try:
        return load(files, "", HostClock())
    except CredentialsError as error:
        raise _FailedError(str(error)) from None


def _role(address: Address, credentials: "Credentials") -> tuple[str, str]:
    """Which server is there, and until when its certificate is good."""
    from ipc.credentials import SERVERS, role_name
    from ipc.tls_probe import ProbeError, probe

    try:
        seen = probe(address, credentials)
    except ProbeError as error:
        raise _FailedError(str(error)) from None
    if seen is None:
        raise _FailedError("nobody answers")
    for role in SERVERS:
        if role_name(address.host, role) in seen.names:
            return role, seen.good_until
    raise _FailedError(f"its certificate gives no server's role at {address.host}")


def _server(address: Address, files: TlsFiles | None) -> str:
    from ipc.credentials import Security
    from ipc.greeting import ConnectError

    security = None
    if files is not None and not address.is_unix:
        credentials = _credentials(files)
        security = Security(credentials, _role(address, credentials)[0])
    answers = []
    if address.is_unix and os.path.lexists(address.ring_path):
        answers.append(_ring(address.ring_path))
        if not os.path.lexists(address.path):
            return f"{answers[0]}; no gRPC there"
    from ipc.grpc_channel import check_health

    try:
        health = check_health(address, security=security)
    except ConnectError as error:
        raise _FailedError(str(error)) from None
    if health != "SERVING":
        raise _FailedError(f"its health is {health}")
    return "; ".join([*answers, "gRPC: SERVING"])


def _ring(path: str) -> str:
    """Says a Hello that asks for no kind of server: refused by each, which shows that it is there."""
    import trio

    from farcall.v1.session_pb2 import HelloRequest
    from ipc.limits import PROTOCOL_MAX, PROTOCOL_MIN
    from ipc.message import MalformedError
    from ipc.ring_client import RingUnavailableError, open_ring

    ours, theirs = socket.socketpair(socket.AF_UNIX)
    request = HelloRequest(protocol_min=PROTOCOL_MIN, protocol_max=PROTOCOL_MAX)
    try:
        with ours, theirs:
            opened = trio.run(open_ring, path, request, theirs)
    except (RingUnavailableError, MalformedError) as error:
        raise _FailedError(str(error)) from None
    opened.close()
    response = opened.response
    if not response.protocol:
        spoken = f"{response.protocol_min} to {response.protocol_max}"
        raise _FailedError(f"it speaks protocol {spoken}, this program {PROTOCOL_MIN} to {PROTOCOL_MAX}")
    return f"ring: speaks protocol {response.protocol}"
