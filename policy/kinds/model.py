"""All kinds, and a set of objects of them: frozen, compared and hashed by content, free of I/O.

An `Intent` is what the manifests state. A field that may be left out is then empty: 0, "", () or None.
`ipam.allocate` fills those and returns a `Policy`; the compiler and every tool take that. Objects are
kept as tuples sorted by identity, so two sets of manifests that say the same are equal whatever their
order.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NewType, get_args

from policy.errors import STORED, Location, ObjectId, Problem
from policy.kinds.declare import Kind, kind_of
from policy.kinds.fabric import (
    Host,
    IPPool,
    LogicalNetwork,
    MACPool,
    NetworkSite,
    ProviderRoute,
    SiteSubnet,
    Tenant,
    Underlay,
    ranges_of,
)
from policy.kinds.limits import Broadcast, RateLimit
from policy.kinds.records import LookupRecord, ProviderAddress
from policy.kinds.tenant import Attach, CustomerRoute, Port, VMNetwork, VMSubnet
from policy.kinds.values import (
    DEFAULT_UNDERLAY_MTU,
    FIRST_VSID,
    IPV6_MIN_MTU,
    LAST_VSID,
    MAX_BURST,
    MAX_BYTE_RATE,
    MIN_BURST_BYTES,
    MIN_BURST_PACKETS,
    NO_MAC,
    NVGRE_OVERHEAD,
    ROUTER_MAC,
    UNDERLAY_PORT,
    Address,
    AddressRange,
    AttachKind,
    Driver,
    Labels,
    Mac,
    MacRange,
    Prefix,
    RecordType,
    Spin,
    Translation,
    mac_value,
)

__all__ = [
    "DEFAULT_UNDERLAY_MTU",
    "FIRST_VSID",
    "IPV6_MIN_MTU",
    "KINDS",
    "LAST_VSID",
    "MAX_BURST",
    "MAX_BYTE_RATE",
    "MIN_BURST_BYTES",
    "MIN_BURST_PACKETS",
    "NO_MAC",
    "NVGRE_OVERHEAD",
    "ROUTER_MAC",
    "UNDERLAY_PORT",
    "Address",
    "AddressRange",
    "Attach",
    "AttachKind",
    "Broadcast",
    "CustomerRoute",
    "Driver",
    "Host",
    "IPPool",
    "Intent",
    "Labels",
    "LogicalNetwork",
    "LookupRecord",
    "MACPool",
    "Mac",
    "MacRange",
    "NetworkSite",
    "Object",
    "Policy",
    "Port",
    "Prefix",
    "ProviderAddress",
    "ProviderRoute",
    "RateLimit",
    "RecordType",
    "SiteSubnet",
    "Spin",
    "Tenant",
    "Translation",
    "Underlay",
    "VMNetwork",
    "VMSubnet",
    "intent_of",
    "mac_value",
    "ranges_of",
]

Object = (
    Tenant
    | LogicalNetwork
    | NetworkSite
    | Host
    | ProviderRoute
    | ProviderAddress
    | IPPool
    | MACPool
    | VMNetwork
    | VMSubnet
    | Port
    | CustomerRoute
    | LookupRecord
)

KINDS: Mapping[str, Kind] = {each.__name__: kind_of(each) for each in get_args(Object)}


@dataclass(frozen=True)
class Intent:
    """All objects, sorted by identity. `sources`: where each field was stated; not part of the content."""

    logical_networks: tuple[LogicalNetwork, ...] = ()
    sites: tuple[NetworkSite, ...] = ()
    hosts: tuple[Host, ...] = ()
    vm_networks: tuple[VMNetwork, ...] = ()
    vm_subnets: tuple[VMSubnet, ...] = ()
    ports: tuple[Port, ...] = ()
    tenants: tuple[Tenant, ...] = ()
    ip_pools: tuple[IPPool, ...] = ()
    mac_pools: tuple[MACPool, ...] = ()
    customer_routes: tuple[CustomerRoute, ...] = ()
    provider_routes: tuple[ProviderRoute, ...] = ()
    lookup_records: tuple[LookupRecord, ...] = ()
    provider_addresses: tuple[ProviderAddress, ...] = ()
    sources: Mapping[ObjectId, Mapping[str, Location]] = field(
        default_factory=dict, compare=False, repr=False
    )
    elsewhere: Mapping[ObjectId, Mapping[str, set[int]]] = field(
        default_factory=dict, compare=False, repr=False
    )
    """Of a part of a policy: VM network -> hosts of its ports that are not in this part -> the IP versions of
    their provider addresses. Such hosts are known to get on with each other.
    """

    @cached_property
    def by_id(self) -> dict[ObjectId, Object]:
        groups: tuple[Iterable[Object], ...] = (
            self.tenants,
            self.logical_networks,
            self.sites,
            self.provider_routes,
            self.hosts,
            self.provider_addresses,
            self.mac_pools,
            self.vm_networks,
            self.vm_subnets,
            self.ip_pools,
            self.ports,
            self.customer_routes,
            self.lookup_records,
        )
        return {item.id: item for group in groups for item in group}

    @cached_property
    def site_by_name(self) -> dict[str, NetworkSite]:
        return {site.name: site for site in self.sites}

    @cached_property
    def host_by_name(self) -> dict[str, Host]:
        return {host.name: host for host in self.hosts}

    @cached_property
    def endpoint_by_name(self) -> dict[str, Host]:
        """The hosts with all of their shared PAs: their own, then those of ProviderAddresses."""
        more: dict[str, list[Address]] = {}
        for each in self.provider_addresses:
            if each.provider_address is not None:
                more.setdefault(each.host, []).append(each.provider_address)
        return {
            host.name: replace(host, provider_addresses=(*host.provider_addresses, *more[host.name]))
            if host.name in more
            else host
            for host in self.hosts
        }

    @cached_property
    def subnet_by_vsid(self) -> dict[int, VMSubnet]:
        return {subnet.vsid: subnet for subnet in self.vm_subnets if subnet.vsid}

    def subnet_of(self, record: LookupRecord) -> VMSubnet | None:
        """The subnet of its own tenant that a record is in; None also where its VSID is not given out yet."""
        subnet = self.subnet_by_vsid.get(record.virtual_subnet_id)
        return subnet if subnet and subnet.tenant == record.tenant else None

    @cached_property
    def records_by_subnet(self) -> dict[ObjectId, list[LookupRecord]]:
        groups: dict[ObjectId, list[LookupRecord]] = {}
        for record in self.lookup_records:
            if subnet := self.subnet_of(record):
                groups.setdefault(subnet.id, []).append(record)
        return groups

    @cached_property
    def subnet_by_id(self) -> dict[ObjectId, VMSubnet]:
        return {subnet.id: subnet for subnet in self.vm_subnets}

    @cached_property
    def ports_by_subnet(self) -> dict[ObjectId, list[Port]]:
        groups: dict[ObjectId, list[Port]] = {}
        for port in self.ports:
            groups.setdefault(port.subnet_id, []).append(port)
        return groups

    @cached_property
    def ip_pools_by_place(self) -> dict[ObjectId, list[IPPool]]:
        """NetworkSite or VMSubnet -> its pools."""
        groups: dict[ObjectId, list[IPPool]] = {}
        for pool in self.ip_pools:
            place = ObjectId("NetworkSite", "", pool.site) if pool.site else pool.subnet_id
            groups.setdefault(place, []).append(pool)
        return groups

    @cached_property
    def subnets_by_network(self) -> dict[ObjectId, list[VMSubnet]]:
        groups: dict[ObjectId, list[VMSubnet]] = {}
        for subnet in self.vm_subnets:
            groups.setdefault(subnet.network_id, []).append(subnet)
        return groups

    def site_of(self, host: Host) -> NetworkSite | None:
        return self.site_by_name.get(host.site)

    def is_stored(self, subject: ObjectId) -> bool:
        """Whether a store has it and no file states it."""
        return self.sources.get(subject, {}).get("") == STORED

    def problem(self, subject: ObjectId, path: str, text: str) -> Problem:
        """A problem with field `path` of `subject`, located there or at the nearest field around it."""
        lines = self.sources.get(subject, {})
        around = path
        while around and around not in lines:
            around = around[: max(around.rfind("."), around.rfind("["), 0)]
        return Problem(str(subject), path, text, lines.get(around))


Policy = NewType("Policy", Intent)
"""A valid intent in which nothing is left out."""


_GROUPS = {
    Tenant: "tenants",
    LogicalNetwork: "logical_networks",
    NetworkSite: "sites",
    Host: "hosts",
    ProviderRoute: "provider_routes",
    ProviderAddress: "provider_addresses",
    IPPool: "ip_pools",
    MACPool: "mac_pools",
    VMNetwork: "vm_networks",
    VMSubnet: "vm_subnets",
    Port: "ports",
    CustomerRoute: "customer_routes",
    LookupRecord: "lookup_records",
}


def intent_of(
    objects: Iterable[Object], sources: Mapping[ObjectId, Mapping[str, Location]] | None = None
) -> Intent:
    """The objects as an Intent; of two with one identity the last counts."""
    groups: dict[str, list[Any]] = {group: [] for group in _GROUPS.values()}
    for item in sorted({item.id: item for item in objects}.values(), key=lambda item: item.id):
        groups[_GROUPS[type(item)]].append(item)
    named: dict[str, Any] = {group: tuple(items) for group, items in groups.items()}
    return Intent(**named, sources=sources or {})
