"""The underlay is shared with the host."""

import socket
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from ipaddress import IPv4Address, IPv6Address

import pytest
from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import GRE, Ether

from dataplane.host import ethtool, netns
from dataplane.host.device import Terms
from dataplane.host.groups import solicited_node
from dataplane.host.links import DeviceError
from dataplane.host.underlay import Underlay, open_underlay
from tests.netns.probing import make_router
from tests.netns.rig import (
    MakeNamespace,
    add_addresses,
    crash,
    drain,
    drops,
    qdiscs,
    receive,
    run,
    send_stream,
    wait_for_dad,
)

PA4, PA6 = IPv4Address("10.77.0.101"), IPv6Address("fd77::101")

UNDERLAY_MAC = "02:00:00:00:77:01"


@pytest.fixture
def provider(make_namespace: MakeNamespace) -> tuple[str, str]:
    """A host whose u1 leads to another namespace and has addresses of the host; routes make it a proxy for
    the PAs.
    """
    router, outside = make_namespace("host"), make_namespace("net")
    make_router(router)
    run(router, "ip", "link", "add", "u1", "address", UNDERLAY_MAC, "mtu", "1600", "up", "type", "veth",
        "peer", "name", "p1", "netns", outside)  # fmt: skip
    run(outside, "sysctl", "-qw", "net.ipv6.conf.default.accept_dad=0", "net.ipv6.conf.p1.accept_dad=0")
    run(outside, "ip", "link", "set", "p1", "mtu", "1600", "up")
    add_addresses(router, "u1", "10.77.0.10/24", "fd77::10/64")
    add_addresses(outside, "p1", "10.77.0.20/24", "fd77::20/64")
    run(router, "ip", "route", "add", f"{PA4}/32", "dev", "out0")
    for namespace, name in ((router, "u1"), (outside, "p1")):
        wait_for_dad(namespace, name)
    return router, outside


def opened(host: str, cleanup: ExitStack, queues: int = 1) -> Underlay:
    underlay = netns.call(host, open_underlay, "u1", Terms(UNDERLAY_MAC, 1600, queues=queues))
    cleanup.callback(netns.call, host, underlay.close)
    return underlay


def arp_answered(outside: str, address: IPv4Address) -> bool:
    return run(outside, "arping", "-c", "1", "-w", "1", "-I", "p1", str(address)).returncode == 0


def test_underlay_is_shared_with_the_host(provider: tuple[str, str], cleanup: ExitStack) -> None:
    """The data plane sees what is for its PAs and nothing else; the host sees the rest and nothing of
    that.
    """
    host, outside = provider
    assert arp_answered(outside, PA4), "without us the kernel answers for the PA: the test would notice"
    underlay = opened(host, cleanup)
    underlay.serve([PA4, PA6])
    send_stream(outside, host, "10.77.0.10", 300_000)
    send_stream(host, outside, "fd77::20", 300_000)
    assert list(drain(underlay.fds[0])) == []
    assert not arp_answered(outside, PA4)
    for family, source, address in ((4, "10.77.0.20", PA4), (6, "fd77::20", PA6)):
        run(outside, "ip", "neigh", "replace", str(address), "lladdr", UNDERLAY_MAC, "dev", "p1")
        done = run(
            outside, "ping", f"-{family}", "-c", "2", "-i", "0.01", "-W", "0.2", "-I", source, str(address)
        )
        assert "2 packets transmitted, 0 received" in done.stdout
    found = receive(underlay.fds, 5, lambda data: True)
    types = Counter(data[22:24] for _, data in found)
    assert types == {b"\x08\x06": 1, b"\x08\x00": 2, b"\x86\xdd": 2}
    netns.call(host, underlay.close)
    assert arp_answered(outside, PA4), "the drop is gone"
    assert "clsact" not in qdiscs(host, "u1")


FLOWS = 64


@pytest.mark.parametrize("is_ipv6", [False, True])
def test_flows_in_tunnels_of_one_pair_of_hosts_spread(
    provider: tuple[str, str], cleanup: ExitStack, is_ipv6: bool
) -> None:
    """Over the queues of all workers, each by one: the kernel tells flows by what is in a tunnel."""
    host, outside = provider
    underlay = opened(host, cleanup, queues=2)
    underlay.serve([PA4, PA6])
    ends = Ether(dst=UNDERLAY_MAC) / (IPv6(src="fd77::20", dst=str(PA6)) if is_ipv6 else IP(dst=str(PA4)))
    frames = []
    for flow in range(FLOWS):
        inner = Ether() / IP(src="10.1.1.10", dst="10.1.1.20") / TCP(sport=1000 + flow, dport=80)
        frames += 2 * [ends / GRE(key_present=1, key=5001 << 8 | flow, proto=0x6558) / inner]
    netns.call(outside, send_frames, "p1", [bytes(frame) for frame in frames])
    found = receive(underlay.fds, len(frames), lambda data: True)
    queues = {data: {fd for fd, same in found if same == data} for _, data in found}
    assert len(queues) == FLOWS
    assert all(len(used) == 1 for used in queues.values())
    shares = Counter(fd for fd, _ in found)
    assert min(shares[fd] for fd in underlay.fds) > len(frames) / 5


def send_frames(device: str, frames: Sequence[bytes]) -> None:
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sending:
        sending.bind((device, 0))
        for frame in frames:
            sending.send(frame)


def test_solicitations_for_a_pa_reach_the_data_plane(provider: tuple[str, str], cleanup: ExitStack) -> None:
    host, outside = provider
    underlay = opened(host, cleanup)
    groups = ("cat", "/proc/net/igmp6")
    group = solicited_node(PA6).packed.hex()
    assert group not in run(host, *groups).stdout
    underlay.serve([PA6])
    assert group in run(host, *groups).stdout, "the host's IPv6 speaks MLD for it"
    run(outside, "ping", "-c", "1", "-W", "0.1", str(PA6))
    receive(underlay.fds, 1, lambda data: data[64:65] == b"\x87" and data[72:88] == PA6.packed)
    underlay.serve([])
    assert group not in run(host, *groups).stdout


def test_announcements_to_all_nodes_are_taken_without_the_hosts_ipv6(
    provider: tuple[str, str], cleanup: ExitStack
) -> None:
    host, _ = provider
    run(host, "sysctl", "-qw", "net.ipv6.conf.u1.disable_ipv6=1")
    groups, all_nodes = ("ip", "maddr", "show", "dev", "u1"), "link  33:33:00:00:00:01"
    assert all_nodes not in run(host, *groups).stdout
    opened(host, cleanup)
    assert all_nodes in run(host, *groups).stdout


def test_without_ipv6_on_the_device_all_multicast_is_taken(
    provider: tuple[str, str], cleanup: ExitStack
) -> None:
    host, _ = provider
    run(host, "ip", "link", "set", "u1", "mtu", "1200")  # below 1280 a device has no IPv6 at all
    underlay = netns.call(host, open_underlay, "u1", Terms(UNDERLAY_MAC, 1200))
    cleanup.callback(netns.call, host, underlay.close)
    assert "allmulti 0" in run(host, "ip", "-d", "link", "show", "u1").stdout
    underlay.serve([PA6])
    assert "allmulti 1" in run(host, "ip", "-d", "link", "show", "u1").stdout


def test_drop_of_pas_outlives_a_crash(provider: tuple[str, str], cleanup: ExitStack) -> None:
    host, outside = provider

    def open_and_serve() -> Underlay:
        underlay = netns.call(host, open_underlay, "u1", Terms(UNDERLAY_MAC, 1600))
        underlay.serve([PA4, PA6])
        return underlay

    crash(open_and_serve)
    assert drops(host, "u1") == ["isolane_divert"]
    assert not arp_answered(outside, PA4), "nobody answers for the PA of a data plane that died"
    underlay = netns.call(host, open_underlay, "u1", Terms(UNDERLAY_MAC, 1600), pas=[PA4, PA6])
    cleanup.callback(netns.call, host, underlay.close)
    assert drops(host, "u1") == ["isolane_divert"]
    assert not arp_answered(outside, PA4), "nor while its successor has not got to serve()"
    with pytest.raises(DeviceError, match="underlay u1: another isolane uses it"):
        netns.call(host, open_underlay, "u1", Terms(UNDERLAY_MAC, 1600))
    netns.call(host, underlay.close)
    assert drops(host, "u1") == []


def test_merging_for_good_is_off_meanwhile(provider: tuple[str, str], cleanup: ExitStack) -> None:
    host, _ = provider
    assert netns.call(host, ethtool.switch, "u1", ["rx-gro-list"], True) == {"rx-gro-list"}
    before = netns.call(host, ethtool.active, "u1")
    underlay = opened(host, cleanup)
    assert netns.call(host, ethtool.active, "u1") == before - {"rx-gro-list"}
    netns.call(host, underlay.close)
    assert netns.call(host, ethtool.active, "u1") == before
