"""The demo's checks by name, in the order of the table. Each returns what was seen or raises TrafficError."""

import os
from collections.abc import Callable, Iterator
from functools import cache, partial
from ipaddress import ip_address
from itertools import product

from policy.kinds.model import ROUTER_MAC
from tools.demo.frames import ETHERTYPES, GRE, GRE_KEY_PRESENT
from tools.demo.host import HOST_ADDRESSES, pose_as_router
from tools.demo.isolation import arp_probe, echo_probe, nvgre_probe, prove_dropped, udp_probe
from tools.demo.lab import DemoLab
from tools.demo.vms import TrafficError, connection, echo_by_tcp, ping, send_udp, stream
from tools.demo.wire import Capture, Packet, decode

Checked = Callable[[DemoLab], str]

TENANTS = ("blue", "red")
VERSIONS = (4, 6)
PEERS = {"cross": "app", "local": "api"}
"""Where a tenant's `web` finds its peer: on the other host, on its own."""
ROUTED_PEERS = {"cross": "blue-db", "local": "blue-cache"}

TTL = 64
BULK = 1 << 20
STREAM_SECONDS = 3.0
WIRE_FLOWS = 12
WORK_OF = {
    "blue": "a rewritten TCP packet of up to 64 KiB goes out whole: to cut it is left to the device",
    "red": "such a packet goes out whole under one outer header: to cut it is left to the device",
}
"""What there is to do for a tenant's stream."""


# ---- traffic -----------------------------------------------------------------------------------------------


def ping_peer(source: str, target: str, way: str, version: int, ttl: int, demo: DemoLab) -> str:
    """Pings; the answers' TTL says whether they were routed, and the wire whether they left the host."""
    vm, peer = demo.vms[source], demo.vms[target]
    token = os.urandom(16)
    with Capture(*demo.fabric()) as wire:
        echo = ping(vm, peer.addresses[version], payload=token + bytes(40))
        on_wire = sum(token in frame for frame, _ in wire.frames())
    if echo.ttl != ttl:
        raise TrafficError(f"{target} answers with TTL {echo.ttl}, not {ttl}")
    expected = 2 * len(echo.round_trips) if way == "cross" else 0
    if on_wire != expected:
        raise TrafficError(f"{target} answers, but {on_wire} frames of it were on the wire, not {expected}")
    return (
        f"{source} to {target}, {peer.addresses[version]}: {echo.text}, {on_wire or 'no'} frames on the wire"
    )


def tcp_peer(source: str, target: str, version: int, demo: DemoLab) -> str:
    vm, peer = demo.vms[source], demo.vms[target]
    return (
        f"{source} to {target}, {peer.addresses[version]}: {echo_by_tcp(vm, peer, version, os.urandom(BULK))}"
    )


def route(target: str, way: str, version: int, demo: DemoLab) -> str:
    """Into the tenant's other subnet: TTL one lower, and TCP both ways."""
    seen = ping_peer("blue-web", target, way, version, TTL - 1, demo)
    return f"{seen}; TCP {echo_by_tcp(demo.vms['blue-web'], demo.vms[target], version, os.urandom(BULK))}"


def gateway(tenant: str, version: int, demo: DemoLab) -> str:
    vm = demo.vms[f"{tenant}-web"]
    address = demo.gateways[vm.vsid][version]
    return f"{vm.name} to {address}: {ping(vm, address).text}"


def throughput(tenant: str, demo: DemoLab) -> str:
    client, server = demo.vms[f"{tenant}-web"], demo.vms[f"{tenant}-app"]
    rate = stream(client, server, 4, STREAM_SECONDS, demo.stop)
    if demo.stop.is_set():
        raise TrafficError("interrupted")
    way = f"{client.name} to {server.name}, IPv4; {WORK_OF[tenant]}"
    return f"{rate / 1e9:.2f} Gbit/s: one TCP stream for {STREAM_SECONDS:.0f} s, {way}"


# ---- isolation ---------------------------------------------------------------------------------------------


def foreign_address(demo: DemoLab) -> str:
    """An address that only the other tenant has leads nowhere; one that both have leads to the own VM."""
    vm, twin, foreign = demo.vms["red-web"], demo.vms["red-app"], demo.vms["blue-db"]
    to_router = (ROUTER_MAC, vm.mac)
    probes = [
        udp_probe("no-route", to_router, vm.addresses[version], foreign.addresses[version])
        for version in VERSIONS
    ]
    seen = prove_dropped(vm, probes, demo.counters, demo.places(vm))
    with Capture(demo.vms["blue-app"].namespace, demo.vms["blue-app"].device) as other:
        for version in VERSIONS:
            token = os.urandom(16)
            send_udp(vm, twin, version, 7002, token)
            if any(token in frame for frame, _ in other.frames()):
                raise TrafficError(f"what red-web sends to {twin.addresses[version]} reaches blue-app")
    return (
        f"{seen}; {twin.addresses[4]} and {twin.addresses[6]}, which both have, lead red-web to red-app alone"
    )


def foreign_mac(demo: DemoLab) -> str:
    vm, foreign = demo.vms["red-web"], demo.vms["blue-db"]
    probes = [
        udp_probe("no-record", (foreign.mac, vm.mac), vm.addresses[version], foreign.addresses[version])
        for version in VERSIONS
    ]
    return prove_dropped(vm, probes, demo.counters, demo.places(vm))


def forged_ca(demo: DemoLab) -> str:
    """The address of a VM beside it, and one of the other tenant's, as source of IP and ARP."""
    vm, peer = demo.vms["red-web"], demo.vms["red-app"]
    probes = []
    for claimed in (demo.vms["red-api"], demo.vms["blue-db"]):
        probes += [
            udp_probe("src-address", (peer.mac, vm.mac), claimed.addresses[version], peer.addresses[version])
            for version in VERSIONS
        ]
        probes.append(arp_probe("arp-sender", vm.mac, claimed.addresses[4], demo.gateways[vm.vsid][4]))
    return prove_dropped(vm, probes, demo.counters, demo.places(vm))


def forged_mac(demo: DemoLab) -> str:
    vm, peer = demo.vms["red-web"], demo.vms["red-app"]
    probes = [
        udp_probe("src-mac", (peer.mac, claimed), vm.addresses[version], peer.addresses[version])
        for claimed in (demo.vms["red-api"].mac, ROUTER_MAC)
        for version in VERSIONS
    ]
    return prove_dropped(vm, probes, demo.counters, demo.places(vm))


def forged_pa(demo: DemoLab) -> str:
    """A VM that talks to the provider network itself: NVGRE of its own making, in the hosts' name and in
    its own.
    """
    vm, target = demo.vms["red-web"], demo.vms["blue-app"]
    to_router = (ROUTER_MAC, vm.mac)
    local, remote = (ip_address(demo.hosts[name]["providerAddresses"][0]) for name in ("h1", "h2"))
    own = vm.addresses[4]
    probes = [
        nvgre_probe("src-address", to_router, local, remote, target.vsid),
        nvgre_probe("src-address", to_router, remote, local, target.vsid),
        nvgre_probe("no-route", to_router, own, remote, target.vsid),
        udp_probe("no-route", to_router, own, target.provider_addresses[4]),
        udp_probe("no-route", to_router, vm.addresses[6], target.provider_addresses[6]),
    ]
    return prove_dropped(vm, probes, demo.counters, demo.places(vm))


def the_host(demo: DemoLab) -> str:
    """The host's own addresses, while it forwards and answers ARP for everybody (ip_forward, proxy_arp)."""
    vm = demo.vms["red-api"]
    host = pose_as_router(demo.hosts[vm.host]["netns"], demo.hosts[vm.host]["underlay"]["device"])
    probes = [arp_probe("arp-unknown", vm.mac, vm.addresses[4], HOST_ADDRESSES[4])]
    for version in VERSIONS:
        pair = vm.addresses[version], HOST_ADDRESSES[version]
        probes.append(echo_probe("no-route", (ROUTER_MAC, vm.mac), *pair))
        probes += [echo_probe("no-record", (mac, vm.mac), *pair) for mac in host.macs]
    seen = prove_dropped(vm, probes, demo.counters, demo.places(vm))
    if echoes := host.echoes_received():
        raise TrafficError(f"{seen}, but the host's stack received {echoes} of them")
    addresses = " and ".join(map(str, HOST_ADDRESSES.values()))
    return f"{seen}; to {addresses} of {vm.host}, its MACs, ip_forward and proxy_arp on"


# ---- the wire ----------------------------------------------------------------------------------------------


@cache
def traffic_on_wire(demo: DemoLab, tenant: str) -> list[Packet]:
    """The traffic on the wire while a tenant's VMs, and no others, ping and speak UDP and TCP across."""
    client, server = demo.vms[f"{tenant}-web"], demo.vms[f"{tenant}-app"]
    tokens = []
    with Capture(*demo.fabric()) as wire:
        for version in VERSIONS:
            ping(client, server.addresses[version])
            for number in range(WIRE_FLOWS):
                tokens.append(os.urandom(16))
                send_udp(client, server, version, 7100 + number, tokens[-1])
                with connection(client, server, version):
                    pass
            echo_by_tcp(client, server, version, os.urandom(1 << 16))
        frames = wire.frames()
    for token in tokens:
        if sum(token in frame for frame, _ in frames) != 1:
            raise TrafficError(f"a datagram of {tenant} was not seen once on the wire")
    return [packet for packet in map(decode, *zip(*frames, strict=True)) if packet.is_traffic]


def blue_only_pas(demo: DemoLab) -> str:
    """IP rewrite: plain IP packets between the Provider Addresses of the two VMs, and nothing else."""
    ends = [demo.vms[name].provider_addresses for name in ("blue-web", "blue-app")]
    packets = traffic_on_wire(demo, "blue")
    for packet in packets:
        pair = {packet.source, packet.destination}
        if packet.protocol == GRE or not any(pair == {end[v] for end in ends} for v in VERSIONS):
            raise TrafficError(
                f"{packet.source} > {packet.destination}, protocol {packet.protocol}, is on the wire"
            )
    counts = {
        version: sum(packet.ethertype == ETHERTYPES[version] for packet in packets) for version in VERSIONS
    }
    return (
        ", ".join(f"{counts[v]} IPv{v} packets between {ends[0][v]} and {ends[1][v]}" for v in VERSIONS)
        + "; no other, no tunnel"
    )


def red_vsid_flowid(demo: DemoLab) -> str:
    """NVGRE: key = VSID and FlowID, one FlowID a flow, between the hosts' shared Provider Addresses."""
    client, server = demo.vms["red-web"], demo.vms["red-app"]
    hosts = {ip_address(pa) for host in demo.hosts.values() for pa in host["providerAddresses"]}
    flow_ids: dict[tuple[object, ...], set[int]] = {}
    packets = traffic_on_wire(demo, "red")
    for packet in packets:
        where = f"{packet.source} > {packet.destination}"
        if packet.inner is None or {packet.source, packet.destination} != hosts:
            raise TrafficError(f"{where}, protocol {packet.protocol}, is on the wire")
        if (packet.gre_flags, packet.vsid) != (GRE_KEY_PRESENT, client.vsid):
            raise TrafficError(f"{where} has GRE flags {packet.gre_flags:#06x} and VSID {packet.vsid}")
        inside = {packet.inner.source, packet.inner.destination}
        if not any(inside == {client.addresses[v], server.addresses[v]} for v in VERSIONS):
            raise TrafficError(f"{where} carries {packet.inner.source} > {packet.inner.destination}")
        flow_ids.setdefault(packet.inner.flow, set()).add(packet.flow_id)
    if unsteady := [flow for flow, ids in flow_ids.items() if len(ids) != 1]:
        raise TrafficError(f"{len(unsteady)} flows have more than one FlowID")
    distinct = len(set.union(*flow_ids.values()))
    if distinct < len(flow_ids) // 4:
        raise TrafficError(f"{len(flow_ids)} flows have {distinct} FlowIDs")
    text = " and ".join(map(str, sorted(hosts, key=str)))
    flows = f"{len(flow_ids)} flows, {distinct} FlowIDs"
    return f"{len(packets)} NVGRE packets between {text}, VSID {client.vsid}; {flows}"


def checksums(demo: DemoLab) -> str:
    """Every IPv4 header, TCP, UDP, ICMP and ICMPv6 sum, outside and inside the tunnel."""
    seen = []
    for tenant in TENANTS:
        packets = traffic_on_wire(demo, tenant)
        for packet in packets:
            if packet.faults:
                raise TrafficError(
                    f"{tenant}: {packet.source} > {packet.destination}: {', '.join(packet.faults)}"
                )
        pending = sum(packet.pending for packet in packets)
        seen.append(
            f"{tenant}: {len(packets)} packets right"
            + (f", {pending} sums left to the device" if pending else "")
        )
    return "; ".join(seen)


# ---- the table ---------------------------------------------------------------------------------------------


def _checks() -> Iterator[tuple[str, Checked]]:
    for tenant, (way, peer), v in product(TENANTS, PEERS.items(), VERSIONS):
        source, target = f"{tenant}-web", f"{tenant}-{peer}"
        yield f"ping.{tenant}.{way}.v{v}", partial(ping_peer, source, target, way, v, TTL)
    for tenant, (way, peer), v in product(TENANTS, PEERS.items(), VERSIONS):
        yield f"tcp.{tenant}.{way}.v{v}", partial(tcp_peer, f"{tenant}-web", f"{tenant}-{peer}", v)
    for (way, peer), v in product(ROUTED_PEERS.items(), VERSIONS):
        yield f"route.blue.{way}.v{v}", partial(route, peer, way, v)
    for tenant, v in product(TENANTS, VERSIONS):
        yield f"gateway.{tenant}.v{v}", partial(gateway, tenant, v)
    yield "isolation.address", foreign_address
    yield "isolation.mac", foreign_mac
    yield "isolation.forged-ca", forged_ca
    yield "isolation.forged-mac", forged_mac
    yield "isolation.forged-pa", forged_pa
    yield "isolation.host", the_host
    yield "wire.blue.only-pas", blue_only_pas
    yield "wire.red.vsid-flowid", red_vsid_flowid
    yield "wire.checksums", checksums
    for tenant in TENANTS:
        yield f"throughput.{tenant}", partial(throughput, tenant)


CHECKS: dict[str, Checked] = dict(_checks())
"""All but `cleanup`, which is the lab's end."""
