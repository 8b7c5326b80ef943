"""`farcall run -p`: the kernel process's own session with the network server, whose ports live as long."""

import os
import socket
from collections.abc import Sequence
from contextlib import ExitStack

import trio

from client_vm.errors import EXIT_FAILURE, StartError
from client_vm.lines import Line
from client_vm.options import Published
from farcall.v1.network_pb2 import PublishRequest, SocketAddress
from farcall.v1.session_pb2 import HelloRequest, HelloResponse
from ipc.client import Client, ServerTimeoutError, SessionLostError, UnsupportedError
from ipc.endpoint import Channel
from ipc.limits import HELLO_TIMEOUT_S
from ipc.ring_client import RingChannel
from ipc.seams import Clock


async def publish(line: Line, request: HelloRequest, ports: Sequence[Published], clock: Clock) -> ExitStack:
    """Publishes the ports until what it returns is closed. StartError, one line; ConnectError."""
    with ExitStack() as held:
        heard, bell = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        held.callback(heard.close)
        held.callback(bell.close)
        opened = await line.open(request, bell.fileno(), HELLO_TIMEOUT_S)
        channel = RingChannel(opened.memfd, opened.control, heard, clock=clock)
        held.callback(channel.close)
        # In a thread: the ring may end in this very process, whose tasks must go on meanwhile.
        await trio.to_thread.run_sync(_call, channel, opened.response, ports, clock)
        return held.pop_all()


def _call(channel: RingChannel, response: HelloResponse, ports: Sequence[Published], clock: Clock) -> None:
    """StartError."""

    def lost() -> Channel:
        raise SessionLostError("the network server is gone")

    client = Client(
        channel,
        session=response.session,
        opcodes=response.opcodes,
        reconnect=lost,
        clock=clock,
        pause=lambda seconds: trio.from_thread.run(trio.sleep, seconds),
        server_timeout_s=HELLO_TIMEOUT_S,
    )
    for port in ports:
        _publish_one(client, port)


def _publish_one(client: Client, port: Published) -> None:
    """StartError."""
    shown = f"-p {port.port}:{port.guest_port}"
    address = SocketAddress(host=port.host, port=port.port)
    try:
        reply, _ = client.call(PublishRequest(address=address, port=port.guest_port))
    except (SessionLostError, ServerTimeoutError, UnsupportedError) as error:
        raise StartError(f"{shown}: {error}", EXIT_FAILURE) from None
    if reply.errno:
        raise StartError(f"{shown}: {os.strerror(reply.errno)}", EXIT_FAILURE)
