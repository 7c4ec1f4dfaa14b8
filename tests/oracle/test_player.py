"""The player of `isolane replay` over core and twin: the batch size does not show, whatever the policy."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataplane.binding.core import Dataplane
from dataplane.binding.stats import Counters
from dataplane.twin.reference import FakeDataplane
from tests.oracle.rig import Rig
from tests.oracle.scale import EXAMPLES, examples
from tests.oracle.strategies import Burst, trains, worlds
from tests.oracle.world import World
from tools.verbs.captures import SECOND, Packet
from tools.verbs.replay import Player

Sources = list[tuple[int, list[Packet]]]
Seen = tuple[dict[int, list[Packet]], dict[int, Counters]]


def play(engine: type[Dataplane] | type[FakeDataplane], world: World, sources: Sources, batch: int) -> Seen:
    with Rig(engine, world) as rig:
        left: dict[int, list[Packet]] = {port: [] for port in rig.attached}
        Player(rig.engine, {port: out.extend for port, out in left.items()}, batch).play(sources, 10 * SECOND)
        assert rig.counters().balance() == 0
        return left, {port: rig.engine.port_counters(port) for port in rig.ports}


@st.composite
def captured(draw: st.DrawFn, **choices: object) -> tuple[World, Sources]:
    """Two files a port; times that stand still, go on by a little or a lot, or fall back."""
    world = draw(worlds(**choices))
    chance = Random(draw(st.integers(0, 2**32)))
    files: dict[tuple[int, int], list[Packet]] = {}
    now = 1000 * SECOND
    for step in draw(trains(world)):
        if not isinstance(step, Burst):
            continue
        now += step.ns
        for frame in step.frames:
            now += chance.choice((0, 0, 1, 1000, SECOND // 3))
            time = now - chance.choice((0,) * 10 + (SECOND,))
            files.setdefault((step.port, chance.randrange(2)), []).append((time, frame.data))
    return world, [(port, packets) for (port, _), packets in files.items()]


@pytest.mark.parametrize("resolved", [True, False])
def test_the_batch_size_does_not_show(resolved: bool) -> None:
    @examples(EXAMPLES // 8)
    @given(captured(resolved=st.just(resolved)))
    def check(case: tuple[World, Sources]) -> None:
        world, sources = case
        expected = play(FakeDataplane, world, sources, 64)
        for batch in (1, 3, 64):
            assert play(Dataplane, world, sources, batch) == expected

    check()
