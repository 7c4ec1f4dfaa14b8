"""AF_XDP sockets for the core, and the program that steers what a device receives to them
(Documentation/networking/af_xdp.rst).

They are made here over the memory of the data-plane process, which is bounded in what it may do and how much
memory it may keep in place. So a socket serves that one process: for the next one it is made anew. All who
hold one close it before the core detaches the port: what the kernel may write to is another packet's then.

Functions work in the calling thread's namespace. Errors are OSError.
"""

import ctypes
import errno
import fcntl
import mmap
import os
import socket
import struct
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress

from dataplane.binding.memory import SEALED
from dataplane.host import bpf
from dataplane.host.packet_socket import BUFFER

DRIVER = "afxdp"
SLOT, RING = 4096, 4096
"""Bytes, entries: as the core knows them (csrc/port/xsk.h)."""
SENT_AT_ONCE = 256
"""Packets, by one system call."""
_MOST = 16 << 30
WHOLE = 3392
"""Bytes of a frame that one slot holds, as the core makes them."""

_AF_XDP, _SOL_XDP = 44, 283
_RX_RING, _TX_RING, _UMEM_REG, _FILL_RING, _COMPLETION_RING = 2, 3, 4, 5, 6
_MAX_TX_SKB_BUDGET = 9
_COPY, _USE_NEED_WAKEUP, _USE_SG = 1 << 1, 1 << 3, 1 << 4
_SO_SNDBUFFORCE = 32

_LET_GO_SECONDS = 0.25
"""A socket that is closed has its queue until the kernel gets to that (xp_put_pool())."""

_libc = ctypes.CDLL(None, use_errno=True)


def receive(xsks: int, fds: Sequence[int]) -> None:
    """From now on packets are steered to these sockets, one a queue of the device, from the first on. xsks:
    the map that its program looks in; ValueError: another one.
    """
    bpf.check_xsks(xsks)
    for queue, fd in enumerate(fds):
        bpf.set_xsk(xsks, queue, fd)


def open_socket(memory: int, index: int, queue: int, has_long: bool) -> int:
    """A socket of the core's memory, bound to a queue of a device; the caller's. has_long: frames of more
    than a slot come or go. OSError: EBUSY, somebody has one there; EINVAL, the memory is none that keeps
    its size; else the kernel can't do that.

    The kernel copies packets, whatever the driver can: a slot that a driver writes to itself it could still
    write to when the socket is closed, and the slot another packet's.
    """
    size = _size_of(memory)
    with _socket() as opened, mmap.mmap(memory, size) as mapped:
        opened.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, BUFFER)
        view = (ctypes.c_char * size).from_buffer(mapped)
        try:
            umem = struct.pack("=QQIIII", ctypes.addressof(view), size, SLOT, 0, 0, 0)
            opened.setsockopt(_SOL_XDP, _UMEM_REG, umem)
        finally:
            del view
        for ring in (_FILL_RING, _COMPLETION_RING, _RX_RING, _TX_RING):
            opened.setsockopt(_SOL_XDP, ring, struct.pack("=i", RING))
        with suppress(OSError):  # an older kernel sends 32 packets a call
            opened.setsockopt(_SOL_XDP, _MAX_TX_SKB_BUDGET, struct.pack("=i", SENT_AT_ONCE))
        _bind(opened.fileno(), index, queue, has_long)
        return opened.detach()


def _size_of(memory: int) -> int:
    """Who has it may have been broken into: it must keep its size while it is mapped, and not be too much."""
    size = os.fstat(memory).st_size
    if fcntl.fcntl(memory, fcntl.F_GET_SEALS) & SEALED != SEALED or not 0 < size <= _MOST or size % SLOT:
        raise OSError(errno.EINVAL, f"{size} bytes that may change their size")
    return size


def _bind(fd: int, index: int, queue: int, has_long: bool) -> None:
    flags = _USE_NEED_WAKEUP | _COPY | (_USE_SG if has_long else 0)
    address = struct.pack("=HHIII", _AF_XDP, flags, index, queue, 0)
    end = time.monotonic() + _LET_GO_SECONDS
    while _libc.bind(fd, address, len(address)):
        code = ctypes.get_errno()
        if code != errno.EBUSY or time.monotonic() > end:
            raise OSError(code, os.strerror(code))
        time.sleep(_LET_GO_SECONDS / 50)


def steer(program: bpf.Program, index: int, queues: int, pas: bpf.PaMap | None = None) -> Sequence[int]:
    """Runs the program on what a device receives: the descriptors of its link, and of the map that it looks
    in; the caller's.
    """
    with ExitStack() as stack:
        xsks = bpf.make_xsks(queues)
        stack.callback(os.close, xsks)
        loaded = bpf.load(program, pas, xsks)
        try:
            link = bpf.attach_xdp(loaded, index)
        finally:
            os.close(loaded)
        stack.pop_all()
        return link, xsks


def _socket() -> socket.socket:
    return socket.socket(_AF_XDP, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, 0)
