"""Who may import whom (DESIGN.md section 3)."""

import re
import subprocess
import sys
import tomllib

import pytest

from tests.style.source import CHECKOUT, PACKAGES, Module, everything, product

MAY_IMPORT = {
    "ipc": {"farcall", "ipc"},
    "client_vm": {"farcall", "ipc", "client_vm"},
    "servers": {"farcall", "ipc", "servers"},
}
"""Of the project's own packages."""

UNICORN = {"client_vm/registers.py": "where it is installed, and its numbers"}
GRPC = {
    "ipc/grpc_channel.py": "what its clients have in common",
    "ipc/grpc_client.py": "the client's side of the carrier",
    "ipc/grpc_server.py": "the server's side of the carrier",
}
CRYPTOGRAPHY = {
    "client_vm/certificates.py": "makes certificates",
    "ipc/credentials.py": "reads them",
}
APSW = {"servers/file/store.py": "the file server's store"}
MMAP = {
    "client_vm/shared_offsets.py": "offsets that workers share: looked at without a system call",
    "ipc/shared_memory.py": "rings and control pages",
    "client_vm/stubs.py": "an executable page for the native stubs of traps and preemption",
}
CTYPES = {
    "client_vm/bench.py": "the memory of a bare Unicorn, the reference",
    "client_vm/cpu.py": "Unicorn's library, called without its binding",
    "client_vm/host.py": "host calls that Python lacks: mappings at an address, prctl, sigaction",
    "client_vm/stubs.py": "addresses of the native stubs",
    "client_vm/translations.py": "a table that native code looks into",
    "client_vm/unicorn_words.py": "words of Unicorn's that its interface does not show",
    "servers/file/lower.py": "openat2(2)",
    "servers/memfd.py": "fallocate(2) with holes",
    "ipc/shared_memory.py": "mappings at fixed addresses, seals of memfds",
}
ONLY_IN = {
    "unicorn": UNICORN,
    "grpc": GRPC,
    "grpc_health": GRPC,
    "grpc_reflection": GRPC,
    "apsw": APSW,
    "cryptography": CRYPTOGRAPHY,
    "mmap": MMAP,
    "ctypes": CTYPES,
}
"""Modules with sharp edges, and the files that may hold them, with the reason. A file that stops leaves."""

DISTRIBUTIONS = {
    "apsw": "apsw",
    "cryptography": "cryptography",
    "google": "protobuf",
    "grpc": "grpcio",
    "grpc_health": "grpcio-health-checking",
    "grpc_reflection": "grpcio-reflection",
    "trio": "trio",
    "unicorn": "unicorn",
}
"""Where an imported name comes from."""
GENERATORS = {"client_vm/abi/generate.py": {"ziglang"}}
"""Run by developers and tests only, with what the `test` extra brings."""


def _own(name: str) -> bool:
    return name in {"farcall", "tests", *PACKAGES}


def test_packages_import_downwards_only() -> None:
    wrong = [
        f"{module.path}:{line}: {name}"
        for module in product()
        for line, name in module.imports()
        if _own(top := name.split(".")[0]) and top not in MAY_IMPORT[module.package]
    ]
    assert wrong == []


def test_only_declared_packages_are_imported() -> None:
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    declared = {re.split(r"[^\w-]", requirement)[0] for requirement in project["dependencies"]}
    wrong = [
        f"{module.path}:{line}: {name}"
        for module in product()
        for line, name in module.imports()
        if not _own(top := name.split(".")[0])
        and top not in sys.stdlib_module_names
        and DISTRIBUTIONS.get(top) not in declared
        and top not in GENERATORS.get(module.path, ())
    ]
    assert wrong == []


@pytest.mark.parametrize("name", ONLY_IN)
def test_sharp_modules_stay_in_their_files(name: str) -> None:
    used = {module.path: places for module in product() if (places := module.imports_of(name))}
    assert {path: places for path, places in used.items() if path not in ONLY_IN[name]} == {}
    if name not in {"grpc_health", "grpc_reflection"}:
        assert sorted(ONLY_IN[name].keys() - used.keys()) == [], "no longer used there"


def test_grpc_is_imported_where_it_is_used() -> None:
    """It costs 130 ms: nobody imports its modules, but inside a function, before a peer asks for gRPC."""
    grpc_modules = ("ipc.grpc_channel", "ipc.grpc_client", "ipc.grpc_server")
    wrong = [
        f"{module.path}: {name}"
        for module in product()
        for name in grpc_modules
        if module.path not in GRPC
        and any(_at_top(module, line) for line, full in module.imports() if f"{full}.".startswith(f"{name}."))
    ]
    assert wrong == []


def test_certificates_are_imported_where_they_are_used() -> None:
    """It costs 40 ms: a start without TLS must not pay them."""
    wrong = [
        f"{module.path}: {name}"
        for module in product()
        for line, name in module.imports()
        if _at_top(module, line)
        and (
            (name.startswith("cryptography") and module.path != "client_vm/certificates.py")
            or name.startswith("client_vm.certificates")
        )
    ]
    assert wrong == []


def _at_top(module: Module, line: int) -> bool:
    text = module.text.splitlines()[line - 1]
    return not text.startswith((" ", "\t"))


def test_no_package_is_named_proto() -> None:
    """A well-known library owns that name."""
    assert not (CHECKOUT / "proto" / "__init__.py").exists()
    assert [place for module in everything() for place in module.imports_of("proto")] == []
    modules = sorted(path.name for path in (CHECKOUT / "proto" / "farcall").glob("*.py"))
    assert modules == ["__init__.py"], "farcall holds generated code only"


BROUGHT_LATER = {
    "client_vm.worker": {"trio", "asyncio", "grpc", "ssl", "cryptography"},
    "client_vm.kernel_process": {"trio", "google.protobuf", "shutil", "subprocess", "tempfile"},
    "client_vm.supervisor": {"asyncio", "grpc", "cryptography", "ipc.credentials", "client_vm.publishing"},
    "servers.process": {"asyncio", "grpc", "cryptography", "ipc.credentials", "apsw"},
}
"""What a process has by the time of its first fork, or of its work, is waited for by each run, and copied by its
forks: what these need not have then, or ever (DESIGN section 1)."""


@pytest.mark.parametrize("name", BROUGHT_LATER)
def test_a_start_brings_what_it_needs(name: str) -> None:
    found = f"import sys, {name}; print(sorted({BROUGHT_LATER[name]} & {{*sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", found], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "[]\n"
