"""ELF executables, checked: what a program header says is believed only where it cannot hurt (elf(5)).

Static and static-PIE programs of both architectures. Sizes and offsets are bytes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from client_vm.abi import common
from client_vm.architecture import ARCHITECTURES, Architecture
from client_vm.arena import PAGE_BYTES
from client_vm.cpu import EXECUTE, READ, WRITE
from client_vm.vma import ADDRESS_MAX, page_down, page_up

HEADERS_MAX: Final = (64 << 10) // common.elf64_phdr.size
"""Program headers of one file: Linux takes 64 KiB of them at most."""
IMAGE_BYTES_MAX: Final = 1 << 36
"""Address range one image may span."""


ReadAt = Callable[[int, int], bytes]
"""(offset, size) -> bytes of the file, fewer at its end."""


class BadElfError(Exception):
    """Not a program we can run; the text says why. Status 126, ENOEXEC for execve."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A PT_LOAD, page-aligned outwards as it is mapped."""

    address: int
    memory_bytes: int
    file_offset: int
    file_bytes: int
    protection: int


@dataclass(frozen=True, slots=True)
class Image:
    """What an ELF file asks for."""

    architecture: Architecture
    entry: int
    segments: tuple[Segment, ...]
    is_relocatable: bool
    """ET_DYN: addresses are offsets from a base of our choice."""
    header_address: int
    """Of the program headers in memory, 0 if no segment shows them."""
    header_count: int
    executable_stack: bool
    interpreter: bytes
    """Of PT_INTERP; empty for a static program."""

    @property
    def low(self) -> int:
        return page_down(min(segment.address for segment in self.segments))

    @property
    def high(self) -> int:
        return page_up(max(segment.address + segment.memory_bytes for segment in self.segments))


def parse(head: bytes, read_at: ReadAt, file_bytes: int) -> Image:
    """The image of a file whose first bytes are `head`. BadElfError."""
    if len(head) < common.elf64_ehdr.size or head[:4] != b"\x7fELF":
        raise BadElfError("not an ELF file")
    if head[4:7] != b"\x02\x01\x01":
        raise BadElfError("not a 64-bit little-endian ELF file")
    header = common.elf64_ehdr.unpack(head)
    architecture = next((a for a in ARCHITECTURES if a.elf_machine == header["e_machine"]), None)
    if architecture is None:
        raise BadElfError(f"machine {header['e_machine']} is neither x86-64 nor ARM64")
    if header["e_type"] not in (common.ET_EXEC, common.ET_DYN):
        raise BadElfError("neither an executable nor position-independent")
    headers = _program_headers(header, read_at, file_bytes)
    # A segment without memory maps nothing, wherever it claims to lie.
    loads = (row for row in headers if row["p_type"] == common.PT_LOAD and row["p_memsz"])
    segments = tuple(_segment(row, file_bytes) for row in loads)
    if not segments:
        raise BadElfError("nothing to load")
    _check_layout(segments)
    relocatable = header["e_type"] == common.ET_DYN
    return Image(
        architecture,
        header["e_entry"],
        segments,
        relocatable,
        _header_address(headers, segments, header["e_phoff"]),
        header["e_phnum"],
        any(row["p_type"] == common.PT_GNU_STACK and row["p_flags"] & common.PF_X for row in headers),
        _interpreter(headers, read_at, file_bytes),
    )


def _program_headers(header: dict[str, int], read_at: ReadAt, file_bytes: int) -> list[dict[str, int]]:
    size = common.elf64_phdr.size
    count = header["e_phnum"]
    if header["e_phentsize"] != size or not 0 < count <= HEADERS_MAX:
        raise BadElfError("impossible program headers")
    if header["e_phoff"] + count * size > file_bytes:
        raise BadElfError("truncated: the program headers are not all there")
    raw = read_at(header["e_phoff"], count * size)
    if len(raw) != count * size:  # cut meanwhile
        raise BadElfError("truncated: the program headers are not all there")
    return [common.elf64_phdr.unpack(raw, index * size) for index in range(count)]


def _segment(row: dict[str, int], file_bytes: int) -> Segment:
    address, offset = row["p_vaddr"], row["p_offset"]
    memory, length = row["p_memsz"], row["p_filesz"]
    if length > memory or memory > IMAGE_BYTES_MAX or address + memory > ADDRESS_MAX:
        raise BadElfError("impossible segment")
    if (address - offset) % PAGE_BYTES:
        raise BadElfError("segment not aligned with its file offset")
    if length and offset + length > file_bytes:
        raise BadElfError("truncated: a segment ends beyond the file")
    flags = row["p_flags"]
    protection = (
        (READ if flags & common.PF_R else 0)
        | (WRITE if flags & common.PF_W else 0)
        | (EXECUTE if flags & common.PF_X else 0)
    )
    return Segment(address, memory, offset, length, protection)


def _check_layout(segments: tuple[Segment, ...]) -> None:
    """Ascending, as elf(5) demands, and within a range that can be reserved."""
    end = 0
    for segment in segments:
        if page_down(segment.address) < end:
            raise BadElfError("segments overlap or are not in ascending order")
        end = page_up(segment.address + segment.memory_bytes)
    if end - page_down(segments[0].address) > IMAGE_BYTES_MAX:
        raise BadElfError("segments lie too far apart")


def _header_address(headers: list[dict[str, int]], segments: tuple[Segment, ...], offset: int) -> int:
    for row in headers:
        if row["p_type"] == common.PT_PHDR:
            return row["p_vaddr"]
    for segment in segments:
        if segment.file_offset <= offset < segment.file_offset + segment.file_bytes:
            return offset - segment.file_offset + segment.address
    return 0


def _interpreter(headers: list[dict[str, int]], read_at: ReadAt, file_bytes: int) -> bytes:
    for row in headers:
        if row["p_type"] == common.PT_INTERP:
            if not 2 <= row["p_filesz"] <= 4096:
                raise BadElfError("impossible interpreter name")
            if row["p_offset"] + row["p_filesz"] > file_bytes:
                raise BadElfError("truncated: the interpreter's name is not all there")
            return read_at(row["p_offset"], row["p_filesz"]).rstrip(b"\0")
    return b""
