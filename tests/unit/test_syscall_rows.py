"""The table and the kinds of arguments: every row reachable, every width and sign as C has them."""

import pytest

from client_vm import arguments, table
from client_vm.architecture import ARCHITECTURES
from client_vm.rows import TABLE, Table

assert table is not None


def test_every_row_is_dispatched_by_its_number() -> None:
    for architecture in ARCHITECTURES:
        numbers = architecture.abi.SYSCALLS
        dispatch = TABLE.dispatch(architecture)
        for name, row in TABLE.rows.items():
            if name in numbers:
                handler, decoders = dispatch.calls[numbers[name]]
                assert handler is row.handler and len(decoders) == len(row.arguments) <= 6
        assert not dispatch.calls.keys() & dispatch.refused.keys()


def test_a_row_is_said_once_and_exists() -> None:
    fresh = Table()
    fresh.row("read", lambda task: 0)
    with pytest.raises(ValueError, match="two rows"):
        fresh.refuse("read", 38, "again")
    with pytest.raises(ValueError, match="no architecture"):
        fresh.row("reed", lambda task: 0)


@pytest.mark.parametrize(
    ("kind", "raw", "value"),
    [
        (arguments.INT, 0xFFFF_FFFF, -1),
        (arguments.INT, 0x1_0000_0002, 2),
        (arguments.INT, 0x8000_0000, -(1 << 31)),
        (arguments.UINT, 0xDEAD_FFFF_FFFF, 0xFFFF_FFFF),
        (arguments.OFFSET, (1 << 64) - 1, -1),
        (arguments.OFFSET, (1 << 63) - 1, (1 << 63) - 1),
        (arguments.SIZE, (1 << 64) - 1, (1 << 64) - 1),
        (arguments.FD, 0xABCD_FFFF_FF9C, -100),
        (arguments.MODE, 0xFFFF_FFFF, 0xFFFF),
        (arguments.ID, (1 << 64) - 1, 0xFFFF_FFFF),
    ],
)
def test_width_and_sign(kind: arguments.Kind, raw: int, value: int) -> None:
    assert kind.decode(None, raw) == value  # type: ignore[arg-type]
