"""A host's network devices by netlink. Works in the calling thread's namespace."""

import contextlib
import errno
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from pathlib import Path
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from dataplane.host import netns

IFF_UP, IFF_LOOPBACK, _IFF_LOWER_UP = 0x1, 0x8, 0x10000

ALIAS = "isolane"
"""ifalias of devices that isolane made: a later process knows them for its own."""

_ROOT = 0xFFFFFFFF
_IFF_TAP = 2
_QUEUES = ("IFLA_TUN_NUM_QUEUES", "IFLA_TUN_NUM_DISABLED_QUEUES")
_TAP = ("IFLA_TUN_TYPE", "IFLA_TUN_OWNER", "IFLA_TUN_MULTI_QUEUE", *_QUEUES)

NO_CARRIER = "no carrier"

FRAMING = 18
"""Bytes of a frame besides its packet: both MACs, a VLAN tag, the EtherType."""


class DeviceError(Exception):
    """The host's operator must act: a device that is missing, in use or not as the manifest says."""


class AbsentError(DeviceError):
    """There is no such device, which may come."""


class TakenError(DeviceError):
    """Another isolane has it."""


@contextlib.contextmanager
def errors(what: str) -> Iterator[None]:
    """Turns what the kernel says into a DeviceError about `what`."""
    try:
        yield
    except NetlinkError as error:
        raise DeviceError(f"{what}: {error.args[1]}") from error
    except OSError as error:
        raise DeviceError(f"{what}: {error.strerror or error}") from error
    except DeviceError as error:
        raise type(error)(f"{what}: {error}") from None


@dataclass(frozen=True)
class Link:
    name: str
    index: int
    mac: str
    mtu: int
    flags: int
    alias: str | None
    tap_queues: int  # of a multi-queue TAP: descriptors that processes hold
    tap_is_multi_queue: bool
    is_tap: bool
    tap_owner: int | None  # who may open it besides root; None: anybody
    master: int  # index of the bridge or the like that it is part of; 0: none

    @property
    def up(self) -> bool:
        return bool(self.flags & IFF_UP)

    @property
    def state(self) -> str:
        """`up`, `down` as somebody set it, or NO_CARRIER: nobody has the other end."""
        return ("up" if self.flags & _IFF_LOWER_UP else NO_CARRIER) if self.up else "down"


@dataclass(frozen=True)
class Place:
    """Of a device, for as long as it exists: names may come to mean others."""

    namespace: str | None
    identity: int
    """As netns.identity() tells it."""
    index: int


def find(ip: IPRoute, name: str) -> Link | None:
    return _find(ip, ifname=name)


def find_at(place: Place) -> Link | None:
    try:
        if netns.identity(place.namespace) != place.identity:
            return None
        return netns.call(place.namespace, _find_index, place.index)
    except FileNotFoundError:
        return None


def _find_index(index: int) -> Link | None:
    with IPRoute() as ip:
        return _find(ip, index=index)


def _find(ip: IPRoute, **which: object) -> Link | None:
    try:
        message: Any = ip.link("get", **which)[0]
    except NetlinkError as error:
        if error.args[0] == errno.ENODEV:
            return None
        raise
    info = {name: message.get_nested("IFLA_LINKINFO", "IFLA_INFO_DATA", name) for name in _TAP}
    return Link(
        name=message.get_attr("IFLA_IFNAME"),
        index=message["index"],
        mac=message.get_attr("IFLA_ADDRESS"),
        mtu=message.get_attr("IFLA_MTU"),
        flags=message["flags"],
        alias=message.get_attr("IFLA_IFALIAS"),
        tap_queues=sum(info[name] or 0 for name in _QUEUES),
        tap_is_multi_queue=bool(info["IFLA_TUN_MULTI_QUEUE"]),
        is_tap=info["IFLA_TUN_TYPE"] == _IFF_TAP,
        tap_owner=info["IFLA_TUN_OWNER"],
        master=message.get_attr("IFLA_MASTER") or 0,
    )


def get(ip: IPRoute, name: str) -> Link:
    link = find(ip, name)
    if link is None:
        raise AbsentError("no such device")
    return link


def addresses(ip: IPRoute, index: int) -> list[str]:
    """The host's addresses on a device, IPv6 link-local ones left out."""
    found = (ip_address(message.get_attr("IFA_ADDRESS")) for message in ip.get_addr(index=index))
    return [str(a) for a in found if not (isinstance(a, IPv6Address) and a.is_link_local)]


def set_state(name: str, state: str) -> None:
    with IPRoute() as ip:
        ip.link("set", index=get(ip, name).index, state=state)


def set_link(index: int, **settings: object) -> None:
    """By one that has no handle open."""
    with IPRoute() as ip:
        ip.link("set", index=index, **settings)


def set_noqueue(ip: IPRoute, index: int) -> None:
    """No queueing discipline: one that the kernel makes itself has a ring of txqueuelen packets, three times
    over, for each queue that the device could have. Of a TAP with 256 that was 25 MiB, zeroed for 50 ms with
    RTNL held. Call it before the device is set up.
    """
    ip.tc("replace", "noqueue", index, parent=_ROOT)


def remove_if_ours(namespace: str | None, identity: int, index: int) -> None:
    """The device at a Place."""
    link = find_at(Place(namespace, identity, index))
    if link is not None and link.alias == ALIAS:
        netns.call(namespace, _remove, index)


def _remove(index: int) -> None:
    with IPRoute() as ip:
        ip.link("del", index=index)


def write_sysctl(name: str, value: str) -> str | None:
    """Set net.`name` (with slashes) for this namespace and return what it was if that differs.

    A kernel that lacks it needs no setting.
    """
    path = Path("/proc/sys/net", name)
    before = path.read_text().strip() if path.exists() else value
    if before == value:
        return None
    path.write_text(value)
    return before


def read_sysctl(name: str) -> str | None:
    """As write_sysctl names it; None: this kernel lacks it."""
    path = Path("/proc/sys/net", name)
    return path.read_text().strip() if path.exists() else None


def mute_sysctls(device: str | None) -> dict[str, str]:
    """The sysctls by which the host does not answer on a device."""
    return {f"ipv6/conf/{device}/disable_ipv6": "1", f"ipv4/conf/{device}/arp_ignore": "8"}
