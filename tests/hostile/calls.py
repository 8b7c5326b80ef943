"""For every syscall with a pointer, calls that succeed: what tests/guests/hostile.c finds in its directory.

Fds 20 (the directory), 21 (file f), 22 (file o), 23 (directory d, with nothing in it); names f, o, d, e (an
empty directory), l (a symlink to f), and n, which does not exist. f has the attribute user.a.
"""

from dataclasses import dataclass
from typing import Final

from client_vm.abi import common

AT_FDCWD: Final = common.AT_FDCWD
BASE: Final = 20
F: Final = 21
OTHER: Final = 22
D: Final = 23
EPOLL: Final = 24
TIMER: Final = 25
COUNTER: Final = 26
READER: Final = 27
WRITER: Final = 28
SENDER: Final = 29
RECEIVER: Final = 30
ITSELF: Final = 31
PAGE: Final = 4096


@dataclass(frozen=True)
class Pointer:
    """An argument that points at `content` (see hostile.c)."""

    content: str


@dataclass(frozen=True)
class Vector:
    """An array of one struct iovec of `count` bytes."""

    count: int = 16


OWN_PAGE: Final = "a"
"""The address of a mapped page: a value, not a buffer."""
Argument = int | str | Pointer | Vector


@dataclass(frozen=True)
class Call:
    """Arguments that succeed. `flags`: m, f, p, c of hostile.c.

    `sizes` are the arguments that count bytes behind a pointer; hostile sizes are tried there.
    """

    arguments: tuple[Argument, ...]
    flags: str = ""
    sizes: tuple[int, ...] = ()
    is_short: bool = False
    """The call writes more than its pointer has room for."""
    fails: bool = False
    """It cannot succeed in a program of one process: its errno is compared even where its pointers are good."""


def path(name: str) -> Pointer:
    """A NUL-terminated string."""
    return data(name.encode() + b"\0")


def data(raw: bytes) -> Pointer:
    return Pointer("h" + raw.hex())


def room(size_bytes: int) -> Pointer:
    return Pointer(f"z{size_bytes}")


def words(*values: int) -> Pointer:
    """64-bit integers."""
    return Pointer(",".join(f"i{value}" for value in values))


def call(*arguments: Argument, flags: str = "", sizes: tuple[int, ...] = ()) -> Call:
    return Call(arguments, flags, sizes)


SIXTEEN: Final = data(b"sixteen bytes!!\n")
ATTRIBUTE: Final = path("user.a")
VALUE: Final = data(b"value")
NOW_AND_THEN: Final = words(1_000_000_000, 5, 1_100_000_000, 7)
STAT_BYTES: Final = 144
"""x86-64's; ARM64 has 128."""

FILES: Final = {
    "read": [call(F, room(16), 16, sizes=(2,))],
    "write": [call(F, SIXTEEN, 16, flags="m", sizes=(2,))],
    "pread64": [call(F, room(16), 16, 3, sizes=(2, 3))],
    "pwrite64": [call(F, SIXTEEN, 16, 3, flags="m", sizes=(2,))],
    "readv": [call(F, Vector(), 1, sizes=(2,))],
    "writev": [call(F, Vector(), 1, flags="m", sizes=(2,))],
    "preadv": [call(F, Vector(), 1, 3, 0, sizes=(2,))],
    "pwritev": [call(F, Vector(), 1, 3, 0, flags="m", sizes=(2,))],
    "preadv2": [call(F, Vector(), 1, 3, 0, 0, sizes=(2,)), call(F, Vector(), 1, -1, -1, 0)],
    "pwritev2": [
        call(F, Vector(), 1, 3, 0, 0, flags="m", sizes=(2,)),
        call(F, Vector(), 1, -1, -1, 0, flags="m"),
    ],
    "open": [call(path("f"), common.O_RDWR, 0, flags="f"), call(path("n"), common.O_CREAT, 0o644, flags="fm")],
    "openat": [
        call(AT_FDCWD, path("f"), common.O_RDWR, 0, flags="f"),
        call(BASE, path("n"), common.O_CREAT | common.O_WRONLY, 0o644, flags="fm"),
    ],
    "openat2": [call(AT_FDCWD, path("f"), words(common.O_RDWR, 0, 0), 24, flags="f", sizes=(3,))],
    "creat": [call(path("n"), 0o644, flags="fm")],
    "sendfile": [call(OTHER, F, words(3), 16, flags="m")],
    "copy_file_range": [call(F, words(3), OTHER, words(1), 16, 0, flags="m")],
    "ioctl": [call(F, common.FIONREAD, room(4))],
}  # fmt: skip
NAMES: Final = {
    "mkdir": [call(path("n"), 0o755, flags="m")],
    "mkdirat": [call(BASE, path("n"), 0o755, flags="m")],
    "mknod": [call(path("n"), 0o100644, 0, flags="m"), call(path("n"), 0o010644, 0, flags="m")],
    "mknodat": [call(BASE, path("n"), 0o100644, 0, flags="m")],
    "rmdir": [call(path("e"), flags="m")],
    "unlink": [call(path("f"), flags="m")],
    "unlinkat": [call(BASE, path("f"), 0, flags="m"), call(BASE, path("e"), common.AT_REMOVEDIR, flags="m")],
    "rename": [call(path("f"), path("n"), flags="m")],
    "renameat": [call(BASE, path("f"), AT_FDCWD, path("o"), flags="m")],
    "renameat2": [
        call(BASE, path("f"), BASE, path("o"), 0, flags="m"),
        call(BASE, path("f"), BASE, path("n"), common.RENAME_NOREPLACE, flags="m"),
    ],
    "link": [call(path("f"), path("n"), flags="m")],
    "linkat": [call(BASE, path("f"), BASE, path("n"), 0, flags="m")],
    "symlink": [call(path("target"), path("n"), flags="m")],
    "symlinkat": [call(path("target"), BASE, path("n"), flags="m")],
    "readlink": [call(path("l"), room(16), 16, sizes=(2,))],
    "readlinkat": [call(BASE, path("l"), room(16), 16, sizes=(3,))],
    "getdents": [call(D, room(64), 64, sizes=(2,))],
    "getdents64": [call(D, room(64), 64, sizes=(2,))],
    "getcwd": [call(room(256), 256, sizes=(1,)), Call((room(8), 256), is_short=True)],
    "chdir": [call(path("d"), flags="c")],
}  # fmt: skip
METADATA: Final = {
    "stat": [call(path("l"), room(STAT_BYTES))],
    "lstat": [call(path("l"), room(STAT_BYTES))],
    "fstat": [call(F, room(STAT_BYTES))],
    "newfstatat": [
        call(BASE, path("l"), room(STAT_BYTES), common.AT_SYMLINK_NOFOLLOW),
        call(F, data(b"\0\0"), room(STAT_BYTES), common.AT_EMPTY_PATH),
    ],
    "statx": [call(BASE, path("f"), 0, common.STATX_BASIC_STATS, room(256))],
    "access": [call(path("f"), 6)],
    "faccessat": [call(BASE, path("f"), 6)],
    "faccessat2": [call(BASE, path("f"), 6, common.AT_EACCESS)],
    "chmod": [call(path("f"), 0o600, flags="m")],
    "fchmodat": [call(BASE, path("f"), 0o600, flags="m")],
    "fchmodat2": [call(BASE, path("f"), 0o600, 0, flags="m")],
    "chown": [call(path("f"), 0, 0, flags="m")],
    "lchown": [call(path("l"), 0, 0, flags="m")],
    "fchownat": [call(BASE, path("f"), 0, 0, 0, flags="m")],
    "truncate": [call(path("f"), 10, flags="m")],
    "utime": [call(path("f"), words(1_000_000_000, 1_100_000_000), flags="m")],
    "utimes": [call(path("f"), NOW_AND_THEN, flags="m")],
    "futimesat": [call(BASE, path("f"), NOW_AND_THEN, flags="m"), call(F, 0, NOW_AND_THEN, flags="m")],
    "utimensat": [call(BASE, path("f"), NOW_AND_THEN, 0, flags="m"), call(F, 0, NOW_AND_THEN, 0, flags="m")],
    "statfs": [call(path("f"), room(120))],
    "fstatfs": [call(F, room(120))],
    "setxattr": [call(path("f"), path("user.b"), VALUE, 5, 0, flags="m", sizes=(3,))],
    "lsetxattr": [call(path("f"), path("user.b"), VALUE, 5, 0, flags="m", sizes=(3,))],
    "fsetxattr": [call(F, path("user.b"), VALUE, 5, 0, flags="m", sizes=(3,))],
    "getxattr": [call(path("f"), ATTRIBUTE, room(16), 16, sizes=(3,))],
    "lgetxattr": [call(path("f"), ATTRIBUTE, room(16), 16, sizes=(3,))],
    "fgetxattr": [call(F, ATTRIBUTE, room(16), 16, sizes=(3,))],
    "listxattr": [call(path("f"), room(8), 64, sizes=(2,))],
    "llistxattr": [call(path("f"), room(8), 64, sizes=(2,))],
    "flistxattr": [call(F, room(8), 64, sizes=(2,))],
    "removexattr": [call(path("f"), ATTRIBUTE, flags="m")],
    "lremovexattr": [call(path("f"), ATTRIBUTE, flags="m")],
    "fremovexattr": [call(F, ATTRIBUTE, flags="m")],
}  # fmt: skip
NO_LIMIT: Final = words(0, 0)
IGNORE: Final = words(common.SIG_IGN, 0, 0, 0)
PROCESS: Final = {
    "mincore": [call(OWN_PAGE, 2 * PAGE, room(2))],
    "clock_gettime": [call(common.CLOCK_MONOTONIC, room(16))],
    "clock_getres": [call(common.CLOCK_MONOTONIC, room(16))],
    "gettimeofday": [call(room(16), room(8))],
    "time": [call(room(8))],
    "nanosleep": [call(words(0, 1000), room(16))],
    "clock_nanosleep": [
        call(common.CLOCK_MONOTONIC, 0, words(0, 1000), room(16)),
        call(common.CLOCK_REALTIME, common.TIMER_ABSTIME, words(1, 0), room(16)),
    ],
    "times": [call(room(32))],
    "getresuid": [call(room(4), room(4), room(4))],
    "getresgid": [call(room(4), room(4), room(4))],
    "getgroups": [call(64, room(8))],
    "setgroups": [Call((1, words(-1 & (1 << 64) - 1)), fails=True)],
    "prlimit64": [call(0, common.RLIMIT_CORE, NO_LIMIT, room(16))],
    "getrlimit": [call(common.RLIMIT_STACK, room(16))],
    "setrlimit": [call(common.RLIMIT_CORE, NO_LIMIT)],
    "getrusage": [call(common.RUSAGE_SELF, room(144)), call(common.RUSAGE_CHILDREN, room(144))],
    "sysinfo": [call(room(112))],
    "uname": [call(room(390))],
    "sched_getaffinity": [call(0, 128, room(128), sizes=(1,))],
    "sched_setaffinity": [call(0, 8, words((1 << 64) - 1), sizes=(1,))],
    "getcpu": [call(room(4), room(4))],
    "getrandom": [call(room(16), 16, 0, sizes=(1,))],
    "rt_sigaction": [call(common.SIGUSR1, IGNORE, room(32), 8, sizes=(3,))],
    "rt_sigprocmask": [call(common.SIG_BLOCK, words(0), room(8), 8, sizes=(3,))],
    "rt_sigpending": [call(room(8), 8, sizes=(1,))],
    "sigaltstack": [call(words(0, common.SS_DISABLE, 0), room(24))],
    "arch_prctl": [call(0x1003, room(8))],
    "prctl": [call(common.PR_SET_NAME, path("a name of fifteen bytes")), call(common.PR_GET_NAME, room(16))],
}  # fmt: skip
POLLED: Final = data(COUNTER.to_bytes(4, "little") + (1).to_bytes(4, "little"))
"""A struct pollfd: the counter, POLLIN."""
AT_ONCE: Final = words(0, 0)
NO_TIMER: Final = words(0, 0, 0, 0)
NOTICE: Final = words(0, common.SIGUSR1, 0, 0, 0, 0, 0, 0)
"""SIGEV_SIGNAL."""
NOBODY: Final = 4_000_000
"""A pid that no process has."""
EVENT: Final = data((1).to_bytes(4, "little") + bytes(12))
"""A struct epoll_event of either architecture: EPOLLIN."""
WAITING: Final = {
    "pipe": [call(room(8), flags="p")],
    "pipe2": [call(room(8), 0, flags="p")],
    "splice": [call(F, words(0), WRITER, 0, 1, 2), call(READER, 0, OTHER, words(0), 1, 2, flags="m")],
    "vmsplice": [Call((F, Vector(1), 1, 2), fails=True)],
    "poll": [call(POLLED, 1, 0)],
    "ppoll": [call(POLLED, 1, AT_ONCE, words(0), 8)],
    "select": [call(0, 0, 0, 0, AT_ONCE)],
    "pselect6": [call(0, 0, 0, 0, AT_ONCE, 0)],
    "epoll_ctl": [call(EPOLL, common.EPOLL_CTL_MOD, COUNTER, EVENT)],
    "epoll_wait": [call(EPOLL, room(16), 1, 0)],
    "epoll_pwait": [call(EPOLL, room(16), 1, 0, words(0), 8)],
    "epoll_pwait2": [call(EPOLL, room(16), 1, AT_ONCE, words(0), 8)],
    "timerfd_settime": [call(TIMER, 0, NO_TIMER, room(32))],
    "timerfd_gettime": [call(TIMER, room(32))],
    "signalfd": [call(-1, words(0), 8, flags="f")],
    "signalfd4": [call(-1, words(0), 8, 0, flags="f")],
    "setitimer": [call(common.ITIMER_VIRTUAL, NO_TIMER, room(32))],
    "getitimer": [call(common.ITIMER_VIRTUAL, room(32))],
    "timer_create": [call(common.CLOCK_MONOTONIC, NOTICE, room(4))],
    "timer_settime": [call(0, 0, NO_TIMER, room(32))],
    "timer_gettime": [call(0, room(32))],
    "memfd_create": [call(path("name"), 0, flags="f")],
}  # fmt: skip
NO_MESSAGE: Final = words(0, 0, 0, 0, 0, 0, 0)
"""struct msghdr without data."""
SIGNAL: Final = words(common.SIGCHLD, 0xFFFFFFFF, *[0] * 14)
"""siginfo_t, SI_QUEUE."""
NO_MESSAGES: Final = words(0, 0, 0, 0, 0, 0, 0, 0)
"""One struct mmsghdr."""
NO_ADDRESS: Final = words(0, 0)
"""Of AF_UNSPEC."""
SOCKETS: Final = {
    "socketpair": [call(common.AF_UNIX, common.SOCK_STREAM, 0, room(8), flags="p")],
    "sendto": [call(SENDER, SIXTEEN, 16, common.MSG_DONTWAIT, NO_MESSAGE, 0)],
    "recvfrom": [call(RECEIVER, room(16), 16, common.MSG_DONTWAIT, room(16), words(16))],
    "sendmsg": [call(SENDER, NO_MESSAGE, 0)],
    "recvmsg": [call(RECEIVER, NO_MESSAGE, common.MSG_DONTWAIT)],
    "sendmmsg": [call(SENDER, NO_MESSAGES, 1, 0)],
    "recvmmsg": [call(RECEIVER, NO_MESSAGES, 1, common.MSG_DONTWAIT, AT_ONCE)],
    "bind": [Call((SENDER, NO_ADDRESS, 16), fails=True)],
    "connect": [Call((SENDER, NO_ADDRESS, 16), fails=True)],
    "accept": [Call((SENDER, room(16), words(16)), fails=True)],
    "accept4": [Call((SENDER, room(16), words(16), 0), fails=True)],
    "getsockname": [call(SENDER, room(16), words(16))],
    "getpeername": [call(SENDER, room(16), words(16))],
    "getsockopt": [call(SENDER, common.SOL_SOCKET, common.SO_TYPE, room(4), words(4))],
    "setsockopt": [call(SENDER, common.SOL_SOCKET, common.SO_REUSEADDR, words(0), 4)],
    "pidfd_send_signal": [call(ITSELF, common.SIGCHLD, SIGNAL, 0)],
}  # fmt: skip
OTHERS: Final = {
    "clone3": [Call((words(0, 0, 0, 0, 65, 0, 0, 0), 64), fails=True)],
    "execve": [Call((path("n"), 0, 0), fails=True)],
    "execveat": [Call((BASE, path("n"), 0, 0, 0), fails=True)],
    "wait4": [Call((-1, room(4), common.WNOHANG, room(144)), fails=True)],
    "waitid": [Call((0, 0, room(128), common.WNOHANG | common.WEXITED, room(144)), fails=True)],
    "get_robust_list": [call(0, room(8), room(8))],
    "rt_sigsuspend": [Call((words(0), 7), fails=True)],
    "rt_sigtimedwait": [Call((words(0), room(128), AT_ONCE, 8), fails=True)],
    "rt_sigqueueinfo": [Call((NOBODY, common.SIGUSR1, words(0xFFFFFFFF, 0xFFFFFFFF, 0, 0)), fails=True)],
    "rt_tgsigqueueinfo": [
        Call((NOBODY, NOBODY, common.SIGUSR1, words(0xFFFFFFFF, 0xFFFFFFFF, 0, 0)), fails=True)
    ],
}  # fmt: skip
CALLS: Final[dict[str, list[Call]]] = {
    **FILES, **NAMES, **METADATA, **PROCESS, **WAITING, **SOCKETS, **OTHERS,
}  # fmt: skip
"""By the name of the row."""
