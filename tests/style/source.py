"""The project's own source, parsed once: what the style tests look at."""

import ast
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
PACKAGES = ("ipc", "client_vm", "servers")
GENERATED = ("client_vm/abi/x86_64.py", "client_vm/abi/arm64.py", "client_vm/abi/common.py")
OTHER_FOLDERS = ("tests", "benchmarks", "deploy")


@dataclass(frozen=True)
class Module:
    """One Python file. `path` is relative to the checkout, with slashes."""

    path: str
    text: str
    tree: ast.Module

    @property
    def package(self) -> str:
        """The top-level folder."""
        return self.path.split("/")[0]

    def imports(self) -> Iterator[tuple[int, str]]:
        """(line, dotted name) of everything imported, anywhere in the file; `from a import b` is "a.b".

        A module found by its name in a string (importlib) counts.
        """
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from ((node.lineno, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert not node.level, f"{self.path}:{node.lineno}: imports are absolute"
                yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)
            elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
                loader = ast.unparse(node.func).split(".")[-1]
                if loader in {"find_spec", "import_module", "__import__"}:
                    yield node.lineno, str(node.args[0].value)

    def imports_of(self, name: str) -> list[str]:
        """Places where the module `name`, or something beneath it, is imported."""
        return [f"{self.path}:{line}" for line, full in self.imports() if f"{full}.".startswith(f"{name}.")]


def _read(folder: str) -> list[Module]:
    found = []
    for path in sorted((CHECKOUT / folder).rglob("*.py")):
        name = path.relative_to(CHECKOUT).as_posix()
        if name not in GENERATED:
            text = path.read_text()
            found.append(Module(name, text, ast.parse(text)))
    return found


@functools.cache
def product() -> tuple[Module, ...]:
    """The three packages' modules, generated ones aside."""
    return tuple(module for folder in PACKAGES for module in _read(folder))


@functools.cache
def everything() -> tuple[Module, ...]:
    """All Python of the project, generated code aside; tests included."""
    return product() + tuple(module for folder in OTHER_FOLDERS for module in _read(folder))
