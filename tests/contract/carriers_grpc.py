"""gRPC for the contract suite: unary calls, and a ring whose server is a gateway over the stream."""

import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from farcall.v1.session_pb2 import HelloRequest, HelloResponse
from ipc.address import Address
from ipc.beside_grpc import PassingLink, has_way
from ipc.endpoint import Channel, Endpoint, Peer
from ipc.grpc_client import GrpcLink, UnaryChannel
from ipc.grpc_server import serve_grpc
from ipc.limits import HELLO_TIMEOUT_S, PROTOCOL_MAX, PROTOCOL_MIN
from ipc.message import Call, Reply
from ipc.operations import BY_NAME
from ipc.ring_client import RingChannel
from ipc.ring_server import RingServer, serve_rings
from ipc.seams import HostClock

if TYPE_CHECKING:
    from tests.contract.carriers import Host

GOODBYE = BY_NAME["Goodbye"].opcode
REQUEST = HelloRequest(protocol_min=PROTOCOL_MIN, protocol_max=PROTOCOL_MAX)
CLOCK = HostClock()


class GoodbyeEndpoint:
    """Does with Goodbye what a dispatcher does: the session ends, once."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.ended: set[int] = set()

    def hello(self, request: HelloRequest, peer: Peer) -> HelloResponse:
        return self.endpoint.hello(request, peer)

    def submit(
        self, call: Call, peer: Peer, complete: Callable[[Reply], None], into: memoryview | None = None
    ) -> None:
        if call.opcode == GOODBYE:
            if call.session not in self.ended:
                self.ended.add(call.session)
                self.endpoint.closed(call.session, peer)
            complete(Reply())
        else:
            self.endpoint.submit(call, peer, complete, into)

    def closed(self, session: int, peer: Peer) -> None:
        self.endpoint.closed(session, peer)


@asynccontextmanager
async def serving_grpc(endpoint: Endpoint, address: Address) -> AsyncIterator[Address]:
    """The endpoint served at an address, in the test's own process."""
    async with trio.open_nursery() as nursery:
        yield await nursery.start(serve_grpc, address, GoodbyeEndpoint(endpoint))
        nursery.cancel_scope.cancel()


class GrpcUnary:
    name = "gRPC unary"

    @asynccontextmanager
    async def serve(self, endpoint: Endpoint, directory: Path) -> AsyncIterator["Host"]:
        from tests.contract.carriers import ThreadHost

        place = Address(path=str(directory / "server"))
        async with trio.open_nursery() as closers, serving_grpc(endpoint, place) as address:

            async def connect() -> tuple[HelloResponse, Channel]:
                channel = UnaryChannel(address, CLOCK)
                response = await trio.to_thread.run_sync(channel.hello, REQUEST)
                return response, ClosedInThread(channel, closers)

            yield ThreadHost(connect)
            while closers.child_tasks:
                await trio.lowlevel.checkpoint()


class ClosedInThread:
    """A channel that may be closed by the server's own thread, which then must not wait for the Goodbye."""

    def __init__(self, channel: UnaryChannel, closers: trio.Nursery) -> None:
        self.submit, self.wait, self.release = channel.submit, channel.wait, channel.release
        self.poll = channel.poll
        self._close = channel.close
        self._closers = closers

    def close(self) -> None:
        self._closers.start_soon(trio.to_thread.run_sync, self._close)


class Gateway:
    """As the link, with the Hello that was said before the ring was made."""

    def __init__(self, link: PassingLink) -> None:
        self.submit, self.closed = link.submit, link.closed

    def hello(self, request: HelloRequest, peer: Peer) -> HelloResponse:
        raise AssertionError("rings of a gateway are adopted")


class GrpcGateway:
    """Worker, ring, gateway, stream, server; and what passes beside the stream."""

    name = "gRPC stream"

    @asynccontextmanager
    async def serve(self, endpoint: Endpoint, directory: Path) -> AsyncIterator["Host"]:
        from tests.contract.carriers import Doorbell, ThreadHost

        peer = Peer("worker", "ring")
        async with (
            trio.open_nursery() as passing,
            serving_grpc(endpoint, Address(path=str(directory / "server"))) as address,
        ):
            await passing.start(serve_rings, address.ring_path, endpoint)
            link = await GrpcLink.connect(address, CLOCK, deadline=CLOCK.monotonic_s() + HELLO_TIMEOUT_S)
            assert has_way(address)
            server = RingServer(Gateway(PassingLink(link, passing)))

            async def connect() -> tuple[HelloResponse, Channel]:
                response = await link.hello(REQUEST)
                ours, control = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                memfd = server.adopt(ours, os.dup(doorbell.sender.fileno()), response.session, peer)
                channel = RingChannel(memfd, control, doorbell.receiver, clock=CLOCK, spin_us=0)
                return response, channel

            with Doorbell() as doorbell, closing(server):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(server.run)
                    yield ThreadHost(connect)
                    nursery.cancel_scope.cancel()
            await link.aclose()
            passing.cancel_scope.cancel()
