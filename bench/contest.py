"""A contest: every contestant on a site of its own with the same wire, measured in turns."""

import os
import subprocess
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from bench import rounds
from bench.control_net import BenchError, wait_until
from bench.peers import BASE, CONTESTANTS, Contestant
from bench.rounds import Progress, spread
from bench.sites import Lane, Site
from dataplane.host import netns

READY_SECONDS = 10.0
_SPARE_SECONDS = 20.0

Figures = dict[str, Any]
T = TypeVar("T")


@dataclass(frozen=True)
class Contest(Generic[T]):
    """What was measured of each lane, by round. steals: of each round; repeated: so many, for their steal."""

    runs: dict[str, list[T]]
    steals: Sequence[float]
    repeated: int

    def spread(self, name: str, figure: Callable[[T], float]) -> dict[str, float]:
        return spread([figure(run) for run in self.runs[name]])

    def ratio(self, name: str, figure: Callable[[T], float]) -> dict[str, float]:
        """To BASE in the same round; 0 if that has nothing."""
        pairs = zip(self.runs[name], self.runs[BASE], strict=True)
        return spread([figure(run) / figure(base) if figure(base) else 0.0 for run, base in pairs])

    def figures(self, profile: str, of: Callable[[str], Figures]) -> Figures:
        return {
            "profile": profile,
            "rounds": len(self.steals),
            "repeated": self.repeated,
            "steal": spread(self.steals),
            "contestants": {name: of(name) for name in self.runs},
        }


def entrants(
    names: Collection[str], progress: Progress, known: Sequence[Contestant] | None = None
) -> tuple[list[Contestant], dict[str, str]]:
    """Who takes part of those known, or of CONTESTANTS: these and BASE's, or all; and why others can't.
    BenchError: one of these can't.
    """
    everybody = CONTESTANTS if known is None else known
    wanted = [each for each in everybody if not names or each.name in {*names, BASE}]
    skipped = {each.name: each.missing for each in wanted if each.missing}
    for name, why in skipped.items():
        if name in names:
            raise BenchError(f"{name}: {why}")
        progress(f"without {name}: {why}")
    return [each for each in wanted if each.name not in skipped], skipped


def await_answer(lane: Lane) -> None:
    command = ["ping", "-c", "1", "-W", "1", str(lane.address)]

    def answers() -> bool:
        return run_in(lane.sender, command, 0).returncode == 0

    wait_until(answers, f"{lane.name}: {lane.address} does not answer", READY_SECONDS)


def held(
    contestants: Sequence[Contestant],
    profile: str,
    count: int,
    measure: Callable[[Lane], T],
    progress: Progress,
    await_ready: Callable[[Lane], None] = await_answer,
) -> Contest[T]:
    """So many rounds. BenchError: what is to be measured did not happen."""

    def say(text: str) -> None:
        progress(f"{profile}: {text}")

    def in_turn(lane: Lane) -> T:
        with lane.turn():
            return measure(lane)

    with ExitStack() as stack:
        lanes = {lane.name: lane for lane in _lanes(contestants, profile, stack, say)}
        for lane in lanes.values():
            with lane.turn():
                await_ready(lane)
        found, steals, repeated = rounds.interleaved(
            list(lanes), count, lambda name: in_turn(lanes[name]), say
        )
    return Contest({name: [each[name] for each in found] for name in lanes}, steals, repeated)


def _lanes(
    contestants: Sequence[Contestant], profile: str, stack: ExitStack, say: Progress
) -> Iterator[Lane]:
    for number, each in enumerate(contestants):
        say(f"making {each.name}")
        yield from each.make(Site(f"bench-{os.getpid()}-{number}-", profile, stack))


def run_in(namespace: str, command: Sequence[str], seconds: float) -> "subprocess.CompletedProcess[str]":
    """What a program prints that takes so many seconds. BenchError: it is not there, or goes on for much
    longer.
    """
    try:
        return netns.call(
            namespace,
            subprocess.run,
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds + _SPARE_SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise BenchError(
            f"{' '.join(command)} does not end within {seconds + _SPARE_SECONDS:.0f} s"
        ) from None
    except OSError as error:
        raise BenchError(f"{command[0]} is needed: {error}") from None
