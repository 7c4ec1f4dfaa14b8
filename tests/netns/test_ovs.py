"""Open vSwitch as a foreign NVGRE endpoint of a lab: its VM and ours speak both ways, and nobody was told a
neighbour.
"""

import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import pytest
from pyroute2 import IPRoute

from dataplane.host import links, netns
from tests.netns.labs import Lab
from tests.netns.ovs import Tunnel, open_vswitch
from tests.netns.profiles import OFFLOAD, PROFILES, Profile, shape_all
from tools.demo.vms import Vm, connection, echo_by_tcp, ping, send_udp, vm_of
from tools.demo.wire import Capture, Packet
from tools.lab import build as lab_tool

FLOWS = 16
MERGE_WITHIN_NS = 1_000_000
OURS = ["red-web", "red-api", "red-app"]


@pytest.fixture(scope="module")
def foreign(proof_lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vm]:
    """red-ext, a VM behind Open vSwitch in the namespace of host ovs1."""
    host = proof_lab.hosts["ovs1"]
    namespace = f"{proof_lab.prefix}red-ext"
    port = next(each for each in lab_tool.status(proof_lab.prefix)["ports"] if each["name"] == "red-ext")
    vm = replace(vm_of(port), namespace=namespace, device="eth0")
    remotes = {
        proof_lab.vms[name].mac: proof_lab.hosts[proof_lab.vms[name].host]["providerAddresses"][0]
        for name in OURS
    }
    tunnel = Tunnel(f"{host['providerAddresses'][0]}/24", vm.vsid, remotes)
    netns.create(namespace)
    try:
        netns.call(host["netns"], make_vm, vm)
        directory = tmp_path_factory.mktemp("ovs")
        where = (host["netns"], host["underlay"]["device"], host["underlay"]["mac"])
        with open_vswitch(*where, tunnel, "vm", directory):
            yield vm
    finally:
        netns.remove(namespace)


@pytest.fixture(scope="module", params=PROFILES, ids=str, autouse=True)
def profile(request: pytest.FixtureRequest, proof_lab: Lab) -> Iterator[Profile]:
    """Of the underlays of our hosts; what goes to Open vSwitch is cut and complete in each."""
    shape_all(proof_lab, request.param)
    wait_to_merge(proof_lab, MERGE_WITHIN_NS if request.param.merges else 0)
    yield request.param
    wait_to_merge(proof_lab, 0)
    shape_all(proof_lab, OFFLOAD)


def wait_to_merge(lab: Lab, nanoseconds: int) -> None:
    """Open vSwitch sends frame by frame: the kernel has worked off each before it has the next one."""
    for host in map(lab.hosts.__getitem__, lab.managed()):
        setting = f"/sys/class/net/{host['underlay']['device']}/gro_flush_timeout"
        run("ip", "netns", "exec", host["netns"], "sh", "-c", f"echo {nanoseconds} > {setting}")


def make_vm(vm: Vm) -> None:
    """A veth pair from here, end `vm`, to the VM; Open vSwitch takes no partial checksums and no
    super-packets.
    """
    with IPRoute() as ip:
        ip.link(
            "add",
            ifname="vm",
            kind="veth",
            peer={"ifname": vm.device, "net_ns_fd": f"/run/netns/{vm.namespace}"},
        )
    links.set_state("vm", "up")
    inside = partial(netns.call, vm.namespace, run)
    inside("ethtool", "-K", vm.device, "tx", "off", "tso", "off", "gso", "off")
    inside("ip", "link", "set", vm.device, "address", vm.mac, "up")
    inside("ip", "address", "add", f"{vm.addresses[4]}/24", "dev", vm.device)
    inside("ip", "address", "add", f"{vm.addresses[6]}/64", "dev", vm.device, "nodad")


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("name", OURS)
def test_both_ways(lab: Lab, foreign: Vm, profile: Profile, name: str, version: int) -> None:
    ours = lab.vms[name]
    before = lab.read(ours.host)["ports"]["underlay"]
    for client, server in ((foreign, ours), (ours, foreign)):
        assert ping(client, server.addresses[version]).ttl == 64
        echo_by_tcp(client, server, version, os.urandom(1 << 18))
    after = lab.read(ours.host)["ports"]["underlay"]
    assert after["tx_gso"] > before["tx_gso"], "super-packets leave whole, and the wire cuts them"
    assert (after["rx_gso"] > before["rx_gso"]) == profile.merges


def nvgre_packets(wire: Capture) -> list[Packet]:
    packets = [packet for packet in wire.packets() if packet.is_traffic]
    assert [packet for packet in packets if packet.inner is None or packet.faults] == []
    assert {(packet.vsid, packet.gre_flags) for packet in packets} == {(6001, 0x2000)}
    return packets


@pytest.mark.parametrize("version", [4, 6])
def test_flow_ids_vary_in_what_either_sends(lab: Lab, foreign: Vm, version: int) -> None:
    ours = lab.vms["red-web"]
    with Capture(*lab.fabric()) as wire:
        for number in range(FLOWS):
            for client, server in ((foreign, ours), (ours, foreign)):
                send_udp(client, server, version, 7200 + number, b"datagram")
                with connection(client, server, version):
                    pass
        packets = nvgre_packets(wire)
    for source in (foreign, ours):
        flow_ids: dict[object, set[int]] = {}
        for packet in packets:
            assert packet.inner is not None
            if packet.inner.source == source.addresses[version]:
                flow_ids.setdefault(packet.inner.flow, set()).add(packet.flow_id)
        assert len(flow_ids) == 3 * FLOWS
        assert all(len(ids) == 1 for ids in flow_ids.values())
        assert len(set.union(*flow_ids.values())) >= FLOWS


def test_neighbours_were_found_not_told(lab: Lab, foreign: Vm) -> None:
    """The VM asks for ours through the tunnel and is answered from the record; ours is answered by its
    host.
    """
    ours = lab.vms["red-web"]
    for version in (4, 6):
        for vm in (foreign, ours):
            netns.call(vm.namespace, run, "ip", f"-{version}", "neigh", "flush", "dev", vm.device)
        ping(foreign, ours.addresses[version])
        ping(ours, foreign.addresses[version])
        for vm, peer in ((foreign, ours), (ours, foreign)):
            entry = netns.call(
                vm.namespace, run, "ip", "neigh", "show", str(peer.addresses[version]), "dev", vm.device
            )
            assert f"lladdr {peer.mac}" in entry
            assert "PERMANENT" not in entry
    with Capture(*lab.fabric()) as wire:
        netns.call(foreign.namespace, run, "ip", "neigh", "flush", "dev", foreign.device)
        ping(foreign, ours.addresses[4], count=1)
        asked = [p for p in wire.packets() if p.inner and p.inner.ethertype == 0x0806]
    replies = [p for p in asked if p.inner and p.inner.payload[7] == 2]
    assert len(replies) == 1, "one answer, of the one host that has the VM"
    assert replies[0].inner is not None
    assert replies[0].inner.payload[8:14].hex(":") == ours.mac
