"""Makes a process run a program: finds it, maps its segments, builds the stack it starts with (execve(2))."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from client_vm import elf
from client_vm.abi import common
from client_vm.abi.common import E2BIG, EACCES, EIO, ENOENT, ENOEXEC, ENOMEM, ENOTDIR
from client_vm.architecture import X86_64, Architecture
from client_vm.arena import PAGE_BYTES
from client_vm.cpu import EXECUTE, READ, WRITE
from client_vm.cpuid import cpuid
from client_vm.cpuinfo import ARM64_FEATURES
from client_vm.descriptors import RemoteFile
from client_vm.errors import Errno
from client_vm.process import Process
from client_vm.segments import private_backing
from client_vm.vdso import vdso
from client_vm.vma import ADDRESS_MAX, ADDRESS_MIN, Backing, page_down, page_up
from farcall.v1.file_pb2 import Attributes, OpenFlag, OpenRequest, Place
from ipc.seams import Random

STACK_TOP: Final = ADDRESS_MAX - (8 << 30)
"""Beneath it room for the byte counts of reads whose buffers are smaller: what reaches beyond user space is
refused whole. Linux's stack lies up to 16 GiB below the end, at random."""
STACK_LIMIT_MAX: Final = 1 << 30
"""How far a stack may grow if its limit is infinite."""
STACK_START_BYTES: Final = 132 << 10
ARGUMENT_BYTES_MAX: Final = 128 << 10
"""Of one argument or environment string (MAX_ARG_STRLEN)."""
ARGUMENTS_BYTES_MIN: Final = 128 << 10
PIE_BASE: Final = 0x5555_5555_4000
"""Where Linux puts a position-independent program, without its randomisation."""
MMAP_GAP_BYTES: Final = 128 << 20
HEAD_BYTES: Final = 4096
SCRIPT_LINE_BYTES: Final = 256
"""Of a script's first line, `#!` included (execve(2): BINPRM_BUF_SIZE)."""
CROSSINGS_MAX: Final = 8
SCRIPTS_MAX: Final = 6
"""A program, and five scripts that lead to it (fs/exec.c: exec_binprm)."""
_CLOCK_TICKS: Final = 100
_WORD: Final = (1 << 64) - 1
"""Addresses in a header may be anything: what is added to them wraps."""
_ARM64_HWCAP: Final = sum(1 << bit for bit in ARM64_FEATURES)
_DEFAULT_PATH: Final = b"/usr/local/bin:/usr/bin:/bin"


@dataclass(slots=True)
class Program:
    """An opened executable, what its header asks for, and its interpreter (ld.so) if it names one."""

    file: RemoteFile
    attributes: Attributes
    image: elf.Image
    path: bytes
    """As given to execve: AT_EXECFN."""
    interpreter: "Program | None" = None

    def drop(self) -> None:
        """Closes what will not run after all."""
        self.file.drop()
        if self.interpreter is not None:
            self.interpreter.drop()


@dataclass(slots=True)
class Prepared:
    """All that execve(2) needs, checked: what is left to do can only fail for want of memory."""

    program: Program
    arguments: list[bytes]
    environment: list[bytes]
    entry: int = 0
    stack_pointer: int = 0
    """Both known once it is loaded."""

    @property
    def architecture(self) -> Architecture:
        return self.program.image.architecture

    def drop(self) -> None:
        """It is not loaded here."""
        self.program.drop()


class MissingInterpreterError(Errno):
    """The program is there, and who should run it (ld.so, a script's interpreter) is not: execve(2)'s ENOENT."""

    def __init__(self, interpreter: bytes) -> None:
        super().__init__(ENOENT)
        self.interpreter = interpreter


class _ScriptError(Exception):
    """The file is a script: its first line names who runs it."""

    def __init__(self, line: bytes) -> None:
        super().__init__(line)
        words = line.strip(b" \t").split(None, 1)
        self.interpreter = words[0]
        self.argument = [word.rstrip(b" \t") for word in words[1:]]


Cross = Callable[[bytes, bytes], Place]
"""(mount, what is left beneath it) -> the place in the file server's tree that a walk through /proc or /dev
leads to. Errno(EACCES): nothing that could run."""


def nothing_crosses(_mount: bytes, _remaining: bytes) -> Place:
    """Before there is a process, /proc and /dev hold no programs."""
    raise Errno(EACCES)


def _open_file(process: Process, place: Place, cross: Cross) -> tuple[RemoteFile, Attributes]:
    """An executable file, opened. Errno."""
    files = process.files
    for _ in range(CROSSINGS_MAX):
        handle = files.new_handle()
        flags = OpenFlag.OPEN_FLAG_EXECUTE | OpenFlag.OPEN_FLAG_READ
        response = files.call(OpenRequest(place=place, handle=handle, flags=flags))
        if not response.crossing.mount:
            file = RemoteFile(files, handle, common.O_RDONLY, response.attributes.mode)
            return file, response.attributes
        place = cross(bytes(response.crossing.mount), bytes(response.crossing.remaining))
    raise Errno(common.ELOOP)


def _open_program(process: Process, place: Place, path: bytes, cross: Cross) -> Program:
    """Opens and checks an executable. Errno: ENOENT, EACCES...; BadElfError; _ScriptError."""
    files = process.files
    file, attributes = _open_file(process, place, cross)
    handle = file.handle
    try:
        head = files.read_at(handle, 0, HEAD_BYTES)
        line = head[2:SCRIPT_LINE_BYTES].split(b"\n")[0] if head[:2] == b"#!" else b""
        if line.strip():
            raise _ScriptError(line)
        size = attributes.size
        image = elf.parse(head, lambda offset, count: files.read_at(handle, offset, count), size)
        interpreter = _open_interpreter(process, image, cross) if image.interpreter else None
    except BaseException:
        file.drop()
        raise
    return Program(file, attributes, image, path, interpreter)


def _open_interpreter(process: Process, image: elf.Image, cross: Cross) -> Program:
    """The program that loads a dynamic one. Errno: ENOENT, ELIBBAD...; BadElfError."""
    try:
        found = _open_program(process, Place(path=image.interpreter, follow=True), image.interpreter, cross)
    except (_ScriptError, elf.BadElfError):
        raise Errno(common.ELIBBAD) from None
    except Errno as error:
        if error.errno == ENOENT:
            raise MissingInterpreterError(image.interpreter) from None
        raise
    if found.image.architecture is not image.architecture or found.image.interpreter:
        found.drop()
        raise Errno(common.ELIBBAD)
    return found


def prepare(
    process: Process,
    place: Place,
    path: bytes,
    arguments: list[bytes],
    environment: list[bytes],
    cross: Cross = nothing_crosses,
) -> Prepared:
    """What execve(2) checks, before anything is changed. Errno: ENOENT, EACCES, ENOEXEC, E2BIG, ELOOP..."""
    try:
        return _prepare(process, place, path, arguments, environment, cross)
    except elf.BadElfError:
        raise Errno(ENOEXEC) from None


def _prepare(
    process: Process,
    place: Place,
    path: bytes,
    arguments: list[bytes],
    environment: list[bytes],
    cross: Cross = nothing_crosses,
) -> Prepared:
    """As prepare; BadElfError."""
    for depth in range(SCRIPTS_MAX):
        check_arguments(arguments, environment, process.limits[common.RLIMIT_STACK][0])
        try:
            return Prepared(_open_program(process, place, path, cross), arguments, environment)
        except _ScriptError as script:
            arguments = [script.interpreter, *script.argument, path, *arguments[1:]]
            base = process.cwd.handle if isinstance(process.cwd, RemoteFile) else 0
            path = script.interpreter
            place = Place(directory=base, path=path, follow=True)
        except Errno as error:
            if depth and error.errno == ENOENT and not isinstance(error, MissingInterpreterError):
                raise MissingInterpreterError(path) from None
            raise
    raise Errno(common.ELOOP)


def find(
    process: Process, name: bytes, search_path: bytes | None, arguments: list[bytes], environment: list[bytes]
) -> Prepared:
    """A program as a shell finds it: by PATH if the name has no slash (execvp(3)). Errno; BadElfError."""
    base = process.cwd.handle if isinstance(process.cwd, RemoteFile) else 0
    if b"/" in name:
        return _prepare(process, Place(directory=base, path=name, follow=True), name, arguments, environment)
    error = Errno(ENOENT)
    for folder in (_DEFAULT_PATH if search_path is None else search_path).split(b":"):
        path = (folder or b".") + b"/" + name
        place = Place(directory=base, path=path, follow=True)
        try:
            return _prepare(process, place, path, arguments, environment)
        except Errno as failure:
            if isinstance(failure, MissingInterpreterError):
                raise
            if failure.errno == EACCES:
                error = failure
            elif failure.errno not in (ENOENT, ENOTDIR):
                raise
    raise error


def check_arguments(arguments: list[bytes], environment: list[bytes], stack_limit: int) -> None:
    """Errno(E2BIG): a string longer than 128 KiB, or all of them more than a quarter of the stack."""
    if any(len(text) >= ARGUMENT_BYTES_MAX for text in (*arguments, *environment)):
        raise Errno(E2BIG)
    total = sum(len(text) + 9 for text in (*arguments, *environment))
    if total > max(ARGUMENTS_BYTES_MIN, min(stack_limit // 4, 6 << 20)):
        raise Errno(E2BIG)


def load_into(process: Process, prepared: Prepared, random: Random) -> None:
    """Maps the program into the process's empty address space, and notes where it begins. Errno(ENOMEM)."""
    prepared.entry, prepared.stack_pointer = _load(
        process, prepared.program, prepared.arguments, prepared.environment, random
    )


def _load(
    process: Process, program: Program, arguments: list[bytes], environment: list[bytes], random: Random
) -> tuple[int, int]:
    """(entry, stack pointer). Errno(ENOMEM)."""
    image = program.image
    base = PIE_BASE - image.low if image.is_relocatable else 0
    limit = process.limits[common.RLIMIT_STACK][0]
    floor = page_up(STACK_TOP - min(limit, STACK_LIMIT_MAX))
    process.mmap_top = floor - MMAP_GAP_BYTES
    if base + image.low < ADDRESS_MIN or base + image.high > process.mmap_top:
        raise Errno(ENOMEM)  # it would lie where the stack must
    _map_segments(process, program, base)
    process.break_start = process.break_end = page_up(base + image.high)
    start_at, interpreter_base = base + image.entry, 0
    if program.interpreter is not None:
        inner = program.interpreter.image
        size = page_up(inner.high) - page_down(inner.low)
        interpreter_base = process.space.free_range(size, 0, process.mmap_top) - page_down(inner.low)
        _map_segments(process, program.interpreter, interpreter_base)
        program.interpreter.file.drop()
        start_at = interpreter_base + inner.entry
    _map_vdso(process, image.architecture)
    protection = READ | WRITE | (EXECUTE if image.executable_stack else 0)
    frame = _Frame(STACK_TOP)
    vectors = _vectors(process, program, base, frame, arguments, environment, random, interpreter_base)
    stack_pointer = (frame.address - len(vectors) * 8) & ~15
    start = page_down(stack_pointer) - STACK_START_BYTES
    process.space.map_stack(min(floor, start), start, STACK_TOP, protection)
    _store(process, stack_pointer, b"".join(value.to_bytes(8, "little") for value in vectors))
    _store(process, frame.address, bytes(frame.data))
    process.executable = program.file
    process.name = program.path.rsplit(b"/", 1)[-1][:15]
    process.arguments, process.environment = list(arguments), list(environment)
    return start_at & _WORD, stack_pointer


def _map_vdso(process: Process, architecture: Architecture) -> None:
    """The vDSO, in a page of the process's own."""
    space, shared = process.space, vdso(architecture)
    start = space.free_range(PAGE_BYTES, 0, process.mmap_top)
    space.map_anonymous(start, PAGE_BYTES, READ | WRITE, b"[vdso]")
    _store(process, start, shared.image)
    space.protect(start, start + PAGE_BYTES, READ | EXECUTE)
    process.vdso_address = start


def _map_segments(process: Process, program: Program, base: int) -> None:
    """A program or its interpreter."""
    backing = private_backing(program.file)
    try:
        for segment in program.image.segments:
            _map_segment(process, segment, base, backing)
    finally:
        backing.settle()


def _map_segment(process: Process, segment: elf.Segment, base: int, backing: Backing) -> None:
    """File pages as a view of the file, the rest anonymous, the gap in the last file page zeroed."""
    space = process.space
    start = page_down(base + segment.address)
    file_end = base + segment.address + segment.file_bytes
    end = page_up(base + segment.address + segment.memory_bytes)
    mapped = page_up(file_end) if segment.file_bytes else start
    if mapped > start:
        offset = page_down(segment.file_offset)
        vma = space.map_file(start, mapped - start, segment.protection, backing, offset)
        if file_end < mapped and segment.memory_bytes > segment.file_bytes:
            vma.protection |= WRITE  # for the zeroing only: pieces() fills the page first
            views = list(space.pieces(file_end, mapped - file_end, WRITE))
            vma.protection = segment.protection
            if sum(map(len, views)) != mapped - file_end:
                raise Errno(EIO)
            for view in views:
                view[:] = bytes(len(view))
    if end > mapped:
        space.map_anonymous(mapped, end - mapped, segment.protection)


class _Frame:
    """The strings at the top of a new stack, laid downwards."""

    def __init__(self, top: int) -> None:
        self.address = top
        self.data = bytearray()

    def push(self, data: bytes) -> int:
        """Address of data, now on the stack."""
        self.data[:0] = data
        self.address -= len(data)
        return self.address


def _vectors(
    process: Process,
    program: Program,
    base: int,
    frame: _Frame,
    arguments: list[bytes],
    environment: list[bytes],
    random: Random,
    interpreter_base: int,
) -> list[int]:
    """argc, argv, envp and auxv as 64-bit words; their strings go onto the frame."""
    frame.push(bytes(8))
    name = frame.push(program.path + b"\0")
    environment_at = _push_all(frame, environment)
    arguments_at = _push_all(frame, arguments)
    architecture = program.image.architecture
    platform = frame.push(architecture.machine.encode() + b"\0")
    seed = frame.push(random.bytes(16))
    frame.push(bytes(frame.address % 16))
    who = process.credentials
    image = program.image
    auxv = {
        common.AUXV_SYSINFO_EHDR: process.vdso_address,
        common.AUXV_HWCAP: _hwcap(architecture),
        common.AUXV_PAGESZ: PAGE_BYTES,
        common.AUXV_CLKTCK: _CLOCK_TICKS,
        common.AUXV_PHDR: base + image.header_address & _WORD if image.header_address else 0,
        common.AUXV_PHENT: common.elf64_phdr.size,
        common.AUXV_PHNUM: image.header_count,
        common.AUXV_BASE: interpreter_base,
        common.AUXV_FLAGS: 0,
        common.AUXV_ENTRY: base + image.entry & _WORD,
        common.AUXV_UID: who.uid,
        common.AUXV_EUID: who.euid,
        common.AUXV_GID: who.gid,
        common.AUXV_EGID: who.egid,
        common.AUXV_SECURE: 0,
        common.AUXV_RANDOM: seed,
        common.AUXV_HWCAP2: 0,
        common.AUXV_EXECFN: name,
        common.AUXV_PLATFORM: platform,
        common.AUXV_NULL: 0,
    }
    pairs = [word for pair in auxv.items() for word in pair]
    process.auxv = b"".join(word.to_bytes(8, "little") for word in pairs)
    return [len(arguments), *arguments_at, 0, *environment_at, 0, *pairs]


def _push_all(frame: _Frame, texts: list[bytes]) -> list[int]:
    """Strings side by side in ascending order, as Linux lays them out; their addresses."""
    block = b"".join(text + b"\0" for text in texts)
    address = frame.push(block)
    addresses = []
    for text in texts:
        addresses.append(address)
        address += len(text) + 1
    return addresses


def _hwcap(architecture: Architecture) -> int:
    return cpuid(1, 0)[3] if architecture is X86_64 else _ARM64_HWCAP


def _store(process: Process, address: int, data: bytes) -> None:
    position = 0
    for view in process.space.pieces(address, len(data), WRITE):
        view[:] = data[position : position + len(view)]
        position += len(view)
    assert position == len(data)
