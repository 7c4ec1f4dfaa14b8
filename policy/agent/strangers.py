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
"""A VM that speaks from either MAC in turn has it told, and taken back, no more often than this; nor has one
that speaks from ever another.
"""


class Strangers:
    """One thread at a time."""

    def __init__(self, devices: DeviceManager, clock: Clock) -> None:
        self._devices = devices
        self._clock = clock
        self._begun = -math.inf  # on the clock, the last look
        self._counted: dict[str, tuple[int, int]] = {}  # received and refused, then
        self._told: dict[str, tuple[str, float]] = {}  # of each problem: the MAC, and since when
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
        told, self._told = self._told, {}
        for each in found:
            name = each["name"]
            if name in devices and each["mac"] != devices[name].mac and self._is_wrong(each, told):
                mac, _ = self._told[name] = self._to_tell(each["mac"], devices[name].mac, told.get(name))
                self.problems[name] = (
                    f"its VM sends from {mac}, but the port's MAC is {devices[name].mac}: all of it "
                    "is refused (drop src-mac); give the VM that MAC, or the port the VM's"
                )
        self._counted = {each["name"]: (each["received"], each["refused"]) for each in found}
        return self.problems != before

    def _to_tell(self, mac: str, own: str, told: tuple[str, float] | None) -> tuple[str, float]:
        if told is not None and told[0] != own and (told[0] == mac or self._is_young(told)):
            return told
        return mac, self._begun

    def _is_young(self, told: tuple[str, float]) -> bool:
        return self._begun - told[1] < KEPT_SECONDS

    def _is_wrong(self, each: StrangerView, told: Mapping[str, tuple[str, float]]) -> bool:
        """All that came since the last look was refused. One who says nothing may still be as before."""
        received, refused = self._counted.get(each["name"], (0, 0))
        if each["received"] < received:  # counted anew
            received = refused = 0
        came = each["received"] - received
        if came == 0 or each["refused"] - refused != came:
            return each["name"] in told and (came == 0 or self._is_young(told[each["name"]]))
        return True
