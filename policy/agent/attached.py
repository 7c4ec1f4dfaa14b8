"""A device that a port has: whose it is, what there is to undo, whether it is sound."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from dataplane.binding.handover import Handover
from dataplane.host import links
from dataplane.host.device import Device
from dataplane.host.links import DeviceError
from dataplane.host.undo import Step
from policy.agent.undo_log import DeviceKey, Entry
from policy.agent.wanted import Wanted
from policy.kinds.model import Driver


@dataclass(slots=True)
class Attached:
    id: int
    device: Device
    owner: str
    spins: bool = True

    @property
    def key(self) -> DeviceKey:
        return self.device.opening, self.device.name, self.namespace

    @property
    def namespace(self) -> str | None:
        return self.device.place.namespace

    @property
    def index(self) -> int:
        return self.device.place.index


def is_as(attached: Attached, wanted: Wanted | None) -> bool:
    if wanted is None or wanted.fault:
        return False
    return (wanted.id, wanted.key, wanted.owner) == (attached.id, attached.key, attached.owner)


def is_as_opened(device: Device, wanted: Wanted, workers: int) -> bool:
    """As it would be opened now: with as many queues, by that driver, for that hypervisor's user, and all its
    sockets still serve.
    """
    is_as_wide = device.queues == device.queues_of(workers)
    return is_as_wide and device.tap == wanted.tap and bool(device.xsks) == (wanted.driver is Driver.AFXDP)


def suspects(devices: Mapping[str, Device]) -> set[str]:
    """Those that are not there, or not as they were left; by any thread. Of one that is closed meanwhile it
    may say anything: have it looked at again before anything is done.
    """
    return {name for name, each in devices.items() if not _is_sound(each)}


def _is_sound(device: Device) -> bool:
    try:
        return device.is_present() and device.is_as_left()
    except Exception:  # its descriptors may be those of anything by now
        return False


def is_gone(device: Device) -> bool:
    """For certain: one that can't be looked at now may be in use by a VM."""
    try:
        return not device.is_present()
    except DeviceError:
        return False


def is_altered(device: Device) -> bool:
    try:
        return not device.is_as_left()
    except DeviceError:
        return False


def handover_of(attached: Attached, name: str) -> Handover:
    """With whose it is."""
    config, held, note = attached.device.handover(name)
    return Handover(replace(config, spins=attached.spins), held, {**note, "owner": attached.owner})


def owner_of(handover: Handover) -> str:
    """Whose a device is that another agent attached; "?", which nobody is, where it has not said so."""
    return str(handover.note.get("owner", "?")) if isinstance(handover.note, dict) else "?"


def begun(wanted: Wanted, before: Entry | None) -> Entry:
    if before is not None:
        return replace(before, opening=True, owner=wanted.owner)
    return Entry(wanted.mac, wanted.mtu, opening=True, owner=wanted.owner)


def undo_of(entry: Entry | None, place: links.Place) -> list[Step]:
    """The steps that it has for this very device."""
    if entry is None or (entry.identity, entry.index) != (place.identity, place.index):
        return []
    return entry.undo


def entry_of(device: Device, owner: str) -> Entry:
    place, undo = device.place, device.undo.steps
    return Entry(device.mac, device.mtu, False, place.identity, place.index, undo, owner)
