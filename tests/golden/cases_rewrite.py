"""IP rewrite: each CA has a PA of its own, and nothing but addresses and checksums changes."""

from scapy.layers.inet import IP, UDP, in4_chksum
from scapy.layers.inet6 import (
    IPv6,
    IPv6ExtHdrDestOpt,
    in6_chksum,
)
from scapy.layers.l2 import Dot1Q, Ether
from scapy.layers.sctp import SCTP, SCTPChunkData
from scapy.packet import Packet, Raw
from scapy.utils import checksum

from tests.golden.table import Step, case, drops, passes
from tests.golden.world import (
    BLUE_A,
    BLUE_C,
    BLUE_E,
    BLUE_F,
    ECHO,
    ECHO6,
    GOLD_C,
    H1,
    H2,
    ROUTER,
    STRANGER,
    TCP_BODY,
    UDP_BODY,
    A,
    C,
    E,
    F,
    cut,
    frame,
    ip,
)

ZERO_UDP = UDP(sport=7, dport=9, chksum=0) / Raw(b"none")
BIG = UDP(sport=7, dport=9) / Raw(bytes(range(256)) * 12)


def both_ways(body: Packet, family: int) -> tuple[Step, Step]:
    """From blue-a to blue-c on h2, and back."""
    here, there = (A.v4, C.v4) if family == 4 else (A.v6, C.v6)
    pa_here, pa_there = (BLUE_A.v4, BLUE_C.v4) if family == 4 else (BLUE_A.v6, BLUE_C.v6)
    return (
        passes(
            "blue-a",
            frame(A.mac, C.mac, here, there, body),
            "underlay",
            frame(H1.mac, H2.mac, pa_here, pa_there, body),
        ),
        passes(
            "underlay",
            frame(H2.mac, H1.mac, pa_there, pa_here, body),
            "blue-a",
            frame(C.mac, A.mac, there, here, body),
        ),
    )


def summed(number: int, octets: bytes, *header: str, right: bool) -> Packet:
    """A frame around octets of another L4 protocol; their bytes 6 and 7 become the checksum."""
    whole = frame(*header, Raw(octets))
    if IP in whole:
        whole[IP].proto = number
        value = in4_chksum(number, whole[IP], octets)
    else:
        whole[IPv6].nh = number
        value = in6_chksum(number, whole[IPv6], octets)
    if right:
        whole[Raw].load = octets[:6] + value.to_bytes(2, "big") + octets[8:]
    return whole


def both_ways_of(number: int, octets: bytes, family: int, *, right: bool = True) -> tuple[Step, Step]:
    here, there = (A.v4, C.v4) if family == 4 else (A.v6, C.v6)
    pa_here, pa_there = (BLUE_A.v4, BLUE_C.v4) if family == 4 else (BLUE_A.v6, BLUE_C.v6)

    def made(*header: str) -> Packet:
        return summed(number, octets, *header, right=right)

    return (
        passes(
            "blue-a", made(A.mac, C.mac, here, there), "underlay", made(H1.mac, H2.mac, pa_here, pa_there)
        ),
        passes(
            "underlay", made(H2.mac, H1.mac, pa_there, pa_here), "blue-a", made(C.mac, A.mac, there, here)
        ),
    )


def optioned(from_mac: str, to_mac: str, source: str, destination: str, options: bytes) -> bytes:
    """With these bytes as IPv4 options, padded: scapy would not write all of them."""
    octets = bytes(frame(from_mac, to_mac, source, destination))
    options += bytes(-len(options) % 4)
    length = len(octets) - 14 + len(options)
    header = bytes((0x45 + len(options) // 4, 0)) + length.to_bytes(2, "big") + octets[18:24]
    header, rest = header + bytes(2), octets[26:34] + options
    return octets[:14] + header[:10] + checksum(header + rest).to_bytes(2, "big") + rest + octets[34:]


def fragments(family: int) -> list[Step]:
    """A datagram in three, both ways: its checksum is the whole's, in the first fragment alone."""
    here, there = (A.v4, C.v4) if family == 4 else (A.v6, C.v6)
    pa_here, pa_there = (BLUE_A.v4, BLUE_C.v4) if family == 4 else (BLUE_A.v6, BLUE_C.v6)
    out = zip(
        cut(frame(A.mac, C.mac, here, there, BIG), 1400, 1400),
        cut(frame(H1.mac, H2.mac, pa_here, pa_there, BIG), 1400, 1400),
        strict=True,
    )
    back = zip(
        cut(frame(H2.mac, H1.mac, pa_there, pa_here, BIG), 1400, 1400),
        cut(frame(C.mac, A.mac, there, here, BIG), 1400, 1400),
        strict=True,
    )
    return [
        *(passes("blue-a", given, "underlay", sent) for given, sent in out),
        *(passes("underlay", given, "blue-a", sent) for given, sent in back),
    ]


def shifted(checksum: int, old: tuple[str, ...], new: tuple[str, ...]) -> int:
    """RFC 1624: a wrong checksum after the addresses changed, wrong by as much."""

    def words(addresses: tuple[str, ...]) -> int:
        return sum(
            int(part) << (8 if i % 2 == 0 else 0) for a in addresses for i, part in enumerate(a.split("."))
        )

    total = (~checksum & 0xFFFF) - words(old) + words(new)
    return ~(total % 0xFFFF) & 0xFFFF


def wrong(source: str, destination: str, checksum: int) -> Packet:
    return ip(source, destination, UDP(sport=1, dport=2, chksum=checksum) / Raw(b"wrong"))


BOTH_WAYS = "2.10.1 2.10.7 2.10.8 3.5.10 3.5.11 3.5.12"
SCTP_BODY = SCTP(sport=5, dport=6, tag=7) / SCTPChunkData(data=b"chunk")

CASES = (
    *(
        case(f"rewrite-{name}-v{family}", BOTH_WAYS, text, *both_ways(body, family))
        for name, text, bodies in (
            ("tcp", "TCP both ways", (TCP_BODY, TCP_BODY)),
            ("udp", "UDP both ways", (UDP_BODY, UDP_BODY)),
            ("echo", "ping: only ICMPv6 counts addresses in its checksum", (ECHO, ECHO6)),
            ("sctp", "SCTP does not count addresses: nothing but the header changes", (SCTP_BODY, SCTP_BODY)),
        )
        for family, body in zip((4, 6), bodies, strict=True)
    ),
    *(
        case(
            f"rewrite-{name}-v{family}",
            "4.1.3 4.1.5",
            f"the checksum of {name} counts addresses; without one they alone change",
            *both_ways_of(number, head, family),
            *both_ways_of(number, head[:5], family, right=False),
        )
        for name, number, head in (
            ("udplite", 136, b"\x0f\xa0\x13\x88\0\0\0\0whole"),
            ("dccp", 33, b"\x0f\xa0\x13\x88\x04\0\0\0\x04\0\0\1data"),
        )
        for family in (4, 6)
    ),
    case(
        "rewrite-ip-options",
        "2.10.3 2.10.4 2.10.7 3.5.7",
        "no option that provider routers would heed or write into, none that can't be read",
        *(
            step
            for options in (
                b"\x83\x07\x04\xc0\xa8\x4d\x01",
                b"\x89\x07\x04\xc0\xa8\x4d\x01",
                b"\x07\x07\x04\0\0\0\0",
                b"\x01\x01\x01\x07\x03\x04",
                b"\x44\x08\x05\x01\0\0\0\0",
                b"\x94\x04\0\0\x44\x04\x05\x01",
                b"\x94\x00\0\0",
                b"\x94\x01\0\0",
                b"\x94\x05\0\0",
                b"\x01\x01\x01\x94",
            )
            for step in (
                drops("blue-a", optioned(A.mac, C.mac, A.v4, C.v4, options), "ip-options"),
                drops("underlay", optioned(H2.mac, H1.mac, BLUE_C.v4, BLUE_A.v4, options), "ip-options"),
            )
        ),
        *(
            passes(
                "blue-a",
                optioned(A.mac, C.mac, A.v4, C.v4, options),
                "underlay",
                optioned(H1.mac, H2.mac, BLUE_A.v4, BLUE_C.v4, options),
            )
            for options in (b"\x94\x04\0\0", b"\x01\x01\x01\x01", b"\x01\0\x83\x07")
        ),
    ),
    case("rewrite-udp-zero", "4.1.6", "UDP without a checksum stays without", *both_ways(ZERO_UDP, 4)),
    case(
        "rewrite-extension-v6",
        "4.1.1 4.1.3",
        "behind an extension header",
        *both_ways(IPv6ExtHdrDestOpt() / UDP_BODY, 6),
    ),
    case("rewrite-fragments-v4", "4.1.4", "later fragments: addresses alone", *fragments(4)),
    case("rewrite-fragments-v6", "4.1.4", "the same for IPv6", *fragments(6)),
    case(
        "rewrite-routed",
        "2.10.6 3.5.12 3.5.13",
        "TTL falls at our router, and not when it comes in; the router's MAC across subnets",
        passes(
            "blue-a",
            frame(A.mac, ROUTER, A.v4, F.v4),
            "underlay",
            frame(H1.mac, H2.mac, BLUE_A.v4, BLUE_F.v4, ttl=63),
        ),
        passes(
            "blue-a",
            frame(A.mac, ROUTER, A.v6, F.v6),
            "underlay",
            frame(H1.mac, H2.mac, BLUE_A.v6, BLUE_F.v6, ttl=63),
        ),
        passes(
            "underlay",
            frame(H2.mac, H1.mac, BLUE_F.v4, BLUE_A.v4, ttl=63),
            "blue-a",
            frame(ROUTER, A.mac, F.v4, A.v4, ttl=63),
        ),
        passes(
            "underlay",
            frame(H2.mac, H1.mac, BLUE_C.v6, BLUE_E.v6, ttl=1),
            "blue-e",
            frame(ROUTER, E.mac, C.v6, E.v6, ttl=1),
        ),
    ),
    case(
        "rewrite-vlan",
        "2.1.3",
        "the tag stays behind",
        passes(
            "blue-a",
            Ether(src=A.mac, dst=C.mac) / Dot1Q(vlan=7) / ip(A.v4, C.v4, UDP_BODY),
            "underlay",
            frame(H1.mac, H2.mac, BLUE_A.v4, BLUE_C.v4),
        ),
    ),
    case(
        "rewrite-wrong-checksum",
        "3.5.14 4.1.2",
        "a wrong checksum stays wrong by as much, both ways; the outer header is the tenant's",
        passes(
            "blue-a",
            Ether(src=A.mac, dst=C.mac) / wrong(A.v4, C.v4, 0x4321),
            "underlay",
            Ether(src=H1.mac, dst=H2.mac)
            / wrong(BLUE_A.v4, BLUE_C.v4, shifted(0x4321, (A.v4, C.v4), (BLUE_A.v4, BLUE_C.v4))),
        ),
        passes(
            "underlay",
            Ether(src=H2.mac, dst=H1.mac)
            / IP(src=BLUE_C.v4, dst=BLUE_A.v4, chksum=0x1111)
            / UDP(sport=1, dport=2, chksum=0),
            "blue-a",
            Ether(src=C.mac, dst=A.mac)
            / IP(src=C.v4, dst=A.v4, chksum=shifted(0x1111, (BLUE_C.v4, BLUE_A.v4), (C.v4, A.v4)))
            / UDP(sport=1, dport=2, chksum=0),
        ),
    ),
    case(
        "rewrite-largest",
        "2.10.5 3.5.9",
        "out by the underlay's MTU, in by the port's",
        passes(
            "blue-a",
            frame(A.mac, C.mac, A.v4, C.v4, UDP() / Raw(bytes(1600 - 28))),
            "underlay",
            frame(H1.mac, H2.mac, BLUE_A.v4, BLUE_C.v4, UDP() / Raw(bytes(1600 - 28))),
        ),
        drops("blue-a", frame(A.mac, C.mac, A.v4, C.v4, UDP() / Raw(bytes(1601 - 28))), "too-big"),
        drops(
            "underlay", frame(H2.mac, H1.mac, BLUE_C.v4, BLUE_A.v4, UDP() / Raw(bytes(1501 - 28))), "too-big"
        ),
    ),
    case(
        "rewrite-rdid",
        "3.5.4",
        "a PA of another VM network, though its CA is the same",
        drops("underlay", frame(H2.mac, H1.mac, GOLD_C.v4, BLUE_A.v4), "rewrite-rdid"),
        drops("underlay", frame(H2.mac, H1.mac, GOLD_C.v6, BLUE_A.v6), "rewrite-rdid"),
    ),
    case(
        "rewrite-source",
        "3.5.2",
        "only from a rewrite PA of another host: not a shared PA, not our own, nobody's",
        *(
            drops("underlay", frame(H2.mac, H1.mac, source, BLUE_A.v4), "rewrite-source")
            for source in (H2.v4, BLUE_E.v4, STRANGER.v4, H1.v4)
        ),
        drops("underlay", frame(H2.mac, H1.mac, STRANGER.v6, BLUE_A.v6), "rewrite-source"),
    ),
)
