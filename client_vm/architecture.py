"""What differs between the two guest architectures, each fact once; numbers come from client_vm.abi."""

from dataclasses import dataclass
from types import ModuleType
from typing import Final

from client_vm.abi import arm64, x86_64


@dataclass(frozen=True, eq=False)
class Architecture:
    """One guest architecture."""

    name: str
    """Our name for it, as in `farcall syscalls`."""
    machine: str
    """uname(2)'s machine; AT_PLATFORM."""
    elf_machine: int
    """e_machine of its ELF files."""
    abi: ModuleType
    """Syscall numbers, flags and struct layouts, generated from kernel headers."""
    stack_register: str
    tls_register: str
    clone_has_tls_first: bool
    """clone(2): whether tls comes before child_tid."""


X86_64: Final = Architecture("x86_64", "x86_64", 62, x86_64, "rsp", "fs_base", False)
ARM64: Final = Architecture("arm64", "aarch64", 183, arm64, "sp", "tpidr_el0", True)
ARCHITECTURES: Final = (X86_64, ARM64)
