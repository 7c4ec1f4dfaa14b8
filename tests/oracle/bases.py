"""One frame of each kind that is right, for the sweeps to change."""

from collections.abc import Iterator

from scapy.layers.inet import ICMP, IPOption
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoRequest,
    ICMPv6MLReport2,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6ND_RA,
    ICMPv6ND_RS,
    ICMPv6NDOptDstLLAddr,
    ICMPv6NDOptSrcLLAddr,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
    PadN,
)
from scapy.layers.ipsec import AH
from scapy.layers.l2 import ARP, Dot1Q
from scapy.layers.sctp import SCTP, SCTPChunkData
from scapy.packet import Packet, Raw

from dataplane.binding.core import Offload
from tests.oracle.crafted import link_local
from tests.oracle.frames import PEER_MAC, arriving, between, ether, from_host, ip, tcp, udp
from tests.oracle.strategies import TAKES_ALL
from tests.oracle.world import (
    GATEWAY_VM,
    LOCAL,
    LOCAL_APPLIANCE,
    OUTSIDE,
    ROUTER_MAC,
    SHARED,
    UNDERLAY_MAC,
    World,
    gateway,
)

UNDERLAY = 0
WORLDS = {
    "plain": World(rewrite=frozenset(((0, 0), (0, 1))), wildcard=20),
    "offloads": World(
        rewrite=frozenset(((0, 0), (0, 1), (1, 0))),
        wildcard=GATEWAY_VM,
        offloads=TAKES_ALL,
        underlay_offloads=TAKES_ALL,
        outer={2: 6, 3: 6, 4: 6},
    ),
    "tunnelled super-packets": World(
        rewrite=frozenset(((1, 0),)),
        wildcard=GATEWAY_VM,
        offloads=TAKES_ALL,
        underlay_offloads=TAKES_ALL | Offload.NVGRE,
        outer={2: 6, 3: 4, 4: 6},
    ),
}
BLUE, RED = 0, 1
VM = World().vm
BLUE_VM, RED_VM = VM(BLUE, 0, LOCAL), VM(RED, 0, LOCAL)
TO_ALL, TO_GROUP = b"\xff" * 6, bytes.fromhex("3333ff00000b")
ECHO = {4: ICMP(type=8, id=1, seq=2) / b"ping", 6: ICMPv6EchoRequest(id=1, seq=2, data=b"ping")}
ERROR = {4: ICMP(type=3, code=1) / bytes(28), 6: ICMPv6DestUnreach() / bytes(48)}
SEND = {4: "proto", 6: "nh"}

Base = tuple[int, Packet]


def extension_chains() -> dict[str, Packet]:
    return {
        "hop-by-hop": IPv6ExtHdrHopByHop(options=[PadN(optdata=bytes(4))]),
        "routing": IPv6ExtHdrRouting(addresses=["fd00::9"], segleft=0),
        "destination": IPv6ExtHdrDestOpt(options=[PadN(optdata=bytes(12))]),
        "ah": AH(icv=bytes(12), payloadlen=4),
        "first-fragment": IPv6ExtHdrFragment(m=1, offset=0, id=7),
        "later-fragment": IPv6ExtHdrFragment(m=0, offset=4, id=7),
        "atomic": IPv6ExtHdrFragment(m=0, offset=0, id=7),
    }


def tenant_bases() -> Iterator[tuple[str, Base]]:
    for network, name in ((BLUE, "rewrite"), (RED, "nvgre")):
        vm = VM(network, 0, LOCAL)
        places = {
            "local": VM(network, 0, LOCAL_APPLIANCE),
            "local-routed": VM(network, 1, LOCAL),
            "remote": VM(network, 0, 20),
            "remote-routed": VM(network, 1, 20),
        }
        for place, to in places.items():
            for family in (4, 6):
                yield f"{name} {place} tcp{family}", (vm.port, between(vm, to, family, tcp(b"data")))
        for family in (4, 6):
            to = VM(network, 0, 20)
            l4 = {"udp": udp(b"data"), "echo": ECHO[family], "error": ERROR[family]}
            for kind, payload in l4.items():
                yield f"{name} remote {kind}{family}", (vm.port, between(vm, to, family, payload))
            sctp = SCTP(sport=1, dport=2) / SCTPChunkData(data=b"abcd")
            yield f"{name} remote sctp{family}", (vm.port, between(vm, to, family, sctp))
            for proto in (33, 136):  # DCCP, UDP-Lite
                header = Raw(bytes(range(1, 25)))
                yield (
                    f"{name} remote proto{proto} {family}",
                    (
                        vm.port,
                        between(vm, to, family, header, **{SEND[family]: proto}),
                    ),
                )
    yield from special_tenant_bases()


def special_tenant_bases() -> Iterator[tuple[str, Base]]:
    vm, to = BLUE_VM, VM(BLUE, 0, 20)
    port, mac = vm.port, vm.mac.hex(":")
    yield "tagged", (port, ether(to.mac, vm.mac) / Dot1Q(vlan=5) / ip(vm.ca(4), to.ca(4)) / udp())
    first = between(vm, to, 4, udp(bytes(16)), flags="MF", id=3)
    yield "first fragment", (port, first)
    yield "later fragment", (port, between(vm, to, 4, Raw(bytes(16)), frag=3, proto=17))
    yield "options", (port, between(vm, to, 4, tcp(b"x"), options=[IPOption(b"\x01\x01\x01\x00")]))
    for name, chain in extension_chains().items():
        payload = Raw(bytes(16)) if "later" in name else udp(bytes(16))
        packet = between(vm, to, 6, chain / payload)
        packet[chain.__class__].nh = 17
        yield f"extension {name}", (port, packet)
    for family in (4, 6):
        out = ether(ROUTER_MAC, vm.mac)
        yield f"gateway{family}", (port, out / ip(vm.ca(family), gateway(0, family)) / ECHO[family])
        yield f"outside{family}", (port, out / ip(vm.ca(family), OUTSIDE[family]) / udp())
        behind = {4: "10.9.0.1", 6: "fd00:9::1"}[family]
        yield f"behind a next hop{family}", (port, out / ip(vm.ca(family), behind) / udp())
    nop = {"options": [IPOption(b"\x01\x01\x01\x00")]}
    yield "gateway options", (port, ether(ROUTER_MAC, vm.mac) / ip(vm.ca(4), gateway(0, 4), **nop) / ECHO[4])
    yield "arp", (port, ether(TO_ALL, vm.mac) / ARP(op=1, hwsrc=mac, psrc="10.1.1.10", pdst="10.1.1.20"))
    yield (
        "mld",
        (port, ether(TO_GROUP, vm.mac) / ip(link_local(vm.mac), "ff02::16", ttl=1) / ICMPv6MLReport2()),
    )


def nd(source: object, destination: object, macs: tuple[bytes, bytes], message: Packet) -> Packet:
    return ether(*macs) / IPv6(src=str(source), dst=str(destination), hlim=255) / message


def nd_bases() -> Iterator[tuple[str, Base]]:
    """From a VM, to the underlay; inside the tunnel they are in underlay_bases()."""
    vm, macs = BLUE_VM, (TO_GROUP, BLUE_VM.mac)
    slla, tlla = (kind(lladdr=vm.mac.hex(":")) for kind in (ICMPv6NDOptSrcLLAddr, ICMPv6NDOptDstLLAddr))
    own, group = vm.ca(6), "ff02::1:ff00:b"
    yield "ns", (vm.port, nd(own, group, macs, ICMPv6ND_NS(tgt="fd00:1:1::11") / slla / slla))
    yield "ns router", (vm.port, nd(link_local(vm.mac), group, macs, ICMPv6ND_NS(tgt="fe80::1") / slla))
    yield "ns nobody", (vm.port, nd("::", group, macs, ICMPv6ND_NS(tgt="fd00:1:1::11")))
    atomic = IPv6ExtHdrFragment(nh=58) / ICMPv6ND_NS(tgt="fd00:1:1::11")
    yield "ns fragment", (vm.port, nd(own, group, macs, atomic))
    yield "na", (vm.port, nd(own, "ff02::1", macs, ICMPv6ND_NA(tgt=str(own)) / tlla))
    yield "rs", (vm.port, nd(own, "ff02::2", macs, ICMPv6ND_RS() / slla))
    yield "ra", (vm.port, nd(link_local(vm.mac), "ff02::1", macs, ICMPv6ND_RA()))
    peer, ours = SHARED[2, 6], SHARED[1, 6]
    macs = UNDERLAY_MAC, PEER_MAC
    slla, tlla = (kind(lladdr=PEER_MAC.hex(":")) for kind in (ICMPv6NDOptSrcLLAddr, ICMPv6NDOptDstLLAddr))
    yield "underlay ns", (UNDERLAY, nd(peer, ours, macs, ICMPv6ND_NS(tgt=str(ours)) / slla))
    yield "underlay ns nobody", (UNDERLAY, nd("::", ours, macs, ICMPv6ND_NS(tgt=str(ours))))
    yield "underlay na", (UNDERLAY, nd(peer, ours, macs, ICMPv6ND_NA(tgt=str(peer)) / tlla))


def underlay_bases() -> Iterator[tuple[str, Base]]:
    peer = VM(RED, 0, 20)
    for outside in (4, 6):
        for family in (4, 6):
            inner = arriving(peer, RED_VM, family, tcp(b"data"), tos=2)
            yield f"nvgre{outside} tcp{family}", (UNDERLAY, from_host(2, RED_VM.vsid, inner, outside, tos=1))
            routed = arriving(VM(RED, 1, 20), RED_VM, family, udp(b"data"))
            yield f"nvgre{outside} routed{family}", (UNDERLAY, from_host(2, RED_VM.vsid, routed, outside))
        question = ether(TO_ALL, peer.mac) / ARP(
            op=1, hwsrc=peer.mac.hex(":"), psrc="10.1.1.20", pdst="10.1.1.10"
        )
        yield f"nvgre{outside} arp", (UNDERLAY, from_host(2, RED_VM.vsid, question, outside))
        for name, source in (("", peer.ca(6)), (" link-local", link_local(peer.mac))):
            asked = nd(source, "ff02::1:ff00:10", (TO_GROUP, peer.mac), ICMPv6ND_NS(tgt=str(RED_VM.ca(6))))
            yield f"nvgre{outside} ns{name}", (UNDERLAY, from_host(2, RED_VM.vsid, asked, outside))
        stray = ether(RED_VM.mac, peer.mac) / ip(link_local(peer.mac), RED_VM.ca(6)) / udp()
        yield f"nvgre{outside} link-local", (UNDERLAY, from_host(2, RED_VM.vsid, stray, outside))
    behind_local = {4: "10.8.0.9", 6: "fd00:8::9"}
    for subnet in (0, 1):
        near, appliance = VM(RED, subnet, 20), VM(RED, subnet, LOCAL_APPLIANCE)
        for family, address in behind_local.items():
            inner = ether(appliance.mac, near.mac) / ip(near.ca(family), address) / udp()
            yield f"nvgre to behind{family} in {subnet}", (UNDERLAY, from_host(2, near.vsid, inner))
    through = {4: "10.9.0.1", 6: "fd00:9::1"}
    to_underlay = ether(UNDERLAY_MAC, PEER_MAC)
    for family in (4, 6):
        behind = ether(RED_VM.mac, peer.mac) / ip(through[family], RED_VM.ca(family)) / udp()
        yield f"nvgre from behind{family}", (UNDERLAY, from_host(2, RED_VM.vsid, behind))
        pas = VM(BLUE, 0, 20).rewrite_pa(family), BLUE_VM.rewrite_pa(family)
        for name, payload in (("tcp", tcp(b"x")), ("udp", udp(b"x")), ("echo", ECHO[family])):
            yield f"rewritten {name}{family}", (UNDERLAY, to_underlay / ip(*pas) / payload)
        yield (
            f"ping{family}",
            (UNDERLAY, to_underlay / ip(SHARED[2, family], SHARED[1, family]) / ECHO[family]),
        )
    nop = {"options": [IPOption(b"\x01\x01\x01\x00")]}
    yield "ping options", (UNDERLAY, to_underlay / ip(SHARED[2, 4], SHARED[1, 4], **nop) / ECHO[4])
    who_has = ARP(op=1, hwsrc=PEER_MAC.hex(":"), psrc=str(SHARED[2, 4]), pdst=str(SHARED[1, 4]))
    yield "underlay arp", (UNDERLAY, ether(TO_ALL, PEER_MAC) / who_has)


BASES = dict([*tenant_bases(), *nd_bases(), *underlay_bases()])
