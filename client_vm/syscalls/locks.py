"""flock(2), and the record locks of fcntl(2). The file server owns those of its files; who has to wait asks it to
tell. What stands on a descriptor of the host, pipes too, is locked there: it is a worker's as it is a process's.
"""

import fcntl
from collections.abc import Callable, Iterator
from typing import Any, Final

from client_vm.abi import common
from client_vm.abi.common import EAGAIN, EBADF, EINVAL, ENOLCK, ENOSYS, EOVERFLOW
from client_vm.descriptors import OFFSET_MAX, OpenFile, RemoteFile
from client_vm.errors import Errno
from client_vm.host_files import HostBacked, translated
from client_vm.process import Task
from client_vm.waiting import Blocking, Wait
from farcall.v1.file_pb2 import (
    LOCK_KIND_FLOCK,
    LOCK_KIND_OFD,
    LOCK_KIND_POSIX,
    LOCK_TYPE_READ,
    LOCK_TYPE_UNLOCK,
    LOCK_TYPE_WRITE,
    AwaitLockRequest,
    LockRequest,
    TestLockRequest,
)

_KINDS: Final = {
    common.F_GETLK: LOCK_KIND_POSIX,
    common.F_SETLK: LOCK_KIND_POSIX,
    common.F_SETLKW: LOCK_KIND_POSIX,
    common.F_OFD_GETLK: LOCK_KIND_OFD,
    common.F_OFD_SETLK: LOCK_KIND_OFD,
    common.F_OFD_SETLKW: LOCK_KIND_OFD,
}
LOCK_COMMANDS: Final = frozenset(_KINDS)
"""Of fcntl(2)."""
_TYPES: Final = {
    common.F_RDLCK: LOCK_TYPE_READ,
    common.F_WRLCK: LOCK_TYPE_WRITE,
    common.F_UNLCK: LOCK_TYPE_UNLOCK,
}
_FLOCK_TYPES: Final = {
    common.LOCK_SH: LOCK_TYPE_READ,
    common.LOCK_EX: LOCK_TYPE_WRITE,
    common.LOCK_UN: LOCK_TYPE_UNLOCK,
}
_WAITING: Final = {common.F_SETLKW: common.F_SETLK, common.F_OFD_SETLKW: common.F_OFD_SETLK}
"""The commands that wait, and those that try."""
_RINGS: Final = Wait(rings=True)
HOST_RETRY_S: Final = 0.01
"""The host has nothing to poll that would tell of a lock that is free."""


def flock(task: Task, fd: int, operation: int) -> int | Blocking:
    file = task.process.fds.get(fd)
    type_ = _FLOCK_TYPES.get(operation & ~common.LOCK_NB)
    if type_ is None:
        raise Errno(EINVAL)
    if file.is_path:
        raise Errno(EBADF)
    if isinstance(file, HostBacked):
        number, trying = file.descriptor, operation | common.LOCK_NB
        return _lock_at_host(task, file, lambda: fcntl.flock(number, trying), not operation & common.LOCK_NB)
    target = _lockable(file)
    request = LockRequest(handle=target.handle, kind=LOCK_KIND_FLOCK, type=type_)
    return _lock(task, target, request, waits=not operation & common.LOCK_NB)


def lock_command(task: Task, file: OpenFile, command: int, address: int) -> int | Blocking:
    """F_SETLK and its kin; `address`: of the guest's struct flock."""
    struct = common.flock
    wanted = struct.unpack(task.memory.read(address, struct.size))
    type_ = _TYPES.get(wanted["l_type"])
    if type_ is None:
        raise Errno(EINVAL)
    if isinstance(file, HostBacked):
        return _host_command(task, file, command, address, wanted)
    start, length = _range(file, wanted["l_whence"], wanted["l_start"], wanted["l_len"])
    kind = _KINDS[command]
    if kind == LOCK_KIND_OFD and wanted["l_pid"]:
        raise Errno(EINVAL)
    target = _lockable(file)
    pid = task.process.pid
    if command in (common.F_GETLK, common.F_OFD_GETLK):
        test = TestLockRequest(handle=target.handle, kind=kind, type=type_, start=start, length=length, pid=pid)
        found = target.files.call(test)
        if found.type == LOCK_TYPE_UNLOCK:
            wanted["l_type"] = common.F_UNLCK
        else:
            wanted["l_type"] = common.F_RDLCK if found.type == LOCK_TYPE_READ else common.F_WRLCK
            wanted["l_whence"], wanted["l_start"], wanted["l_len"] = common.SEEK_SET, found.start, found.length
            wanted["l_pid"] = found.pid
        task.memory.write(address, struct.pack(**wanted))
        return 0
    request = LockRequest(handle=target.handle, kind=kind, type=type_, start=start, length=length, pid=pid)
    if kind == LOCK_KIND_POSIX and type_ != LOCK_TYPE_UNLOCK:
        task.process.fds.record_locked.add(file)
    return _lock(task, target, request, waits=command in (common.F_SETLKW, common.F_OFD_SETLKW))


def _host_command(
    task: Task, file: HostBacked, command: int, address: int, wanted: dict[str, Any]
) -> int | Blocking:
    """As lock_command; the host checks the range. Who only tries again is not told of deadlocks (EDEADLK)."""
    struct, number, trying = common.flock, file.descriptor, _WAITING.get(command, command)
    packed = struct.pack(**wanted)
    if command in (common.F_GETLK, common.F_OFD_GETLK):
        with translated():
            found = struct.unpack(fcntl.fcntl(number, command, packed))
        found["l_pid"] = min(found["l_pid"], 0)  # its holder's pid is no guest's; -1: a description
        task.memory.write(address, struct.pack(**found))
        return 0
    if command in (common.F_SETLK, common.F_SETLKW) and wanted["l_type"] != common.F_UNLCK:
        task.process.fds.record_locked.add(file)
    return _lock_at_host(task, file, lambda: fcntl.fcntl(number, trying, packed), command in _WAITING)


def _lock_at_host(task: Task, file: HostBacked, attempt: Callable[[], object], waits: bool) -> int | Blocking:
    """`attempt` is made until no other lock is in the way. Errno."""

    def had() -> bool:
        try:
            with translated():
                attempt()
        except Errno as error:
            if error.errno != EAGAIN:
                raise
            return False
        return True

    if had():
        return 0
    if not waits:
        raise Errno(EAGAIN)
    return _until_free(task, file, had)


def _until_free(task: Task, file: HostBacked, had: Callable[[], bool]) -> Blocking:
    clock = task.kernel.clock
    file.users += 1
    try:
        while True:
            yield Wait(deadline=clock.monotonic_s() + HOST_RETRY_S)
            if had():
                return 0
    finally:
        file.drop()


def _lockable(file: OpenFile) -> RemoteFile:
    """Errno(ENOLCK): what is neither the host's nor the file server's cannot be locked."""
    if not isinstance(file, RemoteFile):
        raise Errno(ENOLCK)
    return file


def _range(file: OpenFile, whence: int, start: int, length: int) -> tuple[int, int]:
    """(start, length) from the beginning of the file, length 0: to its end (fs/locks.c:
    flock64_to_posix_lock). EINVAL, EOVERFLOW."""
    if whence == common.SEEK_SET:
        base = 0
    elif whence == common.SEEK_CUR:
        base = file.offset
    elif whence == common.SEEK_END:
        base = file.attributes().size
    else:
        raise Errno(EINVAL)
    if start > OFFSET_MAX - base:
        raise Errno(EOVERFLOW)
    start += base
    if start < 0:
        raise Errno(EINVAL)
    if length > 0 and length - 1 > OFFSET_MAX - start:
        raise Errno(EOVERFLOW)
    if length < 0:
        if start + length < 0:
            raise Errno(EINVAL)
        return start + length, -length
    return start, length


def _lock(task: Task, file: RemoteFile, request: LockRequest, waits: bool) -> int | Blocking:
    try:
        return _attempt(file, request)
    except Errno as error:
        if error.errno != EAGAIN or not waits:
            raise
    return _await_lock(task, file, request)


def _attempt(file: RemoteFile, request: LockRequest) -> int:
    """Errno(EAGAIN): another one is in the way."""
    if file.files.call(request).lost:
        raise Errno(EAGAIN)
    return 0


def _until_told(task: Task, file: RemoteFile, wanted: AwaitLockRequest) -> Iterator[Wait]:
    """Until it is worth another try; a server that does not tell is tried again and again."""
    try:
        pending = file.files.begin(wanted)
    except Errno as error:
        if error.errno != ENOSYS:
            raise
        yield Wait(deadline=task.kernel.clock.monotonic_s() + HOST_RETRY_S)
        return
    try:
        while not pending.over():
            yield _RINGS
    finally:
        pending.abandon()


def _await_lock(task: Task, file: RemoteFile, request: LockRequest) -> Blocking:
    """Until the lock is had. Errno: EDEADLK, ENOLCK; Interrupted."""
    wanted = AwaitLockRequest(
        handle=request.handle,
        kind=request.kind,
        type=request.type,
        start=request.start,
        length=request.length,
        pid=request.pid,
    )
    file.users += 1
    try:
        while True:
            yield from _until_told(task, file, wanted)
            try:
                return _attempt(file, request)
            except Errno as error:
                if error.errno != EAGAIN:
                    raise
    finally:
        file.drop()
