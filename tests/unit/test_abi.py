"""The generated ABI: fresh, right where known, and what the host's own kernel speaks."""

import ctypes
import errno
import os
import platform
import signal
import struct
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from client_vm.abi import arm64, common, generate, x86_64
from client_vm.abi.layout import Struct

TABLES = {"x86_64": x86_64, "arm64": arm64}
HOST = TABLES["x86_64" if platform.machine() == "x86_64" else "arm64"]
TRIPLES = {target.name: target.triple for target in generate.TARGETS}
LIBC = ctypes.CDLL(None, use_errno=True)


def host_call(name: str, *arguments: object) -> int:
    """A system call of the host's kernel, by the number in our table."""
    result = LIBC.syscall(ctypes.c_long(HOST.SYSCALLS[name]), *arguments)
    assert result >= 0, os.strerror(ctypes.get_errno())
    return int(result)


@pytest.fixture(scope="module")
def generated() -> dict[str, str]:
    return generate.generate()


def test_committed_modules_are_fresh(generated: dict[str, str]) -> None:
    assert generate.stale(generated) == []


def test_a_changed_number_is_stale_even_under_another_ziglang(generated: dict[str, str], tmp_path: Path) -> None:
    for name, text in generated.items():
        (tmp_path / name).write_text(text.replace("of ziglang ", "of ziglang 0.0.", 1))
    assert generate.stale(generated, tmp_path) == []
    wrong = (tmp_path / "arm64.py").read_text().replace('"read": 63', '"read": 64')
    (tmp_path / "arm64.py").write_text(wrong)
    (tmp_path / "common.py").unlink()
    assert generate.stale(generated, tmp_path) == ["common.py", "arm64.py"]


@pytest.mark.parametrize(
    ("name", "x86", "arm"),
    [
        ("read", 0, 63),
        ("write", 1, 64),
        ("open", 2, None),
        ("openat", 257, 56),
        ("mmap", 9, 222),
        ("exit_group", 231, 94),
        ("newfstatat", 262, 79),
        ("fstat", 5, 80),
        ("lseek", 8, 62),
        ("fcntl", 72, 25),
        ("renameat", 264, 38),
        ("clone3", 435, 435),
        ("arch_prctl", 158, None),
    ],
)
def test_known_syscall_numbers(name: str, x86: int | None, arm: int | None) -> None:
    assert (x86_64.SYSCALLS.get(name), arm64.SYSCALLS.get(name)) == (x86, arm)


def test_arm64_has_no_syscall_of_its_own() -> None:
    assert arm64.SYSCALLS.keys() <= x86_64.SYSCALLS.keys()
    for table in TABLES.values():
        assert len(set(table.SYSCALLS.values())) == len(table.SYSCALLS) > 300


def test_where_the_architectures_differ() -> None:
    assert (x86_64.O_DIRECTORY, arm64.O_DIRECTORY) == (0o200000, 0o40000)
    assert (x86_64.O_NOFOLLOW, arm64.O_NOFOLLOW) == (0o400000, 0o100000)
    assert (x86_64.O_DIRECT, arm64.O_DIRECT) == (0o40000, 0o200000)
    assert (x86_64.O_LARGEFILE, arm64.O_LARGEFILE) == (0o100000, 0o400000)
    assert (x86_64.stat.size, arm64.stat.size) == (144, 128)
    assert (x86_64.epoll_event.size, arm64.epoll_event.size) == (12, 16)
    for name in ("O_DIRECTORY", "O_NOFOLLOW", "O_DIRECT", "O_LARGEFILE", "O_TMPFILE", "stat"):
        assert not hasattr(common, name)


def test_no_name_stands_in_two_modules_unless_it_differs() -> None:
    ours = {name for name in vars(common) if name not in ("Final", "Struct") and not name.startswith("__")}
    for table in TABLES.values():
        assert not ours & vars(table).keys()


def test_sizes_of_structs() -> None:
    sizes = {"statx": 256, "statfs": 120, "timespec": 16, "iovec": 16, "rusage": 144, "sysinfo": 112}
    sizes |= {"utsname": 390, "termios": 36, "sigaction": 32, "siginfo": 128, "clone_args": 88, "tms": 32}
    sizes |= {"elf64_ehdr": 64, "elf64_phdr": 56, "dirent64": 19, "flock": 32, "robust_list_head": 24}
    assert {name: getattr(common, name).size for name in sizes} == sizes


def test_errno_and_signals_are_pythons() -> None:
    ours = {name: value for name, value in vars(common).items() if name in errno.errorcode.values()}
    assert ours.keys() == set(errno.errorcode.values()) - {"ENOTSUP"}  # glibc's name for EOPNOTSUPP
    assert all(getattr(errno, name) == value for name, value in ours.items())
    assert common.ERRNO_NAMES[errno.EAGAIN] == "EAGAIN"
    assert {number: signal.Signals(number).name for number in common.SIGNAL_NAMES} == common.SIGNAL_NAMES


@pytest.mark.parametrize("arch", ["x86_64", "arm64"])
def test_agrees_with_musls_own_headers(arch: str, tmp_path: Path) -> None:
    """musl keeps its numbers by hand: a second source, for both architectures."""
    table = TABLES[arch]
    headers = "sys/syscall.h fcntl.h sys/stat.h sys/mman.h errno.h signal.h poll.h sched.h sys/ioctl.h sys/wait.h"
    lines = [f"#include <{header}>" for header in f"{headers} sys/prctl.h termios.h sys/resource.h".split()]
    lines.insert(0, "#define _GNU_SOURCE")
    own_meaning = {"O_LARGEFILE", "O_ACCMODE", "O_SEARCH"}  # musl adds O_PATH to the mode bits
    for name, value in table.SYSCALLS.items():
        lines.append(f'#ifdef SYS_{name}\n_Static_assert(SYS_{name} == {value}, "");\n#endif')
    families = ("O_", "AT_", "F_", "MAP_", "PROT_", "MADV_", "MREMAP_", "SA_", "POLL", "CLONE_", "TIOC", "E")
    for module in (common, table):
        for name, value in vars(module).items():
            if isinstance(value, int) and name.startswith(families) and name not in own_meaning:
                number = f"{value}LL" if value < 1 << 63 else f"{value}ULL"
                lines.append(f'#ifdef {name}\n_Static_assert({name} == {number}, "{name}");\n#endif')
    source = tmp_path / "musl.c"
    source.write_text("\n".join(lines) + "\n")
    flags = ["-target", TRIPLES[arch], "-w", "-c", "-o", str(tmp_path / "musl.o")]
    command = [sys.executable, "-m", "ziglang", "cc", *flags, str(source)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr


def test_struct_stat_as_the_host_kernel_writes_it(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 5000)
    os.utime(path, ns=(-1_500_000_000, 7_000_000_009))
    buffer = ctypes.create_string_buffer(HOST.stat.size + 8)
    buffer.raw = b"\xa5" * len(buffer)
    host_call("newfstatat", common.AT_FDCWD, bytes(path), buffer, 0)
    assert buffer.raw[HOST.stat.size :] == b"\xa5" * 8
    found, expected = HOST.stat.unpack(buffer.raw), os.stat(path)
    for name in (
        "st_dev",
        "st_ino",
        "st_nlink",
        "st_mode",
        "st_uid",
        "st_gid",
        "st_rdev",
        "st_size",
        "st_blocks",
    ):
        assert found[name] == getattr(expected, name), name
    assert found["st_atime"] * 10**9 + found["st_atime_nsec"] == expected.st_atime_ns == -1_500_000_000
    assert found["st_mtime"] * 10**9 + found["st_mtime_nsec"] == expected.st_mtime_ns


def test_statx_statfs_uname_as_the_host_kernel_writes_them(tmp_path: Path) -> None:
    buffer = ctypes.create_string_buffer(common.statx.size)
    host_call("statx", common.AT_FDCWD, bytes(tmp_path), 0, common.STATX_BASIC_STATS, buffer)
    found, expected = common.statx.unpack(buffer.raw), os.stat(tmp_path)
    assert found["stx_ino"] == expected.st_ino and found["stx_mode"] == expected.st_mode
    assert os.makedev(found["stx_dev_major"], found["stx_dev_minor"]) == expected.st_dev
    assert found["stx_mtime"] * 10**9 + found["stx_mtime_nsec"] == expected.st_mtime_ns
    buffer = ctypes.create_string_buffer(common.statfs.size)
    host_call("statfs", bytes(tmp_path), buffer)
    volume = os.statvfs(tmp_path)
    values = common.statfs.unpack(buffer.raw)
    assert (values["f_bsize"], values["f_blocks"]) == (volume.f_bsize, volume.f_blocks)
    assert (values["f_namelen"], values["f_files"]) == (volume.f_namemax, volume.f_files)
    buffer = ctypes.create_string_buffer(common.utsname.size)
    host_call("uname", buffer)
    name = common.utsname.unpack(buffer.raw)
    assert [name[field].rstrip(b"\0").decode() for field in ("sysname", "nodename", "release", "machine")] == [
        os.uname().sysname,
        os.uname().nodename,
        os.uname().release,
        os.uname().machine,
    ]


def test_dirent64_as_the_host_kernel_writes_it(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    fd = os.open(tmp_path, common.O_RDONLY | HOST.O_DIRECTORY | common.O_CLOEXEC)
    try:
        buffer = ctypes.create_string_buffer(1024)
        end = host_call("getdents64", fd, buffer, 1024)
    finally:
        os.close(fd)
    offset, names = 0, {}
    while offset < end:
        entry = common.dirent64.unpack(buffer.raw, offset)
        name = buffer.raw[offset + common.dirent64.size : offset + entry["d_reclen"]].split(b"\0")[0]
        names[name] = entry["d_ino"]
        offset += entry["d_reclen"]
    assert names[b"file"] == os.stat(tmp_path / "file").st_ino and names.keys() == {b".", b"..", b"file"}


def test_pack_and_unpack() -> None:
    packed = common.timespec.pack(tv_sec=-2, tv_nsec=5)
    assert packed == struct.pack("<qq", -2, 5)
    assert common.timespec.unpack(b"????" + packed, 4) == {"tv_sec": -2, "tv_nsec": 5}
    buffer = bytearray(b"\xff" * 20)
    common.timespec.pack_into(buffer, 4, tv_nsec=1)
    assert buffer == b"\xff" * 4 + struct.pack("<qq", 0, 1)
    assert common.utsname.unpack(common.utsname.pack(machine=b"aarch64"))["machine"].rstrip(b"\0") == b"aarch64"
    assert x86_64.stat.pack() == bytes(144)


def test_pack_refuses_what_does_not_fit() -> None:
    with pytest.raises(TypeError, match="tv_usec"):
        common.timespec.pack(tv_usec=1)
    with pytest.raises(struct.error):
        common.pollfd.pack(fd=1 << 31)
    with pytest.raises(struct.error):
        common.utsname.pack(machine=b"x" * 66)
    with pytest.raises(ValueError, match="overlaps"):
        Struct("bad", 8, (("a", 0, 8, "u"), ("b", 4, 4, "u")))
    with pytest.raises(ValueError, match="longer"):
        Struct("bad", 4, (("a", 0, 8, "u"),))


def structs_of(module: ModuleType) -> list[Struct]:
    return [value for value in vars(module).values() if isinstance(value, Struct)]


@pytest.mark.parametrize("module", [common, x86_64, arm64])
def test_every_field_of_every_struct_round_trips(module: ModuleType) -> None:
    for layout in structs_of(module):
        values = {
            f.name: bytes([i]) * f.size if f.kind == "b" else i + 1 for i, f in enumerate(layout.fields.values())
        }
        data = layout.pack(**values)
        assert len(data) == layout.size == layout.codec.size
        assert layout.unpack(data) == values
