"""UDP super-packets between VMs of one host and of two, both translations: from a hypervisor's TAP as its
guest hands them down, and from sockets.
"""

import fcntl
import os
import struct
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether

from dataplane.host import links, netns
from tests.netns import hypervisor
from tests.netns.datagrams import DATAGRAMS, PAYLOAD, SIZE, receive_all, send_at_once, udp_socket
from tests.netns.labs import EXAMPLE, Lab, running_lab, wait_until
from tests.netns.rig import receive
from tools.demo.vms import Vm

_TUNSETOFFLOAD, _TUNSETVNETHDRSZ = 0x400454D0, 0x400454D8
_TCP_OFFLOADS, _USO = 0x0F, 0x60

MAC = "02:bb:00:00:00:30"
CAS = {4: "10.1.1.30", 6: "fd00:1:1::30"}
TENANTS = {"blue": ("vm", "vnet7"), "red": ("device", "vnet8")}
"""By rewrite, by NVGRE; and the TAP of a guest on h1, that isolane makes or the hypervisor."""
PORT = """
---
apiVersion: isolane/v1
kind: Port
metadata: {{name: {tenant}-guest, tenant: {tenant}}}
spec:
  vmSubnet: {subnet}_VMSubnet1
  host: h1
  addresses: [10.1.1.30, "fd00:1:1::30"]
  mac: "02:bb:00:00:00:30"
  attach: {{{kind}: {device}}}
"""


@dataclass(frozen=True)
class Guest:
    """A VM of a hypervisor on h1, of which this test is the device model: it writes and reads what QEMU does,
    a virtio_net_hdr and a frame.
    """

    tenant: str
    fd: int

    def send_at_once(self, vm: Vm, version: int, port: int) -> None:
        """As a guest with VIRTIO_NET_F_HOST_USO does."""
        network = (IP if version == 4 else IPv6)(src=CAS[version], dst=str(vm.addresses[version]))
        frame = bytearray(bytes(Ether(src=MAC, dst=vm.mac) / network / UDP(sport=7, dport=port) / PAYLOAD))
        start = len(frame) - len(PAYLOAD) - 8
        addresses = frame[26:34] if version == 4 else frame[22:54]
        total = sum(struct.unpack(f">{len(addresses) // 2}H", addresses)) + 17 + 8 + len(PAYLOAD)
        while total >> 16:
            total = (total & 0xFFFF) + (total >> 16)
        frame[start + 6 : start + 8] = total.to_bytes(2, "big")
        header = struct.pack("=BBHHHH", 1, 5, start + 8, SIZE, start, 6)
        if version == 4:
            assert header.hex() == "01052a00b00422000600"
        assert os.write(self.fd, header + frame) == len(header) + len(frame)


def open_tap(device: str, offloads: int) -> int:
    fd = hypervisor.open_tap(device, hypervisor.VNET_HDR)
    fcntl.ioctl(fd, _TUNSETVNETHDRSZ, struct.pack("=i", 10))
    fcntl.ioctl(fd, _TUNSETOFFLOAD, offloads)
    links.set_state(device, "up")
    return fd


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    manifest = tmp_path_factory.mktemp("datagrams") / "datagrams.yaml"
    ports = [
        PORT.format(tenant=name, subnet=name.capitalize(), kind=kind, device=device)
        for name, (kind, device) in TENANTS.items()
    ]
    manifest.write_text(EXAMPLE + "".join(ports))
    with running_lab(manifest, f"udp{os.getpid()}-") as lab:
        yield lab
        lab.assert_balanced()


@pytest.fixture(scope="module")
def guests(lab: Lab) -> Iterator[dict[str, Guest]]:
    with ExitStack() as stack:
        found = {}
        for tenant, (_, device) in TENANTS.items():
            fd = netns.call(lab.hosts["h1"]["netns"], open_tap, device, _TCP_OFFLOADS | _USO)
            stack.callback(os.close, fd)
            found[tenant] = Guest(tenant, fd)
        wait_until(lambda: len(guest_ports(lab)) == len(TENANTS), "not attached", seconds=20)
        yield found


def guest_ports(lab: Lab) -> list[str]:
    return [name for name in lab.read("h1")["ports"] if name.endswith("-guest")]


def other_drops(lab: Lab) -> dict[tuple[str, str, str], int]:
    """A kernel's own noise, of VMs and of guests, is let be."""
    noise = ("multicast", "no-receiver", "nd-router", "src-address", "nd-unknown")
    return {key: count for key, count in lab.drops().items() if key[2] not in noise}


VERSIONS = pytest.mark.parametrize("version", (4, 6))
TO = pytest.mark.parametrize("name", ("blue-web", "blue-app", "red-api", "red-web", "red-app"))
"""Of the guest's host: a TAP, a veth, a TAP. Of the other: behind rewrite a TAP, behind NVGRE a veth."""


@VERSIONS
@TO
def test_a_guests_datagrams_arrive(lab: Lab, guests: dict[str, Guest], name: str, version: int) -> None:
    vm, before = lab.vms[name], other_drops(lab)
    with udp_socket(vm.namespace, str(vm.addresses[version]), 5003) as receiver:
        guests[vm.tenant].send_at_once(vm, version, 5003)
        assert receive_all(receiver) == DATAGRAMS
    assert other_drops(lab) == before
    counters = lab.read("h1")["ports"][f"{vm.tenant}/{vm.tenant}-guest"]
    assert counters["rx_gso"] > 0


@VERSIONS
@TO
@pytest.mark.parametrize("takes", (True, False), ids=("whole", "cut by the kernel"))
def test_datagrams_arrive_at_a_guest(
    lab: Lab, guests: dict[str, Guest], name: str, version: int, takes: bool
) -> None:
    vm, guest = lab.vms[name], guests[lab.vms[name].tenant]
    fcntl.ioctl(guest.fd, _TUNSETOFFLOAD, _TCP_OFFLOADS | (_USO if takes else 0))
    with udp_socket(vm.namespace, str(vm.addresses[version])) as sender:
        port = sender.getsockname()[1]

        def is_ours(data: bytes) -> bool:
            l4 = 10 + (34 if version == 4 else 54)
            return data[l4 : l4 + 4] == struct.pack(">HH", port, 9)

        send_at_once(sender, (CAS[version], 9))
        count = 1 if takes else len(DATAGRAMS)
        found = [data for _, data in receive([guest.fd], count, is_ours) if is_ours(data)]
    headers = 10 + (34 if version == 4 else 54) + 8
    assert b"".join(data[headers:] for data in found) == PAYLOAD
    assert [data[1] for data in found] == ([5] if takes else [0] * len(DATAGRAMS))


@VERSIONS
@pytest.mark.parametrize(
    ("source", "name"),
    [("blue-web", "blue-api"), ("blue-api", "blue-app"), ("blue-web", "blue-db"), ("red-web", "red-api"),
     ("red-api", "red-app"), ("red-app", "red-web")],
)  # fmt: skip
def test_datagrams_of_sockets_arrive(lab: Lab, source: str, name: str, version: int) -> None:
    """Of TAPs and veths, on one host and on two; the port's device and the underlay take them whole."""
    sending, vm, before = lab.vms[source], lab.vms[name], other_drops(lab)
    counters = lab.read(sending.host)["ports"]
    with (
        udp_socket(vm.namespace, str(vm.addresses[version]), 5003) as receiver,
        udp_socket(sending.namespace, str(sending.addresses[version])) as sender,
    ):
        send_at_once(sender, (str(vm.addresses[version]), 5003))
        assert receive_all(receiver) == DATAGRAMS
    assert other_drops(lab) == before
    after = lab.read(sending.host)["ports"]
    out = "underlay" if sending.host != vm.host else f"{vm.tenant}/{vm.name}"
    own = f"{sending.tenant}/{sending.name}"
    assert after[own]["rx_gso"] == counters[own]["rx_gso"] + 1
    assert after[out]["tx_gso"] == counters[out]["tx_gso"] + 1
