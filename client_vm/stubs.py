"""A few bytes of native code in one executable page: what must run inside the emulator's hooks.

A hook that is Python costs microseconds per call and leaves frames of the emulator under the syscall
handler. These stubs note why the emulator stops (the cause word), save the trap's registers, and ask it to
stop; everything else happens outside `emu_start`.
"""

import ctypes
import mmap
import platform
import struct
from dataclasses import dataclass
from typing import Final

CAUSE_NONE: Final = 0
CAUSE_TRAP: Final = 1
CAUSE_PREEMPTED: Final = 2


class ControlWords(ctypes.Structure):
    """Words that stubs write and the worker reads. `preempt` may be set by anyone, also a signal handler."""

    _fields_ = (
        ("cause", ctypes.c_uint32),
        ("interrupt", ctypes.c_uint32),
        ("preempt", ctypes.c_uint32),
    )


class UnsupportedHostError(RuntimeError):
    """This machine's processor has no stubs written for it."""


def _mov_rax(value: int) -> bytes:
    return b"\x48\xb8" + struct.pack("<Q", value)


def _trap_code(words: int, ids: int, pointers: int, count: int, read_batch: int, stop: int) -> bytes:
    """void trap(uc, interrupt): words.cause = TRAP; read registers; tail-call uc_emu_stop(uc)."""
    return b"".join(
        (
            b"\x53",  # push rbx (also aligns the stack for the call)
            b"\x48\x89\xfb",  # mov rbx, rdi
            _mov_rax(words),
            b"\x89\x70\x04",  # mov [rax+4], esi: words.interrupt
            b"\xc7\x00" + struct.pack("<I", CAUSE_TRAP),  # mov dword [rax], TRAP: words.cause
            b"\x48\xbe" + struct.pack("<Q", ids),  # mov rsi, ids
            b"\x48\xba" + struct.pack("<Q", pointers),  # mov rdx, pointers
            b"\xb9" + struct.pack("<I", count),  # mov ecx, count
            _mov_rax(read_batch),
            b"\xff\xd0",  # call rax
            b"\x48\x89\xdf",  # mov rdi, rbx
            _mov_rax(stop),
            b"\x5b",  # pop rbx
            b"\xff\xe0",  # jmp rax
        )
    )


def _block_code(words: int, stop: int) -> bytes:
    """void block(uc, ...): if (words.preempt) { words.preempt = 0; words.cause = PREEMPTED; stop }."""
    return b"".join(
        (
            _mov_rax(words),
            b"\x83\x78\x08\x00",  # cmp dword [rax+8], 0
            b"\x75\x01",  # jne over the ret
            b"\xc3",  # ret
            b"\xc7\x40\x08\x00\x00\x00\x00",  # mov dword [rax+8], 0
            b"\xc7\x00" + struct.pack("<I", CAUSE_PREEMPTED),  # mov dword [rax], PREEMPTED
            _mov_rax(stop),
            b"\xff\xe0",  # jmp rax
        )
    )


def _alarm_code(words: int) -> bytes:
    """void alarm(int signal): words.preempt = 1. A signal handler that touches nothing else."""
    return _mov_rax(words) + b"\xc7\x40\x08\x01\x00\x00\x00" + b"\xc3"


@dataclass(slots=True)
class Stubs:
    """Addresses of the stubs, and the words they share with the worker."""

    words: ControlWords
    trap: int
    block: int
    alarm: int
    page: mmap.mmap


def build_stubs(ids: int, pointers: int, count: int, read_batch: int, stop: int) -> Stubs:
    """Writes the stubs for one emulator. `ids` and `pointers`: arrays for uc_reg_read_batch, `count` long."""
    if platform.machine() != "x86_64":
        raise UnsupportedHostError(f"no native stubs for a {platform.machine()} host, only x86_64")
    words = ControlWords()
    words_address = ctypes.addressof(words)
    codes = (
        _trap_code(words_address, ids, pointers, count, read_batch, stop),
        _block_code(words_address, stop),
        _alarm_code(words_address),
    )
    page = mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=7)
    base = ctypes.addressof(ctypes.c_char.from_buffer(page))
    addresses = []
    for code in codes:
        start = (page.tell() + 15) & ~15
        page.seek(start)
        page.write(code)
        addresses.append(base + start)
    return Stubs(words, addresses[0], addresses[1], addresses[2], page)
