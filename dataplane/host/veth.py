"""veth pairs: one end in a VM's namespace, the other in the host's, mute and read by AF_PACKET."""

from dataclasses import astuple

from pyroute2 import IPRoute

from dataplane.binding.core import Offload
from dataplane.host import ethtool, links, netns, packet_socket
from dataplane.host.device import (
    ALL_OFFLOADS,
    Device,
    Opening,
    check_is_not_hosts,
    host_end_name,
    mute_host_end,
    place_of,
)
from dataplane.host.links import ALIAS, Place
from dataplane.host.undo import Undo

_SAID_BY_VNET_HDR = {
    "tx-generic-segmentation",
    "tx-tcp-segmentation",
    "tx-tcp6-segmentation",
    "tx-tcp-ecn-segmentation",
    *(("tx-udp-segmentation",) if Offload.USO in ALL_OFFLOADS else ()),
}


def open_veth(name: str, *, namespace: str, mac: str, mtu: int, queues: int = 1) -> Device:
    """A veth pair: `name` in the VM's namespace, the other end in the host's, silenced and read by
    AF_PACKET.
    """
    host_end = host_end_name(name, namespace)
    with links.errors(Opening.VETH.words(name, namespace)), Undo() as undo:
        check_is_not_hosts(namespace)
        netns.call(None, _make_veth, undo, host_end, name, namespace)
        index = netns.call(namespace, _set_up_vm_end, name, mac, mtu)
        place = Place(namespace, netns.identity(namespace), index)
        fds = netns.call(None, _open_host_end, undo, host_end, mtu, queues)
        return Device(name, Opening.VETH, place, mac.lower(), mtu, fds, undo.pop_all())


def _make_veth(undo: Undo, host_end: str, name: str, namespace: str) -> None:
    with IPRoute() as ip:
        if links.find(ip, host_end) is None:
            peer = {"ifname": name, "net_ns_fd": str(netns.path(namespace))}
            ip.link("add", ifname=host_end, kind="veth", peer=peer)
        link = links.get(ip, host_end)
        if link.alias is None:  # new, or left by one that was killed here
            ip.link("set", index=link.index, ifalias=ALIAS)
        undo.add("remove", *astuple(place_of(link)))


def _set_up_vm_end(name: str, mac: str, mtu: int) -> int:
    """Its index. What a virtio_net_hdr can't say (SCTP and tunnel super-packets, of UDP before Linux 6.2) the
    VM's kernel has to segment itself.
    """
    segmentation = {feature for feature in ethtool.active(name) if feature.endswith("-segmentation")}
    ethtool.switch(name, segmentation - _SAID_BY_VNET_HDR | {"tx-gso-list"}, False)
    with IPRoute() as ip:
        index = links.get(ip, name).index
        ip.link("set", index=index, address=mac, mtu=mtu)
        ip.link("set", index=index, state="up")
    return index


def _open_host_end(undo: Undo, host_end: str, mtu: int, queues: int) -> tuple[int, ...]:
    with IPRoute() as ip:
        link = links.get(ip, host_end)
        mute_host_end(undo, ip, link)
        undo.add("remove", *astuple(place_of(link)))  # on close first of all: mute to the end
        ip.link("set", index=link.index, mtu=mtu, state="up")
    return undo.own(*packet_socket.open_queues(host_end, queues, None))
