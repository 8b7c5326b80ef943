"""The guest's processor on both architectures: traps, preemption, faults, flushes. A few instructions by hand."""

import pytest

from client_vm.architecture import ARM64, X86_64, Architecture
from client_vm.arena import PAGE_BYTES
from client_vm.cpu import EXECUTE, READ, WRITE
from client_vm.cpuid import cpuid
from client_vm.stubs import CAUSE_NONE, CAUSE_TRAP
from tests.unit.machine import CODE, DATA, FIRST, LOAD, NUMBER, SPIN, TRAP, Machine, arm

TRAP_PC = {X86_64: CODE + 7, ARM64: CODE + 8}
STORE = {X86_64: b"\x48\x89\x07", ARM64: arm(0xF9000001)}
ILLEGAL = {X86_64: b"\x0f\x0b", ARM64: arm(0x00000000)}


def test_a_trap_brings_number_and_pc_and_takes_a_result(arch: Architecture) -> None:
    machine = Machine(arch, TRAP[arch])
    cpu = machine.cpu
    for _ in range(3):
        assert cpu.run() == CAUSE_TRAP
        assert cpu.values[0] == NUMBER and cpu.pc == TRAP_PC[arch]
        cpu.finish_syscall(-38)
        assert cpu.read_register("rax" if arch is X86_64 else "x0") == 2**64 - 38
    if arch is X86_64:
        assert cpu.read_register("rcx") == TRAP_PC[arch]
        assert cpu.read_register("r11") & 0x202 == 0x202
    else:
        assert cpu.read_register("x8") == NUMBER


@pytest.mark.parametrize(("code", "access"), [(LOAD, READ), (STORE, WRITE)], ids=["load", "store"])
def test_a_fault_tells_its_address_and_can_be_mended(
    arch: Architecture, code: dict[Architecture, bytes], access: int
) -> None:
    machine = Machine(arch, code[arch] + SPIN[arch])
    cpu = machine.cpu
    rights = machine.pages.pop(DATA)
    cpu.write_register(FIRST[arch], DATA + 16)
    assert cpu.run() == CAUSE_NONE
    assert (cpu.fault_address, cpu.fault_access, cpu.pc) == (DATA + 16, access, CODE)
    machine.pages[DATA] = rights
    machine.store(CODE, code[arch] + TRAP[arch])
    cpu.flush_code()
    assert cpu.run() == CAUSE_TRAP


@pytest.mark.parametrize(("code", "access"), [(LOAD, READ), (STORE, WRITE)], ids=["load", "store"])
def test_an_access_across_two_pages_faults_where_the_second_begins(
    arch: Architecture, code: dict[Architecture, bytes], access: int
) -> None:
    machine = Machine(arch, code[arch] + SPIN[arch])
    rights = machine.pages.pop(DATA)
    machine.pages[DATA - PAGE_BYTES] = rights
    machine.cpu.write_register(FIRST[arch], DATA - 1)
    assert machine.cpu.run() == CAUSE_NONE
    assert (machine.cpu.fault_address, machine.cpu.fault_access) == (DATA, access)


def test_without_the_exact_address_a_fault_tells_its_page(
    arch: Architecture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("client_vm.cpu.word_that_follows", lambda _block, _follow: None)
    machine = Machine(arch, LOAD[arch] + SPIN[arch])
    machine.pages.pop(DATA)
    machine.cpu.write_register(FIRST[arch], DATA + 16)
    assert machine.cpu.run() == CAUSE_NONE
    assert (machine.cpu.fault_address, machine.cpu.fault_access) == (DATA, READ)


def test_a_jump_to_nowhere_is_a_fault(arch: Architecture) -> None:
    machine = Machine(arch, SPIN[arch])
    machine.cpu.pc = 0
    assert machine.cpu.run() == CAUSE_NONE
    assert (machine.cpu.fault_address, machine.cpu.fault_access) == (0, EXECUTE)


def test_an_illegal_instruction_is_no_trap(arch: Architecture) -> None:
    machine = Machine(arch, ILLEGAL[arch])
    assert machine.cpu.run() == CAUSE_NONE and not machine.cpu.fault_access


def test_data_cannot_be_executed(arch: Architecture) -> None:
    machine = Machine(arch, SPIN[arch])
    machine.store(DATA, SPIN[arch])
    machine.cpu.pc = DATA
    assert machine.cpu.run() == CAUSE_NONE and machine.cpu.fault_access == EXECUTE


def test_new_code_runs_after_a_flush(arch: Architecture) -> None:
    machine = Machine(arch, TRAP[arch])
    assert machine.cpu.run() == CAUSE_TRAP
    machine.store(CODE, ILLEGAL[arch])
    machine.cpu.flush_code()
    machine.cpu.pc = CODE
    assert machine.cpu.run() == CAUSE_NONE


def test_cpuid_announces_nothing_that_runs_wrongly() -> None:
    features = cpuid(1, 0)[2]
    for bit in (12, 26, 27, 28, 29, 30):  # FMA XSAVE OSXSAVE AVX F16C RDRAND
        assert not features >> bit & 1
    assert cpuid(7, 0) == (0, 0, 0, 0) and cpuid(0x12345678, 0) == (0, 0, 0, 0)
    assert cpuid(0, 0)[0] == 7 and cpuid(1, 0)[3] >> 26 & 1
