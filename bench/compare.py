"""Two runs of the bench, or a run and the baseline of instructions, side by side."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bench.instructions import Counts, comparable, risen

SAME = ("keys", "records", "flows", "hosts", "frame")
"""Two clocks are of the same thing when these are the same."""


@dataclass(frozen=True)
class Figures:
    """clocks: median and what was measured, by operation, family and number of sources ("push/4")."""

    clocks: dict[str, tuple[float, tuple[object, ...]]]
    counts: Counts | None


@dataclass
class Comparison:
    """rows: case, clocks old and new, instructions old and new; None: not there, or not the same thing.

    risen: what fails the comparison. unjudged: why instructions do not, or "".
    """

    rows: list[tuple[str, float | None, float | None, float | None, float | None]] = field(
        default_factory=list
    )
    risen: list[str] = field(default_factory=list)
    unjudged: str = ""


def figures(document: Mapping[str, Any]) -> Figures:
    """Of a document of `isolane bench core`, or of bench/instructions.json."""
    if "results" not in document:
        return Figures({}, Counts(**document))
    results = {
        f"{r['op']}/{r['family']}" + (f"/{r['sources']}" if "sources" in r else ""): r
        for r in document["results"]
    }
    clocks = {case: (r["clocks"]["median"], tuple(r[name] for name in SAME)) for case, r in results.items()}
    counts = None
    if "counted" in document:
        counted = [r for r in results.values() if "instructions" in r]
        instructions = {f"{r['op']}/{r['family']}": r["instructions"] for r in counted}
        counts = Counts(**document["counted"], instructions=instructions)
    return Figures(clocks, counts)


def compare(old: Figures, new: Figures) -> Comparison:
    result = Comparison()
    if not old.counts or not new.counts:
        result.unjudged = "one of the two has no instructions"
    elif not comparable(old.counts, new.counts):
        result.unjudged = (
            f"one has them by {old.counts.by} of {old.counts.compiler}'s code,"
            f" the other by {new.counts.by} of {new.counts.compiler}'s"
        )
    else:
        result.risen = risen(old.counts, new.counts)
    for case in new.clocks or (new.counts.instructions if new.counts else {}):
        counted = "/".join(case.split("/")[:2])
        same = case in old.clocks and case in new.clocks and old.clocks[case][1] == new.clocks[case][1]
        result.rows.append(
            (
                case,
                old.clocks[case][0] if same else None,
                new.clocks[case][0] if case in new.clocks else None,
                old.counts.instructions.get(counted) if old.counts else None,
                new.counts.instructions.get(counted) if new.counts else None,
            )
        )
    return result


def lines(comparison: Comparison) -> list[str]:
    """A table to print."""
    titles = ("clocks", "now", "change", "instructions", "now", "change")
    table = [f"{'op':<16}" + "".join(f"{title:>13}" for title in titles)]
    for case, *cells in comparison.rows:
        text = f"{case:<16}"
        for old, new in (cells[:2], cells[2:]):
            change = f"{new / old - 1:+.1%}" if old and new else "-"
            text += f"{_cell(old):>13}{_cell(new):>13}{change:>13}"
        table.append(text)
    return table


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
