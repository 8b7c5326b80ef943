"""The gateway: lines that end in the kernel process, whose ring server hands a worker's calls on.

Either to a gRPC link, or to a service that is hosted here (`--transport inproc`).
"""

import os
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import trio

from client_vm.lines import Line, adopted_ring, local_peer
from farcall.v1 import session_pb2
from farcall.v1.session_pb2 import REFUSAL_UNSUPPORTED, HelloRequest, HelloResponse, Outcome
from ipc.address import Address
from ipc.credentials import Credentials, Security
from ipc.endpoint import Endpoint, Peer
from ipc.greeting import ConnectError, check_hello
from ipc.limits import RING_SPIN_SERVER_US
from ipc.ring_client import RingDescriptors
from ipc.ring_server import RingServer
from ipc.seams import Clock, LeaseClock

if TYPE_CHECKING:
    from client_vm.caching_link import CachingLink
    from ipc.beside_grpc import PassingLink
    from ipc.grpc_client import GrpcLink

ENTRY_POINTS: Final = "farcall.servers"
Background = Callable[[], Awaitable[Any]]


class GatewayLine:
    """To an endpoint in this process, by a ring that this process serves."""

    def __init__(
        self,
        hello: Callable[[HelloRequest, float | None], Awaitable[HelloResponse]],
        rings: RingServer,
    ) -> None:
        self._hello = hello
        self._rings = rings

    async def open(self, request: HelloRequest, doorbell: int, timeout_s: float | None) -> RingDescriptors:
        """As Line."""
        doorbell = os.dup(doorbell)  # whose owner may be gone by the time of the answer
        try:
            response = await self._hello(request, timeout_s)
        except BaseException:
            os.close(doorbell)
            raise
        return adopted_ring(self._rings, response, doorbell)

    async def server_died(self) -> None:
        """As Line: a link resumes and renews its sessions itself."""
        await trio.sleep_forever()


class LinkEndpoint:
    """A link as the endpoint of rings whose sessions were opened before they were made."""

    def __init__(self, link: "GrpcLink | PassingLink | CachingLink") -> None:
        self.submit = link.submit
        self.closed = link.closed

    def hello(self, request: HelloRequest, peer: Peer) -> HelloResponse:
        """Refuses: these rings are adopted, nobody greets them."""
        del request, peer
        return HelloResponse(outcome=Outcome(refusal=REFUSAL_UNSUPPORTED))


class Gateway:
    """Opens the lines that end in this process.

    Pumps run among `tasks`, what they call among `services`, which outlive them; `ended` undoes the rest.
    Sessions of this process's own act for `owner`, as the workers' do.
    """

    def __init__(
        self,
        clock: Clock,
        owner: session_pb2.Credentials,
        *,
        services: trio.Nursery,
        tasks: trio.Nursery,
        ended: AsyncExitStack,
        credentials: Credentials | None = None,
    ) -> None:
        self._clock = clock
        self._owner = owner
        self._services = services
        self._tasks = tasks
        self._ended = ended
        self._credentials = credentials

    async def link(self, kind: str, address: Address, deadline: float) -> Line:
        """A line by gRPC to a server of that kind, connected before the monotonic clock passes `deadline`.
        ConnectError."""
        from ipc import beside_grpc
        from ipc.grpc_client import GrpcLink  # imports grpc: 130 ms that only this transport is worth

        security = None
        if self._credentials is not None and not address.is_unix:
            security = Security(self._credentials, kind)
        link = await GrpcLink.connect(address, self._clock, deadline=deadline, security=security)
        self._ended.push_async_callback(link.aclose)
        if beside_grpc.has_way(address):
            return GatewayLine(link.hello, self._carry(LinkEndpoint(beside_grpc.PassingLink(link, self._tasks))))
        if kind == "network":
            from client_vm.network_relay import NetworkRelay

            relay = NetworkRelay(LinkEndpoint(link), link.hello, self._tasks)
            self._ended.callback(relay.close)
            return GatewayLine(relay.greet, self._carry(relay))
        if kind == "file" and not address.is_unix:
            return self._keeping(link)
        return GatewayLine(link.hello, self._carry(LinkEndpoint(link)))

    def _keeping(self, link: "GrpcLink") -> Line:
        """To a file server on another host, whose answers are kept while they are certain."""
        from client_vm.caching_link import CachingLink  # no other transport needs it

        caching = CachingLink(link, LeaseClock())
        self._tasks.start_soon(caching.keep, link.hello, self._owner)

        async def hello(request: HelloRequest, timeout_s: float | None) -> HelloResponse:
            response = await link.hello(request, timeout_s)
            caching.opened(request, response)
            offered = [code for code in response.opcodes if caching.carries(code)]
            del response.opcodes[:]
            response.opcodes.extend(offered)
            return response

        return GatewayLine(hello, self._carry(LinkEndpoint(caching)))

    def host(self, kind: str, state: Path, root: Path) -> Line:
        """A line to a service in this process, which is found by its entry point.

        ConnectError if it is not installed; OSError, one line, if it cannot start.
        """
        from importlib import metadata  # 30 ms that no other transport needs

        found = metadata.entry_points(group=ENTRY_POINTS, name=kind)
        if not found:
            raise ConnectError(f"no {kind} server is installed that could be hosted")
        make: Callable[[Path, Path], tuple[Endpoint, Background]] = next(iter(found)).load()
        endpoint, background = make(state, root)
        self._services.start_soon(background)

        async def hello(request: HelloRequest, timeout_s: float | None) -> HelloResponse:
            del timeout_s  # it answers at once
            await trio.lowlevel.checkpoint()
            response = endpoint.hello(request, local_peer())
            check_hello(f"the {kind} server", request, response)
            return response

        return GatewayLine(hello, self._serve(endpoint))

    def _carry(self, endpoint: Endpoint) -> RingServer:
        """Rings whose calls a link carries: while their pump looked for the next one, the link could not send."""
        return self._serve(endpoint, spin_us=0)

    def _serve(self, endpoint: Endpoint, spin_us: int = RING_SPIN_SERVER_US) -> RingServer:
        rings = RingServer(endpoint, self._clock, spin_us=spin_us)
        self._ended.callback(rings.close)
        self._tasks.start_soon(rings.run)
        return rings
