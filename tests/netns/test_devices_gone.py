"""Devices that go while they are held: removed, moved, replaced."""

from contextlib import ExitStack

import pytest

from dataplane.host import netns
from dataplane.host.device import Device, Terms, host_end_name
from dataplane.host.links import DeviceError
from dataplane.host.veth import open_veth
from tests.netns.programs import run
from tests.netns.rig import link_of
from tests.netns.worlds import KINDS, MAC, OTHER_MAC, MakeNamespace, Opened, World, make_world


@pytest.fixture(params=KINDS)
def world(request: pytest.FixtureRequest, make_namespace: MakeNamespace) -> World:
    return make_world(request.param, make_namespace)


# ---- devices that go ---------------------------------------------------------------------------------------


def is_present(world: World, device: Device) -> bool:
    return netns.call(world.host, device.is_present)


def test_a_device_that_was_removed_is_absent(world: World, cleanup: ExitStack) -> None:
    device = world.open_it()
    assert is_present(world, device)
    run(world.vm, "ip", "link", "del", world.inside)
    assert not is_present(world, device)
    with pytest.raises(DeviceError, match="no such device"):
        netns.call(world.host, device.resize, OTHER_MAC, 1300)
    opened = Opened(cleanup, lambda: device)  # the data plane has it still
    again = world.adopt(opened.take())
    assert not is_present(world, again)
    for each in (device, again):
        netns.call(world.host, each.close)


@pytest.mark.parametrize("kind", ["tap", "veth"])
def test_a_device_whose_namespace_was_removed_is_absent(make_namespace: MakeNamespace, kind: str) -> None:
    """Also when there is another namespace of that name with a device of that name and index; closing the one
    leaves the other alone.
    """
    world = make_world(kind, make_namespace)
    device = world.open_it()
    index = device.place.index
    netns.remove(world.vm)
    assert not is_present(world, device)
    netns.create(world.vm)
    run(
        world.vm,
        "ip",
        "link",
        "add",
        "eth0",
        "index",
        str(index),
        "type",
        "veth",
        "peer",
        "name",
        "eth1",
        "index",
        "99",
    )
    run(world.vm, "ip", "link", "set", "eth0", "alias", "isolane")
    assert not is_present(world, device)
    netns.call(world.host, device.close)
    assert link_of(world.vm, "eth0") is not None
    assert link_of(world.host, host_end_name("eth0", world.vm)) is None


@pytest.mark.parametrize("kind", ["tap", "veth"])
def test_a_device_that_was_moved_is_absent_and_one_renamed_is_not(
    make_namespace: MakeNamespace, kind: str
) -> None:
    world = make_world(kind, make_namespace)
    before = world.state()
    elsewhere = make_namespace("elsewhere")
    device = world.open_it()
    run(world.vm, "ip", "link", "set", "eth0", "down")
    run(world.vm, "ip", "link", "set", "eth0", "name", "ens3")
    assert is_present(world, device)
    run(world.vm, "ip", "link", "set", "ens3", "netns", elsewhere)
    assert not is_present(world, device)
    run(elsewhere, "ip", "link", "set", "ens3", "netns", world.vm)
    assert is_present(world, device)
    netns.call(world.host, device.close)
    assert world.state() == before


def test_what_took_the_place_of_a_device_of_the_host_is_left_alone(make_namespace: MakeNamespace) -> None:
    world = make_world("device", make_namespace)
    device = world.open_it()
    run(world.host, "ip", "link", "del", "vnet0")
    run(world.host, "ip", "link", "add", "vnet0", "up", "type", "veth", "peer", "name", "guest0")
    run(world.host, "sysctl", "-qw", "net.ipv6.conf.vnet0.disable_ipv6=1", "net.ipv4.conf.vnet0.arp_ignore=8")
    before = world.state()
    assert not is_present(world, device)
    netns.call(world.host, device.close)
    assert world.state() == before


def test_a_veth_whose_maker_was_killed_before_it_was_marked_is_ours(make_namespace: MakeNamespace) -> None:
    vm = make_namespace("vm")
    name = host_end_name("eth0", vm)
    run(None, "ip", "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", vm)
    open_veth("eth0", Terms(MAC, 1500), namespace=vm).close()
    assert link_of(vm, "eth0") is None
