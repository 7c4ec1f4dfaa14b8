"""The bench's workload against the core and the twin: what it says about right and wrong, not how fast."""

import json
from contextlib import ExitStack

import numpy as np
import pytest
from click.testing import CliRunner

from bench import core, workload
from dataplane.core import BenchConfig
from tools.bench import OPS, command


@pytest.mark.parametrize("family", [4, 6])
def test_every_operation_is_verified_and_timed_without_a_drop(family: int) -> None:
    arguments = [
        "core",
        "--records",
        "500",
        "--hosts",
        "7",
        "--seconds",
        "0.1",
        "--family",
        str(family),
        "--json",
    ]
    done = CliRunner().invoke(command, arguments)
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert [result["op"] for result in document["results"]] == list(OPS)
    for result in document["results"]:
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


def test_what_differs_from_the_twin_is_not_timed() -> None:
    settings = core.Settings(records=100, flows=10, hosts=3)
    with ExitStack() as stack:
        run = core.prepare("push", settings, stack)
        plan = workload.Plan(100, 3, 4, False)
        too_few = np.zeros(128, np.uint32)  # the twin then lacks the records of most packets
        with pytest.raises(core.WrongResult):
            core.verify(run, plan, too_few)


def test_zipf_prefers_few_flows() -> None:
    uniform, _ = workload.sequence("uniform", 1000, 1000, 10_000, seed=1)
    zipf, _ = workload.sequence("zipf", 1000, 1000, 10_000, seed=1)
    assert np.bincount(uniform).max() < 40
    assert np.bincount(zipf).max() > 800
