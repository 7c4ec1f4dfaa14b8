"""The bench's workload against the core and the twin: what it says about right and wrong, not how fast."""

import json
import os
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from bench import core, scaling, workload
from bench.instructions import BASELINE
from dataplane.binding.benching import BenchConfig, BenchResult, BenchRound
from dataplane.binding.errors import CallError
from tools.verbs.bench import ODD_OPS, OPS, command


@pytest.mark.parametrize("pa_family", [[], ["--pa-family", "4"]], ids=" ".join)
def test_every_operation_is_verified_and_timed_without_a_drop(pa_family: list[str]) -> None:
    arguments = [
        "core",
        "--records",
        "500",
        "--hosts",
        "7",
        "--seconds",
        "0.1",
        "--family",
        "4",
        "--family",
        "6",
        *pa_family,
        "--json",
    ]
    done = CliRunner().invoke(command, arguments)
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    results = document["results"]
    assert [(r["op"], r["family"]) for r in results] == [(op, family) for op in OPS for family in (4, 6)]
    for result in results:
        wanted = pa_family[-1:] if "rewrite" not in result["op"] else []
        assert [str(result["pa_family"])] == (wanted or [str(result["family"])])
        assert result["drops"] == 0
        assert result["records"] == 501  # and the port's own
        assert 0 < result["clocks"]["min"] <= result["clocks"]["median"] <= result["clocks"]["max"]


def test_a_roof_stands_beside_every_operation_that_has_one() -> None:
    arguments = ["core", "--records", "500", "--hosts", "7", "--seconds", "0.1", "--roof"]
    done = CliRunner().invoke(command, [*arguments, "--json"])
    assert done.exit_code == 0, done.output
    results = {result.pop("op"): result for result in json.loads(done.stdout)["results"]}
    assert "roof" not in results.pop("lookup")
    assert {op: result["bar"] for op, result in results.items()} == {
        "push": 1.25,
        "pop": 1.25,
        "rewrite-out": 1.35,
        "rewrite-in": 1.35,
    }
    for result in results.values():
        roof = result["roof"]["clocks"]
        assert 0 < roof["min"] <= roof["median"] <= roof["max"]
        assert result["ratio"] == pytest.approx(result["clocks"]["median"] / roof["median"], rel=0.01)


def test_there_is_no_roof_for_ip6() -> None:
    done = CliRunner().invoke(command, ["core", "--roof", "--family", "6"])
    assert done.exit_code == 2
    assert "family 4 only" in done.stderr


def test_a_roof_that_makes_other_packets_is_no_measure() -> None:
    settings = core.Settings(records=100, flows=10, hosts=3, roof=True)
    with ExitStack() as stack:
        run = core.prepare("push", settings, stack)
        run.dataplane.set_neighbour(workload.NETWORKS[4].gateway, bytes.fromhex("020000007701"))
        with pytest.raises(core.WrongResult, match="roof"):
            core.verify_roof(run)


@pytest.mark.parametrize(
    ("op", "offsets"),
    [  # of bytes that say whose packet it is or how it has to be read
        ("push", (6, 11, 12, 13, 14, 16, 20, 21, 23, 26, 29, 30)),
        ("rewrite-out", (6, 11, 12, 13, 14, 16, 20, 21, 23, 26, 29, 30)),
        ("pop", (0, 5, 6, 12, 14, 16, 20, 23, 26, 30, 33, 34, 35, 36, 38, 42, 47, 48, 54, 56, 62, 68, 72)),
        ("rewrite-in", (0, 5, 6, 12, 14, 16, 20, 23, 26, 30, 33)),
    ],
)
def test_a_roof_refuses_what_the_path_refuses(op: str, offsets: tuple[int, ...]) -> None:
    with ExitStack() as stack:
        run = core.prepare(op, core.Settings(records=100, flows=10, hosts=3, roof=True), stack)
        config = BenchConfig(run.operation.op, run.operation.port_in, run.frame_len, 1, 63)
        batch = run.frames[: 64 * run.frame_len]
        assert run.dataplane.bench(config, batch, run.roof).dropped == 0
        for offset in offsets:
            wrong = bytearray(batch)
            wrong[offset] ^= 0x81
            assert run.dataplane.bench(config, bytes(wrong), run.roof).dropped == 1, offset


def test_refused_packets_are_timed_and_dropped_for_one_reason() -> None:
    odd = [f"--op={op}" for op in ODD_OPS]
    arguments = ["core", *odd, "--sources", "2", "--sources", "50", "--records", "500", "--seconds", "0.1"]
    done = CliRunner().invoke(command, [*arguments, "--json"])
    assert done.exit_code == 0, done.output
    results = json.loads(done.stdout)["results"]
    assert [(r["op"], r.get("reason"), r.get("sources")) for r in results] == [
        ("push-miss", "no-record", None),
        ("push-spoof", "src-address", 2),
        ("push-spoof", "src-address", 50),
        ("push-allowed", None, 2),
        ("push-allowed", None, 50),
    ]
    for result in results:
        assert (result["drops"] >= result["packets"]) is ("reason" in result)
        assert result["drops"] == 0 or "reason" in result


@pytest.mark.parametrize("op", ["push-miss", "push-spoof"])
def test_packets_dropped_for_another_reason_do_not_count(op: str) -> None:
    with ExitStack() as stack:
        run = core.prepare(op, core.Settings(records=100, flows=10, hosts=3, sources=2), stack)
        run.time()
        run.check()
        wrong = bytearray(run.frames)
        wrong[6] ^= 2  # the first packet's source MAC
        run.frames = bytes(wrong)
        run.first = 0
        run.time()
        with pytest.raises(core.WrongResult, match="src-mac"):
            run.check()


def test_a_packet_that_is_not_dropped_does_not_count_as_a_miss() -> None:
    settings = core.Settings(records=100, flows=10, hosts=3)
    with ExitStack() as stack:
        run = core.prepare("push-miss", settings, stack)
        run.frames = core.work("push", settings, 1 << 13).frames.tobytes()
        run.first = 0
        run.time()
        with pytest.raises(core.WrongResult):
            run.check()


def test_what_differs_from_the_twin_is_not_timed() -> None:
    settings = core.Settings(records=100, flows=10, hosts=3)
    with ExitStack() as stack:
        run = core.prepare("push", settings, stack)
        too_few = np.zeros(128, np.uint32)  # the twin then lacks the records of most packets
        with pytest.raises(core.WrongResult):
            core.verify(run, too_few)


def test_zipf_prefers_few_flows() -> None:
    uniform, _ = workload.sequence("uniform", 1000, 1000, 10_000, seed=1)
    zipf, _ = workload.sequence("zipf", 1000, 1000, 10_000, seed=1)
    assert np.bincount(uniform).max() < 40
    assert np.bincount(zipf).max() > 800


RESULT = {"op": "push", "family": 4, "keys": "uniform", "records": 501, "flows": 500, "hosts": 7, "frame": 64}
CLOCKS = {"median": 80.0, "min": 70.0, "max": 90.0}


def bench_document(path: Path, instructions: float, clocks: float, **changed: object) -> str:
    result = {**RESULT, "clocks": {**CLOCKS, "median": clocks}, "mpps": CLOCKS, "drops": 0} | changed
    counted = {"by": "valgrind-3.19.0", "compiler": "gcc 12.2.0"}
    document = {"machine": {}, "results": [{**result, "instructions": instructions}], "counted": counted}
    path.write_text(json.dumps(document))
    return str(path)


def compared(old: str, new: str) -> Result:
    return CliRunner().invoke(command, ["core", "--input", new, "--compare", old])


def test_a_rise_of_instructions_fails_the_comparison(tmp_path: Path) -> None:
    old = bench_document(tmp_path / "old.json", 500.0, 80.0)
    done = compared(old, bench_document(tmp_path / "new.json", 520.0, 80.0))
    assert done.exit_code == 1
    assert "push/4: 500.0 -> 520.0 instructions a packet (+4.0%)" in done.stderr


def test_clocks_are_compared_and_not_judged(tmp_path: Path) -> None:
    old = bench_document(tmp_path / "old.json", 500.0, 80.0)
    done = compared(old, bench_document(tmp_path / "new.json", 510.0, 160.0))
    assert done.exit_code == 0
    last = " ".join(done.stdout.splitlines()[-1].split())
    assert last == "push/4 80.0 160.0 +100.0% 500.0 510.0 +2.0%"


def test_clocks_of_other_things_are_not_compared(tmp_path: Path) -> None:
    old = bench_document(tmp_path / "old.json", 500.0, 80.0)
    done = compared(old, bench_document(tmp_path / "new.json", 500.0, 160.0, records=100))
    last = " ".join(done.stdout.splitlines()[-1].split())
    assert last == "push/4 - 160.0 - 500.0 500.0 +0.0%"


def test_a_run_is_compared_with_the_baseline(tmp_path: Path) -> None:
    arguments = ["core", "--op", "push", "--records", "500", "--seconds", "0.1", "--compare"]
    figures = json.loads(BASELINE.read_text())
    figures["instructions"]["push/4"] = 10.0
    doctored = tmp_path / "baseline.json"
    doctored.write_text(json.dumps(figures))
    done = CliRunner().invoke(command, [*arguments, str(doctored)])
    assert done.exit_code == 1, done.output
    assert "error: push/4: 10.0 -> " in done.stderr


def test_validation_is_measured_whole_and_by_one_port() -> None:
    words = ["validation", "--ports", "300", "--hosts", "7", "--changes", "3"]
    done = CliRunner().invoke(command, [*words, "--json"])
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert (document["ports"], document["hosts"], document["change"]["count"]) == (300, 7, 3)
    assert 0 < document["whole"]["seconds"] < document["bars"]["wholeSeconds"]
    assert 0 < document["whole"]["peakBytes"] < document["bars"]["peakGiB"] * (1 << 30)
    assert 0 < document["change"]["p50"] <= document["change"]["p99"]
    refused = CliRunner().invoke(command, ["validation", "--ports", "10000", "--hosts", "3"])
    assert refused.exit_code == 2 and "10000 ports need 11 hosts" in refused.stderr


# ---- several workers ---------------------------------------------------------------------------------------


def test_what_two_workers_pass_stands_beside_what_one_does() -> None:
    words = ["core", "--op=push", "--op=push-miss", "--workers=2", "--roof", "--records=500", "--seconds=0.1"]
    done = CliRunner().invoke(command, [*words, "--json"])
    if len(os.sched_getaffinity(0)) < 2:
        assert done.exit_code == 1 and "2 workers need 2 CPUs" in done.stderr
        return
    assert done.exit_code == 0, done.output
    push, miss = json.loads(done.stdout)["results"]
    found = push["scaling"]
    assert (found["workers"], found["must"], found["aim"]) == (2, 1.7, 1.9)
    assert len(found["cores"]) == 2 and found["turns"] >= core.MIN_ROUNDS
    for name in ("ratio", "roof", "alone", "together"):
        assert 0 < found[name]["min"] <= found[name]["median"] <= found[name]["max"]
    assert "roof" not in miss["scaling"], "it has none"


def test_all_workers_make_the_packets_that_one_makes() -> None:
    """Each begins somewhere else in the frames, and together they count what they did, and no more."""
    settings = core.Settings(records=500, flows=500, hosts=7, workers=2)
    with ExitStack() as stack:
        run = core.prepare("push", settings, stack)
        frames = 2 * core.ROUND
        run.frames = run.frames[: frames * run.frame_len]
        halves = [run.bench(core.ROUND, first).digest for first in (0, core.ROUND)]
        run.timed += frames
        both = run.time_workers(2, 1)
        assert both.digest == halves[0] ^ halves[1] and halves[0] != halves[1]
        assert [each.packets for each in both.rounds] == [core.ROUND] * 2
        run.check()
        received = run.dataplane.port_counters(run.operation.port_in)
        assert received.received == run.sample + run.timed
        with pytest.raises(CallError, match="invalid argument"):
            run.time_workers(3, 1)


def rounds_of(*clocks_and_preempted: tuple[int, int]) -> list[BenchRound]:
    return [BenchRound(10, clocks, 0, 0, preempted) for clocks, preempted in clocks_and_preempted]


def test_clocks_of_workers_are_of_rounds_in_which_none_was_disturbed() -> None:
    first = [(9000, 0), (9000, 0)]
    rounds = rounds_of(*first, (100, 0), (200, 0), (900, 1), (200, 0), (120, 0), (220, 0))
    assert scaling.clocks(rounds, 2) == [11, 21]
    assert scaling.clocks(rounds_of(*first, (100, 0), (200, 1)), 2) == []
    assert scaling.Turn([10, 30], [20, 30]).ratio == 1.5


def test_turns_of_which_a_part_was_disturbed_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scaling, "cpus", lambda workers: [min(os.sched_getaffinity(0))] * workers)
    disturbed = iter([0, 0, 0, 0, 1, 0])

    def measure(workers: int, rounds: int) -> BenchResult:
        preempted = next(disturbed)
        found = rounds_of(*[(100 * workers, preempted)] * workers * rounds)
        return BenchResult(tuple(found), 0, 0)

    turns = scaling.Turns(2, measure)
    turns.take()
    turns.take()
    assert turns.kept == [scaling.Turn([10, 10], [20, 20])]
    assert turns.kept[0].ratio == 1.0


def test_which_cpus_share_a_core(tmp_path: Path) -> None:
    topology = tmp_path / "cpu1" / "topology"
    topology.mkdir(parents=True)
    (topology / "thread_siblings_list").write_text("0-1\n")
    assert scaling.siblings(1, tmp_path) == "0-1"
    assert scaling.siblings(0, tmp_path) == "unknown"
