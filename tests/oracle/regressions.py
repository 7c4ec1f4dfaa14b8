"""Trains on which core and twin once disagreed: (what it was, world, train)."""

from scapy.layers.inet import ICMP
from scapy.layers.l2 import ARP, Dot1Q

from dataplane.binding.core import Frame, Gso, Offload
from tests.oracle.frames import PEER_MAC, between, ether, from_host, ip, udp
from tests.oracle.rig import MILLISECOND
from tests.oracle.strategies import Burst, Step
from tests.oracle.world import LOCAL, SHARED, UNDERLAY_MAC, World

PING = bytes(ether(UNDERLAY_MAC, PEER_MAC) / ip(SHARED[2, 4], SHARED[1, 4]) / ICMP(type=8) / bytes(20))
WHO_HAS = bytes(
    ether(UNDERLAY_MAC, PEER_MAC)
    / ARP(op=1, hwsrc=PEER_MAC.hex(":"), psrc=str(SHARED[2, 4]), pdst=str(SHARED[1, 4]))
)
REWRITING = World(rewrite=frozenset(((0, 0),)))
FROM, TO = REWRITING.vm(0, 0, LOCAL), REWRITING.vm(0, 0, 20)
TAKES_ALL = Offload.CSUM | Offload.TSO4 | Offload.TSO6


def from_underlay(*frames: Frame) -> list[Step]:
    return [Burst(0, MILLISECOND, list(frames))]


TAGGED = ether(b"\xff" * 6, PEER_MAC) / Dot1Q(vlan=5) / ip("10.1.1.20", "10.1.1.10") / udp(b"x")
REGRESSIONS: list[tuple[str, World, list[Step]]] = [
    (
        "a ping to a PA whose partial checksum lies elsewhere was answered, and died on the way out",
        World(),
        from_underlay(Frame(PING, csum_partial=True, csum_start=100, csum_offset=6)),
    ),
    (
        "the answer to a ping kept the request's partial checksum",
        World(underlay_offloads=TAKES_ALL),
        from_underlay(Frame(PING, csum_partial=True, csum_start=34, csum_offset=2)),
    ),
    (
        "the answer to an ARP request with segmentation metadata kept that",
        World(underlay_offloads=TAKES_ALL),
        from_underlay(Frame(WHO_HAS, gso=Gso.TCP4, gso_size=500)),
    ),
    (
        "a packet under rewrite was cut for ever when the underlay had gone",
        REWRITING,
        [0, Burst(1, MILLISECOND, [Frame(bytes(between(FROM, TO, 4, udp(b"x"))))])],
    ),
    (
        "VSID 0 was taken for a subnet behind another VSID in the same batch",
        World(),
        from_underlay(*(Frame(bytes(from_host(2, vsid, TAGGED))) for vsid in (0x1389, 0))),
    ),
]
