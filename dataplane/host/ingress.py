"""What is dropped before the host's stack sees it."""

import os
from typing import Protocol

from pyroute2 import IPRoute

from dataplane.host import bpf
from dataplane.host.links import Link, get

_INGRESS, _EGRESS = 0xFFFFFFF2, 0xFFFFFFF3
_PRIORITY, _HANDLE = 1, 0x1501A7E  # first of all filters, and ours


class Noting(Protocol):
    """What is told of a step that puts back a change."""

    def add(self, name: str, *arguments: object) -> None: ...


def has_ingress_drop(ip: IPRoute, link: Link, program: bpf.Program) -> bool:
    """Whether drop_at_ingress() has put this program there."""
    return any(
        message["handle"] == _HANDLE and message.get_nested("TCA_OPTIONS", "TCA_BPF_NAME") == program.name
        for message in ip.get_filters(index=link.index, parent=_INGRESS)
    )


def drop_at_ingress(
    undo: Noting, ip: IPRoute, link: Link, program: bpf.Program, pas: bpf.PaMap | None = None
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


def remove_drop(name: str) -> None:
    """Take our filter away, and the qdisc with it unless somebody else's filters hang there too."""
    with IPRoute() as ip:
        index = get(ip, name).index
        ip.tc("del-filter", "bpf", index, _HANDLE, parent=_INGRESS, prio=_PRIORITY)
        if not any(ip.get_filters(index=index, parent=parent) for parent in (_INGRESS, _EGRESS)):
            ip.tc("del", "clsact", index)
