"""A contest: every contestant on a site of its own with the same wire, measured in turns."""

import os
import subprocess
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from pyroute2 import NetlinkError

from bench import rounds, sites
from bench.control_net import BenchError, wait_until
from bench.peers import BASE, CONTESTANTS, NARROW, Contestant
from bench.rounds import Progress, spread
from bench.sites import JUMBO, Lane, Site
from dataplane.host import netns

READY_SECONDS = 10.0
_SPARE_SECONDS = 20.0
_ALWAYS = ("isolane", NARROW.name, BASE)
"""They have to work, or there is nothing to compare."""
_FAILURES = (BenchError, NetlinkError, OSError, subprocess.SubprocessError)
_MOST_WORDS = 400

Figures = dict[str, Any]
T = TypeVar("T")
U = TypeVar("U")


@dataclass(frozen=True)
class Contest(Generic[T]):
    """What was measured of each lane, by round. steals: of each round; repeated: so many, for their steal."""

    runs: dict[str, list[T]]
    steals: Sequence[float]
    repeated: int

    def spread(self, name: str, figure: Callable[[T], float]) -> dict[str, float]:
        return spread([figure(run) for run in self.runs[name]])

    def of(self, part: Callable[[T], U]) -> "Contest[U]":
        """Only a part of what was measured."""
        runs = {name: [part(run) for run in runs] for name, runs in self.runs.items()}
        return Contest(runs, self.steals, self.repeated)

    def ratio(self, name: str, figure: Callable[[T], float], to: str = BASE) -> dict[str, float]:
        """In the same round; 0 if the other has nothing."""
        pairs = zip(self.runs[name], self.runs[to], strict=True)
        return spread([figure(run) / figure(base) if figure(base) else 0.0 for run, base in pairs])

    def figures(self, profile: str, of: Callable[[str], Figures]) -> Figures:
        return {
            "profile": profile,
            "rounds": len(self.steals),
            "repeated": self.repeated,
            "steal": spread(self.steals),
            "contestants": {name: of(name) for name in self.runs},
        }


@dataclass(frozen=True)
class Entrants:
    """there: who takes part. skipped: who does not, and why; they may be there in another contest. asked: who
    has to.
    """

    there: Sequence[Contestant]
    skipped: dict[str, str]
    asked: Collection[str] = ()

    def leave_out(self, name: str, why: str, progress: Progress) -> None:
        """BenchError: it has to take part."""
        if name in self.asked or name in _ALWAYS:
            raise BenchError(f"{name}: {why}")
        progress(f"without {name}: {why}")
        self.skipped[name] = why


def entrants(
    names: Collection[str], progress: Progress, known: Sequence[Contestant] | None = None
) -> Entrants:
    """Those of these names and BASE, or all, of those known, or of CONTESTANTS. BenchError: one of these is
    not installed.
    """
    everybody = CONTESTANTS if known is None else known
    wanted = [each for each in everybody if not names or each.name in {*names, BASE}]
    found = Entrants([each for each in wanted if not each.missing], {}, names)
    for each in wanted:
        if each.missing:
            found.leave_out(each.name, each.missing, progress)
    return found


def await_answer(lane: Lane) -> None:
    command = ["ping", "-c", "1", "-W", "1", str(lane.address)]

    def answers() -> bool:
        return run_in(lane.sender, command, 0).returncode == 0

    wait_until(answers, f"{lane.name}: {lane.address} does not answer", READY_SECONDS)


@dataclass
class _Team:
    """A contestant with what it is measured by, until that fails."""

    contestant: Contestant
    stack: ExitStack
    entrants: Entrants
    say: Progress
    lanes: list[Lane] = field(default_factory=list)
    is_out: bool = False

    def make(self, prefix: str, profile: str) -> None:
        self.say(f"making {self.contestant.name}")
        profile = self.contestant.profile or profile
        self.lanes = self._attempt(lambda: self.contestant.make(Site(prefix, profile, self.stack))) or []

    def in_turn(self, lane: Lane, measure: Callable[[Lane], T]) -> T | None:
        """None: it is out."""

        def measured() -> T:
            with lane.turn():
                return measure(lane)

        return None if self.is_out else self._attempt(measured, lane)

    def _attempt(self, do: Callable[[], T], lane: Lane | None = None) -> T | None:
        """None: it failed, and is out. BenchError: it has to take part."""
        try:
            return do()
        except _FAILURES as error:
            why = lane.gone() if lane else ""
            words = " ".join((why or str(error) or repr(error)).split())[:_MOST_WORDS]
            self.entrants.leave_out(self.contestant.name, words, self.say)
            self.is_out = True
            self.stack.close()  # now: it would take time from the others
            return None


def held(
    entrants: Entrants,
    profile: str,
    count: int,
    measure: Callable[[Lane], T],
    progress: Progress,
    await_ready: Callable[[Lane], None] = await_answer,
) -> Contest[T]:
    """So many rounds of those whom the profile suits. Who fails is left out of all of them, and said to be
    skipped. BenchError: it has to take part.
    """

    def say(text: str) -> None:
        progress(f"{profile}: {text}")

    with ExitStack() as stack:
        teams = [
            _Team(each, stack.enter_context(ExitStack()), entrants, say)
            for each in suited(entrants, profile, say)
        ]
        for number, team in enumerate(teams):
            team.make(f"bench-{os.getpid()}-{number}-", profile)
        lanes = {lane.name: (team, lane) for team in teams for lane in team.lanes}
        for team, lane in lanes.values():
            team.in_turn(lane, await_ready)

        def in_turn(name: str) -> T | None:
            team, lane = lanes[name]
            return team.in_turn(lane, measure)

        names = [name for name, (team, _) in lanes.items() if not team.is_out]
        found, steals, repeated = rounds.interleaved(names, count, in_turn, say)
    runs = {name: [run for each in found if (run := each[name]) is not None] for name in names}
    whole = {name: each for name, each in runs.items() if not lanes[name][0].is_out}
    return Contest(whole, steals, repeated)


def suited(entrants: Entrants, profile: str, say: Progress) -> Iterator[Contestant]:
    """Those that send frames as large as its wire takes, and beside isolane what that is compared with."""
    for each in entrants.there:
        if profile != JUMBO or each.jumbo:
            yield each
        else:
            entrants.skipped[each.name] = f"{JUMBO}: its frames are smaller"
            say(f"without {each.name}: its frames are smaller")
        if profile == JUMBO and each.make is sites.isolane:
            yield NARROW


def worked(lane: Lane, do: Callable[[], T]) -> tuple[T, float, int | None]:
    """What it gives, seconds of all cores meanwhile, and wake-ups of the contestant's workers, if they count
    them.
    """
    woken, used = lane.wakeups() if lane.wakeups else 0, rounds.cpu()
    done = do()
    used = rounds.cpu().since(used)
    return done, used.seconds, lane.wakeups() - woken if lane.wakeups else None


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
