"""A device that another process had, with all that its handover says; and what one has left behind."""

from collections.abc import Iterable, Mapping

from dataplane.binding.handover import Handover
from dataplane.host import bpf, links
from dataplane.host.device import Device, Opening, VmTap, host_device, kept_sealed
from dataplane.host.groups import Groups
from dataplane.host.links import DeviceError, Place
from dataplane.host.underlay import Underlay
from dataplane.host.undo import Undo, checked

_NOT_OURS = "its device was not handed over by this version of isolane"


def put_back(opening: Opening, name: str, place: Place, steps: Iterable[object]) -> None:
    """What an open_… has changed, whose process nobody can ask any more; nothing of a device that has gone.
    DeviceError: other steps than close() takes.
    """
    with links.errors(opening.words(name, place.namespace)), Undo() as left:
        try:
            left.steps = checked(steps, host_device(opening, name, place.namespace))
            left.steps = kept_sealed(opening, left.steps)
        except ValueError as error:
            raise DeviceError(str(error)) from None
        if opening in (Opening.EXISTING, Opening.UNDERLAY) and links.find_at(place) is None:
            left.steps.clear()


def adopt(handover: Handover) -> Device:
    """The device whose handover() this was, an Underlay if that was one. Call it in the host's namespace.

    Nothing of the device is touched or looked at: is_present() tells whether it is there. The descriptors are
    the device's own from now on; with DeviceError they are closed.
    """
    config, held = handover.config, handover.held
    undo = Undo(fds=(*held.values(), *config.fds))
    try:
        with links.errors(f"port {config.name}"):
            return _adopt(handover, undo)
    except BaseException:
        undo.release()
        raise


def _tap_of(note: Mapping[str, object]) -> VmTap | None:
    match note.get("tap"):
        case {"user": str(user), "is_multi_queue": bool(is_multi_queue)}:
            return VmTap(user, is_multi_queue)
    return None


def _adopt(handover: Handover, undo: Undo) -> Device:
    config, held = handover.config, handover.held
    match handover.note:
        case {
            "device": str(name),
            "opening": "tap" | "veth" | "device" | "vm" | "underlay" as opening,
            "namespace": str() | None as namespace,
            "identity": int(identity),
            "index": int(index),
            "undo": list(steps),
        } if config.queues > 0:
            place = Place(namespace, identity, index)
        case _:
            raise DeviceError(_NOT_OURS)
    try:
        undo.steps = checked(steps, host_device(Opening(opening), name, namespace))
        mac, fds = config.mac.hex(":"), tuple(config.fds)
        device = Device(
            name,
            Opening(opening),
            place,
            mac,
            config.mtu,
            fds,
            undo,
            held,
            config.offloads,
            handover.noted("reason") or "",
            config.xsks,
            _tap_of(handover.note),
        )
        if device.xsks and "xsks" not in held:
            raise ValueError("AF_XDP sockets without their map")
        if device.kind is not config.kind:
            raise ValueError(f"a {opening} that is no {device.kind.name.lower()} port")
        if device.xsks:
            device.begin()  # whoever attached it may not have got to that
        if device.opening is not Opening.UNDERLAY:
            return device
        if "lock" not in held or "pas" not in held:
            raise ValueError("an underlay without its lock or its map")
        groups = Groups(index, fds[0], held.get("groups"), used=True)
        pas = bpf.PaMap(held["pas"])
        undo.own(pas.fd)
        return Underlay(**vars(device), pas=pas, groups=groups)
    except ValueError as error:
        raise DeviceError(f"{_NOT_OURS}: {error}") from None
