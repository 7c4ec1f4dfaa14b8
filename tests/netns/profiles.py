"""What a lab's underlays can do, as wires of a contest do it: cut and merge, or neither."""

from collections.abc import Collection
from typing import NamedTuple

from pyroute2 import IPRoute

from dataplane.host import ethtool, netns
from tests.netns.labs import Lab

_SENDING = (
    "tx-tcp-segmentation",
    "tx-tcp6-segmentation",
    "tx-tcp-ecn-segmentation",
    "tx-tcp-mangleid-segmentation",
    "tx-tcp-accecn-segmentation",
    "tx-udp-segmentation",
    "tx-generic-segmentation",
    "tx-checksum-ip-generic",
)


class Profile(NamedTuple):
    """cuts: devices take super-packets; else what they get is cut and complete. merges: what a host receives;
    a veth merges only what comes from an end that takes none.
    """

    name: str
    cuts: bool
    merges: bool

    def __str__(self) -> str:
        return self.name


WIRE, WIRE_GRO, OFFLOAD = PROFILES = (
    Profile("wire", cuts=False, merges=False),
    Profile("wire-gro", cuts=False, merges=True),
    Profile("offload", cuts=True, merges=False),
)
"""The last is how the kernel makes a veth."""


def shape_all(lab: Lab, profile: Profile) -> None:
    """Hosts on which isolane does not run take no super-packets: what goes to them is cut, never merged."""
    plain = [
        f"{number}-{name}" for number, (name, host) in enumerate(lab.hosts.items()) if not host["managed"]
    ]
    for host in lab.hosts.values():
        merges = profile.merges and host["managed"]
        netns.call(host["netns"], _shape, host["underlay"]["device"], profile.cuts, merges)
    netns.call(lab.fabric()[0], _shape_fabric, profile.cuts, plain)


def _shape_fabric(cuts: bool, plain: Collection[str]) -> None:
    with IPRoute() as ip:
        for link in ip.get_links():
            if link.get_attr("IFLA_MASTER"):
                name = link.get_attr("IFLA_IFNAME")
                _shape(name, cuts and name not in plain, merges=False)


def _shape(device: str, cuts: bool, merges: bool) -> None:
    ethtool.switch(device, _SENDING, cuts)
    ethtool.switch(device, ["rx-gro"], merges)
