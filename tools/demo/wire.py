"""What is on a wire: frames off a device by AF_PACKET, and a decoder that shares nothing with the packet
core.

A device that offloads checksums is handed packets whose TCP or UDP sum is not there yet: the field holds
the sum of the pseudo header and the device is to complete it. The socket says so for each packet
(virtio_net_hdr), and the decoder checks what has to be in the field in either case.
"""

import socket
import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from types import TracebackType
from typing import Self

from dataplane.host import netns
from tools.demo.frames import ARP, GRE, ICMP, ICMPV6, TCP, TEB, UDP, Address, ones_sum, pseudo_header

_SOL_PACKET = 263
_ADD_MEMBERSHIP, _STATISTICS, _VNET_HDR = 1, 6, 15
_SO_RCVBUFFORCE = 33
_BUFFER = 32 << 20
_NEEDS_CSUM = 1
_ND = range(133, 138)
_CHECKSUM_AT = {TCP: 16, UDP: 6, ICMP: 2, ICMPV6: 2}


@dataclass(frozen=True, slots=True)
class Packet:
    """A frame, decoded as far as it is understood.

    source and destination are None unless it is IP; ports are (0, 0) without TCP or UDP. inner: the frame
    in an NVGRE packet, whose header is (gre_flags, vsid, flow_id). faults: what is wrong with it, in words.
    pending: its TCP or UDP sum, or its inner frame's, is left to the device, and the field holds what the
    device needs.
    """

    source_mac: str
    destination_mac: str
    ethertype: int
    source: Address | None = None
    destination: Address | None = None
    protocol: int = 0
    ttl: int = 0
    ports: tuple[int, int] = (0, 0)
    icmp_type: int | None = None
    payload: bytes = b""
    gre_flags: int = 0
    vsid: int = 0
    flow_id: int = 0
    inner: "Packet | None" = None
    faults: tuple[str, ...] = ()
    pending: bool = False

    @property
    def flow(self) -> tuple[object, ...]:
        return self.source, self.destination, self.protocol, self.ports

    @property
    def is_traffic(self) -> bool:
        """Whether it is data: IP, and neither neighbour discovery nor what a device says by itself."""
        if self.source is None or self.destination is None:
            return False
        if self.source.is_link_local or self.source.is_unspecified or self.destination.is_multicast:
            return False
        return self.icmp_type not in _ND


def decode(frame: bytes, pending: bool = False) -> Packet:
    """Never fails: what can't be decoded is a fault of the packet."""
    macs = frame[6:12].hex(":"), frame[:6].hex(":")
    ethertype = int.from_bytes(frame[12:14], "big")
    try:
        if ethertype == 0x0800:
            return _decode_ipv4(macs, frame[14:], pending)
        if ethertype == 0x86DD:
            return _decode_ipv6(macs, frame[14:], pending)
    except (struct.error, ValueError, IndexError):
        return Packet(*macs, ethertype, payload=frame[14:], faults=("truncated",))
    faults = () if ethertype == ARP else (f"EtherType {ethertype:#06x}",)
    return Packet(*macs, ethertype, payload=frame[14:], faults=faults)


def _decode_ipv4(macs: tuple[str, str], data: bytes, pending: bool) -> Packet:
    header_length = (data[0] & 15) * 4
    total, _, fragment, ttl, protocol = struct.unpack_from("!HHHBB", data, 2)
    source, destination = IPv4Address(data[12:16]), IPv4Address(data[16:20])
    faults = ["IPv4 header checksum"] if ones_sum(data[:header_length]) else []
    if len(data) < total:
        faults.append("IPv4 length")
    payload = data[header_length:total]
    head = (*macs, 0x0800, source, destination, protocol, ttl)
    if fragment & 0x3FFF:
        return Packet(*head, payload=payload, faults=(*faults, "fragment"))
    return _decode_l4(head, source, destination, protocol, payload, pending, faults)


def _decode_ipv6(macs: tuple[str, str], data: bytes, pending: bool) -> Packet:
    length, protocol, ttl = struct.unpack_from("!HBB", data, 4)
    source, destination = IPv6Address(data[8:24]), IPv6Address(data[24:40])
    faults = ["IPv6 length"] if len(data) < 40 + length else []
    payload = data[40 : 40 + length]
    while protocol == 0:  # hop-by-hop options, as MLD has them
        protocol, payload = payload[0], payload[8 * (payload[1] + 1) :]
    head = (*macs, 0x86DD, source, destination, protocol, ttl)
    return _decode_l4(head, source, destination, protocol, payload, pending, faults)


def _decode_l4(
    head: tuple[str, str, int, Address, Address, int, int],
    source: Address,
    destination: Address,
    protocol: int,
    data: bytes,
    pending: bool,
    faults: list[str],
) -> Packet:
    if protocol == GRE:
        flags, ethertype, key = struct.unpack_from("!HHI", data)
        if ethertype != TEB:
            faults.append(f"GRE protocol {ethertype:#06x}")
        inner = decode(data[8:], pending)
        return Packet(
            *head,
            gre_flags=flags,
            vsid=key >> 8,
            flow_id=key & 0xFF,
            inner=inner,
            faults=(*faults, *inner.faults),
            pending=inner.pending,
        )
    if protocol not in _CHECKSUM_AT:
        return Packet(*head, payload=data, faults=(*faults, f"IP protocol {protocol}"))
    if not _sum_is_right(source, destination, protocol, data, pending):
        faults.append(f"checksum of protocol {protocol}")
    ports = struct.unpack_from("!HH", data) if protocol in (TCP, UDP) else (0, 0)
    icmp_type = data[0] if protocol in (ICMP, ICMPV6) else None
    start = (data[12] >> 4) * 4 if protocol == TCP else 8
    return Packet(*head, ports, icmp_type, data[start:], faults=tuple(faults), pending=pending)


def _sum_is_right(source: Address, destination: Address, protocol: int, data: bytes, pending: bool) -> bool:
    pseudo = pseudo_header(source, destination, protocol, len(data)) if protocol != ICMP else b""
    field = int.from_bytes(data[_CHECKSUM_AT[protocol] :][:2], "big")
    if pending:
        return field % 0xFFFF == ones_sum(pseudo)
    if protocol == UDP and field == 0:
        return source.version == 4  # none was made, which IPv6 forbids
    return ones_sum(pseudo + data) == 0


class Capture:
    """Everything that passes a device from now on, either way, kept by the kernel until it is read."""

    def __init__(self, namespace: str, device: str) -> None:
        self._socket = netns.call(namespace, socket.socket, socket.AF_PACKET, socket.SOCK_RAW, 0)
        try:
            self._socket.setsockopt(_SOL_PACKET, _VNET_HDR, 1)
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
            index = netns.call(namespace, socket.if_nametoindex, device)
            self._socket.setsockopt(
                _SOL_PACKET, _ADD_MEMBERSHIP, struct.pack("=IHH8x", index, 1, 0)
            )  # promiscuous
            self._socket.bind((device, 0x0003))
            self._socket.setblocking(False)
        except BaseException:
            self._socket.close()
            raise

    def frames(self) -> list[tuple[bytes, bool]]:
        """What has come since the last call, as (frame, its checksum is pending). BufferError: some was
        lost.
        """
        found = []
        while True:
            try:
                data = self._socket.recv(10 + 70_000)
            except BlockingIOError:
                break
            found.append((data[10:], bool(data[0] & _NEEDS_CSUM)))
        _, lost = struct.unpack("=II", self._socket.getsockopt(_SOL_PACKET, _STATISTICS, 8))
        if lost:
            raise BufferError(f"{lost} frames did not fit into the capture's buffer")
        return found

    def packets(self) -> list[Packet]:
        return [decode(*found) for found in self.frames()]

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
