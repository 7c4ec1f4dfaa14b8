"""`isolane compile`: the tables of a host as people and programs read them."""

import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result
from hypothesis import strategies as st

from policy.compile.compiler import compile_host
from policy.service import resolve
from tests.unit.intents import HOSTS
from tests.unit.manifests import BASE, EXAMPLE, edited, load
from tools.cli import main

MANAGED = HOSTS[:3]
host_names = st.sampled_from(MANAGED)
H1_PA = "  providerAddresses: [192.168.77.101]\n"
H2_PA = "  providerAddresses: [192.168.77.102]\n"
RACK2 = """\
kind: NetworkSite
metadata: {name: rack2}
spec:
  logicalNetwork: fabric
  subnets:
    - {prefix: 192.168.78.0/24, gateway: 192.168.78.1, gatewayMac: "02:00:00:00:78:fe"}
---
kind: LogicalNetwork
"""
OVS_ON_RACK2 = (
    ("kind: LogicalNetwork\n", RACK2),
    (
        "  site: rack1\n  managed: false\n  providerAddresses: [192.168.77.9]\n",
        "  site: rack2\n  managed: false\n  providerAddresses: [192.168.78.9]\n",
    ),
)


def isolane(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["compile", *map(str, arguments)])


@pytest.mark.parametrize("host", ["h1", "h2"])
def test_command_json_and_yaml(host: str) -> None:
    view = compile_host(resolve.load([EXAMPLE]), host).view()
    found = isolane(EXAMPLE, "--host", host, "-o", "json")
    assert (found.exit_code, found.stderr) == (0, "")
    assert json.loads(found.stdout) == view
    assert yaml.safe_load(isolane(EXAMPLE, "--host", host, "-o", "yaml").stdout) == view


def test_command_name() -> None:
    lines = isolane(EXAMPLE, "--host", "h1", "-o", "name").stdout.splitlines()
    assert {
        "providerAddress/192.168.77.101",
        "record/6001/fd00:1:1::20",
        "customerRoute/red/Red_VMNet/10.1.1.0/24",
        "providerRoute/fd77::/64",
        "subnet/5002",
    } <= set(lines)
    view = compile_host(resolve.load([EXAMPLE]), "h1").view()
    assert len(set(lines)) == len(lines) == sum(len(rows) for rows in view.values() if isinstance(rows, list))


def test_command_table() -> None:
    lines = isolane(EXAMPLE, "--host", "h1").stdout.splitlines()
    assert lines[0] == "host h1, generation 1"
    assert "records: 16" in lines
    header = lines[lines.index("records: 16") + 1]
    row = next(line for line in lines if line.startswith("  5001") and "10.1.1.10 " in line)
    assert row.index("02:bb") == header.index("MAC")


def test_command_takes_several_files_as_one_policy(tmp_path: Path) -> None:
    fabric, tenant = tmp_path / "fabric.yaml", tmp_path / "tenant.yaml"
    split = BASE.index("kind: VMNetwork")
    fabric.write_text(BASE[:split])
    tenant.write_text(BASE[split:])
    found = isolane(tenant, fabric, "--host", "h1", "-o", "json")
    assert json.loads(found.stdout) == compile_host(load(BASE, tmp_path), "h1").view()


def test_command_reports_problems_on_stderr(tmp_path: Path) -> None:
    path = tmp_path / "net.yaml"
    path.write_text(edited(("vsid: 5001", "vsid: 1"), ("host: h1", "host: h9")))
    found = isolane(path, "--host", "h1")
    assert (found.exit_code, found.stdout) == (1, "")
    assert found.stderr.splitlines() == [
        f"error: {path}:47: VMSubnet blue/Blue1: spec.vsid: 1 is not a VSID: 4096..16777214",
        f"error: {path}:62: Port blue/web: spec.host: there is no Host h9",
    ]


def test_command_names_the_hosts_there_are() -> None:
    found = isolane(EXAMPLE, "--host", "h9")
    assert (found.exit_code, found.stdout) == (1, "")
    assert found.stderr == "error: unknown host: h9; hosts isolane runs on: h1, h2\n"


@pytest.mark.parametrize(
    "arguments",
    [[EXAMPLE], ["--host", "h1"], [EXAMPLE, "--host", "h1", "-o", "xml"], ["none.yaml", "--host", "h1"]],
)
def test_command_usage(arguments: list[str | Path]) -> None:
    found = isolane(*arguments)
    assert (found.exit_code, found.stdout) == (2, "")


def test_help_has_an_example() -> None:
    assert "isolane compile examples/blue-red.yaml --host h1" in isolane("--help").stdout
    assert "isolane compile" in CliRunner().invoke(main, ["--help"]).stdout
