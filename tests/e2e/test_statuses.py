"""Programs that cannot run: status 126 or 127 and one clear line, whatever their bytes are; never a traceback,
never a hang. Also what is not farcall's failure: a damaged program that runs is the guest's affair."""

import os
import random
import struct
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.processes import AT_ONCE, REPOSITORY, serving
from tests.e2e.runs import World, world

ARCHS = ("x86_64", "arm64")
PROGRAMS = REPOSITORY / "client_vm" / "programs"
HEADER_BYTES, PROGRAM_HEADER_BYTES = 64, 56
"""elf(5)."""
EM_386, EM_PPC64, EM_ARM, EM_X86_64, EM_AARCH64, EM_RISCV = 3, 21, 40, 62, 183, 243
ET_REL, ET_EXEC, ET_DYN, ET_CORE = 1, 2, 3, 4
NATIVE = {"x86_64": EM_X86_64, "arm64": EM_AARCH64}
DAMAGED_PER_ARCH = 40


@dataclass
class Place:
    """Servers that serve every run, and the host's directory behind the guests' root."""

    runs: World
    root: Path
    options: list[str]

    def put(self, name: str, content: bytes, mode: int = 0o755) -> str:
        """A file in the guests' root; its path there."""
        path = self.root / name
        path.write_bytes(content)
        path.chmod(mode)
        return f"/{name}"

    def run(self, program: str, *arguments: str, path: str = "/bin") -> subprocess.CompletedProcess[str]:
        options = [*self.options, "-e", f"PATH={path}", "-w", "/", "--"]
        return self.runs.run("run", *options, program, *arguments)


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    with world() as runs:
        root, file, memory = runs.folder / "root", f"unix:{runs.folder}/f", f"unix:{runs.folder}/m"
        root.mkdir()
        where = ("--root", root, "--state", runs.folder / "state")
        with (
            serving("file", "--listen", file, "--ring-only", *where) as one,
            serving("memory", "--listen", memory, "--ring-only", "--quota", 1 << 30) as other,
        ):
            yield Place(runs, root, ["--file", file, "--memory", memory])
            assert (one.stop(), one.errors(), other.stop(), other.errors()) == (0, "", 0, "")
        runs.assert_clean()


def shipped(arch: str) -> bytes:
    return (PROGRAMS / f"hello-{arch}").read_bytes()


def elf(machine: int, kind: int = ET_EXEC, *, bits: int = 64, big: bool = False) -> bytes:
    """A header that another machine's program might have, and a page of nothing."""
    order = ">" if big else "<"
    ident = b"\x7fELF" + bytes([bits // 32, 2 if big else 1, 1]) + bytes(9)
    word = "Q" if bits == 64 else "I"
    header = struct.pack(
        f"{order}HHI{word}{word}{word}IHHHHHH", kind, machine, 1, 0x10000, 64, 0, 0, 64, 56, 1, 0, 0, 0
    )
    return (ident + header).ljust(4096, b"\0")


def one_line(done: subprocess.CompletedProcess[str], status: int) -> str:
    """The only line of a failure."""
    assert (done.returncode, done.stdout) == (status, ""), done
    assert done.stderr.startswith("farcall: ") and done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.endswith("\n")
    return done.stderr


NOT_FOUND = {
    "absolute": "/nowhere",
    "relative": "./nowhere",
    "in no directory of PATH": "nowhere",
    "in a missing directory": "/missing/nowhere",
    "a dangling symlink": "/dangling",
    "an empty name": "",
}


@pytest.mark.parametrize("name", NOT_FOUND.values(), ids=NOT_FOUND.keys())
def test_not_found(place: Place, name: str) -> None:
    dangling = place.root / "dangling"
    if not dangling.is_symlink():
        dangling.symlink_to("/nowhere")
    assert (name or "not found") in one_line(place.run(name), 127)


def not_executable(place: Place) -> dict[str, str]:
    """The path of each kind of program that cannot be run."""
    (place.root / "directory").mkdir()
    os.mkfifo(place.root / "fifo", 0o755)
    (place.root / "loop").symlink_to("/loop")
    hello = shipped("x86_64")
    return {
        "directory": "/directory",
        "fifo": "/fifo",
        "symlink loop": "/loop",
        "a device": "/dev/null",
        "no x bit": place.put("no-x", hello, 0o644),
        "text": place.put("text", b"no program\n"),
        "script": place.put("script", b"#!/bin/sh\necho hello\n"),
        "empty": place.put("empty", b""),
        "i386": place.put("i386", elf(EM_386, bits=32)),
        "ppc64": place.put("ppc64", elf(EM_PPC64, big=True)),
        "arm": place.put("arm", elf(EM_ARM, bits=32)),
        "riscv64": place.put("riscv64", elf(EM_RISCV)),
        "x32": place.put("x32", elf(EM_X86_64, bits=32)),
        "big-endian arm64": place.put("arm64be", elf(EM_AARCH64, big=True)),
        "object file": place.put("object", elf(EM_X86_64, ET_REL)),
        "core file": place.put("core", elf(EM_AARCH64, ET_CORE)),
        "nothing to load": place.put("nothing", elf(EM_AARCH64, ET_DYN)),
        "dynamically linked": place.put("dynamic", Path("/bin/true").read_bytes()),
    }


def test_not_executable(place: Place) -> None:
    paths = not_executable(place)
    lines = {kind: one_line(place.run(path), 126) for kind, path in paths.items()}
    assert [kind for kind, line in lines.items() if paths[kind] not in line] == []
    assert "machine 243" in lines["riscv64"]
    assert "dynamic" in lines["dynamically linked"]
    assert all("ermission denied" in lines[kind] for kind in ("directory", "fifo", "a device", "no x bit"))


def test_the_path_is_searched_as_a_shell_does(place: Place) -> None:
    for folder in ("one", "two", "three"):
        (place.root / folder).mkdir()
    place.put("one/tool", shipped("x86_64"), 0o644)
    place.put("three/tool", shipped("arm64"))
    assert "tool" in one_line(place.run("tool", path="/one:/two:/missing"), 126)
    found = place.run("tool", path="/one:/two:/three")  # execvp(3): one without x is passed over
    assert found.returncode == 0 and "aarch64" in found.stdout


def judge(place: Place, name: str, content: bytes) -> str:
    """Why the outcome of a damaged program is farcall's fault; empty if it is not."""
    path = place.put(name, content)
    try:
        done = place.run(path)
    except subprocess.TimeoutExpired:
        return f"{name}: hangs"
    if done.returncode == 126:
        one = done.stderr.startswith("farcall: ") and done.stderr.count("\n") == 1
        return "" if one and path in done.stderr else f"{name}: {done.stderr}"
    # It ran, as far as it could: farcall has nothing to say.
    ours = "Traceback" in done.stderr or "farcall" in done.stderr or done.returncode == 125
    return f"{name}: {done.returncode} {done.stderr}" if ours else ""


def all_judged(place: Place, programs: dict[str, bytes]) -> list[str]:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        verdicts = pool.map(lambda item: judge(place, *item), programs.items())
        return [verdict for verdict in verdicts if verdict]


@pytest.mark.parametrize("arch", ARCHS)
def test_truncated(place: Place, arch: str) -> None:
    """At every boundary of the format, and around it. What is cut within a segment cannot run."""
    whole = shipped(arch)
    headers = struct.unpack_from("<H", whole, 56)[0]
    segments = [
        struct.unpack_from("<IIQQQQQQ", whole, HEADER_BYTES + at * PROGRAM_HEADER_BYTES) for at in range(headers)
    ]
    end = max(row[2] + row[5] for row in segments if row[0] == 1 and row[5])
    assert place.run(place.put(f"whole-{arch}", whole)).returncode == 0
    edges = {0, 4, 16, 20, HEADER_BYTES, HEADER_BYTES + PROGRAM_HEADER_BYTES, 4096, end}
    edges.add(HEADER_BYTES + headers * PROGRAM_HEADER_BYTES)
    lengths = {length for edge in edges for length in (edge - 1, edge) if 0 <= length < end}
    programs = {f"cut-{arch}-{length}": whole[:length] for length in sorted(lengths)}
    assert len(programs) >= 12
    assert all_judged(place, programs) == []
    assert {place.run(f"/{name}").returncode for name in list(programs)[-3:]} == {126}


@pytest.mark.parametrize("arch", ARCHS)
def test_damaged_headers(place: Place, arch: str) -> None:
    """A few bytes of the ELF and program headers changed at random, the seed fixed."""
    whole = shipped(arch)
    size = HEADER_BYTES + struct.unpack_from("<H", whole, 56)[0] * PROGRAM_HEADER_BYTES
    programs = {}
    for seed in range(DAMAGED_PER_ARCH):
        chance = random.Random(f"{arch} {seed}")
        damaged = bytearray(whole)
        for _ in range(chance.randint(1, 4)):
            damaged[chance.randrange(16, size)] = chance.choice((0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)))
        programs[f"damaged-{arch}-{seed}"] = bytes(damaged)
    assert all_judged(place, programs) == []


@pytest.mark.parametrize("arch", ARCHS)
def test_extreme_headers(place: Place, arch: str) -> None:
    """Each field of the ELF header and of the first segment at its extremes."""
    whole = shipped(arch)
    fields = {"entry": (24, 8), "phoff": (32, 8), "phentsize": (54, 2), "phnum": (56, 2)}
    load = next(
        HEADER_BYTES + at * PROGRAM_HEADER_BYTES
        for at in range(8)
        if struct.unpack_from("<I", whole, HEADER_BYTES + at * PROGRAM_HEADER_BYTES)[0] == 1
    )
    for name, offset in {"offset": 8, "vaddr": 16, "filesz": 32, "memsz": 40}.items():
        fields[name] = (load + offset, 8)
    programs = {}
    for name, (at, size) in fields.items():
        for value in (0, (1 << 8 * size) - 1, 1 << (8 * size - 1)):
            changed = whole[:at] + value.to_bytes(size, "little") + whole[at + size :]
            programs[f"{name}-{arch}-{value:x}"] = changed
    assert all_judged(place, programs) == []


def test_a_program_larger_than_the_quota(place: Place) -> None:
    """64 GiB of zeroed data, of a quota of one."""
    whole = bytearray(shipped("x86_64"))
    headers = range(HEADER_BYTES, HEADER_BYTES + 8 * PROGRAM_HEADER_BYTES, PROGRAM_HEADER_BYTES)
    loads = [at for at in headers if struct.unpack_from("<I", whole, at)[0] == 1]
    struct.pack_into("<Q", whole, loads[-1] + 40, 63 << 30)
    struct.pack_into("<I", whole, loads[-1] + 4, 6)
    assert "annot allocate memory" in one_line(place.run(place.put("huge", bytes(whole))), 126)


USAGE = {
    "serve a tape": ("serve", "tape"),
    "serve nowhere": ("serve", "memory"),
    "serve at nonsense": ("serve", "memory", "--listen", "nonsense"),
    "serve too much": ("serve", "memory", "--listen", "unix:/tmp/no-such-server", "--quota", "much"),
    "a state that is a file": ("serve", "file", "--listen", "unix:/tmp/no-such-server", "--state", "/etc/passwd"),
    "a root that is none": ("serve", "file", "--listen", "unix:/tmp/no-such-server", "--root", "/no/such"),
    "no program": ("run",),
    "two addresses": ("doctor", "a", "b"),
    "no such case": ("bench", "nonsense"),
    "too many words": ("syscalls", "x"),
}


@pytest.mark.parametrize("words", USAGE.values(), ids=USAGE.keys())
def test_wrong_usage(place: Place, words: tuple[str, ...]) -> None:
    one_line(place.runs.run(*words), 125)
