"""Devices outlive the process that opened them: whoever has their descriptors has them again, packets flow on
meanwhile, and in the end all is as it was.
"""

import os
import socket
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import pytest

from dataplane.host import ethtool, netns
from dataplane.host.adoption import adopt
from dataplane.host.device import Device, Terms, host_end_name
from dataplane.host.groups import solicited_node
from dataplane.host.links import DeviceError
from dataplane.host.tap import open_tap
from dataplane.host.underlay import Underlay, open_underlay
from dataplane.host.veth import open_veth
from dataplane.process.client import Client
from policy.compile import compiler
from policy.service import resolve
from tests.netns.dataplanes import Flow, connect, killed, push, running
from tests.netns.probing import until
from tests.netns.programs import run
from tests.netns.rig import add_addresses, link_of, open_files, udp4_frame, wait_for_dad
from tests.netns.two_vms import ADDRESSES, MACS, TWO_VMS
from tests.netns.wires import one_cpu, wait_for_carrier
from tests.netns.worlds import (
    KINDS,
    OTHER_MAC,
    Frames,
    MakeNamespace,
    Opened,
    World,
    make_world,
    numbers,
    state,
)


@pytest.fixture(params=KINDS)
def world(request: pytest.FixtureRequest, make_namespace: MakeNamespace) -> World:
    return make_world(request.param, make_namespace)


# ---- adopting ----------------------------------------------------------------------------------------------


def test_a_device_is_adopted_and_given_back(world: World, cleanup: ExitStack) -> None:
    before = world.state()
    opened = Opened(cleanup, world.open_it)
    during = world.state()
    assert during != before
    frames = Frames(cleanup, world.vm, world.inside)
    frames.wait()
    opened.kill()
    frames.wait()
    device = world.adopt(opened.take())
    frames.wait()
    assert len(device.fds) == 2
    assert device.handover("web").encode() == opened.kept.encode(), "a third process has it from this one"
    assert netns.call(world.host, device.is_present)
    device.release()
    frames.wait()
    device = world.adopt(opened.take())
    frames.wait()
    frames.stop()
    came = numbers(opened.kept.config.fds, frames.sent)
    assert sorted(came) == list(range(frames.sent)), "all came, each once"
    frames.socket.bind((world.inside, 0x88B5))
    frames.socket.settimeout(5)
    reply = bytes.fromhex("02bb00000001" + "020000000099" + "88b5") + bytes(50)
    os.write(device.fds[0], bytes(10) + reply)
    assert frames.socket.recv(2000) == reply
    assert world.state() == during, "nothing of it was touched"
    opened.detach()
    netns.call(world.host, device.close)
    assert world.state() == world.left(before, during)
    netns.call(world.host, device.close)


@pytest.mark.parametrize("queues", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_queues_are_as_many_as_they_were(
    make_namespace: MakeNamespace, cleanup: ExitStack, kind: str, queues: int
) -> None:
    world = make_world(kind, make_namespace, queues)
    opened = Opened(cleanup, world.open_it)
    opened.kill()
    device = world.adopt(opened.take())
    assert len(device.fds) == queues
    opened.detach()
    netns.call(world.host, device.close)


def test_an_agent_dies_and_packets_flow(
    tmp_path: Path, make_namespace: MakeNamespace, cleanup: ExitStack
) -> None:
    """The same with the real data plane, of a TAP and a veth."""
    (tmp_path / "two.yaml").write_text(TWO_VMS)
    tables = compiler.compile_host(resolve.load([tmp_path / "two.yaml"]), "h1")
    host, vms = make_namespace("host"), {name: make_namespace(name) for name in MACS}
    before = [state(namespace) for namespace in (host, *vms.values())]
    instance = f"adopt-{os.getpid()}"
    cleanup.enter_context(running(instance, workers=2))
    client = cleanup.enter_context(connect(instance))

    def opening(client: Client) -> None:
        for port, (name, namespace) in enumerate(vms.items(), 1):
            open_it = open_tap if name == "one" else open_veth
            device = open_it("eth0", Terms(MACS[name], 1400, queues=2), namespace=namespace)
            add_addresses(namespace, "eth0", f"{ADDRESSES[name][0]}/24")
            client.attach(port, *device.handover(name))
        push(client, tables)

    def adopting(client: Client) -> dict[int, Device]:
        return {port: adopt(client.take(port)) for port in (1, 2)}

    def agent(body: Callable[[Client], object]) -> None:
        killed(lambda: netns.call(host, body, Client(instance)))

    agent(opening)
    wait_for_carrier(vms["two"], "eth0")
    with ExitStack() as flowing:
        flow = Flow(flowing, vms)
        flow.wait()
        agent(adopting)
        agent(lambda client: [device.release() for device in adopting(client).values()])
        adopted = netns.call(host, adopting, client)
        flow.wait()
        assert flow.lost() == set()
        for port, name in enumerate(vms, 1):
            adopted[port] = netns.call(host, adopted[port].resize, MACS[name], 1300)
            client.detach(port)
            client.attach(port, *adopted[port].handover(name))
        flow.wait()
    assert [(port["device"], port["mtu"]) for port in client.ports()] == [("eth0", 1300), ("eth0", 1300)]
    for port, device in adopted.items():
        client.detach(port)
        netns.call(host, device.close)
    assert [state(namespace) for namespace in (host, *vms.values())] == before


def test_what_fails_to_be_adopted_stays_as_it_is(world: World, cleanup: ExitStack) -> None:
    opened = Opened(cleanup, world.open_it)
    opened.kill()
    during, files = world.state(), open_files()
    handover = opened.take()
    handover.note["opening"] = "none"
    with pytest.raises(DeviceError, match=r"^port web: "):
        world.adopt(handover)
    assert open_files() == files
    assert world.state() == during
    device = world.adopt(opened.take())
    opened.detach()
    netns.call(world.host, device.close)


# ---- the underlay ------------------------------------------------------------------------------------------

UNDERLAY_MAC = "02:00:00:00:77:01"
PA4, PA6, OTHER6 = IPv4Address("10.0.0.2"), IPv6Address("fd77::101"), IPv6Address("fd77::102")
HOP, OWN6 = IPv4Address("10.77.0.20"), IPv6Address("fd77::10")


@pytest.fixture
def provider(make_namespace: MakeNamespace) -> World:
    """A host whose u1 leads to another namespace's p1."""
    host, outside = make_namespace("host"), make_namespace("net")
    run(host, "ip", "link", "add", "u1", "address", UNDERLAY_MAC, "mtu", "1600", "up", "type", "veth",
        "peer", "name", "p1", "mtu", "1600", "netns", outside)  # fmt: skip
    run(outside, "ip", "link", "set", "p1", "up")
    add_addresses(host, "u1", f"{OWN6}/64")
    wait_for_dad(host, "u1")
    netns.call(host, ethtool.switch, "u1", ["rx-gro-list"], True)

    def open_it() -> Device:
        underlay = netns.call(host, open_underlay, "u1", Terms(UNDERLAY_MAC, 1600, queues=2))
        underlay.serve([PA4, PA6], [HOP])
        return underlay

    return World(host, outside, open_it, "p1")


def groups_of(world: World) -> set[IPv6Address]:
    """Solicited-node groups joined on the underlay."""
    rows = [line.split() for line in run(world.host, "cat", "/proc/net/igmp6").splitlines()]
    groups = {IPv6Address(bytes.fromhex(row[2])) for row in rows if row[1] == "u1"}
    return {group for group in groups if solicited_node(group) == group}


def adopt_underlay(world: World, opened: Opened) -> Underlay:
    device = world.adopt(opened.take())
    assert isinstance(device, Underlay)
    return device


def test_the_underlay_is_adopted_and_given_back(provider: World, cleanup: ExitStack) -> None:
    before, groups = provider.state(), groups_of(provider)
    cleanup.enter_context(one_cpu())
    opened = Opened(cleanup, provider.open_it)
    during = provider.state()
    behind = netns.call(provider.host, socket.socket, socket.AF_PACKET, socket.SOCK_RAW, 0)
    cleanup.enter_context(behind)
    behind.bind(("u1", 0x0800))  # sees what is left to the host's stack
    behind.settimeout(5)
    frames = Frames(cleanup, provider.vm, provider.inside)
    frames.wait()
    opened.kill()
    frames.wait()
    underlay = adopt_underlay(provider, opened)
    frames.wait()
    assert underlay.pas.addresses == {PA4, PA6}
    assert groups_of(provider) == groups | {solicited_node(PA6)}
    assert provider.state() == during
    assert netns.call(provider.host, underlay.is_present)
    netns.call(provider.host, underlay.serve, [PA4, OTHER6], [HOP])
    frames.wait()
    assert groups_of(provider) == groups | {solicited_node(OTHER6)}
    underlay.release()
    underlay = adopt_underlay(provider, opened)
    assert underlay.pas.addresses == {PA4, OTHER6}
    netns.call(provider.host, underlay.serve, [PA4, OTHER6], [HOP])
    assert provider.state() == during, "a group that was joined already needs nothing"
    frames.wait()
    frames.stop()
    mark = udp4_frame(0, frames.sent).replace(PA4.packed, IPv4Address("10.9.9.9").packed)
    frames.socket.send(mark)
    assert list(until(behind, mark)) == [], "not a frame for a PA got to the host"
    came = numbers(opened.kept.config.fds, frames.sent)
    assert sorted(came) == list(range(frames.sent)), "all came, each once"

    with pytest.raises(DeviceError, match="another isolane uses it"):
        provider.open_it()
    opened.detach()
    with pytest.raises(DeviceError, match="another isolane uses it"):
        provider.open_it()
    netns.call(provider.host, underlay.serve, [])
    assert groups_of(provider) == groups, "the host's own among them"
    netns.call(provider.host, underlay.close)
    assert provider.state() == before
    netns.call(provider.host, provider.open_it().close)
    assert provider.state() == before
    assert groups_of(provider) == groups


def test_an_agent_that_died_amid_serving_is_followed(provider: World, cleanup: ExitStack) -> None:
    """The map and the groups don't fit together: both become what they have to be."""

    def open_it() -> Device:
        underlay = provider.open_it()
        assert isinstance(underlay, Underlay)
        underlay.pas.replace([PA4, OTHER6])
        return underlay

    groups = groups_of(provider)
    opened = Opened(cleanup, open_it)
    opened.kill()
    assert groups_of(provider) == groups | {solicited_node(PA6)}
    underlay = adopt_underlay(provider, opened)
    assert underlay.pas.addresses == {PA4, OTHER6}
    netns.call(provider.host, underlay.serve, [PA4, OTHER6])
    assert groups_of(provider) == groups | {solicited_node(OTHER6)}
    opened.detach()
    netns.call(provider.host, underlay.close)
    assert groups_of(provider) == groups


def test_all_multicast_lives_on(provider: World, cleanup: ExitStack) -> None:
    run(provider.host, "ip", "link", "set", "u1", "mtu", "1200")  # below 1280 a device has no IPv6 at all

    def open_it() -> Device:
        underlay = netns.call(provider.host, open_underlay, "u1", Terms("", 1200))
        underlay.serve([PA6])
        return underlay

    before = provider.state()
    assert before[provider.host]["u1"]["allmulti"] == 0
    opened = Opened(cleanup, open_it)
    opened.kill()
    underlay = adopt_underlay(provider, opened)
    assert provider.state()[provider.host]["u1"]["allmulti"] == 1
    netns.call(provider.host, underlay.serve, [PA6, OTHER6])
    opened.detach()
    netns.call(provider.host, underlay.close)
    assert provider.state() == before


# ---- another MAC, another MTU ------------------------------------------------------------------------------


@pytest.mark.parametrize("mtu", [1300, 1500])
@pytest.mark.parametrize("kind", ["tap", "veth"])
def test_a_device_is_resized_while_frames_come(
    make_namespace: MakeNamespace, cleanup: ExitStack, kind: str, mtu: int
) -> None:
    world = make_world(kind, make_namespace)
    before = world.state()
    first = world.open_it()
    opened = link_of(world.vm, "eth0")
    assert opened is not None
    frames = Frames(cleanup, world.vm, "eth0")
    frames.wait()
    device = netns.call(world.host, first.resize, OTHER_MAC.upper(), mtu)
    frames.wait()
    frames.stop()
    assert sorted(numbers(device.fds, frames.sent)) == list(range(frames.sent))
    assert link_of(world.vm, "eth0") == replace(opened, mac=OTHER_MAC, mtu=mtu)
    if kind == "veth":
        host_end = link_of(world.host, host_end_name("eth0", world.vm))
        assert host_end is not None
        assert host_end.mtu == mtu
    config = device.port_config("web")
    assert (config.mac.hex(":"), config.mtu, config.fds) == (OTHER_MAC, mtu, first.fds)
    netns.call(world.host, device.close)
    assert world.state() == before


def test_a_device_of_the_host_is_not_resized(make_namespace: MakeNamespace, cleanup: ExitStack) -> None:
    world = make_world("device", make_namespace)
    device = world.open_it()
    cleanup.callback(netns.call, world.host, device.close)
    during = world.state()
    larger, smaller = (netns.call(world.host, device.resize, OTHER_MAC, mtu) for mtu in (9000, 1300))
    assert (larger.mac, larger.mtu, smaller.mtu) == (OTHER_MAC, 1500, 1300)
    assert world.state() == during


def test_the_underlay_has_to_be_as_the_manifest_says(provider: World, cleanup: ExitStack) -> None:
    underlay = provider.open_it()
    cleanup.callback(netns.call, provider.host, underlay.close)
    assert netns.call(provider.host, underlay.resize, UNDERLAY_MAC, 1500).mtu == 1500
    with pytest.raises(DeviceError, match="underlay u1: the manifest says MTU 9000, the device has 1600"):
        netns.call(provider.host, underlay.resize, "", 9000)
