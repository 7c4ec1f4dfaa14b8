"""Every packet on the provider network, as tshark reads it: both translations, all inner and outer
families.
"""

import socket
import struct
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

import pytest

from dataplane.host import ethtool, netns
from tests.netns.labs import EXAMPLE, Lab, running_lab, wait_until
from tests.netns.programs import run
from tools.demo import frames as frames
from tools.demo.frames import Address
from tools.demo.vms import Vm, connection, echo_by_tcp, ping, send_udp
from tools.demo.wire import Capture, decode

CHECKSUMS = [f"-o{protocol}.check_checksum:TRUE" for protocol in ("ip", "tcp", "udp")]
PAYLOAD_IS_DATA = [f"-d{protocol}.port==1-65535,data" for protocol in ("tcp", "udp")]
BAD = (
    "_ws.malformed || _ws.expert.severity == error || _ws.short || "
    "ip.checksum.status == 0 || (tcp.checksum.status == 0 && !tcp.checksum.ffff) || "
    "udp.checksum.status == 0 || icmp.checksum.status == 0 || icmpv6.checksum.status == 0"
)
"""Linux completes a TCP checksum of 0x0000 as 0xffff, in a tunnel too, for a device that doesn't
(skb_checksum_help()). That is as right, and tshark minds.
"""
ALL_FLOWS = 6
PORTS = 7, 9
MACS = "02:00:00:00:00:02", "02:00:00:00:00:01"
RAW = socket.AF_PACKET, socket.SOCK_RAW, 0
SOL_PACKET, PACKET_VNET_HDR = 263, 15


@pytest.fixture(scope="module", params=["outer-v4", "outer-v6"])
def wire_lab(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Hosts whose underlay offloads nothing, as a plain NIC: every sum on the wire is complete."""
    text = EXAMPLE
    if request.param == "outer-v6":
        text = text.replace("[192.168.77.101]", '["fd77::101"]').replace("[192.168.77.102]", '["fd77::102"]')
    manifest = tmp_path_factory.mktemp("wire") / "wire.yaml"
    manifest.write_text(text)
    with running_lab(manifest, f"prf-{request.param}-") as lab:
        for host in lab.hosts.values():
            netns.call(host["netns"], switch_offloads_off, host["underlay"]["device"])
        yield lab


def switch_offloads_off(device: str) -> None:
    active = ethtool.active(device)
    sending = [name for name in active if name.startswith("tx-checksum") or "segmentation" in name]
    ethtool.switch(device, sending, False)


def talk(client: Vm, server: Vm, version: int) -> None:
    """Pings, also in fragments; datagrams of even and odd length; connections; a bulk of TCP both ways."""
    for size in (0, 1, 56, 1400):
        ping(client, server.addresses[version], count=2, payload=bytes(size))
    for number in range(ALL_FLOWS):
        send_udp(client, server, version, 7300 + number, bytes(range(number)))
        with connection(client, server, version):
            pass
    send_udp(client, server, version, 7400, bytes(4000))  # in fragments
    echo_by_tcp(client, server, version, b"isolane " * (1 << 15))


REPORTS = "ipv6.dst == ff02::16"
"""Of a kernel's listeners: they come when they like, and go to all VMs of Red."""


def write_pcap(path: Path, frames: list[bytes]) -> None:
    header = struct.pack("=IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, 1)
    records = (struct.pack("=IIII", n // 1000, n % 1000, len(f), len(f)) + f for n, f in enumerate(frames))
    path.write_bytes(header + b"".join(records))


def tshark(path: Path, *options: str) -> list[str]:
    return run(None, "tshark", "-n", "-r", str(path), *CHECKSUMS, *PAYLOAD_IS_DATA, *options).splitlines()


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("pair", ["blue-web:blue-app", "red-web:red-app", "blue-web:blue-db"])
def test_tshark_finds_nothing_wrong(wire_lab: Lab, tmp_path: Path, pair: str, version: int) -> None:
    client, server = (wire_lab.vms[name] for name in pair.split(":"))
    with Capture(*wire_lab.fabric()) as wire:
        talk(client, server, version)
        talk(server, client, version)
        captured = wire.frames()
    assert not any(pending for _, pending in captured)
    path = tmp_path / "wire.pcap"
    write_pcap(path, [frame for frame, _ in captured])
    assert tshark(path, "-Y", BAD) == []
    keys = tshark(path, "-Y", f"gre and not {REPORTS}", "-T", "fields", "-e", "gre.proto", "-e", "gre.key")
    if client.tenant == "red":
        assert {key.split()[0] for key in keys} == {"0x6558"}
        assert {int(key.split()[1], 16) >> 8 for key in keys} == {client.vsid}
        assert len({int(key.split()[1], 16) & 0xFF for key in keys}) > ALL_FLOWS // 2
    else:
        assert keys == []
    wire_lab.assert_balanced()


def reset(payload: bytes, field: int = 0) -> bytes:
    """A TCP RST, which nobody answers, with what is to be in its checksum field."""
    return struct.pack("!HHIIBBHHH", *PORTS, 1, 0, 0x50, 0x04, 0, field, 0) + payload


def tcp_sum(addresses: tuple[Address, Address], segment: bytes) -> int:
    return frames.ones_sum(frames.pseudo_header(*addresses, frames.TCP, len(segment)) + segment)


@pytest.mark.parametrize("is_complete", [True, False], ids=["complete", "partial"])
@pytest.mark.parametrize("version", [4, 6])
def test_a_tcp_checksum_that_comes_to_zero(
    wire_lab: Lab, tmp_path: Path, version: int, is_complete: bool
) -> None:
    """Updated by the core, and completed by the kernel of a device that offloads nothing."""
    client, server = wire_lab.vms["blue-web"], wire_lab.vms["blue-app"]
    inside = client.addresses[version], server.addresses[version]
    outside = client.provider_addresses[version], server.provider_addresses[version]
    payload = struct.pack("!H", 0xFFFF - tcp_sum(outside, reset(bytes(2))))
    pseudo = frames.ones_sum(frames.pseudo_header(*inside, frames.TCP, 22))
    segment = reset(payload, 0xFFFF - tcp_sum(inside, reset(payload)) if is_complete else pseudo)
    packet = frames.ip(*inside, frames.TCP, segment)
    frame = frames.ethernet(server.mac, client.mac, frames.ETHERTYPES[version], packet)
    start = len(frame) - len(segment)
    with Capture(*wire_lab.fabric()) as wire, netns.call(client.namespace, socket.socket, *RAW) as vm:
        vm.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
        vm.sendto(struct.pack("=BBHHHH", not is_complete, 0, 0, 0, start, 16) + frame, (client.device, 0))
        seen: list[bytes] = []
        wait_until(lambda: seen.extend(sent_from(wire, PORTS)) or seen, "the RST is not on the wire")
    assert seen[0][start + 16 : start + 18] in ([b"\0\0"] if is_complete else [b"\0\0", b"\xff\xff"])
    write_pcap(tmp_path / "wire.pcap", seen)
    assert tshark(tmp_path / "wire.pcap", "-Y", BAD) == []


def sent_from(wire: Capture, ports: tuple[int, int]) -> list[bytes]:
    return [frame for frame, pending in wire.frames() if decode(frame, pending).ports == ports]


@pytest.mark.parametrize(("field", "found"), [(0x0000, 0), (0xFFFF, 0), (0x0001, 1)])
def test_a_tcp_checksum_of_either_zero_is_right(tmp_path: Path, field: int, found: int) -> None:
    """Outside of tunnels and inside."""
    addresses = ip_address("10.1.1.10"), ip_address("10.1.1.20")
    segment = reset(struct.pack("!H", 0xFFFF - tcp_sum(addresses, reset(bytes(2)))), field)
    frame = frames.ethernet(*MACS, 0x0800, frames.ip(*addresses, frames.TCP, segment))
    gre = struct.pack("!HHI", frames.GRE_KEY_PRESENT, frames.TEB, 6001 << 8) + frame
    carried = frames.ethernet(*MACS, 0x0800, frames.ip(*addresses, frames.GRE, gre))
    write_pcap(tmp_path / "a.pcap", [frame])
    assert len(tshark(tmp_path / "a.pcap", "-Y", BAD)) == found
    write_pcap(tmp_path / "b.pcap", [carried])
    assert len(tshark(tmp_path / "b.pcap", "-Y", BAD)) == found


@pytest.mark.parametrize("offset", [14 + 10, 14 + 20 + 3, -1], ids=["header", "udp", "payload"])
def test_tshark_would_find_it(tmp_path: Path, offset: int) -> None:
    """The filter above does see a wrong byte."""
    packet = frames.udp(ip_address("10.1.1.10"), ip_address("10.1.1.20"), (7, 9), b"payload")
    frame = bytearray(frames.ethernet(*MACS, 0x0800, packet))
    write_pcap(tmp_path / "good.pcap", [bytes(frame)])
    assert tshark(tmp_path / "good.pcap", "-Y", BAD) == []
    frame[offset] ^= 0x40
    write_pcap(tmp_path / "bad.pcap", [bytes(frame)])
    assert len(tshark(tmp_path / "bad.pcap", "-Y", BAD)) == 1
