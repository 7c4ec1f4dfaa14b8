"""Policy to tables: the whole of what a host needs, nothing else, the same in every form."""

import json
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataplane.binding import tables as dp
from dataplane.binding.core import Config, Dataplane
from dataplane.twin.reference import FakeDataplane
from policy.compile.compiler import compile_host, next_hop_macs
from policy.compile.tables import SELF, Tables
from policy.errors import ManifestError, ObjectId, UnknownHostError
from policy.ipam.allocate import allocate
from policy.kinds.model import ROUTER_MAC, Intent, Policy, Translation
from tests.unit.intents import HOSTS, intents
from tests.unit.manifests import BASE, edited, line_of, load

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


def domains_of(policy: Policy, host: str) -> set[ObjectId]:
    return {policy.subnet_by_id[port.subnet_id].network_id for port in policy.ports if port.host == host}


# ---- what is in the tables -----------------------------------------------------------------------


@given(intents(), host_names)
def test_nothing_of_a_vm_network_without_a_port_here(intent: Intent, host: str) -> None:
    policy = allocate(intent)
    view = compile_host(policy, host).view()
    here = domains_of(policy, host)
    subnets = [subnet for subnet in policy.vm_subnets if subnet.network_id in here]
    names = {network.qualified_name for network in here}
    assert {row["virtualSubnetId"] for row in view["records"]} <= {subnet.vsid for subnet in subnets}
    assert {row["virtualSubnetId"] for row in view["subnets"]} == {subnet.vsid for subnet in subnets}
    assert {row["routingDomain"] for row in view["subnets"] + view["customerRoutes"]} == names
    elsewhere = [port for port in policy.ports if policy.subnet_by_id[port.subnet_id].network_id not in here]
    addresses = {row["address"] for row in view["providerAddresses"]}
    assert not addresses & {str(pa) for port in elsewhere for pa in port.provider_addresses}
    foreign = [record for record in policy.lookup_records if policy.subnet_of(record) not in subnets]
    own = {str(record.provider_address) for record in foreign if record.rule is Translation.REWRITE}
    assert not addresses & own
    members = {port.host for subnet in subnets for port in policy.ports_by_subnet.get(subnet.id, ())}
    members |= {record.host for subnet in subnets for record in policy.records_by_subnet.get(subnet.id, ())}
    assert {row["host"] for row in view["providerAddresses"]} == members | {host}


@given(intents(), host_names)
def test_other_vm_networks_make_no_difference(intent: Intent, host: str) -> None:
    """Not even to the ids in packed rows."""
    policy = allocate(intent)
    here = domains_of(policy, host)
    subnets = tuple(subnet for subnet in policy.vm_subnets if subnet.network_id in here)
    ports = tuple(port for port in policy.ports if policy.subnet_by_id[port.subnet_id].network_id in here)
    records = tuple(record for record in policy.lookup_records if policy.subnet_of(record) in subnets)
    alone = Policy(replace(policy, vm_subnets=subnets, ports=ports, lookup_records=records))
    assert compile_host(policy, host) == compile_host(alone, host)
    assert compile_host(policy, host).change_set() == compile_host(alone, host).change_set()


@given(intents(), host_names)
def test_every_record_of_a_vm_network_with_a_port_here(intent: Intent, host: str) -> None:
    policy = allocate(intent)
    here = domains_of(policy, host)

    def shared(name: str) -> str:
        """The lowest of the family that both have, of a ProviderAddress or the host itself."""
        mine, theirs = (
            {
                *policy.host_by_name[each].provider_addresses,
                *(more.provider_address for more in policy.provider_addresses if more.host == each),
            }
            for each in (host, name)
        )
        both = {pa.version for pa in mine if pa} & {pa.version for pa in theirs if pa}
        family = 4 if 4 in both else 6
        return str(min(pa for pa in theirs if pa and pa.version == family))  # type: ignore[type-var]

    expected = []
    for port in policy.ports:
        subnet = policy.subnet_by_id[port.subnet_id]
        if subnet.network_id not in here:
            continue
        for index, address in enumerate(port.addresses):
            rewrite = subnet.translation is Translation.REWRITE
            pa = port.provider_addresses[index] if rewrite else shared(port.host)
            expected.append(
                {
                    "virtualSubnetId": subnet.vsid,
                    "customerAddress": str(address),
                    "macAddress": port.mac,
                    "providerAddress": str(pa),
                    "translation": "rewrite" if rewrite else "nvgre",
                    "type": "static",
                    "host": port.host,
                    "port": port.id.qualified_name,
                }
            )
    for record in policy.lookup_records:
        home = policy.subnet_of(record)
        if home and home.network_id in here:
            expected.append(
                {
                    "virtualSubnetId": record.virtual_subnet_id,
                    "customerAddress": str(record.customer_address),
                    "macAddress": record.mac_address,
                    "providerAddress": str(record.provider_address or shared(record.host)),
                    "translation": str(record.rule),
                    "type": str(record.type),
                    "host": record.host,
                    "port": f"{home.tenant}/{record.port}" if record.port else "",
                }
            )
    expected.sort(key=lambda row: (row["virtualSubnetId"], row["customerAddress"]))
    assert compile_host(policy, host).view()["records"] == expected


@given(st.permutations(BASE.split("---\n")))
def test_order_of_documents_does_not_matter(
    tmp_path_factory: pytest.TempPathFactory, documents: list[str]
) -> None:
    directory = tmp_path_factory.getbasetemp()
    shuffled = load("---\n".join(documents), directory)
    policy = load(BASE, directory)
    for host in ("h1", "h2"):
        one, other = compile_host(shuffled, host), compile_host(policy, host)
        assert one == other
        assert one.change_set().encode() == other.change_set().encode()


def test_host_without_ports(tmp_path: Path) -> None:
    """Its own PAs and routes; every array is there."""
    view = compile_host(load(edited(("  host: h1\n", "  host: h2\n")), tmp_path), "h1").view()
    assert view == {
        "host": "h1",
        "generation": 1,
        "providerAddresses": [
            {"address": "192.168.77.101", "prefixLength": 24, "kind": "shared", "host": "h1"}
        ],
        "records": [],
        "customerRoutes": [],
        "providerRoutes": [
            {"prefix": "0.0.0.0/0", "nextHop": "192.168.77.1"},
            {"prefix": "192.168.77.0/24", "nextHop": "0.0.0.0"},
            {"prefix": "fd77::/64", "nextHop": "::"},
        ],
        "subnets": [],
    }


def test_view_of_a_host(tmp_path: Path) -> None:
    view = compile_host(load(BASE, tmp_path), "h1").view()
    assert list(view) == [
        "host", "generation", "providerAddresses", "records", "customerRoutes", "providerRoutes", "subnets",
    ]  # fmt: skip
    assert view["subnets"] == [
        {
            "virtualSubnetId": 5001,
            "routingDomain": "blue/Blue_VMNet",
            "prefixes": ["10.1.1.0/24", "fd00:1:1::/64"],
            "gateways": ["10.1.1.1", "fd00:1:1::1"],
        },
        {
            "virtualSubnetId": 5002,
            "routingDomain": "blue/Blue_VMNet",
            "prefixes": ["10.1.2.0/24"],
            "gateways": ["10.1.2.254"],
        },
    ]
    assert view["customerRoutes"] == [
        {"routingDomain": "blue/Blue_VMNet", "prefix": "10.1.1.0/24", "nextHop": "0.0.0.0", "metric": 0},
        {"routingDomain": "blue/Blue_VMNet", "prefix": "10.1.2.0/24", "nextHop": "0.0.0.0", "metric": 0},
        {"routingDomain": "blue/Blue_VMNet", "prefix": "fd00:1:1::/64", "nextHop": "::", "metric": 0},
    ]
    assert {(row["customerAddress"], row["providerAddress"]) for row in view["records"]} >= {
        ("10.1.1.10", "192.168.77.110"),
        ("fd00:1:1::10", "fd77::110"),
        ("10.1.2.20", "192.168.77.9"),
    }


@given(intents(), host_names)
def test_arrays_are_sorted_as_they_are_written(intent: Intent, host: str) -> None:
    view = compile_host(allocate(intent), host).view()
    for rows in view.values():
        if isinstance(rows, list):
            assert rows == sorted(rows, key=lambda row: tuple(row.values()))
            assert len({json.dumps(row) for row in rows}) == len(rows)


def test_nvgre_between_hosts_of_different_families(tmp_path: Path) -> None:
    """Each pair uses a family that both have: h1 reaches h2 by IPv6 and ovs1 by IPv4."""
    text = edited(
        (H1_PA, '  providerAddresses: [192.168.77.101, "fd77::1"]\n'),
        (H2_PA, '  providerAddresses: ["fd77::2"]\n'),
        ("[192.168.77.9]", '[192.168.77.9, "fd77::9"]'),
        ("  translation: rewrite\n", ""),
        ('  providerAddresses: [192.168.77.110, "fd77::110"]\n', ""),
    )
    policy = load(text, tmp_path)

    def pas(host: str) -> dict[str, str]:
        return {row["port"]: row["providerAddress"] for row in compile_host(policy, host).view()["records"]}

    assert pas("h1") == {"blue/web": "192.168.77.101", "blue/app": "fd77::2", "blue/db": "192.168.77.9"}
    assert pas("h2") == {"blue/web": "fd77::1", "blue/app": "fd77::2", "blue/db": "fd77::9"}


def test_lowest_of_several_shared_addresses_carries_nvgre(tmp_path: Path) -> None:
    """It is the first one of the core's rows, which it takes as the source of its packets."""
    text = edited(("[192.168.77.9]", "[192.168.77.90, 192.168.77.9]"))
    tables = compile_host(load(text, tmp_path), "h1")
    assert {str(row.provider_address) for row in tables.records if row.port == "blue/db"} == {"192.168.77.9"}
    ovs1 = [row.address for row in packed(tables)[dp.RowKind.PA] if row.host == tables.ids.hosts["ovs1"]]
    assert ovs1 == [dp.pack_address(ip_address(f"192.168.77.{last}")) for last in (9, 90)]


@pytest.mark.parametrize(("host", "why"), [("h9", "unknown host: h9"), ("ovs1", "unmanaged host: ovs1")])
def test_no_tables_for_others(host: str, why: str, tmp_path: Path) -> None:
    with pytest.raises(UnknownHostError) as caught:
        compile_host(load(BASE, tmp_path), host)
    assert str(caught.value) == f"{why}; hosts isolane runs on: h1, h2"


# ---- packed rows ---------------------------------------------------------------------------------


def packed(tables: Tables) -> dict[dp.RowKind, list[Any]]:
    """The rows of the change set, through its bytes and back."""
    change_set = dp.ChangeSet.decode(tables.change_set(7).encode())
    assert change_set.generation == 7
    assert all(section.op is dp.Op.PUT and len(section) for section in change_set.sections)
    kinds = [section.kind for section in change_set.sections]
    assert kinds == sorted(kinds), "what is referred to comes before what refers to it"
    return {kind: [] for kind in dp.RowKind} | {
        section.kind: list(section.rows()) for section in change_set.sections
    }


def text(field: bytes, family: int) -> str:
    assert family == 6 or not any(field[4:])
    return str(IPv4Address(field[:4]) if family == 4 else IPv6Address(field))


def unpacked_view(tables: Tables) -> Iterator[tuple[str, list[tuple[Any, ...]]]]:
    """The JSON document's arrays, made from packed rows and the names of ids alone."""
    rows = packed(tables)
    host = {number: name for name, number in tables.ids.hosts.items()}
    domain = {number: name for name, number in tables.ids.routing_domains.items()}
    yield (
        "providerAddresses",
        [
            (
                text(row.address, row.family),
                row.prefix_len,
                {1: "shared", 2: "rewrite"}[row.kind],
                host[row.host],
            )
            for row in rows[dp.RowKind.PA]
        ],
    )
    yield (
        "records",
        [
            (
                row.vsid,
                text(row.ca, row.family),
                row.mac.hex(":"),
                text(row.provider_address, row.pa_family),
                {1: "nvgre", 2: "rewrite"}[row.translation],
                {1: "static", 2: "dynamic", 4: "gateway-wildcard"}[row.type],
                host[row.host],
            )
            for row in rows[dp.RowKind.RECORD]
        ],
    )
    prefixes = [
        (
            row.vsid,
            f"{text(row.prefix, row.family)}/{row.prefix_len}",
            text(row.gateway, row.family),
            row.family,
        )
        for row in rows[dp.RowKind.PREFIX]
    ]
    domains = {row.vsid: domain[row.rdid] for row in rows[dp.RowKind.SUBNET]}
    yield (
        "customerRoutes",
        [(domains[vsid], prefix, {4: "0.0.0.0", 6: "::"}[family], 0) for vsid, prefix, _, family in prefixes],
    )
    yield (
        "providerRoutes",
        [
            (f"{text(row.prefix, row.family)}/{row.prefix_len}", text(row.next_hop, row.family))
            for row in rows[dp.RowKind.PROVIDER_ROUTE]
        ],
    )
    yield (
        "subnets",
        [
            (
                vsid,
                name,
                sorted(prefix for owner, prefix, *_ in prefixes if owner == vsid),
                sorted(gateway for owner, _, gateway, _ in prefixes if owner == vsid),
            )
            for vsid, name in domains.items()
        ],
    )


@given(intents(), host_names)
def test_packed_rows_say_what_the_view_says(intent: Intent, host: str) -> None:
    tables = compile_host(allocate(intent), host)
    view = tables.view()
    for name, rows in unpacked_view(tables):
        fields = [tuple(row[key] for key in row if key != "port") for row in view[name]]
        assert sorted(rows) == sorted(fields)


@given(intents(), host_names)
def test_packed_rows_of_local_ports(intent: Intent, host: str) -> None:
    policy = allocate(intent)
    tables = compile_host(policy, host)
    rows = packed(tables)
    local = sorted(
        (port for port in policy.ports if port.host == host), key=lambda port: port.id.qualified_name
    )
    assert list(tables.ids.ports.items()) == [
        (port.id.qualified_name, number) for number, port in enumerate(local, start=1)
    ]
    assert [(row.port, row.vsid, row.mac.hex(":")) for row in rows[dp.RowKind.PORT]] == [
        (number, policy.subnet_by_id[port.subnet_id].vsid, port.mac)
        for number, port in enumerate(local, start=1)
    ]
    sources = [
        (number, str(prefix)) for number, port in enumerate(local, 1) for prefix in port.allowed_sources
    ]
    assert sorted(sources) == sorted(
        (row.port, f"{text(row.prefix, row.family)}/{row.prefix_len}") for row in rows[dp.RowKind.SOURCE]
    )
    here = tables.ids.hosts[host]
    owner = {(record.vsid, str(record.customer_address)): record.port for record in tables.records}
    for row in rows[dp.RowKind.RECORD]:
        name = owner[row.vsid, text(row.ca, row.family)]
        assert row.port == (tables.ids.ports[name] if row.host == here else 0)


@given(intents(), host_names)
def test_ids_are_dense_and_rows_sorted(intent: Intent, host: str) -> None:
    tables = compile_host(allocate(intent), host)
    for ids in (tables.ids.hosts, tables.ids.routing_domains, tables.ids.ports):
        assert list(ids) == sorted(ids)
        assert sorted(ids.values()) == list(range(1, len(ids) + 1))
    assert tables.ids.hosts[host] == SELF
    for rows in packed(tables).values():
        assert rows == sorted(rows)


@given(intents(), intents(), host_names)
def test_ids_stay_and_are_not_reused_at_once(before: Intent, after: Intent, host: str) -> None:
    old = compile_host(allocate(before), host).ids
    new = old.extend(compile_host(allocate(after), host))
    fresh = compile_host(allocate(after), host).ids
    for known, now, names in (
        (old.hosts, new.hosts, fresh.hosts),
        (old.routing_domains, new.routing_domains, fresh.routing_domains),
        (old.ports, new.ports, fresh.ports),
    ):
        assert now.keys() == names.keys()
        assert len(set(now.values())) == len(now)
        for name, number in now.items():
            assert number == known[name] if name in known else number not in known.values()


@pytest.mark.parametrize("engine", [Dataplane, FakeDataplane])
@settings(max_examples=25)
@given(intent=intents(), host=host_names)
def test_the_core_takes_the_change_set(
    engine: type[Dataplane] | type[FakeDataplane], intent: Intent, host: str
) -> None:
    """Every row refers to what stands before it; in the opposite order all of them can go again."""
    tables = compile_host(allocate(intent), host)
    config = Config(tables.ids.hosts[host], bytes.fromhex(ROUTER_MAC.replace(":", "")), (1, 2))
    added = tables.change_set()
    removed = tuple(dp.delete(list(section.rows())[::-1]) for section in reversed(added.sections))
    with engine(config) as dataplane:
        dataplane.apply(added.encode())
        assert dataplane.generation == 1
        dataplane.apply(dp.ChangeSet(2, removed).encode())
        assert dataplane.generation == 2
        dataplane.apply(tables.change_set(3).encode())
        assert dataplane.generation == 3


# ---- next hops -----------------------------------------------------------------------------------


def test_next_hops_on_link(tmp_path: Path) -> None:
    """A PA is its own next hop and has its host's underlay MAC, rewrite PAs too; own PAs are no next hops."""
    policy = load(BASE, tmp_path)
    macs = next_hop_macs(policy, compile_host(policy, "h2"))
    assert {str(hop): mac for hop, mac in macs.items()} == {
        "192.168.77.101": "02:00:00:00:77:01",
        "192.168.77.110": "02:00:00:00:77:01",
        "fd77::110": "02:00:00:00:77:01",
        "192.168.77.9": "02:00:00:00:77:09",
    }


def test_next_hop_off_link_is_the_gateway(tmp_path: Path) -> None:
    policy = load(edited(*OVS_ON_RACK2, ('underlay: {mac: "02:00:00:00:77:09"}', "underlay: {}")), tmp_path)
    macs = next_hop_macs(policy, compile_host(policy, "h1"))
    assert macs[ip_address("192.168.77.1")] == "02:00:00:00:77:fe"
    assert ip_address("192.168.78.9") not in macs


def test_no_next_hop_where_there_is_no_route(tmp_path: Path) -> None:
    """An IPv6 PA on another site, without an IPv6 gateway here, carries nothing: IPv4 is preferred."""
    subnet = '    - {prefix: "fd78::/64"}\n---\nkind: LogicalNetwork\n'
    rack2 = (OVS_ON_RACK2[0][0], RACK2.replace("---\nkind: LogicalNetwork\n", subnet))
    policy = load(
        edited(rack2, (OVS_ON_RACK2[1][0], OVS_ON_RACK2[1][1].replace("78.9]", '78.9, "fd78::9"]'))), tmp_path
    )
    macs = next_hop_macs(policy, compile_host(policy, "h1"))
    assert ip_address("fd78::9") not in macs


def test_underlay_mac_missing(tmp_path: Path) -> None:
    content = edited(('underlay: {mac: "02:00:00:00:77:09"}', "underlay: {}"))
    policy = load(content, tmp_path)
    with pytest.raises(ManifestError) as caught:
        next_hop_macs(policy, compile_host(policy, "h1"))
    assert [str(problem).replace(f"{tmp_path}/", "") for problem in caught.value.problems] == [
        f"net.yaml:{line_of('underlay: {}', content)}: Host ovs1: spec.underlay.mac:"
        " missing: the next hop of h1 to 192.168.77.9"
    ]


def test_gateway_mac_missing(tmp_path: Path) -> None:
    content = edited(*OVS_ON_RACK2, ('      gatewayMac: "02:00:00:00:77:fe"\n', ""))
    policy = load(content, tmp_path)
    with pytest.raises(ManifestError) as caught:
        next_hop_macs(policy, compile_host(policy, "h1"))
    assert [str(problem).replace(f"{tmp_path}/", "") for problem in caught.value.problems] == [
        f"net.yaml:{line_of('- prefix: 192.168.77.0/24', content)}: NetworkSite rack1:"
        " spec.subnets[0].gatewayMac: missing: the next hop of h1 to 192.168.78.9"
    ]


# ---- isolane compile -----------------------------------------------------------------------------


def test_ports_of_one_name_in_two_tenants(tmp_path: Path) -> None:
    """Each has a row, an id and a name of its own."""
    red = BASE[BASE.index("kind: VMNetwork") :].replace("tenant: blue", "tenant: red")
    red = red.replace("vsid: 5", "vsid: 6").replace("netns: blue", "netns: red")
    red = red.replace("192.168.77.110", "192.168.77.120").replace("fd77::110", "fd77::120")
    tables = compile_host(load(f"{BASE}---\n{red}", tmp_path), "h1")
    assert list(tables.ids.ports) == ["blue/web", "red/web"]
    wanted = {(5001, "blue/web"), (6001, "red/web"), (5001, "blue/app"), (6001, "red/app")}
    assert wanted < {(row["virtualSubnetId"], row["port"]) for row in tables.view()["records"]}
    assert len({row.port for row in packed(tables)[dp.RowKind.PORT]}) == 2
