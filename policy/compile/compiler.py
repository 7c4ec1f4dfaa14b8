"""Policy + the name of a host -> the tables of that host. Pure.

A host gets every record of every VM network that has a port on it, and nothing of any other.
"""

from collections.abc import Iterable
from ipaddress import ip_address, ip_network
from typing import NamedTuple

from policy.compile.tables import (
    CustomerRoute,
    Flood,
    LocalPort,
    ProviderAddress,
    ProviderRoute,
    Record,
    Subnet,
    Tables,
    on_link,
)
from policy.errors import ManifestError, ObjectId, UnknownHostError
from policy.kinds.limits import USUAL_BROADCAST
from policy.kinds.model import (
    NVGRE_OVERHEAD,
    Address,
    Host,
    LookupRecord,
    Mac,
    NetworkSite,
    Policy,
    Port,
    Prefix,
    RateLimit,
    Translation,
    VMSubnet,
)
from policy.kinds.words import nearest
from policy.rules.peers import nvgre_family
from policy.rules.routes import way_to, ways_of

_ETHERNET_MTU = 1500
_JUMBO = 2000
"""Underlay MTU from which on VMs get all of it; below, the extra room is there for the tunnel."""

_DEFAULT_ROUTE = {4: ip_network("0.0.0.0/0"), 6: ip_network("::/0")}


class Presence(NamedTuple):
    """What a host's tables are about: the VM networks that have a port there, and the hosts that have a port
    or a record in those networks. members: a VM subnet that has a port there, and a host that has one, too.
    """

    networks: frozenset[ObjectId]
    hosts: frozenset[str]
    members: frozenset[tuple[ObjectId, str]]


def compile_host(policy: Policy, name: str, presence: Presence | None = None) -> Tables:
    """The tables of managed host `name`. UnknownHostError: there is none.

    presence: if it does not follow from the policy, which then is a part of a larger one.
    """
    managed_host(policy, name)
    endpoints = policy.endpoint_by_name
    host = endpoints[name]
    networks, present, together = presence or presence_of(policy, name)
    local = [port for port in policy.ports if port.host == name]
    subnets = [subnet for subnet in policy.vm_subnets if subnet.network_id in networks]
    members = [(subnet, port) for subnet in subnets for port in policy.ports_by_subnet.get(subnet.id, ())]
    raw = [(subnet, record) for subnet in subnets for record in policy.records_by_subnet.get(subnet.id, ())]
    hosts = {each: endpoint for each, endpoint in endpoints.items() if each in present}
    return Tables(
        host=name,
        provider_addresses=tuple(
            sorted(
                [
                    *(pa for peer in hosts.values() for pa in _shared_pas(policy, peer)),
                    *(pa for _, port in members for pa in _rewrite_pas(policy, port)),
                    *(pa for _, record in raw for pa in _raw_pas(policy, record)),
                ],
                key=lambda pa: _address_key(pa.address),
            )
        ),
        records=tuple(
            sorted(
                [
                    *(
                        record
                        for subnet, port in members
                        for record in _records(host, hosts[port.host], subnet, port)
                    ),
                    *(_raw_record(host, hosts[record.host], record) for _, record in raw),
                ],
                key=lambda record: (record.vsid, _address_key(record.customer_address)),
            )
        ),
        provider_routes=_provider_routes(policy, policy.site_by_name[host.site]),
        subnets=tuple(sorted(map(_subnet, subnets))),
        ports=tuple(sorted(_local_port(policy.subnet_by_id[port.subnet_id], port) for port in local)),
        customer_routes=_customer_routes(policy, networks),
        floods=_floods(policy, host, together),
    )


def presence_of(policy: Policy, name: str) -> Presence:
    networks = frozenset(
        policy.subnet_by_id[port.subnet_id].network_id for port in policy.ports if port.host == name
    )
    homes: set[tuple[ObjectId, str]] = set()
    for subnet in (subnet.id for subnet in policy.vm_subnets if subnet.network_id in networks):
        homes |= {(subnet, port.host) for port in policy.ports_by_subnet.get(subnet, ())}
        homes |= {(subnet, record.host) for record in policy.records_by_subnet.get(subnet, ())}
    own = {port.subnet_id for port in policy.ports if port.host == name}
    members = frozenset((subnet, host) for subnet, host in homes if subnet in own)
    return Presence(networks, frozenset({name, *(host for _, host in homes)}), members)


def own_pas(policy: Policy, name: str) -> list[Address]:
    """The PAs of host `name`, which answers for them: its shared ones, and those of its rewrite ports and
    records.
    """
    ports = [pa for port in policy.ports if port.host == name for pa in port.provider_addresses]
    raw = [pa.address for each in policy.lookup_records if each.host == name for pa in _raw_pas(policy, each)]
    return [*policy.endpoint_by_name[name].provider_addresses, *ports, *raw]


def tenant_mtu(policy: Policy) -> int:
    """The largest IP packet of a VM that crosses the provider network whole, whatever its translation and the
    two hosts.

    1500 where the provider network has room for more but no jumbo frames: what VMs expect of an Ethernet.
    """
    family = 4 if all(host.shared_pa(4) for host in policy.endpoint_by_name.values()) else 6
    underlay = min(host.underlay.mtu for host in policy.hosts)
    room = underlay - NVGRE_OVERHEAD[family]
    return room if underlay >= _JUMBO else min(room, _ETHERNET_MTU)


def next_hop_macs(policy: Policy, tables: Tables) -> dict[Address, Mac]:
    """Provider next hop -> its MAC, for the PAs of other hosts in these tables.

    On link a PA is its own next hop and has its host's underlay MAC; else the site's gateway of the family
    is. PAs that the site has no way to are left out. ManifestError: a MAC that is not stated.
    """
    site = policy.site_by_name[policy.host_by_name[tables.host].site]
    macs: dict[Address, Mac] = {}
    problems = []
    for pa in tables.provider_addresses:
        if pa.host == tables.host:
            continue
        hop, mac, owner, path = _next_hop(policy, site, pa, policy.host_by_name[pa.host])
        if mac:
            macs[hop] = mac
        elif path:
            text = f"missing: the next hop of {tables.host} to {pa.address}"
            problems.append(policy.problem(owner, path, text))
    if problems:
        raise ManifestError(problems)
    return macs


def managed_host(policy: Policy, name: str) -> Host:
    """UnknownHostError unless isolane runs on host `name`."""
    host = policy.host_by_name.get(name)
    if host is None or not host.managed:
        managed = [host.name for host in policy.hosts if host.managed]
        reason = "unmanaged host" if host else "unknown host"
        raise UnknownHostError(name, managed, reason, nearest(name, managed))
    return host


def _subnet(subnet: VMSubnet) -> Subnet:
    said = subnet.broadcast
    flood = (said.packets_per_second, said.burst) if subnet.floods else (0, 0)
    unusual = subnet.translation is Translation.NVGRE and said != USUAL_BROADCAST
    network = subnet.network_id.qualified_name
    return Subnet(subnet.vsid, network, subnet.prefixes, subnet.gateways, flood, unusual)


def _local_port(subnet: VMSubnet, port: Port) -> LocalPort:
    limit = port.rate_limit or subnet.rate_limit or RateLimit()
    return LocalPort(port.id.qualified_name, subnet.vsid, port.mac, port.allowed_sources, limit.whole)


def _shared_pas(policy: Policy, host: Host) -> list[ProviderAddress]:
    site = policy.site_by_name[host.site]
    return [
        ProviderAddress(pa, _prefix_length(site, pa), "shared", host.name) for pa in host.provider_addresses
    ]


def _rewrite_pas(policy: Policy, port: Port) -> list[ProviderAddress]:
    site = policy.site_by_name[policy.host_by_name[port.host].site]
    return [
        ProviderAddress(pa, _prefix_length(site, pa), "rewrite", port.host) for pa in port.provider_addresses
    ]


def _raw_pas(policy: Policy, record: LookupRecord) -> list[ProviderAddress]:
    pa = record.provider_address
    if record.rule is not Translation.REWRITE or pa is None:
        return []
    site = policy.site_by_name[policy.host_by_name[record.host].site]
    return [ProviderAddress(pa, _prefix_length(site, pa), "rewrite", record.host)]


def _prefix_length(site: NetworkSite, pa: Address) -> int:
    return next(subnet.prefix.prefixlen for subnet in site.subnets if pa in subnet.prefix)


def _records(host: Host, owner: Host, subnet: VMSubnet, port: Port) -> list[Record]:
    """The records of one port as seen by `host`: NVGRE goes to a PA of a family that both hosts have."""
    if subnet.translation is Translation.REWRITE:
        pas = port.provider_addresses
    else:
        pas = (_shared_pa(host, owner),) * len(port.addresses)
    name = port.id.qualified_name
    return [
        Record(subnet.vsid, ca, port.mac, pa, subnet.translation, owner.name, name)
        for ca, pa in zip(port.addresses, pas, strict=True)
    ]


def _raw_record(host: Host, owner: Host, record: LookupRecord) -> Record:
    """As stated; where it names no PA, with that of a port's record."""
    assert record.customer_address is not None, "schema: it is required"
    return Record(
        record.virtual_subnet_id,
        record.customer_address,
        record.mac_address,
        record.provider_address or _shared_pa(host, owner),
        record.rule,
        record.host,
        record.port_id.qualified_name if record.port else "",
        record.type,
    )


def _shared_pa(host: Host, owner: Host) -> Address:
    shared = owner.shared_pa(nvgre_family(host, owner))
    assert shared is not None, "peers.peers_share_a_family"
    return shared


def _floods(policy: Policy, host: Host, members: Iterable[tuple[ObjectId, str]]) -> tuple[Flood, ...]:
    """The order of PAs is the core's to make."""
    vsids = {subnet.id: subnet.vsid for subnet in policy.vm_subnets if subnet.floods}
    owners = {name for subnet, name in members if name != host.name and subnet in vsids}
    pas = {name: _shared_pa(host, policy.endpoint_by_name[name]) for name in owners}
    found = ((vsids[subnet], name) for subnet, name in members if name in pas and subnet in vsids)
    return tuple(sorted((Flood(vsid, pas[name], name) for vsid, name in found), key=_flood_key))


def _flood_key(flood: Flood) -> tuple[int, str]:
    return flood.vsid, flood.host


def _customer_routes(policy: Policy, networks: frozenset[ObjectId]) -> tuple[CustomerRoute, ...]:
    """Of several to one prefix the one with the lowest metric."""
    best: dict[tuple[ObjectId, Prefix], CustomerRoute] = {}
    for route in policy.customer_routes:
        if route.network_id not in networks or route.prefix is None or route.next_hop is None:
            continue
        subnets = policy.subnets_by_network[route.network_id]
        vsid = next((subnet.vsid for subnet in subnets if subnet.prefix_of(route.next_hop)), None)
        if vsid is None:  # its subnet is in quarantine
            continue
        domain = route.network_id.qualified_name
        made = CustomerRoute(domain, route.prefix, route.next_hop, vsid, route.metric)
        there = best.setdefault((route.network_id, route.prefix), made)
        if made.metric < there.metric:
            best[route.network_id, route.prefix] = made
    return tuple(sorted(best.values(), key=lambda route: (route.routing_domain, *_prefix_key(route.prefix))))


def _provider_routes(policy: Policy, site: NetworkSite) -> tuple[ProviderRoute, ...]:
    on_site = [ProviderRoute(subnet.prefix, ip_address(on_link(subnet.prefix))) for subnet in site.subnets]
    default = [
        ProviderRoute(_DEFAULT_ROUTE[subnet.gateway.version], subnet.gateway)
        for subnet in site.subnets
        if subnet.gateway
    ]
    stated = [ProviderRoute(route.prefix, route.next_hop) for route in ways_of(policy, site)]
    return tuple(sorted(on_site + default + stated, key=lambda route: _prefix_key(route.prefix)))


def _next_hop(
    policy: Policy, site: NetworkSite, pa: ProviderAddress, owner: Host
) -> tuple[Address, Mac, ObjectId, str]:
    """(next hop, its MAC, object and path of the field that states it); path "" where the site has no way."""
    if site.subnet_of(pa.address):
        return pa.address, owner.underlay.mac, owner.id, "spec.underlay.mac"
    if route := way_to(policy, site, pa.address):
        return route.next_hop, Mac(""), route.owner, "spec.nextHop"
    for index, subnet in enumerate(site.subnets):
        if subnet.gateway and subnet.gateway.version == pa.address.version:
            return subnet.gateway, subnet.gateway_mac, site.id, f"spec.subnets[{index}].gatewayMac"
    return pa.address, Mac(""), owner.id, ""


def _prefix_key(prefix: Prefix) -> tuple[tuple[int, int], int]:
    return _address_key(prefix.network_address), prefix.prefixlen


def _address_key(address: Address) -> tuple[int, int]:
    return address.version, int(address)
