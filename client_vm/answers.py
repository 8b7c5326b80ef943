"""Answers of the file server that are kept while they are certain to be true (ipc/README, Answers that are kept).

Pure: moments come from outside. An answer is believed while the lease lasts that came with the server's last
word, and until one of the inodes it depends upon is recalled. What somebody on the server's host changes beneath
it is no affair of leases: nothing is believed for longer than ANSWER_S.
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Final

LEASE_SHARE: Final = 0.8
"""Of a lease that is counted upon, from before the request was sent: clocks may differ by the rest."""
ANSWER_S: Final = 5.0
ANSWERS_BYTES_MAX: Final = 32 << 20
"""Of all kept answers, by KEPT_BYTES and what they hold; the oldest go first."""
KEPT_BYTES: Final = 256


@dataclass(frozen=True, slots=True)
class Kept:
    """An answer."""

    errno: int
    body: bytes
    inodes: tuple[int, ...]
    until_s: float

    @property
    def size_bytes(self) -> int:
        return KEPT_BYTES + len(self.body) + 16 * len(self.inodes)


class Answers:
    """What is kept under one lease, by key."""

    def __init__(self, forget: Callable[[int | None], None]) -> None:
        """`forget` is told of each inode that was recalled; None: of all, whatever they are."""
        self.grant = 0
        self.recalls = 0
        """Number of the last recall that was heeded."""
        self.until_s = 0.0
        """When the lease ends, as far as we know."""
        self._forget = forget
        self._kept: OrderedDict[Hashable, Kept] = OrderedDict()
        self._by_inode: dict[int, set[Hashable]] = {}
        self._bytes = 0

    def get(self, key: Hashable, now_s: float) -> Kept | None:
        """The answer, if it is certain to be true at this moment."""
        kept = self._kept.get(key)
        if kept is None or now_s >= self.until_s:
            return None
        if now_s >= kept.until_s:
            self.drop(key)
            return None
        return kept

    def heard(self, grant: int, recalls: int, lease_ms: int, sent_s: float) -> bool:
        """A word of the server's, asked for at `sent_s`: whether what came with it may be kept."""
        if grant > self.grant:
            self.reset(grant)
        if not grant or grant != self.grant:
            return False
        self.until_s = max(self.until_s, sent_s + LEASE_SHARE * lease_ms / 1000)
        return recalls >= self.recalls

    def keep(self, key: Hashable, errno: int, body: bytes, inodes: Iterable[int], now_s: float) -> None:
        """An answer that came with a word that was heard just now."""
        self.drop(key)
        kept = self._kept[key] = Kept(errno, body, tuple(inodes), now_s + ANSWER_S)
        self._bytes += kept.size_bytes
        for ino in kept.inodes:
            self._by_inode.setdefault(ino, set()).add(key)
        while self._bytes > ANSWERS_BYTES_MAX:
            self.drop(next(iter(self._kept)))

    def drop(self, key: Hashable) -> None:
        """Nobody will ask for it any more."""
        kept = self._kept.pop(key, None)
        if kept is None:
            return
        self._bytes -= kept.size_bytes
        for ino in kept.inodes:
            keys = self._by_inode[ino]
            keys.discard(key)
            if not keys:
                del self._by_inode[ino]

    def recalled(self, grant: int, recalls: int, inodes: Iterable[int]) -> None:
        """The server's answer to AwaitRecall."""
        if grant > self.grant:
            self.reset(grant)
        if grant != self.grant or recalls < self.recalls:
            return
        for ino in inodes:
            for key in list(self._by_inode.get(ino, ())):
                self.drop(key)
            self._forget(ino)
        self.recalls = recalls

    def reset(self, grant: int = 0) -> None:
        """Nothing that was kept may be believed any more."""
        self.grant, self.recalls, self.until_s = grant, 0, 0.0
        self._kept.clear()
        self._by_inode.clear()
        self._bytes = 0
        self._forget(None)

    def __len__(self) -> int:
        return len(self._kept)
