"""Record locks against a table of bytes: random changes and conflicts, as fcntl(2) has them."""

import random

from farcall.v1.file_pb2 import (
    LOCK_KIND_FLOCK,
    LOCK_KIND_OFD,
    LOCK_KIND_POSIX,
    LOCK_TYPE_READ,
    LOCK_TYPE_UNLOCK,
    LOCK_TYPE_WRITE,
)
from servers.file.lock_ranges import LAST_MAX, Held, Owner, changed, conflicts

BYTES = 24
OWNERS: list[Owner] = [
    (LOCK_KIND_POSIX, 1),
    (LOCK_KIND_POSIX, 2),
    (LOCK_KIND_OFD, 1),
    (LOCK_KIND_FLOCK, 1),
    (LOCK_KIND_FLOCK, 2),
]
TYPES = (LOCK_TYPE_READ, LOCK_TYPE_WRITE, LOCK_TYPE_UNLOCK)


def test_like_a_table_of_bytes() -> None:
    rng = random.Random(7)
    held: list[Held] = []
    table: dict[Owner, list[int]] = {owner: [LOCK_TYPE_UNLOCK] * BYTES for owner in OWNERS}
    refused = 0
    for _ in range(5000):
        owner = rng.choice(OWNERS)
        start, last = sorted((rng.randrange(BYTES), rng.randrange(BYTES)))
        if owner[0] == LOCK_KIND_FLOCK:
            start, last = 0, BYTES - 1
        type_ = rng.choice(TYPES)
        wanted = Held(*owner, start, last, type_, 0)
        excluding = {
            other
            for other, types in table.items()
            if other != owner
            and (other[0] == LOCK_KIND_FLOCK) == (owner[0] == LOCK_KIND_FLOCK)
            and type_ != LOCK_TYPE_UNLOCK
            and any(
                each != LOCK_TYPE_UNLOCK and LOCK_TYPE_WRITE in (each, type_) for each in types[start : last + 1]
            )
        }
        assert {each.owner for each in conflicts(held, wanted)} == excluding
        if excluding:
            refused += 1
            continue
        held = changed(held, wanted)
        table[owner][start : last + 1] = [type_] * (last + 1 - start)
        for other, types in table.items():
            mine = sorted(each for each in held if each.owner == other)
            found = [LOCK_TYPE_UNLOCK] * BYTES
            for each in mine:
                found[each.start : each.last + 1] = [each.type] * (each.last + 1 - each.start)
            assert found == types
            # Joined and split as far as can be: no more ranges than there are changes of type.
            runs = sum(a != b for a, b in zip([LOCK_TYPE_UNLOCK, *types], types, strict=False) if b != 3)
            assert len(mine) == runs
    assert refused > 500


def test_to_the_end_joins_what_touches_it() -> None:
    tail = Held(LOCK_KIND_POSIX, 1, 10, LAST_MAX, LOCK_TYPE_READ, 1)
    assert changed([tail], tail._replace(start=5, last=9, pid=2)) == [tail._replace(start=5, pid=2)]
    assert changed([tail], tail._replace(start=20, type=LOCK_TYPE_UNLOCK)) == [tail._replace(last=19)]
