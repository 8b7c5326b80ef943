"""`python -m servers` as people and the kernel process use it: real processes, signals, sockets, deaths."""

import errno
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from farcall.v1.file_pb2 import MakeDirectoryRequest, Place, RemoveRequest
from farcall.v1.memory_pb2 import UsageRequest
from farcall.v1.session_pb2 import SERVER_KIND_FILE, SERVER_KIND_MEMORY, Credentials, HelloRequest
from ipc.address import parse_address
from ipc.client import Client, SessionLostError
from ipc.grpc_channel import check_health
from ipc.grpc_client import UnaryChannel
from ipc.identity import identify
from ipc.limits import LEASE_MS, PROTOCOL_MAX, PROTOCOL_MIN
from ipc.message import pack_call
from ipc.operations import BY_NAME
from ipc.seams import HostClock
from tests.e2e.processes import (
    END_S,
    READY_S,
    RingSession,
    Server,
    command,
    environment,
    read_line,
    run,
    serving,
)

GRANT = BY_NAME["Grant"]
SECONDS = 2.0
"""How long what a death left behind may last."""


@pytest.fixture
def rings() -> Iterator[Callable[[str], RingSession]]:
    """Makes sessions with a memory server at a ring socket's path."""
    with ExitStack() as held:

        def make(path: str) -> RingSession:
            session = RingSession(path, SERVER_KIND_MEMORY)
            held.callback(session.close)
            return session

        yield make


@pytest.fixture
def make_client(rings: Callable[[str], RingSession]) -> Iterator[Callable[[str], Client]]:
    """The same, already open."""
    with ExitStack() as held:

        def make(path: str) -> Client:
            client = rings(path).open()
            held.callback(client.close)
            return client

        yield make


def gone_within(seconds: float, gone: Callable[[], bool]) -> bool:
    """Whether that becomes true in time."""
    deadline = time.monotonic() + seconds
    while not gone():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def maps(server: Server) -> str:
    return Path(f"/proc/{server.process.pid}/maps").read_text()


def grant_by_grpc(address: str) -> int:
    """Opens a session over gRPC and asks for 4096 bytes; what the session holds then."""
    channel = UnaryChannel(parse_address(address), HostClock())
    try:
        hello = channel.hello(
            HelloRequest(
                protocol_min=PROTOCOL_MIN,
                protocol_max=PROTOCOL_MAX,
                kind=SERVER_KIND_MEMORY,
                credentials=Credentials(uid=1),
            )
        )
        assert hello.lease_ms == LEASE_MS
        call = pack_call(GRANT, 4096)
        identify(call, hello.session, 0, 1)
        tag = channel.submit(call)
        reply = channel.wait(tag, time.monotonic() + READY_S)
        assert reply is not None and (reply.errno, reply.refusal) == (0, 0)
        channel.release(tag)
        return reply.result
    finally:
        channel.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_rings_only(tmp_path: Path, make_client: Callable[[str], Client], number: int) -> None:
    path = tmp_path / "m"
    with serving("memory", "--listen", f"unix:{path}", "--ring-only") as server:
        assert server.address == f"unix:{path}"
        assert os.listdir(tmp_path) == ["m.ring"]
        client = make_client(f"{path}.ring")
        assert client.call_packed(GRANT, 4096).result == 4096
        assert "cygrpc" not in maps(server) and "apsw" not in maps(server)
        assert server.stop(number) == 0
        assert server.errors() == ""
    assert os.listdir(tmp_path) == []


def test_rings_and_grpc_at_one_path(tmp_path: Path, make_client: Callable[[str], Client]) -> None:
    path = tmp_path / "m"
    with serving("memory", "--listen", f"unix:{path}", "--quota", 12288) as server:
        assert sorted(os.listdir(tmp_path)) == ["m", "m.ring"]
        assert all(stat.S_IMODE(entry.lstat().st_mode) == 0o600 for entry in tmp_path.iterdir())
        client = make_client(f"{path}.ring")
        assert client.call_packed(GRANT, 4096).result == 4096
        assert grant_by_grpc(server.address) == 4096
        _, usage = client.call(UsageRequest())
        assert (usage.grants, usage.quota_bytes) == (2, 12288)  # one server, whatever the carrier
        assert check_health(parse_address(server.address)) == "SERVING"
        assert server.stop() == 0
        assert server.errors() == ""
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_tcp_with_a_port_of_the_hosts_choice(host: str) -> None:
    with serving("memory", "--listen", f"{host}:0") as server:
        assert not server.address.endswith(":0")
        assert grant_by_grpc(server.address) == 4096
        assert server.stop() == 0
        assert server.errors() == ""


WRONG = [
    (),
    ("tape",),
    ("memory",),
    ("memory", "--listen", "nonsense"),
    ("memory", "--listen", "unix:"),
    ("memory", "--listen", "unix:/" + "x" * 200),
    ("memory", "--listen", "unix:/proc/no/where"),
    ("memory", "--listen", "0.0.0.0:0"),
    ("memory", "--listen", "127.0.0.1:0", "--ring-only"),
    ("memory", "--listen", "127.0.0.1:99999"),
    ("memory", "--listen", "127.0.0.1:0", "--quota", "-1"),
    ("memory", "--listen", "127.0.0.1:0", "--quota", "much"),
    ("memory", "--listen", "127.0.0.1:0", "--state", "/tmp"),
    ("memory", "--listen", "127.0.0.1:0", "--ready-fd", "99"),
    ("memory", "--listen", "unix:/tmp/m", "--private", "/tmp"),
    ("memory", "--listen", "unix:/tmp/m", "--private", "/no/where"),
]


@pytest.mark.parametrize("arguments", WRONG, ids=lambda arguments: " ".join(arguments)[:40])
def test_wrong_usage_is_one_line_and_125(arguments: tuple[str, ...]) -> None:
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (125, "")
    assert done.stderr.count("\n") == 1 and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("state", "root"), [("state", "no/such"), ("file", "."), ("file/beneath", "."), ("spoilt", ".")]
)
def test_a_file_server_that_cannot_use_its_directories(tmp_path: Path, state: str, root: str) -> None:
    (tmp_path / "file").write_text("not a directory")
    (tmp_path / "spoilt").mkdir()
    (tmp_path / "spoilt" / "store.sqlite").write_text("not a database" * 1000)
    where = ("--state", tmp_path / state, "--root", tmp_path / root)
    done = run("file", "--listen", f"unix:{tmp_path}/f", "--ring-only", *where)
    assert (done.returncode, done.stdout) == (125, "")
    assert done.stderr.count("\n") == 1 and "Traceback" not in done.stderr


def test_a_state_belongs_to_one_server(tmp_path: Path) -> None:
    state = ("--ring-only", "--state", tmp_path / "state", "--root", tmp_path)
    with serving("file", "--listen", f"unix:{tmp_path}/a", *state) as server:
        done = run("file", "--listen", f"unix:{tmp_path}/b", *state)
        assert done.returncode == 125 and "in use" in done.stderr and done.stderr.count("\n") == 1
        assert server.stop() == 0
    with serving("file", "--listen", f"unix:{tmp_path}/b", *state) as server:
        assert server.stop() == 0


def test_a_state_nobody_asked_for_is_removed(tmp_path: Path) -> None:
    listen = ("--listen", f"unix:{tmp_path}/f", "--ring-only")
    with serving("file", *listen, "--root", tmp_path, TMPDIR=str(tmp_path)) as server:
        assert len(list(tmp_path.glob("farcall-state-*/*"))) > 0
        assert server.stop() == 0
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_session_outlives_its_server(tmp_path: Path, number: int) -> None:
    where = ("--state", tmp_path / "state", "--root", tmp_path)
    arguments = ("file", "--listen", f"unix:{tmp_path}/f", "--ring-only", *where)
    with ExitStack() as held:
        session = RingSession(f"{tmp_path}/f.ring", SERVER_KIND_FILE)
        held.callback(session.close)
        server = held.enter_context(serving(*arguments))
        client = session.open()
        held.callback(client.close)
        session.revive = lambda: held.enter_context(serving(*arguments))
        path = Place(path=b"/d")
        assert client.call(MakeDirectoryRequest(place=path, mode=0o755))[0].errno == 0
        epoch = session.hello.boot_epoch
        assert server.stop(number) == (0 if number == signal.SIGTERM else -number)
        assert client.call(MakeDirectoryRequest(place=path, mode=0o755))[0].errno == errno.EEXIST
        assert session.lost == 1 and session.hello.boot_epoch > epoch
        assert client.call(RemoveRequest(place=path, directory=True))[0].errno == 0


def test_beyond_loopback_only_if_said_aloud() -> None:
    with serving("memory", "--listen", "0.0.0.0:0", "--insecure") as server:
        assert server.stop() == 0


def test_a_second_server_at_the_same_path_is_refused(
    tmp_path: Path, make_client: Callable[[str], Client]
) -> None:
    address = f"unix:{tmp_path}/m"
    with serving("memory", "--listen", address) as server:
        for more in ((), ("--ring-only",)):
            done = run("memory", "--listen", address, *more)
            assert done.returncode == 125 and "listen" in done.stderr and done.stderr.count("\n") == 1
        assert make_client(f"{tmp_path}/m.ring").call_packed(GRANT, 1).result == 1
        assert grant_by_grpc(address) == 4096
        assert server.stop() == 0


def test_a_killed_memory_server_forgets_its_sessions(tmp_path: Path, rings: Callable[[str], RingSession]) -> None:
    arguments = ("memory", "--listen", f"unix:{tmp_path}/m", "--ring-only")
    session = rings(f"{tmp_path}/m.ring")
    with ExitStack() as held:
        servers = [held.enter_context(serving(*arguments))]
        client = session.open()
        epoch = session.hello.boot_epoch
        assert client.call_packed(GRANT, 4096).result == 4096
        session.revive = lambda: servers.append(held.enter_context(serving(*arguments)))
        servers[0].stop(signal.SIGKILL)
        with pytest.raises(SessionLostError):
            client.call_packed(GRANT, 4096)
        client.close()
        assert session.lost == 1
        session.hello.Clear()
        client = session.open()
        assert session.hello.boot_epoch > epoch
        assert client.call_packed(GRANT, 8192).result == 8192
        client.close()
        assert servers[1].stop() == 0


def test_sockets_of_a_killed_server_are_replaced(tmp_path: Path, make_client: Callable[[str], Client]) -> None:
    arguments = ("memory", "--listen", f"unix:{tmp_path}/m")
    with serving(*arguments) as server:
        server.stop(signal.SIGKILL)
        assert sorted(os.listdir(tmp_path)) == ["m", "m.ring"]
    with serving(*arguments) as server:
        assert make_client(f"{tmp_path}/m.ring").call_packed(GRANT, 1).result == 1
        assert grant_by_grpc(server.address) == 4096
        assert server.stop() == 0
    assert os.listdir(tmp_path) == []


PARENT = """
import os, subprocess, sys, threading
pipe = int(sys.argv[1])
def start():
    child = subprocess.Popen(sys.argv[2:], pass_fds=[pipe])
    print(child.pid, flush=True)
# From a thread that ends at once, as trio's worker threads may: the server must not take that for our end.
thread = threading.Thread(target=start)
thread.start()
thread.join()
os.close(pipe)
sys.stdin.read()
"""


@pytest.fixture
def private() -> Iterator[Path]:
    """A run's directory."""
    made = Path(
        os.path.realpath(subprocess.check_output(["mktemp", "-d", "/tmp/farcall-test-XXXXXX"], text=True).strip())
    )
    yield made
    subprocess.run(["rm", "-rf", made], check=True, timeout=END_S)


def alive(pid: int) -> bool:
    """Whether the process runs (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_private_server_ends_with_its_parent(private: Path, make_client: Callable[[str], Client]) -> None:
    (private / "file" / "data").mkdir(parents=True)
    (private / "file" / "data" / "x").touch()
    receive, send = os.pipe()
    arguments = (
        "memory",
        "--listen",
        f"unix:{private}/m",
        "--ring-only",
        "--private",
        private,
        "--ready-fd",
        send,
    )
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, str(send), *command(*arguments)],
        env=environment(),
        pass_fds=[send],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as parent:
        try:
            os.close(send)
            assert parent.stdout is not None
            pid = int(read_line(parent.stdout.fileno()))
            assert read_line(receive) == f"ready unix:{private}/m\n"
            assert make_client(f"{private}/m.ring").call_packed(GRANT, 1).result == 1
            assert os.getsid(pid) == pid and alive(pid)
        finally:
            parent.kill()
            parent.wait(END_S)
            os.close(receive)
    assert gone_within(SECONDS, lambda: not alive(pid))
    assert gone_within(SECONDS, lambda: not private.exists())


def test_a_private_server_stopped_alone_leaves_the_others_theirs(private: Path) -> None:
    with (
        serving("memory", "--listen", f"unix:{private}/a", "--ring-only", "--private", private) as one,
        serving("memory", "--listen", f"unix:{private}/b", "--ring-only", "--private", private) as two,
    ):
        assert one.stop() == 0
        assert os.listdir(private) == ["b.ring"]
        assert two.stop() == 0
    assert os.listdir(private) == []


def test_a_private_server_whose_parent_is_gone_at_the_start_ends(private: Path) -> None:
    done = run("memory", "--listen", f"unix:{private}/m", "--ring-only", "--private", private, "--parent", 2**22)
    assert done.returncode == 0 and done.stderr == ""
    assert not private.exists()


def test_a_public_directory_is_not_taken_for_a_private_one(private: Path) -> None:
    private.chmod(0o755)
    done = run("memory", "--listen", f"unix:{private}/m", "--ring-only", "--private", private)
    assert done.returncode == 125 and done.stderr.count("\n") == 1
    assert private.exists()
