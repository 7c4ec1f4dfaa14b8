"""`isolane bench tcp` and `latency`: what they say, not how fast."""

import json
import subprocess
from contextlib import ExitStack

import pytest
from click.testing import CliRunner

from bench import contest, peers, sites
from bench.sites import HOSTS, Site
from dataplane.process.client import Client
from policy.kinds.model import Driver
from tests.native import BIN
from tests.netns.traces import traces
from tools.verbs.bench import command

OTHERS = ["kernel-vxlan", "kernel-bridge", "relays", "relays-whole", "ovs-packet", "ovs-afxdp"]
OURS = ["isolane-nvgre", "isolane-rewrite"]
BY_XDP = [f"{name}-afxdp" for name in OURS]
LANES = [*OURS, *BY_XDP, *OTHERS]


def test_all_contestants_have_their_turn_and_nothing_is_left() -> None:
    arguments = ["bench", "tcp", "--profile", "wire", "--rounds", "2", "--seconds", "1", "--json"]
    with subprocess.Popen([BIN / "isolane", *arguments], stdout=subprocess.PIPE, text=True) as process:
        output, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    document = json.loads(output)
    assert document["skipped"] == {}
    assert sorted(document["versions"]) == ["iperf3", "openvswitch-switch"]
    (result,) = document["results"]
    assert (result["profile"], result["rounds"]) == ("wire", 2)
    assert sorted(result["contestants"]) == sorted(LANES)
    for figures in result["contestants"].values():
        for name in ("gbps", "ratio", "cpuSecondsPerGbit"):
            assert 0 < figures[name]["min"] <= figures[name]["median"] <= figures[name]["max"]
        assert figures["retransmits"]["min"] >= 0
    woken = {
        name: figures["wakeUpsPerGbit"]["max"]
        for name, figures in result["contestants"].items()
        if "wakeUpsPerGbit" in figures
    }
    assert woken.keys() == {*OURS, *BY_XDP}, "others do not say"
    assert all(each > 0 for each in woken.values()), "workers sleep before a stream begins"
    assert result["contestants"]["kernel-vxlan"]["ratio"] == {"median": 1, "min": 1, "max": 1}
    assert traces(process.pid) == []


def test_large_frames_beside_small_ones() -> None:
    arguments = ["bench", "tcp", "--profile", "jumbo", "--rounds", "1", "--seconds", "1", "--json"]
    with subprocess.Popen([BIN / "isolane", *arguments], stdout=subprocess.PIPE, text=True) as process:
        output, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    document = json.loads(output)
    (result,) = document["results"]
    narrow = [f"{name}-1600" for name in OURS]
    lanes = [*OURS, *BY_XDP, *narrow, "kernel-vxlan", "kernel-bridge"]
    assert sorted(result["contestants"]) == sorted(lanes)
    assert document["skipped"].items() >= {"relays": "jumbo: its frames are smaller"}.items()
    compared = {name for name, figures in result["contestants"].items() if "ofOwnAt1600" in figures}
    assert compared == set(OURS)
    assert all(result["contestants"][name]["ofOwnAt1600"]["median"] > 0 for name in compared)
    assert traces(process.pid) == []


def test_round_trips_of_all_contestants() -> None:
    arguments = ["bench", "latency", "--profile", "wire", "--rounds", "2", "--count", "20", "--json"]
    with subprocess.Popen([BIN / "isolane", *arguments], stdout=subprocess.PIPE, text=True) as process:
        output, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    results = json.loads(output)["results"]
    assert [(each["profile"], each["pauseMilliseconds"]) for each in results] == [("wire", 0), ("wire", 2)]
    for result in results:
        assert sorted(result["contestants"]) == sorted(LANES)
        for figures in result["contestants"].values():
            assert 0 < figures["p50"]["min"] <= figures["p50"]["median"] <= figures["p99"]["max"]
            assert figures["ratio"]["median"] > 0 and figures["lost"]["max"] < 20
        woken = {name for name, figures in result["contestants"].items() if "wakeUpsPerTrip" in figures}
        assert woken == {*OURS, *BY_XDP}, "others do not say"
    pings = results[1]["contestants"]["isolane-nvgre"]["wakeUpsPerTrip"]
    assert 1 <= pings["median"] < 20, "who waits 2 ms for the next request sleeps"
    assert traces(process.pid) == []


def test_isolane_by_af_xdp_is_that(prefix: str) -> None:
    with ExitStack() as stack:
        sites.isolane(Site(prefix, "wire", stack), Driver.AFXDP)
        for host in HOSTS:
            with Client(f"{prefix}{host}") as client:
                ports = [client.status()["underlay"], *client.ports()]
            assert [port["kind"] for port in ports] == ["xdp"] * 3


def test_who_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    only = peers.Contestant("kernel-vxlan", "", sites.kernel_vxlan)
    monkeypatch.setattr(contest, "CONTESTANTS", [only])
    monkeypatch.setattr(contest, "READY_SECONDS", 0.1)
    monkeypatch.setattr(sites, "add_tunnel", lambda _number, _mtu: None)
    monkeypatch.setattr(sites, "add_bridge", lambda _members: None)
    done = CliRunner().invoke(command, ["tcp", "--profile", "wire", "--rounds", "1", "--seconds", "1"])
    assert done.exit_code == 1
    assert "kernel-vxlan: 10.0.0.12 does not answer" in done.stderr
