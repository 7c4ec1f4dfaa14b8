"""What contestants of `isolane bench tcp` run on: two hosts joined by a wire and VMs behind them, each in a
network namespace of its own. isolane itself and what the kernel has; others are in peers.py.
"""

import tempfile
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path

from pyroute2 import IPRoute

from bench import control_net
from bench.control_net import START_SECONDS, wait_until
from dataplane.host import ethtool, links, netns
from dataplane.process.client import Client
from policy.kinds.model import (
    AddressRange,
    Attach,
    AttachKind,
    Driver,
    Host,
    Intent,
    LogicalNetwork,
    NetworkSite,
    Port,
    SiteSubnet,
    Translation,
    Underlay,
    VMNetwork,
    VMSubnet,
    intent_of,
)
from policy.service import changes, host_state
from policy.store.sqlite import SqliteStore

WIRE = "u0"
"""The underlay device of both hosts."""
WIRE_MTU, JUMBO_MTU = 1600, 9000
JUMBO = "jumbo"
"""The profile of a wire of JUMBO_MTU, the others' is WIRE_MTU."""
VM_MTUS = {WIRE_MTU: 1500, JUMBO_MTU: JUMBO_MTU - 50}
"""Of VMs by the wire, but for isolane's own choice: of the large one what kernel VXLAN over IPv4 leaves."""
HOSTS = ("h1", "h2")
PLUG = "p0"
"""On a host the other end of its VM's device, but for isolane's."""
NARROW = f"-{WIRE_MTU}"
"""Ends names of isolane's lanes on a wire of WIRE_MTU, beside those of a larger one."""
_ATTACHED = {Driver.AUTO: AttachKind.TAP, Driver.AFXDP: AttachKind.VETH}
_SUFFIXES = {Driver.AUTO: "", Driver.AFXDP: "-afxdp"}
VSID = 5001
UNDERLAY = IPv4Network("172.16.77.0/24")
"""The first host has its first address, the second the second."""
VM_DEVICE, _BRIDGE, TUNNEL = "eth0", "br0", "vx0"
_VXLAN_PORT = 4789
TENANT = IPv4Network("10.0.0.0/24")
VM_ADDRESSES = (IPv4Interface("10.0.0.11/24"), IPv4Interface("10.0.0.12/24"))


@dataclass(frozen=True)
class Lane:
    """What is measured: from a VM to an address of the other one. Both are names of network namespaces.

    turn: held while it is measured, by who would take a CPU from the others in between. sent: frames that it
    has put on the wire, by its own counters, of who is measured by them. gone: why it can't answer any more,
    if that is known. wakeups: how often its workers slept and were woken so far, if they count it.
    """

    name: str
    sender: str
    receiver: str
    address: IPv4Address
    turn: Callable[[], AbstractContextManager[object]] = nullcontext
    sent: Callable[[], int] = int
    gone: Callable[[], str] = str
    wakeups: Callable[[], int] | None = None


class Site:
    """Namespaces PREFIX+h1 and PREFIX+h2 with the ends of a wire."""

    def __init__(self, prefix: str, profile: str, stack: ExitStack) -> None:
        """stack: removes them."""
        self.prefix = prefix
        self.stack = stack
        self.mtu = JUMBO_MTU if profile == JUMBO else WIRE_MTU
        first, second = (self.add_namespace(host) for host in HOSTS)
        netns.call(first, _make_veth, WIRE, WIRE, second, self.mtu)
        for name in (first, second):
            netns.call(name, _shape, profile)
            netns.call(name, links.set_state, WIRE, "up")

    def add_namespace(self, name: str) -> str:
        full = self.prefix + name
        netns.create(full)
        self.stack.callback(netns.remove, full)
        netns.call(full, links.set_state, "lo", "up")
        return full


def plug(site: Site, host: str, plain: bool = False) -> str:
    """A VM's device and its address; the name of its other end on the host. plain: it sends frames of at most
    its MTU with their checksums in them, for who takes no others.
    """
    number = HOSTS.index(host)
    vm = site.add_namespace(f"vm{number + 1}")
    netns.call(site.prefix + host, _make_veth, PLUG, VM_DEVICE, vm, VM_MTUS[site.mtu])
    if plain:
        netns.call(vm, _make_plain, VM_DEVICE)
    netns.call(vm, add_address, VM_DEVICE, VM_ADDRESSES[number])
    return PLUG


def lane(site: Site, name: str) -> Lane:
    return Lane(name, f"{site.prefix}vm1", f"{site.prefix}vm2", VM_ADDRESSES[1].ip)


def _make_veth(name: str, peer_name: str, peer_namespace: str, mtu: int) -> None:
    peer = {"ifname": peer_name, "net_ns_fd": str(netns.path(peer_namespace)), "mtu": mtu}
    with IPRoute() as ip:
        ip.link("add", ifname=name, kind="veth", mtu=mtu, peer=peer)


def _shape(profile: str) -> None:
    if profile != "offload":
        _make_plain(WIRE)
    ethtool.switch(WIRE, ["rx-gro"], profile == "wire-gro")


def _make_plain(device: str) -> None:
    on = ethtool.active(device)
    ethtool.switch(
        device, [each for each in on if each.startswith("tx-checksum") or "segmentation" in each], False
    )


# ---- contestants -------------------------------------------------------------------------------------------


def kernel_bridge(site: Site) -> list[Lane]:
    """No overlay: what the wire and the VMs' own stacks can do."""
    for host in HOSTS:
        netns.call(site.prefix + host, add_bridge, [WIRE, plug(site, host)])
    return [lane(site, "kernel-bridge")]


def kernel_vxlan(site: Site) -> list[Lane]:
    for number, host in enumerate(HOSTS):
        netns.call(site.prefix + host, add_tunnel, number, VM_MTUS[site.mtu])
        netns.call(site.prefix + host, add_bridge, [TUNNEL, plug(site, host)])
    return [lane(site, "kernel-vxlan")]


def isolane(site: Site, driver: Driver = Driver.AUTO) -> list[Lane]:
    """A real agent and a real data plane on each host; two tenants with the same addresses, one by NVGRE and
    one by IP rewrite. driver: of the underlay and the VMs' ports.
    """
    directory = Path(site.stack.enter_context(tempfile.TemporaryDirectory(prefix="isolane-bench-")))
    path = directory / "store.db"
    with closing(SqliteStore(path)) as store:
        changes.commit(store, changes.apply(_intent(site.mtu, driver)))
    for tenant in Translation:
        for number in (1, 2):
            site.add_namespace(f"{tenant.value}{number}")
    clients = []
    for host in HOSTS:
        instance = f"{site.prefix}{host}"
        client = site.stack.enter_context(control_net.dataplane(instance, instance))
        site.stack.enter_context(control_net.agent(instance, site.prefix, instance, host, path))
        wait_until(shows_applied(client), f"the agent of {host} has not applied", START_SECONDS)
        clients.append(client)
    woken = partial(wakeups, clients)
    lanes = []
    for tenant in Translation:
        sender, receiver = (f"{site.prefix}{tenant.value}{number}" for number in (1, 2))
        for vm, address in zip((sender, receiver), VM_ADDRESSES, strict=True):
            netns.call(vm, add_address, VM_DEVICE, address)
        to = VM_ADDRESSES[1].ip
        name = f"isolane-{tenant.value}{_SUFFIXES[driver]}"
        lanes.append(Lane(name, sender, receiver, to, wakeups=woken))
    return lanes


def narrow_isolane(site: Site) -> list[Lane]:
    """The same under names of its own."""
    return [replace(each, name=f"{each.name}{NARROW}") for each in isolane(site)]


def wakeups(clients: Sequence[Client]) -> int:
    """Of all workers of these data planes, so far."""
    return sum(worker["wakeUps"] for each in clients for worker in each.status()["workers"])


def shows_applied(client: Client) -> Callable[[], bool]:
    return lambda: client.status()["agent"].get("state") == host_state.APPLIED


def _intent(mtu: int, driver: Driver) -> Intent:
    addresses = [UNDERLAY[1], UNDERLAY[2]]
    pool = AddressRange(UNDERLAY[10], UNDERLAY[99])
    subnets = [
        VMSubnet(tenant.value, "subnet", "net", (TENANT,), translation=tenant) for tenant in Translation
    ]
    ports = [
        Port(
            tenant.value,
            f"vm{number}",
            "subnet",
            host,
            (address.ip,),
            attach=Attach(_ATTACHED[driver], VM_DEVICE, f"{tenant.value}{number}", driver),
        )
        for tenant in Translation
        for number, (host, address) in enumerate(zip(HOSTS, VM_ADDRESSES, strict=True), 1)
    ]
    return intent_of(
        [
            LogicalNetwork("fabric"),
            NetworkSite("site", "fabric", (SiteSubnet(UNDERLAY, pool),)),
            *(
                Host(host, "site", (address,), Underlay(WIRE, mtu=mtu, driver=driver))
                for host, address in zip(HOSTS, addresses, strict=True)
            ),
            *(VMNetwork(tenant.value, "net", "fabric") for tenant in Translation),
            *subnets,
            *ports,
        ]
    )


# ---- in a namespace ----------------------------------------------------------------------------------------


def add_address(device: str, address: IPv4Interface) -> None:
    with IPRoute() as ip:
        index = links.get(ip, device).index
        ip.addr("replace", index=index, address=str(address.ip), prefixlen=address.network.prefixlen)
        ip.link("set", index=index, state="up")


def add_bridge(members: Iterable[str]) -> None:
    with IPRoute() as ip:
        ip.link("add", ifname=_BRIDGE, kind="bridge")
        bridge = links.get(ip, _BRIDGE).index
        for member in members:
            ip.link("set", index=links.get(ip, member).index, master=bridge, state="up")
        ip.link("set", index=bridge, state="up")


def add_tunnel(number: int, mtu: int) -> None:
    """To the other host alone, without learning of tunnel ends."""
    own, other = UNDERLAY[number + 1], UNDERLAY[2 - number]
    add_address(WIRE, IPv4Interface(f"{own}/{UNDERLAY.prefixlen}"))
    with IPRoute() as ip:
        ip.link(
            "add",
            ifname=TUNNEL,
            kind="vxlan",
            mtu=mtu,
            vxlan_id=VSID,
            vxlan_local=str(own),
            vxlan_group=str(other),
            vxlan_port=_VXLAN_PORT,
            vxlan_link=links.get(ip, WIRE).index,
        )
