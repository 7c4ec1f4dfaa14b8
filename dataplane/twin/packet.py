"""Of the naive twin: what a packet is, and what numbers on the wire mean.

csrc/README.md sections 1 and 4 in plain Python: byte slices, `struct`, loops. Addresses and MACs are bytes in
network order (4 or 16, and 6 of them).
"""

from dataclasses import dataclass, field

ETH, VLAN, ARP_LEN, IP4_LEN, IP6_LEN, UDP_LEN, GRE_LEN = 14, 4, 28, 20, 40, 8, 8

TYPE_IP4, TYPE_ARP, TYPE_VLAN, TYPE_QINQ, TYPE_IP6 = 0x0800, 0x0806, 0x8100, 0x88A8, 0x86DD

HOP_BY_HOP, ICMP, TCP, UDP, DCCP, ROUTING, FRAGMENT, GRE, AUTHENTICATION, ICMP6, DESTINATION_OPTIONS = (
    0, 1, 6, 17, 33, 43, 44, 47, 51, 58, 60,
)  # fmt: skip

SCTP, UDP_LITE = 132, 136

ROUTE_OPTIONS = (7, 68, 131, 137)
"""Record route, timestamp, loose and strict source route."""

EXTENSIONS = (HOP_BY_HOP, ROUTING, DESTINATION_OPTIONS, FRAGMENT, AUTHENTICATION)

L4_LENGTHS = {(4, TCP): 20, (6, TCP): 20, (4, UDP): 8, (6, UDP): 8, (4, ICMP): 8, (6, ICMP6): 8}

CHECKSUM_OFFSETS = {
    **{(family, TCP): 16 for family in (4, 6)},
    **{(family, proto): 6 for family in (4, 6) for proto in (UDP, UDP_LITE, DCCP)},
    (6, ICMP6): 2,
}
"""Where the checksum that covers the pseudo header lies in the L4 header."""

FIRST_SLOT, SLOT = 3392, 4096

ANY4, ANY6 = bytes(4), bytes(16)

ALL_NODES = bytes.fromhex("ff020000000000000000000000000001")

ALL_NODES_MAC = bytes.fromhex("333300000001")

BROADCAST = b"\xff" * 6

GSO_NONE, GSO_TCP4, GSO_TCP6, GSO_UDP = 0, 1, 2, 3

PART_SEGMENTS = 64
"""Of a super-packet that goes on whole."""


class Drop(Exception):
    """The packet dies here; its argument is the reason's name in drop.def. mtu: of a way that is too small,
    the largest IP packet in bytes."""

    def __init__(self, reason: str, mtu: int = 0) -> None:
        super().__init__(reason)
        self.reason, self.mtu = reason, mtu


@dataclass
class Packet:
    """A frame and what came with it. reach: how many of its bytes lie in the first slot, as headers must.
    slots: how many it has, which stay its own whatever becomes of its length.

    What parse() finds: offsets in bytes from the frame's start. kind: "arp" or "ip". l4: of the L4 header,
    or of what follows the IP headers. end: where the IP packet ends; Ethernet padding may follow. later: a
    fragment, and not the first. tunnelled: under an outer header, csum_start and gso those of what is within.
    """

    frame: bytearray
    in_port: int
    time: int
    flow: int = 0
    partial: bool = False
    csum_start: int = 0
    csum_offset: int = 0
    gso: int = GSO_NONE
    gso_size: int = 0
    reach: int = FIRST_SLOT
    slots: int = 1
    tunnelled: bool = False

    tagged: bool = field(init=False, default=False)
    kind: str = field(init=False, default="")
    family: int = field(init=False, default=0)
    l3: int = field(init=False, default=0)
    l4: int = field(init=False, default=0)
    end: int = field(init=False, default=0)
    proto: int = field(init=False, default=0)
    fragment: bool = field(init=False, default=False)
    later: bool = field(init=False, default=False)

    @property
    def destination_mac(self) -> bytes:
        return bytes(self.frame[0:6])

    @property
    def source_mac(self) -> bytes:
        return bytes(self.frame[6:12])

    @property
    def source(self) -> bytes:
        at, size = (12, 4) if self.family == 4 else (8, 16)
        return bytes(self.frame[self.l3 + at : self.l3 + at + size])

    @property
    def destination(self) -> bytes:
        at, size = (16, 4) if self.family == 4 else (24, 16)
        return bytes(self.frame[self.l3 + at : self.l3 + at + size])

    @property
    def ttl(self) -> int:
        return self.frame[self.l3 + (8 if self.family == 4 else 7)]

    @property
    def tos(self) -> int:
        """IPv4 TOS or IPv6 traffic class."""
        return self.frame[self.l3 + 1] if self.family == 4 else u16(self.frame, self.l3) >> 4 & 0xFF

    @property
    def is_nd(self) -> bool:
        """Neighbour discovery: router and neighbour solicitation and advertisement, redirect."""
        icmp6 = self.family == 6 and self.proto == ICMP6 and not self.later
        return icmp6 and 133 <= self.frame[self.l4] <= 137

    def set_macs(self, destination: bytes, source: bytes) -> None:
        self.frame[0:12] = destination + source


def slots_of(length: int) -> int:
    """Slots of a frame that comes in, or is cut."""
    return 1 + max(0, -((FIRST_SLOT - length) // SLOT))


def u16(data: bytes | bytearray, at: int) -> int:
    return int.from_bytes(data[at : at + 2], "big")


def put16(data: bytearray, at: int, value: int) -> None:
    data[at : at + 2] = value.to_bytes(2, "big")
