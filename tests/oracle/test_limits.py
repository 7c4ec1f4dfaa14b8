"""What the core alone can run out of: slots, and room in a memory port."""

from dataplane.core import Config, Dataplane
from tests.oracle.frames import between, udp
from tests.oracle.rig import Rig
from tests.oracle.world import LOCAL, LOCAL_APPLIANCE, World

WORLD = World()
FROM, TO = WORLD.vm(0, 0, LOCAL), WORLD.vm(0, 0, LOCAL_APPLIANCE)
FRAME = bytes(between(FROM, TO, 4, udp(b"x")))


class FewSlots(World):
    def config(self, workers: int = 1) -> Config:
        return Config(1, super().config().router_mac, (1, 2), slots=64)


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
