"""What client_vm.abi.generate takes from the kernel's headers: families of constants, and structs.

Only names stand here, no value: values, offsets and sizes come from the compiler.
"""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Family:
    """Constants of some headers whose macro names match a pattern (all of it).

    `base` says how they are written: "x", "o" or "d". A leading `strip` in a name becomes `prefix`.
    `libc`: the headers are musl's, for numbers that the kernel does not export but every libc repeats.
    """

    title: str
    headers: tuple[str, ...]
    pattern: str
    base: str = "x"
    strip: str = ""
    prefix: str = ""
    libc: bool = False
    only: str = ""


@dataclass(frozen=True, slots=True)
class Layout:
    """One struct. `fields`, by spaces: NAME (an integer of the sign it has in C), ALIAS=MEMBER, and behind
    either: * (a pointer, or read as unsigned), - (read as signed), [] (bytes).

    `only`: the one architecture that has it. `code`: a declaration, where no exported header has one.
    """

    name: str
    ctype: str
    headers: tuple[str, ...]
    fields: str
    only: str = ""
    code: str = ""


FAMILIES: Final = (
    Family("open(2), fcntl(2), flock(2)", ("asm/fcntl.h", "linux/fcntl.h"), r"O_(?!NDELAY)\w+", "o"),
    Family(
        "fcntl(2), flock(2), lseek(2)",
        ("asm/fcntl.h", "linux/fcntl.h", "linux/fs.h"),
        r"(F_|FD_|LOCK_|SEEK_)\w+",
        "d",
    ),
    Family("The *at calls", ("linux/fcntl.h",), r"AT_\w+"),
    Family(
        "renameat2(2), openat2(2)",
        ("linux/fs.h", "linux/fcntl.h", "linux/openat2.h"),
        r"(RENAME|RESOLVE|RWF)_\w+",
    ),
    Family("inode(7)", ("linux/stat.h",), r"S_I(?!S[A-Z]+\b)[A-Z]+", "o"),
    Family("statx(2)", ("linux/stat.h",), r"STATX_\w+"),
    Family("utimensat(2)", ("sys/stat.h",), r"UTIME_\w+", libc=True),
    Family("access(2)", ("unistd.h",), r"[FRWX]_OK", "d", libc=True),
    Family(
        "xattr(7), limits",
        ("linux/xattr.h", "linux/limits.h", "linux/uio.h"),
        r"XATTR_(CREATE|REPLACE|\w+_MAX)|NAME_MAX|PATH_MAX|UIO_MAXIOV|ARG_MAX|LINK_MAX|NGROUPS_MAX|PIPE_BUF",
        "d",
    ),
    Family(
        "fallocate(2), posix_fadvise(2)", ("linux/falloc.h", "linux/fadvise.h"), r"(FALLOC_FL|POSIX_FADV)_\w+"
    ),
    Family("Magic numbers of file systems (statfs(2))", ("linux/magic.h",), r"\w+_MAGIC"),
    Family("mmap(2), mprotect(2)", ("asm/mman.h", "linux/mman.h"), r"(MAP|PROT|MREMAP|MS|MCL|MLOCK)_\w+"),
    Family("madvise(2)", ("asm/mman.h",), r"MADV_\w+", "d"),
    Family("memfd_create(2)", ("linux/memfd.h",), r"MFD_\w+"),
    Family("Clocks and timers", ("linux/time.h", "linux/timerfd.h"), r"(CLOCK|TIMER|ITIMER|TFD)_\w+", "d"),
    Family(
        "getrlimit(2), getrusage(2), getpriority(2)",
        ("asm/resource.h", "linux/resource.h"),
        r"(RLIMIT|RUSAGE|PRIO)_\w+|RLIM64?_(INFINITY|NLIMITS)",
        "d",
    ),
    Family("signal(7)", ("asm/signal.h",), r"SIG(?!_|RTMAX)\w+|MINSIGSTKSZ", "d"),
    Family(
        "sigaction(2), sigprocmask(2), sigaltstack(2)",
        ("linux/types.h", "asm/signal.h", "linux/signal.h"),
        r"SA_\w+|SIG_(BLOCK|UNBLOCK|SETMASK|DFL|IGN)|SS_\w+",
    ),
    Family(
        "siginfo codes (sigaction(2)), sigevent(3type)",
        ("linux/types.h", "asm/siginfo.h"),
        r"(SI|ILL|FPE|SEGV|BUS|TRAP|CLD|POLL|SIGEV)_[A-Z]\w+",
        "d",
    ),
    Family("arch_prctl(2)", ("asm/prctl.h",), r"ARCH_\w+", only="x86_64"),
    Family("prctl(2)", ("linux/const.h", "linux/prctl.h"), r"PR_\w+", "d"),
    Family("getrandom(2)", ("linux/random.h",), r"GRND_\w+"),
    Family("clone(2), sched(7)", ("linux/types.h", "linux/sched.h"), r"CLONE_\w+"),
    Family("Scheduling policies (sched(7))", ("linux/types.h", "linux/sched.h"), r"SCHED_\w+", "d"),
    Family("wait(2)", ("linux/wait.h",), r"W[A-Z]\w+|__W(NOTHREAD|ALL|CLONE)|P_\w+", strip="__"),
    Family("futex(2)", ("linux/types.h", "linux/futex.h"), r"FUTEX_\w+"),
    Family(
        "poll(2), epoll(7)",
        ("asm/poll.h", "linux/types.h", "linux/eventpoll.h"),
        r"(POLL|EPOLL(?!_PACKED))\w+",
    ),
    Family("eventfd(2)", ("sys/eventfd.h",), r"EFD_\w+", libc=True),
    Family(
        "ioctl(2): terminals, files",
        ("asm/termbits.h", "asm/ioctls.h", "linux/fs.h", "linux/sockios.h"),
        r"TC[A-Z]+\w*|TIOC(?![GS]ISO7816)\w+|FION\w+|FIO[AC]\w+|FICLONE\w*|FIGETBSZ|FIBMAP|FIFREEZE|FS_IOC_[GS]ETFLAGS|SIOC[IO]UTQ",
    ),
    Family(
        "ioctl(2): sockets, interfaces (netdevice(7))",
        ("linux/types.h", "asm/ioctls.h", "asm/sockios.h", "linux/sockios.h"),
        r"SIOC(ATMARK|INQ|OUTQ|GIF\w+|ETHTOOL)|SIOC[GS]PGRP|FIOGETOWN|FIOSETOWN",
    ),
    Family("netdevice(7): flags of interfaces", ("linux/socket.h", "linux/if.h"), r"IFF_[A-Z_]+|IFNAMSIZ"),
    Family("ip(7): addresses", ("linux/in.h",), r"INADDR_\w+|IN_LOOPBACKNET"),
    Family(
        "termios(3): flags",
        ("asm/termbits.h",),
        r"ISIG|ICANON|ECHO\w*|NOFLSH|TOSTOP|IEXTEN|OPOST|ONLCR|OCRNL|ONOCR|ONLRET|IGNBRK|BRKINT|IGNPAR|PARMRK"
        r"|INPCK|ISTRIP|INLCR|IGNCR|ICRNL|IXON|IXANY|IXOFF|IMAXBEL|IUTF8|CS[5-8]|CSIZE|CREAD|HUPCL|CLOCAL|B38400|NCCS",
    ),
    Family("termios(3): places in c_cc", ("asm/termbits.h",), r"V[A-Z]+\d?", "d"),
    Family(
        "Auxiliary vector (getauxval(3))",
        ("asm/auxvec.h", "linux/auxvec.h"),
        r"AT_(?!VECTOR)\w+",
        "d",
        "AT_",
        "AUXV_",
    ),
    Family(
        "elf(5)",
        ("linux/elf.h",),
        r"PT_(?!REGS)[A-Z]\w+|ET_[A-Z]+|EM_(386|X86_64|AARCH64|ARM|RISCV)|PF_[RWX]|ELF(CLASS|DATA|OSABI_|MAG)(NONE|\d+|[23]LSB|LINUX)"
        r"|EI_\w+|EV_\w+|GNU_PROPERTY_\w+",
    ),
    Family("elf(5): dynamic section", ("linux/elf.h",), r"DT_[A-Z]\w+"),
    Family(
        "elf(5): relocations",
        ("elf.h",),
        r"R_X86_64_(NONE|64|RELATIVE|GLOB_DAT|JUMP_SLOT|IRELATIVE|TPOFF64)",
        "d",
        libc=True,
        only="x86_64",
    ),
    Family(
        "elf(5): relocations",
        ("elf.h",),
        r"R_AARCH64_(NONE|ABS64|RELATIVE|GLOB_DAT|JUMP_SLOT|IRELATIVE|TLS_TPREL)",
        "d",
        libc=True,
        only="arm64",
    ),
    Family("socket(2)", ("sys/socket.h",), r"(AF|SOCK|SHUT|SCM)_\w+|SOMAXCONN", "d", libc=True),
    Family("unix(7)", ("linux/un.h",), r"UNIX_PATH_MAX", "d"),
    Family("socket(7)", ("asm/socket.h",), r"SO_(?!TIMESTAMP|RCVTIMEO|SNDTIMEO)\w+|SOL_SOCKET", "d"),
    Family(
        "socket(7): time values are 64-bit",
        ("sys/socket.h",),
        r"SO_(RCVTIMEO|SNDTIMEO|TIMESTAMP|TIMESTAMPNS)|SOL_(TCP|UDP|IP|IPV6|ICMPV6)",
        "d",
        libc=True,
    ),
    Family("send(2), recv(2)", ("sys/socket.h",), r"MSG_\w+", libc=True),
    Family(
        "tcp(7), ip(7), ipv6(7)",
        ("netinet/in.h", "netinet/tcp.h"),
        r"(TCP|IPPROTO|IP|IPV6)_[A-Z]\w+",
        "d",
        libc=True,
    ),
    Family("ipc: System V", ("linux/ipc.h", "linux/shm.h"), r"(IPC|SHM)_\w+"),
)

HWCAPS: Final = Family(
    "Auxiliary vector: AUXV_HWCAP, AUXV_HWCAP2", ("asm/hwcap.h",), r"HWCAP2?_\w+", only="arm64"
)

_SIGINFO = "si_signo si_errno si_code"
_SIGINFO_HEADERS = ("linux/types.h", "asm/siginfo.h")
_ACTION = "sa_handler* sa_flags sa_restorer* sa_mask=sa_mask{sig}"
_UCONTEXT = "uc_flags uc_link* ss_sp=uc_stack.ss_sp* ss_flags=uc_stack.ss_flags ss_size=uc_stack.ss_size"
_X86_REGISTERS = (
    "r8 r9 r10 r11 r12 r13 r14 r15 rdi rsi rbp rbx rdx rax rcx rsp rip eflags cs gs fs ss err trapno oldmask cr2"
)
_STAT = (
    "st_dev st_ino st_nlink st_mode st_uid st_gid st_rdev st_size st_blksize st_blocks"
    " st_atime- st_atime_nsec st_mtime- st_mtime_nsec st_ctime- st_ctime_nsec"
)
_STATX_TIMES = " ".join(
    f"stx_{t}time=stx_{t}time.tv_sec stx_{t}time_nsec=stx_{t}time.tv_nsec" for t in ("a", "b", "c", "m")
)
_MSGHDR = (
    "struct user_msghdr { void *msg_name; int msg_namelen; struct iovec *msg_iov;"
    " unsigned long msg_iovlen; void *msg_control; unsigned long msg_controllen; unsigned msg_flags; };"
)
_TCP_NUMBERS = (
    "state ca_state retransmits probes backoff options rto ato snd_mss rcv_mss unacked sacked lost retrans"
    " fackets last_data_sent last_ack_sent last_data_recv last_ack_recv pmtu rcv_ssthresh rtt rttvar"
    " snd_ssthresh snd_cwnd advmss reordering rcv_rtt rcv_space total_retrans pacing_rate max_pacing_rate"
    " bytes_acked bytes_received segs_out segs_in notsent_bytes min_rtt data_segs_in data_segs_out"
    " delivery_rate busy_time rwnd_limited sndbuf_limited delivered delivered_ce bytes_sent bytes_retrans"
    " dsack_dups reord_seen rcv_ooopack snd_wnd"
)
_TCP_INFO = " ".join(f"tcpi_{name}" for name in _TCP_NUMBERS.split())

LAYOUTS: Final = (
    Layout("stat", "struct stat", ("asm/stat.h",), _STAT),
    Layout(
        "statx",
        "struct statx",
        ("linux/stat.h",),
        "stx_mask stx_blksize stx_attributes stx_nlink stx_uid stx_gid stx_mode stx_ino stx_size stx_blocks"
        f" stx_attributes_mask {_STATX_TIMES} stx_rdev_major stx_rdev_minor stx_dev_major stx_dev_minor"
        " stx_mnt_id stx_dio_mem_align stx_dio_offset_align",
    ),
    Layout(
        "statfs",
        "struct statfs",
        ("asm/statfs.h",),
        "f_type f_bsize f_blocks f_bfree f_bavail f_files f_ffree f_fsid_0=f_fsid.val[0]*"
        " f_fsid_1=f_fsid.val[1]* f_namelen f_frsize f_flags",
    ),
    Layout("timespec", "struct __kernel_timespec", ("linux/time_types.h",), "tv_sec tv_nsec"),
    Layout("timeval", "struct __kernel_old_timeval", ("linux/time_types.h",), "tv_sec tv_usec"),
    Layout(
        "itimerval",
        "struct __kernel_old_itimerval",
        ("linux/time_types.h",),
        "interval_sec=it_interval.tv_sec interval_usec=it_interval.tv_usec"
        " value_sec=it_value.tv_sec value_usec=it_value.tv_usec",
    ),
    Layout(
        "itimerspec",
        "struct __kernel_itimerspec",
        ("linux/time_types.h",),
        "interval_sec=it_interval.tv_sec interval_nsec=it_interval.tv_nsec"
        " value_sec=it_value.tv_sec value_nsec=it_value.tv_nsec",
    ),
    Layout("timezone", "struct timezone", ("linux/time.h",), "tz_minuteswest tz_dsttime"),
    Layout("utimbuf", "struct utimbuf", ("linux/utime.h",), "actime modtime"),
    Layout("iovec", "struct iovec", ("linux/uio.h",), "iov_base* iov_len"),
    Layout(
        "msghdr",
        "struct user_msghdr",
        ("linux/uio.h",),
        "msg_name* msg_namelen msg_iov* msg_iovlen msg_control* msg_controllen msg_flags",
        code=_MSGHDR,
    ),
    Layout(
        "cmsghdr",
        "struct cmsghdr",
        ("linux/types.h",),
        "cmsg_len cmsg_level cmsg_type",
        code="struct cmsghdr { unsigned long cmsg_len; int cmsg_level, cmsg_type; };",
    ),
    Layout(
        "mmsghdr",
        "struct mmsghdr",
        ("linux/uio.h",),
        "msg_name=msg_hdr.msg_name* msg_namelen=msg_hdr.msg_namelen msg_iov=msg_hdr.msg_iov*"
        " msg_iovlen=msg_hdr.msg_iovlen msg_control=msg_hdr.msg_control*"
        " msg_controllen=msg_hdr.msg_controllen msg_flags=msg_hdr.msg_flags msg_len",
        code=_MSGHDR + "struct mmsghdr { struct user_msghdr msg_hdr; unsigned msg_len; };",
    ),
    Layout("sockaddr_un", "struct sockaddr_un", ("linux/un.h",), "sun_family sun_path[]"),
    Layout(
        "sockaddr_in",
        "struct sockaddr_in",
        ("linux/in.h",),
        "sin_family sin_port[] sin_addr=sin_addr.s_addr[]",
    ),
    Layout(
        "sockaddr_in6",
        "struct sockaddr_in6",
        ("linux/in6.h",),
        "sin6_family sin6_port[] sin6_flowinfo[] sin6_addr[] sin6_scope_id",
    ),
    Layout(
        "ucred",
        "struct ucred",
        ("linux/types.h",),
        "pid uid gid",
        code="struct ucred { int pid; unsigned uid, gid; };",
    ),
    Layout(
        "linger",
        "struct linger",
        ("linux/types.h",),
        "l_onoff l_linger",
        code="struct linger { int l_onoff, l_linger; };",
    ),
    Layout(
        "ip_mreqn",
        "struct ip_mreqn",
        ("linux/in.h",),
        "imr_multiaddr=imr_multiaddr.s_addr[] imr_address=imr_address.s_addr[] imr_ifindex",
    ),
    Layout("ipv6_mreq", "struct ipv6_mreq", ("linux/in6.h",), "ipv6mr_multiaddr[] ipv6mr_ifindex"),
    Layout(
        "in_pktinfo",
        "struct in_pktinfo",
        ("linux/in.h",),
        "ipi_ifindex ipi_spec_dst=ipi_spec_dst.s_addr[] ipi_addr=ipi_addr.s_addr[]",
    ),
    Layout("in6_pktinfo", "struct in6_pktinfo", ("linux/in6.h", "linux/ipv6.h"), "ipi6_addr[] ipi6_ifindex"),
    Layout(
        "sock_extended_err",
        "struct sock_extended_err",
        ("linux/types.h",),
        "ee_errno ee_origin ee_type ee_code ee_info ee_data",
        code="struct sock_extended_err { __u32 ee_errno; __u8 ee_origin, ee_type, ee_code, ee_pad;"
        " __u32 ee_info, ee_data; };",
    ),
    Layout("tcp_info", "struct tcp_info", ("linux/types.h", "linux/tcp.h"), _TCP_INFO),
    Layout(
        "ifreq",
        "struct ifreq",
        ("linux/socket.h", "linux/if.h"),
        "ifr_name=ifr_ifrn.ifrn_name[] ifr_data=ifr_ifru.ifru_map[]",
    ),
    Layout("ifconf", "struct ifconf", ("linux/socket.h", "linux/if.h"), "ifc_len ifc_buf=ifc_ifcu.ifcu_buf*"),
    Layout("rlimit", "struct rlimit64", ("linux/resource.h",), "rlim_cur rlim_max"),
    Layout(
        "rusage",
        "struct rusage",
        ("linux/resource.h",),
        "utime_sec=ru_utime.tv_sec utime_usec=ru_utime.tv_usec"
        " stime_sec=ru_stime.tv_sec stime_usec=ru_stime.tv_usec"
        " ru_maxrss ru_ixrss ru_idrss ru_isrss ru_minflt ru_majflt ru_nswap ru_inblock ru_oublock"
        " ru_msgsnd ru_msgrcv ru_nsignals ru_nvcsw ru_nivcsw",
    ),
    Layout(
        "sysinfo",
        "struct sysinfo",
        ("linux/sysinfo.h",),
        "uptime loads_0=loads[0] loads_1=loads[1] loads_2=loads[2] totalram freeram sharedram bufferram"
        " totalswap freeswap procs totalhigh freehigh mem_unit",
    ),
    Layout("tms", "struct tms", ("linux/times.h",), "tms_utime tms_stime tms_cutime tms_cstime"),
    Layout(
        "utsname",
        "struct new_utsname",
        ("linux/utsname.h",),
        "sysname[] nodename[] release[] version[] machine[] domainname[]",
    ),
    Layout(
        "dirent64",
        "struct dirent64",
        ("linux/types.h",),
        "d_ino d_off d_reclen d_type",
        code="struct dirent64 { __u64 d_ino; __s64 d_off; __u16 d_reclen; __u8 d_type; }"
        " __attribute__((packed));",
    ),
    Layout(
        "dirent",
        "struct dirent",
        ("linux/types.h",),
        "d_ino d_off d_reclen",
        code="struct dirent { unsigned long d_ino, d_off; __u16 d_reclen; } __attribute__((packed));",
    ),
    Layout("termios", "struct termios", ("asm/termbits.h",), "c_iflag c_oflag c_cflag c_lflag c_line c_cc[]"),
    Layout("winsize", "struct winsize", ("asm/termios.h",), "ws_row ws_col ws_xpixel ws_ypixel"),
    Layout(
        "sigaction",
        "struct sigaction",
        ("linux/types.h", "asm/signal.h"),
        _ACTION.format(sig=""),
        only="x86_64",
    ),
    Layout(
        "sigaction",
        "struct sigaction",
        ("linux/types.h", "asm/signal.h"),
        _ACTION.format(sig=".sig[0]"),
        only="arm64",
    ),
    Layout("sigaltstack", "stack_t", ("linux/types.h", "asm/signal.h"), "ss_sp* ss_flags ss_size"),
    Layout("siginfo", "siginfo_t", _SIGINFO_HEADERS, _SIGINFO),
    Layout(
        "siginfo_kill",
        "siginfo_t",
        _SIGINFO_HEADERS,
        f"{_SIGINFO} pid=_sifields._kill._pid uid=_sifields._kill._uid",
    ),
    Layout(
        "siginfo_timer",
        "siginfo_t",
        _SIGINFO_HEADERS,
        f"{_SIGINFO} timerid=_sifields._timer._tid overrun=_sifields._timer._overrun"
        " value=_sifields._timer._sigval.sival_ptr*",
    ),
    Layout(
        "sigevent",
        "sigevent_t",
        _SIGINFO_HEADERS,
        "sigev_value=sigev_value.sival_ptr* sigev_signo sigev_notify tid=_sigev_un._tid",
    ),
    Layout(
        "siginfo_queue",
        "siginfo_t",
        _SIGINFO_HEADERS,
        f"{_SIGINFO} pid=_sifields._rt._pid uid=_sifields._rt._uid value=_sifields._rt._sigval.sival_ptr*",
    ),
    Layout(
        "siginfo_child",
        "siginfo_t",
        _SIGINFO_HEADERS,
        f"{_SIGINFO} pid=_sifields._sigchld._pid uid=_sifields._sigchld._uid"
        " status=_sifields._sigchld._status"
        " utime=_sifields._sigchld._utime stime=_sifields._sigchld._stime",
    ),
    Layout("siginfo_fault", "siginfo_t", _SIGINFO_HEADERS, f"{_SIGINFO} addr=_sifields._sigfault._addr*"),
    Layout(
        "siginfo_poll",
        "siginfo_t",
        _SIGINFO_HEADERS,
        f"{_SIGINFO} band=_sifields._sigpoll._band fd=_sifields._sigpoll._fd",
    ),
    Layout(
        "siginfo_sys",
        "siginfo_t",
        _SIGINFO_HEADERS,
        f"{_SIGINFO} call_addr=_sifields._sigsys._call_addr* syscall=_sifields._sigsys._syscall"
        " arch=_sifields._sigsys._arch",
    ),
    Layout(
        "ucontext",
        "struct ucontext",
        ("linux/types.h", "asm/signal.h", "asm/sigcontext.h", "asm/ucontext.h"),
        f"{_UCONTEXT} "
        + " ".join(f"{r}=uc_mcontext.{r}" for r in _X86_REGISTERS.split())
        + " fpstate=uc_mcontext.fpstate* uc_sigmask",
        only="x86_64",
    ),
    Layout(
        "ucontext",
        "struct ucontext",
        ("linux/types.h", "asm/signal.h", "asm/sigcontext.h", "asm/ucontext.h"),
        f"{_UCONTEXT} uc_sigmask=uc_sigmask.sig[0] fault_address=uc_mcontext.fault_address "
        + " ".join(f"x{i}=uc_mcontext.regs[{i}]" for i in range(31))
        + " sp=uc_mcontext.sp pc=uc_mcontext.pc pstate=uc_mcontext.pstate",
        only="arm64",
    ),
    Layout(
        "fpsimd_context",
        "struct fpsimd_context",
        ("linux/types.h", "asm/sigcontext.h"),
        "magic=head.magic size=head.size fpsr fpcr vregs[]",
        only="arm64",
    ),
    Layout("pollfd", "struct pollfd", ("asm/poll.h",), "fd events revents"),
    Layout("epoll_event", "struct epoll_event", ("linux/types.h", "linux/eventpoll.h"), "events data"),
    Layout("flock", "struct flock", ("linux/types.h", "linux/fcntl.h"), "l_type l_whence l_start l_len l_pid"),
    Layout("f_owner_ex", "struct f_owner_ex", ("linux/types.h", "linux/fcntl.h"), "type pid"),
    Layout(
        "robust_list_head",
        "struct robust_list_head",
        ("linux/types.h", "linux/futex.h"),
        "list_next=list.next* futex_offset list_op_pending*",
    ),
    Layout(
        "clone_args",
        "struct clone_args",
        ("linux/types.h", "linux/sched.h"),
        "flags pidfd child_tid parent_tid exit_signal stack stack_size tls set_tid set_tid_size cgroup",
    ),
    Layout("open_how", "struct open_how", ("linux/openat2.h",), "flags mode resolve"),
    Layout(
        "sched_param",
        "struct sched_param",
        ("linux/types.h",),
        "sched_priority",
        code="struct sched_param { int sched_priority; };",
    ),
    Layout(
        "elf64_ehdr",
        "Elf64_Ehdr",
        ("linux/elf.h",),
        "e_ident[] e_type e_machine e_version e_entry e_phoff e_shoff e_flags e_ehsize e_phentsize e_phnum"
        " e_shentsize e_shnum e_shstrndx",
    ),
    Layout(
        "elf64_phdr",
        "Elf64_Phdr",
        ("linux/elf.h",),
        "p_type p_flags p_offset p_vaddr p_paddr p_filesz p_memsz p_align",
    ),
    Layout("elf64_dyn", "Elf64_Dyn", ("linux/elf.h",), "d_tag d_val=d_un.d_val"),
    Layout("elf64_rela", "Elf64_Rela", ("linux/elf.h",), "r_offset r_info r_addend"),
    Layout(
        "auxv_entry",
        "struct auxv_entry",
        ("linux/types.h",),
        "a_type a_val",
        code="struct auxv_entry { unsigned long a_type, a_val; };",
    ),
)
