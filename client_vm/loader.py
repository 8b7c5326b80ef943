"""Makes a process run a program: finds it, maps its segments, builds the stack it starts with (execve(2))."""

from dataclasses import dataclass
from typing import Final

from client_vm import elf
from client_vm.abi import common
from client_vm.abi.common import E2BIG, EACCES, EIO, ENOENT, ENOMEM, ENOTDIR
from client_vm.architecture import X86_64, Architecture
from client_vm.arena import PAGE_BYTES
from client_vm.cpu import EXECUTE, READ, WRITE
from client_vm.cpuid import cpuid
from client_vm.descriptors import RemoteFile
from client_vm.errors import Errno
from client_vm.file_server import place
from client_vm.process import Process
from client_vm.vma import ADDRESS_MAX, ADDRESS_MIN, Backing, page_down, page_up
from farcall.v1.file_pb2 import Attributes, OpenFlag, OpenRequest
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
_CLOCK_TICKS: Final = 100
_WORD: Final = (1 << 64) - 1
"""Addresses in a header may be anything: what is added to them wraps."""
_ARM64_HWCAP: Final = sum(1 << bit for bit in (0, 1, 3, 4, 5, 6, 7, 8))
"""fp asimd aes pmull sha1 sha2 crc32 atomics (asm/hwcap.h); not cpuid: ID registers are not emulated."""
_DEFAULT_PATH: Final = b"/usr/local/bin:/usr/bin:/bin"


@dataclass(slots=True)
class Program:
    """An opened executable and what its header asks for."""

    file: RemoteFile
    attributes: Attributes
    image: elf.Image
    path: bytes
    """As given to execve: AT_EXECFN."""


def open_program(process: Process, directory: int, path: bytes) -> Program:
    """Opens and checks an executable. Errno: ENOENT, EACCES, ENOEXEC..."""
    files = process.files
    handle = files.new_handle()
    request = OpenRequest(
        place=place(directory, path),
        handle=handle,
        flags=OpenFlag.OPEN_FLAG_EXECUTE | OpenFlag.OPEN_FLAG_READ,
    )
    response = files.call(request)
    if response.crossing.mount:
        raise Errno(EACCES)
    file = RemoteFile(files, handle, common.O_RDONLY, response.attributes.mode)
    try:
        head = files.read_at(handle, 0, HEAD_BYTES)
        size = response.attributes.size
        image = elf.parse(head, lambda offset, count: files.read_at(handle, offset, count), size)
        if image.interpreter:
            raise elf.BadElfError("dynamically linked; only static programs run so far")
    except BaseException:
        file.drop()
        raise
    return Program(file, response.attributes, image, path)


def find_program(process: Process, directory: int, name: bytes, search_path: bytes | None) -> Program:
    """A program as a shell finds it: by PATH if the name has no slash (execvp(3)). Errno; BadElfError."""
    if b"/" in name:
        return open_program(process, directory, name)
    error = Errno(ENOENT)
    for folder in (_DEFAULT_PATH if search_path is None else search_path).split(b":"):
        try:
            return open_program(process, directory, (folder or b".") + b"/" + name)
        except Errno as failure:
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


def load(
    process: Process, program: Program, arguments: list[bytes], environment: list[bytes], random: Random
) -> tuple[int, int]:
    """Maps the program into the process's empty address space; (entry, stack pointer). Errno(ENOMEM)."""
    image = program.image
    base = PIE_BASE - image.low if image.is_relocatable else 0
    limit = process.limits[common.RLIMIT_STACK][0]
    floor = page_up(STACK_TOP - min(limit, STACK_LIMIT_MAX))
    process.mmap_top = floor - MMAP_GAP_BYTES
    if base + image.low < ADDRESS_MIN or base + image.high > process.mmap_top:
        raise Errno(ENOMEM)  # it would lie where the stack must
    backing = _backing(program)
    for segment in image.segments:
        _map_segment(process, segment, base, backing)
    process.break_start = process.break_end = page_up(base + image.high)
    protection = READ | WRITE | (EXECUTE if image.executable_stack else 0)
    frame = _Frame(STACK_TOP)
    vectors = _vectors(process, program, base, frame, arguments, environment, random)
    stack_pointer = (frame.address - len(vectors) * 8) & ~15
    start = page_down(stack_pointer) - STACK_START_BYTES
    process.space.map_stack(min(floor, start), start, STACK_TOP, protection)
    _store(process, stack_pointer, b"".join(value.to_bytes(8, "little") for value in vectors))
    _store(process, frame.address, bytes(frame.data))
    process.executable = program.file
    process.name = program.path.rsplit(b"/", 1)[-1][:15]
    process.arguments, process.environment = list(arguments), list(environment)
    return base + image.entry & _WORD, stack_pointer


def _backing(program: Program) -> Backing:
    """The program's file as its segments show it; the last of them drops the reference."""
    file = program.file
    name = file.path()
    file.users += 1
    return Backing(
        fill=lambda offset, room: file.pread([room], offset),
        size_bytes=program.attributes.size,
        name=name,
        ino=program.attributes.ino,
        dev=program.attributes.dev,
        close=file.drop,
    )


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
        common.AUXV_HWCAP: _hwcap(architecture),
        common.AUXV_PAGESZ: PAGE_BYTES,
        common.AUXV_CLKTCK: _CLOCK_TICKS,
        common.AUXV_PHDR: base + image.header_address & _WORD if image.header_address else 0,
        common.AUXV_PHENT: common.elf64_phdr.size,
        common.AUXV_PHNUM: image.header_count,
        common.AUXV_BASE: 0,
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
