"""Pools, routes and tenants as objects of their own: from manifests to addresses and tables."""

from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from dataplane.binding import tables as dp
from dataplane.binding.core import Config, Dataplane
from policy.compile.compiler import compile_host, next_hop_macs
from policy.compile.tables import SELF
from policy.errors import ManifestError
from policy.kinds.model import Policy, Port, ranges_of
from policy.service import resolve
from tests.unit.manifests import BASE, ROOT, load

STEPS = sorted((ROOT / "examples" / "walkthrough").glob("*.yaml"))


@pytest.fixture(scope="module")
def walkthrough() -> Policy:
    return resolve.load(STEPS)


def port(policy: Policy, name: str) -> Port:
    return next(port for port in policy.ports if port.name == name)


def within(text: str, addresses: range | list[range]) -> bool:
    spans = [addresses] if isinstance(addresses, range) else addresses
    return any(int(ip_address(text)) in span for span in spans)


# ---- pools ---------------------------------------------------------------------------------------


def test_what_is_reserved_is_not_given_out(walkthrough: Policy) -> None:
    pool = next(pool for pool in walkthrough.ip_pools if pool.name == "rack1-v4")
    spans = ranges_of(pool)
    assert [span.stop - span.start for span in spans] == [100, 41]
    assert not within("192.168.77.200", spans) and not within("192.168.77.209", spans)
    assert within("192.168.77.199", spans) and within("192.168.77.210", spans)


def test_everything_left_out_comes_from_the_pools(walkthrough: Policy) -> None:
    pools = {pool.name: ranges_of(pool) for pool in walkthrough.ip_pools}
    for host in walkthrough.hosts:
        v4, v6 = host.provider_addresses
        assert within(str(v4), pools["rack1-v4"]) and within(str(v6), pools["rack1-v6"])
    for name, pool in (("blue-web", "blue1"), ("blue-db", "blue1"), ("red-web", "red1"), ("red-db", "red1")):
        (address,) = port(walkthrough, name).addresses
        assert within(str(address), pools[pool])
    assert within(str(port(walkthrough, "blue-web").provider_addresses[0]), pools["rack1-v4"])
    assert {each.mac[:11] for each in walkthrough.ports} == {"02:1d:d8:00"}


def test_a_pool_that_is_used_up(tmp_path: Path) -> None:
    pool = (
        "kind: IPPool\nmetadata: {name: p, tenant: blue}\n"
        "spec: {vmSubnet: Blue2, range: 10.1.2.30-10.1.2.30}\n"
    )
    bare = "kind: Port\nmetadata: {name: NAME, tenant: blue}\nspec: {vmSubnet: Blue2, host: h1}\n"
    text = "---\n".join([BASE, pool, bare.replace("NAME", "one")])
    assert str(port(load(text, tmp_path), "one").addresses[0]) == "10.1.2.30"
    with pytest.raises(
        ManifestError, match=r"Port blue/\w+: spec.addresses: left out, but 10.1.2.0/24 is used up"
    ):
        load(text + "---\n" + bare.replace("NAME", "two"), tmp_path)


# ---- customer routes -----------------------------------------------------------------------------


def test_the_route_with_the_lowest_metric_counts(tmp_path: Path) -> None:
    route = (
        "kind: CustomerRoute\nmetadata: {name: NAME, tenant: blue}\n"
        "spec: {vmNetwork: Blue_VMNet, prefix: 10.9.0.0/16, nextHop: HOP, metric: METRIC}\n"
    )
    routes = [
        route.replace("NAME", f"r{metric}").replace("HOP", hop).replace("METRIC", str(metric))
        for metric, hop in ((20, "10.1.1.10"), (10, "10.1.2.20"), (30, "10.1.1.11"))
    ]
    policy = load("---\n".join([BASE, *routes]), tmp_path)
    tables = compile_host(policy, "h1")
    assert [(route.next_hop, route.metric) for route in tables.customer_routes] == [
        (ip_address("10.1.2.20"), 10)
    ]
    assert tables.customer_routes[0].vsid == policy.subnet_by_id[port(policy, "db").subnet_id].vsid
    assert {
        "routingDomain": "blue/Blue_VMNet",
        "prefix": "10.9.0.0/16",
        "nextHop": "10.1.2.20",
        "metric": 10,
    } in tables.view()["customerRoutes"]


def test_routes_of_other_networks_are_not_there(walkthrough: Policy) -> None:
    assert [route.prefix for route in compile_host(walkthrough, "h1").customer_routes] == [
        ip_network("10.9.0.0/16")
    ]
    without_blue = resolve.load(STEPS)
    ports = tuple(each for each in without_blue.ports if each.tenant == "red")
    red_only = Policy(type(without_blue)(**{**_fields(without_blue), "ports": ports}))
    assert compile_host(red_only, "h1").customer_routes == ()


def _fields(policy: Policy) -> dict[str, object]:
    return {name: getattr(policy, name) for name in policy.__dataclass_fields__}


def test_the_core_takes_the_walkthrough(walkthrough: Policy) -> None:
    tables = compile_host(walkthrough, "h1")
    with Dataplane(Config(SELF, bytes.fromhex("02150a000001"), (1, 2))) as core:
        core.apply(tables.change_set().encode())
        stats = core.table_stats()
    kinds = [section.kind for section in tables.change_set().sections]
    assert kinds[-3:] == [dp.RowKind.RECORD, dp.RowKind.ROUTE, dp.RowKind.FLOOD]
    assert stats.routes == 1 + 2, "the stated one, and two subnets on link"


# ---- provider routes -----------------------------------------------------------------------------

TWO_SITES = """\
kind: LogicalNetwork
metadata: {name: fabric}
---
kind: NetworkSite
metadata: {name: rack1}
spec: {logicalNetwork: fabric, subnets: [{prefix: 192.168.77.0/24}]}
---
kind: NetworkSite
metadata: {name: rack2}
spec: {logicalNetwork: fabric, subnets: [{prefix: 192.168.78.0/24, gateway: 192.168.78.1}]}
---
kind: Host
metadata: {name: h1}
spec: {site: rack1, providerAddresses: [192.168.77.101], underlay: {interface: u1}}
---
kind: Host
metadata: {name: h2}
spec: {site: rack2, providerAddresses: [192.168.78.102], underlay: {interface: u2}}
---
kind: VMNetwork
metadata: {name: net, tenant: blue}
spec: {logicalNetwork: fabric}
---
kind: VMSubnet
metadata: {name: subnet, tenant: blue}
spec: {vmNetwork: net, prefixes: [10.1.1.0/24]}
---
kind: Port
metadata: {name: one, tenant: blue}
spec: {vmSubnet: subnet, host: h1}
---
kind: Port
metadata: {name: two, tenant: blue}
spec: {vmSubnet: subnet, host: h2}
---
"""
WAY = """\
kind: ProviderRoute
metadata: {name: to-rack2}
spec: {site: rack1, prefix: 192.168.78.0/23, nextHop: 192.168.77.2}
"""


def test_provider_routes_reach_what_no_gateway_does(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="no IPv4 gateway, by which Host h1 would reach Host h2 on rack2"):
        load(TWO_SITES, tmp_path)
    policy = load(TWO_SITES + WAY, tmp_path)
    way = ip_network("192.168.78.0/23"), ip_address("192.168.77.2")
    assert way in compile_host(policy, "h1").provider_routes
    assert way not in compile_host(policy, "h2").provider_routes
    with pytest.raises(ManifestError, match=r"to-rack2: spec.nextHop: missing: the next hop of h1"):
        next_hop_macs(policy, compile_host(policy, "h1"))
