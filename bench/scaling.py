"""How many packets several workers of one engine pass at once in memory, of what one passes alone.

They are as if each had a queue of the same port: tables, arena, depot and the writer's view of readers are
shared, slots, batches and counters are their own. One on each of their CPUs alone, all at once, and the same
of the roof take turns, so that what else the machine does meets them alike. Threads of one core share it:
the roof's own ratio says what the CPUs have for a program that shares nothing.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from bench.rounds import spread
from dataplane.binding.benching import BenchResult, BenchRound

ROUNDS = 64
"""Of a turn; the first fills the caches and is not kept."""
BARS = {"must": 1.7, "aim": 1.9}
_CPUS = Path("/sys/devices/system/cpu")


@dataclass(frozen=True)
class Turn:
    """Clocks a packet on each CPU: of one worker alone, and of several at once."""

    alone: Sequence[float]
    together: Sequence[float]

    @property
    def ratio(self) -> float:
        """Packets of all in a time, to those of one alone: the CPUs need not be alike."""
        pairs = zip(self.alone, self.together, strict=True)
        return sum(alone / together for alone, together in pairs)


@dataclass
class Turns:
    """measure: so many rounds of so many workers. kept: where no round was left undisturbed, no turn is."""

    workers: int
    measure: Callable[[int, int], BenchResult]
    kept: list[Turn] = field(default_factory=list)

    def take(self) -> None:
        alone = []
        for cpu in cpus(self.workers):
            with on_cpu(cpu):
                alone += clocks(self.measure(1, ROUNDS).rounds, 1)
        together = clocks(self.measure(self.workers, ROUNDS).rounds, self.workers)
        if len(alone) == len(together) == self.workers:
            self.kept.append(Turn(alone, together))


def clocks(rounds: Sequence[BenchRound], workers: int) -> list[float]:
    """A packet, of each worker: the median of rounds in which the kernel took no worker's CPU away. None is
    there if all were disturbed. rounds: as BenchResult has them.
    """
    groups = [rounds[at : at + workers] for at in range(workers, len(rounds), workers)]
    kept = [group for group in groups if not any(each.preempted for each in group)]
    return [median(group[n].clocks / group[n].packets for group in kept) for n in range(workers) if kept]


@contextmanager
def on_cpu(cpu: int) -> Iterator[None]:
    """This thread, and those that it starts."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cpu})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def cpus(workers: int) -> list[int]:
    """Those that so many workers are on."""
    return sorted(os.sched_getaffinity(0))[:workers]


def siblings(cpu: int, place: Path = _CPUS) -> str:
    """The CPUs that share its core, as far as the kernel knows: a hypervisor may not tell it."""
    try:
        return (place / f"cpu{cpu}" / "topology" / "thread_siblings_list").read_text().strip()
    except OSError:
        return "unknown"


def document(path: Turns, roof: Turns | None) -> dict[str, object]:
    """Of one operation. BARS are those of two workers."""
    found: dict[str, object] = {
        "workers": path.workers,
        "cores": {str(cpu): siblings(cpu) for cpu in cpus(path.workers)},
        "turns": len(path.kept),
        "ratio": spread([turn.ratio for turn in path.kept]),
        "alone": spread([each for turn in path.kept for each in turn.alone]),
        "together": spread([each for turn in path.kept for each in turn.together]),
    }
    if roof:
        found["roof"] = spread([turn.ratio for turn in roof.kept])
    return found | (BARS if path.workers == 2 else {})
