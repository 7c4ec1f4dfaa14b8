"""Of the naive twin: packets to groups, csrc/README.md section 5: who hears it, and a copy for each."""

from dataclasses import replace
from ipaddress import IPv4Network, ip_address

from dataplane.twin.engine import UNDERLAY, FakeEngine
from dataplane.twin.packet import ANY6, BROADCAST, GSO_NONE, ICMP6, Drop, Packet
from dataplane.twin.parse import parse
from dataplane.twin.rewrite import segments
from dataplane.twin.wire import is_guest_link_local

MLD = (130, 131, 132, 143)


def is_mld(p: Packet) -> bool:
    return p.family == 6 and p.proto == ICMP6 and not p.later and p.frame[p.l4] in MLD


class Flooding(FakeEngine):
    def check_group(self, p: Packet, vsid: int) -> None:
        """Packets to groups are copied in the subnet, and the address is one that goes with the MAC."""
        if vsid not in self.tables.flooded:
            raise Drop("multicast")
        address = ip_address(p.destination)
        if address.version == 6:
            mac = b"\x33\x33" + p.destination[12:]
        elif address.is_multicast:
            mac = b"\x01\x00\x5e" + (int(address) & 0x7FFFFF).to_bytes(3, "big")
        else:
            mac = BROADCAST
        is_group = address.is_multicast or p.destination in self.broadcasts(vsid)
        if p.destination_mac != mac or not is_group:
            raise Drop("group-address")

    def broadcasts(self, vsid: int) -> list[bytes]:
        """255.255.255.255 and the last address of each IPv4 prefix that has one to spare."""
        routes = self.tables.routes.get(self.tables.subnets[vsid], {})
        on_link = [prefix for prefix, route in routes.items() if (route.vsid, route.next_hop) == (vsid, None)]
        networks = [
            IPv4Network((prefix.bits << 32 - prefix.length, prefix.length))
            for prefix in on_link
            if prefix.size == 4 and prefix.length < 31
        ]
        return [b"\xff" * 4, *(network.broadcast_address.packed for network in networks)]

    def may_say_mld(self, p: Packet, vsid: int, host: int) -> bool:
        """Another host that has VMs in the subnet, for one that has no address of a record to say it from."""
        hosts = self.tables.flood_hosts(vsid).values() if vsid in self.tables.flooded else ()
        from_vm = not p.source_mac[0] & 1 and (p.source == ANY6 or is_guest_link_local(p.source))
        return is_mld(p) and from_vm and host in hosts

    def flood(self, p: Packet, vsid: int) -> None:
        """To all local ports of the subnet; what came from one of them to the other hosts, too."""
        parts = list(segments(p)) if p.gso != GSO_NONE else [p]
        self.check_flood_limit(p, vsid, len(parts))
        ports = [
            number
            for number, port in sorted(self.tables.ports.items())
            if port.vsid == vsid and number != p.in_port and number in self.ports
        ]
        hosts = self.tables.flood_hosts(vsid) if p.in_port != UNDERLAY else {}
        if not ports and not hosts:
            raise Drop("no-receiver")
        self.counts[p.in_port]["originated"] += len(parts) * (len(ports) + len(hosts)) - 1
        for number in ports:
            for part in parts:
                self.flood_to(part, vsid, port=number)
        for pa in sorted(hosts, key=lambda pa: (len(pa), pa)):
            for part in parts:
                self.flood_to(part, vsid, pa=pa)

    def flood_to(self, part: Packet, vsid: int, port: int = 0, pa: bytes | None = None) -> None:
        copy = replace(part, frame=bytearray(part.frame))
        parse(copy)
        try:
            if pa is None:
                self.deliver(copy, port, vsid)
            else:
                self.push(copy, pa, vsid)
        except Drop as drop:
            self.count_drop(copy, drop.reason)

    def check_flood_limit(self, p: Packet, vsid: int, packets: int) -> None:
        """The bucket as the time at which it is full again, in quarters of a nanosecond."""
        limit, key = self.tables.flooded[vsid], (vsid, p.in_port == UNDERLAY)
        now, second = 4 * p.time, 4_000_000_000
        full = max(now, self.flood_buckets.get(key, 0))
        if full - now >= limit.burst * second // limit.rate:
            raise Drop("broadcast-limit")
        self.flood_buckets[key] = full - (-packets * second // limit.rate)
