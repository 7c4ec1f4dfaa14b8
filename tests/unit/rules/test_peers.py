"""The rules on hosts in one VM network against a naive twin that looks at every pair of hosts."""

from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address, ip_network
from itertools import permutations

from hypothesis import given, settings
from hypothesis import strategies as st

from policy.errors import STORED, ObjectId
from policy.kinds.model import (
    Address,
    Host,
    LogicalNetwork,
    LookupRecord,
    Mac,
    NetworkSite,
    Object,
    Policy,
    Port,
    Prefix,
    ProviderRoute,
    SiteSubnet,
    Translation,
    Underlay,
    VMNetwork,
    VMSubnet,
    intent_of,
)
from policy.rules import peers

SITES, HOSTS, TENANTS = 3, 5, 2
FAMILIES = ((4,), (6,), (4, 6))


def prefix_of(site: int, version: int) -> Prefix:
    return ip_network(f"10.{site}.0.0/16" if version == 4 else f"fd00:{site}::/32")


@st.composite
def fabrics(draw: st.DrawFn) -> list[Object]:
    """Sites with and without gateways and routes to each other."""
    objects: list[Object] = [LogicalNetwork("fabric")]
    for number in range(SITES):
        prefixes = [prefix_of(number, version) for version in draw(st.sampled_from(FAMILIES))]
        gateways = [draw(st.sampled_from([None, None, prefix.network_address + 1])) for prefix in prefixes]
        subnets = tuple(SiteSubnet(*pair, None) for pair in zip(prefixes, [None] * 2, strict=False))
        subnets = tuple(replace(s, gateway=g) for s, g in zip(subnets, gateways, strict=True))
        objects.append(NetworkSite(f"s{number}", "fabric", subnets))
        wide = [ip_network("10.0.0.0/8"), ip_network("0.0.0.0/0"), ip_network("fd00::/16")]
        targets = [prefix_of(site, version) for site in range(SITES) for version in (4, 6)] + wide
        for place, prefix in enumerate(draw(st.lists(st.sampled_from(targets), max_size=4, unique=True))):
            hop = ip_address("10.0.0.9" if prefix.version == 4 else "fd00::9")
            objects.append(ProviderRoute(f"r{number}-{place}", f"s{number}", prefix, hop))
    return objects


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    objects = draw(fabrics())
    stored: list[ObjectId] = []
    for number in range(HOSTS):
        site = draw(st.integers(0, SITES - 1))
        pas = tuple(
            prefix_of(site, version).network_address + 100 + number
            for version in draw(st.sampled_from(FAMILIES))
        )
        host = Host(f"h{number}", f"s{site}", pas, Underlay(mtu=1600), managed=draw(st.booleans()))
        objects.append(host)
        stored += [host.id] if draw(st.booleans()) else []
    for rank in range(TENANTS):
        objects += draw(tenants(f"t{rank}", 5000 + rank))
    policy = Policy(intent_of(objects, {identity: {"": STORED} for identity in stored}))
    return Policy(replace(policy, elsewhere=draw(elsewhere())))


@st.composite
def tenants(draw: st.DrawFn, tenant: str, vsid: int) -> list[Object]:
    """Ports with and without rewrite PAs, and records that state a PA."""
    home = ip_network("10.1.1.0/24")
    objects: list[Object] = [
        VMNetwork(tenant, "net", "fabric"),
        VMSubnet(tenant, "subnet", "net", (home,), vsid=vsid),
    ]
    names = st.sampled_from([f"h{number}" for number in range(HOSTS)])
    for number, host in enumerate(draw(st.lists(names, max_size=6))):
        pas = draw(st.sampled_from([(), (V4,), (V6,), (V4, V6)]))
        port = Port(tenant, f"p{number}", "subnet", host, (home.network_address + number,), Mac(""), pas)
        objects.append(port)
    for number, host in enumerate(draw(st.lists(names, max_size=2))):
        ca = home.network_address + 100 + number
        pa, rule = draw(st.sampled_from([None, V4, V6])), draw(st.sampled_from(Translation))
        record = LookupRecord(tenant, f"r{number}", vsid, ca, Mac(""), host, "", pa, rule)
        objects.append(record)
    return objects


def elsewhere() -> st.SearchStrategy[dict[ObjectId, dict[str, set[int]]]]:
    versions = st.sets(st.sampled_from((4, 6)))
    hosts = st.dictionaries(st.sampled_from([f"h{number}" for number in range(HOSTS)]), versions, max_size=2)
    return st.dictionaries(st.just(ObjectId("VMNetwork", "t0", "net")), hosts)


V4, V6 = ip_address("10.77.0.1"), ip_address("fd77::1")


# ---- the twin --------------------------------------------------------------------------------------


def network_of(policy: Policy, record: LookupRecord) -> ObjectId:
    return next(s.network_id for s in policy.vm_subnets if s.vsid == record.virtual_subnet_id)


def rewrite_versions(policy: Policy, network: ObjectId, host: str) -> set[int] | None:
    """None: it is not in the network."""
    found = [
        {pa.version for pa in port.provider_addresses}
        for port in policy.ports
        if port.host == host and policy.subnet_by_id[port.subnet_id].network_id == network
    ]
    for record in policy.lookup_records:
        if record.host == host and network_of(policy, record) == network:
            is_rewrite = record.rule is Translation.REWRITE and record.provider_address
            found.append({record.provider_address.version} if is_rewrite else set())
    if host in policy.elsewhere.get(network, {}):
        found.append(policy.elsewhere[network][host])
    return set().union(*found) if found else None


def stated_pas(policy: Policy, network: ObjectId, host: str | None = None) -> Iterator[tuple[str, Address]]:
    for record in policy.lookup_records:
        leads = record.rule is Translation.NVGRE and record.provider_address
        if leads and network_of(policy, record) == network and host in (None, record.host):
            yield record.name, record.provider_address


def shared(policy: Policy, host: str) -> set[int]:
    return {pa.version for pa in policy.host_by_name[host].provider_addresses}


def pairs(policy: Policy) -> Iterator[tuple[ObjectId, str, str, set[int]]]:
    """Network, host, another host of it, and the IP versions of what the first one sends to the other."""
    for network in (each.id for each in policy.vm_networks):
        for one, other in permutations(sorted(policy.host_by_name), 2):
            mine, its = (rewrite_versions(policy, network, host) for host in (one, other))
            if mine is not None and its is not None:
                family = sorted(shared(policy, one) & shared(policy, other))[:1]
                stated = {pa.version for _, pa in stated_pas(policy, network, other)}
                yield network, one, other, (mine & its) | set(family) | stated


def has_way(policy: Policy, site: NetworkSite, other: NetworkSite, version: int) -> bool:
    if any(subnet.gateway and subnet.gateway.version == version for subnet in site.subnets):
        return True
    prefixes = [route.prefix for route in policy.provider_routes if route.site == site.name]
    return all(
        any(prefix and subnet.prefix.network_address in prefix for prefix in prefixes)
        for subnet in other.subnets
        if subnet.prefix.version == version
    ) or any(prefix and prefix.version == version and not prefix.prefixlen for prefix in prefixes)


def twin_of_routed(policy: Policy) -> Iterator[str]:
    missing: dict[tuple[str, int], list[tuple[str, str, str]]] = {}
    for _, one, other, versions in pairs(policy):
        host, peer = policy.host_by_name[one], policy.host_by_name[other]
        for version in versions if host.managed and host.site != peer.site else ():
            if not has_way(policy, *(policy.site_by_name[each.site] for each in (host, peer)), version):
                missing.setdefault((host.site, version), []).append((peer.site, one, other))
    for (site, version), found in sorted(missing.items()):
        other_site, one, other = min(found)
        yield (
            f"NetworkSite {site}: spec.subnets: no IPv{version} gateway, by which Host {one} would reach"
            f" Host {other} on {other_site}"
        )


@settings(max_examples=200, deadline=None)
@given(policies())
def test_sites_reach_each_other_as_by_looking_at_pairs(policy: Policy) -> None:
    found = [f"{each.subject}: {each.path}: {each.text}" for each in peers.peers_are_routed(policy)]
    assert found == list(twin_of_routed(policy))


def twin_of_families(policy: Policy) -> Iterator[str]:
    told: dict[str, str] = {}
    for network in (each.id for each in policy.vm_networks):
        apart = {
            (one, other)
            for where, one, other, _ in pairs(policy)
            if where == network and shared(policy, one) == {4} and shared(policy, other) == {6}
        }
        sides = [sorted({other for _, other in apart}), sorted({one for one, _ in apart})]
        fresh = [[one for one in side if not policy.is_stored(host_id(one))] for side in sides]
        which = min((0, 1), key=lambda side: (not fresh[side], len(sides[side])))
        others = sides[1 - which]
        for one in fresh[which] or sides[which]:
            text = f"Host {one} and Host {others[0]} are in one VM network, but have no PAs of one family"
            text += f"; the same with {len(others) - 1} more" if others[1:] else ""
            told.setdefault(one, text)
    for one, text in sorted(told.items()):
        yield f"Host {one}: spec.providerAddresses: {text}"


@settings(max_examples=200, deadline=None)
@given(policies())
def test_families_are_shared_as_by_looking_at_pairs(policy: Policy) -> None:
    found = [f"{each.subject}: {each.path}: {each.text}" for each in peers.peers_share_a_family(policy)]
    assert found == list(twin_of_families(policy))


def host_id(name: str) -> ObjectId:
    return ObjectId("Host", "", name)


@settings(max_examples=200, deadline=None)
@given(policies())
def test_stated_pas_are_of_the_family_of_all_pairs(policy: Policy) -> None:
    wanted: dict[str, str] = {}
    for record in policy.lookup_records:
        pa = record.provider_address
        if pa is None or record.rule is not Translation.NVGRE:
            continue
        network = network_of(policy, record)
        names = [
            name
            for name, host in sorted(policy.host_by_name.items())
            if name != record.host
            and rewrite_versions(policy, network, name) is not None
            and host.managed
            and pa.version not in shared(policy, name)
        ]
        if names:
            text = f"Host {names[0]} is in {network} too, but has no IPv{pa.version} provider address"
            wanted[str(record.id)] = text + (f"; nor have {len(names) - 1} more" if names[1:] else "")
    found = {each.subject: each.text for each in peers.peers_have_the_family_of_stated_pas(policy)}
    assert found == wanted
