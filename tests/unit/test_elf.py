"""ELF headers are believed only where they cannot hurt: damage is BadElfError or another valid image."""

import random
from pathlib import Path

import pytest

from client_vm.architecture import ARM64, X86_64
from client_vm.arena import PAGE_BYTES
from client_vm.elf import IMAGE_BYTES_MAX, BadElfError, Image, parse
from client_vm.vma import ADDRESS_MAX

PROGRAMS = Path(__file__).parents[2] / "client_vm/programs"
FILES = {arch: (PROGRAMS / f"hello-{arch.name}").read_bytes() for arch in (X86_64, ARM64)}


def _parse(data: bytes) -> Image:
    return parse(data[:4096], lambda offset, size: data[offset : offset + size], len(data))


@pytest.mark.parametrize("arch", FILES, ids=lambda arch: arch.name)
def test_what_the_header_says(arch: object) -> None:
    image = _parse(FILES[arch])  # type: ignore[index]
    assert image.architecture is arch and not image.is_relocatable and image.interpreter == b""
    code = [s for s in image.segments if s.protection == 5]
    assert any(s.address <= image.entry < s.address + s.memory_bytes for s in code)
    assert image.header_address and image.header_count >= len(image.segments)


def _check(data: bytes) -> None:
    """A damaged file is refused, or what comes of it keeps every promise that the loader relies on."""
    try:
        image = _parse(data)
    except BadElfError:
        return
    end = 0
    for segment in image.segments:
        assert segment.file_bytes <= segment.memory_bytes
        assert segment.file_offset + segment.file_bytes <= len(data) or not segment.file_bytes
        assert segment.address + segment.memory_bytes <= ADDRESS_MAX
        assert (segment.address - segment.file_offset) % PAGE_BYTES == 0
        assert segment.address // PAGE_BYTES * PAGE_BYTES >= end or not segment.memory_bytes
        end = max(end, segment.address + segment.memory_bytes)
    assert image.high - image.low <= IMAGE_BYTES_MAX + PAGE_BYTES


@pytest.mark.parametrize("arch", FILES, ids=lambda arch: arch.name)
def test_every_truncation(arch: object) -> None:
    data = FILES[arch]  # type: ignore[index]
    for length in range(len(data)):
        _check(data[:length])


@pytest.mark.parametrize("seed", range(4))
def test_damaged_headers(seed: int) -> None:
    rng = random.Random(seed)
    for data in FILES.values():
        for _ in range(1500):
            damaged = bytearray(data)
            for _ in range(rng.randint(1, 6)):
                at = rng.randrange(0x200)
                damaged[at : at + 1] = bytes((rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256))),))
            _check(bytes(damaged))
