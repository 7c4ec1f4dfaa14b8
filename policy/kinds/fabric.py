"""Kinds of the fabric: the provider network, its places, hosts and address pools, and tenants."""

from dataclasses import dataclass
from typing import Annotated

from policy.errors import ObjectId
from policy.kinds.declare import Field, Values, kind, section
from policy.kinds.scalars import (
    ADDRESS,
    BOOLEAN,
    DOMAIN,
    DRIVER,
    INTERFACE,
    MAC,
    MAC_RANGE,
    METRIC,
    MTU,
    NAME,
    PREFIX,
    RANGE,
    RESERVED,
    ROUTE_PREFIX,
    SPIN,
    SPIN_LEFT_OUT,
    SPIN_MEANS,
    TEXT,
)
from policy.kinds.values import (
    DEFAULT_UNDERLAY_MTU,
    NO_MAC,
    Address,
    AddressRange,
    Driver,
    Labels,
    Mac,
    MacRange,
    Prefix,
    Spin,
)
from policy.kinds.yaml_reader import Fields


@kind("Whom networks belong to. Once one is stated, every tenant has to be.")
@dataclass(frozen=True, slots=True)
class Tenant:
    """Whom networks belong to."""

    name: str
    description: Annotated[
        str, Field(TEXT, "Words for people.", "Blue Inc., contract 17", left_out="none")
    ] = ""
    labels: Labels = ()

    @property
    def id(self) -> ObjectId:
        return ObjectId("Tenant", "", self.name)


@kind("A provider network that sites and VM networks are part of.")
@dataclass(frozen=True, slots=True)
class LogicalNetwork:
    """A provider network."""

    name: str
    labels: Labels = ()

    @property
    def id(self) -> ObjectId:
        return ObjectId("LogicalNetwork", "", self.name)


@dataclass(frozen=True, slots=True)
class SiteSubnet:
    """One subnet of a site's provider network."""

    prefix: Annotated[
        Prefix,
        Field(PREFIX, "A subnet of the provider network at this place.", "192.168.77.0/24", required=True),
    ]
    pa_pool: Annotated[
        AddressRange | None,
        Field(
            RANGE,
            "Provider addresses that may be given to hosts and, under rewrite, to customer addresses.",
            "192.168.77.100-192.168.77.250",
            left_out="every provider address of the subnet has to be stated",
        ),
    ] = None
    gateway: Annotated[
        Address | None,
        Field(
            ADDRESS,
            "The router by which hosts here reach other sites; one a family.",
            "192.168.77.1",
            left_out="hosts here reach provider addresses of this site only",
        ),
    ] = None
    gateway_mac: Annotated[
        Mac,
        Field(
            MAC,
            "The gateway's MAC, for `isolane replay`; live hosts ask for it.",
            '"02:00:00:00:77:fe"',
            left_out="it is asked for",
        ),
    ] = NO_MAC


def _site_subnet(values: Values, _fields: Fields | None) -> SiteSubnet | None:
    return SiteSubnet(**values) if values["prefix"] is not None else None


SITE_SUBNET = section(SiteSubnet, _site_subnet)


@kind("A place of a logical network, with the subnets that hosts there share.")
@dataclass(frozen=True, slots=True)
class NetworkSite:
    """A place of a logical network: hosts there share its subnets."""

    name: str
    logical_network: Annotated[
        str,
        Field(
            NAME, "The logical network it is part of.", "fabric", required=True, refers_to="LogicalNetwork"
        ),
    ]
    subnets: Annotated[
        tuple[SiteSubnet, ...], Field(SITE_SUBNET, "Subnets of the provider network here.", required=True)
    ]
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

    interface: Annotated[
        str,
        Field(
            INTERFACE,
            "The provider-facing device of the host.",
            "eth1",
            left_out="of an unmanaged host: not needed",
            required=True,
        ),
    ] = ""
    mac: Annotated[
        Mac,
        Field(
            MAC,
            "The device's own MAC, which all provider addresses of the host share; the device must have it.",
            '"02:00:00:00:77:01"',
            left_out="whichever the device has",
        ),
    ] = NO_MAC
    mtu: Annotated[
        int,
        Field(
            MTU,
            "The largest IP packet that the provider network carries, in bytes.",
            "1600",
            left_out=f"{DEFAULT_UNDERLAY_MTU}",
        ),
    ] = DEFAULT_UNDERLAY_MTU
    driver: Annotated[Driver, Field(DRIVER, "How the device is opened.", "auto", left_out="auto")] = (
        Driver.AUTO
    )
    spin: Annotated[Spin, Field(SPIN, SPIN_MEANS, "never", left_out=SPIN_LEFT_OUT)] = Spin.AUTO


UNDERLAY = section(Underlay)


@kind("A machine with a place in the provider network: an endpoint of NVGRE.")
@dataclass(frozen=True, slots=True)
class Host:
    """An NVGRE endpoint; isolane runs on it if it is managed. `provider_addresses` are the shared PAs."""

    name: str
    site: Annotated[
        str, Field(NAME, "The network site it is at.", "rack1", required=True, refers_to="NetworkSite")
    ]
    provider_addresses: Annotated[
        tuple[Address, ...],
        Field(
            ADDRESS,
            "The shared provider addresses that carry NVGRE, in subnets of its site.",
            "[192.168.77.101]",
            left_out="one of each subnet of the site that has a paPool",
        ),
    ] = ()
    underlay: Annotated[
        Underlay,
        Field(
            UNDERLAY,
            "Its provider-facing device.",
            '{interface: eth1, mac: "02:00:00:00:77:01", mtu: 1600}',
            left_out="of an unmanaged host: not known",
            required=True,
            condition="managed",
        ),
    ] = Underlay()
    managed: Annotated[
        bool,
        Field(
            BOOLEAN,
            "Whether isolane runs on it; else it is a foreign endpoint, such as Open vSwitch.",
            "true",
            left_out="true",
            decisive=True,
        ),
    ] = True
    labels: Labels = ()

    @property
    def id(self) -> ObjectId:
        return ObjectId("Host", "", self.name)

    def shared_pa(self, version: int) -> Address | None:
        """The PA of IP `version` that carries NVGRE: the lowest."""
        return min((pa for pa in self.provider_addresses if pa.version == version), key=int, default=None)


@kind("A way in the provider network besides a site's subnets and gateways.")
@dataclass(frozen=True, slots=True)
class ProviderRoute:
    """In the provider network: a prefix that hosts of a site reach by the router `next_hop`."""

    name: str
    site: Annotated[
        str, Field(NAME, "The site whose hosts have it.", "rack1", required=True, refers_to="NetworkSite")
    ]
    prefix: Annotated[
        Prefix | None, Field(ROUTE_PREFIX, "Where it leads.", "192.168.80.0/22", required=True)
    ] = None
    next_hop: Annotated[
        Address | None, Field(ADDRESS, "The router, in a subnet of the site.", "192.168.77.2", required=True)
    ] = None
    metric: Annotated[
        int, Field(METRIC, "Of several to one prefix the lowest counts.", "10", left_out="0")
    ] = 0
    labels: Labels = ()

    @property
    def id(self) -> ObjectId:
        return ObjectId("ProviderRoute", "", self.name)


@kind(
    "Addresses to be given out: of a site to hosts and rewrite ports, of a VM subnet to its ports.",
    of_tenant=None,
)
@dataclass(frozen=True, slots=True)
class IPPool:
    """Addresses to be given out: of a site's provider network (`site`), or of a tenant's VM subnet
    (`vm_subnet`). Of one family, within one subnet of the place.
    """

    name: str
    tenant: str = ""
    site: Annotated[
        str,
        Field(
            NAME,
            "The site: for provider addresses.",
            "rack1",
            left_out="it is a VM subnet's",
            refers_to="NetworkSite",
        ),
    ] = ""
    vm_subnet: Annotated[
        str,
        Field(
            NAME,
            "The VM subnet, of the pool's tenant: for customer addresses.",
            "Blue_VMSubnet1",
            left_out="it is a site's",
            refers_to="VMSubnet",
        ),
    ] = ""
    range: Annotated[
        AddressRange | None, Field(RANGE, "What may be given out.", "10.1.1.100-10.1.1.199", required=True)
    ] = None
    reserved: Annotated[
        tuple[AddressRange, ...],
        Field(
            RESERVED,
            "What of it may not: addresses and ranges.",
            "[10.1.1.100, 10.1.1.150-10.1.1.159]",
            left_out="nothing",
        ),
    ] = ()
    gateway: Annotated[
        Address | None,
        Field(
            ADDRESS,
            "The gateway of those who get an address, for reference: it must be the subnet's.",
            "10.1.1.1",
            left_out="the subnet's",
        ),
    ] = None
    dns_servers: Annotated[
        tuple[Address, ...], Field(ADDRESS, "Their DNS servers.", "[10.1.1.53]", left_out="none")
    ] = ()
    dns_suffix: Annotated[str, Field(DOMAIN, "Their DNS suffix.", "blue.example", left_out="none")] = ""
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


@kind("MACs to be given out to ports; once there is one, from nowhere else.")
@dataclass(frozen=True, slots=True)
class MACPool:
    """MACs to be given out to ports that state none."""

    name: str
    range: Annotated[
        MacRange | None,
        Field(
            MAC_RANGE,
            "Locally administered MACs of one first octet.",
            '"02:1d:d8:00:00:00-02:1d:d8:ff:ff:ff"',
            required=True,
        ),
    ] = None
    labels: Labels = ()

    @property
    def id(self) -> ObjectId:
        return ObjectId("MACPool", "", self.name)
