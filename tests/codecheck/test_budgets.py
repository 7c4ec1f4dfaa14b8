"""Sizes of the core's files: a hot step 60 lines, any function 100, a .c file 600. Floors: test_floors.py."""

from pathlib import Path

import pytest

from tests.codecheck.c_functions import functions
from tests.native import ROOT, names_in

CSRC = ROOT / "csrc"
SOURCES = sorted(CSRC.rglob("*.[ch]"))
CONTROL = {"control", "run"}
"""Floors that no packet runs through; on all others every function is a hot step."""


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_function_lines(path: Path) -> None:
    limit = 100 if path.parent.name in CONTROL else 60
    long = [
        f"{path.name}:{f.line}: {f.name}: {f.lines} lines"
        for f in functions(path.read_text())
        if f.lines > limit
    ]
    assert not long


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_file_lines(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert len(lines) <= 600


def test_every_source_is_compiled() -> None:
    listed = names_in("csrc/meson.build", r"^  '(\w+/\w+\.c)',$")
    assert sorted(listed) == sorted(path.relative_to(CSRC).as_posix() for path in CSRC.rglob("*.c"))


def test_every_c_test_is_run() -> None:
    listed = names_in("tests/c/meson.build", r"^  '(\w+)': '(?:unit|stress)',$")
    assert sorted(listed) == sorted(path.stem for path in (ROOT / "tests" / "c").glob("test_*.c"))


def test_every_harness_is_run() -> None:
    listed = names_in("tests/fuzz/meson.build", r"^  '(\w+)',$")
    assert sorted(listed) == sorted(path.stem for path in (ROOT / "tests" / "fuzz").glob("*.c"))
