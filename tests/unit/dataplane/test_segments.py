"""The twin, and the core, against frames that scapy builds, byte for byte: super-packets."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from scapy.layers.l2 import ARP
from scapy.packet import Packet

from dataplane.binding.core import Gso, Offload
from tests.oracle.frames import PEER_MAC, arriving, between, ether, from_host, ip, tcp, udp
from tests.oracle.rig import Make, data
from tests.oracle.world import (
    NEXT_HOPS,
    SELF,
    SHARED,
    UNDERLAY_MAC,
)
from tests.unit.dataplane.frames import (
    BOTH_REWRITTEN,
    FAMILIES,
    LOCAL_VM,
    NEIGHBOUR,
    REMOTE,
    UNDERLAY,
    super_packet,
)

TAKES = Offload.CSUM | Offload.TSO4 | Offload.TSO6 | Offload.USO
TUNNELS = TAKES | Offload.NVGRE

L4S = pytest.mark.parametrize("l4", (tcp, udp), ids=("tcp", "udp"))
L4 = Callable[[bytes], Packet]


def expected_segments(make: Callable[[Packet, int], Packet], payload: bytes, size: int) -> list[bytes]:
    """make(tcp, index) -> frame."""
    parts = [payload[i : i + size] for i in range(0, len(payload), size)]
    found = []
    for i, part in enumerate(parts):
        flags = ("FPA" if i == len(parts) - 1 else "A") + ("C" if i == 0 else "")
        found.append(bytes(make(tcp(part, seq=1000 + i * size, flags=flags), i)))
    return found


# 2.11.5, 4.3.1, 4.3.2, 4.3.3, 4.3.4, 4.3.5
@FAMILIES
def test_segments(rig: Make, family: int) -> None:
    payload = bytes(range(256)) * 39
    sent = between(
        LOCAL_VM, REMOTE, family, tcp(payload, flags="FPAC"), **({"id": 0xFFFE} if family == 4 else {})
    )
    r = rig()
    frames = data(r.send(LOCAL_VM.port, super_packet(sent, family, 1000))[UNDERLAY])

    def make(segment: Packet, index: int) -> Packet:
        numbered = {"id": (0xFFFE + index) & 0xFFFF} if family == 4 else {}
        return between(LOCAL_VM, REMOTE, family, segment, **numbered)

    assert [frame[42:] for frame in frames] == expected_segments(make, payload, 1000)
    assert (r.counters().originated, r.counters().sent, r.counters().rx_gso) == (9, 10, 1)


# 4.3.1, 4.3.2, 4.3.5, 4.3.6
@FAMILIES
@pytest.mark.parametrize("last", (1000, 500, 1))
def test_datagrams(rig: Make, family: int, last: int) -> None:
    payload = bytes(range(200)) * 45 + bytes(range(100)) * 10
    payload = payload[: 9000 + last]
    sent = between(LOCAL_VM, REMOTE, family, udp(payload), **({"id": 0xFFFE} if family == 4 else {}))
    r = rig()
    frames = data(r.send(LOCAL_VM.port, super_packet(sent, family, 1000))[UNDERLAY])
    expected = []
    for index in range(10):
        part = udp(payload[index * 1000 : (index + 1) * 1000])
        numbered = {"id": (0xFFFE + index) & 0xFFFF} if family == 4 else {}
        expected.append(bytes(between(LOCAL_VM, REMOTE, family, part, **numbered)))
    assert [frame[42:] for frame in frames] == expected
    assert (r.counters().originated, r.counters().sent, r.counters().rx_gso) == (9, 10, 1)


# 2.11.5, 2.11.6
@FAMILIES
@L4S
@pytest.mark.parametrize("room", (0, -1), ids=("fits", "too long"))
def test_a_super_packet_is_whole_in_a_tunnel_that_takes_it(rig: Make, family: int, l4: L4, room: int) -> None:
    headers = {4: 20, 6: 40}[family] + len(l4(b""))
    payload = bytes(65535 - (20 + 8 + 14) - headers - room)
    r = rig(underlay_offloads=TUNNELS)
    sent = super_packet(between(LOCAL_VM, REMOTE, family, l4(payload)), family, 1400)
    frames = r.send(LOCAL_VM.port, replace(sent, data=sent.data + bytes(5)))[UNDERLAY]
    if room < 0:
        assert len(frames) == -(-len(payload) // 1400) and not any(frame.gso for frame in frames)
        return
    (frame,) = frames
    assert frame.data[42:] == sent.data and int.from_bytes(frame.data[16:18], "big") == 65535
    assert (frame.gso, frame.gso_size) == (sent.gso, 1400)
    assert (frame.csum_partial, frame.csum_start) == (True, sent.csum_start + 42)
    assert (r.counters().originated, r.counters().sent, r.counters().tx_gso) == (0, 1, 1)


# 2.11.5
@FAMILIES
@L4S
def test_of_one_segment_it_is_none_in_a_tunnel(rig: Make, family: int, l4: L4) -> None:
    r = rig(underlay_offloads=TUNNELS)
    sent = super_packet(between(LOCAL_VM, REMOTE, family, l4(bytes(900))), family, 1400)
    (frame,) = r.send(LOCAL_VM.port, sent)[UNDERLAY]
    assert (frame.gso, frame.csum_partial) == (Gso.NONE, False)


# 4.5.4
def test_held_for_a_device_that_took_it_and_refused_by_the_next(rig: Make) -> None:
    r = rig(resolved=False, underlay_offloads=TUNNELS)
    r.send(LOCAL_VM.port, super_packet(between(LOCAL_VM, REMOTE, 4, tcp(bytes(5000))), 4, 1000))
    assert r.counters().held == 1
    r.engine.detach(UNDERLAY)
    r.engine.attach(UNDERLAY, replace(r.world.ports()[UNDERLAY], offloads=TUNNELS & ~Offload.NVGRE))
    reply = ARP(op=2, hwsrc=PEER_MAC.hex(":"), psrc=str(SHARED[2, 4]), pdst=str(SHARED[SELF, 4]))
    assert r.send(UNDERLAY, ether(UNDERLAY_MAC, PEER_MAC) / reply) == {}
    assert r.counters().drops == {"tx-error": 1}


# 2.9.6
@FAMILIES
@L4S
@pytest.mark.parametrize("gso_size", (0, 500))
def test_super_packets_go_whole_where_they_are_taken(rig: Make, family: int, l4: L4, gso_size: int) -> None:
    r = rig(offloads=TAKES)
    sent = super_packet(between(LOCAL_VM, NEIGHBOUR, family, l4(bytes(1400))), family, gso_size)
    assert r.send(LOCAL_VM.port, sent)[NEIGHBOUR.port] == [sent]
    assert r.counters().tx_csum_partial == 1


# 2.9.6
@FAMILIES
@pytest.mark.parametrize("count", (64, 65))
def test_so_many_datagrams_out_of_a_tunnel_are_cut(rig: Make, family: int, count: int) -> None:
    inner = super_packet(arriving(REMOTE, LOCAL_VM, family, udp(bytes(10 * count))), family, 10)
    carrier = bytes(from_host(2, LOCAL_VM.vsid, inner.data))
    frame = replace(inner, data=carrier, csum_start=inner.csum_start + len(carrier) - len(inner.data))
    r = rig(offloads=TAKES)
    left = r.send(UNDERLAY, frame)[LOCAL_VM.port]
    assert left == [inner] if count == 64 else [one.gso for one in left] == [Gso.NONE] * count


# 2.9.6, 2.11.5
@FAMILIES
@pytest.mark.parametrize("takes", (Offload.USO, Offload.TSO4, Offload.TSO6))
@L4S
def test_cut_for_a_port_that_takes_others(rig: Make, family: int, l4: L4, takes: Offload) -> None:
    needed = Offload.USO if l4 is udp else Offload.TSO4 if family == 4 else Offload.TSO6
    r = rig(offloads=Offload.CSUM | takes, underlay_offloads=Offload.CSUM | takes | Offload.NVGRE)
    for to, port in ((NEIGHBOUR, NEIGHBOUR.port), (REMOTE, UNDERLAY)):
        sent = super_packet(between(LOCAL_VM, to, family, l4(bytes(1400))), family, 500)
        assert len(r.send(LOCAL_VM.port, sent)[port]) == (1 if takes is needed else 3)


# 2.10.9, 4.2.1
@FAMILIES
@L4S
def test_rewrite_of_a_super_packet(rig: Make, family: int, l4: L4) -> None:
    r = rig(rewrite=BOTH_REWRITTEN, underlay_offloads=TAKES)
    sent = super_packet(between(LOCAL_VM, REMOTE, family, l4(bytes(3000))), family, 1000)
    pas = LOCAL_VM.rewrite_pa(family), REMOTE.rewrite_pa(family)
    wire = ether(NEXT_HOPS[SHARED[2, 4]], UNDERLAY_MAC) / ip(*pas) / l4(bytes(3000))
    assert r.send(LOCAL_VM.port, sent)[UNDERLAY] == [super_packet(wire, family, 1000)]
