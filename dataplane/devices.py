"""Opens devices and hands their descriptors to the core, which opens none itself.

Every open_… function returns a Device (the underlay: an Underlay) with one non-blocking descriptor a queue,
all of which carry the 10-byte virtio_net_hdr in host order. close() undoes what the open_… function changed.
A TAP, a veth pair and the BPF drops outlive a crash of the process and are taken over by the next open_…;
until then nothing of the host answers.

A namespace is a name under /run/netns, or None: the process's own, which is the host's. No function leaves
the caller's thread in another one. Any thread may call, one at a time a device. Errors: DeviceError, in words
for the host's operator.
"""

import fcntl
import hashlib
import os
import socket
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from typing import Self

from pyroute2 import IPRoute

from dataplane import bpf, bpf_programs, ethtool, links, netns, packet_socket
from dataplane.core import Offload, PortConfig, PortKind
from dataplane.links import ALIAS, DeviceError, Link, Undo

TX_QUEUE_LEN = 4096
"""Packets that a TAP holds for us; of the default 1000 a burst of small packets loses some."""

_TUNSETIFF, _TUNSETPERSIST, _TUNSETOFFLOAD, _TUNSETVNETHDRSZ = 0x400454CA, 0x400454CB, 0x400454D0, 0x400454D8
_IFF_TAP, _IFF_NO_PI, _IFF_VNET_HDR, _IFF_MULTI_QUEUE, _IFF_TUN_EXCL = 0x0002, 0x1000, 0x4000, 0x0100, 0x8000
_TUN_F_CSUM, _TUN_F_TSO4, _TUN_F_TSO6, _TUN_F_TSO_ECN = 1, 2, 4, 8
_VNET_HDR_SIZE = 10

_ALL_OFFLOADS = Offload.CSUM | Offload.TSO4 | Offload.TSO6
_SAID_BY_VNET_HDR = frozenset(
    ("tx-generic-segmentation", "tx-tcp-segmentation", "tx-tcp6-segmentation", "tx-tcp-ecn-segmentation")
)
_ALL_NODES_MAC = bytes.fromhex("333300000001")
_RECEIVE_MERGING = ("rx-gro", "rx-gro-hw", "rx-gro-list", "rx-lro", "rx-udp-gro-forwarding")


@dataclass(frozen=True)
class Device:
    """An open device. Close it after the core has detached it: the descriptors go with it.

    mac: of the VM, or the underlay device's own; mtu: largest IP packet in bytes; offloads: what may be sent
    to it.
    """

    name: str
    kind: PortKind
    mac: str
    mtu: int
    fds: tuple[int, ...]
    offloads: Offload
    undo: Undo

    def port_config(self, port_name: str) -> PortConfig:
        mac = bytes.fromhex(self.mac.replace(":", ""))
        return PortConfig(port_name, self.kind, mac, self.mtu, self.offloads, self.fds)

    def close(self) -> None:
        self.undo.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass(frozen=True)
class Underlay(Device):
    """The provider-facing device, shared with the host, the Provider Addresses it takes frames for and the
    provider next hops it listens to.
    """

    pas: bpf.PaMap
    groups: "_Groups"

    def serve(self, pas: Iterable[bpf.Address], next_hops: Iterable[bpf.Address] = ()) -> None:
        """Take frames for exactly these PAs from now on and keep them from the host; take what exactly these
        next hops say about their MACs, which the host sees too. Call before PAs are announced.
        """
        wanted = frozenset(pas)
        self.pas.replace(wanted, next_hops)
        self.groups.replace({solicited_node(a) for a in wanted if isinstance(a, IPv6Address)})


# ---- TAP ---------------------------------------------------------------------------------------------------


def open_tap(name: str, *, namespace: str | None, mac: str, mtu: int, queues: int = 1) -> Device:
    """A TAP in the VM's namespace: made, or taken over if it is persistent and nobody holds a queue of it."""
    with links.errors(f"TAP {_where(name, namespace)}"), Undo() as undo:
        fds = netns.call(namespace, _open_tap, undo, namespace, name, mac, mtu, queues)
        return Device(name, PortKind.TAP, mac.lower(), mtu, fds, _ALL_OFFLOADS, undo.pop_all())


def _open_tap(
    undo: Undo, namespace: str | None, name: str, mac: str, mtu: int, queues: int
) -> tuple[int, ...]:
    with IPRoute() as ip:
        present = links.find(ip, name)
        if present is not None and present.tap_queues:
            raise DeviceError("a process holds it already")
        fds = tuple(_open_tap_queue(undo, name, present is None and queue == 0) for queue in range(queues))
        index = links.get(ip, name).index
        if present is None:
            ip.link("set", index=index, ifalias=ALIAS)
            fcntl.ioctl(fds[0], _TUNSETPERSIST, 1)
        undo.quietly(namespace, links.remove_if_ours, name)
        ip.link("set", index=index, address=mac, mtu=mtu, txqlen=TX_QUEUE_LEN)
        ip.link("set", index=index, state="up")
    return fds


def _open_tap_queue(undo: Undo, name: str, new: bool) -> int:
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    undo.callback(os.close, fd)
    flags = _IFF_TAP | _IFF_NO_PI | _IFF_VNET_HDR | _IFF_MULTI_QUEUE | (_IFF_TUN_EXCL if new else 0)
    fcntl.ioctl(fd, _TUNSETIFF, struct.pack("16sH22x", name.encode(), flags))
    fcntl.ioctl(fd, _TUNSETVNETHDRSZ, struct.pack("=i", _VNET_HDR_SIZE))
    fcntl.ioctl(fd, _TUNSETOFFLOAD, _TUN_F_CSUM | _TUN_F_TSO4 | _TUN_F_TSO6 | _TUN_F_TSO_ECN)
    return fd


# ---- veth and existing devices -----------------------------------------------------------------------------


def open_veth(name: str, *, namespace: str, mac: str, mtu: int, queues: int = 1) -> Device:
    """A veth pair: `name` in the VM's namespace, the other end in the host's, silenced and read by
    AF_PACKET.
    """
    host_end = host_end_name(name, namespace)
    with links.errors(f"veth {_where(name, namespace)}"), Undo() as undo:
        netns.call(None, _make_veth, undo, host_end, name, namespace)
        netns.call(namespace, _set_up_vm_end, name, mac, mtu)
        fds = netns.call(None, _open_host_end, undo, host_end, mtu, queues)
        return Device(name, PortKind.PACKET, mac.lower(), mtu, fds, _ALL_OFFLOADS, undo.pop_all())


def host_end_name(name: str, namespace: str) -> str:
    """Of a veth: the same in every run, so that a later process finds what an earlier one left."""
    return "il" + hashlib.blake2b(f"{namespace}/{name}".encode(), digest_size=6).hexdigest()


def _make_veth(undo: Undo, host_end: str, name: str, namespace: str) -> None:
    with IPRoute() as ip:
        if links.find(ip, host_end) is None:
            peer = {"ifname": name, "net_ns_fd": str(netns.path(namespace))}
            ip.link("add", ifname=host_end, kind="veth", peer=peer)
            ip.link("set", index=links.get(ip, host_end).index, ifalias=ALIAS)
        undo.quietly(None, links.remove_if_ours, host_end)


def _set_up_vm_end(name: str, mac: str, mtu: int) -> None:
    """What a virtio_net_hdr can't say (UDP, SCTP and tunnel super-packets) the VM's kernel has to segment
    itself.
    """
    segmentation = {feature for feature in ethtool.active(name) if feature.endswith("-segmentation")}
    ethtool.switch(name, segmentation - _SAID_BY_VNET_HDR | {"tx-gso-list"}, False)
    with IPRoute() as ip:
        index = links.get(ip, name).index
        ip.link("set", index=index, address=mac, mtu=mtu)
        ip.link("set", index=index, state="up")


def _open_host_end(undo: Undo, host_end: str, mtu: int, queues: int) -> tuple[int, ...]:
    with IPRoute() as ip:
        link = links.get(ip, host_end)
        _silence(undo, ip, link)
        undo.quietly(None, links.remove_if_ours, host_end)  # on close first of all: silent to the end
        ip.link("set", index=link.index, mtu=mtu, state="up")
        return packet_socket.open_queues(undo, host_end, queues, None)


def open_existing(name: str, *, mac: str, mtu: int, queues: int = 1) -> Device:
    """A device of the host that leads to a VM. It is silenced, and given back as it was on close()."""
    with links.errors(f"device {name}"), Undo() as undo:
        fds, mtu = netns.call(None, _open_existing, undo, name, mtu, queues)
        return Device(name, PortKind.PACKET, mac.lower(), mtu, fds, _ALL_OFFLOADS, undo.pop_all())


def _open_existing(undo: Undo, name: str, mtu: int, queues: int) -> tuple[tuple[int, ...], int]:
    with IPRoute() as ip:
        link = links.get(ip, name)
        if link.flags & links.IFF_LOOPBACK:
            raise DeviceError("is the loopback")
        if addresses := links.addresses(ip, link.index):
            raise DeviceError(f"the host has address {addresses[0]} on it; there must be none")
        _silence(undo, ip, link)
        if not link.up:
            undo.quietly(None, links.set_state, name, "down")
            ip.link("set", index=link.index, state="up")
        fds = packet_socket.open_queues(undo, name, queues, None)
        for fd in fds:
            packet_socket.take_every_mac(fd, link.index)
    return fds, min(mtu, link.mtu)


def _silence(undo: Undo, ip: IPRoute, link: Link) -> None:
    """Nothing of the host answers on this device: no IPv6, no ARP, every frame dropped before the stack."""
    links.set_sysctl(undo, f"ipv6/conf/{link.name}/disable_ipv6", "1")
    links.set_sysctl(undo, f"ipv4/conf/{link.name}/arp_ignore", "8")
    links.drop_at_ingress(undo, ip, link, bpf_programs.DROP)


def _where(name: str, namespace: str | None) -> str:
    return name if namespace is None else f"{name} in namespace {namespace}"


# ---- underlay ----------------------------------------------------------------------------------------------


def open_underlay(
    name: str, *, mac: str, mtu: int, queues: int = 1, pas: Iterable[bpf.Address] = ()
) -> Underlay:
    """The underlay device.

    mac, mtu: the manifest's; the device must have this MAC ("" for any) and at least this MTU.
    pas: kept from the host without a gap if a process that crashed had them; serve() names them again.
    """
    with links.errors(f"underlay {name}"), Undo() as undo:
        return netns.call(None, _open_underlay, undo, name, mac.lower(), mtu, queues, frozenset(pas))


def _open_underlay(
    undo: Undo, name: str, mac: str, mtu: int, queues: int, kept: frozenset[bpf.Address]
) -> Underlay:
    with IPRoute() as ip:
        link = links.get(ip, name)
        _check_underlay(link, mac, mtu)
        _check_pas(ip, kept)
        _lock(undo, link)
        merging = ethtool.switch(name, _RECEIVE_MERGING, False)
        undo.quietly(None, ethtool.switch, name, merging, True)
        pas = undo.enter_context(bpf.PaMap())
        pas.replace(kept)
        links.drop_at_ingress(undo, ip, link, bpf_programs.DIVERT, pas)
        accept = bpf.load(bpf_programs.ACCEPT, pas)
        try:
            fds = packet_socket.open_queues(undo, name, queues, accept)
        finally:
            os.close(accept)
        packet_socket.take_group(fds[0], link.index, _ALL_NODES_MAC)  # the host's IPv6 may be off
        groups = _Groups(undo, link.index, fds[0])
        device = (name, PortKind.PACKET, link.mac, mtu, fds, _ALL_OFFLOADS)
        return Underlay(*device, undo.pop_all(), pas, groups)


def _check_underlay(link: Link, mac: str, mtu: int) -> None:
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


def _lock(undo: Undo, link: Link) -> None:
    """One data plane a device: an abstract socket name lives as long as its process, in its network
    namespace.
    """
    lock = undo.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC))
    try:
        lock.bind(f"\0isolane-underlay-{link.index}")
    except OSError:
        raise DeviceError("another isolane uses it") from None


def solicited_node(address: IPv6Address) -> IPv6Address:
    """The multicast group of an address's neighbour solicitations (RFC 4291 section 2.7.1)."""
    return IPv6Address(IPv6Address("ff02::1:ff00:0").packed[:13] + address.packed[13:])


class _Groups:
    """The underlay's solicited-node groups.

    The host's IPv6 joins them: that sets the device's filter and speaks MLD to snooping switches, while the
    ingress drop keeps the solicitations from it. Where it can't (IPv6 off, too many groups) the device takes
    all multicast instead.
    """

    def __init__(self, undo: Undo, index: int, packet_fd: int) -> None:
        self._index = index
        self._packet_fd = packet_fd
        self._joined: set[IPv6Address] = set()
        self._socket: socket.socket | None = None
        try:
            opened = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        except OSError:  # a kernel without IPv6
            return
        self._socket = undo.enter_context(opened)

    def replace(self, groups: set[IPv6Address]) -> None:
        for group in groups - self._joined:
            if not self._set(socket.IPV6_JOIN_GROUP, group):
                packet_socket.take_every_group(self._packet_fd, self._index)
        for group in self._joined - groups:
            self._set(socket.IPV6_LEAVE_GROUP, group)
        self._joined = groups

    def _set(self, option: int, group: IPv6Address) -> bool:
        if self._socket is None:
            return False
        try:
            self._socket.setsockopt(
                socket.IPPROTO_IPV6, option, group.packed + struct.pack("=I", self._index)
            )
        except OSError:
            return False
        return True
