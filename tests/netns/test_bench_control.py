"""`isolane bench control`: what it says, not how fast."""

import json
import os
import subprocess
import sys
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

from bench import control, control_net, control_plan
from bench.control_net import BenchError
from bench.documents import ControlDocument
from tests.native import BIN
from tests.netns.traces import traces
from tools.verbs.bench import command


def assert_spread(figures: dict[str, Any]) -> None:
    assert 0 < figures["min"] <= figures["median"] <= figures["max"]


def test_every_change_reaches_packets_and_nothing_is_left() -> None:
    arguments = [BIN / "isolane", "bench", "control", "--records", "300", "--hosts", "4", "--changes", "6"]
    with subprocess.Popen([*arguments, "--json"], stdout=subprocess.PIPE, text=True) as process:
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    document = json.loads(output)
    assert set(document) == {"machine", "results"}
    assert msgspec.convert(document, ControlDocument).results, "as bench report reads it"
    (result,) = document["results"]
    assert (result["records"], result["hosts"]) == (300, 4)
    for part in ("load", "compile", "push", "table"):
        assert_spread(result[part]["seconds"])
        assert result[part]["recordsPerSecond"] > 0
    assert 0 < result["newHost"]["min"] <= result["newHost"]["p99"] and result["newHost"]["count"] == 20
    assert result["change"]["count"] == result["apply"]["count"] == 6
    assert result["change"]["add"]["count"] == result["change"]["move"]["count"] == 3
    assert result["change"]["min"] <= result["change"]["p50"] <= result["change"]["p99"]
    assert 0 < result["agentRss"] <= result["agentRssPeak"]
    assert traces(process.pid) == []


def test_a_change_that_no_packet_comes_by_fails_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "commit", lambda *_: None)
    monkeypatch.setattr(control, "PATIENCE_SECONDS", 0.2)
    monkeypatch.setattr(control, "ROUNDS", 1)
    done = CliRunner().invoke(command, ["control", "--records", "20", "--hosts", "3", "--changes", "1"])
    assert done.exit_code == 1
    assert "no packet came by the change" in done.stderr
    assert traces(os.getpid()) == []


def test_what_does_not_start_is_an_error_with_its_words() -> None:
    with control_net.running(None, "agent", "--host", "h1", "--store", "sqlite:/proc/none") as process:
        agent = control_net.Agent(process)
        with pytest.raises(BenchError, match="the agent has not loaded"):
            agent.first("loaded", 3)


def test_only_root_can() -> None:
    program = "import os, sys; os.seteuid(65534); from tools.cli import main; main(sys.argv[1:])"
    done = subprocess.run(
        [sys.executable, "-c", program, "bench", "control"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "run this as root" in done.stderr


@pytest.mark.parametrize(
    "arguments", [["--records", "1"], ["--hosts", "2"], ["--changes", "0"], ["--hosts", "50"]]
)
def test_what_cannot_be_measured_is_wrong_usage(arguments: list[str]) -> None:
    assert CliRunner().invoke(command, ["control", *arguments]).exit_code == 2


@pytest.mark.parametrize("records", [2, 5, 45_000])
def test_the_plan_has_as_many_records_as_asked_for(records: int) -> None:
    intent = control_plan.Plan(records, 3).intent()
    assert len(intent.ports) == records
    assert len({(port.subnet_id, port.addresses) for port in intent.ports}) == records
    assert {port.host for port in intent.ports} <= {host.name for host in intent.hosts}
    local = {port.tenant for port in intent.ports if port.host == control_plan.HOST}
    assert local == {network.tenant for network in intent.vm_networks}


@pytest.mark.parametrize(("percent", "expected"), [(50, 5), (99, 10), (1, 1), (100, 10)])
def test_percentiles_are_values_that_were_measured(percent: int, expected: float) -> None:
    assert control.percentile([10, 1, 9, 2, 8, 3, 7, 4, 6, 5], percent) == expected
