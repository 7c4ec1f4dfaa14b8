"""States between two policies or two devices, in which packets arrive all the same."""

import pytest
from scapy.layers.inet import ICMP, TCP
from scapy.layers.inet6 import ICMPv6PacketTooBig, IPv6

from dataplane.binding.core import UNDERLAY, Dataplane, Frame, Gso, Offload
from dataplane.binding.tables import (
    NO_ADDRESS,
    ChangeSet,
    PortRow,
    PrefixRow,
    RecordRow,
    RecordType,
    SubnetRow,
    Translation,
    delete,
    put,
)
from dataplane.twin.reference import FakeDataplane
from tests.oracle.frames import PEER_MAC, ether, ip, udp
from tests.oracle.rig import Rig
from tests.oracle.world import LOCAL, LOCAL_APPLIANCE, OUTSIDE, ROUTER_MAC, UNDERLAY_MAC, World, vsid

Engine = type[Dataplane] | type[FakeDataplane]
both = pytest.mark.parametrize("engine", [Dataplane, FakeDataplane])


# 2.12.1
@both
@pytest.mark.parametrize("gso_size", [0, 1400])
def test_rewrite_without_an_underlay(engine: Engine, gso_size: int) -> None:
    """Also a packet that is no super-packet: cutting that would not come to an end."""
    world = World(rewrite=frozenset(((0, 0),)), offloads=Offload.CSUM | Offload.TSO4 | Offload.TSO6)
    vm, remote = world.vm(0, 0, LOCAL), world.vm(0, 0, 20)
    with Rig(engine, world) as rig:
        rig.engine.detach(UNDERLAY)
        packet = ether(remote.mac, vm.mac) / ip(vm.ca(4), remote.ca(4))
        frame = Frame(bytes(packet / udp() / bytes(3000 if gso_size else 100)))
        if gso_size:
            data = bytes(packet / TCP() / bytes(3000))
            frame = Frame(
                data, csum_partial=True, csum_start=34, csum_offset=16, gso=Gso.TCP4, gso_size=gso_size
            )
        rig.engine.inject(vm.port, frame)
        rig.engine.poll(rig.now)
        assert rig.counters().drops == {"port-down": 1}
        assert rig.counters().balance() == 0


# 4.8.7
@both
@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("prefix", ["none", "without a gateway", "longer, of another subnet"])
def test_a_router_speaks_to_a_subnet_without_a_gateway(engine: Engine, family: int, prefix: str) -> None:
    world = World(rewrite=frozenset(((0, 0),)))
    vm, remote = world.vm(0, 0, LOCAL), world.vm(0, 0, 20)
    about = ip(vm.rewrite_pa(family), remote.rewrite_pa(family)) / udp()
    error = (ICMP(type=3, code=4) if family == 4 else ICMPv6PacketTooBig(mtu=1280)) / about
    packet = ether(UNDERLAY_MAC, PEER_MAC) / ip(OUTSIDE[family], vm.rewrite_pa(family)) / error
    rows = [row for row in world.rows() if isinstance(row, PrefixRow)]
    old = next(row for row in rows if (row.vsid, row.family) == (vm.vsid, family))
    longer = old._replace(vsid=vsid(0, 1), gateway=NO_ADDRESS, prefix_len=old.prefix_len + 1)
    changed = {
        "none": delete([old]),
        "without a gateway": put([old._replace(gateway=NO_ADDRESS)]),
        "longer, of another subnet": put([longer]),
    }
    with Rig(engine, world) as rig:
        rig.engine.apply(ChangeSet(2, (changed[prefix],)).encode())
        left = rig.send(UNDERLAY, packet)
        if family == 4:
            assert rig.counters().drops == {"icmp-error": 1}
        else:
            assert IPv6(left[vm.port][0].data[14:]).src == "fe80::1"


@both
def test_routing_domain_without_a_prefix(engine: Engine) -> None:
    """Its number is far from any that had a route: nothing is known of it but that."""
    vm = World().vm(0, 0, LOCAL)
    ca, pa = bytes((10, 1, 1, 10)).ljust(16, b"\0"), bytes((192, 168, 77, 101)).ljust(16, b"\0")
    subnet, port = 0xABCDE, 900
    with Rig(engine, World()) as rig:
        rig.engine.apply(
            ChangeSet(
                2,
                (
                    put([SubnetRow(subnet, 65535)]),
                    put([PortRow(port, subnet, vm.mac)]),
                    put(
                        [
                            RecordRow(
                                ca, pa, subnet, 1, port, vm.mac, 4, 4, Translation.NVGRE, RecordType.STATIC
                            )
                        ]
                    ),
                ),
            ).encode()
        )
        rig.engine.attach(port, rig.ports[vm.port])
        rig.engine.inject(port, Frame(bytes(ether(ROUTER_MAC, vm.mac) / ip("10.1.1.10", "10.9.9.9") / udp())))
        rig.engine.poll(rig.now)
        assert rig.counters().drops == {"no-route": 1}


# 1.6.3
@both
@pytest.mark.parametrize(("gso_size", "accepted"), [(48, True), (47, False), (1, False), (0, False)])
def test_super_packet_of_very_many_segments(engine: Engine, gso_size: int, accepted: bool) -> None:
    """65,535 bytes in segments of 48 is the most: 1,365 of them, 64 at a time."""
    world = World(offloads=Offload.CSUM | Offload.TSO4 | Offload.TSO6)
    vm, neighbour = world.vm(0, 0, LOCAL), world.vm(0, 0, LOCAL_APPLIANCE)
    packet = ether(neighbour.mac, vm.mac) / ip(vm.ca(4), neighbour.ca(4)) / TCP() / bytes(65535 - 40)
    frame = Frame(
        bytes(packet), csum_partial=True, csum_start=34, csum_offset=16, gso=Gso.TCP4, gso_size=gso_size
    )
    with Rig(engine, world) as rig:
        rig.engine.inject(vm.port, frame)
        rig.engine.poll(rig.now)
        assert rig.counters().drops == ({} if accepted else {"bad-offload": 1})
        assert len(rig.engine.collect(neighbour.port)) == (22 if accepted else 0)


# 2.5.3
@both
@pytest.mark.parametrize("world", [World(default_route=True), World(wildcard=20, routes=False)])
@pytest.mark.parametrize(
    "destination", ["127.0.0.1", "224.0.0.1", "239.1.1.1", "255.255.255.255", "::1", "ff02::1", "ff0e::1"]
)
def test_only_hosts_are_routed_to(engine: Engine, world: World, destination: str) -> None:
    """Not even where everything else has a way."""
    vm = world.vm(0, 0, LOCAL)
    family = 6 if ":" in destination else 4
    with Rig(engine, world) as rig:
        for ca in (destination, str(OUTSIDE[family])):
            frame = ether(ROUTER_MAC, vm.mac) / ip(vm.ca(family), ca) / udp()
            rig.engine.inject(vm.port, Frame(bytes(frame)))
        rig.engine.poll(rig.now)
        assert rig.counters().drops == {"no-record": 1}
        assert rig.counters().sent == 1
