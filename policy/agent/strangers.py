"""VMs that speak from another MAC than their port's: all that they send is refused, which nobody would guess
from a count of drops.
"""

import math
from collections.abc import Mapping

from dataplane.process.protocol import StrangerView
from policy.agent.clock import Clock
from policy.agent.devices import DeviceManager
from policy.agent.switch import Switch, refusal_ignored

LOOK_SECONDS = 5.0

KEPT_SECONDS = 30.0
"""A VM that speaks from either MAC in turn has it told, and taken back, no more often than this."""


class Strangers:
    """One thread at a time."""

    def __init__(self, devices: DeviceManager, clock: Clock) -> None:
        self._devices = devices
        self._clock = clock
        self._begun = -math.inf  # on the clock, the last look
        self._counted: dict[str, tuple[int, int]] = {}  # received and refused, then
        self._since: dict[str, float] = {}  # of each problem
        self.problems: dict[str, str] = {}
        """By port name."""

    @property
    def due(self) -> float:
        """When to call look()."""
        return self._begun + LOOK_SECONDS if self._devices.wanted_ports else math.inf

    def look(self, client: Switch) -> bool:
        """Whether a problem is new, or gone."""
        self._begun = self._clock.monotonic()
        found: list[StrangerView] = []
        with refusal_ignored():  # by a data plane of before
            found = client.strangers()
        before, self.problems = self.problems, {}
        devices = self._devices.devices_of(each["name"] for each in found)
        for each in found:
            name = each["name"]
            if name in devices and each["mac"] != devices[name].mac and self._is_wrong(each, before):
                self.problems[name] = (
                    f"its VM sends from {each['mac']}, but the port's MAC is {devices[name].mac}: all of it "
                    "is refused (drop src-mac); give the VM that MAC, or the port the VM's"
                )
        self._counted = {each["name"]: (each["received"], each["refused"]) for each in found}
        self._since = {name: self._since.get(name, self._begun) for name in self.problems}
        return self.problems != before

    def _is_wrong(self, each: StrangerView, before: Mapping[str, str]) -> bool:
        """All that came since the last look was refused. One who says nothing may still be as before."""
        received, refused = self._counted.get(each["name"], (0, 0))
        if each["received"] < received:  # counted anew
            received = refused = 0
        came = each["received"] - received
        if came == 0 or each["refused"] - refused != came:
            is_young = self._begun - self._since.get(each["name"], -math.inf) < KEPT_SECONDS
            return each["name"] in before and (came == 0 or is_young)
        return True
