"""Clock, randomness, network, disk and process start are passed in (DESIGN.md section 12).

Each list names the modules that touch the world themselves, and why. A module that no longer does leaves the
list.
"""

import ast

import pytest

from tests.style.source import Module, product

CLOCK = {
    "client_vm/certificates.py": "dates of certificates, reckoned from the Clock it is given",
    "ipc/credentials.py": "dates of certificates, compared with the Clock it is given",
    "ipc/seams.py": "the host's clocks behind the Clock protocol",
    "client_vm/worker.py": "the worker's own edge: hands its parts the host's sleep and processor time",
}
RANDOMNESS = {"ipc/seams.py": "the host's getrandom(2) behind the Random protocol"}
SOCKETS = {
    "client_vm/control.py": "messages with descriptors between kernel process and worker",
    "client_vm/doctor.py": "asks the host whether sockets work as we need",
    "client_vm/inet_sockets.py": "near ends of the guest's inet sockets",
    "client_vm/launch.py": "the worker's control socket and doorbell, made before it is forked",
    "client_vm/lines.py": "the ring handshake of lines that end in the kernel process",
    "client_vm/network_relay.py": "both ends of guests' sockets whose server is on another host",
    "client_vm/publishing.py": "the doorbell of the kernel process's own session",
    "client_vm/rings.py": "doorbell and control sockets that came with a grant",
    "client_vm/spares.py": "a spare's control socket and doorbell",
    "client_vm/sockets.py": "the ends of host's pairs that the guest's sockets are",
    "client_vm/unix_broker.py": "far ends of unix sockets that are not connected",
    "client_vm/unix_sockets.py": "the guest's unix sockets, which are near ends of the host's pairs",
    "client_vm/worker.py": "the ends it was forked with; the host's name",
    "client_vm/worker_link.py": "the kernel process's ends of a worker's control socket and doorbell",
    "ipc/beside_grpc.py": "one call, one connection: descriptors that gRPC cannot carry",
    "ipc/passing.py": "datagrams with descriptors, for all who pass them",
    "ipc/rendezvous.py": "pairs of sockets by which guests meet",
    "ipc/ring_client.py": "the control socket of a ring's handshake and its doorbell",
    "ipc/ring_server.py": "the listening control socket of rings and the doorbells",
    "ipc/served_ring.py": "a ring's control socket and doorbell",
    "ipc/tls_probe.py": "one connection more, when gRPC could not make one, to say why",
    "servers/network/datagrams.py": "sends to guests' near ends",
    "servers/network/held.py": "near ends that this server holds",
    "servers/network/outside.py": "hosts beyond the guests' loopback, and published ports",
    "servers/network/publishing.py": "listening sockets of published ports",
    "servers/network/service.py": "hands near ends on",
    "servers/network/sockets.py": "the far ends of guests' sockets",
}
FILES = {
    "client_vm/abi/generate.py": "a developer's tool: reads kernel headers, writes tables",
    "client_vm/bench.py": "reads the shipped guest program, writes the figures asked for",
    "client_vm/bench_servers.py": "a folder for keys that end with the servers",
    "client_vm/certificates.py": "writes certificates and keys into the directory asked for",
    "client_vm/command.py": "/dev/null in place of a closed stdout",
    "client_vm/doctor.py": "asks the host whether sockets have room in the temporary directory",
    "client_vm/host.py": "/proc/self/environ, which Python changes in os.environ",
    "client_vm/launch.py": "the run's own directory; /dev/null for closed standard descriptors",
    "client_vm/ptys.py": "pseudo-terminals of the host, which are the guest's",
    "client_vm/worker.py": "the controlling terminal, opened before the guest starts",
    "client_vm/workers.py": "its own children in /proc, which is where those nobody has told of can be seen",
    "ipc/credentials.py": "reads certificates and keys",
    "ipc/ring_server.py": "makes and removes the control socket's path",
    "servers/file/extents.py": "large data in files of the state directory",
    "servers/file/lower.py": "the read-only layer beneath its root",
    "servers/file/store.py": "flushes the state directory and the write-ahead log",
    "servers/memfd.py": "a memfd's second descriptor, for reading only",
    "servers/process.py": "makes and removes private and temporary directories",
    "servers/steps.py": "lists the crash points by reading the servers' own source",
}
PROCESSES = {
    "client_vm/abi/generate.py": "a developer's tool: asks the compiler about kernel headers",
    "client_vm/bench.py": "the runs it measures",
    "client_vm/bench_servers.py": "the servers of these runs",
    "client_vm/command.py": "`farcall serve` becomes the server",
    "client_vm/launch.py": "forks the worker, starts the local servers",
}

MODULES = {
    "clock": ("time", "datetime"),
    "randomness": ("random", "secrets", "uuid"),
    "sockets": ("socket", "socketserver", "ssl"),
    "files": ("tempfile", "shutil", "glob"),
    "processes": ("subprocess", "multiprocessing"),
}
"""Importing them at all is a use."""

OS_CALLS = {
    "clock": {"times"},
    "randomness": {"urandom", "getrandom"},
    "sockets": set[str](),
    "files": {
        "open", "fdopen", "mkdir", "makedirs", "rmdir", "removedirs", "remove", "unlink", "rename", "replace",
        "link", "symlink", "truncate", "listdir", "scandir", "walk", "mkfifo", "mknod",
    },
    "processes": {
        "fork", "forkpty", "posix_spawn", "posix_spawnp", "system", "popen",
        "execv", "execve", "execvp", "execvpe", "execl", "execle", "execlp",
    },
}  # fmt: skip
"""Of module os."""

PATH_METHODS = {"read_text", "read_bytes", "write_text", "write_bytes"}
"""Of pathlib, and a module's own method named `open` is none of our business."""
TRIO_CALLS = {
    "sockets": {"open_tcp_stream", "open_unix_socket", "serve_tcp", "open_tcp_listeners"},
    "files": {"open_file", "Path"},
    "processes": {"run_process"},
}

LISTS = {
    "clock": CLOCK,
    "randomness": RANDOMNESS,
    "sockets": SOCKETS,
    "files": FILES,
    "processes": PROCESSES,
}


def _called(node: ast.Call) -> tuple[str, str]:
    """(object, name) of a call `object.name(...)`; the object is "" for a bare name, "?" if unnamed."""
    function = node.func
    if isinstance(function, ast.Name):
        return "", function.id
    if isinstance(function, ast.Attribute):
        return (function.value.id if isinstance(function.value, ast.Name) else "?"), function.attr
    return "?", "?"


def uses(module: Module, seam: str) -> list[str]:
    """The places where a module reaches through the seam itself."""
    found = [place for name in MODULES[seam] for place in module.imports_of(name)]
    found += [place for name in OS_CALLS[seam] for place in module.imports_of(f"os.{name}")]
    found += [place for place in module.imports_of("trio.socket") if seam == "sockets"]
    for node in ast.walk(module.tree):
        if not isinstance(node, ast.Call):
            continue
        owner, name = _called(node)
        if (
            (owner == "os" and name in OS_CALLS[seam])
            or (owner == "trio" and name in TRIO_CALLS.get(seam, ()))
            or (owner == "trio" and name == "SocketStream" and seam == "sockets")
            or (seam == "files" and ((owner, name) in {("", "open"), ("io", "open")} or name in PATH_METHODS))
        ):
            found.append(f"{module.path}:{node.lineno}")
    return found


@pytest.mark.parametrize("seam", LISTS)
def test_world_is_touched_at_named_edges_only(seam: str) -> None:
    used = {module.path: places for module in product() if (places := uses(module, seam))}
    wrong = [place for path, places in used.items() if path not in LISTS[seam] for place in places]
    assert wrong == [], f"{seam}: pass it in (ipc.seams), or name the module and its reason here"
    assert sorted(LISTS[seam].keys() - used.keys()) == [], f"{seam}: no longer used there"
    assert all(LISTS[seam].values())


@pytest.mark.parametrize(
    ("seam", "text"),
    [
        ("clock", "import time"),
        ("clock", "from time import monotonic"),
        ("clock", "import datetime"),
        ("randomness", "def f():\n    import secrets"),
        ("randomness", "import os\nos.urandom(3)"),
        ("randomness", "from os import urandom"),
        ("sockets", "from socket import socket"),
        ("sockets", "import trio\ntrio.socket.socket()\nimport trio.socket"),
        ("files", "open('x')"),
        ("files", "import os\nos.open('x', 0)"),
        ("files", "p.read_text()"),
        ("files", "Path('x').write_bytes(b'')"),
        ("processes", "import subprocess"),
        ("processes", "import os\nos.fork()"),
    ],
)
def test_a_hidden_use_is_found(seam: str, text: str) -> None:
    assert uses(Module("ipc/x.py", text, ast.parse(text)), seam)
