"""Opens devices and hands their descriptors to the core, which opens none itself.

Every open_… function takes Terms and returns a Device (the underlay: an Underlay) with one non-blocking
descriptor a queue, all of which carry the 10-byte virtio_net_hdr in host order. close() undoes what the
open_… function changed.

A Device can outlive its process: handover() is all of it, for the data-plane process to keep, and adopt()
makes it a Device again, by a later process and without touching what packets flow through. Of one that no
process keeps, a TAP, a veth pair and the BPF drops stay when the process crashes and are taken over by the
next open_…; until then nothing of the host answers.

The kernel of the namespace that a TAP or a veth leads to is the VM, so it is never the host's. A device that
others make, such as a hypervisor's TAP, is sealed: nothing of it reaches the host's stack, and that stays so
after close(), for as long as the device exists.

A TAP that isolane makes for a hypervisor (Opening.VM) is sealed as well, and goes with close().

A namespace is a name under /run/netns, or None: the process's own, which is the host's. No function leaves
the caller's thread in another one. Any thread may call, one at a time a device. Errors: DeviceError, in words
for the host's operator.
"""

import enum
import fcntl
import hashlib
import os
import re
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import asdict, dataclass, field, replace
from typing import Self

from pyroute2 import IPRoute

from dataplane.binding.core import Offload, PortConfig, PortKind
from dataplane.binding.handover import Handover
from dataplane.host import bpf_programs, links, netns, packet_socket, xdp
from dataplane.host.filters import Way, has_filter, set_filter
from dataplane.host.links import ALIAS, DeviceError, Link, Place
from dataplane.host.undo import Step, Undo

TUNSETPERSIST, _TUNGETIFF = 0x400454CB, 0x800454D2
IFF_MULTI_QUEUE = 0x0100


def offloads_since(release: str) -> Offload:
    """What a virtio_net_hdr says to a kernel of this release; what a device does not cut, the kernel does."""
    version = tuple(int(number) for number in re.findall(r"\d+", release)[:2])
    return Offload.CSUM | Offload.TSO4 | Offload.TSO6 | (Offload.USO if version >= (6, 2) else Offload.NONE)


ALL_OFFLOADS = offloads_since(os.uname().release)


Note = Callable[[Place, list[Step]], None]
"""Is told what close() would do, before it is needed: for a later process, should this one be killed."""


def unnoted(_place: Place, _steps: list[Step]) -> None:
    pass


@dataclass(frozen=True, slots=True)
class VmTap:
    """A TAP as a hypervisor finds it. user: by name or number, who may open it besides root."""

    user: str = "root"
    is_multi_queue: bool = False


@dataclass(frozen=True, slots=True)
class Terms:
    """What a device is opened with.

    mac: of the VM; of an underlay what the device must have, "" for any. mtu: largest IP packet in bytes; an
    underlay must take it. driver: "afxdp" or "packet", which "auto" is; a TAP has no choice. memory: for
    AF_XDP, the core's. note: of a device that others make. tap: of one that is made for a hypervisor.
    """

    mac: str
    mtu: int
    queues: int = 1
    driver: str = "auto"
    memory: int | None = None
    note: Note = unnoted
    tap: VmTap | None = None


class Opening(enum.StrEnum):
    """The way a device was opened."""

    TAP = "tap"
    VETH = "veth"
    EXISTING = "device"
    VM = "vm"
    UNDERLAY = "underlay"

    def words(self, name: str, namespace: str | None) -> str:
        words = f"{'TAP' if self in (Opening.TAP, Opening.VM) else self} {name}"
        return words if namespace is None else f"{words} in namespace {namespace}"


MADE = (Opening.TAP, Opening.VETH, Opening.VM)
"""Devices that isolane makes, and removes."""


@dataclass(frozen=True)
class Device:
    """An open device. Close or release it after the core has detached it or has descriptors of its own: these
    go with it. Nothing else can be asked of it then.

    place: of the VM's device, or of the underlay; mac: of the VM, or the underlay's own; mtu: largest IP
    packet in bytes; fds: one a queue, then `xsks` AF_XDP sockets; undo: owns all descriptors; held: those
    that live on with the port besides the queues'; offloads: what may be sent to it; reason: why packets come
    and go as they do; tap: of one that is made for a hypervisor.
    """

    name: str
    opening: Opening
    place: Place
    mac: str
    mtu: int
    fds: tuple[int, ...]
    undo: Undo
    held: Mapping[str, int] = field(default_factory=dict)
    offloads: Offload = ALL_OFFLOADS
    reason: str = ""
    xsks: int = 0
    tap: VmTap | None = None

    @property
    def kind(self) -> PortKind:
        if self.opening is Opening.TAP:
            return PortKind.TAP
        return PortKind.XDP if self.xsks else PortKind.PACKET

    @property
    def queues(self) -> int:
        """Without AF_XDP sockets."""
        return len(self.fds) - self.xsks

    def port_config(self, port_name: str) -> PortConfig:
        mac = bytes.fromhex(self.mac.replace(":", ""))
        return PortConfig(port_name, self.kind, mac, self.mtu, self.offloads, self.fds, self.xsks)

    def begin(self) -> None:
        """The core has attached it: packets are steered to its AF_XDP sockets now. DeviceError."""
        if self.xsks:
            with self._errors():
                xdp.receive(self.held["xsks"], self.fds[-self.xsks :])

    def handover(self, port_name: str) -> Handover:
        """All that adopt() needs, in any process; the descriptors stay this device's, so duplicate them."""
        note = {
            "device": self.name,
            "opening": str(self.opening),
            **asdict(self.place),
            "reason": self.reason,
            "undo": [list(step) for step in self.undo.steps],
            **({"tap": asdict(self.tap)} if self.tap else {}),
        }
        return Handover(self.port_config(port_name), dict(self.held), note)

    @property
    def link(self) -> str:
        """See Link.state; or `gone`, or `waiting` for a hypervisor to open it."""
        link = links.find_at(self.place)
        is_free = link is not None and self.opening is Opening.VM and link.state == links.NO_CARRIER
        return "gone" if link is None else "waiting" if is_free else link.state

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
            if self.opening in (Opening.TAP, Opening.VETH):
                link = links.find_at(self.place)
                if link is None:
                    raise DeviceError("no such device")
                self._set(self.mac, min(link.mtu, self.mtu))

    def queues_of(self, queues: int) -> int:
        """How many it would have if it was opened anew with so many: a TAP that was made with one keeps to
        one, or the VM would lose its device.
        """
        ifreq = tap_ifreq(self.fds[0]) if self.kind is PortKind.TAP else None
        is_single = ifreq is not None and not int.from_bytes(ifreq[16:18], sys.byteorder) & IFF_MULTI_QUEUE
        return 1 if is_single else queues

    def resize(self, mac: str, mtu: int) -> Self:
        """Gives the VM's device another MAC and MTU; the core learns of it when it attaches the result, which
        takes this one's place. A device of the host stays as it is and so may take less.
        """
        with self._errors():
            link, reads = links.find_at(self.place), self._read_device()
            if link is None or reads is None:
                raise DeviceError("no such device")
            match self.opening:
                case Opening.EXISTING:
                    mtu = min(mtu, link.mtu)
                case Opening.VETH:
                    netns.call(None, self._check_host_end)
                    netns.call(None, _set_mtu, reads, max(mtu, link.mtu))
                    self._set(mac, mtu)  # never larger than the host end, which drops what is
                    netns.call(None, _set_mtu, reads, mtu)
                case Opening.TAP | Opening.VM:
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
                    fcntl.ioctl(self.fds[0], TUNSETPERSIST, 0)
            read = self._read_device()
            if read is None:
                self.undo.steps.clear()  # what has its name now is another's
            elif read != host_device(self.opening, self.name, self.place.namespace):
                self.undo.keep("remove")  # renamed: other steps go by the name
        self.undo.steps = kept_sealed(self.opening, self.undo.steps)
        self.undo.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _errors(self) -> AbstractContextManager[None]:
        return links.errors(self.opening.words(self.name, self.place.namespace))

    def _read_device(self) -> str | None:
        """The name of the device that the queues are of; None: it has gone."""
        if self.opening is not Opening.TAP:
            return packet_socket.device_of(self.fds[0])
        ifreq = tap_ifreq(self.fds[0])
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
            is_kept = link.up and has_filter(ip, link, Way.IN, bpf_programs.DROP)
        wanted = links.mute_sysctls(link.name)
        is_mute = all(links.read_sysctl(key) in (None, value) for key, value in wanted.items())
        if self.opening is Opening.VM:
            is_as_stated = (link.name, link.mtu) == (self.name, self.mtu)
        else:
            is_as_stated = link.mtu >= self.mtu
        return is_kept and is_mute and not link.master and is_as_stated

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
            check_is_apart(link)
            if self.opening is Opening.VM and link.name != self.name:
                link = self._renamed(ip, link)
            mute_host_end(scratch, ip, link)
            mtu = self.mtu if self.opening is Opening.VM else max(link.mtu, self.mtu)
            ip.link("set", index=link.index, mtu=mtu, state="up")

    def _renamed(self, ip: IPRoute, link: Link) -> Link:
        """As a hypervisor looks for it."""
        if links.find(ip, self.name) is not None:
            raise DeviceError(f"it has been renamed to {link.name}, and there is another of its name")
        ip.link("set", index=link.index, state="down")  # of one that is up older kernels change no name
        ip.link("set", index=link.index, ifname=self.name)
        return links.get(ip, self.name)

    def _set(self, mac: str, mtu: int) -> None:
        netns.call(self.place.namespace, links.set_link, self.place.index, address=mac, mtu=mtu)


def kept_sealed(opening: Opening, steps: list[Step]) -> list[Step]:
    """A version before this one gave a VM's device back to the host's stack."""
    return [step for step in steps if opening is not Opening.EXISTING or step[0] == "state"]


def host_device(opening: Opening, name: str, namespace: str | None) -> str | None:
    """The one in the host's namespace."""
    match opening:
        case Opening.TAP:
            return None
        case Opening.VETH:
            return host_end_name(name, namespace or "")
    return name


def check_is_not_hosts(namespace: str) -> None:
    """Under whatever name: /run/netns may have one for it too."""
    if not namespace or netns.identity(namespace) == netns.identity(None):
        raise DeviceError("the namespace is the host's own, whose kernel would be the VM")


def tap_ifreq(fd: int) -> bytes | None:
    """The device's name and flags; None: it has gone."""
    try:
        return fcntl.ioctl(fd, _TUNGETIFF, bytes(40))
    except OSError:
        return None


def host_end_name(name: str, namespace: str) -> str:
    """Of a veth: the same in every run, so that a later process finds what an earlier one left."""
    return "il" + hashlib.blake2b(f"{namespace}/{name}".encode(), digest_size=6).hexdigest()


def check_no_loopback(link: Link) -> None:
    if link.flags & links.IFF_LOOPBACK:
        raise DeviceError("is the loopback")


def check_is_apart(link: Link) -> None:
    """A bridge would send into it what others say."""
    if link.master:
        raise DeviceError("is part of a bridge or the like; it must not be")


def _set_mtu(name: str, mtu: int) -> None:
    with IPRoute() as ip:
        ip.link("set", index=links.get(ip, name).index, mtu=mtu)


def mute_host_end(undo: Undo, ip: IPRoute, link: Link) -> None:
    """Nothing of the host answers on this device: no IPv6, no ARP, every frame dropped before the stack."""
    set_filter(undo, ip, link, Way.IN, bpf_programs.DROP)
    for name, value in links.mute_sysctls(link.name).items():
        undo.set_sysctl(name, value)


def reason_of(driver: str) -> str:
    """Why a device is opened by AF_PACKET."""
    return "as stated" if driver == "packet" else "checksums and super-packets cross, which AF_XDP can't say"


def place_of(link: Link) -> Place:
    """Of a device in the host's namespace."""
    return Place(None, netns.identity(None), link.index)
