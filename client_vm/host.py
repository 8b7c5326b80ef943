"""The few host calls Python has no function for, by ctypes: mappings at an address, prctl, sigaction."""

import ctypes
import os
from typing import Any, Final

_LIBC: Final[Any] = ctypes.CDLL(None, use_errno=True)
_LIBC.mmap.restype = ctypes.c_void_p
_LIBC.mmap.argtypes = [
    ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long
]  # fmt: skip
_LIBC.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
_LIBC.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]

_PROT_READ_WRITE: Final = 3
_MAP_PRIVATE_ANONYMOUS_NORESERVE: Final = 0x2 | 0x20 | 0x4000
_MADV_DONTNEED: Final = 4
_PR_SET_PDEATHSIG: Final = 1
_PR_SET_NAME: Final = 15
_PR_SET_NO_NEW_PRIVS: Final = 38
_MAP_FAILED: Final = (1 << 64) - 1


def _fail(what: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, f"{what}: {os.strerror(number)}")


_LARGE_MAPPINGS_START: Final = 1 << 44
"""Where large mappings go if they can: far from the libraries, which then stay within 2 GiB of the emulator's
code buffer. Its calls into them are direct so, and every block of guest code makes some."""


def map_anonymous(size_bytes: int) -> int:
    """Address of a private anonymous mapping, readable and writable, without swap reserved."""
    flags = _MAP_PRIVATE_ANONYMOUS_NORESERVE
    address = _LIBC.mmap(_LARGE_MAPPINGS_START, size_bytes, _PROT_READ_WRITE, flags, -1, 0)
    if address in (None, _MAP_FAILED):
        raise _fail("mmap")
    return int(address)


def unmap(address: int, size_bytes: int) -> None:
    if _LIBC.munmap(address, size_bytes):
        raise _fail("munmap")


def drop_pages(address: int, size_bytes: int) -> None:
    """Gives the pages back; they read as zeros (madvise(2), MADV_DONTNEED)."""
    if _LIBC.madvise(address, size_bytes, _MADV_DONTNEED):
        raise _fail("madvise")


def view(address: int, size_bytes: int) -> memoryview:
    """Bytes of a mapping of ours, writable."""
    return memoryview((ctypes.c_ubyte * size_bytes).from_address(address)).cast("B")


def die_with_parent(parent: int, signal: int) -> None:
    """This process gets `signal` when its parent ends; if that has happened already, it exits now."""
    if _LIBC.prctl(_PR_SET_PDEATHSIG, signal, 0, 0, 0):
        raise _fail("prctl")
    if os.getppid() != parent:
        os._exit(125)


def callers_environment() -> dict[bytes, bytes]:
    """The environment this program was started with, in its order.

    Not os.environ: Python itself adds LC_CTYPE to that under the C locale (PEP 538).
    """
    with open("/proc/self/environ", "rb") as file:
        entries = file.read().split(b"\0")
    return dict(entry.split(b"=", 1) for entry in entries if b"=" in entry)


def no_new_privileges() -> None:
    if _LIBC.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise _fail("prctl")


def name_process(name: bytes) -> None:
    """The name that ps shows, at most 15 bytes (PR_SET_NAME)."""
    if _LIBC.prctl(_PR_SET_NAME, ctypes.c_char_p(name[:15]), 0, 0, 0):
        raise _fail("prctl")


class _SigAction(ctypes.Structure):
    """glibc's struct sigaction on x86-64."""

    _fields_ = (
        ("handler", ctypes.c_void_p),
        ("mask", ctypes.c_ubyte * 128),
        ("flags", ctypes.c_int),
        ("restorer", ctypes.c_void_p),
    )


_SA_RESTART: Final = 0x10000000


def native_signal_handler(signal: int, code_address: int) -> None:
    """Installs machine code as the handler of a signal; interrupted calls restart (SA_RESTART)."""
    action = _SigAction(handler=code_address, flags=_SA_RESTART)
    if _LIBC.sigaction(signal, ctypes.byref(action), None):
        raise _fail("sigaction")
