"""The syscall table: one row per syscall, for both architectures; everything else is derived from it.

Numbers come from the kernel's headers by name (client_vm.abi). A name that one architecture lacks simply
has no number there. To add a call: write its handler in client_vm/syscalls, add its row here.
"""

from client_vm.abi import common
from client_vm.abi.common import ENOSYS, EPERM
from client_vm.arguments import (
    ADDRESS,
    FD,
    ID,
    IN_BUFFER,
    INT,
    IOVEC,
    MODE,
    NAME,
    OFFSET,
    OPTIONAL_IN_BUFFER,
    OPTIONAL_OUT_BUFFER,
    OPTIONAL_PATH,
    OUT_BUFFER,
    PATH,
    PID,
    SIZE,
    UINT,
    ULONG,
    in_struct,
    out_abi_struct,
    out_struct,
)  # fmt: skip
from client_vm.rows import TABLE
from client_vm.syscalls import (
    children,
    clocks,
    control,
    copying,
    created_timers,
    events,
    execution,
    files,
    identity,
    locks,
    memory,
    messages,
    metadata,
    names,
    pidfds,
    pipes,
    polling,
    processes,
    signalling,
    sockets,
    threads,
    xattrs,
)

row, refuse = TABLE.row, TABLE.refuse

_STAT = out_abi_struct("stat")
_TIMESPEC = in_struct(common.timespec)
_TIMESPEC_OUT = out_struct(common.timespec)

# Open files. Of the length of a vector the kernel looks at 32 bits only (lib/iov_iter.c: import_iovec).
row("read", files.read, FD, OUT_BUFFER, SIZE)
row("write", files.write, FD, IN_BUFFER, SIZE)
row("pread64", files.pread64, FD, OUT_BUFFER, SIZE, OFFSET)
row("pwrite64", files.pwrite64, FD, IN_BUFFER, SIZE, OFFSET)
row("readv", files.readv, FD, IOVEC, UINT)
row("writev", files.writev, FD, IOVEC, UINT)
row("preadv", files.preadv, FD, IOVEC, UINT, OFFSET, ULONG)
row("pwritev", files.pwritev, FD, IOVEC, UINT, OFFSET, ULONG)
row("preadv2", files.preadv2, FD, IOVEC, UINT, OFFSET, ULONG, INT)
row("pwritev2", files.pwritev2, FD, IOVEC, UINT, OFFSET, ULONG, INT)
row("open", files.open_, PATH, INT, MODE)
row("openat", files.openat, FD, PATH, INT, MODE)
row("openat2", files.openat2, FD, PATH, IN_BUFFER, SIZE, partial="RESOLVE_* are EINVAL")
row("creat", files.creat, PATH, MODE)
row("close", files.close, FD)
row("close_range", files.close_range, UINT, UINT, UINT)
row("lseek", files.lseek, FD, OFFSET, UINT)
row("ftruncate", files.ftruncate, FD, OFFSET)
row("fallocate", files.fallocate, FD, INT, OFFSET, OFFSET, partial="allocates, punches holes; no collapse")
row("fsync", files.fsync, FD)
row("fdatasync", files.fsync, FD)
row("fadvise64", files.fadvise64, FD, OFFSET, OFFSET, INT)
row("readahead", files.readahead, FD, OFFSET, SIZE)
row("sendfile", copying.sendfile, FD, FD, OPTIONAL_OUT_BUFFER, SIZE)
row(
    "copy_file_range", copying.copy_file_range,
    FD, OPTIONAL_OUT_BUFFER, FD, OPTIONAL_OUT_BUFFER, SIZE, UINT,
)  # fmt: skip
row("dup", control.dup, FD)
row("dup2", control.dup2, FD, FD)
row("dup3", control.dup3, FD, FD, INT)
row("fcntl", control.fcntl, FD, UINT, ULONG, partial="no leases, no O_ASYNC")
row(
    "ioctl",
    control.ioctl,
    FD,
    UINT,
    OUT_BUFFER,
    partial="terminals, FIONREAD, FIONBIO; no SIGIO",
)

row("pipe", pipes.pipe, OUT_BUFFER)
row("pipe2", pipes.pipe2, OUT_BUFFER, INT)
row(
    "splice", copying.splice,
    FD, OPTIONAL_OUT_BUFFER, FD, OPTIONAL_OUT_BUFFER, SIZE, UINT,
)  # fmt: skip
row("tee", copying.tee, FD, FD, SIZE, UINT)
row("vmsplice", copying.vmsplice, FD, IOVEC, ULONG, UINT)
row("flock", locks.flock, FD, UINT, partial="files of the file server")

# Sockets.
row("socket", sockets.socket, INT, INT, INT, partial="AF_UNIX, AF_INET and AF_INET6")
row("socketpair", sockets.socketpair, INT, INT, INT, OUT_BUFFER)
row("bind", sockets.bind, FD, IN_BUFFER, INT)
row("listen", sockets.listen, FD, INT)
row("accept", sockets.accept, FD, OPTIONAL_OUT_BUFFER, OPTIONAL_OUT_BUFFER)
row("accept4", sockets.accept4, FD, OPTIONAL_OUT_BUFFER, OPTIONAL_OUT_BUFFER, INT)
row("connect", sockets.connect, FD, IN_BUFFER, INT)
row("shutdown", sockets.shutdown, FD, INT)
row("getsockname", sockets.getsockname, FD, OUT_BUFFER, OUT_BUFFER)
row("getpeername", sockets.getpeername, FD, OUT_BUFFER, OUT_BUFFER)
_OPTIONS = "no filters, no SO_MARK, SO_BINDTODEVICE, SO_PEERGROUPS, SO_PEERSEC"
row("getsockopt", sockets.getsockopt, FD, INT, INT, OUT_BUFFER, OUT_BUFFER, partial=_OPTIONS)
row("setsockopt", sockets.setsockopt, FD, INT, INT, IN_BUFFER, INT, partial=_OPTIONS)
row("sendto", messages.sendto, FD, IN_BUFFER, SIZE, UINT, OPTIONAL_IN_BUFFER, INT)
row(
    "recvfrom", messages.recvfrom,
    FD, OUT_BUFFER, SIZE, UINT, OPTIONAL_OUT_BUFFER, OPTIONAL_OUT_BUFFER,
)  # fmt: skip
_RIGHTS = "SCM_RIGHTS of epoll instances, signalfd, pidfds and what /proc has is EOPNOTSUPP"
row("sendmsg", messages.sendmsg, FD, IN_BUFFER, UINT, partial=_RIGHTS)
row("sendmmsg", messages.sendmmsg, FD, OUT_BUFFER, UINT, UINT, partial=_RIGHTS)
row("recvmsg", messages.recvmsg, FD, OUT_BUFFER, UINT)
row("recvmmsg", messages.recvmmsg, FD, OUT_BUFFER, UINT, UINT, OPTIONAL_OUT_BUFFER)

# Waiting for many.
row("poll", polling.poll, OUT_BUFFER, UINT, INT)
row("ppoll", polling.ppoll, OUT_BUFFER, UINT, OPTIONAL_OUT_BUFFER, IN_BUFFER, SIZE)
row("select", polling.select, INT, ADDRESS, ADDRESS, ADDRESS, OPTIONAL_OUT_BUFFER)
row("pselect6", polling.pselect6, INT, ADDRESS, ADDRESS, ADDRESS, OPTIONAL_OUT_BUFFER, ADDRESS)
row("epoll_create", events.epoll_create, INT)
row("epoll_create1", events.epoll_create1, INT)
row("epoll_ctl", events.epoll_ctl, FD, INT, FD, IN_BUFFER)
row("epoll_wait", events.epoll_wait, FD, OUT_BUFFER, INT, INT)
row("epoll_pwait", events.epoll_pwait, FD, OUT_BUFFER, INT, INT, IN_BUFFER, SIZE)
row("epoll_pwait2", events.epoll_pwait2, FD, OUT_BUFFER, INT, OPTIONAL_OUT_BUFFER, IN_BUFFER, SIZE)
row("eventfd", events.eventfd, UINT)
row("eventfd2", events.eventfd2, UINT, INT)
row("timerfd_create", events.timerfd_create, INT, INT)
row(
    "timerfd_settime", events.timerfd_settime,
    FD, INT, IN_BUFFER, out_struct(common.itimerspec, optional=True),
)  # fmt: skip
row("timerfd_gettime", events.timerfd_gettime, FD, out_struct(common.itimerspec))
row("signalfd", events.signalfd, FD, IN_BUFFER, SIZE)
row("signalfd4", events.signalfd4, FD, IN_BUFFER, SIZE, INT)

# Names.
row("mkdir", names.mkdir, PATH, MODE)
row("mkdirat", names.mkdirat, FD, PATH, MODE)
row("mknod", names.mknod, PATH, MODE, UINT, partial="devices are EPERM")
row("mknodat", names.mknodat, FD, PATH, MODE, UINT, partial="devices are EPERM")
row("rmdir", names.rmdir, PATH)
row("unlink", names.unlink, PATH)
row("unlinkat", names.unlinkat, FD, PATH, INT)
row("rename", names.rename, PATH, PATH)
row("renameat", names.renameat, FD, PATH, FD, PATH)
row("renameat2", names.renameat2, FD, PATH, FD, PATH, UINT, partial="no RENAME_WHITEOUT")
row("link", names.link, PATH, PATH)
row("linkat", names.linkat, FD, PATH, FD, PATH, INT)
row("symlink", names.symlink, PATH, PATH)
row("symlinkat", names.symlinkat, PATH, FD, PATH)
row("readlink", names.readlink, PATH, OUT_BUFFER, INT)
row("readlinkat", names.readlinkat, FD, PATH, OUT_BUFFER, INT)
row("getdents", names.getdents, FD, OUT_BUFFER, UINT)
row("getdents64", names.getdents64, FD, OUT_BUFFER, UINT)
row("getcwd", names.getcwd, OUT_BUFFER, SIZE)
row("chdir", names.chdir, PATH)
row("fchdir", names.fchdir, FD)

# What is known about objects.
row("stat", metadata.stat, PATH, _STAT)
row("lstat", metadata.lstat, PATH, _STAT)
row("fstat", metadata.fstat, FD, _STAT)
row("newfstatat", metadata.newfstatat, FD, PATH, _STAT, INT)
row("statx", metadata.statx, FD, PATH, INT, UINT, out_struct(common.statx))
row("access", metadata.access, PATH, INT)
row("faccessat", metadata.faccessat, FD, PATH, INT)
row("faccessat2", metadata.faccessat2, FD, PATH, INT, INT)
row("chmod", metadata.chmod, PATH, MODE)
row("fchmod", metadata.fchmod, FD, MODE)
row("fchmodat", metadata.fchmodat, FD, PATH, MODE)
row("fchmodat2", metadata.fchmodat2, FD, PATH, MODE, UINT)
row("chown", metadata.chown, PATH, ID, ID)
row("lchown", metadata.lchown, PATH, ID, ID)
row("fchown", metadata.fchown, FD, ID, ID)
row("fchownat", metadata.fchownat, FD, PATH, ID, ID, INT)
row("truncate", metadata.truncate, PATH, OFFSET)
row("utime", metadata.utime, PATH, in_struct(common.utimbuf, optional=True))
row("utimes", metadata.utimes, PATH, IN_BUFFER)
row("futimesat", metadata.futimesat, FD, OPTIONAL_PATH, IN_BUFFER)
row("utimensat", metadata.utimensat, FD, OPTIONAL_PATH, IN_BUFFER, INT)
row("statfs", metadata.statfs, PATH, out_struct(common.statfs))
row("fstatfs", metadata.fstatfs, FD, out_struct(common.statfs))
row("sync", metadata.sync)
row("syncfs", metadata.syncfs, FD)
row("umask", metadata.umask, INT)
row("setxattr", xattrs.setxattr, PATH, NAME, IN_BUFFER, SIZE, INT)
row("lsetxattr", xattrs.lsetxattr, PATH, NAME, IN_BUFFER, SIZE, INT)
row("fsetxattr", xattrs.fsetxattr, FD, NAME, IN_BUFFER, SIZE, INT)
row("getxattr", xattrs.getxattr, PATH, NAME, OUT_BUFFER, SIZE)
row("lgetxattr", xattrs.lgetxattr, PATH, NAME, OUT_BUFFER, SIZE)
row("fgetxattr", xattrs.fgetxattr, FD, NAME, OUT_BUFFER, SIZE)
row("listxattr", xattrs.listxattr, PATH, OUT_BUFFER, SIZE)
row("llistxattr", xattrs.llistxattr, PATH, OUT_BUFFER, SIZE)
row("flistxattr", xattrs.flistxattr, FD, OUT_BUFFER, SIZE)
row("removexattr", xattrs.removexattr, PATH, NAME)
row("lremovexattr", xattrs.lremovexattr, PATH, NAME)
row("fremovexattr", xattrs.fremovexattr, FD, NAME)

# Memory.
row("brk", memory.brk, ADDRESS)
row("mmap", memory.mmap, ADDRESS, SIZE, ULONG, ULONG, FD, ULONG, partial="no huge pages")
row("memfd_create", memory.memfd_create, NAME, UINT, partial="no huge pages")
row("munmap", memory.munmap, ADDRESS, SIZE)
row("mprotect", memory.mprotect, ADDRESS, SIZE, ULONG)
row("mremap", memory.mremap, ADDRESS, SIZE, SIZE, ULONG, ADDRESS, partial="no MREMAP_DONTUNMAP")
row(
    "madvise",
    memory.madvise,
    ADDRESS,
    SIZE,
    INT,
    partial="MADV_DONTNEED, *FORK and hints",
)
row("msync", memory.msync, ADDRESS, SIZE, INT)
row("mlock", memory.mlock, ADDRESS, SIZE)
row("munlock", memory.munlock, ADDRESS, SIZE)
row("mincore", memory.mincore, ADDRESS, SIZE, OUT_BUFFER)

# Time.
row("clock_gettime", clocks.clock_gettime, INT, _TIMESPEC_OUT)
row("clock_getres", clocks.clock_getres, INT, out_struct(common.timespec, optional=True))
row(
    "gettimeofday", clocks.gettimeofday,
    out_struct(common.timeval, optional=True), out_struct(common.timezone, optional=True),
)  # fmt: skip
row("time", clocks.time, OPTIONAL_OUT_BUFFER)
row("nanosleep", clocks.nanosleep, _TIMESPEC, out_struct(common.timespec, optional=True))
row(
    "clock_nanosleep", clocks.clock_nanosleep,
    INT, INT, _TIMESPEC, out_struct(common.timespec, optional=True),
)  # fmt: skip
row("times", clocks.times, out_struct(common.tms, optional=True))

# The process.
row("getpid", processes.getpid)
row("getppid", children.getppid)
row("gettid", threads.gettid)
row("getpgrp", children.getpgrp)
row("getpgid", children.getpgid, PID)
row("getsid", children.getsid, PID)
row("setpgid", children.setpgid, PID, PID)
row("setsid", children.setsid)
row("getuid", identity.getuid)
row("geteuid", identity.geteuid)
row("getgid", identity.getgid)
row("getegid", identity.getegid)
row("getresuid", identity.getresuid, OUT_BUFFER, OUT_BUFFER, OUT_BUFFER)
row("getresgid", identity.getresgid, OUT_BUFFER, OUT_BUFFER, OUT_BUFFER)
row("getgroups", identity.getgroups, INT, OUT_BUFFER)
_OWN = "ids that the process has"
row("setuid", identity.setuid, ID, partial=_OWN)
row("setgid", identity.setgid, ID, partial=_OWN)
row("setreuid", identity.setreuid, ID, ID, partial=_OWN)
row("setregid", identity.setregid, ID, ID, partial=_OWN)
row("setresuid", identity.setresuid, ID, ID, ID, partial=_OWN)
row("setresgid", identity.setresgid, ID, ID, ID, partial=_OWN)
row("setfsuid", identity.setfsuid, ID, partial=_OWN)
row("setfsgid", identity.setfsgid, ID, partial=_OWN)
row("setgroups", identity.setgroups, INT, IN_BUFFER, partial="groups that the process has")
row(
    "prlimit64", processes.prlimit64,
    PID, INT, in_struct(common.rlimit, optional=True), out_struct(common.rlimit, optional=True),
    partial="its own process only",
)  # fmt: skip
row("getrlimit", processes.getrlimit, INT, out_struct(common.rlimit))
row("setrlimit", processes.setrlimit, INT, in_struct(common.rlimit))
row(
    "getrusage",
    processes.getrusage,
    INT,
    out_struct(common.rusage),
    partial="of a thread: as of its process; of children: CPU time only",
)
row("getpriority", processes.getpriority, INT, INT, partial="its own process only")
row("setpriority", processes.setpriority, INT, INT, INT, partial="its own process only")
row("sysinfo", processes.sysinfo, out_struct(common.sysinfo))
row("uname", processes.uname, out_struct(common.utsname))
row("sched_getaffinity", processes.sched_getaffinity, PID, UINT, OUT_BUFFER, partial="its own process only")
row("sched_setaffinity", processes.sched_setaffinity, PID, UINT, IN_BUFFER, partial="its own process only")
row("sched_yield", processes.sched_yield)
row("getcpu", processes.getcpu, OPTIONAL_OUT_BUFFER, OPTIONAL_OUT_BUFFER)
row("getrandom", processes.getrandom, OUT_BUFFER, SIZE, UINT)
row("arch_prctl", processes.arch_prctl, INT, ADDRESS)
row("prctl", processes.prctl, INT, ULONG, ULONG, ULONG, ULONG, partial="the task's name, dumpable")

# Processes and threads.
row("fork", children.fork)
row("vfork", children.vfork)
row("clone", children.clone, ULONG, ADDRESS, ADDRESS, ADDRESS, ADDRESS, partial="no namespaces")
row("clone3", children.clone3, IN_BUFFER, SIZE, partial="no namespaces")
row("execve", execution.execve, PATH, ADDRESS, ADDRESS)
row("execveat", execution.execveat, FD, PATH, ADDRESS, ADDRESS, INT)
row(
    "wait4", children.wait4,
    PID, OPTIONAL_OUT_BUFFER, UINT, out_struct(common.rusage, optional=True),
)  # fmt: skip
row(
    "waitid", children.waitid,
    INT, PID, OPTIONAL_OUT_BUFFER, UINT, out_struct(common.rusage, optional=True),
)  # fmt: skip
row("pidfd_open", pidfds.pidfd_open, PID, UINT)
row("pidfd_send_signal", pidfds.pidfd_send_signal, FD, INT, IN_BUFFER, UINT)
refuse("pidfd_getfd", EPERM, "it needs the rights of a debugger, which farcall does not offer")
row("exit", threads.exit_, INT)
row("exit_group", children.exit_group, INT)
row("set_tid_address", threads.set_tid_address, ADDRESS)
row("set_robust_list", threads.set_robust_list, ADDRESS, SIZE)
row("get_robust_list", threads.get_robust_list, PID, OUT_BUFFER, OUT_BUFFER, partial="its own process only")
row(
    "futex", threads.futex, ADDRESS, INT, UINT, ULONG, ADDRESS, UINT,
    partial="no priority inheritance",
)  # fmt: skip

# Signals.
row(
    "rt_sigaction", signalling.rt_sigaction,
    INT, in_struct(common.sigaction, optional=True), out_struct(common.sigaction, optional=True), SIZE,
)  # fmt: skip
row("rt_sigprocmask", signalling.rt_sigprocmask, INT, IN_BUFFER, OUT_BUFFER, SIZE)
row("rt_sigpending", signalling.rt_sigpending, OUT_BUFFER, SIZE)
row("rt_sigreturn", signalling.rt_sigreturn)
row("rt_sigsuspend", signalling.rt_sigsuspend, IN_BUFFER, SIZE)
row(
    "rt_sigtimedwait", signalling.rt_sigtimedwait,
    IN_BUFFER, OPTIONAL_OUT_BUFFER, in_struct(common.timespec, optional=True), SIZE,
)  # fmt: skip
row("rt_sigqueueinfo", signalling.rt_sigqueueinfo, PID, INT, IN_BUFFER)
row("rt_tgsigqueueinfo", signalling.rt_tgsigqueueinfo, PID, PID, INT, IN_BUFFER)
row("pause", signalling.pause)
row(
    "sigaltstack", signalling.sigaltstack,
    in_struct(common.sigaltstack, optional=True), out_struct(common.sigaltstack, optional=True),
)  # fmt: skip
row("kill", signalling.kill, PID, INT)
row("tkill", signalling.tkill, PID, INT)
row("tgkill", signalling.tgkill, PID, PID, INT)
row("alarm", clocks.alarm, UINT)
row(
    "setitimer", clocks.setitimer,
    INT, in_struct(common.itimerval, optional=True), out_struct(common.itimerval, optional=True),
)  # fmt: skip
row(
    "timer_create", created_timers.timer_create,
    INT, in_struct(common.sigevent, optional=True), OUT_BUFFER,
)  # fmt: skip
row(
    "timer_settime", created_timers.timer_settime,
    INT, INT, in_struct(common.itimerspec, optional=True), out_struct(common.itimerspec, optional=True),
)  # fmt: skip
row("timer_gettime", created_timers.timer_gettime, INT, out_struct(common.itimerspec))
row("timer_getoverrun", created_timers.timer_getoverrun, INT)
row("timer_delete", created_timers.timer_delete, INT)
row("getitimer", clocks.getitimer, INT, out_struct(common.itimerval))

# Refused for good, each for a reason.
refuse("rseq", ENOSYS, "C libraries run without it")
refuse("io_uring_setup", ENOSYS, "programs fall back to read and write")
refuse("userfaultfd", ENOSYS, "the MMU is farcall's own")
refuse("inotify_init", ENOSYS, "programs fall back to looking again; the file server tells no events yet")
refuse("inotify_init1", ENOSYS, "as inotify_init")
refuse("fanotify_init", ENOSYS, "as inotify_init; it needs CAP_SYS_ADMIN")
