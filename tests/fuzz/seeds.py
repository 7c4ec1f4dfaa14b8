"""Writes the first corpora: valid packets of each kind, super-packets, change sets; addresses as in policy.h.

.venv/bin/python -m tests.fuzz.seeds
"""

import struct
from ipaddress import IPv4Address
from pathlib import Path

from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoRequest,
    ICMPv6MLReport2,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6NDOptSrcLLAddr,
    ICMPv6PacketTooBig,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
)
from scapy.layers.l2 import ARP, GRE, Dot1Q, Ether
from scapy.packet import Packet, Raw

from dataplane.binding.tables import (
    ChangeSet,
    FloodRow,
    MoveRow,
    PaKind,
    PaRow,
    PortRow,
    PrefixRow,
    ProviderRouteRow,
    RecordRow,
    RecordType,
    RouteRow,
    SourceRow,
    SubnetRow,
    Translation,
    delete,
    pack_address,
    put,
)

CORPUS = Path(__file__).parent / "corpus"
ROUTER = "02:15:0a:00:00:01"
UNDERLAY, REMOTE_HOST = "02:00:00:00:77:01", "02:00:00:00:77:02"
LOCAL, REMOTE = "02:bb:00:00:01:0a", "02:bb:00:00:01:14"


def _address(n: int) -> str:
    """fd00 0001 subnet n as policy.h lays the bytes out."""
    return f"fd00:1:1::{n:x}"


def tenant_frames() -> dict[str, Packet]:
    """From port 1 (10.1.1.10) or, the same bytes, from port 2."""
    eth = Ether(src=LOCAL, dst=REMOTE)
    ip4 = IP(src="10.1.1.10", dst="10.1.1.20")
    ip6 = IPv6(src=_address(10), dst=_address(20))
    return {
        "arp": Ether(src=LOCAL, dst="ff:ff:ff:ff:ff:ff")
        / ARP(hwsrc=LOCAL, psrc="10.1.1.10", pdst="10.1.1.20"),
        "udp4": eth / ip4 / UDP(sport=1, dport=2) / b"payload",
        "tcp4": eth / ip4 / TCP(options=[("MSS", 1460)]) / b"payload",
        "icmp4": eth / ip4 / ICMP() / b"payload",
        "unreachable4": eth / ip4 / ICMP(type=3, code=3) / IP(src="10.1.1.20", dst="10.1.1.10") / UDP(),
        "unreachable6": eth
        / ip6
        / ICMPv6DestUnreach(code=4)
        / IPv6(src=_address(20), dst=_address(10))
        / UDP(),
        "fragment4": eth / IP(src="10.1.1.10", dst="10.1.1.20", flags="MF") / UDP() / (b"x" * 16),
        "later4": eth / IP(src="10.1.1.10", dst="10.1.1.20", frag=3, proto=17) / Raw(b"x" * 16),
        "options4": eth / IP(src="10.1.1.10", dst="10.1.1.20", options=b"\x94\x04\0\0") / UDP(),
        "vlan4": Ether(src=LOCAL, dst=REMOTE) / Dot1Q(vlan=7) / ip4 / UDP() / b"payload",
        "routed4": Ether(src=LOCAL, dst=ROUTER) / IP(src="10.1.1.10", dst="10.1.2.20") / UDP(),
        "local4": Ether(src=LOCAL, dst=ROUTER) / IP(src="10.1.1.10", dst="10.1.2.10") / UDP(),
        "gateway4": Ether(src=LOCAL, dst=ROUTER) / IP(src="10.1.1.10", dst="10.1.1.1") / ICMP() / b"ping",
        "last-hop4": Ether(src=LOCAL, dst=ROUTER) / IP(src="10.1.1.10", dst="10.1.2.20", ttl=1) / UDP(),
        "last-hop6": Ether(src=LOCAL, dst=ROUTER)
        / IPv6(src=_address(10), dst="fd00:1:2::14", hlim=1)
        / UDP()
        / bytes(1300),
        "nobody4": Ether(src=LOCAL, dst=ROUTER) / IP(src="10.1.1.10", dst="10.1.2.99") / TCP(),
        "nowhere4": Ether(src=LOCAL, dst=ROUTER) / IP(src="10.1.1.10", dst="10.9.9.9") / UDP(),
        "service4": Ether(src=LOCAL, dst=ROUTER) / IP(src="10.1.1.10", dst="10.1.1.1") / UDP(),
        "protocol6": Ether(src=LOCAL, dst=ROUTER)
        / IPv6(src=_address(10), dst="fe80::1", nh=60)
        / Raw(bytes([253, 1, 1, 12]) + bytes(12)),
        "too-big4": eth / IP(src="10.1.1.10", dst="10.1.1.20", flags="DF") / UDP() / bytes(1600),
        "too-big6": eth / ip6 / UDP() / bytes(1600),
        "udp6": eth / ip6 / UDP() / b"payload",
        "tcp6": eth / ip6 / TCP() / b"payload",
        "icmp6": eth / ip6 / ICMPv6EchoRequest(data=b"ping"),
        "gateway6": Ether(src=LOCAL, dst=ROUTER)
        / IPv6(src=_address(10), dst=_address(1))
        / ICMPv6EchoRequest(),
        "extensions6": eth / ip6 / IPv6ExtHdrHopByHop() / IPv6ExtHdrRouting() / IPv6ExtHdrDestOpt() / UDP(),
        "fragment6": eth / ip6 / IPv6ExtHdrFragment(m=1) / UDP() / (b"x" * 8),
        "later6": eth / ip6 / IPv6ExtHdrFragment(offset=2, nh=17) / Raw(b"x" * 8),
        "ns": Ether(src=LOCAL, dst="33:33:ff:00:00:14")
        / IPv6(src=_address(10), dst="ff02::1:ff00:14", hlim=255)
        / ICMPv6ND_NS(tgt=_address(20))
        / ICMPv6NDOptSrcLLAddr(lladdr=LOCAL),
        "broadcast4": Ether(src=LOCAL, dst="ff:ff:ff:ff:ff:ff")
        / IP(src="10.1.1.10", dst="10.1.1.255")
        / UDP()
        / b"payload",
        "multicast6": Ether(src=LOCAL, dst="33:33:00:00:00:fb")
        / IPv6(src=_address(10), dst="ff02::fb")
        / UDP(),
        "mld": Ether(src=LOCAL, dst="33:33:00:00:00:16")
        / IPv6(src="::", dst="ff02::16", hlim=1)
        / IPv6ExtHdrHopByHop()
        / ICMPv6MLReport2(),
    }


def underlay_frames() -> dict[str, Packet]:
    """To host 1: NVGRE from host 2 for 5001, rewrite PAs for 6001, and what the provider network says."""
    eth = Ether(src=REMOTE_HOST, dst=UNDERLAY)
    inner = Ether(src=REMOTE, dst=LOCAL)
    gre = GRE(key_present=1, key=5001 << 8 | 7, proto=0x6558)
    outer4 = eth / IP(src="192.168.77.102", dst="192.168.77.101", proto=47, flags="DF", tos=3)
    outer6 = eth / IPv6(src="fd77::66", dst="fd77::65", nh=47)
    udp4 = inner / IP(src="10.1.1.20", dst="10.1.1.10", tos=2) / UDP() / b"payload"
    udp6 = inner / IPv6(src=_address(20), dst=_address(10)) / UDP() / b"payload"
    request = Ether(src=REMOTE, dst="ff:ff:ff:ff:ff:ff") / ARP(
        hwsrc=REMOTE, psrc="10.1.1.20", pdst="10.1.1.10"
    )
    routed = Ether(src=ROUTER, dst=LOCAL) / IP(src="10.1.2.20", dst="10.1.1.10") / UDP()
    broadcast = Ether(src=REMOTE, dst="ff:ff:ff:ff:ff:ff") / IP(src="10.1.1.20", dst="10.1.1.255") / UDP()
    return {
        "pop44": outer4 / gre / udp4,
        "pop46": outer4 / gre / udp6,
        "pop64": outer6 / gre / udp4,
        "pop66": outer6 / gre / udp6,
        "pop-arp": outer4 / gre / request,
        "pop-routed": outer4 / gre / routed,
        "pop-sequence": outer4 / GRE(key_present=1, seqnum_present=1, key=5001 << 8, proto=0x6558) / udp4,
        "rewrite4": eth / IP(src="192.168.77.120", dst="192.168.77.110") / TCP() / b"payload",
        "rewrite6": eth / IPv6(src="fd77::78", dst="fd77::6e") / UDP() / b"payload",
        "told4": eth
        / IP(src="192.168.77.120", dst="192.168.77.110")
        / ICMP(type=3, code=3)
        / IP(src="192.168.77.110", dst="192.168.77.120")
        / UDP(),
        "told6": eth
        / IPv6(src="fd77::78", dst="fd77::6e")
        / ICMPv6DestUnreach(code=4)
        / IPv6(src="fd77::6e", dst="fd77::78")
        / TCP(),
        "router-says4": eth
        / IP(src="203.0.113.9", dst="192.168.77.110")
        / ICMP(type=3, code=4, nexthopmtu=1400)
        / IP(src="192.168.77.110", dst="192.168.77.120")
        / UDP()
        / (b"payload4" * 20),
        "router-says6": eth
        / IPv6(src="2001:db8::9", dst="fd77::6e")
        / ICMPv6PacketTooBig(mtu=1400)
        / IPv6(src="fd77::6e", dst="fd77::78")
        / TCP()
        / (b"payload6" * 20),
        "pop-broadcast": outer4 / gre / broadcast,
        "pa-ping4": eth / IP(src="192.168.77.102", dst="192.168.77.101") / ICMP() / b"ping",
        "pa-ping6": eth / IPv6(src="fd77::66", dst="fd77::65") / ICMPv6EchoRequest(),
        "pa-arp": Ether(src=REMOTE_HOST, dst="ff:ff:ff:ff:ff:ff")
        / ARP(hwsrc=REMOTE_HOST, psrc="192.168.77.102", pdst="192.168.77.101"),
        "pa-na": eth / IPv6(src="fd77::66", dst="fd77::65", hlim=255) / ICMPv6ND_NA(tgt="fd77::66"),
    }


def trains() -> dict[str, tuple[int, list[Packet]]]:
    """Segments of one flow, one behind the other, that are merged towards ports 1 and 3: port in, frames."""
    from_wire = (
        Ether(src=REMOTE_HOST, dst=UNDERLAY)
        / IP(src="192.168.77.102", dst="192.168.77.101", proto=47, flags="DF")
        / GRE(key_present=1, key=5001 << 8 | 7, proto=0x6558)
        / Ether(src=REMOTE, dst=LOCAL)
    )
    routed = Ether(src=LOCAL, dst=ROUTER)
    ways = {
        "merge4": (0, from_wire / IP(src="10.1.1.20", dst="10.1.1.10", flags="DF")),
        "merge6": (0, from_wire / IPv6(src=_address(20), dst=_address(10))),
        "merge-local4": (1, routed / IP(src="10.1.1.10", dst="10.1.2.10", flags="DF")),
        "merge-local6": (1, routed / IPv6(src=_address(10), dst="fd00:1:2::a")),
    }
    segments = [TCP(sport=5, dport=6, seq=1000 + 200 * i, ack=9, flags="A") / bytes(200) for i in range(3)]
    segments.append(TCP(sport=5, dport=6, seq=1600, ack=9, flags="PA") / bytes(60))
    datagrams = [UDP(sport=5, dport=6) / bytes(size) for size in (200, 200, 200, 60)]
    streams = {}
    for name, (port, way) in ways.items():
        streams[name] = port, [way / segment for segment in segments]
        streams[f"{name}-udp"] = port, [way / datagram for datagram in datagrams]
    return streams


def path_input(
    port: int, frame: bytes, flags: int = 0, l4: int = 0, field: int = 0, gso_size: int = 0
) -> bytes:
    """As fuzz_path.c reads one frame; an input may hold several."""
    return struct.pack("<BBHHHH", port, flags, l4, field, gso_size, len(frame)) + frame


def path_super_packets() -> dict[str, bytes]:
    """TCP and UDP of port 1 with a partial checksum: to the wire, to port 3, as it is and cut."""
    partial_gso, tcp6, udp = 3, 4, 8
    eth, large = Ether(src=LOCAL, dst=REMOTE), bytes(3000)
    four = eth / IP(src="10.1.1.10", dst="10.1.1.20", flags="DF")
    six = eth / IPv6(src=_address(10), dst=_address(20))
    local = Ether(src=LOCAL, dst=ROUTER) / IPv6(src=_address(10), dst="fd00:1:2::a")
    return {
        "super4": path_input(1, bytes(four / TCP() / large), partial_gso, 34, 16, 1000),
        "super6": path_input(1, bytes(six / TCP() / large), partial_gso | tcp6, 54, 16, 1000),
        "super-local6": path_input(1, bytes(local / TCP() / large), partial_gso | tcp6, 54, 16, 1000),
        "super-udp4": path_input(1, bytes(four / UDP() / large), partial_gso | udp, 34, 6, 1000),
        "super-udp6": path_input(1, bytes(six / UDP() / large), partial_gso | udp, 54, 6, 1000),
    }


def rewrite_input(
    frame: bytes, flags: int = 0, gso_size: int = 0, l4: int = 0, field: int = 16, head: int = 3392
) -> bytes:
    """As fuzz_rewrite_in.c reads it."""
    addresses = bytes(range(1, 33))
    return struct.pack("<BBHHHH", flags & 0xFF, flags >> 8, gso_size, l4, field, head) + addresses + frame


def super_packets() -> dict[str, bytes]:
    """TCP and UDP with a partial checksum and more payload than fits a segment, or a slot."""
    partial_gso, tcp6, udp = 3, 0x100, 0x200
    eth = Ether(src=LOCAL, dst=REMOTE)
    four = bytes(eth / IP(src="10.1.1.10", dst="10.1.1.20") / TCP() / (b"payload4" * 300))
    six = bytes(eth / IPv6(src=_address(10), dst=_address(20)) / TCP() / (b"payload6" * 600))
    datagrams4 = bytes(eth / IP(src="10.1.1.10", dst="10.1.1.20") / UDP() / (b"payload4" * 300))
    datagrams6 = bytes(eth / IPv6(src=_address(10), dst=_address(20)) / UDP() / (b"payload6" * 600))
    return {
        "super4": rewrite_input(four, partial_gso, 1000, 34),
        "super6": rewrite_input(six, partial_gso | tcp6, 1448, 54, head=101),
        "super6-slots": rewrite_input(six, partial_gso | tcp6, 4500, 54),
        "super-udp4": rewrite_input(datagrams4, partial_gso | udp, 1000, 34, 6),
        "super-udp6": rewrite_input(datagrams6, partial_gso | udp, 1448, 54, 6, head=101),
        "partial4": rewrite_input(four, 1, 0, 34),
    }


def change_sets() -> dict[str, ChangeSet]:
    """Rows of every kind, put and deleted, that fit the policy of policy.h."""
    mac = bytes.fromhex("02bb00000130")
    v4, pa = pack_address(IPv4Address("10.1.1.48")), pack_address(IPv4Address("192.168.77.102"))
    rewrite_pa = pack_address(IPv4Address("192.168.77.130"))
    far = pack_address(IPv4Address("10.9.0.0"))
    any_address = pack_address(IPv4Address("0.0.0.0"))
    pa_row = PaRow(rewrite_pa, 2, 4, PaKind.REWRITE, 24)
    record = RecordRow(v4, pa, 5001, 2, 0, mac, 4, 4, Translation.NVGRE, RecordType.STATIC)
    rewrite = RecordRow(v4, rewrite_pa, 6001, 2, 0, mac, 4, 4, Translation.REWRITE, RecordType.STATIC)
    wildcard = RecordRow(
        any_address, pa, 5001, 2, 0, mac, 4, 4, Translation.NVGRE, RecordType.GATEWAY_WILDCARD
    )
    route = RouteRow(far, v4, 1, 5001, 4, 16)
    move = MoveRow(v4, 5001, 2, 4)
    source = SourceRow(far, 1, 4, 16)
    provider_route = ProviderRouteRow(any_address, pa, 4, 0)
    subnet, prefix = SubnetRow(5003, 1), PrefixRow(far, any_address, 5003, 4, 16)
    port = PortRow(1, 5001, mac)
    flood, flooded = FloodRow(pa, 5002, 2, 4), SubnetRow(5002, 1, 500, 20)
    return {
        "record": ChangeSet(2, (put([record]), delete([record]))),
        "rewrite": ChangeSet(2, (put([pa_row]), put([rewrite]), delete([rewrite]), delete([pa_row]))),
        "wildcard": ChangeSet(2, (put([wildcard]),), atomic=True),
        "route": ChangeSet(2, (put([record]), put([route]), delete([route]))),
        "move": ChangeSet(2, (put([move]), put([record]), delete([move]))),
        "source": ChangeSet(2, (put([source]), delete([source]))),
        "provider-route": ChangeSet(2, (put([provider_route]), delete([provider_route]))),
        "flood": ChangeSet(2, (put([flood]), put([flooded]), delete([flood]))),
        "subnet": ChangeSet(2, (put([subnet]), put([prefix]), delete([prefix]), delete([subnet]))),
        "port": ChangeSet(2, (put([port]),)),
    }


def main() -> None:
    (CORPUS / "fuzz_change").mkdir(parents=True, exist_ok=True)
    for name, change_set in change_sets().items():
        (CORPUS / "fuzz_change" / name).write_bytes(change_set.encode())
    tenant = {name: bytes(frame) for name, frame in tenant_frames().items()}
    underlay = {name: bytes(frame) for name, frame in underlay_frames().items()}
    (CORPUS / "fuzz_parse").mkdir(parents=True, exist_ok=True)
    (CORPUS / "fuzz_path").mkdir(parents=True, exist_ok=True)
    (CORPUS / "fuzz_rewrite_in").mkdir(parents=True, exist_ok=True)
    for name, frame in (tenant | underlay).items():
        (CORPUS / "fuzz_parse" / name).write_bytes(bytes(8) + frame)
        if not Ether(frame).haslayer(ARP):
            (CORPUS / "fuzz_rewrite_in" / name).write_bytes(rewrite_input(frame))
    for name, data in super_packets().items():
        (CORPUS / "fuzz_rewrite_in" / name).write_bytes(data)
    for port, frames in ((1, tenant), (2, tenant), (0, underlay)):
        for name, frame in frames.items():
            (CORPUS / "fuzz_path" / f"{port}-{name}").write_bytes(path_input(port, frame))
    for name, (port, train) in trains().items():
        joined = b"".join(path_input(port, bytes(frame)) for frame in train)
        (CORPUS / "fuzz_path" / name).write_bytes(joined)
    for name, data in path_super_packets().items():
        (CORPUS / "fuzz_path" / name).write_bytes(data)


if __name__ == "__main__":
    main()
