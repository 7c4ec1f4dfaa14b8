"""Two hosts over one wire, and on each a guest that is a VM of two tenants: red by NVGRE, blue by rewrite."""

import fcntl
import os
import struct
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from dataplane.host import links, netns
from tests.netns.agents import link_named
from tests.netns.labs import Drops, balance, wait_until
from tests.netns.rig import link_of
from tests.netns.sites import FIRST_RUN, HOSTS, Site
from tests.vm.guest import Guest, Nic
from tools.demo.isolation import OWN_NOISE

UNDERLAY_MTU = 1500
MTU = UNDERLAY_MTU - 42
"""Of all VMs: what is left of a packet by NVGRE, which one by rewrite may have to take too."""

FABRIC = f"""
kind: LogicalNetwork
metadata: {{name: fabric}}
---
kind: NetworkSite
metadata: {{name: rack1}}
spec:
  logicalNetwork: fabric
  subnets:
    - {{prefix: 192.168.77.0/24, paPool: 192.168.77.100-192.168.77.250}}
    - {{prefix: "fd77::/64", paPool: "fd77::100-fd77::250"}}
---
kind: Host
metadata: {{name: h1}}
spec:
  site: rack1
  providerAddresses: [192.168.77.11]
  underlay: {{interface: u1, mac: "02:00:00:00:77:01", mtu: {UNDERLAY_MTU}}}
---
kind: Host
metadata: {{name: h2}}
spec:
  site: rack1
  providerAddresses: [192.168.77.12]
  underlay: {{interface: u1, mac: "02:00:00:00:77:02", mtu: {UNDERLAY_MTU}}}
"""


NUMBERS = {"h1": 10, "h2": 20, "domain": 30}
"""Of ports, in their addresses. That of a host's guest has the host's name."""


@dataclass(frozen=True)
class Network:
    """Of one tenant, with a port on each host."""

    tenant: str
    translation: str
    vsid: int
    subnet: int

    def addresses(self, name: str) -> tuple[str, str]:
        """Of the port of that name: IPv4, IPv6."""
        return f"10.1.{self.subnet}.{NUMBERS[name]}", f"fd00:1:{self.subnet}::{NUMBERS[name]}"

    @property
    def gateways(self) -> tuple[str, str]:
        return f"10.1.{self.subnet}.1", f"fd00:1:{self.subnet}::1"

    def nic(self, name: str, device: str = "") -> Nic:
        v4, v6 = self.addresses(name)
        mac = f"02:bb:00:00:0{self.subnet}:{NUMBERS[name]}"
        return Nic(device or f"{self.tenant}0", mac, MTU, (f"{v4}/24", f"{v6}/64"))

    @property
    def manifest(self) -> str:
        v4, v6 = f"10.1.{self.subnet}.0/24", f"fd00:1:{self.subnet}::/64"
        ports = "".join(self.port(host, host, self.nic(host), self.kind_of(host)) for host in HOSTS)
        return f"""
---
kind: VMNetwork
metadata: {{name: net, tenant: {self.tenant}}}
spec: {{logicalNetwork: fabric}}
---
kind: VMSubnet
metadata: {{name: sub, tenant: {self.tenant}}}
spec: {{vmNetwork: net, prefixes: [{v4}, "{v6}"], vsid: {self.vsid}, translation: {self.translation}}}
{ports}"""

    def kind_of(self, host: str) -> str:
        """Who makes the TAP of the guest there: isolane, or others."""
        return "vm" if (self.translation, host) == ("rewrite", "h1") else "device"

    def port(self, name: str, host: str, nic: Nic, kind: str, more: str = "") -> str:
        """Its manifest. more: of its attach."""
        v4, v6 = self.addresses(name)
        return f"""
---
kind: Port
metadata: {{name: {name}, tenant: {self.tenant}}}
spec:
  vmSubnet: sub
  host: {host}
  addresses: [{v4}, "{v6}"]
  mac: "{nic.mac}"
  attach: {{{kind}: {nic.device}{more}}}
"""


RED = Network("red", "nvgre", 6001, 1)
BLUE = Network("blue", "rewrite", 5001, 2)
NETWORKS = (RED, BLUE)


class Pair:
    """The guest on h1 has a TAP that somebody made before and one that isolane makes; those on h2 come and go
    with QEMU.
    """

    def __init__(self, prefix: str, directory: Path, stack: ExitStack) -> None:
        self.site = Site(prefix, directory, stack)
        self.guests = {
            host: Guest(
                self.site.nodes[host].namespace,
                [network.nic(host) for network in NETWORKS],
                directory / host,
            )
            for host in HOSTS
        }
        for guest in self.guests.values():
            stack.callback(guest.kill)
        for host in HOSTS:
            netns.call(self.site.nodes[host].namespace, _set_mtu, "u1", UNDERLAY_MTU)
        netns.call(self.site.nodes["h1"].namespace, _make_tap, RED.nic("h1").device)

    def up(self) -> None:
        """What others make is there before isolane runs, what it makes before its guest is started."""
        self.guests["h2"].start()
        self.site.commit(FABRIC + "".join(network.manifest for network in NETWORKS))
        for host in HOSTS:
            self.site.start_dataplane(host)
            self.site.start_agent(host)
        self.wait_for_tap("h1", BLUE.nic("h1").device)
        self.guests["h1"].start()
        for guest in self.guests.values():
            guest.wait_up()
        self.site.settle(FIRST_RUN)

    def wait_for_tap(self, host: str, name: str) -> None:
        """That isolane makes."""
        namespace = self.site.nodes[host].namespace
        wait_until(lambda: (there := link_of(namespace, name)) and there.up, f"no {name}", FIRST_RUN)

    def assert_balanced(self) -> None:
        """received + originated = sent + dropped + consumed + held on every host, once it is at rest."""
        for host in HOSTS:
            wait_until(partial(self._is_balanced, host), f"{host} does not balance")

    def drops(self) -> Drops:
        """All so far, but what guests cause unasked."""
        return Counter(
            {
                (host, port, reason): count
                for host in HOSTS
                for port, counters in self._counters(host)["ports"].items()
                for reason, count in counters["drops"].items()
                if port == "underlay" or reason not in OWN_NOISE
            }
        )

    def _is_balanced(self, host: str) -> bool:
        return balance(self._counters(host)) == 0

    def _counters(self, host: str) -> Any:
        with self.site.client(host) as client:
            return client.call("counters")


def _make_tap(name: str) -> None:
    """One that stays when the hypervisor has gone, as `ip tuntap add mode tap` makes it."""
    tunsetiff, tunsetpersist = 0x400454CA, 0x400454CB
    tap, no_pi, vnet_hdr = 0x0002, 0x1000, 0x4000
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.ioctl(fd, tunsetiff, struct.pack("16sH22x", name.encode(), tap | no_pi | vnet_hdr))
        fcntl.ioctl(fd, tunsetpersist, 1)
    finally:
        os.close(fd)


def _set_mtu(name: str, mtu: int) -> None:
    links.set_link(link_named(name).index, mtu=mtu)
