"""From a tenant port to nowhere: what the router tells of it, and what it keeps to itself."""

from scapy.layers.inet import ICMP, IP, UDP, IPerror, IPOption_NOP
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6ParamProblem,
    IPerror6,
    IPv6,
)
from scapy.layers.l2 import Dot1Q, Ether
from scapy.packet import Packet, Raw

from tests.golden.table import Step, case, drops, passes, refuses
from tests.golden.world import (
    BROADCAST,
    ECHO,
    EXCEEDED,
    EXCEEDED6,
    GATEWAY,
    GATEWAY6,
    H1,
    H2,
    NO_HOST,
    NO_HOST6,
    NO_NET,
    NO_NET6,
    NO_PORT,
    NO_PORT6,
    RED,
    ROUTER,
    UDP_BODY,
    A,
    B,
    C,
    D,
    E,
    F,
    cut,
    frame,
    told,
    too_big,
    tunnel,
)

NOWHERE, NOWHERE6 = "10.9.9.9", "fd00:9::9"
NO_PROTOCOL = ICMP(type=3, code=2)


def unknown(pointer: int) -> Packet:
    """The next header at an offset is none that the gateway knows."""
    return ICMPv6ParamProblem(code=1, ptr=pointer)


def refused(given: Packet | bytes, reason: str, message: Packet, port: str = "red-a") -> Step:
    """In subnet 1, whose gateway says so."""
    gateway = GATEWAY if bytes(given)[12:14] == b"\x08\x00" else GATEWAY6
    return refuses(port, given, reason, told(given, gateway, message))


def sized(to_mac: str, source: str, destination: str, size: int, *, df: bool = True) -> Packet:
    """A UDP datagram in an IP packet of so many bytes, from A or E."""
    from_mac = A.mac if source in A else E.mac
    if ":" in source:
        packet = IPv6(src=source, dst=destination) / UDP() / Raw(bytes(size - 48))
    else:
        packet = IP(src=source, dst=destination, flags="DF" if df else 0) / UDP() / Raw(bytes(size - 28))
    return Ether(src=from_mac, dst=to_mac) / packet


def last_hop(body: Packet, v6: bool = False) -> Packet:
    """To the other subnet, with a TTL of 1."""
    return frame(A.mac, ROUTER, A.v6 if v6 else A.v4, E.v6 if v6 else E.v4, body, ttl=1)


def at_gateway6(*chain: tuple[int, bytes]) -> Packet:
    """Extension headers, by number and bytes behind the first, and behind them what no gateway knows."""
    numbers = [*(number for number, _ in chain), 253]
    headers = b"".join(bytes([after]) + rest for (_, rest), after in zip(chain, numbers[1:], strict=True))
    ip6 = IPv6(src=A.v6, dst=GATEWAY6, nh=numbers[0])
    return Ether(src=A.mac, dst=ROUTER) / ip6 / Raw(headers + b"experiment")


HOP_BY_HOP, DESTINATION = (0, bytes([0, 1, 4]) + bytes(4)), (60, bytes([1, 1, 12]) + bytes(12))
AUTHENTICATION, ATOMIC = (51, bytes([4]) + bytes(22)), (44, bytes(7))
LONG, LONG6 = UDP_BODY / Raw(bytes(range(250)) * 6), UDP_BODY / Raw(bytes(range(250)) * 6)
LATER = cut(last_hop(UDP() / Raw(bytes(64))), 32)
LATER6 = cut(last_hop(UDP() / Raw(bytes(64)), v6=True), 32)
QUOTED, QUOTED6 = IPerror(src=E.v4, dst=A.v4) / UDP(), IPerror6(src=E.v6, dst=A.v6) / UDP()
PADDED = frame(A.mac, C.mac, A.v4, C.v4, UDP() / Raw(bytes(1500 - 28)))
TO_NOWHERE = frame(A.mac, ROUTER, A.v4, NOWHERE)
TOLD_AT_ONCE = 72
"""Frames come a millisecond apart: in 72 of them the bucket of 64 fills by 7, and is empty."""

TELLS = (
    case(
        "error-other-subnet",
        "2.6.3 2.6.6 2.7.4 2.8.1 2.15.1 2.15.2 2.15.3 2.15.16 2.15.20",
        "the gateway of the VM's own subnet says it, whatever the destination",
        refuses(
            "red-e",
            given := frame(E.mac, ROUTER, E.v4, A.v4, ttl=1),
            "ttl-exceeded",
            told(given, "10.1.2.1", EXCEEDED),
        ),
        refuses(
            "red-e",
            given := frame(E.mac, ROUTER, E.v6, A.v6, ttl=0),
            "ttl-exceeded",
            told(given, "fd00:1:2::1", EXCEEDED6),
        ),
        refuses(
            "red-e",
            given := frame(E.mac, ROUTER, E.v6, NOWHERE6),
            "no-route",
            told(given, "fd00:1:2::1", NO_NET6),
        ),
        refuses(
            "red-e",
            given := frame(E.mac, ROUTER, E.v4, "10.1.1.99"),
            "no-record",
            told(given, "10.1.2.1", NO_HOST),
        ),
        refuses(
            "red-e",
            given := frame(E.mac, ROUTER, E.v4, GATEWAY),
            "router-local",
            told(given, "10.1.2.1", NO_PORT),
        ),
    ),
    case(
        "error-remote",
        "2.6.6 2.8.1 2.15.1 2.15.3",
        "on the way to other hosts, by NVGRE and by rewrite; also within a subnet, if by the router",
        refused(frame(A.mac, ROUTER, A.v4, F.v4, ttl=1), "ttl-exceeded", EXCEEDED),
        refused(frame(A.mac, ROUTER, A.v6, F.v6, ttl=1), "ttl-exceeded", EXCEEDED6, "blue-a"),
        refused(frame(A.mac, ROUTER, A.v4, C.v4, ttl=1), "ttl-exceeded", EXCEEDED, "gold-a"),
        refused(frame(A.mac, ROUTER, A.v6, "fd00:1:1::99"), "no-record", NO_HOST6, "blue-a"),
    ),
    case(
        "error-link-local",
        "2.7.4 2.15.4",
        "fe80::1 is the router too",
        refused(frame(A.mac, ROUTER, A.v6, "fe80::1"), "router-local", NO_PORT6),
    ),
    case(
        "error-appliance",
        "2.6.3 2.15.2 2.15.17",
        "what an appliance has forwarded: its own gateway says it, to the sender behind it",
        refuses(
            "red-a",
            given := frame(A.mac, ROUTER, "172.16.9.9", NOWHERE),
            "no-route",
            told(given, GATEWAY, NO_NET),
        ),
    ),
    case(
        "error-protocol",
        "2.7.4 2.15.5 2.15.6",
        "a protocol that no gateway knows; ICMP is known, and there may be none",
        refused(
            Ether(src=A.mac, dst=ROUTER) / IP(src=A.v4, dst=GATEWAY, proto=253), "router-local", NO_PROTOCOL
        ),
        refused(
            Ether(src=A.mac, dst=ROUTER) / IP(src=A.v4, dst=GATEWAY, proto=58) / Raw(b"in IPv4"),
            "router-local",
            NO_PROTOCOL,
        ),
        refused(at_gateway6(), "router-local", unknown(6)),
        refused(at_gateway6(HOP_BY_HOP), "router-local", unknown(40)),
        refused(at_gateway6(DESTINATION, AUTHENTICATION), "router-local", unknown(56)),
        refused(at_gateway6(AUTHENTICATION, ATOMIC), "router-local", unknown(64)),
        drops("red-a", Ether(src=A.mac, dst=ROUTER) / IPv6(src=A.v6, dst=GATEWAY6, nh=59), "router-local"),
        drops("red-a", frame(A.mac, ROUTER, A.v4, GATEWAY, ICMP(type=15)), "router-local"),
    ),
)

SIZES = (
    case(
        "error-mtu-nvgre",
        "2.11.4 2.15.7 2.15.8 2.15.9",
        "1,600 less the outer header, of IPv4 or IPv6, and the inner Ethernet header",
        refused(sized(C.mac, A.v4, C.v4, 1559), "too-big", too_big(1558)),
        refused(sized(C.mac, A.v6, C.v6, 1559), "too-big", too_big(1558, 6)),
        refused(sized(D.mac, A.v4, D.v4, 1539), "too-big", too_big(1538)),
        refused(sized(D.mac, A.v6, D.v6, 1539), "too-big", too_big(1538, 6)),
        refused(sized(ROUTER, A.v4, F.v4, 1559), "too-big", too_big(1558)),
        refused(sized(ROUTER, A.v6, F.v6, 1559), "too-big", too_big(1558, 6)),
        drops("red-a", sized(C.mac, A.v4, C.v4, 1559, df=False), "too-big"),
    ),
    case(
        "error-mtu-rewrite",
        "2.10.5 2.15.7 2.15.8 2.15.9",
        "the underlay's own",
        refused(sized(C.mac, A.v4, C.v4, 1601), "too-big", too_big(1600), "blue-a"),
        refused(sized(ROUTER, A.v6, F.v6, 1601), "too-big", too_big(1600, 6), "blue-a"),
        drops("blue-a", sized(C.mac, A.v4, C.v4, 1601, df=False), "too-big"),
    ),
    case(
        "error-mtu-local",
        "2.9.3 2.15.7 2.15.8 2.15.9",
        "the port's; a routed packet is quoted with the TTL that it had",
        refused(sized(B.mac, A.v4, B.v4, 1501), "too-big", too_big(1500)),
        refused(sized(ROUTER, A.v4, E.v4, 1501), "too-big", too_big(1500)),
        refused(sized(ROUTER, A.v6, E.v6, 1501), "too-big", too_big(1500, 6)),
        drops("red-a", sized(ROUTER, A.v4, E.v4, 1501, df=False), "too-big"),
    ),
    case(
        "error-mtu-padding",
        "2.11.4 2.15.10",
        "a packet that would fit without Ethernet padding can't be made smaller",
        passes("red-a", PADDED, "underlay", tunnel(H1, H2, RED, PADDED)),
        drops("red-a", bytes(PADDED) + bytes(100), "too-big"),
    ),
)

SILENCE = (
    case(
        "error-fragments",
        "2.8.1 2.15.1 2.15.11",
        "a first fragment is told of, later ones are not",
        refused(LATER[0], "ttl-exceeded", EXCEEDED),
        drops("red-a", LATER[1], "ttl-exceeded"),
        refused(LATER6[0], "ttl-exceeded", EXCEEDED6),
        drops("red-a", LATER6[1], "ttl-exceeded"),
    ),
    case(
        "error-about-errors",
        "2.8.1 2.15.1 2.15.12",
        "no errors about errors: every other ICMP message is told of",
        *(drops("red-a", last_hop(ICMP(type=kind) / QUOTED), "ttl-exceeded") for kind in (3, 4, 5, 11, 12)),
        refused(last_hop(ECHO), "ttl-exceeded", EXCEEDED),
        drops("red-a", last_hop(ICMPv6DestUnreach() / QUOTED6, v6=True), "ttl-exceeded"),
        drops("red-a", last_hop(unknown(6) / QUOTED6, v6=True), "ttl-exceeded"),
    ),
    case(
        "error-broadcast",
        "2.6.3 2.6.6 2.15.2 2.15.3 2.15.14 5.1.4",
        "to all of a subnet, by the router or not: silence; the last address of no subnet is a host",
        drops("red-a", frame(A.mac, ROUTER, A.v4, "10.1.2.255"), "no-record"),
        drops("red-a", frame(A.mac, ROUTER, A.v4, "10.1.1.255"), "no-record"),
        drops("red-a", frame(A.mac, BROADCAST, A.v4, "10.1.2.255"), "group-address"),
        refused(frame(A.mac, ROUTER, A.v4, "10.1.3.255"), "no-route", NO_NET),
        refused(frame(A.mac, ROUTER, A.v6, "fd00:1:2:0:ffff:ffff:ffff:ffff"), "no-record", NO_HOST6),
    ),
    case(
        "error-limit",
        "2.6.3 2.15.2 2.15.15",
        "64 at once; then one in ten of what comes every millisecond, dropped all the same",
        *[refused(TO_NOWHERE, "no-route", NO_NET)] * TOLD_AT_ONCE,
        *[drops("red-a", TO_NOWHERE, "no-route")] * 9,
        refused(TO_NOWHERE, "no-route", NO_NET),
        refused(frame(B.mac, ROUTER, B.v4, NOWHERE), "no-route", NO_NET, "red-b"),
    ),
)

QUOTES = (
    case(
        "error-quote",
        "2.8.1 2.15.1 2.15.21 2.15.22 2.15.23",
        "as much as 576 and 1,280 bytes hold, options too; no padding, no tag; a wrong checksum as it is",
        refused(last_hop(LONG), "ttl-exceeded", EXCEEDED),
        refused(last_hop(LONG6, v6=True), "ttl-exceeded", EXCEEDED6),
        refused(
            Ether(src=A.mac, dst=ROUTER) / IP(src=A.v4, dst=E.v4, ttl=1, options=[IPOption_NOP()] * 4) / LONG,
            "ttl-exceeded",
            EXCEEDED,
        ),
        refuses(
            "red-a",
            bytes(last_hop(UDP_BODY)) + bytes(20),
            "ttl-exceeded",
            told(last_hop(UDP_BODY), GATEWAY, EXCEEDED),
        ),
        refuses(
            "red-a",
            Ether(src=A.mac, dst=ROUTER) / Dot1Q(vlan=7) / last_hop(UDP_BODY)[IP],
            "ttl-exceeded",
            told(last_hop(UDP_BODY), GATEWAY, EXCEEDED),
        ),
        refused(
            Ether(src=A.mac, dst=ROUTER) / IP(src=A.v4, dst=E.v4, ttl=1, chksum=0xFFFF) / UDP(chksum=0x1234),
            "ttl-exceeded",
            EXCEEDED,
        ),
    ),
)

CASES = (*TELLS, *SIZES, *SILENCE, *QUOTES)
