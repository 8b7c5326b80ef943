"""What was released stays understood: no message of a release is broken, no operation taken away or changed."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from farcall.v1 import session_pb2
from ipc.operations import BY_NAME
from tests.style.source import CHECKOUT
from tests.support.released import FOLDER, VERSIONS, methods

BUF = Path(sys.executable).parent / "buf"
LIMIT_S = 60
BREAKS = {
    "a field loses its number": ("uint32 entries_max = 4;", "uint32 entries_max = 5;"),
    "a field changes its type": ("uint32 entries_max = 4;", "bytes entries_max = 4;"),
    "a field is taken away": ("  uint32 entries_max = 4;\n", ""),
    "a value is taken away": ("  OPEN_FLAG_APPEND = 256;\n", ""),
}


def _breaking(version: str, checkout: Path = CHECKOUT) -> subprocess.CompletedProcess[str]:
    against = str(FOLDER / f"{version}.binpb")
    command = [str(BUF), "breaking", "--against", against]
    return subprocess.run(command, cwd=checkout, capture_output=True, text=True, timeout=LIMIT_S, check=False)


def test_there_is_a_release() -> None:
    assert VERSIONS


@pytest.mark.parametrize("version", VERSIONS)
def test_messages_are_understood(version: str) -> None:
    done = _breaking(version)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("change", BREAKS)
def test_a_break_is_noticed(change: str, tmp_path: Path) -> None:
    shutil.copy(CHECKOUT / "buf.yaml", tmp_path)
    shutil.copytree(CHECKOUT / "proto", tmp_path / "proto", ignore=shutil.ignore_patterns("*.py*", "released"))
    file = tmp_path / "proto" / "farcall" / "v1" / "file.proto"
    before, after = BREAKS[change]
    text = file.read_text()
    assert before in text
    assert _breaking(VERSIONS[-1], tmp_path).returncode == 0
    file.write_text(text.replace(before, after, 1))
    done = _breaking(VERSIONS[-1], tmp_path)
    assert done.returncode == 100 and "farcall/v1/file.proto" in done.stdout


def _fields(message: Any) -> list[tuple[int, str]]:
    return [(field.number, field.name) for field in message.fields]


@pytest.mark.parametrize("version", VERSIONS)
def test_operations_are_what_they_were(version: str) -> None:
    """What no linter of protobuf looks at: their options, and that packed ones have the fields they had, which
    lie in a ring entry one behind the other."""
    found = methods(version)
    assert "farcall.v1.FileService.Open" in found
    for name, (method, said) in found.items():
        if method.name == "Carry":
            continue
        now = BY_NAME.get(method.name)
        assert now is not None, f"{name} was taken away"
        assert now.service == name.rpartition(".")[0]
        assert now.opcode == said.Extensions[session_pb2.opcode], name
        assert now.effect == said.Extensions[session_pb2.effect], name
        assert now.packed == said.Extensions[session_pb2.packed], name
        assert now.carries_descriptor == said.Extensions[session_pb2.carries_descriptor], name
        assert now.deferred == said.Extensions[session_pb2.deferred], name
        assert (method.input_type.name, method.output_type.name) == (
            now.request.DESCRIPTOR.name,
            now.response.DESCRIPTOR.name,
        )
        if now.packed:
            assert _fields(method.input_type) == _fields(now.request.DESCRIPTOR), name
            assert _fields(method.output_type) == _fields(now.response.DESCRIPTOR), name


@pytest.mark.parametrize("version", VERSIONS)
def test_no_opcode_is_used_twice(version: str) -> None:
    """Nor one that an operation of a release had, by another."""
    had = {said.Extensions[session_pb2.opcode]: method.name for method, said in methods(version).values()}
    now = {operation.opcode: operation.name for operation in BY_NAME.values()}
    assert {code: now[code] for code in had if code} == {code: name for code, name in had.items() if code}
