"""What a guest reads in /proc (proc(5)), made from its own process; never the host's."""

from typing import TYPE_CHECKING, Final

from client_vm.abi import common
from client_vm.nodes import Directory, Node, Symlink, TextFile
from client_vm.proc_maps import maps, resident_bytes, rollup, smaps
from client_vm.proc_run import TEXTS, other, others, stat_line
from client_vm.socket_nodes import DevDirectory, net_nodes

if TYPE_CHECKING:
    from client_vm.process import Task

_VERSION: Final = b"Linux version %s (farcall) %s\n"


def _cmdline(task: "Task") -> bytes:
    return b"".join(argument + b"\0" for argument in task.process.arguments)


def _environ(task: "Task") -> bytes:
    return b"".join(entry + b"\0" for entry in task.process.environment)


def _sizes(task: "Task") -> tuple[int, int]:
    """(virtual, private writable) bytes of the address space."""
    vmas = task.process.space.vmas
    return sum(vma.size_bytes for vma in vmas), sum(vma.charged_bytes for vma in vmas)


def _status(task: "Task") -> bytes:
    process = task.process
    who = process.credentials
    size, data = _sizes(task)
    resident, _ = resident_bytes(task)
    ids = (who.uid, who.euid, who.suid, who.fsuid), (who.gid, who.egid, who.sgid, who.fsgid)
    lines = [
        b"Name:\t" + process.name,
        b"Umask:\t%04o" % process.umask,
        b"State:\tR (running)",
        b"Tgid:\t%d" % process.pid,
        b"Ngid:\t0",
        b"Pid:\t%d" % process.pid,
        b"PPid:\t%d" % process.parent_pid,
        b"TracerPid:\t0",
        b"Uid:\t%d\t%d\t%d\t%d" % ids[0],
        b"Gid:\t%d\t%d\t%d\t%d" % ids[1],
        b"FDSize:\t64",
        b"Groups:\t" + b"".join(b"%d " % group for group in who.groups),
        b"VmSize:\t%8d kB" % (size >> 10),
        b"VmHWM:\t%8d kB" % max(task.kernel.usage().ru_maxrss, resident >> 10),
        b"VmRSS:\t%8d kB" % (resident >> 10),
        b"VmData:\t%8d kB" % (data >> 10),
        b"Threads:\t%d" % len(process.tasks),
        b"SigBlk:\t%016x" % task.blocked,
        b"SigIgn:\t%016x" % process.signals.ignored(),
        b"SigCgt:\t%016x" % process.signals.caught(),
    ]
    return b"\n".join(lines) + b"\n"


def _stat(task: "Task") -> bytes:
    """/proc/PID/stat; fields that farcall does not count are 0."""
    process = task.process
    size, _ = _sizes(task)
    used = task.kernel.cpu_time_ns() * 100 // 1_000_000_000
    resident = resident_bytes(task)[0] >> 12
    family = process.parent_pid, *_groups(task)
    fields = {14: used, 18: 20 + process.nice, 19: process.nice, 20: len(process.tasks), 23: size, 24: resident}
    return stat_line(process.pid, process.name, b"R", family, fields)


def _groups(task: "Task") -> tuple[int, int]:
    """(group, session), which the kernel process knows."""
    ids = task.process.link.ids(0)
    return ids.group, ids.session


def _statm(task: "Task") -> bytes:
    size, data = _sizes(task)
    resident, shared = resident_bytes(task)
    return b"%d %d %d 0 0 %d 0\n" % (size >> 12, resident >> 12, shared >> 12, data >> 12)


def _limits(task: "Task") -> bytes:
    rows = [b"Limit                     Soft Limit           Hard Limit           Units     "]
    names = {
        common.RLIMIT_STACK: (b"Max stack size", b"bytes"),
        common.RLIMIT_NOFILE: (b"Max open files", b"files"),
        common.RLIMIT_AS: (b"Max address space", b"bytes"),
        common.RLIMIT_DATA: (b"Max data size", b"bytes"),
        common.RLIMIT_FSIZE: (b"Max file size", b"bytes"),
    }
    for resource, (name, unit) in sorted(names.items()):
        soft, hard = task.process.limits[resource]
        rows.append(b"%-26s%-21s%-21s%-10s" % (name, _limit(soft), _limit(hard), unit))
    return b"\n".join(rows) + b"\n"


def _limit(value: int) -> bytes:
    return b"unlimited" if value == (1 << 64) - 1 else b"%d" % value


def _magic(path: bytes, fd: int) -> Symlink:
    return Symlink(path, lambda task: task.process.fds.get(fd).path(), lambda task: task.process.fds.get(fd))


def _fd_children(path: bytes, task: "Task") -> dict[bytes, Node]:
    return {b"%d" % fd: _magic(path + b"/%d" % fd, fd) for fd in task.process.fds.numbers()}


def _process_children(path: bytes, task: "Task") -> dict[bytes, Node]:
    texts = {
        b"cmdline": _cmdline, b"environ": _environ, b"maps": maps, b"smaps": smaps, b"smaps_rollup": rollup,
        b"status": _status, b"stat": _stat, b"statm": _statm, b"limits": _limits, b"mounts": _mounts,
        b"mountinfo": _mountinfo,
        b"comm": lambda t: t.process.name + b"\n", b"auxv": lambda t: t.process.auxv,
    }  # fmt: skip
    children: dict[bytes, Node] = {name: TextFile(path + b"/" + name, text) for name, text in texts.items()}
    children[b"exe"] = Symlink(
        path + b"/exe", lambda t: t.process.executable_path(), lambda t: t.process.executable
    )
    children[b"cwd"] = Symlink(path + b"/cwd", lambda t: t.process.cwd.path(), lambda t: t.process.cwd)
    children[b"root"] = Symlink(path + b"/root", lambda _: b"/")
    children[b"task"] = Directory(path + b"/task", lambda t: _task_children(path + b"/task", t))
    children[b"fd"] = Directory(path + b"/fd", lambda t: _fd_children(path + b"/fd", t))
    return children


def _mounts(_task: "Task") -> bytes:
    return b"farcall / farcall rw,noatime 0 0\nproc /proc proc rw 0 0\ndev /dev tmpfs rw 0 0\n"


def _mountinfo(_task: "Task") -> bytes:
    return (
        b"20 1 0:48 / / rw,noatime - farcall farcall rw\n"
        b"21 20 0:64 / /proc rw - proc proc rw\n"
        b"22 20 0:64 / /dev rw - tmpfs dev rw\n"
    )


def _uptime(task: "Task") -> bytes:
    seconds = task.kernel.clock.monotonic_s()
    return b"%.2f %.2f\n" % (seconds, seconds)


def _version(task: "Task") -> bytes:
    return _VERSION % (task.kernel.release, task.kernel.version)


def _meminfo(task: "Task") -> bytes:
    total, free = task.kernel.memory_total_bytes >> 10, task.kernel.memory_total_bytes >> 11
    rows = (
        (b"MemTotal", total),
        (b"MemFree", free),
        (b"MemAvailable", free),
        (b"Buffers", 0),
        (b"Cached", 0),
    )
    swap = ((b"SwapTotal", 0), (b"SwapFree", 0))
    return b"".join(b"%-16s%8d kB\n" % (name + b":", value) for name, value in rows + swap)


class _Root(Directory):
    """/proc: other processes are looked for only if no name of our own is meant."""

    def child(self, task: "Task", name: bytes) -> Node:
        return _own_children(task).get(name) or other(task, name)


def _root_children(task: "Task") -> dict[bytes, Node]:
    return others(task) | _own_children(task)


def _task_children(path: bytes, task: "Task") -> dict[bytes, Node]:
    """/proc/PID/task: every thread's files are its process's, but for its name."""

    def children(thread: "Task") -> dict[bytes, Node]:
        own = path + b"/%d" % thread.tid
        texts = {b"stat": _stat, b"status": _status, b"statm": _statm, b"cmdline": _cmdline}
        found: dict[bytes, Node] = {name: TextFile(own + b"/" + name, text) for name, text in texts.items()}
        found[b"comm"] = TextFile(own + b"/comm", lambda _: thread.name + b"\n")
        return found

    return {
        b"%d" % tid: Directory(path + b"/%d" % tid, lambda _, thread=thread: children(thread))  # type: ignore[misc]
        for tid, thread in task.process.tasks.items()
    }


def _own_children(task: "Task") -> dict[bytes, Node]:
    pid = b"%d" % task.process.pid
    own = b"/proc/" + pid
    children: dict[bytes, Node] = {
        b"self": Symlink(b"/proc/self", lambda t: b"%d" % t.process.pid),
        b"mounts": Symlink(b"/proc/mounts", lambda _: b"self/mounts"),
        pid: Directory(own, lambda t: _process_children(own, t)),
        b"sys": Directory(b"/proc/sys", _sys_children),
        b"net": Directory(b"/proc/net", net_nodes),
    }
    texts = {b"uptime": _uptime, b"version": _version, b"meminfo": _meminfo, b"filesystems": _filesystems}
    children |= {name: TextFile(b"/proc/" + name, text) for name, text in (texts | TEXTS).items()}
    return children


def _filesystems(_task: "Task") -> bytes:
    return b"nodev\tproc\nnodev\ttmpfs\n\tfarcall\n"


def _sys_children(_task: "Task") -> dict[bytes, Node]:
    return {b"kernel": Directory(b"/proc/sys/kernel", _sys_kernel_children)}


def _sys_kernel_children(_task: "Task") -> dict[bytes, Node]:
    texts = {
        b"hostname": lambda t: t.kernel.hostname + b"\n",
        b"ostype": lambda _: b"Linux\n",
        b"osrelease": lambda t: t.kernel.release + b"\n",
        b"version": lambda t: t.kernel.version + b"\n",
        b"pid_max": lambda _: b"4194304\n",
    }
    return {name: TextFile(b"/proc/sys/kernel/" + name, text) for name, text in texts.items()}


MOUNTS: Final[dict[bytes, Directory]] = {
    b"/proc": _Root(b"/proc", _root_children),
    b"/dev": DevDirectory(),
}
"""Where the file server's tree ends and ours begins."""
