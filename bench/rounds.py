"""Rounds in which all contestants take their turn, so that what else the machine does meets them alike."""

import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TypeVar

MOST_STEAL = 0.03
"""Of a machine's time, taken by its hypervisor: a round with more is repeated."""
_REPEATS = 3
_NANOSECONDS = 1e9
_IDLE = re.compile(r"\.(?:idle|iowait)_sleeptime\s*: (\d+) nsecs")

Progress = Callable[[str], None]
T = TypeVar("T")


@dataclass(frozen=True)
class Cpu:
    """Of all cores since some time of the past, in seconds. seconds: neither idle nor stolen."""

    seconds: float
    stolen: float
    total: float

    def since(self, before: "Cpu") -> "Cpu":
        return Cpu(self.seconds - before.seconds, self.stolen - before.stolen, self.total - before.total)

    @property
    def steal(self) -> float:
        return self.stolen / self.total if self.total else 0.0


def cpu() -> Cpu:
    """By the clock and what cores were idle, where the kernel tells that: to the nanosecond. Else by clock
    ticks, which short work falls between.
    """
    found = parse_cpu(Path("/proc/stat").read_text().splitlines()[0])
    try:
        timers = Path("/proc/timer_list").read_text()
    except OSError:
        return found
    return by_idle(timers, time.monotonic(), found)


def by_idle(timers: str, now: float, ticks: Cpu) -> Cpu:
    """timers: /proc/timer_list, read at the time `now`. ticks: what /proc/stat says."""
    idle = [int(each) / _NANOSECONDS for each in _IDLE.findall(timers)]
    if not idle:
        return ticks
    total = now * len(idle) / 2  # a core has two of them
    return Cpu(total - sum(idle) - ticks.stolen, ticks.stolen, total)


def parse_cpu(line: str) -> Cpu:
    """The first line of /proc/stat, see proc(5). Time of guests is in that of users already."""
    ticks = os.sysconf("SC_CLK_TCK")
    user, nice, system, idle, waiting, irq, softirq, stolen = (
        int(each) / ticks for each in line.split()[1:9]
    )
    busy = user + nice + system + irq + softirq
    return Cpu(busy, stolen, busy + idle + waiting + stolen)


def interleaved(
    names: Sequence[str], count: int, measure: Callable[[str], T], progress: Progress
) -> tuple[list[Mapping[str, T]], list[float], int]:
    """Of each round what was measured and its steal, and how many rounds were repeated for it. Every other
    round goes backwards. A round that is no better the last time counts as it is.
    """
    rounds: list[Mapping[str, T]] = []
    steals: list[float] = []
    repeated = 0
    while len(rounds) < count:
        for attempt in range(_REPEATS + 1):
            before = cpu()
            order = list(names) if len(rounds) % 2 == 0 else list(reversed(names))
            found = {}
            for name in order:
                progress(f"round {len(rounds) + 1} of {count}: {name}")
                found[name] = measure(name)
            steal = cpu().since(before).steal
            if steal <= MOST_STEAL or attempt == _REPEATS:
                break
            progress(f"{steal:.1%} of the time was stolen: the round is repeated")
            repeated += 1
        rounds.append(found)
        steals.append(steal)
    return rounds, steals, repeated


def spread(values: Sequence[float]) -> dict[str, float]:
    return {"median": round(median(values), 4), "min": round(min(values), 4), "max": round(max(values), 4)}
