"""The links of ports' devices, as the agent tells them."""

from collections.abc import Callable
from itertools import pairwise

import pytest

from dataplane.host.links import AbsentError, DeviceError
from policy.agent.port_links import LONGEST_PAUSE, LOOK_SECONDS
from policy.agent.side_by_side import AT_ONCE
from tests.unit.agent.world import World

WEB = "red/red-web"


def links(world: World) -> dict[str, str]:
    said = world.reporter.last.links
    assert said is not None
    return dict(said)


def turn(world: World, state: str) -> None:
    """Its VM sets the device so."""
    link = world.host.link("eth0", "red-web")
    link.state = state
    world.see(changed={("red-web", link.index)}, came={"red-web"})


def test_news_of_a_link_are_told(world: World) -> None:
    assert links(world) == {}
    before = world.reporter.last
    turn(world, "no carrier")
    world.pass_()
    assert links(world) == {WEB: "no carrier"}
    assert (world.reporter.last.state, world.reporter.last.revision) == (before.state, before.revision)
    world.pass_(LOOK_SECONDS)
    turn(world, "up")
    world.pass_()
    assert world.reporter.last == before


def told(world: World, seconds: float) -> list[float]:
    """When it is told while its VM sets the device up and down all the time, as seconds from each to the
    next.
    """
    times: list[float] = []
    end = world.clock.now + seconds
    turn(world, "up" if links(world) else "down")
    while world.clock.now < end:
        said = links(world)
        world.pass_(0.5)
        if links(world) != said:
            times.append(world.clock.now)
            turn(world, "up" if links(world) else "down")
    return [later - earlier for earlier, later in pairwise(times)]


def test_a_link_that_flaps_is_told_ever_less_often(world: World) -> None:
    pauses = [10, 20, 40, 80, 160, 320, 600, 600, 600]
    assert told(world, sum(pauses) + 60) == pytest.approx(pauses, abs=2)
    world.pass_(3 * LONGEST_PAUSE)  # what it did last waits for the first
    assert told(world, 40)[:2] == pytest.approx([10, 20], abs=2), "it kept still for long enough"


def test_a_pause_ends_with_that_of_others(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though the link was learnt a moment after the look began."""

    def ticking() -> float:
        world.clock.now += 0.001
        return world.clock.now

    monkeypatch.setattr(world.clock, "monotonic", ticking)
    turn(world, "down")
    world.pass_()
    assert links(world) == {WEB: "down"}
    turn(world, "up")
    link = world.host.link("eth0", "blue-web")
    world.see(changed={("blue-web", link.index)})
    world.pass_(LOOK_SECONDS + 1)
    assert links(world) == {}


def test_a_link_that_flaps_is_looked_at_now_and_then(world: World) -> None:
    looks, said = world.host.looks, len(world.reporter.said)
    for number in range(600):
        turn(world, ("down", "up")[number % 2])
        world.pass_()
    assert world.host.looks - looks <= 60 / LOOK_SECONDS + 1
    assert len(world.reporter.said) - said <= 60 / LOOK_SECONDS + 1
    turn(world, "down")
    world.pass_(LONGEST_PAUSE)
    assert links(world) == {WEB: "down"}, "the last word counts"
    looks = world.host.looks
    world.pass_(100)
    assert world.host.looks == looks, "nobody polls"


def test_others_need_not_wait_for_one_that_flaps(world: World) -> None:
    told(world, 300)
    link = world.host.link("eth0", "blue-web")
    link.state = "down"
    world.see(changed={("blue-web", link.index)})
    world.pass_(LOOK_SECONDS)
    assert links(world)["blue/blue-web"] == "down"


def test_what_other_ports_do_is_no_news(world: World) -> None:
    looks = world.host.looks
    world.see(changed={("red-web", 4711), (None, world.host.link("u1").index)}, came={"red-web", None})
    world.pass_(LOOK_SECONDS)
    assert world.host.looks - looks == 1, "the underlay, for the status of the node"


def test_devices_that_are_missing_and_failing(world: World) -> None:
    key = world.port_key("red-web")
    value = world.items[key].replace(b'"netns":"red-web","tap":"eth0"', b'"device":"vnet7"')
    world.host.absent["vnet7"] = AbsentError("device vnet7: no such device")
    world.commit({key: value})
    world.pass_()
    assert links(world) == {WEB: "waiting"}
    world.host.absent["vnet7"] = DeviceError("device vnet7: is part of a bridge")
    world.see(came={None})
    world.pass_()
    assert links(world) == {WEB: "failing"}
    del world.host.absent["vnet7"]
    world.pass_(31)
    assert links(world) == {}
    world.commit({key: None})
    world.pass_()
    assert links(world) == {}


def test_of_a_host_without_a_data_plane_nothing_is_said(world: World) -> None:
    world.kill_dataplane()
    world.pass_(10)
    assert world.reporter.last.links is None
    said = len(world.reporter.said)
    turn(world, "down")
    world.pass_(LOOK_SECONDS)
    assert len(world.reporter.said) == said


def test_of_another_store_the_old_revision_is_not_told(world: World) -> None:
    world.revision = 150
    world.commit({world.port_key("blue-web"): None})
    world.pass_()
    assert world.reporter.last.revision == 151
    turn(world, "down")
    world.revision = 99
    world.load()
    said = len(world.reporter.said)
    world.pass_(LOOK_SECONDS)
    assert {status.revision for _, status in world.reporter.said[said:]} == {100}
    assert links(world) == {WEB: "down"}


def add_many(world: World) -> list[str]:
    """Ports, more than are looked at at once; returns their names."""
    key = world.port_key("red-web")
    ports = {}
    names = [f"many-{number}" for number in range(AT_ONCE + 1)]
    for number, name in enumerate(names):
        stated = world.items[key].replace(b'"red-web"', f'"{name}"'.encode())
        stated = stated.replace(b"10.1.1.10", f"10.1.1.{100 + number}".encode())
        stated = stated.replace(b"fd00:1:1::10", f"fd00:1:1::1{number:02}".encode())
        stated = stated.replace(b"02:bb:00:00:00:10", f"02:bb:00:00:01:{number:02x}".encode())
        ports[key.replace("red-web", name)] = stated
    world.commit(ports)
    world.pass_(LOOK_SECONDS)
    assert world.is_right() and links(world) == {}
    return names


def test_many_are_looked_at_beside(world: World) -> None:
    names = add_many(world)
    for name in names:
        world.host.link("eth0", name).state = "no carrier"
    world.see(unsure=set(names))
    world.pass_(LOOK_SECONDS)
    assert links(world) == {f"red/{name}": "no carrier" for name in names}


def test_a_late_look_says_nothing_of_a_device_that_came_meanwhile(world: World) -> None:
    names = add_many(world)
    bodies: list[Callable[[], None]] = []
    world.spawn = bodies.append
    world.see(unsure=set(names))
    world.pass_(LOOK_SECONDS)
    assert bodies, "they are looked at beside"
    gone = world.host.link("eth0", names[0])
    world.host.links = {key: each for key, each in world.host.links.items() if each is not gone}
    world.see(gone={(names[0], gone.index)})
    world.pass_()
    assert world.host.link("eth0", names[0]) is not gone and links(world) == {}
    while bodies:
        bodies.pop()()
    world.pass_(LOOK_SECONDS)
    assert links(world) == {} and world.is_right()
