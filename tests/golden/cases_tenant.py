"""From a tenant port to the same host: local delivery, the router, and what a tenant may not do."""

from pathlib import Path

from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption_NOP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrDestOpt
from scapy.layers.l2 import Dot1AD, Dot1Q, Ether
from scapy.packet import Packet, Raw

from tests.golden.table import Step, answers, case, drops, passes, refuses
from tests.golden.world import (
    ECHO,
    ECHO6,
    ECHO6_REPLY,
    ECHO_REPLY,
    EXCEEDED,
    EXCEEDED6,
    GATEWAY,
    GATEWAY6,
    NO_HOST,
    NO_HOST6,
    NO_NET,
    NO_NET6,
    NO_PORT,
    NO_PORT6,
    ROUTER,
    TCP_BODY,
    UDP_BODY,
    A,
    B,
    C,
    E,
    Vm,
    arp,
    cut,
    frame,
    ip,
    link_local,
    told,
    too_big,
)


def tagged(*tags: Packet) -> Packet:
    """PLAIN with tags."""
    link = Ether(src=A.mac, dst=B.mac)
    for tag in tags:
        link /= tag
    return link / ip(A.v4, B.v4, UDP_BODY)


def same(vm: Vm, given: Packet | bytes) -> Step:
    """From red-a to red-b, or back, as it is."""
    ports = ("red-a", "red-b") if vm is A else ("red-b", "red-a")
    return passes(ports[0], given, ports[1], given)


def told_a(given: Packet, reason: str, message: Packet, port: str = "red-a") -> Step:
    """Refused to a VM of subnet 1, which hears of it from the gateway."""
    gateway = GATEWAY if bytes(given)[12:14] == b"\x08\x00" else GATEWAY6
    return refuses(port, given, reason, told(given, gateway, message))


def l4(family: int, proto: int, octets: bytes) -> Packet:
    """A frame of red-a with a body that scapy would not build."""
    if family == 4:
        return Ether(src=A.mac, dst=B.mac) / IP(src=A.v4, dst=B.v4, proto=proto) / Raw(octets)
    return Ether(src=A.mac, dst=B.mac) / IPv6(src=A.v6, dst=B.v6, nh=proto) / Raw(octets)


def fragment(family: int, offset: int, size: int, *, more: bool) -> bytes:
    """One fragment of a UDP datagram that red-a sends to red-b."""
    if family == 4:
        header = IP(src=A.v4, dst=B.v4, proto=17, flags="MF" if more else 0, frag=offset // 8)
        return bytes(Ether(src=A.mac, dst=B.mac) / header / Raw(bytes(size)))
    word = (offset | more).to_bytes(2, "big")
    octets = bytes([17, 0]) + word + bytes(4) + bytes(size)
    return bytes(Ether(src=A.mac, dst=B.mac) / IPv6(src=A.v6, dst=B.v6, nh=44) / Raw(octets))


PLAIN = frame(A.mac, B.mac, A.v4, B.v4)
PLAIN6 = frame(A.mac, B.mac, A.v6, B.v6)
BIG = Raw(bytes(3000))
OPTIONS = [IPOption_NOP()] * 4
FULL4, FULL6 = Raw(bytes(1500 - 28)), Raw(bytes(1500 - 48))

LOCAL = (
    case(
        "local-l2-v4",
        "2.1.2 2.6.9 2.9.4",
        "same subnet, same host: the frame as it is, never on the wire",
        same(A, PLAIN),
        same(B, frame(B.mac, A.mac, B.v4, A.v4, TCP_BODY)),
    ),
    case(
        "local-l2-v6",
        "1.4.4 2.6.9 2.9.4",
        "the same for IPv6, also behind an extension header",
        same(A, PLAIN6),
        same(A, frame(A.mac, B.mac, A.v6, B.v6, IPv6ExtHdrDestOpt() / UDP_BODY)),
    ),
    case(
        "local-padding",
        "1.3.5",
        "Ethernet padding behind the IP packet stays",
        same(A, bytes(PLAIN) + bytes(9)),
        same(A, bytes(PLAIN6) + bytes(9)),
    ),
    case(
        "local-fragments",
        "1.3.6 1.3.9 1.4.9 1.4.10",
        "fragments pass one by one, in any order",
        *(same(A, given) for given in cut(frame(A.mac, B.mac, A.v4, B.v4, UDP() / BIG), 1400, 1400)),
        *(same(A, given) for given in cut(frame(A.mac, B.mac, A.v6, B.v6, UDP() / BIG), 1400, 1400)[::-1]),
    ),
    case(
        "local-unknown-protocol",
        "1.5.5",
        "a protocol that is not looked into passes",
        same(A, l4(4, 253, b"")),
        same(A, l4(6, 253, b"experiment")),
        same(A, l4(4, 58, b"ICMPv6 is nothing in IPv4")),
    ),
    case(
        "local-rewrite-tenant",
        "2.9.4",
        "a rewrite tenant keeps its CAs inside a host",
        passes("blue-a", PLAIN, "blue-b", PLAIN),
        passes("blue-a", PLAIN6, "blue-b", PLAIN6),
    ),
    case(
        "local-routed-v4",
        "2.6.1 2.6.4 2.9.5",
        "to the router's MAC: other subnet, TTL down, router's MAC as source",
        passes("red-a", frame(A.mac, ROUTER, A.v4, E.v4), "red-e", frame(ROUTER, E.mac, A.v4, E.v4, ttl=63)),
        passes("red-e", frame(E.mac, ROUTER, E.v4, A.v4), "red-a", frame(ROUTER, A.mac, E.v4, A.v4, ttl=63)),
    ),
    case(
        "local-routed-v6",
        "2.6.1 2.6.4 2.9.5",
        "the same for IPv6: hop limit down",
        passes("red-a", frame(A.mac, ROUTER, A.v6, E.v6), "red-e", frame(ROUTER, E.mac, A.v6, E.v6, ttl=63)),
        passes(
            "blue-e", frame(E.mac, ROUTER, E.v6, A.v6), "blue-a", frame(ROUTER, A.mac, E.v6, A.v6, ttl=63)
        ),
    ),
    case(
        "local-routed-same-subnet",
        "2.6.1 2.6.4 2.9.5",
        "routed is what came to the router's MAC, whatever the subnet",
        passes("red-a", frame(A.mac, ROUTER, A.v4, B.v4), "red-b", frame(ROUTER, B.mac, A.v4, B.v4, ttl=63)),
    ),
    case(
        "local-not-routed",
        "2.6.9 2.6.10 2.9.4",
        "to any other MAC a packet is looked up in its own subnet only",
        drops("red-a", frame(A.mac, E.mac, A.v4, E.v4), "no-record"),
        passes("red-a", frame(A.mac, C.mac, A.v4, B.v4), "red-b", PLAIN),
    ),
    case(
        "local-options-v4",
        "2.9.5 4.1.8",
        "IPv4 options stay, and the header checksum holds when routed",
        passes(
            "red-a",
            Ether(src=A.mac, dst=ROUTER) / IP(src=A.v4, dst=E.v4, options=OPTIONS) / UDP_BODY,
            "red-e",
            Ether(src=ROUTER, dst=E.mac) / IP(src=A.v4, dst=E.v4, ttl=63, options=OPTIONS) / UDP_BODY,
        ),
    ),
    case(
        "ttl-two",
        "2.6.9 2.9.5",
        "TTL 2 becomes 1; TTL 1 is enough where nothing is routed",
        passes(
            "red-a", frame(A.mac, ROUTER, A.v4, E.v4, ttl=2), "red-e", frame(ROUTER, E.mac, A.v4, E.v4, ttl=1)
        ),
        same(A, frame(A.mac, B.mac, A.v4, B.v4, ttl=1)),
        same(A, frame(A.mac, B.mac, A.v6, B.v6, ttl=0)),
    ),
    case(
        "ttl-exceeded",
        "2.8.1 2.15.1",
        "used up at the router",
        told_a(frame(A.mac, ROUTER, A.v4, E.v4, ttl=1), "ttl-exceeded", EXCEEDED),
        told_a(frame(A.mac, ROUTER, A.v4, E.v4, ttl=0), "ttl-exceeded", EXCEEDED),
        told_a(frame(A.mac, ROUTER, A.v6, E.v6, ttl=1), "ttl-exceeded", EXCEEDED6),
    ),
    case(
        "too-big-local",
        "2.9.3 2.9.4 2.15.7 2.15.9",
        "an IP packet of the port's MTU passes, one byte more does not",
        same(A, frame(A.mac, B.mac, A.v4, B.v4, UDP() / FULL4)),
        drops("red-a", frame(A.mac, B.mac, A.v4, B.v4, UDP() / FULL4 / b"x"), "too-big"),
        same(A, frame(A.mac, B.mac, A.v6, B.v6, UDP() / FULL6)),
        told_a(frame(A.mac, B.mac, A.v6, B.v6, UDP() / FULL6 / b"x"), "too-big", too_big(1500, 6)),
    ),
    case(
        "hairpin",
        "2.9.1",
        "to the port that sent it",
        drops("red-a", frame(A.mac, A.mac, A.v4, A.v4), "hairpin"),
        drops("red-a", frame(A.mac, ROUTER, A.v6, A.v6), "hairpin"),
    ),
    case(
        "vlan-stripped",
        "1.1.3 2.1.3",
        "one 802.1Q tag is taken off (RFC 7637 section 3.3), a priority tag too",
        passes("red-a", tagged(Dot1Q(vlan=100)), "red-b", PLAIN),
        passes("red-a", tagged(Dot1Q(vlan=0, prio=5)), "red-b", PLAIN),
    ),
    case(
        "allowed-source",
        "2.4.2 2.6.3",
        "allowedSources: a prefix more to send from, not to be reached at",
        same(A, frame(A.mac, B.mac, "172.16.9.9", B.v4)),
        drops("red-a", frame(A.mac, B.mac, "172.17.0.1", B.v4), "src-address"),
        drops("red-b", frame(B.mac, A.mac, "172.16.9.9", A.v4), "src-address"),
        told_a(frame(B.mac, ROUTER, B.v4, "172.16.9.9"), "no-route", NO_NET, "red-b"),
    ),
)

GATEWAYS = (
    case(
        "gateway-ping-v4",
        "2.7.1 2.7.2 2.7.3",
        "answered by the router's MAC, from any of its addresses; TTL 64",
        answers(
            "red-a",
            frame(A.mac, ROUTER, A.v4, GATEWAY, ECHO),
            frame(ROUTER, A.mac, GATEWAY, A.v4, ECHO_REPLY),
        ),
        answers(
            "red-a",
            frame(A.mac, ROUTER, A.v4, "10.1.2.1", ECHO, ttl=1),
            frame(ROUTER, A.mac, "10.1.2.1", A.v4, ECHO_REPLY),
        ),
    ),
    case(
        "gateway-ping-v6",
        "2.7.1 2.7.2 2.7.3",
        "the same for IPv6",
        answers(
            "red-a",
            frame(A.mac, ROUTER, A.v6, GATEWAY6, ECHO6),
            frame(ROUTER, A.mac, GATEWAY6, A.v6, ECHO6_REPLY),
        ),
    ),
    case(
        "gateway-ping-wrong-checksum",
        "2.7.3 4.1.1 4.1.2",
        "a wrong checksum stays wrong by as much",
        answers(
            "red-a",
            frame(A.mac, ROUTER, A.v4, GATEWAY, ICMP(type=8, id=0, seq=0, chksum=0x1234)),
            frame(ROUTER, A.mac, GATEWAY, A.v4, ICMP(type=0, id=0, seq=0, chksum=0x1A34)),
        ),
    ),
    case(
        "gateway-no-service",
        "2.7.4 2.15.4 2.15.6",
        "nothing else at a gateway is answered, but for errors",
        told_a(frame(A.mac, ROUTER, A.v4, GATEWAY, TCP_BODY), "router-local", NO_PORT),
        told_a(frame(A.mac, ROUTER, A.v6, GATEWAY6, UDP_BODY), "router-local", NO_PORT6),
        drops("red-a", frame(A.mac, ROUTER, A.v4, GATEWAY, ECHO_REPLY), "router-local"),
        drops("red-a", frame(A.mac, ROUTER, A.v4, GATEWAY, ICMP(type=8, code=1)), "router-local"),
        *(
            drops("red-a", given, "router-local")
            for given in cut(frame(A.mac, ROUTER, A.v4, GATEWAY, ICMP() / Raw(bytes(64))), 32)
        ),
    ),
)

REFUSED = (
    case(
        "malformed-ethernet",
        "1.1.1 1.1.2 1.1.4 1.2.1",
        "too short, stacked tags, or no protocol of ours",
        drops("red-a", bytes(PLAIN)[:13], "eth-short"),
        drops("red-a", bytes(tagged(Dot1Q(vlan=1)))[:17], "eth-short"),
        drops("red-a", tagged(Dot1Q(vlan=1), Dot1Q(vlan=2)), "vlan-stacked"),
        drops("red-a", tagged(Dot1AD(vlan=1)), "vlan-stacked"),
        drops("red-a", Ether(src=A.mac, dst=B.mac, type=0x88CC) / Raw(b"lldp"), "ethertype"),
    ),
    case(
        "malformed-ip",
        "1.3.1 1.3.2 1.3.3 1.3.4 1.4.1 1.4.2 1.4.3",
        "IP headers that lie",
        drops("red-a", bytes(PLAIN)[:33], "ip-short"),
        drops("red-a", bytes(PLAIN6)[:53], "ip-short"),
        drops("red-a", bytes(PLAIN)[:14] + b"\x65" + bytes(PLAIN)[15:], "ip-version"),
        drops("red-a", bytes(PLAIN6)[:14] + b"\x40" + bytes(PLAIN6)[15:], "ip-version"),
        drops("red-a", bytes(PLAIN)[:14] + b"\x44" + bytes(PLAIN)[15:], "ip-header-length"),
        drops("red-a", bytes(PLAIN)[:14] + b"\x4f" + bytes(PLAIN)[15:40], "ip-header-length"),
        drops("red-a", bytes(PLAIN)[:-1], "ip-length"),
        drops("red-a", bytes(PLAIN6)[:-1], "ip-length"),
    ),
    case(
        "malformed-fragments",
        "1.3.7 1.3.8 1.4.7 1.4.8",
        "fragments that end off a multiple of 8, are empty, or end beyond the largest packet",
        *(
            drops("red-a", fragment(family, offset, size, more=more), "ip-fragment")
            for family in (4, 6)
            for offset, size, more in ((0, 20, True), (8, 0, True), (65_528, 16, False))
        ),
    ),
    case(
        "malformed-extensions",
        "1.4.5 1.4.6",
        "IPv6 extension headers beyond the packet, or more than 8",
        drops("red-a", l4(6, 60, bytes([17, 9]) + bytes(6)), "ip6-extension"),
        drops("red-a", l4(6, 43, bytes(4)), "ip6-extension"),
        drops(
            "red-a", l4(6, 60, (bytes([60, 0]) + bytes(6)) * 8 + bytes([17, 0]) + bytes(14)), "ip6-extension"
        ),
    ),
    case(
        "malformed-l4",
        "1.5.1 1.5.2 1.5.3 1.5.4",
        "truncated or lying TCP, UDP, ICMP, ICMPv6",
        drops("red-a", l4(4, 6, bytes(19)), "l4-short"),
        drops("red-a", l4(4, 17, bytes(7)), "l4-short"),
        drops("red-a", l4(4, 1, bytes(7)), "l4-short"),
        drops("red-a", l4(6, 58, bytes(7)), "l4-short"),
        drops("red-a", l4(4, 6, bytes(TCP(dataofs=4))), "l4-length"),
        drops("red-a", l4(4, 6, bytes(TCP(dataofs=6))), "l4-length"),
        drops("red-a", l4(6, 17, bytes(UDP(len=7))), "l4-length"),
        drops("red-a", l4(4, 17, bytes(UDP(len=9))), "l4-length"),
    ),
    case(
        "forged-mac",
        "2.1.4",
        "a source MAC that is not the port's",
        drops("red-a", frame(B.mac, B.mac, A.v4, B.v4), "src-mac"),
        drops("red-a", frame(ROUTER, B.mac, A.v4, B.v4), "src-mac"),
    ),
    case(
        "forged-address",
        "2.4.2",
        "a source that is not one of the port's: a neighbour's, nobody's, the router's",
        drops("red-a", frame(A.mac, C.mac, B.v4, C.v4), "src-address"),
        drops("red-a", frame(A.mac, C.mac, "0.0.0.0", C.v4), "src-address"),
        drops("red-a", frame(A.mac, C.mac, GATEWAY, C.v4), "src-address"),
        drops("red-a", frame(A.mac, C.mac, B.v6, C.v6), "src-address"),
        drops("red-a", frame(A.mac, C.mac, link_local(A.mac), C.v6), "src-address"),
    ),
    case(
        "no-record",
        "2.5.2 2.6.6 2.6.10 2.15.3",
        "a destination nobody has, or an address that is none",
        drops("red-a", frame(A.mac, B.mac, A.v4, "10.1.1.99"), "no-record"),
        told_a(frame(A.mac, ROUTER, A.v4, "10.1.2.99"), "no-record", NO_HOST),
        told_a(frame(A.mac, ROUTER, A.v6, "fd00:1:2::99"), "no-record", NO_HOST6),
        drops("red-a", frame(A.mac, ROUTER, A.v4, "0.0.0.0"), "no-record"),
        drops("red-a", frame(A.mac, B.mac, A.v6, link_local(B.mac)), "no-record"),
    ),
    case(
        "no-host",
        "2.5.3",
        "an address that no host has is no destination, however the packet is addressed",
        *(
            drops("red-a", frame(A.mac, mac, A.v6 if ":" in address else A.v4, address), "no-record")
            for address in ("127.0.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255", "::1", "ff02::1")
            for mac in (ROUTER, B.mac)
        ),
    ),
    case(
        "no-route",
        "2.6.3 2.15.2",
        "beyond every prefix of the VM network: the PAs, other networks",
        told_a(frame(A.mac, ROUTER, A.v4, "8.8.8.8"), "no-route", NO_NET),
        told_a(frame(A.mac, ROUTER, A.v4, "192.168.77.101"), "no-route", NO_NET),
        told_a(frame(A.mac, ROUTER, A.v6, "fd77::101"), "no-route", NO_NET6),
        told_a(frame(A.mac, ROUTER, A.v4, "10.1.2.10"), "no-route", NO_NET, "green-a"),
    ),
    case(
        "other-tenant",
        "2.6.3 2.6.10",
        "the same CA in another VM network is another machine: gold-a has no neighbour .11",
        drops("gold-a", PLAIN, "no-record"),
        told_a(frame(A.mac, ROUTER, A.v4, E.v4), "no-route", NO_NET, "gold-a"),
    ),
)

LIMITED_MANIFEST = Path(__file__).parent / "limit.yaml"
FROM_B = frame(B.mac, A.mac, B.v4, A.v4)
LONG_FROM_B = frame(B.mac, A.mac, B.v4, A.v4, UDP(sport=4000, dport=5000) / Raw(bytes(200)))

LIMITED = (
    case(
        "rate-limit-packets",
        "2.1.6 2.4.2 2.4.3 2.14.1 2.14.2 2.14.3",
        "what is refused, or was not the port's to send, takes nothing; half a packet lets one out",
        *[same(A, PLAIN)] * 4,
        drops("red-a", PLAIN, "rate-limit"),
        drops("red-a", frame(A.mac, B.mac, "10.1.1.99", B.v4), "src-address"),
        *[same(A, PLAIN)] * 2,
        drops("red-a", arp(1, (A.mac, A.v4), ("00:00:00:00:00:00", B.v4)), "rate-limit"),
        same(A, PLAIN),
        manifest=LIMITED_MANIFEST,
    ),
    case(
        "rate-limit-bytes",
        "2.4.3 2.14.1 2.14.2 2.14.3",
        "a frame longer than the burst passes too, and delays the next ones by as much",
        same(B, LONG_FROM_B),
        *[drops("red-b", FROM_B, "rate-limit")] * 6,
        same(B, FROM_B),
        drops("red-b", FROM_B, "rate-limit"),
        same(B, FROM_B),
        manifest=LIMITED_MANIFEST,
    ),
)

CASES = (*LOCAL, *GATEWAYS, *REFUSED, *LIMITED)
