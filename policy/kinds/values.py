"""Of what objects are made: addresses, ranges, MACs, choices, and the numbers that bound them."""

from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import NewType

Address = IPv4Address | IPv6Address
Prefix = IPv4Network | IPv6Network
Mac = NewType("Mac", str)
"""Six lower-case hex octets with colons; "" where none is stated."""

Labels = tuple[tuple[str, str], ...]
"""Key and value, sorted: what operators tell objects apart by; nothing else follows from them."""

NO_MAC = Mac("")
ROUTER_MAC = Mac("02:15:0a:00:00:01")
"""The MAC of every gateway of every VM network on every host; nothing else may have it."""

UNDERLAY_PORT = "underlay"
"""The name of the provider-facing port in captures and counters; no tenant's port may be called so."""

FIRST_VSID, LAST_VSID = 4096, 16_777_214  # RFC 7637 section 3.4 reserves the rest
DEFAULT_UNDERLAY_MTU = 1500
MAX_BURST, MAX_BYTE_RATE = 2**32 - 1, 10**12
MAX_TAP_QUEUES = 256  # of one TAP, the kernel's MAX_TAP_QUEUES
MIN_BURST_PACKETS, MIN_BURST_BYTES = 64, 128 << 10
DEFAULT_BROADCAST_RATE = 1000
IPV6_MIN_MTU = 1280  # RFC 8200 section 5: what a tenant's IPv6 packet may always be
NVGRE_OVERHEAD = {4: 20 + 8 + 14, 6: 40 + 8 + 14}
"""Outer IP family -> octets by which NVGRE lengthens an IP packet: outer IP, GRE with key, inner Ethernet."""


class Translation(StrEnum):
    """How a packet for a customer address crosses the provider network."""

    NVGRE = "nvgre"
    REWRITE = "rewrite"


class RecordType(StrEnum):
    """What a lookup record is for."""

    STATIC = "static"
    DYNAMIC = "dynamic"
    GATEWAY_WILDCARD = "gateway-wildcard"
    L2ONLY = "l2only"

    @property
    def is_of_no_address(self) -> bool:
        """Whether its customer address is 0.0.0.0 or ::."""
        return self in (RecordType.GATEWAY_WILDCARD, RecordType.L2ONLY)


class Driver(StrEnum):
    """How the underlay device, or a VM's, is opened."""

    AUTO = "auto"
    AFXDP = "afxdp"
    PACKET = "packet"


class Spin(StrEnum):
    """Whether idle workers look on for a port's packets before they sleep."""

    AUTO = "auto"
    NEVER = "never"


class AttachKind(StrEnum):
    """What a port's device is: a TAP or veth pair that isolane makes, or a device that exists. VM: a TAP that
    isolane makes and a hypervisor opens.
    """

    TAP = "tap"
    VETH = "veth"
    DEVICE = "device"
    VM = "vm"


@dataclass(frozen=True, slots=True)
class AddressRange:
    """Addresses of one family from `first` to `last`, both included."""

    first: Address
    last: Address

    def __str__(self) -> str:
        return f"{self.first}-{self.last}"

    def values(self) -> range:
        """The addresses as integers; take the size as stop - start, len() can't count an IPv6 pool."""
        return range(int(self.first), int(self.last) + 1)


@dataclass(frozen=True, slots=True)
class MacRange:
    """MACs from `first` to `last`, both included."""

    first: Mac
    last: Mac

    def __str__(self) -> str:
        return f"{self.first}-{self.last}"

    def values(self) -> range:
        return range(mac_value(self.first), mac_value(self.last) + 1)


def mac_value(mac: Mac) -> int:
    return int(mac.replace(":", ""), 16)
