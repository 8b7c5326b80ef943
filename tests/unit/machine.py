"""A CPU over a few pages, each at an address and with rights of its own."""

from collections import Counter

from client_vm.architecture import ARM64, X86_64, Architecture
from client_vm.arena import PAGE_BYTES, Arena
from client_vm.cpu import EXECUTE, READ, WRITE, Cpu

CODE, DATA = 0x40_0000, 0x50_0000
NUMBER = 39


def arm(*words: int) -> bytes:
    return b"".join(word.to_bytes(4, "little") for word in words)


TRAP = {X86_64: b"\xb8\x27\0\0\0\x0f\x05\xeb\xf7", ARM64: arm(0xD28004E8, 0xD4000001, 0x17FFFFFE)}
"""Forever: syscall number 39."""
SPIN = {X86_64: b"\xeb\xfe", ARM64: arm(0x14000000)}
LOAD = {X86_64: b"\x48\x8b\x07", ARM64: arm(0xF9400000)}
"""Loads from the address in the first argument register."""
FIRST = {X86_64: "rdi", ARM64: "x0"}
SECOND = {X86_64: "rsi", ARM64: "x1"}


class Pages:
    """The CPU and its memory. `pages`: by address, (offset in the arena, READ | WRITE | EXECUTE). `fills`: how
    often each was asked for."""

    def __init__(self, architecture: Architecture, pages: dict[int, tuple[int, int]]) -> None:
        self.arena = Arena(1 << 24)
        self.pages = pages
        self.fills = Counter[int]()
        self.cpu = Cpu(architecture, self.arena.address, self.arena.size_bytes, self.translate)

    def translate(self, address: int, access: int) -> tuple[int, int] | None:
        page = address & ~(PAGE_BYTES - 1)
        self.fills[page] += 1
        found = self.pages.get(page)
        return found if found and found[1] & access else None

    def store(self, page: int, data: bytes) -> None:
        offset = self.pages[page][0]
        self.arena.bytes[offset : offset + len(data)] = data

    def load(self, page: int, size_bytes: int) -> bytes:
        offset = self.pages[page][0]
        return bytes(self.arena.bytes[offset : offset + size_bytes])


class Machine(Pages):
    """A CPU over two pages: CODE and DATA, each with rights of its own."""

    def __init__(self, architecture: Architecture, code: bytes) -> None:
        super().__init__(architecture, {CODE: (PAGE_BYTES, READ | EXECUTE), DATA: (2 * PAGE_BYTES, READ | WRITE)})
        self.store(CODE, code)
        self.cpu.pc = CODE
        self.fills.clear()
