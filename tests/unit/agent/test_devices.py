"""The device manager in an agent's world: what is opened, followed, left alone and waited for."""

from pathlib import Path

import pytest

from dataplane.binding.core import PortConfig
from dataplane.host import locks
from dataplane.host.links import AbsentError, DeviceError, TakenError
from policy.agent.devices import DeviceManager
from policy.agent.port_links import LOOK_SECONDS
from policy.agent.undo_log import UndoLog
from policy.kinds import documents
from policy.kinds.model import UNDERLAY_PORT, Port
from policy.service.host_state import APPLIED, FAILED
from tests.unit.agent.fakes import HOST, FakeClient, FakeDataplane
from tests.unit.agent.world import World


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(locks, "DIRECTORY", tmp_path)
    return World(tmp_path)


def with_device(world: World, attach: bytes = b'"device":"vnet7"') -> str:
    """The name of a port whose device is a hypervisor's."""
    key = world.port_key("red-web")
    port = documents.load(key, world.items[key], complete=True)
    assert isinstance(port, Port)
    world.items[key] = world.items[key].replace(b'"netns":"red-web","tap":"eth0"', attach)
    return port.id.qualified_name


def test_where_another_isolane_has_the_underlay_nothing_is_opened(world: World) -> None:
    world.host.absent["u1"] = TakenError("underlay u1: another isolane uses it")
    world.up()
    world.pass_(100)
    assert (world.host.opened, world.attached()) == ([], set())
    assert world.reporter.last.problems == ("underlay u1: another isolane uses it",)
    del world.host.absent["u1"]
    world.pass_(31)
    assert world.is_right() and world.reporter.last.state == APPLIED


def test_a_device_that_is_somebody_elses_to_make_is_waited_for(world: World) -> None:
    name = with_device(world)
    world.host.absent["vnet7"] = AbsentError("device vnet7: no such device")
    world.up()
    assert world.devices.waiting == {name: "device vnet7: no such device"}
    assert world.reporter.last.state == APPLIED
    assert name not in world.attached()
    del world.host.absent["vnet7"]
    world.see(came={None})
    world.pass_()
    assert name in world.attached() and world.devices.waiting == {}


def test_a_tap_that_no_hypervisor_has_opened_is_waiting(world: World) -> None:
    name = with_device(world, b'"vm":"vm0"')
    world.up()
    link = world.host.link("vm0")
    assert world.dataplane is not None
    for state, waits in (
        ("waiting", ["TAP vm0: no hypervisor has opened it"]),
        ("up", []),
        ("waiting", ["TAP vm0: no hypervisor has opened it"]),
    ):
        link.state = state
        world.see(changed={(None, link.index)}, came={None})
        world.pass_(6 * LOOK_SECONDS)
        assert world.reporter.last.links == ({name: state} if waits else {})
        assert world.dataplane.reports[-1]["waiting"] == waits
        assert world.reporter.last.state == APPLIED and name in world.attached()


def test_a_tap_for_a_hypervisor_is_made_anew_for_another_user(world: World) -> None:
    name = with_device(world, b'"vm":"vm0"')
    world.up()
    key = world.port_key("red-web")
    plain = world.items[key]
    for more, times in (
        (b',"user":"root"', 0),
        (b',"user":"qemu"', 1),
        (b',"queues":1', 1),
        (b',"queues":2', 1),
    ):
        opened = world.host.opened.count("vm0")
        world.commit({key: plain.replace(b'"vm":"vm0"', b'"vm":"vm0"' + more)})
        world.pass_()
        assert world.host.opened.count("vm0") - opened == times
        assert name in world.attached()
    world.kill_dataplane()
    world.dataplane = FakeDataplane()
    opened = world.host.opened.count("vm0")
    world.pass_(2)
    assert (world.is_right(), world.host.opened.count("vm0")) == (True, opened), "it is handed over as it is"


def test_what_was_in_the_way_of_a_device_has_gone(world: World) -> None:
    with_device(world, b'"vm":"vm0"')
    world.host.absent["vm0"] = DeviceError("TAP vm0: there is one already")
    world.up()
    world.pass_(40)
    assert world.reporter.last.state == FAILED
    del world.host.absent["vm0"]
    world.see(gone={(None, 77)})
    world.pass_(0.1)
    assert world.reporter.last.state == APPLIED and world.is_right()


def test_an_underlay_that_changes_is_looked_at_at_once(world: World) -> None:
    world.up()
    link = world.host.link("u1")
    link.is_broken = True  # down, say
    announced = world.announced
    world.see(changed={(None, link.index)}, came={None})
    world.pass_()
    assert world.reporter.last.problems == ("underlay u1: is not as the manifest says",)
    link.is_broken = False
    world.pass_(1)
    world.see(changed={(None, link.index)}, came={None})
    world.pass_()
    assert world.reporter.last.state == APPLIED
    assert world.announced == announced + 1


@pytest.mark.parametrize("stated", ["", "02:00:00:00:77:01"])
def test_the_mac_of_an_underlay_is_followed_where_none_is_stated(world: World, stated: str) -> None:
    key = "intent/Host//h1"
    if not stated:
        world.items[key] = world.items[key].replace(b'"mac":"02:00:00:00:77:01",', b"")
    world.up()
    link = world.host.link("u1")
    link.mac = "02:00:00:00:77:51"
    world.see(changed={(None, link.index)}, came={None})
    world.pass_()
    assert (world.reporter.last.state == APPLIED) is not bool(stated)
    assert world.dataplane is not None
    mac = world.dataplane.ports[0].config.mac.hex(":")
    assert mac == (stated or "02:00:00:00:77:51")
    if stated:  # the device was changed first, the intent follows
        world.commit({key: world.items[key].replace(stated.encode(), b"02:00:00:00:77:51")})
        world.pass_()
        assert world.reporter.last.state == APPLIED
        assert world.dataplane.ports[0].config.mac.hex(":") == "02:00:00:00:77:51"


def test_ports_that_there_are_no_descriptors_for_are_told(world: World) -> None:
    world.host.free = 2
    world.up()
    assert len(world.attached()) == 3, "the underlay, and two"
    status = world.reporter.last
    assert len(status.ports) == len(status.problems) > 1
    assert all("a process may have 1024 (RLIMIT_NOFILE" in problem for problem in status.problems)
    world.host.free = 100
    world.pass_(31)
    assert world.is_right()


def with_driver(world: World, driver: str) -> str:
    """The name of a port that is opened by it."""
    return with_attach(world, "driver", driver)


def with_attach(world: World, field: str, value: str) -> str:
    key, stated = world.port_key("red-api"), f'"{field}"'.encode()
    attach = world.items[key].partition(b'"attach":{')[2].partition(b"}")[0]
    rest = b",".join(each for each in attach.split(b",") if not each.startswith(stated))
    world.items[key] = world.items[key].replace(attach, rest + b',%b:"%b"' % (stated, value.encode()))
    return "red/red-api"


@pytest.mark.parametrize(("free", "fitting"), [(6, 3), (7, 4), (8, 5)])
def test_a_port_by_af_xdp_takes_two_descriptors_a_queue_and_two_more(
    world: World, free: int, fitting: int
) -> None:
    """Before it three others are opened, after it one."""
    with_driver(world, "afxdp")
    world.host.free = free
    world.up()
    assert len(world.attached()) == 1 + fitting, "the underlay, and those for which there are descriptors"


def config_of(world: World, name: str) -> PortConfig:
    assert world.dataplane is not None
    return next(each.config for each in world.dataplane.ports.values() if each.config.name == name)


def sockets_of(world: World, name: str) -> int:
    return config_of(world, name).xsks


def test_whether_workers_spin_for_a_port_changes_as_it_runs(world: World) -> None:
    """Its device is not opened anew. An agent that follows knows it, and so does a data plane."""
    world.up()
    name, opened = "red/red-api", len(world.host.opened)
    assert config_of(world, name).spins
    for spin, spins in (("never", False), ("auto", True), ("never", False)):
        with_attach(world, "spin", spin)
        key = world.port_key("red-api")
        world.commit({key: world.items[key]})
        world.pass_()
        assert config_of(world, name).spins is spins
    assert world.dataplane is not None
    follower = DeviceManager(UndoLog(HOST), world.host)
    follower.connect(FakeClient(world.dataplane))
    world.dataplane = FakeDataplane()
    follower.connect(FakeClient(world.dataplane))
    assert {each.config.name for each in world.dataplane.ports.values() if not each.config.spins} == {name}
    assert len(world.host.opened) == opened


def test_the_underlay_says_for_itself_whether_workers_spin(world: World) -> None:
    key = next(key for key in world.items if key.startswith("intent/Host/") and key.endswith(f"/{HOST}"))
    world.items[key] = world.items[key].replace(b'"underlay":{', b'"underlay":{"spin":"never",')
    world.up()
    assert world.dataplane is not None
    still = {each.config.name for each in world.dataplane.ports.values() if not each.config.spins}
    assert still == {UNDERLAY_PORT}


def test_a_port_is_opened_anew_for_another_driver(world: World) -> None:
    name = with_driver(world, "packet")
    world.up()
    assert sockets_of(world, name) == 0
    for driver, sockets in (("afxdp", 1), ("auto", 0)):
        with_driver(world, driver)
        opened = len(world.host.opened)
        key = world.port_key("red-api")
        world.commit({key: world.items[key]})
        world.pass_()
        assert (sockets_of(world, name), len(world.host.opened) - opened) == (sockets, 1)


@pytest.mark.parametrize("is_kept", [False, True])
def test_a_data_plane_that_was_started_anew_gets_new_sockets(world: World, is_kept: bool) -> None:
    """is_kept: it was given its ports back, which go on by AF_PACKET until then."""
    name = with_driver(world, "afxdp")
    world.up()
    before = world.dataplane
    assert before is not None and sockets_of(world, name) == 1
    opened = len(world.host.opened)
    world.kill_dataplane()
    world.dataplane = FakeDataplane()
    if is_kept:
        world.dataplane.ports = {port: each.without_xsks() for port, each in before.ports.items()}
    world.pass_(2)
    assert world.is_right()
    assert (sockets_of(world, name), len(world.host.opened) - opened) == (1, 1)
