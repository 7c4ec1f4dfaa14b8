"""Of the naive twin: how a packet is read (csrc/README.md section 1)."""

from dataplane.twin.packet import (
    ARP_LEN,
    AUTHENTICATION,
    ETH,
    EXTENSIONS,
    FRAGMENT,
    GSO_NONE,
    GSO_TCP4,
    GSO_UDP,
    IP4_LEN,
    IP6_LEN,
    L4_LENGTHS,
    TCP,
    TYPE_ARP,
    TYPE_IP4,
    TYPE_IP6,
    TYPE_QINQ,
    TYPE_VLAN,
    UDP,
    VLAN,
    Drop,
    Packet,
    u16,
)
from dataplane.twin.sums import finish_checksum, is_crc32c


def parse(p: Packet) -> None:
    """Fills in what follows from the frame's bytes. Drop: it is not what it says it is."""
    there = min(len(p.frame), p.reach)
    if there < ETH:
        raise Drop("eth-short")
    ethertype, p.l3, p.tagged = u16(p.frame, 12), ETH, False
    if ethertype == TYPE_VLAN:
        if there < ETH + VLAN:
            raise Drop("eth-short")
        ethertype, p.l3, p.tagged = u16(p.frame, 16), ETH + VLAN, True
        if ethertype == TYPE_VLAN:
            raise Drop("vlan-stacked")
    if ethertype == TYPE_QINQ:
        raise Drop("vlan-stacked")
    p.family = p.proto = 0
    p.fragment = p.later = False
    if ethertype == TYPE_ARP:
        parse_arp(p, there)
    elif ethertype == TYPE_IP4:
        parse_ip4(p, there)
        parse_l4(p, there)
    elif ethertype == TYPE_IP6:
        parse_ip6(p, there)
        parse_l4(p, there)
    else:
        raise Drop("ethertype")


def parse_arp(p: Packet, there: int) -> None:
    p.kind = "arp"
    for_ethernet = p.frame[p.l3 : p.l3 + 6] == bytes.fromhex("000108000604")
    if there < p.l3 + ARP_LEN or not for_ethernet or u16(p.frame, p.l3 + 6) not in (1, 2):
        raise Drop("arp-malformed")
    p.l4 = p.end = p.l3 + ARP_LEN


def parse_ip4(p: Packet, there: int) -> None:
    p.kind, p.family = "ip", 4
    if there < p.l3 + IP4_LEN:
        raise Drop("ip-short")
    if p.frame[p.l3] >> 4 != 4:
        raise Drop("ip-version")
    header = (p.frame[p.l3] & 15) * 4
    if header < IP4_LEN or p.l3 + header > there:
        raise Drop("ip-header-length")
    total = u16(p.frame, p.l3 + 2)
    if total < header or p.l3 + total > len(p.frame):
        raise Drop("ip-length")
    p.l4, p.end, p.proto = p.l3 + header, p.l3 + total, p.frame[p.l3 + 9]
    flags = u16(p.frame, p.l3 + 6)
    note_fragment(p, more=bool(flags & 0x2000), offset=flags & 0x1FFF, longest=65535 - 20)
    p.fragment = p.later or bool(flags & 0x2000)


def note_fragment(p: Packet, more: bool, offset: int, longest: int) -> None:
    """p.l4 is where the fragment's payload begins. longest: bytes that all fragments may make up together."""
    payload = p.end - p.l4
    if more and (payload == 0 or payload % 8 != 0):
        raise Drop("ip-fragment")
    if (more or offset) and offset * 8 + payload > longest:
        raise Drop("ip-fragment")
    p.later = offset > 0


def parse_ip6(p: Packet, there: int) -> None:
    p.kind, p.family = "ip", 6
    if there < p.l3 + IP6_LEN:
        raise Drop("ip-short")
    if p.frame[p.l3] >> 4 != 6:
        raise Drop("ip-version")
    p.l4, p.proto = p.l3 + IP6_LEN, p.frame[p.l3 + 6]
    p.end = p.l4 + u16(p.frame, p.l3 + 4)
    if p.end > len(p.frame):
        raise Drop("ip-length")
    headers = 0
    while p.proto in EXTENSIONS and not p.later:
        headers += 1
        at, end = p.l4, min(p.end, there)
        if headers > 8 or at + 8 > end:
            raise Drop("ip6-extension")
        kind, p.proto = p.proto, p.frame[at]
        p.l4 = at + extension_length(kind, p.frame[at + 1])
        if p.l4 > end:
            raise Drop("ip6-extension")
        if kind == FRAGMENT:
            word = u16(p.frame, at + 2)
            note_fragment(p, more=bool(word & 1), offset=word >> 3, longest=65535)
            p.fragment = True


def extension_length(kind: int, field: int) -> int:
    """Bytes of an IPv6 extension header with this length field (RFC 8200 section 4, RFC 4302 section 2.2)."""
    if kind == FRAGMENT:
        return 8
    if kind == AUTHENTICATION:
        return (field + 2) * 4
    return (field + 1) * 8


def parse_l4(p: Packet, there: int) -> None:
    if p.later:
        return
    header = p.frame[p.l4 : min(p.end, there)]
    if len(header) < L4_LENGTHS.get((p.family, p.proto), 0):
        raise Drop("l4-short")
    if p.proto == TCP:
        length = (header[12] >> 4) * 4
        if length < 20 or length > len(header):
            raise Drop("l4-length")
    if p.proto == UDP:
        length = u16(header, 4)
        if length < 8 or (length > p.end - p.l4 and not p.fragment):
            raise Drop("l4-length")


def vlan_of(p: Packet) -> int:
    """A tag's VLAN. 0: none, the tag has a priority alone (IEEE 802.1Q section 9.6)."""
    return u16(p.frame, ETH) & 0xFFF


def strip_tag(p: Packet) -> None:
    """Takes the 802.1Q tag out (RFC 7637 section 3.3)."""
    del p.frame[12 : 12 + VLAN]
    p.csum_start -= VLAN
    p.reach -= VLAN
    parse(p)


def is_said_gso(p: Packet) -> bool:
    """The super-packet is what its metadata says: TCP of that family, or UDP whose length is the whole's."""
    if p.gso == GSO_UDP:
        return p.proto == UDP and u16(p.frame, p.l4 + 4) == p.end - p.l4
    return p.proto == TCP and p.family == (4 if p.gso == GSO_TCP4 else 6)


def check_offload(p: Packet) -> None:
    """README.md 1.6: TCP's and UDP's own stays as it is; any other partial checksum is completed here."""
    own = (
        p.partial
        and not p.fragment
        and (p.proto, p.csum_offset) in ((TCP, 16), (UDP, 6))
        and p.kind == "ip"
        and p.csum_start == p.l4
    )
    if p.gso != GSO_NONE and (not own or not is_said_gso(p) or p.gso_size * 1365 < p.end - p.l4):
        raise Drop("bad-offload")
    if not p.partial or own:
        return
    behind = p.csum_start + p.csum_offset + (4 if is_crc32c(p) else 2)
    if p.kind != "ip" or p.csum_start < p.l4 or behind > min(p.end, p.reach):
        raise Drop("bad-offload")
    finish_checksum(p)


def check_gre(p: Packet) -> int:
    """The VSID of a parsed GRE packet, README.md 3.8."""
    gre = p.frame[p.l4 : min(p.end, p.reach)]
    if len(gre) < 4:
        raise Drop("gre-short")
    flags = u16(gre, 0)
    for bits, reason in (
        (0x0007, "gre-version"),
        (0x8000, "gre-checksum-bit"),
        (0x1000, "gre-sequence-bit"),
        (0x4C00, "gre-reserved-bits"),
    ):
        if flags & bits:
            raise Drop(reason)
    if not flags & 0x2000:
        raise Drop("gre-no-key")
    if u16(gre, 2) != 0x6558:
        raise Drop("gre-protocol")
    if len(gre) < 8:
        raise Drop("gre-short")
    vsid = int.from_bytes(gre[4:7], "big")
    if vsid < 0x1000 or vsid == 0xFFFFFF:
        raise Drop("vsid-reserved")
    return vsid
