"""The root directories that guests and native Linux work in, built alike to the byte and second.

Debian's busybox-static is the one program in them. `.ci/run` fetches its packages into .cache/debs; without
them this module asks apt itself.
"""

import bz2
import gzip
import hashlib
import io
import lzma
import os
import platform
import stat
import subprocess
import tarfile
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
CACHE = CHECKOUT / ".cache"
DEBIAN_NAME = {"x86_64": "amd64", "arm64": "arm64"}
FIRST_TIME_S = 1_600_000_000
ALICE = 1000
NOGROUP = 65534


class MissingError(Exception):
    """The host cannot offer what a comparison needs; the text says what to install."""


def busybox(arch: str) -> Path:
    """The architecture's static busybox of Debian, unpacked below .cache. MissingError if apt has none."""
    name = DEBIAN_NAME[arch]
    program = CACHE / name / "bin" / "busybox"
    if not program.exists():
        debs = CACHE / "debs"
        debs.mkdir(parents=True, exist_ok=True)
        if not list(debs.glob(f"*_{name}.deb")):
            download = ["apt-get", "-q", "-o", "APT::Sandbox::User=root", "download"]
            _bounded([*download, f"busybox-static:{name}"], debs, arch)
        _bounded(["dpkg", "-x", str(next(debs.glob(f"*_{name}.deb"))), str(CACHE / name)], debs, arch)
    return program


def _bounded(command: list[str], directory: Path, arch: str) -> None:
    try:
        subprocess.run(command, cwd=directory, check=True, capture_output=True, timeout=120)
    except (OSError, subprocess.SubprocessError) as error:
        raise MissingError(f"Debian's busybox-static for {arch}: {error}; .ci/run fetches it") from None


def native_busybox() -> Path:
    """The oracle's. MissingError where nothing can be compared with: not x86-64 Linux, or not root."""
    if platform.machine() != "x86_64":
        raise MissingError(f"native Linux on x86_64, not {platform.machine()}")
    if os.geteuid() != 0:
        raise MissingError("root, to change the native program's root directory")
    return busybox("x86_64")


class Builder:
    """Fills a directory; every object gets the next second as its modification time."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.made: list[Path] = []

    def directory(self, name: str, mode: int = 0o755) -> None:
        path = self.root / name
        path.mkdir(parents=True, exist_ok=True)
        path.chmod(mode)
        self.made.append(path)

    def file(self, name: str, data: bytes, mode: int = 0o644, owner: tuple[int, int] = (0, 0)) -> None:
        path = self.root / name
        path.write_bytes(data)
        os.chown(path, *owner)
        path.chmod(mode)
        self.made.append(path)

    def symlink(self, name: str, target: str) -> None:
        (self.root / name).symlink_to(target)
        self.made.append(self.root / name)

    def set_times(self) -> None:
        for number, path in enumerate(self.made):
            moment = FIRST_TIME_S + number * 100
            os.utime(path, (moment, moment), follow_symlinks=False)


WORDS = b"""quick
brown
fox
jumps
over
the
lazy
dog
while
seven
wizards
bake
fresh
bread
before
noon
"""


def text(builder: Builder) -> None:
    lines = [f"line {number}" for number in range(1, 41)]
    builder.directory("w/text")
    builder.file("w/text/lines.txt", "".join(f"{line}\n" for line in lines).encode())
    lines[9], lines[20] = "line ten", "line 21 and more"
    builder.file("w/text/lines-changed.txt", "".join(f"{line}\n" for line in lines[:38]).encode())
    builder.file("w/text/words.txt", WORDS)
    builder.file("w/text/numbers.txt", "".join(f"{(n * 7919) % 1009}\n" for n in range(24)).encode())
    builder.file("w/text/table.csv", b"name,colour,count\nash,red,3\nbox,blue,5\ncap,red,11\ndot,green,2\n")
    builder.file("w/text/empty.txt", b"")
    builder.file("w/text/no-newline.txt", b"no newline at the end")
    builder.file("w/text/dos.txt", b"first\r\nsecond\r\n")
    builder.file("w/text/tabs.txt", b"a\tb\tc\n\tindented\n")
    builder.file("w/text/utf8.txt", "Grüße, κόσμε, 世界\n".encode())
    builder.file("w/text/long.txt", _long_text())


def _long_text() -> bytes:
    return "".join(f"{n:06d} {hashlib.md5(b'%d' % n).hexdigest()}\n" for n in range(5000)).encode()


def _binary(builder: Builder) -> None:
    builder.directory("w/binary")
    builder.file("w/binary/random.bin", hashlib.shake_128(b"farcall").digest(3 << 20))
    builder.file("w/binary/long.txt.gz", gzip.compress(_long_text(), mtime=FIRST_TIME_S))
    builder.file("w/binary/long.txt.bz2", bz2.compress(_long_text()[:60000]))
    builder.file("w/binary/long.txt.xz", lzma.compress(_long_text()[:60000]))
    builder.file("w/binary/archive.tar", _tar())
    builder.file("w/binary/archive.cpio", _cpio())


def _tar() -> bytes:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name, kind, data, mode in (
            ("inside", tarfile.DIRTYPE, b"", 0o750),
            ("inside/one.txt", tarfile.REGTYPE, b"one\n", 0o600),
            ("inside/two.txt", tarfile.REGTYPE, b"two\n" * 4000, 0o4755),
            ("inside/hard", tarfile.LNKTYPE, b"inside/one.txt", 0o600),
            ("inside/soft", tarfile.SYMTYPE, b"one.txt", 0o777),
            ("inside/" + "long" * 50, tarfile.REGTYPE, b"long name\n", 0o644),
        ):
            member = tarfile.TarInfo(name)
            member.type, member.mode, member.mtime = kind, mode, FIRST_TIME_S + 5
            if kind in (tarfile.LNKTYPE, tarfile.SYMTYPE):
                member.linkname = data.decode()
            member.size = len(data) if kind == tarfile.REGTYPE else 0
            tar.addfile(member, io.BytesIO(data))
    return archive.getvalue()


def _cpio() -> bytes:
    """Two members in the newc format (cpio(5))."""
    archive = b""
    members = (
        (b"unpacked", b"", 0o40755),
        (b"unpacked/file", b"from cpio\n", 0o100640),
        (b"TRAILER!!!", b"", 0),
    )
    for ino, (name, data, mode) in enumerate(members, 1):
        fields = (ino, mode, 0, 0, 1, FIRST_TIME_S, len(data), 0, 0, 0, 0, len(name) + 1, 0)
        header = b"070701" + b"".join(b"%08X" % field for field in fields) + name + b"\0"
        archive += header + b"\0" * (-len(header) % 4) + data + b"\0" * (-len(data) % 4)
    return archive


def links(builder: Builder) -> None:
    builder.directory("w/links")
    builder.symlink("w/links/relative", "../text/lines.txt")
    builder.symlink("w/links/absolute", "/w/text/words.txt")
    builder.symlink("w/links/to-directory", "../text")
    builder.symlink("w/links/dangling", "nowhere/at/all")
    builder.symlink("w/links/loop-a", "loop-b")
    builder.symlink("w/links/loop-b", "loop-a")
    builder.file("w/links/hard-1", b"two names\n")
    os.link(builder.root / "w/links/hard-1", builder.root / "w/links/hard-2")


def _modes(builder: Builder) -> None:
    builder.directory("w/modes")
    builder.file("w/modes/none", b"", 0o000)
    builder.file("w/modes/read-only", b"read only\n", 0o400)
    builder.file("w/modes/plain", b"plain\n", 0o644)
    builder.file("w/modes/setuid", b"setuid\n", 0o4755)
    builder.file("w/modes/setgid", b"setgid\n", 0o2711, owner=(0, NOGROUP))
    builder.file("w/modes/of-alice", b"alice's\n", 0o640, owner=(ALICE, ALICE))
    builder.directory("w/modes/sticky", 0o1777)


def _odd(builder: Builder) -> None:
    builder.directory("w/odd")
    for name in ("with space", "new\nline", "ünïcödé", "back\\slash", "-dash", "*star", "x" * 255):
        builder.file(f"w/odd/{name}", f"{len(name)} characters\n".encode())


def build(root: Path, program: Path) -> Path:
    """Fills `root`, a new directory, with a copy of `program` as /bin/busybox and the objects above."""
    root.mkdir(parents=True)
    builder = Builder(root)
    for name in ("bin", "etc", "dev", "proc", "w"):
        builder.directory(name)
    builder.directory("tmp", 0o1777)
    builder.file("bin/busybox", program.read_bytes(), 0o755)
    builder.symlink("bin/cat", "busybox")
    builder.symlink("bin/ls", "/bin/busybox")
    builder.file(
        "etc/passwd",
        b"root:x:0:0:root:/:/bin/sh\nalice:x:1000:1000:Alice:/w:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n",
    )
    builder.file("etc/group", b"root:x:0:\nalice:x:1000:\nnogroup:x:65534:\n")
    for part in (text, _binary, links, _modes, _odd):
        part(builder)
    for name in ("w/deep", "w/deep/a", "w/deep/a/b", "w/empty", "w/copies", "w/many"):
        builder.directory(name)
    builder.directory("w/chain/of/directories")
    builder.file("w/deep/lines.txt", b"line 1\nline 1 again\n")
    builder.file("w/deep/a/b/bottom.txt", b"line 17 of many\n")
    builder.file("w/deep/a/private", b"private\n", 0o600)
    for number in range(60):
        builder.file(f"w/many/file-{number:03d}.txt", b"%d\n" % number)
    for name in ("w/chain/of", "w/chain"):
        builder.directory(name)
    builder.set_times()
    return root


def manifest(root: Path) -> dict[str, tuple[int, int, int, str]]:
    """Of every object beneath `root`, as the host sees it: {path: (mode, size, mtime_ns, what)}.

    `what` is a regular file's sha256, a symlink's target. A directory's size is 0:
    file systems count it differently.
    """
    found = {}
    for path in sorted([root, *root.rglob("*")]):
        status = path.lstat()
        what, size = "", status.st_size
        if stat.S_ISREG(status.st_mode):
            what = hashlib.sha256(path.read_bytes()).hexdigest()
        elif stat.S_ISLNK(status.st_mode):
            what = os.readlink(path)
        elif stat.S_ISDIR(status.st_mode):
            size = 0
        found[os.fsdecode(path.relative_to(root))] = (status.st_mode, size, status.st_mtime_ns, what)
    return found
