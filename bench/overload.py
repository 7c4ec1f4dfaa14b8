"""What comes through a contestant that is offered more and more, up to ten times what it passes at most: who
works on packets that are lost later on passes fewer the more there are, and nothing in the end.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench.contest import Contest, Figures
from bench.passed import Run
from bench.rounds import spread

TIMES = (1, 2, 4, 10)
"""What is offered, of what passes at most."""
MUST = 0.9
"""What passes then, at least, of what passes at most."""
_FIRST_RATE, _LOST = 20_000.0, 0.2
Measure = Callable[[float], Run]
"""At so many packets a second; 0 is as many as there can be."""


@dataclass(frozen=True)
class Steps:
    """runs: by TIMES. Who sends may not make as many as it is to: see what was offered."""

    runs: Sequence[Run]

    @property
    def peak(self) -> float:
        return max(run.kpps for run in self.runs)

    @property
    def last(self) -> Run:
        return self.runs[-1]

    @property
    def of_peak(self) -> float:
        return self.last.kpps / self.peak if self.peak else 0.0

    @property
    def offered_of_peak(self) -> float:
        """How many times what passes at most was offered, of the last of TIMES."""
        return self.last.offered_kpps / self.peak if self.peak else 0.0


def most(measure: Measure) -> float:
    """Packets a second that pass at most, about: what is offered doubles until much of it is lost."""
    rate, found = _FIRST_RATE, 0.0
    while True:
        run = measure(rate)
        is_more = run.kpps * 1e3 > found
        found = max(found, run.kpps * 1e3)
        if run.lost > _LOST or not is_more:
            return found
        rate *= 2


def steps(measure: Measure, base: float) -> Steps:
    """base: what passes at most."""
    return Steps([measure(times * base) for times in TIMES])


def figures(found: Contest[Steps], name: str) -> Figures:
    runs = found.runs[name]
    return {
        "ofPeak": found.spread(name, lambda each: each.of_peak),
        "must": MUST,
        "offeredOfPeak": found.spread(name, lambda each: each.offered_of_peak),
        "steps": [
            {
                "times": times,
                "offeredKpps": spread([each.runs[number].offered_kpps for each in runs]),
                "kpps": spread([each.runs[number].kpps for each in runs]),
            }
            for number, times in enumerate(TIMES)
        ],
    }
