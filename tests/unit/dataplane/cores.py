"""A small policy, ports in memory and datagrams for tests of the real core."""

from ipaddress import ip_address

from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether

from dataplane.binding import tables
from dataplane.binding.core import (
    Config,
    Offload,
    PortConfig,
    PortKind,
)
from dataplane.binding.tables import (
    NO_ADDRESS,
    PaKind,
    RecordType,
    Section,
    Translation,
    pack_address,
)

ROUTER = bytes.fromhex("02000000aaaa")
UNDERLAY_MAC = bytes.fromhex("020000007701")
PEER_MAC = bytes.fromhex("020000007702")
MACS = {1: bytes.fromhex("02bb00000010"), 2: bytes.fromhex("02bb00000011"), 9: bytes.fromhex("02bb00000012")}
CAS = {1: ip_address("10.1.1.10"), 2: ip_address("10.1.1.11"), 9: ip_address("10.1.1.12")}
VSID = 5001
SELF, OTHER = 1, 2
PAS = {SELF: ip_address("192.168.77.101"), OTHER: ip_address("192.168.77.102")}


def text(mac: bytes) -> str:
    return mac.hex(":")


def record(vm: int, host: int) -> tables.RecordRow:
    return tables.RecordRow(
        ca=pack_address(CAS[vm]),
        provider_address=pack_address(PAS[host]),
        vsid=VSID,
        host=host,
        port=vm if host == SELF else 0,
        mac=MACS[vm],
        family=4,
        pa_family=4,
        translation=Translation.NVGRE,
        type=RecordType.STATIC,
    )


def policy() -> tuple[Section, ...]:
    """VMs 1 and 2 on this host, VM 9 on the other, all in one subnet."""
    return (
        tables.put([tables.PaRow(pack_address(pa), host, 4, PaKind.SHARED, 24) for host, pa in PAS.items()]),
        tables.put([tables.ProviderRouteRow(pack_address(ip_address("192.168.77.0")), NO_ADDRESS, 4, 24)]),
        tables.put([tables.SubnetRow(VSID, 1)]),
        tables.put(
            [
                tables.PrefixRow(
                    pack_address(ip_address("10.1.1.0")), pack_address(ip_address("10.1.1.1")), VSID, 4, 24
                )
            ]
        ),
        tables.put([tables.PortRow(vm, VSID, MACS[vm]) for vm in (1, 2)]),
        tables.put([record(1, SELF), record(2, SELF), record(9, OTHER)]),
    )


def config(workers: int = 1, slots: int = 0) -> Config:
    return Config(self_host=SELF, router_mac=ROUTER, hash_key=(1, 2), workers=workers, slots=slots)


def memory_port(name: str, mac: bytes, mtu: int = 1500, offloads: Offload = Offload.NONE) -> PortConfig:
    return PortConfig(name, PortKind.MEM, mac, mtu, offloads)


def datagram(source: int, destination: int, payload: bytes = b"isolane") -> bytes:
    frame = Ether(src=text(MACS[source]), dst=text(MACS[destination])) / IP(
        src=str(CAS[source]), dst=str(CAS[destination])
    )
    return bytes(frame / UDP(sport=7, dport=9) / payload)
