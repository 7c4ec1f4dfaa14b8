"""How a device manager gets at the host's devices: a test gives it others."""

import resource
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from dataplane.binding.handover import Handover
from dataplane.host import links
from dataplane.host.adoption import adopt, put_back
from dataplane.host.bpf import Address
from dataplane.host.device import Device, Opening, Terms
from dataplane.host.existing import open_existing
from dataplane.host.tap import open_tap
from dataplane.host.underlay import open_underlay
from dataplane.host.veth import open_veth
from dataplane.host.vm_tap import open_vm_tap
from policy.agent.undo_log import DeviceKey
from policy.agent.wanted import Wanted


class Opener(Protocol):
    """DeviceError, from each: the host's operator must act."""

    def open(self, wanted: Wanted, terms: Terms, pas: list[Address]) -> Device:
        """pas: the host's, for an underlay."""

    def take_over(self, key: DeviceKey, terms: Terms) -> Device:
        """A VM's device that a process was opening which has been killed."""

    def adopt(self, handover: Handover) -> Device:
        """One that a data plane has kept; nothing of it is touched."""

    def put_back(self, key: DeviceKey, place: links.Place, steps: Iterable[object]) -> None:
        """What a process has changed on a device, which nobody can ask any more."""

    def room(self) -> tuple[int, int]:
        """How many descriptors may still be opened for devices, and how many a process may have."""


_KEPT_FREE = 128
"""Descriptors, for all else that an agent, or a data plane under the same limit, has to open."""


class HostOpener:
    """In the host's namespace."""

    def open(self, wanted: Wanted, terms: Terms, pas: list[Address]) -> Device:
        if wanted.opening is Opening.UNDERLAY:
            return open_underlay(wanted.device, terms, pas)
        return self.take_over(wanted.key, terms)

    def take_over(self, key: DeviceKey, terms: Terms) -> Device:
        opening, name, namespace = key
        match opening:
            case Opening.TAP:
                return open_tap(name, terms, namespace=namespace or "")
            case Opening.VETH:
                return open_veth(name, terms, namespace=namespace or "")
            case Opening.VM:
                return open_vm_tap(name, terms)
        return open_existing(name, terms)

    def adopt(self, handover: Handover) -> Device:
        return adopt(handover)

    def put_back(self, key: DeviceKey, place: links.Place, steps: Iterable[object]) -> None:
        opening, name, _ = key
        put_back(opening, name, place, steps)

    def room(self) -> tuple[int, int]:
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        return limit - sum(1 for _ in Path("/proc/self/fd").iterdir()) - _KEPT_FREE, limit
