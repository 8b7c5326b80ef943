"""/proc/cpuinfo says what CPUID and AT_HWCAP say, and not a feature more or less."""

from client_vm.architecture import ARM64, X86_64, Architecture
from client_vm.cpuid import cpuid
from client_vm.cpuinfo import ARM64_FEATURES, cpuinfo


def paragraphs(architecture: Architecture, processors: int) -> list[dict[str, str]]:
    text = cpuinfo(architecture, processors).decode()
    assert text.endswith("\n\n")
    rows = [paragraph.splitlines() for paragraph in text[:-2].split("\n\n")]
    return [dict(map(str.strip, row.split(":", 1)) for row in lines) for lines in rows]  # type: ignore[misc]


def test_every_processor_has_a_paragraph() -> None:
    for architecture in (X86_64, ARM64):
        told = paragraphs(architecture, 3)
        assert [each.pop("processor") for each in told] == ["0", "1", "2"]
        assert told[0] == told[1] == told[2]


def test_every_bit_of_cpuid_has_its_name() -> None:
    (told,) = paragraphs(X86_64, 1)
    flags = told["flags"].split()
    _, _, ecx, edx = cpuid(1, 0)
    _, _, extended_ecx, extended_edx = cpuid(0x80000001, 0)
    # AMD repeats leaf 1's bits in the extended leaf; Linux prints them once.
    own = extended_edx & ~0x0183F3FF
    assert len(flags) == len(set(flags)) == sum(word.bit_count() for word in (edx, ecx, own, extended_ecx))
    assert {"sse2", "cx16", "popcnt", "aes", "syscall", "lm", "lahf_lm"} <= set(flags)
    assert not {"avx", "xsave", "rdrand"} & set(flags)


def test_the_processor_is_the_one_cpuid_tells() -> None:
    (told,) = paragraphs(X86_64, 1)
    assert told["vendor_id"] == "AuthenticAMD"
    assert told["model name"] == "farcall x86-64-v2 virtual CPU"
    assert (told["cpu family"], told["model"], told["stepping"]) == ("23", "1", "2")
    assert (told["cache size"], told["clflush size"]) == ("512 KB", "64")
    assert told["address sizes"] == "48 bits physical, 48 bits virtual"


def test_arm64_features() -> None:
    (told,) = paragraphs(ARM64, 1)
    assert told["Features"].split() == list(ARM64_FEATURES.values())
    assert "cpuid" not in told["Features"]
