"""What routers of the provider network say of rewritten packets, as the VM's gateway tells it."""

from collections.abc import Callable

from scapy.layers.inet import ICMP, IP, UDP, IPOption
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoReply,
    ICMPv6EchoRequest,
    ICMPv6PacketTooBig,
    ICMPv6ParamProblem,
    ICMPv6TimeExceeded,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
)
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw

from tests.golden.table import Step, case, drops, passes
from tests.golden.world import (
    BLUE_A,
    BLUE_B,
    BLUE_C,
    BLUE_E,
    BLUE_F,
    GATEWAY,
    GATEWAY6,
    GOLD_C,
    H1,
    H2,
    OVS,
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

ROUTER_MAC, NEAR, FAR, FAR6 = "02:00:00:00:77:fe", "192.168.77.1", "203.0.113.9", "2001:db8::9"
BIG = UDP(sport=7, dport=9) / Raw(bytes(range(256)) * 4)
APPENDED = bytes.fromhex("2000abcd 000c0f01 0001") + b"203.0.113.9"
Message = Callable[[bytes], Packet]
"""An error about these octets."""


def quote(source: str, destination: str, body: Packet = UDP_BODY, length: int | None = None) -> bytes:
    return bytes(ip(source, destination, body, ttl=1))[:length]


def said(octets: bytes, message: Packet | None = None, source: str = FAR, to: str = BLUE_A.v4) -> Packet:
    """By a router, to a PA."""
    v4 = message or ICMP(type=3, code=4, nexthopmtu=1400)
    v6 = message or ICMPv6PacketTooBig(mtu=1400)
    return frame(ROUTER_MAC, H1.mac, source, to, (v6 if ":" in to else v4) / Raw(octets), ttl=250)


def told(message: Message, expected: Message, body: Packet, length: int | None = None) -> tuple[Step, ...]:
    """IPv4 or IPv6 by the message; from the neighbouring subnet, too."""
    v4 = ICMP in message(b"")
    ends = (A.v4, C.v4) if v4 else (A.v6, C.v6)
    pas = (BLUE_A.v4, BLUE_C.v4) if v4 else (BLUE_A.v6, BLUE_C.v6)
    router, gateway = (FAR, GATEWAY) if v4 else (FAR6, GATEWAY6)
    return (
        passes(
            "underlay",
            frame(ROUTER_MAC, H1.mac, router, pas[0], message(quote(*pas, body, length)), ttl=250),
            "blue-a",
            frame(ROUTER, A.mac, gateway, ends[0], expected(quote(*ends, body, length)), ttl=250),
        ),
    )


def same(header: Packet, body: Packet = UDP_BODY, length: int | None = None) -> tuple[Step, ...]:
    return told(lambda octets: header / Raw(octets), lambda octets: header / Raw(octets), body, length)


def with_options() -> Packet:
    error = ICMP(type=3, code=4) / Raw(quote(BLUE_A.v4, BLUE_C.v4))
    header = IP(src=FAR, dst=BLUE_A.v4, options=[IPOption(b"\x07\x07\x08\xcb\x00\x71\x09\x00")])
    return Ether(src=ROUTER_MAC, dst=H1.mac) / header / error


def extended() -> Packet:
    error = ICMPv6DestUnreach() / Raw(quote(BLUE_A.v6, BLUE_C.v6))
    return Ether(src=ROUTER_MAC, dst=H1.mac) / IPv6(src=FAR6, dst=BLUE_A.v6) / IPv6ExtHdrDestOpt() / error


OURS, OURS6 = quote(BLUE_A.v4, BLUE_C.v4), quote(BLUE_A.v6, BLUE_C.v6)
BACK, ERROR6 = quote(BLUE_C.v4, BLUE_A.v4), ICMPv6DestUnreach() / Raw(quote(BLUE_C.v6, BLUE_A.v6))

CASES = (
    case(
        "router-says-v4",
        "4.8.1 4.8.7 4.8.8 4.8.9",
        "fragmentation needed, unreachable, time exceeded, with all or the least of a packet",
        *same(ICMP(type=3, code=4, nexthopmtu=1400)),
        *same(ICMP(type=3, code=1)),
        *same(ICMP(type=11), TCP_BODY),
        *same(ICMP(type=11), TCP_BODY, 28),
    ),
    case(
        "router-says-v6",
        "4.8.1 4.8.7 4.8.8 4.8.9",
        "packet too big, unreachable, time exceeded",
        *same(ICMPv6PacketTooBig(mtu=1400)),
        *same(ICMPv6DestUnreach(code=3)),
        *same(ICMPv6TimeExceeded(), TCP_BODY, 48),
    ),
    case(
        "router-says-other-subnet",
        "4.8.7 4.8.8",
        "the gateway is that of the subnet of who is told",
        passes(
            "underlay",
            said(quote(BLUE_E.v4, BLUE_C.v4), source=NEAR, to=BLUE_E.v4),
            "blue-e",
            frame(
                ROUTER,
                E.mac,
                "10.1.2.1",
                E.v4,
                ICMP(type=3, code=4, nexthopmtu=1400) / Raw(quote(E.v4, C.v4)),
                ttl=250,
            ),
        ),
        passes(
            "underlay",
            said(quote(BLUE_A.v6, BLUE_F.v6), source="fe80::77", to=BLUE_A.v6),
            "blue-a",
            frame(
                ROUTER,
                A.mac,
                GATEWAY6,
                A.v6,
                ICMPv6PacketTooBig(mtu=1400) / Raw(quote(A.v6, F.v6)),
                ttl=250,
            ),
        ),
    ),
    case(
        "router-appends",
        "4.8.5 4.8.6 4.8.9",
        "what a router tells about itself behind the quote does not reach a VM",
        *told(
            lambda octets: ICMP(type=11, length=32) / Raw(octets + APPENDED),
            lambda octets: ICMP(type=11) / Raw(octets),
            BIG,
            128,
        ),
        *told(
            lambda octets: ICMPv6TimeExceeded(length=16) / Raw(octets + APPENDED),
            lambda octets: ICMPv6TimeExceeded() / Raw(octets),
            BIG,
            128,
        ),
        *told(
            lambda octets: ICMP(type=3, code=4, nexthopmtu=1400) / Raw(octets),
            lambda octets: ICMP(type=3, code=4, nexthopmtu=1400) / Raw(octets[:128]),
            BIG,
        ),
        *told(
            lambda octets: ICMPv6PacketTooBig(mtu=0x12000578) / Raw(octets + b"odd"),
            lambda octets: ICMPv6PacketTooBig(mtu=0x12000578) / Raw(octets[:128]),
            BIG,
        ),
    ),
    case(
        "router-says-too-much",
        "3.5.2 4.8.1",
        "other messages; in fragments, behind options and extension headers; from what is no host, or a PA",
        *(drops("underlay", said(OURS, ICMP(type=kind)), "rewrite-source") for kind in (0, 4, 5, 12, 40)),
        drops("underlay", said(OURS6, ICMPv6ParamProblem(), FAR6, BLUE_A.v6), "rewrite-source"),
        drops("underlay", said(OURS6, ICMPv6EchoReply(), FAR6, BLUE_A.v6), "rewrite-source"),
        *(
            drops("underlay", one, "rewrite-source")
            for one in cut(said(quote(BLUE_A.v4, BLUE_C.v4, BIG)), 64)
        ),
        drops("underlay", with_options(), "rewrite-source"),
        drops("underlay", extended(), "rewrite-source"),
        *(
            drops("underlay", said(OURS, source=source), "rewrite-source")
            for source in ("127.0.0.1", "224.0.0.1", "0.0.0.0", H2.v4, H1.v4, OVS.v4, BLUE_B.v4, BLUE_A.v4)
        ),
    ),
    case(
        "router-quotes-error",
        "4.8.10",
        "of an error no router tells: the quote within would show PAs; of what it was sent about, any does",
        drops("underlay", said(quote(BLUE_A.v4, BLUE_C.v4, ICMP(type=3) / Raw(BACK))), "icmp-error"),
        drops("underlay", said(quote(BLUE_A.v6, BLUE_C.v6, ERROR6), source=FAR6, to=BLUE_A.v6), "icmp-error"),
        drops(
            "underlay",
            said(quote(BLUE_A.v6, BLUE_C.v6, IPv6ExtHdrFragment() / ERROR6), source=FAR6, to=BLUE_A.v6),
            "icmp-error",
        ),
        *same(ICMP(type=11), ICMP(type=8) / Raw(b"ping")),
        *same(ICMPv6TimeExceeded(), ICMPv6EchoRequest(data=b"ping")),
    ),
    case(
        "router-quotes-extension",
        "4.7.9 4.8.11",
        "behind extension headers a checksum would tell of PAs; behind a fragment header it is found",
        *(
            drops(
                "underlay",
                said(quote(BLUE_A.v6, BLUE_C.v6, headers / UDP_BODY), source=FAR6, to=BLUE_A.v6),
                "icmp-error",
            )
            for headers in (IPv6ExtHdrDestOpt(), IPv6ExtHdrFragment(m=1) / IPv6ExtHdrDestOpt())
        ),
        *same(ICMPv6PacketTooBig(mtu=1400), IPv6ExtHdrFragment(m=1, nh=17) / UDP_BODY),
        *same(ICMPv6PacketTooBig(mtu=1400), IPv6ExtHdrFragment(offset=1, nh=17) / Raw(bytes(range(40)))),
    ),
    case(
        "router-forged",
        "4.8.3 4.8.4",
        "a stranger who does not know what a VM has sent tells it nothing",
        *(
            drops("underlay", said(octets), "icmp-error")
            for octets in (
                b"",
                bytes(28),
                OURS[:27],
                quote(BLUE_B.v4, BLUE_C.v4),
                quote(BLUE_C.v4, BLUE_A.v4),
                quote(A.v4, C.v4),
                quote(BLUE_A.v4, BLUE_B.v4),
                quote(BLUE_A.v4, GOLD_C.v4),
                quote(BLUE_A.v4, H2.v4),
                quote(BLUE_A.v4, STRANGER.v4),
            )
        ),
        *(
            drops("underlay", said(octets, source=FAR6, to=BLUE_A.v6), "icmp-error")
            for octets in (OURS6[:47], quote(BLUE_A.v6, GOLD_C.v6), quote(BLUE_E.v6, BLUE_C.v6))
        ),
    ),
)
