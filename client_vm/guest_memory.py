"""Guest bytes, checked: the only way from a guest's pointer to host memory.

Every byte is copied once, then the copy is checked and used. Reads and writes that do not fit raise
Errno(EFAULT) before anything is changed.
"""

from typing import Final

from client_vm.abi.common import EFAULT, ENAMETOOLONG
from client_vm.cpu import READ, WRITE
from client_vm.errors import Errno
from client_vm.mmu import AddressSpace

PATH_BYTES_MAX: Final = 4096
"""PATH_MAX: a path's bytes with its final NUL."""


class GuestMemory:
    """Copies between the guest of one address space and us. Addresses are the guest's, sizes bytes."""

    def __init__(self, space: AddressSpace) -> None:
        self._space = space
        self.plain = space.plain
        """AddressSpace.plain."""

    def read(self, address: int, size_bytes: int) -> bytes:
        """size_bytes bytes. EFAULT if one of them cannot be read."""
        plain = self.plain(address, size_bytes, READ)
        if plain is not None:
            return plain.tobytes()
        views = list(self._space.pieces(address, size_bytes, READ))
        data = bytes(views[0]) if len(views) == 1 else b"".join(views)
        if len(data) != size_bytes:
            raise Errno(EFAULT)
        return data

    def write(self, address: int, data: bytes | bytearray | memoryview) -> None:
        """All of data, or EFAULT and nothing."""
        plain = self.plain(address, len(data), WRITE)
        if plain is not None:
            plain[:] = data
            return
        views = self.writable(address, len(data))
        if sum(map(len, views)) != len(data):
            raise Errno(EFAULT)
        scatter(views, memoryview(data))

    def writable(self, address: int, size_bytes: int) -> list[memoryview]:
        """Views of the longest writable prefix of [address, +size)."""
        plain = self.plain(address, size_bytes, WRITE) if size_bytes else None
        return list(self._space.pieces(address, size_bytes, WRITE)) if plain is None else [plain]

    def readable(self, address: int, size_bytes: int) -> list[memoryview]:
        """Views of the longest readable prefix of [address, +size)."""
        plain = self.plain(address, size_bytes, READ) if size_bytes else None
        return list(self._space.pieces(address, size_bytes, READ)) if plain is None else [plain]

    def check_writable(self, address: int, size_bytes: int) -> None:
        """EFAULT unless all of it can be written."""
        if sum(map(len, self.writable(address, size_bytes))) != size_bytes:
            raise Errno(EFAULT)

    def c_string(self, address: int, bytes_max: int, too_long: int = ENAMETOOLONG) -> bytes:
        """The bytes before the NUL at address. `too_long` if none of bytes_max bytes is one; EFAULT."""
        parts: list[bytes] = []
        left = bytes_max
        while left > 0:
            # To the end of the page: what lies behind the NUL may not be mapped.
            step = min(left, 4096 - (address & 4095))
            part = self.read(address, step)
            end = part.find(0)
            if end >= 0:
                parts.append(part[:end])
                return b"".join(parts)
            parts.append(part)
            address += step
            left -= step
        raise Errno(too_long)

    def path(self, address: int) -> bytes:
        """A path name: at most 4095 bytes (ENAMETOOLONG)."""
        return self.c_string(address, PATH_BYTES_MAX)

    def read_u64(self, address: int) -> int:
        return int.from_bytes(self.read(address, 8), "little")


def scatter(views: list[memoryview], data: memoryview) -> int:
    """Copies data into the views in order; returns the bytes copied, the lesser of both sizes."""
    position = 0
    for view in views:
        part = data[position : position + len(view)]
        view[: len(part)] = part
        position += len(part)
        if position == len(data):
            break
    return position
