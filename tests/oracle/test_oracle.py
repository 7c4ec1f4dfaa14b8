"""Core and twin agree on every byte that leaves, in its order, and on every counter.

ISOLANE_ORACLE_EXAMPLES=N tries N random policies and packet trains instead of a fixed few.
"""

import os
from collections import Counter
from dataclasses import dataclass

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dataplane.core import Dataplane, Frame, Neighbour
from dataplane.fake import FakeDataplane
from dataplane.stats import Counters, SubnetCounters
from tests.oracle.rig import Rig
from tests.oracle.strategies import Burst, bursts, worlds
from tests.oracle.world import World

MORE = os.environ.get("ISOLANE_ORACLE_EXAMPLES")
SEEN: Counter[str] = Counter()


@dataclass
class Seen:
    """What could be seen of a run: per burst what left by each port; in the end all counters and next
    hops."""

    left: list[dict[int, list[Frame]]]
    ports: dict[int, Counters]
    subnets: list[SubnetCounters]
    neighbours: list[Neighbour]


def run(
    engine: type[Dataplane] | type[FakeDataplane], world: World, train: list[Burst], batch: int = 64
) -> Seen:
    with Rig(engine, world) as rig:
        left = [play(rig, burst, batch) for burst in train]
        ports = {port: rig.engine.port_counters(port) for port in rig.ports}
        neighbours = sorted(rig.engine.neighbours(), key=lambda n: (n.address.version, n.address))
        return Seen(left, ports, rig.engine.subnet_counters(), neighbours)


def play(rig: Rig, burst: Burst, batch: int) -> dict[int, list[Frame]]:
    """batch 1: the engine runs after each frame, the clock standing still meanwhile."""
    left = rig.step(burst.ns)
    for at in range(0, len(burst.frames), batch):
        for frame in burst.frames[at : at + batch]:
            rig.inject(burst.port, frame)
        for port, out in rig.step(0).items():
            left[port] = left.get(port, []) + out
    return left


@st.composite
def scenarios(draw: st.DrawFn) -> tuple[World, list[Burst]]:
    world = draw(worlds)
    return world, draw(bursts(world))


@given(scenarios())
@settings(
    max_examples=int(MORE or 300),
    derandomize=MORE is None,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
def test_core_and_twin_agree(scenario: tuple[World, list[Burst]]) -> None:
    world, train = scenario
    expected = run(FakeDataplane, world, train)
    for counters in expected.ports.values():
        SEEN.update(counters.drops)
        SEEN["sent"] += counters.sent
        SEEN["received"] += counters.received
    assert run(Dataplane, world, train) == expected
    assert run(Dataplane, world, train, batch=1) == expected
