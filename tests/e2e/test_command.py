"""The command `farcall` itself: its words, its one-line errors, its exit statuses, what it hands to a guest."""

import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from farcall.v1.session_pb2 import REFUSAL_UNSUPPORTED, HelloRequest, HelloResponse, Outcome
from ipc.address import Address
from ipc.endpoint import Peer
from ipc.grpc_server import serve_grpc
from tests.e2e import harness, processes
from tests.e2e.runs import LIMIT_S, World, acts, farcall, world
from tests.guests.build import build


@pytest.fixture(scope="module")
def runs() -> Iterator[World]:
    with world() as made:
        yield made


def failure(done: subprocess.CompletedProcess[str], status: int = 125) -> str:
    """The one line of a failure."""
    assert done.returncode == status, done
    assert done.stderr.startswith("farcall") and done.stderr.count("\n") == 1, done.stderr
    assert done.stdout == ""
    return done.stderr


def test_help_and_version(runs: World) -> None:
    done = runs.run("--help")
    assert (done.returncode, done.stderr) == (0, "")
    for command in ("run", "serve", "syscalls", "bench", "doctor"):
        assert f"\n  {command} " in done.stdout
    done = runs.run("run", "--help")
    assert done.returncode == 0
    assert all(option in done.stdout for option in ("--root", "--state", "-e", "-w", "--file", "--seed"))
    assert runs.run("doctor", "--help").returncode == runs.run("serve", "--help").returncode == 0
    assert runs.run("--version").stdout.startswith("farcall ")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "no command given"),
        (["walk"], "unknown command walk"),
        (["run"], "no program given"),
        (["run", "--bogus", "x"], "unknown option --bogus"),
        (["run", "--transport", "ring", "--file", "h:1", "x"], "rings need unix:PATH"),
        (["run", "--root", "/nowhere", "x"], "--root /nowhere: not a directory"),
        (["run", "--state", "/etc/passwd", "x"], "--state /etc/passwd: not a directory"),
        (["run", "--root", "/", "--file", "unix:/x", "x"], "--root together with --file"),
        (["doctor", "a", "b"], "one address at most"),
    ],
)
def test_wrong_usage(runs: World, words: list[str], message: str) -> None:
    assert message in failure(runs.run(*words))
    assert runs.left() == []


def test_a_reader_that_leaves(runs: World) -> None:
    """`farcall --help | true`: no complaint."""
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "wb") as pipe:
        done = subprocess.run(
            farcall("--help"), stdout=pipe, stderr=subprocess.PIPE, env=runs.environment({}), timeout=LIMIT_S,
            check=False,
        )  # fmt: skip
    assert done.stderr == b""


def test_statuses_of_programs_that_do_not_run(runs: World) -> None:
    plain = runs.folder / "plain"
    plain.write_text("no program\n")
    truncated = runs.folder / "truncated"
    truncated.write_bytes(acts().read_bytes()[:40])
    truncated.chmod(0o755)
    assert "/nowhere" in failure(runs.run("run", "/nowhere"), 127)
    assert "nothing-of-that-name" in failure(runs.run("run", "nothing-of-that-name"), 127)
    assert str(plain) in failure(runs.run("run", plain), 126)
    assert str(truncated) in failure(runs.run("run", truncated), 126)
    runs.assert_clean()


@pytest.mark.parametrize("arch", ["x86_64", "arm64"])
@pytest.mark.parametrize("deployment", ["ring", "inproc"])
@pytest.mark.parametrize(
    ("act", "status"),
    [(("exit", 0), 0), (("exit", 42), 42), (("die", 15), 143), (("die", 9), 137), (("fault",), 139)],
)
def test_status_passes_through(
    runs: World, arch: str, deployment: str, act: tuple[object, ...], status: int
) -> None:
    done = runs.run("run", "--transport", deployment, "--", acts(arch), *act)
    assert (done.returncode, done.stderr) == (status, "")


def test_grpc_of_its_own(runs: World) -> None:
    done = runs.run("run", "--transport", "grpc", build("hello", "x86_64"), "one", "two")
    assert (done.stdout, done.stderr) == ("hello, world\nargv[1] = one\nargv[2] = two\n", "")
    assert done.returncode == 2
    runs.assert_clean()


def test_guest_gets_the_callers_identity(runs: World) -> None:
    inside = runs.folder / "inside"
    inside.mkdir(exist_ok=True)
    before = os.umask(0o027)
    try:
        here = runs.run("run", acts(), "who", cwd=inside)
        elsewhere = runs.run("run", "-w", "/usr", acts(), "who", cwd=inside)
    finally:
        os.umask(before)
    ids = f"{os.getuid()} {os.getgid()}"
    assert (here.stdout, elsewhere.stdout) == (f"{ids} 027 {inside}\n", f"{ids} 027 /usr\n")


def test_environment(runs: World) -> None:
    assert runs.run("run", acts(), "env", "A", variables={"A": "mine"}).stdout == "mine"
    assert runs.run("run", "-e", "A=other", acts(), "env", "A", variables={"A": "mine"}).stdout == "other"
    assert runs.run("run", "-e", "A", acts(), "env", "A", variables={"A": "mine"}).stdout == "mine"
    assert runs.run("run", "-e", "A", acts(), "env", "A").stdout == "unset"


def test_arguments_and_environment_of_megabytes(runs: World) -> None:
    """More than a datagram takes, less than Linux's limit (execve(2))."""
    arguments = ["x" * 1000] * 500
    variables = {f"V{index}": "y" * 100_000 for index in range(10)}
    done = runs.run("run", acts(), "count", *arguments, variables=variables)
    assert done.stderr == ""
    count, size, _, environment_size = map(int, done.stdout.split())
    assert (count, size) == (502, 500_000 + len(str(acts())) + len("count"))
    assert environment_size > 1_000_000


def test_seed(runs: World) -> None:
    def random(*options: object) -> str:
        done = runs.run("run", *options, acts(), "random")
        assert len(done.stdout) == 32, done
        return done.stdout

    assert random("--seed", 1) == random("--seed", 1) != random("--seed", 2)
    assert random() != random()


def test_modules_in_the_callers_directory_are_not_ours(runs: World) -> None:
    trap = runs.folder / "trap"
    trap.mkdir()
    for name in ("trio", "socket", "google", "servers", "client_vm", "ipc", "apsw", "farcall", "struct"):
        (trap / f"{name}.py").write_text("raise SystemExit('imported by mistake')\n")
    done = runs.run("run", acts(), "exit", 5, cwd=trap)
    assert (done.returncode, done.stderr) == (5, "")


@pytest.mark.parametrize("closed", [0, 1, 2])
def test_a_closed_standard_descriptor(runs: World, closed: int) -> None:
    line = 'exec "$@" ' + ("<&-", ">&-", "2>&-")[closed]
    command = ["/bin/sh", "-c", line, "sh", *farcall("run", acts(), "exit", 6)]
    done = subprocess.run(command, env=runs.environment({}), capture_output=True, timeout=LIMIT_S, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (6, b"", b"")
    runs.assert_clean()


def test_a_temporary_directory_whose_path_is_too_long(runs: World) -> None:
    long = runs.folder / ("d" * 100)
    long.mkdir()
    assert "too long a path" in failure(runs.run("run", acts(), "exit", 0, variables={"TMPDIR": str(long)}))
    assert list(long.iterdir()) == []


# Servers that are not there, or not ours.


@pytest.mark.parametrize("where", ["unix", "tcp", "unix-grpc", "silent"])
def test_no_server_within_five_seconds(runs: World, where: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener, socket.socket() as port:
        port.bind(("127.0.0.1", 0))
        address = f"unix:{runs.folder}/none" if where != "tcp" else f"127.0.0.1:{port.getsockname()[1]}"
        if where == "silent":
            address = f"unix:{runs.folder}/silent"
            listener.bind(f"{runs.folder}/silent.ring")
            listener.listen()
        options = ["--transport", "grpc"] if where == "unix-grpc" else []
        begin = time.monotonic()
        done = runs.run("run", *options, "--file", address, acts(), "exit", 0)
        took_s = time.monotonic() - begin
    line = failure(done)
    assert f"no server at {address}" in line
    assert 4.5 < took_s < 12
    runs.assert_clean()


class Stranger:
    """An Endpoint of a later time."""

    def hello(self, request: HelloRequest, peer: Peer) -> HelloResponse:
        del request, peer
        return HelloResponse(outcome=Outcome(refusal=REFUSAL_UNSUPPORTED), protocol_min=99, protocol_max=99)

    def submit(self, *_: object, **__: object) -> None:
        raise AssertionError("nobody has a session")

    def closed(self, *_: object) -> None:
        raise AssertionError("nobody has a session")


def test_protocol_range_mismatch_by_ring(runs: World) -> None:
    path = f"{runs.folder}/later"

    def answer(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(65536)
            connection.send(Stranger().hello(HelloRequest(), Peer("", "ring")).SerializeToString())

    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(f"{path}.ring")
        listener.listen()
        listener.settimeout(LIMIT_S)
        thread = threading.Thread(target=answer, args=(listener,))
        thread.start()
        done = runs.run("run", "--file", f"unix:{path}", acts(), "exit", 0)
        thread.join(LIMIT_S)
    line = failure(done)
    assert f"unix:{path} speaks protocol 99, this program 1" in line


async def test_protocol_range_mismatch_by_grpc(runs: World) -> None:
    async with trio.open_nursery() as nursery:
        address = await nursery.start(serve_grpc, Address(host="127.0.0.1", port=0), Stranger())
        with trio.fail_after(LIMIT_S):
            done = await trio.to_thread.run_sync(
                lambda: runs.run("run", "--file", str(address), acts(), "exit", 0)
            )
        nursery.cancel_scope.cancel()
    assert f"{address} speaks protocol 99, this program 1" in failure(done)


def test_a_server_of_another_kind(runs: World) -> None:
    address = f"unix:{runs.folder}/m"
    with processes.serving("memory", "--listen", address):
        for transport in ("ring", "grpc"):
            done = runs.run("run", "--transport", transport, "--file", address, acts(), "exit", 0)
            assert f"{address} refused: UNSUPPORTED" in failure(done)


def test_something_that_is_no_server(runs: World) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        assert address in failure(runs.run("run", "--file", address, acts(), "exit", 0))


# serve and doctor.


def test_serve_becomes_the_server(runs: World) -> None:
    address = f"unix:{runs.folder}/served"
    process = runs.start("serve", "memory", "--listen", address)
    assert process.stdout is not None
    assert processes.read_line(process.stdout.fileno(), LIMIT_S) == f"ready {address}\n"
    words = Path(f"/proc/{process.pid}/cmdline").read_bytes().split(b"\0")
    assert b"servers" in words and b"client_vm" not in words
    done = runs.run("doctor", address)
    assert done.returncode == 0
    assert f"ok    server at {address}: ring: speaks protocol 1; gRPC: SERVING\n" in done.stdout
    process.send_signal(signal.SIGTERM)
    assert process.wait(LIMIT_S) == 0


def test_serve_beyond_this_host(runs: World) -> None:
    done = runs.run("serve", "memory", "--listen", "0.0.0.0:0")
    assert done.returncode == 125
    assert "--insecure" in done.stderr and done.stderr.count("\n") == 1


def test_doctor(runs: World) -> None:
    done = runs.run("doctor")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert all(line[:6] in ("ok    ", "note  ") for line in lines)
    for name in ("python", "unicorn, x86_64", "unicorn, arm64", "sealed memory", "temporary directory"):
        assert any(line.startswith(f"ok    {name}: ") for line in lines), name


def test_doctor_misses_a_server(runs: World) -> None:
    done = runs.run("doctor", f"unix:{runs.folder}/none")
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1].startswith(f"FAIL  server at unix:{runs.folder}/none: no server at")
    assert runs.run("doctor", "nonsense").returncode == 1


def _ignore_and_block() -> None:
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])


def test_what_its_caller_ignores_and_blocks_the_guest_does_too() -> None:
    program = ["/bin/grep", "-E", "SigBlk|SigIgn", "/proc/self/status"]
    native, guest = (
        subprocess.run(
            [*before, *program],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=LIMIT_S,
            check=True,
            preexec_fn=_ignore_and_block,
        ).stdout
        for before in ([], [str(harness.FARCALL), "run", "--"])
    )
    assert guest == native != b""
