"""A few bytes of native code in one executable page: what must run inside the emulator's hooks.

A hook that is Python costs microseconds per call and leaves frames of the emulator under the syscall
handler. These stubs note why the emulator stops (the cause word), save the trap's registers, and ask it to
stop; everything else happens outside `emu_start`.
"""

import ctypes
import mmap
import os
import signal
import struct
from dataclasses import dataclass
from typing import Any, Final

from client_vm.abi import x86_64
from client_vm.registers import UC
from client_vm.translations import PAGE_BITS, PERMISSIONS, PLACES

CAUSE_NONE: Final = 0
CAUSE_TRAP: Final = 1
CAUSE_PREEMPTED: Final = 2
CAUSE_INTERRUPT: Final = 3
"""An interrupt that is no system call: a fault."""
CAUSE_NOT_RUN: Final = 4
"""It was to be preempted before it ran."""
_AGAIN_US: Final = 1000


class ControlWords(ctypes.Structure):
    """Words that stubs and the worker share.

    `cause`, `interrupt`: why the emulator stopped. `preempt`: it shall stop, set by a signal handler or before it
    runs. `result_waits`: registers are to be written before the guest goes on. `site`: where the program counter
    stands in the hook when the vDSO asks for the time, 0: nowhere. `gettime`: address of what answers, as
    clock_gettime(2) does, into the two words behind it. `stoppable`: uc_emu_stop(uc) from a signal handler stops
    the guest between two blocks. `runs`: the emulator runs and is stoppable. `again`: a struct itimerval.
    """

    _fields_ = (
        ("cause", ctypes.c_uint32),
        ("interrupt", ctypes.c_uint32),
        ("preempt", ctypes.c_uint32),
        ("result_waits", ctypes.c_uint32),
        ("site", ctypes.c_uint64),
        ("gettime", ctypes.c_uint64),
        ("seconds", ctypes.c_uint64),
        ("nanoseconds", ctypes.c_uint64),
        ("stoppable", ctypes.c_uint32),
        ("runs", ctypes.c_uint32),
        ("again", ctypes.c_int64 * 4),
    )


class UnsupportedHostError(RuntimeError):
    """This machine's processor has no stubs written for it."""


def _mov_rax(value: int) -> bytes:
    return b"\x48\xb8" + struct.pack("<Q", value)


def _at(field: Any) -> bytes:
    """A field of ControlWords as a displacement of one byte."""
    return struct.pack("b", field.offset)


def _clear(field: Any) -> bytes:
    """mov dword [r13+field], 0"""
    return b"\x41\xc7\x45" + _at(field) + bytes(4)


@dataclass(frozen=True, slots=True)
class Batch:
    """Registers for uc_reg_read_batch or uc_reg_write_batch: arrays of their numbers and of where values are."""

    ids: int
    pointers: int
    count: int

    def code(self, function: int) -> bytes:
        """rsi, rdx, ecx: the second to fourth argument; rax: the function."""
        return b"".join(
            (
                b"\x48\xbe" + struct.pack("<Q", self.ids),  # mov rsi, ids
                b"\x48\xba" + struct.pack("<Q", self.pointers),  # mov rdx, pointers
                b"\xb9" + struct.pack("<I", self.count),  # mov ecx, count
                _mov_rax(function),
            )
        )


@dataclass(frozen=True, slots=True)
class Emulator:
    """The emulator, and addresses of its functions."""

    handle: int
    read_batch: int
    write_batch: int
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Trapping:
    """What a trap reads and may be answered with. `values`: an array of 64-bit words: number, six arguments,
    program counter, into which `trapped` is read. `interrupt`: the one that is a system call. `time`: what the
    vDSO's question writes, from words.seconds and words.nanoseconds. `clock_max`: the last clock it may ask for.
    `result`: what is written before the guest goes on, if words.result_waits."""

    values: int
    trapped: Batch
    interrupt: int
    time: Batch
    clock_max: int
    result: Batch


def _resume_code(words: int, result: Batch, emulator: Emulator) -> bytes:
    """unsigned resume(uc, pc): write the result's registers, if it waits; uc_emu_start(uc, pc, 0, 0, 0); its
    status << 8 | the cause. What was to be preempted before is not run."""
    write = b"".join(
        (
            _clear(ControlWords.result_waits),
            result.code(emulator.write_batch),
            b"\xff\xd0",  # call rax
            b"\x48\x89\xdf",  # mov rdi, rbx
        )
    )
    leave = b"\x41\x5d\x41\x5c\x5b\xc3"  # pop r13; pop r12; pop rbx; ret
    cause = _clear(ControlWords.preempt) + b"\xb8" + struct.pack("<I", CAUSE_PREEMPTED)  # mov eax, PREEMPTED
    preempted = b"\x41\x83\x7d" + _at(ControlWords.preempt) + b"\x00"  # cmp dword [r13+preempt], 0
    preempted += b"\x74" + bytes((len(cause),)) + cause  # je over the cause
    run = b"".join(
        (
            b"\x41\x83\x7d" + _at(ControlWords.result_waits) + b"\x00",  # cmp dword [r13+result_waits], 0
            b"\x74" + bytes((len(write),)),  # je over the write
            write,
            b"\x41\x8b\x45" + _at(ControlWords.stoppable),  # mov eax, [r13+stoppable]
            b"\x41\x89\x45" + _at(ControlWords.runs),  # mov [r13+runs], eax
            b"\x4c\x89\xe6\x31\xd2\x31\xc9\x45\x31\xc0",  # mov rsi, r12; xor edx, edx; ecx, ecx; r8d, r8d
            _mov_rax(emulator.start),
            b"\xff\xd0",  # call rax
            _clear(ControlWords.runs),
            b"\xc1\xe0\x08",  # shl eax, 8
            b"\x41\x0b\x45" + _at(ControlWords.cause),  # or eax, [r13+cause]
            b"\x75" + bytes((len(preempted),)),  # jne over the next: it has a reason already
            preempted,
            leave,
        )
    )
    return b"".join(
        (
            b"\x53\x41\x54\x41\x55",  # push rbx; push r12; push r13 (also aligns the stack for the calls)
            b"\x48\x89\xfb\x49\x89\xf4",  # mov rbx, rdi; mov r12, rsi
            b"\x49\xbd" + struct.pack("<Q", words),  # mov r13, words
            b"\x49\xc7\x45" + _at(ControlWords.cause) + bytes(4),  # mov qword [r13+cause], 0: interrupt, too
            b"\x41\x83\x7d" + _at(ControlWords.preempt) + b"\x00",  # cmp dword [r13+preempt], 0
            b"\x0f\x85" + struct.pack("<i", len(run)),  # jne over the run
            run,
            _clear(ControlWords.preempt),
            b"\xb8" + struct.pack("<I", CAUSE_NOT_RUN),  # mov eax, NOT_RUN
            leave,
        )
    )


def _cause(cause: int) -> bytes:
    """mov dword [rax+cause], cause"""
    return b"\xc7\x40" + _at(ControlWords.cause) + struct.pack("<I", cause)


def _trap_code(words: int, trapping: Trapping, emulator: Emulator) -> bytes:
    """void trap(uc, interrupt): read the registers; the vDSO's question is answered and the guest goes on, all
    else is words.cause = TRAP or INTERRUPT, and a tail call of uc_emu_stop(uc)."""
    answer = b"".join(
        (
            b"\x8b\x7a\x08",  # mov edi, [rdx+8]: the clock
            b"\x48\x8d\x70" + _at(ControlWords.seconds),  # lea rsi, [rax+seconds]
            b"\xff\x50" + _at(ControlWords.gettime),  # call [rax+gettime]
            b"\x48\x89\xdf",  # mov rdi, rbx
            trapping.time.code(emulator.write_batch),
            b"\x5b",  # pop rbx
            b"\xff\xe0",  # jmp rax
        )
    )
    unknown_clock = b"\x83\x7a\x08" + bytes((trapping.clock_max,))  # cmp dword [rdx+8], clock_max
    unknown_clock += b"\x77" + bytes((len(answer),))  # ja over the answer
    return b"".join(
        (
            b"\x53",  # push rbx (also aligns the stack for the calls)
            b"\x48\x89\xfb",  # mov rbx, rdi
            _mov_rax(words),
            b"\x89\x70" + _at(ControlWords.interrupt),  # mov [rax+interrupt], esi
            trapping.trapped.code(emulator.read_batch),
            b"\xff\xd0",  # call rax
            _mov_rax(words),
            b"\x48\xba" + struct.pack("<Q", trapping.values),  # mov rdx, values
            b"\x48\x8b\x4a\x38",  # mov rcx, [rdx+56]: values[7], the program counter
            b"\x48\x3b\x48" + _at(ControlWords.site),  # cmp rcx, [rax+site]
            b"\x75" + bytes((len(unknown_clock) + len(answer),)),  # jne over the answer
            unknown_clock,
            answer,
            _cause(CAUSE_TRAP),
            b"\x81\x78" + _at(ControlWords.interrupt),  # cmp dword [rax+interrupt], the system call's
            struct.pack("<I", trapping.interrupt),
            b"\x74" + bytes((len(_cause(CAUSE_INTERRUPT)),)),  # je over the next
            _cause(CAUSE_INTERRUPT),
            b"\x48\x89\xdf",  # mov rdi, rbx
            _mov_rax(emulator.stop),
            b"\x5b",  # pop rbx
            b"\xff\xe0",  # jmp rax
        )
    )


def _block_code(words: int, emulator: Emulator) -> bytes:
    """void block(uc, ...): if (words.preempt) { words.preempt = 0; words.cause = PREEMPTED; uc_emu_stop(uc) }"""
    return b"".join(
        (
            _mov_rax(words),
            b"\x83\x78" + _at(ControlWords.preempt) + b"\x00",  # cmp dword [rax+preempt], 0
            b"\x75\x01",  # jne over the ret
            b"\xc3",  # ret
            b"\xc7\x40" + _at(ControlWords.preempt) + bytes(4),  # mov dword [rax+preempt], 0
            _cause(CAUSE_PREEMPTED),
            _mov_rax(emulator.stop),
            b"\xff\xe0",  # jmp rax
        )
    )


def _fill_code(table: int, otherwise: int) -> bytes:
    """bool fill(uc, page, access, entry, ...): what the table of `Translations` has, else otherwise(...)."""
    ask = _mov_rax(otherwise) + b"\xff\xe0"  # jmp rax
    answer = b"".join(
        (
            b"\x44\x89\xd8",  # mov eax, r11d
            b"\x83\xe0" + bytes((PERMISSIONS,)),  # and eax, PERMISSIONS
            b"\x89\x41\x08",  # mov [rcx+8], eax: entry.perms
            b"\x49\x83\xe3" + struct.pack("b", ~PERMISSIONS),  # and r11, ~PERMISSIONS
            b"\x4c\x89\x19",  # mov [rcx], r11: entry.paddr
            b"\xb8\x01\x00\x00\x00\xc3",  # mov eax, 1; ret
        )
    )
    found = b"\x48\xff\x48\x08"  # dec qword [rax+8]: one question less
    found += b"\x78" + bytes((len(answer),)) + answer  # js to ask
    allowed = b"".join(
        (
            b"\x4d\x8b\x5a\x08",  # mov r11, [r10+8]
            b"\x44\x8d\x42" + struct.pack("b", -UC.UC_MEM_READ),  # lea r8d, [rdx-UC_MEM_READ]: WRITE 1, FETCH 2
            b"\x4d\x0f\xa3\xc3",  # bt r11, r8
            b"\x73" + bytes((len(found),)),  # jnc to ask
        )
    )
    return b"".join(
        (
            _mov_rax(table),
            b"\x49\x89\xf1",  # mov r9, rsi
            b"\x49\xc1\xe9" + bytes((PAGE_BITS,)),  # shr r9, PAGE_BITS
            b"\x4d\x89\xca",  # mov r10, r9
            b"\x41\x81\xe2" + struct.pack("<I", PLACES - 1),  # and r10d, PLACES - 1
            b"\x49\xc1\xe2\x04",  # shl r10, 4
            b"\x4d\x8d\x54\x02\x10",  # lea r10, [r10+rax+16]: the place
            b"\x4c\x0b\x08",  # or r9, [rax]: the generation
            b"\x4d\x3b\x0a",  # cmp r9, [r10]
            b"\x75" + bytes((len(allowed) + len(found),)),  # jne to ask
            allowed,
            found,
            ask,
        )
    )


def _stop_code(words: int, emulator: Emulator) -> bytes:
    """if (words.runs) { setitimer(ITIMER_PROF, words.again, NULL); uc_emu_stop(uc) }; words are in rax."""
    return b"".join(
        (
            b"\x83\x78" + _at(ControlWords.runs) + b"\x00",  # cmp dword [rax+runs], 0
            b"\x75\x01\xc3",  # jne over the ret; ret
            b"\x48\x8d\x70" + _at(ControlWords.again),  # lea rsi, [rax+again]
            b"\xb8" + struct.pack("<I", x86_64.SYSCALLS["setitimer"]),  # mov eax, SYS_setitimer
            b"\xbf" + struct.pack("<I", signal.ITIMER_PROF),  # mov edi, ITIMER_PROF
            b"\x31\xd2\x0f\x05",  # xor edx, edx; syscall
            b"\x48\xbf" + struct.pack("<Q", emulator.handle),  # mov rdi, uc
            _mov_rax(emulator.stop),
            b"\xff\xe0",  # jmp rax
        )
    )


def _alarm_code(words: int, emulator: Emulator) -> bytes:
    """void alarm(int signal): words.preempt = 1, and what runs is stopped."""
    set_preempt = b"\xc7\x40" + _at(ControlWords.preempt) + struct.pack("<I", 1)  # mov dword [rax+preempt], 1
    return _mov_rax(words) + set_preempt + _stop_code(words, emulator)


def _alarm_again_code(words: int, emulator: Emulator) -> bytes:
    """void alarm_again(int signal): if (words.preempt), what runs is stopped."""
    return b"".join(
        (
            _mov_rax(words),
            b"\x83\x78" + _at(ControlWords.preempt) + b"\x00",  # cmp dword [rax+preempt], 0
            b"\x75\x01\xc3",  # jne over the ret; ret
            _stop_code(words, emulator),
        )
    )


@dataclass(slots=True)
class Stubs:
    """Addresses of the stubs, in their page. `alarm`, `alarm_again`: signal handlers that touch nothing else.
    What the first asks for while uc_emu_start begins is lost: so it has the second called (SIGPROF) some CPU time
    later.
    """

    page: mmap.mmap
    resume: int
    trap: int
    fill: int
    block: int
    alarm: int
    alarm_again: int


def build_stubs(words: ControlWords, trapping: Trapping, emulator: Emulator, table: int, otherwise: int) -> Stubs:
    """Writes the stubs for one emulator. `table`: of its `Translations`; `otherwise`: address of the function for
    what is not there. UnsupportedHostError."""
    if (machine := os.uname().machine) != "x86_64":
        raise UnsupportedHostError(f"no native stubs for a {machine} host, only x86_64")
    words.again = (0, 0, 0, _AGAIN_US)
    at = ctypes.addressof(words)
    codes = (
        _resume_code(at, trapping.result, emulator),
        _trap_code(at, trapping, emulator),
        _fill_code(table, otherwise),
        _block_code(at, emulator),
        _alarm_code(at, emulator),
        _alarm_again_code(at, emulator),
    )
    page = mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=7)
    base = ctypes.addressof(ctypes.c_char.from_buffer(page))
    addresses = []
    for code in codes:
        start = (page.tell() + 15) & ~15
        page.seek(start)
        page.write(code)
        addresses.append(base + start)
    return Stubs(page, *addresses)
