"""What `isolane bench ports` makes of counts."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from bench import datagrams, devices, ports, xdp
from bench.contest import Contest
from bench.control_net import BenchError
from bench.datagrams import MOST_LOST, highest
from bench.passed import Run, reconcile
from bench.peers import BASE
from bench.ports import Settings
from bench.xdp import Count


def test_rates_of_a_run() -> None:
    run = Run(2_000_000, 500_000, 2.0, 1.5)
    assert (run.kpps, run.offered_kpps, run.lost) == (250, 1000, 0.75)
    assert run.cpu_seconds_per_million == 3
    assert Count(501_000, 53_064_000).since(Count(1_000, 64_000)) == Count(500_000, 53_000_000)


def test_a_queue_that_empties_is_no_negative_loss() -> None:
    assert Run(1_000, 1_010, 1.0, 1.0).lost == 0


def test_nothing_is_no_rate() -> None:
    run = Run(0, 0, 1.0, 0.0)
    assert (run.kpps, run.lost, run.cpu_seconds_per_million) == (0, 0, 0)
    contest = Contest({BASE: [run], "a": [Run(10, 10, 1.0, 1.0)]}, [0.0], repeated=0)
    assert contest.ratio("a", lambda each: each.kpps)["median"] == 0


def test_counters_agree_but_for_frames_of_the_host() -> None:
    reconcile("somebody", 1_000_000 + 1_000, 1_000_000)
    reconcile("somebody", 50, 0)
    with pytest.raises(BenchError, match="somebody says 1,002,000 packets, and we count 1,000,000"):
        reconcile("somebody", 1_002_000, 1_000_000)
    with pytest.raises(BenchError, match="somebody says 0 packets, and we count 5,000"):
        reconcile("somebody", 0, 5_000)


def test_a_frame_is_as_long_as_it_is_to_be_and_its_header_sums_up() -> None:
    addresses = bytes((10, 0, 0, 11, 10, 0, 0, 12))
    frame = xdp.datagram("02:00:00:00:00:01", "02:00:00:00:00:02", addresses, 64)
    assert len(frame) == 64
    assert frame[:14].hex() == "020000000002" + "020000000001" + "0800"
    words = [int.from_bytes(frame[at : at + 2], "big") for at in range(14, 34, 2)]
    total = sum(words)
    assert (total & 0xFFFF) + (total >> 16) == 0xFFFF
    assert int.from_bytes(frame[16:18], "big") == 50, "of the IPv4 packet"
    assert int.from_bytes(frame[38:40], "big") == 30, "of the datagram"


def test_the_generator_has_a_cpu_of_its_own_where_there_are_two() -> None:
    before = os.sched_getaffinity(0)
    with devices.apart() as cpu:
        assert cpu in before
        assert os.sched_getaffinity(0) == (before - {cpu} or before)
    assert os.sched_getaffinity(0) == before


# ---- the highest rate without loss -------------------------------------------------------------------------


class Device:
    """Takes so many packets a second, and loses what is more."""

    def __init__(self, capacity: float) -> None:
        self.capacity = capacity
        self.rates: list[float] = []

    def __call__(self, rate: float) -> Run:
        self.rates.append(rate)
        return Run(round(rate), round(min(rate, self.capacity)), 1.0, 0.5)


@pytest.mark.parametrize("capacity", [2_000.0, 90_000.0, 333_333.0, 499_000.0])
def test_the_highest_rate_is_found(capacity: float) -> None:
    device = Device(capacity)
    found = highest(device, device(500_000))
    assert found.lost <= MOST_LOST
    assert 0.95 * capacity <= found.delivered <= 1.001 * capacity
    assert len(device.rates) < 30


def test_who_loses_nothing_at_full_speed_is_not_slowed_down() -> None:
    device = Device(600_000)
    top = device(500_000)
    assert highest(device, top) is top
    assert device.rates == [500_000]


def test_one_bad_moment_does_not_decide() -> None:
    """Every other attempt loses a tenth of what a good one passes."""
    device = Device(333_333)

    def noisy(rate: float) -> Run:
        run = device(rate)
        return replace(run, delivered=run.delivered * 9 // 10) if len(device.rates) % 2 else run

    assert highest(noisy, device(500_000)).delivered >= 0.95 * 333_333


def test_who_loses_at_every_rate_has_none() -> None:
    def loses(rate: float) -> Run:
        return Run(round(rate), round(rate * 0.9), 1.0, 0.5)

    assert highest(loses, loses(500_000)).kpps == 0


def test_a_lost_packet_in_a_thousand_is_none() -> None:
    def nearly(rate: float) -> Run:
        return Run(round(rate), round(rate * (0.9991 if rate <= 100_000 else 0.99)), 1.0, 0.5)

    assert highest(nearly, nearly(400_000)).offered == pytest.approx(100_000, rel=0.05)


# ---- what can't be sent ------------------------------------------------------------------------------------


def test_loads_whose_program_is_missing_are_left_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(datagrams, "PROGRAM", tmp_path / "absent")
    monkeypatch.setattr(ports.control_net, "check_root", lambda: None)
    monkeypatch.setitem(ports._HELD, ports.FRAMES, lambda *_: {})
    said: list[str] = []
    document = ports.run_all(Settings(["frames", "no-loss"], [BASE], 1, 0.1, 64), said.append)
    assert [each["load"] for each in document["results"]] == ["frames"]
    assert document["skipped"] == {"no-loss": f"{tmp_path}/absent not found: it is built in a checkout"}
    assert said == [f"without no-loss: {document['skipped']['no-loss']}"]
    with pytest.raises(BenchError, match="absent not found"):
        ports.run_all(Settings(["datagrams"], [BASE], 1, 0.1, 64), said.append)


def test_loads_in_which_nobody_who_is_asked_for_takes_part_are_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ports.control_net, "check_root", lambda: None)
    monkeypatch.setattr(datagrams, "missing", lambda: "")
    monkeypatch.setattr(devices.Contestant, "missing", "")
    monkeypatch.setattr(ports, "versions", lambda _contestants: {})
    monkeypatch.setattr(ports, "_HELD", dict.fromkeys(ports._HELD, lambda *_: {}))
    asked = ["testpmd-afxdp"]
    why = "testpmd-afxdp: frames through one device alone"
    sockets = (ports.DATAGRAMS, ports.NO_LOSS, ports.OVERLOAD_DATAGRAMS)
    loads = [ports.FRAMES, ports.OVERLOAD, *sockets]
    document = ports.run_all(Settings(loads, asked, 1, 0.1, 64), lambda _text: None)
    assert [each["load"] for each in document["results"]] == [ports.FRAMES, ports.OVERLOAD]
    assert document["skipped"] == dict.fromkeys(sockets, why)
    with pytest.raises(BenchError, match=why):
        ports.run_all(Settings([ports.NO_LOSS], asked, 1, 0.1, 64), lambda _text: None)
    document = ports.run_all(Settings(loads, [*asked, "isolane"], 1, 0.1, 64), lambda _text: None)
    assert len(document["results"]) == len(loads)
