"""The twin, and the core, against frames that scapy builds, byte for byte: next hops."""

from ipaddress import ip_address

from scapy.layers.inet6 import (
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6NDOptDstLLAddr,
    ICMPv6NDOptSrcLLAddr,
    IPv6,
)
from scapy.layers.l2 import ARP

from dataplane.binding.core import NeighbourState
from dataplane.twin.neighbours import fresh_time
from tests.oracle.frames import PEER_MAC, between, ether, udp
from tests.oracle.rig import SECOND, Make, data
from tests.oracle.world import (
    SHARED,
    UNDERLAY_MAC,
)
from tests.unit.dataplane.frames import BOTH_REWRITTEN, BROADCAST, LOCAL_VM, REMOTE, UNDERLAY, carried


# 2.12.5, 2.12.6, 2.12.7, 2.12.9
def test_packets_wait_for_their_next_hop(rig: Make) -> None:
    r = rig(resolved=False)
    frames = [between(LOCAL_VM, REMOTE, 4, udp(bytes((i,)))) for i in range(18)]
    (request,) = data(r.send(LOCAL_VM.port, *frames)[UNDERLAY])
    asked = {"hwsrc": UNDERLAY_MAC.hex(":"), "psrc": "192.168.77.101", "pdst": "192.168.77.102"}
    assert request == bytes(ether(BROADCAST, UNDERLAY_MAC) / ARP(op=1, **asked))
    assert (r.counters().held, r.counters().drops) == (16, {"neigh-full": 2})
    reply = ether(UNDERLAY_MAC, PEER_MAC) / ARP(
        op=2,
        hwsrc=PEER_MAC.hex(":"),
        psrc="192.168.77.102",
        hwdst=UNDERLAY_MAC.hex(":"),
        pdst="192.168.77.101",
    )
    assert data(r.send(UNDERLAY, reply)[UNDERLAY]) == [carried(frame, REMOTE, 4) for frame in frames[:16]]
    assert (r.counters().held, r.counters().consumed) == (0, 1)


# 2.12.9
def test_next_hops_over_ipv6(rig: Make) -> None:
    r = rig(resolved=False, outer={2: 6, 3: 6, 4: 6})
    frame = between(LOCAL_VM, REMOTE, 4, udp())
    (request,) = data(r.send(LOCAL_VM.port, frame)[UNDERLAY])
    message = ICMPv6ND_NS(tgt="fd77::102") / ICMPv6NDOptSrcLLAddr(lladdr=UNDERLAY_MAC.hex(":"))
    group = ether(bytes.fromhex("3333ff000102"), UNDERLAY_MAC) / IPv6(src="fd77::101", dst="ff02::1:ff00:102")
    assert request == bytes(group / message)
    advertised = ICMPv6ND_NA(tgt="fd77::102", S=1) / ICMPv6NDOptDstLLAddr(lladdr=PEER_MAC.hex(":"))
    answer = ether(UNDERLAY_MAC, PEER_MAC) / IPv6(src="fd77::102", dst="fd77::101", hlim=255) / advertised
    assert data(r.send(UNDERLAY, answer)[UNDERLAY]) == [carried(frame, REMOTE, 6)]


# 2.12.4
def test_one_mac_for_all_pas_of_a_host_on_link(rig: Make) -> None:
    r = rig(resolved=False, rewrite=BOTH_REWRITTEN)
    (request,) = data(r.send(LOCAL_VM.port, between(LOCAL_VM, REMOTE, 4, udp()))[UNDERLAY])
    assert request[38:42] == SHARED[2, 4].packed
    said = {"psrc": str(SHARED[2, 4]), "pdst": str(SHARED[1, 4]), "hwsrc": PEER_MAC.hex(":")}
    answer = ether(UNDERLAY_MAC, PEER_MAC) / ARP(op=2, hwdst=UNDERLAY_MAC.hex(":"), **said)
    (sent,) = data(r.send(UNDERLAY, answer)[UNDERLAY])
    assert (sent[:6], sent[30:34]) == (PEER_MAC, REMOTE.rewrite_pa(4).packed)


# 2.12.8
def test_a_silent_next_hop_fails_after_three_requests(rig: Make) -> None:
    r = rig(resolved=False)
    assert len(r.send(LOCAL_VM.port, between(LOCAL_VM, REMOTE, 4, udp()))[UNDERLAY]) == 1
    assert len(r.step(SECOND)[UNDERLAY]) == 1
    assert len(r.step(SECOND)[UNDERLAY]) == 1
    assert r.step(SECOND // 2) == {}
    assert r.step(SECOND // 2) == {}
    assert (r.counters().held, r.counters().drops) == (0, {"neigh-failed": 1})
    states = {str(n.address): n.state for n in r.engine.neighbours()}
    assert states["192.168.77.102"] == NeighbourState.FAILED


# 2.12.11, 2.12.13
def test_a_known_next_hop_is_asked_again(rig: Make) -> None:
    r = rig(resolved=False)
    frame = between(LOCAL_VM, REMOTE, 4, udp())
    r.send(LOCAL_VM.port, frame)
    said = {"psrc": "192.168.77.102", "pdst": "192.168.77.101", "hwsrc": PEER_MAC.hex(":")}
    r.send(UNDERLAY, ether(UNDERLAY_MAC, PEER_MAC) / ARP(op=2, hwdst=UNDERLAY_MAC.hex(":"), **said))
    again = fresh_time(UNDERLAY_MAC, ip_address("192.168.77.102").packed)
    assert 26 * SECOND < again <= 30 * SECOND
    assert r.step(again - 1) == {}
    (request,) = data(r.step(1)[UNDERLAY])
    assert request[:6] == PEER_MAC
    assert len(data(r.send(LOCAL_VM.port, frame)[UNDERLAY])) == 1
    for _ in range(3):
        r.step(SECOND)
    assert r.counters().held == 0
    assert data(r.send(LOCAL_VM.port, frame)[UNDERLAY])[0][:6] == BROADCAST
    assert r.counters().held == 1


# 4.5.6
def test_what_waits_when_the_engine_stops(rig: Make) -> None:
    r = rig(resolved=False)
    r.send(LOCAL_VM.port, *[between(LOCAL_VM, REMOTE, 4, udp())] * 3)
    r.engine.start()
    r.engine.stop()
    assert (r.counters().held, r.counters().drops, r.counters().balance()) == (0, {"stopped": 3}, 0)
