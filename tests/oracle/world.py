"""Policies for the oracle: a few VM networks that are alike to the last CA and MAC, seen from host 1.

World is the recipe; everything in it is drawn by hypothesis, and its repr is a regression row. Every
network has two subnets, with the same prefixes in each network, and every subnet the same VMs: their
number is the last part of their CAs and of their MAC. Host 2 is on link, host 3 behind a router, host 4
without a provider route.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import NamedTuple

from dataplane.binding.core import Config, Flags, Offload, PortConfig, PortKind
from dataplane.binding.tables import (
    NO_ADDRESS,
    Address,
    ChangeSet,
    FloodRow,
    MoveRow,
    PaKind,
    PaRow,
    PortRow,
    PrefixRow,
    ProviderRouteRow,
    RecordRow,
    RecordType,
    RouteRow,
    Row,
    SourceRow,
    SubnetRow,
    Translation,
    pack_address,
    put,
)

SELF = 1
ROUTER_MAC = bytes.fromhex("020000000001")
UNDERLAY_MAC = bytes.fromhex("020000007701")
SUBNETS = (0, 1)
LOCAL, LOCAL_APPLIANCE, LOCAL_DOWN, GATEWAY_VM = 10, 11, 12, 13
REMOTE = {20: 2, 21: 2, 30: 3, 40: 4}
"""VM number -> host, of the VMs that live elsewhere."""
NOBODY = 99
ROUTED = {4: "10.8.0.0/16", 6: "fd00:8::/32"}
"""Behind the local appliance: it may send from there, a route leads there."""
ROUTED_AWAY = {4: "10.9.0.0/16", 6: "fd00:9::/32"}
"""Behind a remote VM."""
OUTSIDE = {4: IPv4Address("203.0.113.5"), 6: IPv6Address("2001:db8::5")}
SHARED = {
    (1, 4): IPv4Address("192.168.77.101"),
    (1, 6): IPv6Address("fd77::101"),
    (2, 4): IPv4Address("192.168.77.102"),
    (2, 6): IPv6Address("fd77::102"),
    (3, 4): IPv4Address("10.77.3.1"),
    (3, 6): IPv6Address("fd77:3::1"),
    (4, 4): IPv4Address("172.31.4.1"),
    (4, 6): IPv6Address("fd99::1"),
}
PROVIDER_ROUTES = (
    ("192.168.0.0/16", None),
    ("10.77.0.0/16", IPv4Address("192.168.77.1")),
    ("fd77::/32", None),
    ("fd77:3::/32", IPv6Address("fd77::fe")),
)
NEXT_HOPS = {
    IPv4Address("192.168.77.102"): bytes.fromhex("020000007702"),
    IPv6Address("fd77::102"): bytes.fromhex("020000007702"),
    IPv4Address("192.168.77.1"): bytes.fromhex("0200000077fe"),
    IPv6Address("fd77::fe"): bytes.fromhex("0200000077fe"),
}
"""Shared PAs on link and routers; rewrite PAs on link are next hops of their own."""
UNBOUND = {1: (IPv4Address("192.168.99.9"), IPv6Address("fd77:99::9")), 2: (IPv4Address("192.168.99.10"),)}
NO_POLICY_PORT = 100


class Vm(NamedTuple):
    """One vNIC. network, subnet: indices. host: its home. port: its port if that is host 1, else 0."""

    network: int
    subnet: int
    number: int
    host: int
    port: int

    @property
    def vsid(self) -> int:
        return vsid(self.network, self.subnet)

    @property
    def mac(self) -> bytes:
        return bytes((2, 0xBB, 0, 0, self.subnet, self.number))

    def ca(self, family: int) -> Address:
        if family == 4:
            return ip_address(f"10.1.{self.subnet + 1}.{self.number}")
        return ip_address(f"fd00:1:{self.subnet + 1}::{self.number}")

    def rewrite_pa(self, family: int) -> Address:
        place = self.network * 16 + self.subnet * 8
        if family == 4:
            prefix = {1: "192.168", 2: "192.168", 3: "10.77", 4: "172.31"}[self.host]
            return ip_address(f"{prefix}.{100 + place}.{self.number}")
        prefix = {1: "fd77", 2: "fd77", 3: "fd77:3", 4: "fd99"}[self.host]
        return ip_address(f"{prefix}::{place + 1:x}:{self.number}")


def vsid(network: int, subnet: int) -> int:
    return (network + 1) * 4096 + 904 + subnet


def prefix(subnet: int, family: int) -> str:
    return f"10.1.{subnet + 1}.0/24" if family == 4 else f"fd00:1:{subnet + 1}::/64"


def gateway(subnet: int, family: int) -> Address:
    return ip_address(f"10.1.{subnet + 1}.1" if family == 4 else f"fd00:1:{subnet + 1}::1")


def network_field(text: str) -> tuple[bytes, int, int]:
    """(prefix, family, prefix_len) of rows."""
    network = ip_network(text)
    return pack_address(network.network_address), network.version, network.prefixlen


@dataclass(frozen=True)
class World:
    """rewrite: (network, subnet) pairs carried by IP rewrite. swapped: networks whose remote VMs live on
    host 3 instead of 2 and the other way round. pa_families: of this host's shared PAs. outer: the family
    of a remote host's PA in NVGRE records. wildcard: number of the VM that catches what has no record in
    subnet 0. resolved: next hops have fixed MACs. offloads, mtu: of tenant ports; underlay_...: of the
    underlay. limit: of ports in subnet 0, as the end of a PortRow. moves: VM number, other home, of the VMs
    of subnet 0 that are in a move. flood: packets to groups a second and at once, of subnets under NVGRE.
    """

    networks: int = 2
    rewrite: frozenset[tuple[int, int]] = frozenset()
    swapped: frozenset[int] = frozenset()
    pa_families: frozenset[int] = frozenset((4, 6))
    outer: dict[int, int] = field(default_factory=lambda: {2: 4, 3: 4, 4: 4})
    wildcard: int | None = None
    routes: bool = True
    default_route: bool = False
    resolved: bool = True
    flowid: bool = True
    offloads: Offload = Offload.NONE
    mtu: int = 1500
    underlay_offloads: Offload = Offload.NONE
    underlay_mtu: int = 1600
    limit: tuple[int, int, int, int] = (0, 0, 0, 0)
    moves: frozenset[tuple[int, int]] = frozenset()
    flood: tuple[int, int] = (1_000_000, 1_000_000)

    def config(self, workers: int = 1) -> Config:
        flags = Flags.NONE if self.flowid else Flags.FLOWID_OFF
        return Config(SELF, ROUTER_MAC, (1, 2), workers=workers, slots=4096, flags=flags)

    def ports(self) -> dict[int, PortConfig]:
        ports = {
            0: PortConfig("underlay", PortKind.MEM, UNDERLAY_MAC, self.underlay_mtu, self.underlay_offloads)
        }
        for vm in self.vms():
            if vm.port and vm.number != LOCAL_DOWN:
                ports[vm.port] = PortConfig(f"port{vm.port}", PortKind.MEM, vm.mac, self.mtu, self.offloads)
        ports[NO_POLICY_PORT] = PortConfig("no-policy", PortKind.MEM, bytes(6), self.mtu)
        return ports

    def vms(self) -> list[Vm]:
        found = []
        for network in range(self.networks):
            for subnet in SUBNETS:
                for number in (LOCAL, LOCAL_APPLIANCE, LOCAL_DOWN, GATEWAY_VM):
                    port = 1 + (network * len(SUBNETS) + subnet) * 4 + number - LOCAL
                    found.append(Vm(network, subnet, number, SELF, port))
                for number, host in REMOTE.items():
                    found.append(Vm(network, subnet, number, self.home(network, host), 0))
        return found

    def vm(self, network: int, subnet: int, number: int) -> Vm:
        return next(vm for vm in self.vms() if vm[:3] == (network, subnet, number))

    def home(self, network: int, host: int) -> int:
        return {2: 3, 3: 2}.get(host, host) if network in self.swapped else host

    def rows(self) -> list[Row]:
        return [row for group in self.groups() for row in group]

    def change_set(self) -> bytes:
        """Everything at once."""
        return ChangeSet(1, tuple(put(rows) for rows in self.groups() if rows)).encode()

    def groups(self) -> tuple[list[Row], ...]:
        """Rows by kind, what is referred to first."""
        return (
            list(self._pas()),
            [
                ProviderRouteRow(p, pack_address(hop) if hop else NO_ADDRESS, family, length)
                for (p, family, length), hop in ((network_field(text), hop) for text, hop in PROVIDER_ROUTES)
            ],
            [self._subnet(n, s) for n in range(self.networks) for s in SUBNETS],
            list(self._prefixes()),
            [self._port(vm) for vm in self.vms() if vm.port],
            list(self._sources()),
            list(self._records()),
            list(self._routes()),
            list(self._moves()),
            list(self._floods()),
        )

    def _subnet(self, network: int, subnet: int) -> SubnetRow:
        flood = (0, 0) if (network, subnet) in self.rewrite else self.flood
        return SubnetRow(vsid(network, subnet), network + 1, *flood)

    def _port(self, vm: Vm) -> PortRow:
        return PortRow(vm.port, vm.vsid, vm.mac, *((0, 0, 0, 0) if vm.subnet else self.limit))

    def _pas(self) -> Iterator[Row]:
        for (host, family), address in SHARED.items():
            if host != SELF or family in self.pa_families:
                yield PaRow(pack_address(address), host, family, PaKind.SHARED, 24 if family == 4 else 64)
        for host, addresses in UNBOUND.items():
            for address in addresses:
                yield PaRow(pack_address(address), host, address.version, PaKind.REWRITE, 24)
        for vm in self.vms():
            if (vm.network, vm.subnet) in self.rewrite:
                for family in (4, 6):
                    address = pack_address(vm.rewrite_pa(family))
                    yield PaRow(address, vm.host, family, PaKind.REWRITE, 24)

    def _prefixes(self) -> Iterator[Row]:
        for network in range(self.networks):
            for subnet in SUBNETS:
                for family in (4, 6):
                    p, _, length = network_field(prefix(subnet, family))
                    gateway_ca = pack_address(gateway(subnet, family))
                    yield PrefixRow(p, gateway_ca, vsid(network, subnet), family, length)

    def _sources(self) -> Iterator[Row]:
        for vm in self.vms():
            if vm.number == LOCAL_APPLIANCE:
                for text in ROUTED.values():
                    p, family, length = network_field(text)
                    yield SourceRow(p, vm.port, family, length)

    def _records(self) -> Iterator[Row]:
        for vm in self.vms():
            for family in (4, 6):
                yield self._record(vm, vm.ca(family), family, RecordType.STATIC)
                if vm.number == self.wildcard and vm.subnet == 0:
                    yield self._record(vm, None, family, RecordType.GATEWAY_WILDCARD)

    def _record(self, vm: Vm, ca: Address | None, family: int, kind: RecordType) -> Row:
        pa, translation = self._pa_of(vm, family, kind)
        address = pack_address(ca) if ca else NO_ADDRESS
        return RecordRow(
            address,
            pack_address(pa),
            vm.vsid,
            vm.host,
            vm.port,
            vm.mac,
            family,
            pa.version,
            translation,
            kind,
        )

    def _pa_of(self, vm: Vm, family: int, kind: RecordType) -> tuple[Address, Translation]:
        if kind == RecordType.STATIC and (vm.network, vm.subnet) in self.rewrite:
            return vm.rewrite_pa(family), Translation.REWRITE
        outer = min(self.pa_families) if vm.host == SELF else self.outer[vm.host]
        return SHARED[vm.host, outer], Translation.NVGRE

    def _routes(self) -> Iterator[Row]:
        if not self.routes:
            return
        for network in range(self.networks):
            for family in (4, 6):
                hops = [(ROUTED[family], LOCAL_APPLIANCE), (ROUTED_AWAY[family], 20)]
                if self.default_route:
                    hops.append(("0.0.0.0/0" if family == 4 else "::/0", 30))
                for text, number in hops:
                    p, _, length = network_field(text)
                    via = self.vm(network, 0, number)
                    hop = pack_address(via.ca(family))
                    yield RouteRow(p, hop, network + 1, via.vsid, family, length)

    def _moves(self) -> Iterator[Row]:
        for network in range(self.networks):
            for number, host in sorted(self.moves):
                vm = self.vm(network, 0, number)
                for family in (4, 6):
                    yield MoveRow(pack_address(vm.ca(family)), vm.vsid, host, family)
                    if number == self.wildcard:
                        yield MoveRow(NO_ADDRESS, vm.vsid, host, family)

    def _floods(self) -> Iterator[Row]:
        places = {(vm.vsid, vm.host) for vm in self.vms() if vm.host != SELF}
        under_rewrite = {vsid(*place) for place in self.rewrite}
        for of, host in sorted(places, reverse=True):
            if of not in under_rewrite:
                pa = SHARED[host, self.outer[host]]
                yield FloodRow(pack_address(pa), of, host, pa.version)

    def next_hops(self) -> dict[Address, bytes]:
        """Every provider next hop there can be, and its MAC."""
        hops = dict(NEXT_HOPS)
        for vm in self.vms():
            if vm.host == 2 and (vm.network, vm.subnet) in self.rewrite:
                for family in (4, 6):
                    hops[vm.rewrite_pa(family)] = NEXT_HOPS[SHARED[2, 4]]
        return hops
