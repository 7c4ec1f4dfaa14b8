"""Worlds of objects, and steps that change them: fitting ones, near ones, and such as are refused."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from ipaddress import ip_address, ip_network
from random import Random
from typing import Any

from hypothesis import strategies as st

from policy.errors import (
    Location,
    ObjectId,
)
from policy.ipam.quarantine import HOLD_SECONDS
from policy.kinds.model import (
    Address,
    AddressRange,
    Attach,
    AttachKind,
    CustomerRoute,
    Host,
    Intent,
    IPPool,
    LogicalNetwork,
    LookupRecord,
    Mac,
    MACPool,
    MacRange,
    NetworkSite,
    Object,
    Policy,
    Port,
    Prefix,
    ProviderAddress,
    ProviderRoute,
    RecordType,
    SiteSubnet,
    Tenant,
    Translation,
    Underlay,
    VMNetwork,
    VMSubnet,
    intent_of,
)
from policy.service import changes as intent
from policy.service.planning import Change

# A world so small that whatever is stated is often somebody else's.
TENANTS = st.sampled_from(["blue", "blue", "red"])
HOSTS = ["h1", "h2", "h3", "h4", "ovs1"]
MACS = [Mac(f"02:00:00:00:00:{number:02x}") for number in range(1, 9)]
seeds = st.integers(0, 2**32)
LABELS = st.sampled_from([(), (), (("team", "a"),)])


def addresses(*texts: str) -> tuple[Address, ...]:
    return tuple(map(ip_address, texts))


def span(first: str, last: str) -> AddressRange:
    return AddressRange(ip_address(first), ip_address(last))


def macs(*also: Mac) -> st.SearchStrategy[Mac]:
    return st.sampled_from([Mac(""), Mac(""), *also, *MACS])


@st.composite
def fabrics(draw: st.DrawFn) -> list[Object]:
    """Two sites and five hosts; rarely are all the ways between them there."""
    gateways = draw(st.sampled_from([(None, None), ("10.0.0.1", "10.0.1.1"), ("10.0.0.1", None)]))
    small = draw(st.booleans())
    sites = []
    for number, gateway in enumerate(gateways):
        last = 14 if small else 200
        v4 = SiteSubnet(
            ip_network(f"10.0.{number}.0/24"),
            span(f"10.0.{number}.10", f"10.0.{number}.{last}"),
            ip_address(gateway) if gateway else None,
        )
        v6 = SiteSubnet(
            ip_network(f"fd77:{number}::/64"), span(f"fd77:{number}::10", f"fd77:{number}::{last}")
        )
        subnets = draw(st.sampled_from([(v4,), (v4, v6), (v4, v6)]))
        sites.append(NetworkSite(f"rack{number}", "fabric", subnets))
    objects: list[Object] = [LogicalNetwork("fabric"), LogicalNetwork("other"), *sites]
    for name in HOSTS:
        host = draw(hosts(name))
        if all(sites[0 if host.site == "rack0" else 1].subnet_of(pa) for pa in host.provider_addresses):
            objects.append(host)
    routes = [
        ProviderRoute(f"way{number}", f"rack{number}", prefix, ip_address(f"10.0.{number}.2"))
        for number, prefix in enumerate([ip_network("10.0.1.0/24"), ip_network("10.0.0.0/24")])
    ]
    objects += draw(st.sampled_from([[], routes, routes[:1]]))
    if draw(st.booleans()):
        objects.append(MACPool("macs", MacRange(MACS[0], MACS[-1])))
    if draw(st.booleans()):
        objects.append(IPPool("more", site="rack0", range=span("10.0.0.220", "10.0.0.222")))
    if draw(st.booleans()):
        objects += [Tenant("blue"), Tenant("red")]
    return objects


def hosts(name: str) -> st.SearchStrategy[Host]:
    number = HOSTS.index(name)
    site = 1 if name == "h3" else 0
    pas = [
        *[addresses(f"10.0.{site}.{101 + number}")] * 3,
        addresses(f"10.0.{site}.{11 + number % 2}"),
        addresses(f"fd77:{site}::{101 + number}"),
        addresses(f"10.0.{site}.{101 + number}", f"fd77:{site}::{101 + number}"),
    ]
    managed = name != "ovs1"
    return st.builds(
        lambda stated, mac, labels: Host(
            name, f"rack{site}", stated, Underlay("u1" if managed else "", mac, 1600), managed, labels
        ),
        st.sampled_from([(), (), *pas]),
        st.sampled_from([Mac(""), *[Mac(f"02:00:00:00:77:{number:02x}")] * 6, MACS[0]]),
        LABELS,
    )


def subnets(tenant: str, name: str) -> st.SearchStrategy[VMSubnet]:
    third = int(name[1:])
    vsid = 5000 + third + 10 * len(tenant)
    v4, v6 = ip_network(f"10.{third}.0.0/29"), ip_network(f"fd00:{third}::/64")
    prefixes: list[tuple[Prefix, ...]] = [(v4,), (v4, v6), (v6,), (v6, v4), (ip_network("10.1.0.0/28"),)]
    return st.builds(
        lambda prefixes, gateways, vsid, translation, network, labels: VMSubnet(
            tenant, name, network, prefixes, gateways, vsid, translation, labels
        ),
        st.sampled_from(prefixes),
        st.sampled_from([(), (), (), addresses(f"10.{third}.0.6")]),
        st.sampled_from([0, 0, 0, vsid, vsid, vsid, 5001]),
        st.sampled_from(Translation),
        st.sampled_from(["net", "net", "net", "net2"]),
        LABELS,
    )


@st.composite
def ports(draw: st.DrawFn) -> Port:
    third = draw(st.sampled_from([1, 1, 2]))
    last = draw(st.integers(2, 6))
    stated = [
        addresses(f"10.{third}.0.{last}"),
        addresses(f"10.{third}.0.{last}", f"fd00:{third}::{last}"),
        addresses(f"fd00:{third}::{last}"),
        addresses(f"10.{third}.0.{last}", f"10.{third}.0.{draw(st.integers(1, 7))}"),
    ]
    cas = draw(st.sampled_from([(), (), (), *stated]))
    pas: tuple[Address, ...] = ()
    if cas and draw(st.integers(0, 2)) == 0:
        rack, pa = draw(st.integers(0, 1)), draw(st.sampled_from([10, 11, 12, 101, 102, 150]))
        pas = tuple(
            ip_address(f"10.0.{rack}.{pa}" if address.version == 4 else f"fd77:{rack}::{pa}")
            for address in cas[: draw(st.sampled_from([2, 2, 2, 1]))]
        )
    netns = draw(st.sampled_from(["", "one", "two"]))
    device = draw(st.sampled_from(["eth0", "u1"]))
    return Port(
        draw(TENANTS),
        f"p{draw(st.integers(0, 7))}",
        draw(st.sampled_from([f"s{third}"] * 20 + ["none"])),
        draw(st.sampled_from([*HOSTS * 5, "none"])),
        cas,
        draw(macs()),
        pas,
        attach=draw(st.sampled_from([None, None, None, Attach(AttachKind.TAP, device, netns)])),
        labels=draw(LABELS),
    )


@st.composite
def pools(draw: st.DrawFn) -> IPPool:
    third = draw(st.sampled_from([1, 2]))
    first = draw(st.integers(2, 5))
    ranges = [span(f"10.{third}.0.{first}", f"10.{third}.0.6"), span(f"fd00:{third}::2", f"fd00:{third}::9")]
    name = draw(st.sampled_from(["pool", "pool2"]))
    return IPPool(name, draw(TENANTS), "", f"s{third}", draw(st.sampled_from(ranges)), labels=draw(LABELS))


@st.composite
def routes(draw: st.DrawFn) -> CustomerRoute:
    hop = draw(st.sampled_from(["10.1.0.3", "10.2.0.3", "10.2.0.3", "10.2.0.1", "fd00:1::3", "10.9.0.1"]))
    prefix = draw(st.sampled_from(["10.66.0.0/16", "10.1.0.0/29", "fd66::/32"]))
    name = draw(st.sampled_from(["r", "r2"]))
    network = draw(st.sampled_from(["net", "net", "net2"]))
    vsid = draw(st.sampled_from([0, 0, 5015, 5016, 5001]))
    return CustomerRoute(draw(TENANTS), name, network, ip_network(prefix), ip_address(hop), 0, vsid)


@st.composite
def tenant_objects(draw: st.DrawFn) -> Object:
    """Any that a change may state, but ports."""
    tenant = draw(TENANTS)
    others: list[st.SearchStrategy[Object]] = [
        subnets(tenant, draw(st.sampled_from(["s1", "s2", "s3"]))).map(lambda item: item),
        pools().map(lambda item: item),
        routes().map(lambda item: item),
        st.sampled_from(HOSTS).flatmap(hosts).map(lambda item: item),
        pools().map(lambda item: item),
        routes().map(lambda item: item),
        st.builds(VMNetwork, st.just(tenant), st.sampled_from(["net", "net2"]), st.just("fabric"), LABELS),
        st.builds(Tenant, st.sampled_from(["blue", "red", "green"])),
        st.builds(LogicalNetwork, st.just("third"), LABELS),
        records([]),
        provider_addresses(),
    ]
    return draw(st.one_of(others))


@st.composite
def worlds(draw: st.DrawFn) -> list[Object]:
    objects = draw(fabrics())
    for tenant in ("blue", "red"):
        objects += [VMNetwork(tenant, "net", "fabric"), VMNetwork(tenant, "net2", "fabric")]
        objects += [draw(subnets(tenant, name)) for name in ("s1", "s2")]
    if draw(st.booleans()):
        there = [item for item in objects if isinstance(item, VMSubnet) and item.vsid]
        objects += draw(st.lists(records(there), min_size=1, max_size=5))
        objects += draw(st.lists(provider_addresses(), max_size=2))
    return objects


@st.composite
def records(draw: st.DrawFn, subnets: list[VMSubnet]) -> LookupRecord:
    """In one of the VM subnets mostly; of a foreign host, or of what is behind a port."""
    tenant, vsid, prefix = draw(TENANTS), 5001, ip_network("10.1.0.0/29")
    if subnets and draw(st.integers(0, 9)):
        subnet = draw(st.sampled_from(subnets))
        tenant, vsid, prefix = subnet.tenant, subnet.vsid, subnet.prefixes[0]
    kinds = [*[RecordType.STATIC] * 4, RecordType.DYNAMIC, RecordType.GATEWAY_WILDCARD, RecordType.L2ONLY]
    kind = draw(st.sampled_from(kinds))
    ca = prefix.network_address + draw(st.integers(2, 6))
    if kind.is_of_no_address:
        ca = ip_address("0.0.0.0" if prefix.version == 4 else "::")
    host = draw(st.sampled_from(["ovs1", "ovs1", "ovs1", "h1"]))
    rewrite = draw(st.integers(0, 4)) == 0 and host != "ovs1"
    pa = draw(st.sampled_from(["10.0.0.11", "10.0.0.101", "10.0.0.105", "10.0.1.12"])) if rewrite else None
    return LookupRecord(
        tenant,
        f"r{draw(st.integers(0, 5))}",
        vsid,
        ca,
        draw(st.sampled_from(MACS)),
        host,
        f"b{draw(st.integers(0, 3))}" if host != "ovs1" else "",
        ip_address(pa) if pa else None,
        Translation.REWRITE if rewrite else Translation.NVGRE,
        kind,
    )


@st.composite
def provider_addresses(draw: st.DrawFn) -> ProviderAddress:
    host = draw(st.sampled_from(["ovs1", "h1", "h3"]))
    pa = draw(st.sampled_from(["10.0.0.105", "10.0.0.11", "10.0.1.105", "fd77::105"]))
    return ProviderAddress(f"pa{draw(st.integers(0, 1))}", host, ip_address(pa))


def fitting_port(there: Policy, random: Random) -> Port:
    """One that mostly fits into what is there; some of its values may be what others have or were given."""
    subnet = random.choice(there.vm_subnets)
    host = random.choice([host for host in there.hosts if host.managed] or there.hosts)
    others = [port for port in there.ports if port.subnet_id == subnet.id]
    cas: tuple[Address, ...] = ()
    if random.random() < 0.5:
        numbers = [random.randrange(2, 6) for _ in subnet.prefixes]
        cas = tuple(
            prefix.network_address + number for prefix, number in zip(subnet.prefixes, numbers, strict=True)
        )
        if others and random.random() < 0.3:
            cas = random.choice(others).addresses[: len(cas)]
    pas: tuple[Address, ...] = ()
    if cas and subnet.translation is Translation.REWRITE and random.random() < 0.5:
        site = there.site_by_name[host.site]
        nets = {each.prefix.version: each.prefix.network_address for each in site.subnets}
        if {address.version for address in cas} <= nets.keys():
            pas = tuple(
                nets[address.version] + random.choice([0x10, 0x11, 10, 11, 12, 101, 102]) for address in cas
            )
        if there.ports and random.random() < 0.2:
            pas = random.choice(there.ports).provider_addresses or pas
    given_macs = [port.mac for port in there.ports]
    return Port(
        subnet.tenant,
        f"{subnet.tenant[0]}{random.randrange(6)}" if random.random() < 0.9 else "b0",
        subnet.name,
        host.name,
        cas,
        random.choice([Mac(""), Mac(""), *MACS[:3], *given_macs]),
        pas,
        attach=random.choice([None, None, Attach(AttachKind.TAP, random.choice(["e0", "e1"]), "vm")]),
    )


def near(there: Policy, stated: Intent, random: Random) -> Object:
    """A port that is there, with one thing changed."""
    port, other = random.choice(stated.ports), fitting_port(there, random)
    field = random.choice(["host", "mac", "attach", "labels", "addresses", "vm_subnet"])
    if field == "vm_subnet" and port.tenant == other.tenant:
        return replace(other, name=port.name)
    return replace(port, **{field: getattr(other, field)})


def in_a_file(objects: Iterable[Object]) -> Intent:
    found = list(objects)
    sources = {item.id: {"": Location("net.yaml", line)} for line, item in enumerate(found, 1)}
    return intent_of(found, sources)


def fitting_change(seed: int) -> Callable[[Intent, Policy], Change]:
    def change(stated: Intent, there: Policy) -> Change:
        random = Random(seed)
        if not there.vm_subnets or not there.hosts:
            return intent.apply(Intent())
        objects: list[Any] = []
        for _ in range(random.choice([1, 1, 2, 4])):
            if stated.ports and random.random() < 0.4:
                objects.append(near(there, stated, random))
            else:
                objects.append(fitting_port(there, random))
        if random.random() < 0.2:
            subnet = random.choice(stated.vm_subnets)
            objects.append(
                random.choice(
                    [
                        replace(subnet, vsid=random.choice([0, 5009, there.vm_subnets[0].vsid])),
                        replace(subnet, translation=random.choice(list(Translation))),
                        replace(subnet, prefixes=subnet.prefixes[:1]),
                        replace(subnet, vm_network="net2"),
                        CustomerRoute(
                            subnet.tenant,
                            "fit",
                            subnet.vm_network,
                            ip_network("10.77.0.0/16"),
                            subnet.prefixes[0].network_address + 3,
                            virtual_subnet_id=random.choice([0, *[each.vsid for each in there.vm_subnets]]),
                        ),
                        IPPool(
                            "fit",
                            subnet.tenant,
                            "",
                            subnet.name,
                            AddressRange(
                                subnet.prefixes[0].network_address + 2, subnet.prefixes[0].network_address + 5
                            ),
                        ),
                    ]
                )
            )
        return intent.apply(in_a_file(objects))

    return change


def fitting_delete(seed: int) -> Callable[[Intent, Policy], Change]:
    def change(stated: Intent, _: Policy) -> Change:
        random = Random(seed)
        some = random.sample(stated.ports, min(len(stated.ports), random.choice([1, 1, 2, 5])))
        return intent.delete([port.id for port in some])

    return change


def changes() -> st.SearchStrategy[Callable[[Intent, Policy], Change]]:
    stated = st.lists(st.one_of(ports(), ports(), ports(), ports(), tenant_objects()), min_size=1, max_size=3)

    def delete(picks: list[int], cascade: bool) -> Callable[[Intent, Policy], Change]:
        def change(there: Intent, _: Policy) -> Change:
            mine = [each for each in there.by_id if each.kind not in ("LogicalNetwork", "NetworkSite")]
            mine += [each for each in mine if each.kind == "Port"] * 20
            wanted = {mine[pick % len(mine)] for pick in picks if mine}
            if 0 in picks:
                wanted.add(ObjectId("Port", "blue", "p99"))
            return intent.delete(wanted, cascade, ignore_missing=picks[0] % 2 == 0)

        return change

    fitting = seeds.map(fitting_change)
    return st.one_of(
        fitting,
        seeds.map(fitting_delete),
        fitting,
        fitting,
        stated.map(lambda objects: lambda *_: intent.apply(in_a_file(objects))),
        stated.map(lambda new: lambda there, _: intent.apply(in_a_file([*there.by_id.values(), *new]))),
        st.builds(delete, st.lists(st.integers(0, 10**6), min_size=1, max_size=3), st.booleans()),
    )


Steps = list[tuple[float, Callable[[Intent, Policy], Change]]]
steps = st.lists(
    st.tuples(st.sampled_from([0.0, 0.0, 1.0, HOLD_SECONDS]), changes()), min_size=1, max_size=14
)
