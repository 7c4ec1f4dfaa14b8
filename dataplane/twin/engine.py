"""Of the naive twin: memory ports, counters, the ways out, and the interface of `core.Dataplane`.

What a packet meets between coming in and going out is `FakeDataplane` in reference.py.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from functools import reduce
from ipaddress import ip_address
from operator import add
from typing import Self

from dataplane.binding.core import (
    Config,
    Flags,
    Frame,
    Gso,
    Neighbour,
    NeighbourState,
    Offload,
    PortConfig,
    PortKind,
)
from dataplane.binding.core import Packet as PlainPacket
from dataplane.binding.errors import CallError, ChangeSetError
from dataplane.binding.stats import Counters, SubnetCounters, drop_reasons
from dataplane.binding.tables import Address
from dataplane.twin.errors import BURST, PER_SECOND, Error, error_frame
from dataplane.twin.neighbours import NO_MAC, Neighbours, State, request
from dataplane.twin.neighbours import Neighbour as NeighbourEntry
from dataplane.twin.packet import (
    ETH,
    GSO_NONE,
    GSO_TCP4,
    GSO_TCP6,
    GSO_UDP,
    PART_SEGMENTS,
    UDP_LEN,
    Drop,
    Packet,
    slots_of,
)
from dataplane.twin.rewrite import largest_ip_length, parts, segments
from dataplane.twin.sums import finish_checksum, flowid
from dataplane.twin.tables import RowError, Tables
from dataplane.twin.wire import nvgre, to_echo_reply

UNDERLAY = 0
REASONS = [reason.name for reason in drop_reasons()[1:]]
EINVAL, ENOENT = -1, -3
SLOTS = 8192
"""Of the arena, unless configured: as many for each worker, and once more."""
MOST_SLOTS = 17
"""Of one packet: what needs more is no IP packet."""


@dataclass
class Port:
    """A memory port: what waits to come in, what has gone out. told: of ICMP errors, as a limit's bucket."""

    config: PortConfig
    told: int = 0
    inbox: list[Frame] = field(default_factory=list)
    outbox: list[Frame] = field(default_factory=list)


class FakeEngine:
    """One packet at a time, in the order of port numbers. Workers mean nothing here, slots only where packets
    wait for a next hop.

    counts and drops: by port; counts' keys are the field names of Counters.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.ports: dict[int, Port] = {}
        self.tables = Tables(config.self_host, config.router_mac)
        self.counts: dict[int, Counter[str]] = {}
        self.drops: dict[int, Counter[str]] = {}
        self.by_vsid: dict[int, Counter[str]] = {}
        self.buckets: dict[int, list[int]] = {}
        self.flood_buckets: dict[tuple[int, bool], int] = {}
        self.now = 0
        self.running = False
        self.next_hops = Neighbours(self._request, self._let_go, self._give_up, self._is_next_hop)

    def from_tenant(self, p: Packet) -> None:
        raise NotImplementedError

    def from_underlay(self, p: Packet) -> None:
        raise NotImplementedError

    # ---- ways out ----------------------------------------------------------------------------------------

    def deliver(self, p: Packet, port: int, vsid: int) -> None:
        """To a local port of the subnet."""
        if port not in self.ports:
            raise Drop("port-down")
        if largest_ip_length(p) > self.ports[port].config.mtu:
            raise Drop("too-big", self.ports[port].config.mtu)
        self.count_subnet(vsid, "to_port", p)
        for part in self.cut_for(p, port):
            self.send(port, part)

    def push(self, p: Packet, remote: bytes | None, vsid: int, ttl: int = 64) -> None:
        """Into NVGRE, to another host's shared PA."""
        local = self.tables.shared_pa(self.config.self_host, len(remote)) if remote else None
        if remote is None or local is None:
            raise Drop("no-shared-pa")
        headers = 8 + (20 if len(remote) == 4 else 40)
        frame = len(p.frame) if p.gso == GSO_NONE else p.l3 + largest_ip_length(p)
        if headers + frame > self.underlay_mtu():
            raise Drop("too-big", int(self.underlay_mtu()) - headers - ETH)
        flow = 0 if self.config.flags & Flags.FLOWID_OFF else flowid(p)
        for part in self.cut_for_tunnel(p, headers):
            if part.partial and part.gso == GSO_NONE:
                finish_checksum(part)
            before = len(part.frame)
            part.frame = bytearray(12) + nvgre(bytes(part.frame), local, remote, vsid, flow, part.tos, ttl)
            part.csum_start += len(part.frame) - before
            self.to_underlay(part, remote)

    def to_underlay(self, p: Packet, pa: bytes) -> None:
        """A packet complete but for its MACs: off by the PA's next hop, or held until that has answered."""
        try:
            self._to_next_hop(p, pa)
        except Drop as drop:
            self.count_drop(p, drop.reason)

    def _to_next_hop(self, p: Packet, pa: bytes) -> None:
        if UNDERLAY not in self.ports:
            raise Drop("port-down")
        hop = self.tables.provider_next_hop(pa)
        if hop is None:
            raise Drop("no-provider-route")
        neighbour = self.next_hops.entry(hop)
        if neighbour.mac != NO_MAC:
            self._send_on(neighbour, p)
            return
        if not self.next_hops.may_hold(neighbour, p, self.config.slots or SLOTS * (1 + self.config.workers)):
            raise Drop("neigh-full")
        self.counts[p.in_port]["held"] += 1
        self.next_hops.hold(neighbour, p, self.now)

    def underlay_mtu(self) -> float:
        return self.ports[UNDERLAY].config.mtu if UNDERLAY in self.ports else float("inf")

    def cut_for(self, p: Packet, port: int) -> list[Packet]:
        """The packet, or its segments if the port does not take super-packets of its kind."""
        return [p] if p.gso == GSO_NONE or self.takes(p, port) else self.cut(p)

    def takes(self, p: Packet, port: int) -> bool:
        """A super-packet, whole."""
        needed = {GSO_TCP4: Offload.TSO4, GSO_TCP6: Offload.TSO6, GSO_UDP: Offload.USO}[p.gso]
        needed |= Offload.NVGRE if p.tunnelled else Offload.NONE
        if p.gso == GSO_UDP and len(p.frame) > p.csum_start + UDP_LEN + PART_SEGMENTS * p.gso_size:
            return False
        return needed in self.ports[port].config.offloads

    def cut_for_tunnel(self, p: Packet, headers: int) -> list[Packet]:
        """The packet, or its segments if the underlay does not take such super-packets in NVGRE, or not of
        this length.
        """
        if p.gso == GSO_NONE:
            return [p]
        tunnels = UNDERLAY in self.ports and self.ports[UNDERLAY].config.offloads & Offload.NVGRE
        several = len(list(segments(p))) > 1
        if not tunnels or not several or not self.takes(p, UNDERLAY) or headers + p.end > 65535:
            return self.cut(p)
        del p.frame[p.end :]
        p.tunnelled = True
        return [p]

    def cut(self, p: Packet) -> list[Packet]:
        parts = list(segments(p))
        self.counts[p.in_port]["originated"] += len(parts) - 1
        return parts

    def send(self, port: int, p: Packet) -> None:
        """Out of a port; a partial checksum stays so only if the other end takes it."""
        if p.partial and not self.ports[port].config.offloads & Offload.CSUM:
            finish_checksum(p)
        frame = Frame(data=bytes(p.frame), time=p.time)
        if p.partial:
            frame = Frame(
                data=bytes(p.frame),
                time=p.time,
                csum_partial=True,
                csum_start=p.csum_start,
                csum_offset=p.csum_offset,
                gso=Gso(p.gso),
                gso_size=p.gso_size,
            )
        self.ports[port].outbox.append(frame)
        counts = self.counts[port]
        counts["sent"] += 1
        counts["tx_bytes"] += len(p.frame)
        counts["tx_gso"] += p.gso != GSO_NONE
        counts["tx_csum_partial"] += p.partial

    # ---- answers -----------------------------------------------------------------------------------------

    def consume(self, p: Packet) -> None:
        self.counts[p.in_port]["consumed"] += 1

    def answer(self, request: Packet, frame: bytes) -> None:
        """A frame made here, out of the port that asked; the request ends."""
        self.consume(request)
        self.counts[request.in_port]["originated"] += 1
        self.send(request.in_port, Packet(bytearray(frame), request.in_port, request.time))

    def answer_echo(self, p: Packet, mac: bytes) -> None:
        """The request itself, turned round."""
        to_echo_reply(p, mac)
        self.answer(p, bytes(p.frame))

    def tell(self, p: Packet, error: Error) -> None:
        """An ICMP error out of the port that p came from, if it may have one more."""
        policy = self.tables.ports[p.in_port]
        port, cost = self.ports[p.in_port], 4_000_000_000 // PER_SECOND
        full = max(4 * p.time, port.told)
        if full - 4 * p.time >= BURST * cost:
            self.counts[p.in_port]["icmp_limited"] += 1
            return
        port.told = full + cost
        source = self.tables.gateway_for(p.in_port, p.source)
        if source is None or self.tables.is_broadcast(self.tables.subnets[policy.vsid], p.destination):
            return
        frame = error_frame(p, error, source, (policy.mac, self.config.router_mac))
        self.counts[p.in_port]["originated"] += 1
        self.send(p.in_port, Packet(bytearray(frame), p.in_port, p.time))

    # ---- provider next hops ------------------------------------------------------------------------------

    def _request(self, neighbour: NeighbourEntry, time: int) -> None:
        sender = self.tables.asking_pa(len(neighbour.address))
        if UNDERLAY in self.ports and sender is not None:
            frame = request(self.ports[UNDERLAY].config.mac, sender, neighbour)
            self.counts[UNDERLAY]["originated"] += 1
            self.send(UNDERLAY, Packet(bytearray(frame), UNDERLAY, time))

    def _send_on(self, neighbour: NeighbourEntry, p: Packet) -> None:
        p.set_macs(neighbour.mac, self.ports[UNDERLAY].config.mac)
        self.send(UNDERLAY, p)

    def _let_go(self, neighbour: NeighbourEntry, p: Packet) -> None:
        if UNDERLAY not in self.ports:
            self._give_up(p, "stopped")
            return
        if p.gso != GSO_NONE and not self.takes(p, UNDERLAY):  # it is another one than when it was held
            self._give_up(p, "tx-error")
            return
        self.counts[p.in_port]["held"] -= 1
        self._send_on(neighbour, p)

    def _give_up(self, p: Packet, reason: str) -> None:
        self.counts[p.in_port]["held"] -= 1
        self.count_drop(p, reason)

    def _is_next_hop(self, address: bytes) -> bool:
        return address in self.tables.next_hops_in_use()

    def learn(self, address: bytes, mac: bytes) -> bool:
        """What a neighbour says of itself; False if it is not a next hop in use."""
        return self.next_hops.learn(address, mac, self.now)

    # ---- counting ----------------------------------------------------------------------------------------

    def count_drop(self, p: Packet, reason: str) -> None:
        assert reason in REASONS, reason
        self.counts[p.in_port]["dropped"] += 1
        self.drops[p.in_port][reason] += 1

    def count_subnet(self, vsid: int, what: str, p: Packet) -> None:
        self.by_vsid[vsid][what] += 1
        self.by_vsid[vsid][what + "_bytes"] += len(p.frame)

    # ---- the interface of dataplane.core.Dataplane -------------------------------------------------------

    def close(self) -> None:
        self.next_hops.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def start(self) -> None:
        """The twin has no threads: until stop() nothing moves."""
        self.running = True

    def stop(self) -> None:
        if self.running:
            self.next_hops.stop()
        self.running = False

    def attach(self, port: int, config: PortConfig) -> None:
        if config.kind != PortKind.MEM:
            raise CallError("the twin has memory ports only", EINVAL)
        self.ports[port] = Port(config)
        if port == UNDERLAY:
            self.next_hops.underlay_mac = config.mac
        self.counts.setdefault(port, Counter())
        self.drops.setdefault(port, Counter())

    def detach(self, port: int) -> None:
        del self.ports[port]

    def inject(self, port: int, frame: Frame) -> None:
        self.ports[port].inbox.append(frame)

    def inject_packets(self, port: int, packets: Sequence[PlainPacket]) -> None:
        self.ports[port].inbox.extend(Frame(data, time) for time, data in packets)

    def collect(self, port: int) -> list[Frame]:
        taken, self.ports[port].outbox = self.ports[port].outbox, []
        return taken

    def collect_packets(self, port: int) -> list[PlainPacket]:
        return [(frame.time, frame.data) for frame in self.collect(port)]

    def next_timer(self) -> int:
        return self.next_hops.next_timer()

    def poll(self, now: int) -> int:
        self.now = now
        self.next_hops.run_timers(now)
        received = 0
        for number in sorted(self.ports):
            frames, self.ports[number].inbox = self.ports[number].inbox, []
            for frame in frames:
                self._receive(number, frame)
            received += len(frames)
        return received

    def _receive(self, port: int, frame: Frame) -> None:
        p = Packet(bytearray(frame.data), port, frame.time, slots=slots_of(len(frame.data)))
        p.partial, p.csum_start, p.csum_offset = frame.csum_partial, frame.csum_start, frame.csum_offset
        p.gso, p.gso_size = frame.gso, frame.gso_size
        counts = self.counts[port]
        counts["received"] += 1
        counts["rx_bytes"] += len(frame.data)
        counts["rx_gso"] += p.gso != GSO_NONE
        counts["rx_csum_partial"] += p.partial
        packets = parts(p) if p.slots <= MOST_SLOTS else [p]
        counts["originated"] += len(packets) - 1
        for packet in packets:
            self._forward(packet)

    def _forward(self, p: Packet) -> None:
        try:
            if p.slots > MOST_SLOTS:
                raise Drop("bad-offload")
            if p.in_port == UNDERLAY:
                self.from_underlay(p)
            else:
                self.from_tenant(p)
        except Drop as drop:
            self.count_drop(p, drop.reason)

    def apply(self, change_set: bytes) -> None:
        before, flooded = self.tables.ports, self.tables.flooded
        try:
            self.tables = self.tables.applied(change_set)
        except RowError as error:
            raise ChangeSetError(str(error), error.code, error.section, error.row) from None
        for vsid in self.tables.subnets:
            self.by_vsid.setdefault(vsid, Counter())
        for port in list(self.buckets):
            if port not in self.tables.ports or self.tables.ports[port].limits != before[port].limits:
                del self.buckets[port]
        for vsid, heard in list(self.flood_buckets):
            if self.tables.flooded.get(vsid) != flooded.get(vsid):
                del self.flood_buckets[vsid, heard]

    @property
    def generation(self) -> int:
        return self.tables.generation

    def probe_neighbour(self, address: Address) -> None:
        self.next_hops.ask(self.next_hops.entry(address.packed), self.now, self.now)

    def set_neighbour(self, address: Address, mac: bytes) -> None:
        self.next_hops.fix(address.packed, mac)

    def neighbours(self) -> list[Neighbour]:
        """All that are in use, or that something is known of."""
        in_use = [self.next_hops.entry(hop) for hop in self.tables.next_hops_in_use()]
        known = [n for n in self.next_hops.entries.values() if n.state != State.IDLE and n not in in_use]
        return [
            Neighbour(ip_address(n.address), n.mac, NeighbourState(n.state), len(n.waiting))
            for n in in_use + known
        ]

    def port_counters(self, port: int) -> Counters:
        if port not in self.counts:
            raise CallError(f"no port {port}", ENOENT)
        counts, drops = self.counts[port], self.drops[port]
        numbers = {f.name: counts[f.name] for f in fields(Counters) if f.name != "drops"}
        return Counters(**numbers, drops={name: n for name in REASONS if (n := drops.get(name))})

    def counters(self) -> Counters:
        return reduce(add, (self.port_counters(port) for port in sorted(self.counts)), Counters())

    def subnet_counters(self) -> list[SubnetCounters]:
        names = ("from_port", "from_port_bytes", "to_port", "to_port_bytes")
        return [
            SubnetCounters(vsid, *(c[name] for name in names)) for vsid, c in sorted(self.by_vsid.items())
        ]
