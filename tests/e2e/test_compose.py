"""deploy/compose.yaml: the servers and a client in containers of their own, as a user starts them.

Programs do there what they do natively inside the same image; the file server's container is killed and started
while a guest runs; and nobody without the right certificate gets in.
"""

import shlex
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e import debian
from tests.e2e.commands_busybox import LINES as BUSYBOX_LINES
from tests.e2e.commands_busybox import READING
from tests.e2e.compose import (
    FILE_SERVERS,
    IMAGE,
    USER,
    Deployment,
    client_of,
    deployed,
    docker,
    guests,
    make_image,
    natives,
    work_directory,
)
from tests.e2e.harness import ARCHS, Ran
from tests.e2e.lines import DynamicLine, load, torture
from tests.e2e.roots import MissingError
from tests.e2e.runs import LIMIT_S, await_line, send, silent

pytestmark = pytest.mark.timeout(1500)

BUSYBOX = {line.name: line for line in BUSYBOX_LINES if line.core and line.name not in ("env", "true")}
"""All of its core but what shows the container's environment."""
DYNAMIC_NAMES = (
    "python-pass",
    "python-subprocess",
    "bash-pipeline-status",
    "bash-process-substitution",
    "bash-wait",
    "ls-long",
    "xargs-parallel",
    "tar-gzip",
    "perl-words",
    "torture-dash-subshells",
    "torture-dash-traps",
    "torture-dash-fifos",
)
"""Of its core, what the image has the programs for."""
SOCKETS = """import socket
s = socket.create_server(("127.0.0.1", 0)); c = socket.create_connection(s.getsockname()); a = s.accept()[0]
c.sendall(b"there"); print(a.recv(9)); a.sendall(b"back"); print(c.recv(9)); a.close(); print(c.recv(9))"""
DYNAMIC = {line.name: line for line in [*load(), *torture()] if line.name in DYNAMIC_NAMES}
DYNAMIC["sockets"] = DynamicLine("sockets", shlex.join(["python3", "-c", SOCKETS]))
MACHINES = {"x86_64": "x86_64", "arm64": "aarch64"}
PLAIN = DynamicLine("plain", "")
STATIC = [f"busybox-{name}" for name in BUSYBOX]
NAMES = [*STATIC, *DYNAMIC]
FIND = [*["(", "-type", "d", "-printf"], r"%p %y %m %U:%G\0", *[")", "-o", "-printf"], r"%p %y %m %U:%G %s %l\0"]
"""A directory's size is its file system's affair."""


def line_of(name: str, arch: str) -> dict[str, object]:
    """As in_container.py takes it."""
    directory = f"/w/{name}"
    if name in DYNAMIC:
        argv, stdin = shlex.split(DYNAMIC[name].command), DYNAMIC[name].stdin.encode()
    else:
        line = BUSYBOX[name.removeprefix("busybox-")]
        argv, stdin = [f"/w/tools/busybox-{arch}", *shlex.split(line.command)], line.stdin
    return _line(argv, directory, stdin)


def _line(argv: list[str], directory: str, stdin: bytes = b"") -> dict[str, object]:
    environment = debian.environment(directory)
    return {"argv": argv, "directory": directory, "stdin": stdin.decode("latin-1"), "environment": environment}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    try:
        debian.need_oracle()
        make_image()
    except MissingError as missing:
        pytest.skip(str(missing))
    folder = tmp_path_factory.mktemp("compose")
    for each in (folder, *folder.parents[:2]):
        each.chmod(0o755)
    return folder


@pytest.fixture(scope="module")
def deployment(base: Path) -> Iterator[Deployment]:
    """x86_64's guests see the image's own /guests, arm64's a root of Debian's packages there."""
    root = debian.debian("arm64")
    accounts = [f"{account_file(root, base, name)}:/guests/etc/{name}:ro" for name in ACCOUNTS]
    work = {arch: work_directory(base / f"w-{arch}", list(DYNAMIC), STATIC, native=False) for arch in ARCHS}
    volumes = {arch: [f"{work[arch]}:/guests/w:ro"] for arch in ARCHS}
    volumes["arm64"] = [f"{root}:/guests:ro", *volumes["arm64"], *accounts]
    with deployed(base, volumes) as made:
        yield made


ACCOUNTS = {"passwd": f"farcall:x:{USER}:{USER}::/:/usr/sbin/nologin\n", "group": f"farcall:x:{USER}:\n"}


def account_file(root: Path, folder: Path, name: str) -> Path:
    """A file of accounts that knows the containers' user, as the image's does."""
    path = folder / name
    path.write_text((root / "etc" / name).read_text() + ACCOUNTS[name])
    return path


@pytest.fixture(scope="module")
def native(base: Path) -> dict[str, Ran]:
    """Each line's answer, and the trees they left, in the image itself."""
    work = work_directory(base / "w-native", list(DYNAMIC), STATIC, native=True)
    return by_name(natives(work, [line_of(name, "x86_64") for name in NAMES]), natives(work, TREES))


@pytest.fixture(scope="module")
def cells(deployment: Deployment) -> Callable[[str], dict[str, Ran]]:
    known: dict[str, dict[str, Ran]] = {}

    def cell(arch: str) -> dict[str, Ran]:
        if arch not in known:
            lines = guests(deployment, arch, [line_of(name, arch) for name in NAMES])
            known[arch] = by_name(lines, guests(deployment, arch, TREES))
        return known[arch]

    return cell


EACH_ARCH = pytest.mark.parametrize(
    "arch", [pytest.param(arch, id=MACHINES[arch].replace("_", "-")) for arch in ARCHS]
)
"""By other names than the cells', so that one process has all tests of this file, and the deployment once."""
TREED = [name for name in NAMES if name.removeprefix("busybox-") not in {line.name for line in READING}]
"""What may leave something behind."""
TREES = [_line(["find", *TREED, *FIND], "/w")]


def by_name(lines: list[Ran], trees: list[Ran]) -> dict[str, Ran]:
    found = dict(zip(NAMES, lines, strict=True))
    assert (trees[0].status, trees[0].stderr) == (0, b"")
    entries = sorted(trees[0].stdout.split(b"\0"))
    for name in TREED:
        own = [entry for entry in entries if entry.startswith((f"{name} ".encode(), f"{name}/".encode()))]
        found[f"{name}'s tree"] = Ran(b"\0".join(own), b"", 0)
    return found


@pytest.mark.parametrize("name", NAMES)
@EACH_ARCH
def test_guests_do_as_native_linux_in_the_image(
    arch: str, name: str, native: dict[str, Ran], cells: Callable[[str], dict[str, Ran]]
) -> None:
    line, expected, ran = DYNAMIC.get(name, PLAIN), native[name], cells(arch)[name]
    assert line.same(ran.stderr) == line.same(expected.stderr)
    assert (ran.status, line.same(ran.stdout)) == (expected.status, line.same(expected.stdout))
    if name in TREED:
        tree = f"{name}'s tree"
        assert cells(arch)[tree].stdout == native[tree].stdout != b""


def test_the_lines_are_what_was_agreed(native: dict[str, Ran]) -> None:
    assert DYNAMIC.keys() == {*DYNAMIC_NAMES, "sockets"} and len(BUSYBOX) >= 15
    assert sum(native[name].status == 0 for name in NAMES) >= len(NAMES) - 3


def stays(deployment: Deployment, *words: str, arch: str = "x86_64") -> subprocess.CompletedProcess[str]:
    """A command in the client's container that stays."""
    command = ["docker", *client_of(deployment, arch), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)


@EACH_ARCH
def test_the_readmes_command(deployment: Deployment, arch: str) -> None:
    done = deployment.run("farcall", "run", "--", f"hello-{arch}", "/etc/hosts")
    native = docker("run", "--rm", IMAGE, "cat", "/guests/etc/hosts")
    greeting = f"Hello from a guest of farcall: Linux on {MACHINES[arch]}\n--- /etc/hosts\n"
    assert native and (done.returncode, done.stdout) == (0, greeting + native), done.stderr


@EACH_ARCH
def test_a_file_container_killed(deployment: Deployment, arch: str) -> None:
    """The guest waits while it is gone, then goes on; what it wrote before and after is there."""
    file, path = deployment.container(FILE_SERVERS[arch]), "/tmp/kept"
    script = f"while read -r line; do echo $line >>{path} && echo kept $line; done"
    command = ["docker", *client_of(deployment, arch), "farcall", "run", "--", f"/w/tools/busybox-{arch}"]
    with subprocess.Popen(
        [*command, "sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        try:
            send(process, b"before\n")
            await_line(process, "kept before")
            docker("kill", "-s", "KILL", file)
            send(process, b"after\n")
            assert silent(process, 1.0)
            docker("start", file)
            await_line(process, "kept after")
            process.communicate(timeout=LIMIT_S)
            assert process.returncode == 0
        finally:
            process.kill()
    done = stays(deployment, "farcall", "run", "--", f"/w/tools/busybox-{arch}", "cat", path, arch=arch)
    assert (done.returncode, done.stdout) == (0, "before\nafter\n"), done.stderr


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("unset FARCALL_TLS_CERT FARCALL_TLS_KEY FARCALL_TLS_CA; farcall run", "is beyond this host"),
        ("unset FARCALL_TLS_CERT FARCALL_TLS_KEY FARCALL_TLS_CA; farcall run --insecure", "it wants TLS"),
        ("farcall run --memory file:7001", "its certificate has the role file; a memory server is wanted"),
        ("farcall certs /tmp/o >/dev/null; c=/tmp/o/client; {}", "is of another authority than --tls-ca's"),
        ("farcall certs /tmp/o >/dev/null; c=/tmp/o/file; {}", "it has the role file, not client"),
    ],
)
def test_who_is_refused(deployment: Deployment, command: str, says: str) -> None:
    other = "farcall run --tls-cert $c/tls.crt --tls-key $c/tls.key --tls-ca $c/ca.crt"
    done = stays(deployment, "sh", "-c", f"{command.format(other)} -- hello-x86_64")
    assert (done.returncode, done.stdout) == (125, "")
    assert says in done.stderr and done.stderr.count("\n") == 1


def test_containers_may_little(deployment: Deployment) -> None:
    for service in ("file", "memory", "network"):
        known = deployment.inspect(service)
        host = known["HostConfig"]
        assert known["State"]["Health"]["Status"] == "healthy"
        assert known["Config"]["User"] == f"{USER}:{USER}" and host["ReadonlyRootfs"] is True
        assert host["CapDrop"] == ["ALL"] and not host["CapAdd"] and not host["Privileged"]
        assert host["SecurityOpt"] == ["no-new-privileges:true"] and not host["PortBindings"]
        keys = {mount["Name"].rpartition("_")[2] for mount in known["Mounts"] if "tls" in mount.get("Name", "")}
        assert keys == {f"tls-{service}"}
        seen = docker("exec", known["Id"], "sh", "-c", "id -u; grep -E 'CapEff|NoNewPrivs' /proc/1/status")
        assert seen.split() == [str(USER), "CapEff:", "0" * 16, "NoNewPrivs:", "1"]
    guest = stays(deployment, "farcall", "run", "--", "/bin/ls", "-d", "/tls", "/state", "/certs", "/opt/farcall")
    assert guest.returncode == 2 and guest.stdout == "", guest
    network = docker("network", "inspect", f"{deployment.project}_servers", "--format", "{{.Internal}}")
    assert network == "true\n"
