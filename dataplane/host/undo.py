"""What puts back what isolane changes on a host's devices.

It is noted on an Undo as it happens, which puts it back or hands it on to another process. A device or
namespace that has gone meanwhile needs no undoing.
"""

import contextlib
import os
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from pyroute2.netlink.exceptions import NetlinkError

from dataplane.host import ethtool, netns
from dataplane.host.filters import Way, remove_filter
from dataplane.host.links import (
    DeviceError,
    mute_sysctls,
    read_sysctl,
    remove_if_ours,
    set_state,
    write_sysctl,
)

_STEPS: dict[str, Callable[..., object]] = {
    "remove": remove_if_ours,
    "state": set_state,
    "sysctl": write_sysctl,
    "features": ethtool.switch,
    "drop": partial(remove_filter, Way.IN),
    "tunnel": partial(remove_filter, Way.OUT),
}

Step = list[Any]
"""The name of a step and its arguments: what JSON can say, so that another process can take it."""


class Undo:
    """The steps that put back what was changed, and the descriptors that were opened, to close after them.

    Steps are taken last first, in the caller's namespace and whatever fails; descriptors are closed last
    first. One thread at a time.

    note: is told of all steps before the last of them is needed, so that it outlives this process.
    """

    def __init__(self, fds: Iterable[int] = ()) -> None:
        self.steps: list[Step] = []
        self.fds = list(fds)
        self.note: Callable[[list[Step]], None] = lambda _: None

    def add(self, name: str, *arguments: object) -> None:
        self.steps.append([name, *arguments])
        self.note(self.steps)

    def complete(self, steps: Iterable[Step]) -> None:
        """With those that an earlier version has not noted."""
        for step in steps:
            if step not in self.steps:
                self.add(*step)

    def own(self, *fds: int) -> tuple[int, ...]:
        self.fds += fds
        return fds

    def set_sysctl(self, name: str, value: str) -> None:
        before = read_sysctl(name)
        if before not in (None, value):
            self.add("sysctl", name, before)
            write_sysctl(name, value)

    def inherit(self, steps: Iterable[Step]) -> None:
        """Of an earlier process, which found the device as it is to be again."""
        self.steps = merged(steps, self.steps)

    def keep(self, name: str) -> None:
        """Only the steps of that name."""
        self.steps = [step for step in self.steps if step[0] == name]

    def pop_all(self) -> "Undo":
        """Another that has all, so that this one does nothing."""
        other = Undo()
        other.steps, other.fds, self.steps, self.fds = self.steps, self.fds, [], []
        return other

    def release(self) -> None:
        """Closes the descriptors and leaves the rest as it is."""
        self.steps.clear()
        while self.fds:
            os.close(self.fds.pop())

    def close(self) -> None:
        while self.steps:
            name, *arguments = self.steps.pop()
            with contextlib.suppress(OSError, NetlinkError, DeviceError):
                netns.call(None, _STEPS[name], *arguments)
        self.release()

    def __enter__(self) -> "Undo":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def merged(earlier: Iterable[Step], steps: Iterable[Step]) -> list[Step]:
    """Those of an earlier process are taken last, and each once."""
    later = list(steps)
    return [*(step for step in earlier if step not in later), *later]


def checked(steps: Iterable[object], device: str | None) -> list[Step]:
    """As they are; ValueError: one that does not put back what isolane changes on this device of the host,
    None if on none: who hands them over may have been broken into.
    """
    found: list[Step] = []
    for step in steps:
        if not isinstance(step, list) or not _puts_back(step, device):
            raise ValueError(f"unknown step {step} for {device}")
        found.append(step)
    return found


def _puts_back(step: Step, device: str | None) -> bool:
    match step:
        case ["remove", None | str(), int(), int()]:
            return True  # only what is marked as ours goes
        case ["sysctl", str(name), str(value)]:
            return name in mute_sysctls(device) and value.isdecimal()
        case ["features", str(name), [*features], True]:
            return name == device and all(isinstance(feature, str) for feature in features)
        case ["state", str(name), "down"] | ["drop" | "tunnel", str(name)]:
            return name == device
    return False
