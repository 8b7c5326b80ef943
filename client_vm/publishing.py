"""`farcall run -p`: the kernel process's own session with the network server, whose ports live as long.

A server that died knows nothing of them. Once there is one again they are published again, however long that
takes; who connects meanwhile finds nobody.
"""

import os
import socket
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress

import trio

from client_vm.errors import EXIT_FAILURE, StartError
from client_vm.lines import Line
from client_vm.options import Published
from farcall.v1.network_pb2 import AwaitReadyRequest, PublishRequest, SocketAddress
from farcall.v1.session_pb2 import HelloRequest
from ipc.asking import call
from ipc.backoff import pauses_s
from ipc.client import Client, ServerTimeoutError, SessionLostError, UnsupportedError
from ipc.endpoint import Channel
from ipc.greeting import ConnectError
from ipc.limits import HELLO_TIMEOUT_S
from ipc.operations import BY_NAME
from ipc.ring_client import RingChannel
from ipc.seams import Clock


class Publication:
    """The ports of one run."""

    def __init__(
        self,
        line: Line,
        request: HelloRequest,
        ports: Sequence[Published],
        clock: Clock,
        say: Callable[[str], None],
    ) -> None:
        """`request` opens each session; `say` prints one line for the user."""
        self._line = line
        self._request = request
        self._ports = ports
        self._clock = clock
        self._say = say
        self._client: Client | None = None
        """In the session that has the ports."""
        self._held = ExitStack()
        """What that session takes."""

    async def begin(self) -> None:
        """Publishes all of them. StartError, one line; ConnectError; OSError."""
        client = await self._open(HELLO_TIMEOUT_S)
        try:
            for port in self._ports:
                await _publish(client, port)
        except SessionLostError as error:
            raise StartError(str(error), EXIT_FAILURE) from None

    async def keep(self) -> None:
        """Publishes them again whenever the server has forgotten them, until cancelled."""
        while True:
            await self._forgotten()
            await self._restore()

    def close(self) -> None:
        """They are given back."""
        self._client = None
        self._held.close()

    async def _open(self, timeout_s: float | None) -> Client:
        """A session for them. ConnectError; OSError."""
        with ExitStack() as held:
            heard, bell = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
            held.callback(heard.close)
            held.callback(bell.close)
            opened = await self._line.open(self._request, bell.fileno(), timeout_s)
            channel = RingChannel(opened.memfd, opened.control, heard, clock=self._clock)
            held.callback(channel.close)
            self._held = held.pop_all()
        self._client = Client(
            channel,
            session=opened.response.session,
            opcodes=opened.response.opcodes,
            reconnect=_reconnect,
            clock=self._clock,
            pause=_pause,
            server_timeout_s=HELLO_TIMEOUT_S,
        )
        return self._client

    async def _forgotten(self) -> None:
        """Until the session is lost: one call waits for that, since there is no socket that it could tell of."""
        assert self._client is not None
        if not self._client.supports(BY_NAME["AwaitReady"]):
            await trio.sleep_forever()  # a server that is too old for it
        with suppress(SessionLostError):
            await call(self._client, AwaitReadyRequest())
        self.close()

    async def _restore(self) -> None:
        """Publishes all of them in another session. What is in the way is said once, and tried again."""
        missing, said, pauses = list(self._ports), set[str](), pauses_s()
        while missing:
            for port in tuple(missing):
                try:
                    client = self._client or await self._open(None)
                    await _publish(client, port)
                except (ConnectError, StartError, OSError) as error:
                    if str(error) not in said:
                        said.add(str(error))
                        self._say(f"{error}; it is tried again")
                except SessionLostError:
                    self.close()
                    missing = list(self._ports)
                    break
                else:
                    missing.remove(port)
            if missing:
                await trio.sleep(next(pauses))


def _reconnect() -> Channel:
    raise SessionLostError("the network server is gone")


def _pause(_seconds: float) -> None:
    raise AssertionError("calls of a Publication are begun, and none waits")


async def _publish(client: Client, port: Published) -> None:
    """StartError; SessionLostError."""
    shown = f"-p {port.port}:{port.guest_port}"
    address = SocketAddress(host=port.host, port=port.port)
    try:
        reply, _ = await call(client, PublishRequest(address=address, port=port.guest_port))
    except (ServerTimeoutError, UnsupportedError) as error:
        raise StartError(f"{shown}: {error}", EXIT_FAILURE) from None
    if reply.errno:
        raise StartError(f"{shown}: {os.strerror(reply.errno)}", EXIT_FAILURE)
