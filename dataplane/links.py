"""A host's network devices by netlink, and what isolane changes on them. Works in the calling thread's
namespace.

What is changed is noted on an Undo stack as it happens; closing the stack puts it back, in the opposite order
and from any thread. A device or namespace that has gone meanwhile needs no undoing.
"""

import contextlib
import errno
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from pathlib import Path
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from dataplane import bpf, netns

IFF_UP, IFF_LOOPBACK = 0x1, 0x8
ALIAS = "isolane"
"""ifalias of devices that isolane made: a later process knows them for its own."""

_INGRESS, _EGRESS = 0xFFFFFFF2, 0xFFFFFFF3
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


class Undo(contextlib.ExitStack):
    def quietly(self, namespace: str | None, step: Callable[..., object], *args: object) -> None:
        """On close, run a step in a namespace unless what it is about has gone."""

        def run() -> None:
            with contextlib.suppress(OSError, NetlinkError, DeviceError):
                netns.call(namespace, step, *args)

        self.callback(run)


@dataclass(frozen=True)
class Link:
    name: str
    index: int
    mac: str
    mtu: int
    flags: int
    alias: str | None
    tap_queues: int  # descriptors that processes hold

    @property
    def up(self) -> bool:
        return bool(self.flags & IFF_UP)


def find(ip: IPRoute, name: str) -> Link | None:
    try:
        message: Any = ip.link("get", ifname=name)[0]
    except NetlinkError as error:
        if error.args[0] == errno.ENODEV:
            return None
        raise
    return Link(
        name=name,
        index=message["index"],
        mac=message.get_attr("IFLA_ADDRESS"),
        mtu=message.get_attr("IFLA_MTU"),
        flags=message["flags"],
        alias=message.get_attr("IFLA_IFALIAS"),
        tap_queues=message.get_nested("IFLA_LINKINFO", "IFLA_INFO_DATA", "IFLA_TUN_NUM_QUEUES") or 0,
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


def remove_if_ours(name: str) -> None:
    with IPRoute() as ip:
        link = get(ip, name)
        if link.alias == ALIAS:
            ip.link("del", index=link.index)


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


def set_sysctl(undo: Undo, name: str, value: str) -> None:
    before = write_sysctl(name, value)
    if before is not None:
        undo.quietly(None, write_sysctl, name, before)


def drop_at_ingress(
    undo: Undo, ip: IPRoute, link: Link, program: bpf.Program, pas: bpf.PaMap | None = None
) -> None:
    """Run a program on every frame that comes in, after packet sockets have seen it and before the host's
    stack does.

    It stays when this process dies; where an earlier one left its own, that is replaced in one step.
    """
    ip.tc("replace", "clsact", link.index)  # one that is there stays as it is
    undo.quietly(None, _remove_drop, link.name)
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
