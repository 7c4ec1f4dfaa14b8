"""VMs that speak from another MAC than their port's, as the agent tells it."""

from pathlib import Path

import pytest

from dataplane.host import locks
from dataplane.process.client import ClientError
from dataplane.process.protocol import Kind, StrangerView
from policy.agent.strangers import KEPT_SECONDS, LOOK_SECONDS
from policy.kinds import documents
from policy.kinds.model import Port
from policy.service.host_state import APPLIED, FAILED
from tests.unit.agent.fakes import FakeClient, FakeDataplane
from tests.unit.agent.world import World

NAME = "red/red-web"
THEIRS = "52:54:00:12:34:56"


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(locks, "DIRECTORY", tmp_path)
    made = World(tmp_path)
    made.up()
    return made


def mac_of(world: World) -> str:
    key = world.port_key("red-web")
    port = documents.load(key, world.items[key], complete=True)
    assert isinstance(port, Port)
    return port.mac


def sends(world: World, good: int, foreign: int, mac: str = THEIRS) -> None:
    """So many frames more, and then the agent looks."""
    assert world.dataplane is not None
    there = world.dataplane.strangers
    view = there[0] if there else StrangerView(name=NAME, mac=mac, received=0, refused=0)
    received, refused = view["received"] + good + foreign, view["refused"] + foreign
    world.dataplane.strangers = [StrangerView(name=NAME, mac=mac, received=received, refused=refused)]
    world.pass_(LOOK_SECONDS + 0.1)


def told(world: World) -> bool:
    """Whether it is said, and of this port alone."""
    status = world.reporter.last
    if status.state == APPLIED:
        assert (status.problems, status.ports) == ((), ())
        return False
    assert (status.state, status.ports) == (FAILED, (NAME,))
    (problem,) = status.problems
    assert problem.startswith(f"port {NAME}: its VM sends from ") and mac_of(world) in problem
    return True


def test_a_vm_of_another_mac_is_told_with_both(world: World) -> None:
    assert not told(world)
    sends(world, 0, 3)
    assert told(world) and THEIRS in world.reporter.last.problems[0]
    said = len(world.reporter.said)
    world.pass_(300)
    assert told(world), "who says nothing is as he was"
    sends(world, 0, 1)
    assert len(world.reporter.said) == said, "and it is said once"
    assert world.is_right(), "nothing else comes of it"
    sends(world, 1, 0)
    assert not told(world)


def test_one_who_has_a_bridge_behind_him_is_no_stranger(world: World) -> None:
    for _ in range(5):
        sends(world, 1, 100)
        assert not told(world)


def test_one_who_speaks_from_either_in_turn_is_told_seldom(world: World) -> None:
    said, begun = len(world.reporter.said), world.clock.now
    for number in range(120):
        sends(world, number % 2, 1 - number % 2)
    assert 2 < len(world.reporter.said) - said <= 2 * (world.clock.now - begun) / KEPT_SECONDS + 1


def test_the_port_gets_the_mac_of_its_vm(world: World) -> None:
    sends(world, 0, 1)
    assert told(world)
    key, own = world.port_key("red-web"), mac_of(world)
    world.commit({key: world.items[key].replace(own.encode(), b"02:00:00:00:00:99")})
    world.pass_()
    assert world.dataplane is not None
    world.dataplane.strangers = []  # the port was attached anew
    world.pass_(LOOK_SECONDS + 0.1)
    assert not told(world)


def test_counters_that_begin_anew(world: World) -> None:
    sends(world, 1000, 1)
    assert not told(world)
    world.kill_dataplane()
    world.dataplane = FakeDataplane()
    world.pass_(2)
    sends(world, 0, 5)
    assert told(world)


def test_a_look_is_all_that_it_costs(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also while there is something to tell."""
    looks = 0
    look = FakeClient.strangers

    def counted(client: FakeClient) -> list[StrangerView]:
        nonlocal looks
        looks += 1
        return look(client)

    monkeypatch.setattr(FakeClient, "strangers", counted)
    for foreign in (0, 1):
        sends(world, 1 - foreign, foreign)
        looks = 0
        waits = len(world.inbox.waits)
        world.pass_(40 * LOOK_SECONDS)
        assert 38 <= looks <= 41
        assert len(world.inbox.waits) - waits < 60


def test_a_data_plane_of_before_says_nothing_of_it(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: FakeClient) -> list[StrangerView]:
        raise ClientError("strangers: no such method", Kind.REQUEST)

    monkeypatch.setattr(FakeClient, "strangers", refuse)
    world.pass_(10 * LOOK_SECONDS)
    assert not told(world) and len(world.connections) == 2


def test_one_who_speaks_from_ever_another_mac_is_told_seldom(world: World) -> None:
    said, begun = len(world.reporter.said), world.clock.now
    for number in range(120):
        sends(world, 0, 1, f"52:54:00:00:00:{number:02x}")
        assert told(world)
    assert 2 < len(world.reporter.said) - said <= 2 * (world.clock.now - begun) / KEPT_SECONDS + 1


def test_a_port_with_two_problems_is_no_hosts_problem(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of which there would be one for every tenant."""
    sends(world, 0, 1)
    problems = {NAME: "its device is part of a bridge"}
    monkeypatch.setattr(type(world.devices), "problems", property(lambda _: problems))
    sends(world, 0, 1, "52:54:00:00:00:01")
    world.pass_(KEPT_SECONDS)
    sends(world, 0, 1, "52:54:00:00:00:02")
    status = world.reporter.last
    assert status.problems == (f"port {NAME}: {problems[NAME]}",) and status.ports == (NAME,)
