"""execve(2), execveat(2)."""

from client_vm import lives
from client_vm.abi import common
from client_vm.abi.common import AT_FDCWD, E2BIG, EINVAL
from client_vm.errors import Errno
from client_vm.loader import ARGUMENT_BYTES_MAX
from client_vm.process import Task
from client_vm.waiting import Blocking

STRINGS_MAX = 1 << 20
"""Of one list; the bytes are bounded long before (execve(2): MAX_ARG_STRINGS is about as useful)."""


def _strings(task: Task, address: int) -> list[bytes]:
    """The strings of a NULL-terminated array; a NULL array is an empty one. E2BIG, EFAULT."""
    found: list[bytes] = []
    while address:
        if len(found) >= STRINGS_MAX:
            raise Errno(E2BIG)
        pointer = task.memory.read_u64(address)
        if not pointer:
            break
        found.append(task.memory.c_string(pointer, ARGUMENT_BYTES_MAX, too_long=E2BIG))
        address += 8
    return found


def execve(task: Task, path: bytes, arguments: int, environment: int) -> int | Blocking:
    return execveat(task, AT_FDCWD, path, arguments, environment, 0)


def execveat(
    task: Task, directory: int, path: bytes, arguments: int, environment: int, flags: int
) -> int | Blocking:
    if flags & ~(common.AT_EMPTY_PATH | common.AT_SYMLINK_NOFOLLOW):
        raise Errno(EINVAL)
    if not path and not flags & common.AT_EMPTY_PATH:
        raise Errno(common.ENOENT)
    given, variables = _strings(task, arguments), _strings(task, environment)
    # Linux gives a program an empty argv[0] rather than none (fs/exec.c: do_execveat_common).
    return lives.execute(task, directory, path, given or [b""], variables, flags)
