"""One device of each contestant of `isolane bench ports`: the first host of a site, with a generator in its
VM's namespace and on the other end of the wire a host that does nothing but answer ARP.
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import partial
from ipaddress import IPv4Interface
from pathlib import Path

from bench import control_net, ovs_dpdk, peers, sites
from bench.control_net import START_SECONDS, BenchError, wait_until
from bench.ovs import PACKAGE, PROGRAMS
from bench.peers import RELAY, Contestant
from bench.sites import (
    HOSTS,
    PLUG,
    TENANT,
    UNDERLAY,
    VM_ADDRESSES,
    VM_DEVICE,
    WIRE,
    WIRE_MTU,
    Lane,
    Site,
)
from dataplane.host import ethtool, links, netns
from dataplane.host.device import host_end_name
from policy.kinds.model import (
    Attach,
    AttachKind,
    Driver,
    Host,
    Intent,
    LogicalNetwork,
    Mac,
    NetworkSite,
    Port,
    SiteSubnet,
    Underlay,
    VMNetwork,
    VMSubnet,
    intent_of,
)
from policy.service import changes
from policy.store.sqlite import SqliteStore

FAR_MAC = Mac("02:00:00:00:00:02")
"""Of the VM that frames are for, which is not there."""
_TESTPMD = "dpdk-testpmd"
_EAL = ("--no-huge", "--no-pci", "--no-shconf", "--no-telemetry")
_TESTPMD_VERSION = (
    *("env", "RUNTIME_DIRECTORY=/dev/null", _TESTPMD, "-v", *_EAL, "-m", "16"),
    *("--", "--help"),
)
_ATTACHED = {Driver.AUTO: (AttachKind.TAP, AttachKind.VETH), Driver.AFXDP: (AttachKind.VETH,)}


@contextmanager
def apart() -> Iterator[int]:
    """A CPU for the generator alone: this thread and what it starts are on the others, if there are any."""
    before = os.sched_getaffinity(0)
    first = min(before)
    os.sched_setaffinity(0, before - {first} or before)
    try:
        yield first
    finally:
        os.sched_setaffinity(0, before)


def _add_far_end() -> None:
    sites.add_address(WIRE, IPv4Interface(f"{UNDERLAY[2]}/{UNDERLAY.prefixlen}"))


def _lane(site: Site, name: str, vm: str = "vm1") -> Lane:
    host, far = (site.prefix + each for each in HOSTS)
    return Lane(name, site.prefix + vm, far, VM_ADDRESSES[1].ip, sent=partial(netns.call, host, _sent))


def _sent() -> int:
    return _wire()[0]


def _wire() -> tuple[int, int]:
    """Frames that went to the other end, and those that it had no room for, as the device counts them."""
    for line in Path("/proc/thread-self/net/dev").read_text().splitlines():
        name, _, figures = line.partition(":")
        if name.strip() == WIRE:
            sent, _, dropped = map(int, figures.split()[9:12])
            return sent, dropped
    raise BenchError(f"{WIRE} is gone")


# ---- contestants -------------------------------------------------------------------------------------------


def kernel_bridge(site: Site) -> list[Lane]:
    _prepare(site)
    netns.call(site.prefix + HOSTS[0], sites.add_bridge, [WIRE, PLUG])
    return [_lane(site, "kernel-bridge")]


def kernel_vxlan(site: Site) -> list[Lane]:
    _prepare(site)
    host = site.prefix + HOSTS[0]
    netns.call(host, sites.add_tunnel, 0, sites.VM_MTUS[site.mtu])
    netns.call(host, sites.add_bridge, [sites.TUNNEL, PLUG])
    return [_lane(site, "kernel-vxlan")]


def relay(site: Site) -> list[Lane]:
    _prepare(site)
    _, gone = peers.started(site.stack, site.prefix + HOSTS[0], "relay", [str(RELAY), PLUG, WIRE])
    return [replace(_lane(site, "relays"), gone=gone)]


def open_vswitch(driver: str, site: Site) -> list[Lane]:
    _prepare(site)
    switch = peers.switch(driver, site, 0, {max(os.sched_getaffinity(0))})
    found = replace(_lane(site, f"ovs-{driver}"), gone=partial(peers.ended, "ovs-vswitchd", switch))
    return [peers.stopped_between_turns(site, found, [switch.pid]) if driver == "afxdp" else found]


def _prepare(site: Site) -> None:
    """A VM that sends plain frames, the first host's end of its device, and the other host's address."""
    host = site.prefix + HOSTS[0]
    netns.call(site.prefix + HOSTS[1], _add_far_end)
    netns.call(host, links.set_state, sites.plug(site, HOSTS[0], plain=True), "up")
    netns.call(host, _take_frames, PLUG)


def testpmd(driver: str, site: Site) -> list[Lane]:
    """DPDK's test program, which sends what it receives. driver: "packet" or "afxdp"."""
    _prepare(site)
    cpu = max(os.sched_getaffinity(0))
    temporary = tempfile.TemporaryDirectory(prefix="isolane-bench-testpmd-")
    device = "net_af_xdp" if driver == "afxdp" else "net_af_packet"
    command = [
        *("env", f"RUNTIME_DIRECTORY={site.stack.enter_context(temporary)}", _TESTPMD),
        *_EAL,
        *("-m", "256", f"--lcores=0@{cpu},1@{cpu}"),
        *(f"--vdev={device}{number},iface={name}" for number, name in enumerate((PLUG, WIRE))),
        *("--", "--forward-mode=io", "--auto-start", "--total-num-mbufs=16384"),
        "--stats-period=3600",  # or it would end with its input
    ]
    process, gone = peers.started(site.stack, site.prefix + HOSTS[0], _TESTPMD, command)
    found = replace(_lane(site, f"testpmd-{driver}"), gone=gone)
    return [peers.stopped_between_turns(site, found, [process.pid])]


def isolane(driver: Driver, site: Site) -> list[Lane]:
    """A real agent and a real data plane on one host, with a VM for each way that the driver attaches one."""
    attached = _ATTACHED[driver]
    directory = Path(site.stack.enter_context(tempfile.TemporaryDirectory(prefix="isolane-bench-")))
    path = directory / "store.db"
    with closing(SqliteStore(path)) as store:
        changes.commit(store, changes.apply(_intent(driver)))
    for kind in attached:
        site.add_namespace(kind.value)
    netns.call(site.prefix + HOSTS[1], _add_far_end)
    instance = site.prefix + HOSTS[0]
    client = site.stack.enter_context(control_net.dataplane(instance, instance))
    site.stack.enter_context(control_net.agent(instance, site.prefix, instance, HOSTS[0], path))
    wait_until(sites.shows_applied(client), "the agent has not applied", START_SECONDS)
    for kind in attached:
        netns.call(site.prefix + kind.value, sites.add_address, VM_DEVICE, VM_ADDRESSES[0])
    netns.call(instance, _take_frames, host_end_name(VM_DEVICE, f"{site.prefix}{AttachKind.VETH.value}"))

    def sent() -> int:
        """It hears nothing of what the wire's other end has no room for."""
        return client.counters()["ports"]["underlay"]["sent"] - netns.call(instance, _wire)[1]

    names = {
        kind: "isolane-afxdp" if driver is Driver.AFXDP else f"isolane-{kind.value}" for kind in attached
    }
    return [replace(_lane(site, name, kind.value), sent=sent) for kind, name in names.items()]


def _intent(driver: Driver) -> Intent:
    """For each way that the driver attaches a VM a tenant with one on the first host, and one on the other,
    which is none of isolane's.
    """
    pas, tenants = (UNDERLAY[1], UNDERLAY[2]), [kind.value for kind in _ATTACHED[driver]]
    near, far = (each.ip for each in VM_ADDRESSES)
    return intent_of(
        [
            LogicalNetwork("fabric"),
            NetworkSite("site", "fabric", (SiteSubnet(UNDERLAY),)),
            Host(HOSTS[0], "site", (pas[0],), Underlay(WIRE, mtu=WIRE_MTU, driver=driver)),
            Host(HOSTS[1], "site", (pas[1],), managed=False),
            *(VMNetwork(tenant, "net", "fabric") for tenant in tenants),
            *(VMSubnet(tenant, "subnet", "net", (TENANT,)) for tenant in tenants),
            *(Port(tenant, "far", "subnet", HOSTS[1], (far,), FAR_MAC) for tenant in tenants),
            *(
                Port(
                    kind.value,
                    "near",
                    "subnet",
                    HOSTS[0],
                    (near,),
                    attach=Attach(kind, VM_DEVICE, kind.value, driver),
                )
                for kind in _ATTACHED[driver]
            ),
        ]
    )


def _take_frames(device: str) -> None:
    """That a generator sends to its other end: the kernel hands them to NAPI alone."""
    ethtool.switch(device, ["rx-gro"], True)


DEVICES = [
    Contestant("isolane", "NVGRE, TAP and veth ports, AF_PACKET", partial(isolane, Driver.AUTO)),
    Contestant("isolane-afxdp", "NVGRE, a veth port, AF_XDP", partial(isolane, Driver.AFXDP)),
    Contestant("kernel-vxlan", "the kernel's overlay", kernel_vxlan),
    Contestant("kernel-bridge", "no overlay", kernel_bridge),
    Contestant("relays", "an empty program, no overlay", relay, [str(RELAY)]),
    Contestant(
        "ovs-packet", "Open vSwitch, GRE, AF_PACKET", partial(open_vswitch, "packet"), PROGRAMS, PACKAGE
    ),
    Contestant("ovs-afxdp", "Open vSwitch, GRE, AF_XDP", partial(open_vswitch, "afxdp"), PROGRAMS, PACKAGE),
    *(
        Contestant(
            f"testpmd-{driver}",
            f"DPDK's testpmd io, {kind}, no overlay",
            partial(testpmd, driver),
            [_TESTPMD],
            "dpdk-dev",
            _TESTPMD_VERSION,
        )
        for driver, kind in (("packet", "AF_PACKET"), ("afxdp", "AF_XDP"))
    ),
]


def everybody() -> list[Contestant]:
    """Who takes part in any contest, or stands beside bench core."""
    names = {each.name for each in peers.CONTESTANTS}
    return [*peers.CONTESTANTS, *(each for each in DEVICES if each.name not in names), ovs_dpdk.CONTESTANT]
