"""The wires of a lab: namespaces, the bridge that is its physical network, and what a VM's kernel is told."""

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_interface

from pyroute2 import IPRoute

from dataplane.host import links, netns
from policy.kinds.model import Address, Prefix

BRIDGE = "br0"
_ADDR_GEN_NONE = "1"  # no link-local address, so that the wire carries nothing of the host's
_FIRST_METRIC = 1024
_DAD_FAILED, _TENTATIVE = 0x08, 0x40  # linux/if_addr.h


@dataclass(frozen=True)
class VmAddress:
    """An address of a VM, the subnet it is on and the gateway to everything else."""

    address: Address
    prefix: Prefix
    gateway: Address

    @property
    def interface(self) -> str:
        return f"{self.address}/{self.prefix.prefixlen}"


def make_namespace(name: str) -> None:
    netns.create(name)
    netns.call(name, links.set_state, "lo", "up")


def make_bridge(fabric: str, mtu: int) -> None:
    """The physical network: a bridge in a namespace whose kernel says nothing on it."""

    def make() -> None:
        for scope in ("all", "default"):
            links.write_sysctl(f"ipv6/conf/{scope}/disable_ipv6", "1")
        for family in ("iptables", "ip6tables", "arptables"):
            links.write_sysctl(f"bridge/bridge-nf-call-{family}", "0")  # it drops wrong IP checksums
        with IPRoute() as ip:
            ip.link("add", ifname=BRIDGE, kind="bridge", br_stp_state=0, br_forward_delay=0)
            ip.link("set", index=links.get(ip, BRIDGE).index, mtu=mtu, state="up")

    netns.call(fabric, make)


def plug_in(host: str, device: str, fabric: str, port: str, mac: str, mtu: int) -> links.Link:
    """A host's underlay device, without addresses, and its port of the bridge."""

    def make_port() -> None:
        with IPRoute() as ip:
            peer = {"ifname": device, "net_ns_fd": str(netns.path(host))}
            ip.link("add", ifname=port, kind="veth", peer=peer)
            index = links.get(ip, port).index
            ip.link("set", index=index, mtu=mtu, master=links.get(ip, BRIDGE).index, state="up")

    def set_up_device() -> links.Link:
        links.write_sysctl(f"ipv6/conf/{device}/addr_gen_mode", _ADDR_GEN_NONE)
        with IPRoute() as ip:
            index = links.get(ip, device).index
            if mac:
                ip.link("set", index=index, address=mac)
            ip.link("set", index=index, mtu=mtu, state="up")
            return links.get(ip, device)

    netns.call(fabric, make_port)
    return netns.call(host, set_up_device)


def configure_vm(namespace: str, device: str, addresses: Iterable[VmAddress], rank: int) -> None:
    """A VM's addresses and default routes. rank: of its device in the namespace; the first one's win."""

    def configure() -> None:
        with IPRoute() as ip:
            index = links.get(ip, device).index
            for each in addresses:
                interface = ip_interface(each.interface)
                length = interface.network.prefixlen
                ip.addr("replace", index=index, address=str(interface.ip), prefixlen=length)
            for gateway in dict.fromkeys(each.gateway for each in addresses):
                ip.route(
                    "replace",
                    dst="default" if gateway.version == 4 else "::/0",
                    gateway=str(gateway),
                    oif=index,
                    priority=_FIRST_METRIC + rank,
                )

    netns.call(namespace, configure)


def addresses(device: str) -> set[str]:
    """Of a device in this namespace; none if it is not there."""
    with IPRoute() as ip:
        link = links.find(ip, device)
        found = ip.get_addr(index=link.index) if link is not None else ()
        return {message.get_attr("IFA_ADDRESS") for message in found}


def unfinished_addresses(device: str) -> tuple[list[str], list[str]]:
    """Addresses of a device in this namespace under duplicate address detection, and those that failed it."""
    with IPRoute() as ip:
        flags = {
            message.get_attr("IFA_ADDRESS"): message.get_attr("IFA_FLAGS")
            for message in ip.get_addr(index=links.get(ip, device).index)
        }
    failed = [address for address, bits in flags.items() if bits & _DAD_FAILED]
    return [address for address, bits in flags.items() if bits & _TENTATIVE and address not in failed], failed
