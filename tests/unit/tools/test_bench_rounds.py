"""Rounds of a bench: turns, stolen time, and what iperf3 and ping report."""

import json

import pytest

from bench import latency, rounds
from bench.control_net import BenchError
from bench.rounds import Cpu, interleaved, parse_cpu
from bench.tcp import parse


def test_time_of_all_cores() -> None:
    before = parse_cpu("cpu  100 5 50 1000 10 3 2 7 40 1")
    after = parse_cpu("cpu  160 5 70 1100 20 4 6 10 90 1")
    assert before == Cpu(seconds=1.6, stolen=0.07, total=11.77)
    used = after.since(before)
    assert (used.seconds, used.stolen, used.total) == pytest.approx((0.85, 0.03, 1.98))
    assert used.steal == pytest.approx(3 / 198)
    assert before.since(before).steal == 0


TIMERS = """\
cpu: 0
  .idle_sleeptime : 2000000500 nsecs
  .iowait_sleeptime: 500000000 nsecs
cpu: 1
  .idle_sleeptime : 3000000000 nsecs
  .iowait_sleeptime: 0 nsecs
"""


def test_time_of_all_cores_to_the_nanosecond() -> None:
    ticks = Cpu(seconds=99.0, stolen=0.5, total=99.0)
    before = rounds.by_idle(TIMERS, 10.0, ticks)
    assert (before.seconds, before.stolen, before.total) == pytest.approx((13.9999995, 0.5, 20.0), abs=1e-10)
    used = rounds.by_idle(TIMERS.replace("2000000500", "2000001500"), 10.000_002, ticks).since(before)
    assert used.seconds == pytest.approx(3e-6, abs=1e-9)
    assert rounds.by_idle("cpu: 0\n", 10.0, ticks) is ticks, "a kernel without such figures"


def steals(monkeypatch: pytest.MonkeyPatch, *percent: int) -> None:
    """Of each round, also of those that are repeated."""
    now = Cpu(0, 0, 0)
    times = []
    for each in percent:
        then = Cpu(now.seconds + 100 - each, now.stolen + each, now.total + 100)
        times += [now, then]
        now = then
    monkeypatch.setattr(rounds, "cpu", iter(times).__next__)


def test_contestants_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    steals(monkeypatch, 0, 1, 3)
    order: list[str] = []
    said: list[str] = []

    def measure(name: str) -> int:
        order.append(name)
        return len(order)

    found, stolen, repeated = interleaved(["a", "b"], 3, measure, said.append)
    assert order == ["a", "b", "b", "a", "a", "b"], "neither is always the first"
    assert found == [{"a": 1, "b": 2}, {"b": 3, "a": 4}, {"a": 5, "b": 6}]
    assert stolen == [0, 0.01, 0.03] and repeated == 0
    assert said[0] == "round 1 of 3: a" and said[-1] == "round 3 of 3: b"


def test_a_round_in_which_much_is_stolen_is_repeated_but_not_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    steals(monkeypatch, 4, 2, 50, 50, 50, 50)
    said: list[str] = []
    found, stolen, repeated = interleaved(["a"], 2, str.upper, said.append)
    assert found == [{"a": "A"}, {"a": "A"}]
    assert stolen == [0.02, 0.5], "it says so"
    assert repeated == 4
    assert said.count("50.0% of the time was stolen: the round is repeated") == 3


def test_what_iperf3_reports() -> None:
    end = {"sum_sent": {"retransmits": 3}, "sum_received": {"bytes": 250_000_000, "seconds": 2.0}}
    run = parse(json.dumps({"end": end}), 1.5, 80)
    assert (run.gbps, run.retransmits, run.cpu, run.wakeups) == (1.0, 3, 1.5, 80)


@pytest.mark.parametrize(
    ("report", "said"),
    [
        ('{"error": "unable to connect"}', "unable to connect"),
        ("", "nothing"),
        ("iperf3: what\nis this", "is this"),
        ('{"end": {}}', '{"end": {}}'),
        ("[]", r"\[\]"),
    ],
)
def test_a_report_of_no_run(report: str, said: str) -> None:
    with pytest.raises(BenchError, match=f"iperf3 has measured nothing: {said}"):
        parse(report, 1.0)


def test_a_stream_of_which_nothing_arrived() -> None:
    end = {"sum_sent": {"retransmits": 9}, "sum_received": {"bytes": 0, "seconds": 1.0}}
    with pytest.raises(BenchError, match="no byte of the stream arrived"):
        parse(json.dumps({"end": end}), 1.0)


PING = """PING 10.0.0.12 (10.0.0.12) 56(84) bytes of data.
64 bytes from 10.0.0.12: icmp_seq=1 ttl=64 time=0.050 ms
64 bytes from 10.0.0.12: icmp_seq=3 ttl=64 time=1.20 ms
64 bytes from 10.0.0.12: icmp_seq=4 ttl=64 time=0.070 ms

--- 10.0.0.12 ping statistics ---
4 packets transmitted, 3 received, 25% packet loss, time 3000ms
rtt min/avg/max/mdev = 0.050/0.440/1.200/0.537 ms
"""


def test_what_ping_prints() -> None:
    run = latency.parse(PING, 0.5, 8)
    assert run.times == pytest.approx([50, 1200, 70])
    assert (run.sent, run.cpu, run.wakeups) == (4, 0.5, 8)
    assert run.percentile(50) == pytest.approx(70) and run.percentile(99) == pytest.approx(1200)
    with pytest.raises(BenchError, match="ping has measured nothing: ping: connect: Network is unreachable"):
        latency.parse("ping: connect: Network is unreachable\n", 0.5)
