"""Calls beside gRPC: what else comes over that socket is refused; who asks waits for a server that is away."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
import trio
import trio.testing

from farcall.v1.file_pb2 import DonateRequest, DonateResponse
from farcall.v1.session_pb2 import REFUSAL_UNSUPPORTED, CarryRequest, HelloRequest
from ipc import batch
from ipc.address import Address
from ipc.beside_grpc import PassingLink, ask, has_way
from ipc.endpoint import UNIX_GRPC, Peer
from ipc.grpc_client import GrpcLink
from ipc.limits import HELLO_TIMEOUT_S
from ipc.message import Call, Reply, encode_request
from ipc.ring_client import RingUnavailableError
from ipc.ring_server import serve_rings
from ipc.seams import HostClock
from tests.contract.carriers import CLIENT_LIMIT_S, ScriptedEndpoint, ping
from tests.contract.carriers_grpc import serving_grpc

DONATE = encode_request(DonateRequest(handle=7))
DONATE.session = 1
WORKER = Peer("worker", "ring")


class Donor(ScriptedEndpoint):
    """Donates an empty file, whatever it is asked for."""

    def submit(
        self, call: Call, peer: Peer, complete: Callable[[Reply], None], into: memoryview | None = None
    ) -> None:
        self.peers.add(peer)
        descriptor = os.memfd_create("donated")
        complete(Reply(body=DonateResponse(mapped=True).SerializeToString(), descriptor=descriptor))


def frame(*calls: Call) -> bytes:
    request = CarryRequest()
    for call in calls:
        batch.add_call(request, 1, call)
    return request.SerializeToString()


async def said(path: str, datagram: bytes) -> bytes:
    """The answer; nothing if the server hangs up."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK) as connection:
        connection.connect(path)
        connection.send(datagram)
        with trio.fail_after(CLIENT_LIMIT_S):
            await trio.lowlevel.wait_readable(connection)
        return connection.recv(1 << 17)


async def test_one_call_that_carries_a_descriptor_and_nothing_else(tmp_path: Path) -> None:
    path = str(tmp_path / "server.ring")
    donor = Donor()
    async with trio.open_nursery() as nursery:
        await nursery.start(serve_rings, path, donor)
        reply = await ask(path, DONATE)
        os.close(reply.take_descriptor())
        assert DonateResponse.FromString(reply.body).mapped
        assert donor.peers == {UNIX_GRPC}
        assert await ask(path, ping(3)) == Reply(refusal=REFUSAL_UNSUPPORTED)
        for datagram in (
            b"\xff nonsense",
            frame(),
            frame(DONATE, DONATE),
            frame(Call(DONATE.opcode, DONATE.body, session=1, seq=1, digest=b"short")),
            HelloRequest(protocol_min=1, protocol_max=1).SerializeToString(),
        ):
            assert await said(path, datagram) == b""
        os.close((await ask(path, DONATE)).take_descriptor())
        nursery.cancel_scope.cancel()


async def test_who_asks_waits_for_a_server_and_no_longer_than_its_session(tmp_path: Path) -> None:
    address = Address(path=str(tmp_path / "server"))
    assert not has_way(address) and not has_way(Address(host="127.0.0.1", port=1))
    replies: list[Reply] = []
    async with trio.open_nursery() as nursery, serving_grpc(Donor(), address):
        link = await GrpcLink.connect(address, HostClock(), deadline=HostClock().monotonic_s() + HELLO_TIMEOUT_S)
        async with trio.open_nursery() as tasks:
            passing = PassingLink(link, tasks)
            with pytest.raises(RingUnavailableError):
                await ask(address.ring_path, DONATE)
            passing.submit(DONATE, WORKER, replies.append)
            passing.closed(DONATE.session, WORKER)
        assert replies == []
        async with trio.open_nursery() as tasks:
            passing = PassingLink(link, tasks)
            passing.submit(DONATE, WORKER, replies.append)
            await trio.testing.wait_all_tasks_blocked()
            await nursery.start(serve_rings, address.ring_path, Donor())
            assert has_way(address)
        os.close(replies[0].take_descriptor())
        await link.aclose()
        nursery.cancel_scope.cancel()
