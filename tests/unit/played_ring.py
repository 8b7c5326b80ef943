"""A ring whose server is the test."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from ipc.limits import RING_ENTRIES
from ipc.passing import send_descriptors
from ipc.ring_client import RingChannel
from ipc.ring_layout import (
    COMPLETION,
    COMPLETION_TAIL,
    COMPLETIONS_OFFSET,
    HEADER_BYTES,
    PASSED_TAG,
    RING_BYTES,
    write_header,
)
from ipc.seams import Clock, HostClock
from ipc.shared_memory import create_sealed, map_sealed
from tests.contract.carriers import Doorbell

HOST_CLOCK = HostClock()


@dataclass
class Played:
    """A ring whose server is the test."""

    channel: RingChannel
    memory: memoryview
    control: socket.socket
    doorbell: Doorbell
    completed: int = 0
    words: memoryview = field(init=False)

    def __post_init__(self) -> None:
        self.words = self.memory[:HEADER_BYTES].cast("Q")

    def complete(self, tag: int, result: int = 0, *, errno: int = 0, flags: int = 0) -> None:
        offset = COMPLETIONS_OFFSET + self.completed % RING_ENTRIES * COMPLETION.size
        COMPLETION.pack_into(self.memory, offset, tag, errno, 0, result, 0, 0, flags)
        self.completed += 1
        self.words[COMPLETION_TAIL] = self.completed

    def hand(self, tag: int, count: int = 1) -> None:
        """Sends copies of a descriptor for that try."""
        send_descriptors(self.control, [PASSED_TAG.pack(tag)], [self.control.fileno()] * count)


@contextmanager
def played_ring(doorbell: Doorbell, clock: Clock = HOST_CLOCK, spin_us: int = 0) -> Iterator[Played]:
    memfd = create_sealed("test", RING_BYTES)
    memory = map_sealed(memfd, RING_BYTES)
    write_header(memory, 1)
    ours, control = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        channel = RingChannel(memfd, control, doorbell.receiver, clock=clock, spin_us=spin_us)
        yield Played(channel, memory, ours, doorbell)
        channel.close()
