"""Where services meet the host: state directories, and services hosted by another process.

The entry points of group "farcall.servers" are `file`, `memory`, `network`; the kernel process finds them by name
for `--transport inproc`. A server of its own process is servers.process. servers/README.md has both.
"""

from collections.abc import Awaitable, Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple, NoReturn

import trio

from ipc.endpoint import Endpoint
from ipc.seams import Clock, HostClock, HostRandom, Random
from servers.dispatch import Dispatcher
from servers.service import Running, Service
from servers.sessions import EXPIRE_INTERVAL_S

Background = Callable[[], Awaitable[NoReturn]]


class StartError(OSError):
    """The server cannot start: one line, for a person. An OSError, as its host may not know this module."""


@dataclass(frozen=True, slots=True)
class Options:
    """What a service is made of. `quota_bytes` None: half of the host's memory."""

    state: Path | None = None
    root: Path = Path("/")
    quota_bytes: int | None = None
    egress: tuple[str, ...] = ()
    """Of the network server: what its guests may reach, as CIDR[:PORT]."""
    may_publish: bool = False
    """Whether its guests may have ports of this host."""


class Hosted(NamedTuple):
    """A service, ready to be called."""

    endpoint: Dispatcher
    background: Background
    """Ends sessions whose lease runs out. To be run beside the endpoint's carriers, in the same thread, and
    cancelled after them; it then closes the service and gives the state directory free."""


def make_endpoint(
    kind: str, options: Options, clock: Clock | None = None, random: Random | None = None
) -> Hosted:
    """The service of that kind ("file", "memory", "network"), its recovery complete. StartError."""
    clock, random = clock or HostClock(), random or HostRandom()
    service = _SERVICES[kind](options, clock, random)
    endpoint = Dispatcher(service, clock, random)

    async def background() -> NoReturn:
        with closing(service):
            try:
                async with trio.open_nursery() as tasks:
                    if isinstance(service, Running):
                        tasks.start_soon(service.run)
                    while True:
                        await trio.sleep(EXPIRE_INTERVAL_S)
                        endpoint.expire()
            finally:
                endpoint.drain()

    return Hosted(endpoint, background)


def file(state: Path | None, root: Path, quota_bytes: int | None = None) -> tuple[Endpoint, Background]:
    """Entry point "file": the file server over `root`, its store in `state`. See Hosted. StartError."""
    return make_endpoint("file", Options(state, root, quota_bytes))


def memory(state: Path | None, root: Path, quota_bytes: int | None = None) -> tuple[Endpoint, Background]:
    """Entry point "memory": uses neither directory. See Hosted. StartError."""
    return make_endpoint("memory", Options(state, root, quota_bytes))


def network(state: Path | None, root: Path, quota_bytes: int | None = None) -> tuple[Endpoint, Background]:
    """Entry point "network": uses neither directory; a loopback alone. See Hosted. StartError."""
    return make_endpoint("network", Options(state, root, quota_bytes))


def _file_service(options: Options, clock: Clock, random: Random) -> Service:
    from servers.file.service import open_file_service  # brings SQLite, which no other server needs
    from servers.file.store import StateInUseError, StateUnusableError

    if options.state is None:
        raise StartError("the file server needs a state directory")
    if not options.root.is_dir():
        raise StartError(f"{options.root}: not a directory")
    try:
        options.state.mkdir(mode=0o700, parents=True, exist_ok=True)
        return open_file_service(options.state, options.root, clock, random)
    except StateInUseError:
        raise StartError(f"{options.state}: in use by another server") from None
    except StateUnusableError as error:
        raise StartError(f"{options.state}: {error}") from None
    except OSError as error:
        raise StartError(f"{options.state}: {error.strerror or error}") from None


def _memory_service(options: Options, clock: Clock, random: Random) -> Service:
    from servers.ledger import MemoryLedger
    from servers.memory import MemoryService, default_quota_bytes

    quota_bytes = default_quota_bytes() if options.quota_bytes is None else options.quota_bytes
    return MemoryService(MemoryLedger(clock, random), quota_bytes)


def _network_service(options: Options, clock: Clock, random: Random) -> Service:
    from servers.ledger import MemoryLedger
    from servers.network.addresses import Egress, Rule
    from servers.network.outside import is_own
    from servers.network.service import NetworkService

    try:
        rules = tuple(Rule.parse(text) for text in options.egress)
    except ValueError as error:
        raise StartError(f"--egress {error}") from None
    return NetworkService(MemoryLedger(clock, random), random, Egress(rules, is_own), options.may_publish)


_SERVICES: Final[dict[str, Callable[[Options, Clock, Random], Service]]] = {
    "file": _file_service,
    "memory": _memory_service,
    "network": _network_service,
}
