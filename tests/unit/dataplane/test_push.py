"""The twin, and the core, against frames that scapy builds, byte for byte: into NVGRE."""

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Dot1Q
from scapy.packet import Raw

from dataplane.twin.sums import crc32c
from tests.oracle.frames import arriving, between, ether, ip, tcp, udp
from tests.oracle.rig import Make, data
from tests.oracle.world import (
    OUTSIDE,
    ROUTER_MAC,
)
from tests.unit.dataplane.frames import (
    BEHIND_ROUTER,
    FAMILIES,
    LOCAL_VM,
    REMOTE,
    REMOTE_OTHER_SUBNET,
    UNDERLAY,
    carried,
    flowid,
)


def test_crc32c_is_castagnoli() -> None:
    assert crc32c(b"123456789", 0xFFFFFFFF) ^ 0xFFFFFFFF == 0xE3069283


@FAMILIES
@pytest.mark.parametrize("pa_family", (4, 6))
def test_push_in_all_family_pairs(rig: Make, family: int, pa_family: int) -> None:
    r = rig(outer={2: pa_family, 3: pa_family, 4: 4})
    inner = between(LOCAL_VM, REMOTE, family, tcp(b"payload"), tos=0xB9)
    assert data(r.send(LOCAL_VM.port, inner)[UNDERLAY]) == [carried(inner, REMOTE, pa_family, tos=0xB9)]
    assert r.counters().drops == {}


@FAMILIES
def test_push_across_subnets_is_routed(rig: Make, family: int) -> None:
    r = rig()
    sent = between(LOCAL_VM, REMOTE_OTHER_SUBNET, family, udp(b"x"), ttl=9)
    routed = arriving(LOCAL_VM, REMOTE_OTHER_SUBNET, family, udp(b"x"), ttl=8)
    assert data(r.send(LOCAL_VM.port, sent)[UNDERLAY]) == [carried(routed, REMOTE_OTHER_SUBNET, 4)]


def test_push_behind_a_router(rig: Make) -> None:
    inner = between(LOCAL_VM, BEHIND_ROUTER, 4, udp())
    assert data(rig().send(LOCAL_VM.port, inner)[UNDERLAY]) == [carried(inner, BEHIND_ROUTER, 4)]


def test_push_strips_the_tag_and_keeps_padding(rig: Make) -> None:
    inner = between(LOCAL_VM, REMOTE, 4, udp()) / Raw(bytes(30))
    inner[IP].len, inner[UDP].len = 28, 8
    tagged = ether(REMOTE.mac, LOCAL_VM.mac) / Dot1Q(vlan=5, prio=3) / inner[IP]
    assert data(rig().send(LOCAL_VM.port, tagged)[UNDERLAY]) == [carried(inner, REMOTE, 4)]


# 2.13.1
def test_flowid_switched_off(rig: Make) -> None:
    (frame,) = rig(flowid=False).send(LOCAL_VM.port, between(LOCAL_VM, REMOTE, 4, tcp()))[UNDERLAY]
    assert frame.data[38:42] == bytes.fromhex(f"{REMOTE.vsid:06x}00")


def test_first_and_later_fragments_share_a_flowid(rig: Make) -> None:
    r = rig()
    first = between(LOCAL_VM, REMOTE, 4, tcp(bytes(12)), flags="MF", id=7)
    later = between(LOCAL_VM, REMOTE, 4, Raw(b"rest"), frag=4, id=7, proto=6)
    frames = data(r.send(LOCAL_VM.port, first, later)[UNDERLAY])
    assert frames[0][41] == frames[1][41] == flowid(between(LOCAL_VM, REMOTE, 4, Raw(), proto=6))


# 2.6.2, 2.6.7
def test_routes_lead_to_next_hop_and_wildcard(rig: Make) -> None:
    r = rig(wildcard=20)
    behind = ether(ROUTER_MAC, LOCAL_VM.mac) / ip(LOCAL_VM.ca(4), "10.9.1.1", ttl=3) / udp()
    outside = ether(ROUTER_MAC, LOCAL_VM.mac) / ip(LOCAL_VM.ca(4), OUTSIDE[4], ttl=3) / udp()
    as_received = ether(REMOTE.mac, ROUTER_MAC) / ip(LOCAL_VM.ca(4), "10.9.1.1", ttl=2) / udp()
    outside_received = ether(REMOTE.mac, ROUTER_MAC) / ip(LOCAL_VM.ca(4), OUTSIDE[4], ttl=2) / udp()
    expected = [carried(as_received, REMOTE, 4), carried(outside_received, REMOTE, 4)]
    assert data(r.send(LOCAL_VM.port, behind, outside)[UNDERLAY]) == expected


def test_the_longest_prefix_wins(rig: Make) -> None:
    r = rig(default_route=True)
    expected = []
    for destination, to in ((REMOTE_OTHER_SUBNET.ca(4), REMOTE_OTHER_SUBNET), (OUTSIDE[4], BEHIND_ROUTER)):
        sent = ether(ROUTER_MAC, LOCAL_VM.mac) / ip(LOCAL_VM.ca(4), destination, ttl=9) / udp()
        routed = ether(to.mac, ROUTER_MAC) / ip(LOCAL_VM.ca(4), destination, ttl=8) / udp()
        r.inject(LOCAL_VM.port, sent)
        expected.append(carried(routed, to, 4))
    assert data(r.step()[UNDERLAY]) == expected


def test_too_big_counts_the_outer_header(rig: Make) -> None:
    r = rig(underlay_mtu=1542)
    fits = between(LOCAL_VM, REMOTE, 4, udp(bytes(1500 - 28)))
    over = between(LOCAL_VM, REMOTE, 4, udp(bytes(1501 - 28)))
    assert len(r.send(LOCAL_VM.port, fits, over)[UNDERLAY]) == 1
    assert r.counters().drops == {"too-big": 1}
