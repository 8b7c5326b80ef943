"""The guest's randomness: a keystream of its own, so that a seed replays a run and no two pids share one."""

import hashlib


class GuestRandom:
    """SHAKE-256 over (key, pid, counter). `key`: 32 bytes nobody else knows, or derived from --seed."""

    def __init__(self, key: bytes, pid: int) -> None:
        self._prefix = key + pid.to_bytes(8, "little")
        self._counter = 0

    def bytes(self, count: int) -> bytes:
        """The next count bytes."""
        self._counter += 1
        return hashlib.shake_256(self._prefix + self._counter.to_bytes(8, "little")).digest(count)
