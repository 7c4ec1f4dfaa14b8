"""AF_PACKET sockets as the core wants them: virtio_net_hdr before every frame, VLAN tags in auxdata,
non-blocking.
"""

import ctypes
import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

BUFFER = 8 << 20
"""Socket buffers in bytes, either way. The kernel counts a 64 KiB packet for more than 64 KiB."""

ETH_P_ALL = 0x0003
_SOL_PACKET = 263
_ADD_MEMBERSHIP, _AUXDATA, _VNET_HDR, _FANOUT, _IGNORE_OUTGOING = 1, 8, 15, 18, 23
_MR_MULTICAST, _MR_PROMISC, _MR_ALLMULTI = 0, 1, 2
_FANOUT_HASH, _FANOUT_IGNORE_OUTGOING, _FANOUT_UNIQUEID = 0, 0x4000, 0x2000
_SO_ATTACH_FILTER, _SO_DETACH_FILTER, _SO_ATTACH_BPF = 26, 27, 50
_SO_SNDBUFFORCE, _SO_RCVBUFFORCE, _SO_LOCK_FILTER = 32, 33, 44


def open_queues(device: str, queues: int, accept: int | None) -> tuple[int, ...]:
    """Descriptors of sockets that share a device's frames by flow and see those that `accept`, a BPF program,
    lets in; the caller's to close. The device is up: on one that is down the first read of each fails.

    PACKET_QDISC_BYPASS stays off: it would lose super-packets whenever a device has no TSO, and hide what we
    send from tcpdump and from the operator's egress filters.
    """
    with ExitStack() as stack:
        sockets = [_open(stack, device) for _ in range(queues)]
        if queues > 1:
            _fan_out(sockets)
        for opened in sockets:  # not before: outside the fanout each would get its own copy of every frame
            if accept is None:
                opened.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)
            else:
                opened.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_BPF, accept)
            opened.setsockopt(socket.SOL_SOCKET, _SO_LOCK_FILTER, 1)  # by nobody who has a duplicate
        return tuple(opened.detach() for opened in sockets)


def device_of(fd: int) -> str | None:
    """The name that a socket's device has now; None: it was removed, or moved to another namespace, or it is
    no packet socket.
    """
    with borrowed(fd) as opened:
        if opened.family != socket.AF_PACKET:
            return None
        name: str = opened.getsockname()[0]
    return name or None


@contextmanager
def borrowed(fd: int) -> Iterator[socket.socket]:
    """A socket by its descriptor, which stays open."""
    opened = socket.socket(fileno=fd)
    try:
        yield opened
    finally:
        opened.detach()


def take_every_mac(fd: int, index: int) -> None:
    """Promiscuous mode for as long as the socket lives."""
    _join(fd, index, _MR_PROMISC)


def take_group(fd: int, index: int, mac: bytes) -> None:
    """One group for as long as the socket lives; nothing is said on the wire (MLD)."""
    _join(fd, index, _MR_MULTICAST, mac)


def take_every_group(fd: int, index: int) -> None:
    """All multicast for as long as the socket lives."""
    _join(fd, index, _MR_ALLMULTI)


def _open(stack: ExitStack, device: str) -> socket.socket:
    """Of protocol 0 a socket sees nothing before it is bound; its filter lets nothing in afterwards."""
    kind = socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
    opened = stack.enter_context(socket.socket(socket.AF_PACKET, kind, 0))
    for option in (_VNET_HDR, _AUXDATA, _IGNORE_OUTGOING):
        opened.setsockopt(_SOL_PACKET, option, 1)
    for option in (_SO_RCVBUFFORCE, _SO_SNDBUFFORCE):
        opened.setsockopt(socket.SOL_SOCKET, option, BUFFER)
    with _filter_of_nothing() as program:
        opened.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)
    opened.bind((device, ETH_P_ALL))
    return opened


@contextmanager
def _filter_of_nothing() -> Iterator[bytes]:
    """struct sock_fprog with the classic BPF program `ret #0`; lives as long as the context."""
    code = ctypes.create_string_buffer(struct.pack("=HBBI", 0x06, 0, 0, 0), 8)
    yield struct.pack("=H6xQ", 1, ctypes.addressof(code))


def _fan_out(sockets: list[socket.socket]) -> None:
    mode = _FANOUT_HASH | _FANOUT_IGNORE_OUTGOING
    first, *others = sockets
    first.setsockopt(_SOL_PACKET, _FANOUT, (mode | _FANOUT_UNIQUEID) << 16)
    group = first.getsockopt(_SOL_PACKET, _FANOUT) & 0xFFFF
    for other in others:
        other.setsockopt(_SOL_PACKET, _FANOUT, mode << 16 | group)


def _join(fd: int, index: int, membership: int, mac: bytes = b"") -> None:
    request = struct.pack("=IHH8s", index, membership, len(mac), mac)
    with borrowed(fd) as opened:
        opened.setsockopt(_SOL_PACKET, _ADD_MEMBERSHIP, request)
