"""The vDSO: an object that loaders can read, and what its functions answer, by instructions that do not trap."""

import ctypes
from pathlib import Path

import pytest

from client_vm.abi import common
from client_vm.architecture import ARCHITECTURES, ARM64, X86_64, Architecture
from client_vm.arena import PAGE_BYTES
from client_vm.cpu import EXECUTE, READ, WRITE
from client_vm.stubs import CAUSE_TRAP
from client_vm.vdso import CLOCK_MAX, vdso
from tests.unit.machine import Pages

OBJECT, CALLER, DATA, STACK_END = 0x40_0000, 0x50_0000, 0x60_0000, 0x60_1000
NUMBER = 39
NOW = {common.CLOCK_REALTIME: (1_795_304_161, 999_999_999), common.CLOCK_MONOTONIC: (7, 12_345)}
TOLD = {common.CLOCK_REALTIME_COARSE: (1_795_304_161, 996_000_000), common.CLOCK_MONOTONIC_COARSE: (6, 0), **NOW}
PREFIX = {X86_64: "__vdso_", ARM64: "__kernel_"}
NUMBERS = {
    "clock_gettime": {X86_64: 228, ARM64: 113},
    "gettimeofday": {X86_64: 96, ARM64: 169},
    "clock_getres": {X86_64: 229, ARM64: 114},
}


class Caller(Pages):
    """Code that calls a function of the object, then makes system call 39; clocks that tell what NOW says."""

    def __init__(self, architecture: Architecture) -> None:
        pages = {
            OBJECT: (PAGE_BYTES, READ | EXECUTE),
            CALLER: (2 * PAGE_BYTES, READ | EXECUTE),
            DATA: (3 * PAGE_BYTES, READ | WRITE),
        }
        super().__init__(architecture, pages)
        self.architecture = architecture
        self.asked: list[int] = []
        self.store(OBJECT, vdso(architecture).image)
        self._gettime = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.POINTER(ctypes.c_uint64 * 2))(
            self._tell
        )
        address = ctypes.cast(self._gettime, ctypes.c_void_p).value
        assert address
        self.cpu.tell_time(OBJECT + vdso(architecture).site, address)

    def _tell(self, clock: int, into: "ctypes._Pointer[ctypes.Array[ctypes.c_uint64]]") -> int:
        self.asked.append(clock)
        into[0][:] = TOLD[clock]
        return 0

    def words(self) -> tuple[int, int]:
        """The two words at DATA."""
        raw = self.arena.bytes[self.pages[DATA][0] :][:16]
        return int.from_bytes(raw[:8], "little"), int.from_bytes(raw[8:], "little")

    def call(self, name: str, first: int, second: int) -> int:
        """Result of the function, or minus the number of the system call that it made instead."""
        cpu, x86 = self.cpu, self.architecture is X86_64
        target = OBJECT + vdso(self.architecture).functions[f"{PREFIX[self.architecture]}{name}".encode()]
        away = target - CALLER
        self.store(DATA, b"\xee" * 16)
        if x86:
            self.store(
                CALLER,
                b"\xe8" + (away - 5).to_bytes(4, "little", signed=True) + b"\x89\xc3\xb8\x27\0\0\0\x0f\x05",
            )
        else:
            words = (0x94000000 | away // 4 & 0x3FFFFFF, 0xAA0003E3, 0xD28004E8, 0xD4000001)
            self.store(CALLER, b"".join(word.to_bytes(4, "little") for word in words))
        cpu.flush_code()
        cpu.pc, cpu.sp = CALLER, STACK_END
        for register, value in zip(("rdi", "rsi") if x86 else ("x0", "x1"), (first, second), strict=True):
            cpu.write_register(register, value)
        assert cpu.run() == CAUSE_TRAP
        if cpu.values[0] != NUMBER:
            return -cpu.values[0]
        return cpu.read_register("rbx" if x86 else "x3")


def test_clocks_are_told_without_a_trap(arch: Architecture) -> None:
    caller = Caller(arch)
    for clock, told in TOLD.items():
        assert caller.call("clock_gettime", clock, DATA) == 0
        assert caller.words() == told and caller.asked.pop() == clock
    assert caller.call("gettimeofday", DATA, 0) == 0
    assert caller.words() == (NOW[common.CLOCK_REALTIME][0], 999_999)
    assert caller.call("gettimeofday", 0, 0) == 0 and caller.asked == [common.CLOCK_REALTIME]
    if arch is X86_64:
        assert caller.call("time", DATA, 0) == caller.words()[0] == NOW[common.CLOCK_REALTIME][0]
        assert caller.call("time", 0, 0) == NOW[common.CLOCK_REALTIME][0] and caller.words()[0] != 0


@pytest.mark.parametrize("clock", [2, 3, 4, CLOCK_MAX + 1, 11, 16, 0xFFFF_FFFF])
def test_other_clocks_are_asked_by_a_system_call(arch: Architecture, clock: int) -> None:
    caller = Caller(arch)
    assert caller.call("clock_gettime", clock, DATA) == -NUMBERS["clock_gettime"][arch]
    assert caller.cpu.values[1] & 0xFFFF_FFFF == clock and caller.cpu.values[2] == DATA and not caller.asked


@pytest.mark.parametrize("name", ["gettimeofday", "clock_getres"])
def test_the_rest_is_a_system_call(arch: Architecture, name: str) -> None:
    caller = Caller(arch)
    assert caller.call(name, 0, DATA) == -NUMBERS[name][arch] and caller.cpu.values[2] == DATA


def test_a_jump_to_the_instruction_with_another_clock_traps(arch: Architecture) -> None:
    caller = Caller(arch)
    caller.cpu.pc = OBJECT + vdso(arch).site
    caller.cpu.write_register("rdi" if arch is X86_64 else "x0", CLOCK_MAX + 1)
    caller.cpu.write_register("rax" if arch is X86_64 else "x8", NUMBER)
    assert caller.cpu.run() == CAUSE_TRAP and caller.cpu.values[0] == NUMBER and not caller.asked


def test_a_c_library_reads_it_as_a_shared_object(tmp_path: Path) -> None:
    """Names, and the version that vdso(7) says they have; of ARM64's, tests/guests/vdso.c says it."""
    path = tmp_path / "vdso.so"
    path.write_bytes(vdso(X86_64).image)
    find = ctypes.CDLL(None).dlvsym
    find.restype, find.argtypes = ctypes.c_void_p, (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_char_p)
    opened = ctypes.CDLL(str(path))
    start = find(opened._handle, b"__vdso_time", b"LINUX_2.6") - vdso(X86_64).functions[b"__vdso_time"]
    for name, offset in vdso(X86_64).functions.items():
        assert find(opened._handle, name, b"LINUX_2.6") == start + offset
        assert find(opened._handle, name, b"LINUX_2.7") is None
    assert all(len(vdso(arch).image) <= PAGE_BYTES for arch in ARCHITECTURES)
