"""memfd_create(2): a guest's memfd is one of the host's, so that forks share it and its offset."""

import fcntl
import os

from client_vm.abi import common
from client_vm.abi.common import EINVAL
from client_vm.descriptors import VIEWS_MAX
from client_vm.errors import Errno
from client_vm.host_files import HostBacked, host_call
from client_vm.segments import Segment, of_memfd


class MemoryFile(HostBacked):
    """A memfd. Regular to everybody: always ready."""

    is_directory = False

    def __init__(self, descriptor: int, name: bytes) -> None:
        super().__init__(descriptor, common.O_RDWR)
        self._name = b"/memfd:" + name

    def readiness(self) -> int | None:
        return None

    def read(self, views: list[memoryview]) -> int:
        return host_call(lambda: os.readv(self.descriptor, views[:VIEWS_MAX])) if views else 0

    def write(self, data: memoryview) -> int:
        if self.flags & common.O_APPEND:
            self.seek(0, common.SEEK_END)
        return host_call(lambda: os.write(self.descriptor, data))

    def pread(self, views: list[memoryview], offset: int) -> int:
        return host_call(lambda: os.preadv(self.descriptor, views[:VIEWS_MAX], offset)) if views else 0

    def pwrite(self, data: memoryview, offset: int) -> int:
        return host_call(lambda: os.pwrite(self.descriptor, data, offset))

    def seek(self, offset: int, whence: int) -> int:
        return host_call(lambda: os.lseek(self.descriptor, offset, whence))

    def truncate(self, size_bytes: int) -> None:
        host_call(lambda: os.ftruncate(self.descriptor, size_bytes))

    def allocate(self, offset: int, size_bytes: int, keep_size: bool, punch: bool) -> None:
        if keep_size or punch:
            raise Errno(common.EOPNOTSUPP)
        host_call(lambda: os.posix_fallocate(self.descriptor, offset, size_bytes))

    def sync(self) -> None:
        """Memory has nothing to wait for."""

    def seals(self, command: int, argument: int) -> int:
        """F_ADD_SEALS, F_GET_SEALS. Errno: EPERM, EBUSY, EINVAL."""
        return host_call(lambda: fcntl.fcntl(self.descriptor, command, argument))

    def segment(self) -> Segment:
        """Its memory, to be mapped. Errno(ENOMEM)."""
        return of_memfd(self.descriptor, True, self.path())

    def path(self) -> bytes:
        return self._name + b" (deleted)"

    def release(self) -> None:
        os.close(self.descriptor)


def make_memory_file(name: bytes, flags: int) -> MemoryFile:
    """Errno: EINVAL (the name is too long), EMFILE."""
    sealing = os.MFD_ALLOW_SEALING if flags & common.MFD_ALLOW_SEALING else 0
    try:
        return MemoryFile(os.memfd_create(os.fsdecode(name), os.MFD_CLOEXEC | sealing), name)
    except OSError as error:
        raise Errno(error.errno or EINVAL) from None
