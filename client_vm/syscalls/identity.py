"""Who the process is for others: user, group, supplementary groups (credentials(7); man 2 of each).

The file server knows a session's credentials from its Hello and checks them itself, so no process becomes
somebody else. A guest lives as in a user namespace that knows its caller's ids alone (user_namespaces(7)):
every other id is EINVAL for root, and EPERM, as anywhere, for the rest.
"""

from typing import Final

from client_vm.abi.common import EINVAL, EPERM
from client_vm.arguments import InBuffer, OutBuffer
from client_vm.errors import Errno
from client_vm.process import Task

_UNCHANGED: Final = 0xFFFFFFFF
"""(uid_t) -1."""
_GROUPS_MAX: Final = 65536
"""NGROUPS_MAX (linux/limits.h)."""


def getuid(task: Task) -> int:
    return task.process.credentials.uid


def geteuid(task: Task) -> int:
    return task.process.credentials.euid


def getgid(task: Task) -> int:
    return task.process.credentials.gid


def getegid(task: Task) -> int:
    return task.process.credentials.egid


def _put_three(*given: tuple[OutBuffer, int]) -> int:
    for pointer, _ in given:
        pointer.check(4)
    for pointer, value in given:
        pointer.put(value.to_bytes(4, "little"))
    return 0


def getresuid(task: Task, real: OutBuffer, effective: OutBuffer, saved: OutBuffer) -> int:
    who = task.process.credentials
    return _put_three((real, who.uid), (effective, who.euid), (saved, who.suid))


def getresgid(task: Task, real: OutBuffer, effective: OutBuffer, saved: OutBuffer) -> int:
    who = task.process.credentials
    return _put_three((real, who.gid), (effective, who.egid), (saved, who.sgid))


def getgroups(task: Task, size: int, buffer: OutBuffer) -> int:
    groups = task.process.credentials.groups
    if size < 0 or 0 < size < len(groups):
        raise Errno(EINVAL)
    if size and groups:
        buffer.put(b"".join(group.to_bytes(4, "little") for group in groups))
    return len(groups)


def _may_become(task: Task, known: tuple[int, int, int], wanted: tuple[int, ...]) -> None:
    """Errno unless each id is one that the process has already. EINVAL, EPERM."""
    for number in wanted:
        if number == _UNCHANGED or (number not in known and task.process.credentials.euid == 0):
            raise Errno(EINVAL)
        if number not in known:
            raise Errno(EPERM)


def _uids(task: Task) -> tuple[int, int, int]:
    who = task.process.credentials
    return who.uid, who.euid, who.suid


def _gids(task: Task) -> tuple[int, int, int]:
    who = task.process.credentials
    return who.gid, who.egid, who.sgid


def _given(*numbers: int) -> tuple[int, ...]:
    return tuple(number for number in numbers if number != _UNCHANGED)


def setuid(task: Task, number: int) -> int:
    """Real, effective and saved id of a process are the same, so nothing changes, here and below."""
    _may_become(task, _uids(task), (number,))
    return 0


def setgid(task: Task, number: int) -> int:
    _may_become(task, _gids(task), (number,))
    return 0


def setreuid(task: Task, real: int, effective: int) -> int:
    _may_become(task, _uids(task), _given(real, effective))
    return 0


def setregid(task: Task, real: int, effective: int) -> int:
    _may_become(task, _gids(task), _given(real, effective))
    return 0


def setresuid(task: Task, real: int, effective: int, saved: int) -> int:
    _may_become(task, _uids(task), _given(real, effective, saved))
    return 0


def setresgid(task: Task, real: int, effective: int, saved: int) -> int:
    _may_become(task, _gids(task), _given(real, effective, saved))
    return 0


def setfsuid(task: Task, _number: int) -> int:
    """What it was, whether or not that could be changed (setfsuid(2))."""
    return task.process.credentials.fsuid


def setfsgid(task: Task, _number: int) -> int:
    return task.process.credentials.fsgid


def setgroups(task: Task, size: int, groups: InBuffer) -> int:
    """The groups there are, in any order. EPERM for root, too, when one would be dropped or taken twice."""
    who = task.process.credentials
    if who.euid != 0:
        raise Errno(EPERM)
    if not 0 <= size <= _GROUPS_MAX:
        raise Errno(EINVAL)
    data = groups.whole(size * 4) if size else b""
    wanted = [int.from_bytes(data[at : at + 4], "little") for at in range(0, len(data), 4)]
    if any(group not in (*who.groups, who.gid) for group in wanted):
        raise Errno(EINVAL)
    if sorted(wanted) != sorted(who.groups):
        raise Errno(EPERM)
    return 0
