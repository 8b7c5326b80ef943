"""How long a process may make files (getrlimit(2), RLIMIT_FSIZE): SIGXFSZ and EFBIG beyond."""

from collections.abc import Callable
from typing import NoReturn

from client_vm.abi import common
from client_vm.descriptors import OpenFile, RemoteFile
from client_vm.errors import Errno
from client_vm.memory_files import MemoryFile
from client_vm.process import INFINITY, Task
from client_vm.signals import raise_signal
from farcall.v1.file_pb2 import Attributes


def fitting(task: Task, file: OpenFile, data: memoryview, offset: int | None) -> memoryview:
    """What of the data may be written at the offset (None: the description's). Errno(EFBIG): nothing of it."""
    limit = task.process.limits[common.RLIMIT_FSIZE][0]
    if limit == INFINITY or not data or not isinstance(file, RemoteFile | MemoryFile):
        return data
    if file.flags & common.O_APPEND:
        offset = file.attributes().size
    elif offset is None:
        offset = file.offset if isinstance(file, RemoteFile) else file.seek(0, common.SEEK_CUR)
    if offset >= limit:
        _refuse(task)
    return data[: limit - offset]


def check_growth(task: Task, size: int, attributes: Callable[[], Attributes]) -> None:
    """Errno(EFBIG): a file would become longer than it may, and than it is."""
    if size > task.process.limits[common.RLIMIT_FSIZE][0] and size > attributes().size:
        _refuse(task)


def _refuse(task: Task) -> NoReturn:
    raise_signal(task, common.SIGXFSZ)
    raise Errno(common.EFBIG)
