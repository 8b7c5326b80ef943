"""The outside world as parameters: clock and randomness. Passed in everywhere; a simulator passes others.

The only module that reads a clock or the host's randomness.
"""

import os
import time
from typing import Protocol


class Clock(Protocol):
    """Two clocks: file times follow the one people set, leases and deadlines the one nobody can."""

    def realtime_ns(self) -> int:
        """CLOCK_REALTIME, nanoseconds since 1970."""
        ...

    def monotonic_s(self) -> float:
        """CLOCK_MONOTONIC, seconds."""
        ...


class NativeClock(Clock, Protocol):
    """Clocks that native code can read, too."""

    @property
    def gettime_address(self) -> int:
        """Of a C function that tells them as clock_gettime(2) does, REALTIME and MONOTONIC at least."""
        ...


class Random(Protocol):
    """A source of bytes that nobody else can guess."""

    def bytes(self, count: int) -> bytes: ...


class HostClock:
    """The host's clocks."""

    def realtime_ns(self) -> int:
        return time.time_ns()

    def monotonic_s(self) -> float:
        return time.monotonic()


class LeaseClock(HostClock):
    """As HostClock, but the monotonic clock goes on while this host is suspended, as the server's does."""

    def monotonic_s(self) -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME)


class HostRandom:
    """The host's getrandom(2)."""

    def bytes(self, count: int) -> bytes:
        return os.urandom(count)
