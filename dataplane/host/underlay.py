"""The provider-facing device, shared with the host."""

import os
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import partial
from ipaddress import IPv6Address, ip_address
from typing import Self

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from dataplane.binding.core import Offload
from dataplane.host import bpf, bpf_programs, ethtool, links, locks, netns, packet_socket, xdp
from dataplane.host.device import (
    ALL_OFFLOADS,
    Device,
    Opening,
    Terms,
    check_no_loopback,
    place_of,
    reason_of,
)
from dataplane.host.filters import Way, has_filter, set_filter
from dataplane.host.groups import Groups, joining_socket, solicited_node
from dataplane.host.links import DeviceError, Link
from dataplane.host.undo import Undo
from dataplane.host.xdp_device import by_xdp

_ALL_NODES_MAC = bytes.fromhex("333300000001")
_DIVERT, _TUNNEL = (Way.IN, bpf_programs.DIVERT), (Way.OUT, bpf_programs.TUNNEL)
_VLAN_PARSING = frozenset(("rx-vlan-hw-parse", "rx-vlan-stag-hw-parse"))
"""It takes a tag off the frame, and XDP does not see that there was one."""
_RECEIVE_MERGING = ("rx-gro-hw", "rx-gro-list", "rx-lro", "rx-udp-gro-forwarding")


@dataclass(frozen=True)
class Underlay(Device):
    """The provider-facing device, shared with the host, the Provider Addresses it takes frames for and the
    provider next hops it listens to.
    """

    pas: bpf.PaMap = field(kw_only=True)
    groups: Groups = field(kw_only=True)

    def serve(self, pas: Iterable[bpf.Address], next_hops: Iterable[bpf.Address] = ()) -> None:
        """Take frames for exactly these PAs from now on and keep them from the host; take what exactly these
        next hops say about their MACs, which the host sees too. Call before PAs are announced. DeviceError:
        `pas` says what has become of it.
        """
        wanted = frozenset(pas)
        if new := wanted - self.pas.addresses:
            with self._errors(), IPRoute() as ip:
                _check_pas(ip, new)
        with self._errors():
            self.pas.replace(wanted, next_hops)
            self.groups.replace({solicited_node(a) for a in wanted if isinstance(a, IPv6Address)})

    def repair(self) -> None:
        super().repair()
        with self._errors():
            netns.call(None, _check_named_underlay, self.name, self.mac, self.mtu)

    def resize(self, mac: str, mtu: int) -> Self:
        """It has to be as it says."""
        with self._errors():
            link = links.find_at(self.place)
            if link is None or self._read_device() is None:
                raise DeviceError("no such device")
            _check_underlay(link, mac.lower(), mtu)
        return replace(self, mac=link.mac, mtu=mtu)

    def _is_host_end_as_left(self) -> bool:
        with IPRoute() as ip:
            link = self._host_end(ip)
            if link is None:
                return True
            is_kept = link.up and all(has_filter(ip, link, *each) for each in self._filters)
        is_same = link.mac == self.mac and link.mtu >= self.mtu
        return is_kept and is_same and not ethtool.active(link.name) & self._switched_off

    @property
    def _filters(self) -> list[tuple[Way, bpf.Program]]:
        return [_DIVERT, _TUNNEL] if Offload.NVGRE in self.offloads else [_DIVERT]

    @property
    def _switched_off(self) -> set[str]:
        return {*_RECEIVE_MERGING, *(_VLAN_PARSING if self.xsks else ())}

    def _repair_host_end(self) -> None:
        with IPRoute() as ip:
            if (link := self._host_end(ip)) is not None:
                ethtool.switch(link.name, self._switched_off, False)
                scratch = Undo()
                for way, program in self._filters:
                    set_filter(scratch, ip, link, way, program, self.pas)
                self.undo.complete(scratch.steps)


def open_underlay(name: str, terms: Terms, pas: Iterable[bpf.Address] = ()) -> Underlay:
    """The underlay device. pas: kept from the host without a gap if a process that crashed had them; serve()
    names them again.
    """
    with links.errors(Opening.UNDERLAY.words(name, None)), Undo() as undo:
        opened = netns.call(None, _open_underlay, undo, name, terms, frozenset(pas))
        return replace(opened, undo=undo.pop_all())


def _open_underlay(undo: Undo, name: str, terms: Terms, kept: frozenset[bpf.Address]) -> Underlay:
    with IPRoute() as ip:
        link = links.get(ip, name)
        _check_underlay(link, terms.mac.lower(), terms.mtu)
        _check_pas(ip, kept)
        (lock,) = undo.own(_lock(link))
        undo.note = partial(terms.note, place_of(link))
        undo.add("features", name, sorted(ethtool.active(name) & set(_RECEIVE_MERGING)), True)
        ethtool.switch(name, _RECEIVE_MERGING, False)
        pas = bpf.PaMap()
        undo.own(pas.fd)
        pas.replace(kept)
        set_filter(undo, ip, link, *_DIVERT, pas)
    accept = bpf.load(bpf_programs.ACCEPT, pas)
    try:
        fds = undo.own(*packet_socket.open_queues(name, terms.queues, accept))
    finally:
        os.close(accept)
    packet_socket.take_group(fds[0], link.index, _ALL_NODES_MAC)  # the host's IPv6 may be off
    (shown,) = undo.own(pas.read_only())
    held = {"lock": lock, "pas": shown}
    joining = joining_socket()
    if joining is not None:
        (held["groups"],) = undo.own(joining)
    groups = Groups(link.index, fds[0], joining)
    device = (name, Opening.UNDERLAY, place_of(link), link.mac, terms.mtu, fds)
    underlay = Underlay(*device, undo, held, Offload.NONE, pas=pas, groups=groups)
    return _driven(undo, underlay, link, terms)


def _driven(undo: Undo, underlay: Underlay, link: Link, terms: Terms) -> Underlay:
    """By packet unless it is said otherwise: then checksums and super-packets cross, which AF_XDP can't say,
    and TCP is faster with every kind of device; AF_XDP is for small packets.
    """
    if terms.driver == xdp.DRIVER:
        undo.add("features", link.name, sorted(ethtool.active(link.name) & _VLAN_PARSING), True)
        ethtool.switch(link.name, _VLAN_PARSING, False)
        if left := ethtool.active(link.name) & _VLAN_PARSING:
            raise DeviceError(f"driver afxdp: {', '.join(left)} can't be switched off")
        return by_xdp(undo, underlay, link, terms.memory, pas=underlay.pas)
    with IPRoute() as ip:
        offloads = _offloads(undo, ip, link, underlay.pas)
    return replace(underlay, offloads=offloads, reason=reason_of(terms.driver))


def _offloads(undo: Undo, ip: IPRoute, link: Link, pas: bpf.PaMap) -> Offload:
    """What may be sent to it: super-packets in NVGRE only with a program at its egress, which an older kernel
    may not know and another filter be in the way of.
    """
    before = list(undo.steps)
    try:
        set_filter(undo, ip, link, *_TUNNEL, pas)
    except (OSError, NetlinkError):
        undo.steps = before
        undo.note(before)
        return ALL_OFFLOADS
    return ALL_OFFLOADS | Offload.NVGRE


def _check_named_underlay(name: str, mac: str, mtu: int) -> None:
    with IPRoute() as ip:
        _check_underlay(links.get(ip, name), mac, mtu)


def _check_underlay(link: Link, mac: str, mtu: int) -> None:
    check_no_loopback(link)
    if mac and link.mac != mac:
        raise DeviceError(f"the manifest says MAC {mac}, the device has {link.mac}")
    if link.mtu < mtu:
        raise DeviceError(f"the manifest says MTU {mtu}, the device has {link.mtu}")
    if not link.up:
        raise DeviceError("is down")


def _check_pas(ip: IPRoute, pas: frozenset[bpf.Address]) -> None:
    """A PA that the host's kernel has too would be taken from it, with every connection to that address."""
    for message in ip.get_addr():
        address = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")
        if address and ip_address(address) in pas:
            raise DeviceError(f"provider address {address} is an address of this host already")


def _lock(link: Link) -> int:
    """One data plane a device."""
    lock = locks.of_underlay(netns.identity(None), link.index)
    if lock is None:
        raise links.TakenError("another isolane uses it")
    return lock
