"""What a VM may try against its host, and a host that would answer."""

import socket
import struct
from collections.abc import Iterator

from dataplane.host import netns
from tests.netns.rig import MACS, add_addresses, run
from tests.netns.wires import one_cpu, wait_for_carrier

HOST_MAC = "02:00:00:00:00:fe"


def probes() -> list[bytes]:
    """What a VM may try against its host: every frame to the host end's MAC or a group."""
    vm, host = (bytes.fromhex(mac.replace(":", "")) for mac in (MACS[0], HOST_MAC))
    own4, own6 = socket.inet_aton("10.1.1.2"), socket.inet_pton(socket.AF_INET6, "fd01::2")
    found = []
    for target in (
        "192.168.50.1",
        "10.1.1.1",
        "127.0.0.1",
        "192.168.50.9",
    ):  # its addresses, and one it routes to
        request = bytes.fromhex("0001080006040001") + vm + own4 + bytes(6) + socket.inet_aton(target)
        found.append(b"\xff" * 6 + vm + b"\x08\x06" + request)
        ip = struct.pack("!BBHHHBBH", 0x45, 0, 28, 0, 0, 64, 1, 0) + own4 + socket.inet_aton(target)
        ip = ip[:10] + checksum(ip) + ip[12:]
        found.append(host + vm + b"\x08\x00" + ip + bytes.fromhex("0800f7fe00010000"))
    for text in ("fd50::1", "fe80::fe", "ff02::1", "fd50::9"):
        target6 = socket.inet_pton(socket.AF_INET6, text)
        echo = icmp6(own6, target6, bytes.fromhex("8000000000010001"))
        found.append((b"\x33\x33\x00\x00\x00\x01" if text == "ff02::1" else host) + vm + b"\x86\xdd" + echo)
        group = socket.inet_pton(socket.AF_INET6, "ff02::1:ff00:0")[:13] + target6[13:]
        solicit = icmp6(own6, group, bytes.fromhex("8700000000000000") + target6 + b"\x01\x01" + vm)
        found.append(b"\x33\x33\xff" + target6[13:] + vm + b"\x86\xdd" + solicit)
    return found


def checksum(data: bytes) -> bytes:
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total & 0xFFFF) + (total >> 16)
    return struct.pack("!H", ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF)


def icmp6(source: bytes, target: bytes, message: bytes) -> bytes:
    pseudo = source + target + struct.pack("!II", len(message), 58)
    message = message[:2] + checksum(pseudo + message) + message[4:]
    return struct.pack("!IHBB", 6 << 28, len(message), 58, 255) + source + target + message


def make_router(host: str) -> None:
    """A host that forwards, answers ARP for others, and has addresses on another device."""
    settings = (
        "ipv4.ip_forward=1 ipv4.conf.all.proxy_arp=1 ipv4.conf.default.proxy_arp=1 "
        "ipv4.neigh.default.proxy_delay=0 ipv4.conf.all.rp_filter=0 ipv4.conf.default.rp_filter=0 "
        "ipv6.conf.all.forwarding=1 ipv6.conf.default.accept_dad=0"
    )
    run(host, "sysctl", "-qw", *(f"net.{setting}" for setting in settings.split()))
    run(host, "ip", "link", "add", "out0", "up", "type", "veth", "peer", "name", "out1")
    run(host, "ip", "link", "set", "out1", "up")
    add_addresses(host, "out0", "192.168.50.1/24", "fd50::1/64", "fe80::fe/64", "10.1.1.1/24", "fd01::1/64")


def answers(host: str, vm: str, host_end: str) -> int:
    """Send the probes from the VM; how many frames came back or were forwarded before a mark that came after.

    On one CPU what comes in is worked off in order: the mark from the VM comes when the host is done with the
    probes, the marks that then go to the VM and beyond come after all that the host made of them.
    """
    mark = b"\xff" * 12 + b"\x88\xb5" + bytes(46)
    for namespace, name in ((vm, "eth0"), (host, host_end), (host, "out0")):
        wait_for_carrier(namespace, name)
    with (
        one_cpu(),
        netns.call(vm, listening, "eth0") as inside,
        netns.call(host, listening, "out1") as beyond,
        netns.call(host, listening, host_end) as arriving,
        netns.call(host, listening, "out0") as leaving,
    ):
        for frame in (*probes(), mark):
            inside.send(frame)
        arrived = list(until(arriving, mark))
        assert [probe for probe in probes() if probe in arrived] == probes(), "every probe left the VM"
        arriving.send(mark)
        leaving.send(mark)
        return sum(1 for opened in (inside, beyond) for _ in until(opened, mark))


def listening(name: str) -> socket.socket:
    opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    opened.setsockopt(263, 23, 1)  # PACKET_IGNORE_OUTGOING
    opened.bind((name, 3))
    opened.settimeout(5)
    return opened


def until(opened: socket.socket, mark: bytes) -> Iterator[bytes]:
    while (data := opened.recv(4000)) != mark:
        yield data
