"""Broadcast, from the manifest to the rows of floods: which hosts hear what, how much, and small steps."""

from pathlib import Path

import pytest

from dataplane.binding.tables import FloodRow, RowKind, SubnetRow, unpack_address, unpack_rows
from policy.compile.compiler import compile_host
from policy.compile.host_view import HostView
from policy.compile.tables import Tables
from policy.kinds import codec
from policy.kinds.model import KINDS, Broadcast
from tests.unit.compile.views import HERE, items_of
from tests.unit.manifests import EXAMPLE, edited, line_of, load, problems

RED = 6001
SUBNET = "  vsid: 6001\n"
TEXT = EXAMPLE.read_text()
MORE = """
---
apiVersion: isolane/v1
kind: Host
metadata: {{name: {host}}}
spec:
  site: rack1
  managed: {managed}
  providerAddresses: [{pa}]
  underlay: {{{underlay}mac: "02:00:00:00:77:{n}"}}
---
apiVersion: isolane/v1
kind: Port
metadata: {{name: {host}-vm, tenant: red}}
spec: {{vmSubnet: Red_VMSubnet1, host: {host}, addresses: [10.1.1.1{n}]}}
"""
FOREIGN = MORE.format(host="ovs1", managed="false", pa="192.168.77.9", underlay="", n="09")
THIRD = MORE.format(host="h3", managed="true", pa="192.168.77.10", underlay="interface: u3, ", n="03")


def tables(text: str, directory: Path, host: str = HERE) -> Tables:
    return compile_host(load(text, directory), host)


def flood_of(made: Tables, vsid: int = RED) -> tuple[int, int]:
    return next(subnet.flood for subnet in made.subnets if subnet.vsid == vsid)


def with_broadcast(text: str) -> str:
    assert TEXT.count(SUBNET) == 1
    return TEXT.replace(SUBNET, f"{SUBNET}  broadcast: {text}\n")


def test_each_other_host_with_a_record_once(tmp_path: Path) -> None:
    """A foreign one too; not this one, and nothing of subnets under rewrite."""
    floods = tables(TEXT + FOREIGN + THIRD, tmp_path).floods
    assert [(flood.vsid, str(flood.provider_address), flood.host) for flood in floods] == [
        (RED, "192.168.77.102", "h2"),
        (RED, "192.168.77.10", "h3"),
        (RED, "192.168.77.9", "ovs1"),
    ]


def test_only_of_subnets_that_have_a_port_here(tmp_path: Path) -> None:
    """Of the other subnets of a VM network nobody here sends anything to a group."""
    more = (
        TEXT
        + """
---
apiVersion: isolane/v1
kind: VMSubnet
metadata: {name: Red_VMSubnet2, tenant: red}
spec: {vmNetwork: Red_VMNet, prefixes: [10.1.2.0/24], vsid: 6002}
---
apiVersion: isolane/v1
kind: Port
metadata: {name: red-far, tenant: red}
spec: {vmSubnet: Red_VMSubnet2, host: h2, addresses: [10.1.2.20]}
"""
    )
    assert {flood.vsid for flood in tables(more, tmp_path).floods} == {RED}
    assert {flood.vsid for flood in tables(more, tmp_path, "h2").floods} == {RED}


@pytest.mark.parametrize(
    ("stated", "flood"),
    [
        ("{}", (1000, 100)),
        ("{enabled: true}", (1000, 100)),
        ("{packetsPerSecond: 200}", (200, 64)),
        ("{packetsPerSecond: 20000}", (20000, 2000)),
        ("{packetsPerSecond: 5, burstPackets: 1}", (5, 1)),
        ("{enabled: false}", (0, 0)),
    ],
)
def test_how_much(stated: str, flood: tuple[int, int], tmp_path: Path) -> None:
    made = tables(with_broadcast(stated), tmp_path)
    assert flood_of(made) == flood
    assert flood_of(made, 5001) == (0, 0)
    assert bool(made.floods) == (flood != (0, 0))
    view = made.view()
    if stated in ("{}", "{enabled: true}"):
        assert "broadcast" not in view
    else:
        assert view["broadcast"] == [
            {"virtualSubnetId": RED, "packetsPerSecond": flood[0], "burstPackets": flood[1]}
        ]


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ("{packetsPerSecond: 0}", "0 is not in 1..4294967295"),
        ("{enabled: perhaps}", "expected true or false"),
        ("{burst: 1}", "unknown field"),
    ],
)
def test_what_is_none(wrong: str, text: str, tmp_path: Path) -> None:
    manifest = edited(("  vsid: 5002\n", f"  vsid: 5002\n  broadcast: {wrong}\n"))
    (problem,) = problems(manifest, tmp_path)
    assert text in problem and f"net.yaml:{line_of('broadcast', manifest)}" in problem


def test_documents_keep_what_was_stated(tmp_path: Path) -> None:
    policy = load(with_broadcast("{packetsPerSecond: 7}"), tmp_path)
    red = next(subnet for subnet in policy.vm_subnets if subnet.vsid == RED)
    assert red.broadcast == Broadcast(True, 7)
    spec = codec.write(red)
    assert spec["broadcast"] == {"packetsPerSecond": 7}
    assert codec.parse(KINDS["VMSubnet"], red.tenant, red.name, red.labels, spec) == red


# ---- changes


def test_a_host_comes_with_its_first_port_and_goes_with_its_last(tmp_path: Path) -> None:
    second = THIRD.split("---\n")[-1].replace("h3-vm", "h3-second").replace("10.1.1.103", "10.1.1.104")
    policy = load(TEXT + THIRD + "---\n" + second, tmp_path)
    items = items_of(policy)
    first, last = (f"intent/Port/red/{name}" for name in ("h3-vm", "h3-second"))
    view = HostView(HERE, {key: value for key, value in items.items() if key not in (first, last)})
    view.whole()
    seen = []
    for key, value in ((first, items[first]), (last, items[last]), (first, None), (last, None)):
        step = view.change({key: value})
        assert step is not None
        seen.append([len(rows[RowKind.FLOOD]) for rows in (step.before, step.after)])
    assert seen == [[0, 1], [1, 1], [1, 1], [1, 0]]


def test_all_hosts_come_with_the_first_port_here(tmp_path: Path) -> None:
    """And go with the last one: nobody here sends to the subnet any more."""
    items = items_of(load(TEXT + THIRD, tmp_path))
    here = [key for key in items if key.startswith("intent/Port/red/") and b'"host":"h1"' in items[key]]
    view = HostView(HERE, items)
    view.whole()
    *others, last = here
    for key in others:
        step = view.change({key: None})
        assert step is not None and step.before[RowKind.FLOOD] == step.after[RowKind.FLOOD]
    step = view.change({last: None})
    assert step is not None
    assert (len(step.before[RowKind.FLOOD]), len(step.after[RowKind.FLOOD])) == (2, 0)


def test_the_rows(tmp_path: Path) -> None:
    made = tables(TEXT + THIRD, tmp_path)
    packed = {section.kind: section.packed for section in made.change_set().sections}
    floods = [row for row in unpack_rows(RowKind.FLOOD, packed[RowKind.FLOOD]) if isinstance(row, FloodRow)]
    assert {
        (str(unpack_address(row.provider_address, row.family)), row.vsid, row.host) for row in floods
    } == {(str(flood.provider_address), flood.vsid, made.ids.hosts[flood.host]) for flood in made.floods}
    subnets = [
        row for row in unpack_rows(RowKind.SUBNET, packed[RowKind.SUBNET]) if isinstance(row, SubnetRow)
    ]
    assert {row.vsid: row[2:] for row in subnets} == {5001: (0, 0), 5002: (0, 0), RED: (1000, 100)}
