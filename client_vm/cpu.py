"""The guest's processor: the only module that knows Unicorn.

Loads Unicorn's shared library by ctypes, without its binding (whose import takes 100 ms and whose register
access 25 us per syscall). A run ends with a cause: a trap (registers already read), a preemption, or a
fault. Between two runs no frame of Unicorn is on the stack, so the caller may fork, sleep or switch.
Memory is one arena behind UC_TLB_VIRTUAL: every translation comes from `translate`.
"""

import ctypes
import importlib.util
from collections.abc import Callable
from functools import cache
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from client_vm.architecture import ARM64, X86_64, Architecture
from client_vm.cpuid import cpuid
from client_vm.stubs import CAUSE_NONE, CAUSE_TRAP, build_stubs
from client_vm.translations import Translations

READ: Final = 1
WRITE: Final = 2
EXECUTE: Final = 4

_UINT64 = ctypes.c_uint64
_POINTER = ctypes.c_void_p
_CODE_BUFFER_BYTES: Final = 64 << 20
_INTERRUPT_SVC: Final = 2
_INTERRUPT_SYSCALL: Final = 0x1000
"""What the trap stub is told for x86's syscall instruction, beyond every interrupt number."""


def _package() -> Path:
    spec = importlib.util.find_spec("unicorn")
    if spec is None or not spec.submodule_search_locations:
        raise ImportError("the package unicorn is not installed")
    return Path(spec.submodule_search_locations[0])


def _constants(name: str) -> ModuleType:
    loader = SourceFileLoader(f"farcall_{name}", str(_package() / f"{name}.py"))
    module = ModuleType(loader.name)
    loader.exec_module(module)
    return module


_UC: Final[Any] = _constants("unicorn_const")
_X86: Final[Any] = _constants("x86_const")
_A64: Final[Any] = _constants("arm64_const")
# PyDLL keeps the GIL: a worker has one thread, and giving the lock away costs half a microsecond a call.
_LIBRARY: Final = ctypes.PyDLL(str(_package() / "lib" / "libunicorn.so.2"))

_ACCESS: Final = {_UC.UC_MEM_READ: READ, _UC.UC_MEM_WRITE: WRITE, _UC.UC_MEM_FETCH: EXECUTE}


class _TlbEntry(ctypes.Structure):
    _fields_ = (("paddr", _UINT64), ("perms", ctypes.c_uint32))


class _SystemRegister(ctypes.Structure):
    """uc_arm64_cp_reg."""

    _fields_ = (
        ("crn", ctypes.c_uint32),
        ("crm", ctypes.c_uint32),
        ("op0", ctypes.c_uint32),
        ("op1", ctypes.c_uint32),
        ("op2", ctypes.c_uint32),
        ("value", _UINT64),
    )


_EFLAGS_USER: Final = 0x202
"""Interrupts on, and the bit that is always one: what a program finds, and r11 after a syscall."""
_SCTLR_USER: Final = 1 << 14 | 1 << 15 | 1 << 26
"""DZE, UCT, UCI: dc zva, ctr_el0 and cache maintenance for user space."""
_CNTKCTL_USER: Final = 1 << 1
"""EL0VCTEN: the virtual counter."""

_KERNEL_HALF: Final = 1 << 55
_UNTAGGED: Final = (1 << 56) - 1
"""The top byte of an ARM64 address of user space is the program's (linux: arm64/tagged-pointers.rst)."""

_TLB_FILL = ctypes.CFUNCTYPE(ctypes.c_bool, _POINTER, _UINT64, ctypes.c_int, ctypes.POINTER(_TlbEntry), _POINTER)
_CPUID = ctypes.CFUNCTYPE(ctypes.c_int, _POINTER, _POINTER)

_PAGE_BYTES: Final = 4096
_PAGE_MASK: Final = _PAGE_BYTES - 1
_PROBES: Final = (0x5A17_3C96_E888, 0x2BD4_96A1_7118)
"""Addresses where nothing is when a fault is tried: as good as no other word has their values by chance."""
_LOAD_EXCLUSIVE: Final = bytes.fromhex("207c5fc8 e1031faa 010000d4")
"""ldxr x0, [x1]; mov x1, xzr; svc #0."""
_WATCHES_NOTHING: Final = (1 << 64) - 1
_MALLOC_USABLE_SIZE: Final = ctypes.CDLL(None).malloc_usable_size
_MALLOC_USABLE_SIZE.argtypes = (_POINTER,)
_MALLOC_USABLE_SIZE.restype = ctypes.c_size_t

Translate = Callable[[int, int], tuple[int, int] | None]
"""(page address, access) -> (arena offset of the page, READ|WRITE|EXECUTE), or None: a fault."""


def _nowhere(_page: int, _access: int) -> None:
    """A Translate under which nothing is mapped."""


class CpuError(RuntimeError):
    """Unicorn refused something it never should: a bug here, or an installation that does not fit."""


class _Layout:
    """Register numbers of an architecture, in the order of the trap's values."""

    def __init__(self, architecture: Architecture) -> None:
        if architecture is X86_64:
            self.uc_arch, self.uc_mode, self.model = _UC.UC_ARCH_X86, _UC.UC_MODE_64, _X86.UC_CPU_X86_HASWELL
            trap = "RAX RDI RSI RDX R10 R8 R9 RIP EFLAGS"
            self.trap = [getattr(_X86, f"UC_X86_REG_{name}") for name in trap.split()]
            self.registers: dict[str, int] = {
                name.removeprefix("UC_X86_REG_").lower(): value
                for name, value in vars(_X86).items()
                if name.startswith("UC_X86_REG_")
            }
            self.resume = [_X86.UC_X86_REG_RAX, _X86.UC_X86_REG_RCX, _X86.UC_X86_REG_R11]
            self.pc, self.sp = self.registers["rip"], self.registers["rsp"]
            self.tls = self.registers["fs_base"]
        else:
            self.uc_arch, self.uc_mode, self.model = _UC.UC_ARCH_ARM64, _UC.UC_MODE_ARM, _A64.UC_CPU_ARM64_MAX
            trap = "X8 X0 X1 X2 X3 X4 X5 PC"
            self.trap = [getattr(_A64, f"UC_ARM64_REG_{name}") for name in trap.split()]
            self.registers = {
                name.removeprefix("UC_ARM64_REG_").lower(): value
                for name, value in vars(_A64).items()
                if name.startswith("UC_ARM64_REG_")
            }
            self.resume = [_A64.UC_ARM64_REG_X0]
            self.pc, self.sp = self.registers["pc"], self.registers["sp"]
            self.tls = self.registers["tpidr_el0"]


@cache
def _layout(architecture: Architecture) -> _Layout:
    """Made once: it takes a millisecond, and each execve wants one."""
    return _Layout(architecture)


@cache
def _find_monitor() -> int:
    """Where a context keeps the address that ARM64's exclusive monitor watches; 0, should it have no such word.

    No register of Unicorn's interface is that word, so loads are made exclusive, each at an address of its own,
    and the one word that followed them is it.
    """
    room = (ctypes.c_ubyte * (2 * _PAGE_BYTES))()
    page = ctypes.addressof(room) + _PAGE_BYTES - 1 & ~_PAGE_MASK
    ctypes.memmove(page, _LOAD_EXCLUSIVE, len(_LOAD_EXCLUSIVE))
    cpu = Cpu(ARM64, page, _PAGE_BYTES, lambda _page, _access: (0, READ | EXECUTE))
    context = Context(cpu.new_handle(), 0)
    start = context.handle.value or 0
    size_bytes = _MALLOC_USABLE_SIZE(start)
    places: set[int] | None = None
    for address in _PROBES:
        cpu.write_register("x1", address)
        cpu.pc = _PAGE_BYTES
        cpu.run()
        cpu.save(context)
        words = memoryview(ctypes.string_at(start, size_bytes // 8 * 8)).cast("Q")
        found = {8 * index for index, word in enumerate(words) if word == address}
        places = found if places is None else places & found
    context.free()
    cpu.close()
    return places.pop() if places and len(places) == 1 else 0


class Context:
    """All registers of a thread that is not on the CPU (uc_context), and where it goes on."""

    def __init__(self, handle: ctypes.c_void_p, monitor_at: int) -> None:
        self.handle = handle
        self.pc = 0
        self.monitor = _UINT64.from_address((handle.value or 0) + monitor_at) if monitor_at else None
        """The address that ARM64's exclusive monitor watches, in here."""

    def free(self) -> None:
        """Gives it back."""
        _LIBRARY.uc_context_free(self.handle)


class Cpu:
    """One virtual CPU over an arena of `arena_bytes` at host address `arena_address`.

    `values[0]` is the number of the syscall trapped, `values[1:7]` its arguments, after run() == CAUSE_TRAP.
    """

    def __init__(
        self, architecture: Architecture, arena_address: int, arena_bytes: int, translate: Translate
    ) -> None:
        self.architecture = architecture
        self._layout = layout = _layout(architecture)
        self._translate = translate
        self._translations = Translations()
        self._keep: list[Any] = []
        handle = _POINTER()
        self._check("open", _LIBRARY.uc_open(layout.uc_arch, layout.uc_mode, ctypes.byref(handle)))
        self._uc = handle
        self._build_arrays(layout)
        self._control(_UC.UC_CTL_CPU_MODEL, layout.model)
        if architecture is ARM64:
            self._control(_UC.UC_CTL_UC_PAGE_SIZE, 4096)
        self._control(_UC.UC_CTL_TCG_BUFFER_SIZE, _CODE_BUFFER_BYTES)
        # Exits in use but none given: no address ends a run, and re-entry never translates an exit block.
        self._control(_UC.UC_CTL_UC_USE_EXITS, 1)
        self._control(_UC.UC_CTL_UC_EXITS, _POINTER(), ctypes.c_size_t(0))
        self._control(_UC.UC_CTL_TLB_TYPE, _UC.UC_TLB_VIRTUAL)
        arguments = (self._uc, _UINT64(0), _UINT64(arena_bytes), 7, _POINTER(arena_address))
        self._check("map", _LIBRARY.uc_mem_map_ptr(*arguments))
        self._stubs = build_stubs(
            ctypes.addressof(self._trap_ids),
            ctypes.addressof(self._trap_pointers),
            len(layout.trap),
            self._address(_LIBRARY.uc_reg_read_batch),
            self._address(_LIBRARY.uc_emu_stop),
        )
        self.words = self._stubs.words
        self.alarm_stub = self._stubs.alarm
        self.fault_address = 0
        self.fault_access = 0
        self._add_hooks()
        self._emu_start = _LIBRARY.uc_emu_start
        self._emu_start.argtypes = (_POINTER, _UINT64, _UINT64, _UINT64, ctypes.c_size_t)
        self._write_batch = _LIBRARY.uc_reg_write_batch
        self._aside: Context | None = None
        self._exact = self._find_exact_address()

    def _build_arrays(self, layout: _Layout) -> None:
        self.values = (_UINT64 * len(layout.trap))()
        self._trap_ids = (ctypes.c_int * len(layout.trap))(*layout.trap)
        self._trap_pointers = (_POINTER * len(layout.trap))(
            *(ctypes.addressof(self.values) + 8 * index for index in range(len(layout.trap)))
        )
        self._resume_values = (_UINT64 * len(layout.resume))()
        self._resume_ids = (ctypes.c_int * len(layout.resume))(*layout.resume)
        self._resume_pointers = (_POINTER * len(layout.resume))(
            *(ctypes.addressof(self._resume_values) + 8 * index for index in range(len(layout.resume)))
        )
        self._scratch = _UINT64()
        self._pc = 0
        self._is_x86 = self.architecture is X86_64
        # In the hook the program counter stands at x86's syscall, but behind ARM64's svc.
        self._trap_bytes = 2 if self._is_x86 else 0
        self._trap_instruction_bytes = 2 if self._is_x86 else 4
        self._trap_interrupt = _INTERRUPT_SYSCALL if self._is_x86 else _INTERRUPT_SVC

    def _add_hooks(self) -> None:
        fill = _TLB_FILL(self._on_tlb_fill)
        self._keep.append(fill)
        self._hook(_UC.UC_HOOK_TLB_FILL, ctypes.cast(fill, _POINTER))
        self._add_block_hook()
        if self._is_x86:
            trap = _POINTER(self._stubs.trap)
            self._hook(_UC.UC_HOOK_INSN, trap, _X86.UC_X86_INS_SYSCALL, data=_INTERRUPT_SYSCALL)
            cpuid = _CPUID(self._on_cpuid)
            self._keep.append(cpuid)
            self._hook(_UC.UC_HOOK_INSN, ctypes.cast(cpuid, _POINTER), _X86.UC_X86_INS_CPUID)
            self.write_register("eflags", _EFLAGS_USER)
        else:
            self._enter_user_mode()
        # Interrupts that are no syscall (brk, udf, int3, divide error) end the run as faults.
        self._hook(_UC.UC_HOOK_INTR, _POINTER(self._stubs.trap))

    def _hook(self, kind: int, callback: Any, *extra: int, data: int = 0) -> None:
        hook = ctypes.c_size_t()
        status = _LIBRARY.uc_hook_add(
            self._uc, ctypes.byref(hook), kind, callback, _POINTER(data), _UINT64(1), _UINT64(0), *extra
        )
        self._check("hook", status)

    def _add_block_hook(self) -> None:
        """Every block of guest code looks at the preemption word first."""
        self._hook(_UC.UC_HOOK_BLOCK, _POINTER(self._stubs.block))

    def _enter_user_mode(self) -> None:
        """Leaves Unicorn's EL1 for EL0, with what Linux allows there (Arm ARM, SCTLR_EL1)."""
        self.write_register("pstate", 0)
        self.write_register("cpacr_el1", 3 << 20)  # FP and SIMD do not trap
        control = _SystemRegister(crn=1, crm=0, op0=3, op1=0, op2=0)
        number = self._layout.registers["cp_reg"]
        self._check("read", _LIBRARY.uc_reg_read(self._uc, number, ctypes.byref(control)))
        control.value |= _SCTLR_USER
        self._check("write", _LIBRARY.uc_reg_write(self._uc, number, ctypes.byref(control)))
        timer = _SystemRegister(crn=14, crm=1, op0=3, op1=0, op2=0, value=_CNTKCTL_USER)
        self._check("write", _LIBRARY.uc_reg_write(self._uc, number, ctypes.byref(timer)))

    @staticmethod
    def _address(function: Any) -> int:
        return ctypes.cast(function, _POINTER).value or 0

    @staticmethod
    def _check(what: str, status: int) -> None:
        if status:
            raise CpuError(f"unicorn: {what} failed with UC_ERR {status}")

    def _control(self, kind: int, *arguments: Any) -> None:
        control = kind | (len(arguments) << 26) | (_UC.UC_CTL_IO_WRITE << 30)
        self._check(f"uc_ctl {kind}", _LIBRARY.uc_ctl(self._uc, ctypes.c_uint32(control), *arguments))

    def _on_tlb_fill(self, _uc: int, address: int, kind: int, entry: Any, _data: int) -> bool:
        access = _ACCESS[kind]
        address = self._untagged(address)
        found = self._translate(address, access)
        if found is None:
            self.fault_address, self.fault_access = address, access
            return False
        entry[0].paddr, entry[0].perms = found
        if self._translations.add(address & ~_PAGE_MASK):
            self.words.preempt = 1  # a loop without system calls, too
        return True

    def _untagged(self, address: int) -> int:
        return address if self._is_x86 or address & _KERNEL_HALF else address & _UNTAGGED

    def _on_cpuid(self, _uc: int, _data: int) -> int:
        """Answers CPUID ourselves: nothing is announced that Unicorn executes wrongly (AVX, XSAVE)."""
        leaf = self.read_register("eax") & 0xFFFFFFFF
        subleaf = self.read_register("ecx") & 0xFFFFFFFF
        for name, value in zip(("rax", "rbx", "rcx", "rdx"), cpuid(leaf, subleaf), strict=True):
            self.write_register(name, value)
        return 1

    def _find_exact_address(self) -> ctypes.c_uint64 | None:
        """Where Unicorn notes the address of an access it refused: the hook is told the page only.

        No call of its interface reads that word (uc_struct.invalid_addr), so faults are made at known
        addresses, and the one word that followed each of them is it. None, should another build of
        Unicorn have no such word: faults are then told with the address of their page.
        """
        start = self._uc.value or 0
        size_bytes = _MALLOC_USABLE_SIZE(start)
        translate, self._translate = self._translate, _nowhere
        places: set[int] | None = None
        for address in _PROBES:
            self._emu_start(self._uc, address, 0, 0, 0)
            words = memoryview(ctypes.string_at(start, size_bytes // 8 * 8)).cast("Q")
            found = {8 * index for index, word in enumerate(words) if word == address}
            places = found if places is None else places & found
        self._translate = translate
        return _UINT64.from_address(start + places.pop()) if places and len(places) == 1 else None

    def run(self) -> int:
        """Runs the guest from `pc` until a CAUSE_* word; CAUSE_NONE is a fault.

        After a fault `fault_address` and `fault_access` (0: none) are those of the last translation
        refused, `interrupt` is the processor's interrupt number if one was raised (else -1), and `error`
        Unicorn's status; the program counter stands at the faulting instruction.
        """
        if self._translations.crowded:
            self.flush_tlb()
        words = self.words
        words.cause = CAUSE_NONE
        words.interrupt = 0
        self.fault_access = 0
        self.error = self._emu_start(self._uc, self._pc, 0, 0, 0)
        cause: int = words.cause
        if self.fault_access and self._exact is not None:
            exact = self._untagged(self._exact.value)
            if exact & ~_PAGE_MASK == self.fault_address & ~_PAGE_MASK:
                self.fault_address = exact
        if cause == CAUSE_TRAP:
            self._pc = self.values[7]
            if words.interrupt == self._trap_interrupt:
                self._pc += self._trap_bytes
                return CAUSE_TRAP
            return CAUSE_NONE
        self._pc = self.read(self._layout.pc)
        return cause

    @property
    def interrupt(self) -> int:
        """Number of the interrupt that ended the last run, -1 if none did."""
        return self.words.interrupt if self.words.cause == CAUSE_TRAP else -1

    def finish_syscall(self, result: int) -> None:
        """The only write of a syscall's result: registers as the instruction leaves them (man 2 syscall)."""
        values = self._resume_values
        values[0] = result & 0xFFFFFFFFFFFFFFFF
        if self._is_x86:
            values[1] = self._pc  # rcx: return address
            values[2] = self.values[8]  # r11: flags
        self._write_batch(self._uc, self._resume_ids, self._resume_pointers, len(values))

    def set_result(self, result: int) -> None:
        """The result of a call that has waited; the registers are otherwise as finish_syscall left them."""
        self.write(self._layout.resume[0], result & 0xFFFFFFFFFFFFFFFF)

    def rewind(self, number: int, first: int) -> None:
        """Has the syscall instruction executed again, with the number and first argument it had."""
        self._pc -= self._trap_instruction_bytes
        self.write(self._layout.resume[0], number if self._is_x86 else first)

    @property
    def pc(self) -> int:
        """Address of the next instruction."""
        return self._pc

    @pc.setter
    def pc(self, address: int) -> None:
        self._pc = address

    @property
    def sp(self) -> int:
        return self.read(self._layout.sp)

    @sp.setter
    def sp(self, address: int) -> None:
        self.write(self._layout.sp, address)

    @property
    def tls(self) -> int:
        """Base of the thread-local storage: FS base, TPIDR_EL0."""
        return self.read(self._layout.tls)

    @tls.setter
    def tls(self, address: int) -> None:
        self.write(self._layout.tls, address)

    def read(self, register: int) -> int:
        """A register of up to 64 bits, by Unicorn's number."""
        self._scratch.value = 0
        self._check("read", _LIBRARY.uc_reg_read(self._uc, register, ctypes.byref(self._scratch)))
        return self._scratch.value

    def write(self, register: int, value: int) -> None:
        self._scratch.value = value
        self._check("write", _LIBRARY.uc_reg_write(self._uc, register, ctypes.byref(self._scratch)))

    def read_register(self, name: str) -> int:
        """A register by its lower-case name ("rax", "x0")."""
        return self.read(self._layout.registers[name])

    def write_register(self, name: str, value: int) -> None:
        self.write(self._layout.registers[name], value)

    def read_wide(self, name: str, size_bytes: int) -> bytes:
        """A register of up to 16 bytes (xmm0, fp0, v0)."""
        room = (ctypes.c_ubyte * 16)()
        self._check("read", _LIBRARY.uc_reg_read(self._uc, self._layout.registers[name], room))
        return bytes(room[:size_bytes])

    def write_wide(self, name: str, value: bytes) -> None:
        room = (ctypes.c_ubyte * 16)(*value)
        self._check("write", _LIBRARY.uc_reg_write(self._uc, self._layout.registers[name], room))

    def new_handle(self) -> ctypes.c_void_p:
        """Room for registers, as Unicorn has it."""
        handle = _POINTER()
        self._check("context", _LIBRARY.uc_context_alloc(self._uc, ctypes.byref(handle)))
        return handle

    def new_context(self) -> Context:
        """Room for a thread's registers."""
        return Context(self.new_handle(), 0 if self._is_x86 else _find_monitor())

    def save(self, context: Context) -> None:
        """Copies the registers out. What is exclusive to a thread is so until it leaves the CPU, as with an
        exception's return (Arm ARM, B2.9): the emulator only compares values, and the old one may come again."""
        self._check("save", _LIBRARY.uc_context_save(self._uc, context.handle))
        context.pc = self._pc
        if context.monitor is not None:
            context.monitor.value = _WATCHES_NOTHING

    def clear_monitor(self) -> None:
        """The thread on the CPU was interrupted: a store-exclusive fails that had its load before."""
        if self._is_x86:
            return
        if self._aside is None:
            self._aside = self.new_context()
        self.save(self._aside)
        self.restore(self._aside)

    def restore(self, context: Context) -> None:
        """Puts a thread's registers back."""
        self._check("restore", _LIBRARY.uc_context_restore(self._uc, context.handle))
        self._pc = context.pc

    def flush_tlb(self, start: int = 0, end: int = 1 << 64) -> None:
        """After any change of translations in [start, end), should they have been handed out."""
        if self._translations.any_in(start, end):
            self._control(_UC.UC_CTL_TLB_FLUSH)
            self._translations.clear()

    def flush_code(self) -> None:
        """After a change of bytes that may have been executed."""
        self._control(_UC.UC_CTL_TB_FLUSH)

    def close(self) -> None:
        if self._aside is not None:
            self._aside.free()
        _LIBRARY.uc_close(self._uc)
