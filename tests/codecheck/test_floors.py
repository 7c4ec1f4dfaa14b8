"""The floors of the core: includes and calls point downwards only, without cycles; each keeps to its size."""

from pathlib import Path

import pytest

from tests.codecheck.c_floors import (
    BEGIN,
    CSRC,
    END,
    FLOORS,
    NAMES,
    ROOT,
    Edge,
    Floor,
    calls,
    cycles,
    drawing,
    includes,
    lines_of,
    upward,
    with_drawing,
)

LIBRARY = ROOT / "build" / "py" / "csrc" / "libisolane.a"


def test_every_folder_is_a_floor() -> None:
    assert sorted(path.name for path in CSRC.iterdir() if path.is_dir()) == sorted(NAMES)


def test_includes_point_downwards() -> None:
    assert upward(includes(CSRC)) == []


def test_no_cycle_of_includes() -> None:
    assert cycles(includes(CSRC)) == []


def test_calls_point_downwards() -> None:
    edges = calls(LIBRARY)
    assert len(edges) > 50
    assert upward(edges) == []


def test_no_cycle_of_calls() -> None:
    assert cycles(calls(LIBRARY)) == []


@pytest.mark.parametrize("floor", FLOORS, ids=lambda floor: floor.name)
def test_lines_of_a_floor(floor: Floor) -> None:
    assert lines_of(CSRC)[floor.name] <= floor.budget


def test_the_page_shows_the_floors() -> None:
    page = (CSRC / "README.md").read_text()
    assert with_drawing(page, drawing(CSRC)) == page, "python -m tests.codecheck.c_floors draws them anew"


# ---- the lint itself


def tree(tmp_path: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return tmp_path


def test_an_upward_include_fails(tmp_path: Path) -> None:
    csrc = tree(tmp_path, {"pkt/a.c": '#include "base/b.h"\n#include "run/engine.h"\n', "base/b.h": ""})
    assert upward(includes(csrc)) == ["pkt/a.c -> run/engine.h"]


def test_an_include_of_no_floor_fails(tmp_path: Path) -> None:
    csrc = tree(tmp_path, {"run/a.c": '#include "attic/b.h"\n'})
    assert upward(includes(csrc)) == ["run/a.c -> attic/b.h"]


def test_a_cycle_in_a_floor_is_found(tmp_path: Path) -> None:
    files = {
        "pkt/a.h": '#include "pkt/b.h"\n',
        "pkt/b.h": '#include "pkt/c.h"\n',
        "pkt/c.h": '#include "pkt/a.h"\n',
    }
    csrc = tree(tmp_path, files)
    assert cycles(includes(csrc)) == [["pkt/a.h", "pkt/b.h", "pkt/c.h"]]
    assert cycles([Edge("pkt/a.c", "pkt/b.c"), Edge("pkt/b.c", "base/c.c")]) == []


def test_the_drawing_replaces_what_is_between_the_marks() -> None:
    assert with_drawing(f"a\n{BEGIN}\nold\n{END}\nb\n", "new") == f"a\n{BEGIN}\nnew\n{END}\nb\n"
