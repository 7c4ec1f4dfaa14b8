"""What can run out: slots, and room in a memory port. The twin has both without limit, but for what waits."""

import pytest

from dataplane.binding.core import Config, Dataplane, Frame, Gso, Offload
from dataplane.twin.reference import FakeDataplane
from tests.oracle.frames import between, tcp, udp
from tests.oracle.rig import SECOND, Rig
from tests.oracle.world import LOCAL, LOCAL_APPLIANCE, NEXT_HOPS, SHARED, World

WORLD = World()
FROM, TO = WORLD.vm(0, 0, LOCAL), WORLD.vm(0, 0, LOCAL_APPLIANCE)
FRAME = bytes(between(FROM, TO, 4, udp(b"x")))


@pytest.mark.parametrize("engine", [Dataplane, FakeDataplane])
def test_a_frame_longer_than_any_packet(engine: type[Dataplane] | type[FakeDataplane]) -> None:
    """17 slots are the most that a packet may have; trailing bytes are padding until then."""
    most = 3392 + 16 * 4096
    with Rig(engine, WORLD) as rig:
        for length, sent in ((most, 1), (most + 1, 0), (262_144, 0)):
            left = rig.send(FROM.port, FRAME + bytes(length - len(FRAME)))
            assert [len(frame.data) for frame in left.get(TO.port, [])] == [length] * sent
        counters = rig.counters()
        assert (counters.received, counters.sent, counters.drops) == (3, 1, {"bad-offload": 2})


class FewSlots(World):
    def config(self, workers: int = 1) -> Config:
        return Config(1, super().config().router_mac, (1, 2), slots=64)


# 4.5.3
def test_a_port_that_nobody_collects_from() -> None:
    with Rig(Dataplane, WORLD) as rig:
        for _ in range(5):
            for _ in range(1000):
                rig.inject(FROM.port, FRAME)
            rig.engine.poll(rig.now)
        counters = rig.counters()
        assert counters.drops.keys() == {"tx-full"} or counters.drops.keys() == {"no-slot"}
        assert (counters.received, counters.sent + counters.dropped, counters.balance()) == (5000, 5000, 0)
        assert len(rig.step()[TO.port]) == counters.sent


# 4.5.1
def test_out_of_slots() -> None:
    with Rig(Dataplane, FewSlots()) as rig:
        for _ in range(200):
            rig.inject(FROM.port, FRAME)
        rig.engine.poll(rig.now)
        counters = rig.counters()
        assert counters.drops.keys() == {"no-slot"}
        assert (counters.received, counters.balance()) == (200, 0)
        assert len(rig.step()[TO.port]) == counters.sent > 0
        assert len(rig.send(FROM.port, FRAME)[TO.port]) == 1


# 2.12.5
@pytest.mark.parametrize(("engine", "workers"), [(Dataplane, 1), (Dataplane, 2), (FakeDataplane, 1)])
def test_what_waits_leaves_slots_to_others(
    engine: type[Dataplane] | type[FakeDataplane], workers: int
) -> None:
    """32 of 128: two super-packets of 15 slots for one host, and two of 1 for another. Of two workers the
    second has them all."""
    takes_all = Offload.CSUM | Offload.TSO4 | Offload.TSO6
    blue = frozenset(((0, 0),))

    class Unresolved(World):
        def config(self, workers: int = 1) -> Config:
            return Config(1, super().config().router_mac, (1, 2), workers=workers, slots=128)

    world = Unresolved(rewrite=blue, resolved=False, offloads=takes_all, underlay_offloads=takes_all)
    vm, on_link, behind = world.vm(0, 0, LOCAL), world.vm(0, 0, 20), world.vm(0, 0, 30)
    data = bytes(between(vm, on_link, 4, tcp(bytes(60000))))
    large = Frame(
        data, csum_partial=True, csum_start=34, csum_offset=16, gso=Gso.TCP4, gso_size=1400, flow=workers - 1
    )
    small = Frame(bytes(between(vm, behind, 4, udp(b"x"))), flow=workers - 1)
    with Rig(engine, world, workers) as rig:
        for _ in range(2):
            rig.send(vm.port, large, large, large, small, small, small)
            counters = rig.counters()
            assert counters.held == 4
        assert counters.drops == {"neigh-full": 2 + 6}
        other = world.vm(1, 0, LOCAL)
        frame = Frame(bytes(between(other, world.vm(1, 0, LOCAL_APPLIANCE), 4, udp(b"x"))), flow=workers - 1)
        assert len(rig.send(other.port, *[frame] * 60)[world.vm(1, 0, LOCAL_APPLIANCE).port]) == 60
        rig.engine.set_neighbour(SHARED[2, 4], NEXT_HOPS[SHARED[2, 4]])
        rig.send(vm.port, *[small] * 30)
        assert rig.counters().held == 16
        for _ in range(4):
            rig.step(SECOND)
        counters = rig.counters()
        assert (counters.held, counters.drops["neigh-failed"]) == (0, 16)
        rig.send(vm.port, small)
        assert rig.counters().held == 1
