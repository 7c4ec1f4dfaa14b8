"""The twin, and the core, against frames that scapy builds, byte for byte: what is answered
locally.
"""

from ipaddress import ip_address

import pytest
from scapy.layers.inet import ICMP
from scapy.layers.inet6 import (
    ICMPv6EchoReply,
    ICMPv6ND_NA,
    ICMPv6NDOptDstLLAddr,
    IPv6,
)
from scapy.layers.l2 import ARP

from dataplane.binding.tables import Address
from tests.oracle.frames import PEER_MAC, ether, from_host, gre, ip, outer
from tests.oracle.rig import Make, data
from tests.oracle.world import (
    ROUTER_MAC,
    SHARED,
    UNDERLAY_MAC,
    gateway,
)
from tests.unit.dataplane.frames import (
    ECHO,
    FAMILIES,
    LOCAL_VM,
    NEIGHBOUR,
    REMOTE,
    UNDERLAY,
    arp,
    link_local,
    solicitation,
)


@pytest.mark.parametrize(
    ("target", "mac"),
    ((NEIGHBOUR.ca(4), NEIGHBOUR.mac), (REMOTE.ca(4), REMOTE.mac), (gateway(0, 4), ROUTER_MAC)),
)
@pytest.mark.parametrize("sender", (None, "0.0.0.0"))
def test_arp_is_answered(rig: Make, target: Address, mac: bytes, sender: str | None) -> None:
    r = rig()
    (reply,) = data(r.send(LOCAL_VM.port, arp(1, LOCAL_VM, target, sender))[LOCAL_VM.port])
    asker = {"hwdst": LOCAL_VM.mac.hex(":"), "pdst": sender or str(LOCAL_VM.ca(4))}
    assert reply == bytes(ether(LOCAL_VM.mac, mac) / ARP(op=2, hwsrc=mac.hex(":"), psrc=str(target), **asker))
    assert (r.counters().consumed, r.counters().originated, r.counters().sent) == (1, 1, 1)


def test_arp_silence(rig: Make) -> None:
    r = rig()
    own = str(LOCAL_VM.ca(4))
    probe, gratuitous, reply = (
        arp(1, LOCAL_VM, own, "0.0.0.0"),
        arp(1, LOCAL_VM, own),
        arp(2, LOCAL_VM, "10.1.1.11"),
    )
    assert r.send(LOCAL_VM.port, probe, gratuitous, reply) == {}
    assert r.counters().consumed == 3


@pytest.mark.parametrize(
    ("target", "mac", "router"),
    (
        (NEIGHBOUR.ca(6), NEIGHBOUR.mac, 0),
        (REMOTE.ca(6), REMOTE.mac, 0),
        (gateway(0, 6), ROUTER_MAC, 1),
        ("fe80::1", ROUTER_MAC, 1),
    ),
)
@pytest.mark.parametrize("source", (LOCAL_VM.ca(6), link_local(LOCAL_VM), "::"))
def test_nd_is_answered(rig: Make, target: Address, mac: bytes, router: int, source: Address | str) -> None:
    (reply,) = data(rig().send(LOCAL_VM.port, solicitation(LOCAL_VM, source, target))[LOCAL_VM.port])
    asked = str(source) != "::"
    to = (LOCAL_VM.mac, str(source)) if asked else (bytes.fromhex("333300000001"), "ff02::1")
    message = ICMPv6ND_NA(tgt=str(target), R=router, S=int(asked), O=1) / ICMPv6NDOptDstLLAddr(
        lladdr=mac.hex(":")
    )
    assert reply == bytes(ether(to[0], mac) / IPv6(src=str(target), dst=to[1], hlim=255) / message)


@FAMILIES
def test_the_gateway_answers_pings(rig: Make, family: int) -> None:
    sent = ether(ROUTER_MAC, LOCAL_VM.mac) / ip(LOCAL_VM.ca(family), gateway(1, family), ttl=1) / ECHO[family]
    reply = ICMP(type=0, id=1, seq=2) / b"ping" if family == 4 else ICMPv6EchoReply(id=1, seq=2, data=b"ping")
    expected = ether(LOCAL_VM.mac, ROUTER_MAC) / ip(gateway(1, family), LOCAL_VM.ca(family), ttl=64) / reply
    assert data(rig().send(LOCAL_VM.port, sent)[LOCAL_VM.port]) == [bytes(expected)]


# 2.7.3
def test_an_answer_of_zeros_alone_has_a_checksum_of_ones(rig: Make) -> None:
    """What a full computation gives, and what the asker accepts; of every other answer 0xFFFF never is."""
    empty = ICMP(type=8, id=0, seq=0) / bytes(5)
    sent = ether(ROUTER_MAC, LOCAL_VM.mac) / ip(LOCAL_VM.ca(4), gateway(1, 4)) / empty
    (reply,) = data(rig().send(LOCAL_VM.port, sent)[LOCAL_VM.port])
    assert reply[34:] == bytes(ICMP(type=0, id=0, seq=0) / bytes(5)) == b"\0\0\xff\xff" + bytes(9)
    one_more = ICMP(type=8, id=0, seq=0) / b"\xff\xff"
    sent = ether(ROUTER_MAC, LOCAL_VM.mac) / ip(LOCAL_VM.ca(4), gateway(1, 4)) / one_more
    (reply,) = data(rig().send(LOCAL_VM.port, sent)[LOCAL_VM.port])
    assert reply[34:] == bytes(ICMP(type=0, id=0, seq=0) / b"\xff\xff") == bytes(8) + b"\xff\xff"


@FAMILIES
def test_a_pa_answers_pings(rig: Make, family: int) -> None:
    stranger = ip_address("192.168.77.200" if family == 4 else "fd77::200")
    sent = ether(UNDERLAY_MAC, PEER_MAC) / ip(stranger, SHARED[1, family], ttl=1) / ECHO[family]
    reply = ICMP(type=0, id=1, seq=2) / b"ping" if family == 4 else ICMPv6EchoReply(id=1, seq=2, data=b"ping")
    expected = ether(PEER_MAC, UNDERLAY_MAC) / ip(SHARED[1, family], stranger, ttl=64) / reply
    assert data(rig().send(UNDERLAY, sent)[UNDERLAY]) == [bytes(expected)]


def test_a_flooded_request_is_answered_through_the_tunnel(rig: Make) -> None:
    asked = arp(1, REMOTE, LOCAL_VM.ca(4))
    answer = ether(REMOTE.mac, LOCAL_VM.mac) / ARP(
        op=2,
        hwsrc=LOCAL_VM.mac.hex(":"),
        psrc=str(LOCAL_VM.ca(4)),
        hwdst=REMOTE.mac.hex(":"),
        pdst=str(REMOTE.ca(4)),
    )
    expected = outer(SHARED[1, 4], SHARED[2, 4], gre(REMOTE.vsid, answer), macs=(PEER_MAC, UNDERLAY_MAC))
    assert data(rig().send(UNDERLAY, from_host(2, REMOTE.vsid, asked))[UNDERLAY]) == [bytes(expected)]
