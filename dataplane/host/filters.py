"""Our programs on what a device brings to the host's stack, and on what leaves by it."""

import enum
import os
from typing import Protocol

from pyroute2 import IPRoute

from dataplane.host import bpf
from dataplane.host.links import Link, get

_PRIORITY, _HANDLE = 1, 0x1501A7E  # first of all filters, and ours


class Way(enum.IntEnum):
    """The parent of filters on a device's clsact qdisc. IN: after packet sockets have seen a frame."""

    IN = 0xFFFFFFF2
    OUT = 0xFFFFFFF3


_STEPS = {Way.IN: "drop", Way.OUT: "tunnel"}


class Noting(Protocol):
    """What is told of a step that puts back a change."""

    def add(self, name: str, *arguments: object) -> None: ...


def has_filter(ip: IPRoute, link: Link, way: Way, program: bpf.Program) -> bool:
    """Whether set_filter() has put this program there."""
    return any(
        message["handle"] == _HANDLE and message.get_nested("TCA_OPTIONS", "TCA_BPF_NAME") == program.name
        for message in ip.get_filters(index=link.index, parent=way)
    )


def set_filter(
    undo: Noting, ip: IPRoute, link: Link, way: Way, program: bpf.Program, pas: bpf.PaMap | None = None
) -> None:
    """Run a program on every frame that goes this way. It stays when this process dies; where an earlier one
    left its own, that is replaced in one step.
    """
    undo.add(_STEPS[way], link.name)
    ip.tc("replace", "clsact", link.index)  # one that is there stays as it is
    fd = bpf.load(program, pas)
    try:
        ip.tc(
            "replace-filter",
            "bpf",
            link.index,
            _HANDLE,
            parent=way,
            prio=_PRIORITY,
            fd=fd,
            name=program.name,
            direct_action=True,
        )
    finally:
        os.close(fd)


def remove_filter(way: Way, name: str) -> None:
    """Take ours away, and the qdisc with it unless other filters hang there too."""
    with IPRoute() as ip:
        index = get(ip, name).index
        ip.tc("del-filter", "bpf", index, _HANDLE, parent=way, prio=_PRIORITY)
        if not any(ip.get_filters(index=index, parent=parent) for parent in Way):
            ip.tc("del", "clsact", index)
