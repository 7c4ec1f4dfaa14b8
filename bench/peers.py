"""Who takes part in contests: isolane, what every kernel has, and others that are measured where they are
installed.
"""

import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from pyroute2 import IPRoute

from bench import control_net, sites
from bench.instructions import ROOT
from bench.ovs import PACKAGE, PROGRAMS, OpenVswitch
from bench.sites import HOSTS, PLUG, UNDERLAY, VSID, WIRE, Lane, Site, lane, plug
from dataplane.host import ethtool, links, netns

BASE = "kernel-vxlan"
"""The lane that the others are compared with."""
RELAY = ROOT / "build" / "py" / "bench" / "relay"
_OUTER, _INNER = "phy", "int"


@dataclass(frozen=True)
class Contestant:
    """make: on a site of its own, what can be measured of it. programs: that it needs, and the Debian package
    that has them; the first one says its version when asked, or another command does.
    """

    name: str
    what: str
    make: Callable[[Site], list[Lane]]
    programs: Sequence[str] = ()
    package: str = ""
    version: Sequence[str] = ()

    @property
    def missing(self) -> str:
        """Why it can't take part; "" if it can."""
        absent = [each for each in self.programs if shutil.which(each) is None]
        if not absent:
            return ""
        where = f" (Debian package {self.package})" if self.package else ""
        return f"{', '.join(absent)} not found{where}"


# ---- plain frames ------------------------------------------------------------------------------------------


def _plain(site: Site) -> None:
    """Frames of at most their MTU with checksums in them, on the wire and from VMs."""
    for host in HOSTS:
        netns.call(site.prefix + host, ethtool.switch, WIRE, ["rx-gro"], False)
        netns.call(site.prefix + host, links.set_state, plug(site, host, plain=True), "up")


def relays(site: Site) -> list[Lane]:
    """An empty relay on each host: what any program costs that receives a packet and sends it."""
    _plain(site)
    for host in HOSTS:
        site.stack.enter_context(control_net.program(site.prefix + host, [str(RELAY), PLUG, WIRE]))
    return [lane(site, "relays")]


# ---- Open vSwitch ------------------------------------------------------------------------------------------


def open_vswitch(driver: str, site: Site) -> list[Lane]:
    """With GRE and its userspace datapath. driver: of its ports, "packet" or "afxdp"; the latter's threads
    never sleep, so that it is stopped when others have their turn.
    """
    _plain(site)
    switches = [switch(driver, site, number).pid for number in range(len(HOSTS))]
    found = lane(site, f"ovs-{driver}")
    if driver != "afxdp":
        return [found]
    site.stack.callback(_signal, switches, signal.SIGCONT)  # or they would not hear that they are to end
    _signal(switches, signal.SIGSTOP)
    return [replace(found, turn=partial(awake, switches))]


def switch(driver: str, site: Site, number: int, cpus: Collection[int] = ()) -> "subprocess.Popen[bytes]":
    """A bridge with the tunnel and the VM, above one with the wire, whose device has the host's address.
    cpus: that threads which never sleep are to be on; none is as it likes.
    """
    own, other = UNDERLAY[number + 1], UNDERLAY[2 - number]
    namespace = site.prefix + HOSTS[number]
    temporary = tempfile.TemporaryDirectory(prefix="isolane-bench-ovs-")
    ovs = OpenVswitch(namespace, Path(site.stack.enter_context(temporary)), site.stack)
    if cpus:
        ovs.vsctl("set", "Open_vSwitch", ".", f"other_config:pmd-cpu-mask={sum(1 << cpu for cpu in cpus):x}")
    settings = ("type=afxdp", "options:xdp-mode=native") if driver == "afxdp" else ()
    mac = netns.call(namespace, _mac, WIRE)
    ovs.add_bridge(_OUTER, f"other-config:hwaddr={mac}")
    ovs.add_port(_OUTER, WIRE, *settings)
    ovs.run("ip", "address", "add", f"{own}/{UNDERLAY.prefixlen}", "dev", _OUTER)
    ovs.run("ip", "link", "set", _OUTER, "up")
    ovs.add_bridge(_INNER)
    ovs.add_port(_INNER, PLUG, *settings)
    ovs.add_port(_INNER, "gre0", "type=gre", f"options:remote_ip={other}", f"options:key={VSID << 8}")
    return ovs.switch


def _mac(device: str) -> str:
    with IPRoute() as ip:
        return links.get(ip, device).mac


@contextmanager
def awake(pids: Sequence[int]) -> Iterator[None]:
    """Processes that are stopped run."""
    _signal(pids, signal.SIGCONT)
    try:
        yield
    finally:
        _signal(pids, signal.SIGSTOP)


def _signal(pids: Sequence[int], number: signal.Signals) -> None:
    for pid in pids:
        os.kill(pid, number)


CONTESTANTS = [
    Contestant("isolane", "NVGRE and IP rewrite, TAP ports", sites.isolane),
    Contestant("kernel-vxlan", "the kernel's overlay", sites.kernel_vxlan),
    Contestant("kernel-bridge", "no overlay", sites.kernel_bridge),
    Contestant("relays", "two empty programs, no overlay", relays, [str(RELAY)]),
    Contestant(
        "ovs-packet", "Open vSwitch, GRE, AF_PACKET", partial(open_vswitch, "packet"), PROGRAMS, PACKAGE
    ),
    Contestant("ovs-afxdp", "Open vSwitch, GRE, AF_XDP", partial(open_vswitch, "afxdp"), PROGRAMS, PACKAGE),
]


def versions(contestants: Sequence[Contestant]) -> dict[str, str]:
    """By Debian package, what the programs of these say."""
    return {
        each.package: _version(each.version or [each.programs[0], "--version"])
        for each in contestants
        if each.package
    }


def _version(command: Sequence[str]) -> str:
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=10
    )
    found = re.search(r"\d+(\.\d+)+\S*?(?=[\s',]|$)", done.stdout + done.stderr)
    return found[0] if found else "unknown"
