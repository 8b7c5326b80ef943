"""Unicorn's constants, read from its package without importing its binding, and each architecture's registers."""

import importlib.util
from functools import cache
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from client_vm.architecture import X86_64, Architecture


def package() -> Path:
    """Where Unicorn is installed. ImportError."""
    spec = importlib.util.find_spec("unicorn")
    if spec is None or not spec.submodule_search_locations:
        raise ImportError("the package unicorn is not installed")
    return Path(spec.submodule_search_locations[0])


def _constants(name: str) -> ModuleType:
    loader = SourceFileLoader(f"farcall_{name}", str(package() / f"{name}.py"))
    module = ModuleType(loader.name)
    loader.exec_module(module)
    return module


UC: Final[Any] = _constants("unicorn_const")
X86: Final[Any] = _constants("x86_const")
A64: Final[Any] = _constants("arm64_const")


class Layout:
    """Register numbers of an architecture, in the order of the trap's values."""

    def __init__(self, architecture: Architecture) -> None:
        if architecture is X86_64:
            self.uc_arch, self.uc_mode, self.model = UC.UC_ARCH_X86, UC.UC_MODE_64, X86.UC_CPU_X86_HASWELL
            trap = "RAX RDI RSI RDX R10 R8 R9 RIP EFLAGS"
            self.trap = [getattr(X86, f"UC_X86_REG_{name}") for name in trap.split()]
            self.registers: dict[str, int] = {
                name.removeprefix("UC_X86_REG_").lower(): value
                for name, value in vars(X86).items()
                if name.startswith("UC_X86_REG_")
            }
            self.resume = [X86.UC_X86_REG_RAX, X86.UC_X86_REG_RCX, X86.UC_X86_REG_R11]
            self.time = [X86.UC_X86_REG_RAX, X86.UC_X86_REG_RDX]
            self.pc, self.sp = self.registers["rip"], self.registers["rsp"]
            self.tls = self.registers["fs_base"]
        else:
            self.uc_arch, self.uc_mode, self.model = UC.UC_ARCH_ARM64, UC.UC_MODE_ARM, A64.UC_CPU_ARM64_MAX
            trap = "X8 X0 X1 X2 X3 X4 X5 PC"
            self.trap = [getattr(A64, f"UC_ARM64_REG_{name}") for name in trap.split()]
            self.registers = {
                name.removeprefix("UC_ARM64_REG_").lower(): value
                for name, value in vars(A64).items()
                if name.startswith("UC_ARM64_REG_")
            }
            self.resume = [A64.UC_ARM64_REG_X0]
            self.time = [A64.UC_ARM64_REG_X0, A64.UC_ARM64_REG_X2]
            self.pc, self.sp = self.registers["pc"], self.registers["sp"]
            self.tls = self.registers["tpidr_el0"]


@cache
def layout_of(architecture: Architecture) -> Layout:
    """Made once: it takes a millisecond, and each execve wants one."""
    return Layout(architecture)
