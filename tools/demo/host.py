"""A host that would answer everybody if it were asked: addresses of its own, forwarding, proxy ARP."""

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from pyroute2 import IPRoute

from dataplane.host import links, netns
from tools.demo.frames import Address

HOST_ADDRESSES: Mapping[int, Address] = {4: ip_address("198.51.100.1"), 6: ip_address("2001:db8:77::1")}
"""By IP version; from the ranges for documentation (RFC 5737, RFC 3849)."""

_SETTINGS = (
    "ipv4/ip_forward",
    "ipv4/conf/all/proxy_arp",
    "ipv6/conf/all/forwarding",
    "ipv6/conf/all/proxy_ndp",
)


@dataclass(frozen=True, slots=True)
class PosedHost:
    """macs: of the host's ends of its tenants' devices."""

    namespace: str
    macs: tuple[str, ...]
    echoes_before: int

    def echoes_received(self) -> int:
        return netns.call(self.namespace, _echoes) - self.echoes_before


def pose_as_router(namespace: str, underlay: str) -> PosedHost:
    """Gives a host addresses and makes it forward. For a namespace that is thrown away afterwards."""
    return netns.call(namespace, _pose, namespace, underlay)


def _pose(namespace: str, underlay: str) -> PosedHost:
    for name in _SETTINGS:
        Path("/proc/sys/net", name).write_text("1")
    with IPRoute() as ip:
        loopback = links.get(ip, "lo").index
        for address in HOST_ADDRESSES.values():
            ip.addr("replace", index=loopback, address=str(address), prefixlen=address.max_prefixlen)
        macs = {
            link.get_attr("IFLA_ADDRESS")
            for link in ip.get_links()
            if link.get_attr("IFLA_IFNAME") not in ("lo", underlay)
        }
    return PosedHost(namespace, tuple(sorted(macs)), _echoes())


def _echoes() -> int:
    """Echo requests that the stack of this namespace has received."""
    names, values = (
        line.split()
        for line in Path("/proc/thread-self/net/snmp").read_text().splitlines()
        if line.startswith("Icmp:")
    )
    icmp6 = dict(line.split() for line in Path("/proc/thread-self/net/snmp6").read_text().splitlines())
    return int(values[names.index("InEchos")]) + int(icmp6["Icmp6InEchos"])
