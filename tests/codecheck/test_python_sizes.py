"""Sizes of Python: a file 500 lines, a function 50, its docstring not counted (a command's help is one). Line
lengths are ruff's. No test file is a library for others.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.native import ROOT

FILE, FUNCTION = 500, 50
SOURCES = [path for room in ("dataplane", "policy", "tools", "bench") for path in (ROOT / room).rglob("*.py")]
TESTS = list((ROOT / "tests").rglob("*.py"))

LONG: set[str] = set()
"""Files that are longer still."""


def relative(paths: list[Path]) -> list[str]:
    return sorted(str(path.relative_to(ROOT)) for path in paths)


def is_long(path: str) -> bool:
    return len((ROOT / path).read_text().splitlines()) > FILE


def lines(node: ast.stmt) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def long_functions(text: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = lines(node) - (lines(node.body[0]) if ast.get_docstring(node) else 0)
            if length > FUNCTION:
                yield f"line {node.lineno}: {node.name}: {length} lines"


def imported_tests(text: str) -> set[str]:
    """Test files of which something is imported."""
    found = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {name for name in found if name.startswith("tests.") and name.split(".")[-1].startswith("test_")}


def test_file_lines() -> None:
    assert {path for path in relative(SOURCES + TESTS) if is_long(path)} == LONG


def test_function_lines() -> None:
    found = [
        f"{path}, {each}" for path in relative(SOURCES) for each in long_functions((ROOT / path).read_text())
    ]
    assert not found


def test_no_test_file_is_imported() -> None:
    assert not [path for path in relative(TESTS) if imported_tests((ROOT / path).read_text())]


def test_a_long_function_is_found() -> None:
    body = "    pass\n" * FUNCTION
    assert list(long_functions(f"def f():\n{body}")) == [f"line 1: f: {FUNCTION + 1} lines"]
    assert not list(long_functions(f'def f():\n    """1\n2\n"""\n{body[9:]}'))


@pytest.mark.parametrize(
    "text",
    ["import tests.x.test_y", "from tests.x import test_y", "def f():\n    from tests.x.test_y import z"],
)
def test_an_imported_test_file_is_found(text: str) -> None:
    assert imported_tests(text) == {"tests.x.test_y"}
    assert not imported_tests("from tests.x.y import z\nfrom tests.native import ROOT\nimport test_rig")
