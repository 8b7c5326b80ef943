"""Roots with Debian's dynamic programs, and directories for guests and native Linux to work in.

The programs are unpacked by `.ci/roots` into .cache/roots/amd64 and arm64, in the same versions. Each command
line has a directory of its own, /w/NAME, filled alike to the byte and second; so many lines share one state.
On the host's own root the directories stand at HostPlace.work.
"""

import os
import platform
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from tests.e2e import harness
from tests.e2e.harness import Ran
from tests.e2e.roots import CACHE, CHECKOUT, DEBIAN_NAME, WORDS, Builder, MissingError, busybox, links, text

LIMIT_S = 150.0
INSTALL_S = 900
PATH = "/usr/bin:/bin:/usr/sbin:/sbin"
SOURCES = Path(__file__).with_name("programs") / "src"
DEVICES = {"null": (1, 3), "zero": (1, 5), "full": (1, 7), "random": (1, 8), "urandom": (1, 9), "tty": (5, 0)}
DEVICE_LINKS = {"fd": "/proc/self/fd", "stdin": "fd/0", "stdout": "fd/1", "stderr": "fd/2"}
WORK = "w"
GIT_DATE = "2024-03-04T05:06:07 +0000"
LATER_S = 1_700_000_000


def debian(arch: str) -> Path:
    """The root of Debian's programs for `arch`, which is not to be written to. MissingError."""
    root = CACHE / "roots" / DEBIAN_NAME[arch]
    try:
        subprocess.run(
            [str(CHECKOUT / ".ci/roots"), DEBIAN_NAME[arch]], check=True, capture_output=True, timeout=INSTALL_S
        )
    except (OSError, subprocess.SubprocessError) as error:
        stderr = getattr(error, "stderr", None) or b""
        raise MissingError(f".ci/roots {DEBIAN_NAME[arch]}: {error} {stderr[-500:]!r}") from None
    return root


def need_oracle() -> None:
    """MissingError where native Linux cannot be asked: not x86-64, or not root."""
    if platform.machine() != "x86_64":
        raise MissingError(f"native Linux on x86_64, not {platform.machine()}")
    if os.geteuid() != 0:
        raise MissingError("root, to change the native program's root directory")


def copy_of(root: Path, to: Path, names: Iterable[str], native: bool) -> Path:
    """A root of a test's own, with the directories of these lines and a few devices."""
    subprocess.run(["cp", "-a", "--", str(root), str(to)], check=True, capture_output=True, timeout=120)
    for name, (major, minor) in DEVICES.items():
        os.mknod(to / "dev" / name, 0o20666, os.makedev(major, minor))
        os.chmod(to / "dev" / name, 0o666)
    for name, target in DEVICE_LINKS.items():
        (to / "dev" / name).symlink_to(target)
    (to / "dev/shm").mkdir(mode=0o1777)
    (to / "dev/shm").chmod(0o1777)
    fill(to / WORK, names, native)
    return to


def fill(work: Path, names: Iterable[str], native: bool) -> None:
    """Makes a directory for each name, all with the same objects, deterministic in content and times.

    Beside them stand tools of both architectures; for `native` they all are of this one.
    """
    (work / "tools").mkdir(parents=True)
    for arch in DEBIAN_NAME:
        shutil.copy(busybox("x86_64" if native else arch), work / f"tools/busybox-{arch}")
    model: Path | None = None
    for name in names:
        if model is None:
            model = work / name
            _model(model)
        else:
            subprocess.run(["cp", "-a", "--", str(model), str(work / name)], check=True, timeout=60)


def _model(directory: Path) -> None:
    directory.mkdir()
    inner = directory / WORK  # where the parts of roots.py put their objects
    builder = Builder(directory)
    builder.directory(WORK)
    text(builder)
    links(builder)
    builder.file(f"{WORK}/text/second.csv", b"1,ash\n2,box\n3,fig\n")
    builder.file(f"{WORK}/binary.bin", bytes((n * n * 7 + (n >> 3)) & 255 for n in range(200_000)))
    for name in ("text-changed", "deep", "deep/a", "copies", "many", "src", "odd"):
        builder.directory(f"{WORK}/{name}")
    builder.file(f"{WORK}/text-changed/words.txt", WORDS.replace(b"fox", b"cat") + b"more\n")
    builder.file(f"{WORK}/text-changed/new.txt", b"new\n")
    builder.file(f"{WORK}/deep/a/private", b"private\n", 0o600)
    for number in range(24):
        builder.file(f"{WORK}/many/file-{number:03d}.txt", b"%d\n" % number)
    for name in ("with space", "new\nline", "ünïcödé", "back\\slash", "-dash", "*star"):
        builder.file(f"{WORK}/odd/{name}", f"{len(name)} characters\n".encode())
    for source in sorted(SOURCES.iterdir()):
        if source.is_file():
            builder.file(
                f"{WORK}/src/{source.name}", source.read_bytes(), 0o755 if source.suffix == ".sh" else 0o644
            )
    builder.set_times()
    for path in inner.iterdir():
        path.rename(directory / path.name)
    inner.rmdir()
    for path in [directory, *directory.rglob("*")]:
        if path.is_dir() and not path.is_symlink():
            os.utime(path, (LATER_S, LATER_S))


def environment(directory: str) -> dict[str, str]:
    """Of every program, native or guest, that works in `directory`."""
    dates = {"GIT_AUTHOR_DATE": GIT_DATE, "GIT_COMMITTER_DATE": GIT_DATE}
    plain = {"PATH": PATH, "HOME": directory, "TZ": "UTC", "LC_ALL": "C.UTF-8"}
    return {**plain, **dates, "PYTHONDONTWRITEBYTECODE": "1"}


def bounded(argv: list[str], stdin: bytes, directory: str, limit_s: float = LIMIT_S) -> Ran:
    """Runs a command in a session of its own; whatever is left of its group when it ends, is ended."""
    with subprocess.Popen(
        argv,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(directory),
        cwd="/",
        umask=0o022,
        start_new_session=True,
    ) as process:
        try:
            stdout, stderr = process.communicate(stdin, timeout=limit_s)
            code = process.returncode
            status: int | str = code if code >= 0 else 128 - code  # as a shell's, and farcall's
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            stdout, stderr = process.communicate()
            status = f"ended by the test after {limit_s} s"
    return Ran(stdout, stderr, status)


def as_shells_tell(ran: Ran) -> Ran:
    """Death by signal n as 128 + n, which is all that farcall's own exit status can say of its guest's."""
    if isinstance(ran.status, int) and ran.status < 0:
        return replace(ran, status=128 - ran.status)
    return ran


@dataclass(frozen=True)
class ChrootPlace:
    """Native Linux in a root of its own, with a /proc."""

    root: Path

    def run(self, argv: list[str], directory: str, stdin: bytes = b"", limit_s: float = LIMIT_S) -> Ran:
        door = [sys.executable, "-I", "-S", str(Path(__file__).with_name("native.py"))]
        ran = bounded([*door, str(self.root), directory, "proc", *argv], stdin, directory, limit_s)
        return as_shells_tell(ran)


@dataclass(frozen=True)
class HostPlace:
    """Native Linux on the host's own root, with a copy of the directory `work` laid over it."""

    work: Path
    copy: Path

    def run(self, argv: list[str], directory: str, stdin: bytes = b"", limit_s: float = LIMIT_S) -> Ran:
        script = 'mount --bind "$0" "$1" && cd "$2" && shift 2 && exec "$@"'
        door = ["/usr/bin/unshare", "--mount", "/bin/sh", "-c", script, str(self.copy), str(self.work), directory]
        return as_shells_tell(bounded([*door, *argv], stdin, directory, limit_s))


@dataclass(frozen=True)
class GuestPlace:
    """farcall, with what a deployment adds to its command line."""

    options: tuple[str, ...]

    def run(self, argv: list[str], directory: str, stdin: bytes = b"", limit_s: float = LIMIT_S) -> Ran:
        command = [str(harness.FARCALL), "run", *self.options, "-w", directory, "--", *argv]
        return bounded(command, stdin, directory, limit_s)


Place = ChrootPlace | HostPlace | GuestPlace
