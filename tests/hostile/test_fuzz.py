"""Random system calls from fixed seeds: worker and servers outlive whatever a guest can ask of them."""

import subprocess
from pathlib import Path
from typing import Final

import pytest

import client_vm.table  # noqa: F401  # fills TABLE
from client_vm.architecture import ARCHITECTURES, Architecture
from client_vm.arguments import Kind
from client_vm.rows import TABLE
from tests.e2e import harness
from tests.guests.build import build
from tests.guests.test_native import FIRST_BUILD_S
from tests.hostile.runs import Ran, under_farcall

ARCHS: Final = {architecture.name: architecture for architecture in ARCHITECTURES}
SEEDS: Final = (1, 2, 3)
CALLS: Final = 3000
LIMIT_S: Final = 120
END: Final = 7
"""The status with which the guest says that it made all its calls, and that some succeeded."""
EXCLUDED: Final = {
    "exit": "ends the run",
    "exit_group": "ends the run",
    "kill": "ends the run",
    "tkill": "ends the run",
    "tgkill": "ends the run",
    "mmap": "MAP_FIXED over the program is its own end",
    "munmap": "may unmap the program",
    "mprotect": "may revoke the program's own pages",
    "mremap": "may move the program",
    "madvise": "may discard the program's own data",
    "arch_prctl": "moves the thread's own storage",
    "prlimit64": "may take the stack or the descriptors away",
    "setrlimit": "may take the stack or the descriptors away",
    "rt_sigreturn": "takes its registers from a frame that nobody made",
    "rt_sigaction": "a handler at a random address is its own end",
    "rt_sigqueueinfo": "ends the run",
    "rt_tgsigqueueinfo": "ends the run",
    "alarm": "stops the guest's own alarm",
    "setitimer": "stops the guest's own alarm",
    "rt_sigprocmask": "may block the guest's own alarm",
    "fork": "two would go on with one script",
    "vfork": "two would go on with one script",
    "clone": "two would go on with one script",
    "clone3": "two would go on with one script",
    "setsid": "leaves the run's session",
    "execve": "replaces the program",
    "execveat": "replaces the program",
    "rt_sigsuspend": "its mask may block the guest's own alarm",
    "ppoll": "its mask may block the guest's own alarm",
    "pselect6": "its mask may block the guest's own alarm",
    "epoll_pwait": "its mask may block the guest's own alarm",
    "epoll_pwait2": "its mask may block the guest's own alarm",
}
"""Rows whose effect on the guest itself would end most runs early. What waits is ended by its alarm."""
MEMORY: Final = (
    "mmap", "munmap", "mprotect", "mremap", "madvise", "msync", "mlock", "munlock", "mincore", "brk", "read",
    "write", "pread64", "openat", "ftruncate", "writev", "getrandom", "close",
)  # fmt: skip


KINDS: Final = {
    "fd": "f",
    "const char *path": "p",
    "const char *name": "x",
    "size_t": "z",
    "loff_t": "o",
    "address": "a",
}
"""The guest's letters for argument kinds; other pointers are b, the rest is i."""
COPYING: Final = {"sendfile", "copy_file_range"}
"""No buffer bounds what these move, and a sparse file may seem to hold 2 GiB: their sizes are small (s)."""


def _letter(kind: Kind) -> str:
    return KINDS.get(kind.name, "b" if kind.direction else "i")


def _numbers(architecture: Architecture, names: list[str]) -> list[str]:
    """What the guest may call, as it takes it."""
    numbers = architecture.abi.SYSCALLS
    letters = {name: "".join(map(_letter, TABLE.rows[name].arguments)) for name in names}
    for name in COPYING & letters.keys():
        letters[name] = letters[name].replace("z", "s")
    return [f"{numbers[name]}:{letters[name]}" for name in names if name in numbers]


def _fuzz(arch: str, seed: int, numbers: list[str], options: list[str], directory: Path, calls: int) -> Ran:
    directory.mkdir()
    done = subprocess.run(
        under_farcall(build("hostile_fuzz", arch), str(seed), str(calls), *numbers, options=tuple(options)),
        cwd=directory,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=LIMIT_S,
        env={},
        check=False,
    )
    assert list(directory.iterdir()) == []
    return Ran(done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"), done.returncode)


def _sane(ran: Ran) -> None:
    """What a guest wrote to fd 1 and 2 is its own; a traceback, or a word of farcall's, is not."""
    assert "Traceback" not in ran.stderr and "farcall:" not in ran.stderr, ran.stderr[-4000:]


@pytest.mark.timeout(FIRST_BUILD_S)
@pytest.mark.parametrize("deployment", ["ring"])
@pytest.mark.parametrize("arch", ARCHS)
def test_random_calls_reach_their_end(arch: str, deployment: str, tmp_path: Path) -> None:
    """All runs share two servers, which must be in order afterwards."""
    numbers = _numbers(ARCHS[arch], [name for name in TABLE.rows if name not in EXCLUDED])
    sockets = tmp_path / "sockets"
    sockets.mkdir(mode=0o700)
    file, memory = f"unix:{sockets}/file", f"unix:{sockets}/memory"
    with harness.serving("file", "--listen", file, "--root", "/"), harness.serving("memory", "--listen", memory):
        options = ["--file", file, "--memory", memory]
        for seed in SEEDS:
            ran = _fuzz(arch, seed, numbers, options, tmp_path / str(seed), CALLS)
            _sane(ran)
            assert ran.status == END, f"seed {seed}: {ran.status} {ran.stderr[-2000:]}"
        after = tmp_path / "after"
        after.mkdir()
        guest = under_farcall(build("files_data", arch), options=tuple(options))
        done = subprocess.run(guest, cwd=after, capture_output=True, timeout=LIMIT_S, env={}, check=False)
        assert (done.returncode, done.stderr) == (0, b""), done.stdout


@pytest.mark.timeout(FIRST_BUILD_S)
@pytest.mark.parametrize("deployment", ["ring"])
@pytest.mark.parametrize("arch", ARCHS)
def test_random_changes_of_memory_end_at_most_the_guest(arch: str, deployment: str, tmp_path: Path) -> None:
    numbers = _numbers(ARCHS[arch], list(MEMORY))
    for seed in SEEDS:
        ran = _fuzz(arch, seed, numbers, [], tmp_path / str(seed), CALLS)
        _sane(ran)
        assert ran.status in (END, END + 1, 9) or ran.status > 128, ran.stderr[-2000:]
