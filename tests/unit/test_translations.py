"""What the TLB may hold, and when it is flushed so that it grows."""

from client_vm.arena import PAGE_BYTES as PAGE
from client_vm.cpu import READ
from client_vm.translations import AGAIN_MAX, PAGES_MAX, Translations


def add(known: Translations, page: int) -> bool:
    return known.add(page, page, 0, READ)


def test_pages_asked_for_once_crowd_nothing() -> None:
    known = Translations()
    assert not any(add(known, PAGE * number) for number in range(PAGES_MAX)) and not known.crowded


def test_as_many_again_as_there_are_and_some_more_crowd_it_once() -> None:
    known = Translations()
    for number in range(300):
        add(known, PAGE * number)
    told = [add(known, PAGE * (number % 300)) for number in range(AGAIN_MAX + 600)]
    assert told.index(True) == AGAIN_MAX + 300 and sum(told) == 1
    crowded = known.crowded
    known.grow()
    assert (crowded, known.crowded, known.any_in(0, 1 << 64)) == (True, False, True)
    told = [add(known, PAGE * (number % 300)) for number in range(AGAIN_MAX + 600)]
    assert told.index(True) == AGAIN_MAX + 300
    known.clear()
    assert (known.crowded, known.any_in(0, 1 << 64)) == (False, False)


def test_what_is_in_a_range() -> None:
    known = Translations()
    add(known, 5 * PAGE)
    assert known.any_in(5 * PAGE, 6 * PAGE) and known.any_in(0, 1 << 64)
    assert not known.any_in(0, 5 * PAGE) and not known.any_in(6 * PAGE, 1 << 64)
    for number in range(20, 40):
        add(known, number * PAGE)
    assert known.any_in(5 * PAGE, 6 * PAGE) and not known.any_in(6 * PAGE, 20 * PAGE)


def test_nothing_is_known_of_more_pages_than_are_noted() -> None:
    known = Translations()
    for number in range(PAGES_MAX + 1):
        add(known, number * PAGE)
    assert known.any_in(1 << 40, (1 << 40) + PAGE)
