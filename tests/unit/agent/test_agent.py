"""The agent's loop and its reconciler: what is done when, on a clock that is moved by hand."""

from itertools import pairwise
from pathlib import Path

import pytest

from dataplane.binding.tables import Op, RowKind
from dataplane.host.links import DeviceError
from policy.agent.clock import LAST_RETRY
from policy.agent.loop import HOPE_SECONDS
from policy.agent.sources import Broken, Stop, StoreState
from policy.errors import AgentError
from policy.service.host_state import APPLIED, FAILED, HostState
from tests.unit.agent.fakes import HOST
from tests.unit.agent.world import World

ODD = b'{"spec":7}'


# ---- start and end


def test_it_starts(directory: Path) -> None:
    world = World(directory)
    world.pass_()
    assert (world.readies, world.reporter.said, world.core.change_sets) == ([], [], [])
    world.up()
    assert world.is_right()
    assert len(world.readies) == 1
    status = world.reporter.last
    assert (status.revision, status.state, status.problems) == (1, APPLIED, ())
    assert world.dataplane is not None
    assert world.dataplane.reports[-1]["state"] == APPLIED
    assert world.dataplane.announced == 1
    assert None in world.watch.namespaces and "blue-web" in world.watch.namespaces
    assert len(status.digest) == 16


def test_a_successor_changes_nothing(world: World, directory: Path) -> None:
    before, opened = len(world.core.change_sets), list(world.host.opened)
    world.inbox.put(Stop())
    world.pass_()
    successor = World(directory)
    successor.dataplane, successor.host.links = world.dataplane, world.host.links
    successor.up()
    assert successor.is_right()
    assert (len(successor.core.change_sets), successor.host.opened) == (before, [])
    assert opened


@pytest.mark.parametrize("remove", [False, True])
def test_its_end(directory: Path, remove: bool) -> None:
    world = World(directory, remove=remove)
    world.up()
    world.inbox.put(Stop())
    world.agent.run()
    assert bool(world.host.links) is not remove
    assert bool(world.attached()) is not remove
    assert not any(link.is_open for link in world.host.links.values())
    assert world.watch.is_closed and world.reporter.is_closed
    assert bool(world.undo_log.entries) is not remove


def test_an_end_without_a_data_plane_removes_what_was_opened(directory: Path) -> None:
    world = World(directory, remove=True)
    world.up()
    world.kill_dataplane()
    world.inbox.put(Stop())
    world.agent.run()
    assert world.host.links == {}


def test_a_source_that_breaks_ends_it_and_takes_no_device(directory: Path) -> None:
    world = World(directory, remove=True)
    world.up()
    world.inbox.put(Broken(RuntimeError("nobody expects this")))
    with pytest.raises(RuntimeError, match="nobody expects this"):
        world.agent.run()
    assert world.host.links and world.attached()


def test_strict_it_ends_when_not_all_can_be_done_at_the_start(directory: Path) -> None:
    world = World(directory, strict=True, remove=True)
    world.host.absent["blue-web"] = DeviceError("no network namespace")
    world.load()
    with pytest.raises(AgentError, match="no network namespace"):
        world.agent.run()
    assert world.host.links == {}
    assert world.readies == []


def test_strict_it_bears_what_comes_later(directory: Path) -> None:
    world = World(directory, strict=True)
    world.up()
    world.core.refusal = "table full"
    world.commit({world.port_key("red-api"): None})
    world.pass_(5)
    assert world.reporter.last.problems == ("table full",)


# ---- commits


def test_a_commit_is_a_step(world: World) -> None:
    before = len(world.core.change_sets)
    world.commit({world.port_key("red-app"): None})
    world.pass_()
    assert world.is_right()
    (change_set,) = world.core.change_sets[before:]
    assert {section.op for section in change_set.sections} == {Op.DEL}
    assert {section.kind for section in change_set.sections} == {RowKind.RECORD, RowKind.FLOOD}
    assert world.reporter.last.revision == world.revision
    assert world.reporter.results[-1].deleted == sum(map(len, change_set.sections))


def test_commits_that_come_together_are_one_change(world: World) -> None:
    key = world.port_key("red-app")
    document = world.items[key]
    before, said = len(world.core.change_sets), len(world.reporter.said)
    for _ in range(10):
        world.commit({key: None})
        world.commit({key: document})
    world.commit({key: None})
    world.pass_()
    assert world.is_right()
    assert len(world.core.change_sets) == before + 1
    assert [status.revision for _, status in world.reporter.said[said:]] == [world.revision]


def test_what_is_reported_waits_for_what_is_newer(world: World) -> None:
    """Two steps, one after the other, with nothing else between."""
    said = len(world.reporter.said)
    first, second = world.port_key("red-app"), world.port_key("blue-app")
    world.commit({first: None})
    world.agent.turn()
    world.commit({second: None})
    world.agent.turn()
    world.pass_()
    assert world.is_right()
    assert [status.revision for _, status in world.reporter.said[said:]][-1] == world.revision
    assert len(world.reporter.said) - said <= 2


def test_a_port_that_comes_and_goes(world: World) -> None:
    key = world.port_key("red-web")
    document = world.items[key]
    world.commit({key: None})
    world.pass_()
    assert world.is_right() and "red/red-web" not in world.attached()
    assert not any(namespace == "red-web" for _, _, namespace in world.host.links)
    world.commit({key: document})
    world.pass_()
    assert world.is_right() and "red/red-web" in world.attached()


def test_a_host_that_goes(world: World) -> None:
    world.commit(dict.fromkeys([key for key in world.items if key.endswith("/h1") or "/Port/" in key]))
    world.pass_()
    assert world.attached() == set() and world.host.links == {}
    assert not any(world.core.held.values())
    assert world.dataplane is not None
    assert "no host h1" in world.dataplane.reports[-1]["problems"][0]


# ---- pushes that fail


def test_a_push_that_is_refused_is_tried_again_ever_later(world: World) -> None:
    """It is everybody's problem, and told once; what was there before stays."""
    said, rows = len(world.reporter.said), world.core.rows(RowKind.RECORD)
    world.core.refusal = "table full"
    world.commit({world.port_key("red-app"): None})
    times, end = [], world.clock.now + 120
    while world.clock.now < end:
        before = world.core.refused
        world.pass_(0.1)
        times += [world.clock.now] * (world.core.refused > before)
    told = [status for _, status in world.reporter.said[said:]]
    assert [(each.state, each.problems, each.ports) for each in told] == [(FAILED, ("table full",), ())]
    assert HostState(told[0].revision, FAILED, told[0].problems).has_failed(told[0].revision, {"blue/p2"})
    assert world.core.rows(RowKind.RECORD) == rows
    pauses = [later - earlier for earlier, later in pairwise(times)]
    assert pauses[:5] == pytest.approx([0.5, 1, 2, 4, 8], abs=0.3)
    assert max(pauses) <= LAST_RETRY + 0.3
    world.core.refusal = ""
    world.pass_(LAST_RETRY + 1)
    assert world.is_right()
    assert (world.reporter.last.state, world.reporter.last.problems) == (APPLIED, ())


def test_a_commit_ends_a_wait(world: World) -> None:
    world.core.refusal = "table full"
    world.commit({world.port_key("red-app"): None})
    world.pass_(60)
    world.core.refusal = ""
    world.commit({world.port_key("red-api"): None})
    world.pass_()
    assert world.is_right()


# ---- comparing


def test_rows_that_others_changed_are_put_back(world: World) -> None:
    """When they are compared, and not before."""
    key = next(iter(world.core.held[RowKind.RECORD]))
    del world.core.held[RowKind.RECORD][key]
    world.pass_(50)
    assert key not in world.core.held[RowKind.RECORD]
    world.pass_(20)
    assert world.is_right()


def test_comparing_takes_many_looks_and_holds_up_no_commit(world: World) -> None:
    world.core.slices = 1000
    world.pass_(59)
    while world.core.looks < 10:
        world.agent.turn()
    world.commit({world.port_key("red-app"): None})
    world.agent.turn()
    assert world.core.looks < 20
    assert world.is_right(), "the commit went before"
    looks = world.core.looks
    world.pass_(5)
    assert world.core.looks > looks


def test_ports_that_others_detached_are_attached(world: World) -> None:
    assert world.dataplane is not None
    number = next(n for n, each in world.dataplane.ports.items() if each.config.name == "blue/blue-web")
    opened = list(world.host.opened)
    del world.dataplane.ports[number]
    world.pass_(61)
    assert world.is_right()
    assert world.host.opened == opened, "the VM's device stays"


# ---- the store


def test_a_store_that_goes_and_comes_back(world: World) -> None:
    change_sets = len(world.core.change_sets)
    world.inbox.put(StoreState("no store is there"))
    world.pass_(30)
    assert world.dataplane is not None and world.is_right()
    assert world.dataplane.reports[-1]["store"] == "no store is there"
    world.load()
    world.pass_()
    assert world.dataplane.reports[-1]["store"] == "available"
    assert len(world.core.change_sets) == change_sets, "it says the same"
    assert world.reporter.forgotten == 2


@pytest.mark.parametrize("strict", [False, True])
def test_ready_without_a_store(directory: Path, strict: bool) -> None:
    """Whoever waits for an agent need not wait for the store, but `up` does."""
    world = World(directory, strict=strict)
    world.inbox.put(StoreState("no store is there"))
    world.pass_()
    assert bool(world.readies) is not strict
    world.up()
    assert len(world.readies) == 1


# ---- documents


def test_a_document_that_can_not_be_read_is_named_and_others_go_on(world: World) -> None:
    odd = world.port_key("red-app")
    before = world.items[odd]
    world.commit({odd: ODD, world.port_key("blue-app"): None})
    world.pass_()
    world.items[odd] = before  # what was read of it stays in force
    assert world.is_right()
    status = world.reporter.last
    assert status.state == FAILED and "Port red/red-app" in status.problems[0]
    assert status.objects == ("Port red/red-app",)
    assert (status.ports, status.revision) == (("red/red-app",), world.revision)
    world.commit({odd: before})
    world.pass_()
    assert world.reporter.last.state == APPLIED


def test_without_its_own_host_nothing_is_touched(world: World, directory: Path) -> None:
    """At a start nobody knows what was in force."""
    world.inbox.put(Stop())
    world.pass_()
    successor = World(directory)
    successor.dataplane, successor.host.links = world.dataplane, world.host.links
    own = successor.items["intent/Host//h1"]
    successor.items["intent/Host//h1"] = ODD
    rows, attached = successor.core.rows(RowKind.RECORD), successor.attached()
    successor.load()
    successor.pass_(70)
    assert (successor.core.rows(RowKind.RECORD), successor.attached()) == (rows, attached)
    assert "Host h1" in "".join(successor.reporter.last.problems)
    successor.commit({"intent/Host//h1": own})
    successor.pass_()
    assert successor.is_right() and successor.reporter.last.problems == ()


# ---- devices


def test_a_device_that_is_missing_is_its_ports_problem(directory: Path) -> None:
    world = World(directory)
    world.host.absent["blue-web"] = DeviceError("TAP eth0: no network namespace blue-web")
    world.up()
    status = world.reporter.last
    assert (status.state, status.ports) == (FAILED, ("blue/blue-web",))
    assert status.problems == ("port blue/blue-web: TAP eth0: no network namespace blue-web",)
    assert world.attached() >= {"blue/blue-api", "underlay"}
    world.pass_(60)
    del world.host.absent["blue-web"]
    world.see(came={"blue-web"})
    world.pass_()
    assert world.is_right() and world.reporter.last.state == APPLIED


def test_news_of_devices_make_no_storm_of_tries(directory: Path) -> None:
    world = World(directory)
    world.host.absent["blue-web"] = DeviceError("no network namespace blue-web")
    world.up()
    world.pass_(60)
    assert world.dataplane is not None
    reports, begun = len(world.dataplane.reports), world.clock.now
    while world.clock.now < begun + 10 * HOPE_SECONDS:
        world.see(came={"blue-web"})
        world.pass_(0.05)
    assert 5 <= len(world.dataplane.reports) - reports <= 40, "of 200 news"


def test_a_device_that_goes_is_opened_again_at_once(world: World) -> None:
    link = world.host.link("eth0", "red-web")
    world.host.links = {key: each for key, each in world.host.links.items() if each is not link}
    world.see(gone={("red-web", link.index)})
    world.pass_()
    assert world.host.link("eth0", "red-web").index != link.index
    assert world.is_right() and world.host.opened[-1] == "red-web"


def test_what_others_did_to_a_device_is_put_right_when_it_is_looked_at(world: World) -> None:
    link = world.host.link("eth0", "red-web")
    link.is_as_left = False
    world.pass_(50)
    assert not link.is_as_left
    world.pass_(20)
    assert link.is_as_left and world.reporter.last.state == APPLIED


def test_what_only_the_operator_can_put_right_is_told_once(world: World) -> None:
    link = world.host.link("eth0", "red-web")
    link.is_broken = True
    said = len(world.reporter.said)
    world.pass_(400)
    ((_, status),) = world.reporter.said[said:]
    assert status.ports == ("red/red-web",)
    link.is_broken = False
    world.pass_(LAST_RETRY + 1)
    assert world.reporter.last.state == APPLIED


def test_a_port_that_the_data_plane_refuses_is_its_own_problem(directory: Path) -> None:
    world = World(directory)
    assert world.dataplane is not None
    world.dataplane.refused_ports.add("blue/blue-web")
    world.up()
    assert world.reporter.last.ports == ("blue/blue-web",)
    assert world.reporter.last.problems == ("port blue/blue-web: data plane: no more ports",)
    assert not any(namespace == "blue-web" for _, _, namespace in world.host.links)
    world.dataplane.refused_ports.clear()
    world.pass_(LAST_RETRY)
    assert world.is_right()


def test_an_undo_log_that_can_not_be_written_is_told_at_once(directory: Path) -> None:
    world = World(directory)
    (directory / HOST).write_text("in the way")
    world.up()
    status = world.reporter.last
    assert (status.state, status.ports) == (FAILED, ())
    (problem,) = status.problems
    assert "undo log" in problem and str(directory / HOST) in problem
    assert world.is_right(), "VMs have their devices all the same"
    (directory / HOST).unlink()
    world.pass_(LAST_RETRY)
    assert world.reporter.last.problems == ()
    assert World(directory).undo_log.entries == world.undo_log.entries != {}


# ---- the watchdog


def test_the_watchdog_is_fed_however_quiet_it_is(directory: Path) -> None:
    world = World(directory, watchdog=9.0)
    world.up()
    world.pass_(100)
    fed = world.kept_alive
    assert all(later - earlier <= 3.01 for earlier, later in pairwise(fed))
    assert 30 < len(fed) < 100
