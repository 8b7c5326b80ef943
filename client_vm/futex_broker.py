"""Who sleeps at a futex word of shared memory, so that a wake finds waiters of other processes. Pure.

A worker registers each of its threads that is about to sleep, looks at the word once more, and takes it off
when it no longer sleeps. A wake is promised to a process at most once per registered thread; the process either
uses it (the thread leaves), or passes it on (the call FutexWake again) if nobody there sleeps any more. A thread
that the wake's bitset does not mean leaves and registers again.
"""

from dataclasses import dataclass
from typing import Final

from client_vm.abi import common
from client_vm.errors import Errno

WORDS_MAX: Final = 4096
"""At which one process may sleep at a time."""
Word = tuple[int, int]
"""(segment, offset)."""


@dataclass(slots=True)
class _Sleepers:
    """Of one process, at one word."""

    threads: int = 0
    promised: int = 0


@dataclass(frozen=True, slots=True)
class Wake:
    """A wake of `count` sleepers, on its way to a process."""

    pid: int
    word: Word
    count: int


class FutexBroker:
    """All sleepers of a run at shared words."""

    def __init__(self) -> None:
        self._sleepers: dict[Word, dict[int, _Sleepers]] = {}
        """The one that came first is woken first."""
        self._words: dict[int, set[Word]] = {}

    def register(self, pid: int, word: Word, count: int) -> None:
        """`count` threads of the process go to sleep there (1), or no longer do (-1). EINVAL; ENOMEM."""
        if count == 1:
            words = self._words.setdefault(pid, set())
            if word not in words and len(words) >= WORDS_MAX:
                raise Errno(common.ENOMEM)
            words.add(word)
            self._sleepers.setdefault(word, {}).setdefault(pid, _Sleepers()).threads += 1
            return
        sleepers = self._sleepers.get(word, {}).get(pid)
        if count != -1 or sleepers is None:
            raise Errno(common.EINVAL)
        sleepers.threads -= 1
        sleepers.promised = max(0, sleepers.promised - 1)
        if not sleepers.threads:
            self._remove(pid, word)

    def wake(self, caller: int, word: Word, count: int) -> list[Wake]:
        """Promises wakes to at most `count` sleepers of other processes than the caller."""
        wakes = []
        for pid, sleepers in self._sleepers.get(word, {}).items():
            given = min(count, sleepers.threads - sleepers.promised)
            if pid != caller and given > 0:
                sleepers.promised += given
                count -= given
                wakes.append(Wake(pid, word, given))
        return wakes

    def forget(self, pid: int) -> list[Wake]:
        """The process has ended: what it was promised goes to others."""
        wakes = []
        for word in self._words.pop(pid, set()):
            promised = self._sleepers[word][pid].promised
            self._drop(pid, word)
            wakes += self.wake(pid, word, promised)
        return wakes

    def _remove(self, pid: int, word: Word) -> None:
        self._drop(pid, word)
        words = self._words[pid]
        words.remove(word)
        if not words:
            del self._words[pid]

    def _drop(self, pid: int, word: Word) -> None:
        del self._sleepers[word][pid]
        if not self._sleepers[word]:
            del self._sleepers[word]
