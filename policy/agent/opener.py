"""How a device manager gets at the host's devices: a test gives it others."""

import resource
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from dataplane.binding.handover import Handover
from dataplane.host import links
from dataplane.host.adoption import adopt, put_back
from dataplane.host.bpf import Address
from dataplane.host.device import Device, Note, Opening
from dataplane.host.existing import open_existing
from dataplane.host.tap import open_tap
from dataplane.host.underlay import open_underlay
from dataplane.host.veth import open_veth
from policy.agent.undo_log import DeviceKey
from policy.agent.wanted import Wanted
from policy.kinds.model import Driver


class Opener(Protocol):
    """DeviceError, from each: the host's operator must act."""

    def open(self, wanted: Wanted, queues: int, pas: list[Address], memory: int | None, note: Note) -> Device:
        """pas: the host's, for an underlay. memory: the core's, for AF_XDP. note: is told what there is to
        undo before it is done.
        """

    def take_over(
        self,
        key: DeviceKey,
        mac: str,
        mtu: int,
        queues: int,
        driver: Driver = Driver.AUTO,
        memory: int | None = None,
    ) -> Device:
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

    def open(self, wanted: Wanted, queues: int, pas: list[Address], memory: int | None, note: Note) -> Device:
        if wanted.opening is Opening.EXISTING:
            return open_existing(
                wanted.device,
                mac=wanted.mac,
                mtu=wanted.mtu,
                queues=queues,
                driver=wanted.driver,
                memory=memory,
                note=note,
            )
        if wanted.attach is not None:
            return self.take_over(wanted.key, wanted.mac, wanted.mtu, queues, wanted.driver, memory)
        return open_underlay(
            wanted.device,
            mac=wanted.mac,
            mtu=wanted.mtu,
            queues=queues,
            driver=wanted.driver,
            memory=memory,
            pas=pas,
            note=note,
        )

    def take_over(
        self,
        key: DeviceKey,
        mac: str,
        mtu: int,
        queues: int,
        driver: Driver = Driver.AUTO,
        memory: int | None = None,
    ) -> Device:
        opening, name, namespace = key
        match opening:
            case Opening.TAP:
                return open_tap(name, namespace=namespace or "", mac=mac, mtu=mtu, queues=queues)
            case Opening.VETH:
                return open_veth(
                    name,
                    namespace=namespace or "",
                    mac=mac,
                    mtu=mtu,
                    queues=queues,
                    driver=driver,
                    memory=memory,
                )
        return open_existing(name, mac=mac, mtu=mtu, queues=queues)

    def adopt(self, handover: Handover) -> Device:
        return adopt(handover)

    def put_back(self, key: DeviceKey, place: links.Place, steps: Iterable[object]) -> None:
        opening, name, _ = key
        put_back(opening, name, place, steps)

    def room(self) -> tuple[int, int]:
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        return limit - sum(1 for _ in Path("/proc/self/fd").iterdir()) - _KEPT_FREE, limit
