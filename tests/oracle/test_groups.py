"""What is sent to a group: copies of super-packets and of packets of several slots, held, without slots."""

from collections.abc import Iterator
from ipaddress import ip_address

import pytest
from scapy.packet import Packet

from dataplane.binding.core import Config, Dataplane, Frame, Gso, Offload
from dataplane.binding.tables import ChangeSet, FloodRow, SubnetRow, delete, pack_address, put
from dataplane.twin.reference import FakeDataplane
from tests.oracle.frames import ether, ip, udp
from tests.oracle.rig import SECOND, Rig, data
from tests.oracle.world import LOCAL, LOCAL_APPLIANCE, NEXT_HOPS, SHARED, Vm, World, vsid

Engine = type[Dataplane] | type[FakeDataplane]
ENGINES = pytest.mark.parametrize("engine", [Dataplane, FakeDataplane])
BOTH = Dataplane, FakeDataplane
MDNS, MDNS_MAC = "224.0.0.251", bytes.fromhex("01005e0000fb")
PLAIN = World()
FROM, BESIDE = PLAIN.vm(1, 0, LOCAL), PLAIN.vm(1, 0, LOCAL_APPLIANCE)
RECEIVERS = 2 + 3
"""Of LOCAL: two ports have a device, each of three hosts gets a copy, though for one there is no way."""


def to_group(vm: Vm, payload: bytes) -> Packet:
    return ether(MDNS_MAC, vm.mac) / ip(vm.ca(4), MDNS) / udp(payload)


def here(world: World, vm: Vm) -> set[int]:
    """Ports with a device in a VM's subnet, but its own."""
    return {other.port for other in world.vms() if other.vsid == vm.vsid and other.port} - {vm.port}


# 5.2.2, 5.2.3, 5.2.7
@ENGINES
def test_a_copy_for_each_who_hears_it(engine: Engine) -> None:
    with Rig(engine, PLAIN) as rig:
        frame = to_group(FROM, b"hello")
        left = rig.send(FROM.port, frame)
        assert left.keys() == {0, *here(PLAIN, FROM) & rig.attached}
        assert all(data(left[port]) == [bytes(frame)] for port in left if port)
        hosts = [ip_address(out.data[30:34]) for out in left[0]]
        assert hosts == sorted(SHARED[host, 4] for host in (2, 3))
        counters = rig.counters()
        assert (counters.received, counters.originated) == (1, RECEIVERS - 1)
        assert counters.drops == {"no-provider-route": 1}


# 5.2.6
def test_a_super_packet_goes_in_segments() -> None:
    world = World(offloads=Offload.CSUM | Offload.USO, mtu=9000, underlay_mtu=9100)
    frame = bytes(to_group(FROM, bytes(range(250)) * 20))
    given = Frame(frame, csum_partial=True, csum_start=34, csum_offset=6, gso=Gso.UDP, gso_size=1000)
    seen = []
    for engine in BOTH:
        with Rig(engine, world) as rig:
            left = rig.send(FROM.port, given)
            assert {port: len(out) for port, out in left.items()} == {0: 10} | dict.fromkeys(
                here(world, FROM) & rig.attached, 5
            )
            assert all(out.gso == Gso.NONE for out in left[BESIDE.port])
            seen.append((left, rig.counters()))
    assert seen[0] == seen[1]
    assert seen[0][1].originated == RECEIVERS * 5 - 1


def test_what_waits_owns_its_bytes() -> None:
    """Two slots each: the second is borrowed until a copy is held."""
    world = World(resolved=False, mtu=9000, underlay_mtu=9100)
    frames = [bytes(to_group(FROM, bytes([number]) * 7000)) for number in range(3)]
    seen = []
    for engine in BOTH:
        with Rig(engine, world) as rig:
            rig.send(FROM.port, *frames)
            assert rig.counters().held == 3 * 2
            for number in range(40):
                rig.send(FROM.port, to_group(FROM, bytes([100 + number]) * 7000))
            for hop, mac in NEXT_HOPS.items():
                rig.engine.set_neighbour(hop, mac)
            left = rig.step()
            assert [out.data[-7000:] for out in left[0]][:2] == [bytes([0]) * 7000, bytes([1]) * 7000]
            seen.append((left, rig.counters()))
    assert seen[0] == seen[1]


# 5.2.8
def test_copies_without_slots() -> None:
    class FewSlots(World):
        def config(self, workers: int = 1) -> Config:
            return Config(1, super().config().router_mac, (1, 2), slots=64)

    with Rig(Dataplane, FewSlots()) as rig:
        for _ in range(40):
            rig.inject(FROM.port, to_group(FROM, b"x"))
        rig.engine.poll(rig.now)
        counters = rig.counters()
        assert counters.drops.keys() <= {"no-slot", "no-provider-route"}
        assert counters.drops["no-slot"] > 1
        assert (counters.received, counters.balance()) == (40, 0)
        rig.step()
        left = rig.send(FROM.port, to_group(FROM, b"y"))
        assert len(left[0]) == 2


def changes() -> Iterator[tuple[bytes, set[int]]]:
    """Change sets, and the hosts that hear it from then on."""

    def of(host: int) -> FloodRow:
        return FloodRow(pack_address(SHARED[host, 4]), FROM.vsid, host, 4)

    second = FloodRow(pack_address(SHARED[2, 6]), FROM.vsid, 2, 6)
    yield ChangeSet(2, (delete([of(3)]),)).encode(), {2}
    yield ChangeSet(3, (put([second]), delete([of(2)])), atomic=True).encode(), {2}
    yield ChangeSet(4, (put([of(3)]),)).encode(), {2, 3}
    yield ChangeSet(5, (delete([second, of(3)]),)).encode(), set()


@ENGINES
def test_who_hears_it_changes_at_once(engine: Engine) -> None:
    with Rig(engine, PLAIN) as rig:
        for change, hosts in changes():
            rig.engine.apply(change)
            left = rig.send(FROM.port, to_group(FROM, b"hello")).get(0, [])
            assert len(left) == len(hosts)
        rig.engine.apply(ChangeSet(6, (put([SubnetRow(FROM.vsid, 2)]),)).encode())
        assert rig.send(FROM.port, to_group(FROM, b"hello")) == {}
        assert rig.counters().drops["multicast"] == 1


@ENGINES
def test_the_limit_is_of_the_subnet(engine: Engine) -> None:
    """Whichever port it comes by; of another subnet it is another."""
    world = World(flood=(10, 5))
    other = world.vm(1, 1, LOCAL)
    with Rig(engine, world) as rig:
        for vm, passing in ((FROM, 3), (BESIDE, 2), (other, 5)):
            before = rig.engine.port_counters(vm.port).drops.get("broadcast-limit", 0)
            for _ in range(passing + (vm is not FROM)):
                rig.send(vm.port, to_group(vm, b"x"))
            dropped = rig.engine.port_counters(vm.port).drops.get("broadcast-limit", 0) - before
            assert dropped == (vm is not FROM)
        rig.step(SECOND)
        assert rig.send(FROM.port, Frame(bytes(to_group(FROM, b"x")), time=rig.now))


def test_rolled_back_it_is_as_it_was() -> None:
    with Rig(Dataplane, PLAIN) as rig:
        assert isinstance(rig.engine, Dataplane)
        before = rig.send(FROM.port, to_group(FROM, b"hello"))
        for change, _ in list(changes())[:1]:
            rig.engine.apply(change)
            rig.engine.rollback()
        off = put([SubnetRow(vsid(1, 0), 2)])
        rig.engine.apply(ChangeSet(2, (off,), atomic=True).encode())
        rig.engine.rollback()
        again = rig.send(FROM.port, to_group(FROM, b"hello"))
        assert {port: data(out) for port, out in again.items()} == {
            port: data(out) for port, out in before.items()
        }
