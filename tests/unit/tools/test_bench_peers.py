"""Who takes part in a contest."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from bench import contest, devices, ovs_dpdk, peers, sites
from bench.control_net import BenchError, wait_until
from bench.peers import Contestant
from bench.sites import Lane, Site
from tools.verbs import bench_contests
from tools.verbs.bench import command


def nothing(_site: Site) -> list[Lane]:
    raise AssertionError("it is not to be made")


THERE = Contestant("there", "", nothing, [sys.executable])
BASE = Contestant(peers.BASE, "", nothing)
ABSENT = Contestant(
    "absent", "a peer", nothing, ["no-such-1", sys.executable, "no-such-2"], "no-such-package"
)
WHY = "no-such-1, no-such-2 not found (Debian package no-such-package)"


@pytest.fixture
def some(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [THERE, ABSENT, BASE]
    monkeypatch.setattr(contest, "CONTESTANTS", found)
    monkeypatch.setattr(peers, "CONTESTANTS", found)
    monkeypatch.setattr(devices, "DEVICES", [THERE])
    monkeypatch.setattr(ovs_dpdk, "CONTESTANT", replace(THERE, name="beside"))


@pytest.mark.usefixtures("some")
def test_who_is_not_installed_is_left_out_and_named() -> None:
    said: list[str] = []
    found = contest.entrants([], said.append)
    assert (found.there, found.skipped) == ([THERE, BASE], {"absent": WHY})
    assert said == [f"without absent: {WHY}"]


@pytest.mark.usefixtures("some")
def test_who_is_asked_for_must_be_there() -> None:
    with pytest.raises(BenchError, match=r"absent: no-such-1, no-such-2 not found"):
        contest.entrants(["absent"], print)


@pytest.mark.usefixtures("some")
def test_others_are_compared_with_one_that_always_takes_part() -> None:
    assert contest.entrants(["there"], print).there == [THERE, BASE]
    assert contest.entrants([peers.BASE], print).there == [BASE]


def test_large_frames_are_of_those_who_send_them_and_isolane_has_small_ones_beside() -> None:
    there = [peers.CONTESTANTS[0], replace(BASE, jumbo=True), THERE]
    entrants, said = contest.Entrants(there, {}), list[str]()
    assert list(contest.suited(entrants, "wire", said.append)) == there
    assert (entrants.skipped, said) == ({}, [])
    found = contest.suited(entrants, sites.JUMBO, said.append)
    assert list(found) == [there[0], peers.NARROW, there[1]]
    assert entrants.skipped == {"there": "jumbo: its frames are smaller"}
    assert said == ["without there: its frames are smaller"]


@pytest.mark.usefixtures("some")
def test_what_to_install() -> None:
    def said(*words: str) -> str:
        done = CliRunner().invoke(command, ["peers", *words])
        assert done.exit_code == 0
        return done.stdout

    assert said("--install") == "apt-get install no-such-package\n"
    rows = json.loads(said("--json"))["contestants"]
    assert [(row["name"], row["missing"]) for row in rows] == [
        ("there", ""),
        ("absent", WHY),
        (peers.BASE, ""),
        ("beside", ""),
    ]
    there, absent, *_ = said().splitlines()
    assert there.endswith("ready") and absent.endswith(WHY)


def test_every_contestant_can_be_asked_for() -> None:
    assert tuple(each.name for each in peers.CONTESTANTS) == bench_contests.CONTESTANTS
    assert peers.BASE in bench_contests.CONTESTANTS
    assert tuple(each.name for each in devices.DEVICES) == bench_contests.DEVICES
    assert peers.BASE in bench_contests.DEVICES


def test_versions_are_those_of_programs() -> None:
    python = Contestant("python", "", nothing, [sys.executable], "python3")
    assert peers.versions([python, BASE]) == {"python3": sys.version.split()[0]}
    for said, version in (
        ("EAL: Detected CPU lcores: 2\nEAL: RTE Version: 'DPDK 22.11.11'\n", "22.11.11"),
        ("ovsdb-server (Open vSwitch) 3.1.0\n", "3.1.0"),
        ("no idea, 7\n", "unknown"),
    ):
        other = replace(python, version=["printf", "%s", said])
        assert peers.versions([other]) == {"python3": version}
    assert peers.versions([replace(python, version=["no-such-program"])]) == {"python3": "unknown"}


@pytest.fixture
def process() -> Iterator["subprocess.Popen[bytes]"]:
    with subprocess.Popen(["sleep", "60"]) as running:
        yield running
        running.kill()


def test_who_never_sleeps_is_stopped_between_turns(process: "subprocess.Popen[bytes]") -> None:
    def is_stopped() -> bool:
        stat = Path(f"/proc/{process.pid}/stat").read_text()
        return stat.rpartition(")")[2].split()[0] == "T"

    def becomes(what: Callable[[], bool]) -> None:
        wait_until(what, "not so", 10)

    with peers.awake([process.pid]):
        becomes(lambda: not is_stopped())
    becomes(is_stopped)
    with pytest.raises(KeyError), peers.awake([process.pid]):
        becomes(lambda: not is_stopped())
        raise KeyError
    becomes(is_stopped)
