"""flock(2), and the record locks of fcntl(2). The file server owns them; who has to wait asks it to tell."""

from typing import Final

from client_vm.abi import common
from client_vm.abi.common import EAGAIN, EBADF, EINVAL, ENOLCK, EOVERFLOW
from client_vm.descriptors import OFFSET_MAX, OpenFile, RemoteFile
from client_vm.errors import Errno
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
_RINGS: Final = Wait(rings=True)


def flock(task: Task, fd: int, operation: int) -> int | Blocking:
    file = task.process.fds.get(fd)
    type_ = _FLOCK_TYPES.get(operation & ~common.LOCK_NB)
    if type_ is None:
        raise Errno(EINVAL)
    if file.flags & common.O_PATH:
        raise Errno(EBADF)
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
        file.record_locked = True
    return _lock(task, target, request, waits=command in (common.F_SETLKW, common.F_OFD_SETLKW))


def _lockable(file: OpenFile) -> RemoteFile:
    """Errno(ENOLCK): what is not the file server's cannot be locked."""
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
    return _await_lock(file, request)


def _attempt(file: RemoteFile, request: LockRequest) -> int:
    """Errno(EAGAIN): another one is in the way."""
    if file.files.call(request).lost:
        raise Errno(EAGAIN)
    return 0


def _await_lock(file: RemoteFile, request: LockRequest) -> Blocking:
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
            pending = file.files.begin(wanted)
            try:
                while not pending.over():
                    yield _RINGS
            finally:
                pending.abandon()
            try:
                return _attempt(file, request)
            except Errno as error:
                if error.errno != EAGAIN:
                    raise
    finally:
        file.drop()
