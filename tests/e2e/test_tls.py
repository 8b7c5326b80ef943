"""Servers at HOST:PORT with credentials: who gets in, and the one line that says why another does not."""

import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from client_vm.certificates import Order, make
from farcall.v1.session_pb2 import (
    REFUSAL_STALE_SESSION,
    SERVER_KIND_MEMORY,
    Credentials,
    HelloRequest,
    HelloResponse,
)
from ipc.address import parse_address
from ipc.credentials import Credentials as TlsCredentials
from ipc.credentials import Security
from ipc.greeting import ConnectError
from ipc.grpc_client import UnaryChannel
from ipc.limits import PROTOCOL_MAX, PROTOCOL_MIN
from ipc.seams import HostClock
from ipc.tls_files import TlsFiles
from tests.e2e.by_hand import COMMITTED, ByHand, killed_itself, tls_options
from tests.e2e.processes import Server, run, serving
from tests.e2e.runs import LIMIT_S, World, acts, await_line, send, world

DAY_NS = 86400 * 10**9
HELLO_S, REFUSED_S = 5.0, 1.0
"""How long a client asks; one that gRPC tells nothing, that it is not let in meanwhile."""
VARIABLES = ("FARCALL_TLS_CERT", "FARCALL_TLS_KEY", "FARCALL_TLS_CA", "FARCALL_FILE", "FARCALL_MEMORY")


pytestmark = pytest.mark.timeout(300)  # the first of them has guests compiled


class TwoDaysAgo(HostClock):
    """The host's clock, two days ago."""

    def realtime_ns(self) -> int:
        return super().realtime_ns() - 2 * DAY_NS


@dataclass
class Site:
    """Certificates ("good", "expired" of the same authority, "other") and servers with the good ones."""

    folder: Path
    held: ExitStack
    servers: dict[str, Server] = field(default_factory=dict)

    def __post_init__(self) -> None:
        make(Order(self.folder / "good", {}, ("client", "alice")), TwoDaysAgo())
        shutil.copytree(self.folder / "good" / "ca", self.folder / "expired" / "ca")
        make(Order(self.folder / "expired", {}, days=1), TwoDaysAgo())
        make(Order(self.folder / "other", {}), HostClock())
        for kind in ("file", "memory"):
            own = ("--root", self.folder) if kind == "file" else ()
            tls = tls_options(self.folder / "good" / kind)
            self.servers[kind] = self.held.enter_context(serving(kind, "--listen", "127.0.0.1:0", *own, *tls))
        for arch in ("x86_64", "arm64"):
            shutil.copy2(acts(arch), self.folder / arch)

    def addresses(self, **more: str) -> list[str]:
        """Of `run`, to use these servers, or others in their place."""
        found = {kind: server.address for kind, server in self.servers.items()} | more
        return [word for kind, address in found.items() for word in (f"--{kind}", address)]


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with world() as made, ExitStack() as held:
        yield Site(made.folder, held)


@pytest.fixture
def runs() -> Iterator[World]:
    with world() as made:
        yield made


def refusal(done: subprocess.CompletedProcess[str]) -> str:
    """The one line of a run or server that was refused."""
    assert (done.returncode, done.stdout) == (125, ""), done
    assert done.stderr.count("\n") == 1 and done.stderr.startswith("farcall: "), done.stderr
    return done.stderr


@pytest.mark.parametrize("arch", ["x86_64", "arm64"])
@pytest.mark.parametrize("by", ["options", "environment"])
def test_a_run_with_credentials(site: Site, runs: World, arch: str, by: str) -> None:
    words = [*tls_options(site.folder / "good" / "client"), *site.addresses()]
    given = {} if by == "options" else dict(zip(VARIABLES, words[1::2], strict=True))
    done = runs.run("run", *(() if given else words), "-w", "/", "--", f"/{arch}", "exit", 7, variables=given)
    assert (done.returncode, done.stderr) == (7, "")
    runs.assert_clean()


@pytest.mark.parametrize(
    ("own", "says"),
    [
        ("", "it wants TLS: --tls-cert, --tls-key and --tls-ca"),
        ("other/client", "its certificate is of another authority than --tls-ca's"),
        ("expired/client", "client/tls.crt: expired on"),
        ("good/file", "file/tls.crt: it has the role file, not client"),
        ("good/nobody", "nobody/tls.crt: No such file or directory"),
    ],
)
def test_a_run_that_is_refused(site: Site, runs: World, own: str, says: str) -> None:
    words = tls_options(site.folder / own) if own else []
    assert says in refusal(runs.run("run", *site.addresses(), *words, "--", "/x86_64", "exit", 7))
    runs.assert_clean()


@pytest.mark.parametrize("names", ["cert key", "cert ca", "key ca", "cert"])
def test_credentials_are_three_files(runs: World, names: str) -> None:
    words = [word for name in names.split() for word in (f"--tls-{name}", "/none")]
    missing = [f"--tls-{name}" for name in ("cert", "key", "ca") if name not in names.split()]
    for command in (("run", "--", "x"), ("serve", "memory", "--listen", "127.0.0.1:0"), ("doctor",)):
        place = 2 if command[0] == "serve" else 1
        line = refusal(runs.run(*command[:place], *words, *command[place:]))
        assert f"without {' and '.join(missing)}" in line


@pytest.mark.parametrize(
    ("certificate", "key", "authority", "says"),
    [
        ("good/client/tls.crt", "good/alice/tls.key", "good/ca/tls.crt", "--tls-key {}/{key}: not the key of"),
        (
            "other/client/tls.crt",
            "other/client/tls.key",
            "good/ca/tls.crt",
            "--tls-cert {}/{cert}: not issued by",
        ),
        ("good/client/tls.key", "good/client/tls.key", "good/ca/tls.crt", "--tls-cert {}/{cert}: not a PEM"),
        ("good/client/tls.crt", "good/client/tls.crt", "good/ca/tls.crt", "--tls-key {}/{key}: not a PEM"),
        ("good/client/tls.crt", "good/client/tls.key", "good/ca/tls.key", "--tls-ca {}/{ca}: not a PEM"),
        ("good/client/tls.crt", "good/client/tls.key", "good/ca", "--tls-ca {}/{ca}: Is a directory"),
    ],
)
def test_files_that_are_no_credentials(
    site: Site, runs: World, certificate: str, key: str, authority: str, says: str
) -> None:
    """Of a run and of a server alike."""
    given = {"--tls-cert": certificate, "--tls-key": key, "--tls-ca": authority}
    words = [word for option, name in given.items() for word in (option, str(site.folder / name))]
    expected = says.format(site.folder, cert=certificate, key=key, ca=authority)
    assert expected in refusal(runs.run("run", *site.addresses(), *words, "--", "/x86_64"))
    assert expected in refusal(run("memory", "--listen", "127.0.0.1:0", *words))


@pytest.mark.parametrize(
    ("own", "says"),
    [
        ("good/file", "it has the role file, not memory"),
        ("good/client", "it has the role client, not memory"),
        ("expired/memory", "expired on"),
    ],
)
def test_a_server_that_does_not_start(site: Site, own: str, says: str) -> None:
    assert says in refusal(run("memory", "--listen", "127.0.0.1:0", *tls_options(site.folder / own)))


def test_beyond_this_host_with_credentials_only(site: Site, runs: World) -> None:
    assert "--tls-cert" in refusal(run("memory", "--listen", "0.0.0.0:0"))
    assert "--tls-cert" in refusal(runs.run("run", "--file", "192.0.2.1:1", "--", "x"))
    tls = tls_options(site.folder / "good" / "memory")
    assert "with credentials or without" in refusal(run("memory", "--listen", "0.0.0.0:0", "--insecure", *tls))
    assert "with credentials or without" in refusal(runs.run("run", "--insecure", *tls, "--", "x"))
    with serving("memory", "--listen", "0.0.0.0:0", *tls) as server:
        assert server.stop() == 0 and server.errors() == ""


def test_servers_that_are_not_who_they_should_be(site: Site, runs: World) -> None:
    words = tls_options(site.folder / "good" / "client")

    def line(**addresses: str) -> str:
        return refusal(runs.run("run", *site.addresses(**addresses), *words, "--", "/x86_64"))

    memory = site.servers["memory"].address
    assert f"{memory}: its certificate has the role memory; a file server is wanted" in line(file=memory)
    with serving("memory", "--listen", "127.0.0.1:0") as plain:
        assert f"{plain.address}: it does not speak TLS" in line(memory=plain.address)
    tls = tls_options(site.folder / "good" / "memory")
    with serving("memory", "--listen", "127.0.0.2:0", *tls) as elsewhere:
        assert f"{elsewhere.address}: its certificate is not for 127.0.0.2" in line(memory=elsewhere.address)
    with pretender(site.folder / "good" / "client") as address:
        assert f"{address}: its certificate: " in line(memory=address)
    with pretender(site.folder / "expired" / "memory") as address:
        assert f"{address}: its certificate has expired" in line(memory=address)


@contextmanager
def pretender(own: Path) -> Iterator[str]:
    """Somebody who meets everybody with that certificate, whatever it is good for."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(own / "tls.crt", own / "tls.key")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        over = False

        def serve() -> None:
            while True:
                plain, _ = listener.accept()
                with plain, suppress(OSError):
                    if over:
                        return
                    plain.settimeout(HELLO_S)
                    context.wrap_socket(plain, server_side=True).close()

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            over = True
            socket.create_connection(listener.getsockname()).close()
            thread.join(LIMIT_S)
            assert not thread.is_alive()


# Clients that check nothing of their own.


def unchecked(folder: Path, **instead: bytes) -> TlsCredentials:
    files = TlsFiles(str(folder / "tls.crt"), str(folder / "tls.key"), str(folder / "ca.crt"))
    read = {name: (folder / file).read_bytes() for name, file in PARTS.items()} | instead
    return TlsCredentials(read["certificate"], read["key"], read["authority"], files)


PARTS = {"certificate": "tls.crt", "key": "tls.key", "authority": "ca.crt"}


def hello(
    server: Server,
    credentials: TlsCredentials | None,
    resume: HelloResponse | None = None,
    within_s: float = HELLO_S,
) -> HelloResponse:
    """The memory server's answer to one Hello; the session goes on. ConnectError."""
    security = None if credentials is None else Security(credentials, "memory")
    channel = UnaryChannel(parse_address(server.address), HostClock(), security)
    request = HelloRequest(
        protocol_min=PROTOCOL_MIN, protocol_max=PROTOCOL_MAX, kind=SERVER_KIND_MEMORY, credentials=Credentials()
    )
    if resume is not None:
        request.resume_session, request.resume_secret = resume.session, resume.secret
    try:
        return channel.hello(request, within_s)
    finally:
        channel._channel.close()


@pytest.mark.parametrize("own", ["good/file", "good/memory", "other/client", "expired/client", "nobody", "plain"])
def test_the_server_looks_for_itself(site: Site, own: str) -> None:
    """Nobody gets a session who is not a client of its authority."""
    credentials: TlsCredentials | None = None
    if own == "nobody":  # no certificate, but the authority that stands behind the server
        credentials = unchecked(site.folder / "good/client", certificate=b"", key=b"")
    elif own != "plain":
        authority = (site.folder / "good/client/ca.crt").read_bytes()
        credentials = unchecked(site.folder / own, authority=authority)
    with pytest.raises(ConnectError) as caught:
        hello(site.servers["memory"], credentials, within_s=REFUSED_S)
    if own in ("good/file", "good/memory"):
        assert "refuses our certificate: it has the role" in str(caught.value)
    assert hello(site.servers["memory"], unchecked(site.folder / "good/client")).session


def test_a_session_is_its_principals(site: Site) -> None:
    client, alice = (unchecked(site.folder / "good" / name) for name in ("client", "alice"))
    server = site.servers["memory"]
    opened = hello(server, alice)
    with pytest.raises(ConnectError) as caught:
        hello(server, client, opened)
    assert caught.value.refusal == REFUSAL_STALE_SESSION
    assert hello(server, alice, opened).session == opened.session


# What stays as it is without TLS.


@pytest.mark.parametrize("arch", ["x86_64", "arm64"])
def test_a_server_killed_and_started_again(runs: World, arch: str) -> None:
    """The guest waits, by TLS as without, and what it asked for happened once."""
    certificates = runs.folder / "certificates"
    make(Order(certificates, {}), HostClock())
    with ExitStack() as held:
        file = ByHand("file", "grpc-tcp", runs.folder, held, certificates=certificates)
        shutil.copy2(acts(arch), file.root / "acts")
        server = file.start(f"{COMMITTED}:2:MakeDirectory")
        process = runs.start("run", *file.options(), "-w", "/", "--", "/acts", "touch")
        await_line(process, "up")
        send(process, b"a")
        await_line(process, "a 0")
        send(process, b"b")
        killed_itself(server)
        server = file.start()
        await_line(process, "b 0")
        send(process, b"b")
        await_line(process, "b 17")  # EEXIST
        process.communicate(timeout=LIMIT_S)
        assert (process.returncode, server.stop()) == (0, 0)
    runs.assert_clean()


def test_doctor_by_tls(site: Site, runs: World) -> None:
    address = site.servers["file"].address
    for own in ("good/client", "good/file"):
        done = runs.run("doctor", *tls_options(site.folder / own), address)
        assert done.returncode == 0, done.stdout
        tls, server = done.stdout.splitlines()[-2:]
        assert tls.startswith(f"ok    TLS at {address}: a file server, its certificate good until ")
        assert server == f"ok    server at {address}: gRPC: SERVING"
    done = runs.run("doctor", *tls_options(site.folder / "other/client"), address)
    assert done.returncode == 1 and "another authority" in done.stdout.splitlines()[-2]
    done = runs.run("doctor", address)
    assert done.returncode == 1 and "it wants TLS" in done.stdout.splitlines()[-1]
