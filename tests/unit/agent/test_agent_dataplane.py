"""The agent and data planes that go, come back, do not answer, or are not to work with."""

from pathlib import Path

import pytest

from dataplane.process.client import ClientError, GoneError
from dataplane.process.protocol import Kind
from policy.agent.clock import LAST_RETRY
from policy.agent.sources import DataplaneGone
from policy.agent.status import STUCK_SECONDS
from policy.errors import AgentError
from policy.service.host_state import APPLIED, FAILED
from tests.unit.agent.fakes import FakeDataplane
from tests.unit.agent.world import World


def test_a_data_plane_that_is_killed_gets_all_again(world: World) -> None:
    opened = list(world.host.opened)
    world.kill_dataplane()
    world.pass_(1)
    world.dataplane = FakeDataplane()
    world.pass_(0.1)
    assert world.is_right(), "at once"
    assert world.host.opened == opened, "devices are handed over, not opened anew"
    assert {status.state for _, status in world.reporter.said} == {APPLIED}


@pytest.mark.parametrize("has_dataplane", [True, False])
def test_it_says_often_enough_that_it_takes_turns(world: World, has_dataplane: bool) -> None:
    if not has_dataplane:
        world.kill_dataplane()
    turns = world.reporter.turns
    for _ in range(5):
        world.pass_(STUCK_SECONDS / 1.5)
        assert world.reporter.turns > turns
        turns = world.reporter.turns


def test_a_data_plane_that_stays_away_is_told_once(world: World) -> None:
    said, begun = len(world.reporter.said), world.clock.now
    world.kill_dataplane()
    world.pass_(60)
    ((at, status),) = world.reporter.said[said:]
    assert status.state == FAILED
    assert status.problems == ("the data plane of instance h1 is not there",)
    assert 3 <= at - begun < 4
    world.dataplane = FakeDataplane()
    world.pass_(0.1)
    assert world.is_right() and world.reporter.last.state == APPLIED


def test_commits_while_there_is_no_data_plane(world: World) -> None:
    world.kill_dataplane()
    world.commit({world.port_key("red-web"): None})
    world.pass_(1)
    world.dataplane = FakeDataplane()
    world.pass_(0.1)
    assert world.is_right()
    assert "red/red-web" not in world.attached()


@pytest.mark.parametrize(
    "failure", [ClientError("no answer within 60 s", Kind.BUSY), GoneError("answers what was not asked for")]
)
def test_a_data_plane_that_does_not_answer_is_asked_ever_later(world: World, failure: ClientError) -> None:
    assert world.dataplane is not None
    world.dataplane.failure = failure
    world.commit({world.port_key("red-app"): None})
    world.pass_(0.01)
    connections = len(world.connections)
    world.pass_(200)
    tries = [at for at, _ in world.connections[connections:]]
    assert 5 < len(tries) < 60
    assert tries[-1] - tries[-3] > 10
    world.dataplane.failure = None
    world.pass_(2 * LAST_RETRY)
    assert world.is_right()
    assert all(client.is_closed for _, client in world.connections[:-2]), "connections leak"


def test_a_data_plane_that_hangs_up_at_once_is_asked_ever_later(world: World) -> None:
    """Though it does all that it is asked for until then."""
    connections = len(world.connections)
    for _ in range(2000):
        world.inbox.put(DataplaneGone(world.number))
        world.pass_(0.01)
    assert 4 < len(world.connections) - connections < 40
    world.pass_(2 * LAST_RETRY)
    assert world.is_right()


def test_a_data_plane_that_is_not_ours_to_use_ends_it(directory: Path) -> None:
    world = World(directory)
    assert world.dataplane is not None
    world.dataplane.failure = ClientError("only root may ask", Kind.NOT_ALLOWED)
    world.load()
    with pytest.raises(AgentError, match="only root may ask"):
        world.agent.run()


def test_the_end_of_an_earlier_connection_is_none_of_this_one(world: World) -> None:
    world.kill_dataplane()
    world.dataplane = FakeDataplane()
    world.pass_(0.5)
    connections = len(world.connections)
    world.inbox.put(DataplaneGone(0))
    world.pass_(0.5)
    assert len(world.connections) == connections and world.is_right()
