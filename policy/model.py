"""The typed model of intent: frozen, compared and hashed by content, free of I/O.

An `Intent` is what the manifests state. A field that may be left out is then empty: 0, "", () or None.
`allocator.allocate` fills those and returns a `Policy`; the compiler and every tool take that. Objects are
kept as tuples sorted by identity, so two sets of manifests that say the same are equal whatever their
order.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import NewType

from policy.errors import STORED, Location, ObjectId, Problem

Address = IPv4Address | IPv6Address
Prefix = IPv4Network | IPv6Network
Mac = NewType("Mac", str)
"""Six lower-case hex octets with colons; "" where none is stated."""

Labels = tuple[tuple[str, str], ...]
"""Key and value, sorted: what operators tell objects apart by; nothing else follows from them."""

NO_MAC = Mac("")
ROUTER_MAC = Mac("02:15:0a:00:00:01")
"""The MAC of every gateway of every VM network on every host; nothing else may have it."""

UNDERLAY_PORT = "underlay"
"""The name of the provider-facing port in captures and counters; no tenant's port may be called so."""

FIRST_VSID, LAST_VSID = 4096, 16_777_214  # RFC 7637 section 3.4 reserves the rest
DEFAULT_UNDERLAY_MTU = 1500
MAX_BURST, MAX_BYTE_RATE = 2**32 - 1, 10**12
MIN_BURST_PACKETS, MIN_BURST_BYTES = 64, 128 << 10
IPV6_MIN_MTU = 1280  # RFC 8200 section 5: what a tenant's IPv6 packet may always be
NVGRE_OVERHEAD = {4: 20 + 8 + 14, 6: 40 + 8 + 14}
"""Outer IP family -> octets by which NVGRE lengthens an IP packet: outer IP, GRE with key, inner Ethernet."""


class Translation(StrEnum):
    """How a packet for a customer address crosses the provider network."""

    NVGRE = "nvgre"
    REWRITE = "rewrite"


class RecordType(StrEnum):
    """What a lookup record is for."""

    STATIC = "static"
    DYNAMIC = "dynamic"
    GATEWAY_WILDCARD = "gateway-wildcard"
    L2ONLY = "l2only"

    @property
    def is_of_no_address(self) -> bool:
        """Whether its customer address is 0.0.0.0 or ::."""
        return self in (RecordType.GATEWAY_WILDCARD, RecordType.L2ONLY)


class Driver(StrEnum):
    """How the underlay device is opened."""

    AUTO = "auto"
    AFXDP = "afxdp"
    PACKET = "packet"


class AttachKind(StrEnum):
    """What a port's device is: a TAP or veth pair that isolane makes, or a device that exists."""

    TAP = "tap"
    VETH = "veth"
    DEVICE = "device"


@dataclass(frozen=True, slots=True)
class LogicalNetwork:
    """A provider network."""

    name: str
    labels: Labels = ()

    @property
    def id(self) -> ObjectId:
        return ObjectId("LogicalNetwork", "", self.name)


@dataclass(frozen=True, slots=True)
class AddressRange:
    """Addresses of one family from `first` to `last`, both included."""

    first: Address
    last: Address

    def __str__(self) -> str:
        return f"{self.first}-{self.last}"

    def values(self) -> range:
        """The addresses as integers; take the size as stop - start, len() can't count an IPv6 pool."""
        return range(int(self.first), int(self.last) + 1)


@dataclass(frozen=True, slots=True)
class MacRange:
    """MACs from `first` to `last`, both included."""

    first: Mac
    last: Mac

    def __str__(self) -> str:
        return f"{self.first}-{self.last}"

    def values(self) -> range:
        return range(mac_value(self.first), mac_value(self.last) + 1)


def mac_value(mac: Mac) -> int:
    return int(mac.replace(":", ""), 16)


@dataclass(frozen=True, slots=True)
class SiteSubnet:
    """One subnet of a site's provider network."""

    prefix: Prefix
    pa_pool: AddressRange | None = None
    gateway: Address | None = None
    gateway_mac: Mac = NO_MAC


@dataclass(frozen=True, slots=True)
class NetworkSite:
    """A place of a logical network: hosts there share its subnets."""

    name: str
    logical_network: str
    subnets: tuple[SiteSubnet, ...]
    labels: Labels = ()

    @property
    def id(self) -> ObjectId:
        return ObjectId("NetworkSite", "", self.name)

    def subnet_of(self, address: Address) -> SiteSubnet | None:
        """The subnet on which `address` is on-link here."""
        return next((subnet for subnet in self.subnets if address in subnet.prefix), None)


@dataclass(frozen=True, slots=True)
class Underlay:
    """A host's provider-facing device. `mac` is the device's own, never allocated."""

    interface: str = ""
    mac: Mac = NO_MAC
    mtu: int = DEFAULT_UNDERLAY_MTU
    driver: Driver = Driver.AUTO


@dataclass(frozen=True, slots=True)
class Host:
    """An NVGRE endpoint; isolane runs on it if it is managed. `provider_addresses` are the shared PAs."""

    name: str
    site: str
    provider_addresses: tuple[Address, ...] = ()
    underlay: Underlay = Underlay()
    managed: bool = True
    labels: Labels = ()

    @property
    def id(self) -> ObjectId:
        return ObjectId("Host", "", self.name)

    def shared_pa(self, version: int) -> Address | None:
        """The PA of IP `version` that carries NVGRE: the lowest."""
        return min((pa for pa in self.provider_addresses if pa.version == version), key=int, default=None)


@dataclass(frozen=True, slots=True)
class VMNetwork:
    """A routing domain: the isolation boundary."""

    tenant: str
    name: str
    logical_network: str
    labels: Labels = ()

    @property
    def id(self) -> ObjectId:
        return ObjectId("VMNetwork", self.tenant, self.name)


@dataclass(frozen=True, slots=True)
class RateLimit:
    """Of what a port sends; 0: not stated. Without its rate a burst means nothing."""

    packets_per_second: int = 0
    bytes_per_second: int = 0
    burst_packets: int = 0
    burst_bytes: int = 0

    @property
    def whole(self) -> "RateLimit":
        """With the bursts that hold when none is stated: a tenth of a second, and what a super-packet is."""
        packets, octets = self.packets_per_second, self.bytes_per_second
        return RateLimit(
            packets,
            octets,
            (self.burst_packets or max(MIN_BURST_PACKETS, packets // 10)) if packets else 0,
            (self.burst_bytes or max(MIN_BURST_BYTES, min(octets // 10, MAX_BURST))) if octets else 0,
        )


@dataclass(frozen=True, slots=True)
class VMSubnet:
    """A tenant's subnet: one VSID. In a Policy, `gateways` are those of `prefixes`, in order."""

    tenant: str
    name: str
    vm_network: str
    prefixes: tuple[Prefix, ...]
    gateways: tuple[Address, ...] = ()
    vsid: int = 0
    translation: Translation = Translation.NVGRE
    labels: Labels = ()
    rate_limit: RateLimit | None = None

    @property
    def id(self) -> ObjectId:
        return ObjectId("VMSubnet", self.tenant, self.name)

    @property
    def network_id(self) -> ObjectId:
        return ObjectId("VMNetwork", self.tenant, self.vm_network)

    def prefix_of(self, address: Address) -> Prefix | None:
        """The prefix of this subnet that holds `address`."""
        return next((prefix for prefix in self.prefixes if address in prefix), None)


@dataclass(frozen=True, slots=True)
class Attach:
    """Where a port's device is. `netns` is "" for the host's own namespace."""

    kind: AttachKind
    device: str
    netns: str = ""

    @property
    def netns_fault(self) -> str:
        """Why `netns` can't be as it is; "" if it can. Of a TAP and of a veth the kernel of the namespace is
        the VM: the host's own would be the tenant.
        """
        match self.kind, bool(self.netns):
            case AttachKind.TAP, False:
                return (
                    "missing: the VM of a tap is the kernel of its network namespace, which must not be the "
                    "host's own; for a hypervisor's TAP use device: NAME instead"
                )
            case AttachKind.VETH, False:
                return "missing: a veth needs a network namespace for its other end"
            case AttachKind.DEVICE, True:
                return "a device that exists is looked for in the host's own namespace"
        return ""


@dataclass(frozen=True, slots=True)
class Port:
    """A VM's vNIC. `provider_addresses`: under rewrite one for each address, in their order; else none."""

    tenant: str
    name: str
    vm_subnet: str
    host: str
    addresses: tuple[Address, ...] = ()
    mac: Mac = NO_MAC
    provider_addresses: tuple[Address, ...] = ()
    allowed_sources: tuple[Prefix, ...] = ()
    attach: Attach | None = None
    labels: Labels = ()
    rate_limit: RateLimit | None = None

    @property
    def id(self) -> ObjectId:
        return ObjectId("Port", self.tenant, self.name)

    @property
    def subnet_id(self) -> ObjectId:
        return ObjectId("VMSubnet", self.tenant, self.vm_subnet)


@dataclass(frozen=True, slots=True)
class Tenant:
    """Whom networks belong to."""

    name: str
    description: str = ""
    labels: Labels = ()

    @property
    def id(self) -> ObjectId:
        return ObjectId("Tenant", "", self.name)


@dataclass(frozen=True, slots=True)
class IPPool:
    """Addresses to be given out: of a site's provider network (`site`), or of a tenant's VM subnet
    (`vm_subnet`). Of one family, within one subnet of the place.
    """

    name: str
    tenant: str = ""
    site: str = ""
    vm_subnet: str = ""
    range: AddressRange | None = None
    reserved: tuple[AddressRange, ...] = ()
    gateway: Address | None = None
    dns_servers: tuple[Address, ...] = ()
    dns_suffix: str = ""
    labels: Labels = ()

    @property
    def id(self) -> ObjectId:
        return ObjectId("IPPool", self.tenant, self.name)

    @property
    def subnet_id(self) -> ObjectId:
        return ObjectId("VMSubnet", self.tenant, self.vm_subnet)


def ranges_of(pool: IPPool) -> list[range]:
    """What may be given out, as integers: the range without what is reserved."""
    left = [pool.range.values()] if pool.range else []
    for taken in (reserved.values() for reserved in pool.reserved):
        left = [
            part
            for values in left
            for part in (
                range(values.start, min(values.stop, taken.start)),
                range(max(values.start, taken.stop), values.stop),
            )
            if part.start < part.stop
        ]
    return left


@dataclass(frozen=True, slots=True)
class MACPool:
    """MACs to be given out to ports that state none."""

    name: str
    range: MacRange | None = None
    labels: Labels = ()

    @property
    def id(self) -> ObjectId:
        return ObjectId("MACPool", "", self.name)


@dataclass(frozen=True, slots=True)
class CustomerRoute:
    """In a VM network: a prefix that is reached by the port with address `next_hop`."""

    tenant: str
    name: str
    vm_network: str
    prefix: Prefix | None = None
    next_hop: Address | None = None
    metric: int = 0
    virtual_subnet_id: int = 0
    labels: Labels = ()

    @property
    def id(self) -> ObjectId:
        return ObjectId("CustomerRoute", self.tenant, self.name)

    @property
    def network_id(self) -> ObjectId:
        return ObjectId("VMNetwork", self.tenant, self.vm_network)


@dataclass(frozen=True, slots=True)
class LookupRecord:
    """(VSID, CA) -> MAC, PA, host, as HNV states it: for a CA that is no Port's own address.

    `port`: the port of `host` behind which the CA is; hosts that isolane runs on know no other place for it.
    `provider_address`: None for the shared one of the host that ports' records have.
    """

    tenant: str
    name: str
    virtual_subnet_id: int = 0
    customer_address: Address | None = None
    mac_address: Mac = NO_MAC
    host: str = ""
    port: str = ""
    provider_address: Address | None = None
    rule: Translation = Translation.NVGRE
    type: RecordType = RecordType.STATIC
    customer_id: str = ""
    context: str = ""
    vm_name: str = ""
    labels: Labels = ()

    @property
    def id(self) -> ObjectId:
        return ObjectId("LookupRecord", self.tenant, self.name)

    @property
    def port_id(self) -> ObjectId:
        return ObjectId("Port", self.tenant, self.port)


@dataclass(frozen=True, slots=True)
class ProviderAddress:
    """One more shared PA of a host: it counts like one of the host's `provider_addresses`."""

    name: str
    host: str
    provider_address: Address | None = None
    prefix_length: int = 0
    mac_address: Mac = NO_MAC
    labels: Labels = ()

    @property
    def id(self) -> ObjectId:
        return ObjectId("ProviderAddress", "", self.name)


@dataclass(frozen=True, slots=True)
class ProviderRoute:
    """In the provider network: a prefix that hosts of a site reach by the router `next_hop`."""

    name: str
    site: str
    prefix: Prefix | None = None
    next_hop: Address | None = None
    metric: int = 0
    labels: Labels = ()

    @property
    def id(self) -> ObjectId:
        return ObjectId("ProviderRoute", "", self.name)


Object = (
    Tenant
    | LogicalNetwork
    | NetworkSite
    | Host
    | IPPool
    | MACPool
    | VMNetwork
    | VMSubnet
    | Port
    | CustomerRoute
    | ProviderRoute
    | LookupRecord
    | ProviderAddress
)


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


def intent_of(
    objects: Iterable[Object], sources: Mapping[ObjectId, Mapping[str, Location]] | None = None
) -> Intent:
    """The objects as an Intent; of two with one identity the last counts."""
    ordered = sorted({item.id: item for item in objects}.values(), key=lambda item: item.id)
    return Intent(
        logical_networks=tuple(item for item in ordered if isinstance(item, LogicalNetwork)),
        sites=tuple(item for item in ordered if isinstance(item, NetworkSite)),
        hosts=tuple(item for item in ordered if isinstance(item, Host)),
        vm_networks=tuple(item for item in ordered if isinstance(item, VMNetwork)),
        vm_subnets=tuple(item for item in ordered if isinstance(item, VMSubnet)),
        ports=tuple(item for item in ordered if isinstance(item, Port)),
        tenants=tuple(item for item in ordered if isinstance(item, Tenant)),
        ip_pools=tuple(item for item in ordered if isinstance(item, IPPool)),
        mac_pools=tuple(item for item in ordered if isinstance(item, MACPool)),
        customer_routes=tuple(item for item in ordered if isinstance(item, CustomerRoute)),
        provider_routes=tuple(item for item in ordered if isinstance(item, ProviderRoute)),
        lookup_records=tuple(item for item in ordered if isinstance(item, LookupRecord)),
        provider_addresses=tuple(item for item in ordered if isinstance(item, ProviderAddress)),
        sources=sources or {},
    )
