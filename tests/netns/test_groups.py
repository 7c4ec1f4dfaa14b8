"""Broadcast and multicast between VMs of real kernels: on one host and two, to a foreign host, never to other
VMs; with a limit, and switched off.
"""

import os
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

import pytest

from dataplane.host import netns
from tests.netns.labs import EXAMPLE, FOREIGN_HOST, Lab, running_lab, wait_until
from tools.demo.frames import GRE
from tools.demo.vms import Vm, ping
from tools.demo.wire import Capture

PORT = 5353
GROUPS = {4: "239.1.2.3", 6: "ff05::1:3"}
SUBNET = """
---
apiVersion: isolane/v1
kind: VMSubnet
metadata: {{name: {tenant}-{name}, tenant: {tenant}}}
spec:
  vmNetwork: {network}
  prefixes: [{prefix4}, "{prefix6}"]
  vsid: {vsid}
  translation: nvgre{more}
"""
VM = """
---
apiVersion: isolane/v1
kind: Port
metadata: {{name: {name}, tenant: {tenant}}}
spec:
  vmSubnet: {subnet}
  host: {host}
  addresses: [{v4}, "{v6}"]
  mac: "{mac}"
  attach: {{tap: eth0, netns: {name}}}
"""


def vm_text(name: str, tenant: str, subnet: str, host: str, number: tuple[int, int]) -> str:
    """number: of the subnet, and of the VM in it: its addresses' and its MAC's."""
    net, last = number
    return VM.format(
        name=name, tenant=tenant, subnet=subnet, host=host, v4=f"10.1.{net}.{last}",
        v6=f"fd00:1:{net}::{last}", mac=f"02:bb:00:00:0{net}:{last}",
    )  # fmt: skip


def subnet_text(name: str, tenant: str, network: str, net: int, vsid: int, more: str = "") -> str:
    return SUBNET.format(
        name=name, tenant=tenant, network=network, vsid=vsid, more=more,
        prefix4=f"10.1.{net}.0/24", prefix6=f"fd00:1:{net}::/64",
    )  # fmt: skip


VIOLET = """
---
apiVersion: isolane/v1
kind: VMNetwork
metadata: {name: violet, tenant: violet}
spec: {logicalNetwork: fabric}
"""
MANIFEST = "".join(
    (
        EXAMPLE,
        FOREIGN_HOST,
        subnet_text("other", "red", "Red_VMNet", 2, 6002),
        vm_text("red-db", "red", "red-other", "h2", (2, 20)),
        vm_text("red-bus", "red", "red-other", "h1", (2, 10)),
        VIOLET,
        subnet_text(
            "slow", "violet", "violet", 1, 7001, "\n  broadcast: {packetsPerSecond: 10, burstPackets: 5}"
        ),
        vm_text("violet-a", "violet", "violet-slow", "h1", (1, 10)),
        vm_text("violet-b", "violet", "violet-slow", "h2", (1, 20)),
        subnet_text("mute", "violet", "violet", 2, 7002, "\n  broadcast: {enabled: false}"),
        vm_text("violet-c", "violet", "violet-mute", "h1", (2, 10)),
        vm_text("violet-d", "violet", "violet-mute", "h1", (2, 20)),
    )
)
ALIKE = ("red-api", "red-app")
"""The VMs of red-web's subnet: beside it, and on the other host."""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    manifest = tmp_path_factory.mktemp("groups") / "groups.yaml"
    manifest.write_text(MANIFEST)
    with running_lab(manifest, f"grp{os.getpid()}-") as lab:
        yield lab
        lab.assert_balanced()


def index_of(vm: Vm) -> int:
    return netns.call(vm.namespace, socket.if_nametoindex, vm.device)


@contextmanager
def listener(vm: Vm, version: int) -> Iterator[socket.socket]:
    """Hears what is sent to PORT, of the group too."""
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    with netns.call(vm.namespace, socket.socket, family, socket.SOCK_DGRAM) as opened:
        opened.settimeout(5)
        opened.bind(("", PORT))
        group, index = ip_address(GROUPS[version]).packed, index_of(vm)
        if version == 4:
            joining = group + bytes(4) + index.to_bytes(4, "little")
            opened.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, joining)
        else:
            joining = group + index.to_bytes(4, "little")
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, joining)
        yield opened


@dataclass(frozen=True)
class Heard:
    lab: Lab
    sockets: dict[str, socket.socket]

    def by(self, names: Sequence[str]) -> list[bytes]:
        """What each of these hears; it comes for sure."""
        return [self.sockets[name].recv(2048) for name in names]

    def waiting(self) -> set[str]:
        """Who has heard something that nobody asked for yet."""
        found = set()
        for name, opened in self.sockets.items():
            opened.setblocking(False)
            try:
                opened.recv(2048)
                found.add(name)
            except BlockingIOError:
                pass
            opened.settimeout(5)
        return found


@contextmanager
def all_listen(lab: Lab, version: int) -> Iterator[Heard]:
    with ExitStack() as stack:
        yield Heard(lab, {name: stack.enter_context(listener(vm, version)) for name, vm in lab.vms.items()})


def send(vm: Vm, to: str, payload: bytes, times: int = 1) -> None:
    version = ip_address(to).version
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    with netns.call(vm.namespace, socket.socket, family, socket.SOCK_DGRAM) as opened:
        opened.bind((str(vm.addresses[version]), 0))
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        if version == 4:
            interface = bytes(8) + index_of(vm).to_bytes(4, "little")
            opened.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, interface)
            opened.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 0)
            opened.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 4)
        else:
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index_of(vm))
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_LOOP, 0)
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 4)
        for _ in range(times):
            opened.sendto(payload, (to, PORT))


@pytest.mark.parametrize("to", [*GROUPS.values(), "255.255.255.255", "10.1.1.255", "ff02::1"])
def test_all_of_the_subnet_hear_it_and_nobody_else(lab: Lab, to: str) -> None:
    """From the same host and from the other one; in both directions."""
    with all_listen(lab, ip_address(to).version) as heard:
        for sender in ("red-web", "red-app"):
            payload = os.urandom(16)
            others = [name for name in ("red-web", *ALIKE) if name != sender]
            send(lab.vms[sender], to, payload)
            assert heard.by(others) == [payload] * len(others)
            if not ip_address(to).is_multicast:  # a kernel hears its own broadcasts
                assert heard.by([sender]) == [payload]
        ping(lab.vms["red-web"], lab.vms["red-app"].addresses[4], count=1)
        assert heard.waiting() == set()


def test_a_large_datagram_in_fragments(lab: Lab) -> None:
    payload = os.urandom(2000)
    with all_listen(lab, 4) as heard:
        send(lab.vms["red-web"], GROUPS[4], payload)
        assert heard.by(ALIKE) == [payload] * 2


def test_a_broadcast_ping_is_answered_by_each(lab: Lab) -> None:
    """Where kernels are told to answer such."""
    red = [lab.vms[name] for name in ("red-web", *ALIKE)]
    for vm in red:
        netns.call(vm.namespace, write_answering, "0")
    with Capture(red[0].namespace, red[0].device) as capture:
        netns.call(red[0].namespace, ping_all, "10.1.1.255")
        wanted = {str(vm.addresses[4]) for vm in red[1:]}
        seen: set[str] = set()

        def all_answered() -> bool:
            seen.update(str(packet.source) for packet in capture.packets())
            return wanted <= seen

        wait_until(all_answered, f"answers from {seen} only")


def write_answering(ignore: str) -> None:
    Path("/proc/sys/net/ipv4/icmp_echo_ignore_broadcasts").write_text(ignore)


def ping_all(address: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as raw:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        raw.sendto(bytes.fromhex("0800f7fd00010001"), (address, 0))


def test_a_foreign_host_gets_one_copy(lab: Lab) -> None:
    foreign = lab.hosts["ovs1"]
    device = foreign["underlay"]["device"]
    netns.call(foreign["netns"], add_address, device, "192.168.77.9/24")
    with Capture(foreign["netns"], device) as capture:
        seen: list[bytes] = []

        def copies(payload: bytes) -> list[bytes]:
            seen.extend(data for data, _ in capture.frames())
            return [data for data in seen if data[23] == GRE and payload in data]

        def answers() -> bool:
            send(lab.vms["red-web"], GROUPS[4], b"are you there?")
            return bool(copies(b"are you there?"))

        wait_until(answers, "no copy", seconds=10)
        payload = os.urandom(16)
        send(lab.vms["red-web"], GROUPS[4], payload)
        wait_until(lambda: copies(payload), "no copy")
        ping(lab.vms["red-web"], lab.vms["red-app"].addresses[4], count=1)
        (copy,) = copies(payload)
        assert copy[34:41] == bytes.fromhex("20006558") + (6001).to_bytes(3, "big")
        assert copy[42:48] == bytes.fromhex("01005e010203")


def add_address(device: str, address: str) -> None:
    subprocess.run(["ip", "address", "replace", address, "dev", device], check=True, timeout=10)
    subprocess.run(["ip", "link", "set", device, "up"], check=True, timeout=10)


def test_a_limit(lab: Lab) -> None:
    """10 a second, five at once: of 50 most are dropped, and counted, and others are heard as before."""
    slow, payload = lab.vms["violet-a"], os.urandom(16)
    key = ("h1", "violet-a", "broadcast-limit")
    with all_listen(lab, 4) as heard:
        before = lab.drops()[key]
        send(slow, GROUPS[4], payload, times=50)
        wait_until(lambda: lab.drops()[key] - before >= 30, "few drops")
        assert lab.drops()[key] - before < 50
        assert heard.by(["violet-b"]) == [payload]
        send(lab.vms["red-web"], GROUPS[4], payload)
        assert heard.by(ALIKE) == [payload] * 2


def test_switched_off(lab: Lab) -> None:
    mute = lab.vms["violet-c"]
    key = ("h1", "violet-c", "multicast")
    with all_listen(lab, 4) as heard:
        before = lab.drops()[key]
        send(mute, GROUPS[4], b"anybody?", times=3)
        wait_until(lambda: lab.drops()[key] - before >= 3, "not dropped")
        ping(mute, lab.vms["violet-d"].addresses[4], count=1)
        assert heard.waiting() == set()
