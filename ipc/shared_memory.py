"""Memory that two processes share, and the argument why they see each other's writes in order.

The only module that maps shared memory. A ring is one memfd, made and sealed by the server: without
F_SEAL_SHRINK the peer's ftruncate(2) would kill the server by SIGBUS (memfd_create(2), fcntl(2)).

Memory ordering. Every shared word is an aligned uint64 with one writer at a time, stored and loaded
through a memoryview cast to "Q": CPython copies an item with an eight-byte memcpy, which compilers emit as
one move, and each access is a call through a function pointer that no compiler reorders.
  * Publishing (entry, then tail; tail, then entry) needs store-store and load-load order. x86-64 gives
    both to plain moves (Intel SDM vol. 3, 9.2: TSO), so `order` is None there.
  * Going to sleep (set the flag, look again) against waking (publish, look at the flag) needs
    store-load order, which TSO does not give: both sides call `fence` between the two. An uncontended
    lock is taken by `lock cmpxchg`, a full barrier, and costs less than a call out of Python.
  * ARM64 orders neither by itself. There `order` and `fence` run two instructions, `dmb ish; ret`.
"""

import _thread
import ctypes
import fcntl
import mmap
import os
from collections.abc import Callable
from typing import Final

from ipc.message import MalformedError

SEALS: Final = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL

_ARM64_BARRIER: Final = bytes.fromhex("bf3b03d5c0035fd6")
"""dmb ish; ret."""


def create_sealed(name: str, size_bytes: int) -> int:
    """A memfd of that size which nobody can resize any more. OSError."""
    descriptor = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(descriptor, size_bytes)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, SEALS)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def map_sealed(descriptor: int, size_bytes: int) -> memoryview:
    """The whole memfd as writable bytes; the descriptor may be closed afterwards.

    The memory stays mapped for as long as any view of it is alive, so a late writer never meets an unmapped
    page. MalformedError if the peer's descriptor is not a sealed memfd of that size. OSError.
    """
    try:
        seals = fcntl.fcntl(descriptor, fcntl.F_GET_SEALS)
    except OSError:
        raise MalformedError("the ring's descriptor is not a memfd") from None
    if seals & SEALS != SEALS:
        raise MalformedError("the ring's memfd is not sealed")
    size_found_bytes = os.fstat(descriptor).st_size
    if size_found_bytes != size_bytes:
        raise MalformedError(f"the ring's memfd has {size_found_bytes} bytes, not {size_bytes}")
    return memoryview(mmap.mmap(descriptor, size_bytes))


def _locked_instruction_fence() -> Callable[[], None]:
    lock = _thread.allocate_lock()

    def fence() -> None:
        with lock:
            pass

    return fence


def _arm64_barrier() -> Callable[[], None]:
    page = mmap.mmap(-1, mmap.PAGESIZE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    page.write(_ARM64_BARRIER)
    address = ctypes.addressof(ctypes.c_char.from_buffer(page))
    libc = ctypes.CDLL(None, use_errno=True)
    # W^X: the page is never writable and executable at once.
    if libc.mprotect(ctypes.c_void_p(address), mmap.PAGESIZE, mmap.PROT_READ | mmap.PROT_EXEC):
        raise OSError(ctypes.get_errno(), "mprotect of the memory barrier")
    run = ctypes.PYFUNCTYPE(None)(address)

    def barrier() -> None:
        run()
        # Keeps the page alive for as long as the function is.
        assert page is not None

    return barrier


def _ordering() -> tuple[Callable[[], None] | None, Callable[[], None]]:
    machine = os.uname().machine
    if machine == "x86_64":
        return None, _locked_instruction_fence()
    if machine == "aarch64":
        barrier = _arm64_barrier()
        return barrier, barrier
    raise OSError(f"no rings on {machine}: its memory ordering is not known here")


order, fence = _ordering()
"""`order` keeps stores before stores and loads before loads (None: the processor does); `fence` is a full
barrier."""
