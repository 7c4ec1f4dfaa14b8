"""Every rule of csrc/README.md is cited where the core carries it out, and by a test that comes by it."""

import re
from itertools import pairwise
from pathlib import Path

import pytest

from dataplane.binding.stats import drop_reasons
from tests.codecheck.rules import Rule, problems, rules
from tests.golden.cases import CASES
from tests.golden.table import Case, case, drops, ends, refuses
from tests.native import ROOT

PAGE = ROOT / "csrc" / "README.md"


def sources(folder: Path, *suffixes: str) -> list[Path]:
    return [path for path in folder.rglob("*") if path.suffix in suffixes]


def test_every_rule_is_cited_by_code_and_by_a_test() -> None:
    folders = [ROOT / "tests" / name for name in ("c", "oracle", "netns")]
    tests = [path for folder in folders for path in sources(folder, ".c", ".py")]
    of_packets = ("push", "rewrite", "pop", "answers", "segments", "next_hops")
    tests += [ROOT / "tests" / "unit" / "dataplane" / f"test_{name}.py" for name in of_packets]
    assert not problems(PAGE.read_text(), sources(ROOT / "csrc", ".c", ".h"), tests, CASES)


def test_numbers_count_up() -> None:
    """By section, by table, by row: so none is missing, and none there twice."""
    numbers = [tuple(map(int, rule.number.split("."))) for rule in rules(PAGE.read_text())]
    for before, (section, table, row) in pairwise(numbers):
        assert (section, table, row) in (
            (before[0], before[1], before[2] + 1),
            (before[0], before[1] + 1, 1),
            (before[0] + 1, 1, 1),
        )


def test_rows_stand_under_their_heading() -> None:
    heading = ""
    for line in PAGE.read_text().splitlines():
        if found := re.match(r"### (\d+\.\d+) ", line):
            heading = found[1]
        if found := re.match(r"\| (\d+\.\d+)\.\d+ \|", line):
            assert found[1] == heading, line


def test_every_drop_has_a_rule_and_every_rules_drop_is_one() -> None:
    assert {rule.drop for rule in rules(PAGE.read_text())} - {""} == {r.name for r in drop_reasons()[1:]}


def test_lines_are_not_too_wide() -> None:
    lines = PAGE.read_text().splitlines()
    assert not [line for line in lines if len(line) > (200 if line.startswith("|") else 110)]


# ---- the check itself, on a page of three rules ------------------------------------------------------------

SMALL_PAGE = r"""
### 1.1 Frames

| no. | condition | drop or action | RFC |
| --- | --- | --- | --- |
| 1.1.1 | short | `eth-short` | |
| 1.1.2 | 1 \| 2 | consumed, `eth-short` or not | 826 |
| 1.1.3 | a group's | goes on | |
"""
SHORT, SILENT = drops("a", b"", "eth-short"), ends("a", b"")
TOLD = refuses("a", b"", "eth-short", b"")
GOOD_C = "/* 1.1.1, 1.1.2: why */ x(); /* 1.1.3 */ /* see 9.9.9 */ /* 8.8 */"


def small_tree(where: Path, c: str = GOOD_C, python: str = "x()  # 1.1.3\n", *cases: Case) -> list[str]:
    (where / "a.c").write_text(c)
    (where / "test_a.py").write_text(python)
    return problems(SMALL_PAGE, [where / "a.c"], [where / "test_a.py"], cases)


def test_rows_are_rules() -> None:
    assert rules(SMALL_PAGE) == [
        Rule("1.1.1", "eth-short", True),
        Rule("1.1.2", "", True),
        Rule("1.1.3", "", False),
    ]


def test_a_good_tree(tmp_path: Path) -> None:
    good = case("good", "1.1.1 1.1.2", "", SHORT, SILENT)
    assert small_tree(tmp_path, GOOD_C, "x()  # 1.1.3\n", good) == []
    assert small_tree(tmp_path, GOOD_C, "# 1.1.1, 1.1.2: why\n# 1.1.3\n") == []


@pytest.mark.parametrize(
    ("c", "python", "cited", "found"),
    [
        ("/* 1.1.1, 1.1.2 */", "# 1.1.3\n", "1.1.1 1.1.2", ["1.1.3: no code cites it"]),
        (GOOD_C, "# and 1.1.3\n", "1.1.1 1.1.2", ["1.1.3: no test cites it"]),
        (GOOD_C, "# 1.1.3, 1.1.4\n", "1.1.1 1.1.2", ["1.1.4: no such rule, but test_a.py cites it"]),
        (GOOD_C + "/* 2.1.1 */", "# 1.1.3\n", "1.1.1 1.1.2", ["2.1.1: no such rule, but a.c cites it"]),
        (GOOD_C, "# 1.1.3\n", "1.1.1 1.1.2 7.7.7", ["7.7.7: no such rule, but the case cites it"]),
        (GOOD_C, "# 1.1.3, 1.1.1\n", "1.1.2", ["the case: eth-short by no rule that it cites"]),
    ],
)
def test_a_bad_tree(tmp_path: Path, c: str, python: str, cited: str, found: list[str]) -> None:
    assert small_tree(tmp_path, c, python, case("the case", cited, "", SHORT, SILENT)) == found


def test_an_error_is_something_that_lives(tmp_path: Path) -> None:
    assert small_tree(tmp_path, GOOD_C, "# 1.1.3\n", case("told", "1.1.1 1.1.2", "", TOLD)) == []


def test_cases_that_cite_what_they_do_not_come_by(tmp_path: Path) -> None:
    alive = case("alive", "1.1.1 1.1.2", "", SILENT)
    dead = case("dead", "1.1.1 1.1.2 1.1.3", "", SHORT)
    assert small_tree(tmp_path, GOOD_C, "# 1.1.3\n", alive, dead) == [
        "alive: cites 1.1.1, and nothing dies by eth-short",
        "dead: cites 1.1.2, and everything dies",
    ]
