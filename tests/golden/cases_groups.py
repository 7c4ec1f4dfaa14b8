"""To all of a subnet or to a group: who gets a copy, and what is no group's."""

from pathlib import Path

from scapy.layers.igmp import IGMP
from scapy.layers.inet import IP, IPOption_Router_Alert
from scapy.layers.inet6 import ICMPv6MLReport2, IPv6, IPv6ExtHdrHopByHop, RouterAlert
from scapy.layers.l2 import Ether
from scapy.packet import Packet

from tests.golden.table import Case, Step, case, drops, passes
from tests.golden.world import (
    BROADCAST,
    FAR,
    GREEN,
    H1,
    H2,
    H6,
    OVS,
    RED,
    RED2,
    ROUTER,
    UDP_BODY,
    A,
    C,
    D,
    E,
    F,
    cut,
    frame,
    link_local,
    tunnel,
)

MANIFEST = Path(__file__).parent / "broadcast.yaml"
MDNS, MDNS6 = ("01:00:5e:00:00:fb", "224.0.0.251"), ("33:33:00:00:00:fb", "ff02::fb")
TO_ALL = frame(A.mac, BROADCAST, A.v4, "255.255.255.255")


def from_red_a(given: Packet | bytes) -> Step:
    """To red-b beside it, and one copy for each of the two other hosts."""
    copies = (
        ("red-b", given),
        ("underlay", tunnel(H1, H2, RED, given)),
        ("underlay", tunnel(H1, H6, RED, given, family=6)),
    )
    return Step("red-a", given, copies, originated=2)


def from_h2(given: Packet | bytes) -> Step:
    """Out of the tunnel to both VMs here, and to no other host."""
    return Step("underlay", tunnel(H2, H1, RED, given), (("red-a", given), ("red-b", given)), originated=1)


def refused(given: Packet | bytes, reason: str, vsid: int = RED) -> Step:
    return drops("underlay", tunnel(H2, H1, vsid, given), reason)


def mld(mac: str, source: str) -> Packet:
    options = IPv6ExtHdrHopByHop(options=[RouterAlert()])
    header = IPv6(src=source, dst="ff02::16", hlim=1)
    return Ether(src=mac, dst="33:33:00:00:00:16") / header / options / ICMPv6MLReport2()


def igmp(mac: str, source: str) -> Packet:
    report = IGMP(type=0x16, gaddr="239.1.2.3")
    header = IP(src=source, dst="239.1.2.3", ttl=1, options=[IPOption_Router_Alert()], proto=2)
    return Ether(src=mac, dst="01:00:5e:01:02:03") / header / report


CASES: tuple[Case, ...] = (
    case(
        "group-broadcast",
        "2.5.1 5.1.3 5.1.4 5.2.2 5.2.3 5.2.4 5.2.7",
        "to all: 255.255.255.255, and the last address of the subnet; not that of another",
        from_red_a(TO_ALL),
        from_red_a(frame(A.mac, BROADCAST, A.v4, "10.1.1.255")),
        drops("red-a", frame(A.mac, BROADCAST, A.v4, "10.1.2.255"), "group-address"),
        drops("red-a", frame(A.mac, BROADCAST, A.v4, "10.1.1.127"), "group-address"),
        drops("red-a", frame(A.mac, BROADCAST, A.v4, C.v4), "group-address"),
        drops("red-a", frame(A.mac, MDNS[0], A.v4, "10.1.1.255"), "group-address"),
    ),
    case(
        "group-multicast",
        "2.5.1 5.1.2 5.1.5 5.2.3",
        "to groups of both families, by the MAC that goes with each; the upper bits of a group are not in it",
        from_red_a(frame(A.mac, MDNS[0], A.v4, MDNS[1])),
        from_red_a(frame(A.mac, "01:00:5e:01:02:03", A.v4, "239.129.2.3")),
        from_red_a(frame(A.mac, MDNS6[0], A.v6, MDNS6[1])),
        drops("red-a", frame(A.mac, BROADCAST, A.v4, MDNS[1]), "group-address"),
        drops("red-a", frame(A.mac, "01:00:5e:80:00:fb", A.v4, "224.128.0.251"), "group-address"),
        drops("red-a", frame(A.mac, "33:33:00:00:00:fc", A.v6, MDNS6[1]), "group-address"),
        drops("red-a", frame(A.mac, MDNS6[0], A.v6, "fd00:1:1::fb"), "group-address"),
        drops("red-a", frame(A.mac, BROADCAST, A.v6, MDNS6[1]), "group-address"),
    ),
    case(
        "group-fragments",
        "5.2.2 5.2.3",
        "fragments go as they are, with one FlowID",
        *map(from_red_a, cut(frame(A.mac, MDNS[0], A.v4, MDNS[1]), 16)),
    ),
    case(
        "group-hosts",
        "5.2.3 5.2.4",
        "foreign hosts too, also behind a router; never another VSID of the network",
        Step(
            "green-a",
            TO_ALL,
            (
                ("underlay", tunnel(H1, OVS, GREEN, TO_ALL)),
                ("underlay", tunnel(H1, FAR, GREEN, TO_ALL)),
            ),
            originated=1,
        ),
        passes(
            "red-e",
            frame(E.mac, BROADCAST, E.v4, "10.1.2.255"),
            "underlay",
            tunnel(H1, H2, RED2, frame(E.mac, BROADCAST, E.v4, "10.1.2.255")),
        ),
    ),
    case(
        "group-members",
        "2.4.1 2.4.2 5.2.3",
        "IGMP and MLD pass, from :: and a link-local address too; router alert is no obstacle",
        from_red_a(igmp(A.mac, A.v4)),
        from_red_a(mld(A.mac, "::")),
        from_red_a(mld(A.mac, link_local(A.mac))),
        from_red_a(mld(A.mac, "fe80::a1b2:c3d4:e5f6:718")),
        drops("red-a", mld(A.mac, "fe80::1"), "src-address"),
        drops("red-a", frame(A.mac, MDNS6[0], link_local(A.mac), MDNS6[1]), "src-address"),
    ),
    case(
        "group-rewrite",
        "5.1.1",
        "under rewrite nothing is copied, not even within the host",
        drops("blue-a", TO_ALL, "multicast"),
        drops("blue-a", frame(A.mac, MDNS[0], A.v4, MDNS[1]), "multicast"),
        drops("blue-a", mld(A.mac, "::"), "multicast"),
    ),
    case(
        "inner-multicast",
        "3.11.1 5.3.2 5.3.3 5.2.2",
        "out of a tunnel: to the VMs here, if who sent it may be there",
        from_h2(frame(C.mac, BROADCAST, C.v4, "10.1.1.255")),
        from_h2(frame(C.mac, MDNS6[0], C.v6, MDNS6[1])),
        from_h2(igmp(C.mac, C.v4)),
    ),
    case(
        "inner-multicast-refused",
        "3.9.2 3.9.5 3.9.6 3.9.7 3.9.11 5.1.1 5.1.4 5.1.5",
        "from who is elsewhere, to no group, in a VSID without copies",
        refused(frame(D.mac, BROADCAST, D.v4, "10.1.1.255"), "inner-source-host"),
        refused(frame(A.mac, BROADCAST, A.v4, "10.1.1.255"), "inner-source-host"),
        refused(frame(F.mac, BROADCAST, C.v4, "10.1.1.255"), "inner-src-mac"),
        refused(frame(ROUTER, BROADCAST, E.v4, "10.1.1.255"), "inner-source-host"),
        refused(frame(C.mac, BROADCAST, "10.1.1.99", "10.1.1.255"), "inner-source"),
        refused(frame(C.mac, MDNS6[0], link_local(C.mac), MDNS6[1]), "inner-source"),
        refused(frame(C.mac, BROADCAST, C.v4, A.v4), "group-address"),
        refused(frame(C.mac, "33:33:00:00:00:01", C.v6, MDNS6[1]), "group-address"),
        refused(frame(C.mac, BROADCAST, C.v4, "10.1.1.255"), "multicast", 5003),
    ),
    case(
        "inner-mld",
        "3.9.1 3.9.2 5.3.1",
        "MLD without an address of a record: from a host that has VMs of the VSID",
        from_h2(mld(C.mac, "::")),
        from_h2(mld(C.mac, link_local(C.mac))),
        refused(mld(C.mac, "fe80::1"), "inner-source"),
        refused(mld("03:bb:00:00:01:20", "::"), "inner-source"),
        refused(mld(C.mac, "::"), "inner-source", GREEN),
        refused(frame(C.mac, MDNS6[0], "::", MDNS6[1]), "inner-source"),
    ),
    case(
        "group-limit",
        "5.2.1 5.2.3",
        "500 a second, two at once: half a packet comes back in a millisecond; of what came in by a tunnel "
        "the same once more; other packets are not counted",
        *(
            passes("red-a", TO_ALL, "underlay", tunnel(H1, H2, RED, TO_ALL))
            if passing
            else drops("red-a", TO_ALL, "broadcast-limit")
            for passing in (True, True, True, True, False, True)
        ),
        *(
            passes("underlay", tunnel(H2, H1, RED, given), "red-a", given)
            if passing
            else drops("underlay", tunnel(H2, H1, RED, given), "broadcast-limit")
            for given in (frame(C.mac, BROADCAST, C.v4, "10.1.1.255", UDP_BODY),)
            for passing in (True, True, True, True, False)
        ),
        passes(
            "red-a",
            frame(A.mac, C.mac, A.v4, C.v4),
            "underlay",
            tunnel(H1, H2, RED, frame(A.mac, C.mac, A.v4, C.v4)),
        ),
        manifest=MANIFEST,
    ),
    case(
        "group-nobody",
        "5.1.1 5.2.5",
        "switched off in a subnet; and nobody else is there",
        drops("red-e", frame(E.mac, BROADCAST, E.v4, "10.1.2.255"), "multicast"),
        drops("underlay", tunnel(H2, H1, RED2, frame(F.mac, BROADCAST, F.v4, "10.1.2.255")), "multicast"),
        drops("red-g", frame("02:bb:00:00:03:10", BROADCAST, "10.1.3.10", "10.1.3.255"), "no-receiver"),
        manifest=MANIFEST,
    ),
)
