"""Labs for tests: the example and what a test adds to it, and exact accounts of their counters."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dataplane.process.client import Client
from tests import reached
from tools.demo.isolation import OWN_NOISE
from tools.demo.lab import DemoLab

EXAMPLE = (Path(__file__).parents[2] / "examples" / "blue-red.yaml").read_text()

FOREIGN_HOST = """
---
apiVersion: isolane/v1
kind: Host
metadata: {name: ovs1}
spec:
  site: rack1
  managed: false
  providerAddresses: [192.168.77.9]
  underlay: {mac: "02:00:00:00:77:09", mtu: 1600}
---
apiVersion: isolane/v1
kind: Port
metadata: {name: red-ext, tenant: red}
spec:
  vmSubnet: Red_VMSubnet1
  host: ovs1
  addresses: [10.1.1.30, "fd00:1:1::30"]
  mac: "02:bb:00:00:00:30"
"""
"""A host on which isolane does not run, with one VM of Red."""

GREEN = """
---
apiVersion: isolane/v1
kind: VMNetwork
metadata: {name: Green_VMNet, tenant: green}
spec: {logicalNetwork: fabric}
---
apiVersion: isolane/v1
kind: VMSubnet
metadata: {name: Green_VMSubnet1, tenant: green}
spec:
  vmNetwork: Green_VMNet
  prefixes: [10.1.1.0/24, "fd00:1:1::/64"]
  vsid: 7001
  translation: rewrite
---
apiVersion: isolane/v1
kind: Port
metadata: {name: green-web, tenant: green}
spec:
  vmSubnet: Green_VMSubnet1
  host: h1
  addresses: [10.1.1.10, "fd00:1:1::10"]
  mac: "02:bb:00:00:00:10"
  attach: {tap: eth0, netns: green-web}
---
apiVersion: isolane/v1
kind: Port
metadata: {name: green-app, tenant: green}
spec:
  vmSubnet: Green_VMSubnet1
  host: h2
  addresses: [10.1.1.20, "fd00:1:1::20"]
  mac: "02:bb:00:00:00:20"
  attach: {tap: eth0, netns: green-app}
"""
"""Another tenant by IP rewrite, with Blue's addresses."""

PROOF = EXAMPLE + FOREIGN_HOST + GREEN

NOISE = OWN_NOISE | {"neigh-full", "neigh-failed"}
"""Listener reports go to foreign hosts too, of which none may be there."""

Drops = Counter[tuple[str, str, str]]
"""(host, port, reason) -> packets."""


@contextmanager
def running_lab(manifest: Path, prefix: str) -> Iterator["Lab"]:
    lab = Lab(manifest, prefix, threading.Event())
    lab.up()
    try:
        yield lab
    finally:
        lab.down()


class Lab(DemoLab):
    """A lab and what its hosts count."""

    def managed(self) -> list[str]:
        return [name for name, host in self.hosts.items() if host["managed"]]

    def read(self, host: str) -> dict[str, Any]:
        with Client(self.hosts[host]["netns"]) as client:
            counters: dict[str, Any] = client.call("counters")
        reached.note(counters["drops"])
        return counters

    def drops(self) -> Drops:
        """All drops so far."""
        return Counter(
            {
                (host, port.rpartition("/")[2], reason): count
                for host in self.managed()
                for port, counters in self.read(host)["ports"].items()
                for reason, count in counters["drops"].items()
            }
        )

    def assert_balanced(self) -> None:
        """received + originated = sent + dropped + consumed + held on every host, once it is at rest."""
        for host in self.managed():
            wait_until(lambda host=host: balance(self.read(host)) == 0, f"{host} does not balance")

    @contextmanager
    def dropping(self, expected: Mapping[tuple[str, str, str], int]) -> Iterator[None]:
        """Inside, exactly these packets are dropped, besides those that a VM's kernel causes by itself.

        What is sent inside has been dealt with at its end.
        """
        before, wanted = self.drops(), Counter(expected)
        yield
        wait_until(lambda: wanted <= self.drops() - before, "too few drops")
        risen = self.drops() - before
        for host, port, reason in set(risen):
            if port != "underlay" and reason in NOISE:
                risen[host, port, reason] = wanted[host, port, reason]
        assert +risen == wanted


def balance(counters: Mapping[str, int]) -> int:
    gone = sum(counters[key] for key in ("sent", "dropped", "consumed", "held"))
    return counters["received"] + counters["originated"] - gone


def wait_until(condition: Callable[[], object], otherwise: str = "timed out", seconds: float = 5) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, otherwise
        time.sleep(0.01)
