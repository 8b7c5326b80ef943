"""Calls whose answer a task waits for: by an endpoint, by a ring."""

from collections.abc import Callable
from typing import Any, Protocol

import trio
from google.protobuf.message import Message

from ipc.client import Client
from ipc.endpoint import Peer
from ipc.message import Call, MalformedError, Reply
from ipc.ring_client import RingChannel
from ipc.shared_memory import fence


class Submits(Protocol):
    """What an Endpoint and a GrpcLink are to whoever makes calls by them."""

    def submit(
        self, call: Call, peer: Peer, complete: Callable[[Reply], None], into: memoryview | None = None
    ) -> None: ...


async def ask(link: Submits, call: Call, peer: Peer) -> Reply:
    """The reply, whatever it says. A call that nobody waits for any more (Cancelled) goes on all the same."""
    replies: list[Reply] = []
    here = trio.Event()

    def complete(reply: Reply) -> None:
        replies.append(reply)
        here.set()

    link.submit(call, peer, complete)
    await here.wait()
    return replies[0]


async def call(client: Client, request: Message) -> tuple[Reply, Any]:
    """As Client.call, over a ring, while other tasks go on: the ring may end in this very process."""
    pending = client.begin(request)
    while (answer := pending.result()) is None:
        await _until_news(client)
    return answer


async def _until_news(client: Client) -> None:
    """As idle.sleep, of one client."""
    channel = client.channel
    assert isinstance(channel, RingChannel), "other carriers have nothing to wait for"
    readable: set[int] = set()
    channel.doze()
    try:
        fence()  # flag first, then the look: whoever completes a call from here on rings the doorbell
        if not client.has_news():
            with trio.move_on_after(client.due_s()):
                async with trio.open_nursery() as tasks:
                    for descriptor in channel.filenos():
                        tasks.start_soon(_watch, descriptor, readable, tasks.cancel_scope)
    finally:
        channel.rouse()
    try:
        channel.hear(readable)
    except MalformedError as error:
        client.distrust(str(error))


async def _watch(descriptor: int, readable: set[int], others: trio.CancelScope) -> None:
    await trio.lowlevel.wait_readable(descriptor)
    readable.add(descriptor)
    others.cancel()
