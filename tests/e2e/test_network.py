"""Guests as servers and clients: installed programs over the guests' own loopback, published ports, what nobody
reaches.

The scripts run natively in a network namespace of their own, and as guests of both architectures: output and
status must be equal.
"""

import io
import itertools
import os
import socket
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryFile

import pytest

from servers.network.ports import EPHEMERAL
from tests.e2e import debian, harness
from tests.e2e.harness import ARCHS, FARCALL
from tests.e2e.processes import free_port
from tests.e2e.roots import MissingError, busybox

pytestmark = pytest.mark.timeout(600)

SOURCES = debian.SOURCES / "network"
COMMON = (SOURCES / "common.sh").read_text()
SCRIPTS = tuple(sorted(path.stem for path in SOURCES.glob("*.sh") if path.stem != "common"))
CORE = {
    "ring": SCRIPTS,
    "grpc-unix": ("nc", "python"),
    "grpc-tcp": ("large", "nc", "redis", "socat"),
    "inproc": ("nc",),
}
LIMIT_S = 200
ENVIRONMENT = {"PATH": debian.PATH, "LC_ALL": "C", "TZ": "UTC", "HOME": "/tmp"}
CASES = [
    pytest.param(arch, deployment, script, id=f"{arch}-{deployment}-{script}")
    for arch, deployment in itertools.product(ARCHS, harness.DEPLOYMENTS)
    for script in SCRIPTS
    if script in CORE[deployment]
]


def text(script: str) -> str:
    return COMMON + (SOURCES / f"{script}.sh").read_text()


def run(command: list[str]) -> tuple[bytes, int]:
    """(standard output, status); what a program says on standard error is seen if it fails."""
    done = subprocess.run(
        command,
        env=ENVIRONMENT,
        cwd="/",
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert done.returncode == 0, (done.stdout[-500:], done.stderr[-2000:])
    return done.stdout, done.returncode


@pytest.fixture(scope="module")
def native(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[bytes, int]]:
    """What a script does on native Linux, in a network namespace with a loopback alone."""
    try:
        debian.need_oracle()
    except MissingError as missing:
        pytest.skip(str(missing))
    tools = tmp_path_factory.mktemp("tools")
    (tools / "busybox").symlink_to(busybox("x86_64"))
    known: dict[str, tuple[bytes, int]] = {}

    def run_natively(script: str) -> tuple[bytes, int]:
        if script not in known:
            alone = f'{busybox("x86_64")} ip link set lo up && exec bash -c "$0"'
            path = f"PATH={ENVIRONMENT['PATH']}:{tools}"
            known[script] = run(["unshare", "-n", "env", path, "bash", "-c", alone, text(script)])
        return known[script]

    return run_natively


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str, str], list[str]]]:
    """Of `farcall run`, for servers that serve all runs of a deployment."""
    with ExitStack() as held:
        known: dict[tuple[str, str], list[str]] = {}

        def of(arch: str, deployment: str) -> list[str]:
            if (arch, deployment) not in known:
                root = Path("/") if arch == "x86_64" else debian.debian(arch)
                state = tmp_path_factory.mktemp(f"{arch}-{deployment}")
                guest = held.enter_context(harness.guest(deployment, root, state))
                known[arch, deployment] = list(guest.options)
                if deployment == "grpc-tcp":
                    network = held.enter_context(harness.serving("network", "--listen", "127.0.0.1:0"))
                    known[arch, deployment] += ["--network", network.address]
            return known[arch, deployment]

        yield of


@pytest.mark.parametrize(("arch", "deployment", "script"), CASES)
def test_does_what_native_linux_does(
    arch: str,
    deployment: str,
    script: str,
    native: Callable[[str], tuple[bytes, int]],
    options: Callable[[str, str], list[str]],
) -> None:
    farcall = [str(FARCALL), "run", *options(arch, deployment)]
    assert run([*farcall, "--", "bash", "-c", text(script)]) == native(script)


NGINX = """\
user root;
worker_processes 2;
daemon off;
error_log stderr crit;
pid /tmp/nginx/pid;
events { worker_connections 256; }
http {
    access_log off; sendfile on;
    client_body_temp_path /tmp/nginx/1; proxy_temp_path /tmp/nginx/2; fastcgi_temp_path /tmp/nginx/3;
    uwsgi_temp_path /tmp/nginx/4; scgi_temp_path /tmp/nginx/5;
    server { listen 8080; root /tmp/nginx/pages; }
}
"""
REQUESTS, PAGES, CLIENTS = 1000, 20, 20
EACH_ARCH = [pytest.param(arch, marks=pytest.mark.cell(arch=arch, deployment="ring")) for arch in ARCHS]


def rooted(arch: str) -> list[str]:
    """Of `farcall run`: where programs of `arch` are installed."""
    return ["--root", str(debian.debian(arch))] if arch == "arm64" else []


def packed(files: dict[str, bytes]) -> bytes:
    """A tar archive."""
    packing = io.BytesIO()
    with tarfile.open(fileobj=packing, mode="w") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(data), 0o644
            archive.addfile(member, io.BytesIO(data))
    return packing.getvalue()


@contextmanager
def serving_guest(
    arch: str, published: str, script: str, stdin: bytes = b""
) -> Iterator[subprocess.Popen[bytes]]:
    """A guest that serves, until SIGTERM if it has not ended; its status must be 0."""
    command = [str(FARCALL), "run", *rooted(arch), "-p", published, "--", "bash", "-c", script]
    with (
        TemporaryFile() as given,
        TemporaryFile() as said,
    ):
        given.write(stdin)
        given.seek(0)
        with subprocess.Popen(command, env=ENVIRONMENT, stdin=given, stdout=said, stderr=said) as guest:
            try:
                yield guest
                guest.terminate()
                guest.wait(30)
            finally:
                guest.kill()
        said.seek(0)
        assert guest.returncode == 0, said.read()


def wait_until(answers: Callable[[], bool]) -> None:
    """Asks every 0.3 s, for a minute at most."""
    for _ in range(200):
        if answers():
            return
        subprocess.run(["sleep", "0.3"], check=True, timeout=5)
    pytest.fail("the guest does not answer")


@pytest.mark.parametrize("arch", EACH_ARCH)
def test_nginx_serves_the_hosts_curl(arch: str) -> None:
    pages = {f"pages/{number}": os.urandom(5000 * number + 1) for number in range(PAGES)}
    port = free_port()
    script = "mkdir /tmp/nginx && cd /tmp/nginx && tar x && exec nginx -c /tmp/nginx/conf"
    with serving_guest(arch, f"{port}:8080", script, packed({"conf": NGINX.encode(), **pages})):

        def get(number: int, check: bool = True) -> bytes:
            url = f"http://127.0.0.1:{port}/{number % PAGES}"
            fetch = ["curl", "-sf", "--max-time", "60", url]
            return subprocess.run(fetch, capture_output=True, check=check, timeout=90).stdout

        wait_until(lambda: get(0, check=False) == pages["pages/0"])
        with ThreadPoolExecutor(CLIENTS) as clients:
            bodies = list(clients.map(get, range(REQUESTS)))
    wrong = [number for number, body in enumerate(bodies) if body != pages[f"pages/{number % PAGES}"]]
    assert not wrong


@pytest.mark.parametrize("arch", EACH_ARCH)
def test_redis_inside_and_its_benchmark_on_the_host(arch: str) -> None:
    port = free_port()
    options = "--save '' --appendonly no --dir /tmp"
    with serving_guest(arch, f"{port}:6379", f"exec redis-server --port 6379 {options}") as guest:

        def client(*words: str, check: bool = True) -> bytes:
            command = ["redis-cli", "-p", str(port), *words]
            return subprocess.run(command, capture_output=True, check=check, timeout=60).stdout

        wait_until(lambda: client("ping", check=False) == b"PONG\n")
        benchmark = ["redis-benchmark", "-p", str(port), "-n", "1000", "-c", "20", "-q", "-t", "set,get", "--csv"]
        done = subprocess.run(benchmark, capture_output=True, check=True, timeout=120)
        assert done.stdout.count(b'"SET"') == done.stdout.count(b'"GET"') == 1
        client("shutdown", "nosave", check=False)
        guest.wait(30)


def server_of_a_port_that_no_guest_is_given() -> socket.socket:
    """Or a guest that sends a datagram to its own loopback, at that port, may be the one that hears it."""
    for port in range(EPHEMERAL.stop, 1 << 16):
        with suppress(OSError):
            return socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True)
    pytest.fail("every port is in use")


def own_addresses() -> list[str]:
    """This machine's IPv4 addresses beyond the loopback."""
    listed = subprocess.run(
        [busybox("x86_64"), "ip", "-4", "-o", "addr"], capture_output=True, check=True, text=True, timeout=10
    ).stdout
    found = [line.split()[3].partition("/")[0] for line in listed.splitlines()]
    return [address for address in found if not address.startswith("127.")]


@pytest.mark.parametrize(
    ("arch", "deployment"),
    [
        pytest.param(arch, deployment, id=f"{arch}-{deployment}")
        for arch in ARCHS
        for deployment in ("ring", "grpc-tcp")
    ],
)
def test_nobody_reaches_what_is_not_allowed(
    arch: str, deployment: str, options: Callable[[str, str], list[str]], tmp_path: Path
) -> None:
    heard = []
    with ExitStack() as held:
        stream = held.enter_context(server_of_a_port_that_no_guest_is_given())
        port = stream.getsockname()[1]
        datagrams = held.enter_context(socket.socket(socket.AF_INET6, socket.SOCK_DGRAM))
        datagrams.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        datagrams.bind(("::", port))
        unix = held.enter_context(socket.socket(socket.AF_UNIX))
        unix.bind(f"{tmp_path}/listens")
        unix.listen()
        script = (SOURCES / "reach.py").read_text()
        guest = ["/usr/bin/python3", "-c", script, str(port), f"{tmp_path}/listens", *own_addresses()]
        farcall = [str(FARCALL), "run", *options(arch, deployment), "--"]
        output, _ = run([*farcall, *guest])
        for each in (stream, datagrams, unix):
            each.settimeout(0.2)
            with pytest.raises(TimeoutError):
                heard.append(each.recv(10) if each is datagrams else each.accept())
    *reached, count, fast = output.decode().splitlines()
    if arch == "arm64":
        reached = [line for line in reached if "No such file" not in line]  # it has a root of its own
    assert not reached
    assert int(count.split()[0]) >= 60
    assert fast == "True", "refused at once"
    assert not heard
