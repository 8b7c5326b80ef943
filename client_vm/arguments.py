"""Argument kinds: how a raw 64-bit register becomes what a handler takes, by its C type.

Width and sign are fixed here and nowhere else; a pointer's kind says which way bytes go through it. A
handler never sees a register.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from client_vm.abi import common
from client_vm.abi.common import EFAULT, EINVAL
from client_vm.abi.layout import Struct
from client_vm.cpu import READ, WRITE
from client_vm.errors import Errno
from client_vm.guest_memory import GuestMemory
from client_vm.vma import check_range

if TYPE_CHECKING:
    from client_vm.process import Task

IOV_MAX: Final = 1024
"""struct iovec of one call (limits.h: UIO_MAXIOV)."""
RW_BYTES_MAX: Final = 0x7FFF_F000
"""Most bytes one read or write moves (linux/fs.h: MAX_RW_COUNT)."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One C type of an argument."""

    name: str
    decode: Callable[["Task", int], Any]
    direction: str = ""
    """Of a pointer: "in", "out", "in out"; empty: a value."""
    optional: bool = False
    """NULL is allowed and means absent."""
    size_bytes: int = 1
    """How many bytes the kernel touches at least when it uses the pointer."""


def _s32(_task: "Task", raw: int) -> int:
    raw &= 0xFFFFFFFF
    return raw - (1 << 32) if raw & 0x80000000 else raw


def _u32(_task: "Task", raw: int) -> int:
    return raw & 0xFFFFFFFF


def _s64(_task: "Task", raw: int) -> int:
    return raw - (1 << 64) if raw >> 63 else raw


def _u64(_task: "Task", raw: int) -> int:
    return raw


def _u16(_task: "Task", raw: int) -> int:
    return raw & 0xFFFF


def _path(task: "Task", raw: int) -> bytes:
    return task.memory.path(raw)


def _path_or_none(task: "Task", raw: int) -> bytes | None:
    return task.memory.path(raw) if raw else None


class InBuffer:
    """Bytes the guest gives; the count comes in another argument."""

    __slots__ = ("_memory", "address")

    def __init__(self, memory: GuestMemory, address: int) -> None:
        self._memory = memory
        self.address = address

    def whole(self, size_bytes: int) -> bytes:
        """All size_bytes, or Errno(EFAULT)."""
        return self._memory.read(self.address, size_bytes)

    def fields(self, struct: Struct) -> tuple[Any, ...]:
        """A struct's fields in order, or Errno(EFAULT)."""
        plain = self._memory.plain(self.address, struct.size, READ)
        return struct.codec.unpack(self.whole(struct.size) if plain is None else plain)

    def plain(self, size_bytes: int) -> memoryview | None:
        """All size_bytes in place, if there is nothing to it but a look; None: see `views`."""
        return self._memory.plain(self.address, size_bytes, READ) if 0 < size_bytes <= RW_BYTES_MAX else None

    def views(self, size_bytes: int) -> list[memoryview]:
        """The readable prefix in place, for one use at once. Errno(EFAULT) if there is none, or if
        size_bytes reaches beyond user space."""
        check_range(self.address, size_bytes)
        views = self._memory.readable(self.address, min(size_bytes, RW_BYTES_MAX))
        if size_bytes and not views:
            raise Errno(EFAULT)
        return views


class OutBuffer:
    """Room the guest offers; the count comes in another argument."""

    __slots__ = ("_memory", "address")

    def __init__(self, memory: GuestMemory, address: int) -> None:
        self._memory = memory
        self.address = address

    def plain(self, size_bytes: int) -> memoryview | None:
        """All size_bytes in place, if there is nothing to it but a look; None: see `views`."""
        return self._memory.plain(self.address, size_bytes, WRITE) if 0 < size_bytes <= RW_BYTES_MAX else None

    def views(self, size_bytes: int) -> list[memoryview]:
        """The writable prefix of size_bytes. Errno(EFAULT) if there is none, or if size_bytes reaches
        beyond user space."""
        check_range(self.address, size_bytes)
        views = self._memory.writable(self.address, min(size_bytes, RW_BYTES_MAX))
        if size_bytes and not views:
            raise Errno(EFAULT)
        return views

    def check(self, size_bytes: int) -> None:
        """Errno(EFAULT) unless all of it can be written."""
        self._memory.check_writable(self.address, size_bytes)

    def put(self, data: bytes) -> None:
        """Errno(EFAULT) and nothing written unless all of data fits."""
        self._memory.write(self.address, data)


class OutPointer(OutBuffer):
    """Where the guest wants a struct of known size. `check` before the effect, `put` after it."""

    __slots__ = ("struct",)

    def __init__(self, memory: GuestMemory, address: int, struct: Struct) -> None:
        super().__init__(memory, address)
        self.struct = struct

    def ready(self) -> None:
        """Errno(EFAULT) unless the struct can be written."""
        self.check(self.struct.size)

    def pack(self, **values: int | bytes) -> None:
        self.put(self.struct.pack(**values))


def in_struct(struct: Struct, optional: bool = False) -> Kind:
    """A struct the guest gives; decoded to a dict of its fields, None if NULL and optional."""

    def decode(task: "Task", raw: int) -> dict[str, Any] | None:
        if optional and not raw:
            return None
        return struct.unpack(task.memory.read(raw, struct.size))

    return Kind(f"const struct {struct.name} *", decode, "in", optional, struct.size)


def out_struct(struct: Struct, optional: bool = False) -> Kind:
    """A struct the guest wants."""

    def decode(task: "Task", raw: int) -> OutPointer | None:
        if optional and not raw:
            return None
        return OutPointer(task.memory, raw, struct)

    return Kind(f"struct {struct.name} *", decode, "out", optional, struct.size)


def out_abi_struct(name: str) -> Kind:
    """As out_struct, for a struct that differs between architectures."""

    def decode(task: "Task", raw: int) -> OutPointer:
        return OutPointer(task.memory, raw, getattr(task.architecture.abi, name))

    return Kind(f"struct {name} *", decode, "out", False, 128)


def _in_buffer(task: "Task", raw: int) -> InBuffer:
    return InBuffer(task.memory, raw)


def _optional_in_buffer(task: "Task", raw: int) -> InBuffer | None:
    return InBuffer(task.memory, raw) if raw else None


def _out_buffer(task: "Task", raw: int) -> OutBuffer:
    return OutBuffer(task.memory, raw)


def _optional_out_buffer(task: "Task", raw: int) -> OutBuffer | None:
    return OutBuffer(task.memory, raw) if raw else None


class IoVector:
    """An array of struct iovec; its length comes in the next argument."""

    __slots__ = ("_memory", "address")

    def __init__(self, memory: GuestMemory, address: int) -> None:
        self._memory = memory
        self.address = address

    def _entries(self, count: int) -> list[tuple[int, int]]:
        """(address, length) pairs. EINVAL: too many, a negative length; EFAULT: beyond user space.

        All are checked before the first byte moves (lib/iov_iter.c: __import_iovec).
        """
        if not 0 <= count <= IOV_MAX:
            raise Errno(EINVAL)
        raw = self._memory.read(self.address, count * common.iovec.size)
        pairs: list[tuple[int, int]] = list(common.iovec.codec.iter_unpack(raw))
        if any(length >> 63 for _, length in pairs):
            raise Errno(EINVAL)
        left = RW_BYTES_MAX
        result = []
        for address, length in pairs:
            check_range(address, length if len(pairs) > 1 else min(length, left))
            result.append((address, min(length, left)))
            left -= result[-1][1]
        return result

    def size_bytes(self, count: int) -> int:
        """What the entries name together, checked. EINVAL; EFAULT."""
        return sum(length for _, length in self._entries(count))

    def out_views(self, count: int) -> list[memoryview]:
        """Room to read into: up to the first byte that cannot be written."""
        return self._views(self._entries(count), self._memory.writable)

    def in_views(self, count: int) -> list[memoryview]:
        """Bytes to write, in place: up to the first that cannot be read."""
        return self._views(self._entries(count), self._memory.readable)

    @staticmethod
    def _views(entries: list[tuple[int, int]], part: Callable[[int, int], list[memoryview]]) -> list[memoryview]:
        views: list[memoryview] = []
        for address, length in entries:
            pieces = part(address, length)
            views += pieces
            if sum(map(len, pieces)) < length:
                if not views:
                    raise Errno(EFAULT)
                break
        return views


def _io_vector(task: "Task", raw: int) -> IoVector:
    return IoVector(task.memory, raw)


def _string(task: "Task", raw: int) -> bytes:
    return task.memory.c_string(raw, 256, too_long=common.ERANGE)


INT: Final = Kind("int", _s32)
UINT: Final = Kind("unsigned int", _u32)
ULONG: Final = Kind("unsigned long", _u64)
SIZE: Final = Kind("size_t", _u64)
OFFSET: Final = Kind("loff_t", _s64)
FD: Final = Kind("fd", _s32)
MODE: Final = Kind("umode_t", _u16)
ID: Final = Kind("uid_t", _u32)
PID: Final = Kind("pid_t", _s32)
ADDRESS: Final = Kind("address", _u64)
"""A guest address that is no buffer: munmap's, brk's."""
PATH: Final = Kind("const char *path", _path, "in")
OPTIONAL_PATH: Final = Kind("const char *path", _path_or_none, "in", optional=True)
NAME: Final = Kind("const char *name", _string, "in")
"""An attribute's name: ERANGE beyond 255 bytes."""
IN_BUFFER: Final = Kind("const void *", _in_buffer, "in")
OPTIONAL_IN_BUFFER: Final = Kind("const void *", _optional_in_buffer, "in", optional=True)
OUT_BUFFER: Final = Kind("void *", _out_buffer, "out")
OPTIONAL_OUT_BUFFER: Final = Kind("void *", _optional_out_buffer, "out", optional=True)
IOVEC: Final = Kind("const struct iovec *", _io_vector, "in", size_bytes=common.iovec.size)
