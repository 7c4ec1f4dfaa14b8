"""What the data plane of a port's host says of the port, where it runs on this machine."""

from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

from tools import here

if TYPE_CHECKING:
    from dataplane.process.protocol import PortCounters, PortView
    from policy.kinds.model import Object, Port

PATIENCE = 3.0
_USUAL = dict.fromkeys(("multicast", "no-receiver"), "usual, VMs send some unasked")
"""Drops that are no fault."""


def meaning(reason: str) -> str:
    """Of a drop, in words."""
    from dataplane.binding import stats

    return _USUAL.get(reason) or next((each.text for each in stats.drop_reasons() if each.name == reason), "")


def port_lines(item: "Object") -> Iterator[str]:
    """Its device and drops; nothing where nobody here can say."""
    from policy.kinds.model import Port

    if not isinstance(item, Port):
        return
    found = _asked(item)
    if found is None:
        return
    port, counters = found
    if port is None:
        yield "device: not attached"
        return
    if port["device"]:
        where = f" in {item.attach.netns}" if item.attach and item.attach.netns else ""
        yield f"device: {port['kind']} {port['device']}{where}, MTU {port['mtu']}"
    else:
        yield "device: not there"
    if counters is not None:
        yield f"packets: {counters['received']} from the VM, {counters['sent']} to it"
        for reason, count in counters["drops"].items():
            yield f"drop {reason}: {count}: {meaning(reason)}"


def _asked(port: "Port") -> "tuple[PortView | None, PortCounters | None] | None":
    """The port's row and counters, of the data plane of its host; None: none here is, or may be asked."""
    from dataplane.process.client import Client, ClientError

    found: tuple[PortView | None, PortCounters | None] | None = None
    for instance in here.instances():
        with suppress(ClientError), Client(instance, PATIENCE) as client:
            if client.status()["host"] == port.host:
                row = next((row for row in client.ports() if row["name"] == port.id.qualified_name), None)
                found = row, client.counters()["ports"].get(port.id.qualified_name)
                if row is not None:
                    return found
    return found
