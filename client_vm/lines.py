"""Lines: the ways by which workers' calls reach one server. Each ends at the worker as a ring.

A ring line leads straight to a server on this host; client_vm.gateway has the others.
"""

import os
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Protocol

import trio

from client_vm.errors import StartError
from farcall.v1.session_pb2 import REFUSAL_NOT_READY, REFUSAL_OVERLOADED, HelloRequest, HelloResponse
from ipc.address import Address
from ipc.backoff import pauses_s
from ipc.endpoint import Peer
from ipc.greeting import ConnectError, check_hello
from ipc.limits import HELLO_TIMEOUT_S
from ipc.message import MalformedError
from ipc.ring_client import RingDescriptors, RingUnavailableError, open_ring
from ipc.ring_server import RingServer
from ipc.seams import Clock


class Line(Protocol):
    """Opens sessions of one server, and the rings to use them by."""

    async def open(self, request: HelloRequest, doorbell: int, timeout_s: float | None) -> RingDescriptors:
        """A session and its ring. Tries until `timeout_s` seconds have passed; None: for ever.

        `doorbell`: the sending end of the worker's; it is copied. ConnectError, one line, if there is no server
        in time or it refuses.
        """
        ...

    async def server_died(self) -> None:
        """Returns once after each death of a server that has opened sessions, whose clients had better come back
        before their leases run out. For ever, if that is not this line's affair."""
        ...


class OnDemandLine:
    """A line that leads nowhere until somebody first wants to go."""

    def __init__(self, make: Callable[[], Awaitable[Line]]) -> None:
        """`make`: ConnectError, StartError, OSError; called again after that."""
        self._make = make
        self._made: Line | None = None
        self._making = trio.Lock()

    async def open(self, request: HelloRequest, doorbell: int, timeout_s: float | None) -> RingDescriptors:
        """As Line. ConnectError if there is no server to be had."""
        async with self._making:
            if self._made is None:
                try:
                    self._made = await self._make()
                except (StartError, OSError) as error:
                    raise ConnectError(str(error)) from None
        return await self._made.open(request, doorbell, timeout_s)

    async def server_died(self) -> None:
        """As Line: who has lost its session asks for another."""
        await trio.sleep_forever()


class RingLine:
    """To a server's ring socket."""

    def __init__(self, address: Address, clock: Clock) -> None:
        self._address = address
        self._clock = clock
        self._server = 0
        """Its pid, as the host told it last; 0: none."""
        self._changed = trio.Event()

    async def server_died(self) -> None:
        """As Line."""
        while not (pid := self._server):
            await self._changed.wait()
        with suppress(ProcessLookupError):
            descriptor = os.pidfd_open(pid)
            try:
                await trio.lowlevel.wait_readable(descriptor)
            finally:
                os.close(descriptor)
        if self._server == pid:
            self._server = 0

    def _met(self, opened: RingDescriptors) -> None:
        """A session was opened by this server."""
        self._server = opened.server_pid
        self._changed.set()
        self._changed = trio.Event()

    async def open(self, request: HelloRequest, doorbell: int, timeout_s: float | None) -> RingDescriptors:
        """As Line."""
        begin = self._clock.monotonic_s()
        pauses = pauses_s()
        while True:
            left_s = HELLO_TIMEOUT_S
            if timeout_s is not None:
                left_s = max(0.0, begin + timeout_s - self._clock.monotonic_s())
            try:
                return await self._try(request, doorbell, min(left_s, HELLO_TIMEOUT_S))
            except RingUnavailableError as error:
                trouble = str(error)
            except ConnectError as error:
                if error.refusal not in (REFUSAL_NOT_READY, REFUSAL_OVERLOADED):
                    raise
                trouble = str(error)
            pause_s = next(pauses)
            if timeout_s is not None:
                pause_s = min(pause_s, begin + timeout_s - self._clock.monotonic_s())
                if pause_s <= 0:
                    within = f"within {round(timeout_s, 1):g} s"
                    raise ConnectError(f"no server at {self._address} {within}: {trouble}")
            await trio.sleep(pause_s)

    async def _try(self, request: HelloRequest, doorbell: int, timeout_s: float) -> RingDescriptors:
        try:
            opened = await open_ring(self._address.ring_path, request, doorbell, timeout_s)
        except MalformedError as error:
            raise ConnectError(f"{self._address} is not a farcall server: {error}") from None
        try:
            check_hello(self._address, request, opened.response)
            if opened.memfd < 0:
                raise ConnectError(f"{self._address} opened a session without a ring")
        except ConnectError:
            opened.close()
            raise
        self._met(opened)
        return opened


def adopted_ring(rings: RingServer, response: HelloResponse, doorbell: int) -> RingDescriptors:
    """A ring that this process serves, for a session that is open already. Takes over `doorbell`. OSError."""
    try:
        ours, workers = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    except OSError:
        os.close(doorbell)
        raise
    ours.setblocking(False)
    try:
        memfd = rings.adopt(ours, doorbell, response.session, local_peer())
    except OSError:
        ours.close()
        workers.close()
        raise
    return RingDescriptors(response, memfd, workers)


def local_peer() -> Peer:
    """A worker of this process, as a ring's control socket would name it."""
    return Peer(f"uid:{os.geteuid()}", "ring")
