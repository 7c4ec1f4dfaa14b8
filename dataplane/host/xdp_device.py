"""Devices of the host whose packets come and go by AF_XDP, besides the packet sockets that they have."""

import errno
from dataclasses import replace
from typing import TypeVar

from dataplane.binding.core import Offload
from dataplane.host import bpf, bpf_programs, ethtool, links, xdp
from dataplane.host.device import Device
from dataplane.host.links import DeviceError, Link
from dataplane.host.undo import Undo

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
    has_long = device.mtu + links.FRAMING > xdp.WHOLE
    fds: tuple[int, ...] = ()
    try:
        for queue in range(min(device.queues, queues)):
            fds += undo.own(xdp.open_socket(memory, link.index, queue, has_long))
        program = bpf_programs.VM if pas is None else bpf_programs.WIRE
        steering, xsks = undo.own(*xdp.steer(program, link.index, queues, pas))
    except OSError as error:
        raise DeviceError(f"driver afxdp: {_words(error)}") from None
    rest = queues - len(fds)
    return replace(
        device,
        fds=(*device.fds, *fds),
        held={**device.held, "xdp": steering, "xsks": xsks},
        offloads=Offload.XDP_SG if has_long else Offload.NONE,
        reason="as stated" + (f"; {rest} of {queues} queues by packet: {len(fds)} workers" if rest else ""),
        xsks=len(fds),
    )


def _words(error: OSError) -> str:
    match error.errno:
        case errno.EBUSY:
            return "another XDP program or AF_XDP socket is there"
        case errno.EOPNOTSUPP | errno.EAFNOSUPPORT | errno.EINVAL | errno.ENOPROTOOPT:
            return f"the kernel can't, it takes Linux 6.6: {error.strerror}"
    return str(error.strerror)
