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
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from pyroute2 import IPRoute

from bench import control_net, sites
from bench.instructions import ROOT
from bench.ovs import PACKAGE, PROGRAMS, OpenVswitch
from bench.sites import HOSTS, PLUG, UNDERLAY, VSID, WIRE, Lane, Site, lane, plug
from dataplane.host import ethtool, links, netns
from policy.kinds.model import Driver

BASE = "kernel-vxlan"
"""The lane that the others are compared with."""
RELAY = ROOT / "build" / "py" / "bench" / "relay"
_OUTER, _INNER = "phy", "int"
_AFXDP = ("type=afxdp", "options:xdp-mode=native")
_LOG_BYTES, _LAST_LINES = 1 << 16, 3


@dataclass(frozen=True)
class Contestant:
    """make: on a site of its own, what can be measured of it. programs: that it needs, and the Debian package
    that has them; the first one says its version when asked, or another command does. jumbo: it sends frames
    of 9,000 bytes. profile: of its wire, whatever that of the others is.
    """

    name: str
    what: str
    make: Callable[[Site], list[Lane]]
    programs: Sequence[str] = ()
    package: str = ""
    version: Sequence[str] = ()
    jumbo: bool = False
    profile: str = ""

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
    return _relayed(site, "relays", [str(RELAY)])


def whole_relays(site: Site) -> list[Lane]:
    """The same with packets of 64 KiB, as VMs make them: what any program costs that copies them."""
    for host in HOSTS:
        netns.call(site.prefix + host, links.set_state, plug(site, host), "up")
    return _relayed(site, "relays-whole", [str(RELAY), "--whole"])


def _relayed(site: Site, name: str, command: Sequence[str]) -> list[Lane]:
    command = [*command, PLUG, WIRE]
    gone = [started(site.stack, site.prefix + host, "relay", command)[1] for host in HOSTS]
    return [replace(lane(site, name), gone=partial(first_word, gone))]


def started(
    stack: ExitStack, namespace: str | None, name: str, command: Sequence[str]
) -> tuple["subprocess.Popen[bytes]", Callable[[], str]]:
    """A program in a namespace, and why it is not there any more, if it is not."""
    log = os.memfd_create("log")
    stack.callback(os.close, log)
    process = stack.enter_context(control_net.program(namespace, command, log))

    def gone() -> str:
        words = ended(name, process)
        if not words:
            return ""
        said = os.pread(log, _LOG_BYTES, 0).decode(errors="replace").splitlines()
        last = [line.strip() for line in said if line.strip()][-_LAST_LINES:]
        return f"{words}: {'; '.join(last) or 'it said nothing'}"

    return process, gone


def ended(name: str, process: "subprocess.Popen[bytes]") -> str:
    """That a program has ended, if it has."""
    status = process.poll()
    return "" if status is None else f"{name} ended with status {status}"


def first_word(gone: Sequence[Callable[[], str]]) -> str:
    return next((words for each in gone if (words := each())), "")


# ---- Open vSwitch ------------------------------------------------------------------------------------------


def open_vswitch(driver: str, site: Site) -> list[Lane]:
    """With GRE and its userspace datapath. driver: of its ports, "packet" or "afxdp"; the latter's threads
    never sleep, so that it is stopped when others have their turn.
    """
    _plain(site)
    switches = [switch(driver, site, number) for number in range(len(HOSTS))]
    gone = [partial(ended, "ovs-vswitchd", each) for each in switches]
    found = replace(lane(site, f"ovs-{driver}"), gone=partial(first_word, gone))
    return [
        found if driver != "afxdp" else stopped_between_turns(site, found, [each.pid for each in switches])
    ]


def stopped_between_turns(site: Site, found: Lane, pids: Sequence[int]) -> Lane:
    """Of programs whose threads never sleep."""
    stopped(site.stack, pids)
    return replace(found, turn=partial(awake, pids))


def stopped(stack: ExitStack, pids: Sequence[int]) -> None:
    """From now on, but for when they are awake(). stack: before it ends them."""

    def go_on() -> None:  # or they would not hear that they are to end
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    stack.callback(go_on)
    _signal(pids, signal.SIGSTOP)


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
    settings = _AFXDP if driver == "afxdp" else ()
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
    Contestant("isolane", "NVGRE and IP rewrite, TAP ports", sites.isolane, jumbo=True),
    Contestant(
        "isolane-afxdp",
        "NVGRE and IP rewrite, veth ports, AF_XDP",
        partial(sites.isolane, driver=Driver.AFXDP),
        jumbo=True,
    ),
    Contestant("kernel-vxlan", "the kernel's overlay", sites.kernel_vxlan, jumbo=True),
    Contestant("kernel-bridge", "no overlay", sites.kernel_bridge, jumbo=True),
    Contestant("relays", "two empty programs, no overlay", relays, [str(RELAY)]),
    Contestant("relays-whole", "the same, packets of 64 KiB", whole_relays, [str(RELAY)]),
    Contestant(
        "ovs-packet", "Open vSwitch, GRE, AF_PACKET", partial(open_vswitch, "packet"), PROGRAMS, PACKAGE
    ),
    Contestant("ovs-afxdp", "Open vSwitch, GRE, AF_XDP", partial(open_vswitch, "afxdp"), PROGRAMS, PACKAGE),
]
NARROW = Contestant("isolane-1600", "on a wire of 1,600 bytes", sites.narrow_isolane, profile="wire")
"""What isolane is compared with where the wire takes larger frames."""


def versions(contestants: Sequence[Contestant]) -> dict[str, str]:
    """By Debian package, what the programs of these say."""
    return {
        each.package: _version(each.version or [each.programs[0], "--version"])
        for each in contestants
        if each.package
    }


def _version(command: Sequence[str]) -> str:
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    found = re.search(r"\d+(\.\d+)+\S*?(?=[\s',]|$)", done.stdout + done.stderr)
    return found[0] if found else "unknown"
