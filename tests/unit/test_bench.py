"""The bench's workload against the core and the twin: what it says about right and wrong, not how fast."""

import json
from contextlib import ExitStack

import numpy as np
import pytest
from click.testing import CliRunner

from bench import core, workload
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
