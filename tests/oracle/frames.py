"""Frames by scapy: from VMs, and as other hosts would send them over the underlay."""

from ipaddress import IPv4Address
from typing import Any

from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import GRE, Ether
from scapy.packet import Packet

from dataplane.binding.core import Frame, Gso
from dataplane.binding.tables import Address
from tests.oracle.world import ROUTER_MAC, SHARED, UNDERLAY_MAC, Vm

PEER_MAC = bytes.fromhex("020000007702")


def ip(
    source: Address | str, destination: Address | str, *, tos: int = 0, ttl: int = 64, **more: Any
) -> Packet:
    """An IP header of the family of the addresses."""
    if isinstance(source, IPv4Address) or "." in str(source):
        return IP(src=str(source), dst=str(destination), tos=tos, ttl=ttl, **more)
    return IPv6(src=str(source), dst=str(destination), tc=tos, hlim=ttl, **more)


def ether(destination: bytes, source: bytes) -> Packet:
    return Ether(dst=destination.hex(":"), src=source.hex(":"))


def between(a: Vm, b: Vm, family: int, payload: Packet, **ip_fields: Any) -> Packet:
    """As a sends it: to b's MAC in the same subnet, else to the router's."""
    mac = b.mac if a.vsid == b.vsid else ROUTER_MAC
    return ether(mac, a.mac) / ip(a.ca(family), b.ca(family), **ip_fields) / payload


def arriving(a: Vm, b: Vm, family: int, payload: Packet, **ip_fields: Any) -> Packet:
    """The inner frame as b's host must get it: routed already if the subnets differ."""
    mac = a.mac if a.vsid == b.vsid else ROUTER_MAC
    return ether(b.mac, mac) / ip(a.ca(family), b.ca(family), **ip_fields) / payload


def tcp(payload: bytes = b"", **fields: Any) -> Packet:
    return TCP(**({"sport": 40000, "dport": 80, "seq": 1000, "ack": 2000, "flags": "A"} | fields)) / payload


def udp(payload: bytes = b"") -> Packet:
    return UDP(sport=40000, dport=53) / payload


def outer(
    source: Address,
    destination: Address,
    payload: Packet | bytes,
    *,
    macs: tuple[bytes, bytes] | None = None,
    **more: Any,
) -> Packet:
    """A GRE packet between PAs as this core sends them; macs: destination and source."""
    header = {"flags": "DF", "id": 0} if source.version == 4 else {}
    proto = {"proto": 47} if source.version == 4 else {"nh": 47}
    return (
        ether(*(macs or (UNDERLAY_MAC, PEER_MAC)))
        / ip(source, destination, **(header | proto | more))
        / payload
    )


def gre(vsid: int, inner: Packet | bytes, flowid: int = 0, **more: Any) -> Packet:
    return GRE(**({"key_present": 1, "proto": 0x6558, "key": vsid << 8 | flowid} | more)) / inner


def from_host(host: int, vsid: int, inner: Packet | bytes, family: int = 4, **more: Any) -> Packet:
    """NVGRE from another host's shared PA to ours."""
    return outer(SHARED[host, family], SHARED[1, family], gre(vsid, inner), **more)


def sum_of(octets: bytes) -> bytes:
    """The Internet checksum."""
    padded = octets + bytes(len(octets) % 2)
    total = sum(int.from_bytes(padded[i : i + 2], "big") for i in range(0, len(padded), 2))
    return (0xFFFF - (total % 0xFFFF or 0xFFFF)).to_bytes(2, "big")


def partial(whole: Packet, start: int, offset: int, gso: Gso = Gso.NONE, size: int = 0) -> Frame:
    """The frame with the pseudo header's sum alone in its checksum, as Linux leaves it."""
    octets = bytearray(bytes(whole))
    v4 = octets[12:14] == b"\x08\x00"
    addresses, proto = (octets[26:34], octets[23]) if v4 else (octets[22:54], octets[20])
    pseudo = bytes(addresses) + (len(octets) - start).to_bytes(4, "big") + bytes((0, 0, 0, proto))
    pseudo_sum = 0xFFFF - int.from_bytes(sum_of(pseudo), "big")
    octets[start + offset : start + offset + 2] = pseudo_sum.to_bytes(2, "big")
    return Frame(
        bytes(octets), csum_partial=True, csum_start=start, csum_offset=offset, gso=gso, gso_size=size
    )
