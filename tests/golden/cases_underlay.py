"""The underlay: who it answers, and what it leaves alone."""

from scapy.layers.inet import ICMP
from scapy.layers.inet6 import IPv6ExtHdrFragment
from scapy.layers.l2 import Dot1Q, Ether
from scapy.packet import Packet, Raw

from tests.golden.table import answers, case, drops, ends
from tests.golden.world import (
    BLUE_A,
    BLUE_C,
    BROADCAST,
    ECHO,
    ECHO6,
    ECHO6_REPLY,
    ECHO_REPLY,
    FAR,
    H1,
    H2,
    RED,
    STRANGER,
    TCP_BODY,
    UDP_BODY,
    A,
    C,
    Host,
    arp,
    cut,
    frame,
    na,
    ns,
    tunnel,
)

NOBODY = "00:00:00:00:00:00"
ALL_NODES = ("33:33:00:00:00:01", "ff02::1")
INNER = frame(C.mac, A.mac, C.v4, A.v4)
TUNNEL = tunnel(H2, H1, RED, INNER)
REWRITTEN = frame(H2.mac, H1.mac, BLUE_C.v4, BLUE_A.v4)


def to_us(source: Host, destination: str, body: Packet, **header: int) -> Packet:
    """A plain packet to one of our PAs."""
    return frame(
        source.mac, H1.mac, source.v6 if ":" in destination else source.v4, destination, body, **header
    )


def back(to: Host, source: str, body: Packet) -> Packet:
    return frame(H1.mac, to.mac, source, to.v6 if ":" in source else to.v4, body)


def by_group(given: Packet) -> bytes:
    return altered(given, 0, bytes.fromhex(BROADCAST.replace(":", "")))


def altered(given: Packet, at: int, octets: bytes) -> bytes:
    whole = bytearray(bytes(given))
    whole[at : at + len(octets)] = octets
    return bytes(whole)


CASES = (
    case(
        "pa-ping",
        "3.5.1 3.6.4 3.7.4",
        "a PA answers, shared or rewrite, whoever asks, to the MAC it came from",
        answers("underlay", to_us(H2, H1.v4, ECHO), back(H2, H1.v4, ECHO_REPLY)),
        answers("underlay", to_us(H2, H1.v6, ECHO6), back(H2, H1.v6, ECHO6_REPLY)),
        answers("underlay", to_us(STRANGER, H1.v4, ECHO, ttl=1), back(STRANGER, H1.v4, ECHO_REPLY)),
        answers("underlay", to_us(FAR, H1.v4, ECHO), back(FAR, H1.v4, ECHO_REPLY)),
        answers("underlay", to_us(STRANGER, BLUE_A.v4, ECHO), back(STRANGER, BLUE_A.v4, ECHO_REPLY)),
        answers("underlay", to_us(H2, BLUE_A.v6, ECHO6), back(H2, BLUE_A.v6, ECHO6_REPLY)),
    ),
    case(
        "pa-protocol",
        "3.6.5",
        "a shared PA takes GRE and ping only",
        *(
            drops("underlay", to_us(H2, H1.v4, body), "pa-protocol")
            for body in (TCP_BODY, UDP_BODY, ECHO_REPLY, ICMP(type=3))
        ),
        drops("underlay", to_us(H2, H1.v6, TCP_BODY), "pa-protocol"),
    ),
    case(
        "pa-ping-forged",
        "3.1.3 3.7.1 3.7.2",
        "no ping is answered whose source is no other host's, nor one for a group's MAC",
        *(
            drops("underlay", frame(STRANGER.mac, H1.mac, source, pa, ECHO), "pa-protocol")
            for pa in (H1.v4, BLUE_A.v4)
            for source in ("0.0.0.0", "127.0.0.1", "224.0.0.1", "255.255.255.255", H1.v4, BLUE_A.v4)
        ),
        *(
            drops("underlay", frame(STRANGER.mac, H1.mac, source, pa, ECHO6), "pa-protocol")
            for pa in (H1.v6, BLUE_A.v6)
            for source in ("::", "::1", "ff02::1", H1.v6, BLUE_A.v6)
        ),
        drops("underlay", frame(H2.mac, BROADCAST, H2.v4, H1.v4, ECHO), "underlay-dst-mac"),
        drops("underlay", frame(H2.mac, ALL_NODES[0], H2.v6, H1.v6, ECHO6), "underlay-dst-mac"),
    ),
    case(
        "outer-checksum",
        "3.6.1",
        "the outer IPv4 header checksum is verified",
        drops("underlay", altered(TUNNEL, 24, b"\xba\xad"), "outer-checksum"),
        drops("underlay", altered(TUNNEL, 22, b"\x3f"), "outer-checksum"),
        drops("underlay", altered(to_us(H2, H1.v4, ECHO), 24, b"\0\0"), "outer-checksum"),
    ),
    case(
        "outer-fragment",
        "3.6.2",
        "no fragment is accepted, first, last or atomic",
        *(drops("underlay", given, "outer-fragment") for given in cut(TUNNEL, 40)),
        *(drops("underlay", given, "outer-fragment") for given in cut(to_us(H2, H1.v6, UDP_BODY), 16)),
        drops(
            "underlay", to_us(H2, H1.v6, IPv6ExtHdrFragment(nh=47, id=1) / Raw(b"atomic")), "outer-fragment"
        ),
    ),
    case(
        "underlay-not-ours",
        "3.4.1",
        "what is not for one of our PAs is not answered",
        drops("underlay", to_us(H2, H2.v4, ECHO), "underlay-not-ours"),
        drops("underlay", to_us(H2, "192.168.77.200", TCP_BODY), "underlay-not-ours"),
        drops("underlay", to_us(H2, H2.v6, ECHO6), "underlay-not-ours"),
    ),
    case(
        "underlay-dst-mac",
        "3.1.3",
        "to somebody else's MAC, and by a group's what is neither ARP nor ND",
        drops("underlay", frame(H2.mac, STRANGER.mac, H2.v4, H1.v4, ECHO), "underlay-dst-mac"),
        drops("underlay", arp(1, (H2.mac, H2.v4), (NOBODY, H1.v4), STRANGER.mac), "underlay-dst-mac"),
        drops("underlay", frame(H2.mac, BROADCAST, H2.v4, "192.168.77.255"), "underlay-dst-mac"),
        *(
            drops("underlay", by_group(given), "underlay-dst-mac")
            for given in (TUNNEL, tunnel(H2, H1, RED, INNER, family=6), REWRITTEN)
        ),
    ),
    case(
        "underlay-src-mac",
        "3.1.4",
        "nothing comes from a group's MAC, and nothing is answered to one",
        drops("underlay", arp(1, (BROADCAST, H2.v4), (NOBODY, H1.v4)), "underlay-src-mac"),
        drops("underlay", frame(BROADCAST, H1.mac, H2.v4, H1.v4, ECHO), "underlay-src-mac"),
        drops("underlay", frame(ALL_NODES[0], H1.mac, H2.v6, H1.v6, ECHO6), "underlay-src-mac"),
        drops("underlay", ns(ALL_NODES[0], H2.v6, H1.v6), "underlay-src-mac"),
        drops("underlay", altered(TUNNEL, 6, b"\x03"), "underlay-src-mac"),
        drops("underlay", altered(REWRITTEN, 6, b"\x03"), "underlay-src-mac"),
    ),
    case(
        "underlay-vlan",
        "3.1.2",
        "no tags on the underlay",
        drops("underlay", Ether(src=H2.mac, dst=H1.mac) / Dot1Q(vlan=1) / TUNNEL.payload, "underlay-vlan"),
    ),
    case(
        "underlay-arp",
        "3.2.6",
        "requests for our PAs are answered with the underlay's MAC",
        *(
            answers(
                "underlay",
                arp(1, (asker.mac, asker.v4), (NOBODY, target)),
                arp(2, (H1.mac, target), (asker.mac, asker.v4), asker.mac),
            )
            for asker, target in ((H2, H1.v4), (STRANGER, H1.v4), (STRANGER, BLUE_A.v4))
        ),
        answers(
            "underlay",
            arp(1, (STRANGER.mac, "0.0.0.0"), (NOBODY, H1.v4)),
            arp(2, (H1.mac, H1.v4), (STRANGER.mac, "0.0.0.0"), STRANGER.mac),
        ),
    ),
    case(
        "underlay-arp-other",
        "3.2.4 3.2.5 3.2.7",
        "ARP that is none of our business, unless a next hop speaks",
        drops("underlay", arp(1, (STRANGER.mac, STRANGER.v4), (NOBODY, H2.v4)), "underlay-not-ours"),
        drops("underlay", arp(2, (STRANGER.mac, STRANGER.v4), (BROADCAST, STRANGER.v4)), "underlay-not-ours"),
        ends("underlay", arp(1, (H2.mac, H2.v4), (NOBODY, "192.168.77.1"))),
        ends("underlay", arp(2, (H2.mac, H2.v4), (H1.mac, H1.v4), H1.mac)),
    ),
    case(
        "underlay-nd",
        "3.3.3",
        "solicitations for our PAs are answered, we are no router",
        answers("underlay", ns(H2.mac, H2.v6, H1.v6), na(H1.mac, H1.v6, H2.mac, H2.v6)),
        answers(
            "underlay",
            ns(STRANGER.mac, STRANGER.v6, BLUE_A.v6),
            na(H1.mac, BLUE_A.v6, STRANGER.mac, STRANGER.v6),
        ),
        answers(
            "underlay",
            ns(STRANGER.mac, "::", H1.v6, option=False),
            na(H1.mac, H1.v6, *ALL_NODES, solicited=0),
        ),
    ),
    case(
        "underlay-nd-other",
        "3.3.1 3.3.2 3.3.5",
        "other neighbour discovery",
        drops("underlay", ns(H2.mac, H2.v6, STRANGER.v6), "underlay-not-ours"),
        drops("underlay", ns(H2.mac, H2.v6, H1.v6, hlim=64), "nd-malformed"),
        drops("underlay", na(STRANGER.mac, STRANGER.v6, *ALL_NODES, solicited=0), "underlay-not-ours"),
        ends("underlay", na(H2.mac, H2.v6, H1.mac, H1.v6)),
    ),
)
