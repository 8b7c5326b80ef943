"""/proc/cpuinfo (proc(5)): the processors a guest has, told from what CPUID and AT_HWCAP tell it.

Clock rate and bogomips are left out: an emulated processor has none.
"""

from collections.abc import Mapping
from typing import Final

from client_vm.architecture import X86_64, Architecture
from client_vm.cpuid import cpuid

ARM64_FEATURES: Final = {
    0: "fp", 1: "asimd", 3: "aes", 4: "pmull", 5: "sha1", 6: "sha2", 7: "crc32", 8: "atomics",
}  # fmt: skip
"""What AT_HWCAP announces, by bit (asm/hwcap.h); not cpuid: ID registers are not emulated."""
_LEAF1_EDX: Final = {
    0: "fpu", 1: "vme", 2: "de", 3: "pse", 4: "tsc", 5: "msr", 6: "pae", 7: "mce", 8: "cx8", 9: "apic", 11: "sep",
    12: "mtrr", 13: "pge", 14: "mca", 15: "cmov", 16: "pat", 17: "pse36", 19: "clflush", 23: "mmx", 24: "fxsr",
    25: "sse", 26: "sse2", 28: "ht",
}  # fmt: skip
_EXTENDED_EDX: Final = {11: "syscall", 20: "nx", 27: "rdtscp", 29: "lm"}
_LEAF1_ECX: Final = {
    0: "pni", 1: "pclmulqdq", 9: "ssse3", 12: "fma", 13: "cx16", 19: "sse4_1", 20: "sse4_2", 22: "movbe",
    23: "popcnt", 25: "aes", 26: "xsave", 28: "avx", 29: "f16c", 30: "rdrand",
}  # fmt: skip
_EXTENDED_ECX: Final = {0: "lahf_lm"}
"""Names of feature bits (asm/cpufeatures.h), leaves in the order in which Linux prints them."""


def cpuinfo(architecture: Architecture, processors: int) -> bytes:
    """The whole file: a paragraph per processor."""
    rows = _x86_64_rows() if architecture is X86_64 else {"Features": _named(-1, ARM64_FEATURES)}
    paragraphs = []
    for number in range(processors):
        lines = {"processor": str(number), **rows}.items()
        paragraphs.append("".join(f"{name}\t: {value}\n" for name, value in lines))
    return "".join(paragraph + "\n" for paragraph in paragraphs).encode()


def _named(word: int, names: Mapping[int, str]) -> str:
    return " ".join(name for bit, name in names.items() if word >> bit & 1)


def _x86_64_rows() -> dict[str, str]:
    """Family, model and stepping as leaf 1's eax folds them up; sizes from the extended leaves."""
    last, *vendor = cpuid(0, 0)
    signature, cache, ecx, edx = cpuid(1, 0)
    _, _, extended_ecx, extended_edx = cpuid(0x80000001, 0)
    brand = b"".join(word.to_bytes(4, "little") for leaf in (2, 3, 4) for word in cpuid(0x80000000 | leaf, 0))
    level2 = cpuid(0x80000006, 0)[2]
    bits = cpuid(0x80000008, 0)[0]
    flags = (
        _named(edx, _LEAF1_EDX),
        _named(extended_edx, _EXTENDED_EDX),
        _named(ecx, _LEAF1_ECX),
        _named(extended_ecx, _EXTENDED_ECX),
    )
    return {
        "vendor_id": b"".join(vendor[at].to_bytes(4, "little") for at in (0, 2, 1)).decode(),
        "cpu family": str((signature >> 8 & 15) + (signature >> 20 & 255)),
        "model\t": str((signature >> 4 & 15) | (signature >> 12 & 0xF0)),
        "model name": brand.rstrip(b"\0").decode(),
        "stepping": str(signature & 15),
        "cache size": f"{level2 >> 16} KB",
        "fpu\t": "yes",
        "cpuid level": str(last),
        "flags\t": " ".join(flags),
        "clflush size": str((cache >> 8 & 255) * 8),
        "address sizes": f"{bits & 255} bits physical, {bits >> 8 & 255} bits virtual",
    }
