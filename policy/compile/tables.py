"""The tables of one host, as the compiler makes them: named rows, their JSON view and their packed form.

The JSON view is `isolane compile -o json`: arrays sorted by the values of their fields as they are written.
The packed form is the change set that brings an empty core to this state; its rows are those of dp_api.h,
sorted by their fields. In it hosts, routing domains and this host's ports have ids (`Ids`).
"""

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from typing import Any, Literal, NamedTuple

from dataplane.binding import tables as dp
from policy.kinds.model import Address, Mac, Prefix, RateLimit, RecordType, Translation

FIRST_GENERATION = 1
"""The generation of a core to which these tables were the first change set."""


class ProviderAddress(NamedTuple):
    """PA -> host. prefix_length: of the site subnet that holds it."""

    address: Address
    prefix_length: int
    kind: Literal["shared", "rewrite"]
    host: str


class Record(NamedTuple):
    """(VSID, CA) -> MAC, PA, host, translation, type. PA: the CA's own under rewrite, else the host's.

    port: TENANT/NAME; "" where the VM is known by no Port. customer_address: unspecified for a
    gateway-wildcard.
    """

    vsid: int
    customer_address: Address
    mac: Mac
    provider_address: Address
    translation: Translation
    host: str
    port: str
    type: RecordType = RecordType.STATIC


class Subnet(NamedTuple):
    """A virtual subnet; gateways go with prefixes, in the same order. flood: of packets to groups, how many a
    second and at once are copied to all of its VMs; (0, 0): none. is_unusual: its own policy says so.
    """

    vsid: int
    routing_domain: str
    prefixes: tuple[Prefix, ...]
    gateways: tuple[Address, ...]
    flood: tuple[int, int] = (0, 0)
    is_unusual: bool = False


class Flood(NamedTuple):
    """Another host that has VMs in a subnet of which this host has some too, and its shared PA."""

    vsid: int
    provider_address: Address
    host: str


class CustomerRoute(NamedTuple):
    """The best way to a prefix inside a routing domain; vsid: the next hop's."""

    routing_domain: str
    prefix: Prefix
    next_hop: Address
    vsid: int
    metric: int


class ProviderRoute(NamedTuple):
    """Route in PA space; the unspecified next hop means on link."""

    prefix: Prefix
    next_hop: Address


class LocalPort(NamedTuple):
    """A port of this host, by its name with the tenant's: names are unique in a tenant only."""

    name: str
    vsid: int
    mac: Mac
    allowed_sources: tuple[Prefix, ...]
    limit: RateLimit = RateLimit()


SELF = 1
"""A host's id in its own tables."""


@dataclass(frozen=True, slots=True)
class Ids:
    """Name -> id in packed rows: hosts (their own host is SELF), routing domains, local ports (0 is the
    underlay's).
    """

    hosts: dict[str, int]
    routing_domains: dict[str, int]
    ports: dict[str, int]

    def unite(self, other: "Ids") -> "Ids":
        """All of both; they agree where they name the same."""
        return Ids(
            self.hosts | other.hosts,
            self.routing_domains | other.routing_domains,
            self.ports | other.ports,
        )

    def only(self, hosts: Set[str], routing_domains: Set[str], ports: Set[str]) -> "Ids":
        """Of these names."""
        return Ids(
            {name: number for name, number in self.hosts.items() if name in hosts},
            {name: number for name, number in self.routing_domains.items() if name in routing_domains},
            {name: number for name, number in self.ports.items() if name in ports},
        )

    def extend(self, tables: "Tables") -> "Ids":
        """Of these tables: names that are known keep their ids, new ones get ids that none here has, so that
        old rows and new rows can stand side by side.
        """
        return Ids(
            _extend(self.hosts, {pa.host for pa in tables.provider_addresses}),
            _extend(self.routing_domains, {subnet.routing_domain for subnet in tables.subnets}),
            _extend(self.ports, {port.name for port in tables.ports}),
        )


@dataclass(frozen=True)
class Tables:
    """Everything host `host` needs to know; each tuple is sorted."""

    host: str
    provider_addresses: tuple[ProviderAddress, ...]
    records: tuple[Record, ...]
    provider_routes: tuple[ProviderRoute, ...]
    subnets: tuple[Subnet, ...]
    ports: tuple[LocalPort, ...]
    customer_routes: tuple[CustomerRoute, ...] = ()
    floods: tuple[Flood, ...] = ()

    @cached_property
    def ids(self) -> Ids:
        """In an empty core: dense, in the order of names."""
        return Ids({self.host: SELF}, {}, {}).extend(self)

    def change_set(self, generation: int = FIRST_GENERATION) -> dp.ChangeSet:
        """All rows to put into an empty core, what is referred to first."""
        return dp.ChangeSet(generation, tuple(dp.put(rows) for rows in self.rows() if rows))

    def rows(self, ids: Ids | None = None) -> list[Sequence[dp.Row]]:
        """The core's rows, one sequence a kind, in the order in which they are applied."""
        ids = ids or self.ids
        return [
            sorted(_pa_row(pa, ids) for pa in self.provider_addresses),
            sorted(map(_provider_route_row, self.provider_routes)),
            sorted(
                dp.SubnetRow(subnet.vsid, ids.routing_domains[subnet.routing_domain], *subnet.flood)
                for subnet in self.subnets
            ),
            sorted(
                _prefix_row(subnet.vsid, prefix, gateway)
                for subnet in self.subnets
                for prefix, gateway in zip(subnet.prefixes, subnet.gateways, strict=True)
            ),
            sorted(_port_row(port, ids) for port in self.ports),
            sorted(
                _source_row(ids.ports[port.name], prefix)
                for port in self.ports
                for prefix in port.allowed_sources
            ),
            [],  # moves: what is in one is not policy's to say yet
            sorted(self._record_row(record, ids) for record in self.records),
            sorted(_route_row(route, ids) for route in self.customer_routes),
            sorted(_flood_row(flood, ids) for flood in self.floods),
        ]

    def view(self, generation: int = FIRST_GENERATION) -> dict[str, Any]:
        """The JSON document; `rateLimits` only where there are some, `broadcast` of NVGRE subnets that don't
        go by the defaults.
        """
        broadcast = [_broadcast_view(subnet) for subnet in self.subnets if subnet.is_unusual]
        limits = [_limit_view(port) for port in self.ports if port.limit != RateLimit()]
        return {
            "host": self.host,
            "generation": generation,
            "providerAddresses": _sorted_view(map(_pa_view, self.provider_addresses)),
            "records": _sorted_view(map(_record_view, self.records)),
            "customerRoutes": _sorted_view(
                [
                    *(_on_link_view(subnet, prefix) for subnet in self.subnets for prefix in subnet.prefixes),
                    *map(_customer_route_view, self.customer_routes),
                ]
            ),
            "providerRoutes": _sorted_view(map(_provider_route_view, self.provider_routes)),
            "subnets": _sorted_view(map(_subnet_view, self.subnets)),
            **({"rateLimits": limits} if limits else {}),
            **({"broadcast": broadcast} if broadcast else {}),
        }

    def _record_row(self, record: Record, ids: Ids) -> dp.RecordRow:
        return dp.RecordRow(
            ca=dp.pack_address(record.customer_address),
            provider_address=dp.pack_address(record.provider_address),
            vsid=record.vsid,
            host=ids.hosts[record.host],
            port=ids.ports[record.port] if record.host == self.host else 0,
            mac=_mac_bytes(record.mac),
            family=record.customer_address.version,
            pa_family=record.provider_address.version,
            translation=dp.Translation[record.translation.name],
            type=dp.RecordType[record.type.name],
        )


def on_link(prefix: Prefix) -> str:
    """How HNV writes the next hop of a route on link."""
    return "0.0.0.0" if prefix.version == 4 else "::"


def _pa_row(pa: ProviderAddress, ids: Ids) -> dp.PaRow:
    kind = dp.PaKind.SHARED if pa.kind == "shared" else dp.PaKind.REWRITE
    return dp.PaRow(
        dp.pack_address(pa.address), ids.hosts[pa.host], pa.address.version, kind, pa.prefix_length
    )


def _provider_route_row(route: ProviderRoute) -> dp.ProviderRouteRow:
    prefix = route.prefix
    return dp.ProviderRouteRow(
        dp.pack_address(prefix.network_address),
        dp.pack_address(route.next_hop),
        prefix.version,
        prefix.prefixlen,
    )


def _prefix_row(vsid: int, prefix: Prefix, gateway: Address) -> dp.PrefixRow:
    return dp.PrefixRow(
        dp.pack_address(prefix.network_address),
        dp.pack_address(gateway),
        vsid,
        prefix.version,
        prefix.prefixlen,
    )


def _route_row(route: CustomerRoute, ids: Ids) -> dp.RouteRow:
    return dp.RouteRow(
        prefix=dp.pack_address(route.prefix.network_address),
        next_hop=dp.pack_address(route.next_hop),
        rdid=ids.routing_domains[route.routing_domain],
        vsid=route.vsid,
        family=route.prefix.version,
        prefix_len=route.prefix.prefixlen,
    )


def _port_row(port: LocalPort, ids: Ids) -> dp.PortRow:
    return dp.PortRow(
        ids.ports[port.name],
        port.vsid,
        _mac_bytes(port.mac),
        port.limit.bytes_per_second,
        port.limit.burst_bytes,
        port.limit.packets_per_second,
        port.limit.burst_packets,
    )


def _source_row(port: int, prefix: Prefix) -> dp.SourceRow:
    return dp.SourceRow(dp.pack_address(prefix.network_address), port, prefix.version, prefix.prefixlen)


def _flood_row(flood: Flood, ids: Ids) -> dp.FloodRow:
    address = flood.provider_address
    return dp.FloodRow(dp.pack_address(address), flood.vsid, ids.hosts[flood.host], address.version)


def _broadcast_view(subnet: Subnet) -> dict[str, Any]:
    """Packets 0: none."""
    return {
        "virtualSubnetId": subnet.vsid,
        "packetsPerSecond": subnet.flood[0],
        "burstPackets": subnet.flood[1],
    }


def _pa_view(pa: ProviderAddress) -> dict[str, Any]:
    return {"address": str(pa.address), "prefixLength": pa.prefix_length, "kind": pa.kind, "host": pa.host}


def _limit_view(port: LocalPort) -> dict[str, Any]:
    """Bursts as they hold; what has no limit is 0."""
    return {
        "port": port.name,
        "packetsPerSecond": port.limit.packets_per_second,
        "bytesPerSecond": port.limit.bytes_per_second,
        "burstPackets": port.limit.burst_packets,
        "burstBytes": port.limit.burst_bytes,
    }


def _on_link_view(subnet: Subnet, prefix: Prefix) -> dict[str, Any]:
    return {
        "routingDomain": subnet.routing_domain,
        "prefix": str(prefix),
        "nextHop": on_link(prefix),
        "metric": 0,
    }


def _customer_route_view(route: CustomerRoute) -> dict[str, Any]:
    return {
        "routingDomain": route.routing_domain,
        "prefix": str(route.prefix),
        "nextHop": str(route.next_hop),
        "metric": route.metric,
    }


def _provider_route_view(route: ProviderRoute) -> dict[str, Any]:
    return {"prefix": str(route.prefix), "nextHop": str(route.next_hop)}


def _subnet_view(subnet: Subnet) -> dict[str, Any]:
    return {
        "virtualSubnetId": subnet.vsid,
        "routingDomain": subnet.routing_domain,
        "prefixes": sorted(map(str, subnet.prefixes)),
        "gateways": sorted(map(str, subnet.gateways)),
    }


def _record_view(record: Record) -> dict[str, Any]:
    return {
        "virtualSubnetId": record.vsid,
        "customerAddress": str(record.customer_address),
        "macAddress": record.mac,
        "providerAddress": str(record.provider_address),
        "translation": str(record.translation),
        "type": str(record.type),
        "host": record.host,
        "port": record.port,
    }


def _sorted_view(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(rows, key=lambda row: tuple(row.values()))


def _extend(known: Mapping[str, int], names: set[str]) -> dict[str, int]:
    used = set(known.values())
    free = (number for number in count(1) if number not in used)
    ids = {name: known[name] for name in names if name in known}
    ids |= {name: next(free) for name in sorted(names - known.keys())}
    return dict(sorted(ids.items()))


def _mac_bytes(mac: Mac) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))
