"""Open vSwitch with DPDK in memory, beside `isolane bench core --op push`: frames of the same flows, replayed
from memory for ever, go through its userspace GRE tunnel to a device that is none. None passes the kernel.

Its clocks are what its polling thread says it spent on a packet: with taking it in, a copy, which bench core
does not count of isolane's, and without any check of whose it is, which bench core does count.
"""

import os
import re
import struct
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from bench import control_net, peers
from bench.control_net import BenchError
from bench.core import Settings, work
from bench.ovs import PROGRAMS, OpenVswitch
from bench.peers import Contestant
from bench.sites import VSID
from dataplane.host import links, netns

NAME = "ovs-dpdk"
PROGRAM = "/usr/lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk"
MOST_FLOWS = 8192
"""What is replayed has to fit into the receive ring that DPDK makes for it."""
_EAL = "--no-pci --no-huge --legacy-mem -m 700 --no-telemetry"
_OWN, _OTHER, _LENGTH, _MAC = "192.168.77.1", "192.168.77.2", 24, "02:00:00:00:77:01"
_FAR_MAC = "02:00:00:00:77:02"
_SECONDS = 0.2
_CLOCKS = re.compile(r"avg processing cycles per packet: ([\d.]+)")


def pcap(frames: Sequence[bytes]) -> bytes:
    head = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)
    return head + b"".join(struct.pack("<IIII", 0, 0, len(each), len(each)) + each for each in frames)


@dataclass
class InMemory:
    """rounds: clocks a packet of each turn but the first, which learns the flows."""

    ovs: OpenVswitch
    flows: int
    rounds: list[float] = field(default_factory=list)
    is_warm: bool = False

    def take_turn(self) -> None:
        """BenchError: it forwards nothing."""
        with peers.awake([self.ovs.switch.pid]):
            self.ovs.appctl("dpif-netdev/pmd-stats-clear")
            time.sleep(_SECONDS)
            said = self.ovs.appctl("dpif-netdev/pmd-stats-show")
        found = _CLOCKS.search(said)
        if not found:
            raise BenchError(f"{NAME} has forwarded nothing: {' '.join(said.split())[:400]}")
        if self.is_warm:
            self.rounds.append(float(found[1]))
        self.is_warm = True


def beside(settings: Settings, stack: ExitStack) -> InMemory:
    """With a frame of each flow of isolane's push by these settings. BenchError: it does not start."""
    flows = min(settings.flows, MOST_FLOWS)
    few = replace(settings, records=flows, flows=flows, family=4, pa_family=0)
    frames = work("push", few, 1 << 17).frames
    return start(list(dict.fromkeys(map(bytes, frames))), stack)


def start(frames: Sequence[bytes], stack: ExitStack) -> InMemory:
    """frames: one a flow. BenchError: it does not start."""
    control_net.check_root()
    if CONTESTANT.missing:
        raise BenchError(f"{NAME}: {CONTESTANT.missing}")
    namespace = f"bench-{os.getpid()}-dpdk"
    netns.create(namespace)
    stack.callback(netns.remove, namespace)
    netns.call(namespace, links.set_state, "lo", "up")
    directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="isolane-bench-ovs-")))
    replayed = directory / "frames.pcap"
    replayed.write_bytes(pcap(frames))
    cpus = sorted(os.sched_getaffinity(0))
    settings = {
        "dpdk-init": "true",
        "pmd-cpu-mask": f"{1 << cpus[-1]:x}",
        "dpdk-lcore-mask": f"{1 << cpus[0]:x}",
        "dpdk-extra": _EAL,
    }
    ovs = OpenVswitch(namespace, directory, stack, PROGRAM, settings)
    ovs.add_bridge("phy", f"other-config:hwaddr={_MAC}")
    ovs.add_port("phy", "null1", "type=dpdk", "options:dpdk-devargs=net_null1,no-rx=1")
    ovs.run("ip", "address", "add", f"{_OWN}/{_LENGTH}", "dev", "phy")
    ovs.run("ip", "link", "set", "phy", "up")
    ovs.add_bridge("int")
    ovs.add_port("int", "gre0", "type=gre", f"options:remote_ip={_OTHER}", f"options:key={VSID << 8}")
    ovs.appctl("tnl/neigh/set", "phy", _OTHER, _FAR_MAC)
    devices = f"options:dpdk-devargs=net_pcap0,rx_pcap={replayed},infinite_rx=1,tx_iface=lo"
    ovs.add_port("int", "in0", "type=dpdk", devices)
    for bridge, flow in (
        ("int", "in_port=in0,actions=output:gre0"),
        ("phy", "in_port=LOCAL,actions=output:null1"),
    ):
        ovs.run("ovs-ofctl", "del-flows", f"{directory}/{bridge}.mgmt")
        ovs.run("ovs-ofctl", "add-flow", f"{directory}/{bridge}.mgmt", flow)
    peers.stopped(stack, [ovs.switch.pid])
    return InMemory(ovs, len(frames))


CONTESTANT = Contestant(
    NAME,
    "Open vSwitch, GRE, DPDK in memory",
    lambda _site: [],
    [PROGRAM, *PROGRAMS, "ovs-ofctl"],
    "openvswitch-switch-dpdk",
)
"""Of `isolane bench core` alone: it has no lane."""
