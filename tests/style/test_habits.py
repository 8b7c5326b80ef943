"""Words and files that the project's habits ask for, or against."""

import ast
import re

import pytest

from tests.style.source import CHECKOUT, everything, product

PROGRAMS = ("busybox", "bash", "coreutils", "python3", "perl", "nginx", "redis", "sqlite3", "systemd")
"""Names of guest programs: nothing in the product may know one."""
MEASURES = "client_vm/bench.py"
"""It times two of them by name, and no guest ever runs through it."""

REGISTRY = re.compile(r"\b(?:(?:docker|ghcr|quay|gcr)\.io|registry\.[a-z0-9.-]+|[a-z0-9.-]*pypi\.org)\b")

DEBIANS_DOCKER = (".ci/run", "docker.io")
"""Debian's package of the daemon has a registry's name; nobody is asked by it."""

COMMANDS = (
    "python3 -m venv --without-pip .venv && pip --python .venv install -q . && .venv/bin/farcall run -- ",
    "pip --python .venv install -q '.[test]' && .venv/bin/python -m pytest",
)

FOLDERS = ("proto", "ipc", "client_vm", "servers", "deploy", "tests")


def test_no_program_is_known_by_name() -> None:
    found = []
    for module in product():
        if module.path == MEASURES:
            continue
        for node in ast.walk(module.tree):
            words: list[str] = []
            if isinstance(node, ast.Constant) and isinstance(node.value, str | bytes):
                text = node.value if isinstance(node.value, str) else node.value.decode("latin-1")
                words = re.findall(r"[a-z0-9]+", text.lower())
            elif isinstance(node, ast.Name):
                words = node.id.lower().split("_")
            found += [f"{module.path}: {word}" for word in words if word in PROGRAMS]
    assert found == []


def test_no_registry_host() -> None:
    files = [path for folder in FOLDERS for path in (CHECKOUT / folder).rglob("*")]
    files += [CHECKOUT / name for name in ("README.md", "pyproject.toml", ".ci/run")]
    texts = (".py", ".sh", ".toml", ".yaml", ".yml", ".md", ".proto", "")
    skipped = {"__pycache__", "tests"}
    found = [
        f"{path}: {match[0]}"
        for path in files
        if path.is_file() and path.suffix in texts and not skipped & set(path.parts)
        for match in REGISTRY.finditer(path.read_text(errors="replace"))
        if (str(path.relative_to(CHECKOUT)), match[0]) != DEBIANS_DOCKER
    ]
    assert found == []


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_folder_says_what_it_is(folder: str) -> None:
    readme = CHECKOUT / folder / "README.md"
    assert readme.exists() and len(readme.read_text()) > 200


def test_readme_has_the_two_commands() -> None:
    readme = (CHECKOUT / "README.md").read_text()
    for command in COMMANDS:
        assert command in readme
    assert COMMANDS[1] in (CHECKOUT / ".ci" / "run").read_text()


def test_no_error_is_swallowed() -> None:
    """`except Exception: pass`, a bare except, and suppress(Exception)."""
    found = []
    for module in everything():
        for node in ast.walk(module.tree):
            if isinstance(node, ast.ExceptHandler):
                names = [each.id for each in ast.walk(node.type or node) if isinstance(each, ast.Name)]
                silent = all(isinstance(each, ast.Pass | ast.Continue) for each in node.body)
                if node.type is None or (silent and {"Exception", "BaseException"} & set(names)):
                    found.append(f"{module.path}:{node.lineno}")
            elif isinstance(node, ast.Call) and ast.unparse(node).endswith("suppress(Exception)"):
                found.append(f"{module.path}:{node.lineno}")
    assert found == []


def test_nothing_is_left_for_later() -> None:
    later = re.compile(r"\b(?:TO" r"DO|FIX" r"ME|XX" r"X|NotImplemented" r"Error)\b")
    found = [
        f"{module.path}:{number}"
        for module in everything()
        for number, line in enumerate(module.text.splitlines(), 1)
        if later.search(line)
    ]
    assert found == []
