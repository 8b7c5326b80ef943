"""The server's side of rings: the handshake, and one pump over all rings (served_ring.py has a single one).

Whatever a client writes into its ring or its sockets ends at most that ring and its session. The pump
executes calls by Endpoint.submit in trio's thread; completions may come later from the same thread.
"""

import errno as errno_codes
import logging
import os
import select
import socket
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import trio
from google.protobuf.message import DecodeError

from farcall.v1.session_pb2 import HelloRequest
from ipc.endpoint import Endpoint, Peer
from ipc.limits import HELLO_TIMEOUT_S, RING_SPIN_SERVER_US
from ipc.message import MalformedError
from ipc.passing import SEND_AT_ONCE, peer_of, receive_descriptors, send_descriptors
from ipc.seams import Clock, HostClock
from ipc.served_ring import ServedRing
from ipc.shared_memory import fence

log = logging.getLogger(__name__)

_TURN_S: Final = 0.001
"""How long the pump may keep trio's thread under load."""
_LOOK_S: Final = 0.0001
"""How long under load the client of a ring that sleeps may have to wait for being heard."""
_REST: Final = 2
"""Turns of other tasks after the last call and before the sleep: what they do for it, as sending it on, takes a
while in which further calls come, whose clients need not ring. Two, for trio's order within a turn is random."""
_HANDSHAKES_MAX: Final = 64
"""Connections that have not said Hello yet."""
_BACKLOG: Final = 128
_HANDSHAKE_BYTES_MAX: Final = 64 << 10
_SHORTAGES: Final = (errno_codes.EMFILE, errno_codes.ENFILE, errno_codes.ENOBUFS, errno_codes.ENOMEM)
_HOST_CLOCK: Final = HostClock()


class RingServer:
    """All rings of one endpoint, and the task that serves them. One thread, trio's."""

    def __init__(
        self, endpoint: Endpoint, clock: Clock = _HOST_CLOCK, *, spin_us: int = RING_SPIN_SERVER_US
    ) -> None:
        self._endpoint = endpoint
        self._clock = clock
        self._spin_s = spin_us / 1e6 if len(os.sched_getaffinity(0)) > 1 else 0.0
        self._epoll = select.epoll()
        self._by_control: dict[int, ServedRing] = {}
        self._rings: tuple[ServedRing, ...] = ()
        self._awake: tuple[ServedRing, ...] = ()
        """Those looked at again and again, for they had calls since the last sleep. The clients of the others
        ring before they expect to be heard, so a crowd of sleeping processes costs nothing."""

    def adopt(self, control: socket.socket, doorbell: int, session: int, peer: Peer) -> int:
        """Makes a ring for a session that was opened already; its memfd, which the caller closes.

        `control` is one end of a SOCK_SEQPACKET socketpair whose other end, with the memfd, makes the
        client's RingChannel; `doorbell` is the sending end of the client's. Both are taken over. OSError;
        MalformedError if the doorbell is no unix socket.
        """
        ring = self._add(control, doorbell, session, peer)
        memfd, ring.memfd = ring.memfd, -1
        return memfd

    async def run(self) -> None:
        """Serves until cancelled. Never ends by a client's doing."""
        now = self._clock.monotonic_s
        turn_end = now() + _TURN_S
        spin_end = look = 0.0
        rest = 0
        while True:
            busy = False
            for ring in self._awake:
                try:
                    busy |= not ring.closed and ring.serve(self._clock, turn_end)
                except MalformedError as error:
                    self._end(ring, f"malformed entry: {error}")
                    busy = True
            moment = now()
            if moment >= look:
                self._read_controls()
                look = moment + _LOOK_S
            if busy:
                rest = _REST
                spin_end = moment + self._spin_s
                if moment < turn_end:
                    continue
                await trio.lowlevel.checkpoint()
                turn_end = now() + _TURN_S
            elif moment >= spin_end and rest:
                rest -= 1
                await trio.lowlevel.checkpoint()
                turn_end = now() + _TURN_S
            elif moment >= spin_end:
                await self._sleep()
                turn_end = now() + _TURN_S
                spin_end = turn_end - _TURN_S + self._spin_s

    def close(self) -> None:
        """Ends every ring and its session."""
        for ring in self._rings:
            self._end(ring, "the server stops")
        self._epoll.close()

    async def _sleep(self) -> None:
        """Until a client rings or goes away, or at once if one has published meanwhile."""
        for ring in self._awake:
            ring.set_sleeping(1)
        fence()
        self._awake = tuple(ring for ring in self._awake if ring.pending())
        for ring in self._awake:
            ring.set_sleeping(0)
        if self._awake:
            await trio.lowlevel.checkpoint()
        else:
            await trio.lowlevel.wait_readable(self._epoll.fileno())
        self._read_controls()

    def _read_controls(self) -> None:
        """Takes the wake-up bytes of clients, who are served from now on; ends the rings whose client is gone."""
        for descriptor, _ in self._epoll.poll(0):
            ring = self._by_control.get(descriptor)
            if ring is None:
                continue  # ended with one before it
            if ring not in self._awake:
                ring.set_sleeping(0)
                self._awake = (*self._awake, ring)
            try:
                # One: nearly always there is no other, and if there is, epoll says so again.
                if not ring.control.recv(16, socket.MSG_DONTWAIT):
                    self._end(ring, "the client is gone")
            except BlockingIOError:
                continue
            except OSError as error:
                self._end(ring, f"control socket: {error}")

    def _add(self, control: socket.socket, doorbell: int, session: int, peer: Peer) -> ServedRing:
        bell = _doorbell(doorbell)
        try:
            ring = ServedRing(self._endpoint, session, peer, control, bell)
        except OSError:
            bell.close()
            raise
        for other in self._rings:
            if other.session == session:
                # The session moved to this ring; the end of the old one must not end it.
                self._forget(other)
        self._by_control[control.fileno()] = ring
        self._epoll.register(control, select.EPOLLIN)
        self._rings = (*self._rings, ring)
        return ring

    def _forget(self, ring: ServedRing) -> None:
        self._epoll.unregister(ring.control)
        del self._by_control[ring.control.fileno()]
        self._rings = tuple(other for other in self._rings if other is not ring)
        self._awake = tuple(other for other in self._awake if other is not ring)
        ring.close()

    def _end(self, ring: ServedRing, why: str) -> None:
        log.info("ring of session %d (%s) ends: %s", ring.session, ring.peer.principal, why)
        self._forget(ring)
        self._endpoint.closed(ring.session, ring.peer)

    async def greet(self, connection: socket.socket) -> None:
        """One handshake: takes Hello from a new connection and answers it, with a ring if there is a session; or
        answers a single call (beside_grpc).

        Takes over the connection.
        """
        kept = False
        try:
            with trio.move_on_after(HELLO_TIMEOUT_S):
                await trio.lowlevel.wait_readable(connection)
                kept = self._hello(connection)
        except (MalformedError, OSError) as error:
            log.warning("handshake refused: %s", error)
        finally:
            if not kept:
                connection.close()

    def _hello(self, connection: socket.socket) -> bool:
        """True if the connection is a ring's control socket now, or a single call's. MalformedError; OSError."""
        peer = _peer(connection)
        message, descriptors, flags = receive_descriptors(
            connection, _HANDSHAKE_BYTES_MAX, 1, socket.MSG_DONTWAIT
        )
        try:
            if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
                raise MalformedError("too long, or with more than a doorbell beside it")
            if not (message or descriptors):
                return False  # it went away before it said anything, as who is killed then
            if not descriptors:
                from ipc import beside_grpc  # imports asyncio: 60 ms that no server of rings alone needs

                beside_grpc.answer(connection, self._endpoint, message)
                return True
            request = HelloRequest()
            try:
                request.ParseFromString(message)
            except DecodeError:
                raise MalformedError("not a HelloRequest") from None
            response = self._endpoint.hello(request, peer)
            answer = response.SerializeToString()
            if response.outcome.errno or response.outcome.refusal or not response.session:
                connection.send(answer, SEND_AT_ONCE)
                return False
            try:
                ring = self._add(connection, descriptors.pop(), response.session, peer)
            except (MalformedError, OSError):
                # The session exists, and nothing keeps it alive.
                self._endpoint.closed(response.session, peer)
                raise
            try:
                send_descriptors(connection, [answer], [ring.memfd], socket.MSG_DONTWAIT)
                ring.close_memfd()
            except OSError as error:
                self._end(ring, f"the answer to Hello: {error}")
            return True
        finally:
            for descriptor in descriptors:
                os.close(descriptor)


def _doorbell(descriptor: int) -> socket.socket:
    """The client's doorbell, whose writes can be made never to wait. Takes over the descriptor."""
    if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise MalformedError("the doorbell is no socket")
    bell = socket.socket(fileno=descriptor)
    if bell.family != socket.AF_UNIX:
        bell.close()
        raise MalformedError("the doorbell is no unix socket")
    return bell


def _peer(connection: socket.socket) -> Peer:
    """Who connected, by SO_PEERCRED. MalformedError unless it is our own uid or root."""
    _, uid = peer_of(connection)
    if uid not in (0, os.geteuid()):
        raise MalformedError(f"uid {uid} may not use this server")
    return Peer(f"uid:{uid}", "ring")


def _listen(path: str) -> socket.socket:
    """A listener at `path`, mode 0600. A socket left by a dead server is replaced; OSError if it lives."""
    os.makedirs(os.path.dirname(os.path.abspath(path)), mode=0o700, exist_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
    try:
        # Before bind, so that the socket never has another mode.
        os.fchmod(listener.fileno(), 0o600)
        try:
            listener.bind(path)
        except OSError as error:
            if error.errno != errno_codes.EADDRINUSE:
                raise
            _remove_stale(path)
            listener.bind(path)
        listener.listen(_BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener


def _remove_stale(path: str) -> None:
    """Unlinks a socket nobody listens on. OSError (EADDRINUSE) if somebody does, or it is no socket."""
    if not stat.S_ISSOCK(os.lstat(path).st_mode):
        raise OSError(errno_codes.EADDRINUSE, f"{path}: is there, and no socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK) as probe:
        refused = probe.connect_ex(path) == errno_codes.ECONNREFUSED
    if not refused:
        raise OSError(errno_codes.EADDRINUSE, f"{path}: another server listens there")
    os.unlink(path)


@asynccontextmanager
async def _listening(path: str) -> AsyncIterator[socket.socket]:
    """A listener whose path is removed at the end, if it is still ours."""
    with _listen(path) as listener:
        ours = os.lstat(path)
        try:
            yield listener
        finally:
            try:
                now = os.lstat(path)
                if (now.st_dev, now.st_ino) == (ours.st_dev, ours.st_ino):
                    os.unlink(path)
            except FileNotFoundError:
                log.info("%s was removed by somebody else", path)


async def serve_rings(
    listener_path: str,
    endpoint: Endpoint,
    clock: Clock = _HOST_CLOCK,
    *,
    task_status: trio.TaskStatus[RingServer] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serves rings at the unix socket `listener_path` until cancelled; started with the RingServer.

    A missing directory is made, mode 0700. OSError if the path cannot be listened on.
    """
    server = RingServer(endpoint, clock)
    try:
        async with _listening(listener_path) as listener, trio.open_nursery() as nursery:
            nursery.start_soon(server.run)
            task_status.started(server)
            limit = trio.CapacityLimiter(_HANDSHAKES_MAX)
            while True:
                connection = await _accept_connection(listener)
                await limit.acquire_on_behalf_of(connection)
                nursery.start_soon(_greet_within, server, connection, limit)
    finally:
        server.close()


async def _accept_connection(listener: socket.socket) -> socket.socket:
    while True:
        await trio.lowlevel.wait_readable(listener)
        try:
            connection, _ = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            continue
        except OSError as error:
            if error.errno not in _SHORTAGES:
                raise
            log.warning("cannot accept: %s", error)
            await trio.sleep(0.1)  # until somebody hangs up
            continue
        connection.setblocking(False)
        return connection


async def _greet_within(server: RingServer, connection: socket.socket, limit: trio.CapacityLimiter) -> None:
    try:
        await server.greet(connection)
    finally:
        limit.release_on_behalf_of(connection)
