"""A host's network devices by netlink, and what isolane changes on them. Works in the calling thread's
namespace.

What is changed is noted on an Undo as it happens, which puts it back or hands it on to another process. A
device or namespace that has gone meanwhile needs no undoing.
"""

import contextlib
import errno
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from pathlib import Path
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from dataplane import bpf, ethtool, netns

IFF_UP, IFF_LOOPBACK = 0x1, 0x8
ALIAS = "isolane"
"""ifalias of devices that isolane made: a later process knows them for its own."""

_ROOT, _INGRESS, _EGRESS = 0xFFFFFFFF, 0xFFFFFFF2, 0xFFFFFFF3
_PRIORITY, _HANDLE = 1, 0x1501A7E  # first of all filters, and ours


class DeviceError(Exception):
    """The host's operator must act: a device that is missing, in use or not as the manifest says."""


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
        raise DeviceError(f"{what}: {error}") from None


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
    master: int  # index of the bridge or the like that it is part of; 0: none

    @property
    def up(self) -> bool:
        return bool(self.flags & IFF_UP)


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
    return Link(
        name=message.get_attr("IFLA_IFNAME"),
        index=message["index"],
        mac=message.get_attr("IFLA_ADDRESS"),
        mtu=message.get_attr("IFLA_MTU"),
        flags=message["flags"],
        alias=message.get_attr("IFLA_IFALIAS"),
        tap_queues=message.get_nested("IFLA_LINKINFO", "IFLA_INFO_DATA", "IFLA_TUN_NUM_QUEUES") or 0,
        tap_is_multi_queue=bool(
            message.get_nested("IFLA_LINKINFO", "IFLA_INFO_DATA", "IFLA_TUN_MULTI_QUEUE")
        ),
        master=message.get_attr("IFLA_MASTER") or 0,
    )


def get(ip: IPRoute, name: str) -> Link:
    link = find(ip, name)
    if link is None:
        raise DeviceError("no such device")
    return link


def addresses(ip: IPRoute, index: int) -> list[str]:
    """The host's addresses on a device, IPv6 link-local ones left out."""
    found = (ip_address(message.get_attr("IFA_ADDRESS")) for message in ip.get_addr(index=index))
    return [str(a) for a in found if not (isinstance(a, IPv6Address) and a.is_link_local)]


def set_state(name: str, state: str) -> None:
    with IPRoute() as ip:
        ip.link("set", index=get(ip, name).index, state=state)


def set_link(index: int, **settings: object) -> None:
    with IPRoute() as ip:
        ip.link("set", index=index, **settings)


def send_at_once(index: int) -> None:
    """No queueing discipline: one that the kernel makes itself has a ring of txqueuelen packets, three times
    over, for each queue that the device could have. Of a TAP with 256 that was 25 MiB, zeroed for 50 ms with
    RTNL held. Call it before the device is set up.
    """
    with IPRoute() as ip:
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


def drops_at_ingress(ip: IPRoute, link: Link, program: bpf.Program) -> bool:
    """Whether drop_at_ingress() has put this program there."""
    return any(
        message["handle"] == _HANDLE and message.get_nested("TCA_OPTIONS", "TCA_BPF_NAME") == program.name
        for message in ip.get_filters(index=link.index, parent=_INGRESS)
    )


def drop_at_ingress(
    undo: "Undo", ip: IPRoute, link: Link, program: bpf.Program, pas: bpf.PaMap | None = None
) -> None:
    """Run a program on every frame that comes in, after packet sockets have seen it and before the host's
    stack does.

    It stays when this process dies; where an earlier one left its own, that is replaced in one step.
    """
    undo.add("drop", link.name)
    ip.tc("replace", "clsact", link.index)  # one that is there stays as it is
    fd = bpf.load(program, pas)
    try:
        ip.tc(
            "replace-filter",
            "bpf",
            link.index,
            _HANDLE,
            parent=_INGRESS,
            prio=_PRIORITY,
            fd=fd,
            name=program.name,
            direct_action=True,
        )
    finally:
        os.close(fd)


def _remove_drop(name: str) -> None:
    """Take our filter away, and the qdisc with it unless somebody else's filters hang there too."""
    with IPRoute() as ip:
        index = get(ip, name).index
        ip.tc("del-filter", "bpf", index, _HANDLE, parent=_INGRESS, prio=_PRIORITY)
        if not any(ip.get_filters(index=index, parent=parent) for parent in (_INGRESS, _EGRESS)):
            ip.tc("del", "clsact", index)


# ---- undoing -----------------------------------------------------------------------------------------------

_STEPS: dict[str, Callable[..., object]] = {
    "remove": remove_if_ours,
    "state": set_state,
    "sysctl": write_sysctl,
    "features": ethtool.switch,
    "drop": _remove_drop,
}

Step = list[Any]
"""The name of a step and its arguments: what JSON can say, so that another process can take it."""


class Undo:
    """The steps that put back what was changed, and the descriptors that were opened, to close after them.

    Steps are taken last first, in the caller's namespace and whatever fails; descriptors are closed last
    first. One thread at a time.

    note: is told of all steps before the last of them is needed, so that it outlives this process.
    """

    def __init__(self, fds: Iterable[int] = ()) -> None:
        self.steps: list[Step] = []
        self.fds = list(fds)
        self.note: Callable[[list[Step]], None] = lambda _: None

    def add(self, name: str, *arguments: object) -> None:
        self.steps.append([name, *arguments])
        self.note(self.steps)

    def own(self, *fds: int) -> tuple[int, ...]:
        self.fds += fds
        return fds

    def set_sysctl(self, name: str, value: str) -> None:
        before = read_sysctl(name)
        if before not in (None, value):
            self.add("sysctl", name, before)
            write_sysctl(name, value)

    def inherit(self, steps: Iterable[Step]) -> None:
        """Of an earlier process, which found the device as it is to be again."""
        self.steps = merged(steps, self.steps)

    def keep(self, name: str) -> None:
        """Only the steps of that name."""
        self.steps = [step for step in self.steps if step[0] == name]

    def pop_all(self) -> "Undo":
        """Another that has all, so that this one does nothing."""
        other = Undo()
        other.steps, other.fds, self.steps, self.fds = self.steps, self.fds, [], []
        return other

    def release(self) -> None:
        """Closes the descriptors and leaves the rest as it is."""
        self.steps.clear()
        while self.fds:
            os.close(self.fds.pop())

    def close(self) -> None:
        while self.steps:
            name, *arguments = self.steps.pop()
            with contextlib.suppress(OSError, NetlinkError, DeviceError):
                netns.call(None, _STEPS[name], *arguments)
        self.release()

    def __enter__(self) -> "Undo":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def merged(earlier: Iterable[Step], steps: Iterable[Step]) -> list[Step]:
    """Those of an earlier process are taken last, and each once."""
    later = list(steps)
    return [*(step for step in earlier if step not in later), *later]


def checked(steps: Iterable[object], device: str | None) -> list[Step]:
    """As they are; ValueError: one that does not put back what isolane changes on this device of the host,
    None if on none: who hands them over may have been broken into.
    """
    found: list[Step] = []
    for step in steps:
        if not isinstance(step, list) or not _puts_back(step, device):
            raise ValueError(f"unknown step {step} for {device}")
        found.append(step)
    return found


def _puts_back(step: Step, device: str | None) -> bool:
    match step:
        case ["remove", None | str(), int(), int()]:
            return True  # only what is marked as ours goes
        case ["sysctl", str(name), str(value)]:
            return name in silence(device) and value.isdecimal()
        case ["features", str(name), [*features], True]:
            return name == device and all(isinstance(feature, str) for feature in features)
        case ["state", str(name), "down"] | ["drop", str(name)]:
            return name == device
    return False


def silence(device: str | None) -> dict[str, str]:
    """The sysctls by which the host does not answer on a device."""
    return {f"ipv6/conf/{device}/disable_ipv6": "1", f"ipv4/conf/{device}/arp_ignore": "8"}
