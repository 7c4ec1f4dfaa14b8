"""Every file of csrc: lines of at most 110 columns, a first sentence, statics under the file's prefix."""

from pathlib import Path

import pytest

from tests.codecheck.c_shape import faults_of_opening, prefixes, statics, wide_lines, without_prefix
from tests.native import ROOT

CSRC = ROOT / "csrc"
FILES = sorted(path for path in CSRC.rglob("*") if path.suffix in {".c", ".h", ".def"})


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_columns(path: Path) -> None:
    assert wide_lines(path.read_text()) == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_first_sentence(path: Path) -> None:
    assert faults_of_opening(path, path.read_text()) == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_prefix_of_statics(path: Path) -> None:
    assert without_prefix(path, path.read_text()) == []


# ---- the lint itself


def test_a_wide_line_is_found() -> None:
    assert wide_lines(f"{'a' * 110}\n{'b' * 111}\n{'ü' * 110}\n") == [2]


def test_a_file_without_a_first_sentence_is_found() -> None:
    good = "/*\n * a.h: takes a packet, returns a verdict. Called by the paths.\n */\n#define A\n"
    assert faults_of_opening(Path("a.h"), good) == []
    assert faults_of_opening(Path("a.h"), "#include <stdio.h>\n" + good) == ["begins without 'a.h: '"]
    assert faults_of_opening(Path("b.h"), good) == ["begins without 'b.h: '"]
    assert faults_of_opening(Path("a.h"), "/* a.h: called by b */\n") == ["begins without a sentence"]
    assert faults_of_opening(Path("a.h"), "/* a.h: takes a packet, returns a verdict. */\n") == [
        "does not say who calls it"
    ]


SOURCE = """\
/* static int comment(void); */
static const uint8_t ask_mac[6], other[2] = {1, 2}, *third = NULL;
static const struct {
    int inner;
} table[] = {{1}};
static int (*const kinds[])(struct port *port) = {NULL};
static inline __attribute__((always_inline)) struct pkt *ask_pkt(int a,
                                                                 int b)
{
    static int local;
    return "static int text;" ? NULL : NULL;
}
static void askew(void) { }
static int ask_later(void);
int outside(void) { return 0; }
static struct { int x; } last;
"""


def test_statics_are_found() -> None:
    assert statics(SOURCE) == [
        "ask_mac", "other", "third", "table", "kinds", "ask_pkt", "askew", "ask_later", "last",
    ]  # fmt: skip


def test_a_static_without_its_prefix_is_found() -> None:
    assert without_prefix(Path("host/ask.c"), SOURCE) == ["other", "third", "table", "kinds", "askew", "last"]


def test_prefixes_of_a_file() -> None:
    assert {"port_tap", "tap"} <= set(prefixes(Path("port/port_tap.c")))
    assert {"from_provider_rest", "provider"} <= set(prefixes(Path("path/from_provider_rest.c")))
    assert "paths" in prefixes(Path("control/paths.c")) and "path" in prefixes(Path("control/paths.c"))
    assert "key" in prefixes(CSRC / "table" / "tables.h") and "key" not in prefixes(Path("table/map.h"))
