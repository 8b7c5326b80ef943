"""Which pages the CPU asks for, and how often: the table of native code behind Unicorn's TLB."""

import pytest

from client_vm.architecture import ARM64, X86_64, Architecture
from client_vm.arena import PAGE_BYTES
from client_vm.cpu import READ, WRITE
from client_vm.stubs import CAUSE_NONE, CAUSE_PREEMPTED, CAUSE_TRAP
from tests.unit.machine import CODE, DATA, FIRST, NUMBER, SECOND, TRAP, Machine, arm

WALK = {
    X86_64: bytes.fromhex("488b07 4881c700100000 4839f7 72f1") + TRAP[X86_64],
    ARM64: arm(0xF9400003, 0x91400400, 0xEB01001F, 0x54FFFFA3) + TRAP[ARM64],
}
"""Loads from each page between the addresses in the first two argument registers, then makes a system call."""
LOAD = {X86_64: b"\x48\x8b\x07", ARM64: arm(0xF9400003)}
STORE = {X86_64: b"\x48\x89\x37", ARM64: arm(0xF9000001)}
"""Stores the second argument register at the address in the first."""
BEGIN = 1 << 30


def walk(machine: Machine, arch: Architecture, pages: int) -> None:
    cpu = machine.cpu
    cpu.pc = CODE
    cpu.write_register(FIRST[arch], BEGIN)
    cpu.write_register(SECOND[arch], BEGIN + pages * PAGE_BYTES)
    while cpu.run() == CAUSE_PREEMPTED:
        pass  # by itself, so that it may flush
    assert cpu.values[0] == NUMBER


def walker(arch: Architecture, pages: int) -> Machine:
    machine = Machine(arch, WALK[arch])
    end = BEGIN + pages * PAGE_BYTES
    machine.pages |= dict.fromkeys(range(BEGIN, end, PAGE_BYTES), (2 * PAGE_BYTES, READ))
    return machine


def test_a_guest_of_many_pages_asks_for_each_once(arch: Architecture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unicorn's TLB begins with 256 places and grows when it is flushed: somebody must."""
    pages, rounds = 2000, 40
    grown: list[None] = []
    machine = walker(arch, pages)
    grow = machine.cpu._translations.grow
    monkeypatch.setattr(machine.cpu._translations, "grow", lambda: grown.append(grow()))
    for _ in range(rounds):
        walk(machine, arch, pages)
    assert len(machine.fills) == pages + 1 and 1 <= len(grown) < rounds // 2
    in_place_of_code = 2 * rounds
    assert machine.fills.total() <= pages + in_place_of_code + len(grown)


def test_a_change_is_asked_for_again(arch: Architecture) -> None:
    machine = walker(arch, 4)
    walk(machine, arch, 4)
    machine.cpu.flush_tlb(BEGIN + 4 * PAGE_BYTES, BEGIN + 8 * PAGE_BYTES)
    walk(machine, arch, 4)
    assert set(machine.fills.values()) == {1}
    machine.cpu.flush_tlb(BEGIN, BEGIN + PAGE_BYTES)
    walk(machine, arch, 4)
    assert set(machine.fills.values()) == {2}


def test_no_generation_comes_again(arch: Architecture) -> None:
    machine = walker(arch, 4)
    for round_ in range(2):
        walk(machine, arch, 4)
        for _ in range(5000):
            machine.cpu.flush_tlb()
            machine.cpu._translations.add(DATA, DATA, 0, READ)
        machine.cpu.flush_tlb()
        assert set(machine.fills.values()) == {1 + round_}


def test_another_access_is_asked_for_and_may_be_refused(arch: Architecture) -> None:
    machine = Machine(arch, LOAD[arch] + STORE[arch] + TRAP[arch])
    cpu = machine.cpu
    machine.pages[DATA] = machine.pages[DATA][0], READ
    cpu.write_register(FIRST[arch], DATA)
    assert cpu.run() == CAUSE_NONE
    assert (cpu.fault_address, cpu.fault_access, cpu.pc) == (DATA, WRITE, CODE + len(LOAD[arch]))
    machine.pages[DATA] = machine.pages[DATA][0], READ | WRITE
    assert cpu.run() == CAUSE_TRAP and machine.fills[DATA] == 3


@pytest.mark.parametrize("arch", [ARM64])
def test_each_tag_of_a_page_is_asked_for_and_forgotten(arch: Architecture) -> None:
    machine = Machine(arch, LOAD[arch] + TRAP[arch])
    cpu = machine.cpu

    def load(address: int) -> int:
        cpu.pc = CODE
        cpu.write_register(FIRST[arch], address)
        assert cpu.run() == CAUSE_TRAP
        return machine.fills[DATA]

    tagged = DATA | 0xA5 << 56
    assert [load(DATA), load(tagged), load(DATA), load(tagged)] == [1, 2, 2, 2]
    cpu.flush_tlb(DATA, DATA + PAGE_BYTES)
    assert [load(tagged), load(DATA)] == [3, 4]
