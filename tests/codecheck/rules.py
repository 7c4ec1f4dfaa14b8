"""The rules of csrc/README.md: which there are, who cites them, and what is wrong with that.

A rule is a row of a table: `| 2.10.3 | condition | drop or action | RFC |`. The core and tests cite it by a
comment that begins with its number: `/* 2.10.3 */`, `/* 2.10.3, 2.10.4: why */`, and in Python `# 2.10.3`.
Golden cases have a field for it.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

_ROW = re.compile(r"^\| (\d+\.\d+\.\d+) \|(.*)\|$", re.M)
_LIST = r"(\d+\.\d+\.\d+(?:, \d+\.\d+\.\d+)*)"
_IN_C = re.compile(r"/\*\s*" + _LIST + r"(?:\s*\*/|:\s)")
_IN_PYTHON = re.compile(r"#\s*" + _LIST + r"(?:\s*$|:\s)", re.M)
_CELL = re.compile(r"(?<!\\)\|")


class Rule(NamedTuple):
    """drop: the reason in drop.def, "" where something else is done. decides: false if other rules say what
    becomes of the packet."""

    number: str
    drop: str
    decides: bool


class Step(Protocol):
    """out: what comes of it, also of what is dropped."""

    @property
    def drop(self) -> str: ...
    @property
    def out(self) -> Sequence[object]: ...


class Case(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def rules(self) -> tuple[str, ...]: ...
    @property
    def steps(self) -> Sequence[Step]: ...


def rules(page: str) -> list[Rule]:
    found = []
    for number, cells in _ROW.findall(page):
        action = _CELL.split(cells)[1].strip()
        drop = re.match(r"`([a-z0-9-]+)`", action)
        found.append(Rule(number, drop[1] if drop else "", not action.startswith("goes on")))
    return found


def citations(path: Path) -> set[str]:
    """Rule numbers that the comments of a C or Python file begin with."""
    pattern = _IN_PYTHON if path.suffix == ".py" else _IN_C
    return {number for found in pattern.findall(path.read_text()) for number in found.split(", ")}


def cited(paths: Iterable[Path]) -> dict[str, list[str]]:
    """Rule -> names of the files that cite it."""
    by_rule: dict[str, list[str]] = {}
    for path in sorted(paths):
        for number in citations(path):
            by_rule.setdefault(number, []).append(path.name)
    return by_rule


def problems(page: str, code: Iterable[Path], tests: Iterable[Path], cases: Sequence[Case]) -> list[str]:
    """What is wrong, a line each."""
    known = {rule.number: rule for rule in rules(page)}
    in_code, in_tests = cited(code), cited(tests)
    for case in cases:
        for number in case.rules:
            in_tests.setdefault(number, []).append(case.name)
    return [
        *(f"{number}: no code cites it" for number in known if number not in in_code),
        *(f"{number}: no test cites it" for number in known if number not in in_tests),
        *(
            f"{number}: no such rule, but {', '.join(files)} cites it"
            for citing in (in_code, in_tests)
            for number, files in citing.items()
            if number not in known
        ),
        *(problem for case in cases for problem in _unexercised(case, known)),
    ]


def _unexercised(case: Case, known: dict[str, Rule]) -> Iterator[str]:
    """Rules that a case cites and does not come by, drops that it does not account for."""
    cites = [known[number] for number in case.rules if number in known]
    dies_by = {step.drop for step in case.steps} - {""}
    lives = any(step.out or not step.drop for step in case.steps)
    for rule in cites:
        if rule.drop and rule.drop not in dies_by:
            yield f"{case.name}: cites {rule.number}, and nothing dies by {rule.drop}"
        if not rule.drop and rule.decides and not lives:
            yield f"{case.name}: cites {rule.number}, and everything dies"
    for drop in sorted(dies_by - {rule.drop for rule in cites}):
        yield f"{case.name}: {drop} by no rule that it cites"
