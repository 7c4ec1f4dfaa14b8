"""`isolane bench ports`: what it says, not how fast."""

import json
import os
import subprocess
import time
from contextlib import ExitStack
from dataclasses import replace
from functools import partial

import pytest
from pyroute2 import IPRoute

from bench import devices, peers, sites, xdp
from bench.control_net import BenchError, wait_until
from bench.ovs import PROGRAMS
from bench.ports import Settings, run_all
from bench.sites import HOSTS, WIRE, Lane, Site
from dataplane.host import links, netns
from tests.native import BIN
from tests.netns.traces import traces

SEEN = {
    **dict.fromkeys(("isolane-tap", "isolane-veth", "isolane-afxdp"), 106),
    "kernel-vxlan": 114,
    "kernel-bridge": 64,
    "relays": 64,
}
"""Lanes that are there on every machine, and how long a frame of 64 bytes is on the wire."""
OTHERS = {"ovs-packet": 106, "ovs-afxdp": 106, "testpmd-packet": 64, "testpmd-afxdp": 64}


def test_all_contestants_have_their_turn_and_nothing_is_left() -> None:
    arguments = ["bench", "ports", "--quick", "--rounds", "2", "--seconds", "0.2", "--json"]
    with subprocess.Popen([BIN / "isolane", *arguments], stdout=subprocess.PIPE, text=True) as process:
        output, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    document = json.loads(output)
    there = {name: size for name, size in OTHERS.items() if name not in document["skipped"]}
    (result,) = document["results"]
    assert (result["load"], result["frame"], result["rounds"]) == ("frames", 64, 2)
    lanes = SEEN | there
    assert sorted(result["contestants"]) == sorted(lanes)
    for name, figures in result["contestants"].items():
        for figure in ("kpps", "ratio", "offeredKpps", "cpuSecondsPerMillion"):
            assert 0 < figures[figure]["min"] <= figures[figure]["median"] <= figures[figure]["max"]
        assert 0 <= figures["lost"]["min"] <= figures["lost"]["max"] < 1
        assert figures["wireFrame"]["median"] == pytest.approx(lanes[name], abs=1)
    assert result["contestants"]["kernel-vxlan"]["ratio"] == {"median": 1, "min": 1, "max": 1}
    assert traces(process.pid) == []


def test_datagrams_as_many_as_go_and_as_many_as_are_not_lost() -> None:
    loads = ["datagrams", "no-loss"]
    arguments = [
        *("bench", "ports", "--rounds", "1", "--seconds", "0.2", "--json"),
        *(word for load in loads for word in ("--load", load)),
        *("--contestant", "isolane", "--contestant", "relays"),
    ]
    with subprocess.Popen([BIN / "isolane", *arguments], stdout=subprocess.PIPE, text=True) as process:
        output, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    flood, search = json.loads(output)["results"]
    assert [flood["load"], search["load"]] == loads
    for result in (flood, search):
        assert sorted(result["contestants"]) == [
            "isolane-nvgre",
            "isolane-rewrite",
            "kernel-vxlan",
            "relays",
        ]
        for figures in result["contestants"].values():
            assert figures["kpps"]["max"] <= figures["offeredKpps"]["max"]
            assert "wireFrame" not in figures
    assert all(figures["kpps"]["min"] > 0 for figures in flood["contestants"].values())
    assert all(figures["lost"]["max"] <= 0.001 for figures in search["contestants"].values())
    assert any(figures["kpps"]["max"] > 0 for figures in search["contestants"].values())
    assert traces(process.pid) == []


def test_more_and_more_is_offered() -> None:
    arguments = ["bench", "ports", "--load=overload", "--rounds=1", "--seconds=0.2", "--json"]
    arguments += ["--contestant=isolane", "--contestant=relays"]
    with subprocess.Popen([BIN / "isolane", *arguments], stdout=subprocess.PIPE, text=True) as process:
        output, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    (result,) = json.loads(output)["results"]
    for name in ("isolane-tap", "isolane-veth", "kernel-vxlan", "relays"):
        figures = result["contestants"][name]
        first, *_, last = figures["steps"]
        assert (first["times"], last["times"]) == (1, 10)
        assert 0 < figures["ofPeak"]["median"] <= 1
        assert figures["kpps"] == last["kpps"] and figures["offeredKpps"] == last["offeredKpps"]
    for name in ("isolane-tap", "isolane-veth", "relays"):
        first, *_, last = result["contestants"][name]["steps"]
        assert last["offeredKpps"]["median"] > 1.5 * first["offeredKpps"]["median"]
    assert traces(process.pid) == []


def test_more_and_more_is_sent_by_sockets() -> None:
    arguments = ["bench", "ports", "--load=overload-datagrams", "--rounds=1", "--seconds=0.2", "--json"]
    arguments += ["--contestant=relays"]
    with subprocess.Popen([BIN / "isolane", *arguments], stdout=subprocess.PIPE, text=True) as process:
        output, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    (result,) = json.loads(output)["results"]
    assert sorted(result["contestants"]) == ["kernel-vxlan", "relays"]
    for figures in result["contestants"].values():
        peak = max(step["kpps"]["median"] for step in figures["steps"])
        last = figures["steps"][-1]
        assert last["times"] == 10
        assert figures["ofPeak"]["median"] == pytest.approx(last["kpps"]["median"] / peak, abs=1e-3)
        offered = last["offeredKpps"]["median"] / peak
        assert 0 < offered < 11
        assert figures["offeredOfPeak"]["median"] == pytest.approx(offered, abs=1e-3)
    assert result["contestants"]["relays"]["offeredOfPeak"]["median"] > 1.2
    assert traces(process.pid) == []


def test_who_sends_nothing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    only = devices.Contestant("kernel-vxlan", "", devices.kernel_vxlan)
    monkeypatch.setattr("bench.ports.DEVICES", [only])
    monkeypatch.setattr("bench.ports.READY_SECONDS", 0.2)
    monkeypatch.setattr(sites, "add_bridge", lambda _members: None)
    with pytest.raises(BenchError, match="kernel-vxlan: no frame comes"):
        run_all(Settings(["frames"], [], 1, 0.1, 64), lambda _text: None)


def test_peers_that_do_not_work_are_left_out_with_their_reasons(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that does not start, and an Open vSwitch that lacks the driver."""

    def relay(site: Site) -> list[Lane]:
        devices._prepare(site)
        command = [str(peers.RELAY), "no-such-device", WIRE]
        _, gone = peers.started(site.stack, site.prefix + HOSTS[0], "relay", command)
        return [replace(devices._lane(site, "relays"), gone=gone)]

    known = [
        devices.Contestant("kernel-vxlan", "", devices.kernel_vxlan),
        devices.Contestant("relays", "", relay),
        devices.Contestant("ovs-afxdp", "", partial(devices.open_vswitch, "afxdp"), PROGRAMS),
    ]
    monkeypatch.setattr("bench.ports.DEVICES", known)
    monkeypatch.setattr("bench.ports.READY_SECONDS", 1.0)
    monkeypatch.setattr(peers, "_AFXDP", ("type=no-such-driver",))
    document = run_all(Settings(["frames"], [], 1, 0.1, 64), lambda _text: None)
    (result,) = document["results"]
    assert list(result["contestants"]) == ["kernel-vxlan"]
    said = "relay ended with status 1: no-such-device: No such device"
    assert document["skipped"]["relays"] == said
    assert document["skipped"]["ovs-afxdp"].endswith("(Address family not supported by protocol)")
    assert traces(os.getpid()) == []


# ---- generator and sink ------------------------------------------------------------------------------------


def test_what_is_generated_is_counted(prefix: str) -> None:
    with ExitStack() as stack:
        Site(prefix, "wire", stack)
        near, far = (prefix + host for host in HOSTS)
        frame = xdp.datagram("02:00:00:00:00:01", "02:00:00:00:00:02", bytes(8), 80)
        index = netns.call(near, _index, WIRE)
        stack.enter_context(xdp.stoppable())
        sink = stack.enter_context(netns.call(far, lambda: xdp.Sink(_index(WIRE))))
        with xdp.Generator(near, index, frame, min(os.sched_getaffinity(0))) as generator:
            wait_until(lambda: sink.count().frames > 1000, "no frame comes", 10)
            generator.stop()
            sent, came = generator.count(), sink.settled(2)
        assert 1000 < came.frames <= sent.frames
        assert sent.octets == 80 * sent.frames and came.octets == 80 * came.frames


def test_frames_are_generated_at_a_rate(prefix: str) -> None:
    rate, seconds = 20_000, 0.5
    with ExitStack() as stack:
        Site(prefix, "wire", stack)
        near, far = (prefix + host for host in HOSTS)
        frame = xdp.datagram("02:00:00:00:00:01", "02:00:00:00:00:02", bytes(8), 80)
        index = netns.call(near, _index, WIRE)
        stack.enter_context(xdp.stoppable())
        sink = stack.enter_context(netns.call(far, lambda: xdp.Sink(_index(WIRE))))
        with xdp.Generator(near, index, frame, min(os.sched_getaffinity(0)), rate) as generator:
            wait_until(lambda: sink.count().frames > 1000, "no frame comes", 10)
            begun, before = time.monotonic(), generator.count()
            wait_until(lambda: time.monotonic() > begun + seconds, "time stands still", 10)
            sent, took = generator.count().since(before), time.monotonic() - begun
    assert sent.frames == pytest.approx(rate * took, rel=0.2), "other tests may have the CPU for a while"
    assert sent.octets == 80 * sent.frames


def test_what_cannot_be_generated_is_told() -> None:
    said = pytest.raises(BenchError, match="frames can't be generated: no network namespace")
    with xdp.stoppable(), said, xdp.Generator("no-such-namespace", 1, bytes(64), 0) as generator:
        wait_until(lambda: bool(generator.count().frames), "no error", 10)


def _index(device: str) -> int:
    with IPRoute() as ip:
        return links.get(ip, device).index
