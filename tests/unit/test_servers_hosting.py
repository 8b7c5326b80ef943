"""Services hosted by another process, through their entry points."""

from pathlib import Path

import pytest
import trio
import trio.testing

from farcall.v1.session_pb2 import SERVER_KIND_FILE, SERVER_KIND_MEMORY
from ipc.endpoint import Peer
from servers import entry
from servers.entry import Options, StartError, make_endpoint
from servers.sessions import EXPIRE_INTERVAL_S, LEASE_S
from tests.unit.serving import CountingRandom, ManualClock, hello

RING = Peer("uid:0", "ring")


async def test_a_hosted_file_server_gives_its_state_free(tmp_path: Path) -> None:
    session = 0
    for _ in range(2):
        endpoint, background = entry.file(tmp_path / "state", tmp_path)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(background)
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(StartError, match="in use"):
                entry.file(tmp_path / "state", tmp_path)
            opened = hello(endpoint, RING, kind=SERVER_KIND_FILE).session
            assert opened > session
            session = opened
            nursery.cancel_scope.cancel()
        endpoint.closed(session, RING)  # carriers may end late; the service is closed already


async def test_a_hosted_memory_server(tmp_path: Path) -> None:
    endpoint, _ = entry.memory(None, tmp_path, quota_bytes=4096)
    assert hello(endpoint, RING, kind=SERVER_KIND_MEMORY).session


@pytest.mark.parametrize(
    "options", [Options(None), Options(Path("/proc/x")), Options(Path("/tmp/x"), Path("/no"))]
)
def test_what_cannot_start_says_why_in_one_line(options: Options) -> None:
    with pytest.raises(OSError) as caught:
        entry.file(options.state, options.root)
    assert str(caught.value) and "\n" not in str(caught.value)


class TrioClock(ManualClock):
    """Follows trio's clock, which the test holds."""

    def monotonic_s(self) -> float:
        return trio.current_time()


async def test_leases_end_in_the_background(autojump_clock: trio.testing.MockClock) -> None:
    hosted = make_endpoint("memory", Options(quota_bytes=1), TrioClock(), CountingRandom())
    session = hello(hosted.endpoint, Peer("insecure", "grpc"), kind=SERVER_KIND_MEMORY).session
    async with trio.open_nursery() as nursery:
        nursery.start_soon(hosted.background)
        await trio.sleep(LEASE_S - 0.5)
        assert session in hosted.endpoint.sessions.live
        await trio.sleep(0.5 + 1.5 * EXPIRE_INTERVAL_S)
        assert session not in hosted.endpoint.sessions.live
        nursery.cancel_scope.cancel()
