"""The table and the kinds of arguments: every row reachable, every width and sign as C has them."""

import pytest

from client_vm import arguments, table
from client_vm.architecture import ARCHITECTURES
from client_vm.dispatch import decoded
from client_vm.rows import TABLE, Table

assert table is not None


def test_every_row_is_dispatched_by_its_number() -> None:
    for architecture in ARCHITECTURES:
        numbers = architecture.abi.SYSCALLS
        dispatch = TABLE.dispatch(architecture)
        assert dispatch.calls.keys() == {numbers[name] for name in TABLE.rows if name in numbers}
        assert not dispatch.calls.keys() & dispatch.refused.keys()


@pytest.mark.parametrize("count", range(7))
def test_a_call_gets_its_arguments_decoded_in_order(count: int) -> None:
    told: list[object] = []
    decoders = [lambda task, raw, place=place: (task, place, raw) for place in range(count)]

    def handler(*arguments: object) -> int:
        told.extend(arguments)
        return 7

    assert decoded(handler, tuple(decoders))("task", memoryview(bytes(range(1, 8)))) == 7
    assert told == ["task", *(("task", place, place + 2) for place in range(count))]


def test_a_call_has_six_arguments_at_most() -> None:
    with pytest.raises(ValueError, match="six"):
        decoded(lambda task: 0, (lambda task, raw: raw,) * 7)


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
