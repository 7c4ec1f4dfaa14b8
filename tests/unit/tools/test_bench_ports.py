"""What `isolane bench ports` makes of counts."""

import os

import pytest

from bench import devices, xdp
from bench.control_net import BenchError
from bench.ports import Run, reconcile
from bench.xdp import Count


def test_rates_of_a_run() -> None:
    before, after = Count(1_000, 64_000), Count(501_000, 53_064_000)
    run = Run(2_000_000, after.since(before), 2.0, 1.5)
    assert run.kpps == 250 and run.lost == 0.75
    assert run.cpu_seconds_per_million == 3
    assert run.delivered.octets / run.delivered.frames == 106


def test_a_queue_that_empties_is_no_negative_loss() -> None:
    assert Run(1_000, Count(1_010, 64_640), 1.0, 1.0).lost == 0


def test_counters_agree_but_for_frames_of_the_host() -> None:
    reconcile("somebody", 1_000_000 + 1_000, 1_000_000)
    reconcile("somebody", 50, 0)
    with pytest.raises(BenchError, match="somebody says that it sent 1,002,000 frames, and 1,000,000 came"):
        reconcile("somebody", 1_002_000, 1_000_000)
    with pytest.raises(BenchError, match="says that it sent 0 frames, and 5,000 came"):
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
