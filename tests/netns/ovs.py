"""Open vSwitch with its userspace datapath as the host of one VM: an NVGRE endpoint that shares no code
with us.

It resolves provider next hops by ARP itself and floods its VM's ARP and ND through the tunnel; nothing on
either side is told a neighbour.
"""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.ovs import OpenVswitch


@dataclass(frozen=True)
class Tunnel:
    """What the bridge is told: its own PA with prefix length, and VM MAC -> PA of the host behind which it
    is.
    """

    address: str
    vsid: int
    remotes: Mapping[str, str]


@contextmanager
def open_vswitch(
    namespace: str, device: str, mac: str, tunnel: Tunnel, vm_device: str, directory: Path
) -> Iterator[None]:
    """Runs in `namespace` with `device` as its way to the provider network and the VM behind `vm_device`."""
    with ExitStack() as stack:
        ovs = OpenVswitch(namespace, directory, stack)
        ovs.run(
            "sysctl", "-q", f"net.ipv4.conf.{device}.rp_filter=1"
        )  # keeps the host's stack off its packets
        ovs.add_bridge("phy", f"other-config:hwaddr={mac}")
        ovs.add_port("phy", device)
        ovs.run("ip", "addr", "add", tunnel.address, "dev", "phy")
        ovs.run("ip", "link", "set", "phy", "up")
        ovs.add_bridge("int", "fail-mode=secure")
        ovs.add_port("int", vm_device, "ofport_request=1")
        local = f"options:local_ip={tunnel.address.partition('/')[0]}"
        remote = ("options:remote_ip=flow", "options:key=flow", local)
        ovs.add_port("int", "nvgre", "type=gre", "ofport_request=2", *remote)
        ovs.run("ovs-ofctl", "add-flows", f"unix:{directory}/int.mgmt", "-", text="\n".join(_flows(tunnel)))
        yield


def _flows(tunnel: Tunnel) -> Iterator[str]:
    """FlowID: the lowest byte of the TCP or UDP source port, else 0x11. What comes in is matched without
    it.
    """
    key = tunnel.vsid << 8
    flow_ids = {
        "tcp": "move:NXM_OF_TCP_SRC[0..7]->NXM_NX_TUN_ID[0..7]",
        "tcp6": "move:NXM_OF_TCP_SRC[0..7]->NXM_NX_TUN_ID[0..7]",
        "udp": "move:NXM_OF_UDP_SRC[0..7]->NXM_NX_TUN_ID[0..7]",
        "udp6": "move:NXM_OF_UDP_SRC[0..7]->NXM_NX_TUN_ID[0..7]",
    }
    yield f"priority=10,in_port=2,tun_id={key:#x}/0xffffff00,actions=output:1"
    for mac, pa in tunnel.remotes.items():
        to = f"set_field:{pa}->tun_dst,output:2"
        for protocol, move in flow_ids.items():
            match = f"priority=9,in_port=1,dl_dst={mac},{protocol}"
            yield f"{match},actions=set_field:{key:#x}->tun_id,{move},{to}"
        yield f"priority=8,in_port=1,dl_dst={mac},actions=set_field:{key | 0x11:#x}->tun_id,{to}"
    flood = ",".join(f"set_field:{pa}->tun_dst,output:2" for pa in sorted(set(tunnel.remotes.values())))
    group = "dl_dst=01:00:00:00:00:00/01:00:00:00:00:00"
    yield f"priority=7,in_port=1,{group},actions=set_field:{key | 0x11:#x}->tun_id,{flood}"
