"""Hypothesis strategies for whole intents, built of model objects with names from small sets."""

from collections.abc import Iterable
from ipaddress import ip_address, ip_network

from hypothesis import strategies as st

from policy.kinds.model import (
    Address,
    AddressRange,
    Host,
    Intent,
    LogicalNetwork,
    LookupRecord,
    Mac,
    NetworkSite,
    Object,
    Port,
    Prefix,
    ProviderAddress,
    RecordType,
    SiteSubnet,
    Translation,
    Underlay,
    VMNetwork,
    VMSubnet,
    intent_of,
)

TENANTS = ("blue", "green", "red")
HOSTS = ("h1", "h2", "h3", "ovs1")
UNMANAGED = "ovs1"

# A pool so wide that the few names here never want the same address of it.
FABRIC: tuple[Object, ...] = (
    LogicalNetwork("fabric"),
    NetworkSite(
        "rack1",
        "fabric",
        (
            SiteSubnet(
                ip_network("10.0.0.0/8"),
                AddressRange(ip_address("10.1.0.0"), ip_address("10.255.255.254")),
                ip_address("10.0.0.1"),
                Mac("02:00:00:00:77:fe"),
            ),
            SiteSubnet(
                ip_network("fd77::/64"), AddressRange(ip_address("fd77::1:0"), ip_address("fd77::ffff:ffff"))
            ),
        ),
    ),
)


FOREIGN_PA = ip_address("10.0.2.4")
MORE_PAS = (
    ProviderAddress("ovs1-more", UNMANAGED, FOREIGN_PA, 8, Mac("02:00:00:00:77:04")),
    ProviderAddress("h1-lower", "h1", ip_address("10.0.0.2")),
    ProviderAddress("h2-v6", "h2", ip_address("fd77::200"), 64),
)


@st.composite
def hosts(draw: st.DrawFn, names: Iterable[str] = HOSTS) -> list[Object]:
    """Every host; with shared PAs left out, or stated with at least an IPv4 one; and more of them."""
    more = draw(st.sampled_from([MORE_PAS[:1], MORE_PAS[:2], MORE_PAS]))
    return [*(draw(_host(name)) for name in names), *more]


def _host(name: str) -> st.SearchStrategy[Object]:
    number = HOSTS.index(name) + 1
    v4, v6 = ip_address(f"10.0.1.{number}"), ip_address(f"fd77::{number}")
    managed = name != UNMANAGED
    underlay = Underlay("u1" if managed else "", Mac(f"02:00:00:00:77:{number:02x}"), 1600)
    stated = st.sampled_from([(), (v4,), (v4, v6), (v6, v4)])
    return st.builds(lambda pas: Host(name, "rack1", pas, underlay, managed), stated)


@st.composite
def tenants(draw: st.DrawFn, tenant: str) -> list[Object]:
    """One VM network, up to three subnets, up to five ports in each, and records where the VSID is known; the
    same prefixes for every tenant.
    """
    objects: list[Object] = [VMNetwork(tenant, "Net", "fabric")]
    for number in range(1, draw(st.integers(1, 3)) + 1):
        prefixes: list[Prefix] = [ip_network(f"10.1.{number}.0/24"), ip_network(f"fd00:1:{number}::/64")]
        subnet = VMSubnet(
            tenant,
            f"Subnet{number}",
            "Net",
            tuple(draw(st.sampled_from([prefixes, prefixes[:1], prefixes[1:], prefixes[::-1]]))),
            vsid=draw(st.sampled_from([0, 5000 + 10 * TENANTS.index(tenant) + number])),
            translation=draw(st.sampled_from(Translation)),
        )
        ports = draw(_ports(subnet))
        objects += [subnet, *ports, *draw(_records(subnet, ports))]
    return objects


@st.composite
def _ports(draw: st.DrawFn, subnet: VMSubnet) -> list[Port]:
    homes = HOSTS if subnet.translation is Translation.NVGRE else HOSTS[:3]
    ports: list[Port] = []
    for number in range(draw(st.integers(0, 5))):
        addresses = tuple(prefix.network_address + 10 + number for prefix in subnet.prefixes)
        ports.append(
            Port(
                subnet.tenant,
                f"{subnet.tenant}-{subnet.name}-{number}",
                subnet.name,
                draw(st.sampled_from(homes)),
                draw(st.sampled_from([(), addresses, addresses[:1]])),
                draw(st.sampled_from([Mac(""), Mac(f"02:bb:00:00:00:{number:02x}")])),
                allowed_sources=draw(st.sampled_from([(), (ip_network("10.9.0.0/16"), ip_network("::/0"))])),
            )
        )
    return ports


@st.composite
def _records(draw: st.DrawFn, subnet: VMSubnet, ports: list[Port]) -> list[Object]:
    """Of VMs of the foreign host, of more addresses of ports, and of gateways of either."""
    records: list[Object] = []
    known = [port for port in ports if port.mac]
    for number in range(draw(st.sampled_from([0, 0, 1, 2, 3])) if subnet.vsid else 0):
        port = draw(st.sampled_from([None, *known]))
        prefix = draw(st.sampled_from(subnet.prefixes))
        wildcard = draw(st.booleans()) and not any(_is_wildcard(each, prefix.version) for each in records)
        rewrites = port is not None and port.host != UNMANAGED and not wildcard
        rule = draw(st.sampled_from(Translation)) if rewrites else Translation.NVGRE
        pas = [None] if port and port.host != UNMANAGED else [None, FOREIGN_PA]
        own = _own_pa(subnet.vsid * 4 + number, prefix.version)
        records.append(
            LookupRecord(
                subnet.tenant,
                f"{subnet.name}-record{number}",
                subnet.vsid,
                ip_address(bytes(prefix.max_prefixlen // 8))
                if wildcard
                else prefix.network_address + 200 + number,
                port.mac if port else Mac(f"02:cc:00:00:00:{number:02x}"),
                port.host if port else UNMANAGED,
                port.name if port else "",
                own if rule is Translation.REWRITE else draw(st.sampled_from(pas)),
                rule,
                RecordType.GATEWAY_WILDCARD
                if wildcard
                else draw(st.sampled_from([RecordType.STATIC, RecordType.DYNAMIC])),
                vm_name=draw(st.sampled_from(["", "vm"])),
            )
        )
    return records


def _is_wildcard(item: Object, version: int) -> bool:
    return (
        isinstance(item, LookupRecord)
        and item.type is RecordType.GATEWAY_WILDCARD
        and item.customer_address is not None
        and item.customer_address.version == version
    )


def _own_pa(number: int, version: int) -> Address:
    """Outside of the pools."""
    return ip_address("10.0.0.0" if version == 4 else "fd77::") + number


@st.composite
def intents(draw: st.DrawFn) -> Intent:
    names = draw(st.lists(st.sampled_from(TENANTS), unique=True))
    objects = [*FABRIC, *draw(hosts()), *(item for name in names for item in draw(tenants(name)))]
    return intent_of(draw(st.permutations(objects)))
