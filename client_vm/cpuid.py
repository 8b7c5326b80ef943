"""What CPUID tells an x86-64 guest: exactly what the emulator executes correctly, and nothing else.

Unicorn's own answer shows XSAVE and, in richer models, AVX and BMI forms it runs wrongly. Ours is a plain
x86-64-v2 processor with AES and PCLMULQDQ (Intel SDM volume 2, CPUID; AMD APM volume 3, appendix E).
"""

from typing import Final

_VENDOR: Final = (0x68747541, 0x444D4163, 0x69746E65)  # ebx "Auth", ecx "cAMD", edx "enti"

_LEAF1_EDX: Final = sum(
    1 << bit for bit in (0, 4, 5, 6, 8, 11, 15, 19, 23, 24, 25, 26)
)  # FPU TSC MSR PAE CX8 SEP CMOV CLFSH MMX FXSR SSE SSE2
_LEAF1_ECX: Final = sum(
    1 << bit for bit in (0, 1, 9, 13, 19, 20, 22, 23, 25)
)  # SSE3 PCLMULQDQ SSSE3 CX16 SSE4.1 SSE4.2 MOVBE POPCNT AES
_EXTENDED_EDX: Final = _LEAF1_EDX & 0x0183F3FF | 1 << 11 | 1 << 20 | 1 << 27 | 1 << 29  # SYSCALL NX RDTSCP LM
_EXTENDED_ECX: Final = 1 << 0  # LAHF in long mode

_BRAND: Final = b"farcall x86-64-v2 virtual CPU".ljust(48, b"\0")


def _brand(part: int) -> tuple[int, int, int, int]:
    words = [int.from_bytes(_BRAND[16 * part + 4 * i : 16 * part + 4 * i + 4], "little") for i in range(4)]
    return words[0], words[1], words[2], words[3]


_LEAVES: Final[dict[int, tuple[int, int, int, int]]] = {
    0: (7, *_VENDOR),
    1: (0x00800F12, 0x00010800, _LEAF1_ECX, _LEAF1_EDX),
    0x80000000: (0x80000008, *_VENDOR),
    0x80000001: (0x00800F12, 0, _EXTENDED_ECX, _EXTENDED_EDX),
    0x80000002: _brand(0),
    0x80000003: _brand(1),
    0x80000004: _brand(2),
    # L1 data and code 32 KiB 8-way, L2 512 KiB 8-way, L3 8 MiB 16-way: glibc sizes its copy loops by them.
    0x80000005: (0xFF40FF40, 0xFF40FF40, 0x20080140, 0x20080140),
    0x80000006: (0, 0x42004200, 0x02006140, 0x00408140),
    0x80000008: (0x3030, 0, 0, 0),
}


def cpuid(leaf: int, subleaf: int) -> tuple[int, int, int, int]:
    """(eax, ebx, ecx, edx) of a leaf; zeros for a leaf that does not exist."""
    del subleaf  # no leaf of ours has more than one
    return _LEAVES.get(leaf, (0, 0, 0, 0))
