"""Tables and frames for the in-memory bench, built as numpy columns so that ten million records take seconds.

One virtual subnet holds every record: remote CA number i is 10.0.0.0 + i or fd00::i, lives on host
2 + i % hosts and, under rewrite, has the PA 20.0.0.0 + i or fd20::i. Port 1 is the only local one. All PAs
lie behind one provider gateway.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

import numpy as np
import numpy.typing as npt

from dataplane.binding.tables import (
    NO_ADDRESS,
    ROW_DTYPES,
    Address,
    ChangeSet,
    Op,
    PaKind,
    PaRow,
    PortRow,
    PrefixRow,
    ProviderRouteRow,
    RecordRow,
    RecordType,
    RowKind,
    Section,
    SourceRow,
    SubnetRow,
    Translation,
    pack_address,
    put,
)

VSID = 5001
RDID = 1
SELF_HOST = 1
PORT = 1
ROUTER_MAC = bytes.fromhex("02150a000001")
UNDERLAY_MAC = bytes.fromhex("020000007701")
GATEWAY_MAC = bytes.fromhex("0200000077fe")
PORT_MAC = bytes.fromhex("02bb00000001")
CHUNK = 1 << 20
"""Records a change set."""

Bytes = npt.NDArray[np.uint8]
Fields = npt.NDArray[np.void]
Numbers = npt.NDArray[np.uint32]


@dataclass(frozen=True)
class Plan:
    """What is measured: `records` in the table, `hosts` behind them; CAs of `family`, PAs of `pa_family`,
    which under rewrite is the same.

    sources: prefixes that port 1 may send from besides its own CA.
    """

    records: int
    hosts: int
    family: int
    pa_family: int
    rewrite: bool
    sources: int = 0


@dataclass(frozen=True)
class Network:
    """The address bases of one family. Numbers are added to their low 4 bytes.

    allowed: the first of port 1's other source prefixes, of 256 addresses each. missing: what has no record.
    spoofed: what port 1 may not send from.
    """

    ca: Address
    shared_pa: Address
    rewrite_pa: Address
    own_ca: Address
    own_pa: Address
    own_rewrite_pa: Address
    gateway: Address
    any: Address
    allowed: Address
    missing: Address
    spoofed: Address

    @property
    def width(self) -> int:
        return self.ca.max_prefixlen // 8


NETWORKS = {
    4: Network(
        ca=IPv4Address("10.0.0.0"),
        shared_pa=IPv4Address("172.16.0.0"),
        rewrite_pa=IPv4Address("20.0.0.0"),
        own_ca=IPv4Address("11.0.0.1"),
        own_pa=IPv4Address("9.0.0.1"),
        own_rewrite_pa=IPv4Address("9.0.0.2"),
        gateway=IPv4Address("9.0.0.3"),
        any=IPv4Address("0.0.0.0"),
        allowed=IPv4Address("14.0.0.0"),
        missing=IPv4Address("12.0.0.0"),
        spoofed=IPv4Address("13.0.0.0"),
    ),
    6: Network(
        ca=IPv6Address("fd00::"),
        shared_pa=IPv6Address("fd16::"),
        rewrite_pa=IPv6Address("fd20::"),
        own_ca=IPv6Address("fd11::1"),
        own_pa=IPv6Address("fd09::1"),
        own_rewrite_pa=IPv6Address("fd09::2"),
        gateway=IPv6Address("fd09::3"),
        any=IPv6Address("::"),
        allowed=IPv6Address("fd14::"),
        missing=IPv6Address("fd12::"),
        spoofed=IPv6Address("fd13::"),
    ),
}


def addresses(base: Address, numbers: Numbers) -> Bytes:
    """base + numbers as rows of address bytes; base's low 24 bits are 0 but for what is added."""
    width = base.max_prefixlen // 8
    out = np.empty((len(numbers), width), np.uint8)
    out[:] = np.frombuffer(base.packed, np.uint8)
    low = int.from_bytes(base.packed[-4:], "big") + numbers.astype(np.uint64)
    out[:, -4:] = low.astype(">u4").view(np.uint8).reshape(-1, 4)
    return out


def macs(numbers: Numbers) -> Bytes:
    """The MAC of remote CA number i: 02:cc and the number."""
    out = np.empty((len(numbers), 6), np.uint8)
    out[:, :2] = (0x02, 0xCC)
    out[:, 2:] = numbers.astype(">u4").view(np.uint8).reshape(-1, 4)
    return out


def host_index(plan: Plan, numbers: Numbers) -> Numbers:
    return (numbers % plan.hosts).astype(np.uint32)


def _padded(rows: Bytes) -> Fields:
    """As address fields."""
    return _fields(np.pad(rows, ((0, 0), (0, 16 - rows.shape[1]))))


def _fields(rows: Bytes) -> Fields:
    return np.ascontiguousarray(rows).view(f"V{rows.shape[1]}").ravel()


def _base_sections(plan: Plan) -> list[Section]:
    net, provider, family = NETWORKS[plan.family], NETWORKS[plan.pa_family], plan.pa_family
    host_len = provider.ca.max_prefixlen
    shared = np.zeros(plan.hosts, ROW_DTYPES[RowKind.PA])
    shared["address"] = _padded(addresses(provider.shared_pa, np.arange(plan.hosts, dtype=np.uint32)))
    shared["host"] = np.arange(plan.hosts) + 2
    shared["family"], shared["kind"], shared["prefix_len"] = family, PaKind.SHARED, host_len
    own = [PaRow(pack_address(provider.own_pa), SELF_HOST, family, PaKind.SHARED, host_len)]
    if plan.rewrite:
        own.append(PaRow(pack_address(provider.own_rewrite_pa), SELF_HOST, family, PaKind.REWRITE, host_len))
    translation = Translation.REWRITE if plan.rewrite else Translation.NVGRE
    pa = provider.own_rewrite_pa if plan.rewrite else provider.own_pa
    return [
        put([ProviderRouteRow(pack_address(provider.any), pack_address(provider.gateway), family, 0)]),
        put(own),
        Section(RowKind.PA, Op.PUT, shared.tobytes()),
        put([SubnetRow(VSID, RDID)]),
        put([_prefix(net.ca), _prefix(_masked(net.own_ca))]),
        put([PortRow(PORT, VSID, PORT_MAC)]),
        *([put(_source_rows(plan))] if plan.sources else []),
        put([_own_record(net, pa, translation)]),
    ]


def _source_rows(plan: Plan) -> list[SourceRow]:
    net = NETWORKS[plan.family]
    prefixes = (pack_address(net.allowed + (i << 9)) for i in range(plan.sources))
    return [SourceRow(prefix, PORT, plan.family, net.width * 8 - 8) for prefix in prefixes]


def _prefix(prefix: Address) -> PrefixRow:
    length = 8 if prefix.version == 4 else 64
    return PrefixRow(pack_address(prefix), NO_ADDRESS, VSID, prefix.version, length)


def _own_record(net: Network, pa: Address, translation: Translation) -> RecordRow:
    ca = pack_address(net.own_ca)
    where = (pack_address(pa), VSID, SELF_HOST, PORT, PORT_MAC)
    return RecordRow(ca, *where, net.ca.version, pa.version, translation, RecordType.STATIC)


def _masked(address: Address) -> Address:
    keep = 1 if address.version == 4 else 8
    return ip_address(address.packed[:keep].ljust(len(address.packed), b"\0"))


def _record_sections(plan: Plan, numbers: Numbers) -> list[Section]:
    net, provider = NETWORKS[plan.family], NETWORKS[plan.pa_family]
    hosts = host_index(plan, numbers)
    records = np.zeros(len(numbers), ROW_DTYPES[RowKind.RECORD])
    records["ca"] = _padded(addresses(net.ca, numbers))
    pa = addresses(provider.rewrite_pa, numbers) if plan.rewrite else addresses(provider.shared_pa, hosts)
    records["provider_address"] = _padded(pa)
    records["vsid"] = VSID
    records["host"] = hosts + 2
    records["mac"] = _fields(macs(numbers))
    records["family"], records["pa_family"] = plan.family, plan.pa_family
    records["translation"] = Translation.REWRITE if plan.rewrite else Translation.NVGRE
    records["type"] = RecordType.STATIC
    sections = [Section(RowKind.RECORD, Op.PUT, records.tobytes())]
    if plan.rewrite:
        pas = np.zeros(len(numbers), ROW_DTYPES[RowKind.PA])
        pas["address"], pas["host"] = records["provider_address"], records["host"]
        pas["family"], pas["kind"] = plan.pa_family, PaKind.REWRITE
        pas["prefix_len"] = provider.ca.max_prefixlen
        sections.insert(0, Section(RowKind.PA, Op.PUT, pas.tobytes()))
    return sections


def change_sets(plan: Plan, numbers: Numbers | None = None) -> Iterator[bytes]:
    """All tables of the plan, or only the records with these numbers (the twin's sample)."""
    yield ChangeSet(1, tuple(_base_sections(plan))).encode()
    if numbers is None:
        chunks = [
            np.arange(at, min(at + CHUNK, plan.records), dtype=np.uint32)
            for at in range(0, plan.records, CHUNK)
        ]
    else:
        chunks = [np.unique(numbers)]
    for generation, chunk in enumerate(chunks, start=2):
        yield ChangeSet(generation, tuple(_record_sections(plan, chunk))).encode()


def sequence(keys: str, flows: int, records: int, length: int, seed: int) -> tuple[Numbers, Numbers]:
    """(record number, flow number) of `length` packets: `flows` flows over random records.

    keys: "uniform", or "zipf" for flow number n with a weight of 1 / n ** 0.99.
    """
    rng = np.random.default_rng(seed)
    if flows >= records:
        record_of_flow = rng.permutation(records).astype(np.uint32)
        record_of_flow = np.resize(record_of_flow, flows)
    else:
        record_of_flow = rng.choice(records, flows, replace=False).astype(np.uint32)
    if keys == "zipf":
        weights = np.cumsum(1.0 / np.arange(1, flows + 1) ** 0.99)
        flow = np.searchsorted(weights, rng.random(length) * weights[-1])
        flow = np.minimum(flow, flows - 1)
    else:
        flow = rng.integers(0, flows, length)
    return record_of_flow[flow], flow.astype(np.uint32)


def _ip_header(
    family: int, frames: Bytes, at: int, source: Bytes, destination: Bytes, length: int, proto: int
) -> None:
    if family == 4:
        frames[:, at : at + 20] = 0
        frames[:, at] = 0x45
        frames[:, at + 2 : at + 4] = np.frombuffer(length.to_bytes(2, "big"), np.uint8)
        frames[:, at + 6] = 0x40
        frames[:, at + 8], frames[:, at + 9] = 64, proto
        frames[:, at + 12 : at + 16], frames[:, at + 16 : at + 20] = source, destination
        words = frames[:, at : at + 20].copy().view(">u2").astype(np.uint32).sum(axis=1)
        words = (words & 0xFFFF) + (words >> 16)
        words = (words & 0xFFFF) + (words >> 16)
        frames[:, at + 10 : at + 12] = (~words & 0xFFFF).astype(">u2").view(np.uint8).reshape(-1, 2)
    else:
        frames[:, at : at + 8] = (0x60, 0, 0, 0, (length - 40) >> 8, (length - 40) & 255, proto, 64)
        frames[:, at + 8 : at + 24], frames[:, at + 24 : at + 40] = source, destination


def _udp(frames: Bytes, at: int, flow: Numbers, length: int) -> None:
    frames[:, at : at + 2] = (1024 + flow % 60000).astype(">u2").view(np.uint8).reshape(-1, 2)
    frames[:, at + 2 : at + 8] = (0x13, 0x88, length >> 8, length & 255, 0x12, 0x34)


def _tenant_frame(
    plan: Plan, length: int, source: Bytes, destination: Bytes, macs_: tuple[Bytes, Bytes], flow: Numbers
) -> Bytes:
    """Ethernet, IP, UDP; `length` bytes without FCS. macs_: destination, source."""
    frames = np.zeros((len(flow), length), np.uint8)
    header = 20 if plan.family == 4 else 40
    frames[:, 0:6], frames[:, 6:12] = macs_
    frames[:, 12:14] = (0x08, 0x00) if plan.family == 4 else (0x86, 0xDD)
    _ip_header(plan.family, frames, 14, source, destination, length - 14, 17)
    _udp(frames, 14 + header, flow, length - 14 - header)
    return frames


def _const(packed: bytes, count: int) -> Bytes:
    return np.broadcast_to(np.frombuffer(packed, np.uint8), (count, len(packed)))


def frames_out(plan: Plan, length: int, numbers: Numbers, flow: Numbers) -> Bytes:
    """From port 1 to remote records: what push, rewrite-out and lookup take."""
    net = NETWORKS[plan.family]
    source = _const(net.own_ca.packed, len(flow))
    return _frames_between(plan, length, source, addresses(net.ca, numbers), numbers, flow)


def frames_miss(plan: Plan, length: int, numbers: Numbers, flow: Numbers) -> Bytes:
    """From port 1 to where no record is: a scan."""
    net = NETWORKS[plan.family]
    source = _const(net.own_ca.packed, len(flow))
    return _frames_between(plan, length, source, addresses(net.missing, numbers), numbers, flow)


def frames_spoof(plan: Plan, length: int, numbers: Numbers, flow: Numbers) -> Bytes:
    """From addresses that port 1 may not use, to remote records."""
    net = NETWORKS[plan.family]
    source = addresses(net.spoofed, numbers)
    return _frames_between(plan, length, source, addresses(net.ca, numbers), numbers, flow)


def frames_allowed(plan: Plan, length: int, numbers: Numbers, flow: Numbers) -> Bytes:
    """From the prefixes that port 1 may use besides its own CA, to remote records."""
    net = NETWORKS[plan.family]
    source = addresses(net.allowed, (numbers % plan.sources << 9 | 5).astype(np.uint32))
    return _frames_between(plan, length, source, addresses(net.ca, numbers), numbers, flow)


def _frames_between(
    plan: Plan, length: int, source: Bytes, destination: Bytes, numbers: Numbers, flow: Numbers
) -> Bytes:
    """From port 1's MAC to those of the records."""
    ends = (macs(numbers), _const(PORT_MAC, len(flow)))
    return _tenant_frame(plan, length, source, destination, ends, flow)


def frames_pop(plan: Plan, length: int, numbers: Numbers, flow: Numbers) -> Bytes:
    """From remote records to port 1 inside NVGRE; length is the inner frame's."""
    net, provider, family = NETWORKS[plan.family], NETWORKS[plan.pa_family], plan.pa_family
    header = 20 if family == 4 else 40
    ends = (_const(PORT_MAC, len(flow)), macs(numbers))
    inner = _tenant_frame(
        plan, length, addresses(net.ca, numbers), _const(net.own_ca.packed, len(flow)), ends, flow
    )
    outer = np.zeros((len(flow), 14 + header + 8), np.uint8)
    outer[:, 0:6], outer[:, 6:12] = _const(UNDERLAY_MAC, len(flow)), _const(GATEWAY_MAC, len(flow))
    outer[:, 12:14] = (0x08, 0x00) if family == 4 else (0x86, 0xDD)
    pas = addresses(provider.shared_pa, host_index(plan, numbers))
    own = _const(provider.own_pa.packed, len(flow))
    _ip_header(family, outer, 14, pas, own, header + 8 + length, 47)
    outer[:, 14 + header :] = (0x20, 0x00, 0x65, 0x58, VSID >> 16, VSID >> 8 & 255, VSID & 255, 0)
    return np.hstack((outer, inner))


def frames_rewrite_in(plan: Plan, length: int, numbers: Numbers, flow: Numbers) -> Bytes:
    """From remote rewrite PAs to port 1's."""
    net = NETWORKS[plan.family]
    ends = (_const(UNDERLAY_MAC, len(flow)), _const(GATEWAY_MAC, len(flow)))
    own = _const(net.own_rewrite_pa.packed, len(flow))
    return _tenant_frame(plan, length, addresses(net.rewrite_pa, numbers), own, ends, flow)
