"""What the network server's tests share: a server, guests with sessions, their sockets."""

import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import trio
from google.protobuf.message import Message

from farcall.v1 import network_pb2 as pb
from farcall.v1.session_pb2 import SERVER_KIND_NETWORK, Credentials
from ipc.message import decode_response, encode_request
from ipc.operations import BY_REQUEST
from ipc.passing import receive_descriptors
from ipc.records import RECORD_BYTES, decode_record
from servers.dispatch import Dispatcher
from servers.ledger import MemoryLedger
from servers.network.addresses import Egress, Rule
from servers.network.outside import is_own
from servers.network.service import NetworkService
from tests.unit.serving import DIRECT, Caller, CountingRandom, ManualClock, hello

V4, V6 = pb.ADDRESS_FAMILY_IPV4, pb.ADDRESS_FAMILY_IPV6
STREAM, DATAGRAM = pb.SOCKET_KIND_STREAM, pb.SOCKET_KIND_DATAGRAM
LOOP = bytes((127, 0, 0, 1))
LIMIT_S = 5


@dataclass
class Near:
    """A guest's socket: its capability and near end."""

    capability: bytes
    end: socket.socket


@dataclass
class Guests:
    """A network server and one session of it."""

    server: "Server"
    caller: Caller

    def call(self, request: Message) -> Any:
        """The response. OSError: its errno."""
        recorded = BY_REQUEST[type(request)].recorded
        call = (self.caller.new if recorded else self.caller.pure)(encode_request(request))
        reply = self.caller.send(call)
        assert not reply.refusal
        if reply.errno:
            raise OSError(reply.errno, os.strerror(reply.errno))
        response = decode_response(call, reply)
        return (response, reply.take_descriptor()) if BY_REQUEST[type(request)].carries_descriptor else response

    def open(self, family: Any = V4, kind: Any = STREAM) -> Near:
        self.server.count += 1
        capability = self.server.count.to_bytes(16, "big")
        _, descriptor = self.call(pb.OpenSocketRequest(socket=capability, family=family, kind=kind))
        near = Near(capability, socket.socket(fileno=descriptor))
        near.end.setblocking(False)
        self.server.closed_at_the_end.append(near.end)
        return near

    def bind(self, near: Near, host: bytes = LOOP, port: int = 0, **flags: Any) -> pb.SocketAddress:
        request = pb.BindRequest(socket=near.capability, address=pb.SocketAddress(host=host, port=port), **flags)
        local: pb.SocketAddress = self.call(request).local
        return local

    def listen(self, near: Near, backlog: int = 10) -> pb.SocketAddress:
        local: pb.SocketAddress = self.call(pb.ListenRequest(socket=near.capability, backlog=backlog)).local
        return local

    def connect(self, near: Near, port: int, host: bytes = LOOP, **flags: Any) -> pb.ConnectResponse:
        address = pb.SocketAddress(host=host, port=port)
        response: pb.ConnectResponse = self.call(
            pb.ConnectRequest(socket=near.capability, address=address, **flags)
        )
        return response

    def describe(self, near: Near) -> pb.DescribeSocketResponse:
        response: pb.DescribeSocketResponse = self.call(pb.DescribeSocketRequest(socket=near.capability))
        return response


class Server:
    """The service, its dispatcher, and what its rules allow."""

    def __init__(self, egress: tuple[str, ...] = (), may_publish: bool = False) -> None:
        self.count = 0
        self.closed_at_the_end: list[socket.socket] = []
        clock, random = ManualClock(), CountingRandom()
        rules = Egress(map(Rule.parse, egress), is_own)
        self.service = NetworkService(MemoryLedger(clock, random), random, rules, may_publish)
        self.dispatcher = Dispatcher(self.service, clock, random)

    def guests(self, uid: int = 0, egress: tuple[str, ...] = ()) -> Guests:
        opened = hello(
            self.dispatcher, kind=SERVER_KIND_NETWORK, credentials=Credentials(uid=uid), egress=list(egress)
        )
        return Guests(self, Caller(self.dispatcher, opened.session, DIRECT))


def accept(near: Near) -> tuple[pb.Connection, socket.socket]:
    record, descriptors, _ = receive_descriptors(near.end, RECORD_BYTES, 4)
    made = socket.socket(fileno=descriptors[0])
    made.setblocking(False)
    return pb.Connection.FromString(decode_record(record)), made


@asynccontextmanager
async def serving(egress: tuple[str, ...] = (), may_publish: bool = False) -> AsyncIterator[Server]:
    """A server that runs."""
    server = Server(egress, may_publish)
    async with trio.open_nursery() as tasks:
        tasks.start_soon(server.service.run)
        yield server
        tasks.cancel_scope.cancel()
    server.service.close()
    for end in server.closed_at_the_end:
        end.close()


async def until_readable(end: socket.socket) -> None:
    with trio.fail_after(LIMIT_S):
        await trio.lowlevel.wait_readable(end)
