"""ARP and neighbour discovery of tenants."""

from scapy.layers.inet6 import (
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6ND_RA,
    ICMPv6ND_Redirect,
    ICMPv6ND_RS,
    ICMPv6NDOptSrcLLAddr,
    IPv6,
)
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Packet

from tests.golden.table import answers, case, drops, ends
from tests.golden.world import (
    BROADCAST,
    GATEWAY,
    GATEWAY6,
    ROUTER,
    A,
    B,
    C,
    E,
    arp,
    cut,
    link_local,
    na,
    ns,
    solicited_node,
)

NOBODY = "00:00:00:00:00:00"
ALL_NODES = ("33:33:00:00:00:01", "ff02::1")
ALL_ROUTERS = ("33:33:00:00:00:02", "ff02::2")
OWN = link_local(A.mac)
OPAQUE = "fe80::a1b2:c3d4:e5f6:718"
ME = (A.mac, A.v4)


def asks(target: str, source: str = A.v4) -> Packet:
    return arp(1, (A.mac, source), (NOBODY, target))


def nd(body: Packet, source: str = A.v6, to: tuple[str, str] = ALL_NODES, hlim: int = 255) -> Packet:
    return Ether(src=A.mac, dst=to[0]) / IPv6(src=source, dst=to[1], hlim=hlim) / body


def broken(given: Packet, at: int, octet: int) -> bytes:
    """The frame with one byte changed, its checksum not."""
    octets = bytearray(bytes(given))
    octets[at] = octet
    return bytes(octets)


ARPS = (
    case(
        "arp-known",
        "2.2.5 2.2.7",
        "answered with the record's MAC, for local and remote CAs; a unicast request too",
        answers("red-a", asks(B.v4), arp(2, (B.mac, B.v4), ME, A.mac)),
        answers("red-a", asks(C.v4), arp(2, (C.mac, C.v4), ME, A.mac)),
        answers("red-a", arp(1, ME, (NOBODY, C.v4), C.mac), arp(2, (C.mac, C.v4), ME, A.mac)),
    ),
    case(
        "arp-gateway",
        "2.2.5 2.2.7",
        "the gateway has the router's MAC",
        answers("red-a", asks(GATEWAY), arp(2, (ROUTER, GATEWAY), ME, A.mac)),
        answers("red-a", asks(GATEWAY, "0.0.0.0"), arp(2, (ROUTER, GATEWAY), (A.mac, "0.0.0.0"), A.mac)),
    ),
    case(
        "arp-unknown",
        "2.2.6",
        "silence for who has no record in the subnet",
        drops("red-a", asks("10.1.1.99"), "arp-unknown"),
        drops("red-a", asks(E.v4), "arp-unknown"),
        drops("gold-a", asks(B.v4), "arp-unknown"),
    ),
    case(
        "arp-own",
        "2.2.3 2.2.4",
        "never an answer about the port's own CA: probe, announcement, gratuitous reply",
        ends("red-a", asks(A.v4, "0.0.0.0")),
        ends("red-a", asks(A.v4)),
        ends("red-a", arp(2, ME, (BROADCAST, A.v4))),
        ends("red-a", arp(2, ME, (B.mac, B.v4), B.mac)),
    ),
    case(
        "arp-forged",
        "2.1.4 2.2.1 2.2.2",
        "a sender that is not the port",
        drops("red-a", asks(C.v4, B.v4), "arp-sender"),
        drops("red-a", asks(C.v4, GATEWAY), "arp-sender"),
        drops(
            "red-a",
            Ether(src=A.mac, dst=BROADCAST) / ARP(op=1, hwsrc=B.mac, psrc=A.v4, pdst=C.v4),
            "arp-sender",
        ),
        drops("red-a", Ether(src=A.mac, dst=BROADCAST) / ARP(op=2, hwsrc=ROUTER, psrc=GATEWAY), "arp-sender"),
        drops("red-a", Ether(src=B.mac, dst=BROADCAST) / ARP(hwsrc=B.mac, psrc=B.v4, pdst=C.v4), "src-mac"),
    ),
    case(
        "arp-malformed",
        "1.2.2 1.2.3",
        "ARP of another kind, or cut short",
        drops("red-a", bytes(asks(C.v4))[:41], "arp-malformed"),
        *(
            drops(
                "red-a",
                Ether(src=A.mac, dst=BROADCAST) / ARP(hwsrc=A.mac, psrc=A.v4, pdst=C.v4, **field),
                reason,
            )
            for field, reason in (
                ({"op": 3}, "arp-malformed"),
                ({"op": 0}, "arp-malformed"),
                ({"hwtype": 6}, "arp-malformed"),
                ({"ptype": 0x86DD}, "arp-malformed"),
                ({"hwlen": 8}, "arp-malformed"),
                ({"plen": 16}, "arp-malformed"),
            )
        ),
    ),
)

NDS = (
    case(
        "nd-known",
        "2.3.17 2.3.19 2.3.21",
        "answered with the record's MAC, to CA or link-local address, with an option or none",
        answers("red-a", ns(A.mac, A.v6, B.v6), na(B.mac, B.v6, A.mac, A.v6)),
        answers("red-a", ns(A.mac, OWN, C.v6), na(C.mac, C.v6, A.mac, OWN)),
        answers("red-a", ns(A.mac, A.v6, C.v6, option=False), na(C.mac, C.v6, A.mac, A.v6)),
    ),
    case(
        "nd-opaque",
        "2.3.12 2.3.14 2.3.16 2.3.17 2.3.22",
        "a guest's link-local address has no prescribed form, but it is not the router's",
        answers("red-a", ns(A.mac, OPAQUE, C.v6), na(C.mac, C.v6, A.mac, OPAQUE)),
        answers("red-a", ns(A.mac, OPAQUE, "fe80::1"), na(ROUTER, "fe80::1", A.mac, OPAQUE, router=1)),
        ends("red-a", ns(A.mac, "::", OPAQUE, option=False)),
        ends("red-a", nd(ICMPv6ND_RS(), OPAQUE, ALL_ROUTERS)),
        ends("red-a", na(A.mac, OPAQUE, *ALL_NODES, solicited=0)),
        drops("red-a", ns(A.mac, "fe80::1", C.v6), "src-address"),
        drops("red-a", na(A.mac, "fe80::1", *ALL_NODES, solicited=0), "src-address"),
        drops("red-a", nd(ICMPv6ND_NA(tgt="fe80::1")), "nd-spoofed"),
    ),
    case(
        "nd-gateway",
        "2.3.17 2.3.19 2.3.21",
        "the gateway, also as fe80::1, is a router",
        answers("red-a", ns(A.mac, A.v6, GATEWAY6), na(ROUTER, GATEWAY6, A.mac, A.v6, router=1)),
        answers("red-a", ns(A.mac, OWN, "fe80::1"), na(ROUTER, "fe80::1", A.mac, OWN, router=1)),
    ),
    case(
        "nd-unicast",
        "2.3.17 2.3.19",
        "reachability probes by unicast are answered",
        answers(
            "red-a",
            nd(ICMPv6ND_NS(tgt=C.v6) / ICMPv6NDOptSrcLLAddr(lladdr=A.mac), to=(C.mac, C.v6)),
            na(C.mac, C.v6, A.mac, A.v6),
        ),
    ),
    case(
        "nd-dad-own",
        "2.3.16 2.3.22",
        "duplicate address detection of the port's own addresses meets silence",
        ends("red-a", ns(A.mac, "::", A.v6, option=False)),
        ends("red-a", ns(A.mac, "::", OWN, option=False)),
        ends("red-a", ns(A.mac, OWN, A.v6)),
    ),
    case(
        "nd-dad-other",
        "2.3.17 2.3.20 2.3.21",
        "of another's address it is answered, to all nodes",
        answers("red-a", ns(A.mac, "::", C.v6, option=False), na(C.mac, C.v6, *ALL_NODES, solicited=0)),
        answers(
            "red-a",
            ns(A.mac, "::", GATEWAY6, option=False),
            na(ROUTER, GATEWAY6, *ALL_NODES, router=1, solicited=0),
        ),
    ),
    case(
        "nd-unknown",
        "2.3.18",
        "silence for who has no record in the subnet",
        drops("red-a", ns(A.mac, A.v6, "fd00:1:1::99"), "nd-unknown"),
        drops("red-a", ns(A.mac, A.v6, E.v6), "nd-unknown"),
        drops("red-a", ns(A.mac, OWN, link_local(B.mac)), "nd-unknown"),
    ),
    case(
        "nd-other",
        "2.3.15",
        "router solicitations and advertisements of the own address end here",
        ends("red-a", nd(ICMPv6ND_RS(), OWN, ALL_ROUTERS)),
        ends("red-a", nd(ICMPv6ND_RS(), "::", ALL_ROUTERS)),
        ends("red-a", na(A.mac, A.v6, *ALL_NODES, solicited=0)),
    ),
    case(
        "nd-router",
        "2.3.11",
        "nobody but us is a router",
        drops("red-a", nd(ICMPv6ND_RA(), OWN), "nd-router"),
        drops("red-a", nd(ICMPv6ND_Redirect(tgt=A.v6, dst=C.v6), OWN), "nd-router"),
    ),
    case(
        "nd-forged",
        "2.3.12 2.3.13 2.3.14",
        "what speaks of a MAC or address that is not the port's",
        drops("red-a", ns(A.mac, B.v6, C.v6), "src-address"),
        drops("red-a", nd(ICMPv6ND_NA(tgt=A.v6), "::"), "src-address"),
        drops(
            "red-a",
            nd(ICMPv6ND_NS(tgt=C.v6) / ICMPv6NDOptSrcLLAddr(lladdr=B.mac), to=solicited_node(C.v6)),
            "nd-spoofed",
        ),
        drops("red-a", nd(ICMPv6ND_NA(tgt=GATEWAY6, R=1)), "nd-spoofed"),
        drops("red-a", nd(ICMPv6ND_NA(tgt=C.v6)), "nd-spoofed"),
    ),
    case(
        "nd-malformed",
        "2.3.1 2.3.2 2.3.3 2.3.5 2.3.8 2.3.9 2.3.10",
        "wrong hop limit, code, checksum, length, option, target; an option from ::; fragments",
        drops("red-a", ns(A.mac, A.v6, C.v6, hlim=254), "nd-malformed"),
        drops("red-a", nd(ICMPv6ND_NS(tgt=C.v6, code=1)), "nd-malformed"),
        drops("red-a", broken(ns(A.mac, A.v6, C.v6), 56, 0), "nd-malformed"),
        drops("red-a", nd(ICMPv6ND_NS(tgt="ff02::1")), "nd-malformed"),
        drops("red-a", nd(ICMPv6ND_NS(tgt=C.v6) / ICMPv6NDOptSrcLLAddr(lladdr=A.mac, len=0)), "nd-malformed"),
        drops("red-a", nd(ICMPv6ND_NS(tgt=C.v6) / ICMPv6NDOptSrcLLAddr(lladdr=A.mac, len=2)), "nd-malformed"),
        drops("red-a", ns(A.mac, "::", C.v6), "nd-malformed"),
        *(drops("red-a", given, "nd-malformed") for given in cut(ns(A.mac, A.v6, C.v6), 24)[:1]),
    ),
)

CASES = (*ARPS, *NDS)
