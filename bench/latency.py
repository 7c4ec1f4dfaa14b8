"""Round trips between VMs of two hosts, isolane beside the kernel's own overlay: ping, whose times are the
kernel's, in rounds in which every contestant has its turn.

Back to back the next request goes when the answer is there. With a pause they go by a fixed schedule,
whatever the answers do, so that a delay meets all that are due meanwhile and none is left out.
"""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial
from operator import itemgetter

from bench import contest, control_net, rounds
from bench.contest import Contest, Figures, run_in, worked
from bench.control import percentile
from bench.control_net import BenchError
from bench.machine import described
from bench.peers import versions
from bench.rounds import Progress
from bench.sites import Lane

BACK_TO_BACK = 0.0
_TIME = re.compile(r"^\d+ bytes from .* time=([\d.]+) ms$", re.MULTILINE)
_SENT = re.compile(r"^(\d+) packets transmitted, (\d+) received", re.MULTILINE)


@dataclass(frozen=True)
class Settings:
    """contestants: none are all. pauses: between requests, in milliseconds, BACK_TO_BACK among them; count:
    of requests in a run.
    """

    profiles: Sequence[str]
    contestants: Collection[str]
    rounds: int
    pauses: Sequence[float]
    count: int


@dataclass(frozen=True)
class Run:
    """times: round trips in microseconds; cpu: seconds of all cores; wakeups: of the contestant's workers, on
    both hosts, if they count them.
    """

    times: Sequence[float]
    sent: int
    cpu: float
    wakeups: int | None = None

    def percentile(self, percent: int) -> float:
        return percentile(self.times, percent)


def run_all(settings: Settings, progress: Progress) -> Figures:
    """The document of `isolane bench latency --json`. BenchError: what is to be measured did not happen."""
    control_net.check_root()
    entrants = contest.entrants(settings.contestants, progress)
    results = []
    with control_net.interruptible():
        for profile in settings.profiles:
            measure = partial(_measure_all, settings)
            all_found = contest.held(entrants, profile, settings.rounds, measure, progress)
            for number, pause in enumerate(settings.pauses):
                found = all_found.of(itemgetter(number))
                figures = found.figures(profile, partial(_figures, found))
                results.append({"pauseMilliseconds": pause, "count": settings.count, **figures})
    return {
        "machine": described(),
        "versions": versions(entrants.there),
        "skipped": entrants.skipped,
        "results": results,
    }


def _figures(found: Contest[Run], name: str) -> Figures:
    figures = {
        "p50": found.spread(name, lambda run: run.percentile(50)),
        "p99": found.spread(name, lambda run: run.percentile(99)),
        "ratio": found.ratio(name, lambda run: run.percentile(50)),
        "lost": found.spread(name, lambda run: run.sent - len(run.times)),
        "cpuMicrosecondsPerTrip": found.spread(name, lambda run: 1e6 * run.cpu / len(run.times)),
    }
    woken = [run.wakeups / len(run.times) for run in found.runs[name] if run.wakeups is not None]
    return figures | ({"wakeUpsPerTrip": rounds.spread(woken)} if woken else {})


def _measure_all(settings: Settings, lane: Lane) -> list[Run]:
    return [_measure(pause, settings.count, lane) for pause in settings.pauses]


def _measure(pause: float, count: int, lane: Lane) -> Run:
    """BenchError: ping fails, or nothing comes back."""
    way = ["-A"] if pause == BACK_TO_BACK else ["-i", f"{pause / 1e3:.6f}"]
    command = ["ping", *way, "-c", str(count), str(lane.address)]
    done, cpu, woken = worked(lane, partial(run_in, lane.sender, command, count * max(pause, 1) / 1e3))
    return parse(done.stdout or done.stderr, cpu, woken)


def parse(output: str, cpu: float, woken: int | None = None) -> Run:
    """What ping prints. BenchError: it tells of no answer."""
    times = [float(each) * 1e3 for each in _TIME.findall(output)]
    sent = _SENT.search(output)
    if sent is None or not times:
        last = (output.strip().splitlines() or ["nothing"])[-1]
        raise BenchError(f"ping has measured nothing: {last}")
    return Run(times, int(sent[1]), cpu, woken)
