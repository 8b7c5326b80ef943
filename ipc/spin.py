"""Whether it pays to look for what is awaited before one sleeps."""

from typing import Final

LUCK_MAX: Final = 4
LUCKLESS: Final = 64


class Luck:
    """Looking is worth its while as long as it tends to find something.

    A partner on another processor that answers at once is found sooner so than by a wake-up; of one on another
    host, or without a processor at the moment, every look is in vain.
    """

    __slots__ = ("_left",)

    def __init__(self) -> None:
        self._left = LUCK_MAX
        """How many looks may fail before only one in LUCKLESS is made."""

    def holds(self) -> bool:
        """Whether to look this time. `found` or `missed` is to be said of it, then."""
        if self._left > 0:
            return True
        self._left -= 1
        if self._left > -LUCKLESS:
            return False
        self._left = 1
        return True

    def found(self) -> None:
        """It came while one looked."""
        if self._left < LUCK_MAX:
            self._left += 1

    def missed(self) -> None:
        """It did not."""
        self._left -= 1
