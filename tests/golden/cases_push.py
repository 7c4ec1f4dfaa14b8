"""NVGRE: what becomes of a tenant's packets to other hosts."""

from scapy.layers.inet import UDP
from scapy.layers.l2 import Dot1Q, Ether
from scapy.packet import Raw

from tests.golden.table import case, drops, passes
from tests.golden.world import (
    ECHO,
    FAR,
    GREEN,
    H1,
    H2,
    H6,
    OVS,
    RED,
    RED2,
    ROUTER,
    TCP_BODY,
    UDP_BODY,
    A,
    B,
    C,
    D,
    F,
    cut,
    frame,
    ip,
    tunnel,
)

NOBODY = "00:00:00:00:00:00"
NOT_ECT, ECT1, ECT0, CE = range(4)
FROM_C = frame(C.mac, A.mac, C.v4, A.v4)
INNER = bytes(FROM_C)


CASES = (
    case(
        "push-v4-in-v4",
        "2.11.1 2.11.9 2.11.11 2.13.2 2.13.3 2.13.4",
        "the frame as it is behind Ethernet, IPv4 (ID 0, DF, TTL 64) and GRE with VSID and FlowID",
        *(
            passes("red-a", given, "underlay", tunnel(H1, H2, RED, given))
            for given in (
                frame(A.mac, C.mac, A.v4, C.v4),
                frame(A.mac, C.mac, A.v4, C.v4, TCP_BODY),
                frame(A.mac, C.mac, A.v4, C.v4, ECHO),
            )
        ),
    ),
    case(
        "push-v6-in-v4",
        "2.11.1 2.11.11 2.13.2",
        "IPv6 CAs, IPv4 PAs",
        *(
            passes("red-a", given, "underlay", tunnel(H1, H2, RED, given))
            for given in (frame(A.mac, C.mac, A.v6, C.v6), frame(A.mac, C.mac, A.v6, C.v6, TCP_BODY))
        ),
    ),
    case(
        "push-v4-in-v6",
        "2.11.1 2.11.12",
        "IPv4 CAs, IPv6 PAs: flow label 0, hop limit 64",
        passes(
            "red-a",
            frame(A.mac, D.mac, A.v4, D.v4),
            "underlay",
            tunnel(H1, H6, RED, frame(A.mac, D.mac, A.v4, D.v4), family=6),
        ),
    ),
    case(
        "push-v6-in-v6",
        "2.11.1 2.11.12 2.13.2",
        "IPv6 CAs, IPv6 PAs",
        passes(
            "red-a",
            frame(A.mac, D.mac, A.v6, D.v6, TCP_BODY),
            "underlay",
            tunnel(H1, H6, RED, frame(A.mac, D.mac, A.v6, D.v6, TCP_BODY), family=6),
        ),
    ),
    case(
        "push-routed",
        "2.6.4 2.11.8 2.11.9",
        "routed: the destination's VSID, its MAC, the router's MAC, TTL down",
        passes(
            "red-a",
            frame(A.mac, ROUTER, A.v4, F.v4),
            "underlay",
            tunnel(H1, H2, RED2, frame(ROUTER, F.mac, A.v4, F.v4, ttl=63)),
        ),
        passes(
            "red-a",
            frame(A.mac, ROUTER, A.v6, F.v6),
            "underlay",
            tunnel(H1, H2, RED2, frame(ROUTER, F.mac, A.v6, F.v6, ttl=63)),
        ),
    ),
    case(
        "push-other-mac",
        "2.11.7",
        "the inner destination MAC is the record's, whatever the tenant wrote",
        passes(
            "red-a",
            frame(A.mac, B.mac, A.v4, C.v4),
            "underlay",
            tunnel(H1, H2, RED, frame(A.mac, C.mac, A.v4, C.v4)),
        ),
    ),
    case(
        "push-off-link",
        "2.12.3",
        "a PA beyond the site goes by its gateway's MAC",
        passes(
            "green-a",
            frame(A.mac, C.mac, A.v4, C.v4),
            "underlay",
            tunnel(H1, FAR, GREEN, frame(A.mac, C.mac, A.v4, C.v4)),
        ),
    ),
    case(
        "push-foreign-host",
        "2.11.1",
        "to a host where isolane does not run",
        passes(
            "green-a",
            frame(A.mac, D.mac, A.v4, D.v4),
            "underlay",
            tunnel(H1, OVS, GREEN, frame(A.mac, D.mac, A.v4, D.v4)),
        ),
    ),
    case(
        "push-tos",
        "2.11.10",
        "the outer TOS or traffic class is the inner's, ECN bits too",
        *(
            passes("red-a", given, "underlay", tunnel(H1, H2, RED, given, tos=tos))
            for tos in (0x01, 0x02, 0x03, 0x28, 0xFF)
            for given in (
                frame(A.mac, C.mac, A.v4, C.v4, tos=tos),
                frame(A.mac, C.mac, A.v6, C.v6, tos=tos),
            )
        ),
        passes(
            "red-a",
            frame(A.mac, D.mac, A.v4, D.v4, tos=0xAB),
            "underlay",
            tunnel(H1, H6, RED, frame(A.mac, D.mac, A.v4, D.v4, tos=0xAB), family=6),
        ),
    ),
    case(
        "push-vlan",
        "1.1.3 2.1.3",
        "the tag stays behind (RFC 7637 section 3.3)",
        passes(
            "red-a",
            Ether(src=A.mac, dst=C.mac) / Dot1Q(vlan=7) / ip(A.v4, C.v4, UDP_BODY),
            "underlay",
            tunnel(H1, H2, RED, frame(A.mac, C.mac, A.v4, C.v4)),
        ),
    ),
    case(
        "push-padding",
        "1.3.5 2.11.1",
        "Ethernet padding is carried",
        passes(
            "red-a",
            bytes(frame(A.mac, C.mac, A.v4, C.v4, UDP())) + bytes(18),
            "underlay",
            tunnel(H1, H2, RED, bytes(frame(A.mac, C.mac, A.v4, C.v4, UDP())) + bytes(18)),
        ),
    ),
    case(
        "push-fragments",
        "2.13.5",
        "every fragment has the same one, without ports (RFC 7637 section 3.2)",
        *(
            passes("red-a", given, "underlay", tunnel(H1, H2, RED, given))
            for given in (
                *cut(frame(A.mac, C.mac, A.v4, C.v4, UDP(sport=7, dport=9) / Raw(bytes(3000))), 1400, 1400),
                *cut(frame(A.mac, C.mac, A.v6, C.v6, UDP(sport=7, dport=9) / Raw(bytes(3000))), 1400, 1400),
            )
        ),
    ),
    case(
        "push-flowid",
        "2.13.2",
        "differs by port, not by content",
        *(
            passes("red-a", given, "underlay", tunnel(H1, H2, RED, given))
            for given in (
                frame(A.mac, C.mac, A.v4, C.v4, UDP(sport=port, dport=53) / Raw(content))
                for port in (1, 2, 3)
                for content in (b"a", b"b")
            )
        ),
    ),
    case(
        "push-largest",
        "2.11.4",
        "an outer packet of the underlay's MTU passes, one byte more is too-big",
        *(
            passes("red-a", given, "underlay", tunnel(H1, H2, RED, given))
            for given in (frame(A.mac, C.mac, A.v4, C.v4, UDP() / Raw(bytes(1600 - 42 - 28))),)
        ),
        drops("red-a", frame(A.mac, C.mac, A.v4, C.v4, UDP() / Raw(bytes(1601 - 42 - 28))), "too-big"),
        *(
            passes("red-a", given, "underlay", tunnel(H1, H6, RED, given, family=6))
            for given in (frame(A.mac, D.mac, A.v4, D.v4, UDP() / Raw(bytes(1600 - 62 - 28))),)
        ),
        drops("red-a", frame(A.mac, D.mac, A.v4, D.v4, UDP() / Raw(bytes(1601 - 62 - 28))), "too-big"),
    ),
)
