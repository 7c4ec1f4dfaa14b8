"""FakeDataplane: the naive and obvious twin of the packet core, for tests.

It does, one packet at a time and with plain Python values, what csrc/README.md says: read `from_tenant`
beside its section 2 and `from_underlay` beside section 3. It has the interface of `core.Dataplane`
for memory ports, and shares nothing with the core but that interface's dataclasses, so that what the two give
can be compared with `==`.

A check that fails raises Drop with the reason's name; whoever handed the packet in counts it.
"""

from copy import copy

from dataplane.twin.engine import UNDERLAY
from dataplane.twin.errors import error_about
from dataplane.twin.flood import Flooding, is_mld
from dataplane.twin.packet import ANY4, ANY6, GRE, Drop, Packet, put16, u16
from dataplane.twin.parse import check_gre, check_offload, parse, strip_tag, vlan_of
from dataplane.twin.quote import is_icmp_error, is_of_router, quote_from_router, quote_in, quote_out
from dataplane.twin.rewrite import decrement_ttl, largest_ip_length, rewrite_addresses, segments
from dataplane.twin.sums import checksum, update16
from dataplane.twin.tables import REWRITE, REWRITE_PA, SHARED, Port, Record
from dataplane.twin.wire import (
    advertisement,
    arp_reply,
    has_route_option,
    is_echo_request,
    is_guest_link_local,
    is_host,
    is_link_local,
    link_layer_option,
    read_arp,
)

RS, RA, NS, NA, REDIRECT = 133, 134, 135, 136, 137
REDIRECTED = 32
"""Outer TTL that a redirected packet leaves with."""


class FakeDataplane(Flooding):
    """The two ways of a packet."""

    # ---- from a tenant (README.md section 2) -------------------------------------------------------------

    def from_tenant(self, p: Packet) -> None:
        policy = self.tables.ports.get(p.in_port)
        if policy is None:
            raise Drop("port-no-policy")
        parse(p)
        if p.tagged:
            strip_tag(p)
        if p.source_mac != policy.mac:
            raise Drop("src-mac")
        check_offload(p)
        if p.kind == "ip" and not p.is_nd:
            self.check_addresses(p, policy)
        else:
            self.check_limits(p, policy)
        self.count_subnet(policy.vsid, "from_port", p)
        if p.kind == "arp":
            self.tenant_arp(p, policy)
        elif p.is_nd:
            self.tenant_nd(p, policy)
        elif p.destination_mac[0] & 1:
            self.flood(p, policy.vsid)
        else:
            sent = copy(p)
            sent.frame = bytearray(p.frame)
            self.forward_or_tell(p, sent, policy)

    def check_addresses(self, p: Packet, policy: Port) -> None:
        mld = is_mld(p) and p.destination_mac[0] & 1
        if not self.tables.may_send(p.in_port, p.source) and not (
            mld and (p.source == ANY6 or is_guest_link_local(p.source))
        ):
            raise Drop("src-address")
        self.check_limits(p, policy)
        if p.destination_mac[0] & 1:
            self.check_group(p, policy.vsid)
        elif not is_host(p.destination):
            raise Drop("no-record")

    def check_limits(self, p: Packet, policy: Port) -> None:
        """Each bucket as the time at which it is full again, in quarters of a nanosecond."""
        now, second = 4 * p.time, 4_000_000_000
        limits = [limit for limit in policy.limits if limit]
        full = [max(now, at) for at in self.buckets.setdefault(p.in_port, [0] * len(limits))]
        depths = [limit.burst * second // limit.rate for limit in limits]
        if any(at - now >= depth for at, depth in zip(full, depths, strict=True)):
            raise Drop("rate-limit")
        sizes = [len(list(segments(p))) if p.gso else 1, len(p.frame)]
        taken = [size for size, limit in zip(sizes, policy.limits, strict=True) if limit]
        self.buckets[p.in_port] = [
            at - (-size * second // limit.rate) for at, size, limit in zip(full, taken, limits, strict=True)
        ]

    def tenant_arp(self, p: Packet, policy: Port) -> None:
        asked = read_arp(p)
        if asked.sender_mac != policy.mac:
            raise Drop("arp-sender")
        if asked.sender != ANY4 and not self.tables.may_send(p.in_port, asked.sender):
            raise Drop("arp-sender")
        if asked.op == 2 or self.tables.own_record(p.in_port, asked.target):
            self.consume(p)
            return
        record = self.tables.record(policy.vsid, asked.target)
        if record is None:
            raise Drop("arp-unknown")
        self.answer(p, arp_reply(p, record.mac))

    def tenant_nd(self, p: Packet, policy: Port) -> None:
        lladdr = link_layer_option(p)
        kind, target = p.frame[p.l4], bytes(p.frame[p.l4 + 8 : p.l4 + 24])
        if kind in (RA, REDIRECT):
            raise Drop("nd-router")
        may_send = is_guest_link_local(p.source) or self.tables.may_send(p.in_port, p.source)
        if not may_send and not (p.source == ANY6 and kind in (NS, RS)):
            raise Drop("src-address")
        own = self.tables.own_record(p.in_port, target) is not None
        told = own or is_guest_link_local(target)
        if lladdr not in (None, policy.mac) or (kind == NA and not told):
            raise Drop("nd-spoofed")
        if kind in (RS, NA) or own:
            self.consume(p)
            return
        record = self.tables.record(policy.vsid, target)
        if record is None and p.source == ANY6 and is_guest_link_local(target):
            self.consume(p)
            return
        if record is None:
            raise Drop("nd-unknown")
        self.answer(p, advertisement(target, record.mac, (p.source_mac, p.source), router=record.gateway))

    def forward_or_tell(self, p: Packet, sent: Packet, policy: Port) -> None:
        try:
            self.forward(p, policy)
        except Drop as drop:
            error = error_about(sent, drop, self.is_routed(sent))
            if error:
                self.tell(sent, error)
            raise

    def is_routed(self, p: Packet) -> bool:
        return p.destination_mac == self.config.router_mac and not is_link_local(p.destination)

    def forward(self, p: Packet, policy: Port) -> None:
        routed = self.is_routed(p)
        record, direct = self.resolve_routed(p, policy.vsid) if routed else self.resolve(p, policy.vsid)
        if record.gateway:
            if not is_echo_request(p):
                raise Drop("router-local")
            self.answer_echo(p, self.config.router_mac)
            return
        if routed and p.ttl <= 1:
            raise Drop("ttl-exceeded")
        source = self.tables.own_record(p.in_port, p.source)
        if record.host == self.config.self_host:
            if record.port == p.in_port:
                raise Drop("hairpin")
            self.readdress(p, record, routed)
            self.deliver(p, record.port, record.vsid)
        elif direct and record.translation == REWRITE and source and source.translation == REWRITE:
            self.rewrite_out(p, source, record, routed)
        else:
            self.readdress(p, record, routed)
            self.push(p, self.remote_pa(record), record.vsid)

    def resolve(self, p: Packet, vsid: int) -> tuple[Record, bool]:
        """The destination's record in the port's own subnet."""
        record = self.tables.record(vsid, p.destination)
        if record is None:
            raise Drop("no-record")
        return record, True

    def resolve_routed(self, p: Packet, vsid: int) -> tuple[Record, bool]:
        """The record that leads to the destination, and whether it is the destination's own."""
        route = self.tables.route(self.tables.subnets[vsid], p.destination)
        if route is None:
            record, direct, missing = self.tables.wildcard(vsid, p.destination), False, "no-route"
        elif route.next_hop:
            record, direct, missing = self.tables.record(route.vsid, route.next_hop), False, "no-record"
        else:
            record, direct, missing = self.tables.record(route.vsid, p.destination), True, "no-record"
            if record is None:
                record, direct = self.tables.wildcard(route.vsid, p.destination), False
        if record is None:
            raise Drop(missing)
        return record, direct

    def readdress(self, p: Packet, record: Record, routed: bool) -> None:
        """The inner frame as its receiver must see it."""
        p.set_macs(record.mac, self.config.router_mac if routed else p.source_mac)
        if routed:
            decrement_ttl(p)

    def remote_pa(self, record: Record) -> bytes | None:
        """Where NVGRE packets for this CA go. A CA with a rewrite PA: to its host's shared PA, of that
        family if this host has one too, else of the other."""
        if record.translation != REWRITE:
            return record.pa
        for size in (len(record.pa), 20 - len(record.pa)):
            if self.tables.shared_pa(record.host, size) and self.tables.shared_pa(
                self.config.self_host, size
            ):
                return self.tables.shared_pa(record.host, size)
        return None

    def rewrite_out(self, p: Packet, source: Record, record: Record, routed: bool) -> None:
        """As a packet between the two CAs' own PAs."""
        if is_icmp_error(p):
            quote_out(self.tables, p, record)
        if has_route_option(p):
            raise Drop("ip-options")
        if largest_ip_length(p) > self.underlay_mtu():
            raise Drop("too-big", int(self.underlay_mtu()))
        if UNDERLAY not in self.ports:
            raise Drop("port-down")
        if routed:
            decrement_ttl(p)
        rewrite_addresses(p, source.pa, record.pa)
        for part in self.cut_for(p, UNDERLAY):
            self.to_underlay(part, record.pa)

    # ---- from the underlay (README.md section 3) ---------------------------------------------------------

    def from_underlay(self, p: Packet) -> None:
        parse(p)
        if p.tagged:
            if vlan_of(p) != 0:
                raise Drop("underlay-vlan")
            strip_tag(p)
        by_group = p.destination_mac[0] & 1 and (p.kind == "arp" or p.is_nd)
        if p.destination_mac != self.ports[UNDERLAY].config.mac and not by_group:
            raise Drop("underlay-dst-mac")
        if p.source_mac[0] & 1:
            raise Drop("underlay-src-mac")
        if p.kind == "arp":
            self.underlay_arp(p)
        elif p.is_nd:
            self.underlay_nd(p)
        elif not self.is_ours(p.destination):
            raise Drop("underlay-not-ours")
        elif self.tables.pas[p.destination].kind == REWRITE_PA:
            self.rewrite_in(p)
        else:
            self.to_shared_pa(p)

    def is_ours(self, pa: bytes) -> bool:
        return pa in self.tables.pas and self.tables.pas[pa].host == self.config.self_host

    def underlay_arp(self, p: Packet) -> None:
        asked = read_arp(p)
        learned = self.learn(asked.sender, asked.sender_mac)
        if not self.is_ours(asked.target) and not learned:
            raise Drop("underlay-not-ours")
        if self.is_ours(asked.target) and asked.op == 1:
            self.answer(p, arp_reply(p, self.ports[UNDERLAY].config.mac))
        else:
            self.consume(p)

    def underlay_nd(self, p: Packet) -> None:
        lladdr = link_layer_option(p)
        kind, target = p.frame[p.l4], bytes(p.frame[p.l4 + 8 : p.l4 + 24])
        if kind == NA and self.learn(target, lladdr or p.source_mac):
            self.consume(p)
        elif kind == NS and self.is_ours(target):
            if lladdr:
                self.learn(p.source, lladdr)
            mac = self.ports[UNDERLAY].config.mac
            self.answer(p, advertisement(target, mac, (p.source_mac, p.source), router=False))
        else:
            raise Drop("underlay-not-ours")

    def rewrite_in(self, p: Packet) -> None:
        source, destination = self.tables.bound_to(p.source), self.tables.bound_to(p.destination)
        if p.source not in self.tables.pas and is_of_router(p):
            if destination is None:
                raise Drop("rewrite-unbound")
            quote_from_router(self.tables, p, destination)
            p.set_macs(destination.mac, self.config.router_mac)
            self.deliver(p, destination.port, destination.vsid)
            return
        if source is None or source.host == self.config.self_host:
            self.echo_to_pa(p, otherwise="rewrite-source")
            return
        if destination is None:
            raise Drop("rewrite-unbound")
        if self.tables.subnets[source.vsid] != self.tables.subnets[destination.vsid]:
            raise Drop("rewrite-rdid")
        check_offload(p)
        if is_icmp_error(p):
            quote_in(self.tables, p, destination)
        if has_route_option(p):
            raise Drop("ip-options")
        rewrite_addresses(p, source.ca, destination.ca)
        same_subnet = source.vsid == destination.vsid
        p.set_macs(destination.mac, source.mac if same_subnet else self.config.router_mac)
        self.deliver(p, destination.port, destination.vsid)

    def echo_to_pa(self, p: Packet, otherwise: str) -> None:
        if not is_echo_request(p):
            raise Drop(otherwise)
        if not is_host(p.source) or self.is_ours(p.source):
            raise Drop("pa-protocol")
        check_offload(p)
        self.answer_echo(p, self.ports[UNDERLAY].config.mac)

    def to_shared_pa(self, p: Packet) -> None:
        if p.family == 4 and checksum(p.frame[p.l3 : p.l4]) != 0:
            raise Drop("outer-checksum")
        if p.fragment:
            raise Drop("outer-fragment")
        if p.proto == GRE:
            self.pop(p)
        else:
            self.echo_to_pa(p, otherwise="pa-protocol")

    def pop(self, p: Packet) -> None:
        vsid = check_gre(p)
        if vsid not in self.tables.subnets:
            raise Drop("vsid-unknown")
        sender = self.tables.pas.get(p.source)
        if sender is None or sender.kind != SHARED or sender.host == self.config.self_host:
            raise Drop("outer-source")
        sender_pa, outer_tos, headers = p.source, p.tos, p.l4 + 8
        redirected = p.ttl <= REDIRECTED
        p.frame = p.frame[headers : p.end]
        p.reach -= headers
        p.csum_start -= headers
        parse(p)
        if p.tagged:
            raise Drop("inner-vlan")
        check_offload(p)
        if p.kind == "arp":
            self.popped_arp(p, vsid, sender.host, sender_pa)
        elif p.is_nd:
            self.popped_nd(p, vsid, sender.host, sender_pa)
        else:
            self.popped_ip(p, vsid, sender.host, outer_tos, redirected)

    def popped_ip(self, p: Packet, vsid: int, host: int, outer_tos: int, redirected: bool) -> None:
        to_group = p.destination_mac[0] & 1
        if p.source in (ANY4, ANY6) or is_link_local(p.source):
            if not to_group or not self.may_say_mld(p, vsid, host):
                raise Drop("inner-source")
        else:
            excused = redirected and not to_group and self.moved_from(vsid, p.destination) == host
            self.check_inner_source(vsid, p.source, p.source_mac, host, excused)
        if to_group:
            self.check_group(p, vsid)
            self.merge_ecn(p, outer_tos)
            self.flood(p, vsid)
            return
        record = self.inner_destination(vsid, p.destination, redirected)
        if p.destination_mac != record.mac:
            raise Drop("inner-dst-mac")
        self.merge_ecn(p, outer_tos)
        if record.host == self.config.self_host:
            self.deliver(p, record.port, vsid)
        else:
            self.push(p, self.remote_pa(record), vsid, REDIRECTED)

    def moved_from(self, vsid: int, ca: bytes) -> int | None:
        """The other home of the local record that a redirected packet goes to."""
        try:
            return self.tables.other_home(self.inner_destination(vsid, ca, redirected=True))
        except Drop:
            return None

    def check_inner_source(self, vsid: int, ca: bytes, mac: bytes, host: int, excused: bool = False) -> None:
        """The sending host may speak for this CA in this subnet, and the MAC is the one it must be."""
        lives_in, record, not_its_host = vsid, self.tables.record(vsid, ca), "inner-source-host"
        if record is None:
            lives_in, record, not_its_host = self.source_beyond(vsid, ca)
        if record is None or record.gateway:
            raise Drop("inner-source")
        if host not in (record.host, self.tables.other_home(record)) and not excused:
            raise Drop(not_its_host)
        if mac != (record.mac if lives_in == vsid else self.config.router_mac):
            raise Drop("inner-src-mac")

    def source_beyond(self, vsid: int, ca: bytes) -> tuple[int, Record | None, str]:
        """Who answers for a CA without a record in the subnet: the subnet it is in, the record, the reason
        for a drop if another host sent it."""
        route = self.tables.route(self.tables.subnets[vsid], ca)
        if route is None:
            return vsid, self.tables.wildcard(vsid, ca), "inner-source"
        if route.next_hop:
            return route.vsid, self.tables.record(route.vsid, route.next_hop), "inner-source"
        record = self.tables.record(route.vsid, ca)
        if record:
            return route.vsid, record, "inner-source-host"
        return route.vsid, self.tables.wildcard(route.vsid, ca), "inner-source"

    def is_here(self, record: Record | None, redirected: bool) -> bool:
        """A local record; or one that was here, for what was not redirected yet."""
        if record is None or record.gateway:
            return False
        was_here = self.tables.other_home(record) == self.config.self_host
        return record.host == self.config.self_host or (was_here and not redirected)

    def inner_destination(self, vsid: int, ca: bytes, redirected: bool) -> Record:
        """The record that a popped packet goes to."""
        if not is_host(ca):
            raise Drop("no-record")
        record = self.tables.record(vsid, ca)
        if record and record.gateway:
            raise Drop("router-local")
        if record and not self.is_here(record, redirected):
            raise Drop("not-local")
        route = self.tables.route(self.tables.subnets[vsid], ca)
        if record is None and route and route.next_hop and route.vsid == vsid:
            record = self.tables.record(vsid, route.next_hop)
        if not self.is_here(record, redirected):
            record = self.tables.wildcard(vsid, ca)
        if record is None or not self.is_here(record, redirected):
            raise Drop("no-record")
        return record

    def merge_ecn(self, p: Packet, outer_tos: int) -> None:
        """RFC 6040 section 4.2."""
        not_ect, ect1, ect0, ce = range(4)
        inner, outer = p.tos & 3, outer_tos & 3
        if outer == ce and inner == not_ect:
            raise Drop("ecn")
        if (inner, outer) not in ((ect0, ect1), (ect0, ce), (ect1, ce)):
            return
        old = bytes(p.frame[p.l3 : p.l3 + 2])
        if p.family == 6:
            put16(p.frame, p.l3, u16(old, 0) & ~0x0030 | outer << 4)
        else:
            p.frame[p.l3 + 1] = old[1] & ~3 | outer
            update16(p.frame, p.l3 + 10, old, bytes(p.frame[p.l3 : p.l3 + 2]))

    def popped_arp(self, p: Packet, vsid: int, host: int, sender_pa: bytes) -> None:
        asked = read_arp(p)
        if asked.sender == ANY4:
            raise Drop("inner-source")
        self.check_inner_source(vsid, asked.sender, asked.sender_mac, host)
        if asked.sender_mac != p.source_mac:
            raise Drop("inner-src-mac")
        if asked.op == 2:
            self.consume(p)
            return
        record = self.local_record(vsid, asked.target)
        if record is None:
            raise Drop("arp-unknown")
        self.answer_through_tunnel(p, arp_reply(p, record.mac), sender_pa, vsid)

    def popped_nd(self, p: Packet, vsid: int, host: int, sender_pa: bytes) -> None:
        link_layer_option(p)
        kind, target = p.frame[p.l4], bytes(p.frame[p.l4 + 8 : p.l4 + 24])
        if kind in (RA, REDIRECT):
            raise Drop("nd-router")
        if p.source == ANY6:
            raise Drop("inner-source")
        if not is_link_local(p.source):
            self.check_inner_source(vsid, p.source, p.source_mac, host)
        elif kind != NS or not is_guest_link_local(p.source) or p.source_mac[0] & 1:
            raise Drop("inner-source")
        if kind in (RS, NA):
            self.consume(p)
            return
        record = self.local_record(vsid, target)
        if record is None:
            raise Drop("nd-unknown")
        answer = advertisement(target, record.mac, (p.source_mac, p.source), router=False)
        self.answer_through_tunnel(p, answer, sender_pa, vsid)

    def local_record(self, vsid: int, ca: bytes) -> Record | None:
        record = self.tables.record(vsid, ca)
        return record if record and record.host == self.config.self_host else None

    def answer_through_tunnel(self, request: Packet, frame: bytes, remote: bytes, vsid: int) -> None:
        self.consume(request)
        reply = Packet(bytearray(frame), request.in_port, request.time, slots=request.slots)
        self.counts[reply.in_port]["originated"] += 1
        parse(reply)
        try:
            self.push(reply, remote, vsid)
        except Drop as drop:
            self.count_drop(reply, drop.reason)
