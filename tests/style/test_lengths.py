"""A newcomer reads a file in one sitting and a function on one screen."""

import ast

from tests.style.source import everything

FILE_LINES_MAX = 700
FILE_LINES_LONG = 500
LONG_FILES_MAX = 5
FUNCTION_LINES_MAX = 70


def test_files() -> None:
    lengths = {module.path: len(module.text.splitlines()) for module in everything()}
    assert [(path, length) for path, length in lengths.items() if length > FILE_LINES_MAX] == []
    long = [path for path, length in lengths.items() if length > FILE_LINES_LONG]
    assert len(long) <= LONG_FILES_MAX, long


def test_functions() -> None:
    too_long = []
    for module in everything():
        for node in ast.walk(module.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if length > FUNCTION_LINES_MAX:
                    too_long.append(f"{module.path}:{node.lineno}: {node.name} has {length} lines")
    assert too_long == []
