"""What the comparison with native Linux overlooks, and why. At most six; a line names those it needs.

`recent times`, the one that applies to trees, is always on; the others work on a line's stdout and stderr.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass


def _entry_order(output: bytes) -> bytes:
    return b"".join(sorted(output.splitlines(keepends=True)))


def _disk_figures(output: bytes) -> bytes:
    return re.sub(rb"(?m)^\S+( +\d+){3} +\d+%", b"DISK FIGURES", output)


def _inode_numbers(output: bytes) -> bytes:
    """In newc headers (cpio(5)): magic, then eight hexadecimal digits each of ino and 12 more fields."""
    output = re.sub(rb"(07070[12])[0-9a-fA-F]{8}", rb"\1INODE_NO", output)
    return re.sub(rb"(07070[12]INODE_NO[0-9a-fA-F]{48})[0-9a-fA-F]{16}", rb"\1DEVICE__NUMBERS_", output)


@dataclass(frozen=True)
class Filter:
    reason: str
    apply: Callable[[bytes], bytes]


FILTERS = {
    "entry order": Filter(
        "readdir(3) promises no order; the host's is that of its own file system's hash", _entry_order
    ),
    "disk figures": Filter("df prints name, size and use of whatever disk is beneath", _disk_figures),
    "inode numbers": Filter("numbers and device are the file system's to choose (inode(7))", _inode_numbers),
}

RECENT_TIMES = "what a line changes gets the time of its run: each world's must lie within its own"


Window = tuple[int, int]
"""Begin and end, both included, in seconds since 1970."""


def same_time(native_s: int, native_window: Window, guest_s: int, guest_window: Window) -> bool:
    """Whether two modification times agree: equal, or each set while its own world ran."""
    if native_window[0] <= native_s <= native_window[1]:
        return guest_window[0] <= guest_s <= guest_window[1]
    return native_s == guest_s
