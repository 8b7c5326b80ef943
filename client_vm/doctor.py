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
from typing import Final

from client_vm.errors import EXIT_FAILURE, StartError

HELP: Final = """\
usage: farcall doctor [ADDR]

Checks that this host can run guests and, with ADDR, that a server answers there: HOST:PORT or unix:PATH. A
line per check; exit status 1 if one of them failed.
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
    if len(arguments) > 1 or (arguments and arguments[0].startswith("-")):
        raise StartError("doctor takes one address at most (farcall doctor --help)", EXIT_FAILURE)
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
    if arguments:
        checks.append((f"server at {arguments[0]}", lambda: _server(arguments[0])))
    passed = [_report(name, check) for name, check in checks]
    return 0 if all(passed) else 1


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


def _server(text: str) -> str:
    from ipc.address import parse_address
    from ipc.greeting import ConnectError

    try:
        address = parse_address(text)
    except ValueError as error:
        raise _FailedError(str(error)) from None
    answers = []
    if address.is_unix and os.path.lexists(address.ring_path):
        answers.append(_ring(address.ring_path))
        if not os.path.lexists(address.path):
            return f"{answers[0]}; no gRPC there"
    from ipc.grpc_client import check_health

    try:
        health = check_health(address)
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
