"""The few host calls Python has no function for, by ctypes: mappings at an address, prctl, sigaction."""

import ctypes
import gc
import os
import struct
from typing import Any, Final

from ipc.seams import HostClock

_LIBC: Final[Any] = ctypes.CDLL(None, use_errno=True)
_LIBC.mmap.restype = ctypes.c_void_p
_LIBC.mmap.argtypes = [
    ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long
]  # fmt: skip
_LIBC.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
_LIBC.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
_LIBC.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p]

_PAGE_BYTES: Final = 4096
_PROT_READ_WRITE: Final = 3
_MAP_PRIVATE_ANONYMOUS_NORESERVE: Final = 0x2 | 0x20 | 0x4000
_MADV_DONTNEED: Final = 4
MADV_DONTFORK: Final = 10
MADV_DOFORK: Final = 11
_PR_SET_PDEATHSIG: Final = 1
_PR_SET_NAME: Final = 15
_PR_SET_NO_NEW_PRIVS: Final = 38
_MAP_FAILED: Final = (1 << 64) - 1


class GuestClock(HostClock):
    """The host's clocks, for the vDSO too."""

    @property
    def gettime_address(self) -> int:
        """As NativeClock."""
        return ctypes.cast(_LIBC.clock_gettime, ctypes.c_void_p).value or 0


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


_PROT_READ: Final = 1
_MAP_SHARED: Final = 0x1
_MAP_SHARED_FIXED: Final = 0x1 | 0x10
_MAP_PRIVATE_FIXED_NORESERVE: Final = 0x2 | 0x10 | 0x4000
_MAP_FIXED: Final = 0x10


def map_shared_at(address: int, size_bytes: int, descriptor: int, offset: int, writable: bool) -> None:
    """Lays a file over a part of a mapping of ours; stores are shared. OSError."""
    protection = _PROT_READ_WRITE if writable else _PROT_READ
    if _LIBC.mmap(address, size_bytes, protection, _MAP_SHARED_FIXED, descriptor, offset) == _MAP_FAILED:
        raise _fail("mmap")


def map_private_at(address: int, size_bytes: int, descriptor: int, offset: int) -> None:
    """Lays a file over a part of a mapping of ours; a page that is stored to becomes a copy of ours. OSError."""
    flags = _MAP_PRIVATE_FIXED_NORESERVE
    if _LIBC.mmap(address, size_bytes, _PROT_READ_WRITE, flags, descriptor, offset) == _MAP_FAILED:
        raise _fail("mmap")


def map_to_read(size_bytes: int, descriptor: int, offset: int) -> int:
    """Address of a part of a file as others change it. OSError."""
    address = _LIBC.mmap(None, size_bytes, _PROT_READ, _MAP_SHARED, descriptor, offset)
    if address in (None, _MAP_FAILED):
        raise _fail("mmap")
    return int(address)


def map_anonymous_at(address: int, size_bytes: int) -> None:
    """Puts private zeros there again. OSError."""
    flags = _MAP_PRIVATE_ANONYMOUS_NORESERVE | _MAP_FIXED
    if _LIBC.mmap(address, size_bytes, _PROT_READ_WRITE, flags, -1, 0) == _MAP_FAILED:
        raise _fail("mmap")


def unmap(address: int, size_bytes: int) -> None:
    if _LIBC.munmap(address, size_bytes):
        raise _fail("munmap")


def drop_pages(address: int, size_bytes: int) -> None:
    """Gives the pages back; they read as zeros (madvise(2), MADV_DONTNEED)."""
    if _LIBC.madvise(address, size_bytes, _MADV_DONTNEED):
        raise _fail("madvise")


def residency(address: int, pages: int) -> bytes:
    """A byte for each page of a mapping of ours: 1 if it is in memory, else 0 (mincore(2)). OSError."""
    seen = (ctypes.c_ubyte * pages)()
    if _LIBC.mincore(address, pages * _PAGE_BYTES, seen):
        raise _fail("mincore")
    return bytes(seen)


def view(address: int, size_bytes: int) -> memoryview:
    """Bytes of a mapping of ours, writable."""
    return memoryview((ctypes.c_ubyte * size_bytes).from_address(address)).cast("B")


def die_with_parent(parent: int, signal: int) -> None:
    """This process gets `signal` when its parent ends; if that has happened already, it exits now."""
    if _LIBC.prctl(_PR_SET_PDEATHSIG, signal, 0, 0, 0):
        raise _fail("prctl")
    if os.getppid() != parent:
        os._exit(125)


def be_nice(nice: int) -> None:
    """At least so nice (setpriority(2)): nobody needs leave for more."""
    if nice > os.getpriority(os.PRIO_PROCESS, 0):
        os.setpriority(os.PRIO_PROCESS, 0, nice)


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


def advise(address: int, size_bytes: int, advice: int) -> None:
    """madvise(2)."""
    if _LIBC.madvise(address, size_bytes, advice):
        raise _fail("madvise")


_LIBC.syscall.restype = ctypes.c_long
_CLONE_PARENT: Final = 0x8000
_SIGCHLD: Final = 17
_SYS_CLONE: Final = {"x86_64": 56, "aarch64": 220}[os.uname().machine]


def clone_process() -> int:
    """A copy of this process as a child of its parent (clone(2), CLONE_PARENT): 0 in the copy, else its pid.

    The process must have one thread: then the interpreter has nothing to mend in the copy, whose thread, lock and
    thread identity are as before. Its own fork hooks (PyOS_AfterFork_Child: locks made anew, generators seeded)
    would write to a hundred pages, each of which the host copies. OSError.
    """
    pid = _LIBC_NO_GIL.syscall(_SYS_CLONE, _CLONE_PARENT | _SIGCHLD, 0, 0, 0, 0)
    if not pid:
        gc.freeze()  # a collection would visit, and so copy, every page of objects that came along
        return 0
    if pid < 0:
        raise OSError(ctypes.get_errno(), "clone")
    return int(pid)


# PyDLL: the interpreter's lock is held across the clone, as os.fork() does it.
_LIBC_NO_GIL: Final[Any] = ctypes.PyDLL(None, use_errno=True)
_LIBC_NO_GIL.syscall.restype = ctypes.c_long


# -- descriptors ------------------------------------------------------------------------------------

_SPLICE_F_NONBLOCK: Final = 2
_LIBC.tee.restype = _LIBC.splice.restype = ctypes.c_ssize_t
_LIBC.tee.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_size_t, ctypes.c_uint]


def splice(source: int, target: int, count: int) -> int:
    """splice(2) without waiting for a pipe. OSError."""
    return os.splice(source, target, count, flags=_SPLICE_F_NONBLOCK)


def tee(source: int, target: int, count: int) -> int:
    """tee(2) without waiting. OSError."""
    return _checked(_LIBC.tee(source, target, count, _SPLICE_F_NONBLOCK), "tee")


def _checked(result: int, what: str) -> int:
    if result < 0:
        raise _fail(what)
    return int(result)


def timerfd(clock: int) -> int:
    """A descriptor of timerfd_create(2), non-blocking. OSError."""
    return _checked(_LIBC.timerfd_create(clock, os.O_NONBLOCK | os.O_CLOEXEC), "timerfd_create")


def set_timerfd(descriptor: int, flags: int, new: bytes) -> bytes:
    """timerfd_settime(2): struct itimerspec in and out. OSError."""
    old = ctypes.create_string_buffer(len(new))
    _checked(_LIBC.timerfd_settime(descriptor, flags, new, old), "timerfd_settime")
    return old.raw


def get_timerfd(descriptor: int, size_bytes: int) -> bytes:
    """timerfd_gettime(2). OSError."""
    now = ctypes.create_string_buffer(size_bytes)
    _checked(_LIBC.timerfd_gettime(descriptor, now), "timerfd_gettime")
    return now.raw


_IN_DELETE: Final = 0x200
_EVENTS_BYTES: Final = 4096


def watch_removals(directory: str) -> int:
    """A descriptor, non-blocking, that is readable once a name of a directory has gone (inotify(7)); -1: that
    cannot be watched."""
    descriptor = int(_LIBC.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))
    if descriptor >= 0 and _LIBC.inotify_add_watch(descriptor, os.fsencode(directory), _IN_DELETE) < 0:
        os.close(descriptor)
        return -1
    return descriptor


def drain(descriptor: int) -> None:
    """Takes all events that there are."""
    try:
        while os.read(descriptor, _EVENTS_BYTES):
            pass
    except BlockingIOError:
        return


class _EpollEvent(ctypes.Structure):
    """x86-64's struct epoll_event, which is packed; other hosts' is not."""

    _pack_ = 1 if os.uname().machine == "x86_64" else 8
    _fields_ = (("events", ctypes.c_uint32), ("data", ctypes.c_uint64))


EPOLL_EVENTS_MAX: Final = 1024
"""Told at once; who asks for more comes again."""
# One of each for all calls: a worker has one thread.
_EVENT: Final = _EpollEvent()
_EVENT_AT: Final = ctypes.byref(_EVENT)
_EVENTS: Final = (_EpollEvent * EPOLL_EVENTS_MAX)()
_EVENT_BYTES: Final = memoryview(_EVENTS).cast("B")
_EVENT_CODEC: Final = struct.Struct(f"<I{_EpollEvent.data.offset - 4}xQ")


def epoll() -> int:
    """A descriptor of epoll_create1(2). OSError."""
    return _checked(_LIBC.epoll_create1(os.O_CLOEXEC), "epoll_create1")


def control_epoll(instance: int, operation: int, descriptor: int, events: int, data: int) -> None:
    """epoll_ctl(2). OSError."""
    _EVENT.events = events
    _EVENT.data = data
    if _LIBC.epoll_ctl(instance, operation, descriptor, _EVENT_AT) < 0:
        raise _fail("epoll_ctl")


def ready_in_epoll(instance: int, count: int) -> list[tuple[int, int]]:
    """Up to count (events, data), EPOLL_EVENTS_MAX at most, of epoll_wait(2), which does not wait. OSError."""
    found = _LIBC.epoll_wait(instance, _EVENTS, min(count, EPOLL_EVENTS_MAX), 0)
    if found < 0:
        raise _fail("epoll_wait")
    return list(_EVENT_CODEC.iter_unpack(_EVENT_BYTES[: found * _EVENT_CODEC.size]))
