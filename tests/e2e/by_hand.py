"""A server started by hand that dies and is started again, at the same address and on the same state."""

import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from servers.steps import CRASH_AT
from tests.e2e.processes import Server, command, environment, read_line
from tests.e2e.runs import LIMIT_S

COMMITTED, UNCOMMITTED = "commit", "record"
"""Steps of servers/dispatch.py: after the transaction and before the reply; before the transaction's end."""


@dataclass
class ByHand:
    """Such a server; `kind` "file", "memory" or "network", which lets runs publish. A file server's root is the
    folder's own if none is given."""

    kind: str
    deployment: str
    folder: Path
    held: ExitStack
    root: Path = Path()
    address: str = ""
    within: tuple[str, ...] = ()
    """A command that runs the server's, and ends as it does."""
    certificates: Path | None = None
    """By TLS, with what `farcall certs` has made there."""
    lacking: tuple[str, ...] = ()
    """Operations that it does not have."""
    crashes: list[str] = field(default_factory=list)
    """Where the servers so far were to be killed; empty if nowhere."""

    def __post_init__(self) -> None:
        self._own: tuple[object, ...] = ()
        if self.kind == "file":
            if self.root == Path():
                self.root = self.folder / "root"
                self.root.mkdir()
            self._own = ("--state", self.folder / "state", "--root", self.root)
        if self.kind == "network":
            self._own = ("--publish",)
        if self.certificates is not None:
            self._own += tuple(tls_options(self.certificates / self.kind))

    def start(self, crash_at: str = "") -> Server:
        """A server that kills itself at that step; one that is ready, if there is none.

        An armed one is not waited for: a guest that has called already may have it killed before it is ready.
        """
        listen = self.address
        if not listen:
            listen = "127.0.0.1:0" if self.deployment == "grpc-tcp" else f"unix:{self.folder}/{self.kind}"
        self.crashes.append(crash_at)
        process = subprocess.Popen(
            [*self.within, *command(self.kind, "--listen", listen, *self._own, lacking=self.lacking)],
            env=environment(**{CRASH_AT: crash_at} if crash_at else {}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self.held.callback(_end, process)
        server = Server(process, listen)
        if not crash_at or not self.address:
            assert process.stdout is not None
            line = read_line(process.stdout.fileno())
            assert line.startswith("ready "), server.errors()
            self.address = server.address = line.removeprefix("ready ").strip()
        return server

    def options(self) -> list[str]:
        """Of `farcall run`, to use this server."""
        transport = "ring" if self.deployment == "ring" else "grpc"
        tls = tls_options(self.certificates / "client") if self.certificates is not None else []
        return ["--transport", transport, f"--{self.kind}", self.address, *tls]

    @contextmanager
    def dying(self, points: list[str]) -> Iterator[None]:
        """Starts servers that kill themselves at these points, each when the one before is dead, and then one
        that lives; all of them must have died by the end of the block."""
        server = self.start(points[0])
        failures: list[BaseException] = []
        over = False

        def follow() -> None:
            nonlocal server
            try:
                for point in [*points[1:], ""]:
                    killed_itself(server)
                    if over:
                        return
                    server = self.start(point)
            except BaseException as failure:
                failures.append(failure)

        follower = threading.Thread(target=follow)
        follower.start()
        try:
            yield
        finally:
            over = len(self.crashes) <= len(points)
            if over:
                server.process.kill()  # nothing more will come that could
            follower.join(LIMIT_S * len(points))
        assert not failures and not follower.is_alive(), failures
        assert self.crashes == [*points, ""]
        assert server.stop() == 0, server.errors()


def tls_options(folder: Path) -> list[str]:
    """Of `run`, `serve` and `doctor`, for the credentials in one of the folders of `farcall certs`."""
    files = {"--tls-cert": "tls.crt", "--tls-key": "tls.key", "--tls-ca": "ca.crt"}
    return [word for option, name in files.items() for word in (option, str(folder / name))]


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.kill()
    process.wait(LIMIT_S)
    for pipe in (process.stdout, process.stderr):
        assert pipe is not None
        pipe.close()


def killed_itself(server: Server) -> None:
    assert server.process.wait(LIMIT_S) == -signal.SIGKILL, server.errors()
