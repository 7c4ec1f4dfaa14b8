"""ICMP errors by IP rewrite: the packet that they quote is translated with them, both ways."""

from collections.abc import Callable

from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6PacketTooBig,
    ICMPv6ParamProblem,
    ICMPv6TimeExceeded,
    ICMPv6Unknown,
    IPv6,
    IPv6ExtHdrDestOpt,
)
from scapy.packet import Packet, Raw

from tests.golden.table import Step, case, drops, passes
from tests.golden.world import (
    BLUE_A,
    BLUE_B,
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
    B,
    C,
    F,
    Pa,
    Vm,
    frame,
    ip,
)

Message = Callable[[bytes], Packet]
"""An error about these octets."""


def unreachable(family: int, octets: bytes) -> Packet:
    return (ICMP(type=3, code=3) if family == 4 else ICMPv6DestUnreach(code=4)) / Raw(octets)


def quote(source: str, destination: str, body: Packet, length: int | None = None) -> bytes:
    """The first octets of a packet, with its checksums."""
    return bytes(ip(source, destination, body, ttl=1))[:length]


def told(
    family: int, body: Packet, length: int | None = None, message: Message | None = None
) -> tuple[Step, ...]:
    """blue-a tells blue-c of a packet that came from there, and the other way round; and across subnets."""
    about = message or (lambda octets: unreachable(family, octets))

    def error(macs: tuple[str, str], teller: Vm | Pa, told: Vm | Pa, ttl: int = 64) -> Packet:
        here, there = (teller.v4, told.v4) if family == 4 else (teller.v6, told.v6)
        return frame(*macs, here, there, about(quote(there, here, body, length)), ttl=ttl)

    return (
        passes("blue-a", error((A.mac, C.mac), A, C), "underlay", error((H1.mac, H2.mac), BLUE_A, BLUE_C)),
        passes("underlay", error((H2.mac, H1.mac), BLUE_C, BLUE_A), "blue-a", error((C.mac, A.mac), C, A)),
        passes(
            "blue-a",
            error((A.mac, ROUTER), A, F),
            "underlay",
            error((H1.mac, H2.mac), BLUE_A, BLUE_F, ttl=63),
        ),
    )


def optioned(source: str, destination: str) -> bytes:
    return bytes(IP(src=source, dst=destination, options=[IPOption(b"\x94\x04\0\0")]) / UDP_BODY)


def later(source: str, destination: str) -> bytes:
    return bytes(IP(src=source, dst=destination, frag=100, proto=17) / Raw(bytes(range(40))))


def made4(error: Callable[[str, str], bytes]) -> tuple[Step, ...]:
    """A quote by other means, out and in."""
    return (
        passes(
            "blue-a",
            frame(A.mac, C.mac, A.v4, C.v4, unreachable(4, error(C.v4, A.v4))),
            "underlay",
            frame(H1.mac, H2.mac, BLUE_A.v4, BLUE_C.v4, unreachable(4, error(BLUE_C.v4, BLUE_A.v4))),
        ),
        passes(
            "underlay",
            frame(H2.mac, H1.mac, BLUE_C.v4, BLUE_A.v4, unreachable(4, error(BLUE_A.v4, BLUE_C.v4))),
            "blue-a",
            frame(C.mac, A.mac, C.v4, A.v4, unreachable(4, error(A.v4, C.v4))),
        ),
    )


def extended(source: str, destination: str) -> bytes:
    """Behind an extension header the checksum stays that of the CAs."""
    octets = bytearray(bytes(IPv6(src=A.v6, dst=C.v6) / IPv6ExtHdrDestOpt() / UDP_BODY))
    octets[8:40] = bytes(IPv6(src=source, dst=destination))[8:40]
    return bytes(octets)


def off(whole: Packet, at: int) -> bytes:
    """With a checksum that is wrong by one; `at`: its place in the frame."""
    octets = bytearray(bytes(whole))
    value = int.from_bytes(octets[at : at + 2], "big")
    octets[at : at + 2] = ((value + 1) % 0xFFFF).to_bytes(2, "big")
    return bytes(octets)


HALF_TCP = TCP(sport=7, dport=9, chksum=0x1234)
ZERO_UDP = UDP(sport=7, dport=9, chksum=0) / Raw(b"none")
ERROR4, QUOTE4 = 14 + 20 + 2, 14 + 20 + 8
FROM_C, FROM_C_PA = quote(C.v4, A.v4, UDP_BODY), quote(BLUE_C.v4, BLUE_A.v4, UDP_BODY)
FROM_A_PA = quote(BLUE_A.v4, BLUE_C.v4, UDP_BODY)


def out4(octets: bytes, **header: int) -> Packet:
    return frame(A.mac, C.mac, A.v4, C.v4, ICMP(**{"type": 3, "code": 3, **header}) / Raw(octets))


def in4(octets: bytes, **header: int) -> Packet:
    return frame(H2.mac, H1.mac, BLUE_C.v4, BLUE_A.v4, ICMP(**{"type": 3, "code": 3, **header}) / Raw(octets))


def out6(octets: bytes, message: Packet | None = None) -> Packet:
    return frame(A.mac, C.mac, A.v6, C.v6, (message or ICMPv6DestUnreach()) / Raw(octets))


def in6(octets: bytes, message: Packet | None = None) -> Packet:
    return frame(H2.mac, H1.mac, BLUE_C.v6, BLUE_A.v6, (message or ICMPv6DestUnreach()) / Raw(octets))


CASES = (
    *(
        case(
            f"quote-{name}-v{family}",
            "2.10.2 3.5.6 4.7.6 4.7.7 4.7.8 4.7.11",
            text,
            *told(family, body, length),
        )
        for name, text, bodies, lengths in (
            ("udp", "port unreachable, with all of the datagram", (UDP_BODY, UDP_BODY), (None, None)),
            ("tcp", "of TCP so much that its checksum is there", (TCP_BODY, TCP_BODY), (20 + 18, 40 + 18)),
            ("tcp-cut", "of TCP the least: no checksum to follow", (TCP_BODY, TCP_BODY), (28, 48)),
            ("tcp-half", "one byte of a checksum is none", (HALF_TCP, HALF_TCP), (20 + 17, 40 + 17)),
            ("echo", "a ping: only ICMPv6 counts addresses", (ECHO, ECHO6), (None, None)),
        )
        for family, body, length in zip((4, 6), bodies, lengths, strict=True)
    ),
    case("quote-udp-zero", "4.1.6 4.7.8", "no checksum in the quote stays none", *told(4, ZERO_UDP)),
    case(
        "quote-types",
        "2.10.2 3.5.6 4.7.11",
        "every error but a redirect, its own fields as they were",
        *(
            step
            for kind, fields in ((3, {"code": 4, "nexthopmtu": 1400}), (4, {}), (11, {}), (12, {"ptr": 9}))
            for step in told(
                4, UDP_BODY, message=lambda octets, k=kind, f=fields: ICMP(type=k, **f) / Raw(octets)
            )
        ),
        *(
            step
            for kind in (
                ICMPv6DestUnreach(code=1),
                ICMPv6PacketTooBig(mtu=1400),
                ICMPv6TimeExceeded(),
                ICMPv6ParamProblem(ptr=40),
            )
            for step in told(6, UDP_BODY, message=lambda octets, k=kind: k / Raw(octets))
        ),
    ),
    case("quote-options", "4.7.6 4.7.7 4.7.8", "IPv4 options in the quote", *made4(optioned)),
    case("quote-later-fragment", "4.7.9", "a later fragment has no checksum", *made4(later)),
    case(
        "quote-extension-v6",
        "4.7.10",
        "behind an extension header nothing follows",
        passes(
            "blue-a",
            out6(extended(C.v6, A.v6)),
            "underlay",
            frame(
                H1.mac,
                H2.mac,
                BLUE_A.v6,
                BLUE_C.v6,
                ICMPv6DestUnreach() / Raw(extended(BLUE_C.v6, BLUE_A.v6)),
            ),
        ),
        passes(
            "underlay",
            in6(extended(BLUE_A.v6, BLUE_C.v6)),
            "blue-a",
            frame(C.mac, A.mac, C.v6, A.v6, ICMPv6DestUnreach() / Raw(extended(A.v6, C.v6))),
        ),
    ),
    case(
        "quote-wrong-checksums",
        "4.7.7 4.7.8 4.7.11",
        "what is wrong stays wrong by as much: the error's own, the quoted header's, the quoted UDP's",
        *(
            passes("blue-a", off(out4(FROM_C), at), "underlay", off(told_c, at))
            for told_c in (frame(H1.mac, H2.mac, BLUE_A.v4, BLUE_C.v4, unreachable(4, FROM_C_PA)),)
            for at in (ERROR4, QUOTE4 + 10, QUOTE4 + 26)
        ),
    ),
    case(
        "quote-another-remote",
        "4.7.6",
        "told by one VM of a packet that went to another of its network",
        passes(
            "underlay",
            frame(H2.mac, H1.mac, BLUE_F.v4, BLUE_A.v4, unreachable(4, FROM_A_PA)),
            "blue-a",
            frame(ROUTER, A.mac, F.v4, A.v4, unreachable(4, quote(A.v4, C.v4, UDP_BODY))),
        ),
    ),
    case(
        "quote-redirect",
        "4.7.1",
        "redirects, and what is no error that IPv6 has",
        drops("blue-a", out4(FROM_C, type=5), "icmp-error"),
        drops("underlay", in4(FROM_A_PA, type=5), "icmp-error"),
        *(
            drops(
                port, made(quote(*ends, UDP_BODY), ICMPv6Unknown(type=kind, msgbody=bytes(4))), "icmp-error"
            )
            for kind in (0, 5, 100, 127)
            for port, made, ends in (
                ("blue-a", out6, (C.v6, A.v6)),
                ("underlay", in6, (BLUE_A.v6, BLUE_C.v6)),
            )
        ),
    ),
    case(
        "quote-malformed",
        "4.7.2 4.7.3",
        "another family's, a header that is none, too short",
        *(
            drops(port, made(octets), "icmp-error")
            for port, made, whole in (("blue-a", out4, FROM_C), ("underlay", in4, FROM_A_PA))
            for octets in (
                bytes(28),
                b"\x65" + whole[1:],
                b"\x44" + whole[1:],
                b"\x40" + whole[1:],
                b"\x4a" + whole[1:],
                whole[:27],
                whole[:20],
                b"",
                optioned(C.v4, A.v4)[:31],
            )
        ),
        *(
            drops(port, made(octets), "icmp-error")
            for port, made, whole in (
                ("blue-a", out6, quote(C.v6, A.v6, UDP_BODY)),
                ("underlay", in6, quote(BLUE_A.v6, BLUE_C.v6, UDP_BODY)),
            )
            for octets in (bytes(48), b"\x45" + whole[1:], whole[:47], whole[:40], b"")
        ),
    ),
    case(
        "quote-forged-source",
        "4.7.4",
        "only who has sent it is told: not another VM, not what the quote could not be from",
        *(
            drops("blue-a", out4(quote(source, A.v4, UDP_BODY)), "icmp-error")
            for source in (B.v4, F.v4, A.v4, BLUE_C.v4, "203.0.113.5")
        ),
        *(
            drops("underlay", in4(quote(source, BLUE_C.v4, UDP_BODY)), "icmp-error")
            for source in (BLUE_B.v4, BLUE_E.v4, BLUE_C.v4, A.v4, STRANGER.v4)
        ),
        drops("blue-a", out6(quote(B.v6, A.v6, UDP_BODY)), "icmp-error"),
        drops("underlay", in6(quote(BLUE_E.v6, BLUE_C.v6, UDP_BODY)), "icmp-error"),
    ),
    case(
        "quote-forged-destination",
        "4.7.5",
        "of what came to the VM alone; in, of what went to a VM of its network elsewhere",
        *(
            drops("blue-a", out4(quote(C.v4, destination, UDP_BODY)), "icmp-error")
            for destination in (B.v4, C.v4, F.v4, BLUE_A.v4, "203.0.113.5")
        ),
        *(
            drops("underlay", in4(quote(BLUE_A.v4, destination, UDP_BODY)), "icmp-error")
            for destination in (GOLD_C.v4, BLUE_B.v4, BLUE_A.v4, H2.v4, STRANGER.v4, C.v4)
        ),
        drops("blue-a", out6(quote(C.v6, B.v6, UDP_BODY)), "icmp-error"),
        drops("underlay", in6(quote(BLUE_A.v6, GOLD_C.v6, UDP_BODY)), "icmp-error"),
    ),
)
