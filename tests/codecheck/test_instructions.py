"""The guard against slow rot: no operation takes more instructions than bench/instructions.json says."""

import warnings
from dataclasses import replace

import pytest

from bench.instructions import BASELINE, Counts, baseline, cases, comparable, count, risen

OLD = Counts("valgrind-3.19.0", "gcc 12.2.0", {"push/4": 500.0, "pop/4": 900.0})


def test_no_operation_takes_more_instructions_than_it_did() -> None:
    old, new = baseline(), count(cases(), valgrind=True)
    assert new.instructions.keys() == old.instructions.keys()
    if not comparable(old, new):
        text = (
            f"NOT JUDGED: {BASELINE.name} is of {old.compiler}'s code, this core was made by {new.compiler}"
        )
        warnings.warn(text, stacklevel=1)
        pytest.skip(text)
    assert not risen(old, new), "worth it? then: .venv/bin/python -m bench.instructions"


def test_a_count_is_the_same_twice() -> None:
    first, second = (count([("push", 4), ("rewrite-in", 6)], valgrind=True) for _ in range(2))
    for case, instructions in first.instructions.items():
        assert second.instructions[case] == pytest.approx(instructions, rel=0.005)


def test_what_has_risen_is_named() -> None:
    new = replace(OLD, instructions={"push/4": 516.0, "pop/4": 900.0, "new/4": 1.0})
    assert risen(OLD, new) == ["push/4: 500.0 -> 516.0 instructions a packet (+3.2%)"]


def test_up_to_three_percent_has_not_risen() -> None:
    assert not risen(OLD, replace(OLD, instructions={"push/4": 515.0, "pop/4": 1.0}))


@pytest.mark.parametrize(
    ("by", "compiler", "same"),
    [
        ("valgrind-3.24.0", "gcc 12.4.0", True),
        ("valgrind-3.19.0", "gcc 13.1.0", False),
        ("valgrind-3.19.0", "clang 12.0.1", False),
        ("perf", "gcc 12.2.0", False),
    ],
)
def test_only_like_is_compared_with_like(by: str, compiler: str, same: bool) -> None:
    assert comparable(OLD, replace(OLD, by=by, compiler=compiler)) is same
