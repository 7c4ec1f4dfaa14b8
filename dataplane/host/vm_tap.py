"""TAPs that are made for hypervisors: who opens one is the VM, its other end is the host's and is sealed
before it is ever up. It stays, whoever dies, until close().
"""

import fcntl
import os
import pwd
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import astuple

from pyroute2 import IPRoute

from dataplane.host import links, netns
from dataplane.host.device import (
    IFF_MULTI_QUEUE,
    TUNSETPERSIST,
    Device,
    Opening,
    Terms,
    VmTap,
    place_of,
)
from dataplane.host.existing import opened_by_driver, read_every_frame, seal_link
from dataplane.host.links import ALIAS, DeviceError, Link
from dataplane.host.tap import IFF_NO_PI, IFF_TAP, IFF_TUN_EXCL, IFF_VNET_HDR, TUNSETIFF, TX_QUEUE_LEN
from dataplane.host.undo import Undo

_TUNSETOWNER = 0x400454CC


def open_vm_tap(name: str, terms: Terms) -> Device:
    """A TAP for a hypervisor: made, or taken over if isolane made it and it is as stated; one that is of
    another user, or has one queue in place of several, is made anew. driver: as in open_existing().
    """
    with links.errors(Opening.VM.words(name, None)), Undo() as undo:
        stated = terms.tap or VmTap()
        is_new = netns.call(None, _make, undo, name, terms, stated, _uid(stated.user))
        try:
            link = netns.call(None, _set_up, undo, name, terms)
            fds = netns.call(None, read_every_frame, undo, link, terms.queues)
            there = (name, Opening.VM, place_of(link), terms.mac.lower(), terms.mtu, fds, undo)
            return opened_by_driver(undo, Device(*there, tap=stated), link, terms)
        except BaseException:
            if not is_new:
                undo.release()  # a VM may be using it
            raise


def _uid(user: str) -> int:
    if user.isdecimal():
        return int(user)
    try:
        return pwd.getpwnam(user or "root").pw_uid
    except KeyError:
        raise DeviceError(f"there is no user {user} on this host") from None


def _make(undo: Undo, name: str, terms: Terms, stated: VmTap, uid: int) -> bool:
    """Whether it was not there."""
    with IPRoute() as ip:
        present = links.find(ip, name)
        if present is not None and (present.alias != ALIAS or not present.is_tap):
            raise DeviceError("there is one already that isolane has not made; it is left alone")
        if present is not None and _is_as_stated(present, stated, uid):
            undo.add("remove", *astuple(place_of(present)))
            return False
        if present is not None:
            ip.link("del", index=present.index)
        with _first_queue(name, stated) as fd:
            _own(fd, uid)
            link = links.get(ip, name)
            if link.tap_queues > 1 or not _is_as_stated(link, stated, uid):
                ip.link("del", index=link.index)
                raise DeviceError("somebody else opened it while it was made, so it has been removed")
            ip.link("set", index=link.index, ifalias=ALIAS, txqlen=TX_QUEUE_LEN)
            seal_link(ip, link)
            links.set_noqueue(ip, link.index)
            fcntl.ioctl(fd, TUNSETPERSIST, 1)  # until here it goes with this process
            undo.add("remove", *astuple(place_of(link)))
    return True


def _is_as_stated(link: Link, stated: VmTap, uid: int) -> bool:
    return (link.tap_owner, link.tap_is_multi_queue) == (uid, stated.is_multi_queue)


def _own(fd: int, uid: int) -> None:
    """Until then any user of the host can open a TAP of several queues, and set another owner."""
    fcntl.ioctl(fd, _TUNSETOWNER, uid if uid < 1 << 31 else uid - (1 << 32))  # a C int for Python


@contextmanager
def _first_queue(name: str, stated: VmTap) -> Iterator[int]:
    """That makes the TAP, and is given up for the hypervisor's."""
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
    flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | IFF_TUN_EXCL
    flags |= IFF_MULTI_QUEUE if stated.is_multi_queue else 0
    try:
        fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", name.encode(), flags))
        yield fd
    finally:
        os.close(fd)


def _set_up(undo: Undo, name: str, terms: Terms) -> Link:
    """MAC and MTU are the VM's: some hypervisors take the MTU from here, the MAC is for who looks."""
    with IPRoute() as ip:
        link = links.get(ip, name)
        seal_link(ip, link)
        if (link.mac, link.mtu) != (terms.mac.lower(), terms.mtu):
            ip.link("set", index=link.index, address=terms.mac, mtu=terms.mtu)
        ip.link("set", index=link.index, state="up")
        return link
