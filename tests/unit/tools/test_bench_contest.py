"""A contest goes on without who fails in it, and says why."""

import os
import signal
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from bench import contest, latency, peers, rounds, tcp
from bench.contest import Contest, Entrants, held
from bench.control_net import BenchError, wait_until
from bench.peers import BASE, Contestant
from bench.rounds import Cpu
from bench.sites import Lane, Site
from tests.native import BIN
from tools.verbs import bench_contests

ADDRESS = IPv4Address("10.0.0.12")


class FakeSite:
    def __init__(self, prefix: str, profile: str, stack: ExitStack) -> None:
        self.stack = stack


class Play:
    """Contestants of one lane each. failing: by name, where; "make", "ready" or in which round."""

    def __init__(self, **failing: str | int) -> None:
        self.failing = failing
        self.closed: list[str] = []
        self.said: list[str] = []
        self.turns: dict[str, int] = {}
        self.gone = ""

    def contestant(self, name: str) -> Contestant:
        def make(site: Site) -> list[Lane]:
            site.stack.callback(self.closed.append, name)
            self._fail(name, "make")
            return [Lane(name, "vm1", "vm2", ADDRESS, gone=lambda: self.gone)]

        return Contestant(name, "", make)

    def measure(self, lane: Lane) -> int:
        self.turns[lane.name] = self.turns.get(lane.name, 0) + 1
        self._fail(lane.name, self.turns[lane.name])
        return self.turns[lane.name]

    def ready(self, lane: Lane) -> None:
        self._fail(lane.name, "ready")

    def hold(
        self, names: list[str], count: int = 3, asked: tuple[str, ...] = ()
    ) -> tuple[Contest[int], Entrants]:
        entrants = Entrants([self.contestant(name) for name in names], {}, asked)
        return held(entrants, "wire", count, self.measure, self.said.append, self.ready), entrants

    def _fail(self, name: str, where: str | int) -> None:
        if self.failing.get(name.replace("-", "_")) == where:
            raise BenchError(f"{name} is\n broken")


@pytest.fixture(autouse=True)
def nothing_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contest, "Site", FakeSite)
    monkeypatch.setattr(rounds, "cpu", lambda: Cpu(0, 0, 0))


@pytest.mark.parametrize("where", ["make", "ready", 2])
def test_who_fails_is_left_out_with_the_reason(where: str | int) -> None:
    play = Play(peer=where)
    found, entrants = play.hold(["isolane", "peer", BASE])
    assert found.runs == {"isolane": [1, 2, 3], BASE: [1, 2, 3]}
    assert entrants.skipped == {"peer": "peer is broken"}
    assert "wire: without peer: peer is broken" in play.said
    assert play.closed[0] == "peer", "at once, so that the others have the machine for themselves"
    assert play.turns.get("peer", 0) == (2 if where == 2 else 0)


def test_why_a_program_has_gone_is_the_better_reason() -> None:
    play = Play(peer="ready")
    play.gone = "peer ended with status 1: no such device"
    _, entrants = play.hold(["peer", BASE])
    assert entrants.skipped == {"peer": play.gone}


@pytest.mark.parametrize("name", ["isolane", BASE])
def test_a_contest_without_these_is_none(name: str) -> None:
    play = Play(**{name.replace("-", "_"): "ready"})
    with pytest.raises(BenchError, match=f"{name} is broken"):
        play.hold(["isolane", "peer", BASE])
    assert sorted(play.closed) == sorted(["isolane", "peer", BASE])


def test_who_is_asked_for_has_to_work() -> None:
    with pytest.raises(BenchError, match="peer: peer is broken"):
        Play(peer=2).hold(["peer", BASE], asked=("peer",))


def test_a_program_that_ends_says_why() -> None:
    with ExitStack() as stack:
        script = "import sys; sys.exit('\\nEAL: Error\\n  Cause: no huge pages\\n')"
        process, gone = peers.started(stack, None, "testpmd", [sys.executable, "-c", script])
        wait_until(lambda: process.poll() is not None, "it goes on", 10)
        assert gone() == "testpmd ended with status 1: EAL: Error; Cause: no huge pages"


def test_a_program_that_runs_has_not_gone() -> None:
    with ExitStack() as stack:
        _, gone = peers.started(stack, None, "sleep", ["sleep", "60"])
        assert peers.first_word([gone, lambda: "", lambda: "the last"]) == "the last"


def test_parts_of_what_was_measured() -> None:
    both = Contest({BASE: [(1, 10), (2, 20)]}, [0.0, 0.0], repeated=1)
    assert both.of(lambda pair: pair[1]).runs == {BASE: [10, 20]}


def test_wake_ups_meanwhile_are_counted_by_who_counts_them(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds, woken = iter([1.0, 1.5, 3.0, 3.5]), iter([40, 47])
    monkeypatch.setattr(rounds, "cpu", lambda: Cpu(next(seconds), 0, 0))
    ours = Lane("ours", "vm1", "vm2", ADDRESS, wakeups=lambda: next(woken))
    assert contest.worked(ours, lambda: "done") == ("done", 0.5, 7)
    assert contest.worked(replace(ours, wakeups=None), lambda: "done") == ("done", 0.5, None)


def test_wake_ups_are_printed_beside_rates(capsys: pytest.CaptureFixture[str]) -> None:
    runs = {"isolane-nvgre": [tcp.Run(4e9, 1.0, 7, 2.0, 600)], BASE: [tcp.Run(8e9, 1.0, 7, 2.0)]}
    found = Contest(runs, [0.0], repeated=0)
    result = found.figures("wire", partial(tcp._figures, found))
    bench_contests._print_tcp({"congestion": "cubic", "results": [result]})
    head, ours, others = capsys.readouterr().out.splitlines()[1:]
    at = head.index("wake-ups/Gbit")
    assert ours[at:].startswith("150.00 (150.00-150.00)")
    assert others[at:].split() == ["7"], "retransmits alone"


def test_pauses_are_measured_in_the_same_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    play = Play()
    monkeypatch.setattr(contest, "CONTESTANTS", [play.contestant("isolane"), play.contestant(BASE)])
    monkeypatch.setattr(contest, "run_in", lambda *_: subprocess.CompletedProcess([], 0))
    monkeypatch.setattr("bench.control_net.check_root", lambda: None)
    asked: list[tuple[float, str]] = []

    def measure(pause: float, _count: int, lane: Lane) -> latency.Run:
        asked.append((pause, lane.name))
        return latency.Run([1.0 + pause], 1, 0.5)

    monkeypatch.setattr(latency, "_measure", measure)
    document = latency.run_all(latency.Settings(["wire"], [], 2, (0.0, 2.0), 1), play.said.append)
    assert asked[:2] == [(0.0, "isolane"), (2.0, "isolane")] and len(asked) == 8
    assert [each["pauseMilliseconds"] for each in document["results"]] == [0.0, 2.0]
    assert [each["contestants"][BASE]["p50"]["median"] for each in document["results"]] == [1.0, 3.0]
    assert len(set(play.said)) == len(play.said), "each is said once"


def test_a_validation_that_is_ended_leaves_no_store(tmp_path: Path) -> None:
    command = [BIN / "isolane", "bench", "validation", "--ports=300", "--hosts=7", "--changes=100000"]
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        while "100000 changes" not in process.stderr.readline():
            assert process.poll() is None
        assert len(list(tmp_path.iterdir())) == 1
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) != 0
    assert list(tmp_path.iterdir()) == []
