"""The intent of `isolane bench control`: as many records as asked for, as one host sees them. Pure."""

import struct
from dataclasses import dataclass
from functools import cached_property
from ipaddress import IPv4Address, IPv4Network

from policy.kinds.model import (
    Attach,
    AttachKind,
    Host,
    Intent,
    LogicalNetwork,
    Mac,
    NetworkSite,
    Object,
    Port,
    SiteSubnet,
    Underlay,
    VMNetwork,
    VMSubnet,
    intent_of,
)
from policy.rules.tenant import MAX_LOCAL_PORTS

HOST = "host-0"
"""Under test."""
UNDERLAY_DEVICE = "underlay"
VM_NAMESPACE, VM_DEVICE = "vm", "eth0"
VM_ADDRESS = IPv4Address("10.255.0.10")
VM_MAC = Mac("02:bb:00:00:00:01")

PORTS_A_HOST = 500
"""Unless a number of hosts is asked for."""

_MIN_HOSTS = 100
_SITE = IPv4Network("172.16.0.0/12")
_TENANTS = 10
_PORTS_A_SUBNET = 4_000
_FIRST_VSID = 5_000
_CHANGES = "changes"
_CHANGES_PREFIX = IPv4Network("10.255.0.0/16")
_UDP, _DISCARD = 17, 9
_FIRST_CHANGE = int(VM_ADDRESS) + 1


def default_hosts(records: int) -> int:
    return max(_MIN_HOSTS, -(-records // PORTS_A_HOST))


def least_hosts(records: int) -> int:
    """What so many need, besides the one under test."""
    return -(-records // MAX_LOCAL_PORTS) + 1


@dataclass(frozen=True)
class Plan:
    """records: lookup records of NVGRE subnets with one IPv4 CA each, in the VM networks of ten tenants that
    have a port on the host under test, spread over the other hosts.
    """

    records: int
    hosts: int

    @cached_property
    def tenants(self) -> int:
        return min(_TENANTS, self.records)

    def intent(self) -> Intent:
        subnets = [self._subnet(*place) for place in dict.fromkeys(map(self._place, self._numbers))]
        everything: list[Object] = [
            LogicalNetwork("fabric"),
            NetworkSite("site", "fabric", (SiteSubnet(_SITE),)),
            *(self._host(number) for number in range(self.hosts)),
            *(VMNetwork(_tenant(number), "net", "fabric") for number in range(self.tenants)),
            VMSubnet(_tenant(0), _CHANGES, "net", (_CHANGES_PREFIX,), vsid=_FIRST_VSID - 1),
            *subnets,
            self.vm,
            *map(self._port, self._numbers),
        ]
        return intent_of(everything)

    @property
    def vm(self) -> Port:
        """The VM that sends, in the subnet that changes are made in."""
        attach = Attach(AttachKind.TAP, VM_DEVICE, VM_NAMESPACE)
        return Port(_tenant(0), "vm", _CHANGES, HOST, (VM_ADDRESS,), VM_MAC, attach=attach)

    @property
    def underlay_mac(self) -> Mac:
        return _underlay_mac(0)

    def pa(self, host: int) -> IPv4Address:
        return _SITE.network_address + host + 1

    def change(self, number: int, host: int) -> Port:
        """The port that a change is about, on the host of that number."""
        address = IPv4Address(_FIRST_CHANGE + number)
        mac = _mac(0x02_CC_00_00_00_00 + number)
        return Port(_tenant(0), f"change-{number}", _CHANGES, _host_name(host), (address,), mac)

    # ---- the objects of a number

    @property
    def _numbers(self) -> range:
        """Of all ports but the VM."""
        return range(1, self.records)

    def _place(self, number: int) -> tuple[int, int]:
        """A port's tenant and its subnet's number there."""
        return number % self.tenants, number // self.tenants // _PORTS_A_SUBNET

    def _host(self, number: int) -> Host:
        underlay = Underlay(UNDERLAY_DEVICE, _underlay_mac(number), 1600)
        return Host(_host_name(number), "site", (self.pa(number),), underlay)

    def _subnet(self, tenant: int, rank: int) -> VMSubnet:
        vsid = _FIRST_VSID + rank * self.tenants + tenant
        return VMSubnet(_tenant(tenant), f"subnet-{rank}", "net", (_prefix(rank),), vsid=vsid)

    def _port(self, number: int) -> Port:
        """The first one of a tenant is on the host under test."""
        tenant, rank = self._place(number)
        host = 0 if number < self.tenants else 1 + number % (self.hosts - 1)
        address = _prefix(rank).network_address + 10 + number // self.tenants % _PORTS_A_SUBNET
        mac = _mac(0x02_10_00_00_00_00 + number)
        return Port(_tenant(tenant), f"port-{number}", f"subnet-{rank}", _host_name(host), (address,), mac)


def datagram(destination: Mac, address: IPv4Address) -> bytes:
    """A frame from the VM to a CA in its subnet; UDP without a checksum (RFC 768)."""
    udp = struct.pack("!HHHH", _DISCARD, _DISCARD, 8, 0)
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 0, 0x4000, 64, _UDP, 0)
    addresses = VM_ADDRESS.packed + address.packed
    total = sum(struct.unpack("!10H", head + addresses))
    head = head[:10] + struct.pack("!H", 0xFFFF - total % 0xFFFF)
    return bytes.fromhex((destination + VM_MAC).replace(":", "")) + b"\x08\x00" + head + addresses + udp


def _tenant(number: int) -> str:
    return f"tenant-{number}"


def _host_name(number: int) -> str:
    return f"host-{number}"


def _prefix(rank: int) -> IPv4Network:
    return IPv4Network((int(IPv4Address("10.0.0.0")) + (rank << 12), 20))


def _underlay_mac(host: int) -> Mac:
    return _mac(0x02_AA_00_00_00_00 + host)


def _mac(value: int) -> Mac:
    return Mac(value.to_bytes(6, "big").hex(":"))
