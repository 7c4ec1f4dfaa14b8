"""A manifest for labs of one's own, `isolane` as a program, and what is in a namespace."""

import subprocess
import sysconfig
from pathlib import Path

from pyroute2 import IPRoute

from dataplane.host import netns
from tests.fabric import FABRIC

_UNMANAGED = 'underlay: {mac: "02:00:00:00:77:09"}'

MANIFEST = (
    FABRIC.replace(_UNMANAGED, _UNMANAGED.replace("}", ", mtu: 1600}"))
    + """\
---
kind: VMNetwork
metadata: {name: Net, tenant: blue}
spec: {logicalNetwork: fabric}
---
kind: VMSubnet
metadata: {name: One, tenant: blue}
spec: {vmNetwork: Net, prefixes: [10.1.1.0/24, "fd00:1:1::/64"], vsid: 5001, translation: rewrite}
---
kind: VMSubnet
metadata: {name: Two, tenant: blue}
spec: {vmNetwork: Net, prefixes: [10.1.2.0/24, "fd00:1:2::/64"], vsid: 5002, translation: nvgre}
---
kind: Port
metadata: {name: web, tenant: blue}
spec: {vmSubnet: One, host: h1, addresses: [10.1.1.10, "fd00:1:1::10"], mac: "02:bb:00:00:00:10",
       providerAddresses: [192.168.77.110, "fd77::110"], attach: {tap: eth0, netns: web}}
---
kind: Port
metadata: {name: app, tenant: blue}
spec: {vmSubnet: One, host: h2, addresses: [10.1.1.20, "fd00:1:1::20"], mac: "02:bb:00:00:00:20",
       providerAddresses: [192.168.77.120, "fd77::120"], attach: {veth: eth0, netns: app}}
---
kind: Port
metadata: {name: db, tenant: blue}
spec: {vmSubnet: Two, host: h2, addresses: [10.1.2.20, "fd00:1:2::20"], mac: "02:bb:00:00:01:20",
       attach: {tap: eth0, netns: db}}
---
kind: Port
metadata: {name: far, tenant: blue}
spec: {vmSubnet: Two, host: ovs1, addresses: [10.1.2.9], mac: "02:bb:00:00:01:09",
       attach: {veth: eth0, netns: far}}
"""
)

ISOLANE = Path(sysconfig.get_path("scripts"), "isolane")


def isolane(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [ISOLANE, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=60
    )


def devices(namespace: str) -> set[str]:
    def read() -> set[str]:
        with IPRoute() as ip:
            return {m.get_attr("IFLA_IFNAME") for m in ip.get_links()}

    return netns.call(namespace, read)
