"""Opens devices and hands their descriptors to the core, which opens none itself.

Every open_… function returns a Device (the underlay: an Underlay) with one non-blocking descriptor a queue,
all of which carry the 10-byte virtio_net_hdr in host order. close() undoes what the open_… function changed.

A Device can outlive its process: handover() is all of it, for the data-plane process to keep, and adopt()
makes it a Device again, by a later process and without touching what packets flow through. Of one that no
process keeps, a TAP, a veth pair and the BPF drops stay when the process crashes and are taken over by the
next open_…; until then nothing of the host answers.

The kernel of the namespace that a TAP or a veth leads to is the VM, so it is never the host's. A device that
others make, such as a hypervisor's TAP, is sealed: nothing of it reaches the host's stack, and that stays so
after close(), for as long as the device exists.

A namespace is a name under /run/netns, or None: the process's own, which is the host's. No function leaves
the caller's thread in another one. Any thread may call, one at a time a device. Errors: DeviceError, in words
for the host's operator.
"""

import enum
import errno
import fcntl
import hashlib
import os
import struct
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import asdict, astuple, dataclass, field, replace
from functools import partial
from ipaddress import IPv6Address, ip_address
from typing import Self

from pyroute2 import IPRoute

from dataplane import bpf, bpf_programs, ethtool, links, locks, netns, packet_socket
from dataplane.core import Offload, PortConfig, PortKind
from dataplane.groups import Groups, joining_socket, solicited_node
from dataplane.handover import Handover
from dataplane.links import ALIAS, DeviceError, Link, Place, Undo

TX_QUEUE_LEN = 4096
"""Packets that a TAP holds for us; of the default 1000 a burst of small packets loses some."""

_TUNSETIFF, _TUNSETPERSIST, _TUNSETOFFLOAD, _TUNSETVNETHDRSZ = 0x400454CA, 0x400454CB, 0x400454D0, 0x400454D8
_TUNGETIFF = 0x800454D2
_IFF_TAP, _IFF_NO_PI, _IFF_VNET_HDR, _IFF_MULTI_QUEUE, _IFF_TUN_EXCL = 0x0002, 0x1000, 0x4000, 0x0100, 0x8000
_TUN_F_CSUM, _TUN_F_TSO4, _TUN_F_TSO6, _TUN_F_TSO_ECN = 1, 2, 4, 8
_VNET_HDR_SIZE = 10

_ALL_OFFLOADS = Offload.CSUM | Offload.TSO4 | Offload.TSO6
_SAID_BY_VNET_HDR = frozenset(
    ("tx-generic-segmentation", "tx-tcp-segmentation", "tx-tcp6-segmentation", "tx-tcp-ecn-segmentation")
)
_IS_HELD = "a process holds it already"
_NOT_OURS = "its device was not handed over by this version of isolane"
_ALL_NODES_MAC = bytes.fromhex("333300000001")
_RECEIVE_MERGING = ("rx-gro", "rx-gro-hw", "rx-gro-list", "rx-lro", "rx-udp-gro-forwarding")


Note = Callable[[Place, list[links.Step]], None]
"""Is told what close() would do, before it is needed: for a later process, should this one be killed."""


def _unnoted(_place: Place, _steps: list[links.Step]) -> None:
    pass


class Opening(enum.StrEnum):
    """The way a device was opened."""

    TAP = "tap"
    VETH = "veth"
    EXISTING = "device"
    UNDERLAY = "underlay"

    def words(self, name: str, namespace: str | None) -> str:
        words = f"{'TAP' if self is Opening.TAP else self} {name}"
        return words if namespace is None else f"{words} in namespace {namespace}"


@dataclass(frozen=True)
class Device:
    """An open device. Close or release it after the core has detached it or has descriptors of its own: these
    go with it. Nothing else can be asked of it then.

    place: of the VM's device, or of the underlay; mac: of the VM, or the underlay's own; mtu: largest IP
    packet in bytes; fds: one a queue; undo: owns all descriptors; held: those that live on with the port
    besides the queues'; offloads: what may be sent to it.
    """

    name: str
    opening: Opening
    place: Place
    mac: str
    mtu: int
    fds: tuple[int, ...]
    undo: Undo
    held: Mapping[str, int] = field(default_factory=dict)
    offloads: Offload = _ALL_OFFLOADS

    @property
    def kind(self) -> PortKind:
        return PortKind.TAP if self.opening is Opening.TAP else PortKind.PACKET

    def port_config(self, port_name: str) -> PortConfig:
        mac = bytes.fromhex(self.mac.replace(":", ""))
        return PortConfig(port_name, self.kind, mac, self.mtu, self.offloads, self.fds)

    def handover(self, port_name: str) -> Handover:
        """All that adopt() needs, in any process; the descriptors stay this device's, so duplicate them."""
        note = {
            "device": self.name,
            "opening": str(self.opening),
            **asdict(self.place),
            "undo": [list(step) for step in self.undo.steps],
        }
        return Handover(self.port_config(port_name), dict(self.held), note)

    def is_present(self) -> bool:
        """Whether the device is still there, in the namespace of that name; not so if only others of their
        names are.
        """
        with self._errors():
            return self._read_device() is not None and links.find_at(self.place) is not None

    def is_as_left(self) -> bool:
        """Whether nobody has changed what open_… set on a device that is_present(). DeviceError."""
        with self._errors():
            link = links.find_at(self.place)
            if link is None:
                return False
            is_ours = self.opening in (Opening.TAP, Opening.VETH)
            if is_ours and (link.mac != self.mac or link.mtu > self.mtu):
                return False  # down, or with less than its MTU, is what a VM may want
            return netns.call(None, self._is_host_end_as_left)

    def repair(self) -> None:
        """Set it again, if it is not as open_… left it. DeviceError: what only the operator can."""
        with self._errors():
            netns.call(None, self._repair_host_end)
            match self.opening:
                case Opening.TAP | Opening.VETH:
                    link = links.find_at(self.place)
                    if link is None:
                        raise DeviceError("no such device")
                    self._set(self.mac, min(link.mtu, self.mtu))
                case Opening.UNDERLAY:
                    netns.call(None, _check_named_underlay, self.name, self.mac, self.mtu)

    def queues_of(self, queues: int) -> int:
        """How many it would have if it was opened anew with so many: a TAP that was made with one keeps to
        one, or the VM would lose its device.
        """
        ifreq = _tap_ifreq(self.fds[0]) if self.kind is PortKind.TAP else None
        is_single = ifreq is not None and not int.from_bytes(ifreq[16:18], sys.byteorder) & _IFF_MULTI_QUEUE
        return 1 if is_single else queues

    def resize(self, mac: str, mtu: int) -> Self:
        """Gives the VM's device another MAC and MTU; the core learns of it when it attaches the result, which
        takes this one's place. A device of the host stays as it is and so may take less; an underlay has to
        be as it says.
        """
        with self._errors():
            link, reads = links.find_at(self.place), self._read_device()
            if link is None or reads is None:
                raise DeviceError("no such device")
            match self.opening:
                case Opening.EXISTING:
                    mtu = min(mtu, link.mtu)
                case Opening.UNDERLAY:
                    _check_underlay(link, mac.lower(), mtu)
                    mac = link.mac
                case Opening.VETH:
                    netns.call(None, self._check_host_end)
                    netns.call(None, _set_mtu, reads, max(mtu, link.mtu))
                    self._set(mac, mtu)  # never larger than the host end, which drops what is
                    netns.call(None, _set_mtu, reads, mtu)
                case Opening.TAP:
                    self._set(mac, mtu)
        return replace(self, mac=mac.lower(), mtu=mtu)

    def release(self) -> None:
        """Closes this process's descriptors and leaves everything else as it is."""
        self.undo.release()

    def close(self) -> None:
        """Undoes what open_… changed, in this process or an earlier one, unless the device has gone."""
        if self.undo.fds:
            if self.kind is PortKind.TAP and self.undo.steps:  # moved, it goes with its last descriptor
                with suppress(OSError):
                    fcntl.ioctl(self.fds[0], _TUNSETPERSIST, 0)
            read = self._read_device()
            if read is None:
                self.undo.steps.clear()  # what has its name now is another's
            elif read != _host_device(self.opening, self.name, self.place.namespace):
                self.undo.keep("remove")  # renamed: other steps go by the name
        self.undo.steps = _kept_sealed(self.opening, self.undo.steps)
        self.undo.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _errors(self) -> AbstractContextManager[None]:
        return links.errors(self.opening.words(self.name, self.place.namespace))

    def _read_device(self) -> str | None:
        """The name of the device that the queues are of; None: it has gone."""
        if self.kind is PortKind.PACKET:
            return packet_socket.device_of(self.fds[0])
        ifreq = _tap_ifreq(self.fds[0])
        return ifreq[:16].rstrip(b"\0").decode() if ifreq else None

    def _host_end(self, ip: IPRoute) -> Link | None:
        """The host's device that the queues are of; None: it has gone. DeviceError: not the one that was
        opened. The data plane has these descriptors too: who has broken into it can bind them to any device.
        """
        name = self._read_device()
        if name is None:
            return None
        link = links.get(ip, name)
        is_its = link.alias == ALIAS if self.opening is Opening.VETH else link.index == self.place.index
        if not is_its:
            raise DeviceError(f"its queues are those of {name}")
        return link

    def _is_host_end_as_left(self) -> bool:
        if self.opening is Opening.TAP:
            return True
        with IPRoute() as ip:
            link = self._host_end(ip)
            if link is None:
                return True
            name = link.name
            program = bpf_programs.DIVERT if self.opening is Opening.UNDERLAY else bpf_programs.DROP
            is_kept = link.up and links.drops_at_ingress(ip, link, program)
        if self.opening is Opening.UNDERLAY:
            is_same = link.mac == self.mac and link.mtu >= self.mtu
            return is_kept and is_same and not ethtool.active(name) & set(_RECEIVE_MERGING)
        is_silent = all(links.read_sysctl(key) in (None, value) for key, value in links.silence(name).items())
        return is_kept and is_silent and not link.master and link.mtu >= self.mtu

    def _check_host_end(self) -> None:
        with IPRoute() as ip:
            self._host_end(ip)

    def _repair_host_end(self) -> None:
        """What is changed is in `undo` already, or was before it was opened."""
        if self.opening is Opening.TAP:
            return
        scratch = Undo()
        with IPRoute() as ip:
            link = self._host_end(ip)
            if link is None:
                return
            if isinstance(self, Underlay):
                ethtool.switch(link.name, _RECEIVE_MERGING, False)
                links.drop_at_ingress(scratch, ip, link, bpf_programs.DIVERT, self.pas)
                return
            _check_is_apart(link)
            _silence(scratch, ip, link)
        links.set_link(link.index, mtu=max(link.mtu, self.mtu), state="up")

    def _set(self, mac: str, mtu: int) -> None:
        netns.call(self.place.namespace, links.set_link, self.place.index, address=mac, mtu=mtu)


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


def put_back(opening: Opening, name: str, place: Place, steps: Iterable[object]) -> None:
    """What an open_… has changed, whose process nobody can ask any more; nothing of a device that has gone.
    DeviceError: other steps than close() takes.
    """
    with links.errors(opening.words(name, place.namespace)), Undo() as left:
        try:
            left.steps = links.checked(steps, _host_device(opening, name, place.namespace))
            left.steps = _kept_sealed(opening, left.steps)
        except ValueError as error:
            raise DeviceError(str(error)) from None
        if opening in (Opening.EXISTING, Opening.UNDERLAY) and links.find_at(place) is None:
            left.steps.clear()


def _kept_sealed(opening: Opening, steps: list[links.Step]) -> list[links.Step]:
    """A version before this one gave a VM's device back to the host's stack."""
    return [step for step in steps if opening is not Opening.EXISTING or step[0] == "state"]


def _host_device(opening: Opening, name: str, namespace: str | None) -> str | None:
    """The one in the host's namespace."""
    match opening:
        case Opening.TAP:
            return None
        case Opening.VETH:
            return host_end_name(name, namespace or "")
    return name


def adopt(handover: Handover) -> Device:
    """The device whose handover() this was, an Underlay if that was one. Call it in the host's namespace.

    Nothing of the device is touched or looked at: is_present() tells whether it is there. The descriptors are
    the device's own from now on; with DeviceError they are closed.
    """
    config, held = handover.config, handover.held
    undo = Undo(fds=(*held.values(), *config.fds))
    try:
        with links.errors(f"port {config.name}"):
            return _adopt(config, held, handover.note, undo)
    except BaseException:
        undo.release()
        raise


def _adopt(config: PortConfig, held: Mapping[str, int], note: object, undo: Undo) -> Device:
    match note:
        case {
            "device": str(name),
            "opening": "tap" | "veth" | "device" | "underlay" as opening,
            "namespace": str() | None as namespace,
            "identity": int(identity),
            "index": int(index),
            "undo": list(steps),
        } if config.fds:
            place = Place(namespace, identity, index)
        case _:
            raise DeviceError(_NOT_OURS)
    try:
        undo.steps = links.checked(steps, _host_device(Opening(opening), name, namespace))
        mac, fds = config.mac.hex(":"), tuple(config.fds)
        device = Device(name, Opening(opening), place, mac, config.mtu, fds, undo, held, config.offloads)
        if device.kind is not config.kind:
            raise ValueError(f"a {opening} that is no {device.kind.name.lower()} port")
        if device.opening is not Opening.UNDERLAY:
            return device
        if "lock" not in held or "pas" not in held:
            raise ValueError("an underlay without its lock or its map")
        groups = Groups(index, fds[0], held.get("groups"), used=True)
        return Underlay(**vars(device), pas=bpf.PaMap(held["pas"]), groups=groups)
    except ValueError as error:
        raise DeviceError(f"{_NOT_OURS}: {error}") from None


# ---- TAP ---------------------------------------------------------------------------------------------------


def open_tap(name: str, *, namespace: str, mac: str, mtu: int, queues: int = 1) -> Device:
    """A TAP in the VM's namespace: made, or taken over if it is persistent and nobody holds a queue of it.

    One that is made with one queue can have no other: who opens it besides us gets EBUSY. One that is there
    stays what it is, whatever `queues` says: see Device.queues_of().
    """
    with links.errors(Opening.TAP.words(name, namespace)), Undo() as undo:
        _check_is_not_hosts(namespace)
        place = netns.call(namespace, _open_tap, undo, namespace, name, mac, mtu, queues)
        fds = tuple(undo.fds)
        return Device(name, Opening.TAP, place, mac.lower(), mtu, fds, undo.pop_all())


def _check_is_not_hosts(namespace: str) -> None:
    """Under whatever name: /run/netns may have one for it too."""
    if not namespace or netns.identity(namespace) == netns.identity(None):
        raise DeviceError("the namespace is the host's own, whose kernel would be the VM")


def _open_tap(undo: Undo, namespace: str, name: str, mac: str, mtu: int, queues: int) -> Place:
    with IPRoute() as ip:
        present = links.find(ip, name)
        if present is not None:
            _check_no_loopback(present)
            if present.tap_queues:
                raise DeviceError(_IS_HELD)
        is_multi_queue = queues > 1 if present is None else present.tap_is_multi_queue
        for queue in range(queues if is_multi_queue else 1):
            _open_tap_queue(undo, name, is_multi_queue, present is None and queue == 0)
        place = Place(namespace, netns.identity(None), links.get(ip, name).index)
        if present is None:
            ip.link("set", index=place.index, ifalias=ALIAS)
            fcntl.ioctl(undo.fds[0], _TUNSETPERSIST, 1)
        if present is None or present.alias == ALIAS:
            undo.add("remove", *astuple(place))
    links.set_link(place.index, address=mac, mtu=mtu, txqlen=TX_QUEUE_LEN)
    links.send_at_once(place.index)
    links.set_link(place.index, state="up")
    return place


def _tap_ifreq(fd: int) -> bytes | None:
    """The device's name and flags; None: it has gone."""
    try:
        return fcntl.ioctl(fd, _TUNGETIFF, bytes(40))
    except OSError:
        return None


def _open_tap_queue(undo: Undo, name: str, multi_queue: bool, new: bool) -> None:
    (fd,) = undo.own(os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC))
    flags = _IFF_TAP | _IFF_NO_PI | _IFF_VNET_HDR
    flags |= (_IFF_MULTI_QUEUE if multi_queue else 0) | (_IFF_TUN_EXCL if new else 0)
    try:
        fcntl.ioctl(fd, _TUNSETIFF, struct.pack("16sH22x", name.encode(), flags))
    except OSError as error:
        if error.errno == errno.EBUSY:
            raise DeviceError(_IS_HELD) from None
        raise
    fcntl.ioctl(fd, _TUNSETVNETHDRSZ, struct.pack("=i", _VNET_HDR_SIZE))
    fcntl.ioctl(fd, _TUNSETOFFLOAD, _TUN_F_CSUM | _TUN_F_TSO4 | _TUN_F_TSO6 | _TUN_F_TSO_ECN)


# ---- veth and existing devices -----------------------------------------------------------------------------


def open_veth(name: str, *, namespace: str, mac: str, mtu: int, queues: int = 1) -> Device:
    """A veth pair: `name` in the VM's namespace, the other end in the host's, silenced and read by
    AF_PACKET.
    """
    host_end = host_end_name(name, namespace)
    with links.errors(Opening.VETH.words(name, namespace)), Undo() as undo:
        _check_is_not_hosts(namespace)
        netns.call(None, _make_veth, undo, host_end, name, namespace)
        index = netns.call(namespace, _set_up_vm_end, name, mac, mtu)
        place = Place(namespace, netns.identity(namespace), index)
        fds = netns.call(None, _open_host_end, undo, host_end, mtu, queues)
        return Device(name, Opening.VETH, place, mac.lower(), mtu, fds, undo.pop_all())


def host_end_name(name: str, namespace: str) -> str:
    """Of a veth: the same in every run, so that a later process finds what an earlier one left."""
    return "il" + hashlib.blake2b(f"{namespace}/{name}".encode(), digest_size=6).hexdigest()


def _make_veth(undo: Undo, host_end: str, name: str, namespace: str) -> None:
    with IPRoute() as ip:
        if links.find(ip, host_end) is None:
            peer = {"ifname": name, "net_ns_fd": str(netns.path(namespace))}
            ip.link("add", ifname=host_end, kind="veth", peer=peer)
        link = links.get(ip, host_end)
        if link.alias is None:  # new, or left by one that was killed here
            ip.link("set", index=link.index, ifalias=ALIAS)
        undo.add("remove", *astuple(_place(link)))


def _set_up_vm_end(name: str, mac: str, mtu: int) -> int:
    """Its index. What a virtio_net_hdr can't say (UDP, SCTP and tunnel super-packets) the VM's kernel has to
    segment itself.
    """
    segmentation = {feature for feature in ethtool.active(name) if feature.endswith("-segmentation")}
    ethtool.switch(name, segmentation - _SAID_BY_VNET_HDR | {"tx-gso-list"}, False)
    with IPRoute() as ip:
        index = links.get(ip, name).index
    links.set_link(index, address=mac, mtu=mtu)
    links.set_link(index, state="up")
    return index


def _open_host_end(undo: Undo, host_end: str, mtu: int, queues: int) -> tuple[int, ...]:
    with IPRoute() as ip:
        link = links.get(ip, host_end)
        _silence(undo, ip, link)
    undo.add("remove", *astuple(_place(link)))  # on close first of all: silent to the end
    links.set_link(link.index, mtu=mtu, state="up")
    return undo.own(*packet_socket.open_queues(host_end, queues, None))


def open_existing(name: str, *, mac: str, mtu: int, queues: int = 1, note: Note = _unnoted) -> Device:
    """A device of the host that leads to a VM. It is sealed, and stays so after close()."""
    with links.errors(Opening.EXISTING.words(name, None)), Undo() as undo:
        link = netns.call(None, _open_existing, undo, name, queues, note)
        mtu, fds = min(mtu, link.mtu), tuple(undo.fds)
        return Device(name, Opening.EXISTING, _place(link), mac.lower(), mtu, fds, undo.pop_all())


def _open_existing(undo: Undo, name: str, queues: int, note: Note) -> Link:
    with IPRoute() as ip:
        link = _seal(ip, name)
        undo.note = partial(note, _place(link))
        if not link.up:
            undo.add("state", name, "down")
            ip.link("set", index=link.index, state="up")
    for fd in undo.own(*packet_socket.open_queues(name, queues, None)):
        packet_socket.take_every_mac(fd, link.index)
    return link


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
    _check_no_loopback(link)
    if link.alias == ALIAS:
        raise DeviceError("is another port's")
    _check_is_apart(link)
    if addresses := links.addresses(ip, link.index):
        raise DeviceError(f"the host has address {addresses[0]} on it; there must be none")
    _silence(Undo(), ip, link)
    return link


def _check_no_loopback(link: Link) -> None:
    if link.flags & links.IFF_LOOPBACK:
        raise DeviceError("is the loopback")


def _check_is_apart(link: Link) -> None:
    """A bridge would send into it what others say."""
    if link.master:
        raise DeviceError("is part of a bridge or the like; it must not be")


def _set_mtu(name: str, mtu: int) -> None:
    with IPRoute() as ip:
        ip.link("set", index=links.get(ip, name).index, mtu=mtu)


def _silence(undo: Undo, ip: IPRoute, link: Link) -> None:
    """Nothing of the host answers on this device: no IPv6, no ARP, every frame dropped before the stack."""
    links.drop_at_ingress(undo, ip, link, bpf_programs.DROP)
    for name, value in links.silence(link.name).items():
        undo.set_sysctl(name, value)


def _place(link: Link) -> Place:
    """Of a device in the host's namespace."""
    return Place(None, netns.identity(None), link.index)


# ---- underlay ----------------------------------------------------------------------------------------------


def open_underlay(
    name: str,
    *,
    mac: str,
    mtu: int,
    queues: int = 1,
    pas: Iterable[bpf.Address] = (),
    note: Note = _unnoted,
) -> Underlay:
    """The underlay device.

    mac, mtu: the manifest's; the device must have this MAC ("" for any) and at least this MTU.
    pas: kept from the host without a gap if a process that crashed had them; serve() names them again.
    """
    with links.errors(Opening.UNDERLAY.words(name, None)), Undo() as undo:
        return netns.call(None, _open_underlay, undo, name, mac.lower(), mtu, queues, frozenset(pas), note)


def _open_underlay(
    undo: Undo, name: str, mac: str, mtu: int, queues: int, kept: frozenset[bpf.Address], note: Note
) -> Underlay:
    with IPRoute() as ip:
        link = links.get(ip, name)
        _check_underlay(link, mac, mtu)
        _check_pas(ip, kept)
        (lock,) = undo.own(_lock(link))
        undo.note = partial(note, _place(link))
        undo.add("features", name, sorted(ethtool.active(name) & set(_RECEIVE_MERGING)), True)
        ethtool.switch(name, _RECEIVE_MERGING, False)
        pas = bpf.PaMap()
        undo.own(pas.fd)
        pas.replace(kept)
        links.drop_at_ingress(undo, ip, link, bpf_programs.DIVERT, pas)
    accept = bpf.load(bpf_programs.ACCEPT, pas)
    try:
        fds = undo.own(*packet_socket.open_queues(name, queues, accept))
    finally:
        os.close(accept)
    packet_socket.take_group(fds[0], link.index, _ALL_NODES_MAC)  # the host's IPv6 may be off
    held = {"lock": lock, "pas": pas.fd}
    joining = joining_socket()
    if joining is not None:
        (held["groups"],) = undo.own(joining)
    groups = Groups(link.index, fds[0], joining)
    device = (name, Opening.UNDERLAY, _place(link), link.mac, mtu, fds)
    return Underlay(*device, undo.pop_all(), held, pas=pas, groups=groups)


def _check_named_underlay(name: str, mac: str, mtu: int) -> None:
    with IPRoute() as ip:
        _check_underlay(links.get(ip, name), mac, mtu)


def _check_underlay(link: Link, mac: str, mtu: int) -> None:
    _check_no_loopback(link)
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
        raise DeviceError("another isolane uses it")
    return lock
