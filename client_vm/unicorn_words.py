"""Words of Unicorn's that no call of its interface reads or writes, found by what they hold.

Another build of Unicorn may have them elsewhere, or not at all: then they are not found, and each user says what
it does without.
"""

import ctypes
import re
from collections.abc import Callable
from typing import Final

_PROBES: Final = (0x5A17_3C96_E888, 0x2BD4_96A1_7118)
"""Values that as good as no word has by chance, and addresses where nothing is when a fault is tried."""
_CONTEXT_HEADER_MAX: Final = 64
"""How much longer a saved context is than the registers in it, in bytes."""
_NEIGHBOURS: Final = re.compile(rb"\x01\x00{3}(....)\x00{4}\x00{8}\x00\x01\x00\x01", re.DOTALL)
"""Of no_exit_request, as below; the length of the registers is its group."""
_MALLOC_USABLE_SIZE: Final = ctypes.CDLL(None).malloc_usable_size
_MALLOC_USABLE_SIZE.argtypes = (ctypes.c_void_p,)
_MALLOC_USABLE_SIZE.restype = ctypes.c_size_t


def _bytes_of(block: int) -> bytes:
    """What a block from malloc(3) holds."""
    return ctypes.string_at(block, _MALLOC_USABLE_SIZE(block) // 8 * 8)


def word_that_follows(block: int, follow: Callable[[int], None]) -> int | None:
    """Offset of the one 64-bit word of a block from malloc(3) that has each value after `follow(value)`."""
    places: set[int] | None = None
    for value in _PROBES:
        follow(value)
        found = {8 * index for index, word in enumerate(memoryview(_bytes_of(block)).cast("Q")) if word == value}
        places = found if places is None else places & found
    return places.pop() if places and len(places) == 1 else None


def no_exit_request(engine: int, context_bytes: int) -> int | None:
    """Offset of the byte uc_struct.no_exit_request in an engine that has been started once.

    `context_bytes`: uc_context_size(). The fields before and after it (include/uc_priv.h of 2.1.4) are known
    then: what a context holds (registers: 1), how long they are, the next program counter (none), and four truth
    values: hook_insert (0), first_tb (1), no_exit_request (0), init_done (1).
    """
    found = [
        match.end() - 2
        for match in _NEIGHBOURS.finditer(_bytes_of(engine))
        if 0 < context_bytes - int.from_bytes(match[1], "little") <= _CONTEXT_HEADER_MAX
    ]
    return found[0] if len(found) == 1 else None
