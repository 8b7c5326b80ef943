"""The vDSO (vdso(7)): a shared object of one page in every guest's memory, whose functions tell the time without
stopping the CPU for a system call.

A function asks for a clock by the one trap instruction at `Vdso.site`. The stub in the trap's hook knows that
address (client_vm.stubs), asks the host's clock, and the guest goes on with seconds and nanoseconds in two
registers. So nothing is calculated from counters, and both ways to ask for the time agree to the nanosecond.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Final

from client_vm.abi import common
from client_vm.architecture import ARM64, X86_64, Architecture

SONAME: Final = b"linux-vdso.so.1"
SIGRETURN: Final = b"__kernel_rt_sigreturn"
"""ARM64's, where actions of signals need not name code that returns from their handler."""
CLOCK_MAX: Final = common.CLOCK_MONOTONIC_COARSE
"""Of the clocks that the functions below tell by themselves: REALTIME, MONOTONIC, and both COARSE."""

_X86_64_CODE: Final = bytes.fromhex(
    # 0x00 now: edi = clock; rax = seconds, rdx = nanoseconds
    "b8e4000000 0f05 c3"  # mov eax, 228; site: syscall; ret
    # 0x08 clock_gettime(edi = clock, rsi = timespec)
    "83ff06 7719"  # cmp edi, CLOCK_MAX; ja other
    "b863000000 0fa3f8 730f"  # mov eax, 0b1100011; bt eax, edi; jnc other
    "e8e4ffffff"  # call now
    "488906 48895608 31c0 c3"  # mov [rsi], rax; mov [rsi+8], rdx; xor eax, eax; ret
    "b8e4000000 0f05 c3"  # other: mov eax, 228; syscall; ret
    # 0x2e gettimeofday(rdi = timeval or NULL, rsi = timezone or NULL)
    "4885f6 7524"  # test rsi, rsi; jnz other
    "4885ff 741c"  # test rdi, rdi; jz done
    "4989f8 31ff e8beffffff"  # mov r8, rdi; xor edi, edi; call now
    "498900 89d0 31d2 b9e8030000 f7f1 49894008"  # mov [r8], rax; mov [r8+8], rdx / 1000
    "31c0 c3"  # done: xor eax, eax; ret
    "b860000000 0f05 c3"  # other: mov eax, 96; syscall; ret
    # 0x5f time(rdi = time_t * or NULL)
    "4989f8 31ff e897ffffff"  # mov r8, rdi; xor edi, edi; call now
    "4d85c0 7403 498900 c3"  # test r8, r8; jz done; mov [r8], rax; done: ret
    "b8e5000000 0f05 c3"  # 0x72 clock_getres: mov eax, 229; syscall; ret
    "b835010000 0f05 c3"  # 0x7a getcpu: mov eax, 309; syscall; ret
)
_ARM64_CODE: Final = bytes.fromhex(
    # 0x00 now: w0 = clock; x0 = seconds, x2 = nanoseconds
    "280e80d2 010000d4 c0035fd6"  # mov x8, #113; site: svc #0; ret
    # 0x0c clock_gettime(w0 = clock, x1 = timespec)
    "1f180071 28010054"  # cmp w0, #CLOCK_MAX; b.hi other
    "620c8052 4224c01a c2000036"  # mov w2, #0b1100011; lsr w2, w2, w0; tbz w2, #0, other
    "e9031eaa f7ffff97"  # mov x9, x30; bl now
    "200800a9 00008052 20015fd6"  # stp x0, x2, [x1]; mov w0, #0; ret x9
    "280e80d2 010000d4 c0035fd6"  # other: mov x8, #113; svc #0; ret
    # 0x40 gettimeofday(x0 = timeval or NULL, x1 = timezone or NULL)
    "610100b5 800100b4"  # cbnz x1, other; cbz x0, done
    "e9031eaa ea0300aa 000080d2 ebffff97"  # mov x9, x30; mov x10, x0; mov x0, #0; bl now
    "037d8052 4208c31a 400900a9"  # mov w3, #1000; udiv w2, w2, w3; stp x0, x2, [x10]
    "000080d2 20015fd6"  # mov x0, #0; ret x9
    "281580d2 010000d4 c0035fd6"  # other: mov x8, #169; svc #0; done: ret
    "480e80d2 010000d4 c0035fd6"  # 0x78 clock_getres: mov x8, #114; svc #0; ret
    "681180d2 010000d4"  # 0x84 rt_sigreturn: mov x8, #139; svc #0
)


@dataclass(frozen=True, slots=True)
class _Source:
    """One architecture's code, and where in it everything is."""

    code: bytes
    site: int
    version: bytes
    functions: dict[bytes, int]


_SOURCES: Final = {
    X86_64: _Source(
        _X86_64_CODE, 0x05, b"LINUX_2.6",
        {
            b"__vdso_clock_gettime": 0x08, b"__vdso_gettimeofday": 0x2E, b"__vdso_time": 0x5F,
            b"__vdso_clock_getres": 0x72, b"__vdso_getcpu": 0x7A,
        },
    ),
    ARM64: _Source(
        _ARM64_CODE, 0x04, b"LINUX_2.6.39",
        {
            b"__kernel_clock_gettime": 0x0C, b"__kernel_gettimeofday": 0x40, b"__kernel_clock_getres": 0x78,
            SIGRETURN: 0x84,
        },
    ),
}  # fmt: skip

_SYMBOL: Final = struct.Struct("<IBBHQQ")
"""Elf64_Sym (elf(5)): name, info, other, section, value, size."""
_VERSION: Final = struct.Struct("<HHHHIII")
"""Elf64_Verdef: version, flags, index, auxiliaries, hash, offset of the first, offset of the next."""
_VERSION_NAME: Final = struct.Struct("<II")
"""Elf64_Verdaux: name, offset of the next."""
_GLOBAL_FUNCTION: Final = 1 << 4 | 2
"""STB_GLOBAL, STT_FUNC."""
_SECTION: Final = 1
"""Any but SHN_UNDEF: the functions are defined here, in an object without section headers."""
_VERSION_INDEX: Final = 2
"""Of the one version; 1 (VER_FLG_BASE) is the object's own name."""


@dataclass(frozen=True, slots=True)
class Vdso:
    """The object, to be mapped at a page's start; offsets in it."""

    image: bytes
    site: int
    """Of the trap instruction that asks for the time."""
    functions: dict[bytes, int]


def _hash(name: bytes) -> int:
    """The System V hash of a name (elf(5), ELF gABI: Hash Table)."""
    value = 0
    for byte in name:
        value = (value << 4) + byte
        high = value & 0xF000_0000
        value = (value ^ high >> 24) & ~high
    return value


class _Parts:
    """What lies behind the headers, in order."""

    def __init__(self, start: int) -> None:
        self.end = start
        self.data = bytearray()

    def add(self, data: bytes) -> int:
        """Offset of data in the object, a multiple of 16."""
        at = self.end
        self.data += data + bytes(-len(data) % 16)
        self.end = at + len(data) + -len(data) % 16
        return at


def _strings(source: _Source) -> tuple[bytes, dict[bytes, int]]:
    """The string table, and where each name is in it."""
    table, places = b"\0", {}
    for name in (SONAME, source.version, *source.functions):
        places[name] = len(table)
        table += name + b"\0"
    return table, places


def _versions(source: _Source, name_at: Callable[[bytes], int]) -> bytes:
    """The two definitions: the object's own name, and the version of its functions."""
    size = _VERSION.size + _VERSION_NAME.size
    base = _VERSION.pack(1, 1, 1, 1, _hash(SONAME), _VERSION.size, size) + _VERSION_NAME.pack(name_at(SONAME), 0)
    version = _VERSION.pack(1, 0, _VERSION_INDEX, 1, _hash(source.version), _VERSION.size, 0)
    return base + version + _VERSION_NAME.pack(name_at(source.version), 0)


@cache
def vdso(architecture: Architecture) -> Vdso:
    """The architecture's object, less than a page."""
    source = _SOURCES[architecture]
    table, places = _strings(source)
    parts = _Parts(common.elf64_ehdr.size + 2 * common.elf64_phdr.size)
    code_at = parts.add(source.code)
    ends = sorted((*source.functions.values(), len(source.code)))
    symbols = bytes(_SYMBOL.size) + b"".join(
        _SYMBOL.pack(
            places[name], _GLOBAL_FUNCTION, 0, _SECTION, code_at + at, min(end for end in ends if end > at) - at
        )
        for name, at in source.functions.items()
    )
    count = len(source.functions) + 1
    # One bucket: the functions are few, and each is looked for once.
    chain = [1 % count, 0, *((index + 1) % count for index in range(1, count))]
    dynamic = {
        common.DT_SONAME: places[SONAME],
        common.DT_STRTAB: parts.add(table),
        common.DT_STRSZ: len(table),
        common.DT_SYMTAB: parts.add(symbols),
        common.DT_SYMENT: _SYMBOL.size,
        common.DT_HASH: parts.add(struct.pack(f"<{count + 3}I", 1, count, *chain)),
        common.DT_VERSYM: parts.add(struct.pack(f"<{count}H", 0, *[_VERSION_INDEX] * (count - 1))),
        common.DT_VERDEF: parts.add(_versions(source, places.__getitem__)),
        common.DT_VERDEFNUM: 2,
        common.DT_NULL: 0,
    }
    entries = b"".join(common.elf64_dyn.pack(d_tag=tag, d_val=value) for tag, value in dynamic.items())
    dynamic_at = parts.add(entries)
    header = common.elf64_ehdr.pack(
        e_ident=b"\x7fELF\x02\x01\x01", e_type=common.ET_DYN, e_machine=architecture.elf_machine, e_version=1,
        e_phoff=common.elf64_ehdr.size, e_phentsize=common.elf64_phdr.size, e_phnum=2,
        e_ehsize=common.elf64_ehdr.size,
    )  # fmt: skip
    execute = common.PF_R | common.PF_X
    loaded = common.elf64_phdr.pack(
        p_type=common.PT_LOAD, p_flags=execute, p_filesz=parts.end, p_memsz=parts.end, p_align=4096
    )
    found = common.elf64_phdr.pack(
        p_type=common.PT_DYNAMIC, p_flags=common.PF_R, p_offset=dynamic_at, p_vaddr=dynamic_at,
        p_paddr=dynamic_at, p_filesz=len(entries), p_memsz=len(entries), p_align=8,
    )  # fmt: skip
    image = header + loaded + found + bytes(parts.data)
    return Vdso(image, code_at + source.site, {name: code_at + at for name, at in source.functions.items()})
