"""Of the naive twin: frames that are made here, and what is asked of one that came."""

import struct
from ipaddress import ip_address
from typing import NamedTuple

from dataplane.twin.packet import (
    ALL_NODES,
    ALL_NODES_MAC,
    ANY6,
    GRE,
    ICMP,
    ICMP6,
    IP4_LEN,
    ROUTE_OPTIONS,
    TYPE_ARP,
    TYPE_IP4,
    TYPE_IP6,
    Drop,
    Packet,
    put16,
    u16,
)
from dataplane.twin.sums import checksum, fold, pseudo_header, total, update16


def ip_header(source: bytes, destination: bytes, proto: int, payload: int, tos: int, ttl: int) -> bytes:
    """IPv4 with DF and identification 0, or IPv6 with flow label 0. payload: bytes that follow."""
    if len(source) == 16:
        return struct.pack(">IHBB", 6 << 28 | tos << 20, payload, proto, ttl) + source + destination
    length, dont_fragment = IP4_LEN + payload, 0x4000
    header = (
        struct.pack(">BBHHHBBH", 0x45, tos, length, 0, dont_fragment, ttl, proto, 0) + source + destination
    )
    return header[:10] + checksum(header).to_bytes(2, "big") + header[12:]


def nvgre(
    inner: bytes, source: bytes, destination: bytes, vsid: int, flow: int, tos: int, ttl: int = 64
) -> bytes:
    """The outer frame from its EtherType on, MACs to come (RFC 7637 section 3.2)."""
    gre = struct.pack(">HHI", 0x2000, 0x6558, vsid << 8 | flow) + inner
    ethertype = TYPE_IP4 if len(source) == 4 else TYPE_IP6
    return ethertype.to_bytes(2, "big") + ip_header(source, destination, GRE, len(gre), tos, ttl) + gre


class Arp(NamedTuple):
    op: int
    sender_mac: bytes
    sender: bytes
    target: bytes


def read_arp(p: Packet) -> Arp:
    body = bytes(p.frame[p.l3 : p.end])
    return Arp(u16(body, 6), body[8:14], body[14:18], body[24:28])


def arp(op: int, to: bytes, sender: tuple[bytes, bytes], target: tuple[bytes, bytes]) -> bytes:
    """An ARP frame to a MAC; sender, target: MAC and address in the body."""
    body = struct.pack(">HHBBH", 1, TYPE_IP4, 6, 4, op) + sender[0] + sender[1] + target[0] + target[1]
    return to + sender[0] + TYPE_ARP.to_bytes(2, "big") + body


def arp_reply(p: Packet, mac: bytes) -> bytes:
    """The request's target is at this MAC: told to where the request came from."""
    request = read_arp(p)
    return arp(2, p.source_mac, (mac, request.target), (request.sender_mac, request.sender))


def nd(macs: tuple[bytes, bytes], source: bytes, destination: bytes, message: bytes) -> bytes:
    """An ND frame; macs: destination and source; message: ICMPv6 with checksum 0."""
    pseudo = source + destination + struct.pack(">II", len(message), ICMP6)
    message = message[:2] + checksum(pseudo + message).to_bytes(2, "big") + message[4:]
    header = ip_header(source, destination, ICMP6, len(message), 0, 255)
    return macs[0] + macs[1] + TYPE_IP6.to_bytes(2, "big") + header + message


def advertisement(target: bytes, mac: bytes, asker: tuple[bytes, bytes], router: bool) -> bytes:
    """The answer to a neighbour solicitation by asker (MAC, address) (RFC 4861 section 7.2.4)."""
    flags = 0x20 | (0x80 if router else 0) | (0x40 if asker[1] != ANY6 else 0)
    message = struct.pack(">BBHI", 136, 0, 0, flags << 24) + target + b"\x02\x01" + mac
    if asker[1] == ANY6:
        return nd((ALL_NODES_MAC, mac), target, ALL_NODES, message)
    return nd((asker[0], mac), target, asker[1], message)


def is_host(address: bytes) -> bool:
    """A destination that may lie beyond the link."""
    ip = ip_address(address)
    above = ip.version == 4 and address[0] >= 0xE0
    return not (ip.is_unspecified or ip.is_loopback or ip.is_multicast or above)


def is_link_local(address: bytes) -> bool:
    return len(address) == 16 and address[0] == 0xFE and address[1] & 0xC0 == 0x80


def is_guest_link_local(address: bytes) -> bool:
    """Any but the router's: a guest makes its own as it likes (RFC 7217)."""
    return is_link_local(address) and ip_address(address) != ip_address("fe80::1")


def is_echo_request(p: Packet) -> bool:
    """One that can be answered in place: no fragment, no IPv4 options."""
    if p.fragment or p.kind != "ip" or p.proto != (ICMP if p.family == 4 else ICMP6):
        return False
    request = b"\x08\x00" if p.family == 4 else b"\x80\x00"
    return p.frame[p.l4 : p.l4 + 2] == request and (p.family == 6 or p.l4 - p.l3 == IP4_LEN)


def to_echo_reply(p: Packet, mac: bytes) -> None:
    """Turns a request round: back to where it came from, from `mac`, checksums by RFC 1624."""
    p.set_macs(p.source_mac, mac)
    at = p.l3 + (12 if p.family == 4 else 8)
    both = p.destination + p.source
    p.frame[at : at + len(both)] = both
    if p.family == 4:
        old = bytes(p.frame[p.l3 + 8 : p.l3 + 10])
        p.frame[p.l3 + 8] = 64
        update16(p.frame, p.l3 + 10, old, bytes(p.frame[p.l3 + 8 : p.l3 + 10]))
    else:
        p.frame[p.l3 + 7] = 64
    old = bytes(p.frame[p.l4 : p.l4 + 2])
    p.frame[p.l4] = 0 if p.family == 4 else 129
    update16(p.frame, p.l4 + 2, old, bytes(p.frame[p.l4 : p.l4 + 2]))
    if not any(p.frame[p.l4 : p.end]):  # the one sum that is 0 and not 0xFFFF
        put16(p.frame, p.l4 + 2, 0xFFFF)


def has_route_option(p: Packet) -> bool:
    """An IPv4 option that provider routers would act on, or one that does not fit."""
    options = bytes(p.frame[p.l3 + IP4_LEN : p.l4]) if p.family == 4 else b""
    while options and options[0] != 0:
        length = 1 if options[0] == 1 else options[1] if len(options) > 1 else 0
        if options[0] in ROUTE_OPTIONS or length > len(options) or (options[0] != 1 and length < 2):
            return True
        options = options[length:]
    return False


def link_layer_option(p: Packet) -> bytes | None:
    """The MAC in an ND message's link-layer address option, None without one. Drop: it is not valid."""
    kind, code = p.frame[p.l4], p.frame[p.l4 + 1]
    message = bytes(p.frame[p.l4 : p.end])
    if p.fragment or p.ttl != 255 or code != 0 or p.end > p.reach:
        raise Drop("nd-malformed")
    if fold(total(pseudo_header(p, len(message))) + total(message)) != 0xFFFF:
        raise Drop("nd-malformed")
    if kind in (134, 137):
        return None
    fixed = 8 if kind == 133 else 24
    if len(message) < fixed or (kind != 133 and message[8] == 0xFF):
        raise Drop("nd-malformed")
    wanted, mac = 2 if kind == 136 else 1, None
    at = fixed
    while at < len(message):
        if at + 2 > len(message) or message[at + 1] == 0 or at + message[at + 1] * 8 > len(message):
            raise Drop("nd-malformed")
        if message[at] == wanted:
            mac = mac or message[at + 2 : at + 8]
        at += message[at + 1] * 8
    if mac and kind == 135 and p.source == ANY6:
        raise Drop("nd-malformed")
    return mac
