"""Devices of the host that lead to a VM, such as a hypervisor's TAP: sealed for as long as they exist."""

from dataclasses import replace
from functools import partial

from pyroute2 import IPRoute

from dataplane.host import links, netns, packet_socket, xdp
from dataplane.host.device import (
    Device,
    Opening,
    Terms,
    check_is_apart,
    check_no_loopback,
    mute_host_end,
    place_of,
    reason_of,
)
from dataplane.host.links import ALIAS, DeviceError, Link
from dataplane.host.undo import Undo
from dataplane.host.xdp_device import by_xdp


def open_existing(name: str, terms: Terms) -> Device:
    """A device of the host that leads to a VM. It is sealed, and stays so after close().

    driver "afxdp": a checksum that the VM has left to the device is not seen as such: it has to complete them
    itself.
    """
    with links.errors(Opening.EXISTING.words(name, None)), Undo() as undo:
        link = netns.call(None, _set_up, undo, name, terms)
        fds = netns.call(None, read_every_frame, undo, link, terms.queues)
        mtu = min(terms.mtu, link.mtu)
        there = (name, Opening.EXISTING, place_of(link), terms.mac.lower(), mtu, fds, undo)
        return opened_by_driver(undo, Device(*there), link, terms)


def _set_up(undo: Undo, name: str, terms: Terms) -> Link:
    with IPRoute() as ip:
        link = _seal(ip, name)
        undo.note = partial(terms.note, place_of(link))
        if not link.up:
            undo.add("state", name, "down")
            ip.link("set", index=link.index, state="up")
    return link


def read_every_frame(undo: Undo, link: Link, queues: int) -> tuple[int, ...]:
    """Of a device that leads to a VM, whoever it is for."""
    fds = undo.own(*packet_socket.open_queues(link.name, queues, None))
    for fd in fds:
        packet_socket.take_every_mac(fd, link.index)
    return fds


def opened_by_driver(undo: Undo, device: Device, link: Link, terms: Terms) -> Device:
    """With all that `undo` has."""
    device = replace(device, reason=reason_of(terms.driver))
    if terms.driver == xdp.DRIVER:
        device = netns.call(None, by_xdp, undo, device, link, terms.memory)
    return replace(device, undo=undo.pop_all())


def seal(name: str) -> None:
    """Keep a device that leads to a VM from the host's stack for as long as it exists, before open_existing()
    gets to it. DeviceError: as there.
    """
    with links.errors(Opening.EXISTING.words(name, None)):
        netns.call(None, _seal_by_name, name)


def _seal_by_name(name: str) -> None:
    with IPRoute() as ip:
        _seal(ip, name)


def _seal(ip: IPRoute, name: str) -> Link:
    link = links.get(ip, name)
    check_no_loopback(link)
    if link.alias == ALIAS:
        raise DeviceError("is another port's")
    seal_link(ip, link)
    return link


def seal_link(ip: IPRoute, link: Link) -> None:
    """Keep the host's stack from what comes from a VM, and the VM from the host. DeviceError: it can't be."""
    check_is_apart(link)
    if addresses := links.addresses(ip, link.index):
        raise DeviceError(f"the host has address {addresses[0]} on it; there must be none")
    mute_host_end(Undo(), ip, link)
