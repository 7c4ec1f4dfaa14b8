"""The solicited-node groups of an underlay device.

The host's IPv6 joins them: that sets the device's filter and speaks MLD to snooping switches, while the
ingress drop keeps the solicitations from it. Where it can't (IPv6 off, too many groups) the device takes all
multicast instead.
"""

import errno
import socket
import struct
from collections.abc import Set
from ipaddress import IPv6Address
from pathlib import Path

from dataplane.host import packet_socket


def solicited_node(address: IPv6Address) -> IPv6Address:
    """The multicast group of an address's neighbour solicitations (RFC 4291 section 2.7.1)."""
    return IPv6Address(IPv6Address("ff02::1:ff00:0").packed[:13] + address.packed[13:])


def joining_socket() -> int | None:
    """What joins groups, for as long as it is open in any process; None: the kernel is one without IPv6."""
    try:
        return socket.socket(socket.AF_INET6, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC).detach()
    except OSError:
        return None


class Groups:
    """Those that a socket has joined on a device. Owns no descriptor."""

    def __init__(self, index: int, packet_fd: int, fd: int | None, *, used: bool = False) -> None:
        """packet_fd: an AF_PACKET socket of the device. fd: by joining_socket(); used: by an earlier process,
        which may have joined some.
        """
        self._index = index
        self._packet_fd = packet_fd
        self._fd = fd
        self._joined: Set[IPv6Address] = frozenset()
        self._perhaps = _on_device(index) if used else frozenset()

    def replace(self, groups: Set[IPv6Address]) -> None:
        """Join these and leave all others."""
        for group in groups - self._joined:
            if not self._set(socket.IPV6_JOIN_GROUP, group):
                packet_socket.take_every_group(self._packet_fd, self._index)
        for group in (self._joined | self._perhaps) - groups:
            self._set(socket.IPV6_LEAVE_GROUP, group)  # refused for what others have joined
        self._joined, self._perhaps = groups, frozenset()

    def _set(self, option: int, group: IPv6Address) -> bool:
        if self._fd is None:
            return False
        request = group.packed + struct.pack("=I", self._index)
        try:
            with packet_socket.borrowed(self._fd) as opened:
                opened.setsockopt(socket.IPPROTO_IPV6, option, request)
        except OSError as error:
            return error.errno == errno.EADDRINUSE  # joined already
        return True


def _on_device(index: int) -> frozenset[IPv6Address]:
    """The solicited-node groups that anybody has joined on a device: a socket doesn't tell its own."""
    path = Path("/proc/thread-self/net/igmp6")
    rows = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
    groups = {IPv6Address(bytes.fromhex(row[2])) for row in rows if int(row[0]) == index}
    return frozenset(group for group in groups if solicited_node(group) == group)
