"""So many bytes for all sessions together: what is private, and what is shared, are taken from the same."""

import errno
from typing import Final

from servers.ledger import MemoryLedger
from servers.service import ErrnoError

QUOTA_BYTES_MAX: Final = (1 << 63) - 1


class Quota:
    """Changes need an open transaction of the ledger. ValueError: not a quota."""

    def __init__(self, ledger: MemoryLedger, limit_bytes: int) -> None:
        if not 0 <= limit_bytes <= QUOTA_BYTES_MAX:
            raise ValueError(f"a quota of {limit_bytes} bytes")
        self._on_rollback = ledger.on_rollback
        self.limit_bytes = limit_bytes
        self.used_bytes = 0
        self.refused = 0

    def take(self, size_bytes: int) -> None:
        """ENOMEM beyond the limit (mmap(2))."""
        if size_bytes > self.limit_bytes - self.used_bytes:
            self.refused += 1  # a count of answers, not of effects: it stays if the call is rolled back
            raise ErrnoError(errno.ENOMEM, "quota")
        self._add(size_bytes)
        self._on_rollback(lambda: self._add(-size_bytes))

    def give_back(self, size_bytes: int) -> None:
        """What was taken, or a part of it."""
        self._add(-size_bytes)
        self._on_rollback(lambda: self._add(size_bytes))

    def _add(self, size_bytes: int) -> None:
        self.used_bytes += size_bytes
