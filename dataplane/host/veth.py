"""veth pairs: one end in a VM's namespace, the other in the host's, mute and read by AF_PACKET or AF_XDP."""

from dataclasses import astuple, replace

from pyroute2 import IPRoute

from dataplane.binding.core import Offload
from dataplane.host import ethtool, links, netns, packet_socket, xdp
from dataplane.host.device import (
    ALL_OFFLOADS,
    Device,
    Opening,
    Terms,
    check_is_not_hosts,
    host_end_name,
    mute_host_end,
    place_of,
    reason_of,
)
from dataplane.host.links import ALIAS, Link, Place
from dataplane.host.undo import Undo
from dataplane.host.xdp_device import by_xdp

_SAID_BY_VNET_HDR = {
    "tx-generic-segmentation",
    "tx-tcp-segmentation",
    "tx-tcp6-segmentation",
    "tx-tcp-ecn-segmentation",
    *(("tx-udp-segmentation",) if Offload.USO in ALL_OFFLOADS else ()),
}
_UNSEEN_BY_XDP = frozenset(
    ("tx-checksum-ip-generic", "tx-checksum-sctp", "tx-vlan-hw-insert", "tx-vlan-stag-hw-insert")
)
"""What the VM's kernel would leave to the device, and say beside the frame."""


def open_veth(name: str, terms: Terms, *, namespace: str) -> Device:
    """A veth pair: `name` in the VM's namespace, the other end in the host's, silenced and read by
    AF_PACKET; driver "afxdp": by AF_XDP, for small packets at high rates. Then the VM's kernel segments TCP
    and completes checksums itself.
    """
    host_end = host_end_name(name, namespace)
    with links.errors(Opening.VETH.words(name, namespace)), Undo() as undo:
        check_is_not_hosts(namespace)
        is_new = netns.call(None, _make_veth, undo, host_end, name, namespace)
        try:
            is_xdp = terms.driver == xdp.DRIVER
            index = netns.call(namespace, _set_up_vm_end, name, terms.mac, terms.mtu, is_xdp)
            place = Place(namespace, netns.identity(namespace), index)
            link, fds = netns.call(None, _open_host_end, undo, host_end, terms.mtu, terms.queues)
            there = (name, Opening.VETH, place, terms.mac.lower(), terms.mtu, fds, undo)
            device = Device(*there, reason=reason_of(terms.driver))
            if is_xdp:
                device = netns.call(None, by_xdp, undo, device, link, terms.memory)
        except BaseException:
            if not is_new:
                undo.release()  # a VM may be using it
            raise
        return replace(device, undo=undo.pop_all())


def _make_veth(undo: Undo, host_end: str, name: str, namespace: str) -> bool:
    """Whether it was not there."""
    with IPRoute() as ip:
        is_new = links.find(ip, host_end) is None
        if is_new:
            peer = {"ifname": name, "net_ns_fd": str(netns.path(namespace))}
            ip.link("add", ifname=host_end, kind="veth", peer=peer)
        link = links.get(ip, host_end)
        if link.alias is None:  # new, or left by one that was killed here
            ip.link("set", index=link.index, ifalias=ALIAS)
        undo.add("remove", *astuple(place_of(link)))
    return is_new


def _set_up_vm_end(name: str, mac: str, mtu: int, is_xdp: bool) -> int:
    """Its index. What a virtio_net_hdr can't say (SCTP and tunnel super-packets, of UDP before Linux 6.2) the
    VM's kernel has to segment itself.
    """
    segmentation = {feature for feature in ethtool.active(name) if feature.endswith("-segmentation")}
    ethtool.switch(name, segmentation - _SAID_BY_VNET_HDR | {"tx-gso-list"}, False)
    if is_xdp:
        ethtool.switch(name, _UNSEEN_BY_XDP, False)
    with IPRoute() as ip:
        link = links.get(ip, name)
        if (link.mac, link.mtu) != (mac.lower(), mtu):  # or the VM forgets its neighbours, for nothing
            ip.link("set", index=link.index, address=mac, mtu=mtu)
        ip.link("set", index=link.index, state="up")
    return link.index


def _open_host_end(undo: Undo, host_end: str, mtu: int, queues: int) -> tuple[Link, tuple[int, ...]]:
    with IPRoute() as ip:
        link = links.get(ip, host_end)
        mute_host_end(undo, ip, link)
        undo.add("remove", *astuple(place_of(link)))  # on close first of all: mute to the end
        ip.link("set", index=link.index, mtu=mtu, state="up")
    return link, undo.own(*packet_socket.open_queues(host_end, queues, None))
