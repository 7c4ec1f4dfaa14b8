"""`node`, with a data plane that is none."""

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from dataplane.process import client, instances
from dataplane.process.client import ClientError
from policy.store.locations import followed_path
from tests.unit.manifests import EXAMPLE
from tests.unit.tools.shell import Shell


class FakeClient:
    """A data plane with one Provider Address, on a network of one more."""

    def __init__(self, instance: str, patience: float) -> None:
        assert instance == "h1" and patience > 0

    addresses = 1

    def __enter__(self) -> "FakeClient":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def status(self) -> dict[str, Any]:
        tables = {"routes": 1, "next_hops": 2}
        addresses = ["fd77::1", *(f"192.168.77.{number}" for number in range(100, 150))][: self.addresses]
        underlay = {"device": "u1", "mac": "02:00:00:00:77:01", "mtu": 1600}
        rest = {"underlay": underlay, "tables": tables, "agent": {"link": "down"}}
        rest |= {"workers": [{"wakeUps": 7}, {"wakeUps": 9}]}
        return {"host": "h1", "providerAddresses": addresses, **rest}

    def ports(self) -> list[dict[str, Any]]:
        shared = {"id": 2, "virtualSubnetId": 5001, "mac": "02:bb:00:00:00:10", "mtu": 1458, "queues": 1}
        return [{"name": "blue/blue-web", "kind": "tap", "device": "eth0", **shared}]

    def records(self) -> list[dict[str, Any]]:
        row = {
            "virtualSubnetId": 16777214,
            "customerAddress": "fd00:1:1:2:3:4:5:6",
            "macAddress": "02:bb:00:00:00:10",
            "providerAddress": "192.168.77.101",
            "translation": "rewrite",
            "type": "gateway-wildcard",
            "host": "h1",
            "port": None,
        }
        return [row]

    def counters(self) -> dict[str, Any]:
        counts = dict.fromkeys(("received", "originated", "sent", "dropped", "consumed", "held"), 10**9)
        one = {**counts, **dict.fromkeys(("rx_kernel", "rx_gso", "tx_gso", "icmp_limited"), 0)}
        port = {**one, "drops": {"multicast": 5, "ip-options": 1}}
        subnet = {"virtualSubnetId": 5001, **dict.fromkeys(("from_port", "from_port_bytes", "to_port"), 1)}
        return {**one, "drops": {}, "ports": {"blue/blue-web": port}, "subnets": [subnet]}

    def ping_pa(self, address: str, seconds: float) -> dict[str, Any]:
        if address != "fd77::2":
            raise ClientError(f"ping_pa: {address} does not answer", "refused")
        return {"address": address, "mac": "02:00:00:00:77:02", "seconds": seconds}


def test_node(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "Client", FakeClient)
    status = json.loads(shell("node", "status", "--instance", "h1", "-o", "json").stdout)
    assert status["tables"] == {"routes": 1, "nextHops": 2}
    assert status["underlay"]["link"] == "down" and "link" not in status["agent"]
    assert status["workers"] == [{"wakeUps": 7}, {"wakeUps": 9}]
    said = shell("node", "status", "--instance", "h1").stdout
    assert "link down" in said and "workers: wake ups 7, wake ups 9" in said

    def ping(address: str, status: int = 0) -> Result:
        return shell("node", "ping-pa", address, "--instance", "h1", status=status)

    assert ping("fd77:0::2").stdout == "fd77::2 is at 02:00:00:00:77:02\n"
    assert ping("fd77::3", 1).stderr == "error: ping-pa: fd77::3 does not answer\n"
    assert ping("fd77::1", 1).stderr == "error: ping-pa: fd77::1 is this host's own\n"
    assert "'fd77' is not an IP address" in ping("fd77", 2).stderr


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "Client", FakeClient)
    (instances.RUN_DIRECTORY / "h1").mkdir(parents=True)
    (instances.RUN_DIRECTORY / "h1" / "dataplane.sock").touch()


@pytest.mark.usefixtures("fake")
def test_tables_fit(shell: Shell) -> None:
    for what in ("ports", "records", "counters", "status"):
        for line in shell("node", what, "--instance", "h1").stdout.splitlines():
            assert len(line) <= 100
    heading, _ = shell("node", "records", "--instance", "h1").stdout.splitlines()
    assert heading.split() == ["VSID", "CA", "MAC", "PA", "TRANSLATION", "HOST", "PORT"]
    assert "gateway-wildcard" in shell("node", "records", "--instance", "h1", "-o", "wide").stdout


@pytest.mark.usefixtures("fake")
def test_long_lists_are_counted(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeClient, "addresses", 50)
    words = ["node", "status", "--instance", "h1"]
    assert "provider addresses: 50, -o wide lists them" in shell(*words).stdout
    assert "192.168.77.130, " in shell(*words, "-o", "wide").stdout


@pytest.mark.usefixtures("fake")
def test_drops_in_words(applied: Shell) -> None:
    lines = applied("node", "counters", "--instance", "h1").stdout.splitlines()
    assert "blue/blue-web  multicast   5        usual, VMs send some unasked" in lines
    legend = applied("node", "counters", "--help").stdout
    assert "CONSUMED: ended here as intended" in " ".join(legend.split())
    described = applied("describe", "port/blue/blue-web").stdout.splitlines()
    assert "device: tap eth0 in blue-web, MTU 1458" in described
    assert "drop multicast: 5: usual, VMs send some unasked" in described
    assert any(line.startswith("drop ip-options: 1: source route, record route") for line in described)
    assert "device: not attached" in applied("describe", "port/blue/blue-api").stdout
    assert "device" not in applied("describe", "port/blue/blue-db").stdout.split("attach")[0]


def test_tables_of_compile_fit(shell: Shell) -> None:
    lines = shell("compile", EXAMPLE, "--host", "h1").stdout.splitlines()
    assert max(map(len, lines)) <= 100
    assert "TYPE" in shell("compile", "-f", EXAMPLE, "--host", "h1", "-o", "wide").stdout


def compiled(shell: Shell) -> list[dict[str, Any]]:
    """The records of h1, by the compiler."""
    view = json.loads(shell("compile", EXAMPLE, "--host", "h1", "-o", "json").stdout)
    records: list[dict[str, Any]] = view["records"]
    return records


@pytest.fixture
def known(applied: Shell, monkeypatch: pytest.MonkeyPatch) -> Shell:
    """What a data plane has of a store in which all is as the example has it, addresses as they are given."""
    rows = [{**row, "port": row["port"] if row["host"] == "h1" else None} for row in compiled(applied)]
    monkeypatch.setattr(FakeClient, "records", lambda _: [dict(row) for row in rows])
    return applied


def follow(location: str) -> None:
    path = followed_path("h1")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(os.fsencode(location))


def forbidden(path: Path) -> bytes:
    raise PermissionError(errno.EACCES, "Permission denied", str(path))


RECORDS = ["node", "records", "--instance", "h1", "-o", "json"]


@pytest.mark.usefixtures("fake")
def test_records_name_ports_as_compile_does(known: Shell) -> None:
    follow(known.location)
    done = known(*RECORDS)
    assert json.loads(done.stdout) == compiled(known) and not done.stderr
    followed_path("h1").unlink()
    assert json.loads(known(*RECORDS, "--store", known.location).stdout) == compiled(known)


@pytest.mark.usefixtures("fake")
def test_what_names_can_not_be_known_is_told(known: Shell) -> None:
    others = {row["port"] for row in compiled(known) if row["host"] != "h1"}

    def ports() -> tuple[set[str | None], str]:
        done = known(*RECORDS)
        return {row["port"] for row in json.loads(done.stdout)}, done.stderr

    found, why = ports()
    assert None in found and not found & others
    begins = "ports of other hosts are not named: "
    assert why == f"{begins}no agent of this instance says which store it follows; --store names one\n"
    follow("/nowhere/\udcff.db")
    assert "/nowhere/" in ports()[1] and "no store is there" in ports()[1]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Path, "read_bytes", forbidden)
        assert (
            ports()[1] == f"{begins}{followed_path('h1')}, which names the agent's store, may not be read\n"
        )
    follow("/nowhere/store.db")
    assert ports()[1] == f"{begins}/nowhere/store.db: no store is there\n"
    follow(known.location)
    known("delete", "port", "blue-app")
    found, why = ports()
    assert found & others == others - {"blue/blue-app"}
    assert f"2 records that {known.location} does not have" in why
