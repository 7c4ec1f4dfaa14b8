"""Frames of those who do not keep to the rules, and what they die by: a VM that lies to its port, an
intruder on the provider network that sends what it likes in the name of any host.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address

from policy.kinds.model import ROUTER_MAC
from tests.netns.labs import Lab
from tools.demo import frames as frames
from tools.demo.frames import Address
from tools.demo.vms import Vm

BLUE, RED = 5001, 6001
FOREIGN_PA = "192.168.77.9"
EVIL_MAC = "02:66:66:66:66:66"

Build = Callable[["Sender", bytes], bytes]
"""(who sends, a mark that goes into the payload) -> frame."""


def is_reply(request: bytes, frame: bytes) -> bool:
    """Whether a frame is an ARP reply or NA for the target that an ARP request or NS asks about."""
    if request[12:14] == b"\x08\x06":
        return frame[12:14] == b"\x08\x06" and frame[21] == 2 and frame[28:32] == request[38:42]
    if request[12:14] == b"\x86\xdd" and request[20] == frames.ICMPV6 and request[54] == 135:
        return frame[20:21] == b"\x3a" and frame[54:55] == b"\x88" and frame[62:78] == request[62:78]
    return False


# ---- from inside a VM --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sender:
    """A VM that sends probes, and what it knows of the others."""

    lab: Lab
    vm: Vm

    def ip(self, name: str, version: int = 4) -> Address:
        return self.lab.vms[name].addresses[version]

    def pa(self, host: str) -> Address:
        return ip_address(self.lab.hosts[host]["providerAddresses"][0])

    def udp(
        self,
        mark: bytes,
        destination: Address,
        *,
        to: str = ROUTER_MAC,
        mac: str | None = None,
        source: Address | None = None,
    ) -> bytes:
        own = self.vm.addresses[destination.version]
        packet = frames.udp(source or own, destination, (7000, 7000), mark)
        return frames.ethernet(to, mac or self.vm.mac, frames.ETHERTYPES[destination.version], packet)

    def nd(self, kind: int, body: bytes, destination: Address, source: Address, to: str) -> bytes:
        """A neighbour discovery message with hop limit 255."""
        message = bytes([kind, 0, 0, 0]) + body
        pseudo = frames.pseudo_header(source, destination, frames.ICMPV6, len(message))
        total = frames.checksum(pseudo + message).to_bytes(2, "big")
        packet = frames.ip(source, destination, frames.ICMPV6, message[:2] + total + message[4:], ttl=255)
        return frames.ethernet(to, self.vm.mac, 0x86DD, packet)

    def solicitation(self, target: Address, source: Address, mac: str) -> bytes:
        """NS for `target` with the source link-layer option `mac`."""
        group = ip_address(ip_address("ff02::1:ff00:0").packed[:13] + target.packed[13:])
        body = bytes(4) + target.packed + b"\1\1" + frames.mac_bytes(mac)
        return self.nd(135, body, group, source, "33:33:" + group.packed[12:].hex(":"))

    def own(self, version: int = 4) -> Address:
        return self.vm.addresses[version]


def spoofed_advertisement(s: Sender, mark: bytes) -> bytes:
    """NA that claims the address of the VM beside it."""
    body = b"\x20\0\0\0" + s.ip("red-api", 6).packed + b"\2\1" + frames.mac_bytes(s.vm.mac)
    return s.nd(136, body, ip_address("ff02::1"), s.own(6), "33:33:00:00:00:01")


def own_nvgre(source: str | None, target: str) -> Build:
    """A VM's NVGRE packet to a host's PA, in the name of a host or in its own."""

    def build(s: Sender, mark: bytes) -> bytes:
        inner = frames.ethernet(EVIL_MAC, s.vm.mac, 0x0800, mark)
        packet = frames.ip(
            s.pa(source) if source else s.own(), s.pa(target), frames.GRE, frames.nvgre(BLUE, inner)
        )
        return frames.ethernet(ROUTER_MAC, s.vm.mac, 0x0800, packet)

    return build


FROM_VM: dict[str, tuple[str, Build]] = {
    "other-tenants-ca": ("no-route", lambda s, m: s.udp(m, s.ip("blue-db"))),
    "other-tenants-ca-v6": ("no-route", lambda s, m: s.udp(m, s.ip("blue-db", 6))),
    "other-tenants-mac": ("no-record", lambda s, m: s.udp(m, s.ip("blue-db"), to=s.lab.vms["blue-db"].mac)),
    "unknown-ca-of-own-subnet": ("no-record", lambda s, m: s.udp(m, ip_address("10.1.1.99"))),
    "source-ca-of-a-neighbour": (
        "src-address",
        lambda s, m: s.udp(m, s.ip("red-app"), source=s.ip("red-api")),
    ),
    "source-ca-of-a-neighbour-v6": (
        "src-address",
        lambda s, m: s.udp(m, s.ip("red-app", 6), source=s.ip("red-api", 6)),
    ),
    "source-ca-of-another-tenant": (
        "src-address",
        lambda s, m: s.udp(m, s.ip("red-app"), source=s.ip("blue-db")),
    ),
    "source-mac-of-a-neighbour": (
        "src-mac",
        lambda s, m: s.udp(m, s.ip("red-app"), mac=s.lab.vms["red-api"].mac),
    ),
    "source-mac-of-the-router": ("src-mac", lambda s, m: s.udp(m, s.ip("red-app"), mac=ROUTER_MAC)),
    "arp-in-the-name-of-a-neighbour": (
        "arp-sender",
        lambda s, m: frames.arp_request(s.vm.mac, s.ip("red-api"), s.ip("red-app")),
    ),
    "arp-with-another-mac-inside": (
        "arp-sender",
        lambda s, m: frames.ethernet(
            frames.BROADCAST,
            s.vm.mac,
            frames.ARP,
            frames.arp_request(EVIL_MAC, s.own(), s.ip("red-app"))[14:],
        ),
    ),
    "arp-for-another-tenants-ca": (
        "arp-unknown",
        lambda s, m: frames.arp_request(s.vm.mac, s.own(), s.ip("blue-db")),
    ),
    "ns-in-the-name-of-a-neighbour": (
        "src-address",
        lambda s, m: s.solicitation(s.ip("red-app", 6), s.ip("red-api", 6), s.vm.mac),
    ),
    "ns-with-another-mac-inside": (
        "nd-spoofed",
        lambda s, m: s.solicitation(s.ip("red-app", 6), s.own(6), EVIL_MAC),
    ),
    "na-for-a-neighbour": ("nd-spoofed", spoofed_advertisement),
    "ns-for-another-tenants-ca": (
        "nd-unknown",
        lambda s, m: s.solicitation(s.ip("blue-db", 6), s.own(6), s.vm.mac),
    ),
    "router-advertisement": (
        "nd-router",
        lambda s, m: s.nd(134, bytes(12) + m, ip_address("ff02::1"), s.own(6), "33:33:00:00:00:01"),
    ),
    "to-a-shared-pa": ("no-route", lambda s, m: s.udp(m, s.pa("h2"))),
    "to-the-own-hosts-pa": ("no-route", lambda s, m: s.udp(m, s.pa("h1"))),
    "to-a-rewrite-pa": ("no-route", lambda s, m: s.udp(m, s.lab.vms["blue-app"].provider_addresses[4])),
    "to-a-rewrite-pa-v6": ("no-route", lambda s, m: s.udp(m, s.lab.vms["blue-app"].provider_addresses[6])),
    "from-a-pa": ("src-address", lambda s, m: s.udp(m, s.ip("red-app"), source=s.pa("h1"))),
    "own-nvgre-in-a-hosts-name": ("src-address", own_nvgre("h2", "h1")),
    "own-nvgre": ("no-route", own_nvgre(None, "h2")),
    "broadcast": ("group-address", lambda s, m: s.udp(m, ip_address("10.1.2.255"), to=frames.BROADCAST)),
    "not-ip": ("ethertype", lambda s, m: frames.ethernet(EVIL_MAC, s.vm.mac, 0x88B5, m)),
    "two-tags": (
        "vlan-stacked",
        lambda s, m: frames.ethernet(EVIL_MAC, s.vm.mac, 0x88A8, struct.pack("!HH", 5, 0x0800) + m),
    ),
}
"""Name -> (the drop reason, the frame that red-web or red-api sends)."""


# ---- from the provider network -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Intruder:
    """Whoever is attached to the provider network: it can send what it likes, in any host's name.

    Every frame it makes is to host h1; left as they are, nvgre() and rewrite() are right and get delivered.
    """

    lab: Lab

    def pa(self, host: str) -> Address:
        return ip_address(self.lab.hosts[host]["providerAddresses"][0])

    def vm_pa(self, name: str, version: int = 4) -> Address:
        return self.lab.vms[name].provider_addresses[version]

    def inner(
        self,
        mark: bytes,
        source: Address | str = "red-app",
        destination: Address | str = "red-web",
        *,
        mac: str | None = None,
        to: str | None = None,
        version: int = 4,
        tag: bytes = b"",
    ) -> bytes:
        """A frame inside the tunnel: from red-app to red-web unless told otherwise."""
        ends = [
            self.lab.vms[end].addresses[version] if isinstance(end, str) else end
            for end in (source, destination)
        ]
        packet = frames.echo(*ends, mark, reply=True)  # a VM's kernel answers it with nothing
        ethertype = frames.ETHERTYPES[ends[0].version]
        web, app = self.lab.vms["red-web"], self.lab.vms["red-app"]
        macs = frames.mac_bytes(to or web.mac) + frames.mac_bytes(mac or app.mac)
        return macs + tag + struct.pack("!H", ethertype) + packet

    def outer(self, packet: bytes, *, to: str | None = None, tag: bytes = b"") -> bytes:
        """The packet in a frame to h1."""
        mac = to or self.lab.hosts["h1"]["underlay"]["mac"]
        ethertype = 0x0800 if packet[0] >> 4 == 4 else 0x86DD
        return (
            frames.mac_bytes(mac) + frames.mac_bytes(EVIL_MAC) + tag + struct.pack("!H", ethertype) + packet
        )

    def nvgre(
        self, inner: bytes, *, vsid: int = RED, flags: int = 0x2000, source: str = "h2", key: bool = True
    ) -> bytes:
        gre = frames.nvgre(vsid, inner, flags=flags)
        payload = gre if key else gre[:4] + gre[8:]
        return self.outer(frames.ip(self.pa(source), self.pa("h1"), frames.GRE, payload))

    def rewrite(self, mark: bytes, source: Address, destination: Address) -> bytes:
        return self.outer(frames.echo(source, destination, mark, reply=True))


def changed(frame: bytes, offset: int, value: int) -> bytes:
    """One byte of the outer header changed, its checksum right again."""
    header = bytearray(frame[14:34])
    header[offset] = value
    header[10:12] = b"\0\0"
    header[10:12] = frames.checksum(bytes(header)).to_bytes(2, "big")
    return frame[:14] + bytes(header) + frame[34:]


def flipped(frame: bytes, offset: int) -> bytes:
    return frame[:offset] + bytes([frame[offset] ^ 0x55]) + frame[offset + 1 :]


Crafted = Callable[[Intruder, bytes], bytes]

PRIORITIES = {each: struct.pack("!HH", 0x8100, each << 13) for each in (3, 6)}
"""Tags of no VLAN (IEEE 802.1Q section 9.6)."""

DELIVERED: dict[str, tuple[str, Crafted]] = {
    "nvgre": ("red-web", lambda i, m: i.nvgre(i.inner(m))),
    "nvgre-v6": ("red-web", lambda i, m: i.nvgre(i.inner(m, version=6))),
    "nvgre-reserved-bits-6-to-12": ("red-web", lambda i, m: i.nvgre(i.inner(m), flags=0x23F8)),
    "rewrite": ("blue-web", lambda i, m: i.rewrite(m, i.vm_pa("blue-app"), i.vm_pa("blue-web"))),
    "rewrite-v6": ("blue-web", lambda i, m: i.rewrite(m, i.vm_pa("blue-app", 6), i.vm_pa("blue-web", 6))),
    "nvgre-of-priority-3": ("red-web", lambda i, m: i.outer(i.nvgre(i.inner(m))[14:], tag=PRIORITIES[3])),
    "nvgre-of-priority-6": ("red-web", lambda i, m: i.outer(i.nvgre(i.inner(m))[14:], tag=PRIORITIES[6])),
    "rewrite-of-priority-3": (
        "blue-web",
        lambda i, m: i.outer(i.rewrite(m, i.vm_pa("blue-app"), i.vm_pa("blue-web"))[14:], tag=PRIORITIES[3]),
    ),
}
"""The frames that the probes below are made from: VM that gets it, frame."""

TO_H1: dict[str, tuple[str, Crafted]] = {
    # the tunnel's ends
    "unknown-outer-source": ("outer-source", lambda i, m: changed(i.nvgre(i.inner(m)), 15, 99)),
    "own-pa-as-outer-source": ("outer-source", lambda i, m: i.nvgre(i.inner(m), source="h1")),
    "rewrite-pa-as-outer-source": (
        "outer-source",
        lambda i, m: i.outer(
            frames.ip(i.vm_pa("blue-app"), i.pa("h1"), frames.GRE, frames.nvgre(RED, i.inner(m)))
        ),
    ),
    "outer-fragment": ("outer-fragment", lambda i, m: changed(i.nvgre(i.inner(m)), 7, 1)),
    "bad-outer-checksum": ("outer-checksum", lambda i, m: flipped(i.nvgre(i.inner(m)), 14 + 10)),
    "not-gre": ("pa-protocol", lambda i, m: i.outer(frames.udp(i.pa("h2"), i.pa("h1"), (7, 7), m))),
    "other-mac": ("underlay-dst-mac", lambda i, m: i.outer(i.nvgre(i.inner(m))[14:], to="02:00:00:00:77:77")),
    # the GRE header
    "checksum-bit": ("gre-checksum-bit", lambda i, m: i.nvgre(i.inner(m), flags=0xA000)),
    "sequence-bit": ("gre-sequence-bit", lambda i, m: i.nvgre(i.inner(m), flags=0x3000)),
    "no-key": ("gre-no-key", lambda i, m: i.nvgre(i.inner(m), flags=0, key=False)),
    "version-1": ("gre-version", lambda i, m: i.nvgre(i.inner(m), flags=0x2001)),
    "bit-1": ("gre-reserved-bits", lambda i, m: i.nvgre(i.inner(m), flags=0x6000)),
    "bit-4": ("gre-reserved-bits", lambda i, m: i.nvgre(i.inner(m), flags=0x2800)),
    "bit-5": ("gre-reserved-bits", lambda i, m: i.nvgre(i.inner(m), flags=0x2400)),
    "not-transparent-ethernet": ("gre-protocol", lambda i, m: flipped(i.nvgre(i.inner(m)), 14 + 20 + 3)),
    "gre-of-two-bytes": (
        "gre-short",
        lambda i, m: i.outer(frames.ip(i.pa("h2"), i.pa("h1"), frames.GRE, b"\x20\0")),
    ),
    "vsid-0": ("vsid-reserved", lambda i, m: i.nvgre(i.inner(m), vsid=0)),
    "vsid-4095": ("vsid-reserved", lambda i, m: i.nvgre(i.inner(m), vsid=0xFFF)),
    "vsid-16777215": ("vsid-reserved", lambda i, m: i.nvgre(i.inner(m), vsid=0xFFFFFF)),
    "vsid-nobody-has": ("vsid-unknown", lambda i, m: i.nvgre(i.inner(m), vsid=123456)),
    # who speaks inside
    "other-tenants-vsid-with-the-right-pa": (
        "inner-source",
        lambda i, m: i.nvgre(i.inner(m, ip_address("10.1.1.30")), vsid=BLUE, source="ovs1"),
    ),
    "pa-of-a-host-without-that-vsid": (
        "inner-source-host",
        lambda i, m: i.nvgre(i.inner(m), vsid=BLUE, source="ovs1"),
    ),
    "ca-of-another-host": ("inner-source-host", lambda i, m: i.nvgre(i.inner(m), source="ovs1")),
    "ca-of-another-host-v6": (
        "inner-source-host",
        lambda i, m: i.nvgre(i.inner(m, version=6), source="ovs1"),
    ),
    "ca-of-the-destination-host": ("inner-source-host", lambda i, m: i.nvgre(i.inner(m, "red-api"))),
    "ca-nobody-has": ("inner-source", lambda i, m: i.nvgre(i.inner(m, ip_address("10.1.1.99")))),
    "ca-of-another-vm-network": ("inner-source", lambda i, m: i.nvgre(i.inner(m, "blue-db"))),
    "mac-of-another-vm": ("inner-src-mac", lambda i, m: i.nvgre(i.inner(m, mac=EVIL_MAC))),
    "subnet-without-the-router": (
        "inner-src-mac",
        lambda i, m: i.nvgre(i.inner(m, "blue-db", "blue-web", mac=i.lab.vms["blue-db"].mac), vsid=BLUE),
    ),
    "inner-vlan": ("inner-vlan", lambda i, m: i.nvgre(i.inner(m, tag=b"\x81\x00\x00\x05"))),
    "inner-priority": ("inner-vlan", lambda i, m: i.nvgre(i.inner(m, tag=PRIORITIES[3]))),
    # to whom
    "mac-of-nobody": ("inner-dst-mac", lambda i, m: i.nvgre(i.inner(m, to=EVIL_MAC))),
    "to-another-host": ("not-local", lambda i, m: i.nvgre(i.inner(m, "red-app", ip_address("10.1.1.30")))),
    "to-the-gateway": (
        "router-local",
        lambda i, m: i.nvgre(i.inner(m, "red-app", ip_address("10.1.1.1"), to=ROUTER_MAC)),
    ),
    "to-a-ca-nobody-has": ("no-record", lambda i, m: i.nvgre(i.inner(m, "red-app", ip_address("10.1.1.99")))),
    "inner-broadcast": ("group-address", lambda i, m: i.nvgre(i.inner(m, to=frames.BROADCAST))),
    "not-ip-inside": (
        "ethertype",
        lambda i, m: i.nvgre(frames.ethernet(i.lab.vms["red-web"].mac, i.lab.vms["red-app"].mac, 0x88B5, m)),
    ),
    # IP rewrite
    "rewrite-pas-of-two-tenants": (
        "rewrite-rdid",
        lambda i, m: i.rewrite(m, i.vm_pa("green-app"), i.vm_pa("blue-web")),
    ),
    "rewrite-pas-of-two-tenants-v6": (
        "rewrite-rdid",
        lambda i, m: i.rewrite(m, i.vm_pa("green-app", 6), i.vm_pa("blue-web", 6)),
    ),
    "rewrite-from-an-unknown-address": (
        "rewrite-source",
        lambda i, m: i.rewrite(m, ip_address("192.168.77.99"), i.vm_pa("blue-web")),
    ),
    "rewrite-from-a-shared-pa": (
        "rewrite-source",
        lambda i, m: i.rewrite(m, i.pa("h2"), i.vm_pa("blue-web")),
    ),
    "rewrite-from-the-own-host": (
        "rewrite-source",
        lambda i, m: i.rewrite(m, i.vm_pa("blue-api"), i.vm_pa("blue-web")),
    ),
}
"""Name -> (the drop reason, the frame to host h1)."""
