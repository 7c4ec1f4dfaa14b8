"""NVGRE: pop, and everything that a tunnel packet may get wrong."""

from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import ICMPv6ND_RA, IPv6
from scapy.layers.l2 import Dot1Q, Ether
from scapy.packet import Packet, Raw

from tests.golden.table import Frame, Step, answers, case, drops, ends, passes
from tests.golden.world import (
    BROADCAST,
    ECHO,
    FAR,
    GATEWAY,
    GOLD,
    GREEN,
    H1,
    H2,
    H6,
    OVS,
    RED,
    RED2,
    ROUTER,
    STRANGER,
    TCP_BODY,
    UDP_BODY,
    A,
    B,
    C,
    D,
    E,
    F,
    arp,
    cut,
    frame,
    gre,
    ip,
    link_local,
    na,
    ns,
    outer,
    tunnel,
)

NOBODY = "00:00:00:00:00:00"
NOT_ECT, ECT1, ECT0, CE = range(4)
FROM_C = frame(C.mac, A.mac, C.v4, A.v4)
INNER = bytes(FROM_C)


def pops(given: Frame, to: str, out: Frame) -> Step:
    return passes("underlay", given, to, out)


def popped(inner: Packet, to: str = "red-a", vsid: int = RED) -> Step:
    """From h2 by IPv4, delivered as it is."""
    return pops(tunnel(H2, H1, vsid, inner), to, inner)


def refused(inner: Packet | bytes, reason: str, vsid: int = RED) -> Step:
    return drops("underlay", tunnel(H2, H1, vsid, inner), reason)


def bad_gre(octets: bytes, reason: str) -> Step:
    return drops("underlay", outer(H2, H1, octets), reason)


def bad_flags(flags: int, reason: str) -> Step:
    return bad_gre(gre(RED, 0, INNER, flags=flags), reason)


def ecn(outer_ecn: int, inner_ecn: int, dscp: int = 0) -> tuple[Packet, Packet]:
    """Tunnel packets of both families with other ECN bits than the inner packet has, whose DSCP is 10."""
    v4 = frame(C.mac, A.mac, C.v4, A.v4, tos=10 << 2 | inner_ecn)
    v6 = frame(C.mac, A.mac, C.v6, A.v6, tos=10 << 2 | inner_ecn)
    tos = dscp << 2 | outer_ecn
    return tunnel(H2, H1, RED, v4, tos=tos), tunnel(H2, H1, RED, v6, tos=tos)


def merged(outer_ecn: int, inner_ecn: int, result: int) -> tuple[Step, Step]:
    v4, v6 = ecn(outer_ecn, inner_ecn)
    return (
        pops(v4, "red-a", frame(C.mac, A.mac, C.v4, A.v4, tos=10 << 2 | result)),
        pops(v6, "red-a", frame(C.mac, A.mac, C.v6, A.v6, tos=10 << 2 | result)),
    )


POP = (
    case(
        "pop-v4-in-v4",
        "3.1.1 3.6.3 3.8.13 3.12.1 3.13.7",
        "delivered as it is",
        popped(FROM_C),
        popped(frame(C.mac, A.mac, C.v4, A.v4, TCP_BODY)),
        popped(frame(C.mac, B.mac, C.v4, B.v4), "red-b"),
    ),
    case(
        "pop-v6-in-v4",
        "3.6.3 3.8.13 3.12.1 3.13.7",
        "IPv6 CAs, IPv4 PAs",
        popped(frame(C.mac, A.mac, C.v6, A.v6, TCP_BODY)),
    ),
    case(
        "pop-v4-in-v6",
        "3.6.3 3.8.13 3.12.1 3.13.7",
        "IPv4 CAs, IPv6 PAs; any PA of the host may be the source",
        *(
            pops(tunnel(host, H1, RED, given, family=6), "red-a", given)
            for host, given in ((H6, frame(D.mac, A.mac, D.v4, A.v4)), (H2, FROM_C))
        ),
    ),
    case(
        "pop-v6-in-v6",
        "3.6.3 3.8.13 3.12.1 3.13.7",
        "IPv6 CAs, IPv6 PAs",
        *(
            pops(tunnel(H6, H1, RED, given, family=6), "red-a", given)
            for given in (frame(D.mac, A.mac, D.v6, A.v6, TCP_BODY),)
        ),
    ),
    case(
        "pop-routed",
        "3.12.1 3.13.7",
        "routed by the sender's host: the source lives in another subnet, the MAC is the router's",
        popped(frame(ROUTER, A.mac, F.v4, A.v4, ttl=63)),
        popped(frame(ROUTER, E.mac, C.v6, E.v6, ttl=63), "red-e", RED2),
    ),
    case(
        "pop-foreign-hosts",
        "3.12.1 3.13.7",
        "from the other side of the gateway, and from a host where isolane does not run",
        *(
            pops(tunnel(host, H1, GREEN, given), "green-a", given)
            for host, given in (
                (FAR, frame(C.mac, A.mac, C.v4, A.v4)),
                (OVS, frame(D.mac, A.mac, D.v4, A.v4)),
            )
        ),
    ),
    case(
        "pop-fragments",
        "3.8.13",
        "inner fragments pass one by one",
        *(
            popped(Ether(given))
            for given in cut(frame(C.mac, A.mac, C.v4, A.v4, UDP() / Raw(bytes(2000))), 1400)
        ),
    ),
    case(
        "pop-outer-padding",
        "1.3.5 3.8.13",
        "the inner frame ends where the outer IP packet ends",
        pops(bytes(tunnel(H2, H1, RED, FROM_C)) + bytes(6), "red-a", FROM_C),
    ),
    case(
        "pop-ignored-bits",
        "3.8.9",
        "GRE bits 6-12 and the FlowID are the sender's own business",
        *(
            pops(outer(H2, H1, gre(RED, flow, INNER, flags=flags)), "red-a", FROM_C)
            for flags, flow in ((0x2000, 0), (0x2000, 0xFF), (0x2008, 1), (0x23F8, 2))
        ),
    ),
    case(
        "pop-inner-checksum",
        "3.13.7",
        "an inner checksum is neither verified nor repaired",
        popped(frame(C.mac, A.mac, C.v4, A.v4, UDP(sport=1, dport=2, chksum=0xBAD) / Raw(b"x"))),
        popped(Ether(src=C.mac, dst=A.mac) / IP(src=C.v4, dst=A.v4, chksum=0xBAD) / UDP_BODY),
    ),
    case(
        "pop-too-big",
        "3.13.6 3.13.7",
        "larger than the port's MTU",
        popped(frame(C.mac, A.mac, C.v4, A.v4, UDP() / Raw(bytes(1500 - 28)))),
        refused(frame(C.mac, A.mac, C.v4, A.v4, UDP() / Raw(bytes(1501 - 28))), "too-big"),
    ),
)

GRE_DROPS = (
    case(
        "gre-bits",
        "3.8.2 3.8.3 3.8.4 3.8.5 3.8.6",
        "C, S, no K, version, bits 1, 4, 5",
        bad_flags(0x0000, "gre-no-key"),
        bad_flags(0xA000, "gre-checksum-bit"),
        bad_flags(0x3000, "gre-sequence-bit"),
        bad_flags(0x2001, "gre-version"),
        bad_flags(0x2007, "gre-version"),
        bad_flags(0x6000, "gre-reserved-bits"),
        bad_flags(0x2800, "gre-reserved-bits"),
        bad_flags(0x2400, "gre-reserved-bits"),
    ),
    case(
        "gre-bits-order",
        "3.8.2 3.8.3 3.8.4 3.8.5",
        "the first check that fails names the drop",
        bad_flags(0xF001, "gre-version"),
        bad_flags(0xF000, "gre-checksum-bit"),
        bad_flags(0x5000, "gre-sequence-bit"),
        bad_flags(0x4000, "gre-reserved-bits"),
    ),
    case(
        "gre-protocol",
        "3.8.7",
        "0x6558 alone",
        bad_gre(gre(RED, 0, INNER[14:], protocol=0x0800), "gre-protocol"),
        bad_gre(gre(RED, 0, INNER, protocol=0x6559), "gre-protocol"),
    ),
    case(
        "gre-short",
        "1.1.1 3.8.1 3.8.8",
        "truncated",
        bad_gre(b"", "gre-short"),
        bad_gre(gre(RED, 0, b"")[:3], "gre-short"),
        bad_gre(gre(RED, 0, b"")[:4], "gre-short"),
        bad_gre(gre(RED, 0, b"")[:7], "gre-short"),
        bad_gre(gre(RED, 0, b""), "eth-short"),
        bad_gre(gre(RED, 0, INNER[:13]), "eth-short"),
    ),
    case(
        "vsid-reserved",
        "3.8.10",
        "0..0xFFF and 0xFFFFFF (RFC 7637 section 3.4)",
        *(refused(FROM_C, "vsid-reserved", vsid) for vsid in (0, 1, 0xFFF, 0xFFFFFF)),
    ),
    case(
        "vsid-unknown",
        "3.8.11",
        "no subnet of this host's VM networks",
        *(refused(FROM_C, "vsid-unknown", vsid) for vsid in (0x1000, 4242, 0xFFFFFE)),
    ),
    case(
        "outer-source",
        "3.8.12",
        "not from a shared PA of another host: nobody's, our own, a rewrite PA",
        drops("underlay", tunnel(STRANGER, H1, RED, FROM_C), "outer-source"),
        drops("underlay", tunnel(STRANGER, H1, RED, FROM_C, family=6), "outer-source"),
        drops("underlay", tunnel(H2._replace(v4=H1.v4), H1, RED, FROM_C), "outer-source"),
        drops("underlay", tunnel(H2._replace(v4="192.168.77.152"), H1, RED, FROM_C), "outer-source"),
    ),
)

INNER_DROPS = (
    case(
        "inner-vlan",
        "3.8.14",
        "no tag inside (RFC 7637 section 3.3)",
        refused(Ether(src=C.mac, dst=A.mac) / Dot1Q(vlan=1) / ip(C.v4, A.v4, UDP_BODY), "inner-vlan"),
    ),
    case(
        "inner-priority",
        "3.8.14",
        "a priority tag is a tag: it is not inside (RFC 7637 section 3.3)",
        *(
            refused(
                Ether(src=C.mac, dst=A.mac) / Dot1Q(vlan=0, prio=prio) / ip(C.v4, A.v4, UDP_BODY),
                "inner-vlan",
            )
            for prio in (0, 3, 6)
        ),
    ),
    case(
        "inner-malformed",
        "1.2.1 1.3.2 1.3.4 1.5.1",
        "parsed like any frame",
        refused(INNER[:-1], "ip-length"),
        refused(INNER[:14] + b"\x65" + INNER[15:], "ip-version"),
        refused(Ether(src=C.mac, dst=A.mac, type=0x88CC) / Raw(b"lldp"), "ethertype"),
        refused(Ether(src=C.mac, dst=A.mac) / IP(src=C.v4, dst=A.v4, proto=6) / Raw(b"short"), "l4-short"),
    ),
    case(
        "inner-source",
        "3.9.1 3.9.2 3.9.4 3.9.11",
        "a source that nobody at the sender's host may use",
        refused(frame(C.mac, A.mac, "10.1.1.99", A.v4), "inner-source"),
        refused(frame(C.mac, A.mac, "8.8.8.8", A.v4), "inner-source"),
        refused(frame(C.mac, A.mac, GATEWAY, A.v4), "inner-source"),
        refused(frame(C.mac, A.mac, "0.0.0.0", A.v4), "inner-source"),
        refused(frame(C.mac, A.mac, link_local(C.mac), A.v6), "inner-source"),
        refused(frame(C.mac, A.mac, "::", A.v6), "inner-source"),
    ),
    case(
        "inner-source-host",
        "3.9.5 3.9.7",
        "a source that lives on another host: this one, a third, also across subnets",
        refused(frame(B.mac, A.mac, B.v4, A.v4), "inner-source-host"),
        refused(frame(D.mac, A.mac, D.v6, A.v6), "inner-source-host"),
        refused(frame(ROUTER, A.mac, E.v4, A.v4), "inner-source-host"),
        drops("underlay", tunnel(H6, H1, RED, FROM_C, family=6), "inner-source-host"),
    ),
    case(
        "inner-src-mac",
        "3.9.6 3.9.8",
        "the record's MAC in its own subnet, the router's from another",
        refused(frame(D.mac, A.mac, C.v4, A.v4), "inner-src-mac"),
        refused(frame(ROUTER, A.mac, C.v4, A.v4), "inner-src-mac"),
        refused(frame(F.mac, A.mac, F.v4, A.v4), "inner-src-mac"),
    ),
    case(
        "inner-destination",
        "3.11.2 3.12.2 3.12.3 3.12.6",
        "unknown, another host's, the gateway's",
        refused(frame(C.mac, A.mac, C.v4, "10.1.1.99"), "no-record"),
        refused(frame(C.mac, A.mac, C.v4, "0.0.0.0"), "no-record"),
        refused(frame(C.mac, E.mac, C.v4, E.v4), "no-record"),
        refused(frame(C.mac, D.mac, C.v4, D.v4), "not-local"),
        refused(frame(C.mac, ROUTER, C.v4, GATEWAY, ECHO), "router-local"),
    ),
    case(
        "inner-dst-mac",
        "3.12.7",
        "not the record's",
        refused(frame(C.mac, B.mac, C.v4, A.v4), "inner-dst-mac"),
        refused(frame(C.mac, ROUTER, C.v6, A.v6), "inner-dst-mac"),
    ),
    case(
        "other-tenants-vsid",
        "3.9.5 3.9.11",
        "the same CAs and MACs under another tenant's VSID are other machines",
        refused(FROM_C, "inner-source-host", GREEN),
        refused(frame(B.mac, A.mac, B.v4, A.v4), "inner-source", GOLD),
    ),
)

ECN = (
    case(
        "ecn-merged",
        "3.13.2 3.13.3 3.13.4",
        "CE comes in, ECT(1) replaces ECT(0), the inner DSCP stays",
        *(
            step
            for outer_ecn, inner_ecn, result in (
                (NOT_ECT, NOT_ECT, NOT_ECT),
                (NOT_ECT, ECT0, ECT0),
                (NOT_ECT, ECT1, ECT1),
                (NOT_ECT, CE, CE),
                (ECT0, NOT_ECT, NOT_ECT),
                (ECT0, ECT0, ECT0),
                (ECT0, ECT1, ECT1),
                (ECT0, CE, CE),
                (ECT1, NOT_ECT, NOT_ECT),
                (ECT1, ECT0, ECT1),
                (ECT1, ECT1, ECT1),
                (ECT1, CE, CE),
                (CE, ECT0, CE),
                (CE, ECT1, CE),
                (CE, CE, CE),
            )
            for step in merged(outer_ecn, inner_ecn, result)
        ),
    ),
    case(
        "ecn-dropped",
        "3.13.1",
        "congestion that the inner packet can't say",
        *(drops("underlay", given, "ecn") for given in ecn(CE, NOT_ECT)),
        *(drops("underlay", given, "ecn") for given in ecn(CE, NOT_ECT, dscp=46)),
    ),
)

TUNNEL_ARP = (
    case(
        "tunnel-arp",
        "3.9.3 3.10.4 3.10.5",
        "a request for a local CA is answered through the tunnel, FlowID and TOS 0",
        *(
            answers(
                "underlay",
                tunnel(H2, H1, RED, arp(1, (C.mac, C.v4), (NOBODY, vm.v4))),
                tunnel(H1, H2, RED, arp(2, (vm.mac, vm.v4), (C.mac, C.v4), C.mac), tos=0),
            )
            for vm in (A, B)
        ),
        answers(
            "underlay",
            tunnel(H6, H1, RED, arp(1, (D.mac, D.v4), (NOBODY, A.v4)), family=6, tos=0),
            tunnel(H1, H6, RED, arp(2, (A.mac, A.v4), (D.mac, D.v4), D.mac), family=6, tos=0),
        ),
    ),
    case(
        "tunnel-nd",
        "3.9.3 3.10.4 3.10.5",
        "so is a solicitation, also from a link-local address",
        answers(
            "underlay",
            tunnel(H2, H1, RED, ns(C.mac, C.v6, A.v6)),
            tunnel(H1, H2, RED, na(A.mac, A.v6, C.mac, C.v6)),
        ),
        answers(
            "underlay",
            tunnel(H2, H1, RED, ns(C.mac, link_local(C.mac), A.v6)),
            tunnel(H1, H2, RED, na(A.mac, A.v6, C.mac, link_local(C.mac))),
        ),
        answers(
            "underlay",
            tunnel(H2, H1, RED, ns(C.mac, "fe80::a1b2:c3d4:e5f6:718", A.v6)),
            tunnel(H1, H2, RED, na(A.mac, A.v6, C.mac, "fe80::a1b2:c3d4:e5f6:718")),
        ),
    ),
    case(
        "tunnel-arp-unknown",
        "3.10.6 3.10.7",
        "not for remote CAs, gateways, or who has no record",
        *(
            refused(arp(1, (C.mac, C.v4), (NOBODY, target)), "arp-unknown")
            for target in (D.v4, GATEWAY, "10.1.1.99", E.v4)
        ),
        *(refused(ns(C.mac, C.v6, target), "nd-unknown") for target in (D.v6, "fe80::1", "fd00:1:1::99")),
    ),
    case(
        "tunnel-arp-replies",
        "3.10.3",
        "replies and advertisements end here",
        ends("underlay", tunnel(H2, H1, RED, arp(2, (C.mac, C.v4), (A.mac, A.v4), A.mac), tos=0)),
        ends("underlay", tunnel(H2, H1, RED, na(C.mac, C.v6, A.mac, A.v6))),
    ),
    case(
        "tunnel-arp-forged",
        "3.9.1 3.9.2 3.9.5 3.9.6 3.9.11 3.9.13 3.10.1 3.10.2",
        "the sender is checked as the source of a packet is",
        refused(arp(1, (C.mac, "10.1.1.99"), (NOBODY, A.v4)), "inner-source"),
        refused(arp(1, (C.mac, "0.0.0.0"), (NOBODY, A.v4)), "inner-source"),
        refused(arp(1, (D.mac, D.v4), (NOBODY, A.v4)), "inner-source-host"),
        refused(arp(1, (D.mac, C.v4), (NOBODY, A.v4)), "inner-src-mac"),
        refused(
            Ether(src=D.mac, dst=BROADCAST) / arp(1, (C.mac, C.v4), (NOBODY, A.v4)).payload, "inner-src-mac"
        ),
        refused(ns(C.mac, "fe80::1", A.v6), "inner-source"),
        refused(
            Ether(src="33:33:00:00:00:01", dst=A.mac) / ns(C.mac, link_local(C.mac), A.v6).payload,
            "inner-source",
        ),
        refused(na(C.mac, link_local(C.mac), A.mac, A.v6), "inner-source"),
        refused(ns(C.mac, "::", A.v6, option=False), "inner-source"),
        refused(ns(C.mac, C.v6, A.v6, hlim=64), "nd-malformed"),
        refused(
            Ether(src=C.mac, dst=A.mac)
            / IPv6(src=link_local(C.mac), dst="ff02::1", hlim=255)
            / ICMPv6ND_RA(),
            "nd-router",
        ),
    ),
)

CASES = (*POP, *GRE_DROPS, *INNER_DROPS, *ECN, *TUNNEL_ARP)
