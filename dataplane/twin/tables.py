"""Of the naive twin: what change sets fill and packets ask. Dictionaries, and scans for the longest prefix.

Row layouts as in csrc/dp_api.h, unpacked here once more on purpose. Addresses are 4 or 16 bytes.
"""

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields, replace
from typing import Any, NamedTuple, TypeVar

from dataplane.twin.packet import ANY4, ANY6

PUT, DELETE = 1, 2
SHARED, REWRITE_PA = 1, 2
REWRITE = 2
ON_LINK = b""
GATEWAY_WILDCARD = 4
ROUTER_LINK_LOCAL = bytes.fromhex("fe800000000000000000000000000001")


class RowError(Exception):
    """A row that can't be applied: code of enum dp_error, section, row, what is wrong."""

    def __init__(self, code: int, section: int, row: int, text: str) -> None:
        super().__init__(text)
        self.code, self.section, self.row = code, section, row


ENOENT, EFORMAT = -3, -5


class Pa(NamedTuple):
    host: int
    kind: int


class Prefix(NamedTuple):
    """The first `length` bits of an address of `size` bytes; what it leads to is the table's business."""

    bits: int
    length: int
    size: int

    def holds(self, address: bytes) -> bool:
        return len(address) == self.size and first_bits(address, self.length) == self.bits


class Route(NamedTuple):
    """Where a CA prefix of a routing domain is: on link in the subnet, or behind a CA that lives there."""

    vsid: int
    next_hop: bytes | None


class Limit(NamedTuple):
    """So many a second; a bucket holds `burst` of them."""

    rate: int
    burst: int


class Port(NamedTuple):
    """limits: of packets and of bytes, None where there is none."""

    vsid: int
    mac: bytes
    limits: tuple[Limit | None, Limit | None] = (None, None)


class Record(NamedTuple):
    """(VSID, CA) -> where it lives. port: if that is this host. gateway: the router, at home everywhere."""

    vsid: int
    ca: bytes
    mac: bytes
    host: int = -1
    port: int = 0
    pa: bytes = b""
    translation: int = 0
    gateway: bool = False


def first_bits(address: bytes, length: int) -> int:
    return int.from_bytes(address, "big") >> len(address) * 8 - length


def prefix_of(packed: bytes, family: int, length: int) -> Prefix:
    address = address_of(packed, family)
    return Prefix(first_bits(address, length), length, len(address))


def address_of(packed: bytes, family: int) -> bytes:
    return packed[: 4 if family == 4 else 16]


K = TypeVar("K")
V = TypeVar("V")


def longest(table: dict[Prefix, V], address: bytes) -> V | None:
    """What the longest prefix that holds the address leads to."""
    holding = [prefix for prefix in table if prefix.holds(address)]
    return table[max(holding, key=lambda prefix: prefix.length)] if holding else None


def change(table: dict[K, V], op: int, key: K, value: V) -> None:
    if op == PUT:
        table[key] = value
    else:
        del table[key]


@dataclass
class Tables:
    """All that policy says."""

    self_host: int
    router_mac: bytes
    generation: int = 0
    pas: dict[bytes, Pa] = field(default_factory=dict)
    provider_routes: dict[Prefix, bytes] = field(default_factory=dict)
    subnets: dict[int, int] = field(default_factory=dict)
    routes: dict[int, dict[Prefix, Route]] = field(default_factory=dict)
    gateways: dict[tuple[int, bytes], Prefix] = field(default_factory=dict)
    ports: dict[int, Port] = field(default_factory=dict)
    sources: dict[int, dict[Prefix, bool]] = field(default_factory=dict)
    records: dict[tuple[int, bytes], Record] = field(default_factory=dict)
    own: dict[int, dict[bytes, Record]] = field(default_factory=dict)
    bound: dict[bytes, Record] = field(default_factory=dict)
    moves: dict[tuple[int, bytes], int] = field(default_factory=dict)
    flooded: dict[int, Limit] = field(default_factory=dict)
    floods: dict[tuple[int, bytes], int] = field(default_factory=dict)

    # ---- what packets ask

    def record(self, vsid: int, ca: bytes) -> Record | None:
        """Of (VSID, CA). Gateways and fe80::1 are the router's; the wildcard answers to no address."""
        if (vsid, ca) in self.gateways or (ca == ROUTER_LINK_LOCAL and vsid in self.subnets):
            return Record(vsid, ca, self.router_mac, gateway=True)
        return None if ca in (ANY4, ANY6) else self.records.get((vsid, ca))

    def wildcard(self, vsid: int, ca: bytes) -> Record | None:
        """The subnet's gateway-wildcard in the family of the CA."""
        return self.records.get((vsid, ANY4 if len(ca) == 4 else ANY6))

    def route(self, rdid: int, ca: bytes) -> Route | None:
        return longest(self.routes.get(rdid, {}), ca)

    def on_link(self, rdid: int, ca: bytes) -> tuple[Prefix, int] | None:
        """The longest prefix of a subnet that holds the address, and the subnet."""
        prefixes = {p: (p, r.vsid) for p, r in self.routes.get(rdid, {}).items() if r.next_hop is None}
        return longest(prefixes, ca)

    def gateway_beside(self, vsid: int, ca: bytes) -> bytes | None:
        """The subnet's gateway in the prefix that the address is in."""
        found = self.on_link(self.subnets[vsid], ca)
        if found is None or found[1] != vsid:
            return None
        return next((g for (v, g), p in self.gateways.items() if (v, p) == (vsid, found[0])), None)

    def gateway_for(self, port: int, ca: bytes) -> bytes | None:
        """Who speaks for the router to this port about a packet that it sent."""
        vsid, own = self.ports[port].vsid, [a for a in self.own.get(port, {}) if len(a) == len(ca)]
        gateway = self.gateway_beside(vsid, ca)
        if gateway is None and own:
            gateway = self.gateway_beside(vsid, min(own))
        return gateway or (ROUTER_LINK_LOCAL if len(ca) == 16 else None)

    def is_broadcast(self, rdid: int, ca: bytes) -> bool:
        """The last address of an IPv4 prefix on link."""
        found = self.on_link(rdid, ca) if len(ca) == 4 else None
        if found is None or found[0].length > 30:
            return False
        return all(bit == "1" for bit in f"{int.from_bytes(ca, 'big'):032b}"[found[0].length :])

    def other_home(self, record: Record) -> int | None:
        """The second host of a record that is in a move."""
        return self.moves.get((record.vsid, record.ca))

    def flood_hosts(self, vsid: int) -> dict[bytes, int]:
        """PA -> host, of those that hear what is sent to a group in the subnet."""
        return {pa: host for (of, pa), host in self.floods.items() if of == vsid}

    def own_record(self, port: int, ca: bytes) -> Record | None:
        """The record of a CA that lives behind this local port."""
        return self.own.get(port, {}).get(ca)

    def may_send(self, port: int, address: bytes) -> bool:
        """Own CAs and allowedSources."""
        allowed = longest(self.sources.get(port, {}), address) is not None
        return allowed or self.own_record(port, address) is not None

    def bound_to(self, pa: bytes) -> Record | None:
        """The record whose CA a rewrite PA stands for."""
        return self.bound.get(pa)

    def shared_pa(self, host: int, size: int) -> bytes | None:
        """A host's first shared PA of a family: addresses of `size` bytes."""
        for address, pa in self.pas.items():
            if pa == (host, SHARED) and len(address) == size:
                return address
        return None

    def asking_pa(self, size: int) -> bytes | None:
        """Who asks for next hops: this host's shared PA of a family, else the lowest rewrite PA of its
        CAs."""
        own = (pa for pa, record in self.bound.items() if record.host == self.self_host and len(pa) == size)
        return self.shared_pa(self.self_host, size) or min(own, default=None)

    def provider_next_hop(self, pa: bytes) -> bytes | None:
        """The address in PA space to hand a packet for this PA to. All PAs of a host have one MAC: for a
        rewrite PA on link its host's shared PA is asked."""
        via = longest(self.provider_routes, pa)
        if via is None or via != ON_LINK:
            return via
        host, kind = self.pas[pa]
        shared = self.shared_pa(host, len(pa)) if kind == REWRITE_PA else None
        return shared if shared and longest(self.provider_routes, shared) == ON_LINK else pa

    def next_hops_in_use(self) -> set[bytes]:
        """Those of all PAs of other hosts that packets may be sent to."""
        used = (
            a
            for a, pa in self.pas.items()
            if pa.host != self.self_host and (pa.kind == SHARED or a in self.bound)
        )
        return {hop for hop in map(self.provider_next_hop, used) if hop is not None}

    # ---- what change sets do

    def applied(self, change_set: bytes) -> "Tables":
        """A copy with all rows of the change set in it. RowError: it can't be applied, or is none."""
        new = replace(self, **{f.name: copied(getattr(self, f.name)) for f in fields(self)})
        for section, (kind, op, rows) in enumerate(sections(change_set)):
            for index, row in enumerate(rows):
                try:
                    METHODS[kind](new, op, *row)
                except KeyError:
                    raise RowError(ENOENT, section, index, "nothing there") from None
        new.generation = struct.unpack_from("<Q", change_set, 8)[0]
        return new

    def pa_row(self, op: int, address: bytes, host: int, family: int, kind: int, _length: int) -> None:
        pa = address_of(address, family)
        if self.pas.get(pa) not in (None, Pa(host, kind)):
            del self.pas[pa]  # it is another host's now, and the last of them
        change(self.pas, op, pa, Pa(host, kind))

    def provider_route_row(self, op: int, prefix: bytes, next_hop: bytes, family: int, length: int) -> None:
        via = ON_LINK if next_hop == ANY6 else address_of(next_hop, family)
        change(self.provider_routes, op, prefix_of(prefix, family, length), via)

    def subnet_row(self, op: int, vsid: int, rdid: int, per_second: int, burst: int) -> None:
        change(self.subnets, op, vsid, rdid)
        self.flooded.pop(vsid, None)
        if op == PUT and per_second:
            self.flooded[vsid] = Limit(per_second, burst)

    def prefix_row(self, op: int, prefix: bytes, gateway: bytes, vsid: int, family: int, length: int) -> None:
        rdid, key = self.subnets[vsid], prefix_of(prefix, family, length)
        change(self.routes.setdefault(rdid, {}), op, key, Route(vsid, None))
        for old in [g for g, of in self.gateways.items() if of == key and self.subnets[g[0]] == rdid]:
            del self.gateways[old]
        if op == PUT and gateway != ANY6:
            self.gateways[vsid, address_of(gateway, family)] = key

    def port_row(
        self, op: int, port: int, vsid: int, mac: bytes,
        bytes_rate: int, burst_bytes: int, packets_rate: int, burst_packets: int,
    ) -> None:  # fmt: skip
        packets = Limit(packets_rate, burst_packets) if packets_rate else None
        octets = Limit(bytes_rate, burst_bytes) if bytes_rate else None
        change(self.ports, op, port, Port(vsid, mac, (packets, octets)))

    def source_row(self, op: int, prefix: bytes, port: int, family: int, length: int) -> None:
        change(self.sources.setdefault(port, {}), op, prefix_of(prefix, family, length), True)

    def record_row(
        self, op: int, ca: bytes, pa: bytes, vsid: int, host: int, port: int, mac: bytes,
        family: int, pa_family: int, translation: int, kind: int,
    ) -> None:  # fmt: skip
        key = vsid, address_of(ca, family)
        old = self.records.get(key)
        if old:
            self.own.get(old.port, {}).pop(old.ca, None)
            self.bound.pop(old.pa, None)
        new = Record(*key, mac, host, port, address_of(pa, pa_family), translation)
        change(self.records, op, key, new)
        if op == PUT and host == self.self_host and kind != GATEWAY_WILDCARD:
            self.own.setdefault(port, {})[new.ca] = new
        if op == PUT and translation == REWRITE:
            self.bound[new.pa] = new

    def flood_row(self, op: int, pa: bytes, vsid: int, host: int, family: int) -> None:
        change(self.floods, op, (vsid, address_of(pa, family)), host)

    def route_row(
        self, op: int, prefix: bytes, next_hop: bytes, rdid: int, vsid: int, family: int, length: int
    ) -> None:
        route = Route(vsid, address_of(next_hop, family))
        change(self.routes.setdefault(rdid, {}), op, prefix_of(prefix, family, length), route)

    def move_row(self, op: int, ca: bytes, vsid: int, host: int, family: int) -> None:
        change(self.moves, op, (vsid, address_of(ca, family)), host)


def copied(value: Any) -> Any:
    """Tables of tables, never deeper."""
    if not isinstance(value, dict):
        return value
    return {key: dict(inner) if isinstance(inner, dict) else inner for key, inner in value.items()}


LAYOUTS = {
    1: "<16sIBBB9x",
    2: "<16s16sBB6x",
    3: "<IIII",
    4: "<16s16sIBB2x",
    5: "<II6s2xQQII",
    6: "<16sIBB2x",
    7: "<16s16sIII6sBBBB10x",
    8: "<16s16sIIBB6x",
    9: "<16sIIB7x",
    10: "<16sIIB7x",
}
METHODS: dict[int, Callable[..., None]] = {
    1: Tables.pa_row,
    2: Tables.provider_route_row,
    3: Tables.subnet_row,
    4: Tables.prefix_row,
    5: Tables.port_row,
    6: Tables.source_row,
    7: Tables.record_row,
    8: Tables.route_row,
    9: Tables.move_row,
    10: Tables.flood_row,
}


def sections(change_set: bytes) -> Iterator[tuple[int, int, list[tuple[int | bytes, ...]]]]:
    """(row kind, op, rows) of each section of an encoded change set."""
    if len(change_set) < 24 or struct.unpack_from("<IH", change_set) != (0x314C5349, 2):
        raise RowError(EFORMAT, 0, 0, "not a change set")
    at, count = 24, struct.unpack_from("<I", change_set, 16)[0]
    for section in range(count):
        if at + 8 > len(change_set):
            raise RowError(EFORMAT, section, 0, "truncated")
        kind, op, rows = struct.unpack_from("<HHI", change_set, at)
        at += 8
        if kind not in LAYOUTS or op not in (PUT, DELETE):
            raise RowError(EFORMAT, section, 0, "unknown kind or op")
        size = struct.calcsize(LAYOUTS[kind])
        if at + rows * size > len(change_set):
            raise RowError(EFORMAT, section, 0, "truncated")
        yield kind, op, [struct.unpack_from(LAYOUTS[kind], change_set, at + i * size) for i in range(rows)]
        at += rows * size
    if at != len(change_set):
        raise RowError(EFORMAT, count, 0, "bytes behind the last section")
