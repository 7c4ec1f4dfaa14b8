"""Devices of the host whose packets come and go by AF_XDP, besides the packet sockets that they have."""

import errno
from dataclasses import replace
from typing import TypeVar

from dataplane.binding.core import Offload
from dataplane.host import bpf, bpf_programs, ethtool, links, xdp
from dataplane.host.device import Device
from dataplane.host.links import DeviceError, Link
from dataplane.host.undo import Undo
from dataplane.host.xdp import Binding, Sockets

DeviceT = TypeVar("DeviceT", bound=Device)


def by_xdp(
    undo: Undo, device: DeviceT, link: Link, memory: int | None, *, pas: bpf.PaMap | None = None
) -> DeviceT:
    """The device with AF_XDP sockets, as many as it has packet sockets and queues, of `memory`, the core's;
    pas: of an underlay. DeviceError: it can't be.
    """
    if memory is None:
        raise DeviceError("driver afxdp: the data plane that runs does not share its memory: restart it")
    queues = ethtool.receive_queues(link.name)
    binding = Binding(device.mtu + links.FRAMING > xdp.WHOLE)
    try:
        fds, binding = _open(undo, memory, link.index, min(device.queues, queues), binding)
        program = bpf_programs.VM if pas is None else bpf_programs.WIRE
        steering, xsks = undo.own(*xdp.steer(program, link.index, queues, pas))
    except OSError as error:
        raise DeviceError(f"driver afxdp: {_words(error, binding)}") from None
    reason = "as stated; " + ("zero-copy" if binding.is_zero_copy else "the kernel copies")
    if len(fds) < queues:
        reason += f"; {queues - len(fds)} of {queues} queues by packet, as there are {len(fds)} workers"
    return replace(
        device,
        fds=(*device.fds, *fds),
        held={**device.held, "xdp": steering},
        offloads=Offload.XDP_SG if binding.has_long else Offload.NONE,
        reason=reason,
        xsks=len(fds),
        sockets=Sockets(fds, xsks),
    )


def _open(
    undo: Undo, memory: int, index: int, count: int, binding: Binding
) -> tuple[tuple[int, ...], Binding]:
    """Zero-copy if the first one can be; and how they are bound then."""
    try:
        zero_copy = replace(binding, is_zero_copy=True)
        fds, binding = undo.own(xdp.open_socket(memory, index, 0, zero_copy)), zero_copy
    except OSError as error:
        if error.errno == errno.EBUSY:
            raise
        fds = undo.own(xdp.open_socket(memory, index, 0, binding))
    for queue in range(1, count):
        fds += undo.own(xdp.open_socket(memory, index, queue, binding))
    return fds, binding


def _words(error: OSError, binding: Binding) -> str:
    if error.errno == errno.EBUSY:
        return "another XDP program or AF_XDP socket is there"
    long = ", or not for frames of more than 3,392 bytes" if binding.has_long else ""
    return f"the kernel or the device's driver has none{long}: {error.strerror}"
