"""The guest's processor on both architectures: traps, preemption, faults, flushes. A few instructions by hand."""

from collections import Counter
from collections.abc import Iterator

import pytest

from client_vm.architecture import ARCHITECTURES, ARM64, X86_64, Architecture
from client_vm.arena import PAGE_BYTES, Arena
from client_vm.cpu import EXECUTE, READ, WRITE, Cpu
from client_vm.cpuid import cpuid
from client_vm.stubs import CAUSE_NONE, CAUSE_PREEMPTED, CAUSE_TRAP

CODE, DATA = 0x40_0000, 0x50_0000
NUMBER = 39


def arm(*words: int) -> bytes:
    return b"".join(word.to_bytes(4, "little") for word in words)


TRAP = {X86_64: b"\xb8\x27\0\0\0\x0f\x05\xeb\xf7", ARM64: arm(0xD28004E8, 0xD4000001, 0x17FFFFFE)}
"""Forever: syscall number 39."""
TRAP_PC = {X86_64: CODE + 7, ARM64: CODE + 8}
SPIN = {X86_64: b"\xeb\xfe", ARM64: arm(0x14000000)}
LOAD = {X86_64: b"\x48\x8b\x07", ARM64: arm(0xF9400000)}
"""Loads from the address in the first argument register."""
STORE = {X86_64: b"\x48\x89\x07", ARM64: arm(0xF9000001)}
ILLEGAL = {X86_64: b"\x0f\x0b", ARM64: arm(0x00000000)}
WALK = {
    X86_64: bytes.fromhex("488b07 4881c700100000 4839f7 72f1") + TRAP[X86_64],
    ARM64: arm(0xF9400003, 0x91400400, 0xEB01001F, 0x54FFFFA3) + TRAP[ARM64],
}
"""Loads from each page between the addresses in the first two argument registers, then makes a system call."""
WALKED = {X86_64: ("rdi", "rsi"), ARM64: ("x0", "x1")}
FIRST = {X86_64: "rdi", ARM64: "x0"}


class Machine:
    """A CPU over two pages: CODE and DATA, each with rights of its own."""

    def __init__(self, architecture: Architecture, code: bytes) -> None:
        self.arena = Arena(1 << 24)
        self.pages = {CODE: (PAGE_BYTES, READ | EXECUTE), DATA: (2 * PAGE_BYTES, READ | WRITE)}
        self.store(CODE, code)
        self.cpu = Cpu(architecture, self.arena.address, self.arena.size_bytes, self.translate)
        self.cpu.pc = CODE

    def translate(self, address: int, access: int) -> tuple[int, int] | None:
        found = self.pages.get(address & ~(PAGE_BYTES - 1))
        return found if found and found[1] & access else None

    def store(self, page: int, data: bytes) -> None:
        offset = self.pages[page][0]
        self.arena.bytes[offset : offset + len(data)] = data


@pytest.fixture(params=ARCHITECTURES, ids=lambda arch: arch.name)
def arch(request: pytest.FixtureRequest) -> Iterator[Architecture]:
    yield request.param


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


def test_preemption_is_told_from_a_trap(arch: Architecture) -> None:
    machine = Machine(arch, TRAP[arch])
    cpu = machine.cpu
    assert cpu.run() == CAUSE_TRAP
    cpu.finish_syscall(0)
    cpu.words.preempt = 1
    assert cpu.run() == CAUSE_PREEMPTED and cpu.words.preempt == 0
    assert cpu.run() == CAUSE_TRAP and cpu.values[0] == NUMBER


def test_a_spinning_guest_is_preempted(arch: Architecture) -> None:
    machine = Machine(arch, SPIN[arch])
    for _ in range(100):
        machine.cpu.words.preempt = 1
        assert machine.cpu.run() == CAUSE_PREEMPTED and machine.cpu.pc == CODE


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
    cpu.words.preempt = 0
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
    monkeypatch.setattr("client_vm.cpu._PROBES", ())
    machine = Machine(arch, LOAD[arch] + SPIN[arch])
    machine.pages.pop(DATA)
    machine.cpu.write_register(FIRST[arch], DATA + 16)
    assert machine.cpu.run() == CAUSE_NONE
    assert (machine.cpu.fault_address, machine.cpu.fault_access) == (DATA, READ)


def test_a_guest_of_many_pages_asks_for_each_seldom(arch: Architecture) -> None:
    """Unicorn's TLB begins with 256 places and grows when it is flushed: somebody must."""
    pages, rounds = 2000, 40
    machine = Machine(arch, WALK[arch])
    cpu = machine.cpu
    begin, end = 1 << 30, (1 << 30) + pages * PAGE_BYTES
    machine.pages |= dict.fromkeys(range(begin, end, PAGE_BYTES), (2 * PAGE_BYTES, READ))
    asked = Counter[int]()

    def translate(address: int, access: int) -> tuple[int, int] | None:
        asked[address & ~(PAGE_BYTES - 1)] += 1
        return machine.translate(address, access)

    cpu._translate = translate
    for _ in range(rounds):
        cpu.pc = CODE
        for name, value in zip(WALKED[arch], (begin, end), strict=True):
            cpu.write_register(name, value)
        while cpu.run() == CAUSE_PREEMPTED:
            pass  # by itself, so that it may flush
        assert cpu.values[0] == NUMBER
    assert len(asked) == pages + 1 and asked.total() < rounds * pages // 3


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
