"""What a hypervisor has to be told of a VM's port, ready to paste."""

import shlex
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING
from xml.sax.saxutils import quoteattr

if TYPE_CHECKING:
    from policy.kinds.model import Attach, Object, Port


def hypervisor_lines(item: "Object", mtu: Callable[[], int | None]) -> Iterator[str]:
    """Of a port whose device a hypervisor opens, else nothing. mtu: of VMs; None: not known."""
    from policy.kinds.model import AttachKind, Port

    if not isinstance(item, Port) or item.attach is None:
        return
    if item.attach.kind not in (AttachKind.VM, AttachKind.DEVICE) or (size := mtu()) is None:
        return
    yield "QEMU:"
    yield from (f"  {line}" for line in _qemu(item, item.attach, size))
    yield "libvirt:"
    yield from (f"  {line}" for line in _libvirt(item, item.attach, size))


def _qemu(port: "Port", attach: "Attach", mtu: int) -> Iterator[str]:
    """With vhost=off it is the process that reads and writes, as whom the TAP is opened."""
    queues = attach.queues if attach.queues > 1 else 0
    name = attach.device.replace(",", ",,")
    backend = f"tap,id=net-{port.name},ifname={name},script=no,downscript=no,vhost=off"
    device = f"virtio-net-pci,netdev=net-{port.name},mac={port.mac},host_mtu={mtu}"
    yield "-netdev " + shlex.quote(backend + (f",queues={queues}" if queues else ""))
    yield "-device " + shlex.quote(device + (f",mq=on,vectors={2 * queues + 2}" if queues else ""))


def _libvirt(port: "Port", attach: "Attach", mtu: int) -> Iterator[str]:
    from policy.kinds.model import AttachKind

    managed = " managed='no'" if attach.kind is AttachKind.VM else ""
    yield "<interface type='ethernet'>"
    yield f"  <mac address='{port.mac}'/>"
    yield f"  <target dev={_attribute(attach.device)}{managed}/>"
    yield "  <model type='virtio'/>"
    if attach.queues > 1:
        yield f"  <driver name='qemu' queues='{attach.queues}'/>"
    yield f"  <mtu size='{mtu}'/>"
    yield "</interface>"


def _attribute(text: str) -> str:
    """In single quotes where that can be."""
    quoted = quoteattr(text)
    return quoted if "'" in text else f"'{quoted[1:-1]}'"
