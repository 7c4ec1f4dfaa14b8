"""TAPs in a VM's namespace."""

import errno
import fcntl
import os
import struct
from contextlib import suppress
from dataclasses import astuple

from pyroute2 import IPRoute

from dataplane.host import links, netns
from dataplane.host.device import (
    IFF_MULTI_QUEUE,
    TUNSETPERSIST,
    Device,
    Opening,
    Terms,
    check_is_not_hosts,
    check_no_loopback,
)
from dataplane.host.links import ALIAS, DeviceError, Place
from dataplane.host.undo import Undo

TX_QUEUE_LEN = 4096
"""Packets that a TAP holds for us; of the default 1000 a burst of small packets loses some."""

TUNSETIFF, _TUNSETOFFLOAD, _TUNSETVNETHDRSZ = 0x400454CA, 0x400454D0, 0x400454D8
IFF_TAP, IFF_NO_PI, IFF_VNET_HDR, IFF_TUN_EXCL = 0x0002, 0x1000, 0x4000, 0x8000

_TUN_F_CSUM, _TUN_F_TSO4, _TUN_F_TSO6, _TUN_F_TSO_ECN, _TUN_F_USO4, _TUN_F_USO6 = 1, 2, 4, 8, 32, 64

_VNET_HDR_SIZE = 10
_IS_HELD = "a process holds it already"


def open_tap(name: str, terms: Terms, *, namespace: str) -> Device:
    """A TAP in the VM's namespace: made, or taken over if it is persistent and nobody holds a queue of it.

    One that is made with one queue can have no other: who opens it besides us gets EBUSY. One that is there
    stays what it is, whatever `queues` says: see Device.queues_of().
    """
    with links.errors(Opening.TAP.words(name, namespace)), Undo() as undo:
        check_is_not_hosts(namespace)
        place = netns.call(namespace, _open_tap, undo, namespace, name, terms)
        fds = tuple(undo.fds)
        return Device(name, Opening.TAP, place, terms.mac.lower(), terms.mtu, fds, undo.pop_all())


def _open_tap(undo: Undo, namespace: str, name: str, terms: Terms) -> Place:
    with IPRoute() as ip:
        present = links.find(ip, name)
        if present is not None:
            check_no_loopback(present)
            if present.tap_queues:
                raise DeviceError(_IS_HELD)
        is_multi_queue = terms.queues > 1 if present is None else present.tap_is_multi_queue
        for queue in range(terms.queues if is_multi_queue else 1):
            _open_tap_queue(undo, name, is_multi_queue, present is None and queue == 0)
        place = Place(namespace, netns.identity(None), links.get(ip, name).index)
        if present is None:
            ip.link("set", index=place.index, ifalias=ALIAS)
            fcntl.ioctl(undo.fds[0], TUNSETPERSIST, 1)
        if present is None or present.alias == ALIAS:
            undo.add("remove", *astuple(place))
        ip.link("set", index=place.index, address=terms.mac, mtu=terms.mtu, txqlen=TX_QUEUE_LEN)
        links.set_noqueue(ip, place.index)
        ip.link("set", index=place.index, state="up")
    return place


def _open_tap_queue(undo: Undo, name: str, multi_queue: bool, new: bool) -> None:
    (fd,) = undo.own(os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC))
    flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR
    flags |= (IFF_MULTI_QUEUE if multi_queue else 0) | (IFF_TUN_EXCL if new else 0)
    try:
        fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", name.encode(), flags))
    except OSError as error:
        if error.errno == errno.EBUSY:
            raise DeviceError(_IS_HELD) from None
        raise
    fcntl.ioctl(fd, _TUNSETVNETHDRSZ, struct.pack("=i", _VNET_HDR_SIZE))
    offloads = _TUN_F_CSUM | _TUN_F_TSO4 | _TUN_F_TSO6 | _TUN_F_TSO_ECN
    fcntl.ioctl(fd, _TUNSETOFFLOAD, offloads)
    with suppress(OSError):  # before Linux 6.2
        fcntl.ioctl(fd, _TUNSETOFFLOAD, offloads | _TUN_F_USO4 | _TUN_F_USO6)
