"""The demo's lab: built through `tools.lab.build`, looked at through its status and the node sockets, and
searched for leftovers when it is down.
"""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from dataplane.host import locks, netns
from dataplane.host.links import DeviceError
from dataplane.process import instances
from dataplane.process.client import Client, ClientError
from policy.errors import PolicyError
from policy.service import resolve
from tools.demo.frames import Address
from tools.demo.isolation import PortCounters
from tools.demo.vms import TrafficError, Vm, vm_of
from tools.lab import build
from tools.lab.state import LabError

FORESEEN = (TrafficError, ClientError, DeviceError, PolicyError, LabError)
"""Errors whose text says all."""


class DemoLab:
    """What the checks ask about. `stop` is set when somebody wants the demo to end."""

    def __init__(
        self,
        manifest_file: Path,
        prefix: str,
        stop: threading.Event,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.stop = stop
        self._say = say
        self.prefix = prefix
        self._manifest = manifest_file
        self._is_up = False
        self._inodes: frozenset[int] = frozenset()
        self.vms: dict[str, Vm] = {}
        self.hosts: dict[str, dict[str, Any]] = {}
        self.gateways: dict[int, dict[int, Address]] = {}

    def up(self) -> None:
        status = build.up([self._manifest], self.prefix, self._say)
        self._is_up = True
        self._inodes = frozenset(path.stat().st_ino for path in netns.DIRECTORY.glob(f"{self.prefix}*"))
        self.hosts = {host["name"]: host for host in status["hosts"]}
        self.vms = {port["name"]: vm_of(port) for port in status["ports"] if port["netns"]}
        self.gateways = _gateways(self._manifest)

    def down(self) -> str:
        """Takes the lab down and looks for what it left. TrafficError: something is left."""
        if self._is_up:
            build.down(self.prefix)
        left = [*_left_files(self.prefix), *_left_processes(self.prefix, self._inodes)]
        if left:
            raise TrafficError(f"left behind: {', '.join(left)}")
        return f"no namespace, process, socket or state file of {self.prefix}... is left"

    def fabric(self) -> tuple[str, str]:
        """(namespace, device) of the physical network."""
        return f"{self.prefix}fabric", "br0"

    def counters(self, host: str) -> dict[str, PortCounters]:
        with Client(self.hosts[host]["netns"]) as client:
            ports = client.call("counters")["ports"]
        return {
            name.rpartition("/")[2]: PortCounters(port["received"], Counter(port["drops"]))
            for name, port in ports.items()
        }

    def places(self, sender: Vm) -> list[tuple[str, str]]:
        """Every VM but one, and the wire."""
        vms = [(vm.namespace, vm.device) for vm in self.vms.values() if vm != sender]
        return [*vms, self.fabric()]


def _gateways(manifest_file: Path) -> dict[int, dict[int, Address]]:
    """VSID -> IP version -> gateway."""
    subnets = resolve.load([manifest_file]).vm_subnets
    return {subnet.vsid: {gateway.version: gateway for gateway in subnet.gateways} for subnet in subnets}


def _left_files(prefix: str) -> Iterator[str]:
    """Names of namespaces, sockets and state files."""
    for directory in (netns.DIRECTORY, instances.RUN_DIRECTORY, locks.DIRECTORY):
        yield from sorted(map(str, directory.rglob(f"{prefix}*")))


def _left_processes(prefix: str, inodes: frozenset[int]) -> Iterator[str]:
    """Processes that are in one of the namespaces or were started for one."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().split(b"\0")
            inside = (process / "ns" / "net").stat().st_ino in inodes
        except OSError:  # ended meanwhile
            continue
        if inside or any(prefix.encode() in word for word in words):
            yield f"process {process.name}"
