"""How long to wait before the next attempt at what may never come: each time twice as long, up to a bound."""

from collections.abc import Iterator
from typing import Final

FIRST_S: Final = 0.02
LONGEST_S: Final = 1.0


def pauses_s(first_s: float = FIRST_S) -> Iterator[float]:
    """Seconds before each further attempt, for ever."""
    pause_s = first_s
    while True:
        yield pause_s
        pause_s = min(2 * pause_s, LONGEST_S)
