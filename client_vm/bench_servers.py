"""Servers as `farcall bench` finds them on another host: started by hand, reached by TLS on the loopback."""

import select
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from client_vm.errors import EXIT_FAILURE, StartError

FARCALL: Final = (sys.executable, "-m", "client_vm")
KINDS: Final = ("file", "memory")
READY_S: Final = 20.0
END_S: Final = 10.0


@contextmanager
def servers_by_tls() -> Iterator[list[str]]:
    """A file and a memory server, with what `farcall run` is to be told to use them. StartError(125)."""
    with tempfile.TemporaryDirectory(prefix="farcall-bench-") as folder, ExitStack() as held:
        subprocess.run([*FARCALL, "certs", folder], capture_output=True, timeout=READY_S, check=True)
        options = _credentials(folder, "client")
        for kind in KINDS:
            options += [f"--{kind}", held.enter_context(_server(kind, _credentials(folder, kind)))]
        yield options


def _credentials(folder: str, role: str) -> list[str]:
    own = Path(folder) / role
    return [f"--tls-cert={own / 'tls.crt'}", f"--tls-key={own / 'tls.key'}", f"--tls-ca={own / 'ca.crt'}"]


@contextmanager
def _server(kind: str, credentials: list[str]) -> Iterator[str]:
    """Its address."""
    command = [*FARCALL, "serve", kind, "--listen", "127.0.0.1:0", *credentials]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            readable, _, _ = select.select([server.stdout], [], [], READY_S)
            word, _, address = (server.stdout.readline() if readable else "").strip().partition(" ")
            if word != "ready":
                raise StartError(f"bench: the {kind} server did not start", EXIT_FAILURE)
            yield address
        finally:
            server.terminate()
            try:
                server.wait(END_S)
            except subprocess.TimeoutExpired:
                server.kill()
