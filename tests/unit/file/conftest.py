"""A file service over a small lower layer, for every test here."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.file.client import Client


@pytest.fixture
def lower(tmp_path: Path) -> Path:
    """/a/f "lower data", /h a hard link to it, /l -> /a/f, /empty, /a/deep/er/x, /big of 300,000 bytes."""
    root = tmp_path / "lower"
    (root / "a" / "deep" / "er").mkdir(parents=True)
    (root / "a" / "f").write_bytes(b"lower data")
    (root / "a" / "deep" / "er" / "x").write_bytes(b"x")
    os.link(root / "a" / "f", root / "h")
    (root / "l").symlink_to("/a/f")
    (root / "empty").mkdir()
    (root / "big").write_bytes(bytes(range(250)) * 1200)
    return root


@pytest.fixture
def client(tmp_path: Path, lower: Path) -> Iterator[Client]:
    state = tmp_path / "state"
    state.mkdir()
    client = Client(state, lower)
    yield client
    client.service.close()
