"""What `isolane bench ports --load overload` makes of counts."""

import json
from pathlib import Path

import pytest

from bench import documents, overload, ports, tables
from bench.contest import Contest
from bench.overload import TIMES, Steps
from bench.passed import Run
from bench.peers import BASE
from tools.verbs import bench_contests


class Device:
    """Takes so many packets a second, fewer the more come: of those over its limit a share is work, too."""

    def __init__(self, limit: float, work: float = 0.0, most: float = 1e9) -> None:
        self.limit, self.work, self.most = limit, work, most
        self.rates: list[float] = []

    def __call__(self, rate: float) -> Run:
        self.rates.append(rate)
        offered = min(rate, self.most)
        passed = min(offered, max(self.limit - self.work * max(offered - self.limit, 0), 0))
        return Run(round(offered), round(passed), 1.0, 0.5)


@pytest.mark.parametrize("limit", [15_000.0, 90_000.0, 1_000_000.0])
def test_what_passes_at_most_is_found(limit: float) -> None:
    assert overload.most(Device(limit)) == pytest.approx(limit)
    assert 0.5 * limit <= overload.most(Device(limit, work=0.5)) <= limit
    assert overload.most(Device(limit, most=limit / 2)) == pytest.approx(limit / 2), "of the generator"


def test_who_works_on_what_is_lost_passes_less_and_less() -> None:
    device = Device(100_000)
    good = overload.steps(device, 100_000)
    assert device.rates == [times * 100_000 for times in TIMES]
    assert (good.peak, good.last.offered, good.of_peak) == (100, 1_000_000, 1)
    bad = overload.steps(Device(100_000, work=0.1), 100_000)
    assert bad.of_peak == pytest.approx(0.1)
    assert overload.steps(Device(0), 100_000).of_peak == 0


def test_how_many_times_the_peak_was_offered() -> None:
    """Who sends may not get as far as ten times."""
    assert overload.steps(Device(100_000), 100_000).offered_of_peak == pytest.approx(10)
    assert overload.steps(Device(100_000, most=330_000), 100_000).offered_of_peak == pytest.approx(3.3)
    assert overload.steps(Device(0), 100_000).offered_of_peak == 0


def test_what_is_said_of_it(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    runs = [
        overload.steps(Device(100_000, work=work, most=most), 100_000)
        for work, most in ((0.0, 1e9), (0.01, 1e9), (0.1, 800_000))
    ]
    contest: Contest[Steps] = Contest({BASE: runs}, [0.0] * 3, repeated=0)
    figures = overload.figures(contest, BASE)
    assert figures["ofPeak"] == {"median": 0.91, "min": 0.3, "max": 1.0} and figures["must"] == 0.9
    assert figures["offeredOfPeak"] == {"median": 10, "min": 8, "max": 10}
    assert [each["times"] for each in figures["steps"]] == list(TIMES)
    assert figures["steps"][-1]["kpps"] == {"median": 91, "min": 30, "max": 100}
    last = ports._figures(contest.of(lambda steps: steps.last), BASE)
    result = contest.figures("wire", lambda _name: last | figures) | {"load": "overload", "frame": 64}
    document = {"machine": {}, "results": [result]}
    bench_contests._print_ports(document)
    said = capsys.readouterr().out
    assert "ten times what passes" in said
    assert "0.91 (0.30-1.00) of the peak, must 0.9, at 10.00 (8.00-10.00) times it: 100 of 100," in said
    assert said.endswith(": 100 of 100, 99 of 200, 97 of 400, 91 of 1000 kpps\n")
    path = tmp_path / "ports.json"
    path.write_text(json.dumps(document))
    read = documents.read(path).document
    assert isinstance(read, documents.PortsDocument)
    head, (row,) = tables.ports(read.results[0])
    found = dict(zip(head, row, strict=True))
    assert found["of its peak"] == "0.91 (0.30-1.00)"
    assert found["offered, times its peak"] == "10.0 (8.0-10.0)"
