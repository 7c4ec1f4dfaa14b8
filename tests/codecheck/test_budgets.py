"""The size budgets of the core: a hot step 60 lines, any function 100, a .c file 600, csrc 8,000 of code."""

from pathlib import Path

import pytest

from tests.codecheck.c_functions import code_lines, functions
from tests.native import ROOT, names_in

CSRC = ROOT / "csrc"
SOURCES = sorted(CSRC.glob("*.[ch]"))
CONTROL = {"engine.c", "replay.c", "tables.c", "objects.c", "port_pcap.c"}
"""No packet of a live host runs through these; in all other files every function is a hot step."""


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_function_lines(path: Path) -> None:
    limit = 100 if path.name in CONTROL else 60
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


def test_core_lines() -> None:
    """Code alone: contracts in header comments are asked for, and so not counted."""
    assert sum(code_lines(path.read_text()) for path in [*SOURCES, CSRC / "drop.def"]) <= 8000


def test_control_files_exist() -> None:
    assert {name for name in CONTROL if not (CSRC / name).exists()} == set()


def test_every_source_is_compiled() -> None:
    listed = names_in("csrc/meson.build", r"^  '(\w+\.c)',$")
    assert sorted(listed) == sorted(path.name for path in CSRC.glob("*.c"))


def test_every_c_test_is_run() -> None:
    listed = names_in("tests/c/meson.build", r"^  '(\w+)': '(?:unit|stress)',$")
    assert sorted(listed) == sorted(path.stem for path in (ROOT / "tests" / "c").glob("test_*.c"))


def test_every_harness_is_run() -> None:
    listed = names_in("tests/fuzz/meson.build", r"^  '(\w+)',$")
    assert sorted(listed) == sorted(path.stem for path in (ROOT / "tests" / "fuzz").glob("*.c"))
