"""The twin, and the core, against frames that scapy builds, byte for byte: between ports, and rewritten."""

import pytest
from scapy.layers.inet import TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest
from scapy.packet import NoPayload, Packet

from dataplane.twin.sums import checksum, updated
from tests.oracle.frames import PEER_MAC, arriving, between, ether, ip, tcp, udp
from tests.oracle.rig import Make, data
from tests.oracle.world import (
    LOCAL_DOWN,
    NEXT_HOPS,
    SHARED,
    UNDERLAY_MAC,
    Vm,
)
from tests.unit.dataplane.frames import (
    BOTH_REWRITTEN,
    ECHO,
    FAMILIES,
    LOCAL_VM,
    NEIGHBOUR,
    OTHER_SUBNET,
    PAYLOADS,
    REMOTE,
    REMOTE_OTHER_SUBNET,
    UNDERLAY,
    VM,
    carried,
)


@FAMILIES
def test_same_subnet_stays_as_it_is(rig: Make, family: int) -> None:
    frame = between(LOCAL_VM, NEIGHBOUR, family, tcp(b"x"), ttl=1)
    assert data(rig().send(LOCAL_VM.port, frame)[NEIGHBOUR.port]) == [bytes(frame)]


@FAMILIES
def test_other_subnet_is_routed(rig: Make, family: int) -> None:
    r = rig()
    frames = [between(LOCAL_VM, OTHER_SUBNET, family, tcp(b"x"), ttl=ttl) for ttl in (2, 1)]
    expected = bytes(arriving(LOCAL_VM, OTHER_SUBNET, family, tcp(b"x"), ttl=1))
    assert data(r.send(LOCAL_VM.port, *frames)[OTHER_SUBNET.port]) == [expected]
    assert r.counters().drops == {"ttl-exceeded": 1}


# 2.9.2
def test_own_port_and_missing_device(rig: Make) -> None:
    r = rig()
    down = VM(0, 0, LOCAL_DOWN)
    r.send(LOCAL_VM.port, between(LOCAL_VM, LOCAL_VM, 4, udp()), between(LOCAL_VM, down, 4, udp()))
    assert r.counters().drops == {"hairpin": 1, "port-down": 1}


@FAMILIES
@pytest.mark.parametrize("what", [*PAYLOADS, "echo"])
@pytest.mark.parametrize("to", (REMOTE, REMOTE_OTHER_SUBNET), ids=("bridged", "routed"))
def test_rewrite_out(rig: Make, family: int, what: str, to: Vm) -> None:
    payload = ECHO[family] if what == "echo" else PAYLOADS[what]
    more = {"proto" if family == 4 else "nh": 200} if what == "other" else {}
    sent = between(LOCAL_VM, to, family, payload, ttl=64, **more)
    ttl = 64 - (to is REMOTE_OTHER_SUBNET)
    pas = LOCAL_VM.rewrite_pa(family), to.rewrite_pa(family)
    expected = ether(NEXT_HOPS[SHARED[2, 4]], UNDERLAY_MAC) / ip(*pas, ttl=ttl, **more) / payload
    r = rig(rewrite=BOTH_REWRITTEN)
    assert data(r.send(LOCAL_VM.port, sent)[UNDERLAY]) == [bytes(expected)]


@FAMILIES
@pytest.mark.parametrize("what", [*PAYLOADS, "echo"])
def test_rewrite_in(rig: Make, family: int, what: str) -> None:
    payload = ECHO[family] if what == "echo" else PAYLOADS[what]
    more = {"proto" if family == 4 else "nh": 200} if what == "other" else {}
    r = rig(rewrite=BOTH_REWRITTEN)
    for source in (REMOTE, REMOTE_OTHER_SUBNET):
        pas = source.rewrite_pa(family), LOCAL_VM.rewrite_pa(family)
        wire = ether(UNDERLAY_MAC, PEER_MAC) / ip(*pas, ttl=5, **more) / payload
        expected = arriving(source, LOCAL_VM, family, payload, ttl=5, **more)
        assert data(r.send(UNDERLAY, wire)[LOCAL_VM.port]) == [bytes(expected)]


@FAMILIES
@pytest.mark.parametrize("kind", (TCP, UDP))
def test_a_wrong_checksum_stays_wrong_by_the_same_difference(rig: Make, family: int, kind: type) -> None:
    r = rig(rewrite=BOTH_REWRITTEN)
    right = between(LOCAL_VM, REMOTE, family, kind(sport=1, dport=2) / b"payload")
    field = {TCP: 16, UDP: 6}[kind] + (34 if family == 4 else 54)
    (out,) = data(r.send(LOCAL_VM.port, right)[UNDERLAY])
    for off_by in (1, 0x8000, 0xFFFE):
        wrong = bytearray(bytes(right))
        put = (int.from_bytes(wrong[field : field + 2], "big") + off_by) % 0xFFFF or 0xFFFF
        wrong[field : field + 2] = put.to_bytes(2, "big")
        (got,) = data(r.send(LOCAL_VM.port, bytes(wrong))[UNDERLAY])
        difference = int.from_bytes(got[field : field + 2], "big") - int.from_bytes(
            out[field : field + 2], "big"
        )
        assert difference % 0xFFFF == off_by % 0xFFFF
        assert got[:field] + got[field + 2 :] == out[:field] + out[field + 2 :]


def test_udp_without_checksum_stays_without(rig: Make) -> None:
    r = rig(rewrite=BOTH_REWRITTEN)
    sent = between(LOCAL_VM, REMOTE, 4, UDP(sport=1, dport=2, chksum=0) / b"x")
    (out,) = data(r.send(LOCAL_VM.port, sent)[UNDERLAY])
    assert out[40:42] == b"\0\0"


# 4.1.7
def test_a_udp_sum_that_comes_to_zero_is_sent_as_ones(rig: Make) -> None:
    r = rig(rewrite=BOTH_REWRITTEN)
    pas = [address.packed for address in (LOCAL_VM.rewrite_pa(4), REMOTE.rewrite_pa(4))]
    without = between(LOCAL_VM, REMOTE, 4, UDP(sport=1, dport=2) / bytes(2))
    (out,) = data(r.send(LOCAL_VM.port, without)[UNDERLAY])
    filler = out[40:42]
    assert pas[0] in out and pas[1] in out
    (out,) = data(
        r.send(LOCAL_VM.port, between(LOCAL_VM, REMOTE, 4, UDP(sport=1, dport=2) / filler))[UNDERLAY]
    )
    assert out[40:42] == b"\xff\xff"


SUMMED = {
    (4, "tcp"): (tcp(), 34 + 16),
    (4, "udp"): (udp(), 34 + 6),
    (6, "tcp"): (tcp(), 54 + 16),
    (6, "udp"): (udp(), 54 + 6),
    (6, "icmpv6"): (ICMPv6EchoRequest(id=1, seq=2), 54 + 2),
}
"""What has a checksum over its addresses, and where in the frame."""


def filler(head: Packet, payload: Packet, at: int, field: int) -> bytes:
    """What the payload needs at its end so that a full computation puts `field` into the frame at `at`."""
    without = int.from_bytes(bytes(head / payload / bytes(2))[at : at + 2], "big")
    return ((without - field) % 0xFFFF).to_bytes(2, "big")


# 4.1.2
@pytest.mark.parametrize("field", (0x0000, 0x0001, 0x7FFF, 0x8000, 0xFFFE))
@pytest.mark.parametrize(("family", "kind"), SUMMED)
@pytest.mark.parametrize("way", ("out", "in"))
def test_a_rewritten_checksum_is_that_of_a_full_computation(
    rig: Make, family: int, kind: str, way: str, field: int
) -> None:
    """0x0000 and not 0xFFFF, but in UDP."""
    r = rig(rewrite=BOTH_REWRITTEN)
    payload, at = SUMMED[family, kind]
    local, remote = LOCAL_VM.rewrite_pa(family), REMOTE.rewrite_pa(family)
    leaving = ether(NEXT_HOPS[SHARED[2, 4]], UNDERLAY_MAC) / ip(local, remote)
    head = leaving if way == "out" else arriving(REMOTE, LOCAL_VM, family, NoPayload())
    whole = payload / filler(head, payload, at, field)
    if way == "out":
        got = r.send(LOCAL_VM.port, between(LOCAL_VM, REMOTE, family, whole))[UNDERLAY]
    else:
        wire = ether(UNDERLAY_MAC, PEER_MAC) / ip(remote, local) / whole
        got = r.send(UNDERLAY, wire)[LOCAL_VM.port]
    assert data(got) == [bytes(head / whole)]
    zero = 0xFFFF if kind == "udp" else 0
    assert bytes(head / whole)[at : at + 2] == (field or zero).to_bytes(2, "big")


# 4.1.2
@pytest.mark.parametrize("zero", (0x0000, 0xFFFF))
def test_a_tcp_checksum_of_either_zero_is_rewritten_alike(rig: Make, zero: int) -> None:
    """Linux completes a TCP checksum of 0x0000 as 0xFFFF; that is as right, and comes out the same."""
    r = rig(rewrite=BOTH_REWRITTEN)
    head = between(LOCAL_VM, REMOTE, 4, NoPayload())
    whole = tcp() / filler(head, tcp(), 50, 0)
    sent = bytearray(bytes(head / whole))
    assert sent[50:52] == b"\0\0"
    sent[50:52] = zero.to_bytes(2, "big")
    pas = LOCAL_VM.rewrite_pa(4), REMOTE.rewrite_pa(4)
    expected = ether(NEXT_HOPS[SHARED[2, 4]], UNDERLAY_MAC) / ip(*pas) / whole
    assert data(r.send(LOCAL_VM.port, bytes(sent))[UNDERLAY]) == [bytes(expected)]


def test_an_updated_checksum_is_that_of_a_full_computation_for_every_sum() -> None:
    pairs = [
        tuple(side.packed for side in (a.rewrite_pa(family), b.ca(family)))
        for family in (4, 6)
        for a, b in ((LOCAL_VM, REMOTE), (REMOTE, LOCAL_VM))
    ]
    for word in (n.to_bytes(2, "big") for n in range(1 << 16)):
        for old, new in pairs:
            field = checksum(old + word)
            assert updated(field, old, new) == checksum(new + word)
            assert updated(field or 0xFFFF, old, new) == checksum(new + word)


def test_rfc_1624_example() -> None:
    """Section 4: the header whose checksum equation 2 of RFC 1141 gets wrong."""
    assert updated(0xDD2F, bytes.fromhex("5555"), bytes.fromhex("3285")) == 0x0000


# 2.11.2
def test_rewrite_falls_back_to_nvgre_when_one_side_has_no_pa(rig: Make) -> None:
    r = rig(rewrite=frozenset(((0, 1),)))
    sent = between(LOCAL_VM, REMOTE_OTHER_SUBNET, 4, udp(), ttl=9)
    routed = arriving(LOCAL_VM, REMOTE_OTHER_SUBNET, 4, udp(), ttl=8)
    assert data(r.send(LOCAL_VM.port, sent)[UNDERLAY]) == [carried(routed, REMOTE_OTHER_SUBNET, 4)]
