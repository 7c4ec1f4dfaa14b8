"""What is known of the links of ports' devices: looked at when there is news of them, and told in the host's
status.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from dataplane.host.device import Device
from dataplane.host.device_watch import Seen
from policy.agent.clock import Clock
from policy.agent.devices import DeviceManager
from policy.agent.side_by_side import AT_ONCE
from policy.service.host_state import ABSENT, FAILING, UNKNOWN, UP, WAITING

LOOK_SECONDS = 10.0
"""A VM that sets its device up and down all the time has it looked at, and told, no more often than this."""

LONGEST_PAUSE = 600.0
"""It is twice as long each time, up to this, until it has kept still for as long: each time that it is told
makes a revision of the store, which keeps so many and no more.
"""


@dataclass(frozen=True, slots=True)
class Looked:
    """links: by port, which device was looked at, and what Device.link said."""

    links: Mapping[str, tuple[Device, str]]


Look = Callable[[Mapping[str, Device]], None]
"""Beside: look() is to be called, and what it found to be given to take()."""


@dataclass(frozen=True, slots=True)
class _Pause:
    """Of a port whose link was another: how long it is not looked at, and until when on the clock."""

    seconds: float
    until: float


class PortLinks:
    """One thread at a time."""

    def __init__(self, devices: DeviceManager, clock: Clock, look_beside: Look) -> None:
        self._devices = devices
        self._clock = clock
        self._look_beside = look_beside
        self._links: dict[str, tuple[Device, str]] = {}
        self._pauses: dict[str, _Pause] = {}
        self._doubtful: set[str] = set()
        self._begun = -math.inf  # on the clock, the last look
        self._is_looking = False

    @property
    def due(self) -> float | None:
        """When to call refresh(); None: nothing is in doubt."""
        if not self._doubtful or self._is_looking:
            return None
        return max(self._begun + LOOK_SECONDS, min(map(self._until, self._doubtful)))

    def hear(self, seen: Seen) -> None:
        self._doubtful.update(self._devices.relinked_by(seen))

    def refresh(self) -> bool:
        """Look at what is in doubt. Whether something is new already: of many devices take() tells later."""
        self._begun = self._clock.monotonic()
        ready = {name for name in self._doubtful if self._until(name) <= self._begun}
        self._doubtful -= ready
        return self._look(self._devices.devices_of(ready))

    def take(self, looked: Looked) -> bool:
        """Whether something is new."""
        self._is_looking = False
        return self._learn(looked)

    def not_up(self) -> dict[str, str]:
        """By port that is to have a device, why packets don't pass there; those of which nothing is known are
        looked at, or will be.
        """
        wanted = self._devices.wanted_ports
        there = self._devices.devices_of(wanted)
        self._links = {name: known for name, known in self._links.items() if there.get(name) is known[0]}
        self._pauses = {name: pause for name, pause in self._pauses.items() if name in wanted}
        if unseen := there.keys() - self._links.keys() - self._doubtful:
            if len(unseen) > AT_ONCE:
                self._doubtful |= unseen
            else:
                self._learn(look(self._devices.devices_of(unseen)))
        found = {name: self._state(name, name in there) for name in wanted}
        return {name: state for name, state in sorted(found.items()) if state != UP}

    @property
    def waiting(self) -> list[str]:
        """Devices that no hypervisor has opened, in words, as far as is known."""
        free = (device for device, link in self._links.values() if link == WAITING)
        return [f"{each.opening.words(each.name, None)}: no hypervisor has opened it" for each in free]

    def _state(self, name: str, is_there: bool) -> str:
        if name in self._devices.problems:
            return FAILING
        if name in self._devices.waiting:
            return WAITING
        if not is_there:
            return ABSENT
        return self._links[name][1] if name in self._links else UNKNOWN

    def _until(self, name: str) -> float:
        pause = self._pauses.get(name)
        return pause.until if pause else -math.inf

    def _look(self, devices: Mapping[str, Device]) -> bool:
        if len(devices) > AT_ONCE:
            self._is_looking = True
            self._look_beside(devices)
            return False
        return self._learn(look(devices))

    def _learn(self, looked: Looked) -> bool:
        """Not of devices that have given way to others meanwhile."""
        there = self._devices.devices_of(looked.links)
        is_new = False
        for name, (device, link) in looked.links.items():
            known = self._links.get(name)
            if there.get(name) is not device:
                continue
            if known is not None and known[0] is device and known[1] == link:
                continue
            is_new = True
            self._links[name] = device, link
            if known is not None:
                self._pause(name)
        return is_new

    def _pause(self, name: str) -> None:
        """From where the look began: it ends with the general one, and not a moment after it."""
        before, seconds = self._pauses.get(name), LOOK_SECONDS
        if before is not None and self._begun - before.until < LONGEST_PAUSE:
            seconds = min(2 * before.seconds, LONGEST_PAUSE)
        self._pauses[name] = _Pause(seconds, self._begun + seconds)


def look(devices: Mapping[str, Device]) -> Looked:
    """By any thread."""
    return Looked({name: (device, _link_of(device)) for name, device in devices.items()})


def _link_of(device: Device) -> str:
    try:
        link = device.link
    except Exception:  # the host is what it is; the next look may do better
        return UNKNOWN
    return ABSENT if link == "gone" else link
