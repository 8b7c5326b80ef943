"""Ends by an exception raised some calls down, and with another as its cause."""

import sys


def down(levels: int) -> float:
    if levels:
        return down(levels - 1)
    try:
        return 1 / levels
    except ZeroDivisionError as error:
        raise ValueError(f"no levels left of {sys.argv[1]}") from error


down(int(sys.argv[1]))
