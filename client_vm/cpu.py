"""The guest's processor: the only module that calls Unicorn.

Loads Unicorn's shared library by ctypes, without its binding (whose import takes 100 ms and whose register
access 25 us per syscall). A run ends with a cause: a trap (registers already read), a preemption, or a
fault. Between two runs no frame of Unicorn is on the stack, so the caller may fork, sleep or switch.
Memory is one arena behind UC_TLB_VIRTUAL: every translation comes from `translate`.
"""

import ctypes
from collections.abc import Callable
from functools import cache
from typing import Any, Final

from client_vm.architecture import ARM64, X86_64, Architecture
from client_vm.cpuid import cpuid
from client_vm.registers import UC, X86, Layout, layout_of, package
from client_vm.stubs import (
    CAUSE_INTERRUPT,
    CAUSE_NONE,
    CAUSE_NOT_RUN,
    CAUSE_PREEMPTED,
    CAUSE_TRAP,
    Batch,
    ControlWords,
    Emulator,
    Stubs,
    Trapping,
    build_stubs,
)
from client_vm.translations import Translations
from client_vm.unicorn_words import no_exit_request, word_that_follows
from client_vm.vdso import CLOCK_MAX

READ: Final = 1
WRITE: Final = 2
EXECUTE: Final = 4

_UINT64 = ctypes.c_uint64
_POINTER = ctypes.c_void_p
_CODE_BUFFER_BYTES: Final = 64 << 20
_INTERRUPT_SVC: Final = 2
_INTERRUPT_SYSCALL: Final = 0x1000
"""What the trap stub is told for x86's syscall instruction, beyond every interrupt number."""


# PyDLL keeps the GIL: a worker has one thread, and giving the lock away costs half a microsecond a call.
_LIBRARY: Final = ctypes.PyDLL(str(package() / "lib" / "libunicorn.so.2"))

_LIBRARY.uc_context_size.restype = ctypes.c_size_t
_LIBRARY.uc_emu_start.argtypes = (_POINTER, _UINT64, _UINT64, _UINT64, ctypes.c_size_t)

_ACCESS: Final = {UC.UC_MEM_READ: READ, UC.UC_MEM_WRITE: WRITE, UC.UC_MEM_FETCH: EXECUTE}


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
_LOAD_EXCLUSIVE: Final = bytes.fromhex("207c5fc8 e1031faa 010000d4")
"""ldxr x0, [x1]; mov x1, xzr; svc #0."""
_WATCHES_NOTHING: Final = (1 << 64) - 1
Translate = Callable[[int, int], tuple[int, int] | None]
"""(page address, access) -> (arena offset of the page, READ|WRITE|EXECUTE), or None: a fault."""


def _nowhere(_page: int, _access: int) -> None:
    """A Translate under which nothing is mapped."""


def _view(words: Any, kind: str) -> memoryview:
    """Words of C as a memoryview, whose items are read faster. `kind`: as the struct module has it."""
    return memoryview(words).cast("B").cast(kind)  # type: ignore[call-overload,no-any-return]


_INTERRUPT: Final = ControlWords.interrupt.offset // 4
_RESULT_WAITS: Final = ControlWords.result_waits.offset // 4


class CpuError(RuntimeError):
    """Unicorn refused something it never should: a bug here, or an installation that does not fit."""


@cache
def _find_monitor() -> int:
    """Where a context keeps the address that ARM64's exclusive monitor watches; 0, should it have no such word.

    No register of Unicorn's interface is that word: so loads are made exclusive, each at an address of its own.
    """
    room = (ctypes.c_ubyte * (2 * _PAGE_BYTES))()
    page = ctypes.addressof(room) + _PAGE_BYTES - 1 & ~_PAGE_MASK
    ctypes.memmove(page, _LOAD_EXCLUSIVE, len(_LOAD_EXCLUSIVE))
    cpu = Cpu(ARM64, page, _PAGE_BYTES, lambda _page, _access: (0, READ | EXECUTE))
    context = Context(cpu.new_handle(), 0)

    def watch(address: int) -> None:
        cpu.write_register("x1", address)
        cpu.pc = _PAGE_BYTES
        cpu.run()
        cpu.save(context)

    place = word_that_follows(context.handle.value or 0, watch)
    context.free()
    cpu.close()
    return place or 0


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
        self._layout = layout = layout_of(architecture)
        self._translate = translate
        self._translations = Translations()
        self._keep: list[Any] = []
        handle = _POINTER()
        self._check("open", _LIBRARY.uc_open(layout.uc_arch, layout.uc_mode, ctypes.byref(handle)))
        self._uc = handle
        self._control(UC.UC_CTL_CPU_MODEL, layout.model)
        if architecture is ARM64:
            self._control(UC.UC_CTL_UC_PAGE_SIZE, 4096)
        self._control(UC.UC_CTL_TCG_BUFFER_SIZE, _CODE_BUFFER_BYTES)
        # Exits in use but none given: no address ends a run, and re-entry never translates an exit block.
        self._control(UC.UC_CTL_UC_USE_EXITS, 1)
        self._control(UC.UC_CTL_UC_EXITS, _POINTER(), ctypes.c_size_t(0))
        self._control(UC.UC_CTL_TLB_TYPE, UC.UC_TLB_VIRTUAL)
        arguments = (self._uc, _UINT64(0), _UINT64(arena_bytes), 7, _POINTER(arena_address))
        self._check("map", _LIBRARY.uc_mem_map_ptr(*arguments))
        fill = _TLB_FILL(self._on_tlb_fill)
        self._keep.append(fill)
        self._stubs = self._build_stubs(layout, self._address(fill))
        # PyDLL's counterpart: a call that keeps the GIL.
        self._resume = ctypes.PYFUNCTYPE(ctypes.c_uint32, _UINT64, _UINT64)(self._stubs.resume)
        self._handle = handle.value or 0
        self.alarms = self._stubs.alarm, self._stubs.alarm_again
        """Addresses of the signal handlers that stop this CPU, the second for SIGPROF."""
        self.fault_address = 0
        self.fault_access = 0
        self._refused = 0
        """The access that the last translation refused since the run began; 0: none."""
        self.interrupt = -1
        """Number of the interrupt that ended the last run, -1 if none did."""
        self._add_hooks()
        self._aside: Context | None = None
        self._exact = self._find_exact_address()
        self._become_stoppable()

    def _build_stubs(self, layout: Layout, fill: int) -> Stubs:
        """With the words and arrays that they work on. `fill`: the hook for what the table has not."""
        self.words = ControlWords()
        words = ctypes.addressof(self.words)
        self._flags = _view(self.words, "I")
        values, result = (_UINT64 * len(layout.trap))(), (_UINT64 * len(layout.resume))()
        self.values, self._result = _view(values, "Q"), _view(result, "Q")
        self._pc = 0
        self._scratch = _UINT64()
        self._is_x86 = self.architecture is X86_64
        # In the hook the program counter stands at x86's syscall, but behind ARM64's svc.
        self._trap_bytes = 2 if self._is_x86 else 0
        self._trap_instruction_bytes = 2 if self._is_x86 else 4
        trapping = Trapping(
            values=ctypes.addressof(values),
            trapped=self._batch(layout.trap, [ctypes.addressof(values) + 8 * n for n in range(len(values))]),
            interrupt=_INTERRUPT_SYSCALL if self._is_x86 else _INTERRUPT_SVC,
            time=self._batch(
                layout.time, [words + ControlWords.seconds.offset, words + ControlWords.nanoseconds.offset]
            ),
            clock_max=CLOCK_MAX,
            result=self._batch(layout.resume, [ctypes.addressof(result) + 8 * n for n in range(len(result))]),
        )
        names = ("uc_reg_read_batch", "uc_reg_write_batch", "uc_emu_start", "uc_emu_stop")
        emulator = Emulator(self._uc.value or 0, *(self._address(_LIBRARY[name]) for name in names))
        return build_stubs(self.words, trapping, emulator, self._translations.address, fill)

    def _batch(self, numbers: list[int], places: list[int]) -> Batch:
        """Registers by Unicorn's numbers, and where their values are."""
        ids, pointers = (ctypes.c_int * len(numbers))(*numbers), (_POINTER * len(places))(*places)
        self._keep += ids, pointers
        return Batch(ctypes.addressof(ids), ctypes.addressof(pointers), len(numbers))

    def _add_hooks(self) -> None:
        self._hook(UC.UC_HOOK_TLB_FILL, _POINTER(self._stubs.fill))
        if self._is_x86:
            trap = _POINTER(self._stubs.trap)
            self._hook(UC.UC_HOOK_INSN, trap, X86.UC_X86_INS_SYSCALL, data=_INTERRUPT_SYSCALL)
            cpuid = _CPUID(self._on_cpuid)
            self._keep.append(cpuid)
            self._hook(UC.UC_HOOK_INSN, ctypes.cast(cpuid, _POINTER), X86.UC_X86_INS_CPUID)
            self.write_register("eflags", _EFLAGS_USER)
        else:
            self._enter_user_mode()
        # Interrupts that are no syscall (brk, udf, int3, divide error) end the run as faults.
        self._hook(UC.UC_HOOK_INTR, _POINTER(self._stubs.trap))

    def _hook(self, kind: int, callback: Any, *extra: int, data: int = 0) -> None:
        hook = ctypes.c_size_t()
        status = _LIBRARY.uc_hook_add(
            self._uc, ctypes.byref(hook), kind, callback, _POINTER(data), _UINT64(1), _UINT64(0), *extra
        )
        self._check("hook", status)

    def _become_stoppable(self) -> None:
        """Makes the end of a block the only place where a guest is stopped, by whoever asks, at any time.

        Unicorn would look for a request after every load and store, too, by a call that makes the translated code
        1.6 times slower, and then repeat an instruction whose effect has happened already. Another build may have
        no word against that: then every block looks at our preemption word, and nobody else asks.
        """
        engine = self._uc.value or 0
        place = no_exit_request(engine, _LIBRARY.uc_context_size(self._uc))
        if place is None:
            self._hook(UC.UC_HOOK_BLOCK, _POINTER(self._stubs.block))
        else:
            ctypes.c_bool.from_address(engine + place).value = True
            self.words.stoppable = 1

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
        control = kind | (len(arguments) << 26) | (UC.UC_CTL_IO_WRITE << 30)
        self._check(f"uc_ctl {kind}", _LIBRARY.uc_ctl(self._uc, ctypes.c_uint32(control), *arguments))

    def _on_tlb_fill(self, _uc: int, address: int, kind: int, entry: Any, _data: int) -> bool:
        access = _ACCESS[kind]
        page = self._untagged(address)
        found = self._translate(page, access)
        if found is None:
            self.fault_address, self._refused = page, access
            return False
        entry[0].paddr, entry[0].perms = found
        if self._translations.add(address, page & ~_PAGE_MASK, *found):
            self.words.preempt = 1  # a loop without system calls, too
            if self.words.stoppable:
                _LIBRARY.uc_emu_stop(self._uc)
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
        """Where Unicorn notes the address of an access it refused (uc_struct.invalid_addr): the hook is told the
        page only. None, should another build have no such word: faults are then told with their page's address.
        """
        start = self._uc.value or 0
        translate, self._translate = self._translate, _nowhere
        place = word_that_follows(start, lambda address: _LIBRARY.uc_emu_start(self._uc, address, 0, 0, 0))
        self._translate = translate
        return None if place is None else _UINT64.from_address(start + place)

    def run(self) -> int:
        """Runs the guest from `pc` until a CAUSE_* word; CAUSE_NONE is a fault.

        After a fault `fault_address` and `fault_access` (0: none) are those of the last translation
        refused, `interrupt` is the processor's interrupt number if one was raised (else -1), and `error`
        Unicorn's status; the program counter stands at the faulting instruction.
        """
        if self._translations.crowded:
            self._control(UC.UC_CTL_TLB_FLUSH)
            self._translations.grow()
        self._refused = 0
        status: int = self._resume(self._handle, self._pc)
        if status == CAUSE_TRAP:
            self._pc = self.values[7] + self._trap_bytes
            return CAUSE_TRAP
        return self._stopped(status & 0xFF, status >> 8)

    def _stopped(self, cause: int, error: int) -> int:
        """After anything but a system call."""
        if cause == CAUSE_NOT_RUN:
            return CAUSE_PREEMPTED
        self.error = error
        self.fault_access, self._refused = self._refused, 0
        if self.fault_access and self._exact is not None:
            exact = self._untagged(self._exact.value)
            if exact & ~_PAGE_MASK == self.fault_address & ~_PAGE_MASK:
                self.fault_address = exact
        self.interrupt = self._flags[_INTERRUPT] if cause == CAUSE_INTERRUPT else -1
        if cause == CAUSE_INTERRUPT:
            self._pc = self.values[7]
            return CAUSE_NONE
        self._pc = self.read(self._layout.pc)
        return cause

    def finish_syscall(self, result: int) -> None:
        """The only write of a syscall's result: registers as the instruction leaves them (man 2 syscall).

        They are written right before the guest goes on, or when anybody asks for registers.
        """
        values = self._result
        values[0] = result & 0xFFFFFFFFFFFFFFFF
        if self._is_x86:
            values[1] = self._pc  # rcx: return address
            values[2] = self.values[8]  # r11: flags
        self._flags[_RESULT_WAITS] = 1

    def _settle(self) -> None:
        """The registers are as the guest will find them."""
        if self._flags[_RESULT_WAITS]:
            self._flags[_RESULT_WAITS] = 0
            for register, value in zip(self._layout.resume, self._result, strict=True):
                self.write(register, value)

    def tell_time(self, site: int, gettime: int) -> None:
        """The trap instruction at `site` is the vDSO's, and asks a function like clock_gettime(2) at the host
        address `gettime`; it does not end a run."""
        self.words.gettime = gettime
        self.words.site = site if self._is_x86 else site + self._trap_instruction_bytes

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
        self._settle()
        self._scratch.value = 0
        self._check("read", _LIBRARY.uc_reg_read(self._uc, register, ctypes.byref(self._scratch)))
        return self._scratch.value

    def write(self, register: int, value: int) -> None:
        self._settle()
        self._scratch.value = value
        self._check("write", _LIBRARY.uc_reg_write(self._uc, register, ctypes.byref(self._scratch)))

    def read_register(self, name: str) -> int:
        """A register by its lower-case name ("rax", "x0")."""
        return self.read(self._layout.registers[name])

    def write_register(self, name: str, value: int) -> None:
        self.write(self._layout.registers[name], value)

    def read_wide(self, name: str, size_bytes: int) -> bytes:
        """A register of up to 16 bytes (xmm0, fp0, v0)."""
        self._settle()
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
        self._settle()
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
        self._flags[_RESULT_WAITS] = 0
        self._check("restore", _LIBRARY.uc_context_restore(self._uc, context.handle))
        self._pc = context.pc

    def flush_tlb(self, start: int = 0, end: int = 1 << 64) -> None:
        """After any change of translations in [start, end), should they have been handed out."""
        if self._translations.any_in(start, end):
            self._control(UC.UC_CTL_TLB_FLUSH)
            self._translations.clear()

    def flush_code(self) -> None:
        """After a change of bytes that may have been executed."""
        self._control(UC.UC_CTL_TB_FLUSH)

    def close(self) -> None:
        if self._aside is not None:
            self._aside.free()
        _LIBRARY.uc_close(self._uc)
