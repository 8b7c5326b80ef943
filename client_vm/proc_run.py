"""What /proc shows of the run as a whole, and of processes that live in other workers (proc(5)).

Of other processes it is what they have told the kernel process; what they have not told has no file here.
"""

from typing import TYPE_CHECKING, Final

from client_vm.abi.common import ENOENT, ESRCH
from client_vm.cpuinfo import cpuinfo
from client_vm.errors import Errno
from client_vm.nodes import Directory, Node, Symlink, TextFile
from farcall.v1.kernel_pb2 import ProcessEntry

if TYPE_CHECKING:
    from client_vm.process import Task

_TICKS_PER_SECOND: Final = 100
"""USER_HZ."""
_STATES: Final = {"R": b"R (running)", "T": b"T (stopped)", "Z": b"Z (zombie)"}


def stat_line(pid: int, name: bytes, state: bytes, family: tuple[int, int, int], fields: dict[int, int]) -> bytes:
    """/proc/PID/stat. `family`: parent, group, session. `fields`: by proc(5)'s numbers, from 9; the rest is 0."""
    rest = [fields.get(number, 0) for number in range(9, 53)]
    head = b"%d (%s) %s %d %d %d 0 -1 " % (pid, name, state, *family)
    return head + b" ".join(b"%d" % value for value in rest) + b"\n"


def others(task: "Task") -> dict[bytes, Node]:
    """Directories of the run's other processes, by pid."""
    own = task.process.pid
    return {
        b"%d" % entry.pid: _directory(entry.pid) for entry in task.process.link.processes() if entry.pid != own
    }


def other(task: "Task", name: bytes) -> Node:
    """The directory of the process of that number. Errno(ENOENT)."""
    if not name.isdigit() or name.startswith(b"0") or len(name) > 9:
        raise Errno(ENOENT)
    _entry(task, int(name), ENOENT)
    return _directory(int(name))


def _entry(task: "Task", pid: int, errno: int = ESRCH) -> ProcessEntry:
    """What is known of a process. Errno: `errno` if it is gone."""
    try:
        return task.process.link.processes(pid)[0]
    except Errno as error:
        raise Errno(errno if error.errno == ESRCH else error.errno) from None


def _directory(pid: int) -> Directory:
    path = b"/proc/%d" % pid
    texts = {b"stat": _stat, b"status": _status, b"statm": _statm, b"comm": _comm, b"cmdline": _command_line}

    def children(_task: "Task") -> dict[bytes, Node]:
        found: dict[bytes, Node] = {
            name: TextFile(path + b"/" + name, lambda t, text=text: text(_entry(t, pid)))  # type: ignore[misc]
            for name, text in texts.items()
        }
        found[b"exe"] = Symlink(path + b"/exe", lambda t: _executable(_entry(t, pid)))
        return found

    return Directory(path, children)


def _stat(entry: ProcessEntry) -> bytes:
    family = entry.parent, entry.group, entry.session
    return stat_line(entry.pid, entry.name, bytes((entry.state,)), family, {18: 20, 20: 1})


def _status(entry: ProcessEntry) -> bytes:
    lines = [
        b"Name:\t" + entry.name,
        b"State:\t" + _STATES[chr(entry.state)],
        b"Tgid:\t%d" % entry.pid,
        b"Pid:\t%d" % entry.pid,
        b"PPid:\t%d" % entry.parent,
        b"TracerPid:\t0",
        b"Uid:" + b"\t%d" % entry.uid * 4,
    ]
    return b"\n".join(lines) + b"\n"


def _statm(_entry: ProcessEntry) -> bytes:
    return b"0 0 0 0 0 0 0\n"


def _comm(entry: ProcessEntry) -> bytes:
    return bytes(entry.name) + b"\n"


def _command_line(entry: ProcessEntry) -> bytes:
    return b"" if chr(entry.state) == "Z" else bytes(entry.command_line)


def _executable(entry: ProcessEntry) -> bytes:
    """Errno(ENOENT): a zombie, or the run's init, has none."""
    if not entry.executable or chr(entry.state) == "Z":
        raise Errno(ENOENT)
    return bytes(entry.executable)


# -- the machine --------------------------------------------------------------------------------------


def _load(task: "Task") -> bytes:
    """Nobody counts who waits for a CPU: the load is 0; processes and the last pid are the run's."""
    entries = task.process.link.processes()
    running = sum(chr(entry.state) == "R" for entry in entries)
    return b"0.00 0.00 0.00 %d/%d %d\n" % (running, len(entries), max(entry.pid for entry in entries))


def _usage(task: "Task") -> bytes:
    """/proc/stat: of CPU time the caller's own is known, the rest counts as idle."""
    kernel = task.kernel
    up = int(kernel.clock.monotonic_s() * _TICKS_PER_SECOND)
    used = kernel.cpu_time_ns() * _TICKS_PER_SECOND // 1_000_000_000
    idle = max(0, up * kernel.cpus - used)
    lines = [b"cpu  %d 0 0 %d 0 0 0 0 0 0" % (used, idle)]
    for number in range(kernel.cpus):
        mine = used if not number else 0
        lines.append(b"cpu%d %d 0 0 %d 0 0 0 0 0 0" % (number, mine, max(0, up - mine)))
    entries = task.process.link.processes()
    boot_s = kernel.clock.realtime_ns() // 1_000_000_000 - up // _TICKS_PER_SECOND
    lines += [
        b"intr 0",
        b"ctxt 0",
        b"btime %d" % boot_s,
        b"processes %d" % len(entries),
        b"procs_running %d" % sum(chr(entry.state) == "R" for entry in entries),
        b"procs_blocked 0",
    ]
    return b"\n".join(lines) + b"\n"


def _cpus(task: "Task") -> bytes:
    """The processors that guests see: the emulator's, as many as the host's."""
    return cpuinfo(task.architecture, task.kernel.cpus)


TEXTS: Final = {b"loadavg": _load, b"cpuinfo": _cpus, b"stat": _usage}
"""Files of /proc itself."""
