"""One end of a ring as a process of its own, to be killed: python -m tests.contract.ring_process ROLE PATH.

serve   answers every call, and prints "SESSION SLOT SEQ DIGEST" of each before the answer, "done" after it
mute    prints the same and never answers
call    opens a ring, submits a call, prints its session and waits for the reply
hammer  opens a ring and makes one call after the other, for ever
doze    makes DOZES calls, sleeping for each reply and before each call, and prints how many were answered
"""

import select
import sys
from collections.abc import Callable

import trio

from ipc.endpoint import Peer
from ipc.message import Call, Reply
from ipc.ring_server import serve_rings
from ipc.seams import HostClock
from tests.contract.carriers import CLIENT_LIMIT_S, Doorbell, ScriptedEndpoint, connect_ring, ping

CLOCK = HostClock()
DOZES = 10_000


class ReportingEndpoint(ScriptedEndpoint):
    """Tells the test what arrived."""

    def submit(
        self, call: Call, peer: Peer, complete: Callable[[Reply], None], into: memoryview | None = None
    ) -> None:
        print(call.session, call.slot, call.seq, call.digest.hex(), flush=True)
        super().submit(call, peer, complete, into)
        if not self.hold:
            print("done", flush=True)


async def serve(path: str, hold: int) -> None:
    """Prints "serving" once clients can connect."""
    async with trio.open_nursery() as nursery:
        await nursery.start(serve_rings, path, ReportingEndpoint(hold=hold))
        print("serving", flush=True)


async def call(path: str) -> None:
    with Doorbell() as doorbell:
        response, channel = await connect_ring(path, doorbell)
        tag = channel.submit(ping(1))
        print(response.session, flush=True)
        channel.wait(tag, None)


async def hammer(path: str) -> None:
    with Doorbell() as doorbell:
        _, channel = await connect_ring(path, doorbell, spin_us=50)
        print("hammering", flush=True)
        while True:
            tag = channel.submit(ping(1))
            channel.wait(tag, None)
            channel.release(tag)


async def doze(path: str) -> None:
    with Doorbell() as doorbell:
        _, channel = await connect_ring(path, doorbell)
        answered = 0
        for number in range(DOZES):
            # Pauses about as long as the server spins: both sides fall asleep at every possible moment.
            select.select([], [], [], number % 16 * 3e-6)
            tag = channel.submit(ping(number))
            reply = channel.wait(tag, CLOCK.monotonic_s() + CLIENT_LIMIT_S)
            answered += reply == Reply(result=number)
            channel.release(tag)
        print(answered, flush=True)


ROLES = {"call": call, "hammer": hammer, "doze": doze}

if __name__ == "__main__":
    role, socket_path = sys.argv[1:]
    if role in ROLES:
        trio.run(ROLES[role], socket_path)
    else:
        trio.run(serve, socket_path, 1 << 30 if role == "mute" else 0)
